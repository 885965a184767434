// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Protocols that are neither TCP, UDP nor ICMP on their whole way to a server behind the gateway and back, beside nftables'
//! same rule: an SCTP association, GRE, and a protocol without a name. Their packets are built here, for the kernel may not
//! know them; what it says of that, as an ICMP error, has to reach the client under the address that was asked.
use e2e::bench::FAR;
use e2e::capture::{Frame, Wire};
use e2e::detour::{self, up};
use e2e::family::Family;
use e2e::lab::{tell_all_errors, Lab, CLIENT, CLIENT6, SERVER, SERVER6};
use e2e::packet::{Inner, Packet};
use e2e::sctp::{sctp, summed, CHUNKS, SCTP};
use e2e::six::FAR6;
use e2e::talk;
use std::net::IpAddr;

const GRE: u8 = 47;
const NAMELESS: u8 = 253; // RFC 3692: for experiments

/// A conversation: each packet, and whether it is the client's. Ends as the client sees them.
fn conversation(client: IpAddr, far: IpAddr) -> Vec<(bool, Packet)> {
    let mut packets = Vec::new();
    for (n, chunk) in CHUNKS.into_iter().enumerate() {
        let (ours, theirs) = ((client, 4000), (far, 5000));
        // Both ends have asked for the same tag, see the chunks.
        let tag = if n == 0 { 0 } else { 7 };
        packets.push(match n % 2 {
            0 => (true, sctp(ours, theirs, tag, chunk)),
            _ => (false, sctp(theirs, ours, tag, chunk)),
        });
    }
    for protocol in [GRE, NAMELESS] {
        // GRE: no options, an IPv4 packet within.
        let payload = [&[0, 0, 8, 0][..], &[0x45, 0, 0, 20], &[0; 16]].concat();
        for to_server in [true, false, true, false] {
            let (from, to) = if to_server { (client, far) } else { (far, client) };
            packets.push((to_server, Packet::other(from, to, protocol).payload(&payload)));
        }
    }
    packets
}

/// What each end gets of it, the client's view then the server's; and the errors that the client hears.
fn transcript(lab: &Lab, client: IpAddr, far: IpAddr, server: IpAddr) -> Vec<String> {
    let beyond = lab.server6();
    tell_all_errors(&beyond);
    // So that the neighbours are known.
    beyond.run("ping", &["-c", "1", "-W", "10", "10.9.9.1"]);
    beyond.run("ping", &["-6", "-c", "1", "-W", "10", "fd09::1"]);
    let (here, there) = (Wire::tap(&lab.client, "eth0").only(), Wire::tap(&beyond, "eth0").only());
    let errors = Wire::tap(&lab.client, "eth0").only();
    let mut told = Vec::new();
    let mut back = [0; 12];
    for (to_server, packet) in conversation(client, far) {
        let got = |frame: &Frame| {
            let read = Packet::read(&frame.bytes).ok()?;
            (!frame.sent && read.protocol() == packet.protocol()).then(|| (read, frame.bytes.clone()))
        };
        let mut frame = packet.frame();
        let seen = if to_server {
            frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 0x51]);
            here.send(&frame);
            there.next(got)
        } else {
            let mut frame = Packet { src: server, ..packet.clone() }.frame();
            frame[..12].copy_from_slice(&back);
            there.send(&frame);
            here.next(got)
        };
        let (seen, bytes) = seen.unwrap_or_else(|| panic!("{packet} did not arrive"));
        if to_server {
            back[..6].copy_from_slice(&bytes[6..12]);
            back[6..].copy_from_slice(&bytes[..6]);
        }
        // Of the addresses alone another one, and a router was on the way.
        let (src, dst) = if to_server { (client, server) } else { (far, client) };
        assert_eq!(seen, Packet { src, dst, ttl: packet.ttl - 1, ..packet.clone() }, "{packet}");
        assert!(packet.protocol() != SCTP || summed(&seen.payload), "{seen}: its checksum");
        told.push(format!("{seen:?}"));
    }
    let mut heard = Vec::new();
    for frame in errors.frames(2 * talk::QUIET).iter().filter(|frame| !frame.sent) {
        let Ok(error) = Packet::read(&frame.bytes) else { continue };
        let Inner::Icmp { kind: kind @ (1 | 3 | 4), code, .. } = error.inner else { continue };
        let quoted = if client.is_ipv4() {
            IpAddr::from(<[u8; 4]>::try_from(&error.payload[16..20]).unwrap())
        } else {
            IpAddr::from(<[u8; 16]>::try_from(&error.payload[24..40]).unwrap())
        };
        heard.push(format!("{} {kind}/{code} about {quoted}", error.src));
    }
    heard.sort();
    [told, heard].concat()
}

#[test]
fn sctp_gre_and_a_nameless_protocol_reach_a_server_as_with_nft() {
    for (client, far, server, refusal) in [
        (IpAddr::from(CLIENT), IpAddr::from(FAR), IpAddr::from(SERVER), "3/2"),
        (CLIENT6.into(), FAR6.into(), SERVER6.into(), "4/1"),
    ] {
        let ip = if client.is_ipv4() { "ip" } else { "ip6" };
        let rule = format!("{ip} daddr {far} dnat to {server}");
        let theirs = Lab::new();
        theirs.nft_for(Family::of(client), &rule);
        let theirs = transcript(&theirs, client, far, server);
        let ours = Lab::new();
        up(&ours.gateway, &ours.device, &["--rule", &rule]);
        let told = transcript(&ours, client, far, server);
        for (n, (ours, theirs)) in told.iter().zip(&theirs).enumerate() {
            assert_eq!(ours, theirs, "{n}");
        }
        assert_eq!(told.len(), theirs.len(), "{told:#?}\n{theirs:#?}");
        // The server's kernel knows none of the protocols, and says so of each of the client's packets.
        let error = format!("{far} {refusal} about {far}");
        assert_eq!(told.iter().filter(|line| **line == error).count(), 7, "{told:#?}");
        let flows = detour::json(&ours.gateway, &["flows", &ours.device]);
        let flows = flows["flows"].as_array().unwrap();
        let mut names: Vec<&str> = flows.iter().map(|f| f["protocol"].as_str().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["253", "47", "sctp"], "{flows:?}");
    }
}
