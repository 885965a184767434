// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Packets of both families that are not ours to translate, or that lie: they pass as they are. And whatever else comes: what
//! changes in it may change.
use e2e::bench::Bench;
use e2e::family::Family;
use e2e::lab::{CLIENT, CLIENT6, SECOND};
use e2e::packet::{checksum, Inner, Packet, ACK, PSH, SYN};
use e2e::random::Random;
use e2e::six::{
    authentication, destination_options, extended, fragment, framed, hop_by_hop, routing, Extension,
};
use e2e::testrun::{Sums, SHOT, UNSPEC};
use std::net::{IpAddr, SocketAddr};

/// BPF_PROG_TEST_RUN takes no frame that ends before the IP header does.
fn shortest(family: Family) -> usize {
    family.pick(34, 54)
}

/// Addresses that no rule is about.
fn own_or_special(family: Family) -> Vec<(&'static str, &'static str, u16)> {
    let four = vec![
        ("the gateway", "192.168.178.2", 53),
        ("broadcast", "255.255.255.255", 9),
        ("the network's broadcast", "192.168.178.255", 9),
        ("multicast", "224.0.0.251", 5353),
        ("high multicast", "239.255.255.250", 1900),
        ("link-local", "169.254.169.254", 80),
        ("loopback", "127.0.0.1", 80),
        ("nowhere", "0.0.0.0", 80),
    ];
    let six = vec![
        ("the gateway", "fd00::2", 53),
        ("its network's routers", "fd00::", 53),
        ("all nodes", "ff02::1", 9),
        ("multicast DNS", "ff02::fb", 5353),
        ("global multicast", "ff0e::101", 123),
        ("link-local", "fe80::2", 80),
        ("the end of link-local", "febf::2", 80),
        ("loopback", "::1", 80),
        ("nowhere", "::", 80),
        ("an IPv4 address", "::ffff:1.2.3.4", 80),
    ];
    family.pick(four, six)
}

/// Sources that ask for nothing that a rule could be about.
fn sources(family: Family) -> Vec<(&'static str, &'static str)> {
    let [own, lo, group, none] = family
        .pick(["192.168.178.2", "127.0.0.1", "224.0.0.1", "0.0.0.0"], ["fd00::2", "::1", "ff02::1", "::"]);
    let more = family.pick(("from broadcast", "255.255.255.255"), ("from link-local", "fe80::51"));
    vec![
        ("from the gateway itself", own),
        ("from loopback", lo),
        ("from multicast", group),
        ("from nowhere", none),
        more,
    ]
}

/// ICMP that is no question, and protocols that are translated nowhere.
fn messages(family: Family) -> Vec<(&'static str, Packet)> {
    let message = |kind, dst: &str, ttl| {
        let packet = Packet::echo(family.client(), dst.parse().unwrap(), 0, 0).payload(&[1; 24]);
        Packet { inner: Inner::Icmp { kind, code: 0, rest: [0; 4] }, ttl, ..packet }
    };
    let other = |dst: IpAddr, protocol| Packet::other(family.client(), dst, protocol).payload(&[0; 40]);
    let far = family.far().to_string();
    if family == Family::V4 {
        let quoted = Packet::udp((CLIENT, 4000), (family.far(), 53)).payload(b"x").ip();
        return vec![
            ("the gateway's second address", Packet::udp((CLIENT, 4000), (SECOND, 53)).payload(b"x")),
            ("DHCP", Packet::udp(([0; 4], 68), ([255; 4], 67)).payload(b"x")),
            ("ICMP unreachable", message(3, &far, 64).payload(&quoted)),
            ("ICMP time exceeded", message(11, &far, 64).payload(&quoted)),
            ("a ping's answer", message(0, &far, 64)),
            ("DCCP", other(family.far(), 33)),
            ("IGMP", other([224, 0, 0, 22].into(), 2)),
        ];
    }
    let link: IpAddr = "fe80::51".parse().unwrap();
    vec![
        ("DHCPv6", Packet::udp((link, 546), (family.far(), 547)).payload(b"x")),
        ("DHCPv6 of a global address", Packet::udp((CLIENT6, 546), (family.far(), 547)).payload(b"x")),
        ("a neighbour's question", message(135, "ff02::1:ff00:34", 255)),
        ("a neighbour's question to one", message(135, &far, 255)),
        ("a neighbour's answer", message(136, &far, 255)),
        ("a router's offer", message(134, &far, 255)),
        ("a redirect", message(137, &far, 255)),
        ("a listener's report", message(143, "ff02::16", 1)),
        ("a ping's answer", message(129, &far, 64)),
        ("an error about nothing", message(1, &far, 64)),
        ("DCCP", other(family.far(), 33)),
        ("mobility", other(family.far(), 135)),
        ("UDP-Lite", other(family.far(), 136)),
    ]
}

