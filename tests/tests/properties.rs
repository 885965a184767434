// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Random packets, whole and damaged: what is rewritten is what a model says, and nothing else changes.
use e2e::bench::Bench;
use e2e::lab::{CLIENT, GATEWAY, SECOND};
use e2e::packet::{checksum, Inner, Packet};
use e2e::random::Random;
use e2e::testrun::{Sums, SHOT, UNSPEC};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const RULES: [&str; 5] = [
    "tcp dport 80 redirect to :8080",
    "udp dport { 53, 5000-5999 } redirect to :53",
    "tcp dport 1000-1999 accept",
    "ip daddr 198.51.100.0/24 drop",
    "redirect",
];
const PACKETS: u16 = 10_000;

/// Destinations, half of them nobody's.
fn destinations() -> Vec<IpAddr> {
    let far = [[93, 184, 216, 34], [1, 1, 1, 1], [223, 255, 255, 255], [198, 51, 100, 7], [203, 0, 113, 9]];
    let kept = [[224, 0, 0, 251], [255; 4], [192, 168, 178, 255], [169, 254, 1, 1], [127, 0, 0, 1], [0; 4]];
    let own = [GATEWAY, SECOND];
    far.into_iter().chain(kept).map(Ipv4Addr::from).chain(own).map(IpAddr::from).collect()
}

/// What the rules above make of a packet without flow, said without any of the code that does it.
enum Fate {
    Passes,
    Dropped,
    Sent(Packet),
}

fn fate(packet: &Packet) -> Fate {
    let (from, to) = packet.ends();
    let IpAddr::V4(dst) = packet.dst else { panic!("{packet}") };
    let kept = dst.is_multicast() || dst.is_broadcast() || dst.is_link_local() || dst.is_loopback();
    if kept
        || dst.octets()[0] == 0
        || dst == Ipv4Addr::new(192, 168, 178, 255)
        || [GATEWAY, SECOND].contains(&dst)
    {
        return Fate::Passes;
    }
    let (tcp, udp) = match packet.inner {
        // A first SYN opens a flow; so does a segment in mid-stream, for the gateway does not forward.
        Inner::Tcp { flags, .. } if ![0x02, 0x10].contains(&(flags & 0x16)) => return Fate::Passes,
        Inner::Tcp { .. } => (true, false),
        Inner::Udp { .. } => (false, true),
        _ => (false, false),
    };
    let dhcp = |port| port == 67 || port == 68;
    let port = match to.port() {
        _ if udp && dhcp(from.port()) && dhcp(to.port()) => return Fate::Passes,
        80 if tcp => 8080,
        53 | 5000..=5999 if udp => 53,
        1000..=1999 if tcp => return Fate::Passes,
        _ if dst.octets()[..3] == [198, 51, 100] => return Fate::Dropped,
        port => port,
    };
    Fate::Sent(packet.clone().between(from, SocketAddr::from((GATEWAY, port))))
}

#[test]
fn whole_packets_as_the_model_says() {
    let bench = Bench::new(&RULES);
    let ingress = bench.program("ingress");
    let (mut random, destinations) = (Random::new(1), destinations());
    let mut seen = [0; 3];
    bench.lab.gateway.within(|| {
        for (sums, base) in [(Sums::None, 1024), (Sums::Complete, 1024 + PACKETS)] {
            for n in 0..PACKETS {
                // A client port each, so that nobody has to take another one.
                let port = random.one(&[80, 53, 5000, 5999, 6000, 999, 1000, 1999, 2000, 67, 443]);
                let to = SocketAddr::new(random.one(&destinations), port);
                let packet = random.packet(SocketAddr::from((CLIENT, base + n)), to);
                let frame = packet.frame();
                let outcome = ingress.run_here(&frame, sums).unwrap();
                let (verdict, expected, kind) = match fate(&packet) {
                    Fate::Passes => (UNSPEC, frame, 0),
                    Fate::Dropped => (SHOT, frame, 1),
                    Fate::Sent(sent) => (UNSPEC, sent.frame(), 2),
                };
                assert_eq!(outcome.verdict, verdict, "{packet:?}");
                assert_eq!(Packet::read(&outcome.frame), Packet::read(&expected), "{packet:?} {sums:?}");
                assert_eq!(outcome.frame, expected, "{packet:?} {sums:?}");
                seen[kind] += 1;
            }
        }
    });
    assert!(seen.iter().all(|n| *n > 500), "passed, dropped, sent: {seen:?}");
}

