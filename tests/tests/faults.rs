// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Every call of `up` and `down` that can fail, failed in turn, and killed in turn: what does the machine look like?
//!
//! A failed `up` leaves it as it was. A killed `up`, a failed or killed `down` leaves what the next `down`, or the next
//! `up` and `down`, takes away. strace makes the faults: the call is not made at all.
use e2e::detour::{self, code};
use e2e::lab::Lab;
use e2e::netns::Netns;
use e2e::snapshot::Snapshot;
use e2e::strace::{self, Argument, Call, Fault};
use std::collections::BTreeMap;
use std::process::Output;

const DEVICE: &str = "eth0";

/// Calls that a fault is put into, and the error: one that the kernel can give for it.
const FRAIL: [(&str, &str); 10] = [
    ("bpf", "ENOMEM"),
    ("sendto", "ENOBUFS"),
    ("sendmsg", "ENOBUFS"),
    ("recvfrom", "ENOBUFS"),
    ("recvmsg", "ENOBUFS"),
    ("mkdir", "ENOSPC"),
    ("rename", "EPERM"),
    ("unlink", "EPERM"),
    ("rmdir", "EPERM"),
    ("flock", "ENOLCK"),
];

/// How often each of them is called by `detour COMMAND eth0` now.
fn count(ns: &Netns, command: &str) -> BTreeMap<&'static str, usize> {
    let names: Vec<&str> = FRAIL.iter().map(|(name, _)| *name).collect();
    let (output, calls) = strace::trace(ns, &detour::command(&[command, DEVICE]), &names.join(","), None);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // The end of flock(2)'s lock cannot fail; it is the last call of its name.
    let unlock = |call: &Call| call.name == "flock" && call.arguments.get(1) == Some(&Argument::Number(8));
    let times = |name: &str| calls.iter().filter(|call| call.name == name && !unlock(call)).count();
    names.into_iter().map(|name| (name, times(name))).collect()
}

/// Runs `detour COMMAND eth0` with the fault, which has to happen.
fn broken(ns: &Netns, command: &str, name: &str, fault: &Fault) -> Output {
    let output = strace::inject(ns, &detour::command(&[command, DEVICE]), name, fault);
    output.unwrap_or_else(|| panic!("{command}: no fault: {fault:?}"))
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

/// All faults of `command`, which finds the device up or not.
fn all(command: &str, up_before: bool) {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let before = Snapshot::take(ns);
    let prepare = || {
        if up_before {
            detour::up(ns, DEVICE, &[]);
        }
    };
    prepare();
    let counts = count(ns, command);
    down(ns);
    before.holds(ns, "a run without faults");
    assert!(counts["bpf"] > 0 && counts["sendto"] + counts["sendmsg"] > 4, "{counts:?}");

    let mut wrong = Vec::new();
    let mut judge = |what: String| {
        let changes = before.changes_soon(ns);
        if !changes.is_empty() {
            wrong.push(format!("{what} left:\n{}", changes.join("\n")));
            detour::up(ns, DEVICE, &[]);
            down(ns);
            before.holds(ns, &format!("{what}, then up and down,"));
        }
    };
    for (name, error) in FRAIL {
        for nth in 1..=counts[name] {
            let what = format!("{command} with {error} from {name} {nth} of {}", counts[name]);
            prepare();
            let output = broken(ns, command, name, &Fault::error(name, nth, error));
            no_panic(&output, &what);
            if output.status.success() || up_before {
                mend(ns, nth); // it did without, or `down` failed half-way
            }
            judge(what);

            let what = format!("{command} killed in {name} {nth} of {}", counts[name]);
            prepare();
            broken(ns, command, name, &Fault::kill(name, nth));
            mend(ns, nth);
            judge(what);
        }
    }
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
