// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Map definitions of the old forms, structs of numbers in sections `maps` and `maps/…`, to map shapes.
//!
//! There are two: libbpf's `struct bpf_map_def` {type, key_size, value_size, max_entries, map_flags} and iproute2's `struct
//! bpf_elf_map` {…, id, pinning, inner_id, inner_idx}, which aya and old iproute2 end after `pinning`. Their sizes tell them
//! apart, except from the one in the kernel's samples {…, inner_map_idx, numa_node}; other sizes are refused.

use std::collections::BTreeMap;

use super::btf::Btf;
use super::btf_type::Kind;
use super::elf::{Elf, Place, Section, Symbol, SymbolKind};
use super::error::ObjectError;
use super::functions::Functions;
use super::maps::{self, Definition, ARRAY_OF_MAPS, HASH_OF_MAPS, PROG_ARRAY};
use super::words::words;
use super::{MapSpec, Slot};

/// What only iproute2's form says of a map.
#[derive(Clone, Copy, Default)]
struct Ids {
    /// The number by which sections and other maps name it; 0 for none.
    id: u32,
    /// Of a map of maps: the number of its template.
    inner_id: u32,
    /// The slot of that map of maps which this map is put into; -1 for none.
    inner_idx: u32,
}

/// All definitions in file order, and after them the slots that iproute2's numbers speak of: functions in sections called
/// `ID/INDEX` belong into the program array ID. Those functions' indexes are returned.
pub fn definitions(
    elf: &Elf<'_>,
    btf: Option<&Btf>,
    functions: &Functions<'_>,
    warnings: &mut Vec<String>,
) -> Result<(Vec<Definition>, Vec<usize>), ObjectError> {
    let mut found: Vec<(Definition, Ids)> = Vec::new();
    for (index, section) in elf.sections.iter().enumerate().filter(|(_, s)| maps::is_old(s)) {
        if !section.relocations.is_empty() {
            let (section, what) =
                (section.name.to_owned(), "holds addresses, and old map definitions have none");
            return Err(ObjectError::Section { section, what });
        }
        let here = |s: &&Symbol<'_>| s.place == Place::Section(index) && s.kind == SymbolKind::Other;
        let symbols: BTreeMap<u64, &Symbol<'_>> =
            elf.symbols.iter().filter(here).map(|s| (s.value, s)).collect();
        for symbol in symbols.values() {
            let next = symbols.range(symbol.value.saturating_add(1)..).next().map(|(at, _)| *at);
            let end = symbol.value.saturating_add(symbol.size);
            // Before LLVM 5 symbols of data had no size.
            let end = if symbol.size == 0 { next.unwrap_or(section.size) } else { end };
            found.push(definition(index, section, symbol, end, btf, warnings)?);
        }
    }
    place_inner(&mut found)?;
    let tails = place_programs(elf, functions, &mut found)?;
    Ok((found.into_iter().map(|(definition, _)| definition).collect(), tails))
}

