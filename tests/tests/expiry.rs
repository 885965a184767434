// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Flows end without any process of ours: a full table has room again when their idle time is over, and no sooner. And
//! times are compared rightly where the programs' 32-bit tick wraps.
use ::detour::dnat::abi::Secret;
use ::detour::dnat::index::index as index_key;
use ::detour::dnat::wire::Shared;
use e2e::bench::{at, client, Bench, Hook, FAR};
use e2e::detour::{self, json, run, up};
use e2e::family::Family;
use e2e::lab::{Lab, CLIENT, CLIENT6, GATEWAY, GATEWAY6};
use e2e::packet::{Packet, ACK, SYN};
use e2e::quote::{error, unreachable, Talk};
use e2e::six::{at6, client6, FAR6};
use e2e::testrun::{Program, Sums, SHOT, UNSPEC};
use e2e::tools;
use std::net::SocketAddr;
use std::time::Duration;

/// Idle time, and how long it takes at most in ticks of up to two seconds, begun ones included.
const IDLE: &str = "6s";
const OVER: Duration = Duration::from_secs(6 + 4);

/// What a client does to have a confirmed flow, and what it is then: its packets through the hooks.
fn open(ingress: &Hook<'_>, egress: &Hook<'_>, tcp: bool, from: SocketAddr, far: SocketAddr) -> bool {
    let server = if far.is_ipv4() { SocketAddr::from((GATEWAY, 80)) } else { (GATEWAY6, 80).into() };
    let asked = |flags| if tcp { Packet::tcp(from, far, flags) } else { Packet::udp(from, far) };
    let outcome = ingress.program.run(&asked(SYN).frame(), ingress.sums);
    if outcome.verdict == SHOT {
        return false;
    }
    let seen = asked(SYN).between(from, server);
    assert_eq!((outcome.verdict, outcome.frame), (UNSPEC, seen.frame()), "{from}");
    let answer = if tcp { Packet::tcp(far, from, SYN | ACK) } else { Packet::udp(far, from) };
    egress.rewrites(&answer.clone().between(server, from), &answer);
    let heard = if tcp { asked(ACK).acknowledging(0x0102_0305) } else { asked(0) };
    ingress.rewrites(&heard, &heard.clone().between(from, server));
    true
}

/// Nothing runs here between the packets but the test: `up` has ended, and no command is called.
#[test]
fn a_full_table_is_filled_anew_after_the_idle_time() {
    let kinds = [(true, false), (false, false), (true, true), (false, true)];
    let benches = kinds.map(|(_, six)| {
        let lab = Lab::new();
        let idle = ["tcp_established", "tcp_transitory", "udp"].map(|name| format!("{name}={IDLE}"));
        // IPv6 has a quarter of IPv4's.
        let mut options = vec!["--flows-max", if six { "64" } else { "16" }, "--when-full", "drop"];
        idle.iter().for_each(|timeout| options.extend(["--timeout", timeout]));
        up(&lab.gateway, &lab.device, &options);
        Bench { lab }
    });
    let programs = benches.each_ref().map(|bench| (bench.program("ingress"), bench.program("egress")));
    for round in 0..3 {
        for ((tcp, six), (ingress, egress)) in kinds.into_iter().zip(&programs) {
            let hook = |program| Hook { program, sums: Sums::None };
            let (ingress, egress) = (hook(ingress), hook(egress));
            let opens = |n: u16| {
                let far = if six { SocketAddr::from((FAR6, 80)) } else { at(FAR, 80).into() };
                let from = if six { SocketAddr::from(client6(n)) } else { client(n).into() };
                open(&ingress, &egress, tcp, from, far)
            };
            for n in 0..16 {
                assert!(opens(1000 * (round + 1) + n), "round {round}, flow {n}: tcp {tcp}, IPv6 {six}");
            }
            assert!(!opens(9000 + round), "round {round}: there is no room: tcp {tcp}, IPv6 {six}");
        }
        std::thread::sleep(OVER);
    }
    for bench in &benches {
        let status = json(&bench.lab.gateway, &["status", &bench.lab.device]);
        assert_eq!(status["instances"][0]["dnat"]["not_translated"]["no_room"], 3, "{status}");
        let flows = json(&bench.lab.gateway, &["flows", &bench.lab.device]);
        assert_eq!(flows["flows"], serde_json::json!([]), "all of them are over");
    }
}

