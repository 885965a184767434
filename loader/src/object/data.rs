// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `.rodata`, `.data` and `.bss` sections to one-element array maps, and to the variables in them.

use super::btf::Btf;
use super::btf_type::{Kind, Type};
use super::elf::{Elf, Role, Section};
use super::error::ObjectError;
use super::maps::kernel_name;
use super::MapSpec;

/// A global variable of a section that is a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its C name; a static one's too.
    pub name: String,
    /// Index in [`super::Object::maps`].
    pub map: usize,
    /// In the value, in bytes.
    pub offset: u32,
    /// In bytes.
    pub size: u32,
    /// BTF id of its type.
    pub type_id: u32,
}

/// Whether this is a section whose bytes are a map's value: `.rodata`, `.data`, `.bss`, each also with `.…`.
pub fn is_data(section: &Section<'_>) -> bool {
    let mut parts = section.name.splitn(3, '.');
    let known = parts.next() == Some("") && matches!(parts.next(), Some("rodata" | "data" | "bss"));
    known && matches!(section.role, Role::Data | Role::Zeros)
}

/// The map for one data section.
pub fn spec(
    elf: &Elf<'_>,
    index: usize,
    btf: Option<&Btf>,
    warnings: &mut Vec<String>,
) -> Result<MapSpec, ObjectError> {
    let section = elf.sections.get(index).ok_or(ObjectError::Elf("a data section is gone"))?;
    let fault = |what| ObjectError::Section { section: section.name.to_owned(), what };
    if let Some(first) = section.relocations.first() {
        warnings.push(format!(
            "section {}: holds addresses, the first at {:#x} of {}: in a map they have no meaning, and programs find there what the file has",
            section.name,
            first.offset,
            elf.symbol(first).map_or("?", |s| s.name)
        ));
    }
    let value_size = u32::try_from(section.size).ok().filter(|size| *size <= MAX_SIZE);
    let value_size = value_size.ok_or_else(|| fault("is larger than any map's value: 2 GiB"))?;
    let read_only = section.name.starts_with(".rodata");
    // One without variables says nothing, and not every kernel takes it (btf_plain.rs).
    let datasec = btf
        .and_then(|btf| btf.find(Kind::Datasec, section.name))
        .filter(|t| t.size() == value_size && t.placed().next().is_some());
    Ok(MapSpec {
        name: section.name.to_owned(),
        kernel_name: kernel_name(section.name),
        map_type: BPF_MAP_TYPE_ARRAY,
        key_size: 4,
        value_size,
        max_entries: 1,
        flags: flags(read_only, btf.zip(datasec.as_ref())),
        map_extra: 0,
        numa_node: None,
        pinning: 0,
        // No key type: `array_map_check_btf()` takes a DATASEC only like this.
        key_type_id: 0,
        value_type_id: datasec.map_or(0, |t| t.id),
        types_withheld: false,
        inner: None,
        slots: Vec::new(),
        contents: (section.role == Role::Data).then(|| section.data.to_vec()),
        frozen: read_only,
    })
}

/// BPF_MAP_CREATE's `map_flags`. As libbpf's `map_is_mmapable()`: mmap(2) of data in which somebody outside is to find a variable
/// by its name, so that one can be written while programs change the others.
pub fn flags(read_only: bool, types: Option<(&Btf, &Type<'_>)>) -> u32 {
    let seen = |(btf, datasec): (&Btf, &Type<'_>)| {
        let mut variables = datasec.placed().filter_map(|placed| btf.get(placed.var));
        variables.any(|var| var.kind == Kind::Var && var.linkage() != STATIC)
    };
    let mapped = types.is_some_and(seen);
    let flag = |set: bool, flag: u32| if set { flag } else { 0 };
    flag(read_only, BPF_F_RDONLY_PROG) | flag(mapped, BPF_F_MMAPABLE)
}

/// The variables that types name in these maps.
pub fn variables(maps: &[MapSpec], btf: &Btf) -> Vec<Variable> {
    let mut found = Vec::new();
    for (map, spec) in maps.iter().enumerate().filter(|(_, m)| m.name.starts_with('.')) {
        found.extend(btf.get(spec.value_type_id).iter().flat_map(|datasec| of(datasec, btf, map)));
    }
    found
}

/// The variables of one section, a map's value.
pub fn of<'a>(datasec: &Type<'a>, btf: &'a Btf, map: usize) -> impl Iterator<Item = Variable> + 'a {
    datasec.placed().filter_map(move |placed| {
        let var = btf.get(placed.var).filter(|v| v.kind == Kind::Var)?;
        let (name, type_id) = (var.name().to_owned(), var.type_id());
        Some(Variable { name, map, offset: placed.offset, size: placed.size, type_id })
    })
}

const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_F_RDONLY_PROG: u32 = 1 << 7;
/// Linux 5.5.
pub const BPF_F_MMAPABLE: u32 = 1 << 10;
/// BTF_VAR_STATIC.
const STATIC: u32 = 0;
/// `array_map_alloc_check()` (kernel/bpf/arraymap.c). Only `.bss` can claim more than the file holds.
const MAX_SIZE: u32 = i32::MAX as u32;
