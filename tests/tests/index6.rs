// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The IPv6 index knows its keys by a hash: it is the same in C and in Rust, nobody knows it beforehand, and two flows of one
//! hash do each other no harm. Such flows are had by choosing the secret for them.
use detour::dnat::abi::{Flow6, Key6, Secret};
use detour::dnat::index::index;
use detour::dnat::running::entries;
use detour::dnat::wire::{Be16, Shared};
use detour_sys::Map;
use e2e::bench::{Bench, Hook};
use e2e::detour::{code, json, run};
use e2e::lab::GATEWAY6;
use e2e::packet::{Packet, ACK, SYN};
use e2e::six::{at6, client6, FAR6};
use e2e::testrun::{Sums, SHOT};
use std::collections::BTreeSet;

const TCP: u8 = 6;
const UDP: u8 = 17;
/// Place of the constant of each half among the words.
const HALVES: [usize; 2] = [0, 11];

fn secret(bench: &Bench) -> Secret {
    Secret::read(&bench.map("secret").lookup(&[0; 4]).unwrap().unwrap()).unwrap()
}

fn elements(map: &Map) -> BTreeSet<Vec<u8>> {
    entries(map).unwrap().into_iter().map(|(key, _)| key).collect()
}

/// The first packet of a flow of each protocol.
fn question(proto: u8, port: u16) -> Packet {
    match proto {
        TCP => Packet::tcp(client6(port), at6(FAR6, 80), SYN),
        _ => Packet::udp(client6(port), at6(FAR6, 80)).payload(b"question"),
    }
}

/// The question comes in as one to the gateway from `port`, and its answer leaves as one from who was asked.
#[track_caller]
fn served(ingress: &Hook<'_>, egress: &Hook<'_>, asked: &Packet, port: u16) {
    let server = asked.clone().between(client6(port), at6(GATEWAY6, 80));
    ingress.rewrites(asked, &server);
    egress.rewrites(&server.reversed(), &asked.clone().reversed());
}

#[test]
fn c_and_rust_hash_alike_and_nobody_knows_how() {
    let mut secrets = BTreeSet::new();
    for _ in 0..2 {
        let bench = Bench::new(&["redirect"]);
        assert_eq!(secret(&bench), Secret::default(), "nothing has opened");
        let ingress = bench.program("ingress");
        let mut keys = BTreeSet::new();
        for (n, proto) in [TCP, UDP, TCP, 58].into_iter().enumerate() {
            let port = 4000 + n as u16;
            let asked = match proto {
                58 => Packet::echo((*client6(0).ip()).into(), FAR6.into(), port, 1),
                _ => question(proto, port),
            };
            let outcome = ingress.run(&asked.frame(), Sums::None);
            assert_ne!(outcome.frame, asked.frame(), "{asked}");
            let service = Be16(if proto == 58 { 0 } else { 80 });
            let (client, port) = (client6(0).ip().octets(), Be16(port));
            let forward =
                Key6 { src: client, dst: FAR6.octets(), sport: port, dport: service, proto, dir: 0 };
            // A UDP server may answer from any address.
            let server = if proto == UDP { [0; 16] } else { GATEWAY6.octets() };
            let reverse = Key6 { src: server, dst: client, sport: service, dport: port, proto, dir: 1 };
            keys.extend([forward, reverse].map(|key| index(&key.to_bytes(), &secret(&bench))));
            // What is drawn stays.
            secrets.insert(secret(&bench).words);
        }
        assert_eq!(elements(&bench.map("idx6")), keys);
        let secret = secret(&bench);
        assert_eq!(secret.drawn, 1);
        assert_eq!(secret.words.iter().collect::<BTreeSet<_>>().len(), 22, "each is another number");
    }
    assert_eq!(secrets.len(), 2, "each instance has its own");
}

/// Sets the secret so that the ports of keys of this protocol and direction count only as `factor` says: both halves add
/// (… + ports) * factor.
fn choose(bench: &Bench, proto: u8, dir: u8, factor: u64) {
    let mut secret = Secret { drawn: 1, words: [0; 22] };
    let mut word = 0x9e37_79b9_7f4a_7c15_u64;
    for place in &mut secret.words {
        *place = word;
        word = word.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1);
    }
    for half in HALVES {
        // The last part of a key.
        let last = u32::from_ne_bytes([proto, dir, 0, 0]);
        secret.words[half + 10] = factor.wrapping_sub(last.into());
    }
    bench.map("secret").update(&[0; 4], &secret.to_bytes(), 0).unwrap();
}

