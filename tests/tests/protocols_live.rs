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
use e2e::talk::PATIENCE;
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

/// What each end gets of it, the client's view then the server's; and the error that the client hears of what it says.
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
        let passes = || {
            let (from, to, packet) = match to_server {
                true => (&here, &there, packet.clone()),
                false => (&there, &here, Packet { src: server, ..packet.clone() }),
            };
            let mut frame = packet.frame();
            let out = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 0x51];
            frame[..12].copy_from_slice(if to_server { &out } else { &back });
            from.send(&frame);
            to.next(got).unwrap_or_else(|| panic!("{packet} did not arrive"))
        };
        let (seen, bytes) = passes();
        // Of the addresses alone another one, and a router was on the way.
        let (src, dst) = if to_server { (client, server) } else { (far, client) };
        assert_eq!(seen, Packet { src, dst, ttl: packet.ttl - 1, ..packet.clone() }, "{packet}");
        assert!(packet.protocol() != SCTP || summed(&seen.payload), "{seen}: its checksum");
        told.push(format!("{seen:?}"));
        if to_server {
            // A kernel may keep an error to itself, as for talk::refused(): then the same is said again.
            let error = || errors.next_for(PATIENCE / 5, |frame| error_about(&packet, frame));
            let heard = error().or_else(|| (0..4).find_map(|_| (passes().0 == seen).then(error)?));
            told.push(heard.unwrap_or_else(|| panic!("no error about {packet}")));
            back[..6].copy_from_slice(&bytes[6..12]);
            back[6..].copy_from_slice(&bytes[..6]);
        }
    }
    told
}

/// Who says what about the client's packet, if that is what the frame is.
fn error_about(packet: &Packet, frame: &Frame) -> Option<String> {
    let error = Packet::read(&frame.bytes).ok()?;
    let Inner::Icmp { kind: kind @ (1 | 3 | 4), code, .. } = error.inner else { return None };
    if frame.sent {
        return None;
    }
    let header = if packet.src.is_ipv4() { 20 } else { 40 };
    let (quoted, theirs) = (&error.payload, packet.ip());
    // Its hops, and with IPv4 the header's checksum, are others.
    let addresses = if packet.src.is_ipv4() { 12..20 } else { 8..40 };
    let same = quoted.get(header..) == theirs.get(header..) && quoted[addresses.clone()] == theirs[addresses];
    same.then(|| format!("{} {kind}/{code} about {packet}", error.src))
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
        let error = format!("{far} {refusal} about ");
        assert_eq!(told.iter().filter(|line| line.starts_with(&error)).count(), 7, "{told:#?}");
        let flows = detour::json(&ours.gateway, &["flows", &ours.device]);
        let flows = flows["flows"].as_array().unwrap();
        let mut names: Vec<&str> = flows.iter().map(|f| f["protocol"].as_str().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["253", "47", "sctp"], "{flows:?}");
    }
}
