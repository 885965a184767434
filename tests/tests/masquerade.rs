// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A server on the same segment as its clients: it sees the gateway as its client, and clients see whom they asked, as
//! with nftables' dnat and masquerade.
use e2e::capture::Wire;
use e2e::detour::{code, json, run, up};
use e2e::family::Family;
use e2e::lab::{Lab, GATEWAY, NEIGHBOUR};
use e2e::model::{frame, PORTS};
use e2e::netns::Netns;
use e2e::packet::{Inner, Packet, ACK, FIN, SYN};
use e2e::quote::Talk;
use e2e::random::Random;
use e2e::sctp::sctp;
use e2e::serve::Server;
use e2e::six::{bad_checksums, destination_options, fragment, hop_by_hop, routing};
use e2e::talk;
use e2e::testrun::{Program, Sums, REDIRECT, SHOT};
use e2e::tools;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Nobody's, one for each `n`.
fn far(family: Family, n: u8, port: u16) -> SocketAddr {
    let six = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, n.into());
    SocketAddr::new(family.pick(Ipv4Addr::new(1, 2, 3, n).into(), six.into()), port)
}

/// What the client hears of everything, and as whom the server sees it.
fn conversations(lab: &Lab, family: Family, server: &Netns) -> Vec<String> {
    let _web = Server::http(server, family.any(80), &"page ".repeat(20_000));
    let _echo = Server::udp(server, family.any(53));
    let neighbour = |port| SocketAddr::new(family.neighbour(), port);
    let mut told = Vec::new();
    for n in 1..=3 {
        let far = far(family, n, 80);
        // The same port each time: to the server these are three connections of one client.
        let mut stream = talk::dial(&lab.client, 4000, far).unwrap();
        let body = talk::get(&mut stream, "example.org").unwrap();
        let peer: SocketAddr = body.rsplit(' ').next().unwrap().parse().unwrap();
        let length = body.len() - peer.to_string().len();
        told.push(format!("{length} bytes from {far}, asked by {}", peer.ip()));
    }
    let socket = talk::udp_for(&lab.client, family, 4001);
    for (n, length) in [(1, 1), (2, 100), (3, 4000), (1, 20_000)] {
        let (answer, from) = talk::ask(&socket, far(family, n, 53), &"x".repeat(length)).unwrap();
        let (echoed, peer) = answer.rsplit_once(' ').unwrap();
        let peer: SocketAddr = peer.parse().unwrap();
        told.push(format!("{} bytes from {from}, asked by {}", echoed.len(), peer.ip()));
    }
    told.push(format!("ping {:?}", talk::ping(&lab.client, 9, far(family, 4, 0).ip()).unwrap()));
    let closed = talk::udp_for(&lab.client, family, 4002);
    closed.connect(far(family, 4, 9)).unwrap();
    told.push(format!("udp: {:?}", talk::refusal(&closed).unwrap()));
    let refused = talk::dial(&lab.client, 4003, far(family, 4, 81)).unwrap_err();
    told.push(format!("tcp: {:?}", refused.kind()));
    // The gateway itself talks to the server all the while.
    let own = talk::udp_for(&lab.gateway, family, 4001);
    let (answer, _) = talk::ask(&own, neighbour(53), "own").unwrap();
    // Its port may become another one where conntrack has given the client's flow that port.
    told.push(answer.rsplit_once(':').unwrap().0.to_string());
    told.push(talk::curl(&lab.client, &format!("http://{}/", neighbour(80))).len().to_string());
    told
}

/// Everything to the server on the clients' segment.
fn rule(family: Family) -> String {
    let (ip, net) = family.pick(("ip", "1.2.3.0/24"), ("ip6", "2001:db8:9::/64"));
    let neighbour = family.neighbour();
    format!("meta l4proto {{ tcp, udp, icmp, ipv6-icmp }} {ip} daddr {net} dnat to {neighbour}")
}

/// A segment whose gateway does the same by nftables.
fn theirs(family: Family, offload: bool) -> (Lab, Netns) {
    let (ip, neighbour) = (family.pick("ip", "ip6"), family.neighbour());
    let (lab, server) = Lab::segment(offload);
    lab.gateway.sysctl(family.pick("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"), "1");
    // Where br_netfilter is there, a bridge would do it by itself, as if it were no router.
    let variable = format!("net/bridge/bridge-nf-call-{}tables", family.pick("ip", "ip6"));
    if lab.gateway.within(|| std::path::Path::new("/proc/sys").join(&variable).exists()) {
        lab.gateway.sysctl(&variable, "0");
    }
    lab.nft_for(family, &rule(family));
    let masquerade = format!(
        "table {ip} m {{ chain c {{ type nat hook postrouting priority srcnat;\n {ip} daddr {neighbour} ct status dnat masquerade\n }}\n }}"
    );
    lab.gateway.run("nft", &[&masquerade]);
    (lab, server)
}

