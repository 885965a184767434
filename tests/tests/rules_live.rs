// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Rules under real clients: swapped again and again while connections open, and as many as there may be, beside nft with the
//! same lines.
use e2e::detour::{json, up};
use e2e::family::Family;
use e2e::lab::{Lab, CLIENT, CLIENT6, GATEWAY, GATEWAY6, SECOND};
use e2e::serve::Server;
use e2e::talk;
use e2e::tools::Scratch;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const DEVICE: &str = "eth0";
const FAR: [IpAddr; 2] = [IpAddr::V4(e2e::bench::FAR), IpAddr::V6(e2e::six::FAR6)];

/// The address of everything, of the family of `like`.
fn any(like: IpAddr, port: u16) -> SocketAddr {
    match like {
        IpAddr::V4(_) => ([0; 4], port).into(),
        IpAddr::V6(_) => ([0u16; 8], port).into(),
    }
}

/// The rules in force, and how often each decided.
fn decided(lab: &Lab) -> Vec<u64> {
    let rules = json(&lab.gateway, &["rules", DEVICE]);
    rules["rules"].as_array().unwrap().iter().map(|rule| rule["packets"].as_u64().unwrap()).collect()
}

/// Two rule files. What decides stands at another number in each, where the other one has a rule that drops, and leads to
/// another address and port: a number of one in the other, or an address of one with a port of the other, would be silence
/// or a refusal.
fn files() -> [String; 2] {
    let drops = "tcp dport 9 drop\nudp dport 9 drop\n";
    let serves = |four: std::net::Ipv4Addr, port: u16| {
        ["tcp dport 80", "udp dport 53"]
            .map(|what| format!("{what} dnat to {four}:{port}\n{what} dnat to [{GATEWAY6}]:{port}\n"))
            .concat()
    };
    [serves(GATEWAY, 7001) + drops, drops.repeat(2) + &serves(SECOND, 7002)]
}

/// Asks once from `port` (0: any) and says which set answered; whoever is asked says his name.
fn ask(lab: &Lab, port: u16, datagram: bool, far: IpAddr) -> String {
    if datagram {
        let socket = lab.client.within(|| UdpSocket::bind(any(far, port)).unwrap());
        socket.set_read_timeout(Some(2 * talk::PATIENCE)).unwrap();
        let to = SocketAddr::from((far, 53));
        let (text, from) = talk::ask(&socket, to, "who?").unwrap_or_else(|e| panic!("udp {far}: {e}"));
        assert_eq!(from, to);
        return text;
    }
    let mut stream = talk::dial_for(&lab.client, port, (far, 80).into(), 2 * talk::PATIENCE)
        .unwrap_or_else(|e| panic!("tcp {far}: {e}"));
    let body = talk::get(&mut stream, "any").unwrap_or_else(|e| panic!("tcp {far}: {e}"));
    body.split(' ').next().unwrap().to_owned()
}

#[test]
fn every_connection_is_answered_by_one_set_or_the_other() {
    let lab = Lab::new();
    let scratch = Scratch::new();
    let [old, new] = files();
    let files = [scratch.write("old", old), scratch.write("new", new)];
    let at = |ip: IpAddr, port| SocketAddr::from((ip, port));
    let mut servers = Vec::new();
    for (n, four) in [GATEWAY, SECOND].into_iter().enumerate() {
        let (name, port) = (["old", "new"][n], 7001 + n as u16);
        for ip in [IpAddr::V4(four), IpAddr::V6(GATEWAY6)] {
            servers.push(Server::http(&lab.gateway, at(ip, port), name));
            servers.push(Server::answering(&lab.gateway, at(ip, port), |_| name.as_bytes().to_vec()));
        }
    }
    up(&lab.gateway, DEVICE, &[&files[0]]);
    let before = left_alone(&lab);
    let (done, asked) = (AtomicBool::new(false), [const { AtomicU64::new(0) }; 4]);
    std::thread::scope(|scope| {
        for (n, count) in asked.iter().enumerate() {
            let (lab, done) = (&lab, &done);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let heard = ask(lab, 0, n % 2 == 0, FAR[n / 2]);
                    assert!(["old", "new"].contains(&heard.as_str()), "{heard}");
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Ends the others in any case: the test ends with the first panic.
        let swaps = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 1..=30 {
                up(&lab.gateway, DEVICE, &[&files[round % 2]]);
                // Whoever begins now is for the rules of now. From a port of its own: a datagram from one that was used
                // goes the way of the flow that it had.
                let port = 10_000 + round as u16;
                for (datagram, far) in [(true, FAR[0]), (false, FAR[1]), (false, FAR[0]), (true, FAR[1])] {
                    assert_eq!(ask(&lab, port, datagram, far), ["old", "new"][round % 2], "round {round}");
                }
            }
        }));
        done.store(true, Ordering::Relaxed);
        swaps.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    let asked = asked.map(AtomicU64::into_inner);
    assert!(asked.iter().all(|count| *count > 20), "{asked:?}");
    // Nobody was heard only because he asked again.
    let after = left_alone(&lab);
    assert_eq!(after, before);

    // Counters are the rules' own: they start with them.
    up(&lab.gateway, DEVICE, &[&files[1]]);
    assert_eq!(decided(&lab), [0; 8]);
    ask(&lab, 9001, true, FAR[0]);
    ask(&lab, 9002, false, FAR[1]);
    assert_eq!(decided(&lab), [0, 0, 0, 0, 0, 1, 1, 0]);
    up(&lab.gateway, DEVICE, &[&files[0]]);
    assert_eq!(decided(&lab), [0; 6]);
}

