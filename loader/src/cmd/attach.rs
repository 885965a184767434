// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `load` and `unload`: any object's tc programs onto a device, as a named instance, and off again.
use crate::cmd::objects::{self, Named};
use crate::cmd::words::absolute;
use crate::cmd::{anchors, select, Answer, Context};
use crate::load::create::Creation;
use crate::load::facts::{Facts, Instance};
use crate::load::plan::{self, Attach, Config, Plan};
use crate::load::refusal::{Refusal, Stage};
use crate::load::shared;
use crate::load::tc::{Place, EGRESS, ETH_P_ALL};
use crate::load::tcx::{self, Anchor};
use crate::load::unpinned;
use crate::ui::text::escape;
use clap::ArgMatches;
use serde_json::json;

/// The name of what `up` makes; `load` may not take it.
pub const UP: &str = "up";

/// `load FILE DEV` and `load FILE --no-attach`.
pub fn load(context: &mut Context, args: &ArgMatches) -> Result<Answer, Refusal> {
    let named = objects::open_for_kernel(args)?;
    if args.get_flag("no-attach") {
        return dry_run(context, &named, args);
    }
    let device = args.get_one::<String>("dev").map(String::as_str).unwrap_or_default();
    context.lock()?;
    let facts = context.facts_of_device(device)?;
    let config = config(&named, args, &facts)?;
    let mut plan = plan::load(&named.object, &config, &facts)?;
    objects::finish(&mut plan, args)?;
    let symbols = context.execute(&plan, Some(&named.object))?;
    let mut text = logs_text(&context.logs);
    for attach in &config.attach {
        text.push_str(&format!(
            "{device}: {} {} attached as '{}'\n",
            direction(attach),
            escape(&attach.program),
            config.name
        ));
    }
    let skipped = select::skipped(&named.object, &config.creation.programs);
    text.push_str(&select::skipped_text(&skipped));
    let programs: Vec<_> =
        config.attach.iter().map(|a| json!({"name": a.program, "direction": direction(a)})).collect();
    let json = json!({"schema": "detour.load/1", "dev": device, "name": config.name, "programs": programs,
        "skipped": select::skipped_json(&skipped), "logs": logs_json(&context.logs), "notes": plan.notes});
    let answer = Answer::done(notes(&plan) + &text, json);
    // The process ends now: that closes descriptors without a call for each, and frees memory at once.
    std::mem::forget((symbols, plan, config, facts, named));
    Ok(answer)
}

/// `unload DEV [NAME]`.
pub fn unload(context: &mut Context, args: &ArgMatches) -> Result<Answer, Refusal> {
    let device = args.get_one::<String>("dev").map(String::as_str).unwrap_or_default();
    context.lock()?;
    let facts = context.facts_of_device(device)?;
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
        // The last steps of an interrupted 'unload'.
        (Some(name), []) if facts.has_leftovers() => Ok(name.clone()),
        (Some(name), _) => Err(Refusal::nothing(name, device)),
        (None, [name]) => Ok((*name).to_string()),
        (None, []) if facts.has_leftovers() => Ok(UP.to_string()),
        (None, []) => {
            let hint = "'detour list' shows who has something there";
            Err(Refusal::new(Stage::No, format!("nothing of ours is on {device}"), hint))
        }
        (None, _) => {
            let hint = format!("name one of: {}", names.join(", "));
            Err(Refusal::new(Stage::Usage, format!("{device} has {} instances", names.len()), hint))
        }
    }
}

fn dry_run(context: &mut Context, named: &Named, args: &ArgMatches) -> Result<Answer, Refusal> {
    let machine = crate::load::gather::machine()?;
    let (creation, plan) = dry_run_plan(named, args, &machine)?;
    context.execute(&plan, Some(&named.object))?;
    let skipped = select::skipped(&named.object, &creation.programs);
    let text = creation.programs.iter().map(|name| format!("{}: accepted by this kernel\n", escape(name)));
    let text = text.collect::<String>() + &select::skipped_text(&skipped);
    let json = json!({"schema": "detour.load/1", "programs": creation.programs, "attached": false,
        "skipped": select::skipped_json(&skipped), "logs": logs_json(&context.logs), "notes": plan.notes});
    Ok(Answer::done(notes(&plan) + &logs_text(&context.logs) + &text, json))
}

/// What the verifier said of each program, where that was asked for. The object's own C lines are in it: foreign text.
fn logs_text(logs: &[(String, String)]) -> String {
    let log = |(program, log): &(String, String)| {
        let lines =
            log.lines().map(|line| format!("  {}\n", escape(&line.replace('\t', " ")))).collect::<String>();
        format!("{}: the verifier says\n{lines}", escape(program))
    };
    logs.iter().map(log).collect()
}

