// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What a client behind a gateway with `detour up` sees: real sockets, transmit checksum offload on and off.
use e2e::detour::{self, code, up};
use e2e::lab::{Lab, CLIENT, GATEWAY, SECOND, SERVER};
use e2e::netns::Netns;
use e2e::serve::Server;
use e2e::talk;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const DEVICE: &str = "eth0";

/// Addresses that belong to nobody here: 16 destinations in as many networks.
fn nobodies(port: u16) -> Vec<SocketAddr> {
    (1..=16).map(|n| SocketAddr::from(([10 * n + 3, 2, 3, n], port))).collect()
}

fn any(port: u16) -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], port))
}

/// Runs the scene with offload on and off; afterwards no side has met a wrong checksum.
fn twice(scene: impl Fn(&Lab)) {
    for offload in [true, false] {
        let lab = Lab::new().tx_checksum(offload);
        scene(&lab);
        for (who, ns) in [("client", &lab.client), ("gateway", &lab.gateway)] {
            assert_eq!(bad_checksums(ns), Vec::<String>::new(), "{who}, offload {offload}");
        }
    }
}

/// Counters of /proc/net/snmp that say that somebody met a wrong checksum or header.
fn bad_checksums(ns: &Netns) -> Vec<String> {
    let text = ns.within(|| std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap());
    let lines: Vec<&str> = text.lines().collect();
    let pairs = lines.chunks(2).flat_map(|two| two[0].split_whitespace().zip(two[1].split_whitespace()));
    let bad =
        pairs.filter(|(name, value)| (name.contains("Csum") || *name == "InHdrErrors") && *value != "0");
    bad.map(|(name, value)| format!("{name} {value}")).collect()
}

#[test]
fn a_client_gets_a_page_from_any_address() {
    twice(|lab| {
        let _web = Server::http(&lab.gateway, any(80), "hello");
        let _alt = Server::http(&lab.gateway, any(8080), "alternative");
        up(&lab.gateway, DEVICE, &[]);
        let hello = format!("hello {CLIENT}:");
        assert!(talk::curl(&lab.client, "http://1.2.3.4/").starts_with(&hello));
        assert!(talk::curl(&lab.client, "http://203.0.113.77/").starts_with(&hello));
        assert!(talk::curl(&lab.client, "http://93.184.216.34:8080/").starts_with("alternative "));
        // The gateway's own addresses are what they were.
        assert!(talk::curl(&lab.client, &format!("http://{GATEWAY}/")).starts_with(&hello));
        assert!(talk::curl(&lab.client, &format!("http://{SECOND}/")).starts_with(&hello));
    });
}

#[test]
fn nobody_answers_before_up_and_after_down() {
    let lab = Lab::new();
    let _echo = Server::udp(&lab.gateway, any(53));
    let silent = || {
        let socket = talk::udp(&lab.client, 0);
        socket.set_read_timeout(Some(talk::SILENCE)).unwrap();
        let error = talk::ask(&socket, ([8, 8, 8, 8], 53).into(), "anybody?").unwrap_err();
        // The gateway does not forward: silence, or its ICMP error.
        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::HostUnreachable), "{error}");
    };
    silent();
    up(&lab.gateway, DEVICE, &[]);
    talk::ask(&talk::udp(&lab.client, 0), ([8, 8, 8, 8], 53).into(), "anybody?").unwrap();
    detour::run(&lab.gateway, &["down", DEVICE]).done();
    silent();
}

#[test]
fn one_tcp_port_to_sixteen_destinations_and_the_gateway() {
    twice(|lab| {
        let web = Server::http(&lab.gateway, any(80), "hello");
        up(&lab.gateway, DEVICE, &[]);
        // The gateway in the middle: flows before it must leave its 4-tuple alone, flows after it must see it.
        let mut destinations = nobodies(80);
        destinations.insert(8, SocketAddr::from((GATEWAY, 80)));
        let dial =
            |to: &SocketAddr| talk::dial(&lab.client, 4000, *to).unwrap_or_else(|e| panic!("{to}: {e}"));
        let mut streams: Vec<_> = destinations.iter().map(dial).collect();
        for (stream, to) in streams.iter_mut().zip(&destinations) {
            assert_eq!(stream.peer_addr().unwrap(), *to);
            let body = talk::get(stream, &to.ip().to_string()).unwrap_or_else(|e| panic!("{to}: {e}"));
            assert!(body.starts_with(&format!("hello {CLIENT}:")), "{to}: {body}");
        }
        let peers: BTreeSet<SocketAddr> = web.heard().iter().map(|(peer, _)| *peer).collect();
        assert_eq!(peers.len(), 17, "every conversation is one of its own at the server: {peers:?}");
        for (peer, request) in web.heard() {
            let host = String::from_utf8(request).unwrap();
            assert_eq!(peer.ip(), IpAddr::V4(CLIENT), "{host}");
        }
    });
}

