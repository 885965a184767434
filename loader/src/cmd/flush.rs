// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `flush DEV [MATCH]` and `up … --flush MATCH`: flows that shall end to their end.
use crate::cmd::in_place::Change;
use crate::cmd::selection::{selected, selection};
use crate::cmd::up::{Flushed, Up};
use crate::cmd::{look, Answer, Context};
use crate::dnat::flows::Flow;
use crate::dnat::flush::{self, Ended, Flush};
use crate::dnat::selection::Selection;
use crate::load::facts::Facts;
use crate::load::refusal::Refusal;
use crate::load::symbols::Symbols;
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
        Change::Replaced { .. } => Some("with --fresh all flows begin anew: there are none to end"),
        Change::Rules | Change::Mended | Change::Upgraded => None,
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

/// What became of the flows that `up` was to end, once it is done. Until the swap packets opened flows by the rules before;
/// what of those is chosen ends now. None is left then: writing the pointer to the rules returns when every packet that
/// had read the one before is done (`maybe_wait_bpf_programs()` in kernel/bpf/syscall.c).
pub fn flushed(
    context: &mut Context,
    args: &ArgMatches,
    up: &Up,
    symbols: &Symbols,
    swaps: bool,
) -> Result<Flushed, Refusal> {
    let mut ended = flush::ended(symbols, up.flushed);
    let words = args.try_get_one::<String>("flush").ok().flatten();
    let late = match words {
        Some(words) if swaps && matches!(up.change, Change::Rules | Change::Upgraded) => {
            late(context, args.get_one::<String>("dev").map_or("", String::as_str), words)?
        }
        _ => Late::default(),
    };
    if late.count > 0 {
        ended.ended = ended.ended.saturating_add(late.ended.ended);
        ended.gone = ended.gone.saturating_add(late.ended.gone);
        ended.moving = late.ended.moving;
    }
    let count = up.flushed.saturating_add(late.count);
    if count == 0 {
        return Ok(Flushed::default());
    }
    Ok(Flushed { count, steps: late.steps, text: format!("; {}", text(&ended)), json: json(&ended) })
}

#[derive(Default)]
struct Late {
    count: usize,
    steps: usize,
    ended: Ended,
}

/// Ends what `words` choose of the flows that rules before those of now opened. A flow of no rules at all (generation 0) is
/// one to this machine itself, which rules do not touch.
fn late(context: &mut Context, device: &str, words: &str) -> Result<Late, Refusal> {
    let selection = selected(words)?;
    let facts = context.facts(device)?;
    let look = look::of_up(&facts)?;
    let now = look.rules()?.generation;
    let before = |flow: &Flow| ![0, now].contains(&flow.rules_generation);
    let flows: Vec<Flow> =
        look.flows()?.into_iter().filter(|flow| before(flow) && selection.has_flow(flow)).collect();
    let flush = flush::flush(&flows, look.cfg(), look.dir(), &facts.machine)?;
    let object = flush.object.clone();
    let plan = flush.plan();
    let symbols = context.execute(&plan, object.as_ref()).map_err(|refusal| Refusal {
        hint: format!("the rules are in force; 'detour flush {device}' ends what they left"),
        ..refusal
    })?;
    Ok(Late { count: flows.len(), steps: plan.steps.len(), ended: flush::ended(&symbols, flows.len()) })
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
