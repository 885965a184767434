// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Single IPv6 packets through the running programs, byte for byte against packets built anew, as in packets.rs: once as
//! bytes, once with `CHECKSUM_COMPLETE`.
use e2e::bench::{Bench, Hook};
use e2e::lab::{Lab, CLIENT6, GATEWAY6};
use e2e::packet::{doc6, Inner, Packet, ACK, FIN, PSH, RST, SYN};
use e2e::six::{
    at6, authentication, both_ways6, client6, destination_options, extended, fragment, framed, hop_by_hop,
    routing, Extension, FAR6,
};
use e2e::testrun::{Sums, SHOT, UNSPEC};
use std::net::Ipv6Addr;

/// BPF_PROG_TEST_RUN takes no frame that ends before the IPv6 header does.
const SHORTEST: usize = 54;

#[test]
fn tcp_from_the_first_to_the_last_segment() {
    Bench::new(&["tcp dport 8080 redirect to :80", "redirect"]).scenes(|port, ingress, egress| {
        for (port, dport, server_port) in [(port, 80, 80), (port + 1, 8080, 80), (port + 2, 443, 443)] {
            let out = |flags| Packet::tcp(client6(port), at6(FAR6, dport), flags);
            let back = |flags| Packet::tcp(at6(FAR6, dport), client6(port), flags);
            let segment = |asked, answer| both_ways6(ingress, egress, port, asked, answer, server_port);
            let options = [2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7];
            segment(out(SYN).tcp_options(&options), back(SYN | ACK).tcp_options(&options));
            segment(out(ACK), back(ACK));
            segment(out(ACK | PSH).payload(b"GET / HTTP/1.0\r\n\r\n"), back(ACK).payload(b"HTTP/1.0 200 OK"));
            segment(out(ACK).payload(b"o"), back(ACK | PSH).payload(&[0xff; 1440]));
            segment(out(FIN | ACK), back(FIN | ACK));
            segment(out(RST), back(RST));
        }
    });
}

#[test]
fn udp_with_and_without_checksum() {
    Bench::new(&["udp dport 53 redirect to :5353", "redirect"]).scenes(|port, ingress, egress| {
        for (port, dport, server_port) in [(port, 53, 5353), (port + 1, 123, 123)] {
            let out = || Packet::udp(client6(port), at6(FAR6, dport));
            let back = || Packet::udp(at6(FAR6, dport), client6(port));
            let datagram = |asked, answer| both_ways6(ingress, egress, port, asked, answer, server_port);
            datagram(out().payload(b"question"), back().payload(b"an answer"));
            datagram(out(), back().payload(&[7; 1400]));
            // Allowed for tunnels (RFC 6935); nothing but the card's sum can tell of the addresses then.
            datagram(out().payload(b"none").unsummed(), back().payload(b"none").unsummed());
            // Sums that come out as zero afterwards, which is sent as 0xffff, and those that were.
            let zero = |packet: Packet, served: &Packet| {
                let sum = |payload: [u8; 2]| {
                    let ip = Packet { payload: payload.to_vec(), ..served.clone() }.ip();
                    u16::from_be_bytes([ip[46], ip[47]])
                };
                let needed = sum([0, 0]).to_be_bytes();
                assert_eq!(sum(needed), 0xffff);
                packet.payload(&needed)
            };
            datagram(zero(out(), &out().between(client6(port), at6(GATEWAY6, server_port))), back());
            datagram(zero(out(), &out()), zero(back(), &back()));
        }
    });
}

