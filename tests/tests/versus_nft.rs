// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The same conversations over the same rule in nftables and in detour: the client's wire has to show the same packets.
use e2e::capture::{Frame, Wire};
use e2e::detour::up;
use e2e::family::Family;
use e2e::lab::Lab;
use e2e::packet::{Inner, Packet, ACK, PSH};
use e2e::serve::Server;
use e2e::talk;
use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address that is nobody's, one for each `n`.
fn far(family: Family, n: u8) -> IpAddr {
    family.pick(
        Ipv4Addr::new(93, n, 216, 34).into(),
        Ipv6Addr::new(0x2001, 0xdb8, n.into(), 0xffff, 0, 0, 1, 2).into(),
    )
}

/// What passes at the client while it talks to all kinds of ports under addresses that are nobody's.
fn conversations(lab: &Lab, family: Family, checked: bool) -> Vec<String> {
    let _web = Server::http(&lab.gateway, family.any(80), &"page ".repeat(3000));
    let _echo = Server::udp(&lab.gateway, family.any(53));
    for ns in [&lab.client, &lab.gateway] {
        // Otherwise each end labels its flows at random.
        ns.sysctl("net/ipv6/auto_flowlabels", "0");
    }
    let wire = Wire::tap(&lab.client, "eth0").only();
    for n in 0..3 {
        let mut stream = talk::dial(&lab.client, 4000 + u16::from(n), (far(family, n), 80).into()).unwrap();
        talk::get(&mut stream, "example.org").unwrap();
    }
    let direct = (family.gateway(), 80).into();
    talk::get(&mut talk::dial(&lab.client, 4010, direct).unwrap(), "direct").unwrap();
    talk::dial(&lab.client, 4011, (far(family, 1), 81).into()).unwrap_err();
    for n in 0..3 {
        let socket = talk::udp_for(&lab.client, family, 5000 + u16::from(n));
        for text in ["a", "bb", "a longer one that is not quite that short"] {
            talk::ask(&socket, (far(family, n), 53).into(), text).unwrap();
        }
    }
    for n in 0..3 {
        let socket = talk::udp_for(&lab.client, family, 6000 + n);
        socket.connect((far(family, 4), 7 + n)).unwrap();
        assert_eq!(talk::refusal(&socket).unwrap(), ErrorKind::ConnectionRefused);
    }
    for n in 1..4 {
        talk::ping(&lab.client, n.into(), far(family, n)).unwrap();
    }
    describe(&wire.frames(talk::QUIET), family, checked)
}

/// Neighbours and routers ask each other at any time.
fn is_about_the_link(packet: &Packet) -> bool {
    matches!(packet.inner, Inner::Icmp { kind: 130..=143, .. } if packet.src.is_ipv6())
        || packet.dst.is_multicast()
}

/// Each packet but pure acknowledgements, whose number depends on timing. Where a stream of bytes is cut does, too:
/// segments in a row count as one.
fn describe(frames: &[Frame], family: Family, checked: bool) -> Vec<String> {
    let mut rows: Vec<(bool, Packet)> = Vec::new();
    for frame in frames.iter().filter(|frame| frame.bytes[12..14] == family.pick([8, 0], [0x86, 0xdd])) {
        let loosely = Packet::read_loosely(&frame.bytes).unwrap_or_else(|fault| panic!("{fault}"));
        if is_about_the_link(&loosely) {
            continue;
        }
        let mut packet = if checked {
            Packet::read(&frame.bytes).unwrap_or_else(|fault| panic!("{fault}"))
        } else {
            loosely
        };
        if let Inner::Tcp { flags, .. } = &mut packet.inner {
            if *flags == ACK && packet.payload.is_empty() {
                continue;
            }
            *flags &= !PSH;
        }
        if family == Family::V4 && matches!(packet.inner, Inner::Icmp { kind: 3, .. }) {
            // A connected socket numbers its packets from a random one: in what is quoted, and in the sum over it.
            packet.payload[4..6].fill(0);
            packet.payload[10..12].fill(0);
        }
        match rows.last_mut() {
            Some((sent, last)) if *sent == frame.sent && continues(last, &packet) => {
                last.payload.extend(packet.payload);
            }
            _ => rows.push((frame.sent, packet)),
        }
    }
    let mut first: HashMap<(bool, u16, u16), u32> = HashMap::new();
    let mut line = |(sent, packet): &(bool, Packet)| {
        let (ttl, tos, fragment, label) = (packet.ttl, packet.tos, packet.fragment, packet.label);
        let way = if *sent { ">" } else { "<" };
        let mut line = format!(
            "{way} {packet} ttl {ttl} tos {tos} fragment {fragment:#x} label {label} {:?}",
            summary(&packet.payload)
        );
        if let Inner::Tcp { sport, dport, seq, options, .. } = &packet.inner {
            // Sequence numbers from zero.
            let zero = first.entry((*sent, *sport, *dport)).or_insert(*seq);
            line += &format!(" seq {} options {}", seq.wrapping_sub(*zero), options.len());
        }
        line
    };
    let mut lines = rows.iter().map(&mut line).collect::<Vec<_>>();
    // What is there twice was sent again, because the machine was busy.
    let mut seen = HashSet::new();
    lines.retain(|line| seen.insert(line.clone()));
    lines
}

/// Whether `next` carries the bytes of the same stream that follow those of `last`.
fn continues(last: &Packet, next: &Packet) -> bool {
    let stream = |packet: &Packet| match packet.inner {
        Inner::Tcp { sport, dport, seq, flags: ACK, .. } => Some((packet.src, packet.dst, sport, dport, seq)),
        _ => None,
    };
    let follows = |a: Option<(_, _, _, _, u32)>, b: Option<(_, _, _, _, u32)>| {
        a.zip(b).is_some_and(|(a, b)| {
            (a.0, a.1, a.2, a.3) == (b.0, b.1, b.2, b.3) && a.4.wrapping_add(last.payload.len() as u32) == b.4
        })
    };
    follows(stream(last), stream(next)) && !last.payload.is_empty() && !next.payload.is_empty()
}

fn summary(payload: &[u8]) -> (usize, u32) {
    (
        payload.len(),
        payload.iter().fold(0, |sum: u32, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte))),
    )
}

#[test]
fn the_client_sees_the_same_packets() {
    for (family, offload) in Family::BOTH.into_iter().flat_map(|family| [(family, true), (family, false)]) {
        let theirs = Lab::new().tx_checksum(offload);
        theirs.nft_for(family, "meta l4proto { tcp, udp, icmp, ipv6-icmp } redirect");
        let ours = Lab::new().tx_checksum(offload);
        up(&ours.gateway, &ours.device, &[]);
        // Without offload every packet on the wire carries its checksum, and each one is computed again here.
        let [theirs, ours] = [theirs, ours].map(|lab| conversations(&lab, family, !offload));
        assert!(theirs.len() > 40, "{theirs:#?}");
        for (n, (a, b)) in theirs.iter().zip(&ours).enumerate() {
            assert_eq!(a, b, "{family:?}, packet {n}, offload {offload}");
        }
        assert_eq!(theirs.len(), ours.len(), "{family:?}, offload {offload}");
    }
}
