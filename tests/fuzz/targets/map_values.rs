// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Keys and values of our maps as another program may have written them.
#![no_main]

use std::time::Duration;

use detour::dnat::abi::Cfg;
use detour::dnat::clock::Clock;
use detour::dnat::wire::Shared;
use detour::dnat::{asked, counters, flows, in_force};
use detour::load::record::Record;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    detour_fuzz::bounded(bytes.len() + RULES, || {
        let Some(cfg) = Cfg::read(bytes) else { return };
        let clock = Clock::new(&cfg, Duration::from_secs(1 << 20));
        let rest = bytes.get(Cfg::SIZE..).unwrap_or_default();
        drop(flows::flow(rest, &cfg, &clock));
        let (key, value) = rest.split_at(rest.len() / 2);
        drop((asked::asked(key, value, &clock), asked::others(key, value, &clock), asked::left_out(rest)));
        drop(counters::counters(|_| rest.to_vec()));
        drop(Record::parse(rest));
        let mut table = vec![0; RULES];
        rest.iter().zip(&mut table).for_each(|(from, to)| *to = *from);
        drop(in_force::in_force(&table, |_| rest.to_vec()));
    });
});

/// Enough for a table of rules.
const RULES: usize = 512 << 10;
