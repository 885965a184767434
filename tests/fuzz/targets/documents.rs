// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Facts and plans that were written to a file: what is read is written the same.
#![no_main]

use detour::load::{facts_json, plan_json};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    detour_fuzz::bounded(bytes.len(), || {
        let Ok(document) = serde_json::from_slice(bytes) else { return };
        if let Some(facts) = facts_json::read(&document) {
            assert_eq!(facts_json::read(&facts_json::write(&facts)), Some(facts));
        }
        if let Some(plan) = plan_json::read_plan(&document, &|_| None) {
            assert_eq!(plan_json::read_plan(&plan_json::plan(&plan), &|_| None), Some(plan));
        }
    });
});
