// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Rules that reject, for IPv6 clients: the answer to each packet byte for byte, and what clients hear beside nftables' rules.
use e2e::bench::Bench;
use e2e::capture::Wire;
use e2e::detour::{json, up};
use e2e::family::Family;
use e2e::lab::{Lab, CLIENT6, GATEWAY6};
use e2e::packet::{Inner, Packet, ACK, FIN, RST, SYN};
use e2e::six::{
    at6, bad_checksums, client6, destination_options, extended, hop_by_hop, routing, Extension, FAR6,
};
use e2e::talk;
use e2e::testrun::{Sums, REDIRECT, SHOT};
use std::cell::Cell;
use std::net::{Ipv6Addr, SocketAddr};
use std::process::Command;

/// What nft calls each refusal, and the code of RFC 4443, 3.1 that goes out.
const CODES: [(&str, u8); 11] = [
    ("", 4),
    (" with icmpv6 no-route", 0),
    (" with icmpv6 admin-prohibited", 1),
    (" with icmpv6 addr-unreachable", 3),
    (" with icmpv6 port-unreachable", 4),
    (" with icmpv6 policy-fail", 5),
    (" with icmpv6 reject-route", 6),
    (" with icmpx no-route", 0),
    (" with icmpx port-unreachable", 4),
    (" with icmpx host-unreachable", 3),
    (" with icmpx admin-prohibited", 1),
];

/// The refusal of `packet`: as much of it as the least MTU has room for (RFC 4443, 2.4 c).
fn unreachable(packet: &Packet, code: u8) -> Packet {
    let ip = packet.ip();
    let payload = ip[..ip.len().min(1280 - 48)].to_vec();
    let inner = Inner::Icmp { kind: 1, code, rest: [0; 4] };
    Packet { inner, payload, ..Packet::other(packet.dst, packet.src, 58) }
}

/// The packet with extension headers, of which the last leads to what it carries.
fn behind(packet: &Packet, extensions: &[Extension]) -> Packet {
    let ip = extended(&packet.ip(), extensions);
    Packet { inner: Inner::Other(ip[6]), payload: ip[40..].to_vec(), ..packet.clone() }
}

#[test]
fn each_code_goes_out() {
    let rules: Vec<String> =
        CODES.iter().zip(1..).map(|((with, _), port)| format!("udp dport {port} reject{with}")).collect();
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    Bench::new(&rules).scenes(|port, ingress, _| {
        for ((_, code), dport) in CODES.into_iter().zip(1..) {
            let packet = Packet::udp(client6(port), at6(FAR6, dport)).payload(b"anybody?");
            ingress.answers(&packet, &unreachable(&packet, code));
        }
    });
}

