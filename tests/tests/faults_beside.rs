// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What `faults.rs` does to `up` and `down`, done to what `--original-dst` adds to them, and to `flush`: every call failed, and
//! killed.
use e2e::cgroup::Cgroup;
use e2e::detour::{self, code};
use e2e::faults::{self, Talk, Tally, ERRORS, TALK};
use e2e::lab::Lab;
use e2e::netns::Netns;
use e2e::snapshot::Snapshot;
use e2e::strace::{self, Call, Fault};
use e2e::witness::is_read;
use e2e::{serve::Server, talk};
use std::net::SocketAddr;
use std::process::Output;

const DEVICE: &str = "eth0";
const PROG_LOAD: i128 = 5;
const OBJ_PIN: i128 = 6;
const PROG_TEST_RUN: i128 = 10;

/// Which calls of a command are broken: name, number among those of its name, and the error.
fn broken(calls: &[Call], from: usize) -> Vec<(&'static str, usize, &'static str)> {
    let mut all = Vec::new();
    for (name, errors) in ERRORS.iter().filter(|(name, _)| *name != "flock") {
        let before = faults::count(&calls[..from], name);
        let later = calls[from..].iter().filter(|call| call.name == *name);
        // Pins and their ends are many and alike: each eighth.
        let alike =
            |nth: usize, call: &Call| nth % 8 != 0 && (call.bpf() == Some(OBJ_PIN) || call.name == "unlink");
        for (nth, _) in later.enumerate().filter(|(nth, call)| !is_read(call) && !alike(*nth, call)) {
            let nth = before + nth + 1;
            all.extend(faults::errors(errors, nth).into_iter().map(|error| (*name, nth, error)));
        }
    }
    all
}

fn trace(ns: &Netns, line: &[&str]) -> Vec<Call> {
    let (output, calls) = strace::trace(ns, &detour::command(line), &faults::calls(), None);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    calls
}

/// A failure that says what failed, by an exit code that means it.
fn told(output: &Output, what: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    let codes = [code::KERNEL, code::PERMISSION, code::FOREIGN].map(Some);
    assert!(codes.contains(&output.status.code()) && !text.trim().is_empty(), "{what}: {output:?}");
    assert!(!text.contains("panicked"), "{what}: {text}");
}

/// From the load of the third program on; what comes before is the same without it.
#[test]
fn every_call_that_original_dst_adds() {
    let cgroup = Cgroup::empty();
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let before = Snapshot::take(ns);
    let option = format!("--original-dst={}", cgroup.path());
    let up = ["up", DEVICE, &option];
    let calls = trace(ns, &up);
    let loads: Vec<usize> = (0..calls.len()).filter(|n| calls[*n].bpf() == Some(PROG_LOAD)).collect();
    assert_eq!(loads.len(), 3, "in, out and getsockopt");
    let down = trace(ns, &["down", DEVICE]);
    before.holds(ns, "a run without faults");
    let mut tally = Tally::default();
    for (n, (name, nth, error)) in broken(&calls, loads[2]).into_iter().enumerate() {
        let what = format!("up with {error} from {name} {nth}");
        let output = strace::inject(ns, &detour::command(&up), name, &Fault::error(name, nth, error));
        tally.add(name, error);
        told(&output.unwrap_or_else(|| panic!("{what}: no fault")), &what);
        before.holds(ns, &what);
        let what = format!("up killed in {name} {nth}");
        strace::inject(ns, &detour::command(&up), name, &Fault::kill(name, nth)).expect("a kill");
        tally.add(name, "killed");
        // A complete `up` or `down` mends it.
        if n % 2 == 0 {
            detour::run(ns, &up).done();
        }
        let run = detour::run(ns, &["down", DEVICE]);
        assert!(matches!(run.code, Some(code::DONE | code::NO)), "{what}: {run:?}");
        before.holds(ns, &what);
    }
    // `down` in the middle of what it takes away: the next one takes the rest.
    let first = down.iter().position(|call| !is_read(call)).unwrap();
    for (name, nth, _) in broken(&down, first).into_iter().step_by(3) {
        detour::run(ns, &up).done();
        strace::inject(ns, &detour::command(&["down", DEVICE]), name, &Fault::kill(name, nth))
            .expect("a kill");
        tally.add(name, "killed");
        let run = detour::run(ns, &["down", DEVICE]);
        assert!(matches!(run.code, Some(code::DONE | code::NO)), "{run:?}");
        before.holds(ns, &format!("down killed in {name} {nth}"));
    }
    tally.print("--original-dst");
    assert!(tally.sum() > 20, "{tally:?}");
}

