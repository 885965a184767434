// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Single packets through the running programs by BPF_PROG_TEST_RUN, byte for byte against packets built anew.
//!
//! What comes out has to be the packet that the test builds with the other addresses, all checksums computed over the
//! whole; once as bytes, once with `CHECKSUM_COMPLETE`, where the kernel checks that the card's sum is still right.
use e2e::bench::{at, both_ways, client, Bench, FAR};
use e2e::family::Family;
use e2e::lab::{Lab, CLIENT, GATEWAY, SECOND};
use e2e::packet::{checksum, Inner, Packet, ACK, FIN, PSH, RST, SYN};
use e2e::testrun::{Sums, SHOT, UNSPEC};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

/// BPF_PROG_TEST_RUN takes no frame that ends before the IPv4 header does.
const SHORTEST: usize = 34;

#[test]
fn tcp_from_the_first_to_the_last_segment() {
    let bench = Bench::new(&["tcp dport 8080 redirect to :80", "redirect"]);
    bench.scenes(|port, ingress, egress| {
        for (port, dport, server_port) in [(port, 80, 80), (port + 1, 8080, 80), (port + 2, 443, 443)] {
            let out = |flags| Packet::tcp(client(port), at(FAR, dport), flags);
            let back = |flags| Packet::tcp(at(FAR, dport), client(port), flags);
            let segment = |asked, answer| both_ways(ingress, egress, port, asked, answer, server_port);
            let options = [2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7];
            segment(out(SYN).tcp_options(&options), back(SYN | ACK).tcp_options(&options));
            segment(out(ACK), back(ACK));
            segment(out(ACK | PSH).payload(b"GET / HTTP/1.0\r\n\r\n"), back(ACK).payload(b"HTTP/1.0 200 OK"));
            segment(out(ACK).payload(b"o"), back(ACK | PSH).payload(&[0xff; 1460]));
            segment(out(ACK).payload(&[0; 1459]), back(ACK).payload(&[1; 3]));
            segment(out(FIN | ACK), back(FIN | ACK));
            segment(out(RST), back(RST));
        }
    });
}

#[test]
fn udp_with_and_without_checksum() {
    let bench = Bench::new(&["udp dport 53 redirect to :5353", "redirect"]);
    bench.scenes(|port, ingress, egress| {
        for (port, dport, server_port) in [(port, 53, 5353), (port + 1, 123, 123)] {
            let out = || Packet::udp(client(port), at(FAR, dport));
            let back = || Packet::udp(at(FAR, dport), client(port));
            let datagram = |asked, answer| both_ways(ingress, egress, port, asked, answer, server_port);
            datagram(out().payload(b"question"), back().payload(b"an answer"));
            datagram(out(), back().payload(&[7; 1400]));
            datagram(out().payload(b"none").unsummed(), back().payload(b"none").unsummed());
            // Sums that come out as zero afterwards, and those that are already "minus zero" before.
            let zero = |packet: Packet| vanishing(packet, client(port), at(GATEWAY, server_port));
            datagram(zero(out()), back());
            datagram(out(), vanishing(back(), at(FAR, dport), client(port)));
            datagram(vanishing(out(), client(port), at(FAR, dport)), back());
        }
    });
}

/// The packet with two bytes of payload that make its checksum zero, which is sent as 0xffff, between these ends.
fn vanishing(packet: Packet, from: SocketAddrV4, to: SocketAddrV4) -> Packet {
    let sum_between = |payload: [u8; 2]| {
        let ip = packet.clone().payload(&payload).between(from, to).ip();
        u16::from_be_bytes([ip[26], ip[27]])
    };
    let needed = sum_between([0, 0]);
    let payload = needed.to_be_bytes();
    assert_eq!(sum_between(payload), 0xffff);
    packet.payload(&payload)
}

