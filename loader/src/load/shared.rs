// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Maps pinned by name, and what lies at their paths, to steps that take over, make or replace them.
//!
//! Such a map outlives its instance and is shared with others: nothing of ours removes its pin.
use crate::load::create::entries;
use crate::load::gather::{machine, open_map};
use crate::load::refusal::{Refusal, Stage};
use crate::load::step::{Arg, Bpf, Effect, Step};
use crate::load::types::of_map;
use crate::object::{MapSpec, Object};
use detour_sys::{commands, Map, Value};
use nix::sys::statfs::{statfs, BPF_FS_MAGIC};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;

/// A map that the object wants pinned by name, and what is there already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// Its name in the object.
    pub map: String,
    /// Where it is pinned.
    pub path: String,
    /// The map that is pinned there.
    pub there: Option<Shape>,
    /// How its keys, values or inner maps mean something else than the object's, in words.
    pub differences: Vec<String>,
    /// What of that could not be seen.
    pub unseen: Option<String>,
    /// Whether one of another shape is replaced; otherwise that is refused.
    pub recreate: bool,
}

/// What the kernel says of a map, by the names of BPF_MAP_CREATE; what is not said is 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape(pub Vec<(&'static str, u64)>);

impl Shape {
    /// The number of this name.
    pub fn number(&self, name: &str) -> u64 {
        self.0.iter().find(|(field, _)| *field == name).map_or(0, |(_, number)| *number)
    }
}

/// In `struct bpf_map_info`: offset and width of each field that a map of the same shape must share.
pub(super) const FIELDS: [(&str, usize, usize); 6] = [
    ("map_type", 0, 4),
    ("key_size", 8, 4),
    ("value_size", 12, 4),
    ("max_entries", 16, 4),
    ("map_flags", 20, 4),
    ("map_extra", 80, 8),
];
const INFO: usize = 88;

/// Looks what lies in `dir` under the names of the object's maps that want to be pinned by name.
pub fn gather(object: &Object, dir: &str, recreate: bool) -> Result<Vec<Shared>, Refusal> {
    let refused = |what: &str| {
        let hint = "a folder of a BPF file system that only you can write to: mkdir it in /sys/fs/bpf";
        Refusal::new(Stage::Usage, format!("--pin-dir {}: {what}", dir.escape_debug()), hint)
    };
    let meta = fs::symlink_metadata(dir).map_err(|e| refused(&e.to_string()))?;
    if statfs(dir).map(|fs| fs.filesystem_type()) != Ok(BPF_FS_MAGIC) {
        return Err(refused("is not in a BPF file system"));
    }
    if !meta.is_dir() || meta.uid() != nix::unistd::geteuid().as_raw() || meta.mode() & 0o022 != 0 {
        return Err(refused("others may write to it"));
    }
    let look = |spec: &MapSpec| {
        // bpffs takes no dots.
        let path = format!("{}/{}", dir.trim_end_matches('/'), spec.name.replace('.', "_"));
        let there = match fs::symlink_metadata(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Ok(meta) if !meta.is_file() => {
                return Err(Refusal::new(
                    Stage::InTheWay,
                    format!("{path} is no map"),
                    "choose another --pin-dir",
                ));
            }
            _ => Some(open_map(&path)?),
        };
        let map = spec.name.clone();
        let mut shared = Shared { map, path, there: None, differences: Vec::new(), unseen: None, recreate };
        let Some(there) = there else { return Ok(shared) };
        let unreadable =
            |e: io::Error| Refusal::new(Stage::Kernel, format!("{}: {e}", shared.path), "it is not a map");
        shared.there = Some(shape(there.as_fd()).map_err(unreadable)?);
        match types(object, spec, &there) {
            Ok(differences) => shared.differences = differences,
            Err(e) => shared.unseen = Some(format!("map {}: the pinned one's types: {e}", spec.name)),
        }
        Ok(shared)
    };
    object.maps.iter().filter(|m| m.pinning == 1).map(look).collect()
}