/// What was chosen ends or goes on whole; what was not, and the machine, know nothing of it.
#[test]
fn every_call_of_flush() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let _names = Server::udp(ns, SocketAddr::from(([0; 4], 53)));
    detour::up(ns, DEVICE, &["--no-pickup", "--rule", TALK, "--rule", "udp dport 53 redirect"]);
    let mut talking = Talk::begin(&lab);
    let sockets = [5000, 5001, 5002].map(|port| talk::udp(&lab.client, port));
    let ask = |what: &str| {
        for socket in &sockets {
            let to = SocketAddr::from(([8, 8, 8, 8], 53));
            assert_eq!(talk::ask(socket, to, what).unwrap().1, to, "{what}");
        }
    };
    let flows = || {
        let document = detour::json(ns, &["flows", DEVICE, "udp"]);
        document["flows"].as_array().unwrap().len()
    };
    let line = ["flush", DEVICE, "udp"];
    ask("first");
    let calls = trace(ns, &line);
    assert_eq!(flows(), 0);
    let before = Snapshot::take(ns);
    let mut tally = Tally::default();
    for (name, nth, error) in broken(&calls, 0) {
        let what = format!("flush with {error} from {name} {nth}");
        ask(&what);
        let output = strace::inject(ns, &detour::command(&line), name, &Fault::error(name, nth, error));
        tally.add(name, error);
        match output {
            Some(output) if !output.status.success() => told(&output, &what),
            Some(_) => tally.harmless.push(what.clone()),
            None => panic!("{what}: no fault"),
        }
        before.holds(ns, &what);
        talking.goes_on(&what);
        assert!(flows() <= 3, "{what}");
        let what = format!("flush killed in {name} {nth}");
        ask(&what);
        strace::inject(ns, &detour::command(&line), name, &Fault::kill(name, nth)).expect("a kill");
        tally.add(name, "killed");
        before.holds(ns, &what);
        talking.goes_on(&what);
        ask(&what);
        detour::run(ns, &line).done();
        assert_eq!(flows(), 0, "{what}, then flush");
    }
    tally.print("flush");
    assert!(tally.sum() > 20, "{tally:?}");
}

/// A flow that was ended does not come back, so what came before its end is not taken back either, and that is said.
#[test]
fn the_end_of_a_flow_is_not_undone() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    let _names = Server::udp(ns, SocketAddr::from(([0; 4], 53)));
    let old = ["--no-pickup", "--rule", "udp dport 53 redirect"];
    let new = ["up", DEVICE, "--no-pickup", "--rule", "udp dport 53 drop", "--flush", "udp"];
    let sockets = [5000, 5001, 5002].map(|port| talk::udp(&lab.client, port));
    let begin = || {
        detour::up(ns, DEVICE, &old);
        let to = SocketAddr::from(([8, 8, 8, 8], 53));
        sockets.iter().for_each(|socket| assert_eq!(talk::ask(socket, to, "x").unwrap().1, to));
    };
    let flows = || detour::json(ns, &["flows", DEVICE, "udp"])["flows"].as_array().unwrap().len();
    let rule = || detour::json(ns, &["rules", DEVICE])["rules"][0]["text"].as_str().unwrap().to_owned();
    begin();
    let calls = trace(ns, &new);
    assert_eq!((flows(), rule().as_str()), (0, "udp dport 53 drop"));
    let of_bpf: Vec<&Call> = calls.iter().filter(|call| call.name == "bpf").collect();
    let runs: Vec<usize> = (1..)
        .zip(&of_bpf)
        .filter(|(_, call)| call.bpf() == Some(PROG_TEST_RUN))
        .map(|(nth, _)| nth)
        .collect();
    assert_eq!(runs.len(), 3, "one for each flow");
    for (ended, nth) in runs.into_iter().enumerate() {
        begin();
        let fault = Fault::error("bpf", nth, "EPERM");
        let output = strace::inject(ns, &detour::command(&new), "bpf", &fault).expect("a fault");
        told(&output, "the run of a program");
        let text = String::from_utf8_lossy(&output.stderr);
        let said = text.contains("flows that had ended before; what was in force then stays");
        // Nothing had ended before the first: all is as it was.
        assert_eq!((flows(), said), (3 - ended, ended > 0), "{text}");
        let in_force = if ended > 0 { "udp dport 53 drop" } else { "udp dport 53 redirect" };
        assert_eq!(rule(), in_force, "{text}");
        detour::run(ns, &new).done();
        assert_eq!((flows(), rule().as_str()), (0, "udp dport 53 drop"));
    }
}