#[test]
fn packets_of_every_shape_are_quoted() {
    let bench = Bench::new(&["reject"]);
    let answered = Cell::new(0);
    bench.scenes(|port, ingress, _| {
        let answers = |packet: &Packet| {
            // What is cut takes the device's sum with it: the kernel forgets it, but its test does not.
            if ingress.sums == Sums::Complete && packet.ip().len() > 1280 - 48 {
                return;
            }
            ingress.answers(packet, &unreachable(packet, 4));
            answered.set(answered.get() + 1);
            if answered.get() % 40 == 0 {
                // As many answers as that are sent at once, then a thousand a second.
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
        };
        for length in [0, 1, 2, 3, 5, 500, 1183, 1184, 1185, 1186, 1400, 1452] {
            let udp = Packet::udp(client6(port), at6(FAR6, 53)).payload(&vec![0xa5; length]);
            answers(&udp);
            answers(&Packet::echo(CLIENT6.into(), FAR6.into(), port, 1).payload(&vec![0x5a; length]));
            for extensions in [vec![hop_by_hop()], vec![destination_options(3), routing(0)]] {
                answers(&behind(&udp, &extensions));
            }
        }
        answers(&Packet::tcp(client6(port), at6(FAR6, 80), SYN).tcp_options(&[1; 20]));
        answers(&Packet::other(CLIENT6.into(), FAR6.into(), 47).payload(&[7; 100]));
        answers(&Packet { tos: 0x10, ttl: 1, label: 0xabcde, ..Packet::udp(client6(port), at6(FAR6, 53)) });
    });
}

#[test]
fn connections_are_reset() {
    Bench::new(&["reject with tcp reset"]).scenes(|port, ingress, _| {
        let reset = |packet: &Packet, seq: u32, ack: u32, flags: u8| {
            let mut answer = Packet::tcp(at6(FAR6, 80), client6(port), flags);
            let Inner::Tcp { seq: s, ack: a, window, .. } = &mut answer.inner else { panic!() };
            (*s, *a, *window) = (seq, ack, 0);
            if ingress.sums == Sums::Complete && packet.frame().len() > answer.frame().len() {
                return; // what is cut takes the device's sum with it: the kernel forgets it, but its test does not
            }
            ingress.answers(packet, &answer);
        };
        // The sequence number of all packets here.
        let first = 0x0102_0304;
        let syn = Packet::tcp(client6(port), at6(FAR6, 80), SYN);
        reset(&syn, 0, first + 1, RST | ACK);
        reset(&syn.clone().payload(b"fast open"), 0, first + 10, RST | ACK);
        reset(&syn.clone().tcp_options(&[2, 4, 5, 0xb4, 1, 1, 1, 0]), 0, first + 1, RST | ACK);
        reset(&behind(&syn, &[hop_by_hop(), destination_options(2)]), 0, first + 1, RST | ACK);
        reset(&Packet::tcp(client6(port), at6(FAR6, 80), SYN | FIN), 0, first + 2, RST | ACK);
        // In mid-stream, where the machine does not forward: what was acknowledged is what it waits for.
        let data = Packet::tcp(client6(port), at6(FAR6, 80), ACK).payload(b"still there?").acknowledging(77);
        reset(&data, 77, 0, RST);
        ingress.passes("a RST", &Packet::tcp(client6(port), at6(FAR6, 80), RST).frame());
        ingress.passes("no TCP", &Packet::udp(client6(port), at6(FAR6, 80)).frame());
    });
}

/// Nobody is told what may not be his: damaged packets, groups, other errors. And IPv6 has no UDP without checksum.
#[test]
fn some_are_not_told() {
    let bench = Bench::new(&["reject"]);
    bench.scenes(|port, ingress, _| {
        if ingress.sums == Sums::Complete {
            return; // the kernel itself refuses wrong sums there
        }
        for packet in [
            Packet::udp(client6(port), at6(FAR6, 53)).payload(b"damaged"),
            Packet::tcp(client6(port), at6(FAR6, 80), SYN).payload(&[1; 700]),
            Packet::echo(CLIENT6.into(), FAR6.into(), port, 1).payload(b"damaged"),
        ] {
            let mut frame = packet.frame();
            *frame.last_mut().unwrap() ^= 0x40;
            assert_eq!(ingress.program.run(&frame, Sums::None).verdict, SHOT, "{packet}");
        }
        ingress.drops(&Packet::udp(client6(port), at6(FAR6, 53)).payload(b"unsummed").unsummed());
        let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 9);
        ingress.passes("multicast", &Packet::udp(client6(port), at6(group, 53)).frame());
        let quoted = Packet::udp(at6(FAR6, 53), client6(port)).ip();
        let error = Packet {
            inner: Inner::Icmp { kind: 1, code: 4, rest: [0; 4] },
            payload: quoted,
            ..Packet::other(CLIENT6.into(), FAR6.into(), 58)
        };
        ingress.passes("an error", &error.frame());
    });
    let counters = &json(&bench.lab.gateway, &["status", &bench.lab.device])["instances"][0]["dnat"];
    assert_eq!(counters["not_translated"]["silent"], 4, "{counters}");
}

/// The frames go back to the station that sent them.
#[test]
fn link_addresses_change_places() {
    let bench = Bench::new(&["reject"]);
    let mut frame = Packet::udp(client6(4000), at6(FAR6, 53)).frame();
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 0x51]);
    let outcome = bench.program("ingress").run(&frame, Sums::None);
    assert_eq!((outcome.verdict, &outcome.frame[..6]), (REDIRECT, &frame[6..12]));
    assert_eq!(outcome.frame[6..12], frame[..6]);
}

