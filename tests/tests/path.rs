// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! ICMP errors between real stacks in both families: what a client behind `detour up` hears, and what it hears of nftables' same
//! rule; transmit checksum offload on and off.
use e2e::capture::Wire;
use e2e::detour::up;
use e2e::family::Family;
use e2e::lab::{ip, Lab};
use e2e::netns::Netns;
use e2e::packet::{checksum, Inner, Packet};
use e2e::serve::Server;
use e2e::six::bad_checksums;
use e2e::talk;
use nix::sys::socket::{setsockopt, sockopt};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};

/// Runs the scene in each family under nftables and under detour, with offload on and off: both tell the same, which is what
/// `expected` says, and nobody meets a wrong checksum.
fn both(
    rule: impl Fn(Family) -> [String; 2],
    expected: impl Fn(Family) -> Option<Vec<String>>,
    scene: impl Fn(Family, &Lab) -> Vec<String>,
) {
    for (family, offload) in Family::BOTH.into_iter().flat_map(|family| [(family, true), (family, false)]) {
        let [nft, rule] = rule(family);
        let theirs = Lab::new().tx_checksum(offload);
        theirs.nft_for(family, &nft);
        let theirs = scene(family, &theirs);
        let ours = Lab::new().tx_checksum(offload);
        up(&ours.gateway, &ours.device, &["--rule", &rule]);
        let told = scene(family, &ours);
        assert_eq!(told, theirs, "{family:?}, offload {offload}");
        if let Some(expected) = expected(family) {
            assert_eq!(told, expected, "{family:?}, offload {offload}");
        }
        for ns in [&ours.client, &ours.gateway] {
            assert_eq!(bad_checksums(ns), Vec::<String>::new(), "{family:?}, offload {offload}");
        }
    }
}

/// Everything to the gateway, as nftables and as we say it.
fn all(_: Family) -> [String; 2] {
    ["meta l4proto { tcp, udp, icmp, ipv6-icmp } redirect", "redirect"].map(str::to_owned)
}

/// What both say alike, for the server behind the gateway.
fn to_server(what: &str) -> impl Fn(Family) -> [String; 2] + '_ {
    move |family| {
        let server = family.server();
        [format!("meta l4proto {what} dnat to {server}"), format!("{what} dnat to {server}")]
    }
}

/// What an error looks like in [`errors`].
fn error(family: Family, source: IpAddr, four: &str, six: &str, about: [SocketAddr; 2]) -> String {
    format!("{source} {}: {} > {}:{}", family.pick(four, six), about[0].ip(), about[1].ip(), about[1].port())
}

