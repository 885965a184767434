// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Rules -> the bytes of `struct rules`: sorted bounds per dimension, and for each interval the set of rules that match there.
//!
//! A packet has four values: two addresses, and two ports with their protocol. Each value falls into one interval of its
//! dimension, each interval names a vector with one bit per rule; the lowest bit of the four vectors and-ed is the first
//! rule that matches. So a rule costs nothing, nor does a range, a set or a negation.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::abi::{self, Action, RULE_BOUNDS, RULE_DIM4, RULE_DIM6, RULE_TEXT, RULE_VECTORS, RULE_WORDS};
use super::codes;
use super::reject::Reject;
use super::rules::{self, Family, Field, Rule, Side, Verdict, SCTP, TCP, UDP};
use super::set::{intersection, Interval};
use super::wire::{fill, Be16, Be32};

/// Where `redirect` leads: the device's own addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// The primary IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// The primary global IPv6 address.
    pub v6: Option<Ipv6Addr>,
}

/// Why rules do not become a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableError {
    /// `redirect` in rule `index`, but the device has no address of the families the rule is about.
    NoAddress {
        /// Index of the rule.
        index: usize,
        /// The family, or `None` when the device has no address at all.
        family: Option<Family>,
    },
    /// More than the table holds.
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many there are, or at least are.
        found: usize,
        /// How many there may be.
        most: usize,
    },
}

/// The table of `rules`: the value of `rules_0` or `rules_1`. The same rules give the same bytes.
///
/// A rule without a target in a family (`dnat to` an address of the other one, `redirect` where the device has none, a
/// refusal of the other one) does not match packets of that family.
///
/// # Errors
/// When a `redirect` leads nowhere, or a limit of `struct rules` is exceeded.
pub fn table(rules: &[Rule], own: Own, generation: u32) -> Result<Vec<u8>, TableError> {
    limit("rules", rules.len(), abi::RULES_MAX)?;
    let text: String = rules.iter().map(|rule| format!("{rule}\n")).collect();
    limit("bytes of text", text.len(), RULE_TEXT)?;
    let target = |(index, rule): (usize, &Rule)| {
        let family = match rule.verdict {
            Verdict::Dnat { to, .. } => Some(Family::of(to)),
            _ => rules::family(&rule.matches),
        };
        action(rule, family, own).ok_or(TableError::NoAddress { index, family })
    };
    let actions = rules.iter().enumerate().map(target).collect::<Result<Vec<_>, _>>()?;

    let mut bytes = vec![0; abi::RULES.size];
    let mut vectors = Vectors::new();
    for dimension in &DIMENSIONS {
        let allowed: Vec<_> =
            rules.iter().zip(&actions).map(|(rule, to)| dimension.allowed(rule, to)).collect();
        let (bounds, numbers) = intervals(&allowed, dimension, &mut vectors)?;
        let part = abi::RULES.part_mut(&mut bytes, dimension.name);
        if matches!(dimension.axis, Axis::Address(Family::V6, _)) {
            fill(RULE_DIM6.part_mut(part, "hi"), bounds.iter().map(|bound| (bound >> 64) as u64));
            fill(RULE_DIM6.part_mut(part, "lo"), bounds.iter().map(|bound| *bound as u64));
            fill(RULE_DIM6.part_mut(part, "vec"), numbers);
        } else {
            fill(RULE_DIM4.part_mut(part, "bound"), bounds.iter().map(|bound| *bound as u32));
            fill(RULE_DIM4.part_mut(part, "vec"), numbers);
        }
    }
    // All of these fit their types: the limits above are below 2^17.
    fill(abi::RULES.part_mut(&mut bytes, "count"), [rules.len() as u32]);
    fill(abi::RULES.part_mut(&mut bytes, "generation"), [generation]);
    // Zero where no rule masquerades, so that another address of the device makes no other table.
    if rules.iter().any(|rule| matches!(rule.verdict, Verdict::Dnat { masquerade: true, .. })) {
        let (v4, v6) = (own.v4.map_or(0, Ipv4Addr::to_bits), own.v6.unwrap_or(Ipv6Addr::UNSPECIFIED));
        fill(abi::RULES.part_mut(&mut bytes, "masquerade4"), [Be32(v4)]);
        fill(abi::RULES.part_mut(&mut bytes, "masquerade6"), v6.octets());
    }
    fill(abi::RULES.part_mut(&mut bytes, "vectors"), vectors.list);
    fill(abi::RULES.part_mut(&mut bytes, "actions"), actions);
    fill(abi::RULES.part_mut(&mut bytes, "text_len"), [text.len() as u32]);
    fill(abi::RULES.part_mut(&mut bytes, "text"), text.bytes());
    Ok(bytes)
}

