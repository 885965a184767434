// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `map listen`: what a program puts into its ring buffer, each record once, as bytes and by its types.
use e2e::capture::Wire;
use e2e::detour::{self, code};
use e2e::lab::Lab;
use e2e::netns::Netns;
use e2e::tools;
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use serde_json::{json, Value};
use std::collections::BTreeSet;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const DEVICE: &str = "eth0";

fn fixture(name: &str) -> String {
    tools::project().join(format!("elf/fixtures/{name}.bpf.o")).display().to_string()
}

/// A device whose program makes a record of each frame that comes.
fn lab(more: &[&str]) -> Lab {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let load = ["load", &fixture("rings"), DEVICE, "--name", "r", "--ingress", "rings"];
    detour::run(&lab.gateway, &[&load, more].concat()).done();
    lab
}

/// Frames of these lengths, each of a kind: 's' is told shorter, 'd' discarded.
fn send(lab: &Lab, frames: &[(u8, usize)]) {
    let wire = Wire::tap(&lab.client, &lab.device);
    for (kind, length) in frames {
        let mut frame =
            [&[0xff; 6][..], &[2, 0, 0, 0, 0, 0x51], &[0x88, 0xb5, *kind, 1, 2, 3, 4, 5]].concat();
        frame.resize(*length, 0);
        wire.send(&frame);
    }
}

