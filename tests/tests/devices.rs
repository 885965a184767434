// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The same conversations over every kind of device that this kernel makes: bulk TCP, UDP, fragments, ping, a closed port.
use e2e::bench::{at, client, FAR};
use e2e::capture::{Frame, Wire};
use e2e::detour::{self, code, up};
use e2e::lab::{ip, Lab, CLIENT, GATEWAY};
use e2e::netns::Netns;
use e2e::packet::{Inner, Packet, ACK, RST, SYN};
use e2e::serve::Server;
use e2e::talk;
use e2e::testrun::{Program, Sums, UNSPEC};
use e2e::tools;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

fn any(port: u16) -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], port))
}

/// What a client sees of `gateway`, where `device` is up.
fn conversations(client: &Netns, gateway: &Netns, device: &str) {
    let page = "0123456789abcdef".repeat(1 << 14);
    let web = Server::http(gateway, any(80), &page);
    let _echo = Server::udp(gateway, any(53));
    up(gateway, device, &[]);
    let mut stream = talk::dial(client, 4000, ([1, 2, 3, 4], 80).into()).unwrap();
    assert!(talk::get(&mut stream, &page).unwrap().starts_with(&page), "{device}: bulk to the client");
    let (_, request) = web.heard().remove(0);
    assert!(String::from_utf8(request).unwrap().contains(&page), "{device}: bulk to the server");
    let socket = talk::udp(client, 4001);
    for length in [1, 1400, 4000, 9000, 60_000] {
        let (text, to) = ("x".repeat(length), SocketAddr::from(([8, 8, 8, 8], 53)));
        let (answer, from) =
            talk::ask(&socket, to, &text).unwrap_or_else(|e| panic!("{device} {length}: {e}"));
        assert!(from == to && answer.starts_with(&text), "{device}: {length} bytes of UDP from {from}");
    }
    assert_eq!(talk::ping(client, 77, [9, 9, 9, 9]).unwrap(), IpAddr::from([9, 9, 9, 9]), "{device}");
    let refused = talk::dial(client, 0, ([1, 2, 3, 4], 81).into()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{device}");
    let closed = talk::udp(client, 0);
    closed.connect(("1.2.3.4", 82)).unwrap();
    assert_eq!(talk::refusal(&closed).unwrap(), ErrorKind::ConnectionRefused, "{device}");
}

/// Moves the gateway's addresses from `eth0` to `device`.
fn move_addresses(lab: &Lab, device: &str) {
    let batch = format!(
        "address flush dev eth0
         address add {GATEWAY}/24 dev {device}
         link set {device} up"
    );
    ip(&lab.gateway, &batch);
}

#[test]
fn ethernet_with_each_offload() {
    for features in
        ["gro on gso on tso on tx on", "gro off gso off tso off tx on", "gro off gso off tso off tx off"]
    {
        let lab = Lab::new();
        let words: Vec<&str> = features.split(' ').collect();
        lab.gateway.run("ethtool", &[&["-K", "eth0"], &words[..]].concat());
        lab.client.run("ethtool", &[&["-K", "eth0"], &words[..]].concat());
        // Somebody who listens makes every packet a clone.
        let _wire = Wire::tap(&lab.gateway, "eth0").only();
        conversations(&lab.client, &lab.gateway, "eth0");
    }
}

#[test]
fn a_small_mtu() {
    let lab = Lab::new().tx_checksum(false);
    for ns in [&lab.client, &lab.gateway] {
        ip(ns, "link set eth0 mtu 600");
    }
    conversations(&lab.client, &lab.gateway, "eth0");
}

#[test]
fn a_bridge() {
    let lab = Lab::new();
    ip(&lab.gateway, "link add br0 type bridge\n link set eth0 master br0");
    move_addresses(&lab, "br0");
    conversations(&lab.client, &lab.gateway, "br0");
}

#[test]
fn a_port_of_a_bridge() {
    let lab = Lab::new();
    ip(
        &lab.gateway,
        "link add br0 type bridge\n link set eth0 master br0\n link set br0 address 02:00:00:00:00:02",
    );
    move_addresses(&lab, "br0");
    let _echo = Server::udp(&lab.gateway, any(53));
    up(&lab.gateway, "eth0", &["--rule", &format!("udp dport 53 dnat to {GATEWAY}")]);
    let asked = SocketAddr::from(([8, 8, 8, 8], 53));
    assert_eq!(talk::ask(&talk::udp(&lab.client, 0), asked, "x").unwrap().1, asked);
}

#[test]
fn a_macvlan() {
    let lab = Lab::new();
    // Or eth0 would answer for the address as well.
    lab.gateway.sysctl("net/ipv4/conf/all/arp_ignore", "1");
    ip(&lab.gateway, "link add mac0 link eth0 type macvlan mode bridge");
    move_addresses(&lab, "mac0");
    conversations(&lab.client, &lab.gateway, "mac0");
}

/// VXLAN-GPE without Ethernet inside: link type none, as tun and WireGuard.
#[test]
fn a_layer_3_device() {
    let lab = Lab::new();
    for (ns, own, other, inner, to) in [
        (&lab.client, "172.16.0.1", "172.16.0.2", CLIENT, "default".to_owned()),
        (&lab.gateway, "172.16.0.2", "172.16.0.1", GATEWAY, CLIENT.to_string()),
    ] {
        let batch = format!(
            "address flush dev eth0
             address add {own}/24 dev eth0
             link add vx0 type vxlan gpe external dstport 4790
             address add {inner}/32 dev vx0
             link set vx0 up
             route add {to} encap ip id 7 dst {other} dev vx0"
        );
        ip(ns, &batch);
    }
    conversations(&lab.client, &lab.gateway, "vx0");
}

/// What local programs send to addresses that lead to lo, without being this machine's own.
#[test]
fn loopback() {
    let here = Netns::new();
    ip(&here, "route add local 198.18.0.0/15 dev lo\n address add 192.0.2.1/32 dev lo");
    let _web = Server::http(&here, any(80), "web");
    let echo = Server::udp(&here, any(53));
    up(&here, "lo", &[]);
    for source in ["127.0.0.1", "192.0.2.1", "198.18.7.7"] {
        let body = here.run(
            "curl",
            &[
                "--silent",
                "--show-error",
                "--fail",
                "--max-time",
                "5",
                "--interface",
                source,
                "http://198.18.1.1/",
            ],
        );
        assert!(body.starts_with(&format!("web {source}:")), "{body}");
    }
    let socket = talk::udp(&here, 4001);
    for round in 0..3 {
        let to = SocketAddr::from(([198, 18, 1, 2], 53));
        let (text, from) = talk::ask(&socket, to, "question").unwrap();
        assert!(from == to && text.starts_with("question "), "{round}: {text} from {from}");
        let own = SocketAddr::from(([127, 0, 0, 1], 53));
        assert_eq!(talk::ask(&socket, own, "direct").unwrap().1, own, "{round}");
    }
    assert_eq!(echo.heard().len(), 6);
    assert_eq!(talk::ping(&here, 7, [198, 18, 1, 3]).unwrap(), IpAddr::from([198, 18, 1, 3]));
    let refused = talk::dial(&here, 0, ([198, 18, 1, 4], 81).into()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert!(talk::curl(&here, "http://127.0.0.1/").starts_with("web 127.0.0.1:"));
    assert!(talk::curl(&here, "http://192.0.2.1/").starts_with("web 192.0.2.1:"));
}

#[test]
fn loopback_over_ipv6() {
    let here = Netns::new();
    ip(&here, "route add local 2001:db8:198::/48 dev lo");
    let _echo = Server::udp(&here, SocketAddr::from(([0u16; 8], 53)));
    let _web = Server::http(&here, SocketAddr::from(([0u16; 8], 80)), "web");
    up(&here, "lo", &[]);
    assert!(talk::curl(&here, "http://[2001:db8:198::1]/").starts_with("web ["));
    let socket = here.within(|| std::net::UdpSocket::bind("[::]:4001").unwrap());
    socket.set_read_timeout(Some(talk::PATIENCE)).unwrap();
    for round in 0..3 {
        let to = "[2001:db8:198::2]:53".parse().unwrap();
        assert_eq!(talk::ask(&socket, to, "question").unwrap().1, to, "{round}");
    }
}

/// Two Ethernet types and tags as they lie in a frame.
const TAGS: [&[u8]; 4] =
    [&[], &[0x81, 0, 0, 100], &[0x88, 0xa8, 0x20, 7, 0x81, 0, 0xef, 0xff], &[0x81, 0, 0, 5, 0x81, 0, 0, 6]];

fn tagged(packet: &Packet, tags: &[u8]) -> Vec<u8> {
    let frame = packet.frame();
    [&frame[..12], tags, &frame[12..]].concat()
}

#[test]
fn tagged_frames_are_served_on_request() {
    let lab = Lab::new();
    up(&lab.gateway, "eth0", &["--vlan", "any"]);
    let program = |hook: &str| {
        let filters = tools::filters(&lab.gateway, "eth0", hook);
        Program::by_id(&lab.gateway, filters[0]["options"]["prog"]["id"].as_u64().unwrap())
    };
    let (ingress, egress) = (program("ingress"), program("egress"));
    for (n, tags) in TAGS.into_iter().enumerate() {
        for (m, sums) in [Sums::None, Sums::Complete].into_iter().enumerate() {
            let port = 4000 + (n * 10 + m) as u16;
            let gateway = at(GATEWAY, 80);
            let asked = Packet::tcp(client(port), at(FAR, 80), SYN).options(&[1; 8]);
            let answer = asked.clone().reversed().between(at(FAR, 80), client(port));
            let question =
                Packet { fragment: 0, ..Packet::udp(client(port), at(FAR, 80)).payload(&[n as u8; 900]) };
            let mut cases = vec![
                (&ingress, asked.clone(), asked.between(client(port), gateway)),
                (&egress, answer.clone().between(gateway, client(port)), answer),
            ];
            let pieces = question.fragments(256).into_iter();
            let expected = question.between(client(port), gateway).fragments(256);
            cases.extend(pieces.zip(expected).map(|(piece, expected)| (&ingress, piece, expected)));
            for (program, packet, expected) in cases {
                let outcome = program.run(&tagged(&packet, tags), sums);
                assert_eq!(outcome.verdict, UNSPEC, "{packet} with {tags:02x?}");
                assert_eq!(outcome.frame, tagged(&expected, tags), "{packet} with {tags:02x?}");
            }
        }
    }
    let syn = Packet::tcp(client(1), at(FAR, 80), SYN);
    let three = tagged(&syn, &[0x81, 0, 0, 1, 0x81, 0, 0, 2, 0x81, 0, 0, 3]);
    assert_eq!(ingress.run(&three, Sums::None).frame, three, "three tags");
    let arp = [&[0; 12][..], &[0x81, 0, 0, 1, 8, 6], &[0; 40]].concat();
    assert_eq!(ingress.run(&arp, Sums::None).frame, arp);
    detour::run(&lab.gateway, &["up", "eth0"]).refused(code::FOREIGN, &["flags"]);
}

/// The kernel takes the outer tag out of a frame that arrives. What follows our program sends it back, so that it is seen.
#[test]
fn a_tag_in_the_metadata() {
    for (option, destination) in [("none", FAR), ("any", GATEWAY)] {
        for tags in &TAGS[1..] {
            let lab = Lab::new();
            up(&lab.gateway, "eth0", &["--vlan", option]);
            let back = "filter add dev eth0 ingress prio 300 protocol all u32 match u32 0 0 action mirred egress redirect dev eth0";
            lab.gateway.run("tc", &back.split(' ').collect::<Vec<_>>());
            let wire = Wire::tap(&lab.client, "eth0").only();
            let syn = Packet::tcp(client(4000), at(FAR, 80), SYN);
            let mut frame = tagged(&syn, tags);
            frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
            // Past the addresses and the checksum that covers them, what it was.
            let syn_end = syn.ip()[38..].to_vec();
            wire.send(&frame);
            let expected = syn.clone().between(client(4000), at(destination, 80)).ip();
            let arrived = |frame: &Frame| !frame.sent && frame.bytes.ends_with(&syn_end);
            let seen = wire.next(|frame| arrived(frame).then(|| frame.bytes.clone())).unwrap_or_default();
            assert!(seen.ends_with(&expected), "--vlan {option} {tags:02x?}: {seen:02x?}");
            let more = wire.frames(talk::QUIET);
            assert!(!more.iter().any(arrived), "--vlan {option} {tags:02x?}: {more:02x?}");
        }
    }
}

/// A tag of VLAN 0 has a priority and names no VLAN: the kernel takes such a frame for the device's own, and so do we.
#[test]
fn priority_tags_are_no_vlans() {
    for option in ["none", "any"] {
        let lab = Lab::new();
        let _server = Server::http(&lab.gateway, SocketAddr::from((GATEWAY, 80)), "page");
        let rules = ["tcp dport 81 reject with tcp reset", "udp dport 82 reject", "tcp redirect"];
        let rules = rules.into_iter().flat_map(|rule| ["--rule", rule]);
        up(&lab.gateway, "eth0", &rules.chain(["--vlan", option]).collect::<Vec<_>>());
        let wire = Wire::tap(&lab.client, "eth0");
        for packet in [
            Packet::tcp(client(4000), at(FAR, 80), SYN),
            Packet::tcp(client(4001), at(FAR, 81), SYN),
            Packet::udp(client(4002), at(FAR, 82)),
            Packet::tcp(client(4003), at(GATEWAY, 80), SYN),
        ] {
            let mut frame = tagged(&packet, &[0x81, 0, 0x60, 0]);
            frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
            wire.send(&frame);
        }
        let frames = wire.frames(2 * talk::QUIET);
        // A refusal goes back with the tag of what it answers.
        let untagged = |mut bytes: Vec<u8>| {
            if bytes[12..14] == [0x81, 0] {
                bytes.drain(12..16);
            }
            bytes
        };
        let heard = frames.into_iter().filter(|frame| !frame.sent).map(|frame| untagged(frame.bytes));
        let heard: Vec<Packet> = heard.filter_map(|bytes| Packet::read_loosely(&bytes).ok()).collect();
        let from = |port: u16, far: Ipv4Addr, flags: u8| {
            let (server, us) = (SocketAddr::from((far, port)), CLIENT);
            let is_it = |packet: &&Packet| {
                let sent = matches!(packet.inner, Inner::Tcp { flags: sent, .. } if sent == flags);
                packet.ends().0 == server && packet.dst == us && sent
            };
            heard.iter().filter(is_it).count()
        };
        assert!(from(80, FAR, SYN | ACK) >= 1, "--vlan {option}: translated: {heard:?}");
        assert!(from(80, GATEWAY, SYN | ACK) >= 1, "--vlan {option}: direct: {heard:?}");
        assert_eq!(from(81, FAR, RST | ACK), 1, "--vlan {option}: refused: {heard:?}");
        let unreachable = |packet: &&Packet| {
            packet.src == FAR && matches!(packet.inner, Inner::Icmp { kind: 3, code: 3, .. })
        };
        assert_eq!(heard.iter().filter(unreachable).count(), 1, "--vlan {option}: {heard:?}");
    }
}

#[test]
fn a_device_without_tags_cannot_be_asked_for_them() {
    let lab = Lab::new();
    ip(&lab.gateway, "link add vx0 type vxlan gpe external dstport 4790\n address add 192.0.2.1/24 dev vx0");
    detour::run(&lab.gateway, &["up", "vx0", "--vlan", "any"]).refused(code::USAGE, &["vx0", "no VLAN tags"]);
}
