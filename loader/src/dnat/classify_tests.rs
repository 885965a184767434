// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Packets -> the rule that the table's bytes name, read as the program reads them, against a scan of the rules in order.

use super::*;
use crate::dnat::abi::{RULES, RULES_MAX};
use crate::dnat::parse::{parse, Source};
use crate::dnat::random_rules::{random, rule as random_rule};
use crate::dnat::wire::{elements, Shared};

const OWN: Own =
    Own { v4: Some(Ipv4Addr::new(192, 0, 2, 7)), v6: Some(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 7)) };

#[derive(Clone, Copy, Debug)]
struct Packet {
    v6: bool,
    src: u128,
    dst: u128,
    protocol: u8,
    sport: u16,
    dport: u16,
}

fn parsed(text: &str) -> Vec<Rule> {
    parse(&[Source { name: "test", text: text.as_bytes() }]).unwrap_or_else(|e| panic!("{}", e[0]))
}

/// The first rule that matches, found by asking each condition in turn.
fn scan(rules: &[Rule], own: Own, packet: &Packet) -> Option<usize> {
    rules.iter().position(|rule| {
        let target = match rule.verdict {
            Verdict::Dnat { to, .. } => to.is_ipv6() == packet.v6,
            Verdict::Redirect { .. } if packet.v6 => own.v6.is_some(),
            Verdict::Redirect { .. } => own.v4.is_some(),
            Verdict::Reject(reject) => reject.serves(if packet.v6 { Family::V6 } else { Family::V4 }),
            _ => true,
        };
        target
            && rule.matches.iter().all(|condition| {
                let value = match condition.field {
                    Field::Address(family, side) => {
                        let value = if side == Side::Source { packet.src } else { packet.dst };
                        (packet.v6 == (family == Family::V6)).then_some(value)
                    }
                    Field::Port(protocol, side) => {
                        let value = if side == Side::Source { packet.sport } else { packet.dport };
                        (packet.protocol == protocol).then_some(value.into())
                    }
                    Field::Protocol => Some(packet.protocol.into()),
                };
                value.is_some_and(|value| {
                    condition.set.iter().any(|i| i.first <= value && value <= i.last) != condition.negated
                })
            })
    })
}

/// The table as the program sees it.
struct Table {
    bounds: Vec<(Vec<u128>, Vec<u16>)>,
    vectors: Vec<Vector>,
    actions: Vec<Action>,
}

impl Table {
    fn read(bytes: &[u8]) -> Self {
        let bounds = DIMENSIONS.iter().map(|dimension| {
            let part = RULES.part(bytes, dimension.name);
            if dimension.name.ends_with('6') {
                let hi = elements::<u64>(RULE_DIM6.part(part, "hi"));
                let lo = elements::<u64>(RULE_DIM6.part(part, "lo"));
                let bounds = hi.zip(lo).map(|(hi, lo)| u128::from(hi) << 64 | u128::from(lo));
                (bounds.collect(), elements(RULE_DIM6.part(part, "vec")).collect())
            } else {
                let bounds = elements::<u32>(RULE_DIM4.part(part, "bound")).map(u128::from);
                (bounds.collect(), elements(RULE_DIM4.part(part, "vec")).collect())
            }
        });
        Self {
            bounds: bounds.collect(),
            vectors: elements(RULES.part(bytes, "vectors")).collect(),
            actions: elements(RULES.part(bytes, "actions")).collect(),
        }
    }

    /// The branch-free search of the program: unused entries are 0, and 0 - 1 is above every value.
    fn find(&self, dimension: usize, value: u128) -> Vector {
        let (bounds, numbers) = &self.bounds[dimension];
        let width = if dimension < 4 { u128::from(u32::MAX) } else { u128::MAX };
        let mut at = 0;
        for step in (0..11).rev().map(|bit| 1 << bit) {
            if bounds[at + step].wrapping_sub(1) & width < value {
                at += step;
            }
        }
        self.vectors[usize::from(numbers[at])]
    }

    fn lookup(&self, packet: &Packet) -> Option<usize> {
        let port = |port: u16| match packet.protocol {
            TCP => 1 << 16 | u128::from(port),
            UDP => 2 << 16 | u128::from(port),
            SCTP => 3 << 16 | u128::from(port),
            other => other.into(),
        };
        let addresses = if packet.v6 { [4, 5] } else { [0, 1] };
        let found = [
            self.find(addresses[0], packet.src),
            self.find(addresses[1], packet.dst),
            self.find(2, port(packet.sport)),
            self.find(3, port(packet.dport)),
        ];
        (0..RULE_WORDS).find_map(|word| {
            let both = found.iter().fold(u64::MAX, |left, vector| left & vector[word]);
            (both != 0).then(|| word * 64 + both.trailing_zeros() as usize)
        })
    }
}