/// RFC 4787 REQ-6, RFC 5508 REQ-6: of four flows of a family one hears its client only, one its server only, one ICMP errors
/// of both, and one is silent. Errors neither refresh a flow nor end one.
#[test]
fn packets_of_either_side_keep_a_flow() {
    let lab = Lab::new();
    up(&lab.gateway, &lab.device, &["--rule", "udp dport 80 redirect to :80", "--timeout", "udp=10s"]);
    let bench = Bench { lab };
    let (ingress, egress) = (bench.program("ingress"), bench.program("egress"));
    let hook = |program| Hook { program, sums: Sums::None };
    let (ingress, egress) = (hook(&ingress), hook(&egress));
    let talk = |family: Family, n: u16| {
        let (client, far) = (SocketAddr::new(family.client(), 4000 + n), (family.far(), 80));
        Talk::new(Packet::udp(client, far), Packet::udp(far, client), 80)
    };
    let errors = |talk: &Talk| {
        let family = Family::of(talk.asked.src);
        let about = |from, packet| error(unreachable(family), from, packet, &[], 8);
        let [gateway, far, client] = [family.gateway(), family.far(), family.client()];
        egress.rewrites(&about(gateway, &talk.served), &about(far, &talk.asked));
        ingress.rewrites(&about(client, &talk.heard), &about(client, &talk.answer));
    };
    for (family, n) in Family::BOTH.into_iter().flat_map(|family| [0, 1, 2, 3].map(|n| (family, n))) {
        let (from, far) = (talk(family, n).asked.ends().0, SocketAddr::new(family.far(), 80));
        assert!(open(&ingress, &egress, false, from, far));
    }
    for round in 0..3 {
        std::thread::sleep(Duration::from_secs(4));
        for family in Family::BOTH {
            let [asks, hears, fails] = [0, 1, 2].map(|n| talk(family, n));
            ingress.rewrites(&asks.asked, &asks.served);
            egress.rewrites(&hears.answer, &hears.heard);
            errors(&asks);
            errors(&hears);
            if round < 2 {
                errors(&fails);
            }
        }
    }
    let flows = json(&bench.lab.gateway, &["flows", &bench.lab.device]);
    for family in Family::BOTH {
        let flows = flows["flows"].as_array().unwrap().iter();
        let client = family.client().to_string();
        let mut left: Vec<_> = flows
            .filter(|flow| flow["client"]["address"] == client)
            .map(|flow| {
                let packets = |side: &str| flow[side]["packets"].as_u64().unwrap();
                (flow["client"]["port"].as_u64().unwrap(), packets("from_client"), packets("from_server"))
            })
            .collect();
        left.sort_unstable();
        assert_eq!(left, [(4000, 2 + 3, 1), (4001, 2, 1 + 3)], "{family:?}");
    }
}

/// A flow of one family, as its maps have it.
struct Place {
    family: &'static str,
    frame: Vec<u8>,
    key: Vec<u8>,
    /// Offsets in a slot: `last` and `packets[0]`.
    last: usize,
    packets: usize,
}

