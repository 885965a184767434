// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The maps of a running instance, and another object's idea of them, to steps by which its programs go on with the same maps.
//!
//! Maps that the object fills are not among them: those belong to its programs alone.
use crate::load::create::Creation;
use crate::load::gather::open_map;
use crate::load::home::{map_pin, Dir};
use crate::load::refusal::{Refusal, Stage};
use crate::load::shared::{differences, shape, types, Shape, FIELDS};
use crate::load::step::{Arg, Effect, Step};
use crate::object::{MapSpec, Object};
use detour_sys::commands;
use serde_json::{json, Value};
use std::io;
use std::os::fd::AsFd;

/// A map that is there, and that other programs shall use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its name in the object.
    pub map: String,
    /// Where it is pinned.
    pub path: String,
    /// What the kernel says of it.
    pub there: Shape,
    /// How its keys, values or inner maps mean something else than the object's, in words.
    pub differences: Vec<String>,
    /// Why its types could not be seen.
    pub unseen: Option<String>,
}

/// The maps of `object` that `wanted` chooses and that are among `pins`; those that it fills are its own.
pub fn candidates<'a>(
    object: &'a Object,
    wanted: &'a dyn Fn(&str) -> bool,
    pins: &'a [String],
) -> impl Iterator<Item = &'a MapSpec> {
    let is_there = |spec: &&MapSpec| {
        !spec.name.starts_with('.') && wanted(&spec.name) && pins.contains(&map_pin(&spec.name))
    };
    object.maps.iter().filter(is_there)
}

/// Looks at the maps of `object` that `wanted` chooses and that are among `pins` in `dir`; each read is noted. Where they were
/// made from this very object (`own`) their types are the same.
pub fn gather(
    object: &Object,
    wanted: &dyn Fn(&str) -> bool,
    own: bool,
    (dir, pins): (&Dir, &[String]),
    reads: &mut Vec<String>,
) -> Result<Vec<Kept>, Refusal> {
    let mut look = |spec: &MapSpec| {
        let path = dir.map(&spec.name);
        let more = if own { "" } else { ", BTF_GET_FD_BY_ID" };
        reads.push(format!("OBJ_GET, OBJ_GET_INFO_BY_FD{more} {path}"));
        let map = open_map(&path)?;
        let unreadable = |e: io::Error| Refusal::new(Stage::Kernel, format!("{path}: {e}"), "");
        let there = shape(map.as_fd()).map_err(unreadable)?;
        let compared = if own { Ok(Vec::new()) } else { types(object, spec, &map) };
        let (differences, unseen) = match compared {
            Ok(differences) => (differences, None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        Ok(Kept { map: spec.name.clone(), path, there, differences, unseen })
    };
    candidates(object, wanted, pins).map(&mut look).collect()
}

/// How maps that are there are other than those that `steps` make, each with its name.
pub fn differing(steps: &[Step], kept: &[Kept]) -> Vec<String> {
    let mut found = Vec::new();
    for kept in kept {
        let made = |step: &&Step| match &step.effect {
            Effect::Bpf(call) if call.command == &commands::MAP_CREATE => {
                call.gives.as_deref().and_then(|symbol| symbol.strip_prefix('%')) == Some(kept.map.as_str())
            }
            _ => false,
        };
        let shapes = steps.iter().filter(made).flat_map(|step| differences(step, &kept.there));
        found.extend(shapes.chain(kept.differences.iter().cloned()).map(|w| format!("{}: {w}", kept.map)));
    }
    found
}

/// The steps of `create`, changed where they would make or fill a map that is kept.
pub fn apply(steps: Vec<Step>, kept: &[Kept]) -> Result<Vec<Step>, Refusal> {
    let wrong = differing(&steps, kept);
    let mut all = Vec::with_capacity(steps.len());
    let of = |symbol: Option<&str>| {
        let name = symbol.and_then(|symbol| symbol.strip_prefix('%'));
        kept.iter().find(|kept| Some(kept.map.as_str()) == name)
    };
    for step in steps {
        let Effect::Bpf(call) = &step.effect else {
            all.push(step);
            continue;
        };
        if call.command == &commands::MAP_CREATE {
            if let Some(kept) = of(call.gives.as_deref()) {
                all.push(Step::get(kept.path.clone(), &format!("%{}", kept.map)));
                continue;
            }
        }
        let filled = match call.arg("map_fd") {
            Some(Arg::Fd(symbol)) => of(Some(symbol)),
            _ => None,
        };
        if filled.is_none() {
            all.push(step);
        }
    }
    match wrong.is_empty() {
        true => Ok(all),
        false => {
            let what =
                format!("the maps that are there are not what these programs use: {}", wrong.join("; "));
            let hint = "'detour up --fresh' puts them in the place of those that run, with empty maps: flows in force end with it";
            Err(Refusal::new(Stage::InTheWay, what, hint))
        }
    }
}

/// What a reader should know of maps that are kept, and of those that are not.
pub fn notes(object: &Object, creation: &Creation, pins: &[String]) -> Vec<String> {
    let (kept, mut notes) = (&creation.kept, Vec::new());
    let made = |m: &&MapSpec| !m.name.starts_with('.') && !kept.iter().any(|k| k.map == m.name);
    notes.extend(object.maps.iter().filter(made).map(|m| format!("map {} is new and empty", m.name)));
    let gone =
        |pin: &&String| pin.starts_with("map_") && !object.maps.iter().any(|m| map_pin(&m.name) == **pin);
    notes.extend(pins.iter().filter(gone).map(|pin| format!("{pin} goes: these programs do not use it")));
    if let Some(why) = kept.iter().find_map(|k| k.unseen.as_ref()) {
        notes.push(format!("only sizes were compared, not the types of maps (CAP_SYS_ADMIN): {why}"));
    }
    notes
}

/// For a file of facts.
pub fn json(kept: &Kept) -> Value {
    let there: Vec<Value> = kept.there.0.iter().map(|(name, number)| json!([name, number])).collect();
    json!({"map": kept.map, "path": kept.path, "there": there, "differences": kept.differences,
        "unseen": kept.unseen})
}

/// The reverse of [`json`].
pub fn read(value: &Value) -> Option<Kept> {
    let text = |value: &Value| value.as_str().map(str::to_string);
    let field = |pair: &Value| {
        let name = pair.get(0)?.as_str()?;
        let (name, ..) = *FIELDS.iter().find(|(field, ..)| *field == name)?;
        Some((name, pair.get(1)?.as_u64()?))
    };
    Some(Kept {
        map: text(value.get("map")?)?,
        path: text(value.get("path")?)?,
        there: Shape(value.get("there")?.as_array()?.iter().map(field).collect::<Option<_>>()?),
        differences: value.get("differences")?.as_array()?.iter().map(text).collect::<Option<_>>()?,
        unseen: text(value.get("unseen")?),
    })
}
