// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! ICMP errors through the running programs: an error that quotes a packet of a flow, to the error that its receiver needs.
//!
//! Each one is built anew around the packet that its receiver had sent, quoted as long as the error quotes; the sums of the
//! error, of the quoted header and of what it carries are computed over the whole.
use e2e::bench::{at, both_ways, client, Bench, Hook, FAR};
use e2e::lab::{CLIENT, GATEWAY};
use e2e::packet::{Inner, Packet, ACK, PSH, SYN};
use e2e::testrun::{Sums, SHOT, UNSPEC};
use std::net::Ipv4Addr;

/// A router on the way.
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 1);

/// Types, codes and the second words of errors: port unreachable, fragmentation needed, time exceeded and the others.
const KINDS: [(u8, u8, [u8; 4]); 7] = [
    (3, 3, [0; 4]),
    (3, 4, [0, 0, 5, 0]),
    (3, 13, [0, 32, 0, 0]),
    (4, 0, [0; 4]),
    (11, 0, [0; 4]),
    (11, 1, [0; 4]),
    (12, 0, [20, 0, 0, 0]),
];

/// The error of `kind` that `from` sends to the sender of `about`, with the first `length` bytes above its IP header.
fn error(kind: (u8, u8, [u8; 4]), from: Ipv4Addr, about: &Packet, length: usize) -> Packet {
    let header = 20 + about.options.len().next_multiple_of(4);
    let ip = about.ip();
    let quoted = &ip[..ip.len().min(header + length)];
    let inner = Inner::Icmp { kind: kind.0, code: kind.1, rest: kind.2 };
    Packet { inner, ..Packet::other(from.into(), about.src, 1) }.payload(quoted)
}

/// A conversation that a flow was opened for: what the client asked, and what the server saw of it; and the same of the
/// answer.
struct Talk {
    asked: Packet,
    served: Packet,
    answer: Packet,
    heard: Packet,
}

/// Conversations of each protocol from client ports `port` on, with and without IP options and checksums.
fn talks(port: u16, ingress: &Hook<'_>, egress: &Hook<'_>) -> Vec<Talk> {
    let web = (client(port), at(FAR, 80));
    let dns = (client(port), at(FAR, 53));
    let questions = [
        (Packet::tcp(web.0, web.1, SYN), Packet::tcp(web.1, web.0, SYN | ACK), 8080),
        (Packet::udp(dns.0, dns.1).payload(b"question"), Packet::udp(dns.1, dns.0).payload(b"an answer"), 53),
        (
            Packet::icmp(CLIENT, FAR, 8, port, 1).payload(b"ping"),
            Packet::icmp(FAR, CLIENT, 0, port, 1).payload(b"ping"),
            0,
        ),
    ];
    let mut talks = Vec::new();
    for (asked, heard, server_port) in questions {
        both_ways(ingress, egress, port, asked.clone(), heard.clone(), server_port);
        let server = at(GATEWAY, server_port);
        for options in [&[][..], &[7, 7, 4, 0, 0, 0, 0, 0], &[1; 40]] {
            for size in [0, 1, 700] {
                let of = |packet: &Packet, flags| {
                    let mut packet = packet.clone().options(options).payload(&vec![0x5a; size]);
                    if let Inner::Tcp { flags: set, .. } = &mut packet.inner {
                        *set = flags;
                    }
                    packet
                };
                let (asked, heard) = (of(&asked, ACK | PSH), of(&heard, ACK));
                talks.push(Talk {
                    served: asked.clone().between(client(port), server),
                    answer: heard.clone().between(server, client(port)),
                    asked,
                    heard,
                });
            }
        }
    }
    let (asked, heard) = (Packet::udp(dns.0, dns.1).unsummed(), Packet::udp(dns.1, dns.0).unsummed());
    let server = at(GATEWAY, 53);
    talks.push(Talk {
        served: asked.clone().between(client(port), server),
        answer: heard.clone().between(server, client(port)),
        asked,
        heard,
    });
    talks
}

fn bench() -> Bench {
    Bench::new(&["tcp dport 80 redirect to :8080", "redirect"])
}

