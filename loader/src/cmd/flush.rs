// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `flush DEV [MATCH]` and `up … --flush MATCH`: flows that shall end to their end.
use crate::cmd::in_place::Change;
use crate::cmd::selection::{selected, selection};
use crate::cmd::up::Up;
use crate::cmd::{look, Answer, Context};
use crate::dnat::flows::Flow;
use crate::dnat::flush::{self, Ended, Flush};
use crate::dnat::selection::Selection;
use crate::load::facts::Facts;
use crate::load::refusal::Refusal;
use clap::ArgMatches;
use serde_json::{json, Value};

/// `flush DEV [MATCH]`.
pub fn flush(context: &mut Context, args: &ArgMatches) -> Result<Answer, Refusal> {
    let device = args.get_one::<String>("dev").map(String::as_str).unwrap_or_default();
    let selection = selection(args)?;
    context.lock()?;
    let facts = context.facts(device)?;
    let flush = chosen(&selection, &facts)?;
    let (count, object) = (flush.ends.len(), flush.object.clone());
    let plan = flush.plan();
    let symbols = context.execute(&plan, object.as_ref())?;
    let ended = flush::ended(&symbols, count);
    let steps = plan.steps.len();
    let json = json!({"schema": "detour.flush/1", "dev": device, "flows": json(&ended), "steps": steps});
    Ok(Answer::done(format!("{device}: {} ({steps} steps)\n", text(&ended)), json))
}

/// The steps for what MATCH chooses of the flows that are there now.
pub fn planned(args: &ArgMatches, facts: &Facts) -> Result<Flush, Refusal> {
    chosen(&selection(args)?, facts)
}

/// The steps of `up` and around them those of its `--flush`: nothing ends before the other rules are in force.
pub fn after_swap(args: &ArgMatches, facts: &Facts, mut up: Up) -> Result<Up, Refusal> {
    // `run` has no such option.
    let Ok(Some(words)) = args.try_get_one::<String>("flush") else { return Ok(up) };
    let selection = selected(words)?;
    let note = match up.change {
        Change::Loaded => Some("nothing was up, so there are no flows to end"),
        Change::Replaced => Some("with empty maps there are no flows to end"),
        Change::Rules | Change::Upgraded => None,
    };
    if let Some(note) = note {
        up.plan.notes.push(note.to_string());
        return Ok(up);
    }
    let Flush { before, ends, .. } = chosen(&selection, facts)?;
    up.flushed = ends.len();
    let swap = std::mem::take(&mut up.plan.steps);
    up.plan.steps = [before, swap, ends].concat();
    Ok(up)
}

fn chosen(selection: &Selection, facts: &Facts) -> Result<Flush, Refusal> {
    let look = look::of_up(facts)?;
    let flows: Vec<Flow> = look.flows()?.into_iter().filter(|flow| selection.has_flow(flow)).collect();
    flush::flush(&flows, look.cfg(), look.dir(), &facts.machine)
}

/// In words.
pub fn text(ended: &Ended) -> String {
    let flows = |n: usize| if n == 1 { "1 flow".to_string() } else { format!("{n} flows") };
    let mut text = match ended.ended {
        0 => "no flow ended".to_string(),
        n => format!("{} ended", flows(n)),
    };
    if ended.gone > 0 {
        text.push_str(&format!(", {} had ended before", flows(ended.gone)));
    }
    if ended.moving > 0 {
        text.push_str(&format!(", {} just being confirmed: flush again", flows(ended.moving)));
    }
    text
}

/// For programs.
pub fn json(ended: &Ended) -> Value {
    json!({"ended": ended.ended, "gone": ended.gone, "moving": ended.moving})
}
