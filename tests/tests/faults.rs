// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Every call of `up` and `down` that can fail, failed in turn, and killed in turn: what does the machine look like?
//!
//! A failed `up` leaves it as it was. A killed `up`, a failed or killed `down` leaves what the next `down`, or the next
//! `up` and `down`, takes away. strace makes the faults: the call is not made at all.
use e2e::detour::{self, code};
use e2e::faults::{self, Talk, Tally, ERRORS, TALK};
use e2e::lab::Lab;
use e2e::netns::Netns;
use e2e::snapshot::Snapshot;
use e2e::strace::{self, Argument, Call, Fault};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::{Command, Output, Stdio};

const DEVICE: &str = "eth0";

/// How often each call is made by `detour COMMAND eth0` now.
fn counts(ns: &Netns, command: &str) -> BTreeMap<&'static str, usize> {
    let (output, calls) = strace::trace(ns, &detour::command(&[command, DEVICE]), &faults::calls(), None);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // The end of flock(2)'s lock cannot fail; it is the last call of its name.
    let unlock = |call: &Call| call.name == "flock" && call.arguments.get(1) == Some(&Argument::Number(8));
    let calls: Vec<Call> = calls.into_iter().filter(|call| !unlock(call)).collect();
    ERRORS.iter().map(|(name, _)| (*name, faults::count(&calls, name))).collect()
}

/// Runs `detour COMMAND eth0` with the fault, which has to happen.
fn broken(ns: &Netns, command: &str, name: &str, fault: &Fault) -> Output {
    broken_line(ns, &[command, DEVICE], name, fault)
}

fn broken_line(ns: &Netns, line: &[&str], name: &str, fault: &Fault) -> Output {
    let output = strace::inject(ns, &detour::command(line), name, fault);
    output.unwrap_or_else(|| panic!("{line:?}: no fault: {fault:?}"))
}

fn no_panic(output: &Output, what: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!text.contains("panicked"), "{what}: {text}");
    assert!(output.status.success() || !text.trim().is_empty(), "{what}: it failed without a word");
}

fn down(ns: &Netns) {
    let run = detour::run(ns, &["down", DEVICE]);
    assert!(matches!(run.code, Some(code::DONE | code::NO)), "{run:?}");
}

/// Takes everything away after a fault: by `down`, every other time after a complete `up`.
fn mend(ns: &Netns, nth: usize) {
    if nth % 2 == 0 {
        detour::up(ns, DEVICE, &[]);
    }
    down(ns);
}

/// Whether a failed call became a refusal with its exit code. Giving the lock back, the last flock, may fail: the end of the
/// process does it.
fn told(output: &Output, name: &str, nth: usize, count: usize) -> bool {
    let refused = [code::KERNEL, code::PERMISSION, code::FOREIGN];
    (name == "flock" && nth == count) || output.status.code().is_some_and(|code| refused.contains(&code))
}

