// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What `load` is told beside the object: other sizes of its maps, and to show what the verifier says.
use e2e::detour::{self, code};
use e2e::lab::Lab;
use e2e::netns::Netns;
use e2e::snapshot::Snapshot;
use e2e::strace::{self, EFFECTS};
use e2e::tools;
use e2e::witness::Witness;
use std::process::Command;

const DEVICE: &str = "eth0";

fn fixture(name: &str) -> String {
    tools::project().join(format!("elf/fixtures/{name}.bpf.o")).display().to_string()
}

/// `max_entries` of a pinned map, as bpftool says.
fn entries(ns: &Netns, pin: &str) -> u64 {
    let shown = tools::json(ns, "bpftool", &["-j", "map", "show", "pinned", pin]);
    shown["max_entries"].as_u64().unwrap()
}

fn folder(ns: &Netns, name: &str) -> String {
    ns.run("sh", &["-c", &format!("echo /sys/fs/bpf/detour/*/{name}")]).trim().to_owned()
}

#[test]
fn maps_have_as_many_entries_as_was_said() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let before = Snapshot::take(ns);
    let file = fixture("sizes");
    // A ring buffer is a power of two of bytes; for the others the number is the number.
    let sizes = ["--map-size", "near=100", "--map-size", "ring=9000", "--map-size", "one_each=0x7"];
    let line = [&["load", &file, DEVICE, "--name", "sizes"], &sizes[..]].concat();
    let plan = detour::json(ns, &[&["plan"], &line[..]].concat());
    let (output, calls) = strace::trace(ns, &detour::command(&line), EFFECTS, None);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Witness::compare(&plan, &calls);
    let dir = folder(ns, "sizes");
    for (map, expected) in [("near", 100), ("ring", 16384), ("one_each", 7), ("a_name_that_is_long_1", 8)] {
        assert_eq!(entries(ns, &format!("{dir}/map_{map}")), expected, "{map}");
    }
    // Who is not told of the sizes sees other maps than the object's.
    let verify = ["verify", "--live", DEVICE, "--object", &file];
    let told = [&verify[..], &sizes].concat();
    detour::run(ns, &told).done();
    detour::run(ns, &verify).ends(code::NO);
    detour::run(ns, &["unload", DEVICE, "sizes"]).done();
    before.holds(ns, "sizes");
}

#[test]
fn a_map_for_mmap_is_one() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    detour::run(ns, &["load", &fixture("map_kinds"), DEVICE, "--name", "kinds"]).done();
    let pin = format!("{}/map_mapped", folder(ns, "kinds"));
    // BPF_F_MMAPABLE is 1 << 10.
    let flags = tools::json(ns, "bpftool", &["-j", "map", "show", "pinned", &pin])["flags"].as_u64();
    assert_eq!(flags, Some(0x400));
    detour::run(ns, &["unload", DEVICE, "kinds"]).done();
}

#[test]
fn a_shared_map_has_the_size_that_was_said_or_is_not_taken() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let (file, dir) = (fixture("pins"), "/sys/fs/bpf/shared");
    ns.run("mkdir", &["-m", "0700", dir]);
    let load = |name: &str, size: &[&str]| {
        let line = [&["load", &file, DEVICE, "--name", name, "--pin-dir", dir], size].concat();
        detour::run(ns, &line)
    };
    load("one", &["--map-size", "table=24"]).done();
    assert_eq!(entries(ns, &format!("{dir}/table")), 24);
    load("two", &[]).refused(code::FOREIGN, &["table", "max_entries"]);
    load("two", &["--map-size", "table=24"]).done();
    for name in ["one", "two"] {
        detour::run(ns, &["unload", DEVICE, name]).done();
    }
}

#[test]
fn sizes_that_cannot_be() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let before = Snapshot::take(&lab.gateway);
    for (size, word) in [
        ("sized", "MAP=N"),
        ("sized=0", "from 1"),
        ("sized=many", "from 1"),
        ("nothing=1", "unused_by_programs"),
        ("jumps=1", "slots"),
    ] {
        let line = ["load", &fixture("maps"), DEVICE, "--ingress", "maps", "--map-size", size];
        detour::run(&lab.gateway, &line).refused(code::USAGE, &[size, word]);
    }
    before.holds(&lab.gateway, "sizes that cannot be");
}

#[test]
fn the_verifier_is_heard_of_what_it_takes() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let before = Snapshot::take(ns);
    let file = fixture("variants");
    let levels = |level: &str| {
        let line = ["load", &file, DEVICE, "--name", "heard", "--log-level", level];
        let plan = detour::json(ns, &[&["plan"], &line[..]].concat());
        let (output, calls) =
            strace::trace(ns, &detour::command(&[&line[..], &["-j"]].concat()), EFFECTS, None);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Witness::compare(&plan, &calls);
        detour::run(ns, &["unload", DEVICE, "heard"]).done();
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(said["logs"][0]["program"], "variants", "{said}");
        said["logs"][0]["log"].as_str().unwrap().to_owned()
    };
    let (decisions, states, numbers) = (levels("1"), levels("2"), levels("4"));
    assert!(
        states.len() > decisions.len() && decisions.len() > numbers.len(),
        "{states}\n{decisions}\n{numbers}"
    );
    // bpftool asks for all there is of the same instructions.
    let pin = "/sys/fs/bpf/heard";
    let bpftool =
        ns.output(Command::new("bpftool").args(["-d", "prog", "load", &file, pin, "type", "classifier"]));
    ns.run("rm", &[pin]);
    let heard = String::from_utf8_lossy(&[bpftool.stdout, bpftool.stderr].concat()).into_owned();
    let processed = |log: &str| {
        let line = log.lines().map(str::trim).find(|line| line.starts_with("processed "));
        line.unwrap_or_else(|| panic!("no numbers in {log}")).to_owned()
    };
    assert_eq!(processed(&numbers), processed(&heard));
    // For people it is above what was done; and nobody has to attach anything to hear it.
    for line in [
        &["load", &file, DEVICE, "--name", "heard", "--log-level", "4"][..],
        &["load", &file, "--no-attach", "--log-level", "4"],
    ] {
        let said = detour::run(ns, line).done().stdout;
        assert_eq!(processed(&said), processed(&heard), "{said}");
    }
    detour::run(ns, &["unload", DEVICE, "heard"]).done();
    // What was refused is said as a whole, by the one call that was made.
    let rejected = fixture("rejected");
    let line = ["load", &rejected, "--no-attach", "--log-level", "1"];
    let (output, calls) = strace::trace(ns, &detour::command(&line), "bpf", None);
    assert_eq!(output.status.code(), Some(code::KERNEL));
    let loads = calls.iter().filter(|call| format!("{call:?}").contains("insns")).count();
    assert_eq!(loads, 1, "{calls:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("  0: R1=ctx") && said.contains("invalid access to packet"), "{said}");
    before.holds(ns, "heard");
    // Levels are three bits.
    for level in ["0", "8", "stats"] {
        detour::run(ns, &["load", &file, DEVICE, "--log-level", level]).ends(code::USAGE);
    }
}
