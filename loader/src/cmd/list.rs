// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `list DEV`: every filter and tcx program on a device, ours and foreign, in the order in which they run.
use crate::cmd::{Answer, Context};
use crate::load::facts::Facts;
use crate::load::gather::ask_tcx;
use crate::load::programs::program;
use crate::load::refusal::{Refusal, Stage};
use crate::load::sockopt;
use crate::load::tc::{self, Filter};
use crate::load::tcx;
use crate::ui::list::{self, Row};
use clap::ArgMatches;

/// Needs no privilege for filters; what it may not see it says.
pub fn list(context: &mut Context, args: &ArgMatches) -> Result<Answer, Refusal> {
    let device = args.get_one::<String>("dev").map(String::as_str).unwrap_or_default();
    let mut facts = context.facts_of_device(device)?;
    let mut unseen = Vec::new();
    if facts.reachable().is_err() {
        unseen.push(
            "which are ours is not known: our folder in the BPF file system may not be read".to_owned(),
        );
    }
    match ask_tcx(&mut facts) {
        Ok(()) => {}
        Err(refusal) if refusal.stage == Stage::Permission => {
            facts.tcx.clear();
            unseen.push("tcx programs are not shown: that needs CAP_NET_ADMIN".to_owned());
        }
        Err(refusal) => return Err(refusal),
    }
    let mut rows = rows(&facts);
    if facts.reachable().is_ok() {
        rows.iter_mut().for_each(|row| row.foreign = Some(row.owner.is_none()));
    }
    let asked: Vec<bool> = rows.iter_mut().map(complete).collect();
    if asked.contains(&false) {
        unseen.push("names and counts of programs are not shown: they need CAP_SYS_ADMIN".to_owned());
    }
    let hook = |attach| if attach == tcx::EGRESS { "egress" } else { "ingress" };
    let revisions: Vec<(&str, u64)> = facts.tcx.iter().map(|h| (hook(h.attach), h.revision)).collect();
    let text = list::text(&rows, &revisions, &unseen, &context.paper);
    Ok(Answer::done(text, list::json(&facts.device.name, &rows, &revisions, &unseen)))
}

/// Hook by hook: tcx first, then the filters as the kernel dumps them, which is the order in which they run.
fn rows(facts: &Facts) -> Vec<Row> {
    let mut rows = Vec::new();
    for (hook, attach, parent) in
        [("ingress", tcx::INGRESS, tc::INGRESS), ("egress", tcx::EGRESS, tc::EGRESS)]
    {
        for here in facts.tcx.iter().filter(|h| h.attach == attach) {
            rows.extend(here.programs.iter().map(|p| tcx_row(facts, hook, attach, p)));
        }
        rows.extend(
            facts.filters.iter().filter(|f| f.place.parent == parent).map(|f| filter_row(facts, hook, f)),
        );
    }
    rows.extend(facts.sockopts.iter().map(|s| sockopt_row(facts, s)));
    rows
}

/// Not at the device: ours alone are known, by their pins.
fn sockopt_row(facts: &Facts, attached: &sockopt::Attached) -> Row {
    let ours = |i: &&crate::load::facts::Instance| {
        i.record.iter().flat_map(|r| &r.programs).any(|p| p.id == attached.program)
    };
    Row {
        hook: "getsockopt",
        kind: "cgroup".to_owned(),
        link: Some(attached.link),
        id: Some(attached.program),
        owner: facts.instances.iter().find(ours).map(|i| i.name.clone()),
        ..Row::default()
    }
}

fn tcx_row(facts: &Facts, hook: &'static str, attach: u32, attached: &tcx::Attached) -> Row {
    let ours = |i: &&crate::load::facts::Instance| {
        let mut programs = i.record.iter().flat_map(|r| &r.programs);
        programs.any(|p| p.parent == attach && p.id == attached.program)
    };
    Row {
        hook,
        kind: "tcx".to_owned(),
        link: Some(attached.link),
        id: Some(attached.program),
        owner: facts.instances.iter().find(ours).map(|i| i.name.clone()),
        ..Row::default()
    }
}

fn filter_row(facts: &Facts, hook: &'static str, filter: &Filter) -> Row {
    let bpf = filter.bpf.as_ref().filter(|_| filter.kind == "bpf");
    Row {
        hook,
        kind: filter.kind.clone(),
        place: Some(filter.place),
        direct_action: bpf.map(|b| b.direct_action),
        id: bpf.and_then(|b| b.id),
        tag: bpf.and_then(|b| b.tag),
        filter: bpf.and_then(|b| b.name.clone()),
        owner: facts.instances.iter().find(|i| facts.holds(i, filter)).map(|i| i.name.clone()),
        ..Row::default()
    }
}

/// Adds what only the program itself says; false where it may not be asked.
fn complete(row: &mut Row) -> bool {
    let Some(id) = row.id else { return true };
    match program(id) {
        Ok(info) => {
            row.tag = Some(info.tag);
            row.program = Some(info.name).filter(|name| !name.is_empty());
            row.runs = Some((info.runs, info.nanoseconds)).filter(|(runs, _)| *runs > 0);
            true
        }
        // It went away meanwhile.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(_) => false,
    }
}