#[test]
fn pings() {
    Bench::new(&[]).scenes(|id, ingress, egress| {
        let echo = |kind, src: Ipv6Addr, dst: Ipv6Addr, sequence| {
            let mut packet = Packet::echo(src.into(), dst.into(), id, sequence);
            let Inner::Icmp { kind: set, .. } = &mut packet.inner else { panic!("{packet}") };
            *set = kind;
            packet
        };
        for (sequence, payload) in [(1, &b""[..]), (2, b"odd"), (3, &[0xaa; 1400])] {
            let asked = echo(128, CLIENT6, FAR6, sequence).payload(payload);
            let answer = echo(129, FAR6, CLIENT6, sequence).payload(payload);
            both_ways6(ingress, egress, 0, asked, answer, 0);
        }
        // The same identifier towards another address gets another one, and its own back.
        let second = echo(128, CLIENT6, doc6(2), 1);
        let served = Packet::read(&ingress.program.run(&second.frame(), ingress.sums).frame).unwrap();
        let Inner::Icmp { rest, .. } = served.inner else { panic!("{served}") };
        assert_ne!(rest[..2], id.to_be_bytes());
        let answer = Packet { inner: Inner::Icmp { kind: 129, code: 0, rest }, ..served.reversed() };
        egress.rewrites(&answer, &echo(129, doc6(2), CLIENT6, 1));
    });
}

/// Up to six extension headers, whatever they are, stay as they are, and so do traffic class, flow label and hop limit.
#[test]
fn extension_headers_and_every_header_field_stay() {
    let chains: Vec<Vec<Extension>> = vec![
        vec![hop_by_hop()],
        vec![destination_options(1)],
        vec![destination_options(2), destination_options(31)],
        vec![routing(0)],
        vec![fragment(0, false)],
        vec![hop_by_hop(), destination_options(1), routing(0), fragment(0, false), destination_options(2)],
        vec![destination_options(1); 6],
        vec![destination_options(40); 6],
    ];
    Bench::new(&[]).scenes(|port, ingress, egress| {
        for (n, chain) in chains.iter().enumerate() {
            let port = port + n as u16;
            let questions = [
                Packet::tcp(client6(port), at6(FAR6, 80), SYN).payload(b"early data"),
                Packet::udp(client6(port), at6(FAR6, 53)).payload(b"x"),
            ];
            for asked in questions {
                let server = at6(GATEWAY6, asked.ends().1.port());
                let served = asked.clone().between(client6(port), server);
                let [question, expected] = [&asked, &served].map(|packet| extended(&packet.ip(), chain));
                ingress.makes("a question", &question, &expected);
                let [answer, heard] = [served.reversed(), asked.reversed()].map(|p| extended(&p.ip(), chain));
                egress.makes("an answer", &answer, &heard);
            }
            let ping = Packet::echo(CLIENT6.into(), FAR6.into(), port, 1).payload(b"ping");
            let served = Packet { dst: GATEWAY6.into(), ..ping.clone() };
            ingress.makes("a ping", &extended(&ping.ip(), chain), &extended(&served.ip(), chain));
        }
        let fields = [(1, 0, 0), (255, 0xff, 0xf_ffff), (64, 0x2e << 2, 0x1_2345)];
        for (n, (ttl, tos, label)) in fields.into_iter().enumerate() {
            let port = port + 20 + n as u16;
            let change = |packet: Packet| Packet { ttl, tos, label, ..packet };
            let asked = change(Packet::udp(client6(port), at6(FAR6, 53)).payload(b"x"));
            let answer = change(Packet::udp(at6(FAR6, 53), client6(port)).payload(b"x"));
            both_ways6(ingress, egress, port, asked, answer, 53);
        }
    });
}