#[test]
fn what_is_not_ours_to_rewrite_passes_untouched() {
    for family in Family::BOTH {
        Bench::new(&[]).scenes(|port, ingress, egress| {
            let client = SocketAddr::new(family.client(), port);
            let (far, gateway) = (family.far(), family.gateway());
            let ip = |text: &str| text.parse::<IpAddr>().unwrap();
            for (what, to, dport) in own_or_special(family) {
                let udp = Packet::udp(client, (ip(to), dport)).payload(b"x");
                ingress.passes(what, &udp.frame());
            }
            for (what, from) in sources(family) {
                let udp = Packet::udp((ip(from), port), (far, 53)).payload(b"x");
                ingress.passes(what, &udp.frame());
            }
            for (what, packet) in messages(family) {
                ingress.passes(what, &packet.frame());
            }
            let syn = Packet::tcp(client, (far, 80), SYN).frame();
            let with = |at: usize, bytes: &[u8]| {
                let mut frame = syn.clone();
                frame[at..at + bytes.len()].copy_from_slice(bytes);
                frame
            };
            ingress.passes("another host's frame", &with(0, &[2, 0, 0, 0, 0, 9]));
            ingress.passes("a broadcast frame", &with(0, &[0xff; 6]));
            let group = family.pick([1, 0, 0x5e, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1]);
            ingress.passes("a multicast frame", &with(0, &group));
            ingress.passes("ARP", &with(12, &[8, 6]));
            ingress.passes("unknown ethertype", &with(12, &[0x88, 0xb5]));
            let tagged = [&syn[..12], &[0x81, 0, 0, 100], &syn[12..]].concat();
            ingress.passes("a VLAN's frame", &tagged);
            for what in ["a packet that belongs to no flow", "again"] {
                egress.passes(what, &Packet::tcp((gateway, 22), client, ACK).payload(b"ssh").frame());
                egress.passes(what, &Packet::udp((gateway, 123), client).payload(b"ntp").frame());
                egress.passes(what, &Packet::echo(gateway, client.ip(), port, 1).frame());
            }
        });
    }
}

/// Behind what no translator looks, or what covers the addresses.
#[test]
fn extension_headers_that_keep_a_translator_out() {
    Bench::new(&[]).scenes(|port, ingress, _| {
        let family = Family::V6;
        let syn = Packet::tcp((CLIENT6, port), (family.far(), 80), SYN);
        for (what, chain) in [
            ("seven extension headers", vec![destination_options(1); 7]),
            ("extension headers of more than 2 KiB", vec![destination_options(100); 3]),
            ("on its way to another hop", vec![routing(1)]),
            ("authenticated addresses", vec![hop_by_hop(), authentication()]),
        ] {
            ingress.passes(what, &framed(&extended(&syn.ip(), &chain)));
        }
        let report = messages(family).into_iter().find(|(what, _)| *what == "a listener's report").unwrap().1;
        let report = extended(&report.ip(), &[hop_by_hop()]);
        ingress.passes("a listener's report behind its router alert", &framed(&report));
    });
}