/// All faults of `command`, which finds the device up or not.
fn all(command: &str, up_before: bool) {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    // Beside what is translated: a client and the gateway itself, who talk all the time.
    let mut direct = Talk::directly(&lab);
    let before = Snapshot::take(ns);
    let prepare = || {
        if up_before {
            detour::up(ns, DEVICE, &[]);
        }
    };
    prepare();
    let counts = counts(ns, command);
    down(ns);
    before.holds(ns, "a run without faults");
    assert!(counts["bpf"] > 0 && counts["sendto"] + counts["sendmsg"] > 4, "{counts:?}");

    let (mut wrong, mut mute) = (Vec::new(), Vec::new());
    let mut judge = |what: String| {
        let changes = before.changes_soon(ns);
        if !changes.is_empty() {
            wrong.push(format!("{what} left:\n{}", changes.join("\n")));
            detour::up(ns, DEVICE, &[]);
            down(ns);
            before.holds(ns, &format!("{what}, then up and down,"));
        }
    };
    let mut tally = Tally::default();
    for (name, all) in ERRORS {
        for nth in 1..=counts[name] {
            for error in faults::errors(all, nth) {
                let what = format!("{command} with {error} from {name} {nth} of {}", counts[name]);
                prepare();
                let output = broken(ns, command, name, &Fault::error(name, nth, error));
                tally.add(name, error);
                direct.goes_on(&what);
                no_panic(&output, &what);
                if output.status.success() {
                    tally.harmless.push(what.clone());
                } else if !told(&output, name, nth, counts[name]) {
                    let text = String::from_utf8_lossy(&output.stderr);
                    mute.push(format!("{what}: {:?} {text}", output.status));
                }
                if output.status.success() || up_before {
                    mend(ns, nth); // it did without, or `down` failed half-way
                }
                judge(what);
            }
            let what = format!("{command} killed in {name} {nth} of {}", counts[name]);
            prepare();
            broken(ns, command, name, &Fault::kill(name, nth));
            tally.add(name, "killed");
            direct.goes_on(&what);
            mend(ns, nth);
            judge(what);
        }
    }
    tally.print(command);
    assert!(tally.sum() > 100, "{tally:?}");
    assert!(mute.is_empty(), "{} faults were not told:\n{}", mute.len(), mute.join("\n"));
    assert!(wrong.is_empty(), "{} faults were not mended:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_call_of_up() {
    all("up", false);
}

#[test]
fn every_call_of_down() {
    all("down", true);
}

/// Calls that make a socket of rtnetlink.
const SOCKET: [(&str, &str); 4] =
    [("socket", "EMFILE"), ("bind", "ENOMEM"), ("getsockname", "ENOBUFS"), ("setsockopt", "ENOMEM")];

/// Nothing is begun without one.
#[test]
fn every_call_of_a_socket() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let mut direct = Talk::directly(&lab);
    let mut tally = Tally::default();
    let names = SOCKET.map(|(name, _)| name).join(",");
    let mut all = |line: &[&str], tally: &mut Tally| {
        let (output, calls) = strace::trace(ns, &detour::command(&[&["plan"], line].concat()), &names, None);
        assert!(output.status.success(), "{output:?}");
        // Who only plans has the same socket.
        let planned = |name: &str| faults::count(&calls, name);
        let before = Snapshot::take(ns);
        for (name, error) in SOCKET {
            for nth in 1..=planned(name) {
                let what = format!("{line:?} with {error} from {name} {nth}");
                let output = broken_line(ns, line, name, &Fault::error(name, nth, error));
                let codes = [code::KERNEL, code::PERMISSION].map(Some);
                assert!(codes.contains(&output.status.code()), "{what}: {output:?}");
                no_panic(&output, &what);
                tally.add(name, error);
                direct.goes_on(&what);
            }
        }
        before.holds(ns, &format!("{line:?} without a socket"));
    };
    all(&["up", DEVICE], &mut tally);
    all(&["load", "@trace", DEVICE], &mut tally);
    detour::up(ns, DEVICE, &[]);
    detour::run(ns, &["load", "@trace", DEVICE]).done();
    for line in [
        &["up", DEVICE, "--rule", "drop"][..],
        &["up", DEVICE, "--fresh"],
        &["load", "@trace", DEVICE, "--replace"],
        &["unload", DEVICE, "trace"],
        &["down", DEVICE],
    ] {
        all(line, &mut tally);
    }
    tally.print("sockets");
    assert!(tally.sum() > 30, "{tally:?}");
}

/// Whoever holds the lock keeps others waiting, and they say in the end how to find him. Nothing is loaded meanwhile, so this
/// waits beside the other tests.
#[test]
fn a_lock_that_is_held_for_a_minute() {
    let held = |file_system: &str, lock: &str, line: &str| {
        let script =
            format!("mount -t {file_system} none /sys/fs/bpf; exec 9<{lock}; flock 9; exec \"$0\" {line}");
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "sh", "-ec", &script]).arg(detour::path()).env("NO_COLOR", "1");
        command.stderr(Stdio::piped()).spawn().unwrap()
    };
    let all = [
        ("bpf -o mode=0700", "/sys/fs/bpf", "up lo", "fuser -v /sys/fs/bpf"),
        ("tmpfs", "/proc/self/ns/net", "down lo", "lslocks"),
    ];
    let waiting = all.map(|(file_system, lock, line, _)| held(file_system, lock, line));
    for (child, (.., hint)) in waiting.into_iter().zip(all) {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code::FOREIGN), "{text}");
        assert!(text.contains("another process holds the lock on /") && text.contains(hint), "{text}");
    }
}

/// An update says ENOENT only of what has to be there already; nobody asks for that, so it is no answer that may be ignored.
#[test]
fn an_update_that_found_nothing() {
    const MAP_UPDATE_ELEM: i128 = 2;
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let before = Snapshot::take(ns);
    let (_, calls) = strace::trace(ns, &detour::command(&["up", DEVICE]), "bpf", None);
    down(ns);
    let updates = calls.iter().enumerate().filter(|(_, call)| call.bpf() == Some(MAP_UPDATE_ELEM));
    let updates: Vec<usize> = updates.map(|(at, _)| at + 1).collect();
    assert!(updates.len() > 2, "{updates:?}");
    for nth in updates {
        let output = broken(ns, "up", "bpf", &Fault::error("bpf", nth, "ENOENT"));
        assert_eq!(output.status.code(), Some(code::KERNEL), "update {nth}: {output:?}");
        before.holds(ns, &format!("ENOENT of update {nth}"));
    }
}

