// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Rule sets of every shape in both families, the same lines once to nftables and once to detour: clients have to hear the
//! same, or better where loader/docs/rules.md says so.
use e2e::detour::up;
use e2e::family::Family;
use e2e::lab::{tell_all_errors, Lab};
use e2e::netns::Netns;
use e2e::serve::Server;
use e2e::talk::{self, silence, PATIENCE, SILENCE};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Each set is read by both; later lines count only where the earlier ones do not match. `$NAMES` are below.
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
    "$IP daddr $ONE tcp dport 80 redirect to :8080\n$IP daddr $OTHERS tcp dport 80 redirect to :8443",
    "$IP daddr != $ONE redirect",
    "$IP daddr { $ONE, $HALF } tcp dport 443 redirect to :8443",
    "$IP daddr $RANGE redirect",
    "$IP saddr $CLIENT redirect",
    "$IP saddr $ELSEWHERE redirect",
    "$IP saddr != $SEGMENT redirect\ntcp dport 25 drop",
    "meta l4proto tcp redirect",
    "meta l4proto { tcp, udp } redirect to :8080",
    "meta l4proto $ICMP redirect\nmeta l4proto != $ICMP accept",
    "tcp dport 80 accept\ntcp dport 25 drop\nredirect",
    "tcp dport 80 dnat to $SERVER\nudp dport 53 dnat to [$SERVER]:5353\ntcp dport 443 dnat to [$SERVER]:80",
    "$IP daddr $ONE dnat to $SERVER\n$IP daddr $TWO dnat to $SECOND",
];

/// What the families call the same thing. Brackets around an IPv4 address go.
const NAMES: [(&str, &str, &str); 12] = [
    ("$IP", "ip", "ip6"),
    ("$ICMP", "icmp", "ipv6-icmp"),
    ("$ONE", "93.184.216.34", "2001:db8:5d:b8:d8:22:0:34"),
    ("$RANGE", "93.184.0.0-93.185.255.255", "2001:db8:5d::-2001:db8:5e:ffff:ffff:ffff:ffff:ffff"),
    ("$TWO", "198.51.100.7", "2001:db8:c6:33:6400::7"),
    ("$OTHERS", "198.51.100.0/24", "2001:db8:c6::/48"),
    ("$HALF", "198.51.100.0/25", "2001:db8:c6:33::/65"),
    ("$CLIENT", "192.168.178.51", "fd00::51"),
    ("$SEGMENT", "192.168.178.0/24", "fd00::/64"),
    ("$ELSEWHERE", "10.0.0.0/8", "fd09::/16"),
    ("$SERVER", "10.9.9.2", "fd09::2"),
    ("$SECOND", "192.168.178.3", "fd00::3"),
];

/// `text` as `family` says it.
fn said_in(family: Family, text: &str) -> String {
    let named = NAMES.iter().fold(text.to_string(), |text, (name, four, six)| {
        // No name begins with another one, if what follows it is looked at.
        text.split(name).collect::<Vec<_>>().join(family.pick(four, six))
    });
    assert!(!named.contains('$'), "{named}");
    family.pick(named.replace(['[', ']'], ""), named.clone())
}

/// The address of that name.
fn address(family: Family, name: &str) -> IpAddr {
    said_in(family, name).parse().unwrap()
}

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

/// A probe, from which port, to whom, and what the client heard: from whom, and what the server knows of it.
#[derive(Debug, PartialEq)]
struct Heard {
    what: String,
    port: u16,
    to: IpAddr,
    said: String,
}

fn hears(client: &Netns, port: u16, to: IpAddr, probe: Probe, patience: Duration) -> Heard {
    let said = match probe {
        Probe::Tcp(service) => talk::dial_for(client, port, (to, service).into(), patience)
            .and_then(|mut stream| talk::get(&mut stream, "any")),
        Probe::Udp(service) => {
            let socket = talk::udp_for(client, Family::of(to), port);
            socket.set_read_timeout(Some(patience)).unwrap();
            // Not connected, so that an answer from another address would be seen; but then no refusal is heard.
            talk::ask(&socket, (to, service).into(), "hello")
                .map(|(text, from)| format!("{text} from {from}"))
        }
        Probe::Ping => talk::ping_for(client, port, to, patience).map(|from| from.to_string()),
    };
    let said = said.unwrap_or_else(|error: io::Error| match silence(&error) {
        true => "silence".to_string(),
        false => error.kind().to_string(),
    });
    Heard { what: format!("{probe:?}"), port, to, said }
}

