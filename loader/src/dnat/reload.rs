// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Rules in force and rules that are wanted to the steps between: the idle table is filled, then one pointer is swapped.
use crate::dnat::control::local_map;
use crate::dnat::in_force;
use crate::dnat::running::{Element, Running};
use crate::load::create::Write;
use crate::load::home::Dir;
use crate::load::plan::Plan;
use crate::load::step::{Arg, Blob, Bpf, Hole, Step};
use detour_sys::commands;

/// The steps from what `running` says to `table` and `locals`; none where nothing differs. `counters` is how many rules'
/// counters start at zero again, `cpus` how many values each has.
pub fn reload(
    running: &Running,
    table: Vec<u8>,
    locals: &[Write],
    dir: &Dir,
    counters: u32,
    cpus: u32,
) -> Plan {
    let mut plan = Plan::default();
    let same_rules = in_force::same_rules(&running.rules, &table);
    let old = |key: &[u8]| running.locals.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone());
    let changed: Vec<&Write> = locals.iter().filter(|w| old(&w.key).as_ref() != Some(&w.value)).collect();
    let gone: Vec<&Element> =
        running.locals.iter().filter(|(k, _)| !locals.iter().any(|w| w.key == *k)).collect();
    for map in ["local4", "local6"] {
        let mut keys = changed.iter().map(|w| &w.key).chain(gone.iter().map(|(key, _)| key));
        if keys.any(|key| local_map(key) == map) {
            plan.steps.push(open(map, dir));
        }
    }
    // New targets own their tuples before the first flow to them can open.
    for write in &changed {
        let before = old(&write.key);
        let undo = match &before {
            Some(value) => local(&write.key, value.clone().into()).effect,
            None => delete(&write.key).effect,
        };
        let value = merged(before.as_deref().unwrap_or(&[0; 4]), &write.value);
        plan.steps.push(local(&write.key, value.into()).undo(undo));
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
        let undo = local(&write.key, merged(&before, &write.value).into()).effect;
        let step = local(&write.key, write.value.clone().into());
        plan.steps.push(step.undo(undo));
    }
    for (key, value) in gone {
        let undo = local(key, value.clone().into()).effect;
        plan.steps.push(delete(key).undo(undo));
    }
    if !same_rules {
        let zeros = vec![0; (cpus as usize).saturating_mul(STATS)];
        let reset = |i: u32| Step::update("%rule_stats", i.to_ne_bytes().to_vec(), zeros.clone().into());
        plan.steps.extend((0..counters).map(reset));
    }
    plan
}

/// Notes in the idle table that `generation` is used: where other programs run with it and are taken back, what they counted
/// bears it, and no rules after them may. Nothing takes this back.
pub fn use_up(running: &Running, generation: u32, dir: &Dir) -> Vec<Step> {
    let name = format!("rules_{}", 1_u32.wrapping_sub(running.active));
    let symbol = format!("%{name}@old");
    // The rules in force again: their bytes are as many as the table's, whatever version made it.
    let table = in_force::renumbered(&running.rules, generation);
    vec![Step::get(dir.map(&name), &symbol), Step::update(&symbol, vec![0; 4], table.into())]
}

/// The outer map's one slot leads to this table.
fn point(symbol: &str) -> Step {
    let holes = vec![Hole { at: 0, symbol: symbol.to_string() }];
    Step::update("%rules", vec![0; 4], Blob { bytes: vec![0; 4], holes, part: None })
}

/// Bytes of `struct rule_stats`.
const STATS: usize = 16;

fn open(map: &str, dir: &Dir) -> Step {
    Step::get(dir.map(map), &format!("%{map}"))
}

/// An address is this to us.
fn local(key: &[u8], value: Blob) -> Step {
    Step::update(&format!("%{}", local_map(key)), key.to_vec(), value)
}

/// An address is nothing to us any more.
fn delete(key: &[u8]) -> Step {
    let map = Arg::Fd(format!("%{}", local_map(key)));
    Bpf::new(&commands::MAP_DELETE_ELEM, vec![("map_fd", map), ("key", Arg::Bytes(key.to_vec().into()))])
        .into()
}

/// The flags of both values.
fn merged(old: &[u8], new: &[u8]) -> Vec<u8> {
    old.iter().zip(new).map(|(a, b)| a | b).collect()
}