/// The server's answer may leave from any address of the gateway, but from no other.
#[test]
fn udp_answers_from_another_address() {
    Bench::new(&["udp dnat to 192.168.178.3"]).scenes(|port, ingress, egress| {
        let asked = Packet::udp(client(port), at(FAR, 53)).payload(b"question");
        let answer = |from| Packet::udp(at(from, 53), client(port)).payload(b"answer");
        ingress.rewrites(&asked, &asked.clone().between(client(port), at(SECOND, 53)));
        for (question, from) in [(0, SECOND), (1, GATEWAY), (2, GATEWAY), (3, SECOND)] {
            if question == 1 {
                // The second question confirms the flow: its index entries move with it.
                ingress.rewrites(&asked, &asked.clone().between(client(port), at(SECOND, 53)));
            }
            egress.rewrites(&answer(from), &answer(FAR));
        }
        egress.passes("a stranger's answer", &answer([10, 9, 9, 2].into()).frame());
        egress.passes("another port's answer", &Packet::udp(at(GATEWAY, 54), client(port)).frame());
        // A direct question from the same port gets another one.
        let direct = Packet::udp(client(port), at(GATEWAY, 53)).payload(b"direct");
        let outcome = ingress.program.run(&direct.frame(), ingress.sums);
        let Inner::Udp { sport, .. } = Packet::read(&outcome.frame).unwrap().inner else { panic!("not UDP") };
        assert_ne!(sport, port, "only the port tells the two apart");
        let answer = Packet::udp(at(GATEWAY, 53), client(sport)).payload(b"direct answer");
        egress.rewrites(&answer, &answer.clone().between(at(GATEWAY, 53), client(port)));
    });
}

#[test]
fn pings() {
    Bench::new(&[]).scenes(|id, ingress, egress| {
        for (sequence, payload) in [(1, &b""[..]), (2, b"odd"), (3, &[0xaa; 1400])] {
            let asked = Packet::icmp(CLIENT, FAR, 8, id, sequence).payload(payload);
            let answer = Packet::icmp(FAR, CLIENT, 0, id, sequence).payload(payload);
            both_ways(ingress, egress, 0, asked, answer, 0);
        }
    });
}

#[test]
fn ip_options_and_every_header_field_stay() {
    Bench::new(&[]).scenes(|port, ingress, egress| {
        for words in 1..=10u16 {
            let options = vec![1; usize::from(words) * 4];
            let port = port + words;
            let asked = Packet::tcp(client(port), at(FAR, 80), SYN).options(&options);
            let answer = Packet::tcp(at(FAR, 80), client(port), SYN | ACK).options(&options);
            both_ways(ingress, egress, port, asked, answer, 80);
            let asked = Packet::udp(client(port), at(FAR, 53)).options(&options).payload(b"x");
            let answer = Packet::udp(at(FAR, 53), client(port)).options(&options).payload(b"yy");
            both_ways(ingress, egress, port, asked, answer, 53);
        }
        for (n, (ttl, tos, fragment, id)) in
            [(1, 0, 0x4000, 0), (255, 0xff, 0, 0xffff), (64, 0x2e << 2, 0x4000, 1)].into_iter().enumerate()
        {
            let port = port + 20 + n as u16;
            let change = |packet: Packet| Packet { ttl, tos, fragment, id, ..packet };
            let asked = change(Packet::udp(client(port), at(FAR, 53)).payload(b"x"));
            let answer = change(Packet::udp(at(FAR, 53), client(port)).payload(b"x"));
            both_ways(ingress, egress, port, asked, answer, 53);
        }
    });
}