fn definition(
    index: usize,
    section: &Section<'_>,
    symbol: &Symbol<'_>,
    end: u64,
    btf: Option<&Btf>,
    warnings: &mut Vec<String>,
) -> Result<(Definition, Ids), ObjectError> {
    let fault = |attribute: &str, what| ObjectError::Map {
        map: symbol.name.to_owned(),
        attribute: attribute.to_owned(),
        what,
    };
    if symbol.local {
        return Err(fault("", "is static: a map has a name that others can rely on"));
    }
    let range = usize::try_from(symbol.value).ok().zip(usize::try_from(end).ok());
    let bytes = range.and_then(|(from, to)| section.data.get(from..to));
    let bytes = bytes.ok_or_else(|| fault("", "lies outside its section"))?;
    let mut spec = maps::empty(symbol.name);
    let mut ids = Ids { inner_idx: u32::MAX, ..Ids::default() };
    [spec.map_type, spec.key_size, spec.value_size, spec.max_entries] =
        words(bytes).ok_or_else(|| fault("", "is shorter than any definition"))?;
    let rest = bytes.get(16..).unwrap_or_default();
    match rest.len() {
        0 => {}
        4 => [spec.flags] = words(rest).unwrap_or_default(),
        8 | 12 if rest.iter().skip(4).all(|byte| *byte == 0) => {
            [spec.flags] = words(rest).unwrap_or_default();
        }
        12 => {
            let [flags, id, pinning] = words(rest).unwrap_or_default();
            spec.flags = flags;
            if !ends_with_pinning(btf, &spec) {
                return Err(fault("", "has a tail that differs between loaders"));
            }
            ids.id = id;
            spec.pinning = match pinning {
                PIN_NONE => 0,
                // aya's "by name" and iproute2's PIN_OBJECT_NS are one number.
                PIN_OBJECT_NS | PIN_GLOBAL_NS => 1,
                _ => return Err(fault("pinning", FOREIGN_PIN)),
            };
        }
        20 => {
            let [flags, id, pinning, inner_id, inner_idx] = words(rest).unwrap_or_default();
            (spec.flags, ids) = (flags, Ids { id, inner_id, inner_idx });
            spec.pinning = match pinning {
                PIN_NONE => 0,
                PIN_GLOBAL_NS => 1,
                PIN_OBJECT_NS => {
                    warnings.push(format!("map {}: PIN_OBJECT_NS: shared inside the instance", spec.name));
                    0
                }
                _ => return Err(fault("pinning", FOREIGN_PIN)),
            };
        }
        _ => return Err(fault("", "is of a size that no known definition has")),
    }
    if let Some(btf) = btf {
        (spec.key_type_id, spec.value_type_id) = annotated(btf, symbol.name, spec.key_size, spec.value_size);
        maps::withhold_types(&mut spec, btf);
    }
    Ok((Definition { spec, section: index, offset: symbol.value, end, slots: None }, ids))
}

/// Whether a definition of 28 bytes ends with `id` and `pinning`: as its type says, and else where `inner_map_idx` and
/// `numa_node` would mean nothing.
fn ends_with_pinning(btf: Option<&Btf>, spec: &MapSpec) -> bool {
    let last = btf.and_then(|btf| {
        let var = btf.types().find(|t| t.kind == Kind::Var && t.name() == spec.name)?;
        btf.strip(var.type_id())?.members().last()
    });
    match last.map(|member| member.name) {
        Some("pinning") => true,
        Some("numa_node") => false,
        _ => {
            !matches!(spec.map_type, ARRAY_OF_MAPS | HASH_OF_MAPS) && spec.flags & maps::BPF_F_NUMA_NODE == 0
        }
    }
}

/// `BPF_ANNOTATE_KV_PAIR(name, K, V)` declared a `struct ____btf_map_name { K key; V value; }`.
fn annotated(btf: &Btf, name: &str, key_size: u32, value_size: u32) -> (u32, u32) {
    let name = format!("____btf_map_{name}");
    let members: Vec<_> = btf
        .types()
        .find(|t| t.name() == name)
        .map(|t| t.members().map(|m| m.type_id).collect())
        .unwrap_or_default();
    match members.as_slice() {
        [key, value] if btf.size_of(*key) == Some(key_size) && btf.size_of(*value) == Some(value_size) => {
            (*key, *value)
        }
        _ => (0, 0),
    }
}

