// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Why a packet was left alone is counted: for each reason a packet that has it, which adds one to its counter and nothing to
//! any other. No reason is left out, or it says why.
use ::detour::dnat::codes::REASONS;
use detour_sys::{call, commands, Map, Value};
use e2e::bench::{at, client, Bench, FAR};
use e2e::detour::{json, up};
use e2e::lab::{Lab, CLIENT, CLIENT6, GATEWAY, GATEWAY6, NEIGHBOUR, SECOND};
use e2e::packet::{Inner, Packet, ACK, RST, SYN};
use e2e::six::{at6, client6, extended, fragment, framed, routing, FAR6};
use e2e::testrun::{Program, Sums, REDIRECT, SHOT, UNSPEC};
use e2e::tools::{project, Scratch};
use e2e::version::compile;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

const RULES: [&str; 6] = [
    "udp dport 53 accept",
    "udp dport 54 drop",
    "udp dport 55 reject",
    "udp dport 80 redirect",
    "tcp dport 80 redirect",
    "meta l4proto { 51, 132 } redirect",
];

type Case = (&'static str, i32, Vec<u8>);

/// What arrives.
fn arriving() -> Vec<Case> {
    let udp = |port| Packet::udp(client(4000), at(FAR, port)).payload(b"why");
    let to = |ip: Ipv4Addr| Packet::tcp(client(4000), at(ip, 81), SYN).frame();
    let later = |dst: Ipv4Addr, id| {
        let piece = Packet::other(CLIENT.into(), dst.into(), 17).payload(&[1; 64]);
        Packet { fragment: 8, id, ..piece }.frame()
    };
    let mut other_kind = udp(80).frame();
    other_kind[12..14].copy_from_slice(&[0x88, 0xb5]);
    let mut tagged = udp(80).frame();
    tagged.splice(12..12, [0x81, 0, 0, 7]);
    let mut other_host = udp(80).frame();
    other_host[..6].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    let mut longer = udp(80).frame();
    longer[17] += 1;
    let refused = Packet::udp(at(FAR, 9), client(9)).ip();
    let first = |port, id| Packet { id, fragment: 0, ..udp(port).payload(&[1; 64]) }.fragments(48);
    vec![
        ("not_ip", UNSPEC, other_kind),
        ("vlan", UNSPEC, tagged),
        ("not_for_us", UNSPEC, other_host),
        ("malformed", UNSPEC, longer),
        ("fragment", UNSPEC, later(GATEWAY, 1)),
        ("fragment_lost", SHOT, later(FAR, 2)),
        ("drop", SHOT, first(54, 3)[0].frame()),
        ("fragment_drop", SHOT, first(54, 3)[1].frame()),
        ("protocol", UNSPEC, Packet::other(CLIENT.into(), FAR.into(), 51).payload(&[0; 24]).frame()),
        ("icmp", UNSPEC, Packet::icmp(CLIENT, FAR, 3, 0, 0).payload(&refused).frame()),
        ("source", UNSPEC, Packet::udp(at(GATEWAY, 1), at(FAR, 80)).frame()),
        ("own", UNSPEC, to(SECOND)),
        ("special", UNSPEC, to([169, 254, 1, 1].into())),
        ("special", UNSPEC, to(Ipv4Addr::BROADCAST)),
        ("dhcp", UNSPEC, Packet::udp(client(68), at(FAR, 67)).frame()),
        ("no_flow", UNSPEC, Packet::tcp(client(4000), at(FAR, 80), RST).frame()),
        ("no_rule", UNSPEC, udp(99).frame()),
        ("accept", UNSPEC, udp(53).frame()),
        ("drop", SHOT, udp(54).frame()),
        ("reject", REDIRECT, udp(55).frame()),
        ("silent", SHOT, damaged(udp(55).frame())),
    ]
}

fn arriving6() -> Vec<Case> {
    let udp = |port| Packet::udp(client6(4000), at6(FAR6, port)).payload(b"why");
    let to = |ip: Ipv6Addr| Packet::tcp(client6(4000), at6(ip, 81), SYN).frame();
    let mut longer = udp(80).frame();
    longer[19] += 1;
    let refused = Packet::udp(at6(FAR6, 9), client6(9)).ip();
    let mut error = Packet::echo(CLIENT6.into(), FAR6.into(), 0, 0).payload(&refused);
    error.inner = Inner::Icmp { kind: 1, code: 4, rest: [0; 4] };
    let behind = |packet: &Packet, extension| framed(&extended(&packet.ip(), &[extension]));
    vec![
        ("malformed", UNSPEC, longer),
        ("extension", UNSPEC, behind(&udp(80), routing(1))),
        ("fragment", UNSPEC, behind(&Packet::udp(client6(4), at6(GATEWAY6, 80)), fragment(8, false))),
        ("fragment_lost", SHOT, behind(&udp(80), fragment(8, false))),
        ("protocol", UNSPEC, Packet::other(CLIENT6.into(), FAR6.into(), 51).payload(&[0; 24]).frame()),
        ("icmp", UNSPEC, error.frame()),
        ("source", UNSPEC, Packet::udp(at6(GATEWAY6, 1), at6(FAR6, 80)).frame()),
        ("special", UNSPEC, to("fe80::9".parse().unwrap())),
        ("dhcp", UNSPEC, Packet::udp(client6(546), at6(FAR6, 547)).frame()),
        ("no_flow", UNSPEC, Packet::tcp(client6(4000), at6(FAR6, 80), RST).frame()),
        ("no_rule", UNSPEC, udp(99).frame()),
        ("accept", UNSPEC, udp(53).frame()),
        ("drop", SHOT, udp(54).frame()),
        ("reject", REDIRECT, udp(55).frame()),
        ("silent", SHOT, damaged(udp(55).frame())),
    ]
}

/// What leaves.
fn leaving() -> Vec<Case> {
    let four = Packet::udp(at(GATEWAY, 99), client(4000)).frame();
    let six = Packet::tcp(at6(GATEWAY6, 99), client6(4000), ACK).frame();
    let mut other_kind = four.clone();
    other_kind[12..14].copy_from_slice(&[0x88, 0xb5]);
    vec![("out_no_flow", UNSPEC, four), ("out_no_flow", UNSPEC, six), ("not_ip", UNSPEC, other_kind)]
}

fn damaged(mut frame: Vec<u8>) -> Vec<u8> {
    *frame.last_mut().unwrap() ^= 0x40;
    frame
}

/// Reasons that no packet has by itself here, and why.
const UNPROVOKED: [(&str, &str); 2] = [
    ("none", "no reason: the packet was translated, and nothing counts"),
    (
        "rewrite",
        "the kernel gives no memory for a copy of a header (skb_ensure_writable): what is read of a packet before is there to be \
         written, so nothing in it makes a helper fail. `what_cannot_be_rewritten_is_dropped` makes one fail",
    ),
];

/// A device that is up in some way, packets that come before, and the one that is left alone.
struct Scene {
    reason: &'static str,
    options: &'static [&'static str],
    rules: &'static [&'static str],
    before: Vec<(&'static str, Vec<u8>)>,
    hook: &'static str,
    packet: Vec<u8>,
    verdict: i32,
}

