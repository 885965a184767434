// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What can never match, against asking every packet of a small universe; what it costs at the limits.

use super::*;
use crate::dnat::parse::{parse, Source};
use crate::dnat::random_rules;
use crate::dnat::rules::{Family, Field, Side, Verdict};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

const OWN: Own = Own { v4: Some(Ipv4Addr::new(192, 0, 2, 7)), v6: Some(Ipv6Addr::LOCALHOST) };

fn parsed(text: &str) -> Vec<Rule> {
    parse(&[Source { name: "test", text: text.as_bytes() }]).unwrap_or_else(|e| panic!("{}\n{text}", e[0]))
}

/// `rule taken by these`, numbers from 1.
fn found(text: &str) -> Vec<(usize, Vec<usize>)> {
    let found = shadows(&parsed(text), OWN);
    assert!(found.undecided.is_empty());
    found.shadowed.into_iter().map(|s| (s.rule + 1, s.by.iter().map(|by| by + 1).collect())).collect()
}

#[test]
fn names_what_takes_it() {
    for (text, expect) in [
        ("tcp dport 80 accept\ntcp dport 80 drop", vec![(2, vec![1])]),
        ("tcp dport 80-90 accept\ntcp dport 85 drop\ntcp dport 91 drop", vec![(2, vec![1])]),
        ("redirect\ntcp dport 80 drop\nudp accept", vec![(2, vec![1]), (3, vec![1])]),
        ("tcp dport 1-9 accept\ntcp dport 10-20 drop\ntcp dport 5-15 drop", vec![(3, vec![1, 2])]),
        ("tcp dport 1-9 accept\ntcp dport 11-20 drop\ntcp dport 5-15 drop", vec![]),
        ("ip saddr 0.0.0.0/1 accept\nip saddr 128.0.0.0/1 accept\nip daddr 1.2.3.4 drop", vec![(3, vec![1, 2])]),
        // IPv6 is left.
        ("ip saddr 0.0.0.0/1 accept\nip saddr 128.0.0.0/1 accept\ntcp dport 80 drop", vec![]),
        ("ip saddr 0.0.0.0/0 accept\nip6 saddr ::/0 accept\ntcp dport 80 drop", vec![(3, vec![1, 2])]),
        ("tcp dport != 80 accept\ntcp dport { 22, 443 } drop\ntcp dport 80 drop\ntcp drop", vec![(2, vec![1]), (4, vec![1, 3])]),
        ("tcp accept\nudp accept\nsctp accept\nmeta l4proto != { 6, 17, 132 } accept\ndrop", vec![(5, vec![1, 2, 3, 4])]),
        ("tcp accept\nmeta l4proto != 6 drop\nmeta l4proto 0-10 accept", vec![(3, vec![1, 2])]),
        ("dnat to 192.0.2.1\nip saddr 10.0.0.0/8 drop\nip6 saddr fd00::/8 drop", vec![(2, vec![1])]),
        // Both halves of a square, cut two ways.
        ("ip saddr 10.0.0.0/9 drop\nip saddr 10.128.0.0/9 ip daddr 0.0.0.0/1 drop\nip daddr 128.0.0.0/1 accept\nip saddr 10.0.0.0/8 accept", vec![(4, vec![1, 2, 3])]),
        ("drop\ndrop\ndrop", vec![(2, vec![1]), (3, vec![1])]),
    ] {
        assert_eq!(found(text), expect, "{text}");
    }
}

#[test]
fn a_redirect_to_nowhere_matches_nothing() {
    let v4 = Own { v6: None, ..OWN };
    let rules = parsed("redirect\nip6 saddr ::/0 drop\nip saddr 0.0.0.0/0 drop");
    let by = |own| shadows(&rules, own).shadowed.into_iter().map(|s| s.rule).collect::<Vec<_>>();
    assert_eq!((by(OWN), by(v4)), (vec![1, 2], vec![2]));
    // Which addresses the device has is not known: neither can be said.
    assert_eq!(shadows_anywhere(&rules, OWN).shadowed, []);
    let rules = parsed("redirect\nudp redirect to :53");
    let expect = [Shadowed { rule: 1, by: vec![0] }];
    assert_eq!(shadows_anywhere(&rules, OWN).shadowed, expect);
}