#[test]
fn what_is_not_ours_to_rewrite_passes_untouched() {
    Bench::new(&[]).scenes(|port, ingress, egress| {
        let to = |ip: &str, dport| Packet::udp(client6(port), at6(ip.parse().unwrap(), dport)).payload(b"x");
        let from = |ip: &str| Packet::udp(at6(ip.parse().unwrap(), port), at6(FAR6, 53)).payload(b"x");
        let message = |kind, dst: &str, ttl| {
            let packet = Packet::echo(CLIENT6.into(), dst.parse().unwrap(), 0, 0).payload(&[1; 24]);
            Packet { inner: Inner::Icmp { kind, code: 0, rest: [0; 4] }, ttl, ..packet }
        };
        let link = "fe80::51".parse().unwrap();
        for (what, packet) in [
            ("the gateway", to("fd00::2", 53)),
            ("its network's routers", to("fd00::", 53)),
            ("all nodes", to("ff02::1", 9)),
            ("multicast DNS", to("ff02::fb", 5353)),
            ("global multicast", to("ff0e::101", 123)),
            ("link-local", to("fe80::2", 80)),
            ("the end of link-local", to("febf::2", 80)),
            ("loopback", to("::1", 80)),
            ("nowhere", to("::", 80)),
            ("an IPv4 address", to("::ffff:1.2.3.4", 80)),
            ("DHCPv6", Packet::udp(at6(link, 546), at6(FAR6, 547)).payload(b"x")),
            ("DHCPv6 of a global address", Packet::udp(client6(546), at6(FAR6, 547)).payload(b"x")),
            ("from the gateway itself", from("fd00::2")),
            ("from loopback", from("::1")),
            ("from multicast", from("ff02::1")),
            ("from link-local", from("fe80::51")),
            ("from nowhere", from("::")),
            ("a neighbour's question", message(135, "ff02::1:ff00:34", 255)),
            ("a neighbour's question to one", message(135, "2001:db8:5d:b8:d8:22:0:34", 255)),
            ("a neighbour's answer", message(136, "2001:db8:5d:b8:d8:22:0:34", 255)),
            ("a router's offer", message(134, "2001:db8:5d:b8:d8:22:0:34", 255)),
            ("a redirect", message(137, "2001:db8:5d:b8:d8:22:0:34", 255)),
            ("a listener's report", message(143, "ff02::16", 1)),
            ("a ping's answer", message(129, "2001:db8:5d:b8:d8:22:0:34", 64)),
            ("an error about nothing", message(1, "2001:db8:5d:b8:d8:22:0:34", 64)),
            ("DCCP", Packet::other(CLIENT6.into(), FAR6.into(), 33).payload(&[0; 40])),
            ("mobility", Packet::other(CLIENT6.into(), FAR6.into(), 135).payload(&[0; 40])),
            ("UDP-Lite", Packet::other(CLIENT6.into(), FAR6.into(), 136).payload(&[0; 40])),
        ] {
            ingress.passes(what, &packet.frame());
        }
        let syn = Packet::tcp(client6(port), at6(FAR6, 80), SYN);
        let with = |chain: &[Extension]| framed(&extended(&syn.ip(), chain));
        ingress.passes("seven extension headers", &with(&vec![destination_options(1); 7]));
        ingress.passes("extension headers of more than 2 KiB", &with(&vec![destination_options(100); 3]));
        ingress.passes("on its way to another hop", &with(&[routing(1)]));
        ingress.passes("authenticated addresses", &with(&[hop_by_hop(), authentication()]));
        let report = extended(&message(143, "ff02::16", 1).ip(), &[hop_by_hop()]);
        ingress.passes("a listener's report behind its router alert", &framed(&report));
        let mac = |bytes: [u8; 6]| [&bytes[..], &syn.frame()[6..]].concat();
        ingress.passes("another host's frame", &mac([2, 0, 0, 0, 0, 9]));
        ingress.passes("a multicast frame", &mac([0x33, 0x33, 0, 0, 0, 1]));
        egress.passes("no flow's TCP", &Packet::tcp(at6(GATEWAY6, 22), client6(port), ACK).frame());
        egress.passes("no flow's UDP", &Packet::udp(at6(GATEWAY6, 123), client6(port)).frame());
        egress.passes("our own ping", &Packet::echo(GATEWAY6.into(), CLIENT6.into(), port, 1).frame());
    });
}

/// The packet in pieces of `size` bytes, `chain` behind each fragment header belonging to the first alone.
fn pieces(packet: &Packet, id: u32, chain: &[Extension], size: usize) -> Vec<Vec<u8>> {
    let ip = extended(&packet.ip(), chain);
    let last = (ip.len() - 41) / size;
    let piece = |(n, bytes): (usize, &[u8])| {
        let mut header = fragment((n * size / 8) as u16, n < last);
        header.1[4..].copy_from_slice(&id.to_be_bytes());
        extended(&[&ip[..40], bytes].concat(), &[header])
    };
    ip[40..].chunks(size).enumerate().map(piece).collect()
}

