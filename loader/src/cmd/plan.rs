// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `plan COMMAND`: the steps of another command, printed and not made.
use crate::cmd::objects::{self, Named};
use crate::cmd::{attach, check, up, Answer, Context};
use crate::dnat::running::Running;
use crate::load::facts::Facts;
use crate::load::plan::{self, Plan};
use crate::load::refusal::{Refusal, Stage};
use crate::load::transcript::{self, Detail};
use crate::load::{facts_json, plan_json};
use clap::ArgMatches;
use serde_json::Value;

/// `plan up|down|load|unload …`.
pub fn plan(context: &mut Context, args: &ArgMatches) -> Result<Answer, Refusal> {
    let Some((command, args)) = args.subcommand() else {
        return Err(Refusal::new(Stage::Usage, "plan of what?", "plan up, down, load or unload"));
    };
    if command == "load" && args.get_flag("no-attach") {
        let named = objects::open_for_kernel(args)?;
        let machine = crate::load::gather::machine()?;
        let (_, plan) = attach::dry_run_plan(&named, args, &machine)?;
        return answer(&plan, None, Some(&named), args);
    }
    let (facts, running) = facts(context, args)?;
    match command {
        "up" => {
            let up = up::wanted(args, &check::rules(args)?, &facts, running.as_ref())?;
            answer(&up.plan, Some(&facts), Some(&up.named), args)
        }
        "down" => answer(&up::down_plan(&facts)?, Some(&facts), None, args),
        "load" => {
            let named = objects::open_for_kernel(args)?;
            let config = attach::config(&named, args, &facts)?;
            answer(&plan::load(&named.object, &config, &facts)?, Some(&facts), Some(&named), args)
        }
        _ => {
            let name = attach::unload_name(args, &facts)?;
            answer(&plan::unload(&name, &facts)?, Some(&facts), None, args)
        }
    }
}

/// This machine's facts, or those of a file.
fn facts(context: &mut Context, args: &ArgMatches) -> Result<(Facts, Option<Running>), Refusal> {
    let device = args.get_one::<String>("dev").map(String::as_str).unwrap_or_default();
    let (facts, running) = match args.get_one::<String>("facts") {
        None => {
            context.lock_shared()?;
            let mut facts = context.facts(device)?;
            let running = up::running(&mut facts)?;
            (facts, running)
        }
        Some(none) if none == "none" => (Facts::none(device), None),
        Some(path) => {
            let bad = |why: String| {
                let hint = "'detour plan … --save-facts FILE' makes one";
                Refusal::new(Stage::Usage, format!("{}: {why}", path.escape_debug()), hint)
            };
            let text = std::fs::read_to_string(path).map_err(|e| bad(e.to_string()))?;
            let value: Value = serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?;
            let facts = facts_json::read(&value).ok_or_else(|| bad("these are no facts".into()))?;
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
    if let Some(path) = args.get_one::<String>("save-facts") {
        let mut value = facts_json::write(&facts);
        if let Some(running) = &running {
            value["running"] = running.json();
        }
        std::fs::write(path, format!("{value:#}\n"))
            .map_err(|e| Refusal::new(Stage::Usage, format!("{}: {e}", path.escape_debug()), ""))?;
    }
    Ok((facts, running))
}

fn answer(
    plan: &Plan,
    facts: Option<&Facts>,
    named: Option<&Named>,
    args: &ArgMatches,
) -> Result<Answer, Refusal> {
    let detail = Detail { undo: args.get_flag("undo"), bytes: args.get_flag("bytes") };
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
    }
    text.push_str(&transcript::plan(plan, detail));
    let mut json = plan_json::plan(plan);
    json["facts"] = facts.map_or(Value::Null, facts_json::write);
    json["object"] = named.map_or(
        Value::Null,
        |n| serde_json::json!({"file": n.file, "sha256": transcript::hex(&n.object.sha256)}),
    );
    Ok(Answer::done(text, json))
}
