// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `status`, `flows`, `asked` and `rules`: what is up, read from its pins.
use crate::cmd::attach::UP;
#[cfg(feature = "operate")]
use crate::cmd::names;
use crate::cmd::selection::{for_asked, selection};
use crate::cmd::{Answer, Context};
use crate::dnat::clock::since_1970;
use crate::dnat::control;
use crate::dnat::look::Look;
use crate::dnat::running::Running;
use crate::load::facts::{Facts, Instance};
use crate::load::gather::{devices_with_state, netns_inode, orphans};
use crate::load::record::Record;
use crate::load::refusal::{Refusal, Stage};
use crate::load::sockopt::GETSOCKOPT;
use crate::load::tc::EGRESS;
use crate::load::tcx;
use crate::load::unpinned::is_mixed;
use crate::ui;
use crate::ui::status::{Dnat, Program, Status};
use crate::ui::text::escape;
use clap::ArgMatches;

/// `status [DEV]`: every instance on the device, or on all of the namespace. 1 where nothing is up, or not as it was made.
pub fn status(context: &mut Context, device: Option<&String>) -> Result<Answer, Refusal> {
    let (all, notes) = all(context, device)?;
    let damaged = all.iter().flat_map(|s| &s.programs).any(|p| !p.in_place);
    let code = u8::from(all.is_empty() || damaged || !notes.is_empty());
    let mut text = match (all.is_empty(), device) {
        (true, Some(device)) => format!("nothing is up on {device}\n"),
        (true, None) => "nothing is up in this network namespace\n".to_string(),
        (false, _) => ui::status::text(&all, &context.paper),
    };
    notes.iter().for_each(|note| text.push_str(&format!("note: {note}\n")));
    let mut json = ui::status::json(&all);
    json["notes"] = notes.into();
    Ok(Answer { text, json, code })
}

/// Every instance on the device, or on all of the namespace, and what is odd about them.
pub fn all(context: &mut Context, device: Option<&String>) -> Result<(Vec<Status>, Vec<String>), Refusal> {
    context.lock_shared()?;
    let devices = match device {
        Some(device) => vec![device.clone()],
        None => devices_with_state(context.socket()?)?,
    };
    let (mut all, mut notes) = (Vec::new(), Vec::new());
    for device in &devices {
        let facts = context.facts(device)?;
        facts.reachable()?;
        for instance in &facts.instances {
            match &instance.record {
                Some(record) if facts.is_alive(instance) => all.push(of(&facts, instance, record)?),
                Some(_) if facts.instance(&instance.name).is_some_and(|i| facts.is_alive(i)) => {
                    notes.push(interrupted(device, &instance.name));
                }
                _ => notes.push(format!(
                    "{device}: '{}' is left over, nothing of it runs; the next 'up' or 'unload {device}' clears it",
                    instance.name
                )),
            }
        }
        notes.extend(facts.instances.iter().filter(|i| is_mixed(i)).map(|i| interrupted(device, &i.name)));
        notes.extend(facts.hidden.iter().map(|name| {
            format!("{device}: '{name}' runs and is pinned nowhere here: looking at it takes CAP_SYS_ADMIN")
        }));
        notes.extend(drift(&facts)?);
    }
    for orphan in orphans(context.socket()?, netns_inode()?)? {
        notes.push(format!("{}: its device is gone; the next 'up' or 'down' here clears it", orphan.dir));
    }
    Ok((all, notes))
}

/// Programs of two versions may run; what mends it.
fn interrupted(device: &str, name: &str) -> String {
    let (again, away) = match name {
        UP => (format!("'detour up {device}' with its rules and options"), format!("'detour down {device}'")),
        _ => {
            let name = escape(name);
            (
                format!("'detour load FILE {device} --name {name} --replace'"),
                format!("'detour unload {device} {name}'"),
            )
        }
    };
    let name = escape(name);
    format!(
        "{device}: a command was interrupted while it replaced '{name}': {again} mends it, {away} takes all of it away"
    )
}

/// Addresses that came or went since the rules were written.
fn drift(facts: &Facts) -> Result<Option<String>, Refusal> {
    let Some(instance) = facts.instance(UP).filter(|i| facts.is_alive(i)) else { return Ok(None) };
    let locals = Running::gather(&instance.dir(&facts.home(UP)), &mut Vec::new())?.locals;
    let changed = control::own_changed(&locals, facts);
    let words = |device: &str| {
        format!("{device}: the addresses of this machine have changed; 'up' again, with the same rules, follows them")
    };
    Ok(changed.then(|| words(&facts.device.name)))
}

