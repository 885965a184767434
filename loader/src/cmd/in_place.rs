// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What runs and what is wanted to how one becomes the other: other rules, other programs over the same maps, other programs
//! with empty ones; or a refusal.
use crate::cmd::attach::UP;
use crate::dnat::abi::Cfg;
use crate::dnat::running::Running;
use crate::dnat::wire::Shared;
use crate::dnat::{codes, control};
use crate::load::create::{create, Creation};
use crate::load::facts::{Facts, Instance};
use crate::load::kept::{self, Kept};
use crate::load::plan::{self, Config, Plan};
use crate::load::refusal::{Refusal, Stage};
use crate::load::repair::repair;
use crate::load::sockopt::{Beside, GETSOCKOPT};
use crate::load::step::{Effect, Step};
use crate::load::tc::Place;
use crate::load::unpinned::is_mixed;
use crate::object::Object;
use detour_sys::commands;

/// What a plan of `up` comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// All is made.
    Loaded,
    /// The programs stay.
    Rules,
    /// The programs and the rules stay; what an interrupted command left beside them goes.
    Mended,
    /// Other programs, and the maps stay.
    Upgraded,
    /// Other programs and other maps.
    Replaced {
        /// But for those of what was asked for, which mean the same.
        asked: bool,
    },
}

/// What shall run.
pub struct Wanted<'a> {
    /// With its variables set.
    pub object: &'a Object,
    /// How it would be loaded where nothing runs.
    pub config: Config,
    /// Whether it was said if TCP packets without flow open one.
    pub pickup: bool,
    /// Empty maps, and whatever options; with the steps by which rows that stay keep their meaning.
    pub fresh: Option<Vec<Step>>,
}

/// The maps of what was asked for. Programs only add to them, whatever else they keep.
pub const ASKED: [&str; 3] = ["asked", "asked_clients", "asked_others"];

/// The steps from `running`, a whole instance once it is repaired, to `wanted`; `reload` are those to the wanted rules.
pub fn in_place(
    wanted: Wanted<'_>,
    reload: Plan,
    running: &Running,
    facts: &Facts,
) -> Result<(Change, Plan), Refusal> {
    let Wanted { object, mut config, pickup, fresh } = wanted;
    let repair = repair(UP, facts);
    let instance = repair.facts.instance(UP);
    let Some(instance) = instance else { return Err(Refusal::nothing(UP, &facts.device.name)) };
    same_place(&config, instance, facts)?;
    if config.unpinned && instance.is_pinned() {
        let hint = format!("'detour down {}' first; flows in force end with it", facts.device.name);
        return Err(refuse(facts, "pins, and --no-pin would have none", &hint));
    }
    // Without them it stays as it is.
    config.unpinned = !instance.is_pinned();
    config.replace = true;
    if config.unpinned && config.beside.is_some() {
        return Err(Refusal::unpinned_link());
    }
    let others = instance.record.as_ref().is_none_or(|r| r.object_sha256 != object.sha256);
    let wants = |map: &str| fresh.is_none() || ASKED.contains(&map);
    if others || fresh.is_some() {
        seen(object, &wants, instance, running, facts)?;
    }
    if let Some(between) = fresh {
        let asked = still_asked(object, &config.creation, running, facts);
        config.creation.kept = asked.clone().unwrap_or_default();
        let between = if asked.is_ok() { between } else { Vec::new() };
        // The maps are others, so until both are exchanged answers find the old flows: a kill in between cuts nobody off. Without
        // pins the program at ingress has to be the last one, for most of the old maps live by it.
        if !config.unpinned {
            config.attach.reverse();
        }
        let mut plan = plan::load_with(object, &config, facts, between)?;
        let change = Change::Replaced { asked: asked.is_ok() };
        plan.notes.extend(asked.err());
        return Ok((change, plan));
    }
    same_cgroup(config.beside.as_ref(), running.cgroup, instance, facts)?;
    let interrupted = !repair.steps.is_empty() || is_mixed(instance);
    same_options(object, running, pickup, facts).map_err(|refusal| match interrupted {
        true => refusal.and_hint(&format!(
            "a command was interrupted here, and packets may not go both ways: 'detour up {}' with the options before \
             mends that, and so does --fresh",
            facts.device.name
        )),
        false => refusal,
    })?;
    if !others {
        let only_mended = reload.steps.is_empty() && !repair.steps.is_empty();
        let change = if only_mended { Change::Mended } else { Change::Rules };
        let steps = [repair.steps, reload.steps].concat();
        let notes =
            [repair.notes, reload.notes, grown_old(object, running, pickup, facts).into_iter().collect()]
                .concat();
        return Ok((change, Plan { steps, notes }));
    }
    room_for_locals(&mut config, &running.kept);
    config.creation.kept = running.kept.clone();
    // The maps are open already when the rules change.
    let opens = [&commands::OBJ_GET, &commands::MAP_GET_FD_BY_ID];
    let is_open = |step: &Step| matches!(&step.effect, Effect::Bpf(b) if opens.contains(&b.command));
    let between = reload.steps.into_iter().filter(|step| !is_open(step)).collect();
    let mut plan = plan::load_with(object, &config, facts, between)?;
    plan.notes.extend(kept::notes(object, &config.creation, &instance.pins));
    Ok((Change::Upgraded, plan))
}

