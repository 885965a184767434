// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Facts and rules -> what is set, sized and written.

use super::*;
use crate::dnat::parse::{parse, Source};
use crate::load::facts::{Bpffs, Device, Machine};

fn facts(addresses: &[(u32, &str, u8)]) -> Facts {
    let addr = |(index, ip, prefix): &(u32, &str, u8)| Addr {
        index: *index,
        ip: ip.parse().unwrap(),
        prefix: *prefix,
        peer: None,
        scope: if ip.starts_with("127.") { 254 } else { 0 },
        flags: 0,
    };
    Facts {
        machine: Machine { release: String::new(), page_size: 4096, possible_cpus: 2, hz: 250 },
        netns: 1,
        cookie: 1,
        device: Device { ifindex: 3, name: "eth0".into(), arphrd: 1, mtu: 1500 },
        addresses: addresses.iter().map(addr).collect(),
        ip_forward: false,
        ip6_forward: false,
        route_localnet: false,
        block: None,
        clsact: None,
        clsact_marked: false,
        filters: Vec::new(),
        tcx: Vec::new(),
        sockopts: Vec::new(),
        cgroup2: None,
        bpffs: Bpffs::Ready,
        root: None,
        device_folder: false,
        marks: Vec::new(),
        instances: Vec::new(),
        hidden: None,
        orphans: Vec::new(),
        reads: Vec::new(),
    }
}

fn rules(text: &str) -> Vec<Rule> {
    parse(&[Source { name: "test", text: text.as_bytes() }]).unwrap()
}

const HOST: [(u32, &str, u8); 3] = [(1, "127.0.0.1", 8), (3, "192.0.2.7", 24), (3, "fd00::7", 64)];

#[test]
fn settings_and_sizes_agree() {
    let control = control(&Options::default(), &rules("redirect"), &facts(&HOST)).unwrap();
    assert_eq!(
        control.settings.join(" "),
        "cfg.schema=4 cfg.flags=196611 cfg.l2_len=14 cfg.hz=250 cfg.tick_shift=8 cfg.cpus=2 cfg.half_slots4=4096 \
         cfg.confirmed_slots4=65536 cfg.half_slots6=1024 cfg.confirmed_slots6=22016 cfg.asked_rows=1024 cfg.tcp_established=7266 cfg.tcp_transitory=235 cfg.udp=293 \
         cfg.icmp=59 cfg.port_first=61000 cfg.port_count=4536 cfg.ip_frag=30 cfg.generic=586 \
         cfg.client_new=0 cfg.client_live=0"
    );
    let sizes: Vec<String> = control.sizes.iter().map(|(map, n)| format!("{map} {n}")).collect();
    assert_eq!(
        sizes,
        [
            "idx4 148480",
            "slots4 73728",
            "local4 1024",
            "idx6 49152",
            "slots6 24064",
            "local6 1024",
            "asked 16384",
            "asked_clients 4096",
            "clients 1"
        ]
    );
    assert_eq!((&control.writes[0].map[..], control.writes[0].value.len()), ("rules_0", 745_512));
}

#[test]
fn ipv6_fills_the_buckets_of_its_index() {
    // CPUs, --flows-max, then confirmed slots of IPv6.
    for (cpus, flows, expected) in [
        // 2 * (1024 + 23040) + 1024 is three quarters of 65536, 2 * (1024 + 16384) + 1024 little more than a half.
        (1, 65536, 23040),
        (2, 65536, 22016),
        // 2 * (8192 + 16384) + 1024 is more than three quarters of 65536.
        (8, 65536, 16384),
        // 1 << 20 buckets: 2 * (2048 + 390656) + 1024 is three quarters of them.
        (2, 1 << 20, 390_656),
        // Filling up would take more than is asked for.
        (2, 64, 16),
        (2, 16_777_216, 6_288_896),
    ] {
        let mut facts = facts(&HOST);
        facts.machine.possible_cpus = cpus;
        let options = Options { confirmed: flows, ..Options::default() };
        assert_eq!(cfg(&options, &facts).unwrap().confirmed_slots6, expected, "{cpus} CPUs, {flows} flows");
    }
}

#[test]
fn a_router_neither_picks_up_nor_drops() {
    let flags = |facts: &Facts, pickup| cfg(&Options { pickup, ..Options::default() }, facts).unwrap().flags;
    let host = facts(&HOST);
    let (pickup, tracked) =
        (codes::CFG_PICKUP4 | codes::CFG_PICKUP6, codes::CFG_SYN_TRACKED4 | codes::CFG_SYN_TRACKED6);
    assert_eq!(flags(&host, None), pickup | tracked);
    assert_eq!(flags(&host, Some(false)), tracked);
    let router = Facts { ip_forward: true, ip6_forward: true, ..facts(&HOST) };
    assert_eq!(flags(&router, None), 0);
    assert_eq!(flags(&router, Some(true)), pickup);
    // One family at a time.
    let router4 = Facts { ip_forward: true, ..facts(&HOST) };
    assert_eq!(flags(&router4, None), codes::CFG_PICKUP6 | codes::CFG_SYN_TRACKED6);
    let router6 = Facts { ip6_forward: true, ..facts(&HOST) };
    assert_eq!(flags(&router6, None), codes::CFG_PICKUP4 | codes::CFG_SYN_TRACKED4);
    let two_devices = facts(&[HOST[1], (4, "198.51.100.1", 24)]);
    assert_eq!(flags(&two_devices, None), pickup | codes::CFG_SYN_TRACKED6);
    let v6_elsewhere = facts(&[HOST[1], (4, "fe80::1", 64)]);
    assert_eq!(flags(&v6_elsewhere, None), pickup | codes::CFG_SYN_TRACKED4);
}