/// RFC 5508, REQ-11: what is neither a ping nor an error is left alone, also beside a ping's flow. Errors quote a packet: these do not.
#[test]
fn icmp_of_any_other_kind_passes_untouched() {
    for family in Family::BOTH {
        Bench::new(&[]).scenes(|id, ingress, egress| {
            let (client, far, gateway) = (family.client(), family.far(), family.gateway());
            let [ask, answer] = family.pick([8, 0], [128, 129]);
            let asked = Packet::echo(client, far, id, 1).payload(&[0x45; 40]);
            let echo = |kind: u8, code: u8, src: IpAddr, dst: IpAddr| {
                let mut packet = asked.clone();
                let Inner::Icmp { kind: k, code: c, .. } = &mut packet.inner else { panic!() };
                (*k, *c, packet.src, packet.dst) = (kind, code, src, dst);
                packet
            };
            ingress.rewrites(&asked, &echo(ask, 0, client, gateway));
            egress.rewrites(&echo(answer, 0, gateway, client), &echo(answer, 0, far, client));
            for kind in 0..=255 {
                if kind != ask {
                    ingress.passes("no question", &echo(kind, 0, client, far).frame());
                }
                if kind != answer {
                    egress.passes("no answer", &echo(kind, 0, gateway, client).frame());
                }
                ingress.passes("a code", &echo(kind, 1, client, far).frame());
                egress.passes("a code", &echo(kind, 1, gateway, client).frame());
            }
        });
    }
}

#[test]
fn headers_that_lie_pass_untouched() {
    for family in Family::BOTH {
        Bench::new(&[]).scenes(|port, ingress, egress| {
            let syn = Packet::tcp((family.client(), port), (family.far(), 80), SYN).tcp_options(&[1; 8]);
            let chain = [hop_by_hop(), destination_options(2), routing(0)];
            let whole = family.pick(
                vec![syn.clone().options(&[1; 8]).frame()],
                vec![syn.frame(), framed(&extended(&syn.ip(), &chain))],
            );
            for full in whole {
                for hook in [ingress, egress] {
                    for length in shortest(family)..full.len() {
                        hook.passes("a frame cut short", &full[..length]);
                    }
                }
                let with = |at: usize, bytes: &[u8]| {
                    let mut frame = full.clone();
                    frame[14 + at..14 + at + bytes.len()].copy_from_slice(bytes);
                    resummed(frame)
                };
                for version in (0..16).filter(|version| *version != family.pick(4, 6)) {
                    ingress.passes("another version", &with(0, &[version << 4 | full[14] & 15]));
                }
                let lengths: &[(u16, &str)] = family.pick(
                    &[
                        (0, "none"),
                        (19, "no header"),
                        (20, "none behind"),
                        (28, "none"),
                        (31, "part"),
                        (1500, "beyond"),
                    ],
                    &[(0, "none"), (1, "none"), (19, "part"), (1500, "beyond")],
                );
                for (length, what) in lengths {
                    let at = family.pick(2, 4);
                    ingress.passes(&format!("a length: {what}"), &with(at, &length.to_be_bytes()));
                }
                if family == Family::V4 {
                    for words in 0..5 {
                        ingress.passes("a header shorter than a header", &with(0, &[0x40 | words]));
                    }
                    let long = with(0, &[&[0x4f, 0][..], &40u16.to_be_bytes()].concat());
                    ingress.passes("a header longer than the packet", &long);
                }
            }
            if family == Family::V6 {
                let long = framed(&extended(&syn.ip(), &[(60, vec![0, 200, 0, 0, 0, 0, 0, 0])]));
                ingress.passes("an extension header beyond the packet", &long);
            }
        });
    }
}

/// With the right sum of an IPv4 header, as long as it says that it is.
fn resummed(mut frame: Vec<u8>) -> Vec<u8> {
    if frame[12] == 8 {
        frame[24..26].fill(0);
        let header = usize::from(frame[14] & 15) * 4;
        let sum = checksum(&frame[14..frame.len().min(14 + header)]).to_be_bytes();
        frame[24..26].copy_from_slice(&sum);
    }
    frame
}