/// Refuses facts that do not say how maps look that would be gone on with: they are of a file, saved for another command.
fn seen(
    object: &Object,
    wants: &dyn Fn(&str) -> bool,
    instance: &Instance,
    running: &Running,
    facts: &Facts,
) -> Result<(), Refusal> {
    let known = |map: &str| running.kept.iter().any(|kept| kept.map == map);
    let unknown = kept::candidates(object, wants, &instance.pins).find(|spec| !known(&spec.name));
    let Some(spec) = unknown else { return Ok(()) };
    let what = format!(
        "these facts do not say what {} is on {}: they were saved for another command",
        spec.name, facts.device.name
    );
    Err(Refusal::new(
        Stage::Usage,
        what,
        "'--save-facts FILE' with the options of this command saves what it needs",
    ))
}

/// The maps of what was asked for, which programs with otherwise empty maps go on with; or in a sentence why they begin anew.
fn still_asked(
    object: &Object,
    creation: &Creation,
    running: &Running,
    facts: &Facts,
) -> Result<Vec<Kept>, String> {
    let device = &facts.device.name;
    let anew = |why: String| {
        format!("what was asked for until now goes with the old maps ({why}): 'detour asked {device} -j' shows it before")
    };
    let cfgs = configured(object).zip(cfg(object, &running.rodata));
    let (wanted, is) = cfgs.ok_or_else(|| anew("its configuration cannot be read".into()))?;
    if is.schema != wanted.schema {
        return Err(anew(format!("schema {}, and this is {}", is.schema, wanted.schema)));
    }
    // Times are in these ticks.
    if (is.hz, is.tick_shift) != (wanted.hz, wanted.tick_shift) {
        return Err(anew("other ticks".into()));
    }
    let kept: Vec<Kept> = running.kept.iter().filter(|k| ASKED.contains(&k.map.as_str())).cloned().collect();
    if kept.len() != ASKED.len() {
        return Err(anew("not all of its maps are there".into()));
    }
    let wrong = kept::differing(&create(object, creation, &facts.machine), &kept);
    match wrong.is_empty() {
        true => Ok(kept),
        false => Err(anew(wrong.join("; "))),
    }
}

/// How many addresses there were decided on the sizes of these maps; any size that is enough will do.
fn room_for_locals(config: &mut Config, kept: &[Kept]) {
    let creation = &mut config.creation;
    for (map, size) in creation.sizes.iter_mut().filter(|(map, _)| map.starts_with("local")) {
        let wanted = creation.writes.iter().filter(|w| w.map == *map).count();
        let there = kept.iter().find(|k| k.map == *map).map(|k| k.there.number("max_entries"));
        let entries = there.and_then(|n| u32::try_from(n).ok());
        if let Some(n) = entries.filter(|n| usize::try_from(*n).is_ok_and(|n| n >= wanted)) {
            *size = n;
        }
    }
}

fn refuse(facts: &Facts, what: &str, hint: &str) -> Refusal {
    let device = &facts.device.name;
    Refusal::new(Stage::InTheWay, format!("{device} is up with {what}"), hint)
}

fn same_place(config: &Config, instance: &Instance, facts: &Facts) -> Result<(), Refusal> {
    let record = instance.record.iter().flat_map(|r| &r.programs);
    let places: Vec<Place> = record.map(|p| facts.place(p)).collect();
    match config.attach.iter().any(|a| !places.contains(&a.place)) {
        true => {
            let hint = format!("'detour down {}' first; flows in force end with it", facts.device.name);
            Err(refuse(facts, "another --prio or --handle", &hint))
        }
        false => Ok(()),
    }
}

/// Whether the sockets of the same cgroup, or of none, are answered.
fn same_cgroup(
    wanted: Option<&Beside>,
    cgroup: Option<u64>,
    instance: &Instance,
    facts: &Facts,
) -> Result<(), Refusal> {
    let hint = format!("'detour down {}' first; flows in force end with it", facts.device.name);
    let there = instance.record.iter().flat_map(|r| &r.programs).find(|p| p.parent == GETSOCKOPT);
    let (Some(_), Some(there)) = (wanted, there) else {
        return match wanted.is_some() == there.is_some() {
            true => Ok(()),
            false => Err(refuse(facts, "other options: --original-dst on one side only", &hint)),
        };
    };
    match facts.sockopts.iter().any(|s| s.program == there.id && Some(s.cgroup) == cgroup) {
        true => Ok(()),
        false => Err(refuse(facts, "--original-dst of another cgroup", &hint)),
    }
}