#[test]
fn clients_and_servers_of_one_segment() {
    for (family, offload) in Family::BOTH.into_iter().flat_map(|family| [(family, true), (family, false)]) {
        let (theirs, server) = theirs(family, offload);
        let theirs = conversations(&theirs, family, &server);
        let (ours, server) = Lab::segment(offload);
        // No forwarding is needed for what goes back where it came from.
        up(&ours.gateway, "br0", &["--rule", &format!("{} masquerade", rule(family))]);
        let told = conversations(&ours, family, &server);
        assert_eq!(told, theirs, "offload {offload}");
        let flows = json(&ours.gateway, &["flows", "br0"]);
        let flows = flows["flows"].as_array().unwrap();
        assert!(flows.iter().any(|f| f["state"] == "confirmed" || f["state"] == "closing"), "{flows:?}");
        // The server sees the gateway as its client.
        let udp = flows.iter().find(|f| f["protocol"] == "udp" && f["server"]["port"] == 53).unwrap();
        let port = udp["client_port_at_server"].as_u64().unwrap() as u16;
        let [client, server_end] = [(family.gateway(), port), (family.neighbour(), 53)];
        let [client, server_end] = [client, server_end].map(|end| SocketAddr::from(end).to_string());
        let orig = json(&ours.gateway, &["orig", "udp", &client, &server_end]);
        assert_eq!((&orig["original"], &orig["flow"]["client"]), (&udp["original"], &udp["client"]));
        for ns in [&ours.client, &server] {
            assert_eq!(bad_checksums(ns), Vec::<String>::new(), "{family:?}, offload {offload}");
        }
    }
}

/// What is left of the 64 hops that a question and its answer may take, where they arrive.
fn hops(lab: &Lab, family: Family, server: &Netns) -> [u8; 2] {
    let _echo = Server::udp(server, family.any(53));
    let wires = [Wire::tap(server, "eth0"), Wire::tap(&lab.client, "eth0")].map(Wire::only);
    talk::ask(&talk::udp_for(&lab.client, family, 4001), far(family, 1, 53), "far?").unwrap();
    wires.map(|wire| {
        let ttl = wire.next(|frame| {
            let packet = Packet::read_loosely(&frame.bytes).ok()?;
            (!frame.sent && packet.protocol() == 17).then_some(packet.ttl)
        });
        ttl.expect("a datagram")
    })
}

/// nftables' is forwarded, ours goes back through the device as through a switch (loader/docs/rules.md).
#[test]
fn it_is_no_hop() {
    for family in Family::BOTH {
        let (theirs, server) = theirs(family, true);
        assert_eq!(hops(&theirs, family, &server), [63, 63], "{family:?}");
        let (ours, server) = Lab::segment(true);
        up(&ours.gateway, "br0", &["--rule", &format!("{} masquerade", rule(family))]);
        assert_eq!(hops(&ours, family, &server), [64, 64], "{family:?}");
    }
}

/// Without `masquerade` the server answers by itself, and nobody listens.
#[test]
fn without_it_the_client_hears_nothing() {
    let (lab, server) = Lab::segment(true);
    lab.gateway.sysctl("net/ipv4/ip_forward", "1");
    let _web = Server::http(&server, SocketAddr::from(([0, 0, 0, 0], 80)), "page");
    up(&lab.gateway, "br0", &["--rule", &format!("tcp dport 80 dnat to {NEIGHBOUR}")]);
    talk::dial_for(&lab.client, 0, ([1, 2, 3, 4], 80).into(), talk::SILENCE).unwrap_err();
}