/// Values of a field at which one of the rules begins or ends to match, and one beyond all.
fn values(rules: &[Rule], field: Field) -> Vec<u128> {
    let same = rules.iter().flat_map(|r| &r.matches).filter(|m| m.field == field).flat_map(|m| &m.set);
    let edges = same.flat_map(|i| [i.first, i.last + 1]).chain([0]);
    let edges: BTreeSet<u128> = edges.filter(|value| *value <= field.highest()).collect();
    edges.into_iter().collect()
}

/// The rules that some packet reaches: all packets that the rules can tell apart are tried.
fn reached(rules: &[Rule]) -> BTreeSet<usize> {
    let mut reached = BTreeSet::new();
    for family in [Family::V4, Family::V6] {
        let [sources, destinations] =
            [Side::Source, Side::Destination].map(|side| values(rules, Field::Address(family, side)));
        let numbered = values(rules, Field::Protocol).into_iter().map(|number| number as u8);
        let protocols: BTreeSet<u8> = numbered.chain([TCP, UDP, SCTP]).collect();
        for protocol in protocols {
            let ports = |side| match protocol {
                TCP | UDP | SCTP => values(rules, Field::Port(protocol, side)),
                _ => vec![0],
            };
            let (from, to) = (ports(Side::Source), ports(Side::Destination));
            for (saddr, daddr) in sources.iter().flat_map(|s| destinations.iter().map(move |d| (*s, *d))) {
                for (sport, dport) in from.iter().flat_map(|s| to.iter().map(move |d| (*s, *d))) {
                    let value = |field| match field {
                        Field::Address(of, Side::Source) => (of == family).then_some(saddr),
                        Field::Address(of, Side::Destination) => (of == family).then_some(daddr),
                        Field::Port(of, Side::Source) => (of == protocol).then_some(sport),
                        Field::Port(of, Side::Destination) => (of == protocol).then_some(dport),
                        Field::Protocol => Some(protocol.into()),
                    };
                    let holds = |rule: &Rule| {
                        let target = match rule.verdict {
                            Verdict::Dnat { to, .. } => Family::of(to) == family,
                            _ => true,
                        };
                        target
                            && rule.matches.iter().all(|m| {
                                value(m.field)
                                    .is_some_and(|v| m.set.iter().any(|i| i.contains(v)) != m.negated)
                            })
                    };
                    reached.extend(rules.iter().position(holds));
                }
            }
        }
    }
    reached
}

/// A rule over four addresses and four ports: halves and quarters, so that several make a whole.
fn small_rule(random: &mut impl FnMut(usize) -> usize) -> String {
    let mut text = String::new();
    let range = |random: &mut dyn FnMut(usize) -> usize, show: &dyn Fn(usize) -> String| {
        let one = |random: &mut dyn FnMut(usize) -> usize| {
            let (first, last) = [(0, 1), (2, 3), (0, 3), (1, 2), (0, 2), (3, 3)][random(6)];
            format!("{}-{}", show(first), show(last))
        };
        match random(6) {
            0 => format!("!= {}", show(random(4))),
            1 => format!("{{ {}, {} }}", one(random), show(random(4))),
            _ => one(random),
        }
    };
    let v6 = random(6) == 0;
    for side in ["saddr", "daddr"] {
        if random(3) == 0 {
            let (name, net) = if v6 { ("ip6", "fd00::") } else { ("ip", "10.0.0.") };
            text += &format!("{name} {side} {} ", range(random, &|n| format!("{net}{n}")));
        }
    }
    if random(8) == 0 {
        text += ["tcp ", "udp ", "meta l4proto 0-16 ", "meta l4proto != 17 ", "icmp "][random(5)];
    } else {
        let protocol = ["tcp", "tcp", "tcp", "udp"][random(4)];
        for side in [&["sport"][..], &["dport"], &["dport"], &["sport", "dport"]][random(4)] {
            text += &format!("{protocol} {side} {} ", range(random, &|n| n.to_string()));
        }
    }
    let target = if v6 { "dnat to fd00::1" } else { "dnat to 192.0.2.1" };
    text + ["accept", "drop", "redirect", target][random(4)]
}