/// How keys, values and the shape of inner maps differ, as far as both sides tell of them. An empty map of maps does not
/// say what it takes.
pub(super) fn types(object: &Object, spec: &MapSpec, there: &Map) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    let theirs = of_map(there.as_fd())?;
    if let (Some(ours), Some(theirs)) = (&object.btf, &theirs) {
        let sides = [("key", spec.key_type_id, theirs.key), ("value", spec.value_type_id, theirs.value)];
        for (path, our, their) in sides.into_iter().filter(|(_, our, their)| *our != 0 && *their != 0) {
            found.extend(ours.difference(our, &theirs.btf, their, path));
        }
    }
    let Some(inner) = &spec.inner else { return Ok(found) };
    let Some(key) = there.next_key(None)? else { return Ok(found) };
    let id = there.lookup(&key)?.and_then(|id| id.try_into().ok()).map(u32::from_ne_bytes);
    let arguments = [("map_id", Value::Num(id.unwrap_or(0).into()))];
    let answer = detour_sys::call(&commands::MAP_GET_FD_BY_ID, &arguments).map_err(|(error, _)| error)?;
    let there = shape(answer.fd.ok_or(io::ErrorKind::InvalidData)?.as_fd())?;
    let machine = machine().map_err(|refusal| io::Error::other(refusal.to_string()))?;
    let ours = [
        ("map_type", inner.map_type.into()),
        ("key_size", inner.key_size.into()),
        ("value_size", inner.value_size.into()),
        ("max_entries", entries(inner, &machine).into()),
        ("map_flags", inner.flags.into()),
        ("map_extra", inner.map_extra),
    ];
    for (name, ours) in ours {
        let theirs = there.number(name);
        if theirs != ours {
            found.push(format!("{name} of its inner maps is {theirs}, not {ours}"));
        }
    }
    Ok(found)
}

/// Asks the kernel.
pub fn shape(map: BorrowedFd<'_>) -> io::Result<Shape> {
    let info = detour_sys::info(map, INFO)?;
    let number = |at: usize, width: usize| {
        let mut wide = [0; 8];
        wide.get_mut(..width)?.copy_from_slice(info.get(at..at.checked_add(width)?)?);
        Some(u64::from_le_bytes(wide))
    };
    Ok(Shape(FIELDS.iter().map(|(name, at, width)| (*name, number(*at, *width).unwrap_or(0))).collect()))
}

/// Takes over, makes or replaces: the steps of `create`, changed where they make a shared map.
pub fn apply(steps: Vec<Step>, shared: &[Shared]) -> Result<Vec<Step>, Refusal> {
    if shared.is_empty() {
        return Ok(steps);
    }
    let mut all = Vec::with_capacity(steps.len());
    for step in steps {
        let made = match &step.effect {
            Effect::Bpf(call) if call.command == &commands::MAP_CREATE => call.gives.as_deref(),
            _ => None,
        };
        let name = made.and_then(|symbol| symbol.strip_prefix('%'));
        match shared.iter().find(|s| Some(s.map.as_str()) == name) {
            Some(shared) => all.extend(one(step, shared)?),
            None => all.push(step),
        }
    }
    Ok(all)
}

fn one(step: Step, shared: &Shared) -> Result<Vec<Step>, Refusal> {
    let symbol = format!("%{}", shared.map);
    let get = |symbol: &str| {
        let args = vec![("pathname", Arg::Text(shared.path.clone()))];
        Step::from(Bpf::new(&commands::OBJ_GET, args).gives(symbol))
    };
    let pin = Step::pin(&symbol, shared.path.clone());
    let Some(there) = &shared.there else { return Ok(vec![step, pin]) };
    let differences = [differences(&step, there), shared.differences.clone()].concat();
    match (differences.is_empty(), shared.recreate) {
        (true, _) => Ok(vec![get(&symbol)]),
        (false, true) => {
            let old = format!("{symbol}@old");
            let back = Step::pin(&old, shared.path.clone()).effect;
            Ok(vec![get(&old), Step::from(Effect::Unlink(shared.path.clone())).undo(back), step, pin])
        }
        (false, false) => {
            let what = format!("{} holds another map: {}", shared.path, differences.join(", "));
            let hint =
                "--on-incompatible=recreate replaces it for new users, and what it holds is lost to them";
            Err(Refusal::new(Stage::InTheWay, what, hint))
        }
    }
}

/// The fields that differ, each with both numbers.
pub(super) fn differences(step: &Step, there: &Shape) -> Vec<String> {
    let Effect::Bpf(call) = &step.effect else { return Vec::new() };
    let differ = there.0.iter().filter(|(name, number)| shown(call, name) != *number);
    differ.map(|(name, number)| format!("{name} is {number}, not {}", shown(call, name))).collect()
}

/// The number that the kernel shows of a map which this call made; 0 for what it was not told.
pub(super) fn shown(call: &Bpf, name: &str) -> u64 {
    let number = |name: &str| match call.arg(name) {
        Some(Arg::Num(n)) => *n,
        _ => 0,
    };
    let added = match (name, number("map_type")) {
        // Programs only read it: dev_map_alloc_check() (kernel/bpf/devmap.c) sets the flag that it does not take.
        ("map_flags", DEVMAP | DEVMAP_HASH) => BPF_F_RDONLY_PROG,
        _ => 0,
    };
    number(name) | added
}

// enum bpf_map_type and map_flags (include/uapi/linux/bpf.h)
const DEVMAP: u64 = 14;
const DEVMAP_HASH: u64 = 25;
const BPF_F_RDONLY_PROG: u64 = 1 << 7;
