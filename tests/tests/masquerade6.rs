// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A server on its clients' segment over IPv6: it sees the gateway as its client, and clients see whom they asked, as with
//! nftables' dnat and masquerade.
use e2e::bench::Hook;
use e2e::detour::{json, up};
use e2e::family::Family;
use e2e::lab::{Lab, CLIENT6, GATEWAY6, NEIGHBOUR6};
use e2e::netns::Netns;
use e2e::packet::{Inner, Packet, ACK, FIN, SYN};
use e2e::serve::Server;
use e2e::six::{at6, bad_checksums, client6, FAR6};
use e2e::talk;
use e2e::testrun::{Program, Sums, REDIRECT};
use e2e::tools;
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};

fn far(n: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, n)
}

fn socket(ns: &Netns, port: u16) -> UdpSocket {
    let socket = ns.within(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap());
    socket.set_read_timeout(Some(talk::PATIENCE)).unwrap();
    socket
}

/// What the client hears of everything, and as whom the server sees it.
fn conversations(lab: &Lab, server: &Netns) -> Vec<String> {
    let any = |port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let _web = Server::http(server, any(80), &"page ".repeat(20_000));
    let _echo = Server::udp(server, any(53));
    let mut told = Vec::new();
    for n in 1..=3 {
        // The same port each time: to the server these are three connections of one client.
        let mut stream = talk::dial(&lab.client, 4000, (far(n), 80).into()).unwrap();
        let body = talk::get(&mut stream, "example.org").unwrap();
        let peer: SocketAddr = body.rsplit(' ').next().unwrap().parse().unwrap();
        let length = body.len() - peer.to_string().len();
        told.push(format!("{length} bytes from {}, asked by {}", far(n), peer.ip()));
    }
    let asking = socket(&lab.client, 4001);
    for (n, length) in [(1, 1), (2, 100), (3, 4000), (1, 20_000)] {
        let text = "x".repeat(length);
        let (answer, from) = talk::ask(&asking, (far(n), 53).into(), &text).unwrap();
        let (echoed, peer) = answer.rsplit_once(' ').unwrap();
        let peer: SocketAddr = peer.parse().unwrap();
        told.push(format!("{} bytes from {from}, asked by {}", echoed.len(), peer.ip()));
    }
    let ping = lab.client.run("ping", &["-6", "-n", "-c", "1", "-W", "10", &far(4).to_string()]);
    told.push(ping.lines().nth(1).unwrap().split(": icmp_seq").next().unwrap().to_string());
    let closed = socket(&lab.client, 4002);
    closed.connect((far(4), 9)).unwrap();
    closed.send(b"?").unwrap();
    told.push(format!("udp: {:?}", closed.recv(&mut [0; 10]).unwrap_err().kind()));
    let refused = talk::dial(&lab.client, 4003, (far(4), 81).into()).unwrap_err();
    told.push(format!("tcp: {:?}", refused.kind()));
    // The gateway itself talks to the server all the while.
    let own = socket(&lab.gateway, 4001);
    let (answer, _) = talk::ask(&own, (NEIGHBOUR6, 53).into(), "own").unwrap();
    // Its port may become another one where conntrack has given the client's flow that port.
    told.push(answer.rsplit_once(':').unwrap().0.to_string());
    told.push(talk::curl(&lab.client, &format!("http://[{NEIGHBOUR6}]/")).len().to_string());
    told
}

#[test]
fn clients_and_servers_of_one_segment() {
    for offload in [true, false] {
        let (theirs, server) = Lab::segment(offload);
        theirs.gateway.sysctl("net/ipv6/conf/all/forwarding", "1");
        let rule =
            format!("meta l4proto {{ tcp, udp, ipv6-icmp }} ip6 daddr 2001:db8:9::/64 dnat to {NEIGHBOUR6}");
        theirs.nft_for(Family::V6, &rule);
        let masquerade = format!(
            "table ip6 m {{ chain c {{ type nat hook postrouting priority srcnat;\n ip6 daddr {NEIGHBOUR6} ct status dnat masquerade\n }}\n }}"
        );
        theirs.gateway.run("nft", &[&masquerade]);
        let theirs = conversations(&theirs, &server);
        let (ours, server) = Lab::segment(offload);
        // No forwarding is needed for what goes back where it came from.
        up(&ours.gateway, "br0", &["--rule", &format!("{rule} masquerade")]);
        let told = conversations(&ours, &server);
        assert_eq!(told, theirs, "offload {offload}");
        let flows = json(&ours.gateway, &["flows", "br0"]);
        let flows = flows["flows"].as_array().unwrap();
        assert!(flows.iter().any(|f| f["state"] == "confirmed" || f["state"] == "closing"), "{flows:?}");
        for ns in [&ours.client, &server] {
            assert_eq!(bad_checksums(ns), Vec::<String>::new(), "offload {offload}");
        }
    }
}

