// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `detour demo`: the main job, on any machine, and nothing left of it.
use e2e::detour::{self, code, Run};
use e2e::netns::Netns;
use e2e::snapshot::Snapshot;
use e2e::strace::{self, Fault};
use serde_json::Value;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What the client asks, as the demo prints it, and who answers; the port of an echo is missing.
const ASKED: [(&str, &str); 5] = [
    ("http://1.2.3.4/", "1.2.3.4"),
    ("http://93.184.216.34:8080/", "93.184.216.34"),
    ("udp 8.8.8.8:53", "8.8.8.8"),
    ("udp 203.0.113.77:40000", "203.0.113.77"),
    ("ping 8.8.8.8", "8.8.8.8"),
];

/// What the demo could disturb: everything in a snapshot, and the links, mounts and named namespaces around it.
struct Around {
    ns: Netns,
    snapshot: Snapshot,
    rest: [String; 3],
}

impl Around {
    fn new() -> Around {
        let ns = Netns::alone();
        Around { snapshot: Snapshot::take(&ns), rest: rest(&ns), ns }
    }

    #[track_caller]
    fn holds(&self, what: &str) {
        self.snapshot.holds(&self.ns, what);
        assert_eq!(rest(&self.ns), self.rest, "{what}");
    }
}

fn rest(ns: &Netns) -> [String; 3] {
    let mounts = ns.within(|| std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap());
    [ns.run("ip", &["link"]), ns.run("ip", &["netns"]), mounts]
}

/// Starts the demo without any other program at hand.
fn start(ns: &Netns, arguments: &[&str]) -> Child {
    let mut command = detour::command(&[&["demo"], arguments].concat());
    command.env("PATH", "").stdout(Stdio::piped()).stderr(Stdio::piped());
    ns.within(|| command.spawn().unwrap())
}

fn finish(child: Child) -> Run {
    Run::of(&["demo"], &child.wait_with_output().unwrap())
}

#[test]
fn it_shows_every_answer_and_leaves_nothing() {
    let around = Around::new();
    let start_time = Instant::now();
    let run = finish(start(&around.ns, &[])).done();
    // The number is for people; a machine that does other things meanwhile is no reason to fail.
    println!("the demo took {:?}", start_time.elapsed());
    for (asked, _) in ASKED {
        let line = run.stdout.lines().find(|line| line.trim_start().starts_with(asked));
        assert!(line.is_some_and(|line| line.ends_with(" ok")), "{asked}:\n{}", run.stdout);
    }
    for part in ["mount   bpf /sys/fs/bpf", "detour up gw0", "detour plan up", "detour flows", "detour asked"]
    {
        assert!(run.stdout.contains(part), "{part} is not in:\n{}", run.stdout);
    }
    around.holds("the demo");
}

#[test]
fn its_json_says_the_same() {
    let ns = Netns::new();
    let document = finish(start(&ns, &["-j"])).done().json();
    assert_eq!(document["ok"], true);
    let client = document["client"].as_array().unwrap();
    let heard: Vec<(&str, &str)> = client
        .iter()
        .map(|row| (row["asked"].as_str().unwrap(), row["answered_by"].as_str().unwrap()))
        .collect();
    assert_eq!(heard, ASKED);
    assert!(client.iter().all(|row| row["ok"] == true), "{client:?}");
    let served: Vec<&str> = client.iter().filter_map(|row| row["served_by"].as_str()).collect();
    assert_eq!(served, ["192.0.2.1:80", "192.0.2.1:80", "192.0.2.1:53", "192.0.2.1:9999"]);
    for said in ["plan", "up", "flows", "asked"] {
        assert!(document[said]["schema"].is_string(), "{said}: {}", document[said]);
    }
    for (_, address) in ASKED {
        let text = document["asked"].to_string();
        assert!(text.contains(address), "{address} is not in {text}");
    }
}

#[test]
fn killed_at_any_moment_it_leaves_nothing() {
    let around = Around::new();
    let start_time = Instant::now();
    finish(start(&around.ns, &[])).done();
    let took = start_time.elapsed().as_micros() as u64;
    for number in 0..25_u32 {
        let after = Duration::from_micros(RandomState::new().hash_one(number) % took);
        let mut child = start(&around.ns, &[]);
        std::thread::sleep(after);
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
        around.holds(&format!("the demo, killed after {after:?}"));
    }
}

#[test]
fn several_at_once_do_not_meet() {
    let around = Around::new();
    let children: Vec<Child> = (0..4).map(|_| start(&around.ns, &["--json"])).collect();
    for child in children {
        assert_eq!(finish(child).done().json()["ok"], Value::Bool(true));
    }
    around.holds("four demos");
}

#[test]
fn one_answer_too_few_is_a_no() {
    let ns = Netns::new();
    // Calls are counted for each thread: this is the client's first, of the first question.
    let fault = Fault::error("connect", 1, "ENETUNREACH");
    let (output, _) = strace::trace(&ns, &detour::command(&["demo"]), "connect", Some(&fault));
    let run = Run::of(&["demo"], &output).ends(code::NO);
    let bad: Vec<&str> = run.stdout.lines().filter(|line| line.ends_with("NOT ok")).collect();
    assert!(matches!(bad[..], [line] if line.contains("http://1.2.3.4/")), "{}", run.stdout);
    assert!(run.stdout.ends_with("NOT every answer came under the address that was asked.\n"));
}

#[test]
fn without_the_capability_it_says_which() {
    let around = Around::new();
    let mut command = Command::new("setpriv");
    command.arg("--bounding-set=-sys_admin").arg(detour::path()).arg("demo");
    let run = Run::of(&["demo"], &around.ns.output(&mut command));
    run.refused(code::PERMISSION, &["CAP_SYS_ADMIN"]);
    around.holds("a demo that is not permitted");
}