#[test]
fn one_udp_port_to_sixteen_destinations_and_the_gateway() {
    twice(|lab| {
        let echo = Server::udp(&lab.gateway, (GATEWAY, 53));
        up(&lab.gateway, DEVICE, &[]);
        let mut destinations = nobodies(53);
        destinations.insert(8, SocketAddr::from((GATEWAY, 53)));
        let socket = talk::udp(&lab.client, 4000);
        // All requests are under way before the first answer is read, and again over the same flows.
        for round in 0..3 {
            for to in &destinations {
                socket.send_to(format!("{round} {to}").as_bytes(), to).unwrap();
            }
            let mut answers = BTreeSet::new();
            for _ in &destinations {
                let (text, from) = talk::next(&socket).unwrap();
                assert!(text.starts_with(&format!("{round} {from} {CLIENT}:")), "{text} from {from}");
                answers.insert(from);
            }
            assert_eq!(answers, destinations.iter().copied().collect());
        }
        let peers: BTreeSet<SocketAddr> = echo.heard().iter().map(|(peer, _)| *peer).collect();
        assert_eq!(peers.len(), 17, "{peers:?}");
    });
}

#[test]
fn one_udp_socket_with_two_requests_outstanding() {
    twice(|lab| {
        let _slow = Server::udp_held(&lab.gateway, (GATEWAY, 53), 2);
        up(&lab.gateway, DEVICE, &[]);
        let socket = talk::udp(&lab.client, 4001);
        let (one, two): (SocketAddr, SocketAddr) = (([1, 1, 1, 1], 53).into(), ([8, 8, 4, 4], 53).into());
        socket.send_to(b"one", one).unwrap();
        socket.send_to(b"two", two).unwrap();
        let (text, from) = talk::next(&socket).unwrap();
        assert!(from == two && text.starts_with("two "), "{text} from {from}");
        let (text, from) = talk::next(&socket).unwrap();
        assert!(from == one && text.starts_with("one "), "{text} from {from}");
    });
}

/// The server on a wildcard socket answers from the address that routing prefers, which is not the one it was sent to.
#[test]
fn a_udp_server_that_answers_from_another_address() {
    twice(|lab| {
        let _echo = Server::udp(&lab.gateway, any(53));
        up(&lab.gateway, DEVICE, &["--rule", "udp dport 53 dnat to 192.168.178.3"]);
        let socket = talk::udp(&lab.client, 4000);
        for round in 0..3 {
            for to in nobodies(53) {
                let (text, from) = talk::ask(&socket, to, &format!("{round} {to}")).unwrap();
                assert_eq!(from, to, "{text}");
                assert!(text.starts_with(&format!("{round} {to} {CLIENT}:")), "{text}");
            }
            // Who asks the gateway itself with the same port is answered as without us: by that same address.
            for own in [GATEWAY, SECOND] {
                let (text, from) = talk::ask(&socket, (own, 53).into(), "direct").unwrap();
                assert!(from == (GATEWAY, 53).into() && text.starts_with("direct "), "{text} from {from}");
            }
        }
    });
    // nftables knows the answer by the address that it sent the question to.
    let lab = Lab::new();
    let _echo = Server::udp(&lab.gateway, any(53));
    lab.nft("udp dport 53 dnat to 192.168.178.3");
    let socket = talk::udp(&lab.client, 4000);
    socket.set_read_timeout(Some(talk::SILENCE)).unwrap();
    let to = nobodies(53)[0];
    assert!(!matches!(talk::ask(&socket, to, "x"), Ok((_, from)) if from == to));
}

#[test]
fn pings_are_answered_under_the_address_that_was_asked() {
    twice(|lab| {
        up(&lab.gateway, DEVICE, &[]);
        for to in [Ipv4Addr::new(8, 8, 8, 8), Ipv4Addr::new(1, 2, 3, 4), GATEWAY] {
            assert_eq!(
                talk::ping(&lab.client, 77, to).unwrap(),
                IpAddr::V4(to),
                "the same identifier each time"
            );
        }
    });
}