/// `struct heard` of the fixture, little-endian.
fn heard(kind: u8, length: usize) -> String {
    let bytes = [&(length as u32).to_le_bytes()[..], &[0xb5, 0x88, kind, 1, 2, 3, 4, 5]].concat();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const LISTEN: [&str; 5] = ["map", "listen", DEVICE, "r", "records"];

/// Begins to listen.
fn start(ns: &Netns, arguments: &[&str]) -> Child {
    let mut command = detour::command(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = ns.within(|| command.spawn().unwrap());
    let start = Instant::now();
    let serves = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        status.lines().any(|line| line.starts_with("Seccomp:") && line.ends_with('2'))
    };
    while !serves() {
        assert!(start.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

fn ends(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

fn stop(child: Child) -> String {
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let (code, text) = ends(child);
    assert_eq!(code, Some(0), "{text}");
    text
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

#[test]
fn records_are_bytes_and_what_their_types_say() {
    let lab = lab(&[]);
    let ns = &lab.gateway;
    // Before anybody listens.
    send(&lab, &[(b'a', 60), (b'd', 61), (b's', 62), (b'b', 63)]);
    let run = |more: &[&str]| detour::run(ns, &[&LISTEN, more].concat());
    let one = lines(&run(&["--count", "1", "-j"]).done().stdout);
    let raw = format!("hex:{}", heard(b'a', 60));
    assert_eq!(
        one,
        [
            json!({"schema": "detour.record/1", "device": DEVICE, "map": "records", "bytes": 12, "type": null,
                "value": raw}),
            json!({"schema": "detour.records/1", "device": DEVICE, "map": "records", "records": 1,
                "of_another_length": 0, "gone": false}),
        ]
    );
    // What was read is gone, what was discarded was never there.
    let types = ["--as", "struct heard", "--types", &fixture("rings")];
    let two = lines(&run(&[&types[..], &["--count", "2", "-j"]].concat()).done().stdout);
    assert_eq!(
        (&two[0]["bytes"], &two[0]["type"], &two[0]["value"]),
        (&8.into(), &Value::Null, &"hex:3e00000000000000".into()),
        "62 is 0x3e"
    );
    assert_eq!((&two[1]["bytes"], &two[1]["type"]), (&12.into(), &"struct heard".into()));
    assert_eq!((&two[1]["value"]["length"], &two[1]["value"]["ethertype"]), (&63.into(), &0x88b5.into()));
    assert_eq!((&two[2]["records"], &two[2]["of_another_length"]), (&2.into(), &1.into()));

    // The kernel knows the types as well; as text, in another namespace.
    let path = ns.path().display().to_string();
    let child = start(&ns.beside(), &[&["-n", &path][..], &LISTEN, &["--as", "heard_t"]].concat());
    send(&lab, &[(b'c', 100), (b's', 101)]);
    let text = stop(child);
    let all: Vec<&str> = text.lines().collect();
    assert!(all[0].starts_with("{.length = 100, .ethertype = 34997, .first = "), "{text}");
    assert_eq!(all[1], "hex:6500000000000000 (8 bytes, and heard_t has 12)");
    assert_eq!(all[2..], ["note: 1 records are not as long as heard_t, and shown as hex"]);
}

#[test]
fn two_readers_get_each_record_once() {
    let lab = lab(&[]);
    let reader = || start(&lab.gateway, &[&LISTEN[..], &["-j"]].concat());
    let readers = [reader(), reader()];
    // 150 records of 24 bytes find room in 4096.
    let lengths: Vec<usize> = (100..250).collect();
    send(&lab, &lengths.iter().map(|length| (b'a', *length)).collect::<Vec<_>>());
    let mut read = Vec::new();
    for reader in readers {
        let mut all = lines(&stop(reader));
        let end = all.pop().unwrap();
        assert_eq!(end["records"], all.len(), "{end}");
        read.extend(all.iter().map(|line| line["value"].as_str().unwrap().to_owned()));
    }
    assert_eq!(read.len(), lengths.len());
    let sent = lengths.iter().map(|length| format!("hex:{}", heard(b'a', *length)));
    assert_eq!(read.into_iter().collect::<BTreeSet<_>>(), sent.collect());
}

#[test]
fn who_listens_hears_when_it_is_taken_down_or_replaced() {
    let unpinned: &[&str] = &["--no-pin"];
    for more in [&[][..], unpinned] {
        let lab = lab(more);
        let ns = &lab.gateway;
        send(&lab, &[(b'a', 60)]);
        let child = start(ns, &LISTEN);
        let unload = || detour::run(ns, &["unload", DEVICE, "r"]).done();
        match more {
            [] => {
                let replace = ["load", &fixture("rings"), DEVICE, "--name", "r", "--ingress", "rings"];
                detour::run(ns, &[&replace[..], &["--replace"]].concat()).done();
            }
            _ => drop(unload()),
        }
        let (code, text) = ends(child);
        assert_eq!(code, Some(1), "{text}");
        let first = format!("hex:{}", heard(b'a', 60));
        assert_eq!(text.lines().next(), Some(first.as_str()));
        assert!(text.ends_with("eth0: others took down what was listened to, or loaded it anew\n"), "{text}");
    }
}

#[test]
fn what_is_no_ring_buffer_is_refused_by_name() {
    let lab = lab(&[]);
    let ns = &lab.gateway;
    detour::run(ns, &["load", &fixture("sizes"), DEVICE, "--name", "s", "--ingress", "sizes"]).done();
    let listen = |name: &str, map: &str| detour::run(ns, &["map", "listen", DEVICE, name, map]);
    listen("s", "one_each").refused(code::USAGE, &["one_each", "perf_event_array", "bpftool map event_pipe"]);
    listen("s", "ring_to_us").refused(code::USAGE, &["user_ringbuf"]);
    listen("s", "near").refused(code::USAGE, &["near", "type hash", "map dump"]);
    listen("r", "nothing").refused(code::USAGE, &["nothing", "records"]);
    listen("none", "records").ends(code::NO);
    detour::up(ns, DEVICE, &[]);
    listen("up", "events").refused(code::USAGE, &["detour events"]);
    let run = |more: &[&str]| detour::run(ns, &[&LISTEN, more].concat());
    run(&["--as", "struct nothing"]).refused(code::USAGE, &["struct nothing", "struct heard"]);
    run(&["--as", "heard", "--types", &fixture("maps")]).refused(code::USAGE, &["maps.bpf.o"]);
    run(&["--count", "0"]).ends(code::USAGE);
}
