// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Calls of `up --fresh` over what runs, failed and killed.
//!
//! A failure leaves the programs that ran and their connections. What a kill leaves serves who comes next, unless it was between
//! the two filters, whose programs then have flows of their own (design.md); the next `up` mends that as well. The ordinary
//! tests try every eighth call of a name, `FAULTS=all` all of them.
use e2e::detour::{self, code, up};
use e2e::faults::{self, Talk, Tally, ERRORS, TALK};
use e2e::lab::Lab;
use e2e::netns::Netns;
use e2e::snapshot::Snapshot;
use e2e::strace::{self, Fault};
use e2e::tools;
use serde_json::Value;

const DEVICE: &str = "eth0";
const UP: [&str; 4] = ["up", DEVICE, "--rule", TALK];
const FRESH: [&str; 5] = ["up", DEVICE, "--rule", TALK, "--fresh"];

/// The programs in place.
fn ids(ns: &Netns) -> Vec<Value> {
    let of = |hook: &&str| tools::filters(ns, DEVICE, hook);
    tools::HOOKS.iter().flat_map(of).map(|row| row["options"]["prog"]["id"].clone()).collect()
}

#[test]
fn every_call_of_fresh() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let clean = Snapshot::take(ns);
    up(ns, DEVICE, &UP[2..]);
    let (output, calls) = strace::trace(ns, &detour::command(&FRESH), &faults::calls(), None);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut tally = Tally::default();
    // flock(2) comes before the first effect, and after the last.
    for (name, errors) in ERRORS.iter().filter(|(name, _)| *name != "flock") {
        let count = faults::count(&calls, name);
        // What only looks comes before the first effect; `faults.rs` breaks that.
        let looks =
            calls.iter().take_while(|call| call.name != "mkdir").filter(|call| call.name == *name).count();
        for nth in (looks + 1..=count).filter(|nth| faults::all() || (count - nth) % 8 == 0) {
            for error in faults::errors(errors, nth) {
                let what = format!("{error} from {name} {nth} of {count}");
                let (mut talk, before, whole) = (Talk::begin(&lab), ids(ns), Snapshot::take(ns));
                let output =
                    strace::inject(ns, &detour::command(&FRESH), name, &Fault::error(name, nth, error));
                let output = output.unwrap_or_else(|| panic!("{what}: no fault"));
                let text = String::from_utf8_lossy(&output.stderr);
                tally.add(name, error);
                // It did without the call, or only clearing failed.
                if output.status.success() || text.contains("the new instance runs") {
                    assert_ne!(ids(ns), before, "{what}: {text}");
                    tally.harmless.push(what.clone());
                } else {
                    let refused = [code::KERNEL, code::PERMISSION, code::FOREIGN].map(Some);
                    let said = !text.trim().is_empty() && !text.contains("panicked");
                    assert!(said && refused.contains(&output.status.code()), "{what}: {output:?}");
                    assert_eq!(ids(ns), before, "{what}: {text}");
                    whole.holds(ns, &what);
                    talk.goes_on(&what);
                }
                drop(talk);
                mended(&lab, &what);
            }
            let what = format!("killed in {name} {nth} of {count}");
            let before = ids(ns);
            strace::inject(ns, &detour::command(&FRESH), name, &Fault::kill(name, nth)).expect(&what);
            tally.add(name, "killed");
            let swapped = ids(ns).iter().zip(&before).filter(|(now, before)| now != before).count();
            if swapped != 1 {
                Talk::begin(&lab).goes_on(&what);
            }
            mended(&lab, &what);
        }
    }
    tally.print("fresh");
    assert!(tally.sum() > 30, "{tally:?}");
    detour::run(ns, &["down", DEVICE]).done();
    clean.holds(ns, "faults, and down");
}

/// The next `up` leaves one instance, which serves who comes.
fn mended(lab: &Lab, what: &str) {
    detour::run(&lab.gateway, &UP).done();
    Talk::begin(lab).goes_on(what);
    let folders = lab.gateway.run("ls", &["-R", "/sys/fs/bpf/detour"]);
    assert!(!folders.contains("-new"), "{what}: {folders}");
}