/// Later fragments follow the first one, both ways; before it, and of another packet, they are dropped.
#[test]
fn fragments_follow_the_first_one() {
    Bench::new(&[]).scenes(|port, ingress, egress| {
        for (n, chain) in [vec![], vec![destination_options(2)]].into_iter().enumerate() {
            let (port, id) = (port + n as u16, u32::from(port) << 8 | n as u32);
            let asked = Packet::udp(client6(port), at6(FAR6, 53)).payload(&[3; 3001]);
            let served = asked.clone().between(client6(port), at6(GATEWAY6, 53));
            for (hook, from, to) in
                [(ingress, &asked, &served), (egress, &served.clone().reversed(), &asked.clone().reversed())]
            {
                let (before, after) = (pieces(from, id, &chain, 1208), pieces(to, id, &chain, 1208));
                let drops = |piece: &[u8]| {
                    assert_eq!(hook.program.run(&framed(piece), hook.sums).verdict, SHOT, "{piece:02x?}");
                };
                drops(&before[1]);
                for (before, after) in before.iter().zip(&after) {
                    hook.makes("a fragment", before, after);
                }
                hook.makes("the last one again", &before[2], &after[2]);
                drops(&pieces(from, id + 77, &chain, 1208)[2]);
            }
        }
        let own = Packet::udp(client6(port), at6(GATEWAY6, 99)).payload(&[1; 3000]);
        ingress.passes("a later fragment to the gateway", &framed(&pieces(&own, 1, &[], 1208)[1]));
    });
}

#[test]
fn headers_that_lie_pass_untouched() {
    Bench::new(&[]).scenes(|port, ingress, egress| {
        let syn = Packet::tcp(client6(port), at6(FAR6, 80), SYN).tcp_options(&[1; 8]);
        let chain = [hop_by_hop(), destination_options(2), routing(0)];
        for full in [syn.frame(), framed(&extended(&syn.ip(), &chain))] {
            for hook in [ingress, egress] {
                for length in SHORTEST..full.len() {
                    hook.passes("a frame cut short", &full[..length]);
                }
            }
            let with = |at: usize, bytes: &[u8]| {
                let mut frame = full.clone();
                frame[at..at + bytes.len()].copy_from_slice(bytes);
                frame
            };
            for version in [0, 4, 5, 7, 15] {
                ingress.passes("another version", &with(14, &[version << 4]));
            }
            for length in [0u16, 1, 19] {
                ingress.passes("a payload without a TCP header", &with(18, &length.to_be_bytes()));
            }
            ingress.passes("a payload beyond the frame", &with(18, &1500u16.to_be_bytes()));
        }
        let long = framed(&extended(&syn.ip(), &[(60, vec![0, 200, 0, 0, 0, 0, 0, 0])]));
        ingress.passes("an extension header beyond the packet", &long);
    });
}

#[test]
fn verdicts_of_rules() {
    let rules = [
        "ip daddr 0.0.0.0/0 tcp dport 80 redirect to :1",
        "ip6 saddr != fd00::/64 tcp dport 80 drop",
        "ip6 daddr 2001:db8:5d:b8::/64 tcp dport 80 dnat to [fd00::2]:8080",
        "ip6 daddr { 2001:db8::1, 2001:db8::4-2001:db8::9 } tcp dport 25 drop",
        "icmpv6 redirect",
        "udp dport 53 accept",
        "udp dnat to 192.168.178.2",
    ];
    Bench::new(&rules).scenes(|port, ingress, _| {
        let syn = |to: Ipv6Addr, dport| Packet::tcp(client6(port), at6(to, dport), SYN);
        let web = syn(FAR6, 80);
        ingress.rewrites(&web, &web.clone().between(client6(port), at6(GATEWAY6, 8080)));
        ingress.drops(&web.clone().between(at6("fd00:0:0:1::51".parse().unwrap(), port), at6(FAR6, 80)));
        for (last, drops) in [(0, 0), (1, 1), (2, 0), (3, 0), (4, 1), (7, 1), (9, 1), (10, 0), (0xffff, 0)] {
            let mail = syn(doc6(last), 25);
            match drops {
                1 => ingress.drops(&mail),
                _ => ingress.passes("no rule", &mail.frame()),
            }
        }
        ingress.passes("accept", &Packet::udp(client6(port), at6(FAR6, 53)).frame());
        ingress.passes("a target of the other family", &Packet::udp(client6(port), at6(FAR6, 54)).frame());
        let ping = Packet::echo(CLIENT6.into(), FAR6.into(), port, 1);
        ingress.rewrites(&ping, &Packet { dst: GATEWAY6.into(), ..ping.clone() });
    });
}

