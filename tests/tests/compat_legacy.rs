// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Map definitions of the old forms, which bpftool and tc no longer take: read when told to, run, and beside the same program
//! with definitions of today.
use e2e::detour;
use e2e::lab::Lab;
use e2e::netns::Netns;
use e2e::testrun::{Program, Sums};
use e2e::tools;
use std::process::Command;

const DEVICE: &str = "eth0";

fn fixture(name: &str) -> String {
    tools::project().join(format!("elf/fixtures/{name}.bpf.o")).display().to_string()
}

/// The verdicts on packets of these lengths, one after the other.
fn verdicts(ns: &Netns, lengths: &[usize]) -> Vec<i32> {
    let filters = tools::filters(ns, DEVICE, "ingress");
    let program = Program::by_id(ns, filters[0]["options"]["prog"]["id"].as_u64().unwrap());
    let verdict = |length: &usize| {
        let mut frame = vec![0; *length];
        frame[12..14].copy_from_slice(&[0x88, 0xb5]);
        program.run(&frame, Sums::None).verdict
    };
    lengths.iter().map(verdict).collect()
}

/// A lab without traffic of its own.
fn quiet() -> Lab {
    let lab = Lab::on(Netns::new(), DEVICE);
    lab.gateway.run("ip", &["link", "set", DEVICE, "down"]);
    lab
}

#[test]
fn old_and_new_definitions_make_the_same_program() {
    let lab = quiet();
    let ns = &lab.gateway;
    let refused =
        ns.output(Command::new("bpftool").args(["prog", "load", &fixture("legacy"), "/sys/fs/bpf/x"]));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("legacy map definitions"));
    let tags = |name: &str| {
        let plan = detour::json(ns, &["plan", "load", &fixture(name), "--no-attach", "--legacy-maps"]);
        let steps = plan["steps"].as_array().unwrap().clone();
        steps.iter().map(|s| s["expect"]["tag"].clone()).filter(|tag| !tag.is_null()).collect::<Vec<_>>()
    };
    assert_eq!(tags("legacy"), tags("legacy_modern"));
    for name in ["legacy", "legacy_modern"] {
        detour::run(ns, &["load", &fixture(name), DEVICE, "--name", "it", "--legacy-maps"]).done();
        // How often this length was seen, and two counters that grow by 2 and 3.
        assert_eq!(verdicts(ns, &[60, 60, 61]), [1 + 2 + 3, 2 + 4 + 6, 1 + 6 + 9], "{name}");
        let dump = detour::run(ns, &["map", "dump", DEVICE, "it", "seen", "--types", &fixture(name)]).done();
        let mut lines: Vec<&str> = dump.stdout.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["60: 2", "61: 1"], "{name}");
        detour::run(ns, &["unload", DEVICE, "it"]).done();
    }
}

#[test]
fn short_definitions_end_with_how_to_pin() {
    let lab = quiet();
    let ns = &lab.gateway;
    for name in ["legacy_short", "legacy_short_no_btf"] {
        let folder = format!("/sys/fs/bpf/{name}");
        ns.run("mkdir", &["-m", "0700", &folder]);
        let rest = ["--name", "it", "--legacy-maps", "--pin-dir", &folder];
        detour::run(ns, &[&["load", &fixture(name), DEVICE][..], &rest].concat()).done();
        assert_eq!(ns.run("ls", &[&folder]).trim(), "by_name");
        detour::run(ns, &["unload", DEVICE, "it"]).done();
    }
}

#[test]
fn numbers_of_iproute2_lead_into_their_slots() {
    let lab = quiet();
    let ns = &lab.gateway;
    ns.run("tc", &["qdisc", "add", "dev", DEVICE, "clsact"]);
    let filter = ["filter", "add", "dev", DEVICE, "ingress", "bpf", "da", "obj", &fixture("legacy_iproute2")];
    let refused = ns.output(Command::new("tc").args(filter));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("legacy map definitions"), "{refused:?}");

    ns.run("mkdir", &["-m", "0700", "/sys/fs/bpf/globals"]);
    let load = |name: &str| {
        let rest = ["--name", name, "--legacy-maps", "--pin-dir", "/sys/fs/bpf/globals"];
        detour::run(ns, &[&["load", &fixture("legacy_iproute2"), DEVICE][..], &rest].concat()).done()
    };
    load("a");
    // Through the map in the map, and the tail calls for short and long packets.
    assert_eq!(verdicts(ns, &[60, 101]), [100, 200]);
    let shared = || {
        tools::json(
            ns,
            "bpftool",
            &["-j", "map", "lookup", "pinned", "/sys/fs/bpf/globals/shared", "key", "0", "0", "0", "0"],
        )
    };
    assert_eq!(shared()["value"][0], "0x03", "1 + 2");
    detour::run(ns, &["unload", DEVICE, "a"]).done();
    // PIN_GLOBAL_NS: the next instance counts on, from an inner map of its own.
    load("b");
    assert_eq!(verdicts(ns, &[60]), [100]);
    assert_eq!(shared()["value"][0], "0x04", "3 + 1");
    let inspected = detour::json(ns, &["inspect", &fixture("legacy_iproute2"), "--legacy-maps"]);
    let maps: Vec<_> = inspected["maps"].as_array().unwrap().iter().map(|m| m["name"].clone()).collect();
    assert_eq!(maps, ["inner", "outer", "jumps", "shared"]);
}
