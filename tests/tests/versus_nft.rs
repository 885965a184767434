// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The same conversations over the same rule in nftables and in detour: the client's wire has to show the same packets.
use e2e::capture::{Frame, Wire};
use e2e::detour::up;
use e2e::lab::{Lab, GATEWAY};
use e2e::packet::{Inner, Packet, ACK, PSH};
use e2e::serve::Server;
use e2e::talk;
use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};

/// What passes at the client while it talks to all kinds of ports under addresses that are nobody's.
fn conversations(lab: &Lab, checked: bool) -> Vec<String> {
    let any = |port| SocketAddr::from(([0, 0, 0, 0], port));
    let _web = Server::http(&lab.gateway, any(80), &"page ".repeat(3000));
    let _echo = Server::udp(&lab.gateway, any(53));
    let wire = Wire::tap(&lab.client, "eth0").only();
    for (n, to) in [[1, 2, 3, 4], [93, 184, 216, 34], [203, 0, 113, 9]].into_iter().enumerate() {
        let mut stream = talk::dial(&lab.client, 4000 + n as u16, (to, 80).into()).unwrap();
        talk::get(&mut stream, "example.org").unwrap();
    }
    talk::get(&mut talk::dial(&lab.client, 4010, (GATEWAY, 80).into()).unwrap(), "direct").unwrap();
    talk::dial(&lab.client, 4011, ([1, 2, 3, 4], 81).into()).unwrap_err();
    for n in 0..3 {
        let socket = talk::udp(&lab.client, 5000 + n);
        for text in ["a", "bb", "a longer one that is not quite that short"] {
            talk::ask(&socket, ([8, 8, 4, n as u8], 53).into(), text).unwrap();
        }
    }
    for n in 0..3 {
        let socket = talk::udp(&lab.client, 6000 + n);
        socket.connect((Ipv4Addr::new(8, 8, 4, 4), 7 + n)).unwrap();
        socket.send(b"closed?").unwrap();
        assert_eq!(socket.recv(&mut [0; 10]).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
    for n in 1..4 {
        talk::ping(&lab.client, n, Ipv4Addr::new(9, 9, 9, n as u8)).unwrap();
    }
    describe(&wire.frames(talk::QUIET), checked)
}

/// Each packet but pure acknowledgements, whose number depends on timing. Where a stream of bytes is cut does, too:
/// segments in a row count as one.
fn describe(frames: &[Frame], checked: bool) -> Vec<String> {
    let mut rows: Vec<(bool, Packet)> = Vec::new();
    for frame in frames.iter().filter(|frame| frame.bytes[12..14] == [8, 0]) {
        let read = if checked { Packet::read(&frame.bytes) } else { Packet::read_loosely(&frame.bytes) };
        let mut packet = read.unwrap_or_else(|fault| panic!("{fault}"));
        if let Inner::Tcp { flags, .. } = &mut packet.inner {
            if *flags == ACK && packet.payload.is_empty() {
                continue;
            }
            *flags &= !PSH;
        }
        if matches!(packet.inner, Inner::Icmp { kind: 3, .. }) {
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
        let (ttl, tos, fragment) = (packet.ttl, packet.tos, packet.fragment);
        let way = if *sent { ">" } else { "<" };
        let mut line = format!(
            "{way} {packet} ttl {ttl} tos {tos} fragment {fragment:#x} {:?}",
            summary(&packet.payload)
        );
        if let Inner::Tcp { sport, dport, seq, options, .. } = &packet.inner {
            // Sequence numbers from zero.
            let zero = first.entry((*sent, *sport, *dport)).or_insert(*seq);
            line += &format!(" seq {} options {}", seq.wrapping_sub(*zero), options.len());
        }
        line
    };
    rows.iter().map(&mut line).collect()
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
    for offload in [true, false] {
        let theirs = Lab::new().tx_checksum(offload);
        theirs.nft("ip protocol { tcp, udp, icmp } redirect");
        let ours = Lab::new().tx_checksum(offload);
        up(&ours.gateway, &ours.device, &[]);
        // Without offload every packet on the wire carries its checksum, and each one is computed again here.
        let (theirs, ours) = (conversations(&theirs, !offload), conversations(&ours, !offload));
        assert!(theirs.len() > 40, "{theirs:#?}");
        for (n, (a, b)) in theirs.iter().zip(&ours).enumerate() {
            assert_eq!(a, b, "packet {n}, offload {offload}");
        }
        assert_eq!(theirs.len(), ours.len(), "offload {offload}");
    }
}
