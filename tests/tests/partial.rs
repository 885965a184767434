// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Packets whose checksum a device is to finish (CHECKSUM_PARTIAL), also with the cutting into segments left to it: translated, and
//! finished by the kernel or by whoever reads them, each sum is the one that a model computes over the whole.
use e2e::family::Family;
use e2e::packet::{Inner, Packet, ACK, FIN, PSH};
use e2e::quote::{error, masquerade, refusal, talks, unreachable, Talk, REFUSE, RULES};
use e2e::talk::PATIENCE;
use e2e::taps::{Taps, Way};
use e2e::tun::{Kind, Left, SEGMENTS, SUMS};

/// VIRTIO_NET_HDR_F_DATA_VALID: somebody has looked at the checksum already (CHECKSUM_UNNECESSARY).
const DATA_VALID: u8 = 2;

/// Whoever reads can finish sums and cut, sums only, or nothing.
const READERS: [u32; 3] = [SUMS | SEGMENTS, SUMS, 0];

fn taps(can: u32, rules: &[&str]) -> Taps {
    Taps::new(Kind { header: true, can, ..Kind::default() }, rules)
}

/// The question through ingress and the answer through egress, as sent and as expected; where the server takes the gateway for its
/// client, both through ingress and back.
fn ways(talk: &Talk) -> [(Way, &Packet, &Packet); 2] {
    let masqueraded = talk.served.src != talk.asked.src;
    let [asks, answers] = if masqueraded { [Way::Back; 2] } else { [Way::In, Way::Out] };
    [(asks, &talk.asked, &talk.served), (answers, &talk.answer, &talk.heard)]
}

/// A gateway with servers of its own or, if it `masquerades`, one on its clients' segment, and the conversations that begin there;
/// all of them as far as they can be left to whoever reads.
fn begins(family: Family, can: u32, masquerades: bool) -> (Taps, [Talk; 4]) {
    let rule = masquerade(family);
    let rules = [rule.as_str()];
    let taps = taps(can, if masquerades { &rules[..] } else { &RULES });
    let first = talks(family, 4000);
    if !masquerades {
        return (taps, first);
    }
    let begun = first.map(|talk| taps.masquerades(talk, left_of));
    (taps, begun)
}

/// What can be left of a packet. UDP without a sum, and ICMP, have nothing to finish: they are sent as they are.
fn left_of(packet: &Packet) -> (Left, Vec<u8>) {
    match packet.inner {
        Inner::Udp { summed: false, .. } => (Left::default(), packet.ip()),
        _ => Left::all(packet, 14, None),
    }
}

/// Each family, with each reader, without and with `masquerade`.
fn settings() -> impl Iterator<Item = (Family, u32, bool)> {
    let families = Family::BOTH.into_iter().flat_map(|family| READERS.map(|can| (family, can)));
    families.flat_map(|(family, can)| [false, true].map(|masquerades| (family, can, masquerades)))
}

/// The next packet that comes out, finished if that was left to us, and what was.
#[track_caller]
fn comes(taps: &Taps, way: Way, what: &dyn std::fmt::Debug) -> (Left, Vec<u8>) {
    let (left, ip) = taps.read(way, PATIENCE).unwrap_or_else(|| panic!("{what:?}: nothing came"));
    let mut frame = [&[0; 14][..], &ip].concat();
    left.finish(&mut frame);
    (left, frame.split_off(14))
}

/// With one byte more, each sum is another one, also one that comes out as zero.
fn lengths(talk: &Talk) -> Vec<Talk> {
    let of = |payload: &[u8]| talk.each(|packet| packet.clone().payload(payload));
    let mut all: Vec<Talk> = (0..40).map(|n| of(&vec![0xa5 ^ n; n.into()])).collect();
    // The two bytes that make the sum of what comes out zero.
    for one in [&talk.served, &talk.heard] {
        if let Inner::Udp { summed: true, .. } = one.inner {
            let ip = one.clone().payload(&[0; 2]).ip();
            let at = ip.len() - 4;
            all.push(of(&[ip[at], ip[at + 1]]));
            let ip = of(&[ip[at], ip[at + 1]]);
            assert!([&ip.served, &ip.heard].iter().any(|p| p.ip()[at..at + 2] == [0xff; 2]), "{one}");
        }
    }
    all
}

#[test]
fn whoever_finishes_a_sum_finishes_a_right_one() {
    for (family, can, masquerades) in settings() {
        let (taps, begun) = begins(family, can, masquerades);
        for first in begun {
            for talk in [vec![first.clone()], lengths(&first), first.later()].concat() {
                for (way, sent, expected) in ways(&talk) {
                    let (left, ip) = left_of(sent);
                    taps.write(way, &left, &ip, &[]);
                    let (still, seen) = comes(&taps, way, sent);
                    assert_eq!(seen, expected.ip(), "{family:?} {can:#x} {sent}");
                    // What came unfinished leaves unfinished, where the reader can finish it.
                    let unfinished = left.flags != 0 && can & SUMS != 0;
                    assert_eq!(
                        still.flags & left.flags != 0,
                        unfinished,
                        "{family:?} {can:#x} {sent}: {still:?}"
                    );
                }
            }
        }
    }
}

/// UDP without checksum stays without, and what was found right is not left to anybody, whatever is known of it.
#[test]
fn what_is_finished_stays_finished() {
    for (family, can, masquerades) in settings() {
        let (taps, begun) = begins(family, can, masquerades);
        for flags in [0, DATA_VALID] {
            for first in &begun {
                for talk in [vec![first.clone()], lengths(first)].concat() {
                    for (way, sent, expected) in ways(&talk) {
                        taps.write(way, &Left { flags, ..Left::default() }, &sent.ip(), &[]);
                        let (left, seen) = taps.read(way, PATIENCE).unwrap();
                        assert_eq!(seen, expected.ip(), "{family:?} {can:#x} {flags} {sent}");
                        assert_eq!(left.flags & 1, 0, "{family:?} {can:#x} {flags} {sent}: {left:?}");
                    }
                }
            }
        }
    }
}