#[test]
fn errors_are_translated_outside_and_inside() {
    bench().scenes(|port, ingress, egress| {
        for talk in talks(port, ingress, egress) {
            for kind in KINDS {
                for quoted in [8, 20, 27, 28, 548] {
                    // About the question: the client must find its own packet in it, whoever sent the error.
                    for from in [GATEWAY, ROUTER] {
                        let leaves = error(kind, from, &talk.served, quoted);
                        egress.rewrites(&leaves, &error(kind, FAR, &talk.asked, quoted));
                    }
                    // About the answer, from the client or from a router before it: the server must find its own.
                    for from in [CLIENT, ROUTER] {
                        let arrives = error(kind, from, &talk.heard, quoted);
                        let mut expected = error(kind, from, &talk.answer, quoted);
                        expected.dst = GATEWAY.into();
                        ingress.rewrites(&arrives, &expected);
                    }
                }
            }
        }
    });
}

/// Where the flow had to take another client port, the quoted one is restored, too.
#[test]
fn exchanged_ports_are_restored_inside() {
    bench().scenes(|port, ingress, egress| {
        let first = Packet::udp(client(port), at(FAR, 53)).payload(b"first");
        ingress.rewrites(&first, &first.clone().between(client(port), at(GATEWAY, 53)));
        for n in 1..20 {
            let far = Ipv4Addr::new(20, 0, 0, n);
            let asked = Packet::udp(client(port), at(far, 53)).payload(b"second");
            let served = Packet::read(&ingress.program.run(&asked.frame(), ingress.sums).frame).unwrap();
            let Inner::Udp { sport, .. } = served.inner else { panic!("{served}") };
            assert_ne!(sport, port);
            egress.rewrites(&error(KINDS[0], GATEWAY, &served, 14), &error(KINDS[0], far, &asked, 14));
            let heard = Packet::udp(at(far, 53), client(port));
            let answer = heard.clone().between(at(GATEWAY, 53), client(sport));
            let mut expected = error(KINDS[0], CLIENT, &answer, 8);
            expected.dst = GATEWAY.into();
            ingress.rewrites(&error(KINDS[0], CLIENT, &heard, 8), &expected);
        }
    });
}

/// Pieces with the first eight bytes still name their flow; later ones do not.
#[test]
fn quoted_fragments() {
    bench().scenes(|port, ingress, egress| {
        let asked = Packet::udp(client(port), at(FAR, 53)).payload(&[9; 64]);
        ingress.rewrites(&asked, &asked.clone().between(client(port), at(GATEWAY, 53)));
        let piece = |packet: &Packet, fragment| Packet { fragment, ..packet.clone() };
        let served = asked.clone().between(client(port), at(GATEWAY, 53));
        let leaves = error(KINDS[5], GATEWAY, &piece(&served, 0x2000), 28);
        egress.rewrites(&leaves, &error(KINDS[5], FAR, &piece(&asked, 0x2000), 28));
        for later in [1, 0x2001, 185] {
            egress.passes("a later fragment", &error(KINDS[5], GATEWAY, &piece(&served, later), 28).frame());
        }
    });
}