/// What a reload changes: the rules in force, and what each address is to the programs.
fn in_force(ns: &Netns) -> (Value, Vec<String>) {
    let status = detour::json(ns, &["status", DEVICE]);
    let dnat = &status["instances"][0]["dnat"]["rules"];
    let folder = ns.within(|| {
        let folder = std::fs::read_dir("/sys/fs/bpf/detour").unwrap().next().unwrap().unwrap();
        folder.path().join("up/map_local4").display().to_string()
    });
    let dump = ns.run("bpftool", &["-j", "map", "dump", "pinned", &folder]);
    let elements: Vec<Value> = serde_json::from_str(&dump).unwrap();
    let mut elements: Vec<String> = elements.iter().map(|e| format!("{} {}", e["key"], e["value"])).collect();
    elements.sort();
    let texts = dnat.as_array().unwrap_or_else(|| panic!("{status}")).iter();
    (texts.map(|rule| rule["text"].clone()).collect(), elements)
}

/// Flows and rows name rules by generation and number: what a failed reload used is not given to other rules.
#[test]
fn no_generation_is_used_twice() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let generation = || {
        let status = detour::json(ns, &["status", DEVICE]);
        let dnat = &status["instances"][0]["dnat"];
        dnat["rules_generation"].as_u64().unwrap_or_else(|| panic!("{status}"))
    };
    let line = |rule: &'static str| ["up", DEVICE, "--rule", rule];
    detour::run(ns, &line("tcp drop")).done();
    let (output, calls) = strace::trace(ns, &detour::command(&line("udp drop")), "bpf", None);
    assert!(output.status.success(), "{output:?}");
    // Back to the first table: it is found by as many calls as when they were counted. The last one comes after the swap.
    detour::run(ns, &line("tcp drop")).done();
    let before = generation();
    let fault = Fault::error("bpf", faults::count(&calls, "bpf"), "ENOMEM");
    for failed in 1..4 {
        let output = strace::inject(ns, &detour::command(&line("udp drop")), "bpf", &fault).expect("a fault");
        assert_eq!(
            (output.status.code(), generation()),
            (Some(code::KERNEL), before),
            "{failed}: {output:?}"
        );
    }
    detour::run(ns, &line("udp accept")).done();
    assert_eq!(generation(), before + 4, "three were used and undone");
}

/// A reload that fails anywhere leaves the rules that were in force; one that is killed leaves old or new ones, whole; and
/// who was talking goes on. So does he while an `up` that has nothing to do fails or dies.
#[test]
fn every_call_of_a_reload() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let old = ["--rule", TALK, "--rule", "udp drop"];
    let new = ["up", DEVICE, "--rule", TALK, "--rule", "tcp dport 80 dnat to 192.168.178.78:8080"];
    let again = [&["up", DEVICE], &old[..]].concat();
    let up = |arguments: &[&str]| detour::up(ns, DEVICE, arguments);
    up(&old);
    let before = in_force(ns);
    assert_eq!(before.0.as_array().unwrap().len(), 2);
    let mut talk = Talk::begin(&lab);
    up(&new[2..]);
    let after = in_force(ns);
    assert_ne!(before, after);
    up(&old);
    assert_eq!(in_force(ns), before);
    for (line, after, what) in [(&new[..], &after, "reload"), (&again[..], &before, "second up")] {
        let (output, calls) = strace::trace(ns, &detour::command(line), &faults::calls(), None);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        up(&old);
        let mut tally = Tally::default();
        for (name, all) in ERRORS.iter().filter(|(name, _)| *name != "flock") {
            let count = faults::count(&calls, name);
            for nth in 1..=count {
                for error in faults::errors(all, nth) {
                    let what = format!("{what} with {error} from {name} {nth} of {count}");
                    let output =
                        strace::inject(ns, &detour::command(line), name, &Fault::error(name, nth, error));
                    let output = output.unwrap_or_else(|| panic!("{what}: no fault"));
                    tally.add(name, error);
                    assert!(told(&output, name, nth, count), "{what}: {output:?}");
                    assert_eq!(in_force(ns), before, "{what}");
                    talk.goes_on(&what);
                }
                let what = format!("{what} killed in {name} {nth} of {count}");
                strace::inject(ns, &detour::command(line), name, &Fault::kill(name, nth));
                tally.add(name, "killed");
                let left = in_force(ns).0;
                assert!(left == before.0 || left == after.0, "{what}: {left}");
                talk.goes_on(&what);
                up(&old);
                assert_eq!(in_force(ns), before, "{what}, then up");
                talk.goes_on(&what);
            }
        }
        tally.print(what);
        assert!(tally.sum() > 60, "{tally:?}");
    }
}