/// The values with which a rule matches, by dimension as in `struct rules`: saddr4, daddr4, sport, dport, saddr6, daddr6.
/// All empty when it redirects to an address that the device has not.
pub(super) fn areas(rule: &Rule, own: Own) -> [Vec<Interval>; 6] {
    match action(rule, rules::family(&rule.matches), own) {
        Some(action) => DIMENSIONS.each_ref().map(|dimension| dimension.allowed(rule, &action)),
        None => Default::default(),
    }
}

/// What a rule does, with the addresses that `redirect` stands for; `None` when there is no address for it.
fn action(rule: &Rule, family: Option<Family>, own: Own) -> Option<Action> {
    let to_v6 = |address: Option<Ipv6Addr>| address.map_or([0; 16], |v6| v6.octets());
    let to_v4 = |address: Option<Ipv4Addr>| Be32(address.map_or(0, Ipv4Addr::to_bits));
    let (verdict, addr4, addr6, port) = match rule.verdict {
        Verdict::Dnat { to: IpAddr::V4(_), masquerade: true, .. } if own.v4.is_none() => return None,
        Verdict::Dnat { to: IpAddr::V6(_), masquerade: true, .. } if own.v6.is_none() => return None,
        Verdict::Dnat { to: IpAddr::V4(v4), port, .. } => (codes::VERDICT_DNAT, Some(v4), None, port),
        Verdict::Dnat { to: IpAddr::V6(v6), port, .. } => (codes::VERDICT_DNAT, None, Some(v6), port),
        Verdict::Redirect { port } => {
            let v4 = own.v4.filter(|_| family != Some(Family::V6));
            let v6 = own.v6.filter(|_| family != Some(Family::V4));
            v4.map(IpAddr::V4).or(v6.map(IpAddr::V6))?;
            (codes::VERDICT_DNAT, v4, v6, port)
        }
        Verdict::Accept => (codes::VERDICT_ACCEPT, None, None, None),
        Verdict::Drop => (codes::VERDICT_DROP, None, None, None),
        Verdict::Reject(_) => (codes::VERDICT_REJECT, None, None, None),
    };
    let (reject4, reject6) = match rule.verdict {
        Verdict::Reject(Reject { v4, v6, .. }) => (v4, v6),
        _ => (codes::REJECT_NONE, codes::REJECT_NONE),
    };
    let masquerade = matches!(rule.verdict, Verdict::Dnat { masquerade: true, .. });
    let flags = if masquerade { codes::ACTION_MASQUERADE } else { 0 };
    let (port, line) = (Be16(port.unwrap_or(0)), rule.place.line);
    let (addr4, addr6) = (to_v4(addr4), to_v6(addr6));
    Some(Action { verdict, flags, port, addr4, addr6, line, reject4, reject6 })
}

/// One of the values of a packet that intervals are about.
struct Dimension {
    /// Its field in `struct rules`.
    name: &'static str,
    axis: Axis,
    /// For the message when there are too many.
    intervals: &'static str,
}

enum Axis {
    Address(Family, Side),
    /// class << 16 | port, or the protocol number.
    Port(Side),
}

const DIMENSIONS: [Dimension; 6] = [
    dimension("saddr4", Axis::Address(Family::V4, Side::Source), "intervals of IPv4 source addresses"),
    dimension(
        "daddr4",
        Axis::Address(Family::V4, Side::Destination),
        "intervals of IPv4 destination addresses",
    ),
    dimension("sport", Axis::Port(Side::Source), "intervals of source ports"),
    dimension("dport", Axis::Port(Side::Destination), "intervals of destination ports"),
    dimension("saddr6", Axis::Address(Family::V6, Side::Source), "intervals of IPv6 source addresses"),
    dimension(
        "daddr6",
        Axis::Address(Family::V6, Side::Destination),
        "intervals of IPv6 destination addresses",
    ),
];

const fn dimension(name: &'static str, axis: Axis, intervals: &'static str) -> Dimension {
    Dimension { name, axis, intervals }
}

/// Protocols with ports and the class of their ports.
const CLASSES: [(u8, u8); 3] = [(TCP, codes::CLASS_TCP), (UDP, codes::CLASS_UDP), (SCTP, codes::CLASS_SCTP)];

impl Dimension {
    fn highest(&self) -> u128 {
        match self.axis {
            Axis::Address(family, side) => Field::Address(family, side).highest(),
            Axis::Port(_) => u128::from(codes::CLASS_SCTP) << 16 | u128::from(u16::MAX),
        }
    }