/// Options are frozen into programs, and most of them size maps. Whoever leaves one out may have forgotten it.
fn same_options(object: &Object, running: &Running, pickup: bool, facts: &Facts) -> Result<(), Refusal> {
    let device = &facts.device.name;
    let hint = |asked: &str| {
        format!(
            "the options that it was started with go on; 'detour up {device} --fresh' with these replaces programs and \
             maps without a gap: flows in force end with it, {asked}"
        )
    };
    let anew = format!("and what was asked for goes ('detour asked {device} -j' shows it before)");
    let (Some(wanted), Some(is)) = (configured(object), cfg(object, &running.rodata)) else {
        return Err(refuse(facts, "a configuration that cannot be read", &hint(&anew)));
    };
    if is.schema != wanted.schema {
        let what = format!("state of schema {}, and this is {}", is.schema, wanted.schema);
        return Err(refuse(facts, &what, &hint(&anew)));
    }
    let others = differences(&wanted, &is, pickup);
    let stays = is.asked_rows == wanted.asked_rows;
    let hint = hint(if stays { "what was asked for stays" } else { &anew });
    match others.is_empty() {
        true => Ok(()),
        false => Err(refuse(facts, &format!("other options: {}", others.join(", ")), &hint)),
    }
}

/// Where what runs was started on a machine of other addresses or forwarding, which some of its flags follow from.
fn grown_old(object: &Object, running: &Running, pickup: bool, facts: &Facts) -> Option<String> {
    let (wanted, is) = (configured(object)?, cfg(object, &running.rodata)?);
    let older = (wanted.flags ^ is.flags) & of_the_machine(pickup) != 0;
    let device = &facts.device.name;
    let what = || {
        format!(
            "addresses of other devices or forwarding were others when it was started, and it takes mid-stream packets \
             and SYN-ACKs as it did then: 'detour up {device} --fresh' with the same options follows; flows in force end with it"
        )
    };
    older.then(what)
}

/// The flags that follow from the machine, unless they were asked for. What runs keeps those that it was started with.
pub fn of_the_machine(pickup: bool) -> u32 {
    let tracked = codes::CFG_SYN_TRACKED4 | codes::CFG_SYN_TRACKED6;
    tracked | if pickup { 0 } else { codes::CFG_PICKUP4 | codes::CFG_PICKUP6 }
}

/// The configuration that an object would be loaded with.
pub fn configured(object: &Object) -> Option<Cfg> {
    let rodata = object.maps.iter().find(|m| m.name == ".rodata")?;
    cfg(object, rodata.contents.as_deref()?)
}

/// The configuration inside `.rodata`.
pub fn cfg(object: &Object, rodata: &[u8]) -> Option<Cfg> {
    let variable = object.variables.iter().find(|v| v.name == "cfg")?;
    Cfg::read(rodata.get(usize::try_from(variable.offset).ok()?..)?)
}

/// What of the configuration is other than wanted, each with both values.
fn differences(wanted: &Cfg, is: &Cfg, pickup: bool) -> Vec<String> {
    let flags = |cfg: &Cfg| Cfg { flags: cfg.flags & !of_the_machine(pickup), ..*cfg };
    let (wanted, is) = (flags(wanted), flags(is));
    let (wanted_flags, is_flags) = (wanted.flags, is.flags);
    let (wanted, is) = (control::settings(&wanted), control::settings(&is));
    let pairs = wanted.iter().zip(&is).filter(|(wanted, is)| wanted != is);
    pairs
        .map(|(wanted, is)| {
            let value = |text: &str| text.split_once('=').map_or(text, |(_, value)| value).to_string();
            let name = wanted.split_once('=').map_or("", |(name, _)| name.trim_start_matches("cfg."));
            format!("{name} is {}, not {}", value(is), value(wanted))
        })
        .chain(switched(wanted_flags ^ is_flags).map(|option| format!("{option} on one side only")))
        .collect()
}

/// The options behind these flags.
fn switched(flags: u32) -> impl Iterator<Item = &'static str> {
    let full = codes::CFG_FULL_DROP | codes::CFG_FULL_REJECT | codes::CFG_FULL_PASS;
    let options = [
        (codes::CFG_SEALED, "--sealed"),
        (full, "--when-full"),
        (codes::CFG_MONITOR, "--monitor"),
        (codes::CFG_VLAN, "--vlan any"),
        (codes::CFG_PICKUP4 | codes::CFG_PICKUP6, "--pickup"),
    ];
    options.into_iter().filter(move |(bits, _)| flags & bits != 0).map(|(_, option)| option)
}
