// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `events --pcap`: what is translated, before and after, and what is denied, in files that tshark opens.
use e2e::capture::Wire;
use e2e::detour::{self, code, up};
use e2e::family::Family;
use e2e::lab::{Lab, GATEWAY};
use e2e::listen::Events;
use e2e::packet::Packet;
use e2e::serve::Server;
use e2e::tools::tshark;
use e2e::{talk, tools::Scratch};
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;

#[test]
fn a_capture_opens_in_tshark() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    up(ns, &lab.device, &["--rule", "udp dport 7 redirect to :7007"]);
    let _server = Server::udp(ns, (GATEWAY, 7007));
    let scratch = Scratch::new();
    let path = scratch.path("lab.pcapng");
    let path = path.to_str().unwrap();
    let events = Events::start(ns, &lab.device, &["-j", "--pcap", path]);
    let socket = talk::udp(&lab.client, 4000);
    for word in ["one", "two"] {
        talk::ask(&socket, "198.51.100.7:7".parse().unwrap(), word).unwrap();
    }
    assert_eq!(events.end().len(), 3, "new, confirmed, end");
    let text = tshark(
        path,
        &["ip.src", "udp.srcport", "ip.dst", "udp.dstport", "frame.comment", "frame.interface_name"],
    );
    let flow = "flow udp 192.168.178.51:4000 -> 198.51.100.7:7 by 192.168.178.2:7007";
    let [client, server] = ["192.168.178.51|4000", "192.168.178.2|7007"];
    let original = "198.51.100.7|7";
    let once = [
        format!("{client}|{original}|as it arrived; {flow} rule 1|eth0"),
        format!("{client}|{server}|translated, to the server; {flow} rule 1|eth0"),
        format!("{server}|{client}|as the server sent it; {flow} rule 1|eth0"),
        format!("{original}|{client}|translated, to the client; {flow} rule 1|eth0"),
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), [&once[..], &once[..]].concat(), "{text}");
    let check = Command::new("capinfos").arg(path).output().unwrap();
    assert!(check.status.success(), "{check:?}");
}

/// What a rule denies is captured once, as it arrived: each packet, not only the first of its kind.
#[test]
fn a_capture_has_what_rules_deny() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    let rules =
        ["udp dport 7 accept", "udp dport 53 drop", "udp dport 54 reject", "tcp reject with tcp reset"];
    up(ns, &lab.device, &rules.map(|rule| ["--rule", rule]).concat());
    let scratch = Scratch::new();
    let path = scratch.path("denied.pcapng");
    let path = path.to_str().unwrap();
    let events = Events::start(ns, &lab.device, &["-j", "--pcap", path]);
    let mut expected = Vec::new();
    for family in Family::BOTH {
        let (client, far) = (family.client(), family.far());
        let socket = talk::udp_for(&lab.client, family, 4000);
        let end = |ip: IpAddr, port: u16| SocketAddr::new(ip, port);
        let said = |proto: &str, port: u16, rule: u16, verdict: &str| {
            let ends = format!("{} -> {}", end(client, 4000), end(far, port));
            format!("{port}|as it arrived, and denied; {proto} {ends} rule {rule}; {verdict}|0x00000001")
        };
        for (port, rule, verdict) in [(7, 1, ""), (53, 2, "drop"), (54, 3, "reject"), (53, 2, "drop")] {
            socket.send_to(b"let me in", end(far, port)).unwrap();
            if !verdict.is_empty() {
                expected.push(said("udp", port, rule, verdict));
            }
        }
        let refused = talk::dial(&lab.client, 4000, end(far, 80)).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        expected.push(said("tcp", 80, 4, "reject"));
    }
    let told = events.end();
    assert_eq!(told.iter().filter(|event| event["event"] == "denied").count(), 6, "{told:#?}");
    let fields = ["udp.dstport", "tcp.dstport", "frame.comment", "frame.packet_flags"];
    let text = tshark(path, &fields);
    let captured: Vec<String> =
        text.lines().map(|line| line.trim_start_matches('|').replace("||", "|")).collect();
    assert_eq!(captured, expected);
    let check = Command::new("capinfos").arg(path).output().unwrap();
    assert!(check.status.success(), "{check:?}");
}