/// A packet that a rule refuses becomes its own answer, and takes what was left of it along.
#[test]
fn what_was_left_of_a_refused_packet_is_left_of_the_answer() {
    for (family, can) in Family::BOTH.into_iter().flat_map(|family| READERS.map(|can| (family, can))) {
        let taps = taps(can, &REFUSE);
        let [first, datagram, ..] = talks(family, 4000);
        for (n, talk) in
            [vec![first.clone(), datagram.clone()], lengths(&datagram)].concat().iter().enumerate()
        {
            if n % 20 == 19 {
                // So many answers at once, then a thousand a second.
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            let (left, ip) = Left::all(&talk.asked, 14, None);
            taps.write(Way::In, &left, &ip, &[]);
            let (still, seen) = comes(&taps, Way::Out, &talk.asked);
            assert_eq!(seen, refusal(&talk.asked).ip(), "{can:#x} {}", talk.asked);
            assert_eq!(still.flags & 1 != 0, can & SUMS != 0, "{can:#x} {}: {still:?}", talk.asked);
        }
    }
}

/// An error that quotes a packet whose sum nobody has finished is right itself.
#[test]
fn errors_that_quote_what_was_never_finished() {
    for (family, masquerades) in
        Family::BOTH.into_iter().flat_map(|family| [false, true].map(|m| (family, m)))
    {
        let (taps, begun) = begins(family, 0, masquerades);
        for talk in begun {
            let mut answers = Way::Out;
            for (way, sent, expected) in ways(&talk) {
                taps.write(way, &Left::default(), &sent.ip(), &[]);
                assert_eq!(comes(&taps, way, sent).1, expected.ip());
                answers = way;
            }
            for length in [8, 20, 548] {
                let mut leaves = error(unreachable(family), talk.served.dst, &talk.served, &[], length);
                let (_, quoted) = Left::all(&talk.served, 14, None);
                leaves.payload = quoted[..leaves.payload.len()].to_vec();
                taps.write(answers, &Left::default(), &leaves.ip(), &[]);
                let (_, seen) = comes(&taps, answers, &talk.served);
                let seen = Packet::read_ip(&seen).unwrap_or_else(|fault| panic!("{}: {fault}", talk.served));
                let expected = error(unreachable(family), family.far(), &talk.asked, &[], length);
                assert_eq!((seen.src, seen.dst, &seen.inner), (expected.src, expected.dst, &expected.inner));
                // Headers up to the ports.
                let ports = family.pick(24, 44);
                assert_eq!(seen.payload[..ports], expected.payload[..ports], "{}", talk.asked);
            }
        }
    }
}

/// What the packet is cut into: RFC 9293 and what Linux does (net/ipv4/tcp_offload.c, udp_offload.c, af_inet.c).
fn cut(packet: &Packet, size: usize) -> Vec<Packet> {
    let last = (packet.payload.len() - 1) / size;
    let piece = |(n, payload): (usize, &[u8])| {
        let mut piece = packet.clone().payload(payload);
        piece.id = packet.id.wrapping_add(n as u16);
        if let Inner::Tcp { seq, flags, .. } = &mut piece.inner {
            *seq = seq.wrapping_add((n * size) as u32);
            if n < last {
                *flags &= !(FIN | PSH);
            }
        }
        piece
    };
    packet.payload.chunks(size).enumerate().map(piece).collect()
}

#[test]
fn whoever_cuts_a_packet_cuts_it_right() {
    for (family, can, masquerades) in settings() {
        let (taps, begun) = begins(family, can, masquerades);
        for (n, first) in begun.into_iter().enumerate().take(2) {
            for (way, sent, expected) in ways(&first) {
                taps.write(way, &Left::default(), &sent.ip(), &[]);
                assert_eq!(comes(&taps, way, sent).1, expected.ip());
            }
            for (length, size, flags) in [
                (3000, 1000, ACK),
                (2001, 1000, ACK | PSH),
                (60_000, 1400, ACK | PSH | FIN),
                (1201, 1200, ACK),
            ] {
                let payload: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
                let talk = first.each(|packet| {
                    let mut packet =
                        Packet { id: 0xfff0, fragment: 0x4000, ..packet.clone().payload(&payload) };
                    if let Inner::Tcp { flags: set, options, .. } = &mut packet.inner {
                        (*set, *options) = (flags, vec![1; 12]);
                    }
                    packet
                });
                for (way, sent, expected) in ways(&talk) {
                    let what = format!("{family:?} {can:#x} {length}/{size} {sent}");
                    let (left, ip) = Left::all(sent, 14, Some(size));
                    taps.write(way, &left, &ip, &[]);
                    if can & SEGMENTS != 0 {
                        let (still, seen) = comes(&taps, way, &what);
                        assert_eq!(seen, expected.ip(), "{what}");
                        assert_eq!((still.gso, still.size), (left.gso, left.size), "{what}");
                        assert_eq!((still.start, still.offset), (left.start, left.offset), "{what}");
                        continue;
                    }
                    let mut expected = cut(expected, size);
                    if n == 1 {
                        expected.iter_mut().for_each(|p| p.fragment = sent.fragment);
                    }
                    for (m, piece) in expected.iter().enumerate() {
                        let (still, seen) = comes(&taps, way, &what);
                        assert_eq!(seen, piece.ip(), "{what}: piece {m}");
                        assert_eq!(still.gso, 0, "{what}");
                    }
                }
            }
        }
    }
}
