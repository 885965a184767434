// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `--tcx` and its `--before`, `--after`, `--first`, `--last`, `--revision` to a place in the order of a tcx hook.
use crate::load::facts::Facts;
use crate::load::plan::Attach;
use crate::load::refusal::{Refusal, Stage};
use crate::load::tc::{Place, EGRESS};
use crate::load::tcx::{self, Anchor};
use crate::ui::text::escape;
use clap::ArgMatches;

/// Whether a tcx link is asked for. The core has no such option.
pub fn is_tcx(args: &ArgMatches) -> bool {
    matches!(args.try_get_one::<bool>("tcx"), Ok(Some(true)))
}

/// The program at the hook that a filter with this parent would have, after those already `chosen`.
pub fn attach(
    program: String,
    parent: u32,
    args: &ArgMatches,
    facts: &Facts,
    chosen: &[Attach],
) -> Result<Attach, Refusal> {
    let hook = if parent == EGRESS { tcx::EGRESS } else { tcx::INGRESS };
    let named =
        |option: &str| args.get_one::<String>(option).map(|name| relative(name, hook, facts)).transpose();
    let (before, after) = (named("before")?, named("after")?);
    // Each of ours that goes before this one makes the hook's revision one higher.
    let earlier = chosen.iter().filter(|a| a.place.parent == hook).count() as u64;
    let revision = args.get_one::<u64>("revision").map(|revision| revision.saturating_add(earlier));
    let first = args.get_flag("first");
    let anchor = Anchor { relative: before.or(after), before: before.is_some() || first, revision };
    let place = Place::new(facts.device.ifindex, hook, 0, 0);
    Ok(Attach { program, place, anchor })
}

/// A program's id: given as such, or that of one of our instances at the hook.
fn relative(name: &str, hook: u32, facts: &Facts) -> Result<u32, Refusal> {
    if let Ok(id) = name.parse::<u32>() {
        return Ok(id);
    }
    let programs = facts.instance(name).and_then(|i| i.record.as_ref()).map(|r| &r.programs);
    let found = programs.into_iter().flatten().find(|p| p.parent == hook && facts.carries(p));
    found.map(|p| p.id).ok_or_else(|| {
        let what = format!("'{}' is no instance with a tcx program at this hook", escape(name));
        Refusal::new(Stage::Usage, what, "'detour list' shows the ids and instances that are there")
    })
}