/// What takes a device of its own.
fn scenes() -> Vec<Scene> {
    let gre = |dst: Ipv4Addr| Packet::other(CLIENT.into(), dst.into(), 47).payload(&[0; 16]).frame();
    let syn = |port| Packet::tcp(client(port), at(FAR, 80), SYN).frame();
    let syn_ack = |port| Packet::tcp(at(GATEWAY, 80), client(port), SYN | ACK).frame();
    // Every packet here has the sequence number 0x01020304.
    let ack = |port| Packet::tcp(client(port), at(FAR, 80), ACK).acknowledging(0x0102_0305).frame();
    let confirmed = |ports: std::ops::Range<u16>| {
        let one = |port| [("ingress", syn(port)), ("egress", syn_ack(port)), ("ingress", ack(port))];
        ports.flat_map(one).collect::<Vec<_>>()
    };
    let asked = Packet::udp(client(4000), at(FAR, 53)).payload(b"?").frame();
    let from_neighbour = Packet::udp(at(NEIGHBOUR, 53), client(4000)).payload(b"!").frame();
    let many = (0..50).map(|n| ("ingress", syn(6000 + n))).collect();
    let base = Scene {
        reason: "",
        options: &[],
        rules: &["redirect"],
        before: Vec::new(),
        hook: "ingress",
        packet: Vec::new(),
        verdict: UNSPEC,
    };
    let scene = |reason: &'static str, packet: Vec<u8>| Scene {
        reason,
        packet,
        options: base.options,
        rules: base.rules,
        before: Vec::new(),
        ..base
    };
    vec![
        Scene { options: &["--monitor"], ..scene("monitor", syn(4000)) },
        Scene {
            options: &["--sealed"],
            rules: &["udp redirect"],
            verdict: SHOT,
            ..scene("sealed", syn(4000))
        },
        // A server on the clients' own segment, whose answer comes back here without `masquerade`.
        Scene {
            rules: &["udp dnat to 192.168.178.7"],
            before: vec![("ingress", asked)],
            ..scene("reply", from_neighbour)
        },
        // Without ports nothing tells two flows to one server apart.
        Scene { before: vec![("ingress", gre(FAR))], ..scene("direct", gre(GATEWAY)) },
        Scene {
            before: vec![("ingress", gre(FAR))],
            verdict: SHOT,
            ..scene("no_port", gre([1, 2, 3, 4].into()))
        },
        Scene { hook: "egress", verdict: SHOT, ..scene("syn_ack", syn_ack(4000)) },
        Scene {
            options: &["--flows-max", "16"],
            before: [confirmed(4000..4016), confirmed(4016..4017)[..2].to_vec()].concat(),
            ..scene("full", ack(4016))
        },
        Scene {
            options: &["--flows-max", "16", "--when-full", "drop"],
            before: confirmed(4000..4016),
            verdict: SHOT,
            ..scene("no_room", syn(4016))
        },
        Scene {
            options: &["--client-live", "1"],
            before: confirmed(4000..4001),
            verdict: SHOT,
            ..scene("client_live", syn(4001))
        },
        Scene {
            options: &["--client-new", "1"],
            before: many,
            verdict: SHOT,
            ..scene("client_new", syn(4001))
        },
    ]
}

