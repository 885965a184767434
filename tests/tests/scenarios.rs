// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Rule sets of every shape, the same lines once to nftables and once to detour: clients have to hear the same.
use e2e::detour::up;
use e2e::lab::{Lab, GATEWAY, SERVER};
use e2e::netns::Netns;
use e2e::serve::Server;
use e2e::talk::{self, silence, PATIENCE, SILENCE};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Each set is read by both; later lines count only where the earlier ones do not match.
const SETS: [&str; 22] = [
    "redirect",
    "tcp dport 80 redirect to :8080",
    "tcp dport { 80, 443 } redirect to :8080",
    "tcp dport 80-443 redirect to :8080",
    "tcp dport != 80 redirect to :8080",
    "tcp dport != { 80, 25 } redirect to :8443",
    "tcp sport 20000-20099 redirect to :8080\nudp sport 20000-20099 redirect to :53",
    "udp dport 53 redirect to :5353\nudp dport 123 redirect to :53",
    "udp dport 53 redirect",
    "ip daddr 93.184.216.34 tcp dport 80 redirect to :8080\nip daddr 198.51.100.0/24 tcp dport 80 redirect to :8443",
    "ip daddr != 93.184.216.34 redirect",
    "ip daddr { 93.184.216.34, 198.51.100.0/25 } tcp dport 443 redirect to :8443",
    "ip daddr 93.184.0.0-93.185.255.255 redirect",
    "ip saddr 192.168.178.51 redirect",
    "ip saddr 10.0.0.0/8 redirect",
    "ip saddr != 192.168.178.0/24 redirect\ntcp dport 25 drop",
    "meta l4proto tcp redirect",
    "meta l4proto { tcp, udp } redirect to :8080",
    "meta l4proto icmp redirect\nmeta l4proto != icmp accept",
    "tcp dport 80 accept\ntcp dport 25 drop\nredirect",
    "tcp dport 80 dnat to 10.9.9.2\nudp dport 53 dnat to 10.9.9.2:5353\ntcp dport 443 dnat to 10.9.9.2:80",
    "ip daddr 93.184.216.34 dnat to 10.9.9.2\nip daddr 198.51.100.7 dnat to 192.168.178.3",
];

/// One thing that a client does.
#[derive(Clone, Copy, Debug)]
enum Probe {
    Tcp(u16),
    Udp(u16),
    Ping,
}

const PROBES: [Probe; 9] = [
    Probe::Tcp(80),
    Probe::Tcp(443),
    Probe::Tcp(8443),
    Probe::Tcp(25),
    Probe::Udp(53),
    Probe::Udp(5353),
    Probe::Udp(123),
    Probe::Udp(7),
    Probe::Ping,
];
const ASKED: [Ipv4Addr; 3] = [Ipv4Addr::new(93, 184, 216, 34), Ipv4Addr::new(198, 51, 100, 7), GATEWAY];

/// What the client hears, from whom, and what the server knows of it.
fn hears(client: &Netns, port: u16, to: Ipv4Addr, probe: Probe, patience: Duration) -> String {
    let said = match probe {
        Probe::Tcp(service) => talk::dial_for(client, port, (to, service).into(), patience)
            .and_then(|mut stream| talk::get(&mut stream, "any")),
        Probe::Udp(service) => {
            let socket = talk::udp(client, port);
            socket.set_read_timeout(Some(patience)).unwrap();
            // Not connected, so that an answer from another address would be seen; but then no refusal is heard.
            talk::ask(&socket, (to, service).into(), "hello")
                .map(|(text, from)| format!("{text} from {from}"))
        }
        Probe::Ping => talk::ping_for(client, port, to, patience).map(|from| from.to_string()),
    };
    said.unwrap_or_else(|error: io::Error| match silence(&error) {
        true => "silence".to_string(),
        false => error.kind().to_string(),
    })
}

/// The whole conversation over `lab`, a line for each probe.
fn transcript(lab: &Lab, patience: Duration) -> Vec<String> {
    let here = |port| SocketAddr::from(([0, 0, 0, 0], port));
    let far = lab.server();
    lab.client.run("ip", &["route", "replace", "default", "via", &GATEWAY.to_string()]);
    let mut servers = Vec::new();
    for (ns, name) in [(&lab.gateway, "gateway"), (&far, "server")] {
        servers.extend([80, 8080, 8443].map(|port| Server::http(ns, here(port), &format!("{name} {port}"))));
        servers.extend([53, 5353].map(|port| Server::udp(ns, here(port))));
    }
    let asked = ASKED.iter().flat_map(|to| PROBES.iter().map(move |probe| (*to, *probe)));
    let asked: Vec<_> =
        asked.enumerate().map(|(n, (to, probe))| (20_000 + n as u16 * 10, to, probe)).collect();
    std::thread::scope(|scope| {
        let ask = |(port, to, probe)| {
            let client = &lab.client;
            scope.spawn(move || format!("{probe:?} {to}: {}", hears(client, port, to, probe, patience)))
        };
        let threads: Vec<_> = asked.into_iter().map(ask).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Where ours hears more: a UDP server on a wildcard socket answers from the address that routing prefers, which is not
/// the one that the rule sent the question to, and conntrack does not know such an answer.
fn better(ours: &str, theirs: &str) -> bool {
    let restored = |port| {
        let line = |from: &str| {
            format!(
                "Udp({port}) 198.51.100.7: hello 192.168.178.51:20{}0 from {from}:{port}",
                if port == 53 { "13" } else { "14" }
            )
        };
        ours == line("198.51.100.7") && theirs == line("192.168.178.2")
    };
    restored(53) || restored(5353)
}

/// What clients hear under nftables, and under detour, if they wait as long as `patience`.
fn both(rules: &str, patience: Duration) -> (Vec<String>, Vec<String>) {
    let theirs = Lab::new();
    theirs.nft(rules);
    let ours = Lab::new();
    let lines: Vec<&str> = rules.lines().flat_map(|line| ["--rule", line]).collect();
    up(&ours.gateway, &ours.device, &lines);
    (transcript(&theirs, patience), transcript(&ours, patience))
}

#[test]
fn every_client_hears_the_same() {
    let mut answers = 0;
    for rules in SETS {
        let (mut theirs, mut ours) = both(rules, SILENCE);
        if ours.iter().zip(&theirs).any(|(ours, theirs)| ours != theirs && !better(ours, theirs)) {
            // On a busy machine an answer may just have come too late for one of them: again, without hurry.
            (theirs, ours) = both(rules, PATIENCE);
        }
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert!(ours == theirs || better(ours, theirs), "{rules}\nours   {ours}\ntheirs {theirs}");
        }
        answers +=
            ours.iter().filter(|line| line.contains("gateway") || line.contains(&SERVER.to_string())).count();
    }
    assert!(answers > SETS.len(), "hardly anything was served");
}