#[test]
fn agrees_with_every_packet_of_small_universes() {
    let mut random = random_rules::random();
    let (mut shadowed, mut together) = (0, 0);
    for round in 0..500 {
        let text: String = (0..4 + round % 7).map(|_| small_rule(&mut random) + "\n").collect();
        let Ok(rules) = parse(&[Source { name: "", text: text.as_bytes() }]) else { continue };
        let found = shadows(&rules, OWN);
        let never: BTreeSet<usize> = found.shadowed.iter().map(|s| s.rule).collect();
        let expect: BTreeSet<usize> = (0..rules.len()).filter(|r| !reached(&rules).contains(r)).collect();
        assert_eq!((never, found.undecided.len()), (expect, 0), "{text}");
        for Shadowed { rule, by } in &found.shadowed {
            // Those named are enough, and each one is needed.
            let alone = |by: &[usize]| {
                let chosen: Vec<Rule> = by.iter().chain([rule]).map(|i| rules[*i].clone()).collect();
                !reached(&chosen).contains(&by.len())
            };
            assert!(alone(by), "{rule} by {by:?}:\n{text}");
            for n in 0..by.len() {
                let less: Vec<usize> =
                    by.iter().enumerate().filter(|(i, _)| *i != n).map(|(_, r)| *r).collect();
                assert!(!alone(&less), "{rule} by {by:?} without {n}:\n{text}");
            }
            together += usize::from(by.len() > 1);
        }
        shadowed += found.shadowed.len();
    }
    assert!(shadowed > 200 && together > 20, "{shadowed} {together}");
}

#[test]
fn a_thousand_rules_are_decided() {
    let mut random = random_rules::random();
    let random_text: String = (0..1024).map(|i| random_rules::rule(&mut random, i % 4 == 0) + "\n").collect();
    // Each rule overlaps a hundred others in all four fields, in four different orders.
    let entangled: String = (0..1023_u32)
        .map(|i| {
            let [saddr, daddr, sport, dport] = [1, 7, 11, 13].map(|factor| i * factor % 1023 * 10);
            let [src, src_end, dst, dst_end] =
                [saddr, saddr + 1001, daddr, daddr + 1001].map(Ipv4Addr::from_bits);
            let ports = format!("tcp sport {sport}-{} tcp dport {dport}-{}", sport + 1001, dport + 1001);
            format!("ip saddr {src}-{src_end} ip daddr {dst}-{dst_end} {ports} drop\n")
        })
        .chain(["ip saddr 0.0.0.0-0.0.40.0 tcp dport 0-10000 drop\n".to_owned()])
        .collect();
    // The last one is taken by all others together: a chessboard of addresses and ports.
    let board: String = (0..1023)
        .map(|i| {
            format!("ip saddr 10.0.{}.0/24 tcp dport {}-{} drop\n", i / 33, i % 33 * 10, i % 33 * 10 + 9)
        })
        .chain(["ip saddr 10.0.0.0-10.0.30.255 tcp dport 0-329 accept\n".to_owned()])
        .collect();
    for (what, text, least) in [("random", random_text, 1), ("entangled", entangled, 0), ("board", board, 1)]
    {
        let rules = parsed(&text);
        assert_eq!(rules.len(), 1024, "{what}");
        let found = shadows(&rules, OWN);
        eprintln!("{what}: {} shadowed, {} steps", found.shadowed.len(), found.steps);
        assert!(found.undecided.is_empty(), "{what}: {} steps", found.steps);
        assert!(found.shadowed.len() >= least, "{what}");
    }
}
