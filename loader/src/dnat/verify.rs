// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What `up` would write here now, and what its maps hold, to the differences between them.
use crate::dnat::control::Control;
use crate::dnat::in_force::{in_force, same_rules};
use crate::dnat::parse::{parse, Source};
use crate::dnat::rules::Rule;
use crate::dnat::running::{active, entries, Element};
use crate::load::gather::open_map;
use crate::load::home::Dir;
use crate::load::verify::Check;
use std::collections::BTreeMap;

/// The rules that a table says it holds, read again from its own text. None when it is no table or its text no rules.
pub fn told(table: &[u8]) -> Option<Vec<Rule>> {
    let mut rules = Vec::new();
    for rule in in_force(table, |_| Vec::new())?.rules {
        // The table knows each rule's line, so the text is put on that line.
        let before = usize::try_from(rule.line.saturating_sub(1)).ok()?;
        let text = "\n".repeat(before) + &rule.text;
        rules.extend(parse(&[Source { name: "in force", text: text.as_bytes() }]).ok()?);
    }
    Some(rules)
}

/// The table in force against the one that the rules compile to; and every other map that `up` fills and later only a
/// reload changes.
pub fn written(dir: &Dir, control: &Control) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut wanted: BTreeMap<&str, Vec<Element>> = BTreeMap::new();
    for write in control.writes.iter().filter(|w| !w.map.starts_with("rules_")) {
        wanted.entry(&write.map).or_default().push((write.key.clone(), write.value.clone()));
    }
    let table = control.writes.iter().find(|w| w.map == "rules_0").map(|w| w.value.as_slice());
    let claim = "is compiled from exactly these rules";
    let fault = match active(dir) {
        Ok((_, table_now)) if table.is_some_and(|table| same_rules(&table_now, table)) => None,
        Ok(_) => Some("its bytes are others".to_string()),
        Err(refusal) => Some(refusal.what),
    };
    checks.push(Check::new("rules in force", claim, fault));
    for (name, mut elements) in wanted {
        elements.sort();
        let found = open_map(&dir.map(name)).and_then(|map| entries(&map));
        let fault = match found {
            Err(refusal) => Some(refusal.what),
            Ok(mut found) => {
                found.sort();
                let extra = found.iter().filter(|e| !elements.contains(e)).count();
                let missing = elements.iter().filter(|e| !found.contains(e)).count();
                let text = format!("{extra} elements are others, {missing} are missing");
                (extra > 0 || missing > 0).then_some(text)
            }
        };
        let claim = "holds the addresses of this machine and the targets of the rules";
        checks.push(Check::new(format!("map {name}"), claim, fault));
    }
    checks
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::dnat::classify::{table, Own};

    #[test]
    fn a_table_compiles_to_itself() {
        let own = Own { v4: Some([192, 0, 2, 7].into()), ..Own::default() };
        let text = "\n\ntcp dport { 80, 443 } redirect to :8080\nip saddr != 10.0.0.0/8 udp drop\naccept";
        let rules = parse(&[Source { name: "test", text: text.as_bytes() }]).unwrap();
        let bytes = table(&rules, own, 1).unwrap();
        let again = table(&told(&bytes).unwrap(), own, 5).unwrap();
        assert!(same_rules(&bytes, &again));
        assert_eq!(told(&bytes[1..]), None);
    }
}