/// Whatever comes: no error, known verdicts, and where bytes change they are ends and checksums that stay right.
#[test]
fn forty_thousand_damaged_packets() {
    for family in Family::BOTH {
        let bench = Bench::new(&[]);
        let (ingress, egress) = (bench.program("ingress"), bench.program("egress"));
        let mut random = Random::new(1);
        let (mut changed, mut dropped) = (0, 0);
        bench.lab.gateway.within(|| {
            for n in 0..20_000 {
                let from = SocketAddr::new(family.client(), 1000 + n % 500);
                let to = SocketAddr::new(family.far(), 1 + random.below(100) as u16);
                let packet = match random.below(5) {
                    0 => Packet::tcp(from, to, SYN),
                    1 => Packet::tcp(from, to, ACK | PSH).payload(b"some payload").options(&[1; 12]),
                    2 => Packet::udp(from, to).payload(&vec![5; random.below(100)]),
                    3 => Packet::echo(from.ip(), to.ip(), 5, 6).payload(&[6; 21]),
                    _ => Packet::udp(from, (family.gateway(), 53)).reversed().payload(b"back"),
                };
                let mut frame = packet.frame();
                if family == Family::V6 {
                    let headers = random.below(4);
                    let extension = |_| match random.below(4) {
                        0 => hop_by_hop(),
                        1 => routing(0),
                        2 => fragment(0, false),
                        _ => destination_options(1 + random.below(3) as u8),
                    };
                    let chain: Vec<Extension> = (0..headers).map(extension).collect();
                    frame = framed(&extended(&packet.ip(), &chain));
                }
                for _ in 0..random.below(4) {
                    let at = 14 + random.below(frame.len() - 14);
                    frame[at] = random.bits() as u8;
                }
                if random.below(3) == 0 {
                    let least = shortest(family);
                    frame.truncate(least + random.below(frame.len() - least));
                }
                let sums = if n % 2 == 0 { Sums::None } else { Sums::Complete };
                for program in [&ingress, &egress] {
                    let outcome = program.run_here(&frame, sums).unwrap_or_else(|fault| panic!("{fault}"));
                    assert!(matches!(outcome.verdict, UNSPEC | SHOT), "{} for {frame:02x?}", outcome.verdict);
                    dropped += usize::from(outcome.verdict == SHOT);
                    if outcome.frame != frame {
                        changed += 1;
                        judge(family, &frame, &outcome.frame);
                    }
                }
            }
        });
        assert!(changed > 5_000, "{family:?}: only {changed} packets were rewritten, {dropped} dropped");
    }
}

/// A rewritten packet differs in its ends and checksums only, and is as right as it was. Where the transport header is follows
/// from RFC 791 and RFC 8200.
fn judge(family: Family, before: &[u8], after: &[u8]) {
    let (mut protocol, mut l4) =
        family.pick((before[23], 14 + usize::from(before[14] & 15) * 4), (before[20], 54));
    while let (Family::V6, 0 | 43 | 44 | 60) = (family, protocol) {
        let length = usize::from(before[l4 + 1]);
        let step = if protocol == 44 { 8 } else { (length + 1) * 8 };
        (protocol, l4) = (before[l4], l4 + step);
    }
    let (ports, sum) = match protocol {
        6 => (l4..l4 + 4, l4 + 16..l4 + 18),
        17 => (l4..l4 + 4, l4 + 6..l4 + 8),
        1 | 58 => (l4 + 4..l4 + 6, l4 + 2..l4 + 4),
        _ => (0..0, 0..0), // the address alone
    };
    let addresses = family.pick(24..34, 22..54);
    let may = |at: usize| addresses.contains(&at) || ports.contains(&at) || sum.contains(&at);
    let wrong = (0..before.len()).find(|at| before[*at] != after[*at] && !may(*at));
    assert_eq!(wrong, None, "byte changed that may not\n{before:02x?}\n{after:02x?}");
    if let Ok(packet) = Packet::read(before) {
        let read = Packet::read(after).unwrap_or_else(|fault| panic!("{packet}: {fault}"));
        assert_eq!(Family::of(read.src), family);
    }
}
