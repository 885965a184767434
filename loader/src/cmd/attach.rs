// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `load` and `unload`: any object's tc programs onto a device, as a named instance, and off again.
use crate::cmd::objects::{self, Named};
use crate::cmd::{Answer, Context};
use crate::load::create::Creation;
use crate::load::facts::Facts;
use crate::load::plan::{self, Attach, Config, Plan};
use crate::load::refusal::{Refusal, Stage};
use crate::load::tc::{Place, EGRESS, INGRESS};
use crate::object::{Object, ProgramKind};
use clap::ArgMatches;
use serde_json::json;

/// The name of what `up` makes; `load` may not take it.
pub const UP: &str = "up";

/// `load FILE DEV` and `load FILE --no-attach`.
pub fn load(context: &mut Context, args: &ArgMatches) -> Result<Answer, Refusal> {
    let named = objects::open(args)?;
    if args.get_flag("no-attach") {
        return dry_run(context, &named);
    }
    let device = args.get_one::<String>("dev").map(String::as_str).unwrap_or_default();
    context.lock()?;
    let facts = context.facts(device)?;
    let config = config(&named, args, &facts)?;
    let plan = plan::load(&named.object, &config, &facts)?;
    context.execute(&plan, Some(&named.object))?;
    let mut text = String::new();
    for attach in &config.attach {
        text.push_str(&format!(
            "{device}: {} {} attached as '{}'\n",
            direction(attach),
            attach.program,
            config.name
        ));
    }
    let programs: Vec<_> =
        config.attach.iter().map(|a| json!({"name": a.program, "direction": direction(a)})).collect();
    let json = json!({"schema": "detour.load/1", "dev": device, "name": config.name, "programs": programs,
        "notes": plan.notes});
    Ok(Answer::done(notes(&plan) + &text, json))
}

/// `unload DEV [NAME]`.
pub fn unload(context: &mut Context, args: &ArgMatches) -> Result<Answer, Refusal> {
    let device = args.get_one::<String>("dev").map(String::as_str).unwrap_or_default();
    context.lock()?;
    let facts = context.facts(device)?;
    let name = unload_name(args, &facts)?;
    let plan = plan::unload(&name, &facts)?;
    context.execute(&plan, None)?;
    let json = json!({"schema": "detour.unload/1", "dev": device, "name": name, "notes": plan.notes});
    Ok(Answer::done(format!("{}{device}: '{name}' removed\n", notes(&plan)), json))
}

/// The instance that is meant: the one named, or the only one.
pub fn unload_name(args: &ArgMatches, facts: &Facts) -> Result<String, Refusal> {
    let device = &facts.device.name;
    let mut names: Vec<&str> = facts.instances.iter().map(|i| i.name.as_str()).collect();
    names.dedup();
    match (args.get_one::<String>("name"), names.as_slice()) {
        (Some(name), _) if names.contains(&name.as_str()) => Ok(name.clone()),
        (Some(name), _) => Err(Refusal::nothing(name, device)),
        (None, [name]) => Ok((*name).to_string()),
        (None, []) => Err(Refusal::new(Stage::No, format!("nothing of ours is on {device}"), "")),
        (None, _) => {
            let hint = format!("name one of: {}", names.join(", "));
            Err(Refusal::new(Stage::Usage, format!("{device} has {} instances", names.len()), hint))
        }
    }
}

fn dry_run(context: &mut Context, named: &Named) -> Result<Answer, Refusal> {
    let machine = crate::load::gather::machine()?;
    let (creation, plan) = dry_run_plan(named, &machine)?;
    context.execute(&plan, Some(&named.object))?;
    let text = creation.programs.iter().map(|name| format!("{name}: accepted by this kernel\n"));
    let text = text.collect::<String>() + &skipped(&named.object);
    let json = json!({"schema": "detour.load/1", "programs": creation.programs, "attached": false,
        "notes": plan.notes});
    Ok(Answer::done(notes(&plan) + &text, json))
}

/// Every tc program of the object, loaded and given up again.
pub fn dry_run_plan(
    named: &Named,
    machine: &crate::load::facts::Machine,
) -> Result<(Creation, Plan), Refusal> {
    let programs: Vec<String> = classifiers(&named.object).map(|p| p.name.clone()).collect();
    if programs.is_empty() {
        return Err(no_classifier(&named.object));
    }
    let creation = Creation { file: named.file.clone(), programs, ..Creation::default() };
    let plan = plan::dry_run(&named.object, &creation, machine);
    Ok((creation, plan))
}