fn of(facts: &Facts, instance: &Instance, record: &Record) -> Result<Status, Refusal> {
    let program = |p: &crate::load::record::RecordProgram| Program {
        name: p.name.clone(),
        hook: match p.parent {
            EGRESS => "egress",
            tcx::EGRESS => "tcx egress",
            tcx::INGRESS => "tcx ingress",
            GETSOCKOPT => "getsockopt",
            _ => "ingress",
        },
        prio: p.prio.into(),
        handle: p.handle,
        chain: p.chain,
        protocol: facts.place(p).protocol,
        cgroup: (p.parent == GETSOCKOPT).then(|| {
            let link = facts.sockopts.iter().find(|s| s.program == p.id);
            link.map_or(0, |link| link.cgroup)
        }),
        id: p.id,
        tag: p.tag,
        in_place: facts.carries(p),
    };
    let mut programs: Vec<Program> = record.programs.iter().map(program).collect();
    programs.sort_by_key(|p| (p.cgroup.is_some(), p.hook.ends_with("egress")));
    let dnat = match instance.name == UP {
        true => Some(dnat(&Look::open(instance.dir(&facts.home(UP)), record, device(facts))?)?),
        false => None,
    };
    Ok(Status {
        device: facts.device.name.clone(),
        ifindex: facts.device.ifindex,
        instance: instance.name.clone(),
        object_sha256: record.object_sha256,
        pinned: instance.is_pinned(),
        programs,
        dnat,
    })
}

fn dnat(look: &Look) -> Result<Dnat, Refusal> {
    let (flows, (rows, _)) = (look.flows()?, look.asked()?);
    let fill = look.fill(&flows, rows.len());
    Ok(Dnat { rules: look.rules()?, fill, counters: look.counters()? })
}

/// `flows DEV [MATCH]`.
pub fn flows(context: &mut Context, args: &ArgMatches) -> Result<Answer, Refusal> {
    let selection = selection(args)?;
    #[cfg(feature = "operate")]
    let names = names::read(args)?;
    let (device, look) = open(context, args)?;
    let (mut flows, generation) = (look.flows()?, look.rules()?.generation);
    flows.retain(|flow| selection.has_flow(flow));
    #[cfg(feature = "operate")]
    names::flows(&mut flows, &names);
    let text = match flows.is_empty() && !selection.is_everything() {
        true => "no translation matches\n".to_string(),
        false => ui::flows::text(&flows, generation, &context.paper),
    };
    Ok(Answer::done(text, ui::flows::json(&device, &flows, generation)))
}

/// `rules DEV`.
pub fn rules(context: &mut Context, args: &ArgMatches) -> Result<Answer, Refusal> {
    let (device, look) = open(context, args)?;
    let rules = look.rules()?;
    Ok(Answer::done(ui::rules::text(&rules, &context.paper), ui::rules::json(&device, &rules)))
}

/// `asked DEV [MATCH]`. What found no row of its own is left out of a choice: of it only the client is known.
pub fn asked(context: &mut Context, args: &ArgMatches) -> Result<Answer, Refusal> {
    let selection = for_asked(args)?;
    #[cfg(feature = "operate")]
    let names = names::read(args)?;
    let (device, look) = open(context, args)?;
    let ((mut rows, mut others), generation) = (look.asked()?, look.rules()?.generation);
    rows.retain(|row| selection.has_row(row));
    #[cfg(feature = "operate")]
    names::rows(&mut rows, &names);
    others.retain(|_| selection.is_everything());
    let now = since_1970();
    #[cfg(feature = "operate")]
    return crate::cmd::asked::answer(
        crate::cmd::asked::All { device, rows, others, generation, now },
        args,
        &context.paper,
    );
    #[cfg(not(feature = "operate"))]
    Ok(Answer::done(
        ui::asked::text(&rows, &others, generation, &context.paper),
        ui::asked::json(&device, &rows, &others, generation, now),
    ))
}

/// What `up` made on the device.
pub fn open(context: &mut Context, args: &ArgMatches) -> Result<(String, Look), Refusal> {
    let device = args.get_one::<String>("dev").cloned().unwrap_or_default();
    context.lock_shared()?;
    let facts = context.facts(&device)?;
    let look = of_up(&facts)?;
    Ok((device, look))
}

/// What `up` made on the device of these facts.
pub fn of_up(facts: &Facts) -> Result<Look, Refusal> {
    let name = &facts.device.name;
    facts.reachable()?;
    if facts.hidden.as_deref() == Some(UP) {
        return Err(Refusal::hidden(UP, name));
    }
    let instance = facts.instance(UP).filter(|i| facts.is_alive(i));
    let nothing =
        || Refusal::new(Stage::No, format!("nothing is up on {name}"), format!("'detour up {name}'"));
    let (instance, record) = instance.and_then(|i| Some((i, i.record.as_ref()?))).ok_or_else(nothing)?;
    Look::open(instance.dir(&facts.home(UP)), record, device(facts))
}

/// Its index and its name.
pub(super) fn device(facts: &Facts) -> (u32, String) {
    (facts.device.ifindex, facts.device.name.clone())
}