#[test]
fn both_ends_are_rewritten_at_once() {
    let (lab, _server) = Lab::segment(true);
    up(&lab.gateway, "br0", &["--rule", &format!("dnat to {NEIGHBOUR6} masquerade")]);
    let id = tools::filters(&lab.gateway, "br0", "ingress")[0]["options"]["prog"]["id"].as_u64().unwrap();
    let program = Program::by_id(&lab.gateway, id);
    for (n, sums) in [Sums::None, Sums::Complete].into_iter().enumerate() {
        let hook = Hook { program: &program, sums };
        let becomes = |packet: &Packet, expected: &Packet| {
            let outcome = hook.program.run(&packet.frame(), sums);
            let read = Packet::read(&outcome.frame);
            assert_eq!((outcome.verdict, read), (REDIRECT, Ok(expected.clone())), "{packet} {sums:?}");
        };
        // The port that the gateway gives: one that its own clients do not use.
        let given = |asked: &Packet| {
            let seen = Packet::read(&hook.program.run(&asked.frame(), sums).frame).unwrap();
            match seen.inner {
                Inner::Tcp { sport, .. } | Inner::Udp { sport, .. } => sport,
                Inner::Icmp { rest, .. } => u16::from_be_bytes([rest[0], rest[1]]),
                Inner::Other(_) => panic!("{seen}"),
            }
        };
        let port = 4000 + n as u16;
        let (client, gateway) = (client6(port), |own| at6(GATEWAY6, own));
        let tcp = |flags| Packet::tcp(client, at6(FAR6, 80), flags);
        let back = |flags| Packet::tcp(at6(FAR6, 80), client, flags);
        let own = given(&tcp(SYN));
        assert!(own >= 61000, "{own}");
        for flags in [SYN, ACK, FIN | ACK] {
            let data = tcp(flags).payload(b"odd").acknowledging(9);
            becomes(&data, &data.clone().between(gateway(own), at6(NEIGHBOUR6, 80)));
            let answer = back(flags | ACK).payload(&[7; 1400]);
            becomes(&answer.clone().between(at6(NEIGHBOUR6, 80), gateway(own)), &answer);
        }
        let udp = Packet::udp(client, at6(FAR6, 53)).payload(b"odd");
        let own = given(&udp);
        assert!(own >= 61000, "{own}");
        let seen = udp.clone().between(gateway(own), at6(NEIGHBOUR6, 53));
        becomes(&udp, &seen);
        let answer = Packet::udp(at6(FAR6, 53), client).payload(b"late");
        let sent = answer.clone().between(at6(NEIGHBOUR6, 53), gateway(own));
        becomes(&sent, &answer);
        let unsummed = answer.clone().unsummed();
        becomes(&unsummed.clone().between(at6(NEIGHBOUR6, 53), gateway(own)), &unsummed);
        let echo = |src: Ipv6Addr, dst: Ipv6Addr, kind, id| {
            let mut packet = Packet::echo(src.into(), dst.into(), id, 1).payload(b"ping");
            let Inner::Icmp { kind: k, .. } = &mut packet.inner else { panic!() };
            *k = kind;
            packet
        };
        let id = given(&echo(CLIENT6, FAR6, 128, port));
        becomes(&echo(CLIENT6, FAR6, 128, port), &echo(GATEWAY6, NEIGHBOUR6, 128, id));
        becomes(&echo(NEIGHBOUR6, GATEWAY6, 129, id), &echo(FAR6, CLIENT6, 129, port));
        // The server refuses: quoted is what the client had sent. And the client refuses an answer. Both for a packet
        // that is too big, too, of which the size stays.
        for (kind, code, rest) in [(1, 4, [0; 4]), (2, 0, [0, 0, 5, 0])] {
            let error = |src: Ipv6Addr, dst: Ipv6Addr, about: &Packet| {
                let inner = Inner::Icmp { kind, code, rest };
                Packet { inner, payload: about.ip(), ..Packet::other(src.into(), dst.into(), 58) }
            };
            becomes(&error(NEIGHBOUR6, GATEWAY6, &seen), &error(FAR6, CLIENT6, &udp));
            becomes(&error(CLIENT6, FAR6, &answer), &error(GATEWAY6, NEIGHBOUR6, &sent));
        }
    }
}

/// The later fragments of a datagram take both ends of the first.
#[test]
fn fragments_take_both_ends() {
    let (lab, _server) = Lab::segment(true);
    up(&lab.gateway, "br0", &["--rule", &format!("udp dnat to {NEIGHBOUR6} masquerade")]);
    let id = tools::filters(&lab.gateway, "br0", "ingress")[0]["options"]["prog"]["id"].as_u64().unwrap();
    let program = Program::by_id(&lab.gateway, id);
    for (n, sums) in [Sums::None, Sums::Complete].into_iter().enumerate() {
        let asked = Packet::udp(client6(5000 + n as u16), at6(FAR6, 53)).payload(&[3; 3000]);
        let asked = Packet { id: n as u16, ..asked };
        let pieces = asked.fragments(1232);
        let first = Packet::read(&program.run(&pieces[0].frame(), sums).frame).unwrap();
        let own = u16::from_be_bytes([first.payload[8], first.payload[9]]);
        assert!(own >= 61000, "{own}");
        let seen = asked.clone().between(at6(GATEWAY6, own), at6(NEIGHBOUR6, 53));
        for (piece, expected) in pieces.iter().zip(seen.fragments(1232)) {
            let outcome = program.run(&piece.frame(), sums);
            assert_eq!((outcome.verdict, outcome.frame), (REDIRECT, expected.frame()), "{sums:?} {piece}");
        }
    }
}
