// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A server on the same segment as its clients: it sees the gateway as its client, and clients see whom they asked, as
//! with nftables' dnat and masquerade.
use e2e::bench::{at, client, Hook, FAR};
use e2e::detour::{code, json, run, up};
use e2e::lab::{Lab, CLIENT, GATEWAY, NEIGHBOUR};
use e2e::netns::Netns;
use e2e::packet::{Inner, Packet, ACK, SYN};
use e2e::serve::Server;
use e2e::talk;
use e2e::testrun::{Program, Sums, REDIRECT};
use e2e::tools;
use std::net::{Ipv4Addr, SocketAddr};

/// What the client hears of everything, and as whom the server sees it.
fn conversations(lab: &Lab, server: &Netns) -> Vec<String> {
    let any = |port| SocketAddr::from(([0, 0, 0, 0], port));
    let _web = Server::http(server, any(80), &"page ".repeat(20_000));
    let _echo = Server::udp(server, any(53));
    let mut told = Vec::new();
    for n in 1..=3 {
        let far = SocketAddr::from(([1, 2, 3, n], 80));
        // The same port each time: to the server these are three connections of one client.
        let mut stream = talk::dial(&lab.client, 4000, far).unwrap();
        let body = talk::get(&mut stream, "example.org").unwrap();
        let peer: SocketAddr = body.rsplit(' ').next().unwrap().parse().unwrap();
        told.push(format!(
            "{} bytes from {far}, asked by {}",
            body.len() - peer.to_string().len(),
            peer.ip()
        ));
    }
    let socket = talk::udp(&lab.client, 4001);
    for (n, length) in [(1, 1), (2, 100), (3, 4000), (1, 20_000)] {
        let text = "x".repeat(length);
        let (answer, from) = talk::ask(&socket, ([1, 2, 3, n], 53).into(), &text).unwrap();
        let (echoed, peer) = answer.rsplit_once(' ').unwrap();
        let peer: SocketAddr = peer.parse().unwrap();
        told.push(format!("{} bytes from {from}, asked by {}", echoed.len(), peer.ip()));
    }
    told.push(format!("ping {:?}", talk::ping(&lab.client, 9, [1, 2, 3, 4]).unwrap()));
    let closed = talk::udp(&lab.client, 4002);
    closed.connect((Ipv4Addr::new(1, 2, 3, 4), 9)).unwrap();
    closed.send(b"?").unwrap();
    told.push(format!("udp: {:?}", closed.recv(&mut [0; 10]).unwrap_err().kind()));
    let refused = talk::dial(&lab.client, 4003, ([1, 2, 3, 4], 81).into()).unwrap_err();
    told.push(format!("tcp: {:?}", refused.kind()));
    // The gateway itself talks to the server all the while.
    let own = talk::udp(&lab.gateway, 4001);
    let (answer, _) = talk::ask(&own, (NEIGHBOUR, 53).into(), "own").unwrap();
    // Its port may become another one where conntrack has given the client's flow that port.
    told.push(answer.split(':').next().unwrap().to_string());
    told.push(talk::curl(&lab.client, &format!("http://{NEIGHBOUR}/")).len().to_string());
    told
}

