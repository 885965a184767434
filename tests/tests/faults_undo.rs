// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A command fails, and what takes back its steps fails as well: all that is left is named, how to clear it is said, and that
//! clears it.
use e2e::detour::{self, code, up};
use e2e::faults::{self, Tally, ERRORS};
use e2e::lab::Lab;
use e2e::netns::Netns;
use e2e::snapshot::Snapshot;
use e2e::strace::{self, Call, Fault};
use e2e::tools::Scratch;
use e2e::version::{compile, COUNTS};
use std::process::Output;

const DEVICE: &str = "eth0";
const CLEARS: &str = "is cleared by the next";

/// A command, and what there has to be before and to be done after.
struct Case<'a> {
    line: Vec<&'a str>,
    before: Option<Vec<&'a str>>,
    /// Clear what was left, in turn.
    after: [Vec<&'a str>; 2],
}

fn trace(ns: &Netns, line: &[&str], fault: Option<&Fault>) -> Vec<Call> {
    strace::trace(ns, &detour::command(line), &faults::calls(), fault).1
}

/// If anything is there that was not before, or the other way round, that is said.
fn told(output: &Output, changes: &[String], what: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    let codes = [code::KERNEL, code::PERMISSION, code::FOREIGN].map(Some);
    assert!(codes.contains(&output.status.code()) && !text.contains("panicked"), "{what}: {output:?}");
    // The kernel frees maps and types a while after their last user.
    if changes.iter().any(|change| !change.starts_with("+ map ") && !change.starts_with("+ btf ")) {
        let said = ["what could not be undone:\n", " stay, as if it had been killed there\n", CLEARS];
        assert!(said.iter().all(|words| text.contains(words)), "{what}: {changes:#?}: {text}");
    }
}

/// `first` makes `case` fail; every call that follows fails as well, each alone and with all after it of its name.
fn every_undo(ns: &Netns, case: &Case<'_>, first: (&str, usize), tally: &mut Tally) {
    let clean = Snapshot::take(ns);
    let ready = || {
        if let Some(before) = &case.before {
            detour::run(ns, before).done();
        }
    };
    ready();
    let before = Snapshot::take(ns);
    let fails = Fault::error(first.0, first.1, "EPERM");
    let calls = trace(ns, &case.line, Some(&fails));
    before.holds(ns, &format!("{:?} with {first:?}", case.line));
    let at = calls.iter().position(|call| call.injected).expect("a fault");
    let (earlier, later) = calls.split_at(at + 1);
    let mut faults = Vec::new();
    for (name, _) in ERRORS.iter().filter(|(name, _)| !["flock", first.0].contains(name)) {
        let (passed, count) = (faults::count(earlier, name), faults::count(later, name));
        // Pins and their ends are many and alike.
        let step = if *name == "unlink" && !faults::all() { 7 } else { 1 };
        for nth in (passed + 1..=passed + count).step_by(step) {
            faults.push((format!("EBUSY from {name} {nth}"), Fault::error(name, nth, "EBUSY")));
            if nth == passed + 1 || nth == passed + count / 2 {
                faults.push((format!("EBUSY from {name} {nth} on"), Fault::from(name, nth, "EBUSY")));
            }
        }
    }
    for (n, (what, fault)) in faults.into_iter().enumerate() {
        let what = format!("{:?} with {first:?}, then {what}", case.line);
        if n > 0 {
            ready();
        }
        let before = Snapshot::take(ns);
        let both = fails.clone().and(fault);
        let output = strace::inject(ns, &detour::command(&case.line), &faults::calls(), &both);
        let output = output.unwrap_or_else(|| panic!("{what}: no fault"));
        told(&output, &before.changes(&Snapshot::take(ns)), &what);
        tally.add(first.0, "and its undo");
        let run = detour::run(ns, &case.after[n % 2]);
        assert!(matches!(run.code, Some(code::DONE | code::NO)), "{what}: {run:?}");
        let run = detour::run(ns, &case.after[0]);
        assert!(matches!(run.code, Some(code::DONE | code::NO)), "{what}: {run:?}");
        clean.holds(ns, &what);
    }
}