/// What `load` was asked to do with an object on this device.
pub fn config(named: &Named, args: &ArgMatches, facts: &Facts) -> Result<Config, Refusal> {
    let name = args.get_one::<String>("name").cloned().unwrap_or_else(|| named.stem());
    if name == UP {
        let hint = "say --name NAME";
        return Err(Refusal::new(Stage::Usage, "the instance name 'up' belongs to 'detour up'", hint));
    }
    let prio = args.get_one::<u16>("prio").copied().unwrap_or(200);
    let given = args.get_one::<u32>("handle").copied();
    let mut attach: Vec<Attach> = Vec::new();
    for (program, parent) in hooks(&named.object, args)? {
        let handle = given.unwrap_or_else(|| free_handle(facts, &attach, parent, prio));
        let place = Place { ifindex: facts.device.ifindex, parent, prio, handle };
        if attach.iter().any(|a| a.place == place) {
            let what = "two programs on one hook cannot share a handle";
            return Err(Refusal::new(Stage::Usage, what, "leave --handle out"));
        }
        attach.push(Attach { program, place });
    }
    let programs = attach.iter().map(|a| a.program.clone()).collect();
    let creation = Creation { file: named.file.clone(), programs, ..Creation::default() };
    Ok(Config { creation, attach, name, mount: args.get_flag("mount-bpffs") })
}

/// The programs and their hooks, egress first: as asked, or as the section names say, or the only program at ingress.
fn hooks(object: &Object, args: &ArgMatches) -> Result<Vec<(String, u32)>, Refusal> {
    let asked = |option: &str, parent: u32| {
        let names = args.get_many::<String>(option).into_iter().flatten();
        names.map(|name| (name.clone(), parent)).collect::<Vec<_>>()
    };
    let hooks = [asked("egress", EGRESS), asked("ingress", INGRESS)].concat();
    if !hooks.is_empty() {
        for (name, _) in &hooks {
            let program = object.program(name).ok_or_else(|| Refusal::no_program(name, object))?;
            if program.kind != ProgramKind::SchedCls {
                let what =
                    format!("'{name}' in section '{}' is not a tc program", program.section.escape_debug());
                return Err(Refusal::new(
                    Stage::Object,
                    what,
                    "tc programs live in sections classifier, tc, tcx/…",
                ));
            }
        }
        return Ok(hooks);
    }
    let programs: Vec<_> = classifiers(object).collect();
    let parent = |section: &str| match section.rsplit('/').next() {
        Some("egress") => Some(EGRESS),
        Some("ingress") => Some(INGRESS),
        _ => None,
    };
    match programs.as_slice() {
        [] => Err(no_classifier(object)),
        [only] => Ok(vec![(only.name.clone(), parent(&only.section).unwrap_or(INGRESS))]),
        many => {
            let hinted = |p: &&crate::object::Program| Some((p.name.clone(), parent(&p.section)?));
            let mut hooks: Vec<_> = many.iter().filter_map(hinted).collect();
            if hooks.len() != many.len() {
                let names: Vec<&str> = many.iter().map(|p| p.name.as_str()).collect();
                let hint = format!("say --ingress FUNC or --egress FUNC; it has: {}", names.join(", "));
                return Err(Refusal::new(
                    Stage::Usage,
                    format!("the object has {} tc programs", many.len()),
                    hint,
                ));
            }
            hooks.sort_by_key(|(_, parent)| *parent != EGRESS);
            Ok(hooks)
        }
    }
}

fn classifiers(object: &Object) -> impl Iterator<Item = &crate::object::Program> {
    object.programs.iter().filter(|p| p.kind == ProgramKind::SchedCls && p.autoload)
}

fn no_classifier(object: &Object) -> Refusal {
    let sections: Vec<String> =
        object.programs.iter().map(|p| format!("{} ({})", p.name, p.section)).collect();
    let hint = match sections.is_empty() {
        true => "it holds no program at all".to_string(),
        false => format!("it has: {}", sections.join(", ")),
    };
    Refusal::new(Stage::Object, "the object has no tc program that loads by itself", hint)
}

fn skipped(object: &Object) -> String {
    let others = object.programs.iter().filter(|p| p.kind != ProgramKind::SchedCls || !p.autoload);
    others.map(|p| format!("{}: skipped, section '{}'\n", p.name, p.section.escape_debug())).collect()
}

/// The lowest handle that no filter at this hook and priority has.
fn free_handle(facts: &Facts, chosen: &[Attach], parent: u32, prio: u16) -> u32 {
    let here = |place: &Place| place.parent == parent && place.prio == prio;
    let places = facts.filters.iter().map(|f| f.place).chain(chosen.iter().map(|a| a.place));
    let taken: Vec<u32> = places.filter(here).map(|place| place.handle).collect();
    (1..).find(|handle| !taken.contains(handle)).unwrap_or(u32::MAX)
}

fn direction(attach: &Attach) -> &'static str {
    if attach.place.parent == EGRESS {
        "egress"
    } else {
        "ingress"
    }
}

/// The plan's notes, one a line.
pub fn notes(plan: &Plan) -> String {
    plan.notes.iter().map(|note| format!("note: {note}\n")).collect()
}