#[test]
fn clients_and_servers_of_one_segment() {
    for offload in [true, false] {
        let (theirs, server) = Lab::segment(offload);
        theirs.gateway.sysctl("net/ipv4/ip_forward", "1");
        theirs.nft(&format!("meta l4proto {{ tcp, udp, icmp }} ip daddr 1.2.3.0/24 dnat to {NEIGHBOUR}"));
        let masquerade = format!(
            "table ip m {{ chain c {{ type nat hook postrouting priority srcnat;\n ip daddr {NEIGHBOUR} ct status dnat masquerade\n }}\n }}"
        );
        theirs.gateway.run("nft", &[&masquerade]);
        let theirs = conversations(&theirs, &server);
        let (ours, server) = Lab::segment(offload);
        // No forwarding is needed for what goes back where it came from.
        let rule =
            format!("meta l4proto {{ tcp, udp, icmp }} ip daddr 1.2.3.0/24 dnat to {NEIGHBOUR} masquerade");
        up(&ours.gateway, "br0", &["--rule", &rule]);
        let told = conversations(&ours, &server);
        assert_eq!(told, theirs, "offload {offload}");
        let flows = json(&ours.gateway, &["flows", "br0"]);
        let flows = flows["flows"].as_array().unwrap();
        assert!(flows.iter().any(|f| f["state"] == "confirmed" || f["state"] == "closing"), "{flows:?}");
        // The server sees the gateway as its client.
        let udp = flows.iter().find(|f| f["protocol"] == "udp" && f["server"]["port"] == 53).unwrap();
        let client = format!("{GATEWAY}:{}", udp["client_port_at_server"]);
        let orig = json(&ours.gateway, &["orig", "udp", &client, &format!("{NEIGHBOUR}:53")]);
        assert_eq!((&orig["original"], &orig["flow"]["client"]), (&udp["original"], &udp["client"]));
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

#[test]
fn both_ends_are_rewritten_at_once() {
    let (lab, _server) = Lab::segment(true);
    up(&lab.gateway, "br0", &["--rule", &format!("dnat to {NEIGHBOUR} masquerade")]);
    let id = tools::filters(&lab.gateway, "br0", "ingress")[0]["options"]["prog"]["id"].as_u64().unwrap();
    let program = Program::by_id(&lab.gateway, id);
    for (n, sums) in [Sums::None, Sums::Complete].into_iter().enumerate() {
        let hook = Hook { program: &program, sums };
        let becomes = |packet: &Packet, expected: &Packet| {
            let outcome = hook.program.run(&packet.frame(), sums);
            assert_eq!(
                (outcome.verdict, Packet::read(&outcome.frame)),
                (REDIRECT, Ok(expected.clone())),
                "{packet}"
            );
        };
        let port = 4000 + n as u16;
        let pairs = [
            (
                Packet::tcp(client(port), at(FAR, 80), SYN),
                Packet::tcp(at(FAR, 80), client(port), SYN | ACK),
                80,
            ),
            (
                Packet::udp(client(port), at(FAR, 53)).payload(b"odd"),
                Packet::udp(at(FAR, 53), client(port)).unsummed(),
                53,
            ),
        ];
        // The port that the gateway gives: one that its own clients do not use.
        let given = |asked: &Packet| {
            let seen = Packet::read(&hook.program.run(&asked.frame(), sums).frame).unwrap();
            match seen.inner {
                Inner::Tcp { sport, .. } | Inner::Udp { sport, .. } => sport,
                Inner::Icmp { rest, .. } => u16::from_be_bytes([rest[0], rest[1]]),
                Inner::Other(_) => panic!("{seen}"),
            }
        };
        for (asked, answer, service) in pairs {
            let own = given(&asked);
            assert!(own >= 61000, "{own}");
            becomes(&asked, &asked.clone().between(at(GATEWAY, own), at(NEIGHBOUR, service)));
            becomes(&answer.clone().between(at(NEIGHBOUR, service), at(GATEWAY, own)), &answer);
        }
        let echo = |src, dst, kind, id| Packet::icmp(src, dst, kind, id, 1).payload(b"ping");
        let id = given(&echo(CLIENT, FAR, 8, port));
        becomes(&echo(CLIENT, FAR, 8, port), &echo(GATEWAY, NEIGHBOUR, 8, id));
        becomes(&echo(NEIGHBOUR, GATEWAY, 0, id), &echo(FAR, CLIENT, 0, port));
        // The server refuses: quoted is what the client had sent.
        let asked = Packet::udp(client(port), at(FAR, 53)).payload(b"odd");
        let own = given(&asked);
        let seen = asked.clone().between(at(GATEWAY, own), at(NEIGHBOUR, 53));
        let unreachable = |src: Ipv4Addr, dst: Ipv4Addr, about: &Packet| {
            let inner = Inner::Icmp { kind: 3, code: 3, rest: [0; 4] };
            Packet { inner, payload: about.ip(), ..Packet::other(src.into(), dst.into(), 1) }
        };
        becomes(&unreachable(NEIGHBOUR, GATEWAY, &seen), &unreachable(FAR, CLIENT, &asked));
        // And the client refuses an answer.
        let answer = Packet::udp(at(FAR, 53), client(port)).payload(b"late");
        let sent = answer.clone().between(at(NEIGHBOUR, 53), at(GATEWAY, own));
        becomes(&unreachable(CLIENT, FAR, &answer), &unreachable(GATEWAY, NEIGHBOUR, &sent));
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