/// Where the device forwards IPv6, TCP without state is not ours; IPv4 forwarding makes no difference.
#[test]
fn tcp_in_mid_stream() {
    let lab = Lab::new();
    lab.gateway.sysctl("net/ipv4/ip_forward", "1");
    Bench::on(lab, &[]).scenes(|port, ingress, egress| {
        let asked = Packet::tcp(client6(port), at6(FAR6, 80), ACK).payload(b"still there?");
        both_ways6(ingress, egress, port, asked, Packet::tcp(at6(FAR6, 80), client6(port), ACK), 80);
    });
    let lab = Lab::new();
    lab.gateway.sysctl("net/ipv6/conf/all/forwarding", "1");
    Bench::on(lab, &[]).scenes(|port, ingress, _| {
        for flags in [ACK, FIN | ACK, RST] {
            ingress.passes("transit", &Packet::tcp(client6(port), at6(FAR6, 80), flags).frame());
        }
    });
}

/// One client port to many destinations: all but the first get another port, and all get theirs back.
#[test]
fn clashing_ports_are_exchanged_and_restored() {
    Bench::new(&[]).scenes(|port, ingress, egress| {
        let mut given = std::collections::BTreeSet::new();
        for n in 1..=40 {
            let far = at6(doc6(n), 80);
            let asked = Packet::tcp(client6(port), far, SYN);
            let outcome = ingress.program.run(&asked.frame(), ingress.sums);
            let seen = Packet::read(&outcome.frame).unwrap();
            let Inner::Tcp { sport, .. } = seen.inner else { panic!("{seen}") };
            assert_eq!(seen, asked.clone().between(client6(sport), at6(GATEWAY6, 80)), "only ends change");
            assert!(given.insert(sport), "port {sport} twice");
            let answer = Packet::tcp(at6(GATEWAY6, 80), client6(sport), SYN | ACK);
            egress.rewrites(&answer, &answer.clone().between(far, client6(port)));
            // The same packet again is the same flow.
            assert_eq!(ingress.program.run(&asked.frame(), ingress.sums), outcome);
        }
        assert!(given.contains(&port), "the first keeps its port");
    });
}

/// Whatever comes: no error, known verdicts, and where bytes change they are ends and checksums that stay right.
#[test]
fn twenty_thousand_damaged_packets() {
    let bench = Bench::new(&[]);
    let (ingress, egress) = (bench.program("ingress"), bench.program("egress"));
    let mut state = 2u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let (mut changed, mut dropped) = (0, 0);
    bench.lab.gateway.within(|| {
        for n in 0..20_000 {
            let (from, to) = (client6(1000 + (n % 500) as u16), at6(FAR6, 1 + random(100) as u16));
            let packet = match random(5) {
                0 => Packet::tcp(from, to, SYN),
                1 => Packet::tcp(from, to, ACK | PSH).payload(b"some payload").tcp_options(&[1; 12]),
                2 => Packet::udp(from, to).payload(&vec![5; random(100)]),
                3 => Packet::echo(CLIENT6.into(), FAR6.into(), 5, 6).payload(&[6; 21]),
                _ => Packet::udp(from, at6(GATEWAY6, 53)).reversed().payload(b"back"),
            };
            let chain: Vec<Extension> = (0..random(4))
                .map(|_| match random(4) {
                    0 => hop_by_hop(),
                    1 => routing(0),
                    2 => fragment(0, false),
                    _ => destination_options(1 + random(3) as u8),
                })
                .collect();
            let mut frame = framed(&extended(&packet.ip(), &chain));
            for _ in 0..random(4) {
                let at = 14 + random(frame.len() - 14);
                frame[at] = random(256) as u8;
            }
            if random(3) == 0 {
                frame.truncate(SHORTEST + random(frame.len() - SHORTEST));
            }
            let sums = if n % 2 == 0 { Sums::None } else { Sums::Complete };
            for program in [&ingress, &egress] {
                let outcome = program.run_here(&frame, sums).unwrap_or_else(|fault| panic!("{fault}"));
                assert!(matches!(outcome.verdict, UNSPEC | SHOT), "{} for {frame:02x?}", outcome.verdict);
                dropped += usize::from(outcome.verdict == SHOT);
                if outcome.frame != frame {
                    changed += 1;
                    judge(&frame, &outcome.frame);
                }
            }
        }
    });
    assert!(changed > 5_000, "only {changed} packets were rewritten, {dropped} dropped");
}

