// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `detour demo`: the main job, on any machine, and nothing left of it.
use e2e::detour;
use e2e::netns::Netns;
use e2e::snapshot::Snapshot;
use std::process::Stdio;
use std::time::{Duration, Instant};

#[test]
fn it_shows_every_answer_and_leaves_nothing() {
    let ns = Netns::alone();
    let before = Snapshot::take(&ns);
    let links = ns.run("ip", &["link"]);
    let start = Instant::now();
    // Nothing is looked up in PATH: it needs no other program.
    let output = ns.output(detour::command(&["demo"]).env("PATH", ""));
    let took = start.elapsed();
    let run = detour::Run::of(&["demo"], &output).done();
    for part in ["http://1.2.3.4", "http://93.184.216.34:8080", "8.8.8.8", "mount", "192.168.178"] {
        assert!(run.stdout.contains(part), "{part} is not in:\n{}", run.stdout);
    }
    assert!(took < Duration::from_secs(2), "it took {took:?}");
    before.holds(&ns, "the demo");
    assert_eq!(ns.run("ip", &["link"]), links);
}

#[test]
fn killed_at_any_moment_it_leaves_nothing() {
    let ns = Netns::alone();
    let before = Snapshot::take(&ns);
    for milliseconds in (0..1000).step_by(60) {
        let mut command = detour::command(&["demo"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = ns.within(|| command.spawn().unwrap());
        std::thread::sleep(Duration::from_millis(milliseconds));
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
        before.holds(&ns, &format!("the demo, killed after {milliseconds} ms"));
    }
}