/// The bytes of a frame that a translation may change, and what it may not: by how much each checksum is wrong.
fn residue(frame: &[u8]) -> (Vec<u8>, [u16; 2]) {
    let ihl = usize::from(frame[14] & 15) * 4;
    let (l4, end) = (14 + ihl, 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]])));
    let mut rest = frame.to_vec();
    let segment = frame.get(l4..end.min(frame.len())).unwrap_or_default();
    // What follows in a later fragment is no header, and damage can make one of anything.
    let later = u16::from_be_bytes([frame[20], frame[21]]) & 0x1fff != 0;
    let (ports, sum) = match frame[23] {
        _ if later => (0..0, None),
        6 => (0..4, Some(16)),
        17 => (0..4, Some(6)),
        1 => (4..6, Some(2)),
        _ => (0..0, None),
    };
    let blank = [24..26, 26..34, l4 + ports.start..l4 + ports.end];
    for at in blank.into_iter().flatten().chain(sum.into_iter().flat_map(|at| l4 + at..l4 + at + 2)) {
        if let Some(byte) = rest.get_mut(at) {
            *byte = 0;
        }
    }
    let pseudo = [&frame[26..34], &[0, frame[23]], &(segment.len() as u16).to_be_bytes()].concat();
    let pseudo = if frame[23] == 1 { Vec::new() } else { pseudo };
    let unsummed = frame[23] == 17 && segment.get(6..8) == Some(&[0, 0]);
    let wrong = if unsummed || sum.is_none() { 0 } else { checksum(&[pseudo, segment.to_vec()].concat()) };
    (
        rest,
        [checksum(frame.get(14..l4).unwrap_or_default()), wrong]
            .map(|sum| if sum == 0xffff { 0 } else { sum }),
    )
}

#[test]
fn damaged_packets_stay_as_damaged_as_they_were() {
    let bench = Bench::new(&RULES);
    let programs = [bench.program("ingress"), bench.program("egress")];
    let (mut random, destinations) = (Random::new(2), destinations());
    let (mut passed, mut sent) = (0, 0);
    bench.lab.gateway.within(|| {
        for n in 0..PACKETS {
            let ends = [
                SocketAddr::from((CLIENT, 1024 + n)),
                SocketAddr::new(random.one(&destinations), random.one(&[80, 53, 443])),
            ];
            let (from, to) = random.one(&[(ends[0], ends[1]), (ends[1], ends[0])]);
            let mut frame = random.packet(from, to).frame();
            // Some bytes of the headers become others; some frames end early, some have a tail.
            for _ in 0..random.below(4) {
                let at = 14 + random.below(60.min(frame.len() - 14));
                frame[at] = random.bits() as u8;
            }
            match random.below(4) {
                0 => frame.truncate(34 + random.below(frame.len() - 33)),
                1 => frame.extend(random.bytes(60)),
                _ => {}
            }
            for program in &programs {
                let sums = random.one(&[Sums::None, Sums::Complete]);
                let outcome = program.run_here(&frame, sums).unwrap();
                assert!([UNSPEC, SHOT].contains(&outcome.verdict), "{} for {frame:02x?}", outcome.verdict);
                if outcome.frame == frame {
                    passed += 1;
                } else {
                    sent += 1;
                    assert_eq!(
                        residue(&outcome.frame),
                        residue(&frame),
                        "{frame:02x?}\n{:02x?}",
                        outcome.frame
                    );
                }
            }
        }
    });
    assert!(passed > 1000 && sent > 1000, "{passed} unchanged, {sent} rewritten");
}
