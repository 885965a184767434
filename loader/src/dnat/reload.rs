// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Rules in force and rules that are wanted to the steps between: the idle table is filled, then one pointer is swapped.
use crate::dnat::running::{Element, Running};
use crate::load::create::Write;
use crate::load::home::map_pin;
use crate::load::plan::Plan;
use crate::load::step::{Arg, Blob, Bpf, Hole, Step};
use detour_sys::commands;

/// The steps from what `running` says to `table` and `locals`; none where nothing differs. `counters` is how many rules'
/// counters start at zero again, `cpus` how many values each has.
pub fn reload(
    running: &Running,
    table: Vec<u8>,
    locals: &[Write],
    dir: &str,
    counters: u32,
    cpus: u32,
) -> Plan {
    let mut plan = Plan::default();
    let same_rules = crate::dnat::in_force::same_rules(&running.rules, &table);
    let old = |key: &[u8]| running.locals.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone());
    let changed: Vec<&Write> = locals.iter().filter(|w| old(&w.key).as_ref() != Some(&w.value)).collect();
    let gone: Vec<&Element> =
        running.locals.iter().filter(|(k, _)| !locals.iter().any(|w| w.key == *k)).collect();
    if !(changed.is_empty() && gone.is_empty()) {
        plan.steps.push(open("local4", dir));
    }
    // New targets own their tuples before the first flow to them can open.
    for write in &changed {
        let before = old(&write.key);
        let undo = match &before {
            Some(value) => Step::update("%local4", write.key.clone(), value.clone().into()).effect,
            None => delete("%local4", &write.key).effect,
        };
        let value = merged(before.as_deref().unwrap_or(&[0; 4]), &write.value);
        plan.steps.push(Step::update("%local4", write.key.clone(), value.into()).undo(undo));
    }
    if !same_rules {
        let names = [running.active, 1_u32.wrapping_sub(running.active)].map(|n| format!("rules_{n}"));
        for name in names.iter().map(String::as_str).chain(["rules", "rule_stats"]) {
            plan.steps.push(open(name, dir));
        }
        let [in_force, idle] = names.map(|name| format!("%{name}"));
        plan.steps.push(Step::update(&idle, vec![0; 4], table.into()));
        plan.steps.push(point(&idle).undo(point(&in_force).effect));
    }
    // Now nothing opens flows to old targets.
    for write in changed.iter().filter(|w| old(&w.key).is_some_and(|v| merged(&v, &w.value) != w.value)) {
        let before = old(&write.key).unwrap_or_default();
        let undo = Step::update("%local4", write.key.clone(), merged(&before, &write.value).into()).effect;
        let step = Step::update("%local4", write.key.clone(), write.value.clone().into());
        plan.steps.push(step.undo(undo));
    }
    for (key, value) in gone {
        let undo = Step::update("%local4", key.clone(), value.clone().into()).effect;
        plan.steps.push(delete("%local4", key).undo(undo));
    }
    if !same_rules {
        let zeros = vec![0; (cpus as usize).saturating_mul(STATS)];
        let reset = |i: u32| Step::update("%rule_stats", i.to_ne_bytes().to_vec(), zeros.clone().into());
        plan.steps.extend((0..counters).map(reset));
    }
    plan
}

/// The outer map's one slot leads to this table.
fn point(symbol: &str) -> Step {
    let holes = vec![Hole { at: 0, symbol: symbol.to_string() }];
    Step::update("%rules", vec![0; 4], Blob { bytes: vec![0; 4], holes, part: None })
}

/// Bytes of `struct rule_stats`.
const STATS: usize = 16;

fn open(map: &str, dir: &str) -> Step {
    let args = vec![("pathname", Arg::Text(format!("{dir}/{}", map_pin(map))))];
    Bpf::new(&commands::OBJ_GET, args).gives(format!("%{map}")).into()
}

fn delete(map: &str, key: &[u8]) -> Step {
    let args = vec![("map_fd", Arg::Fd(map.to_string())), ("key", Arg::Bytes(key.to_vec().into()))];
    Bpf::new(&commands::MAP_DELETE_ELEM, args).into()
}

/// The flags of both values.
fn merged(old: &[u8], new: &[u8]) -> Vec<u8> {
    old.iter().zip(new).map(|(a, b)| a | b).collect()
}
