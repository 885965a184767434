// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A file of rules: read, written back, read again, and compiled.
#![no_main]

use std::net::{Ipv4Addr, Ipv6Addr};

use detour::dnat::parse::{self, Source};
use detour::dnat::{classify, in_force};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    detour_fuzz::bounded(bytes.len() + TABLE, || {
        let rules = match parse::parse(&[Source { name: "rules", text: bytes }]) {
            Ok(rules) => rules,
            Err(faults) => return faults.iter().for_each(|fault| drop(fault.to_string())),
        };
        let text: String = rules.iter().map(|rule| format!("{rule}\n")).collect();
        let again = parse::parse(&[Source { name: "rules", text: text.as_bytes() }])
            .expect("what was written can be read");
        assert_eq!(rules.len(), again.len());
        let same = rules.iter().zip(&again).all(|(a, b)| a.matches == b.matches && a.verdict == b.verdict);
        assert!(same, "{text}");
        let own = classify::Own { v4: Some(Ipv4Addr::new(192, 0, 2, 1)), v6: Some(Ipv6Addr::LOCALHOST) };
        if let Ok(table) = classify::table(&rules, own, 1) {
            let held = in_force::in_force(&table, |_| Vec::new()).expect("what was written can be read");
            assert_eq!(held.rules.len(), rules.len());
        }
    });
});

/// The table has one size for any number of rules.
const TABLE: usize = 64 << 10;
