// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Servers that listen on loopback only: 127.0.0.1 works where the device may route there, `up` and `doctor` say so where it may
//! not, and ::1 never does.
use e2e::bench::FAR;
use e2e::detour::{self, up};
use e2e::lab::{Lab, CLIENT};
use e2e::serve::Server;
use e2e::six::FAR6;
use e2e::talk;
use serde_json::Value;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const RULES: [&str; 4] = [
    "tcp dport 80 dnat to 127.0.0.1:8080",
    "udp dport 53 dnat to 127.0.0.1:5353",
    "udp dport 54 dnat to 127.0.0.1:5454",
    "meta l4proto icmp dnat to 127.0.0.1",
];

fn options<'a>(rules: &[&'a str]) -> Vec<&'a str> {
    rules.iter().flat_map(|rule| ["--rule", rule]).collect()
}

/// What the client hears of each kind of question; an error is what it hears, too.
fn hears(lab: &Lab, patience: Duration) -> Vec<io::Result<String>> {
    let web = talk::dial_for(&lab.client, 4000, (FAR, 80).into(), patience)
        .and_then(|mut stream| talk::get(&mut stream, "any"));
    let datagram = |from: u16, port: u16| {
        let socket = talk::udp(&lab.client, from);
        socket.set_read_timeout(Some(patience)).unwrap();
        talk::ask(&socket, (FAR, port).into(), "name?").map(|(text, from)| format!("{text} from {from}"))
    };
    let ping = talk::ping_for(&lab.client, 7, FAR, patience).map(|from| from.to_string());
    vec![web, datagram(4001, 53), datagram(4002, 54), ping]
}

fn servers(lab: &Lab) -> Vec<Server> {
    let ns = &lab.gateway;
    vec![
        Server::http(ns, ([127, 0, 0, 1], 8080), "only here"),
        Server::udp(ns, ([127, 0, 0, 1], 5353)),
        Server::udp(ns, ([0, 0, 0, 0], 5454)),
    ]
}

/// What `doctor` says of the rules in force: state, finding and fix.
fn doctor(lab: &Lab) -> Vec<(String, String, String)> {
    let document = detour::json(&lab.gateway, &["doctor", &lab.device]);
    let all = document["findings"].as_array().unwrap().iter().filter(|f| f["check"] == "rules in force");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    all.map(|f| (text(&f["state"]), text(&f["finding"]), text(&f["fix"]))).collect()
}

#[test]
fn a_server_on_127_0_0_1_with_route_localnet() {
    let expected = [
        format!("only here {CLIENT}:4000"),
        format!("name? {CLIENT}:4001 from {FAR}:53"),
        format!("name? {CLIENT}:4002 from {FAR}:54"),
        FAR.to_string(),
    ];
    for offload in [true, false] {
        let lab = Lab::new().tx_checksum(offload);
        let _servers = servers(&lab);
        assert_eq!(doctor(&lab), [], "nothing is up");
        let said = up(&lab.gateway, &lab.device, &options(&RULES)).stdout;
        let notes = said.lines().filter(|line| line.contains("route_localnet=1")).count();
        assert_eq!(notes, RULES.len(), "each rule, and what to do: {said}");
        for heard in hears(&lab, talk::SILENCE) {
            assert!(heard.as_ref().is_err_and(talk::silence), "the kernel drops it: {heard:?}");
        }
        let found = doctor(&lab);
        assert_eq!(found.len(), RULES.len(), "{found:?}");
        assert!(
            found.iter().all(|(state, what, _)| state == "note" && what.contains("127.0.0.1")),
            "{found:?}"
        );

        // The command that the fix begins with, as it stands.
        let command = found[0].2.split(" (").next().unwrap();
        assert_eq!(command, format!("sysctl net.ipv4.conf.{}.route_localnet=1", lab.device));
        lab.gateway.run("sh", &["-c", command]);
        let heard: Vec<String> =
            hears(&lab, talk::PATIENCE).into_iter().map(|heard| heard.unwrap()).collect();
        assert_eq!(heard, expected, "offload {offload}");
        assert_eq!(doctor(&lab)[0].0, "ok");
        let said = up(&lab.gateway, &lab.device, &options(&RULES)).stdout;
        assert!(!said.contains("route_localnet"), "{said}");
    }
    // Under nft with the same lines: the same, but for the server on a wildcard socket. It answers from the address that
    // routing prefers, and conntrack knows no such answer.
    let theirs = Lab::new();
    theirs.nft(&RULES.join("\n"));
    theirs.gateway.sysctl(&format!("net/ipv4/conf/{}/route_localnet", theirs.device), "1");
    let _servers = servers(&theirs);
    let heard = hears(&theirs, talk::PATIENCE / 5);
    for n in [0, 1, 3] {
        assert_eq!(heard[n].as_ref().unwrap(), &expected[n]);
    }
    assert_ne!(heard[2].as_ref().unwrap_or(&String::new()), &expected[2]);
}

/// IPv6 has no such setting: ::1 is for lo alone, whatever arrives elsewhere is dropped, and we say so.
#[test]
fn a_server_on_the_ipv6_loopback_is_out_of_reach() {
    let lab = Lab::new();
    lab.gateway.sysctl("net/ipv4/conf/all/route_localnet", "1");
    let at = |port| SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], port));
    let _servers = (Server::http(&lab.gateway, at(8080), "only here"), Server::udp(&lab.gateway, at(53)));
    let rules = ["tcp dport 80 dnat to [::1]:8080", "udp dport 53 dnat to ::1"];
    let said = up(&lab.gateway, &lab.device, &options(&rules)).stdout;
    let words = format!("the kernel drops packets to ::1 that come from {}", lab.device);
    assert_eq!(said.lines().filter(|line| line.contains(&words)).count(), 2, "{said}");
    let found = doctor(&lab);
    assert!(found.iter().all(|(state, what, fix)| {
        state == "note" && what.contains(&words) && fix == "take an address of this machine"
    }));
    assert_eq!(found.len(), 2);
    let heard = talk::dial_for(&lab.client, 0, (FAR6, 80).into(), talk::SILENCE).unwrap_err();
    assert!(talk::silence(&heard), "{heard}");
    let socket = lab.client.within(|| std::net::UdpSocket::bind("[::]:4000").unwrap());
    socket.set_read_timeout(Some(talk::SILENCE)).unwrap();
    assert!(talk::silence(&talk::ask(&socket, (FAR6, 53).into(), "name?").unwrap_err()));
    // It was not for want of a translation.
    let flows = detour::json(&lab.gateway, &["flows", &lab.device]);
    let server = |f: &Value| f["server"]["address"].as_str().unwrap().parse::<IpAddr>().unwrap();
    assert!(flows["flows"].as_array().unwrap().iter().any(|f| server(f) == at(0).ip()), "{flows}");
}
