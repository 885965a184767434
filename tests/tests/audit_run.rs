// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What `run` does to the kernel: the plan of `up` at its start, that of another `up` at SIGHUP, that of `down` at its end, by
//! its transcript and by strace; besides, it says that it listens, and gives up what it does not need.
use ::detour::load::compare::{bare, effects};
use e2e::contents;
use e2e::detour;
use e2e::lab::Lab;
use e2e::service::Service;
use e2e::strace::{self, Argument, Call, EFFECTS};
use e2e::tools::Scratch;
use e2e::witness::{find, Witness};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::time::{Duration, Instant};

const FIRST: &str = "tcp dport 80 redirect to :8080\n";
const SECOND: &str = "udp dport 53 redirect to :53\ntcp drop\n";

/// What a process does to itself when it confines itself: three sets of capabilities, no new privileges, the filter.
const CONFINING: [&str; 3] = ["capset", "prctl", "seccomp"];

/// The messages to the service manager, which part one plan from the next.
fn said(call: &Call) -> Option<&str> {
    let Some(Argument::Bytes(text)) = call.arguments.get(1).filter(|_| call.name == "sendto") else {
        return None;
    };
    let text = std::str::from_utf8(text).ok()?;
    ["READY=1", "RELOADING=1", "STOPPING=1", "WATCHDOG=1"].into_iter().find(|word| text.starts_with(word))
}

/// The calls without those that tell the programs that somebody listens; how many these were.
fn without_leases(calls: &[Call]) -> (Vec<Call>, usize) {
    let mut control = None;
    let mut rest = Vec::new();
    for call in calls {
        let field = |name: &str| find(call.arguments.get(1)?, name);
        match (call.bpf(), field("pathname"), field("map_fd").and_then(Argument::number)) {
            (Some(7), Some(Argument::Bytes(path)), _) if path.ends_with(b"/map_event_control") => {
                control = call.result;
            }
            (Some(2), _, Some(fd)) if control == i64::try_from(fd).ok() => continue,
            _ => {}
        }
        rest.push(call.clone());
    }
    let leases = calls.len() - rest.len();
    (rest, leases)
}

#[test]
fn start_reload_and_end() {
    let lab = Lab::new();
    let (ns, device) = (&lab.gateway, lab.device.as_str());
    let scratch = Scratch::new();
    let (log, transcript) = (scratch.write("strace", ""), scratch.write("transcript", ""));
    let second = scratch.write("second", SECOND);
    let plan = |line: &[&str]| detour::json(ns, &[&["plan"], line].concat());
    let mut plans = vec![plan(&["up", device, "--rule", FIRST.trim()])];
    // -D: the service is the child, and who traces it is not.
    let strace = strace::watching(EFFECTS, &log, &["-D"]);
    let more = ["--down-on-exit", "--transcript", &transcript];
    let mut service = Service::under(ns, &strace, device, FIRST, &more);
    assert!(contents::compare(ns, &plans[0]) > 10);
    plans.push(plan(&["up", device, &second]));
    std::fs::write(service.scratch.path("rules"), SECOND).unwrap();
    service.signal(Signal::SIGHUP);
    service.says("RELOADING=1");
    service.says("READY=1");
    assert!(contents::compare(ns, &plans[1]) > 0);
    plans.push(plan(&["down", device]));
    service.signal(Signal::SIGTERM);
    service.says("STOPPING=1");
    service.ends();

    let start = Instant::now();
    let text = loop {
        let text = std::fs::read_to_string(&log).unwrap();
        if text.contains("+++ exited with 0 +++") {
            break text;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "strace does not end");
        std::thread::sleep(Duration::from_millis(20));
    };
    let (calls, leases) = without_leases(&strace::read(&text));
    assert!((2..20).contains(&leases), "it listens, and does no more in the end: {leases}");
    let (own, calls): (Vec<Call>, Vec<Call>) =
        calls.into_iter().partition(|call| CONFINING.contains(&call.name.as_str()));
    let of = |name: &str| own.iter().filter(|call| call.name == name && call.result == Some(0)).count();
    assert!(of("capset") >= 3 && of("seccomp") == 1, "{own:?}");
    let mut parts: Vec<Vec<Call>> = vec![Vec::new()];
    for call in &calls {
        match said(call) {
            None => parts.last_mut().unwrap().push(call.clone()),
            Some("WATCHDOG=1") => {}
            Some(_) => parts.push(Vec::new()),
        }
    }
    // Before READY; before and after RELOADING; before and after STOPPING.
    assert_eq!(parts.len(), 5, "{:?}", calls.iter().filter_map(said).collect::<Vec<_>>());
    let nothing = serde_json::json!({"steps": []});
    for (part, plan) in parts.iter().zip([&plans[0], &nothing, &plans[1], &nothing, &plans[2]]) {
        Witness::compare(plan, part);
    }
    let done = effects(&std::fs::read_to_string(&transcript).unwrap(), false).unwrap();
    let steps: Vec<Value> =
        plans.iter().flat_map(|plan| plan["steps"].as_array().unwrap()).map(bare).collect();
    assert!(plans.iter().all(|plan| plan["steps"].as_array().is_some_and(|steps| steps.len() > 3)));
    assert_eq!(done, steps, "plans and transcript");
}
