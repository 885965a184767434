// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A running instance and another object to the steps that put its programs in place, each in one message; pure.
//!
//! Packets meet the old program or the new one, never none. The maps are new ones, or those that are kept.
use crate::load::beside::{self, create_beside};
use crate::load::create::{create, id_symbol, pins, prog_symbol, record_map, RECORD};
use crate::load::facts::{Facts, Instance};
use crate::load::home::{self, link_pin, prog_pin};
use crate::load::plan::{record, Attach, Config, Plan};
use crate::load::record::RecordProgram;
use crate::load::refusal::{Refusal, Stage};
use crate::load::step::{Arg, Bpf, Effect, Expect, Step};
use crate::load::tc::Tc;
use crate::load::{kept, shared, sockopt, tcx, unpinned};
use crate::object::Object;
use detour_sys::commands;

/// `BPF_F_REPLACE`: only if the link still runs the program that is meant.
const BPF_F_REPLACE: u64 = 1 << 2;

/// Replaces what `instance` runs by the programs of `config`, hook by hook, at their places. `between` is made after they are
/// loaded and before one of them runs.
pub fn replace(
    object: &Object,
    config: &Config,
    facts: &Facts,
    instance: &Instance,
    between: Vec<Step>,
) -> Result<Plan, Refusal> {
    let mut old = instance.record.as_ref().map(|r| r.programs.clone()).unwrap_or_default();
    // One in a cgroup goes with its link; the new one is there before.
    old.retain(|program| program.parent != sockopt::GETSOCKOPT);
    let (config, pairs) = pair(config, facts, &old)?;
    let home = facts.home(&config.name);
    let (dir, building, there) = (home.dir(), home.building(), instance.dir(&home));
    let mut plan = Plan::default();
    if facts.machine.charges_memlock() {
        plan.steps.push(Effect::Memlock.into());
    }
    for program in &old {
        plan.steps.push(Step::get(there.pin(&prog_pin(&program.name)), &old_symbol(program)));
    }
    plan.steps.push(Step::mkdir(building.clone()));
    let made = create(object, &config.creation, &facts.machine);
    let made = shared::apply(kept::apply(made, &config.creation.kept)?, &config.creation.shared)?;
    plan.steps.extend(made);
    if let Some(more) = &config.beside {
        plan.steps.extend(create_beside(&more.object, &more.creation, &facts.machine));
    }
    let record = record(object, &config, facts, &plan.steps)?;
    plan.steps.extend(record_map(&record));
    if config.unpinned {
        plan.steps.extend(unpinned::bind(object, &config.creation));
    }
    plan.steps.push(Step::pin(RECORD, format!("{building}/{}", home::RECORD_PIN)));
    plan.steps.extend(pins(object, &config.creation, &building));
    if let Some(more) = &config.beside {
        plan.steps.extend(beside::pins(&more.object, &more.program, &building));
        plan.steps.extend(sockopt::attach(more, &building));
    }
    plan.steps.extend(between);
    for (attach, old) in config.attach.iter().zip(&pairs) {
        let program =
            object.program(&attach.program).ok_or_else(|| Refusal::no_program(&attach.program, object))?;
        if attach.is_tcx() {
            plan.steps.extend(link(attach, old, &dir, &building));
            continue;
        }
        let place = attach.place;
        let put = |program: String, name: &str| {
            let name = format!("detour/{}/{name}", config.name);
            Effect::Netlink(Tc::FilterReplace { place, program, name }.message())
        };
        let (id, tags) = (id_symbol(&program.name), program.tags());
        let step = Step::from(put(prog_symbol(&program.name), &program.name));
        let step = step.undo(put(old_symbol(old), &old.name)).expect(Expect::Filter { place, id, tags });
        plan.steps.push(step);
    }
    let swap = || Effect::Exchange { one: building.clone(), other: dir.clone() };
    // The commit: what follows only clears, and where that fails nothing is taken back.
    plan.steps.push(swap().into());
    // What was the instance's folder is the unfinished one's now, which any later run would clear.
    plan.steps.extend(instance.pins.iter().map(|pin| Effect::Unlink(format!("{building}/{pin}")).into()));
    plan.steps.push(Effect::Rmdir(building).into());
    if config.unpinned {
        plan.steps = unpinned::strip(plan.steps);
    }
    Ok(plan)
}

/// Each program with the one it follows: the hooks have to be the same, and the places become those of the old ones.
fn pair(
    config: &Config,
    facts: &Facts,
    old: &[RecordProgram],
) -> Result<(Config, Vec<RecordProgram>), Refusal> {
    let mut left = old.to_vec();
    let (mut config, mut pairs) = (config.clone(), Vec::new());
    for attach in &mut config.attach {
        let at = left.iter().position(|p| p.parent == attach.place.parent).ok_or_else(other_hooks)?;
        let program = left.remove(at);
        attach.place = facts.place(&program);
        pairs.push(program);
    }
    match left.is_empty() {
        true => Ok((config, pairs)),
        false => Err(other_hooks()),
    }
}

fn other_hooks() -> Refusal {
    let hint = "--ingress, --egress and --tcx have to say the same hooks; or 'unload' and 'load'";
    Refusal::new(Stage::Usage, "the instance that is to be replaced has other hooks", hint)
}

/// The symbol of a program that is replaced.
fn old_symbol(program: &RecordProgram) -> String {
    format!("%{}@old", program.name)
}

/// The same link with another program, pinned beside it.
fn link(attach: &Attach, old: &RecordProgram, dir: &str, building: &str) -> [Step; 3] {
    let egress = attach.place.parent == tcx::EGRESS;
    let symbol = format!("%{}@{}", if egress { "egress" } else { "ingress" }, attach.program);
    let swap = |new: String, old: String| Effect::Bpf(link_swap(&symbol, new, old));
    let (new, old_program) = (prog_symbol(&attach.program), old_symbol(old));
    [
        Step::get(format!("{dir}/{}", link_pin(egress, &old.name)), &symbol),
        Step::pin(&symbol, format!("{building}/{}", link_pin(egress, &attach.program))),
        Step::from(swap(new.clone(), old_program.clone())).undo(swap(old_program, new)),
    ]
}

/// The link runs `new` instead of `old`, or the call fails.
pub(super) fn link_swap(link: &str, new: String, old: String) -> Bpf {
    let args = vec![
        ("link_fd", Arg::Fd(link.to_string())),
        ("new_prog_fd", Arg::Fd(new)),
        ("flags", Arg::Num(BPF_F_REPLACE)),
        ("old_prog_fd", Arg::Fd(old)),
    ];
    Bpf::new(&commands::LINK_UPDATE, args)
}
