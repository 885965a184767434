// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! IPv6 between real stacks: what a client behind `detour up` sees and hears, and the same of nftables' rule; transmit
//! checksum offload on and off.
use e2e::capture::Wire;
use e2e::detour::up;
use e2e::family::Family;
use e2e::lab::{ip, Lab, CLIENT6, GATEWAY6, SERVER6};
use e2e::packet::{Inner, Packet};
use e2e::serve::Server;
use e2e::six::{bad_checksums, FAR6};
use e2e::talk;
use nix::sys::socket::{setsockopt, sockopt};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};

/// Runs the scene under nftables and under detour, with offload on and off; both tell the same, and nobody meets a wrong
/// checksum.
fn both(nft: &str, rule: &str, scene: impl Fn(&Lab) -> Vec<String>) -> Vec<String> {
    let mut told = Vec::new();
    for offload in [true, false] {
        let theirs = Lab::new().tx_checksum(offload);
        theirs.nft_for(Family::V6, nft);
        let theirs = scene(&theirs);
        let ours = Lab::new().tx_checksum(offload);
        up(&ours.gateway, &ours.device, &["--rule", rule]);
        told = scene(&ours);
        assert_eq!(told, theirs, "offload {offload}");
        for ns in [&ours.client, &ours.gateway] {
            assert_eq!(bad_checksums(ns), Vec::<String>::new(), "offload {offload}");
        }
    }
    told
}

/// The ICMPv6 errors among what passed, whose sums are all right: sender, type, code, and the quoted packet's ends.
fn errors(wire: &Wire) -> Vec<String> {
    let mut lines = Vec::new();
    for frame in wire.frames(talk::QUIET).iter().filter(|frame| frame.bytes[12..14] == [0x86, 0xdd]) {
        let packet = Packet::read_loosely(&frame.bytes).unwrap_or_else(|fault| panic!("{fault}"));
        let Inner::Icmp { kind: kind @ 1..=4, code, .. } = packet.inner else { continue };
        let quoted = Packet::read(&frame.bytes).unwrap_or_else(|fault| panic!("{fault}")).payload;
        let end = |at: usize| <[u8; 16]>::try_from(&quoted[at..at + 16]).map(Ipv6Addr::from).unwrap();
        let dport = u16::from_be_bytes([quoted[42], quoted[43]]);
        lines.push(format!("{} {kind}/{code}: {} > {}:{dport}", packet.src, end(8), end(24)));
    }
    lines.sort();
    lines.dedup(); // how often one is sent depends on timing
    lines
}

const ALL: &str = "meta l4proto { tcp, udp, ipv6-icmp } redirect";

#[test]
fn pages_answers_and_pings_under_any_address() {
    both(ALL, "redirect", |lab| {
        let any = |port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let _web = Server::http(&lab.gateway, any(80), &"page ".repeat(9000));
        let _echo = Server::udp(&lab.gateway, any(53));
        let far = |n| Ipv6Addr::new(0x2001, 0xdb8, n, 0, 0, 0, 0, 1);
        let mut told = Vec::new();
        // One client port to many destinations and to the gateway itself.
        for to in (1..=8).map(far).chain([GATEWAY6]) {
            let mut stream = talk::dial(&lab.client, 4000, (to, 80).into()).unwrap();
            let page = talk::get(&mut stream, "example.org").unwrap();
            told.push(format!("{} {}", stream.peer_addr().unwrap(), page.matches("page").count()));
        }
        told.push(talk::curl(&lab.client, &format!("http://[{FAR6}]/"))[..40].to_owned());
        let socket = talk::udp_for(&lab.client, Family::V6, 4000);
        for round in 0..3 {
            let mut answers = BTreeSet::new();
            for to in (1..=8).map(far).chain([GATEWAY6]) {
                socket.send_to(format!("{round} {to}").as_bytes(), (to, 53)).unwrap();
            }
            for _ in 0..9 {
                let (text, from) = talk::next(&socket).unwrap();
                assert!(text.starts_with(&format!("{round} {} ", from.ip())), "{text} from {from}");
                answers.insert(from);
            }
            told.extend(answers.iter().map(SocketAddr::to_string));
        }
        for to in [far(1), far(2), GATEWAY6] {
            lab.client.run("ping", &["-6", "-n", "-c", "2", "-i", "0.1", "-W", "3", &to.to_string()]);
        }
        told.push(
            lab.client
                .run("ping", &["-6", "-n", "-q", "-s", "1400", "-c", "1", &FAR6.to_string()])
                .lines()
                .next()
                .unwrap()
                .to_owned(),
        );
        told
    });
}