/// Templates of maps of maps, and the maps that stand in their slots.
fn place_inner(found: &mut [(Definition, Ids)]) -> Result<(), ObjectError> {
    let all: Vec<_> = found.iter().map(|(d, ids)| (d.spec.clone(), *ids)).collect();
    for (definition, ids) in found.iter_mut() {
        let spec = &mut definition.spec;
        if !matches!(spec.map_type, ARRAY_OF_MAPS | HASH_OF_MAPS) {
            continue;
        }
        let fault = |attribute: &str, what| {
            let map = definition.spec.name.clone();
            ObjectError::Map { map, attribute: attribute.to_owned(), what }
        };
        if definition.end.saturating_sub(definition.offset) < WITH_INNER {
            let what = "is a map of maps, and a definition this short cannot say of which: use .maps, or all 36 bytes of struct bpf_elf_map";
            return Err(fault("type", what));
        }
        let inner = all.iter().find(|(_, other)| ids.inner_id != 0 && other.id == ids.inner_id);
        let (inner, _) = inner.ok_or_else(|| fault("inner_id", "names no map of this object"))?;
        if matches!(inner.map_type, ARRAY_OF_MAPS | HASH_OF_MAPS) {
            return Err(fault("inner_id", "maps nest only once"));
        }
        let inside = all.iter().filter(|(_, other)| other.id == ids.inner_id && other.inner_idx != u32::MAX);
        for (_, other) in inside.clone() {
            if definition.spec.key_size != 4 {
                let what = "has maps by inner_idx, of 4 bytes, and so are its keys then: -1 leaves them out";
                return Err(fault("size_key", what));
            }
            if other.inner_idx >= definition.spec.max_entries && definition.spec.map_type == ARRAY_OF_MAPS {
                return Err(fault("max_elem", "is not beyond the inner_idx of a map with this inner_id"));
            }
        }
        let name = format!("{}.inner", definition.spec.name);
        let mut template = inner.clone();
        (template.kernel_name, template.name, template.pinning) = (maps::kernel_name(&name), name, 0);
        let spec = &mut definition.spec;
        (spec.inner, spec.value_size) = (Some(Box::new(template)), 4);
        spec.slots.extend(inside.map(|(map, other)| (other.inner_idx, Slot::Map(map.name.clone()))));
    }
    Ok(())
}

/// Puts the function of each section `ID/INDEX` into the program array with this number.
fn place_programs(
    elf: &Elf<'_>,
    functions: &Functions<'_>,
    found: &mut [(Definition, Ids)],
) -> Result<Vec<usize>, ObjectError> {
    let mut tails = Vec::new();
    for (function, of) in functions.iter().filter(|(_, f)| f.entry) {
        let name = elf.sections.get(of.section).map_or("", |s| s.name);
        let Some((id, index)) = name.split_once('/').and_then(|(a, b)| Some((number(a)?, number(b)?))) else {
            continue;
        };
        let array = found.iter_mut().find(|(d, ids)| ids.id == id && d.spec.map_type == PROG_ARRAY);
        let Some((array, _)) = array else { continue };
        let fault = |what| ObjectError::Section { section: name.to_owned(), what };
        if index >= array.spec.max_entries {
            return Err(fault("names a slot beyond the program array's max_elem"));
        }
        if array.spec.slots.iter().any(|(slot, _)| *slot == index) {
            return Err(fault("holds a second program for one slot"));
        }
        array.spec.slots.push((index, Slot::Program(of.name.to_owned())));
        tails.push(function);
    }
    Ok(tails)
}