#[test]
fn errors_that_are_not_ours_or_lie_pass_untouched() {
    bench().scenes(|port, ingress, egress| {
        let asked = Packet::tcp(client(port), at(FAR, 80), SYN);
        let served = asked.clone().between(client(port), at(GATEWAY, 8080));
        ingress.rewrites(&asked, &served);
        let heard = asked.clone().reversed();
        let arrives = error(KINDS[0], CLIENT, &heard, 20);
        let leaves = error(KINDS[0], GATEWAY, &served, 20);
        for (hook, right) in [(ingress, &arrives), (egress, &leaves)] {
            let full = right.frame();
            assert_ne!(hook.program.run(&full, hook.sums).frame, full, "{right}");
            for length in 34..full.len() {
                hook.passes("an error cut short", &full[..length]);
            }
            // Cut as IP says it, with the quoted part too short to name ports.
            for quoted in 0..28 {
                let cut = Packet { payload: right.payload[..quoted].to_vec(), ..right.clone() };
                hook.passes("a short quotation", &cut.frame());
            }
            let with = |at: usize, byte: u8| {
                let mut packet = right.clone();
                packet.payload[at] = byte;
                packet.frame()
            };
            hook.passes("quoting IPv6", &with(0, 0x65));
            hook.passes("quoting a header that is none", &with(0, 0x44));
            hook.passes("quoting a header longer than the quotation", &with(0, 0x4f));
            hook.passes("quoting another protocol", &with(9, 47));
            hook.passes("quoting another flow's port", &with(20, 0xee));
            hook.passes("quoting another source", &with(15, 1));
            hook.passes("quoting another destination", &with(19, 1));
            for kind in [0, 5, 9, 10, 13, 14, 17, 40] {
                let other = Packet { inner: Inner::Icmp { kind, code: 0, rest: [0; 4] }, ..right.clone() };
                hook.passes("no error about a packet", &other.frame());
            }
        }
        ingress.passes("the question quoted on its own way", &error(KINDS[0], CLIENT, &asked, 20).frame());
        egress.passes("the answer quoted on its own way", &error(KINDS[0], GATEWAY, &heard, 20).frame());
        ingress.passes("a question about an error's answer", &{
            let echo = Packet::icmp(FAR, CLIENT, 8, port, 1);
            error(KINDS[0], CLIENT, &echo, 20).frame()
        });
        assert_eq!(ingress.program.run(&asked.frame(), ingress.sums).verdict, UNSPEC);
    });
}

/// Whatever damage: no drop, and nothing changes but addresses, ports and sums, outside and inside.
#[test]
fn damaged_errors() {
    let bench = bench();
    let mut state = 7u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut frames = Vec::new();
    for sums in [Sums::None, Sums::Complete] {
        let (ingress, egress) = (bench.program("ingress"), bench.program("egress"));
        let hook = |program| Hook { program, sums };
        for talk in talks(4000, &hook(&ingress), &hook(&egress)) {
            for _ in 0..80 {
                let quoted = 8 + random(40);
                let (leaves, arrives) = (
                    error(KINDS[0], GATEWAY, &talk.served, quoted),
                    error(KINDS[0], CLIENT, &talk.heard, quoted),
                );
                for (hook, packet) in [("egress", leaves), ("ingress", arrives)] {
                    let mut frame = packet.frame();
                    for _ in 0..random(4) {
                        let at = 14 + random(frame.len() - 14);
                        frame[at] = random(256) as u8;
                    }
                    frames.push((hook, sums, frame));
                }
            }
        }
    }
    let (ingress, egress) = (bench.program("ingress"), bench.program("egress"));
    let mut changed = 0;
    bench.lab.gateway.within(|| {
        for (hook, sums, frame) in &frames {
            let program = if *hook == "ingress" { &ingress } else { &egress };
            let outcome = program.run_here(frame, *sums).unwrap_or_else(|fault| panic!("{fault}"));
            // Damage can make of it a later fragment whose first one nobody has seen, or a protocol that clashes.
            let other = frame[20] & 0x1f != 0 || frame[21] != 0 || frame[23] != 1;
            assert!(outcome.verdict == UNSPEC || other && outcome.verdict == SHOT, "{frame:02x?}");
            changed += usize::from(outcome.frame != *frame);
            if Packet::read(frame).is_ok() {
                Packet::read(&outcome.frame).unwrap_or_else(|fault| panic!("{fault} from {frame:02x?}"));
            }
            let inner = 14 + usize::from(frame[14] & 15) * 4 + 8;
            let above = inner + usize::from(frame.get(inner).unwrap_or(&0) & 15) * 4;
            let may = |at: usize| {
                (24..34).contains(&at)
                    || (inner - 8..inner).contains(&at)
                    || (inner + 10..inner + 20).contains(&at)
                    || (above..above + 20).contains(&at)
            };
            let wrong = (0..frame.len()).find(|at| frame[*at] != outcome.frame[*at] && !may(*at));
            assert_eq!(wrong, None, "byte changed that may not\n{frame:02x?}\n{:02x?}", outcome.frame);
        }
    });
    assert!(changed > frames.len() / 4, "only {changed} of {} errors were translated", frames.len());
}
