// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The labs themselves, without the program: what other tests take for granted, with nftables as the gateway's DNAT.
use e2e::capture::Wire;
use e2e::lab::{Lab, CLIENT, GATEWAY};
use e2e::netns::Netns;
use e2e::packet::Packet;
use e2e::serve::Server;
use e2e::talk;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

#[test]
fn namespaces_are_apart() {
    let (one, two) = (Netns::new(), Netns::new());
    assert_ne!(one.inode(), two.inode());
    one.within(|| std::fs::create_dir("/sys/fs/bpf/only-here").unwrap());
    assert!(one.beside().within(|| std::path::Path::new("/sys/fs/bpf/only-here").exists()));
    assert!(!two.within(|| std::path::Path::new("/sys/fs/bpf/only-here").exists()));
}

#[test]
fn nft_gateway_answers_for_everybody() {
    for offload in [true, false] {
        let lab = Lab::new().tx_checksum(offload);
        lab.nft("ip protocol { tcp, udp, icmp } redirect");
        let _web = Server::http(&lab.gateway, ([0, 0, 0, 0], 80), "hello");
        let _echo = Server::udp(&lab.gateway, ([0, 0, 0, 0], 53));
        let wire = Wire::tap(&lab.client, "eth0").only();

        assert!(talk::curl(&lab.client, "http://1.2.3.4/").starts_with("hello 192.168.178.51:"));
        let asked = SocketAddr::from(([8, 8, 8, 8], 53));
        let (answer, from) = talk::ask(&talk::udp(&lab.client, 4000), asked, "who").unwrap();
        assert_eq!((answer, from), (format!("who {CLIENT}:4000"), asked));
        let far = Ipv4Addr::new(9, 9, 9, 9);
        assert_eq!(talk::ping(&lab.client, 77, far).unwrap(), IpAddr::V4(far));

        let frames = wire.frames(50);
        let packets = frames.iter().filter(|frame| frame.bytes[12..14] == [8, 0]);
        let read = packets.map(|frame| Packet::read(&frame.bytes)).collect::<Vec<_>>();
        assert!(read.len() > 10, "{read:?}");
        // With offload the sums are unfinished on a veth: exactly what hides mistakes.
        assert_eq!(read.iter().any(Result::is_err), offload, "{read:?}");
    }
}

#[test]
fn answers_are_held_and_given_in_reverse() {
    let lab = Lab::new();
    let _server = Server::udp_held(&lab.gateway, (GATEWAY, 53), 2);
    let socket = talk::udp(&lab.client, 4001);
    for text in ["first", "second"] {
        socket.send_to(text.as_bytes(), (GATEWAY, 53)).unwrap();
    }
    assert_eq!(talk::next(&socket).unwrap().0, "second 192.168.178.51:4001");
    assert_eq!(talk::next(&socket).unwrap().0, "first 192.168.178.51:4001");
}
