// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Rules -> which of them can never match, because rules before them take every packet that they would match.
//!
//! A rule is a product: some sources times some destinations times some ports, for each family and class of protocol. A
//! packet reaches the rule if for every rule before it at least one field lies outside. So: cut away what is forced (a rule
//! that leaves one field open can only be escaped in that field), split where two fields are open, and go on until nothing
//! is left of the product, or nothing is left that would take it. The answer is exact, also where several rules together
//! take it all.

use super::classify::{areas, Own};
use super::codes::{CLASS_OTHER, CLASS_SCTP, CLASS_TCP, CLASS_UDP};
use super::rules::{Rule, SCTP, TCP, UDP};
use super::set::{complement, intersection, is_within, overlap, Interval};

/// A rule that can never match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shadowed {
    /// Its index.
    pub rule: usize,
    /// Indexes of rules before it that take everything: one where one does. Else all that take a part, and up to
    /// [`MOST_NAMED`] of them none is listed that could be left out. Empty when the rule would match nothing by itself,
    /// because the device has no address to redirect to.
    pub by: Vec<usize>,
}

/// What was found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shadows {
    /// In the order of the rules.
    pub shadowed: Vec<Shadowed>,
    /// Rules that were given up on because the search took more than [`MOST_STEPS`] steps.
    pub undecided: Vec<usize>,
    /// How many comparisons of two rules it took.
    pub steps: u64,
}

/// Finds the rules that can never match on a device with these addresses.
pub fn shadows(rules: &[Rule], own: Own) -> Shadows {
    let regions: Vec<Region> = rules.iter().map(|rule| region(&areas(rule, own))).collect();
    let mut search = Search { steps: 0 };
    let mut found = Shadows::default();
    for (rule, region) in regions.iter().enumerate() {
        let before: Vec<(usize, &Region)> =
            regions.iter().enumerate().take(rule).filter(|(_, other)| region.meets(other)).collect();
        if let Some((one, _)) = before.iter().find(|(_, other)| region.within(other)) {
            found.shadowed.push(Shadowed { rule, by: vec![*one] });
            continue;
        }
        let others: Vec<&Region> = before.iter().map(|(_, other)| *other).collect();
        match search.escapes(region, &others) {
            Some(true) => {}
            Some(false) => found.shadowed.push(Shadowed { rule, by: search.needed(region, before) }),
            None => found.undecided.push(rule),
        }
    }
    found.steps = search.steps;
    found
}

/// As [`shadows`], for any device: what can never match whichever addresses it has.
pub fn shadows_anywhere(rules: &[Rule], own: Own) -> Shadows {
    let only = [Own { v6: None, ..own }, Own { v4: None, ..own }];
    only.iter().fold(shadows(rules, own), |found, own| {
        let other = shadows(rules, *own);
        let in_both = |s: &Shadowed| other.shadowed.iter().any(|o| o.rule == s.rule);
        let mut undecided = found.undecided;
        undecided.extend(other.undecided.iter().filter(|rule| !undecided.contains(rule)).collect::<Vec<_>>());
        undecided.sort_unstable();
        let shadowed = found.shadowed.into_iter().filter(in_both).collect();
        Shadows { shadowed, undecided, steps: found.steps.saturating_add(other.steps) }
    })
}

/// Sources, destinations, source ports, destination ports: a product. Where there are no ports, the last is the protocol.
type Area = [Vec<Interval>; FIELDS];
const FIELDS: usize = 4;

/// An area for each family and class of protocol; empty ones have an empty field.
#[derive(Debug)]
struct Region(Vec<Area>);

/// The six dimensions of the table (see [`areas`]) as areas.
fn region([saddr4, daddr4, sport, dport, saddr6, daddr6]: &[Vec<Interval>; 6]) -> Region {
    let mut parts = Vec::new();
    for (saddr, daddr) in [(saddr4, daddr4), (saddr6, daddr6)] {
        for class in [CLASS_TCP, CLASS_UDP, CLASS_SCTP] {
            let base = u128::from(class) << 16;
            let ports = [Interval { first: base, last: base | 0xffff }];
            let [from, to] = [sport, dport].map(|port| intersection(port, &ports));
            parts.push([saddr.clone(), daddr.clone(), from, to]);
        }
        // One number stands in both dimensions there, so one is enough.
        let protocols = intersection(dport, &without_ports());
        parts.push([saddr.clone(), daddr.clone(), vec![Interval::one(0)], protocols]);
    }
    for area in &mut parts {
        if area.iter().any(Vec::is_empty) {
            *area = Area::default();
        }
    }
    Region(parts)
}

