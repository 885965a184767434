// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `plan COMMAND`: the steps of another command, printed and not made.
use crate::cmd::objects::{self, Named};
use crate::cmd::texts::{self, Wanted};
use crate::cmd::words::words;
use crate::cmd::{attach, check, maps, up, Answer, Context};
use crate::dnat::running::Running;
use crate::load::compare::{self, Difference};
use crate::load::facts::Facts;
use crate::load::memory;
use crate::load::plan::{self, Plan};
use crate::load::refusal::{Refusal, Stage};
use crate::load::step::Effect;
use crate::load::transcript::{self, Detail};
use crate::load::{facts_json, packets, plan_json, strace_form};
use clap::ArgMatches;
use serde_json::{json, Value};
use std::io::Write;

/// A plan and what it was made of.
#[derive(Debug)]
pub struct Planned {
    /// The steps.
    pub plan: Plan,
    /// What was read of the machine; None for a dry run, which concerns no device.
    pub facts: Option<Facts>,
    /// The object, where there is one.
    pub named: Option<Named>,
    /// The command, as `apply` will plan it again.
    pub words: Vec<String>,
}

impl Planned {
    /// The document that `plan -j` prints and that `apply` compares.
    pub fn document(&self) -> Value {
        let Planned { plan, facts, named, words } = self;
        let mut json = plan_json::plan(plan);
        json["command"] = json!(words);
        json["facts"] = facts.as_ref().map_or(Value::Null, facts_json::write);
        json["object"] = named
            .as_ref()
            .map_or(Value::Null, |n| json!({"file": n.file, "sha256": transcript::hex(&n.object.sha256)}));
        json
    }
}

/// `plan up|down|flush|load|unload|map set|map del …`. 1 where `--against` finds a difference.
pub fn plan(context: &mut Context, args: &ArgMatches) -> Result<Answer, Refusal> {
    let planned = make(context, args)?;
    let (_, args) = innermost(args)?;
    if let Some(path) = args.get_one::<String>("pcap") {
        let pcap = packets::write_netlink(&messages(&planned.plan));
        match path.as_str() {
            "-" if context.json || args.contains_id("against") => {
                let what = "'--pcap -' is in the way of what else standard output is for";
                return Err(Refusal::new(Stage::Usage, what, "'--pcap FILE'"));
            }
            "-" => {
                std::io::stdout().write_all(&pcap).map_err(|e| Refusal::unwritable(path, &e))?;
                return Ok(Answer::done(String::new(), json!({})));
            }
            path => save(path, &pcap)?,
        }
    }
    #[cfg(feature = "audit")]
    if let Some(dir) = args.try_get_one::<String>("insns").ok().flatten() {
        crate::cmd::admit::write_instructions(&planned.plan, dir)?;
    }
    if let Some(path) = args.get_one::<String>("against") {
        let given = EITHER.text(path)?;
        let bad = |_| EITHER.not(path, &texts::kind(&given));
        let (found, text) = against(&planned.plan, &given, false).map_err(bad)?;
        let code = u8::from(!found.is_empty());
        let list = |d: &Difference| json!({"only_in": side(d), "step": d.number, "effect": d.effect});
        let json = json!({"schema": "detour.against/1", "same": found.is_empty(),
            "differences": found.iter().map(list).collect::<Vec<_>>()});
        return Ok(Answer { text, json, code });
    }
    Ok(answer(&planned, args))
}

/// The command below `plan`, and its own arguments.
fn innermost(args: &ArgMatches) -> Result<(Vec<&str>, &ArgMatches), Refusal> {
    let (mut path, mut args) = (Vec::new(), args);
    while let Some((name, inner)) = args.subcommand() {
        path.push(name);
        args = inner;
    }
    match path.is_empty() {
        true => Err(Refusal::new(
            Stage::Usage,
            "plan of what?",
            "plan up, down, flush, load, unload, map set or map del",
        )),
        false => Ok((path, args)),
    }
}