/// What a client hears from ports under an address that nobody has, and the answers on its wire.
fn conversations(lab: &Lab, offload: bool) -> Vec<String> {
    let wire = Wire::tap(&lab.client, "eth0").only();
    let to = |port| SocketAddr::from((FAR6, port));
    let mut told = Vec::new();
    for port in [80, 81, 82] {
        let error = talk::dial(&lab.client, 4000, to(port)).unwrap_err();
        told.push(format!("tcp {port}: {:?}", error.kind()));
    }
    for port in [53, 54, 55, 56] {
        for length in [1, 33, 1400] {
            let socket = talk::udp_for(&lab.client, Family::V6, 5000);
            socket.connect(to(port)).unwrap();
            socket.send(&vec![7; length]).unwrap();
            if [53, 55].contains(&port) {
                // Of the others the kernel tells a socket only when it asked to hear of such errors.
                let error = socket.recv(&mut [0; 10]).unwrap_err();
                told.push(format!("udp {port}: {:?}", error.raw_os_error()));
            }
        }
    }
    let ping = lab.client.output(Command::new("ping").args(["-6", "-c", "1", "-W", "2", &FAR6.to_string()]));
    told.push(format!("ping: {:?}", ping.status.code()));
    for frame in wire.frames(talk::QUIET).iter().filter(|f| !f.sent && f.bytes[12..14] == [0x86, 0xdd]) {
        let mut packet = Packet::read_loosely(&frame.bytes).unwrap();
        // The kernel chooses a flow label for what it sends, and a multicast listener report or a neighbour is no answer.
        packet.label = 0;
        match &mut packet.inner {
            Inner::Tcp { ack, .. } => {
                *ack = 0; // a random one
                told.push(format!("{packet:?}"));
            }
            Inner::Icmp { kind: 1, .. } => {
                // A quoted sum that a device is to finish is unfinished here, and the answer's own counts it as finished.
                if !offload {
                    Packet::read(&frame.bytes).unwrap_or_else(|fault| panic!("{fault}"));
                }
                let quoted = Packet::read_ip(&packet.payload).map_or("cut".to_string(), |q| q.to_string());
                told.push(format!("{packet} tos {:#x} ttl {} about {quoted}", packet.tos, packet.ttl));
            }
            _ => {}
        }
    }
    told
}

#[test]
fn clients_hear_what_nftables_tells_them() {
    let rules = [
        "tcp dport 80 reject with tcp reset",
        "tcp dport 81 reject",
        "tcp dport 82 reject with icmpv6 admin-prohibited",
        "udp dport 53 reject",
        "udp dport 54 reject with icmpv6 addr-unreachable",
        "udp dport 55 reject with icmpv6 admin-prohibited",
        "udp dport 56 reject with icmpv6 no-route",
    ];
    for offload in [true, false] {
        let theirs = Lab::new().tx_checksum(offload);
        let rules_there = rules.join("\n");
        theirs.gateway.run(
            "nft",
            &[&format!(
                "table ip6 t {{ chain c {{ type filter hook prerouting priority 0;\n{rules_there}\nicmpv6 type echo-request reject\n}}\n}}"
            )],
        );
        // The kernel tells one client no more than once a second, after six.
        theirs.gateway.sysctl("net/ipv6/icmp/ratelimit", "0");
        let mut theirs = conversations(&theirs, offload);
        // The kernel's ICMP comes from the gateway; ours does not tell that there is one.
        theirs
            .iter_mut()
            .for_each(|line| *line = line.replace(&format!("icmp {GATEWAY6} "), &format!("icmp {FAR6} ")));
        let ours = Lab::new().tx_checksum(offload);
        let arguments: Vec<&str> = rules.iter().flat_map(|rule| ["--rule", rule]).collect();
        let echo = ["--rule", "meta l4proto ipv6-icmp reject"];
        up(&ours.gateway, &ours.device, &[&arguments[..], &echo].concat());
        let heard = conversations(&ours, offload);
        assert!(heard.contains(&"tcp 80: ConnectionRefused".to_string()), "{heard:#?}");
        for (n, (a, b)) in theirs.iter().zip(&heard).enumerate() {
            assert_eq!(a, b, "line {n}, offload {offload}");
        }
        assert_eq!(theirs.len(), heard.len(), "offload {offload}");
        assert_eq!(bad_checksums(&ours.client), Vec::<String>::new(), "offload {offload}");
    }
}
