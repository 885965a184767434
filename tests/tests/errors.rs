// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! ICMP errors of both families through the running programs: an error that quotes a packet of a flow, to the error that its
//! receiver needs.
//!
//! Each one is built anew around the packet that its receiver had sent, quoted as long as the error quotes; the sums of the
//! error, of the quoted header and of what it carries are computed over the whole.
use e2e::bench::{both_ways, Bench, Hook};
use e2e::family::Family;
use e2e::packet::{checksum, Inner, Packet, SYN};
use e2e::quote::{self, error, kinds, router, unreachable, Talk, RULES};
use e2e::random::Random;
use e2e::six::{destination_options, extended, fragment, framed, hop_by_hop, Extension};
use e2e::testrun::{SHOT, UNSPEC};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Runs the scene in each family, see [`Bench::scenes`].
fn scenes(scene: impl Fn(Family, u16, &Hook<'_>, &Hook<'_>)) {
    for family in Family::BOTH {
        Bench::new(&RULES).scenes(|port, ingress, egress| scene(family, port, ingress, egress));
    }
}

/// Conversations of each protocol, opened, and what is said in them later.
fn talks(family: Family, port: u16, ingress: &Hook<'_>, egress: &Hook<'_>) -> Vec<Talk> {
    let mut talks = Vec::new();
    for talk in quote::talks(family, port) {
        both_ways(ingress, egress, &talk);
        talks.extend(talk.later());
    }
    talks
}

/// The client's port, the address that it asks, and the server there.
fn ends(family: Family, port: u16, dport: u16) -> [SocketAddr; 3] {
    [(family.client(), port), (family.far(), dport), (family.gateway(), dport)].map(SocketAddr::from)
}

/// A SYN, what the server sees of it, and what the client hears.
fn syn(family: Family, port: u16) -> Talk {
    let [client, far, _] = ends(family, port, 80);
    let asked = Packet::tcp(client, far, SYN);
    Talk::new(asked.clone(), asked.reversed(), 8080)
}

#[test]
fn errors_are_translated_outside_and_inside() {
    let chains: [Vec<Extension>; 4] = [
        vec![],
        vec![hop_by_hop(), destination_options(3)],
        vec![fragment(0, true)],
        vec![destination_options(1); 6],
    ];
    scenes(|family, port, ingress, egress| {
        let chains = &chains[..family.pick(1, chains.len())];
        for (talk, kind) in talks(family, port, ingress, egress)
            .iter()
            .flat_map(|t| kinds(family).iter().map(move |k| (t, *k)))
        {
            for (chain, length) in chains.iter().flat_map(|c| [8, 20, 27, 28, 548].map(|n| (c, n))) {
                // About the question: the client must find its own packet in it, whoever sent the error.
                for from in [family.gateway(), router(family)] {
                    let leaves = error(kind, from, &talk.served, chain, length);
                    egress.rewrites(&leaves, &error(kind, family.far(), &talk.asked, chain, length));
                }
                // About the answer, from the client or from a router before it: the server must find its own.
                for from in [family.client(), router(family)] {
                    let arrives = error(kind, from, &talk.heard, chain, length);
                    ingress.rewrites(&arrives, &error(kind, from, &talk.answer, chain, length));
                }
            }
        }
    });
}

