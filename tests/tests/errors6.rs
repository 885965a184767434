// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! ICMPv6 errors through the running programs, as errors.rs does it for IPv4: each is built anew around the packet that its
//! receiver had sent, extension headers included.
use e2e::bench::{Bench, Hook};
use e2e::lab::{CLIENT6, GATEWAY6};
use e2e::packet::{checksum, Inner, Packet, ACK, PSH, SYN};
use e2e::six::{
    at6, both_ways6, client6, destination_options, extended, fragment, framed, hop_by_hop, Extension, FAR6,
};
use e2e::testrun::UNSPEC;
use std::net::{IpAddr, Ipv6Addr};

/// A router on the way.
const ROUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1);

/// Types, codes and second words: unreachable by route, rule and port, too big, time exceeded, and a wrong parameter.
const KINDS: [(u8, u8, u32); 6] = [(1, 0, 0), (1, 1, 0), (1, 4, 0), (2, 0, 1280), (3, 0, 0), (4, 1, 40)];

/// The error of `kind` that `from` sends to `to`, with what it quotes, from the IP header on.
fn error(kind: (u8, u8, u32), from: Ipv6Addr, to: IpAddr, quoted: &[u8]) -> Packet {
    let inner = Inner::Icmp { kind: kind.0, code: kind.1, rest: kind.2.to_be_bytes() };
    Packet { inner, ..Packet::other(from.into(), to, 58) }.payload(quoted)
}

/// The first bytes of a packet: its headers of 40 bytes and those that follow, and `length` bytes above.
fn cut(packet: &Packet, chain: &[Extension], length: usize) -> Vec<u8> {
    let mut ip = extended(&packet.ip(), chain);
    let headers: usize = 40 + chain.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
    ip.truncate(headers + length);
    ip
}

/// What the client asked and what the server saw of it, what the server answered and what the client heard.
struct Talk {
    asked: Packet,
    served: Packet,
    answer: Packet,
    heard: Packet,
}

fn talks(port: u16, ingress: &Hook<'_>, egress: &Hook<'_>) -> Vec<Talk> {
    let (web, dns) = (at6(FAR6, 80), at6(FAR6, 53));
    let echo = |kind, src: Ipv6Addr, dst: Ipv6Addr| {
        let mut packet = Packet::echo(src.into(), dst.into(), port, 1).payload(b"ping");
        let Inner::Icmp { kind: set, .. } = &mut packet.inner else { panic!("{packet}") };
        *set = kind;
        packet
    };
    let udp = |from, to| Packet::udp(from, to).payload(b"something asked or answered");
    let questions = [
        (Packet::tcp(client6(port), web, SYN), Packet::tcp(web, client6(port), SYN | ACK), 8080),
        (udp(client6(port), dns), udp(dns, client6(port)), 53),
        (udp(client6(port), dns).unsummed(), udp(dns, client6(port)).unsummed(), 53),
        (echo(128, CLIENT6, FAR6), echo(129, FAR6, CLIENT6), 0),
    ];
    let mut talks = Vec::new();
    for (asked, heard, server_port) in questions {
        both_ways6(ingress, egress, port, asked.clone(), heard.clone(), server_port);
        let server = at6(GATEWAY6, server_port);
        for size in [0, 1, 700] {
            let of = |packet: &Packet, set| {
                let mut packet = packet.clone().payload(&vec![0x5a; size]);
                if let Inner::Tcp { flags, .. } = &mut packet.inner {
                    *flags = set;
                }
                packet
            };
            let (asked, heard) = (of(&asked, ACK | PSH), of(&heard, ACK));
            talks.push(Talk {
                served: asked.clone().between(client6(port), server),
                answer: heard.clone().between(server, client6(port)),
                asked,
                heard,
            });
        }
    }
    talks
}

fn bench() -> Bench {
    Bench::new(&["tcp dport 80 redirect to :8080", "redirect"])
}

#[test]
fn errors_are_translated_outside_and_inside() {
    let chains: [Vec<Extension>; 4] = [
        vec![],
        vec![hop_by_hop(), destination_options(3)],
        vec![fragment(0, true)],
        vec![destination_options(1); 6],
    ];
    bench().scenes(|port, ingress, egress| {
        for talk in talks(port, ingress, egress) {
            for kind in KINDS {
                for (chain, length) in chains.iter().flat_map(|c| [8, 20, 27, 548].map(|n| (c, n))) {
                    let quote = |packet| cut(packet, chain, length);
                    // About the question: the client must find its own packet in it, whoever sent the error.
                    for from in [GATEWAY6, ROUTER6] {
                        let leaves = error(kind, from, talk.served.src, &quote(&talk.served));
                        egress.rewrites(&leaves, &error(kind, FAR6, talk.asked.src, &quote(&talk.asked)));
                    }
                    // About the answer, from the client or from a router before it: the server must find its own.
                    for from in [CLIENT6, ROUTER6] {
                        let arrives = error(kind, from, talk.heard.src, &quote(&talk.heard));
                        ingress.rewrites(&arrives, &error(kind, from, talk.answer.src, &quote(&talk.answer)));
                    }
                }
            }
        }
    });
}