/// How often a packet that opens something got no translation, whyever.
fn left_alone(lab: &Lab) -> BTreeMap<String, Value> {
    let status = json(&lab.gateway, &["status", DEVICE]);
    let all = status["instances"][0]["dnat"]["not_translated"].as_object().unwrap().clone();
    let why =
        ["no_rule", "drop", "reject", "no_port", "no_space", "rewrite", "syn_ack", "protocol", "no_room"];
    all.into_iter().filter(|(reason, _)| why.contains(&reason.as_str())).collect()
}

/// 1,024 lines of each family, most about one address and port each, in no order; the last takes what is left of one port.
fn thousand(six: bool) -> Vec<String> {
    let (ip, prefix) = if six { ("ip6", "2001:db8:7::/48") } else { ("ip", "198.18.0.0/15") };
    let one = |n: usize| {
        // 389 and 1,023 have no divisor in common, so that each number comes once.
        let n = n * 389 % 1023;
        let protocol = ["tcp", "udp"][n / 512];
        format!(
            "{ip} daddr {} {protocol} dport {} counter redirect to :{}",
            address(six, n),
            2000 + n,
            7001 + n % 3
        )
    };
    (0..1023)
        .map(one)
        .chain([format!("{ip} daddr {prefix} tcp dport 80 counter redirect to :7000")])
        .collect()
}

fn address(six: bool, n: usize) -> IpAddr {
    match six {
        false => [198, 18, (n >> 8) as u8, n as u8].into(),
        true => [0x2001, 0xdb8, 7, 0, 0, 0, 0, n as u16].into(),
    }
}

/// What a client hears that asks what each of `lines` is about, and what none is.
fn transcript(lab: &Lab, six: bool, lines: &[String]) -> Vec<String> {
    let gateway = if six { IpAddr::V6(GATEWAY6) } else { IpAddr::V4(GATEWAY) };
    let servers: Vec<_> = (7000..7004)
        .map(|port| {
            let at = SocketAddr::from((gateway, port));
            let name = format!("server {port}").into_bytes();
            (
                Server::http(&lab.gateway, at, &port.to_string()),
                Server::answering(&lab.gateway, at, move |_| name.clone()),
            )
        })
        .collect();
    let mut asked: Vec<(bool, IpAddr, u16)> = lines
        .iter()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let ip = words[2].parse().unwrap_or_else(|_| address(six, 700));
            (words[3] == "udp", ip, words[5].parse().unwrap())
        })
        .collect();
    // Of no rule: address, port and protocol are each somebody's, but not of one rule.
    asked.extend([
        (false, address(six, 0), 2001),
        (true, address(six, 1), 80),
        (true, address(six, 4), 2004),
    ]);
    let hears = |(n, (udp, ip, port)): (usize, (bool, IpAddr, u16))| {
        let patience = if n < lines.len() { talk::PATIENCE } else { talk::SILENCE };
        let to = SocketAddr::from((ip, port));
        let heard = match udp {
            true => {
                let socket = lab.client.within(|| UdpSocket::bind(any(ip, 20_000 + n as u16)).unwrap());
                socket.set_read_timeout(Some(patience)).unwrap();
                talk::ask(&socket, to, "who?").map(|(text, from)| format!("{text} as {from}"))
            }
            false => talk::dial_for(&lab.client, 20_000 + n as u16, to, patience)
                .and_then(|mut stream| talk::get(&mut stream, "any")),
        };
        let heard =
            heard.unwrap_or_else(
                |error| if talk::silence(&error) { "silence".into() } else { error.to_string() },
            );
        format!("{to} {udp}: {heard}")
    };
    let transcript = asked.into_iter().enumerate().map(hears).collect();
    drop(servers);
    transcript
}

#[test]
fn as_many_rules_as_there_may_be() {
    for six in [false, true] {
        let rules = thousand(six);
        // First, second, in the middle, at the edges of words of 64 rules, and last.
        let some = [0, 1, 63, 64, 511, 512, 1022, 1023].map(|n: usize| rules[n].clone());
        let theirs = Lab::new();
        match six {
            true => theirs.nft_for(Family::V6, &rules.join("\n")),
            false => theirs.nft(&rules.join("\n")),
        }
        let scratch = Scratch::new();
        let ours = Lab::new();
        up(&ours.gateway, DEVICE, &[&scratch.write("rules", rules.join("\n"))]);
        let [heard, expected] = [&ours, &theirs].map(|lab| transcript(lab, six, &some));
        assert_eq!(heard, expected);
        let own: IpAddr = if six { CLIENT6.into() } else { CLIENT.into() };
        let last = format!("7000 {}", SocketAddr::from((own, 20_007)));
        assert!(heard[7].ends_with(&last), "{heard:?}");
        assert!(heard[..8].iter().all(|line| !line.contains("silence")), "{heard:?}");
        assert!(heard[8..].iter().all(|line| line.ends_with("silence")), "{heard:?}");
        // Each counted at the same rule.
        let family = if six { "ip6" } else { "ip" };
        let table: Value =
            serde_json::from_str(&theirs.gateway.run("nft", &["-j", "list", "table", family, "nat"]))
                .unwrap();
        let rules =
            table["nftables"].as_array().unwrap().iter().filter_map(|one| one["rule"]["expr"].as_array());
        let counter = |expr: &Vec<Value>| expr.iter().find_map(|e| e["counter"]["packets"].as_u64());
        let counted: Vec<u64> = rules.filter_map(counter).collect();
        assert_eq!(decided(&ours), counted);
        assert_eq!((counted.len(), counted.iter().sum::<u64>()), (1024, 8));
    }
}
