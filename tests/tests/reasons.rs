// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Why a packet was left alone is counted: for each reason a packet that has it, which adds one to its counter and nothing to
//! any other.
use e2e::bench::{at, client, Bench, FAR};
use e2e::detour::json;
use e2e::lab::{CLIENT, CLIENT6, GATEWAY, GATEWAY6, SECOND};
use e2e::packet::{Inner, Packet, ACK, RST, SYN};
use e2e::six::{at6, client6, extended, fragment, framed, routing, FAR6};
use e2e::testrun::{Sums, REDIRECT, SHOT, UNSPEC};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

const RULES: [&str; 6] = [
    "udp dport 53 accept",
    "udp dport 54 drop",
    "udp dport 55 reject",
    "udp dport 80 redirect",
    "tcp dport 80 redirect",
    "meta l4proto { 51, 132 } redirect",
];

type Case = (&'static str, i32, Vec<u8>);

/// What arrives.
fn arriving() -> Vec<Case> {
    let udp = |port| Packet::udp(client(4000), at(FAR, port)).payload(b"why");
    let to = |ip: Ipv4Addr| Packet::tcp(client(4000), at(ip, 81), SYN).frame();
    let later = |dst: Ipv4Addr, id| {
        let piece = Packet::other(CLIENT.into(), dst.into(), 17).payload(&[1; 64]);
        Packet { fragment: 8, id, ..piece }.frame()
    };
    let mut other_kind = udp(80).frame();
    other_kind[12..14].copy_from_slice(&[0x88, 0xb5]);
    let mut tagged = udp(80).frame();
    tagged.splice(12..12, [0x81, 0, 0, 7]);
    let mut other_host = udp(80).frame();
    other_host[..6].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    let mut longer = udp(80).frame();
    longer[17] += 1;
    let refused = Packet::udp(at(FAR, 9), client(9)).ip();
    let first = |port, id| Packet { id, fragment: 0, ..udp(port).payload(&[1; 64]) }.fragments(48);
    vec![
        ("not_ip", UNSPEC, other_kind),
        ("vlan", UNSPEC, tagged),
        ("not_for_us", UNSPEC, other_host),
        ("malformed", UNSPEC, longer),
        ("fragment", UNSPEC, later(GATEWAY, 1)),
        ("fragment_lost", SHOT, later(FAR, 2)),
        ("drop", SHOT, first(54, 3)[0].frame()),
        ("fragment_drop", SHOT, first(54, 3)[1].frame()),
        ("protocol", UNSPEC, Packet::other(CLIENT.into(), FAR.into(), 51).payload(&[0; 24]).frame()),
        ("icmp", UNSPEC, Packet::icmp(CLIENT, FAR, 3, 0, 0).payload(&refused).frame()),
        ("source", UNSPEC, Packet::udp(at(GATEWAY, 1), at(FAR, 80)).frame()),
        ("own", UNSPEC, to(SECOND)),
        ("special", UNSPEC, to([169, 254, 1, 1].into())),
        ("special", UNSPEC, to(Ipv4Addr::BROADCAST)),
        ("dhcp", UNSPEC, Packet::udp(client(68), at(FAR, 67)).frame()),
        ("no_flow", UNSPEC, Packet::tcp(client(4000), at(FAR, 80), RST).frame()),
        ("no_rule", UNSPEC, udp(99).frame()),
        ("accept", UNSPEC, udp(53).frame()),
        ("drop", SHOT, udp(54).frame()),
        ("reject", REDIRECT, udp(55).frame()),
        ("silent", SHOT, damaged(udp(55).frame())),
    ]
}

fn arriving6() -> Vec<Case> {
    let udp = |port| Packet::udp(client6(4000), at6(FAR6, port)).payload(b"why");
    let to = |ip: Ipv6Addr| Packet::tcp(client6(4000), at6(ip, 81), SYN).frame();
    let mut longer = udp(80).frame();
    longer[19] += 1;
    let refused = Packet::udp(at6(FAR6, 9), client6(9)).ip();
    let mut error = Packet::echo(CLIENT6.into(), FAR6.into(), 0, 0).payload(&refused);
    error.inner = Inner::Icmp { kind: 1, code: 4, rest: [0; 4] };
    let behind = |packet: &Packet, extension| framed(&extended(&packet.ip(), &[extension]));
    vec![
        ("malformed", UNSPEC, longer),
        ("extension", UNSPEC, behind(&udp(80), routing(1))),
        ("fragment", UNSPEC, behind(&Packet::udp(client6(4), at6(GATEWAY6, 80)), fragment(8, false))),
        ("fragment_lost", SHOT, behind(&udp(80), fragment(8, false))),
        ("protocol", UNSPEC, Packet::other(CLIENT6.into(), FAR6.into(), 51).payload(&[0; 24]).frame()),
        ("icmp", UNSPEC, error.frame()),
        ("source", UNSPEC, Packet::udp(at6(GATEWAY6, 1), at6(FAR6, 80)).frame()),
        ("special", UNSPEC, to("fe80::9".parse().unwrap())),
        ("dhcp", UNSPEC, Packet::udp(client6(546), at6(FAR6, 547)).frame()),
        ("no_flow", UNSPEC, Packet::tcp(client6(4000), at6(FAR6, 80), RST).frame()),
        ("no_rule", UNSPEC, udp(99).frame()),
        ("accept", UNSPEC, udp(53).frame()),
        ("drop", SHOT, udp(54).frame()),
        ("reject", REDIRECT, udp(55).frame()),
        ("silent", SHOT, damaged(udp(55).frame())),
    ]
}

/// What leaves.
fn leaving() -> Vec<Case> {
    let four = Packet::udp(at(GATEWAY, 99), client(4000)).frame();
    let six = Packet::tcp(at6(GATEWAY6, 99), client6(4000), ACK).frame();
    let mut other_kind = four.clone();
    other_kind[12..14].copy_from_slice(&[0x88, 0xb5]);
    vec![("out_no_flow", UNSPEC, four), ("out_no_flow", UNSPEC, six), ("not_ip", UNSPEC, other_kind)]
}

fn damaged(mut frame: Vec<u8>) -> Vec<u8> {
    *frame.last_mut().unwrap() ^= 0x40;
    frame
}

fn counters(bench: &Bench) -> BTreeMap<String, u64> {
    let status = json(&bench.lab.gateway, &["status", &bench.lab.device]);
    let counted = status["instances"][0]["dnat"]["not_translated"].as_object().unwrap().clone();
    counted.into_iter().map(|(name, count)| (name, count.as_u64().unwrap())).collect()
}

#[test]
fn each_reason_is_counted_once() {
    let bench = Bench::new(&RULES);
    // What the kernels of both ends say to each other would count as well.
    bench.lab.client.run("ip", &["link", "set", "eth0", "down"]);
    for (hook, cases) in [("ingress", [arriving(), arriving6()].concat()), ("egress", leaving())] {
        let program = bench.program(hook);
        for (reason, verdict, frame) in cases {
            let before = counters(&bench);
            let outcome = program.run(&frame, Sums::None);
            assert_eq!(outcome.verdict, verdict, "{reason} at {hook}: {frame:02x?}");
            let mut after = counters(&bench);
            after.retain(|name, count| {
                *count -= before.get(name).copied().unwrap_or(0);
                *count != 0
            });
            assert_eq!(after, BTreeMap::from([(reason.to_string(), 1)]), "{hook}: {frame:02x?}");
        }
    }
}
