// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The pins of what `up` made to what it is doing: configuration, rules in force, local addresses.
use crate::dnat::in_force;
use crate::load::gather::{open_map, read_array};
use crate::load::home::Dir;
use crate::load::kept::{self, Kept};
use crate::load::plan_json::{read_blob, write_blob};
use crate::load::refusal::{Refusal, Stage};
use crate::load::step::Blob;
pub use detour_sys::Element;
use detour_sys::Map;
use serde_json::{json, Value};

/// State of an instance that a new set of rules depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// The frozen `.rodata`.
    pub rodata: Vec<u8>,
    /// Which of `rules_0` and `rules_1` is in force.
    pub active: u32,
    /// Its bytes, `struct rules`.
    pub rules: Vec<u8>,
    /// The highest generation of both tables: a reload that was undone left its own in the idle one.
    pub generation: u32,
    /// Keys and values of `local4` and `local6`, sorted.
    pub locals: Vec<Element>,
    /// The maps that other programs would go on with; asked only where the wanted ones are others, or for `--fresh`.
    pub kept: Vec<Kept>,
    /// The number of the cgroup that `--original-dst` names; asked only where it is given.
    pub cgroup: Option<u64>,
}

impl Running {
    /// Reads it from the pins in `dir`; each read is noted.
    pub fn gather(dir: &Dir, reads: &mut Vec<String>) -> Result<Running, Refusal> {
        let mut pin = |name: &str, call: &str| {
            let path = dir.map(name);
            reads.push(format!("OBJ_GET, {call} {path}"));
            path
        };
        let rodata = read_array(&pin(".rodata", "MAP_LOOKUP_ELEM"))?;
        for name in ["rules", "rules_0", "rules_1"] {
            pin(name, "OBJ_GET_INFO_BY_FD, MAP_LOOKUP_ELEM");
        }
        let (active, rules) = active(dir)?;
        let idle = read_array(&dir.map(&format!("rules_{}", 1_u32.wrapping_sub(active))))?;
        let generation = in_force::generation(&rules).max(in_force::generation(&idle));
        let mut locals = Vec::new();
        for name in ["local4", "local6"] {
            locals.extend(entries(&open_map(&pin(name, "MAP_LOOKUP_BATCH"))?)?);
        }
        locals.sort();
        Ok(Running { rodata, active, rules, generation, locals, kept: Vec::new(), cgroup: None })
    }

    /// For a file of facts.
    pub fn json(&self) -> Value {
        let blob = |bytes: &Vec<u8>| write_blob(&Blob::from(bytes.clone()));
        let locals: Vec<Value> = self.locals.iter().map(|(k, v)| json!([blob(k), blob(v)])).collect();
        let kept: Vec<Value> = self.kept.iter().map(kept::json).collect();
        json!({"rodata": blob(&self.rodata), "active": self.active, "rules": blob(&self.rules),
            "generation": self.generation, "locals": locals, "kept": kept, "cgroup": self.cgroup})
    }

    /// The reverse of [`Running::json`].
    pub fn read(value: &Value) -> Option<Running> {
        let blob = |value: &Value| Some(read_blob(value, &|_| None)?.bytes);
        let pair = |pair: &Value| Some((blob(pair.get(0)?)?, blob(pair.get(1)?)?));
        let rules = blob(value.get("rules")?)?;
        let generation = match value.get("generation") {
            Some(number) => u32::try_from(number.as_u64()?).ok()?,
            None => in_force::generation(&rules),
        };
        Some(Running {
            rodata: blob(value.get("rodata")?)?,
            active: u32::try_from(value.get("active")?.as_u64()?).ok().filter(|n| *n < 2)?,
            rules,
            generation,
            locals: value.get("locals")?.as_array()?.iter().map(pair).collect::<Option<_>>()?,
            kept: value.get("kept")?.as_array()?.iter().map(kept::read).collect::<Option<_>>()?,
            cgroup: value.get("cgroup").and_then(Value::as_u64),
        })
    }
}

/// Which of `rules_0` and `rules_1` is in force, by the id that the outer map shows, and its bytes.
pub fn active(dir: &Dir) -> Result<(u32, Vec<u8>), Refusal> {
    let outer = read_array(&dir.map("rules"))?;
    for n in 0..2 {
        let map = open_map(&dir.map(&format!("rules_{n}")))?;
        if map.id().is_some_and(|id| id.to_ne_bytes() == *outer) {
            let table = map.lookup(&[0; 4]).ok().flatten();
            return table.map(|table| (n, table)).ok_or_else(|| none_in_force(dir));
        }
    }
    Err(none_in_force(dir))
}

fn none_in_force(dir: &Dir) -> Refusal {
    Refusal::new(
        Stage::Kernel,
        format!("{dir}: no table of rules is in force"),
        "'detour down' and 'up' again",
    )
}

/// All elements of a map, sorted by their keys, each once: in batches where its type has them since before Linux 5.10.
pub fn entries(map: &Map) -> Result<Vec<Element>, Refusal> {
    let failed = |e: std::io::Error| Refusal::new(Stage::Kernel, format!("cannot read a map: {e}"), "");
    let Some(batches) = map.batches() else { return one_by_one(map).map_err(failed) };
    let mut found = Vec::new();
    for batch in batches {
        found.extend(batch.map_err(failed)?);
    }
    found.sort_unstable();
    Ok(found)
}

/// By the key after each key. One that is deleted meanwhile makes the kernel start over, so keys are seen once at most and
/// the walk ends when the map could not hold more.
fn one_by_one(map: &Map) -> std::io::Result<Vec<Element>> {
    let mut found = std::collections::BTreeMap::new();
    let mut key = map.next_key(None)?;
    let mut repeated = 0_u32;
    while let Some(current) = key {
        if let Some(value) = map.lookup(&current)? {
            if found.insert(current.clone(), value).is_some() {
                repeated = repeated.saturating_add(1);
            }
        }
        if repeated > REPEATED {
            break;
        }
        key = map.next_key(Some(&current))?;
    }
    Ok(found.into_iter().collect())
}

/// So many keys seen twice are taken as the end of a walk that the kernel began anew again and again.
const REPEATED: u32 = 100_000;