fn logs_json(logs: &[(String, String)]) -> Vec<serde_json::Value> {
    logs.iter().map(|(program, log)| json!({"program": program, "log": log})).collect()
}

/// `--log-level`, which the core has not.
fn log_level(args: &ArgMatches) -> u32 {
    args.try_get_one::<u32>("log-level").ok().flatten().copied().unwrap_or(0)
}

/// Every tc program of the object, or those named, loaded and given up again.
pub fn dry_run_plan(
    named: &Named,
    args: &ArgMatches,
    machine: &crate::load::facts::Machine,
) -> Result<(Creation, Plan), Refusal> {
    let programs = select::programs(&named.object, args)?;
    let creation =
        Creation { file: named.file.clone(), programs, log_level: log_level(args), ..Creation::default() };
    let mut plan = plan::dry_run(&named.object, &creation, machine)?;
    objects::finish(&mut plan, args)?;
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
    // The core has no such options.
    let chain = args.try_get_one::<u32>("chain").ok().flatten().copied().unwrap_or(0);
    let protocol = args.try_get_one::<u16>("protocol").ok().flatten().copied().unwrap_or(ETH_P_ALL);
    let mut attach: Vec<Attach> = Vec::new();
    for (program, parent) in select::hooks(&named.object, args)? {
        if anchors::is_tcx(args) {
            attach.push(anchors::attach(program, parent, args, facts, &attach)?);
            continue;
        }
        let mut place = Place { chain, protocol, ..Place::new(facts.device.ifindex, parent, prio, 0) };
        place.handle = given.unwrap_or_else(|| free_handle(facts, &attach, &place));
        if attach.iter().any(|a| a.place == place) {
            let what = "two programs on one hook cannot share a handle";
            return Err(Refusal::new(Stage::Usage, what, "leave --handle out"));
        }
        attach.push(Attach { program, place, anchor: Anchor::default() });
    }
    #[cfg(feature = "audit")]
    crate::cmd::admit::attaching(&attach, args)?;
    let programs = attach.iter().map(|a| a.program.clone()).collect();
    let shared = match args.get_one::<String>("pin-dir") {
        Some(dir) => {
            let recreate = args.get_one::<String>("on-incompatible").is_some_and(|what| what == "recreate");
            shared::gather(&named.object, &absolute(dir), recreate)?
        }
        None => Vec::new(),
    };
    let creation = Creation {
        file: named.file.clone(),
        programs,
        shared,
        log_level: log_level(args),
        ..Creation::default()
    };
    let replace = args.get_flag("replace");
    let unpinned = no_pin(args, replace.then(|| facts.instance(&name)).flatten(), &facts.device.name)?;
    if unpinned {
        unpinned::sound(&named.object, &creation, &attach)?;
    }
    Ok(Config {
        beside: None,
        creation,
        attach,
        name,
        mount: args.get_flag("mount-bpffs"),
        unpinned,
        replace,
    })
}

/// Whether nothing is to be pinned. What is replaced stays as it was made.
fn no_pin(args: &ArgMatches, replaced: Option<&Instance>, device: &str) -> Result<bool, Refusal> {
    match replaced {
        Some(instance) if instance.is_pinned() && args.get_flag("no-pin") => {
            let what =
                format!("'{}' on {device} is loaded with pins, and --no-pin would have none", instance.name);
            let hint = format!("'detour unload {device} {}' first", instance.name);
            Err(Refusal::new(Stage::InTheWay, what, hint))
        }
        Some(instance) => Ok(!instance.is_pinned()),
        None => Ok(args.get_flag("no-pin")),
    }
}

/// The lowest handle that no filter at this hook, chain and priority has.
fn free_handle(facts: &Facts, chosen: &[Attach], wanted: &Place) -> u32 {
    let rank = |place: &Place| (place.parent, place.chain, place.prio);
    let here = |place: &Place| rank(place) == rank(wanted);
    let places = facts.filters.iter().map(|f| f.place).chain(chosen.iter().map(|a| a.place));
    let taken: Vec<u32> = places.filter(here).map(|place| place.handle).collect();
    (1..).find(|handle| !taken.contains(handle)).unwrap_or(u32::MAX)
}

fn direction(attach: &Attach) -> &'static str {
    match attach.place.parent {
        EGRESS | tcx::EGRESS => "egress",
        _ => "ingress",
    }
}

/// The plan's notes, one a line.
pub fn notes(plan: &Plan) -> String {
    plan.notes.iter().map(|note| format!("note: {note}\n")).collect()
}
