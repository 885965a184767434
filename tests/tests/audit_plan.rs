// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The plan, the transcript and strace of one run, for every command that changes the kernel: they say the same.
use ::detour::load::compare::effects;
use ::detour::load::message::Message;
use e2e::detour::{self, code};
use e2e::lab::Lab;
use e2e::netns::Netns;
use e2e::same::all_say_the_same;
use e2e::serve::Server;
use e2e::snapshot::Snapshot;
use e2e::strace::{self, Fault, EFFECTS};
use e2e::talk;
use e2e::tools::{self, Scratch};
use e2e::witness::Witness;
use std::net::SocketAddr;

const DEVICE: &str = "eth0";

#[test]
fn every_command_that_changes_the_kernel() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    let file = tools::project().join("elf/fixtures/globals.bpf.o").display().to_string();
    let pins = tools::project().join("elf/fixtures/pins.bpf.o").display().to_string();
    let kinds = tools::project().join("elf/fixtures/kinds.bpf.o").display().to_string();
    ns.within(|| std::fs::create_dir("/sys/fs/bpf/shared").unwrap());
    for line in [
        &["up", DEVICE][..],
        &["up", DEVICE, "--rule", "tcp dport 80 redirect", "--rule", "udp dnat to 192.168.178.77"],
        &["map", "set", DEVICE, "up", "local4", "hex:01020304", "hex:01000000"],
        &["down", DEVICE],
        &["up", DEVICE, "--original-dst", "--rule", "redirect"],
        &["up", DEVICE, "--original-dst", "--rule", "tcp drop"],
        &["down", DEVICE],
        &["load", "@drop", DEVICE],
        &["load", "@drop", DEVICE, "--replace"],
        &["load", "@trace", DEVICE, "--egress", "trace", "--handle", "7"],
        &["unload", DEVICE, "drop"],
        &["unload", DEVICE, "trace"],
        &["load", "@drop", DEVICE, "--chain", "5", "--protocol", "ip"],
        &["load", "@drop", DEVICE, "--replace"],
        &["unload", DEVICE, "drop"],
        &["load", &file, DEVICE],
        &["unload", DEVICE],
        &["load", &file, DEVICE, "--fd-array"],
        &["unload", DEVICE],
        &["load", &kinds, DEVICE],
        &["unload", DEVICE],
        &["load", &pins, DEVICE, "--pin-dir", "/sys/fs/bpf/shared"],
        &["unload", DEVICE],
        &["load", "@trace", DEVICE, "--tcx"],
        &["load", "@trace", DEVICE, "--tcx", "--replace"],
        &["unload", DEVICE],
        &["load", "@trace", "--no-attach"],
    ] {
        if line.contains(&"--no-attach") {
            let plan = detour::json(ns, &[&["plan"], line].concat());
            let (_, calls) = strace::trace(ns, &detour::command(line), EFFECTS, None);
            Witness::compare(&plan, &calls);
            continue;
        }
        all_say_the_same(ns, line);
    }
}

#[test]
fn flows_that_end() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    detour::up(ns, DEVICE, &["--rule", "udp drop", "--rule", "redirect"]);
    let _servers =
        ["0.0.0.0:80", "[fd00::2]:80"].map(|at| Server::echo(ns, at.parse::<SocketAddr>().unwrap()));
    let connect = |to: &str| talk::dial(&lab.client, 0, to.parse().unwrap()).unwrap();
    let _streams = ["1.2.3.4:80", "[2001:db8::1]:80"].map(connect);
    let plan = all_say_the_same(ns, &["flush", DEVICE]);
    let runs = plan["steps"].as_array().unwrap().iter().filter(|s| s["command"] == "PROG_TEST_RUN").count();
    assert_eq!(runs, 2);
    let _streams = ["1.2.3.4:80", "[2001:db8::1]:80"].map(connect);
    all_say_the_same(ns, &["up", DEVICE, "--rule", "tcp drop", "--flush", "ip daddr 1.2.3.4"]);
    detour::run(ns, &["plan", "flush", DEVICE, "--facts", "none"]).refused(code::USAGE, &["--facts"]);
}

#[test]
fn a_transcript_tells_what_was_undone() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let before = Snapshot::take(ns);
    let scratch = Scratch::new();
    let transcript = scratch.write("transcript", "");
    let up = detour::command(&["up", DEVICE, "--transcript", &transcript]);
    let output = strace::inject(ns, &up, "rename", &Fault::error("rename", 1, "EPERM")).unwrap();
    assert_eq!(output.status.code(), Some(code::PERMISSION));
    let text = std::fs::read_to_string(&transcript).unwrap();
    let count = |what: &str| text.matches(&format!("\"outcome\":\"{what}\"")).count();
    assert_eq!((count("failed"), count("undo failed")), (1, 0), "{text}");
    assert!(text.contains("Operation not permitted"), "{text}");
    // What stayed done has no undo of its own: descriptors, which ended with the process.
    let left = effects(&text, false).unwrap();
    assert!(count("undone") > 20 && left.iter().all(|effect| effect["do"] == "bpf"), "{left:#?}");
    before.holds(ns, "the failed up");
    detour::run(ns, &["up", DEVICE, "--transcript", "/no/such/folder/t"])
        .refused(code::USAGE, &["transcript"]);
    before.holds(ns, "an up without its transcript");
}

#[test]
fn netlink_messages_for_wireshark() {
    let lab = Lab::new();
    let scratch = Scratch::new();
    let pcap = scratch.write("messages.pcap", "");
    detour::run(&lab.gateway, &["plan", "up", DEVICE, "--pcap", &pcap]).done();
    let fields = ["-T", "fields", "-e", "netlink-route.nltype", "-e", "frame.len"];
    let told = lab.gateway.run("tshark", &[&["-r", &pcap][..], &fields].concat());
    // RTM_NEWQDISC, RTM_NEWTFILTER twice.
    let rows: Vec<Vec<u32>> = told
        .lines()
        .map(|row| {
            let number = |word: &str| match word.strip_prefix("0x") {
                Some(hex) => u32::from_str_radix(hex, 16).unwrap(),
                None => word.parse().unwrap(),
            };
            row.split_whitespace().map(number).collect()
        })
        .collect();
    assert_eq!(rows.iter().map(|row| row[0]).collect::<Vec<_>>(), [36, 44, 44], "{told}");
    let plan = detour::json(&lab.gateway, &["plan", "up", DEVICE]);
    let steps = plan["steps"].as_array().unwrap().iter().filter(|step| step["do"] == "netlink");
    let lengths = steps.map(|step| {
        let message = Message::from_json(&step["message"]).unwrap().resolved(&|_| Some(0));
        message.encode(0).unwrap().len() as u32 + 16 // and the header of the link type
    });
    assert_eq!(rows.iter().map(|row| row[1]).collect::<Vec<_>>(), lengths.collect::<Vec<_>>(), "{told}");
}
