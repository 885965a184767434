// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `--no-pin`: steps without their pins, and filters of a device to the instances behind them, which nothing pins.
//!
//! Programs live by their filters, maps by the programs: those that no instruction names are bound to one
//! (`PROG_BIND_MAP`, Linux 5.10). What is found goes from a filter's program to its maps, of which the record is one
//! (`PROG_GET_FD_BY_ID` and `MAP_GET_FD_BY_ID` need CAP_SYS_ADMIN).
use crate::load::create::{loaded, map_symbol, prog_symbol, Creation};
use crate::load::facts::{Bpffs, Facts, Instance};
use crate::load::home::{map_pin, prog_pin, RECORD_PIN};
use crate::load::plan::Attach;
use crate::load::record::{self, Record};
use crate::load::refusal::{Refusal, Stage};
use crate::load::step::{Arg, Bpf, Effect, Step};
use crate::load::tc::{Filter, EGRESS, INGRESS};
use crate::object::{MapSpec, Object};
use detour_sys::{commands, Map, Value};
use nix::errno::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// The name of the record's map.
pub const RECORD_MAP: &str = "detour_record";

/// The steps of a load without those that concern our folder.
pub fn strip(steps: Vec<Step>) -> Vec<Step> {
    let is_pin = |step: &Step| match &step.effect {
        Effect::Bpf(call) => call.command == &commands::OBJ_PIN,
        Effect::Mkdir(_) | Effect::Rmdir(_) | Effect::Unlink(_) => true,
        Effect::Rename { .. } | Effect::Exchange { .. } => true,
        _ => false,
    };
    steps.into_iter().filter(|step| !is_pin(step)).collect()
}

/// Maps that no loaded program's instructions name, such as those in slots of others, live by the first program.
pub fn bind(object: &Object, creation: &Creation) -> Vec<Step> {
    let programs = loaded(object, &creation.programs);
    let used: BTreeSet<usize> = programs.iter().flat_map(|program| program.maps()).collect();
    let Some(first) = programs.first() else { return Vec::new() };
    let step = |map: &MapSpec| {
        let (program, map) = (Arg::Fd(prog_symbol(&first.name)), Arg::Fd(map_symbol(map)));
        Bpf::new(&commands::PROG_BIND_MAP, vec![("prog_fd", program), ("map_fd", map)]).into()
    };
    object.maps.iter().enumerate().filter(|(n, _)| !used.contains(n)).map(|(_, map)| step(map)).collect()
}

/// `BPF_MAP_TYPE_PROG_ARRAY`.
const PROG_ARRAY: u32 = 3;
/// `bpf_timer_init()`.
const TIMER_INIT: i32 = 169;

/// Refuses what does not live by its filters: a tcx link ends with its last descriptor or pin; and when nobody outside the
/// kernel holds a map, a table of programs is emptied and no timer can be made (`bpf_map_put_uref()` in kernel/bpf/syscall.c).
pub fn sound(object: &Object, creation: &Creation, attach: &[Attach]) -> Result<(), Refusal> {
    let refuse = |what: String, hint: &str| Err(Refusal::new(Stage::Usage, what, hint));
    let mount = "with a BPF file system it can be pinned: --mount-bpffs";
    if attach.iter().any(Attach::is_tcx) {
        return refuse(
            "--no-pin --tcx: a tcx link ends with this command unless it is pinned".into(),
            "filters stay: without --tcx",
        );
    }
    if let Some(map) = object.maps.iter().find(|map| map.map_type == PROG_ARRAY) {
        let what =
            format!("--no-pin: the kernel empties {}, a table of programs, when nothing pins it", map.name);
        return refuse(what, mount);
    }
    if let Some(program) =
        loaded(object, &creation.programs).iter().find(|p| p.helpers().contains(&TIMER_INIT))
    {
        let what = format!(
            "--no-pin: {} makes timers, and the kernel has none in maps that nothing pins",
            program.name
        );
        return refuse(what, mount);
    }
    Ok(())
}