/// A packet whose values lie at or beside the ends of what the rules name.
fn packet(rules: &[Rule], random: &mut impl FnMut(usize) -> usize) -> Packet {
    let v6 = random(2) == 1;
    let mut value = |field: Field| {
        let named: Vec<Interval> = rules
            .iter()
            .flat_map(|r| &r.matches)
            .filter(|m| m.field == field)
            .flat_map(|m| m.set.clone())
            .collect();
        let pick = if named.is_empty() { Interval::one(0) } else { named[random(named.len())] };
        let pick = [
            pick.first,
            pick.last,
            pick.first.wrapping_sub(1),
            pick.last.wrapping_add(1),
            random(1 << 40) as u128,
        ];
        pick[random(5)] & field.highest()
    };
    let family = if v6 { Family::V6 } else { Family::V4 };
    let src = value(Field::Address(family, Side::Source));
    let dst = value(Field::Address(family, Side::Destination));
    let port_of = value(Field::Protocol) as usize % 3;
    let sport = value(Field::Port([TCP, UDP, SCTP][port_of], Side::Source)) as u16;
    let dport = value(Field::Port([TCP, UDP, SCTP][port_of], Side::Destination)) as u16;
    let protocol = [TCP, UDP, SCTP, rules::ICMP, rules::ICMPV6, 47, 0, 255, TCP, UDP][random(10)];
    Packet { v6, src, dst, protocol, sport, dport }
}

fn compare(rules: &[Rule], packets: usize, random: &mut impl FnMut(usize) -> usize) -> usize {
    let bytes = table(rules, OWN, 1).unwrap();
    let table = Table::read(&bytes);
    let mut matched = 0;
    for _ in 0..packets {
        let packet = packet(rules, random);
        let expect = scan(rules, OWN, &packet);
        assert_eq!(table.lookup(&packet), expect, "{packet:?}");
        matched += usize::from(expect.is_some());
    }
    matched
}

#[test]
fn agrees_with_a_scan_on_random_rules() {
    let mut random = random();
    for count in [1, 1, 2, 3, 5, 8, 13, 40, 64, 65, 129] {
        let text: String = (0..count).map(|i| random_rule(&mut random, i % 3 == 0) + "\n").collect();
        let rules = parsed(&text);
        assert_eq!(rules.len(), count);
        let matched = compare(&rules, 20_000, &mut random);
        assert!(matched > 0, "no packet matched:\n{text}");
    }
}

#[test]
fn agrees_with_a_scan_on_1024_rules() {
    let mut random = random();
    let prefixes = (0..RULES_MAX / 2)
        .map(|i| format!("ip daddr 10.{}.{}.0/24 tcp dport {} drop\n", i % 256, i / 256, i));
    let sets = (0..RULES_MAX / 2)
        .map(|i| format!("ip6 saddr != 2001:db8:{i:x}::/48 udp sport {{ {i}, 9000-9999 }} accept\n"));
    let rules = parsed(&prefixes.chain(sets).collect::<String>());
    assert!(compare(&rules, 5_000, &mut random) > 300);
}

#[test]
fn agrees_with_a_scan_on_every_interval() {
    let text = "ip saddr 10.0.0.0/8 tcp dport 80 redirect to :8080\nip daddr != 10.1.0.0/16 udp sport 0-1023 accept\n\
                icmp drop\ntcp dport { 65535, 0, 80-90 } dnat to 192.0.2.1\nip6 daddr ::1-::ffff drop\nredirect";
    let rules = parsed(text);
    let bytes = table(&rules, OWN, 1).unwrap();
    let table = Table::read(&bytes);
    let bounds = |dimension: usize| {
        let bounds = table.bounds[dimension].0.iter().copied();
        let used: Vec<u128> =
            bounds.enumerate().filter(|(i, bound)| *i == 0 || *bound != 0).map(|(_, b)| b).collect();
        used.iter()
            .flat_map(|b| [b.saturating_sub(1), *b])
            .chain([DIMENSIONS[dimension].highest()])
            .collect::<Vec<_>>()
    };
    let mut seen = 0;
    for (v6, addresses) in [(false, [0, 1]), (true, [4, 5])] {
        for src in bounds(addresses[0]) {
            for dst in bounds(addresses[1]) {
                for sport in bounds(2) {
                    for dport in bounds(3) {
                        let (class, other) = (sport >> 16, dport >> 16);
                        if class == other && (class != 0 || sport == dport) {
                            let protocol = [sport as u8, TCP, UDP, SCTP][class as usize];
                            let port = |value: u128| if class == 0 { 0 } else { value as u16 };
                            let packet =
                                Packet { v6, src, dst, protocol, sport: port(sport), dport: port(dport) };
                            if class != 0 || ![TCP, UDP, SCTP].contains(&protocol) {
                                assert_eq!(table.lookup(&packet), scan(&rules, OWN, &packet), "{packet:?}");
                                seen += 1;
                            }
                        }
                    }
                }
            }
        }
    }
    assert!(seen > 1000, "{seen}");
}