fn counters(bench: &Bench) -> BTreeMap<String, u64> {
    let status = json(&bench.lab.gateway, &["status", &bench.lab.device]);
    let counted = status["instances"][0]["dnat"]["not_translated"].as_object().unwrap().clone();
    counted.into_iter().map(|(name, count)| (name, count.as_u64().unwrap())).collect()
}

#[test]
fn each_reason_is_counted_once() {
    let bench = Bench::new(&RULES);
    // What the kernels of both ends say to each other would count as well.
    mute(&bench.lab);
    for (hook, cases) in [("ingress", [arriving(), arriving6()].concat()), ("egress", leaving())] {
        let program = bench.program(hook);
        for (reason, verdict, frame) in cases {
            let (verdict_now, counted) = counts(&bench, &program, &frame);
            assert_eq!(verdict_now, verdict, "{reason} at {hook}: {frame:02x?}");
            assert_eq!(counted, BTreeMap::from([(reason.to_string(), 1)]), "{hook}: {frame:02x?}");
        }
    }
}

/// What becomes of the frame, and what is counted.
fn counts(bench: &Bench, program: &Program<'_>, frame: &[u8]) -> (i32, BTreeMap<String, u64>) {
    let before = counters(bench);
    let verdict = program.run(frame, Sums::None).verdict;
    let mut after = counters(bench);
    after.retain(|name, count| {
        *count -= before.get(name).copied().unwrap_or(0);
        *count != 0
    });
    (verdict, after)
}

/// A device with these options and rules, which hears nothing but our packets.
fn quiet(options: &[&str], rules: &[&str]) -> Bench {
    let lab = Lab::new();
    let rules = rules.iter().flat_map(|rule| ["--rule", rule]);
    up(&lab.gateway, &lab.device, &options.iter().copied().chain(rules).collect::<Vec<_>>());
    mute(&lab);
    Bench { lab }
}

/// The kernels of both ends say nothing any more: neighbour discovery, MLD, ICMP errors that come seconds later.
fn mute(lab: &Lab) {
    lab.client.run("ip", &["link", "set", "eth0", "down"]);
    lab.gateway.run("nft", &["add table inet mute"]);
    lab.gateway
        .run("nft", &["add chain inet mute silence { type filter hook output priority 0 ; policy drop ; }"]);
}

