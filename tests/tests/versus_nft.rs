// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The same conversations over the same rule in nftables and in detour: the client's wire has to show the same packets.
use e2e::capture::{Frame, Wire};
use e2e::detour::up;
use e2e::lab::{Lab, GATEWAY};
use e2e::packet::{Inner, Packet, ACK};
use e2e::serve::Server;
use e2e::talk;
use std::collections::HashMap;
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
    for n in 1..4 {
        talk::ping(&lab.client, n, Ipv4Addr::new(9, 9, 9, n as u8)).unwrap();
    }
    describe(&wire.frames(100), checked)
}

/// Each packet but pure acknowledgements, whose number depends on timing; sequence numbers from zero.
fn describe(frames: &[Frame], checked: bool) -> Vec<String> {
    let mut first: HashMap<(bool, u16, u16), u32> = HashMap::new();
    let mut lines = Vec::new();
    for frame in frames.iter().filter(|frame| frame.bytes[12..14] == [8, 0]) {
        let read = if checked { Packet::read(&frame.bytes) } else { Packet::read_loosely(&frame.bytes) };
        let packet = read.unwrap_or_else(|fault| panic!("{fault}"));
        let mut line = format!("{} {packet}", if frame.sent { ">" } else { "<" });
        if let Inner::Tcp { sport, dport, seq, flags, options, .. } = &packet.inner {
            if *flags == ACK && packet.payload.is_empty() {
                continue;
            }
            let zero = first.entry((frame.sent, *sport, *dport)).or_insert(*seq);
            line += &format!(" seq {} options {}", seq.wrapping_sub(*zero), options.len());
        }
        let (ttl, tos, fragment) = (packet.ttl, packet.tos, packet.fragment);
        lines.push(format!(
            "{line} ttl {ttl} tos {tos} fragment {fragment:#x} {:?}",
            summary(&packet.payload)
        ));
    }
    lines
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
        assert!(theirs.len() > 50, "{theirs:#?}");
        for (n, (a, b)) in theirs.iter().zip(&ours).enumerate() {
            assert_eq!(a, b, "packet {n}, offload {offload}");
        }
        assert_eq!(theirs.len(), ours.len(), "offload {offload}");
    }
}