/// A datagram from the client's `port` to the gateway itself.
fn places(port: u16) -> [Place; 2] {
    let tail = [&port.to_be_bytes()[..], &53_u16.to_be_bytes(), &[17, 0, 0, 0]].concat();
    let four = Packet::udp(client(port), at(GATEWAY, 53)).frame();
    let six = Packet::udp(client6(port), at6(GATEWAY6, 53)).frame();
    [
        Place {
            family: "4",
            frame: four,
            key: [&CLIENT.octets()[..], &GATEWAY.octets(), &tail].concat(),
            last: 8 + 2 * 16 + 12,
            packets: 8 + 2 * 16 + 24,
        },
        Place {
            family: "6",
            frame: six,
            key: [&CLIENT6.octets()[..], &GATEWAY6.octets(), &tail].concat(),
            last: 8 + 2 * 40 + 12,
            packets: 8 + 2 * 40 + 24,
        },
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("hex:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

/// The bytes of an element, as bpftool reads them.
fn element(lab: &Lab, map: &str, key: &[u8]) -> Vec<u8> {
    let maps = json(&lab.gateway, &["map", "list", &lab.device, "dnat"]);
    let row = maps["maps"].as_array().unwrap().iter().find(|row| row["name"] == map).unwrap();
    let (id, key) = (row["id"].to_string(), key.iter().map(u8::to_string));
    let words: Vec<String> = ["-j", "map", "lookup", "id", &id, "key"].map(String::from).to_vec();
    let words: Vec<String> = words.into_iter().chain(key).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let found = tools::json(&lab.gateway, "bpftool", &words);
    let bytes = found["value"].as_array().unwrap().iter();
    bytes.map(|b| u8::from_str_radix(&b.as_str().unwrap()[2..], 16).unwrap()).collect()
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// With ticks of one jiffy the tick wraps five minutes after the machine's start. A flow whose newest packet came before
/// that lives on or is over as its age says; one that another processor has dated a little later than now lives.
#[test]
fn ages_are_right_across_the_wrap_of_the_tick() {
    const IDLE: u32 = 0x7fff_0000;
    // A minute at 1000 Hz, four at 250 Hz: so long a step of this test does not take.
    const MARGIN: u32 = 60_000;
    let lab = Lab::new();
    let (idle, device) = (format!("cfg.udp={IDLE}"), lab.device.as_str());
    let set = ["--ingress", "detour_in", "--set", "cfg.tick_shift=0", "--set", &idle];
    run(&lab.gateway, &[&["load", "@dnat", device][..], &set].concat()).done();
    // Direct flows to our own addresses are tracked without any rule.
    for (map, own) in [("local4", &GATEWAY.octets()[..]), ("local6", &GATEWAY6.octets())] {
        run(&lab.gateway, &["map", "set", device, "dnat", map, &hex(own), "hex:01000000"]).done();
    }
    let filters = tools::filters(&lab.gateway, device, "ingress");
    let id = filters.iter().find_map(|filter| filter["options"]["prog"]["id"].as_u64()).unwrap();
    let ingress = Program::by_id(&lab.gateway, id);
    for (n, (age, alive)) in [
        (0, true),
        (IDLE - MARGIN, true),
        (IDLE + MARGIN, false),
        (5_u32.wrapping_neg(), true),
        (MARGIN.wrapping_neg(), true),
    ]
    .into_iter()
    .enumerate()
    {
        for place in places(5000 + n as u16) {
            let (index, slots) = (format!("idx{}", place.family), format!("slots{}", place.family));
            let what = format!("age {age:#x}, IPv{}", place.family);
            let passes = || assert_eq!(ingress.run(&place.frame, Sums::None).frame, place.frame, "{what}");
            passes();
            let secret = Secret::read(&element(&lab, "secret", &[0; 4])).unwrap();
            let key = index_key(&place.key, &secret);
            let slot = element(&lab, &index, &key);
            let mut flow = element(&lab, &slots, &slot);
            assert_eq!(word(&flow, place.packets), 1, "{what}");
            let now = word(&flow, place.last);
            let last = now.wrapping_sub(age);
            flow[place.last..place.last + 4].copy_from_slice(&last.to_ne_bytes());
            run(&lab.gateway, &["map", "set", device, "dnat", &slots, &hex(&slot), &hex(&flow)]).done();
            passes();
            let again = element(&lab, &index, &key);
            let packets = word(&element(&lab, &slots, &again), place.packets);
            assert_eq!((again == slot, packets), if alive { (true, 2) } else { (false, 1) }, "{what}");
            if (IDLE - MARGIN..=IDLE + MARGIN).contains(&age) && now < IDLE - MARGIN {
                assert!(last > now, "{what}: the tick has wrapped between {last:#x} and {now:#x}");
            }
        }
    }
    detour::run(&lab.gateway, &["unload", device, "dnat"]).done();
}