/// An error may itself come behind extension headers.
#[test]
fn errors_behind_extension_headers() {
    scenes(|family, port, ingress, egress| {
        if family == Family::V4 {
            return;
        }
        for talk in talks(family, port, ingress, egress) {
            let leaves = error(unreachable(family), family.gateway(), &talk.served, &[], 60);
            let expected = error(unreachable(family), family.far(), &talk.asked, &[], 60);
            // Where its quotation's transport header begins within the first 2,047 bytes, and where it does not.
            for units in [2, 236, 243] {
                let [leaves, expected] =
                    [&leaves, &expected].map(|p| extended(&p.ip(), &[destination_options(units)]));
                egress.makes("an error", &leaves, &expected);
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
    scenes(|family, port, ingress, egress| {
        let [client, far, gateway] = ends(family, port, 53);
        let kind = unreachable(family);
        let first = Packet::udp(client, far).payload(b"first");
        ingress.rewrites(&first, &first.clone().between(client, gateway));
        for n in 1..20_u8 {
            let six = Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, n.into());
            let far: IpAddr = family.pick(Ipv4Addr::new(20, 0, 0, n).into(), six.into());
            let asked = Packet::udp(client, (far, 53)).payload(b"second");
            let served = Packet::read(&ingress.program.run(&asked.frame(), ingress.sums).frame).unwrap();
            let Inner::Udp { sport, .. } = served.inner else { panic!("{served}") };
            assert_ne!(sport, port);
            let leaves = error(kind, family.gateway(), &served, &[], 14);
            egress.rewrites(&leaves, &error(kind, far, &asked, &[], 14));
            let heard = Packet::udp((far, 53), client);
            let answer = heard.clone().between(gateway, (family.client(), sport));
            let arrives = error(kind, family.client(), &heard, &[], 8);
            ingress.rewrites(&arrives, &error(kind, family.client(), &answer, &[], 8));
        }
    });
}

/// Pieces with the first eight bytes still name their flow; later ones do not.
#[test]
fn quoted_fragments() {
    scenes(|family, port, ingress, egress| {
        let [client, far, gateway] = ends(family, port, 53);
        let asked = Packet::udp(client, far).payload(&[9; 64]);
        let served = asked.clone().between(client, gateway);
        ingress.rewrites(&asked, &served);
        // The fragment word, in units of eight bytes, and whether more follow.
        let about = |from, packet: &Packet, offset: u16, more: bool| {
            let piece = Packet { fragment: offset | u16::from(more) << 13, ..packet.clone() };
            let chain = family.pick(Vec::new(), vec![fragment(offset, more)]);
            error(kinds(family)[4], from, &piece, &chain, 28)
        };
        let leaves = about(family.gateway(), &served, 0, true);
        egress.rewrites(&leaves, &about(family.far(), &asked, 0, true));
        for (offset, more) in [(1, false), (1, true), (185, false)] {
            let later = about(family.gateway(), &served, offset, more);
            egress.passes("a later fragment", &later.frame());
        }
    });
}

#[test]
fn errors_that_are_not_ours_or_lie_pass_untouched() {
    scenes(|family, port, ingress, egress| {
        let talk = syn(family, port);
        ingress.rewrites(&talk.asked, &talk.served);
        let (kind, header) = (unreachable(family), family.pick(20, 40));
        let about = |from, packet| error(kind, from, packet, &[], 20);
        let arrives = about(family.client(), &talk.heard);
        let leaves = about(family.gateway(), &talk.served);
        for (hook, right) in [(ingress, &arrives), (egress, &leaves)] {
            let full = right.frame();
            assert_ne!(hook.program.run(&full, hook.sums).frame, full, "{right}");
            for length in 14 + header..full.len() {
                hook.passes("an error cut short", &full[..length]);
            }
            // Cut as IP says it, with the quoted part too short to name ports.
            for quoted in 0..header + 8 {
                let cut = Packet { payload: right.payload[..quoted].to_vec(), ..right.clone() };
                hook.passes("a short quotation", &cut.frame());
            }
            let with = |at: usize, byte: u8| {
                let mut packet = right.clone();
                packet.payload[at] = byte;
                packet.frame()
            };
            let own: &[(&str, usize, u8)] = family.pick(
                &[
                    ("quoting IPv6", 0, 0x65),
                    ("quoting a header that is none", 0, 0x44),
                    ("quoting a header longer than the quotation", 0, 0x4f),
                    ("quoting another protocol", 9, 47),
                    ("quoting another source", 15, 1),
                    ("quoting another destination", 19, 1),
                ],
                &[
                    ("quoting IPv4", 0, 0x45),
                    ("quoting another protocol", 6, 47),
                    ("quoting an extension header that is none", 6, 60),
                    ("quoting another source", 20, 1),
                    ("quoting another destination", 39, 0xaa),
                ],
            );
            for (what, at, byte) in own {
                hook.passes(what, &with(*at, *byte));
            }
            hook.passes("quoting another flow's port", &with(header, 0xee));
            for kind in family.pick([0, 5, 9, 10, 13, 14, 17, 40], [0, 5, 100, 127, 130, 131, 143, 200]) {
                let other = Packet { inner: Inner::Icmp { kind, code: 0, rest: [0; 4] }, ..right.clone() };
                hook.passes("no error about a packet", &other.frame());
            }
        }
        // To whom it must be is said by what it quotes.
        let to = |packet: Packet, dst| Packet { dst, ..packet };
        let own = about(family.client(), &talk.asked);
        ingress.passes("the question quoted on its own way", &own.frame());
        ingress.passes("the same to its receiver", &to(own, family.far()).frame());
        let own = about(family.gateway(), &talk.heard);
        egress.passes("the answer quoted on its own way", &own.frame());
        egress.passes("the same to its receiver", &to(own, family.client()).frame());
        ingress.passes("a question about an error's answer", &{
            let echo = Packet::echo(family.far(), family.client(), port, 1);
            about(family.client(), &echo).frame()
        });
        assert_eq!(ingress.program.run(&talk.asked.frame(), ingress.sums).verdict, UNSPEC);
    });
}

/// Damage anywhere: no error of the kernel's, no drop, and nothing changes but addresses, ports and sums, outside and inside.
#[test]
fn damaged_errors() {
    scenes(|family, port, ingress, egress| {
        let mut random = Random::new(7);
        let (mut runs, mut changed) = (0, 0);
        // Where the ICMP header begins, what is quoted, and what that carries.
        for talk in talks(family, port, ingress, egress) {
            for n in 0..80 {
                let quoted = 8 + random.below(40);
                let (hook, from, about) = match n % 2 {
                    0 => (egress, family.gateway(), &talk.served),
                    _ => (ingress, family.client(), &talk.heard),
                };
                let mut frame = error(unreachable(family), from, about, &[], quoted).frame();
                for _ in 0..random.below(4) {
                    let at = 14 + random.below(frame.len() - 14);
                    frame[at] = random.bits() as u8;
                }
                let outcome = hook.program.run(&frame, hook.sums);
                // Damage can make of it a fragment whose first one nobody has seen, or a protocol that clashes.
                let other =
                    family.pick(frame[20] & 0x1f != 0 || frame[21] != 0 || frame[23] != 1, frame[20] != 58);
                assert!(outcome.verdict == UNSPEC || other && outcome.verdict == SHOT, "{frame:02x?}");
                runs += 1;
                changed += usize::from(outcome.frame != frame);
                if Packet::read(&frame).is_ok() {
                    Packet::read(&outcome.frame).unwrap_or_else(|fault| panic!("{fault} from {frame:02x?}"));
                }
                let words = |at: usize| usize::from(frame.get(at).unwrap_or(&0) & 15) * 4;
                let inner = 8 + family.pick(14 + words(14), 54);
                let above = inner + family.pick(words(inner), 40);
                let own = [family.pick(24..34, 22..54), inner - 8..inner];
                let theirs = [inner + family.pick(10, 8)..inner + family.pick(20, 40), above..above + 20];
                let wrong = (0..frame.len())
                    .filter(|at| !own.iter().chain(&theirs).any(|may| may.contains(at)))
                    .find(|at| frame[*at] != outcome.frame[*at]);
                assert_eq!(wrong, None, "byte changed that may not\n{frame:02x?}\n{:02x?}", outcome.frame);
            }
        }
        assert!(changed > runs / 4, "only {changed} of {runs} errors were translated");
    });
}

/// Damage to what is quoted, in an error that is right by itself: it stays so, and is not dropped.
#[test]
fn right_errors_that_quote_damage() {
    scenes(|family, port, ingress, egress| {
        let mut random = Random::new(9 + u64::from(port));
        let (mut runs, mut changed) = (0, 0);
        for talk in talks(family, port, ingress, egress) {
            for n in 0..100 {
                let (hook, from, about) = match n % 2 {
                    0 => (egress, family.gateway(), &talk.served),
                    _ => (ingress, family.client(), &talk.heard),
                };
                let mut packet = error(unreachable(family), from, about, &[], 60);
                for _ in 0..random.below(3) {
                    let at = random.below(packet.payload.len());
                    packet.payload[at] = random.bits() as u8;
                }
                let frame = packet.frame();
                let outcome = hook.program.run(&frame, hook.sums);
                assert_eq!(outcome.verdict, UNSPEC, "{frame:02x?}");
                assert!(sums_up(family, &frame), "{frame:02x?}");
                assert!(sums_up(family, &outcome.frame), "{frame:02x?}\n{:02x?}", outcome.frame);
                runs += 1;
                changed += usize::from(outcome.frame != frame);
            }
        }
        assert!(changed > runs / 4, "only {changed} of {runs} errors were translated");
    });
}

/// Whether the sum of an error without options is right, whatever it quotes.
fn sums_up(family: Family, frame: &[u8]) -> bool {
    let payload = &frame[family.pick(34, 54)..];
    let length = (payload.len() as u32).to_be_bytes();
    let pseudo = family.pick(Vec::new(), [&frame[22..54], &length, &[0, 0, 0, 58]].concat());
    checksum(&[&pseudo, payload].concat()) == 0
}