/// A rewritten packet differs in its ends and checksums only. Where the transport header is follows from RFC 8200.
fn judge(before: &[u8], after: &[u8]) {
    let (mut protocol, mut l4) = (before[20], 54);
    while let 0 | 43 | 44 | 60 = protocol {
        let length = usize::from(before[l4 + 1]);
        let step = match protocol {
            44 => 8,
            _ => (length + 1) * 8,
        };
        (protocol, l4) = (before[l4], l4 + step);
    }
    let (ports, sum) = match protocol {
        6 => (l4..l4 + 4, l4 + 16..l4 + 18),
        17 => (l4..l4 + 4, l4 + 6..l4 + 8),
        58 => (l4 + 4..l4 + 6, l4 + 2..l4 + 4),
        _ => (0..0, 0..0), // the address alone
    };
    let may = |at: usize| (22..54).contains(&at) || ports.contains(&at) || sum.contains(&at);
    let wrong = (0..before.len()).find(|at| before[*at] != after[*at] && !may(*at));
    assert_eq!(wrong, None, "byte changed that may not\n{before:02x?}\n{after:02x?}");
    if let Ok(packet) = Packet::read(before) {
        Packet::read(after).unwrap_or_else(|fault| panic!("{packet}: {fault}"));
    }
}

/// What was asked for over IPv6, and its flows, are told as those of IPv4 are.
#[test]
fn flows_and_asked_are_told() {
    let bench = Bench::new(&["tcp dport 80 redirect to :8080"]);
    let (ingress, egress) = (bench.program("ingress"), bench.program("egress"));
    let hook = |program| Hook { program, sums: Sums::None };
    let (asked, answer) = (
        Packet::tcp(client6(4000), at6(FAR6, 80), SYN),
        Packet::tcp(at6(FAR6, 80), client6(4000), SYN | ACK),
    );
    both_ways6(&hook(&ingress), &hook(&egress), 4000, asked, answer, 8080);
    hook(&ingress).passes("no rule", &Packet::udp(client6(4000), at6(FAR6, 53)).frame());
    let gateway = &bench.lab.gateway;
    let flows = e2e::detour::json(gateway, &["flows", &bench.lab.device]);
    let [flow] = &flows["flows"].as_array().unwrap()[..] else { panic!("{flows}") };
    let end = |ip: Ipv6Addr, port: u16| serde_json::json!({"address": ip.to_string(), "port": port});
    assert_eq!((&flow["client"], &flow["original"]), (&end(CLIENT6, 4000), &end(FAR6, 80)));
    assert_eq!((&flow["server"], &flow["state"]), (&end(GATEWAY6, 8080), &"answered".into()));
    let rows = e2e::detour::json(gateway, &["asked", &bench.lab.device]);
    let rows: Vec<(&str, u64)> = rows["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["destination"].as_str().unwrap(), row["port"].as_u64().unwrap()))
        .collect();
    let far = FAR6.to_string();
    assert_eq!(rows.len(), 2);
    assert!(rows.contains(&(&far, 80)) && rows.contains(&(&far, 53)), "{rows:?}");
    let status = e2e::detour::json(gateway, &["status", &bench.lab.device]);
    assert_eq!(status["instances"][0]["dnat"]["flows"]["ipv6"]["half_open"]["used"], 1);
}
