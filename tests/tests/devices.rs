// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The same conversations over every kind of device that this kernel makes: bulk TCP, UDP, fragments, ping, a closed port, in
//! both families.
use e2e::bench::{at, client, FAR};
use e2e::capture::{Frame, Wire};
use e2e::detour::{self, code, up};
use e2e::family::Family;
use e2e::lab::{ip, Lab, CLIENT, CLIENT6, GATEWAY, GATEWAY6};
use e2e::netns::Netns;
use e2e::packet::{Inner, Packet, ACK, RST, SYN};
use e2e::serve::Server;
use e2e::six::bad_checksums;
use e2e::talk;
use e2e::testrun::{Program, Sums, UNSPEC};
use e2e::tools;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Nobody's, one for each `n`.
fn fake(family: Family, n: u8, port: u16) -> SocketAddr {
    let six = Ipv6Addr::new(0x2001, 0xdb8, n.into(), 0, 0, 0, 0, 1);
    SocketAddr::new(family.pick(Ipv4Addr::new(n, 2, 3, 4).into(), six.into()), port)
}

/// What a client sees of `gateway` in each family, where `device` is up.
fn conversations(client: &Netns, gateway: &Netns, device: &str) {
    let page = "0123456789abcdef".repeat(1 << 14);
    let web = Server::http(gateway, Family::V6.any(80), &page);
    let _echo = Server::udp(gateway, Family::V6.any(53));
    up(gateway, device, &[]);
    for family in Family::BOTH {
        let fake = |n, port| fake(family, n, port);
        let what = format!("{device} {family:?}");
        let mut stream = talk::dial(client, 4000, fake(1, 80)).unwrap();
        assert!(talk::get(&mut stream, &page).unwrap().starts_with(&page), "{what}: bulk to the client");
        let (_, request) = web.heard().pop().unwrap();
        assert!(String::from_utf8(request).unwrap().contains(&page), "{what}: bulk to the server");
        let socket = talk::udp_for(client, family, 4001);
        for length in [1, 1400, 4000, 9000, 60_000] {
            let (text, to) = ("x".repeat(length), fake(8, 53));
            let (answer, from) =
                talk::ask(&socket, to, &text).unwrap_or_else(|e| panic!("{what} {length}: {e}"));
            assert!(from == to && answer.starts_with(&text), "{what}: {length} bytes of UDP from {from}");
        }
        let to = fake(9, 0).ip();
        assert_eq!(talk::ping(client, 77, to).unwrap(), to, "{what}");
        let refused = talk::dial(client, 0, fake(1, 81)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{what}");
        let closed = talk::udp_for(client, family, 0);
        closed.connect(fake(1, 82)).unwrap();
        assert_eq!(talk::refusal(&closed).unwrap(), ErrorKind::ConnectionRefused, "{what}");
        for ns in [client, gateway] {
            assert_eq!(bad_checksums(ns), Vec::<String>::new(), "{what}");
        }
    }
}

/// Moves the gateway's addresses from `eth0` to `device`.
fn move_addresses(lab: &Lab, device: &str) {
    let batch = format!(
        "address flush dev eth0
         address add {GATEWAY}/24 dev {device}
         address add {GATEWAY6}/64 dev {device} nodad
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

/// The least one of IPv6; below, a device has none.
#[test]
fn a_small_mtu() {
    let lab = Lab::new().tx_checksum(false);
    for ns in [&lab.client, &lab.gateway] {
        ip(ns, "link set eth0 mtu 1280");
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
    let _echo = Server::udp(&lab.gateway, Family::V6.any(53));
    let rules = Family::BOTH.map(|family| format!("udp dport 53 dnat to {}", family.gateway()));
    up(&lab.gateway, "eth0", &["--rule", &rules[0], "--rule", &rules[1]]);
    for family in Family::BOTH {
        let asked = fake(family, 8, 53);
        assert_eq!(talk::ask(&talk::udp_for(&lab.client, family, 0), asked, "x").unwrap().1, asked);
    }
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
        (
            &lab.client,
            "172.16.0.1",
            "172.16.0.2",
            [CLIENT.into(), CLIENT6.into()],
            ["0.0.0.0/0", "::/0"].map(str::to_owned),
        ),
        (
            &lab.gateway,
            "172.16.0.2",
            "172.16.0.1",
            [GATEWAY.into(), GATEWAY6.into()],
            Family::BOTH.map(|family| family.client().to_string()),
        ),
    ] {
        let inner: [IpAddr; 2] = inner;
        let batch = format!(
            "address flush dev eth0
             address add {own}/24 dev eth0
             link add vx0 type vxlan gpe external dstport 4790
             address add {}/32 dev vx0
             address add {}/128 dev vx0 nodad
             link set vx0 up
             route replace {} encap ip id 7 dst {other} dev vx0
             route replace {} encap ip id 7 dst {other} dev vx0",
            inner[0], inner[1], to[0], to[1]
        );
        ip(ns, &batch);
    }
    conversations(&lab.client, &lab.gateway, "vx0");
}

/// What local programs send to addresses that lead to lo, without being this machine's own.
#[test]
fn loopback() {
    for family in Family::BOTH {
        let here = Netns::new();
        let (net, own) =
            family.pick(("198.18.0.0/15", "192.0.2.1/32"), ("2001:db8:198::/48", "2001:db8:192::1/128"));
        ip(&here, &format!("route add local {net} dev lo\n address add {own} dev lo"));
        here.sysctl("net/ipv6/ip_nonlocal_bind", "1");
        let _web = Server::http(&here, family.any(80), "web");
        let echo = Server::udp(&here, family.any(53));
        up(&here, "lo", &[]);
        let at = |n: u16, port| {
            let six = Ipv6Addr::new(0x2001, 0xdb8, 0x198, 0, 0, 0, 0, n);
            SocketAddr::new(family.pick(Ipv4Addr::new(198, 18, 1, n as u8).into(), six.into()), port)
        };
        let lo = family.pick("127.0.0.1", "::1");
        for source in [lo, own.split('/').next().unwrap(), &at(7, 0).ip().to_string()] {
            let url = format!("http://{}/", at(1, 80));
            let line =
                ["--silent", "--show-error", "--fail", "--max-time", "20", "--interface", source, &url];
            let body = here.run("curl", &line);
            let begins = family.pick(format!("web {source}:"), format!("web [{source}]:"));
            assert!(body.starts_with(&begins), "{body}");
        }
        let socket = talk::udp_for(&here, family, 4001);
        for round in 0..3 {
            let to = at(2, 53);
            let (text, from) = talk::ask(&socket, to, "question").unwrap();
            assert!(from == to && text.starts_with("question "), "{round}: {text} from {from}");
            let own = SocketAddr::new(lo.parse().unwrap(), 53);
            assert_eq!(talk::ask(&socket, own, "direct").unwrap().1, own, "{round}");
        }
        assert_eq!(echo.heard().len(), 6);
        assert_eq!(talk::ping(&here, 7, at(3, 0).ip()).unwrap(), at(3, 0).ip());
        let refused = talk::dial(&here, 0, at(4, 81)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        for own in [lo, own.split('/').next().unwrap()] {
            let body = talk::curl(&here, &format!("http://{}/", SocketAddr::new(own.parse().unwrap(), 80)));
            assert!(body.starts_with("web "), "{body}");
        }
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
    let both =
        [Sums::None, Sums::Complete].into_iter().flat_map(|sums| Family::BOTH.map(|family| (sums, family)));
    for (n, tags) in TAGS.into_iter().enumerate() {
        for (m, (sums, family)) in both.clone().enumerate() {
            let client = SocketAddr::new(family.client(), 4000 + (n * 10 + m) as u16);
            let [gateway, far] = [family.gateway(), family.far()].map(|ip| SocketAddr::new(ip, 80));
            let asked = Packet::tcp(client, far, SYN).options(family.pick(&[1; 8], &[]));
            let answer = asked.clone().reversed().between(far, client);
            let question = Packet::udp(client, far).payload(&[n as u8; 900]);
            let question = Packet { fragment: 0, id: (n * 10 + m) as u16, ..question };
            let mut cases = vec![
                (&ingress, asked.clone(), asked.between(client, gateway)),
                (&egress, answer.clone().between(gateway, client), answer),
            ];
            let pieces = question.fragments(256).into_iter();
            let expected = question.between(client, gateway).fragments(256);
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
    let families = Family::BOTH.into_iter();
    let cases =
        families.flat_map(|family| [(family, "none", family.far()), (family, "any", family.gateway())]);
    for (family, option, destination) in cases {
        for tags in &TAGS[1..] {
            let lab = Lab::new();
            up(&lab.gateway, "eth0", &["--vlan", option]);
            let back = "filter add dev eth0 ingress prio 300 protocol all u32 match u32 0 0 action mirred egress redirect dev eth0";
            lab.gateway.run("tc", &back.split(' ').collect::<Vec<_>>());
            let wire = Wire::tap(&lab.client, "eth0").only();
            let client = SocketAddr::new(family.client(), 4000);
            let syn = Packet::tcp(client, SocketAddr::new(family.far(), 80), SYN);
            let mut frame = tagged(&syn, tags);
            frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
            // Past the addresses and the checksum that covers them, what it was.
            let syn_end = syn.ip()[family.pick(38, 58)..].to_vec();
            wire.send(&frame);
            let expected = syn.clone().between(client, SocketAddr::new(destination, 80)).ip();
            let arrived = |frame: &Frame| !frame.sent && frame.bytes.ends_with(&syn_end);
            let seen = wire.next(|frame| arrived(frame).then(|| frame.bytes.clone())).unwrap_or_default();
            assert!(seen.ends_with(&expected), "{family:?} --vlan {option} {tags:02x?}: {seen:02x?}");
            let more = wire.frames(talk::QUIET);
            assert!(!more.iter().any(arrived), "--vlan {option} {tags:02x?}: {more:02x?}");
        }
    }
}

/// A tag of VLAN 0 has a priority and names no VLAN: the kernel takes such a frame for the device's own, and so do we.
#[test]
fn priority_tags_are_no_vlans() {
    for (family, option) in Family::BOTH.into_iter().flat_map(|family| [(family, "none"), (family, "any")]) {
        let lab = Lab::new();
        let (far, gateway) = (family.far(), family.gateway());
        // Nobody has to look for the client first.
        let client = family.client();
        ip(&lab.gateway, &format!("neighbour replace {client} lladdr 02:00:00:00:00:51 dev eth0"));
        let _server = Server::http(&lab.gateway, SocketAddr::new(gateway, 80), "page");
        let rules = ["tcp dport 81 reject with tcp reset", "udp dport 82 reject", "tcp redirect"];
        let rules = rules.into_iter().flat_map(|rule| ["--rule", rule]);
        up(&lab.gateway, "eth0", &rules.chain(["--vlan", option]).collect::<Vec<_>>());
        let wire = Wire::tap(&lab.client, "eth0");
        let client = |port| SocketAddr::new(client, port);
        for packet in [
            Packet::tcp(client(4000), (far, 80), SYN),
            Packet::tcp(client(4001), (far, 81), SYN),
            Packet::udp(client(4002), (far, 82)),
            Packet::tcp(client(4003), (gateway, 80), SYN),
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
        let from = |port: u16, far: IpAddr, flags: u8| {
            let (server, us) = (SocketAddr::from((far, port)), family.client());
            let is_it = |packet: &&Packet| {
                let sent = matches!(packet.inner, Inner::Tcp { flags: sent, .. } if sent == flags);
                packet.ends().0 == server && packet.dst == us && sent
            };
            heard.iter().filter(is_it).count()
        };
        let what = format!("{family:?} --vlan {option}");
        assert!(from(80, far, SYN | ACK) >= 1, "{what}: translated: {heard:?}");
        assert!(from(80, gateway, SYN | ACK) >= 1, "{what}: direct: {heard:?}");
        assert_eq!(from(81, far, RST | ACK), 1, "{what}: refused: {heard:?}");
        let (kind, code) = family.pick((3, 3), (1, 4));
        let unreachable = |packet: &&Packet| {
            packet.src == far
                && matches!(packet.inner, Inner::Icmp { kind: k, code: c, .. } if (k, c) == (kind, code))
        };
        assert_eq!(heard.iter().filter(unreachable).count(), 1, "{what}: {heard:?}");
    }
}

#[test]
fn a_device_without_tags_cannot_be_asked_for_them() {
    let lab = Lab::new();
    ip(&lab.gateway, "link add vx0 type vxlan gpe external dstport 4790\n address add 192.0.2.1/24 dev vx0");
    detour::run(&lab.gateway, &["up", "vx0", "--vlan", "any"]).refused(code::USAGE, &["vx0", "no VLAN tags"]);
}