#[test]
fn undo_of_up_and_load() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let mut tally = Tally::default();
    let up =
        Case { line: vec!["up", DEVICE], before: None, after: [vec!["down", DEVICE], vec!["up", DEVICE]] };
    every_undo(ns, &up, ("rename", 1), &mut tally);
    let load = Case {
        line: vec!["load", "@trace", DEVICE],
        before: None,
        after: [vec!["unload", DEVICE, "trace"], vec!["load", "@trace", DEVICE]],
    };
    every_undo(ns, &load, ("rename", 1), &mut tally);
    tally.print("undo of up and load");
    assert!(tally.sum() > 30, "{tally:?}");
}

#[test]
fn undo_of_an_upgrade() {
    let scratch = Scratch::new();
    let other = compile(&scratch, "counts.bpf.o", &COUNTS);
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let mut tally = Tally::default();
    let case = Case {
        line: vec!["up", DEVICE, "--object", &other],
        before: Some(vec!["up", DEVICE]),
        after: [vec!["down", DEVICE], vec!["up", DEVICE]],
    };
    every_undo(ns, &case, ("renameat2", 1), &mut tally);
    tally.print("undo of an upgrade");
    assert!(tally.sum() > 15, "{tally:?}");
}

/// From one message, or one call of bpf(2), on the kernel refuses all of them.
#[test]
fn a_kernel_that_refuses_from_now_on() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let clean = Snapshot::take(ns);
    let lines: [(&[&str], &[&str]); 4] = [
        (&["up", DEVICE], &["down", DEVICE]),
        (&["up", DEVICE, "--no-pin"], &["down", DEVICE]),
        (&["load", "@trace", DEVICE], &["unload", DEVICE, "trace"]),
        (&["load", "@trace", DEVICE, "--tcx"], &["unload", DEVICE, "trace"]),
    ];
    let mut tally = Tally::default();
    for (line, clears) in lines {
        let calls = trace(ns, line, None);
        detour::run(ns, clears).done();
        clean.holds(ns, "without faults");
        let mkdir = calls.iter().position(|call| call.name == "mkdir").unwrap_or(0);
        for name in ["sendto", "recvfrom", "bpf", "unlink"] {
            let (looks, count) = (faults::count(&calls[..mkdir], name), faults::count(&calls, name));
            let step = if name == "bpf" { 7 } else { 1 };
            for nth in (looks + 1..=count).step_by(step) {
                let what = format!("{line:?}: EPERM from {name} {nth} of {count} on");
                let output =
                    strace::inject(ns, &detour::command(line), name, &Fault::from(name, nth, "EPERM"));
                let output = output.unwrap_or_else(|| panic!("{what}: no fault"));
                told(&output, &clean.changes(&Snapshot::take(ns)), &what);
                tally.add(name, "from then on");
                let run = detour::run(ns, clears);
                assert!(matches!(run.code, Some(code::DONE | code::NO)), "{what}: {run:?}");
                clean.holds(ns, &what);
            }
        }
    }
    tally.print("refused from then on");
    assert!(tally.sum() > 30, "{tally:?}");
}

/// Rules and addresses that could not be put back: the next `up` says what differs and puts them back.
#[test]
fn undo_of_a_reload() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let (old, new) = (
        ["up", DEVICE, "--rule", "tcp drop"],
        ["up", DEVICE, "--rule", "udp dport 53 dnat to 192.168.178.78"],
    );
    up(ns, DEVICE, &old[2..]);
    let calls = trace(ns, &new, None);
    detour::run(ns, &old).done();
    let count = faults::count(&calls, "bpf");
    for nth in count - 8..=count {
        let what = format!("EPERM from bpf {nth} of {count} on");
        let output = strace::inject(ns, &detour::command(&new), "bpf", &Fault::from("bpf", nth, "EPERM"));
        let output = output.unwrap_or_else(|| panic!("{what}: no fault"));
        assert_eq!(output.status.code(), Some(code::PERMISSION), "{what}: {output:?}");
        detour::run(ns, &old).done();
        detour::run(ns, &["verify", "--live", DEVICE, "--rule", "tcp drop"]).done();
    }
}
