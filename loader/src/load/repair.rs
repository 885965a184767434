// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What a killed replacement left to the steps that take it back, and the facts as they are then; pure.
//!
//! The instance is whole again with its own programs and maps. Packets meet one program or the other, never none.
use crate::load::facts::{Facts, Instance};
use crate::load::home::{link_pin, prog_pin};
use crate::load::record::RecordProgram;
use crate::load::replace::link_swap;
use crate::load::step::{Effect, Step};
use crate::load::tc::Tc;
use crate::load::tcx;

/// A way back, and where it leads.
#[derive(Clone, Debug)]
pub struct Repair {
    /// None where nothing is to be taken back.
    pub steps: Vec<Step>,
    /// What a reader should know.
    pub notes: Vec<String>,
    /// The machine after these steps.
    pub facts: Facts,
}

/// The unfinished folder beside the instance `name` goes, and its own programs run again. Nothing is done for an instance
/// that would not be whole by that.
pub fn repair(name: &str, facts: &Facts) -> Repair {
    let nothing = || Repair { steps: Vec::new(), notes: Vec::new(), facts: facts.clone() };
    let (Some(instance), Some(unfinished)) = (facts.instance(name), facts.unfinished(name)) else {
        return nothing();
    };
    let Some(swapped) = swapped(instance, unfinished, facts) else { return nothing() };
    let home = facts.home(name);
    let mut repair = nothing();
    let (dir, building) = (home.dir(), home.building());
    let word = if swapped.is_empty() { "clears" } else { "takes back" };
    repair.notes.push(format!("{word} what an interrupted command left in {building}"));
    // The last one that was replaced comes first: ingress.
    for (old, new) in swapped.iter().rev() {
        let symbol = format!("%{}@back", old.name);
        repair.steps.push(Step::get(format!("{dir}/{}", prog_pin(&old.name)), &symbol));
        if tcx::is_hook(old.parent) {
            let egress = old.parent == tcx::EGRESS;
            let link = format!("%{}@back", link_pin(egress, &old.name));
            let other = format!("%{}@unfinished", new.name);
            repair.steps.push(Step::get(format!("{dir}/{}", link_pin(egress, &old.name)), &link));
            repair.steps.push(Step::get(format!("{building}/{}", prog_pin(&new.name)), &other));
            repair.steps.push(link_swap(&link, symbol, other).into());
        } else {
            let name = format!("detour/{name}/{}", old.name);
            let put = Tc::FilterReplace { place: facts.place(old), program: symbol, name };
            repair.steps.push(Effect::Netlink(put.message()).into());
        }
        runs(&mut repair.facts, old, new);
    }
    let unlink = |pin: &String| Step::from(Effect::Unlink(format!("{building}/{pin}")));
    repair.steps.extend(unfinished.pins.iter().map(unlink));
    repair.steps.push(Effect::Rmdir(building).into());
    repair.facts.instances.retain(|i| i.name != name || !i.building);
    repair
}

/// The programs of `instance` that programs of the unfinished one stand in for; None if one has no place any more.
fn swapped(
    instance: &Instance,
    unfinished: &Instance,
    facts: &Facts,
) -> Option<Vec<(RecordProgram, RecordProgram)>> {
    let mut pairs = Vec::new();
    for old in &instance.record.as_ref()?.programs {
        if facts.carries(old) {
            continue;
        }
        let news = unfinished.record.iter().flat_map(|r| &r.programs);
        let new = news.into_iter().find(|new| facts.place(new) == facts.place(old) && facts.carries(new))?;
        pairs.push((old.clone(), new.clone()));
    }
    Some(pairs)
}

/// The facts after `old` took the place of `new`.
fn runs(facts: &mut Facts, old: &RecordProgram, new: &RecordProgram) {
    let place = facts.place(old);
    for filter in facts.filters.iter_mut().filter(|f| f.place == place) {
        if let Some(bpf) = &mut filter.bpf {
            (bpf.id, bpf.tag) = (Some(old.id), Some(old.tag));
        }
    }
    let hooks = facts.tcx.iter_mut().filter(|hook| hook.attach == place.parent);
    let programs = hooks.flat_map(|hook| &mut hook.programs);
    programs.filter(|p| p.program == new.id).for_each(|p| p.program = old.id);
}