/// An error may itself come behind extension headers.
#[test]
fn errors_behind_extension_headers() {
    bench().scenes(|port, ingress, egress| {
        for talk in talks(port, ingress, egress) {
            let chain = [destination_options(2)];
            let leaves = error(KINDS[2], GATEWAY6, talk.served.src, &cut(&talk.served, &[], 60));
            let expected = error(KINDS[2], FAR6, talk.asked.src, &cut(&talk.asked, &[], 60));
            egress.makes("an error", &extended(&leaves.ip(), &chain), &extended(&expected.ip(), &chain));
            // Where its quotation's transport header begins within the first 2,047 bytes, and where it does not.
            for units in [236, 243] {
                let chain = [destination_options(units)];
                egress.makes(
                    "a deep error",
                    &extended(&leaves.ip(), &chain),
                    &extended(&expected.ip(), &chain),
                );
            }
            for units in [244, 249] {
                // The first bytes of that header, where one would look who takes the offset modulo 2,048.
                let mut frame = framed(&extended(&leaves.ip(), &[destination_options(units)]));
                frame[6..12].copy_from_slice(&talk.served.ip()[40..46]);
                egress.passes("a deeper error", &frame);
            }
        }
    });
}

/// Where the flow had to take another client port, the quoted one is restored, too.
#[test]
fn exchanged_ports_are_restored_inside() {
    bench().scenes(|port, ingress, egress| {
        let first = Packet::udp(client6(port), at6(FAR6, 53)).payload(b"first");
        ingress.rewrites(&first, &first.clone().between(client6(port), at6(GATEWAY6, 53)));
        for n in 1..20 {
            let far = Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, n);
            let asked = Packet::udp(client6(port), at6(far, 53)).payload(b"second");
            let served = Packet::read(&ingress.program.run(&asked.frame(), ingress.sums).frame).unwrap();
            let Inner::Udp { sport, .. } = served.inner else { panic!("{served}") };
            assert_ne!(sport, port);
            let leaves = error(KINDS[2], GATEWAY6, CLIENT6.into(), &cut(&served, &[], 14));
            egress.rewrites(&leaves, &error(KINDS[2], far, CLIENT6.into(), &cut(&asked, &[], 14)));
        }
    });
}

#[test]
fn errors_that_are_not_ours_or_lie_pass_untouched() {
    bench().scenes(|port, ingress, egress| {
        let asked = Packet::tcp(client6(port), at6(FAR6, 80), SYN);
        let served = asked.clone().between(client6(port), at6(GATEWAY6, 8080));
        ingress.rewrites(&asked, &served);
        let heard = asked.clone().reversed();
        let arrives = error(KINDS[2], CLIENT6, FAR6.into(), &heard.ip());
        let leaves = error(KINDS[2], GATEWAY6, CLIENT6.into(), &served.ip());
        for (hook, right) in [(ingress, &arrives), (egress, &leaves)] {
            let full = right.frame();
            assert_ne!(hook.program.run(&full, hook.sums).frame, full, "{right}");
            for length in 54..full.len() {
                hook.passes("an error cut short", &full[..length]);
            }
            for quoted in 0..48 {
                let cut = Packet { payload: right.payload[..quoted].to_vec(), ..right.clone() };
                hook.passes("a short quotation", &cut.frame());
            }
            let with = |at: usize, byte: u8| {
                let mut packet = right.clone();
                packet.payload[at] = byte;
                packet.frame()
            };
            hook.passes("quoting IPv4", &with(0, 0x45));
            hook.passes("quoting another protocol", &with(6, 47));
            hook.passes("quoting an extension header that is none", &with(6, 60));
            hook.passes("quoting another flow's port", &with(40, 0xee));
            hook.passes("quoting another source", &with(20, 1));
            hook.passes("quoting another destination", &with(39, 0xaa));
            for kind in [0, 5, 100, 127, 130, 131, 143, 200] {
                let other = Packet { inner: Inner::Icmp { kind, code: 0, rest: [0; 4] }, ..right.clone() };
                hook.passes("no error about a packet", &other.frame());
            }
        }
        let later = cut(&served, &[fragment(1, true)], 20);
        egress.passes("a later fragment", &error(KINDS[4], GATEWAY6, CLIENT6.into(), &later).frame());
        ingress.passes("its own way", &error(KINDS[2], CLIENT6, FAR6.into(), &asked.ip()).frame());
        egress.passes("its own way", &error(KINDS[2], GATEWAY6, CLIENT6.into(), &heard.ip()).frame());
        assert_eq!(ingress.program.run(&asked.frame(), ingress.sums).verdict, UNSPEC);
    });
}

/// Whatever damage to a right error: no drop, and what was summed right stays so.
#[test]
fn damaged_errors() {
    let sums_up = |frame: &[u8]| {
        let payload = &frame[54..];
        let pseudo = [&frame[22..54], &(payload.len() as u32).to_be_bytes(), &[0, 0, 0, 58]].concat();
        checksum(&[&pseudo, payload].concat()) == 0
    };
    bench().scenes(|port, ingress, egress| {
        let mut state = 9u64 + u64::from(port);
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        let (mut runs, mut changed) = (0, 0);
        for talk in talks(port, ingress, egress) {
            for n in 0..100 {
                let (hook, packet) = match n % 2 {
                    0 => (egress, error(KINDS[2], GATEWAY6, CLIENT6.into(), &cut(&talk.served, &[], 60))),
                    _ => (ingress, error(KINDS[2], CLIENT6, FAR6.into(), &cut(&talk.heard, &[], 60))),
                };
                let mut packet = packet;
                for _ in 0..random(3) {
                    let at = random(packet.payload.len());
                    packet.payload[at] = random(256) as u8;
                }
                let frame = framed(&packet.ip());
                assert!(sums_up(&frame));
                let outcome = hook.program.run(&frame, hook.sums);
                assert_eq!(outcome.verdict, UNSPEC, "{frame:02x?}");
                assert!(sums_up(&outcome.frame), "{frame:02x?}\n{:02x?}", outcome.frame);
                runs += 1;
                changed += usize::from(outcome.frame != frame);
            }
        }
        assert!(changed > runs / 4, "only {changed} of {runs} errors were translated");
    });
}