/// As `%i` of scanf reads it: decimal, 0x…, or octal.
fn number(text: &str) -> Option<u32> {
    let (radix, digits) = match text.strip_prefix("0x") {
        Some(hex) => (16, hex),
        None if text.len() > 1 && text.starts_with('0') => (8, text),
        None => (10, text),
    };
    u32::from_str_radix(digits, radix).ok().filter(|_| digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

const FOREIGN_PIN: &str = "is a number that only /etc/iproute2 explains";
// include/bpf_elf.h of iproute2.
/// The size of `struct bpf_elf_map` in bytes.
const WITH_INNER: u64 = 36;
const PIN_NONE: u32 = 0;
const PIN_OBJECT_NS: u32 = 1;
const PIN_GLOBAL_NS: u32 = 2;

#[cfg(test)]
mod tests {
    use super::super::sample::{Sample, GLOBAL, OBJECT};
    use super::super::{MapSpec, Object, Slot};

    /// An object with one definition of these words.
    fn map(numbers: &[u32]) -> Result<MapSpec, String> {
        maps(&[("m", numbers)]).map(|maps| maps.into_iter().next().unwrap())
    }

    fn maps(definitions: &[(&str, &[u32])]) -> Result<Vec<MapSpec>, String> {
        let mut sample = Sample::drop();
        let bytes = |numbers: &[u32]| numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>();
        let all: Vec<u8> = definitions.iter().flat_map(|(_, numbers)| bytes(numbers)).collect();
        let section = sample.data("maps", &all);
        let mut at = 0;
        for (name, numbers) in definitions {
            let size = bytes(numbers).len() as u64;
            sample.symbol(name, OBJECT | GLOBAL, section, at, size);
            at += size;
        }
        Object::parse_legacy(&sample.bytes()).map(|object| object.maps).map_err(|e| e.to_string())
    }

    #[test]
    fn a_map_stands_in_a_slot_that_there_is() {
        // {type, size_key, size_value, max_elem, flags, id, pinning, inner_id, inner_idx}
        let placed = |outer, key, inner_idx| {
            maps(&[
                ("i", &[2, 4, 8, 2, 0, 7, 0, 0, inner_idx]),
                ("o", &[outer, key, 4, 4, 0, 0, 0, 7, u32::MAX]),
            ])
            .map(|maps| maps[1].slots.clone())
        };
        let (array, hash) = (12, 13);
        let slot = |at| Ok(vec![(at, Slot::Map("i".to_owned()))]);
        assert_eq!(
            [placed(array, 4, 3), placed(hash, 4, 9), placed(hash, 8, u32::MAX)],
            [slot(3), slot(9), Ok(vec![])]
        );
        assert!(placed(array, 4, 4).unwrap_err().contains("map o, attribute max_elem: is not beyond"));
        assert!(placed(hash, 8, 1).unwrap_err().contains("map o, attribute size_key"));
    }

    #[test]
    fn a_definition_is_told_by_its_size() {
        let shape = |m: MapSpec| (m.map_type, m.key_size, m.value_size, m.max_entries, m.flags, m.pinning);
        assert_eq!(map(&[1, 4, 8, 16]).map(shape), Ok((1, 4, 8, 16, 0, 0)));
        assert_eq!(map(&[1, 4, 8, 16, 1]).map(shape), Ok((1, 4, 8, 16, 1, 0)));
        assert_eq!(map(&[1, 4, 8, 16, 1, 0, 0]).map(shape), Ok((1, 4, 8, 16, 1, 0)));
        assert_eq!(map(&[1, 4, 8, 16, 1, 7, 2, 0, 0]).map(shape), Ok((1, 4, 8, 16, 1, 1)));
        assert_eq!(map(&[1, 4, 8, 16, 0, 0, 1]).map(shape), Ok((1, 4, 8, 16, 0, 1)));
        for (numbers, words) in [
            (&[1, 4, 8][..], "shorter than any"),
            (&[1, 4, 8, 16, 1, 0, 3], "map m, attribute pinning"),
            (&[1, 4, 8, 16, 4, 0, 1], "differs between loaders"),
            (&[12, 4, 4, 16, 0, 1, 0], "differs between loaders"),
            (&[1, 4, 8, 16, 1, 0, 0, 0], "no known definition"),
            (&[1, 4, 8, 16, 1, 0, 5, 0, 0], "map m, attribute pinning"),
            (&[12, 4, 4, 16, 0, 0, 0, 9, 0], "map m, attribute inner_id: names no map"),
            (&[12, 4, 4, 16, 0, 9, 0, 9, 0], "maps nest only once"),
            (&[12, 4, 4, 16], "map m, attribute type: is a map of maps"),
            (&[13, 4, 4, 16, 0], "map m, attribute type: is a map of maps"),
            (&[12, 4, 4, 16, 0, 0], "map m, attribute type: is a map of maps"),
            (&[13, 4, 4, 16, 0, 0, 0], "map m, attribute type: is a map of maps"),
        ] {
            let refusal = map(numbers).unwrap_err();
            assert!(refusal.contains(words), "{numbers:?}: {refusal}");
        }
    }

    #[test]
    fn numbers_are_read_as_scanf_reads_them() {
        let numbers = ["42", "0x2a", "052", "0", "", "x", "0x", "09", "-1", "+1"].map(super::number);
        assert_eq!(numbers, [Some(42), Some(42), Some(42), Some(0), None, None, None, None, None, None]);
    }
}
