// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The plan, the transcript and strace of what meets a running instance, half of one, or no BPF file system: they say the same.
use e2e::detour::{self, code, up};
use e2e::lab::Lab;
use e2e::netns::Netns;
use e2e::same::all_say_the_same;
use e2e::snapshot::Snapshot;
use e2e::strace::{self, Fault};
use e2e::tools::Scratch;
use e2e::version::{compile, COUNTS};
use serde_json::Value;

const DEVICE: &str = "eth0";
const RULES: [&str; 2] = ["--rule", "tcp redirect to :7007"];

fn line<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["up", DEVICE], &RULES[..], more].concat()
}

/// How many steps of the plan do this.
fn count(plan: &Value, what: &str) -> usize {
    plan["steps"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|step| step["do"] == what || step["command"] == what)
        .count()
}

/// From the programs of another version to those inside detour, with other rules, with the same ones, and with empty maps.
#[test]
fn other_programs_in_the_place_of_those_that_run() {
    let scratch = Scratch::new();
    let other = compile(&scratch, "counts.bpf.o", &COUNTS);
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let before = Snapshot::take(ns);
    for rules in [&RULES[..], &["--rule", "udp drop"]] {
        up(ns, DEVICE, &[&RULES[..], &["--object", &other, "--fresh"]].concat());
        let plan = all_say_the_same(ns, &[&["up", DEVICE], rules].concat());
        assert_eq!((count(&plan, "PROG_LOAD"), count(&plan, "exchange")), (2, 1), "an upgrade");
    }
    let plan = all_say_the_same(ns, &line(&["--flows-max", "1000", "--fresh"]));
    assert_eq!((count(&plan, "PROG_LOAD"), count(&plan, "exchange")), (2, 1), "a replacement");
    all_say_the_same(ns, &["down", DEVICE]);
    before.holds(ns, "what was planned");
}

/// `up` and `down` that find what a killed upgrade, a killed `up` and somebody else's `tc` left.
#[test]
fn half_an_instance() {
    let scratch = Scratch::new();
    let other = compile(&scratch, "counts.bpf.o", &COUNTS);
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let before = Snapshot::take(ns);
    let upgrade = line(&["--object", &other]);
    let kill = |line: &[&str], name: &str, nth: usize| {
        let output = strace::inject(ns, &detour::command(line), name, &Fault::kill(name, nth));
        output.expect("a kill");
    };
    up(ns, DEVICE, &RULES);
    let (_, calls) = strace::trace(ns, &detour::command(&upgrade), "sendto", None);
    detour::run(ns, &["down", DEVICE]).done();
    let killed_upgrade = || {
        up(ns, DEVICE, &RULES);
        kill(&upgrade, "sendto", calls.len());
    };
    let killed_up = || kill(&line(&[]), "rename", 1);
    let filter_gone = || {
        up(ns, DEVICE, &RULES);
        ns.run("tc", &["filter", "del", "dev", DEVICE, "ingress"]);
    };
    let leave: [(&str, &dyn Fn()); 3] =
        [("a killed upgrade", &killed_upgrade), ("a killed up", &killed_up), ("a lost filter", &filter_gone)];
    for (what, leave) in leave {
        leave();
        detour::run(ns, &["status", DEVICE]).ends(code::NO);
        // What ran takes the places back; what never ran, or does not whole, goes first.
        let plan = all_say_the_same(ns, &line(&["--rule", "udp drop"]));
        let programs = if what == "a killed upgrade" { 0 } else { 2 };
        assert_eq!(count(&plan, "PROG_LOAD"), programs, "up after {what}");
        assert!(count(&plan, "unlink") > 10, "up after {what}: {plan}");
        detour::run(ns, &["verify", "--live", DEVICE]).done();
        detour::run(ns, &["down", DEVICE]).done();
        before.holds(ns, &format!("{what}, up and down"));
        leave();
        all_say_the_same(ns, &["down", DEVICE]);
        before.holds(ns, &format!("{what}, and down"));
    }
}

#[test]
fn no_bpf_file_system() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let before = Snapshot::take(ns);
    let mounts = || {
        let text = ns.run("cat", &["/proc/self/mounts"]);
        text.lines().filter(|line| line.contains(" /sys/fs/bpf ")).count()
    };
    let there = mounts();
    // Seen in the namespace of this test only; what is mounted on it, too.
    ns.run("mount", &["-t", "tmpfs", "none", "/sys/fs/bpf"]);
    let plan = all_say_the_same(ns, &line(&["--mount-bpffs"]));
    assert_eq!((count(&plan, "mount"), &plan["steps"][0]["do"]), (1, &Value::from("mount")));
    assert_eq!(plan["steps"][0]["undo"]["do"], "umount");
    all_say_the_same(ns, &["down", DEVICE]);
    ns.run("umount", &["/sys/fs/bpf"]);
    // Undone with the rest: the last step fails.
    let failing = line(&["--mount-bpffs"]);
    let output =
        strace::inject(ns, &detour::command(&failing), "rename", &Fault::error("rename", 1, "EPERM"))
            .unwrap();
    assert_eq!(output.status.code(), Some(code::PERMISSION));
    assert_eq!(mounts(), there + 1, "the one in which there is nothing");
    ns.run("umount", &["/sys/fs/bpf"]);
    before.holds(ns, "an up that mounted");
}