#[test]
fn every_address_has_its_part() {
    let facts = facts(&[
        HOST[0],
        HOST[1],
        HOST[2],
        (4, "10.0.0.1", 31),
        (4, "10.9.0.1", 32),
        (4, "2001:db8::1", 127),
        (4, "fe80::1", 64),
        (1, "::1", 128),
    ]);
    let writes =
        locals(&rules("tcp redirect\nudp dnat to 203.0.113.5\nudp dnat to 2001:db8::5\ndrop"), &facts);
    let shown: Vec<String> = writes
        .iter()
        .map(|w| {
            let address = match w.key.len() {
                4 => std::net::IpAddr::from(<[u8; 4]>::try_from(&w.key[..]).unwrap()),
                _ => std::net::IpAddr::from(<[u8; 16]>::try_from(&w.key[..]).unwrap()),
            };
            format!("{} {address} {}", w.map, u32::from_ne_bytes(w.value[..].try_into().unwrap()))
        })
        .collect();
    assert_eq!(
        shown,
        [
            "local4 10.0.0.1 1",
            "local4 10.9.0.1 1",
            "local4 127.0.0.1 1",
            "local4 127.255.255.255 4",
            "local4 192.0.2.7 3",
            "local4 192.0.2.255 4",
            "local4 203.0.113.5 2",
            "local6 ::1 1",
            "local6 2001:db8::1 1",
            "local6 2001:db8::5 2",
            "local6 fd00:: 4",
            "local6 fd00::7 3",
            "local6 fe80:: 4",
            "local6 fe80::1 1",
        ]
    );
}

#[test]
fn refuses_what_cannot_be() {
    let refused = |options: Options, facts: &Facts| {
        control(&options, &rules("redirect"), facts).unwrap_err().to_string()
    };
    let default = Options::default();
    let mut odd = facts(&HOST);
    odd.device.arphrd = 801;
    assert_eq!(refused(default, &odd), "link type 801: a monitor device carries no traffic of its own");
    let bare = facts(&HOST[..1]);
    assert_eq!(refused(default, &bare), "rule 1 needs an address of this device, and it has none");
    for options in [
        Options { half_open: 0, ..default },
        Options { confirmed: u32::MAX, ..default },
        Options { half_open: u32::MAX, ..default },
        Options { asked: 0, ..default },
    ] {
        assert!(refused(options, &facts(&HOST)).contains("is 0 or beyond"));
    }
    let tiny = control(&Options { asked: 1, ..default }, &[], &facts(&HOST)).unwrap();
    assert!(tiny.settings.contains(&"cfg.asked_rows=1".to_owned()));
}

#[test]
fn targets_that_cannot_answer_are_named() {
    let rules = |text: &str| parse(&[Source { name: "test", text: text.as_bytes() }]).unwrap();
    let notes = |text: &str, facts: &Facts| super::notes(&rules(text), facts).len();
    let host = facts(&HOST);
    assert_eq!(notes("redirect", &host), 0);
    assert_eq!(notes("tcp dnat to 127.0.0.1:80", &host), 1);
    assert_eq!(notes("tcp dnat to 127.0.0.1:80", &Facts { route_localnet: true, ..facts(&HOST) }), 0);
    assert_eq!(notes("tcp dnat to 203.0.113.9:80", &host), 1);
    assert_eq!(notes("tcp dnat to 203.0.113.9:80", &Facts { ip_forward: true, ..facts(&HOST) }), 0);
    assert_eq!(notes("tcp dnat to [::1]:80", &host), 1);
    assert_eq!(notes("tcp dnat to [fd00::7]:80", &host), 0);
    assert_eq!(notes("tcp dnat to [2001:db8::9]:80", &Facts { ip_forward: true, ..facts(&HOST) }), 1);
    assert_eq!(notes("tcp dnat to [2001:db8::9]:80", &Facts { ip6_forward: true, ..facts(&HOST) }), 0);
    assert_eq!(notes("", &host), 1);
}

#[test]
fn an_address_that_comes_or_goes_is_noticed() {
    let host = facts(&HOST);
    let elements: Vec<_> = super::locals(&[], &host).into_iter().map(|w| (w.key, w.value)).collect();
    assert!(!super::own_changed(&elements, &host));
    let mut more = facts(&HOST);
    more.addresses.extend(facts(&[(1, "203.0.113.77", 24)]).addresses);
    assert!(super::own_changed(&elements, &more));
    more = facts(&HOST[..2]);
    assert!(super::own_changed(&elements, &more), "an IPv6 address went");
    more.addresses.clear();
    assert!(super::own_changed(&elements, &more));
}