/// The instance whose filters are called so: `detour/NAME/PROGRAM`.
pub fn owner(filter: &Filter) -> Option<&str> {
    filter.bpf.as_ref()?.name.as_deref()?.strip_prefix("detour/")?.split('/').next()
}

/// Adds what runs on the device without pins. Only filters that are called as ours are, and are in no record that is
/// pinned here, are looked behind.
pub fn find(facts: &mut Facts) -> Result<(), Refusal> {
    if facts.bpffs == Bpffs::Denied {
        return Ok(());
    }
    let known = |id: u32| {
        facts.instances.iter().flat_map(|i| &i.record).flat_map(|r| &r.programs).any(|p| p.id == id)
    };
    let id = |f: &Filter| Some((f.bpf.as_ref()?.id?, owner(f)?.to_string()));
    let strange: BTreeMap<u32, String> =
        facts.filters.iter().filter_map(id).filter(|(id, _)| !known(*id)).collect();
    let mut found: BTreeMap<u32, Instance> = BTreeMap::new();
    for (program, name) in strange {
        facts
            .reads
            .push(format!("PROG_GET_FD_BY_ID, OBJ_GET_INFO_BY_FD, MAP_GET_FD_BY_ID program {program}"));
        match behind(program) {
            Ok(Some((record, instance))) => {
                let ids =
                    &mut found.entry(record).or_insert(Instance { ids: Vec::new(), ..instance.clone() }).ids;
                ids.extend(instance.ids);
            }
            // Pinned where another bpffs is mounted, or somebody else's.
            Ok(None) => {}
            Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EPERM) => facts.hidden = Some(name),
                // It went away meanwhile.
                Some(Errno::ENOENT) => {}
                _ => {
                    let what = format!("cannot read what program {program} of '{name}' uses: {error}");
                    return Err(Refusal::new(Stage::Kernel, what, ""));
                }
            },
        }
    }
    for mut instance in found.into_values() {
        instance.ids.sort();
        instance.ids.dedup();
        // A name that two maps have names neither.
        let all = instance.ids.clone();
        instance.ids.retain(|(name, _)| all.iter().filter(|(n, _)| n == name).count() == 1);
        instance.pins = instance.ids.iter().map(|(name, _)| name.clone()).collect();
        let is_half = |i: &Instance| i.name == instance.name && !i.is_pinned();
        let half = facts.instances.iter().find(|i| is_half(i));
        let whole = |half| joined(half, &instance, facts).or_else(|| taken_back(half, &instance, facts));
        match half.and_then(whole) {
            Some(whole) => {
                facts.instances.retain(|i| !is_half(i));
                facts.instances.push(whole);
            }
            None => facts.instances.push(instance),
        }
    }
    Ok(())
}

/// Two halves as one instance of no known object, if they work on the same maps: an upgrade was killed between its filters.
/// The next `up` loads both programs again, over these maps.
fn joined(one: &Instance, other: &Instance, facts: &Facts) -> Option<Instance> {
    // Each has data, a record and programs of its own.
    let own = |name: &str| !name.starts_with("map_") || name.starts_with("map__");
    let id = |name: &str| other.ids.iter().find(|(n, _)| n == name).map(|(_, id)| *id);
    let shared = one.ids.iter().filter(|(name, _)| !own(name) && id(name).is_some());
    if shared.clone().count() == 0 || shared.clone().any(|(name, mine)| id(name) != Some(*mine)) {
        return None;
    }
    mixed(one, other, &|name| !one.ids.iter().any(|(n, _)| n == name), facts)
}

