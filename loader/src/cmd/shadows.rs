// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Rules that can never match to one sentence each, naming what takes all that they would match.
use crate::dnat::classify::Own;
use crate::dnat::rules::{Place, Rule};
use crate::dnat::shadow::{Shadowed, Shadows, MOST_NAMED};
use clap::ArgMatches;
use serde_json::{json, Value};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Stands for the addresses of a device that is not known.
pub const ANY: Own = Own { v4: Some(Ipv4Addr::LOCALHOST), v6: Some(Ipv6Addr::LOCALHOST) };

/// The index of each such rule and what is to be said of it.
pub fn sentences(args: &ArgMatches, rules: &[Rule], found: &Shadows) -> Vec<(usize, String)> {
    let taken = |s: &Shadowed| (s.rule, format!("can never match: {}", takers(args, rules, &s.by)));
    let unsure =
        |rule: &usize| (*rule, "too many rules overlap to tell whether it can ever match".to_string());
    let mut all: Vec<(usize, String)> =
        found.shadowed.iter().map(taken).chain(found.undecided.iter().map(unsure)).collect();
    all.sort();
    all
}

fn takers(args: &ArgMatches, rules: &[Rule], by: &[usize]) -> String {
    let places: Vec<String> =
        by.iter().filter_map(|rule| rules.get(*rule)).map(|rule| place(args, rule.place)).collect();
    match places.as_slice() {
        [] => "the device has no address to redirect to".to_string(),
        [one] => format!("{one} takes all of it first"),
        many if many.len() > MOST_NAMED => {
            format!("{} rules before it together take all of it first", many.len())
        }
        [several @ .., last] => format!("{} and {last} together take all of it first", several.join(", ")),
    }
}

/// The same as notes about rules that are going into force.
pub fn notes(args: &ArgMatches, rules: &[Rule], found: &Shadows) -> Vec<String> {
    let note = |(index, sentence): (usize, String)| {
        let rule = rules.get(index)?;
        Some(format!("{}: '{rule}' {sentence}", place(args, rule.place)))
    };
    sentences(args, rules, found).into_iter().filter_map(note).collect()
}

/// `[{"rule":4,"taken_by":[2]}]`, numbers from 1.
pub fn json(found: &Shadows) -> Value {
    let number = |index: &usize| index.saturating_add(1);
    let one = |s: &Shadowed| {
        let by: Vec<usize> = s.by.iter().map(number).collect();
        json!({"rule": number(&s.rule), "taken_by": by})
    };
    found.shadowed.iter().map(one).collect()
}

/// Where a rule was read: `FILE:LINE`, or `--rule N`.
fn place(args: &ArgMatches, place: Place) -> String {
    match (args.get_one::<String>("rules"), place.source) {
        (Some(path), 0) => format!("{}:{}", path.escape_debug(), place.line),
        (Some(_), source) => format!("--rule {source}"),
        (None, source) => format!("--rule {}", source.saturating_add(1)),
    }
}
