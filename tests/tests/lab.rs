// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The labs themselves, without the program: what other tests take for granted, with nftables as the gateway's DNAT.
use e2e::capture::Wire;
use e2e::lab::{Lab, CLIENT, GATEWAY};
use e2e::netns::Netns;
use e2e::packet::Packet;
use e2e::serve::Server;
use e2e::snapshot::Snapshot;
use e2e::testrun::{Outcome, Program, Sums, UNSPEC};
use e2e::{strace, talk, tools};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

#[test]
fn namespaces_are_apart() {
    let (one, two) = (Netns::new(), Netns::new());
    assert_ne!(one.inode(), two.inode());
    one.within(|| std::fs::create_dir("/sys/fs/bpf/only-here").unwrap());
    assert!(one.beside().within(|| std::path::Path::new("/sys/fs/bpf/only-here").exists()));
    assert!(!two.within(|| std::path::Path::new("/sys/fs/bpf/only-here").exists()));
}

#[test]
fn nft_gateway_answers_for_everybody() {
    for offload in [true, false] {
        let lab = Lab::new().tx_checksum(offload);
        lab.nft("ip protocol { tcp, udp, icmp } redirect");
        let _web = Server::http(&lab.gateway, ([0, 0, 0, 0], 80), "hello");
        let _echo = Server::udp(&lab.gateway, ([0, 0, 0, 0], 53));
        let wire = Wire::tap(&lab.client, "eth0").only();

        assert!(talk::curl(&lab.client, "http://1.2.3.4/").starts_with("hello 192.168.178.51:"));
        let asked = SocketAddr::from(([8, 8, 8, 8], 53));
        let (answer, from) = talk::ask(&talk::udp(&lab.client, 4000), asked, "who").unwrap();
        assert_eq!((answer, from), (format!("who {CLIENT}:4000"), asked));
        let far = Ipv4Addr::new(9, 9, 9, 9);
        assert_eq!(talk::ping(&lab.client, 77, far).unwrap(), IpAddr::V4(far));

        let frames = wire.frames(talk::QUIET);
        let packets = frames.iter().filter(|frame| frame.bytes[12..14] == [8, 0]);
        let read = packets.map(|frame| Packet::read(&frame.bytes)).collect::<Vec<_>>();
        assert!(read.len() > 10, "{read:?}");
        // With offload the sums are unfinished on a veth: exactly what hides mistakes.
        assert_eq!(read.iter().any(Result::is_err), offload, "{read:?}");
    }
}

#[test]
fn answers_are_held_and_given_in_reverse() {
    let lab = Lab::new();
    let _server = Server::udp_held(&lab.gateway, (GATEWAY, 53), 2);
    let socket = talk::udp(&lab.client, 4001);
    for text in ["first", "second"] {
        socket.send_to(text.as_bytes(), (GATEWAY, 53)).unwrap();
    }
    assert_eq!(talk::next(&socket).unwrap().0, "second 192.168.178.51:4001");
    assert_eq!(talk::next(&socket).unwrap().0, "first 192.168.178.51:4001");
}

#[test]
fn strace_shows_every_byte() {
    let ns = Netns::new();
    ns.run("ip", &["link", "add", "a0", "type", "veth", "peer", "name", "b0"]);
    let mut tc = std::process::Command::new("tc");
    tc.args(["qdisc", "add", "dev", "a0", "clsact"]);
    let (output, calls) = strace::trace(&ns, &tc, strace::EFFECTS, None);
    assert!(output.status.success() && tools::has_clsact(&ns, "a0"));
    let sent = calls.iter().find(|call| call.netlink() == Some(36)).expect("an RTM_NEWQDISC");
    assert_eq!(sent.sent.len(), u32::from_le_bytes(sent.sent[..4].try_into().unwrap()) as usize);
    assert!(sent.sent.windows(6).any(|part| part == b"clsact"), "{sent:02x?}");

    let fault = strace::Fault::error("sendmsg", 1, "ENOBUFS");
    tc = std::process::Command::new("tc");
    tc.args(["qdisc", "del", "dev", "a0", "clsact"]);
    let (output, calls) = strace::trace(&ns, &tc, strace::EFFECTS, Some(&fault));
    assert!(!output.status.success() && tools::has_clsact(&ns, "a0"));
    assert!(calls.iter().any(|call| call.injected && call.error.as_deref() == Some("ENOBUFS")), "{calls:?}");
}

#[test]
fn snapshots_see_what_others_leave() {
    let ns = Netns::new();
    ns.run("ip", &["link", "add", "a0", "type", "veth", "peer", "name", "b0"]);
    let before = Snapshot::take(&ns);
    before.holds(&ns, "nothing");
    ns.run("tc", &["qdisc", "add", "dev", "a0", "clsact"]);
    tools::foreign_filter(&ns, "a0", "egress", 7);
    ns.within(|| std::fs::create_dir("/sys/fs/bpf/left").unwrap());
    let changes = before.changes(&Snapshot::take(&ns)).join("\n");
    for part in ["+ bpffs /sys/fs/bpf/left", "+ qdisc \"a0\" \"clsact\"", "+ filter a0 egress"] {
        assert!(changes.contains(part), "{part} is not in:\n{changes}");
    }
}

#[test]
fn test_run_needs_no_device() {
    // Somebody else's program: tc's own, which passes everything on.
    let ns = Netns::new();
    let frame = Packet::udp(([10, 0, 0, 1], 1), ([1, 2, 3, 4], 2)).payload(b"x").frame();
    let scratch = tools::Scratch::new();
    let source = scratch.write("pass.c", PASS);
    let object = scratch.path("pass.o");
    let object = object.to_str().unwrap();
    ns.run("clang-19", &["-target", "bpfel", "-O2", "-c", &source, "-o", object]);
    ns.run("bpftool", &["prog", "load", object, "/sys/fs/bpf/pass"]);
    let id = tools::json(&ns, "bpftool", &["-j", "prog", "show", "pinned", "/sys/fs/bpf/pass"])["id"]
        .as_u64()
        .unwrap();
    for sums in [Sums::None, Sums::Complete] {
        let outcome = Program::by_id(&ns, id).run(&frame, sums);
        assert_eq!(outcome, Outcome { verdict: UNSPEC, frame: frame.clone() });
    }
}

const PASS: &str = r#"
__attribute__((section("classifier"), used)) int pass(void *packet) { return -1; }
__attribute__((section("license"), used)) char _license[] = "GPL";
"#;
