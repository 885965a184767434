// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Every call of an upgrade, failed and killed, with connections running through it; of `--fresh` each kind of call.
//!
//! A failure leaves the programs that ran. Whatever a kill leaves, packets go on; the next `up` mends it and flows carry on,
//! and so does the next `down`.
use e2e::crowd::Crowd;
use e2e::detour::{self, code, up};
use e2e::faults::{self, Tally, ERRORS};
use e2e::lab::{Lab, GATEWAY};
use e2e::netns::Netns;
use e2e::serve::Server;
use e2e::snapshot::Snapshot;
use e2e::strace::{self, Fault};
use e2e::tools::{self, Scratch};
use e2e::version::{compile, COUNTS};
use serde_json::Value;
use std::net::SocketAddr;

const DEVICE: &str = "eth0";
const RULES: [&str; 2] = ["--rule", "tcp redirect to :7007"];

/// The programs in place.
fn ids(ns: &Netns) -> Vec<Value> {
    let of = |hook: &&str| tools::filters(ns, DEVICE, hook);
    tools::HOOKS.iter().flat_map(of).map(|row| row["options"]["prog"]["id"].clone()).collect()
}

/// Every fault of `line`, which replaces the programs that `first` put there; one in so many of those that are alike. How many
/// there were.
fn all(first: &[&str], more: &[&str], what: &str, one_in: usize) -> usize {
    let line = &[first, more].concat()[..];
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let clean = Snapshot::take(ns);
    let _echo = Server::echo(ns, (GATEWAY, 7007));
    let up_again = || detour::run(ns, first).done();
    up_again();
    let mut crowd = Crowd::new(&lab.client, 8, |n| SocketAddr::from(([198, 51, 100, 7], 1000 + n as u16)));
    let flows = || detour::json(ns, &["flows", DEVICE])["flows"].as_array().unwrap().len();
    let before = ids(ns);
    let (output, calls) = strace::trace(ns, &detour::command(line), &faults::calls(), None);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(ids(ns).iter().zip(&before).all(|(now, before)| now != before), "{what}: other programs");
    up_again();
    let fails = |name: &str, nth: usize, error: &'static str, what: &str| {
        let (before, whole) = (ids(ns), Snapshot::take(ns));
        let output = strace::inject(ns, &detour::command(line), name, &Fault::error(name, nth, error));
        let output = output.unwrap_or_else(|| panic!("{what}: no fault"));
        let text = String::from_utf8_lossy(&output.stderr);
        // It did without the call, or only clearing failed.
        if output.status.success() || text.contains("the new instance runs") {
            assert_ne!(ids(ns), before, "{what}: {text}");
            return true;
        }
        let refused = [code::KERNEL, code::PERMISSION, code::FOREIGN].map(Some);
        assert!(refused.contains(&output.status.code()) && !text.trim().is_empty(), "{what}: {output:?}");
        assert_eq!(ids(ns), before, "{what}: {text}");
        whole.holds(ns, what);
        false
    };
    let mut tally = Tally::default();
    // flock(2) comes before the first effect, and after the last.
    for (name, errors) in ERRORS.iter().filter(|(name, _)| *name != "flock") {
        let count = faults::count(&calls, name);
        let many = ["bpf", "unlink"].contains(name) && !faults::all();
        // What only looks comes before the first effect; `faults.rs` breaks that.
        let looks =
            calls.iter().take_while(|call| call.name != "mkdir").filter(|call| call.name == *name).count();
        for nth in (looks + 1..=count).step_by(if many { one_in } else { 1 }) {
            for error in faults::errors(errors, nth) {
                let what = format!("{what} with {error} from {name} {nth} of {count}");
                if fails(name, nth, error, &what) {
                    tally.harmless.push(what.clone());
                }
                tally.add(name, error);
                crowd.exchange();
                up_again();
                // Where it was done, what is heard next opens the flow anew.
                crowd.exchange();
                assert_eq!(flows(), 8, "{what}");
            }
            let what = format!("{what} killed in {name} {nth} of {count}");
            strace::inject(ns, &detour::command(line), name, &Fault::kill(name, nth));
            tally.add(name, "killed");
            crowd.exchange();
            assert_eq!(flows(), 8, "{what}");
            // One version or the other mends it.
            if nth % 2 == 0 {
                up_again();
            } else {
                detour::run(ns, line).done();
            }
            crowd.exchange();
            assert_eq!(flows(), 8, "{what}, then up");
            up_again();
            let folders = ns.run("ls", &["-R", "/sys/fs/bpf/detour"]);
            assert!(!folders.contains("-new"), "{what}: {folders}");
        }
    }
    tally.print(what);
    crowd.exchange();
    detour::run(ns, &["down", DEVICE]).done();
    clean.holds(ns, "faults, and down");
    tally.sum()
}

/// Nobody is picked up in the middle, so flows have to be there all the time.
#[test]
fn every_call_of_an_upgrade() {
    let scratch = Scratch::new();
    let other = compile(&scratch, "counts.bpf.o", &COUNTS);
    let first = [&["up", DEVICE, "--no-pickup"], &RULES[..]].concat();
    let tried = all(&first, &["--object", &other], "upgrade", 1);
    assert!(tried > 150, "{tried}");
}

/// The same with empty maps behind the new programs, where connections go on as they are picked up.
#[test]
fn every_kind_of_call_of_fresh() {
    let first = [&["up", DEVICE, "--pickup"], &RULES[..]].concat();
    let tried = all(&first, &["--fresh"], "--fresh", 17);
    assert!(tried > 20, "{tried}");
}

/// `down` after a kill between the two filters, and on either side of them.
#[test]
fn down_after_a_killed_upgrade() {
    let scratch = Scratch::new();
    let other = compile(&scratch, "counts.bpf.o", &COUNTS);
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let clean = Snapshot::take(ns);
    let line = [&["up", DEVICE, "--object", &other], &RULES[..]].concat();
    up(ns, DEVICE, &RULES);
    let (_, calls) = strace::trace(ns, &detour::command(&line), "sendto,renameat2", None);
    detour::run(ns, &["down", DEVICE]).done();
    let sent = calls.iter().filter(|call| call.name == "sendto").count();
    let faults = [("sendto", sent - 1), ("sendto", sent), ("renameat2", 1)];
    for (name, nth) in faults {
        up(ns, DEVICE, &RULES);
        let before = ids(ns);
        strace::inject(ns, &detour::command(&line), name, &Fault::kill(name, nth));
        let now = ids(ns);
        let swapped = now.iter().zip(&before).filter(|(now, before)| now != before).count();
        let expected = if name == "renameat2" { 2 } else { nth + 1 - sent };
        assert_eq!(swapped, expected, "killed in {name} {nth} of {sent}");
        let status = detour::run(ns, &["status", DEVICE]).ends(code::NO);
        assert!(status.stdout.contains("interrupted while it replaced 'up'"), "{}", status.stdout);
        detour::run(ns, &["down", DEVICE]).done();
        clean.holds(ns, &format!("a kill in {name} {nth} of {sent}, and down"));
    }
}