#[test]
fn closed_ports_refuse() {
    let told = both(ALL, "redirect", |lab| {
        let wire = Wire::tap(&lab.client, "eth0");
        let refused = talk::dial(&lab.client, 4001, (FAR6, 81).into()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        let socket = talk::udp_for(&lab.client, Family::V6, 4000);
        socket.connect((FAR6, 9)).unwrap();
        assert_eq!(talk::refusal(&socket).unwrap(), ErrorKind::ConnectionRefused);
        errors(&wire)
    });
    assert_eq!(told, [format!("{FAR6} 1/4: {CLIENT6} > {FAR6}:9")]);
}

/// The other way: a server learns that its client is gone.
#[test]
fn a_client_that_left_refuses_the_answer() {
    both(ALL, "redirect", |lab| {
        let server = lab.gateway.within(|| UdpSocket::bind((GATEWAY6, 53)).unwrap());
        server.set_read_timeout(Some(talk::PATIENCE)).unwrap();
        let socket = talk::udp_for(&lab.client, Family::V6, 4000);
        socket.send_to(b"quick", (FAR6, 53)).unwrap();
        drop(socket);
        let (_, client) = server.recv_from(&mut [0; 10]).unwrap();
        server.connect(client).unwrap();
        assert_eq!(talk::refusal(&server).unwrap(), ErrorKind::ConnectionRefused);
        vec![client.to_string()]
    });
}

#[test]
fn traces_end_at_the_address_that_was_asked() {
    let rule = format!("udp dnat to {SERVER6}");
    let told = both(&format!("meta l4proto {rule}"), &rule, |lab| {
        let _server = lab.server6();
        let wire = Wire::tap(&lab.client, "eth0");
        for hops in 1..=2 {
            let socket = talk::udp_for(&lab.client, Family::V6, 5000);
            setsockopt(&socket, sockopt::Ipv6Ttl, &hops).unwrap();
            socket.connect((FAR6, 33433 + hops as u16)).unwrap();
            // Of hops on the way the kernel tells a socket only when it asked to hear of such errors.
            setsockopt(&socket, sockopt::Ipv6RecvErr, &true).unwrap();
            talk::refused(&socket, b"where?").unwrap();
        }
        errors(&wire)
    });
    let first = format!("{FAR6} 1/4: {CLIENT6} > {FAR6}:33435");
    assert_eq!(told, [first, format!("{FAR6} 3/0: {CLIENT6} > {FAR6}:33434")]);
}

/// A link of 1280 bytes between the gateway and the server: the client's segments get smaller.
#[test]
fn a_narrow_link_before_the_server() {
    let rule = format!("tcp dport 80 dnat to {SERVER6}");
    let told = both(&rule, &rule, |lab| {
        let server = lab.server6();
        ip(&lab.gateway, "link set eth1 mtu 1280");
        let web = Server::http(&server, (SERVER6, 80), "got it");
        let wire = Wire::tap(&lab.client, "eth0");
        let long = "upload ".repeat(3000);
        let mut stream = talk::dial(&lab.client, 4000, (FAR6, 80).into()).unwrap();
        assert!(talk::get(&mut stream, &long).unwrap().starts_with("got it "));
        assert!(web.heard()[0].1.len() > long.len());
        errors(&wire)
    });
    assert_eq!(told, [format!("{FAR6} 2/0: {CLIENT6} > {FAR6}:80")]);
}

/// A link of 1280 bytes behind a router on the client's side: the server's segments get smaller.
#[test]
fn a_narrow_link_before_the_client() {
    let told = both("tcp dport 80 redirect", "tcp dport 80 redirect", |lab| {
        let far = lab.client.beside();
        let peer = far.path();
        ip(
            &lab.client,
            &format!(
                "link add eth1 mtu 1280 type veth peer name eth0 mtu 1500 netns {}
                 address add fd07::1/64 dev eth1 nodad
                 link set eth1 up",
                peer.display()
            ),
        );
        ip(&far, "address add fd07::2/64 dev eth0 nodad\n link set eth0 up\n route add default via fd07::1");
        lab.client.sysctl("net/ipv6/conf/all/forwarding", "1");
        ip(&lab.gateway, &format!("route add fd07::/64 via {CLIENT6}"));
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 80));
        let _web = Server::http(&lab.gateway, any, &"page ".repeat(9000));
        let wire = Wire::tap(&lab.client, "eth0");
        let mut stream = talk::dial(&far, 4000, (FAR6, 80).into()).unwrap();
        assert!(talk::get(&mut stream, "example.org").unwrap().len() > 45_000);
        errors(&wire)
    });
    assert_eq!(told, [format!("{CLIENT6} 2/0: {FAR6} > fd07::2:4000")]);
}

/// A UDP server on a wildcard socket answers from the address that routing prefers, here the newest: it is heard under the one
/// that was asked.
#[test]
fn a_udp_server_that_answers_from_another_address() {
    for offload in [true, false] {
        let lab = Lab::new().tx_checksum(offload);
        ip(&lab.gateway, "address add fd00::3/64 dev eth0 nodad");
        up(&lab.gateway, &lab.device, &["--rule", "udp dnat to fd00::2"]);
        let _echo = Server::udp(&lab.gateway, SocketAddr::from((Ipv6Addr::UNSPECIFIED, 53)));
        let socket = talk::udp_for(&lab.client, Family::V6, 4000);
        for to in [FAR6, "2001:db8::9".parse().unwrap(), FAR6] {
            let (_, from) = talk::ask(&socket, (to, 53).into(), "who?").unwrap();
            assert_eq!(from.ip(), to, "offload {offload}");
        }
    }
}