/// The program at ingress of a segment whose rules are `rule`, each way of summing, and a client port for each.
fn scenes(family: Family, rule: &str, scene: impl Fn(&Program<'_>, Sums, u16)) {
    let (lab, _server) = Lab::segment(true);
    up(&lab.gateway, "br0", &["--rule", &format!("{rule} to {} masquerade", family.neighbour())]);
    let id = tools::filters(&lab.gateway, "br0", "ingress")[0]["options"]["prog"]["id"].as_u64().unwrap();
    let program = Program::by_id(&lab.gateway, id);
    scene(&program, Sums::None, 4000);
    scene(&program, Sums::Complete, 4001);
}

#[test]
fn both_ends_are_rewritten_at_once() {
    for family in Family::BOTH {
        scenes(family, "dnat", |program, sums, port| both_ends(family, program, sums, port));
    }
}

fn both_ends(family: Family, program: &Program<'_>, sums: Sums, port: u16) {
    let becomes = |packet: &Packet, expected: &Packet| {
        let outcome = program.run(&packet.frame(), sums);
        let read = Packet::read(&outcome.frame);
        assert_eq!((outcome.verdict, read), (REDIRECT, Ok(expected.clone())), "{packet} {sums:?}");
    };
    // The port that the gateway gives: one that its own clients do not use.
    let given = |asked: &Packet| {
        let seen = Packet::read(&program.run(&asked.frame(), sums).frame).unwrap();
        seen.from_port()
    };
    let (client, gateway, far, neighbour) =
        (family.client(), family.gateway(), family.far(), family.neighbour());
    let (ours, own) = (SocketAddr::new(client, port), |own| SocketAddr::new(gateway, own));
    let (asked, served) = (|port| SocketAddr::new(far, port), |port| SocketAddr::new(neighbour, port));
    let tcp = |flags| Packet::tcp(ours, asked(80), flags);
    let at_server = given(&tcp(SYN));
    assert!(at_server >= 61000, "{at_server}");
    for flags in [SYN, ACK, FIN | ACK] {
        let data = tcp(flags).payload(b"odd").acknowledging(9);
        becomes(&data, &data.clone().between(own(at_server), served(80)));
        let answer = Packet::tcp(asked(80), ours, flags | ACK).payload(&[7; 1400]);
        becomes(&answer.clone().between(served(80), own(at_server)), &answer);
    }
    let udp = Packet::udp(ours, asked(53)).payload(b"odd");
    let at_server = given(&udp);
    assert!(at_server >= 61000, "{at_server}");
    let seen = udp.clone().between(own(at_server), served(53));
    becomes(&udp, &seen);
    let answer = Packet::udp(asked(53), ours).payload(b"late");
    let sent = answer.clone().between(served(53), own(at_server));
    becomes(&sent, &answer);
    let unsummed = answer.clone().unsummed();
    becomes(&unsummed.clone().between(served(53), own(at_server)), &unsummed);
    let echo = |src: IpAddr, dst: IpAddr, kind, id: u16| {
        let mut packet = Packet::echo(src, dst, id, 1).payload(b"ping");
        let Inner::Icmp { kind: k, .. } = &mut packet.inner else { panic!() };
        *k = kind;
        packet
    };
    let (ask, reply) = family.pick((8, 0), (128, 129));
    let id = given(&echo(client, far, ask, port));
    becomes(&echo(client, far, ask, port), &echo(gateway, neighbour, ask, id));
    becomes(&echo(neighbour, gateway, reply, id), &echo(far, client, reply, port));
    // The server refuses: quoted is what the client had sent. And the client refuses an answer. Both for a packet that is too
    // big, too, of which the size stays.
    let errors = family.pick([(3, 3, [0; 4]), (3, 4, [0, 0, 5, 0])], [(1, 4, [0; 4]), (2, 0, [0, 0, 5, 0])]);
    for (kind, code, rest) in errors {
        let error = |src: IpAddr, dst: IpAddr, about: &Packet| {
            let inner = Inner::Icmp { kind, code, rest };
            Packet { inner, payload: about.ip(), ..Packet::other(src, dst, family.pick(1, 58)) }
        };
        becomes(&error(neighbour, gateway, &seen), &error(far, client, &udp));
        becomes(&error(client, far, &answer), &error(gateway, neighbour, &sent));
    }
}

/// Random whole packets and their answers, IPv6 also behind extension headers: both addresses and the client's port become others,
/// and nothing else does.
#[test]
fn whatever_packets_are_like() {
    let chains = [vec![], vec![hop_by_hop(), destination_options(3)], vec![routing(0), fragment(0, false)]];
    for family in Family::BOTH {
        scenes(family, "dnat", |program, sums, port| {
            let (mut random, mut seen) = (Random::new(port.into()), 0);
            for n in 0..1500 {
                // A port each, so that each one opens a flow.
                let client = SocketAddr::new(family.client(), 10_000 + (port - 4000) * 2000 + n);
                let to = SocketAddr::new(family.far(), random.one(&PORTS));
                let chain = &chains[random.below(family.pick(1, chains.len()))];
                let asked = random.packet(client, to);
                if matches!(asked.inner, Inner::Tcp { flags, .. } if ![SYN, ACK].contains(&(flags & 0x16))) {
                    continue; // opens nothing
                }
                let heard = random.answer(&asked);
                let sent = frame(&asked, chain);
                let outcome = program.run(&sent, sums);
                // Behind all headers before it; an echo's identifier lies further on.
                let before = sent.len() - asked.ip().len() + family.pick(20 + asked.options.len(), 40);
                let at = before + if matches!(asked.inner, Inner::Icmp { .. }) { 4 } else { 0 };
                let own = u16::from_be_bytes([outcome.frame[at], outcome.frame[at + 1]]);
                assert!(own >= 61000, "{asked}: {own}");
                let talk = Talk::new(asked, heard, 0).masqueraded(own);
                let expected = frame(&talk.served, chain);
                assert_eq!((outcome.verdict, outcome.frame), (REDIRECT, expected), "{sums:?} {}", talk.asked);
                let outcome = program.run(&frame(&talk.answer, chain), sums);
                let expected = frame(&talk.heard, chain);
                assert_eq!((outcome.verdict, outcome.frame), (REDIRECT, expected), "{sums:?} {}", talk.heard);
                seen += 1;
            }
            assert!(seen > 1000, "{seen}");
        });
    }
}

/// The later fragments of a datagram take both ends of the first, and so do those of its answer.
#[test]
fn fragments_take_both_ends() {
    for family in Family::BOTH {
        scenes(family, "udp dnat", |program, sums, port| {
            let end = |ip, port| SocketAddr::new(ip, port);
            let asked = Packet::udp(end(family.client(), port), end(family.far(), 53)).payload(&[3; 3000]);
            let asked = Packet { id: port, ..asked };
            let answer = Packet { id: port, ..asked.clone().reversed().payload(&[4; 2999]) };
            let first = Packet::read(&program.run(&asked.fragments(1232)[0].frame(), sums).frame).unwrap();
            // Behind the fragment header in IPv6.
            let at = family.pick(0, 8);
            let own = u16::from_be_bytes([first.payload[at], first.payload[at + 1]]);
            assert!(own >= 61000, "{own}");
            let talk = Talk::new(asked, answer, 53).masqueraded(own);
            for (sent, expected) in [(&talk.asked, &talk.served), (&talk.answer, &talk.heard)] {
                for (piece, expected) in sent.fragments(1232).iter().zip(expected.fragments(1232)) {
                    let outcome = program.run(&piece.frame(), sums);
                    assert_eq!(
                        (outcome.verdict, outcome.frame),
                        (REDIRECT, expected.frame()),
                        "{sums:?} {piece}"
                    );
                }
            }
        });
    }
}

/// Of protocols without ports, and of SCTP, both addresses change and nothing else does; to the server all clients are one there,
/// so that of two who ask for the same the second is refused.
#[test]
fn other_protocols_change_both_addresses() {
    for family in Family::BOTH {
        scenes(family, "dnat", |program, sums, port| {
            let becomes = |packet: &Packet, src, dst| {
                let expected = Packet { src, dst, ..packet.clone() };
                let outcome = program.run(&packet.frame(), sums);
                assert_eq!(
                    (outcome.verdict, outcome.frame),
                    (REDIRECT, expected.frame()),
                    "{sums:?} {packet}"
                );
            };
            let [client, gateway, far, neighbour] =
                [family.client(), family.gateway(), family.far(), family.neighbour()];
            let other: IpAddr = family.pick("192.168.178.52", "fd00::52").parse().unwrap();
            // GRE, ESP, one without a name: another one each time, for a flow has nothing but its protocol.
            let numbers = if sums == Sums::None { [47, 98, 253] } else { [50, 99, 254] };
            for (number, length) in numbers.into_iter().flat_map(|number| [0, 9, 1400].map(|l| (number, l))) {
                let asked = Packet::other(client, far, number).payload(&vec![0x5a; length]);
                becomes(&asked, gateway, neighbour);
                becomes(&Packet { src: neighbour, dst: gateway, ..asked.clone() }, far, client);
                let second = Packet { src: other, ..asked };
                assert_eq!(program.run(&second.frame(), sums).verdict, SHOT, "{second}");
            }
            for (tag, kind) in [(0, 1), (0x1234_5678, 0)] {
                let asked = sctp((client, port), (far, 5000), tag, kind);
                becomes(&asked, gateway, neighbour);
                becomes(&sctp((neighbour, 5000), (gateway, port), 0x8765_4321, 0), far, client);
            }
            let second = sctp((other, port), (far, 5000), 0, 1);
            assert_eq!(program.run(&second.frame(), sums).verdict, SHOT, "{second}");
            let another = sctp((other, port + 10), (far, 5000), 0, 1);
            becomes(&another, gateway, neighbour);
            becomes(&sctp((neighbour, 5000), (gateway, port + 10), 0x8765_4321, 0), far, other);
        });
    }
}

#[test]
fn only_servers_behind_the_device() {
    let lab = Lab::new();
    let _server = lab.server();
    let refused = |rule: &str, words: &[&str]| {
        run(&lab.gateway, &["up", &lab.device, "--rule", rule]).refused(code::USAGE, words);
    };
    refused("dnat to 10.9.9.2 masquerade", &["10.9.9.2 is behind another device"]);
    refused(&format!("dnat to {GATEWAY} masquerade"), &["is an address of this machine"]);
}