/// Two halves as one instance of no known object, if they have no maps in common, or some of many: a replacement with other
/// maps was killed between its filters. Ingress comes last, so the maps are those of what runs there.
fn taken_back(one: &Instance, other: &Instance, facts: &Facts) -> Option<Instance> {
    let only = |half: &Instance, parent: u32| {
        let mut programs = half.record.iter().flat_map(|r| &r.programs).filter(|p| facts.carries(p));
        programs.next().is_some_and(|p| p.parent == parent) && programs.next().is_none()
    };
    let (old, new) = match only(one, INGRESS) {
        true => (one, other),
        false => (other, one),
    };
    (only(old, INGRESS) && only(new, EGRESS)).then_some(())?;
    mixed(old, new, &|name| name.starts_with("prog_"), facts)
}

/// `one`, with those of the other's pins that are wanted, and the programs of both that are in place.
fn mixed(one: &Instance, other: &Instance, wanted: &dyn Fn(&str) -> bool, facts: &Facts) -> Option<Instance> {
    let mut whole = one.clone();
    whole.ids.extend(other.ids.iter().filter(|(name, _)| wanted(name)).cloned());
    whole.pins = whole.ids.iter().map(|(name, _)| name.clone()).collect();
    let record = whole.record.as_mut()?;
    record.programs.extend(other.record.iter().flat_map(|r| r.programs.clone()));
    record.programs.retain(|program| facts.carries(program));
    record.object_sha256 = MIXED;
    Some(whole)
}

/// In the place of an object's digest: programs of two.
const MIXED: [u8; 32] = [0; 32];

/// Whether an instance is of two versions, for a replacement was killed between its filters.
pub fn is_mixed(instance: &Instance) -> bool {
    instance.record.as_ref().is_some_and(|record| record.object_sha256 == MIXED)
}

/// The id of the record behind a program, and the instance as far as this program knows it; None where it has none that
/// says so.
fn behind(program: u32) -> io::Result<Option<(u32, Instance)>> {
    let fd = open(true, program)?;
    let (mut ids, mut said) = (Vec::new(), None);
    for id in detour_sys::info::program_maps(fd.as_fd())? {
        let map = open(false, id)?;
        let name = name(&detour_sys::info(map.as_fd(), MAP_INFO)?);
        if name != RECORD_MAP {
            ids.push((map_pin(&name), id));
            continue;
        }
        let map = Map::from_fd(map)?;
        let bytes = map.lookup(&vec![0; map.key_size()])?.unwrap_or_default();
        ids.push((RECORD_PIN.to_string(), id));
        said = Some((id, Record::parse(&bytes), Record::other_schema(&bytes)));
    }
    let Some((id, Some(record), schema)) = said else { return Ok(None) };
    if record.flags & record::UNPINNED == 0 {
        return Ok(None);
    }
    let own = record.programs.iter().find(|p| p.id == program).map(|p| (prog_pin(&p.name), program));
    ids.extend(own);
    let name = record.name.clone();
    Ok(Some((id, Instance { name, building: false, pins: Vec::new(), record: Some(record), schema, ids })))
}

/// Bytes of `struct bpf_map_info` up to the end of `name`.
const MAP_INFO: usize = 40;

/// The name in `struct bpf_map_info`; a section of data has its dot again, which the kernel's name is without.
fn name(info: &[u8]) -> String {
    let bytes: Vec<u8> = info.iter().skip(24).copied().take_while(|byte| *byte != 0).collect();
    let name = String::from_utf8_lossy(&bytes).into_owned();
    let is_data = ["rodata", "data", "bss"].contains(&name.as_str()) || name.starts_with("rodata.");
    if is_data {
        format!(".{name}")
    } else {
        name
    }
}

/// A program or map by its id.
pub fn open(program: bool, id: u32) -> io::Result<OwnedFd> {
    #[cfg(feature = "operate")]
    if let Some(held) = super::held::open(program, id) {
        return held;
    }
    let (command, field) = match program {
        true => (&commands::PROG_GET_FD_BY_ID, "prog_id"),
        false => (&commands::MAP_GET_FD_BY_ID, "map_id"),
    };
    let answer = detour_sys::call(command, &[(field, Value::Num(id.into()))]);
    answer.map_err(|(error, _)| error)?.fd.ok_or_else(|| io::ErrorKind::InvalidData.into())
}