/// The different ICMP errors among what passed, as sorted lines: sender, type, code, and the quoted packet's ends. How often
/// one is sent depends on timing. Errors are always summed by the sender, so what is read is right in every sum of its own.
fn errors(family: Family, wire: &Wire) -> Vec<String> {
    let mut lines = BTreeSet::new();
    let frames = wire.frames(talk::QUIET);
    for frame in frames.iter().filter(|frame| frame.bytes[12..14] == family.pick([8, 0], [0x86, 0xdd])) {
        let packet = Packet::read_loosely(&frame.bytes).unwrap_or_else(|fault| panic!("{fault}"));
        let Inner::Icmp { kind, code, .. } = packet.inner else { continue };
        if !family.pick([3, 11, 12, 12], [1, 2, 3, 4]).contains(&kind) {
            continue;
        }
        let quoted = Packet::read(&frame.bytes).unwrap_or_else(|fault| panic!("{fault}")).payload;
        if family == Family::V4 {
            assert_eq!(checksum(&quoted[..20]), 0, "the quoted header's sum");
        }
        let address = |at: usize| -> IpAddr {
            match family {
                Family::V4 => <[u8; 4]>::try_from(&quoted[12 + 4 * at..16 + 4 * at]).unwrap().into(),
                Family::V6 => <[u8; 16]>::try_from(&quoted[8 + 16 * at..24 + 16 * at]).unwrap().into(),
            }
        };
        let at = family.pick(22, 42);
        let dport = u16::from_be_bytes([quoted[at], quoted[at + 1]]);
        lines.insert(format!("{} {kind}/{code}: {} > {}:{dport}", packet.src, address(0), address(1)));
    }
    lines.into_iter().collect()
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

fn ends(family: Family, dport: u16) -> [SocketAddr; 2] {
    [(family.client(), 0), (family.far(), dport)].map(SocketAddr::from)
}

#[test]
fn pages_answers_and_pings_under_any_address() {
    both(
        all,
        |_| None,
        |family, lab| {
            let _web = Server::http(&lab.gateway, family.any(80), &"page ".repeat(9000));
            let _echo = Server::udp(&lab.gateway, family.any(53));
            let far = |n: u8| -> IpAddr {
                let six = Ipv6Addr::new(0x2001, 0xdb8, n.into(), 0, 0, 0, 0, 1);
                family.pick([20, n, 0, 1].into(), six.into())
            };
            let everybody = || (1..=8).map(far).chain([family.gateway()]);
            let mut told = Vec::new();
            // One client port to many destinations and to the gateway itself.
            for to in everybody() {
                let mut stream = talk::dial(&lab.client, 4000, (to, 80).into()).unwrap();
                let page = talk::get(&mut stream, "example.org").unwrap();
                told.push(format!("{} {}", stream.peer_addr().unwrap(), page.matches("page").count()));
            }
            let url = format!("http://{}/", SocketAddr::new(family.far(), 80));
            told.push(talk::curl(&lab.client, &url)[..40].to_owned());
            let socket = talk::udp_for(&lab.client, family, 4000);
            for round in 0..3 {
                for to in everybody() {
                    socket.send_to(format!("{round} {to}").as_bytes(), (to, 53)).unwrap();
                }
                let mut answers = BTreeSet::new();
                for _ in 0..9 {
                    let (text, from) = talk::next(&socket).unwrap();
                    assert!(text.starts_with(&format!("{round} {} ", from.ip())), "{text} from {from}");
                    answers.insert(from);
                }
                told.extend(answers.iter().map(SocketAddr::to_string));
            }
            let ping = |rest: &[&str], to: IpAddr| {
                lab.client.run("ping", &[&["-n"], rest, &[&to.to_string()]].concat())
            };
            for to in [far(1), far(2), family.gateway()] {
                ping(&["-c", "2", "-i", "0.1", "-W", "3"], to);
            }
            told.push(
                ping(&["-q", "-s", "1400", "-c", "1"], family.far()).lines().next().unwrap().to_owned(),
            );
            told
        },
    );
}

#[test]
fn closed_ports_refuse() {
    let expected = |family: Family| Some(vec![error(family, family.far(), "3/3", "1/4", ends(family, 9))]);
    both(all, expected, |family, lab| {
        let wire = Wire::tap(&lab.client, "eth0");
        let refused = talk::dial(&lab.client, 4001, (family.far(), 81).into()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        let socket = talk::udp_for(&lab.client, family, 4000);
        socket.connect((family.far(), 9)).unwrap();
        assert_eq!(talk::refusal(&socket).unwrap(), ErrorKind::ConnectionRefused);
        errors(family, &wire)
    });
}

/// The other way: a server learns that its client is gone.
#[test]
fn a_client_that_left_refuses_the_answer() {
    both(
        all,
        |family| Some(vec![SocketAddr::new(family.client(), 4000).to_string()]),
        |family, lab| {
            let server = lab.gateway.within(|| UdpSocket::bind((family.gateway(), 53)).unwrap());
            server.set_read_timeout(Some(talk::PATIENCE)).unwrap();
            let socket = talk::udp_for(&lab.client, family, 4000);
            socket.send_to(b"quick", (family.far(), 53)).unwrap();
            drop(socket);
            let (_, client) = server.recv_from(&mut [0; 10]).unwrap();
            server.connect(client).unwrap();
            assert_eq!(talk::refusal(&server).unwrap(), ErrorKind::ConnectionRefused);
            vec![client.to_string()]
        },
    );
}

/// What `traceroute` does: one hop more with each question, until a port is unreachable.
fn trace(family: Family, lab: &Lab, to: IpAddr, hops: u16) -> Vec<String> {
    let wire = Wire::tap(&lab.client, "eth0");
    for ttl in 1..=hops {
        // A program that another thread starts has a copy of the last one until it runs.
        let socket = talk::udp_shared(&lab.client, family, 5000);
        // Of hops on the way the kernel tells a socket only when it asked to hear of such errors.
        match family {
            Family::V4 => {
                socket.set_ttl(ttl.into()).unwrap();
                setsockopt(&socket, sockopt::Ipv4RecvErr, &true).unwrap();
            }
            Family::V6 => {
                setsockopt(&socket, sockopt::Ipv6Ttl, &ttl.into()).unwrap();
                setsockopt(&socket, sockopt::Ipv6RecvErr, &true).unwrap();
            }
        }
        socket.connect((to, 33433 + ttl)).unwrap();
        talk::refused(&socket, b"where?").unwrap();
    }
    errors(family, &wire)
}

#[test]
fn traces_end_at_the_address_that_was_asked() {
    let unreachable = |family: Family, port| error(family, family.far(), "3/3", "1/4", ends(family, port));
    let one = |family| Some(vec![unreachable(family, 33434)]);
    both(all, one, |family, lab| trace(family, lab, family.far(), 1));
    let two = |family: Family| {
        let first = error(family, family.far(), "11/0", "3/0", ends(family, 33434));
        Some(sorted(vec![first, unreachable(family, 33435)]))
    };
    both(to_server("udp"), two, |family, lab| {
        let _server = lab.server6();
        trace(family, lab, family.far(), 2)
    });
}

/// Who traces the server by its own address hears the routers under theirs, though such flows are known to the programs.
#[test]
fn traces_to_the_server_itself() {
    let rule = |family: Family| {
        let [ip, far, server] =
            [family.pick("ip", "ip6").to_owned(), family.far().to_string(), family.server().to_string()];
        [
            format!("{ip} daddr {far} meta l4proto udp dnat to {server}"),
            format!("{ip} daddr {far} udp dnat to {server}"),
        ]
    };
    let hops = |family: Family| {
        let about = |port| [(family.client(), 0), (family.server(), port)].map(SocketAddr::from);
        Some(sorted(vec![
            error(family, family.gateway(), "11/0", "3/0", about(33434)),
            error(family, family.server(), "3/3", "1/4", about(33435)),
        ]))
    };
    both(rule, hops, |family, lab| {
        let _server = lab.server6();
        trace(family, lab, family.server(), 2)
    });
}

/// A link of 1280 bytes between the gateway and the server: the client's segments get smaller.
#[test]
fn a_narrow_link_before_the_server() {
    let rule = |family: Family| [0, 1].map(|_| format!("tcp dport 80 dnat to {}", family.server()));
    let expected = |family: Family| Some(vec![error(family, family.far(), "3/4", "2/0", ends(family, 80))]);
    both(rule, expected, |family, lab| {
        let server = lab.server6();
        ip(&lab.gateway, "link set eth1 mtu 1280");
        let web = Server::http(&server, (family.server(), 80), "got it");
        let wire = Wire::tap(&lab.client, "eth0");
        let long = "upload ".repeat(3000);
        let mut stream = talk::dial(&lab.client, 4000, (family.far(), 80).into()).unwrap();
        assert!(talk::get(&mut stream, &long).unwrap().starts_with("got it "));
        assert!(web.heard()[0].1.len() > long.len());
        errors(family, &wire)
    });
}

/// A link of 1280 bytes behind a router on the client's side: the server's segments get smaller.
#[test]
fn a_narrow_link_before_the_client() {
    let behind = |family: Family| -> IpAddr { family.pick("10.7.7.2", "fd07::2").parse().unwrap() };
    let rule = |_| [0, 1].map(|_| "tcp dport 80 redirect".to_owned());
    let expected = |family: Family| {
        let about = [(family.far(), 80), (behind(family), 4000)].map(SocketAddr::from);
        Some(vec![error(family, family.client(), "3/4", "2/0", about)])
    };
    both(rule, expected, |family, lab| {
        let far = narrow(lab);
        let _web = Server::http(&lab.gateway, family.any(80), &"page ".repeat(9000));
        let wire = Wire::tap(&lab.client, "eth0");
        let mut stream = talk::dial(&far, 4000, (family.far(), 80).into()).unwrap();
        assert!(talk::get(&mut stream, "example.org").unwrap().len() > 45_000);
        assert_eq!(stream.peer_addr().unwrap().ip(), family.far());
        errors(family, &wire)
    });
}

/// A namespace that the lab's client forwards for, over a narrow link of which only the client knows.
fn narrow(lab: &Lab) -> Netns {
    let far = lab.client.beside();
    ip(
        &lab.client,
        &format!(
            "link add eth1 mtu 1280 type veth peer name eth0 mtu 1500 netns {}
             address add 10.7.7.1/24 dev eth1
             address add fd07::1/64 dev eth1 nodad
             link set eth1 up",
            far.path().display()
        ),
    );
    ip(
        &far,
        "address add 10.7.7.2/24 dev eth0
         address add fd07::2/64 dev eth0 nodad
         link set eth0 up
         route add default via 10.7.7.1
         route add default via fd07::1",
    );
    lab.client.sysctl("net/ipv4/ip_forward", "1");
    lab.client.sysctl("net/ipv6/conf/all/forwarding", "1");
    for (family, net) in [(Family::V4, "10.7.7.0/24"), (Family::V6, "fd07::/64")] {
        ip(&lab.gateway, &format!("route add {net} via {}", family.client()));
    }
    far
}

/// A UDP server on a wildcard socket answers from the address that routing prefers: it is heard under the one that was asked.
#[test]
fn a_udp_server_that_answers_from_another_address() {
    for (family, offload) in Family::BOTH.into_iter().flat_map(|family| [(family, true), (family, false)]) {
        let lab = Lab::new().tx_checksum(offload);
        // The newest is preferred in IPv6, the first in IPv4: rules lead to the other one.
        ip(&lab.gateway, "address add fd00::3/64 dev eth0 nodad");
        let to = family.pick(family.second(), family.gateway());
        up(&lab.gateway, &lab.device, &["--rule", &format!("udp dnat to {to}")]);
        let _echo = Server::udp(&lab.gateway, family.any(53));
        let socket = talk::udp_for(&lab.client, family, 4000);
        let other: IpAddr = family.pick("1.2.3.4", "2001:db8::9").parse().unwrap();
        for to in [family.far(), other, family.far()] {
            let (_, from) = talk::ask(&socket, (to, 53).into(), "who?").unwrap();
            assert_eq!(from.ip(), to, "{family:?}, offload {offload}");
        }
    }
}