/// So is what limits refuse and what finds no room, each packet, and with `--when-full pass` what passes for want of room;
/// and of a datagram that a rule drops all fragments.
#[test]
fn a_capture_has_what_limits_refuse_and_all_fragments() {
    let scratch = Scratch::new();
    for family in Family::BOTH {
        let far = |port| SocketAddr::new(family.far(), port);
        let scenes = [
            (&["--client-live", "1"][..], "denied", "client_live"),
            (&["--client-new", "1", "--when-full", "pass"], "passed", "client_new"),
            (&["--flows-max", family.pick("16", "64"), "--when-full", "drop"], "denied", "no_room"),
        ];
        for (options, verb, why) in scenes {
            let lab = Lab::new();
            let ns = &lab.gateway;
            up(
                ns,
                &lab.device,
                &[&["--rule", "udp dport 7-99 redirect to :7", "--rule", "udp drop"], options].concat(),
            );
            let _server = Server::udp(ns, SocketAddr::new(family.gateway(), 7));
            let socket = talk::udp_for(&lab.client, family, 4000);
            // As many confirmed flows as there is room for, where that is the limit.
            for port in 7..if why == "no_room" { 23 } else { 8 } {
                for word in ["one", "two"] {
                    talk::ask(&socket, far(port), word).unwrap();
                }
            }
            let path = scratch.path(&format!("{why}-{family:?}.pcapng"));
            let path = path.to_str().unwrap();
            let events = Events::start(ns, &lab.device, &["-j", "--pcap", path]);
            // As many in one tick as make sure that one of them is too many.
            let sent = if why == "client_new" { 40..80 } else { 40..42 };
            sent.clone().for_each(|port| assert_eq!(socket.send_to(b"x", far(port)).unwrap(), 1));
            // To a port that rule 2 drops; the link takes 1500 bytes at a time.
            assert_eq!(socket.send_to(&[b'x'; 3000], far(500)).unwrap(), 3000);
            talk::ask(&socket, far(7), "three").unwrap();
            drop(events.end());
            let text = tshark(path, &["udp.dstport", "frame.comment"]);
            // tshark shows the port of the whole datagram beside its last fragment.
            let comments = text.lines().map(|line| line.split_once('|').unwrap().1);
            let later: Vec<&str> = comments.filter(|comment| comment.ends_with("; fragment_drop")).collect();
            let comment = format!(
                "as it arrived, and denied; udp {} -> {}; fragment_drop",
                family.client(),
                family.far()
            );
            assert_eq!(later, [&comment; 2], "{text}");
            let refused: Vec<&str> = text.lines().filter(|line| line.contains(&format!("; {why}"))).collect();
            if why == "client_new" {
                assert!(!refused.is_empty(), "{text}");
            } else {
                assert_eq!(refused.len(), sent.len(), "{family:?} {why}: {text}");
            }
            for line in refused {
                let port = line.split('|').next().unwrap();
                let ends = format!(
                    "udp {} -> {}",
                    SocketAddr::new(family.client(), 4000),
                    far(port.parse().unwrap())
                );
                assert_eq!(line, format!("{port}|as it arrived, and {verb}; {ends} rule 1; {why}"));
            }
        }
    }
}

/// A later fragment whose first one was lost may be a part of what is translated, so it is dropped; it is captured, too.
#[test]
fn a_capture_has_fragments_without_their_first() {
    let scratch = Scratch::new();
    for family in Family::BOTH {
        let lab = Lab::new();
        let ns = &lab.gateway;
        up(ns, &lab.device, &["--rule", "udp redirect to :7"]);
        let path = scratch.path(&format!("{family:?}.pcapng"));
        let path = path.to_str().unwrap();
        let events = Events::start(ns, &lab.device, &["-j", "--pcap", path]);
        let [from, to] = [(family.client(), 4000), (family.far(), 53)].map(SocketAddr::from);
        let pieces = Packet::udp(from, to).payload(&[b'x'; 3000]).fragments(1024);
        let wire = Wire::tap(&lab.client, "eth0");
        for piece in &pieces[1..] {
            let mut frame = piece.frame();
            frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 2]); // the gateway's end of the link
            wire.send(&frame);
        }
        let lost = pieces.len() - 1;
        let counted = || detour::json(ns, &["status", &lab.device]).to_string();
        while !counted().contains(&format!("\"fragment_lost\":{lost}")) {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let told = events.end();
        assert_eq!((told.len(), &told[0]["lost"]), (1, &0.into()), "no flow, nothing new: {told:#?}");
        let comment = format!("as it arrived, and denied; udp {} -> {}; fragment_lost", from.ip(), to.ip());
        let text = tshark(path, &["frame.comment"]);
        assert_eq!(text.lines().collect::<Vec<_>>(), vec![comment.as_str(); lost], "{text}");
    }
}

/// To a pipe, as a live Wireshark reads it: the capture and nothing else. Where a file is wanted `-` is none.
#[test]
fn a_capture_goes_to_a_pipe() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    let scratch = Scratch::new();
    up(ns, &lab.device, &["--rule", "udp drop"]);
    let mut events = Events::start(ns, &lab.device, &["--pcap", "-"]);
    let socket = talk::udp(&lab.client, 4000);
    (1..=3).for_each(|port| assert_eq!(socket.send_to(b"x", ("198.51.100.7", port)).unwrap(), 1));
    let mut capture = Vec::new();
    let mut stdout = events.0.stdout.take().unwrap();
    // All that was told before the signal came is still written.
    kill(Pid::from_raw(events.0.id() as i32), Signal::SIGINT).unwrap();
    stdout.read_to_end(&mut capture).unwrap();
    assert!(events.0.wait().unwrap().success());
    let path = scratch.path("piped.pcapng");
    std::fs::write(&path, capture).unwrap();
    assert_eq!(tshark(path.to_str().unwrap(), &["udp.dstport"]), "1\n2\n3\n");

    let rules = scratch.write("web.rules", "udp drop\n");
    let plan = ns.output(&mut detour::command(&["plan", "up", &lab.device, &rules, "--pcap", "-"])).stdout;
    let file = scratch.path("plan.pcap").display().to_string();
    detour::run(ns, &["plan", "up", &lab.device, &rules, "--pcap", &file]).done();
    // Times are those of the making.
    assert_eq!(plan.len(), std::fs::read(&file).unwrap().len());
    let device = lab.device.as_str();
    let packet = scratch.write("packet", "00".repeat(64));
    let in_the_way = [
        &["events", device, "--pcap", "-", "-j"][..],
        &["plan", "up", device, "--pcap", "-", "-j"],
        &["plan", "up", device, "--save-facts", "-"],
        &["up", device, &rules, "--transcript", "-"],
        &["run", device, &rules, "--events", "-"],
        &["run", device, &rules, "--metrics-file", "-"],
        &["run", device, &rules, "--names", "-"],
        &["metrics", "--file", "-"],
        &["test", "@drop", "drop", "--packet", &packet, "--out", "-"],
    ];
    for line in in_the_way {
        detour::run(ns, line).refused(code::USAGE, &["standard output"]);
    }
}