/// The whole conversation over `lab`.
fn transcript(lab: &Lab, family: Family, patience: Duration) -> Vec<Heard> {
    let far = lab.server6();
    for ns in [&lab.gateway, &far] {
        tell_all_errors(ns);
    }
    let mut servers = Vec::new();
    for (ns, name) in [(&lab.gateway, "gateway"), (&far, "server")] {
        servers.extend(
            [80, 8080, 8443].map(|port| Server::http(ns, family.any(port), &format!("{name} {port}"))),
        );
        servers.extend([53, 5353].map(|port| Server::udp(ns, family.any(port))));
    }
    let asked = [address(family, "$ONE"), address(family, "$TWO"), family.gateway()];
    let asked = asked.iter().flat_map(|to| PROBES.iter().map(move |probe| (*to, *probe)));
    std::thread::scope(|scope| {
        let ask = |(n, (to, probe))| {
            let port = 20_000 + n as u16 * 10;
            scope.spawn(move || hears(&lab.client, port, to, probe, patience))
        };
        let threads: Vec<_> = asked.enumerate().map(ask).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// What is heard otherwise, in the words of loader/docs/rules.md.
const BETTER: &str = "a UDP server answers from another address of this machine";

/// Where ours hears more: a UDP server on a wildcard socket answers from the address that routing prefers, which is not
/// the one that the rule sent the question to, and conntrack does not know such an answer.
fn better(family: Family, ours: &Heard, theirs: &Heard) -> bool {
    let (two, gateway) = (address(family, "$TWO"), family.gateway());
    [53, 5353].into_iter().any(|port| {
        let heard = |from: IpAddr| Heard {
            what: format!("{:?}", Probe::Udp(port)),
            port: ours.port,
            to: two,
            said: format!(
                "hello {} from {}",
                SocketAddr::new(family.client(), ours.port),
                SocketAddr::new(from, port)
            ),
        };
        *ours == heard(two) && *theirs == heard(gateway)
    })
}

/// What clients hear under nftables, and under detour, if they wait as long as `patience`.
fn both(family: Family, rules: &str, patience: Duration) -> [Vec<Heard>; 2] {
    let scene = |put: &(dyn Fn(&Lab) + Sync)| {
        let lab = Lab::new();
        lab.second6();
        put(&lab);
        transcript(&lab, family, patience)
    };
    let lines: Vec<&str> = rules.lines().flat_map(|line| ["--rule", line]).collect();
    std::thread::scope(|scope| {
        let theirs = scope.spawn(|| scene(&|lab| lab.nft_for(family, rules)));
        let ours = scene(&|lab| drop(up(&lab.gateway, &lab.device, &lines)));
        [theirs.join().unwrap(), ours]
    })
}

fn every_client_hears_the_same(family: Family) {
    let (mut answers, mut more) = (0, 0);
    for rules in SETS {
        let rules = said_in(family, rules);
        let same = |[theirs, ours]: &[Vec<Heard>; 2]| {
            ours.iter().zip(theirs).all(|(ours, theirs)| ours == theirs || better(family, ours, theirs))
        };
        let mut told = both(family, &rules, SILENCE);
        for _ in 0..2 {
            // On a busy machine an answer may just have come too late for one of them: again, without hurry.
            if !same(&told) {
                println!("again: {rules}");
                told = both(family, &rules, PATIENCE);
            }
        }
        let [theirs, ours] = told;
        assert_eq!(ours.len(), 3 * PROBES.len());
        for (ours, theirs) in ours.iter().zip(&theirs) {
            let better = better(family, ours, theirs);
            more += usize::from(better);
            assert!(ours == theirs || better, "{rules}\nours   {ours:?}\ntheirs {theirs:?}");
        }
        let served = |heard: &&Heard| {
            ["gateway ", "server ", "hello "].iter().any(|word| heard.said.starts_with(word))
                && heard.to != family.gateway()
        };
        answers += ours.iter().filter(served).count();
    }
    assert!(answers > 3 * SETS.len(), "hardly anything was served: {answers}");
    assert!(more >= 1, "nothing is better any more");
    let docs = include_str!("../../loader/docs/rules.md");
    assert!(docs.contains(&format!("\n| {BETTER} |")), "loader/docs/rules.md does not say: {BETTER}");
}

#[test]
fn every_ipv4_client_hears_the_same() {
    every_client_hears_the_same(Family::V4);
}

#[test]
fn every_ipv6_client_hears_the_same() {
    every_client_hears_the_same(Family::V6);
}
