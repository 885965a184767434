// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `load`, `load --replace` and `unload`: every call that can fail, failed with each error that the kernel can give for it,
//! and killed. What was running before a failed command runs after it, by the word of `verify`; what a killed one left is
//! cleared by the next.
use e2e::detour::{self, code};
use e2e::faults::{self, Talk, Tally, ERRORS, TALK};
use e2e::lab::Lab;
use e2e::netns::Netns;
use e2e::snapshot::Snapshot;
use e2e::strace::{self, Fault};

const DEVICE: &str = "eth0";

/// Calls that only look: dying in them is dying before the next.
const LOOKS: [&str; 3] = ["recvfrom", "recvmsg", "flock"];

const LOAD: &[&str] = &["load", "@trace", DEVICE, "--name", "lab"];
const REPLACE: &[&str] = &["load", "@trace", DEVICE, "--name", "lab", "--replace"];
const UNLOAD: &[&str] = &["unload", DEVICE, "lab"];

/// Every fault of `line`; `before` makes what it finds. How many there were.
fn all(line: &[&str], before: Option<&[&str]>) -> usize {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    // Somebody else's instance is beside it all the time, and talks.
    detour::up(ns, DEVICE, &["--rule", TALK]);
    let mut talk = Talk::begin(&lab);
    let clean = Snapshot::take(ns);
    let prepare = || {
        if let Some(before) = before {
            detour::run(ns, before).done();
        }
    };
    let clear = |what: &str| {
        let run = detour::run(ns, UNLOAD);
        assert!(matches!(run.code, Some(code::DONE | code::NO)), "{what}: {run:?}");
    };
    prepare();
    let (output, calls) = strace::trace(ns, &detour::command(line), &faults::calls(), None);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    clear("a run without faults");
    let (mut tally, mut wrong) = (Tally::default(), Vec::new());
    for (name, all) in ERRORS.iter().filter(|(name, _)| *name != "flock") {
        let count = faults::count(&calls, name);
        for nth in 1..=count {
            for error in faults::errors(all, nth) {
                let what = format!("{line:?} with {error} from {name} {nth} of {count}");
                prepare();
                let output =
                    strace::inject(ns, &detour::command(line), name, &Fault::error(name, nth, error));
                let output = output.unwrap_or_else(|| panic!("{what}: no fault"));
                tally.add(name, error);
                talk.goes_on(&what);
                let text = String::from_utf8_lossy(&output.stderr);
                let refused = [code::KERNEL, code::PERMISSION, code::FOREIGN].map(Some);
                let harmless = output.status.success();
                if harmless {
                    tally.harmless.push(what.clone());
                } else if !refused.contains(&output.status.code()) || text.trim().is_empty() {
                    wrong.push(format!("{what}: {:?} {text}", output.status));
                }
                // A replacement that fails before its commit leaves the old instance; one whose cleaning fails, the new one.
                if line == REPLACE || harmless && line == LOAD {
                    let run = detour::run(ns, &["verify", "--live", DEVICE, "--rule", TALK]);
                    let left_over = run.stdout.contains("left over");
                    if run.code != Some(code::DONE) && !left_over {
                        wrong.push(format!("{what}: {}", run.stdout));
                    }
                } else if line == LOAD {
                    let run = detour::run(ns, &["unload", DEVICE, "lab"]);
                    if run.code != Some(code::NO) {
                        wrong.push(format!("{what}: something was left: {}", run.stdout));
                    }
                }
                clear(&what);
            }
            if !LOOKS.contains(name) {
                let what = format!("{line:?} killed in {name} {nth} of {count}");
                prepare();
                strace::inject(ns, &detour::command(line), name, &Fault::kill(name, nth));
                tally.add(name, "killed");
                talk.goes_on(&what);
                clear(&what);
                talk.goes_on(&what);
            }
        }
    }
    let injected = tally.sum();
    tally.print(if line == REPLACE { "load --replace" } else { line[0] });
    clear("all faults");
    clean.holds(ns, &format!("{injected} faults of {line:?}"));
    assert!(wrong.is_empty(), "{} of {injected} faults:\n{}", wrong.len(), wrong.join("\n"));
    injected
}

#[test]
fn every_call_of_load() {
    let injected = all(LOAD, None);
    assert!(injected > 50, "{injected}");
}

#[test]
fn every_call_of_a_replacement() {
    let injected = all(REPLACE, Some(LOAD));
    assert!(injected > 50, "{injected}");
}

#[test]
fn every_call_of_unload() {
    let injected = all(UNLOAD, Some(LOAD));
    assert!(injected > 40, "{injected}");
}
