// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The bytes of `struct rules` -> the rules in force, as text and as what they do, with their counters.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::abi::{Action, RuleStats, RULES};
use super::codes;
use super::wire::{elements, Be32, Shared};

/// The rules that a table holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InForce {
    /// + 1 with each reload.
    pub generation: u32,
    /// In order, first match wins.
    pub rules: Vec<RuleInForce>,
}

/// One rule in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleInForce {
    /// Its canonical text.
    pub text: String,
    /// Line in the file it was read from, from 1; 0 when unknown.
    pub line: u32,
    /// `enum verdict`.
    pub verdict: u8,
    /// Where it leads: the IPv4 and the IPv6 target that it has. `redirect` shows here which address it stands for.
    pub targets: Vec<IpAddr>,
    /// New destination port; 0 keeps it.
    pub port: u16,
    /// Packets that the rule decided, not those that followed in the same flow.
    pub packets: u64,
    /// Bytes of these packets.
    pub bytes: u64,
}

/// Reads a value of `rules_0` or `rules_1`, and `stats(i)`, the value of every CPU of `rule_stats[i]` one after the other.
///
/// `None` when the bytes are no table: too few, a count above what fits, or text that is not UTF-8 or has not a line per rule.
pub fn in_force(table: &[u8], mut stats: impl FnMut(u32) -> Vec<u8>) -> Option<InForce> {
    let number = |name| u32::read(RULES.part(table, name));
    let (count, generation) = (number("count")?, number("generation")?);
    let text_len = usize::try_from(number("text_len")?).ok()?;
    let text = std::str::from_utf8(RULES.part(table, "text").get(..text_len)?).ok()?;
    let actions = elements::<Action>(RULES.part(table, "actions"));
    let lines = text.lines();
    let rules: Vec<RuleInForce> = (0..count)
        .zip(actions.zip(lines))
        .map(|(index, (action, text))| {
            let (packets, bytes) =
                elements(&stats(index)).fold((0_u64, 0_u64), |(packets, bytes), one: RuleStats| {
                    (packets.wrapping_add(one.packets), bytes.wrapping_add(one.bytes))
                });
            let (text, port) = (text.to_owned(), action.port.0);
            RuleInForce {
                text,
                line: action.line,
                verdict: action.verdict,
                targets: targets(&action),
                port,
                packets,
                bytes,
            }
        })
        .collect();
    (u32::try_from(rules.len()).ok()? == count).then_some(InForce { generation, rules })
}

/// The generation of a table; 0 when the bytes are none.
pub fn generation(table: &[u8]) -> u32 {
    u32::read(RULES.part(table, "generation")).unwrap_or(0)
}

/// The same table with another generation.
pub fn renumbered(table: &[u8], generation: u32) -> Vec<u8> {
    let mut table = table.to_vec();
    // There is room, if the bytes are a table.
    let _ = generation.write(RULES.part_mut(&mut table, "generation"));
    table
}

/// How many rules a table holds; 0 when the bytes are none.
pub fn count(table: &[u8]) -> u32 {
    u32::read(RULES.part(table, "count")).unwrap_or(0)
}

/// Whether two tables hold the same rules, whatever their generations: nothing is to be done then.
pub fn same_rules(a: &[u8], b: &[u8]) -> bool {
    let generation_aside = RULES.fields.iter().filter(|(name, ..)| *name != "generation");
    let mut parts = generation_aside.map(|(name, ..)| (RULES.part(a, name), RULES.part(b, name)));
    a.len() == RULES.size && b.len() == RULES.size && parts.all(|(a, b)| a == b)
}

fn targets(action: &Action) -> Vec<IpAddr> {
    let v4 = (action.addr4 != Be32(0)).then(|| IpAddr::V4(Ipv4Addr::from_bits(action.addr4.0)));
    let v6 = (action.addr6 != [0; 16]).then(|| IpAddr::V6(Ipv6Addr::from(action.addr6)));
    v4.into_iter().chain(v6).filter(|_| action.verdict == codes::VERDICT_DNAT).collect()
}

#[cfg(test)]
mod tests {
    use super::super::classify::{table, Own};
    use super::super::parse::{parse, Source};
    use super::*;

    fn built(text: &str, generation: u32) -> Vec<u8> {
        let own = Own { v4: Some(Ipv4Addr::new(192, 0, 2, 7)), v6: None };
        let rules = parse(&[Source { name: "test", text: text.as_bytes() }]).unwrap();
        table(&rules, own, generation).unwrap()
    }

    #[test]
    fn reads_back_what_was_compiled() {
        let bytes = built("tcp dport 80 redirect to :8080 # web\n\nudp dnat to 192.0.2.9\ndrop", 3);
        // Two CPUs, 16 bytes each.
        let stats =
            |rule: u32| [1_u64, 100, 2, u64::from(rule)].iter().flat_map(|n| n.to_ne_bytes()).collect();
        let read = in_force(&bytes, stats).unwrap();
        assert_eq!(read.generation, 3);
        let texts: Vec<&str> = read.rules.iter().map(|rule| rule.text.as_str()).collect();
        assert_eq!(texts, ["tcp dport 80 redirect to :8080", "meta l4proto udp dnat to 192.0.2.9", "drop"]);
        let [web, udp, drop] = &read.rules[..] else { panic!() };
        assert_eq!((web.line, web.port, &web.targets[..]), (1, 8080, &["192.0.2.7".parse().unwrap()][..]));
        assert_eq!((udp.line, udp.port, &udp.targets[..]), (3, 0, &["192.0.2.9".parse().unwrap()][..]));
        assert_eq!((drop.line, drop.verdict, &drop.targets[..]), (4, codes::VERDICT_DROP, &[][..]));
        assert_eq!((drop.packets, drop.bytes), (3, 102));
    }

    #[test]
    fn refuses_what_is_no_table() {
        let bytes = built("accept\ndrop", 1);
        let none = |_| Vec::new();
        assert!(in_force(&bytes, none).is_some());
        assert!(in_force(&bytes[..bytes.len() - 1], none).is_none());
        assert!(in_force(&[], none).is_none());
        for (offset, value) in [(0, 3), (0, u32::MAX), (679_968, 65537), (679_968, 3), (679_976, u32::MAX)] {
            let mut bad = bytes.clone();
            bad[offset..][..4].copy_from_slice(&value.to_ne_bytes());
            assert_eq!(in_force(&bad, none), None, "{offset} {value}");
        }
    }

    #[test]
    fn a_generation_makes_no_difference() {
        assert!(same_rules(&built("drop", 1), &built("drop", 2)));
        assert!(!same_rules(&built("drop", 1), &built("accept", 1)));
        assert!(!same_rules(&built("drop", 1), &built("", 1)));
        assert!(!same_rules(&[], &[]));
    }
}