#[test]
fn each_reason_that_takes_a_device_of_its_own() {
    for scene in scenes() {
        let (reason, expected) = (scene.reason, BTreeMap::from([(scene.reason.to_string(), 1)]));
        // What one client may open is a number for each second, and a new one may just have begun.
        let tries = if reason == "client_new" { 10 } else { 1 };
        let outcome = (0..tries).find_map(|nth| {
            let bench = quiet(scene.options, scene.rules);
            for (hook, frame) in &scene.before {
                bench.program(hook).run(frame, Sums::None);
            }
            let (verdict, counted) = counts(&bench, &bench.program(scene.hook), &scene.packet);
            let is = verdict == scene.verdict && counted == expected;
            (is || nth + 1 == tries).then_some((verdict, counted))
        });
        assert_eq!(outcome, Some((scene.verdict, expected)), "{reason}");
    }
}

/// An index without a free element, as only somebody with access to the map can make it.
#[test]
fn an_index_that_is_full() {
    let bench = quiet(&["--flows-max", "16", "--half-open", "16"], &["redirect"]);
    let ns = &bench.lab.gateway;
    let filled = ns.within(|| {
        let folder = std::fs::read_dir("/sys/fs/bpf/detour").unwrap().next().unwrap().unwrap();
        let path = folder.path().join("up/map_idx4");
        let path = path.to_str().unwrap();
        let fd = call(&commands::OBJ_GET, &[("pathname", Value::Text(path))]).map_err(|(e, _)| e).unwrap().fd;
        let map = Map::from_fd(fd.unwrap()).unwrap();
        let key = |n: u32| [&n.to_ne_bytes()[..], &[0xff; 12]].concat();
        // The kernel may have set aside an element or two for each CPU.
        (0..10_000).find(|n| map.update(&key(*n), &[0xff; 4], 0).is_err()).expect("the map has an end")
    });
    assert!(filled > 1000, "{filled}");
    let syn = Packet::tcp(client(4000), at(FAR, 80), SYN).frame();
    let outcome = counts(&bench, &bench.program("ingress"), &syn);
    assert_eq!(outcome, (SHOT, BTreeMap::from([("no_space".to_string(), 1)])));
}

/// Our own programs with a helper that fails, in place of a kernel without memory.
#[test]
fn what_cannot_be_rewritten_is_dropped() {
    let scratch = Scratch::new();
    let fails =
        [("rewrite.h", "\tif (fix_transportN(skb, p, addr, new_addr, ports, new_ports))\n", "\tif (1)\n")];
    let allowed = [(
        "rewrite.h",
        "static __always_inline long fix_transportN",
        "static inline __attribute__((unused)) long fix_transportN",
    )];
    let object = compile(&scratch, "fails.bpf.o", &[fails, allowed].concat());
    let bench = quiet(&["--object", &object], &["redirect"]);
    let program = bench.program("ingress");
    let syn = Packet::tcp(client(4000), at(FAR, 80), SYN).frame();
    let rewrite = (SHOT, BTreeMap::from([("rewrite".to_string(), 1)]));
    assert_eq!(counts(&bench, &program, &syn), rewrite, "a first packet");
    assert_eq!(counts(&bench, &program, &syn), rewrite, "of a flow that is there");
}

/// The table of this file against `enum reason` of ebpf-src/abi.h: nobody adds a reason without a packet that has it.
#[test]
fn every_reason_has_a_packet() {
    let abi = std::fs::read_to_string(project().join("ebpf-src/abi.h")).unwrap();
    let text = abi.split("enum reason {").nth(1).unwrap().split("};").next().unwrap();
    let names = text.lines().filter_map(|line| line.trim().strip_prefix("REASON_")?.split_once(" = "));
    let declared: BTreeSet<String> =
        names.map(|(name, _)| name.to_lowercase()).filter(|n| n != "count").collect();
    assert_eq!(declared.len(), REASONS.len());
    let shown = [arriving(), arriving6(), leaving()].concat().into_iter().map(|(reason, ..)| reason);
    let shown = shown.chain(scenes().into_iter().map(|scene| scene.reason)).chain(["no_space"]);
    let shown: BTreeSet<String> = shown.map(str::to_owned).collect();
    let argued: BTreeSet<String> = UNPROVOKED.iter().map(|(reason, _)| (*reason).to_owned()).collect();
    assert!(shown.is_disjoint(&argued));
    assert_eq!(shown.union(&argued).cloned().collect::<BTreeSet<_>>(), declared);
    assert_eq!(declared, REASONS.iter().map(|(name, _)| (*name).to_owned()).collect());
}