#[test]
fn a_table_has_the_stated_form() {
    let rules =
        parsed("# first\ntcp dport 80 redirect to :8080\n\nip saddr 10.0.0.0/8 dnat to 192.0.2.9\ndrop");
    let bytes = table(&rules, OWN, 7).unwrap();
    assert_eq!(bytes.len(), 745_512);
    assert_eq!(bytes[..8], [3_u32.to_ne_bytes(), 7_u32.to_ne_bytes()].concat());
    let read = Table::read(&bytes);
    let (bounds, numbers) = &read.bounds[0];
    assert_eq!(bounds[..4], [0, 0x0a00_0000, 0x0b00_0000, 0]);
    assert!(bounds[3..].iter().all(|b| *b == 0) && numbers[3..].iter().all(|n| *n == 0));
    assert_eq!(numbers[..3], [1, 2, 1]);
    assert_eq!(read.vectors[..4].iter().map(|v| v[0]).collect::<Vec<_>>(), [0, 0b101, 0b111, 0b110]);
    assert_eq!(read.bounds[3].0[..4], [0, 1 << 16 | 80, 1 << 16 | 81, 0]);
    let to = |line, port, addr4: [u8; 4], addr6| {
        let (verdict, addr4) = (codes::VERDICT_DNAT, Be32(u32::from_be_bytes(addr4)));
        Action { verdict, port: Be16(port), addr4, addr6, line, ..Action::default() }
    };
    assert_eq!(read.actions[0], to(2, 8080, [192, 0, 2, 7], OWN.v6.unwrap().octets()));
    assert_eq!(read.actions[1], to(4, 0, [192, 0, 2, 9], [0; 16]));
    assert_eq!(read.actions[2], Action { verdict: codes::VERDICT_DROP, line: 5, ..Action::default() });
    assert_eq!(RULES.part(&bytes, "actions")[2..8], [0x1f, 0x90, 192, 0, 2, 7], "network order");
    assert_eq!(table(&rules, OWN, 7).unwrap(), bytes, "the same rules give the same bytes");
}

#[test]
fn no_rules_match_nothing() {
    assert_eq!(compare(&[], 1000, &mut random()), 0);
}

#[test]
fn redirect_needs_an_address() {
    let none = Own::default();
    let v4 = Own { v6: None, ..OWN };
    let error = |text: &str, own| table(&parsed(text), own, 1).map(|_| ()).unwrap_err().to_string();
    assert_eq!(error("drop\nredirect", none), "rule 2 needs an address of this device, and it has none");
    assert_eq!(
        error("ip6 daddr ::1 redirect", v4),
        "rule 1 needs an IPv6 address of this device, and it has none"
    );
    let rules = parsed("redirect\ndrop");
    let read = Table::read(&table(&rules, v4, 1).unwrap());
    let packet = |v6| Packet { v6, src: 1, dst: 2, protocol: UDP, sport: 3, dport: 4 };
    assert_eq!((read.lookup(&packet(false)), read.lookup(&packet(true))), (Some(0), Some(1)));
}

#[test]
fn limits_are_named() {
    let error = |text: String| table(&parsed(&text), OWN, 1).map(|_| ()).unwrap_err().to_string();
    let ports = |n: usize| (0..n).map(|i| format!("{}", i * 2)).collect::<Vec<_>>().join(", ");
    // Every other port: an interval for each and one for each gap, and the ports of the other protocols behind.
    let most = (RULE_BOUNDS - 1) / 2;
    table(&parsed(&format!("tcp dport {{ {} }} drop", ports(most))), OWN, 1).unwrap();
    assert_eq!(
        error(format!("tcp dport {{ {} }} drop", ports(most + 1))),
        "the rules need 2049 intervals of destination ports, the kernel's table holds 2048"
    );
    // Every rule has end points of its own in all four dimensions, in four different orders.
    let wide = (0..600_u32).map(|i| {
        let [saddr, daddr, sport, dport] = [1, 7, 11, 13].map(|factor| i * factor % 600 * 10);
        let [src, src_end, dst, dst_end] = [saddr, saddr + 501, daddr, daddr + 501].map(Ipv4Addr::from_bits);
        let ports = format!("tcp sport {sport}-{} tcp dport {dport}-{}", sport + 501, dport + 501);
        format!("ip saddr {src}-{src_end} ip daddr {dst}-{dst_end} {ports} drop\n")
    });
    assert_eq!(
        error(wide.collect()),
        "the rules need 4097 different sets of rules, the kernel's table holds 4096"
    );
    let long = format!("ip saddr {{ {} }} drop\n", vec!["255.255.255.255"; 4000].join(", "));
    assert_eq!(error(long), "the rules need 68017 bytes of text, the kernel's table holds 65536");
}

#[test]
fn the_layout_adds_up() {
    let mut end = 0;
    for (name, offset, size) in RULES.fields {
        // Four bytes of padding before 64-bit numbers and before the text.
        assert_eq!(*offset, end + usize::from(["saddr4", "text"].contains(name)) * 4, "{name}");
        end = offset + size;
    }
    assert_eq!(end, RULES.size);
    assert_eq!(Action::SIZE * RULES.part(&vec![0; RULES.size], "count").len() * 256, 32768);
    assert!(RULES.part(&[], "count").is_empty() && RULES.part(&[0; 8], "no").is_empty());
}