    /// The values with which `rule` can match, sorted.
    fn allowed(&self, rule: &Rule, action: &Action) -> Vec<Interval> {
        match self.axis {
            Axis::Address(family, side) => {
                let no_target = match (action.verdict, family) {
                    (codes::VERDICT_DNAT, Family::V4) => action.addr4 == Be32(0),
                    (codes::VERDICT_DNAT, Family::V6) => action.addr6 == [0; 16],
                    (codes::VERDICT_REJECT, Family::V4) => action.reject4 == codes::REJECT_NONE,
                    (codes::VERDICT_REJECT, Family::V6) => action.reject6 == codes::REJECT_NONE,
                    _ => false,
                };
                if no_target || rules::family(&rule.matches).is_some_and(|named| named != family) {
                    return Vec::new();
                }
                rules::values(&rule.matches, Field::Address(family, side))
            }
            Axis::Port(side) => {
                let protocols = rules::protocols(&rule.matches);
                let with_ports = CLASSES.map(|(protocol, _)| Interval::one(protocol.into()));
                // In class 0 neither numbers of protocols with ports nor numbers above 255 occur. They are left in, for
                // cutting them out would only make more intervals.
                let without_ports = intersection(&protocols, &with_ports) != protocols;
                let mut out = if without_ports { protocols.clone() } else { Vec::new() };
                if let Some(highest) = out.last_mut().filter(|last| last.last == Field::Protocol.highest()) {
                    highest.last = u16::MAX.into();
                }
                for (protocol, class) in CLASSES {
                    if protocols.iter().any(|interval| interval.contains(protocol.into())) {
                        let base = u128::from(class) << 16;
                        let ports = rules::values(&rule.matches, Field::Port(protocol, side));
                        out.extend(
                            ports.iter().map(|p| Interval { first: base | p.first, last: base | p.last }),
                        );
                    }
                }
                out
            }
        }
    }
}

/// One bit per rule.
type Vector = [u64; RULE_WORDS];

/// Every different vector once, in the order of first use; the first is all zero.
struct Vectors {
    list: Vec<Vector>,
    numbers: BTreeMap<Vector, u16>,
}

impl Vectors {
    fn new() -> Self {
        let none = [0; RULE_WORDS];
        Self { list: vec![none], numbers: BTreeMap::from([(none, 0)]) }
    }

    fn number(&mut self, vector: Vector) -> Result<u16, TableError> {
        if let Some(number) = self.numbers.get(&vector) {
            return Ok(*number);
        }
        let number = self.list.len();
        limit("different sets of rules", number.saturating_add(1), RULE_VECTORS)?;
        self.list.push(vector);
        // Below RULE_VECTORS, so it fits.
        self.numbers.insert(vector, number as u16);
        Ok(number as u16)
    }
}

/// The bounds at which the set of matching rules changes, and the vector that holds from each bound on.
fn intervals(
    allowed: &[Vec<Interval>],
    dimension: &Dimension,
    vectors: &mut Vectors,
) -> Result<(Vec<u128>, Vec<u16>), TableError> {
    let highest = dimension.highest();
    let all = || allowed.iter().flatten();
    let ends = all().filter_map(|interval| interval.last.checked_add(1)).filter(|end| *end <= highest);
    let edges: BTreeSet<u128> = all().map(|interval| interval.first).chain(ends).chain([0]).collect();
    let edges: Vec<u128> = edges.into_iter().collect();
    let mut matching: Vec<Vector> = vec![[0; RULE_WORDS]; edges.len()];
    for (rule, set) in allowed.iter().enumerate() {
        for interval in set {
            let first = edges.partition_point(|edge| *edge < interval.first);
            let after = edges.partition_point(|edge| *edge <= interval.last);
            for vector in matching.get_mut(first..after).into_iter().flatten() {
                if let Some(word) = vector.get_mut(rule / 64) {
                    *word |= 1 << (rule % 64);
                }
            }
        }
    }
    let mut changes: Vec<(u128, Vector)> = edges.into_iter().zip(matching).collect();
    changes.dedup_by(|later, earlier| later.1 == earlier.1);
    limit(dimension.intervals, changes.len(), RULE_BOUNDS)?;
    let numbers = changes.iter().map(|(_, vector)| vectors.number(*vector)).collect::<Result<_, _>>()?;
    Ok((changes.into_iter().map(|(bound, _)| bound).collect(), numbers))
}

fn limit(what: &'static str, found: usize, most: usize) -> Result<(), TableError> {
    if found > most {
        return Err(TableError::TooMany { what, found, most });
    }
    Ok(())
}

impl std::error::Error for TableError {}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::NoAddress { index, family } => {
                let family = match family {
                    Some(Family::V4) => "IPv4 ",
                    Some(Family::V6) => "IPv6 ",
                    None => "",
                };
                let number = index.saturating_add(1);
                write!(f, "rule {number} needs an {family}address of this device, and it has none")
            }
            Self::TooMany { what, found, most } => {
                write!(f, "the rules need {found} {what}, the kernel's table holds {most}")
            }
        }
    }
}

#[cfg(test)]
#[path = "classify_tests.rs"]
mod tests;