/// The command that `args`, those of `plan`, name: without what only `plan` takes.
pub fn command(args: &ArgMatches) -> Result<Vec<String>, Refusal> {
    let (path, args) = innermost(args)?;
    Ok(words(&crate::ui::cli::command(), &path, args))
}

/// Plans the command that `args`, those of `plan`, name.
pub fn make(context: &mut Context, args: &ArgMatches) -> Result<Planned, Refusal> {
    let (path, args) = innermost(args)?;
    let words = words(&crate::ui::cli::command(), &path, args);
    let command = path.first().copied().unwrap_or_default();
    if command == "load" && args.get_flag("no-attach") {
        let named = objects::open_for_kernel(args)?;
        let (_, plan) = attach::dry_run_plan(&named, args, &crate::load::gather::machine()?)?;
        return Ok(Planned { plan, facts: None, named: Some(named), words });
    }
    if given(args, "facts").is_some() && (command == "flush" || option(args, "flush")) {
        let what = "flows are read from the machine itself";
        return Err(Refusal::new(Stage::Usage, what, "without --facts"));
    }
    let (facts, running) = facts(context, args)?;
    let (plan, named) = match command {
        "up" => {
            let up = up::wanted(args, &check::rules(args)?, &facts, running.as_ref())?;
            #[cfg(feature = "operate")]
            let up = crate::cmd::flush::after_swap(args, &facts, up)?;
            (up.plan, Some(up.named))
        }
        #[cfg(feature = "operate")]
        "flush" => {
            let flush = crate::cmd::flush::planned(args, &facts)?;
            let named = flush.object.clone().map(|object| Named {
                file: "flush.bpf.o".into(),
                object,
                reads: Vec::new(),
            });
            (flush.plan(), named)
        }
        "down" => (up::down_plan(&facts)?, None),
        "load" => {
            let named = objects::open_for_kernel(args)?;
            let config = attach::config(&named, args, &facts)?;
            let mut plan = plan::load(&named.object, &config, &facts)?;
            objects::finish(&mut plan, args)?;
            (plan, Some(named))
        }
        "map" => (maps::change_plan(path.last().copied().unwrap_or_default(), args, &facts)?, None),
        _ => (plan::unload(&attach::unload_name(args, &facts)?, &facts)?, None),
    };
    Ok(Planned { plan, facts: Some(facts), named, words })
}

/// What a plan and a document, of a plan or a transcript, have not in common, and the same as text. With `whole`, steps are
/// compared with all that follows from them, otherwise their effects.
pub fn against(plan: &Plan, document: &str, whole: bool) -> Result<(Vec<Difference>, String), String> {
    let theirs = compare::effects(document, whole)?;
    let now = plan_json::plan(plan);
    let now = now.get("steps").and_then(Value::as_array).cloned().unwrap_or_default();
    let ours: Vec<Value> = if whole { now } else { now.iter().map(compare::bare).collect() };
    let found = compare::differences(&ours, &theirs);
    let line = |d: &Difference| {
        let sign = if d.second { '+' } else { '-' };
        format!("{sign} {:3} {}\n", d.number, d.effect)
    };
    let text = match found.is_empty() {
        true => format!("the same {} effects\n", ours.len()),
        false => {
            "- only in the plan of now, + only in the file\n".to_string()
                + &found.iter().map(line).collect::<String>()
        }
    };
    Ok((found, text))
}

fn side(difference: &Difference) -> &'static str {
    match difference.second {
        true => "file",
        false => "plan",
    }
}

const EITHER: Wanted = Wanted {
    what: "a transcript or a plan",
    hint: "'--transcript FILE' of the command writes one, 'detour plan … -j > FILE' a plan",
};
const FACTS: Wanted = Wanted {
    what: "a file of facts (detour.facts/1)",
    hint: "'detour plan … --save-facts FILE' makes one; a plan has them in its member 'facts'",
};

