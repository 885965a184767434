// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Datagrams larger than a link, both ways and over both families: the client's wire shows the same fragments as with nft.
use e2e::capture::Wire;
use e2e::detour::up;
use e2e::family::Family;
use e2e::lab::{ip, Lab};
use e2e::serve::Server;
use e2e::talk;
use std::net::{IpAddr, SocketAddr};

/// What passes at the client while it asks and is answered; without what senders choose at random.
fn transcript(lab: &Lab, far: IpAddr) -> Vec<(bool, Vec<u8>)> {
    let family = Family::of(far);
    for ns in [&lab.client, &lab.gateway] {
        ip(ns, "link set eth0 mtu 1280");
    }
    let _echo = Server::udp(&lab.gateway, family.any(53));
    let socket = talk::udp_for(&lab.client, family, 4000);
    let wire = Wire::tap(&lab.client, "eth0").only();
    let to = SocketAddr::new(far, 53);
    for length in [1253, 1473, 4000, 60_000] {
        let text = "0123456789".repeat(length).split_off(9 * length);
        let (answer, from) =
            talk::ask(&socket, to, &text).unwrap_or_else(|e| panic!("{length} to {far}: {e}"));
        assert!(from == to && answer.starts_with(&text), "{length} bytes from {from}");
    }
    let frames = wire.frames(talk::QUIET).into_iter();
    let ours = frames.filter_map(|frame| {
        let mut bytes = frame.bytes.get(14..)?.to_vec();
        match (bytes[0] >> 4, bytes[if far.is_ipv4() { 9 } else { 6 }]) {
            (4, 17) if far.is_ipv4() => {
                bytes[4..6].fill(0); // identification,
                bytes[10..12].fill(0); // and the sum over it
            }
            (6, 44) if far.is_ipv6() => {
                bytes[1..4].fill(0); // flow label
                bytes[44..48].fill(0);
            }
            _ => return None,
        }
        Some((frame.sent, bytes))
    });
    ours.collect()
}

#[test]
fn the_client_sees_the_same_fragments() {
    for far in [IpAddr::from([93, 184, 216, 34]), "2001:db8:5::9".parse().unwrap()] {
        let theirs = Lab::new().tx_checksum(false);
        theirs.nft_for(Family::of(far), "meta l4proto udp redirect");
        let theirs = transcript(&theirs, far);
        let ours = Lab::new().tx_checksum(false);
        up(&ours.gateway, &ours.device, &["--rule", "udp redirect"]);
        let ours = transcript(&ours, far);
        assert!(theirs.len() > 100, "{far}: only {} fragments", theirs.len());
        assert_eq!(theirs.len(), ours.len(), "{far}");
        for (n, (a, b)) in theirs.iter().zip(&ours).enumerate() {
            assert_eq!(a, b, "{far}: fragment {n}");
        }
    }
}