#[test]
fn a_closed_port_refuses_under_the_address_that_was_asked() {
    twice(|lab| {
        up(&lab.gateway, DEVICE, &[]);
        let error = talk::dial(&lab.client, 0, ([1, 2, 3, 4], 81).into()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn much_data_passes_both_ways() {
    twice(|lab| {
        let big = "0123456789abcdef".repeat(1 << 16);
        let web = Server::http(&lab.gateway, any(80), &big);
        up(&lab.gateway, DEVICE, &[]);
        let mut stream = talk::dial(&lab.client, 0, ([1, 2, 3, 4], 80).into()).unwrap();
        let body = talk::get(&mut stream, &big).unwrap();
        assert!(body.len() > big.len() && body.starts_with(&big));
        let (_, request) = web.heard().remove(0);
        assert!(request.len() > big.len() && String::from_utf8(request).unwrap().contains(&big));
    });
}

#[test]
fn the_first_rule_that_matches_wins() {
    twice(|lab| {
        let server = lab.server();
        let _own = Server::http(&lab.gateway, (GATEWAY, 8000), "own");
        let _far = Server::http(&server, (SERVER, 80), "far");
        let _same = Server::http(&server, (SERVER, 443), "same port");
        let _dns = Server::udp(&lab.gateway, (GATEWAY, 5353));
        let _odd = Server::udp(&lab.gateway, (GATEWAY, 999));
        let rules = [
            "tcp dport 80 dnat to 10.9.9.2",
            "tcp dport 80 redirect to :8000",
            "tcp dport 8443 dnat to 10.9.9.2:443",
            "udp dport 53 redirect to :5353",
            "tcp dport 25 drop",
            "udp dport 999 accept",
            "tcp redirect to :8000",
        ];
        let arguments: Vec<&str> = rules.iter().flat_map(|rule| ["--rule", rule]).collect();
        up(&lab.gateway, DEVICE, &arguments);

        assert!(talk::curl(&lab.client, "http://1.2.3.4/").starts_with(&format!("far {CLIENT}:")));
        assert!(talk::curl(&lab.client, "http://1.2.3.4:8443/").starts_with("same port "));
        assert!(talk::curl(&lab.client, "http://1.2.3.4:12345/").starts_with("own "));
        let asked = SocketAddr::from(([9, 9, 9, 9], 53));
        assert_eq!(talk::ask(&talk::udp(&lab.client, 0), asked, "x").unwrap().1, asked);
        // Dropped: no answer at all, not even a reset. Accepted, and matching no rule: nobody is there.
        let dropped = talk::dial_for(&lab.client, 0, ([1, 2, 3, 4], 25).into(), talk::SILENCE).unwrap_err();
        assert!(talk::silence(&dropped), "{dropped}");
        for port in [999, 1000] {
            let socket = talk::udp(&lab.client, 0);
            socket.set_read_timeout(Some(talk::SILENCE)).unwrap();
            talk::ask(&socket, ([9, 9, 9, 9], port).into(), "x").unwrap_err();
        }
    });
}

#[test]
fn rules_never_touch_the_gateways_own_addresses() {
    let lab = Lab::new();
    let _ssh = Server::http(&lab.gateway, any(22), "shell");
    let _trap = Server::http(&lab.gateway, any(2222), "trap");
    up(&lab.gateway, DEVICE, &["--rule", "tcp redirect to :2222"]);
    for own in lab.own() {
        assert!(talk::curl(&lab.client, &format!("http://{own}:22/")).starts_with("shell "));
    }
    assert!(talk::curl(&lab.client, "http://1.2.3.4:22/").starts_with("trap "));
}

#[test]
fn a_rules_file_is_read_and_other_rules_leave_flows_alone() {
    let lab = Lab::new();
    let scratch = e2e::tools::Scratch::new();
    let file = scratch.write("web.rules", "# the web\ntcp dport 80 redirect to :8000 # here\n\n");
    let _first = Server::http(&lab.gateway, any(8000), "first");
    let _second = Server::http(&lab.gateway, any(9000), "second");
    up(&lab.gateway, DEVICE, &[&file]);
    let mut early = talk::dial(&lab.client, 4000, ([1, 2, 3, 4], 80).into()).unwrap();
    up(&lab.gateway, DEVICE, &["--rule", "tcp dport 80 redirect to :9000"]);
    let mut late = talk::dial(&lab.client, 4001, ([1, 2, 3, 4], 80).into()).unwrap();
    assert!(talk::get(&mut early, "a").unwrap().starts_with("first "));
    assert!(talk::get(&mut late, "a").unwrap().starts_with("second "));
}

#[test]
fn fragments_arrive_whole() {
    twice(|lab| {
        let echo = Server::udp(&lab.gateway, any(53));
        up(&lab.gateway, DEVICE, &[]);
        let text = "fragmented ".repeat(400);
        // To the gateway itself nothing may change.
        let (answer, from) = talk::ask(&talk::udp(&lab.client, 0), (GATEWAY, 53).into(), &text).unwrap();
        assert!(from == (GATEWAY, 53).into() && answer.starts_with(&text));
        let socket = talk::udp(&lab.client, 0);
        let (answer, from) = talk::ask(&socket, ([8, 8, 8, 8], 53).into(), &text).unwrap();
        assert!(from == ([8, 8, 8, 8], 53).into() && answer.starts_with(&text));
        assert!(echo.heard().iter().all(|(_, heard)| *heard == text.as_bytes()));
    });
}

#[test]
fn flows_and_asked_tell_what_happened() {
    let lab = Lab::new();
    let _web = Server::http(&lab.gateway, any(80), "hello");
    let _echo = Server::udp(&lab.gateway, any(53));
    up(&lab.gateway, DEVICE, &["--rule", "tcp dport 80 redirect", "--rule", "udp redirect"]);
    let mut stream = talk::dial(&lab.client, 4000, ([1, 2, 3, 4], 80).into()).unwrap();
    let socket = talk::udp(&lab.client, 4001);
    for _ in 0..3 {
        talk::ask(&socket, ([8, 8, 8, 8], 53).into(), "x").unwrap();
    }
    socket.set_read_timeout(Some(talk::SILENCE)).unwrap();
    talk::dial_for(&lab.client, 0, ([5, 6, 7, 8], 443).into(), talk::SILENCE).unwrap_err();

    let flows = detour::json(&lab.gateway, &["flows", DEVICE])["flows"].as_array().unwrap().clone();
    let end = |ip: &str, port: u16| serde_json::json!({"address": ip, "port": port});
    for (protocol, port, original) in [("tcp", 4000, end("1.2.3.4", 80)), ("udp", 4001, end("8.8.8.8", 53))] {
        let same = |flow: &&Value| {
            flow["protocol"] == protocol
                && flow["client"] == end("192.168.178.51", port)
                && flow["original"] == original
                && flow["server"]["address"] == "192.168.178.2"
        };
        assert_eq!(flows.iter().filter(same).count(), 1, "{protocol} {original} in {flows:?}");
    }
    assert_eq!(flows.len(), 2, "{flows:?}");

    let asked = detour::json(&lab.gateway, &["asked", DEVICE])["rows"].as_array().unwrap().clone();
    for (protocol, ip, port, packets, outcome) in [
        ("tcp", "1.2.3.4", 80, 1, "dnat"),
        ("udp", "8.8.8.8", 53, 1, "dnat"),
        ("tcp", "5.6.7.8", 443, 1, "no_rule"),
    ] {
        let same =
            |row: &&Value| row["protocol"] == protocol && row["destination"] == ip && row["port"] == port;
        let row = asked.iter().find(same).unwrap_or_else(|| panic!("{protocol} {ip} is not in {asked:?}"));
        assert_eq!(row["client"], "192.168.178.51");
        assert_eq!(row["packets"], packets, "what opens is counted, what follows is not: {row}");
        assert_eq!(row["outcome"], outcome, "{row}");
    }
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert!(talk::get(&mut stream, "x").unwrap().starts_with("hello "));
    // Both are also there for human eyes.
    for command in ["flows", "asked", "status"] {
        let text = detour::run(&lab.gateway, &[command, DEVICE]).done().stdout;
        assert!(
            text.contains(if command == "status" { "tcp dport 80 redirect" } else { "1.2.3.4" }),
            "{text}"
        );
    }
    detour::run(&lab.client, &["flows", DEVICE]).refused(code::NO, &[DEVICE]);
}