/// The bytes of every message to rtnetlink; descriptors are 0 in them.
fn messages(plan: &Plan) -> Vec<Vec<u8>> {
    let bytes = |effect: &Effect| match effect {
        Effect::Netlink(message) => message.clone().resolved(&|_| Some(0)).encode(0).ok(),
        _ => None,
    };
    plan.steps.iter().filter_map(|step| bytes(&step.effect)).collect()
}

fn save(path: &str, bytes: &[u8]) -> Result<(), Refusal> {
    std::fs::write(path, bytes).map_err(|e| Refusal::unwritable(path, &e))
}

/// An option that `apply` has not: it always looks at the machine.
fn given<'a>(args: &'a ArgMatches, name: &str) -> Option<&'a String> {
    args.get_one::<String>(name)
}

/// Whether an option is given that not every command has.
fn option(args: &ArgMatches, name: &str) -> bool {
    args.try_get_one::<String>(name).is_ok_and(|value| value.is_some())
}

/// This machine's facts, or those of a file.
fn facts(context: &mut Context, args: &ArgMatches) -> Result<(Facts, Option<Running>), Refusal> {
    let device = args.get_one::<String>("dev").map(String::as_str).unwrap_or_default();
    let (facts, running) = match given(args, "facts") {
        None => {
            context.lock_shared()?;
            // All of them, also where this plan needs fewer: what is printed or saved may serve another one.
            let mut facts = context.facts(device)?;
            let running = up::running(args, &mut facts)?;
            (facts, running)
        }
        Some(none) if none == "none" => (Facts::none(device), None),
        Some(path) => {
            let bad = |why: String| {
                Refusal::new(Stage::Usage, format!("{}: {why}", path.escape_debug()), FACTS.hint)
            };
            let value = FACTS.document(path, &FACTS.text(path)?, facts_json::SCHEMA)?;
            let facts = facts_json::read(&value)
                .ok_or_else(|| bad("a member of these facts is missing, or of another kind".into()))?;
            if facts.device.name != device {
                return Err(bad(format!("these are facts about {}", facts.device.name.escape_debug())));
            }
            let running = match value.get("running") {
                Some(running) => {
                    Some(Running::read(running).ok_or_else(|| bad("its 'running' is none".into()))?)
                }
                None => None,
            };
            (facts, running)
        }
    };
    if let Some(path) = given(args, "save-facts") {
        let mut value = facts_json::write(&facts);
        if let Some(running) = &running {
            value["running"] = running.json();
        }
        save(path, format!("{value:#}\n").as_bytes())?;
    }
    Ok((facts, running))
}

fn answer(planned: &Planned, args: &ArgMatches) -> Answer {
    let Planned { plan, facts, named, .. } = planned;
    let detail = Detail { undo: args.get_flag("undo"), bytes: args.get_flag("bytes") };
    let json = planned.document();
    if args.get_flag("strace") {
        return Answer::done(strace_form::plan(plan), json);
    }
    let mut text = String::new();
    if let Some(named) = named {
        let sha256 = transcript::hex(&named.object.sha256);
        text.push_str(&format!("object  {} sha256 {sha256}\n", named.file.escape_debug()));
    }
    for read in named.iter().flat_map(|n| &n.reads) {
        text.push_str(&format!("read    {}\n", read.escape_debug()));
    }
    if let Some(facts) = facts {
        let device = &facts.device;
        text.push_str(&format!(
            "device  {} index {}, netns {}, Linux {}\n",
            device.name, device.ifindex, facts.netns, facts.machine.release
        ));
        for read in &facts.reads {
            text.push_str(&format!("read    {read}\n"));
        }
        let maps = memory::maps(plan, facts.machine.possible_cpus);
        if !maps.is_empty() {
            text.push_str(&format!("memory  {}\n", memory::text(&maps)));
        }
    }
    text.push_str(&transcript::plan(plan, detail));
    Answer::done(text, json)
}