/// The values of a port dimension that stand for protocols without ports.
fn without_ports() -> Vec<Interval> {
    let base = u128::from(CLASS_OTHER) << 16;
    let with_ports = [TCP, UDP, SCTP].map(|number| Interval::one(base | u128::from(number)));
    let beyond = [Interval { first: base | 0x100, last: u128::MAX }];
    complement(&[&with_ports[..], &beyond].concat(), u128::MAX)
}

impl Region {
    fn meets(&self, other: &Region) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| meet(a, b))
    }

    fn within(&self, other: &Region) -> bool {
        self.0.iter().zip(&other.0).all(|(a, b)| a.iter().zip(b).all(|(a, b)| is_within(a, b)))
    }
}

/// Whether two areas have a point in common.
fn meet(a: &Area, b: &Area) -> bool {
    a.iter().zip(b).all(|(a, b)| overlap(a, b))
}

fn minus(a: &[Interval], b: &[Interval]) -> Vec<Interval> {
    intersection(a, &complement(b, u128::MAX))
}

struct Search {
    steps: u64,
}

impl Search {
    /// Whether some packet of `region` lies outside of all `others`; `None` when that takes too long to find out.
    fn escapes(&mut self, region: &Region, others: &[&Region]) -> Option<bool> {
        for (part, area) in region.0.iter().enumerate() {
            let others: Vec<&Area> = others.iter().filter_map(|other| other.0.get(part)).collect();
            if area.iter().all(|field| !field.is_empty()) && self.area_escapes(area, others)? {
                return Some(true);
            }
        }
        Some(false)
    }

    fn area_escapes(&mut self, area: &Area, others: Vec<&Area>) -> Option<bool> {
        let mut left = vec![(area.clone(), others)];
        while let Some((mut area, mut others)) = left.pop() {
            let open = loop {
                self.steps = self.steps.saturating_add(others.len() as u64);
                if self.steps > MOST_STEPS {
                    return None;
                }
                others.retain(|other| meet(&area, other));
                let open = others.iter().map(|other| (open_fields(&area, other), *other));
                match open.min_by_key(|(open, _)| open.len()) {
                    None => return Some(true),
                    Some((open, other)) => match open.as_slice() {
                        [] => break None,
                        [only] => outside(&mut area, *only, other),
                        [first, ..] => break Some((*first, other)),
                    },
                }
            };
            if let Some((field, other)) = open {
                let (mut out, mut inside) = (area.clone(), area);
                outside(&mut out, field, other);
                within(&mut inside, field, other);
                left.extend([(inside, others.clone()), (out, others)]);
            }
        }
        Some(false)
    }

    /// Which of the rules that take all of `region` together are needed for it: each is left out if it can be.
    fn needed(&mut self, region: &Region, mut by: Vec<(usize, &Region)>) -> Vec<usize> {
        let most = if by.len() > MOST_NAMED { 0 } else { by.len() };
        for at in (0..most).rev() {
            let (one, others) = (by.get(at).copied(), by.iter().enumerate().filter(|(i, _)| *i != at));
            let others: Vec<&Region> = others.map(|(_, (_, other))| *other).collect();
            if one.is_some() && self.escapes(region, &others) == Some(false) {
                by.remove(at);
            }
        }
        by.into_iter().map(|(index, _)| index).collect()
    }
}

/// The fields in which `other` does not hold all of `area`.
fn open_fields(area: &Area, other: &Area) -> Vec<usize> {
    let pairs = area.iter().zip(other).enumerate();
    pairs.filter(|(_, (a, b))| !is_within(a, b)).map(|(field, _)| field).collect()
}

fn outside(area: &mut Area, field: usize, other: &Area) {
    if let (Some(own), Some(others)) = (area.get_mut(field), other.get(field)) {
        *own = minus(own, others);
    }
}

fn within(area: &mut Area, field: usize, other: &Area) {
    if let (Some(own), Some(others)) = (area.get_mut(field), other.get(field)) {
        *own = intersection(own, others);
    }
}

/// Comparisons of two rules after which the search gives up: about a second.
pub const MOST_STEPS: u64 = 10_000_000;
/// Of more rules than this it is not asked which are needed.
pub const MOST_NAMED: usize = 64;

#[cfg(test)]
#[path = "shadow_tests.rs"]
mod tests;
