// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `apply PLAN`: a reviewed plan to its execution, if this machine and the same command still give exactly that plan.
//!
//! A plan carries no instructions to execute. Its command is planned again here, from the object and fresh facts, under the
//! lock; what is done is the new plan, and only if its document equals the file's, member by member.
use crate::cmd::plan::{self, against};
use crate::cmd::texts::Wanted;
use crate::cmd::{Answer, Context};
use crate::load::refusal::{Refusal, Stage};
use crate::load::transcript::hex;
use crate::load::{compare, plan_json};
use clap::ArgMatches;
use serde_json::{json, Value};

/// `apply PLAN`.
pub fn apply(context: &mut Context, args: &ArgMatches) -> Result<Answer, Refusal> {
    let path = args.get_one::<String>("plan").map(String::as_str).unwrap_or_default();
    let bad = |why: &str| {
        let what = format!("{}: {why}", path.escape_debug());
        Refusal::new(Stage::Usage, what, PLAN.hint)
    };
    let text = PLAN.text(path)?;
    let document = PLAN.document(path, &text, plan_json::SCHEMA)?;
    let words = document.get("command").and_then(Value::as_array).ok_or_else(|| bad("names no command"))?;
    let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
    let line = ["detour", "plan"].iter().chain(&words);
    let matches = crate::ui::cli::command().try_get_matches_from(line).map_err(|e| {
        let text = e.to_string();
        bad(&format!("its command cannot be: {}", text.lines().next().unwrap_or_default()))
    })?;
    let inner = matches.subcommand_matches("plan").ok_or_else(|| bad("names no command"))?;
    if plan::command(inner)? != words {
        return Err(bad("its command is not written as 'plan' writes it"));
    }
    // Nobody else changes anything between this look at the machine and the last step.
    context.lock()?;
    let planned = plan::make(context, inner)?;
    let sha256 = planned.named.as_ref().map(|n| hex(&n.object.sha256));
    let reviewed = document.pointer("/object/sha256").and_then(Value::as_str).map(str::to_string);
    if sha256 != reviewed {
        let (is, was) = (sha256.unwrap_or_default(), reviewed.unwrap_or_default());
        return Err(Refusal::new(Stage::No, format!("the object is {is}, the plan was of {was}"), REVIEW));
    }
    let differs = |(place, now, was): (&str, Option<&Value>, Option<&Value>)| {
        let what =
            format!("the plan of now differs from {} at {}", path.escape_debug(), place.escape_debug());
        let side = |value: Option<&Value>| value.map_or("nothing".into(), Value::to_string);
        let details = format!("- in the plan of now: {}\n+ in the file: {}\n", side(now), side(was));
        Err(Refusal { details, ..Refusal::new(Stage::No, what, REVIEW) })
    };
    // Elsewhere every step is another one: where is enough.
    let now = planned.document();
    for place in ["/facts/netns", "/facts/device/ifindex"] {
        let (now, was) = (now.pointer(place), document.pointer(place));
        if now != was {
            return differs((place, now, was));
        }
    }
    let (differences, text) = against(&planned.plan, &text, true).map_err(|why| bad(&why))?;
    if !differences.is_empty() {
        let what =
            format!("the plan of now differs from {} in {} steps", path.escape_debug(), differences.len());
        return Err(Refusal { details: text, ..Refusal::new(Stage::No, what, REVIEW) });
    }
    // Also what nothing was made of, such as an address that no rule asks about: it was read when this was reviewed.
    if let Some((place, now, was)) = compare::first(&now, &document) {
        return differs((&place, now, was));
    }
    context.execute(&planned.plan, planned.named.as_ref().map(|n| &n.object))?;
    let steps = planned.plan.steps.len();
    let text = format!("applied: {} ({steps} steps, as reviewed)\n", words.join(" ").escape_debug());
    Ok(Answer::done(text, json!({"schema": "detour.apply/1", "command": words, "steps": steps})))
}

const REVIEW: &str =
    "the machine, the rules, the object or the file changed since: plan again and review that";
const PLAN: Wanted = Wanted { what: "a plan (detour.plan/1)", hint: "'detour plan … -j > FILE' makes one" };