#[test]
fn what_is_not_ours_to_rewrite_passes_untouched() {
    Bench::new(&[]).scenes(|port, ingress, egress| {
        let to = |ip: [u8; 4], dport| Packet::udp(client(port), at(ip.into(), dport)).payload(b"x");
        let from = |ip: [u8; 4]| Packet::udp(at(ip.into(), port), at(FAR, 53)).payload(b"x");
        for (what, packet) in [
            ("the gateway", to(GATEWAY.octets(), 53)),
            ("its second address", to(SECOND.octets(), 53)),
            ("broadcast", to([255, 255, 255, 255], 9)),
            ("the network's broadcast", to([192, 168, 178, 255], 9)),
            ("DHCP", Packet::udp(at([0, 0, 0, 0].into(), 68), at([255; 4].into(), 67)).payload(b"x")),
            ("multicast", to([224, 0, 0, 251], 5353)),
            ("high multicast", to([239, 255, 255, 250], 1900)),
            ("link-local", to([169, 254, 169, 254], 80)),
            ("loopback", to([127, 0, 0, 1], 80)),
            ("nowhere", to([0, 0, 0, 0], 80)),
            ("from the gateway itself", from(GATEWAY.octets())),
            ("from loopback", from([127, 0, 0, 1])),
            ("from multicast", from([224, 0, 0, 1])),
            ("from broadcast", from([255; 4])),
            ("from nowhere", from([0; 4])),
            ("ICMP unreachable", Packet::icmp(CLIENT, FAR, 3, 0, 0).payload(&to(FAR.octets(), 53).ip())),
            ("ICMP time exceeded", Packet::icmp(CLIENT, FAR, 11, 0, 0).payload(&to(FAR.octets(), 53).ip())),
            ("a ping's answer", Packet::icmp(CLIENT, FAR, 0, port, 1)),
            ("DCCP", Packet::other(CLIENT.into(), FAR.into(), 33).payload(&[0; 40])),
            ("IGMP", Packet::other(CLIENT.into(), [224, 0, 0, 22].into(), 2).payload(&[0; 8])),
        ] {
            ingress.passes(what, &packet.frame());
        }
        let syn = Packet::tcp(client(port), at(FAR, 80), SYN).frame();
        let with = |at: usize, bytes: &[u8]| {
            let mut frame = syn.clone();
            frame[at..at + bytes.len()].copy_from_slice(bytes);
            frame
        };
        ingress.passes("another host's frame", &with(0, &[2, 0, 0, 0, 0, 9]));
        ingress.passes("a broadcast frame", &with(0, &[0xff; 6]));
        ingress.passes("a multicast frame", &with(0, &[1, 0, 0x5e, 0, 0, 1]));
        ingress.passes("ARP", &with(12, &[8, 6]));
        ingress.passes("unknown ethertype", &with(12, &[0x88, 0xb5]));
        let tagged = [&syn[..12], &[0x81, 0, 0, 100], &syn[12..]].concat();
        ingress.passes("a VLAN's frame", &tagged);
        for what in ["a packet that belongs to no flow", "again"] {
            egress.passes(what, &Packet::tcp(at(GATEWAY, 22), client(port), ACK).payload(b"ssh").frame());
            egress.passes(what, &Packet::udp(at(GATEWAY, 123), client(port)).payload(b"ntp").frame());
            egress.passes(what, &Packet::icmp(GATEWAY, CLIENT, 8, port, 1).frame());
        }
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
    Bench::new(&[]).scenes(|port, ingress, egress| {
        let full = Packet::tcp(client(port), at(FAR, 80), SYN).options(&[1; 8]).tcp_options(&[1; 8]).frame();
        for hook in [ingress, egress] {
            for length in SHORTEST..full.len() {
                hook.passes("a frame cut short", &full[..length]);
            }
        }
        let ip = |change: &dyn Fn(&mut [u8])| {
            let mut frame = full.clone();
            change(&mut frame[14..]);
            frame[24..26].fill(0);
            let header = usize::from(frame[14] & 15) * 4;
            let sum = checksum(&frame[14..frame.len().min(14 + header)]).to_be_bytes();
            frame[24..26].copy_from_slice(&sum);
            frame
        };
        ingress.passes("version 5", &ip(&|ip| ip[0] = 0x57));
        ingress.passes("version 6 in an IPv4 frame", &ip(&|ip| ip[0] = 0x67));
        for words in 0..5 {
            ingress.passes("a header shorter than a header", &ip(&|ip| ip[0] = 0x40 | words));
        }
        ingress.passes(
            "a header longer than the packet",
            &ip(&|ip| {
                ip[0] = 0x4f;
                ip[2..4].copy_from_slice(&40u16.to_be_bytes());
            }),
        );
        for total in [0u16, 19, 20, 28, 31] {
            ingress.passes(
                "a total length without a TCP header",
                &ip(&|ip| {
                    ip[2..4].copy_from_slice(&total.to_be_bytes());
                }),
            );
        }
        ingress.passes(
            "a total length beyond the frame",
            &ip(&|ip| ip[2..4].copy_from_slice(&1500u16.to_be_bytes())),
        );
    });
}

#[test]
fn verdicts_of_rules() {
    let rules = ["tcp dport 25 drop", "udp dport 53 accept", "tcp dport 80 redirect"];
    Bench::new(&rules).scenes(|port, ingress, _| {
        let syn = |dport| Packet::tcp(client(port), at(FAR, dport), SYN);
        ingress.drops(&syn(25));
        ingress.rewrites(&syn(80), &syn(80).between(client(port), at(GATEWAY, 80)));
        ingress.passes("accept", &Packet::udp(client(port), at(FAR, 53)).frame());
        ingress.passes("no rule", &syn(81).frame());
        // The rule is about opening: what is dropped at its first packet has no later ones.
        ingress.passes("no ping rule", &Packet::icmp(CLIENT, FAR, 8, port, 1).frame());
    });
}

/// Transit connections must not be cut: where the device forwards, TCP without state is not ours.
#[test]
fn tcp_in_mid_stream() {
    let picked_up = Bench::new(&[]);
    picked_up.scenes(|port, ingress, egress| {
        let asked = Packet::tcp(client(port), at(FAR, 80), ACK).payload(b"still there?");
        both_ways(ingress, egress, port, asked, Packet::tcp(at(FAR, 80), client(port), ACK), 80);
    });
    let lab = Lab::new();
    lab.gateway.sysctl("net/ipv4/ip_forward", "1");
    Bench::on(lab, &[]).scenes(|port, ingress, _| {
        ingress.passes("transit", &Packet::tcp(client(port), at(FAR, 80), ACK).payload(b"x").frame());
        ingress.passes("transit", &Packet::tcp(client(port), at(FAR, 80), FIN | ACK).frame());
        ingress.passes("transit", &Packet::tcp(client(port), at(FAR, 80), RST).frame());
    });
}

/// One client port to many destinations: all but the first get another port, and all get theirs back.
#[test]
fn clashing_ports_are_exchanged_and_restored() {
    Bench::new(&[]).scenes(|port, ingress, egress| {
        let mut given = std::collections::BTreeSet::new();
        for n in 1..=40 {
            let far = at(Ipv4Addr::new(20, 0, 0, n), 80);
            let asked = Packet::tcp(client(port), far, SYN);
            let outcome = ingress.program.run(&asked.frame(), ingress.sums);
            let seen = Packet::read(&outcome.frame).unwrap();
            let Inner::Tcp { sport, .. } = seen.inner else { panic!("{seen}") };
            assert_eq!(seen, asked.clone().between(client(sport), at(GATEWAY, 80)), "only ends change");
            assert!(given.insert(sport), "port {sport} twice");
            assert!(sport == port || sport >= 61_000, "{sport}: no client of this machine's own is there");
            let answer = Packet::tcp(at(GATEWAY, 80), client(sport), SYN | ACK);
            egress.rewrites(&answer, &answer.clone().between(far, client(port)));
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
    let mut state = 1u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let (mut changed, mut dropped) = (0, 0);
    bench.lab.gateway.within(|| {
        for n in 0..20_000 {
            let (from, to) = (client(1000 + (n % 500) as u16), at(FAR, 1 + random(100) as u16));
            let packet = match random(5) {
                0 => Packet::tcp(from, to, SYN),
                1 => Packet::tcp(from, to, ACK | PSH).payload(b"some payload").options(&[1; 12]),
                2 => Packet::udp(from, to).payload(&vec![5; random(100)]),
                3 => Packet::icmp(CLIENT, FAR, 8, 5, 6).payload(&[6; 21]),
                _ => Packet::udp(from, at(GATEWAY, 53)).reversed().payload(b"back"),
            };
            let mut frame = packet.frame();
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

/// A rewritten packet differs in its ends and checksums only, and is as right as it was.
fn judge(before: &[u8], after: &[u8]) {
    let header = usize::from(before[14] & 15) * 4;
    let l4 = 14 + header;
    let (ports, sum) = match before[23] {
        6 => (l4..l4 + 4, l4 + 16..l4 + 18),
        17 => (l4..l4 + 4, l4 + 6..l4 + 8),
        _ => (l4 + 4..l4 + 6, l4 + 2..l4 + 4),
    };
    let may = |at: usize| (24..34).contains(&at) || ports.contains(&at) || sum.contains(&at);
    let wrong = (0..before.len()).find(|at| before[*at] != after[*at] && !may(*at));
    assert_eq!(wrong, None, "byte changed that may not\n{before:02x?}\n{after:02x?}");
    if let Ok(packet) = Packet::read(before) {
        let read = Packet::read(after).unwrap_or_else(|fault| panic!("{packet}: {fault}"));
        assert!(matches!(read.src, IpAddr::V4(_)));
    }
}
