// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Conditions in the language of rules choose among translations and among what was asked for; `rules` counts.
use e2e::detour::{self, code, up};
use e2e::lab::{Lab, CLIENT};
use e2e::serve::Server;
use e2e::talk;
use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

const DEVICE: &str = "eth0";

fn any(port: u16) -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], port))
}

/// Two connections from ports 4000 and 4001 and two questions from ports 5000 and 5001, to different places.
fn traffic(lab: &Lab) -> (Vec<Server>, Vec<TcpStream>) {
    let servers = vec![Server::http(&lab.gateway, any(80), "page"), Server::udp(&lab.gateway, any(53))];
    let mut streams = Vec::new();
    for (port, to) in [(4000, [1, 2, 3, 4]), (4001, [93, 184, 216, 34])] {
        let stream = talk::dial(&lab.client, port, (to, 80).into()).unwrap();
        streams.push(stream);
    }
    for (port, to) in [(5000, [8, 8, 8, 8]), (5001, [9, 9, 9, 9])] {
        talk::ask(&talk::udp(&lab.client, port), (to, 53).into(), "name?").unwrap();
    }
    (servers, streams)
}

/// The client ports of the flows that `words` choose.
fn chosen(lab: &Lab, words: &[&str]) -> Vec<u64> {
    let document = detour::json(&lab.gateway, &[&["flows", DEVICE], words].concat());
    let mut ports: Vec<u64> =
        document["flows"].as_array().unwrap().iter().map(|f| f["client"]["port"].as_u64().unwrap()).collect();
    ports.sort();
    ports
}

#[test]
fn flows_are_chosen_as_rules_would_choose_their_first_packets() {
    let lab = Lab::new();
    up(&lab.gateway, DEVICE, &[]);
    let _traffic = traffic(&lab);
    let client = CLIENT.to_string();
    for (words, ports) in [
        (&[][..], &[4000, 4001, 5000, 5001][..]),
        (&["tcp"], &[4000, 4001]),
        (&["tcp", "dport", "80", "ip", "daddr", "1.2.3.0/24"], &[4000]),
        // As a shell gives it when it is quoted.
        (&["tcp sport { 4001, 4002 } ip saddr", &client], &[4001]),
        (&["ip", "daddr", "!=", "{1.2.3.4,8.8.8.8}"], &[4001, 5001]),
        (&["udp", "dport", "1-52"], &[]),
        (&["ip6", "saddr", "::/0"], &[]),
    ] {
        assert_eq!(chosen(&lab, words), ports, "{words:?}");
    }
    let none = detour::run(&lab.gateway, &["flows", DEVICE, "icmp"]).done();
    assert_eq!(none.stdout, "no translation matches\n");
}

#[test]
fn what_was_asked_for_is_chosen_the_same_way() {
    let lab = Lab::new();
    up(&lab.gateway, DEVICE, &[]);
    let _traffic = traffic(&lab);
    let asked = |words: &[&str]| -> Vec<String> {
        let document = detour::json(&lab.gateway, &[&["asked", DEVICE], words].concat());
        let rows = document["rows"].as_array().unwrap().iter();
        let mut rows: Vec<String> = rows.map(|row| row["destination"].as_str().unwrap().to_owned()).collect();
        rows.sort();
        rows
    };
    assert_eq!(asked(&[]), ["1.2.3.4", "8.8.8.8", "9.9.9.9", "93.184.216.34"]);
    assert_eq!(asked(&["udp", "dport", "53", "ip", "daddr", "8.0.0.0/7"]), ["8.8.8.8", "9.9.9.9"]);
    assert_eq!(asked(&["tcp", "dport", "!=", "80"]), [""; 0]);
}

#[test]
fn a_fault_is_pointed_at() {
    let lab = Lab::new();
    up(&lab.gateway, DEVICE, &[]);
    let words = ["flows", DEVICE, "tcp", "dport", "http"];
    let fault = detour::run(&lab.gateway, &words).refused(code::USAGE, &["MATCH:1:11: `http` is no number"]);
    assert!(fault.stderr.contains("\n  tcp dport http\n            ^~~~\n"), "{}", fault.stderr);
    let sport = ["asked", DEVICE, "tcp sport 1"];
    detour::run(&lab.gateway, &sport).refused(code::USAGE, &["without the client's port"]);
    detour::run(&lab.gateway, &["flows", "lo", "tcp"]).refused(code::NO, &["nothing is up on lo"]);
}

#[test]
fn rules_count_what_they_decide() {
    let lab = Lab::new();
    let rules =
        ["--rule", "tcp dport 80 redirect", "--rule", "udp dport 53 redirect to :53", "--rule", "drop"];
    up(&lab.gateway, DEVICE, &rules);
    let _traffic = traffic(&lab);
    let counted = || -> Vec<(String, u64)> {
        let document = detour::json(&lab.gateway, &["rules", DEVICE]);
        assert_eq!((&document["schema"], &document["device"]), (&"detour.rules/1".into(), &DEVICE.into()));
        let one = |r: &Value| (r["text"].as_str().unwrap().to_owned(), r["packets"].as_u64().unwrap());
        document["rules"].as_array().unwrap().iter().map(one).collect()
    };
    let row = |text: &str, packets| (text.to_owned(), packets);
    let expected = [row("tcp dport 80 redirect", 2), row("udp dport 53 redirect to :53", 2), row("drop", 0)];
    assert_eq!(counted(), expected);
    let text = detour::run(&lab.gateway, &["rules", DEVICE]).done().stdout;
    assert!(text.starts_with("RULE  LINE  PACKETS  BYTES  TEXT\n   1     1        2  "), "{text}");
    assert!(talk::ping(&lab.client, 7, Ipv4Addr::new(1, 2, 3, 4)).is_err());
    assert_eq!(counted()[2], row("drop", 1));
}