#[test]
fn forward_keys_of_one_hash() {
    for proto in [TCP, UDP] {
        let bench = Bench::new(&["redirect"]);
        choose(&bench, proto, 0, 0);
        let (ingress, egress) = (bench.program("ingress"), bench.program("egress"));
        let [ingress, egress] = [&ingress, &egress].map(|program| Hook { program, sums: Sums::Complete });
        let [first, second] = [4000, 4001].map(|port| question(proto, port));
        served(&ingress, &egress, &first, 4000);
        let [index, slots] = ["idx6", "slots6"].map(|name| bench.map(name));
        let known = elements(&index);
        assert_eq!(known.len(), 2);
        // There is no place for it: it is refused, and the other one goes on.
        for _ in 0..3 {
            assert_eq!(ingress.program.run(&second.frame(), ingress.sums).verdict, SHOT);
            served(&ingress, &egress, &first, 4000);
        }
        assert_eq!(elements(&index), known);
        let all = entries(&index).unwrap().into_iter().map(|(_, slot)| slot).collect::<BTreeSet<_>>();
        let slot = all.iter().next().unwrap();
        let flow = Flow6::read(&slots.lookup(slot).unwrap().unwrap()).unwrap();
        assert_eq!((all.len(), flow.fwd.sport, flow.packets), (1, Be16(4000), [4, 4]));
        let status = json(&bench.lab.gateway, &["status", "eth0"]);
        assert_eq!(status["instances"][0]["dnat"]["not_translated"]["no_space"], 3);
        // When the first one has gone the second one has its place.
        run(&bench.lab.gateway, &["flush", "eth0"]).done();
        assert_eq!(elements(&index).len(), 0);
        served(&ingress, &egress, &second, 4001);
    }
}

#[test]
fn reverse_keys_of_one_hash() {
    for proto in [TCP, UDP] {
        let bench = Bench::new(&["redirect"]);
        // The low 24 bits of the ports remain: the server's, and half of the client's.
        choose(&bench, proto, 1, 1 << 40);
        let (ingress, egress) = (bench.program("ingress"), bench.program("egress"));
        let [ingress, egress] = [&ingress, &egress].map(|program| Hook { program, sums: Sums::Complete });
        let [first, second, third] = [0x1000, 0x1001, 0x1101].map(|port| question(proto, port));
        served(&ingress, &egress, &first, 0x1000);
        // To the server, its client has another port.
        let outcome = ingress.program.run(&second.frame(), ingress.sums);
        let port = Packet::read(&outcome.frame).unwrap().ends().0.port();
        assert_ne!(port >> 8, 0x10, "{proto}");
        for _ in 0..2 {
            served(&ingress, &egress, &second, port);
            served(&ingress, &egress, &first, 0x1000);
        }
        served(&ingress, &egress, &third, 0x1101);
        assert_eq!(elements(&bench.map("idx6")).len(), 6);
        // An answer that belongs to nothing, though its hash is known.
        let stray = match proto {
            TCP => Packet::tcp(at6(GATEWAY6, 80), client6(0x1002), ACK),
            _ => Packet::udp(at6(GATEWAY6, 80), client6(0x1002)),
        };
        egress.passes("a stray answer", &stray.frame());
        let flows = json(&bench.lab.gateway, &["flows", "eth0"]);
        let mut ports: Vec<u64> = flows["flows"]
            .as_array()
            .unwrap()
            .iter()
            .map(|f| f["client"]["port"].as_u64().unwrap())
            .collect();
        ports.sort_unstable();
        assert_eq!(ports, [0x1000, 0x1001, 0x1101]);
        // Who is asked for what a server sees is not mistaken for the other one.
        let name = if proto == TCP { "tcp" } else { "udp" };
        let there = |port| {
            let client = format!("[{}]:{port}", client6(0).ip());
            let server = format!("[{GATEWAY6}]:80");
            run(&bench.lab.gateway, &["orig", name, &client, &server, "-j"])
        };
        for known in [0x1000, port, 0x1101] {
            assert_eq!(there(known).done().json()["flow"]["original"]["port"], 80);
        }
        there(0x1002).ends(code::NO);
    }
}
