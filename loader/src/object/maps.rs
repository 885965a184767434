// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Structs in `.maps`, as `__uint`, `__type`, `__ulong` and `__array` write them, to map shapes.
//!
//! A definition is all type and no data: `__uint(max_entries, 8)` is a member `int (*max_entries)[8]`.

use super::btf::Btf;
use super::btf_type::{Kind, Member, Type};
use super::elf::{Elf, Role, Section};
use super::error::ObjectError;
use super::functions::Functions;
use super::MapSpec;

/// A map and where its definition lies.
pub struct Definition {
    pub spec: MapSpec,
    /// Index of the section.
    pub section: usize,
    /// In it, in bytes.
    pub offset: u64,
    /// One past the last byte: behind the last static slot, if there are any.
    pub end: u64,
    /// Where the slots of `values` begin.
    pub slots: Option<u64>,
}

/// What is made of definitions in the sections `maps` and `maps/…`: them, and the programs, by the index of their function,
/// that stand in slots by the name of their section.
pub type OldMaps = fn(
    &Elf<'_>,
    Option<&Btf>,
    &Functions<'_>,
    &mut Vec<String>,
) -> Result<(Vec<Definition>, Vec<usize>), ObjectError>;

/// Refuses them.
pub fn refuse_old(
    elf: &Elf<'_>,
    _: Option<&Btf>,
    _: &Functions<'_>,
    _: &mut Vec<String>,
) -> Result<(Vec<Definition>, Vec<usize>), ObjectError> {
    let Some(old) = elf.sections.iter().find(|s| is_old(s)) else { return Ok((Vec::new(), Vec::new())) };
    let what = "has map definitions of an old form, which differ between loaders and say nothing of types: use .maps, or --legacy-maps to read them";
    Err(ObjectError::Section { section: old.name.to_owned(), what })
}

/// Whether a section holds definitions of the old forms.
pub fn is_old(section: &Section<'_>) -> bool {
    section.role == Role::Data && (section.name == "maps" || section.name.starts_with("maps/"))
}

/// All definitions in `.maps`, in file order.
pub fn definitions(elf: &Elf<'_>, btf: Option<&Btf>) -> Result<Vec<Definition>, ObjectError> {
    let fault = |section: &str, what| ObjectError::Section { section: section.to_owned(), what };
    let Some((index, section)) = elf.section(".maps") else { return no_definitions(btf) };
    let btf = btf.ok_or_else(|| fault(".maps", "means nothing without BTF: compile with -g"))?;
    let datasec = btf.find(Kind::Datasec, ".maps").ok_or_else(|| fault(".maps", "has no types"))?;
    let mut found = Vec::new();
    for placed in datasec.placed() {
        let var =
            btf.get(placed.var).ok_or(ObjectError::Btf { type_id: placed.var, what: "is not there" })?;
        let fault = |what| ObjectError::Map { map: var.name().to_owned(), attribute: String::new(), what };
        match var.linkage() {
            1 => {}
            0 => return Err(fault("is static: a map has a name that others can rely on")),
            _ => return Err(fault("is extern and defined nowhere")),
        }
        let (offset, end) =
            (u64::from(placed.offset), u64::from(placed.offset).saturating_add(placed.size.into()));
        let bytes = usize::try_from(offset).ok().zip(usize::try_from(end).ok());
        let bytes = bytes
            .and_then(|(from, to)| section.data.get(from..to))
            .ok_or_else(|| fault("lies outside .maps"))?;
        if bytes.iter().any(|b| *b != 0) {
            return Err(fault("has a value: only its type counts"));
        }
        let definition = btf.strip(var.type_id()).filter(|t| t.kind == Kind::Struct);
        let definition = definition.ok_or_else(|| fault("is not a struct"))?;
        let mut reader = Reader { btf, map: var.name().to_owned(), spec: empty(var.name()), values: None };
        reader.read(&definition, false)?;
        let slots = reader.values.map(|bits| offset.saturating_add(u64::from(bits >> 3)));
        found.push(Definition { spec: reader.spec, section: index, offset, end, slots });
    }
    Ok(found)
}

/// Without a section there is no definition, but types may tell of maps of other files.
fn no_definitions(btf: Option<&Btf>) -> Result<Vec<Definition>, ObjectError> {
    let datasec = btf.and_then(|btf| Some((btf, btf.find(Kind::Datasec, ".maps")?)));
    match datasec.and_then(|(btf, datasec)| btf.get(datasec.placed().next()?.var)) {
        Some(var) => {
            let (map, what) = (var.name().to_owned(), "is extern and defined nowhere");
            Err(ObjectError::Map { map, attribute: String::new(), what })
        }
        None => Ok(Vec::new()),
    }
}

/// At most 15 bytes that `bpf_obj_name_cpy()` (kernel/bpf/syscall.c) takes.
pub fn kernel_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' };
    name.trim_start_matches('.').chars().map(plain).take(15).collect()
}

/// Reads the members of one definition into a spec.
struct Reader<'a> {
    btf: &'a Btf,
    map: String,
    spec: MapSpec,
    /// The bit offset of `values`.
    values: Option<u32>,
}

impl<'a> Reader<'a> {
    fn read(&mut self, definition: &Type<'a>, nested: bool) -> Result<(), ObjectError> {
        let members: Vec<Member<'a>> = definition.members().collect();
        for (position, member) in (1usize..).zip(&members) {
            self.attribute(member, nested, position == members.len())?;
        }
        if self.spec.map_type == 0 {
            return Err(self.fault("type", "is missing"));
        }
        self.check_values()?;
        // aya says what a ring's records are; the kernel knows neither keys nor values in it.
        if self.spec.map_type == RINGBUF && (self.spec.key_size, self.spec.value_size) != (0, 0) {
            (self.spec.key_size, self.spec.value_size) = (0, 0);
            (self.spec.key_type_id, self.spec.value_type_id) = (0, 0);
        }
        withhold_types(&mut self.spec, self.btf);
        Ok(())
    }

    fn attribute(&mut self, member: &Member<'a>, nested: bool, last: bool) -> Result<(), ObjectError> {
        let name = member.name;
        match name {
            "type" => self.spec.map_type = self.uint(member)?,
            "max_entries" => self.spec.max_entries = self.uint(member)?,
            "map_flags" => self.spec.flags = self.uint(member)?,
            "numa_node" => self.spec.numa_node = Some(self.uint(member)?),
            "map_extra" => self.spec.map_extra = self.ulong(member)?,
            "key_size" => self.spec.key_size = self.same(member, self.spec.key_size, self.uint(member)?)?,
            "value_size" => {
                self.spec.value_size = self.same(member, self.spec.value_size, self.uint(member)?)?
            }
            "key" => {
                let (id, size) = self.pointee(member)?;
                (self.spec.key_size, self.spec.key_type_id) =
                    (self.same(member, self.spec.key_size, size)?, id);
            }
            "value" => {
                let (id, size) = self.pointee(member)?;
                (self.spec.value_size, self.spec.value_type_id) =
                    (self.same(member, self.spec.value_size, size)?, id);
            }
            "pinning" if nested => return Err(self.fault(name, "an inner map is not pinned by itself")),
            "pinning" => {
                self.spec.pinning = self.uint(member)?;
                if self.spec.pinning > LIBBPF_PIN_BY_NAME {
                    return Err(self.fault(name, "is neither LIBBPF_PIN_NONE nor LIBBPF_PIN_BY_NAME"));
                }
            }
            "values" if nested => return Err(self.fault(name, "maps nest only once")),
            "values" if !last => return Err(self.fault(name, "must be the last attribute")),
            "values" => self.values(member)?,
            _ => return Err(self.fault(name, "is unknown")),
        }
        Ok(())
    }

    /// A number of 32 bits, however it is written.
    fn uint(&self, member: &Member<'_>) -> Result<u32, ObjectError> {
        u32::try_from(self.ulong(member)?).map_err(|_| self.fault(member.name, "is too large"))
    }

    /// `int (*name)[N]` or `enum { … = N } name`: N.
    fn ulong(&self, member: &Member<'_>) -> Result<u64, ObjectError> {
        if let Some((_, value)) = self.btf.strip(member.type_id).and_then(|t| t.enumerators().next()) {
            return u64::try_from(value).map_err(|_| self.fault(member.name, "is negative"));
        }
        let array = self.pointer(member).and_then(|id| self.btf.strip(id)).and_then(|t| t.array());
        let count = array.map(|a| u64::from(a.count));
        count.ok_or_else(|| self.fault(member.name, "is not written with __uint"))
    }

    /// `T *name`: the id and size of T.
    fn pointee(&self, member: &Member<'_>) -> Result<(u32, u32), ObjectError> {
        let id = self.pointer(member).ok_or_else(|| self.fault(member.name, "is not written with __type"))?;
        let size =
            self.btf.size_of(id).ok_or_else(|| self.fault(member.name, "is of a type without size"))?;
        Ok((id, size))
    }

    fn pointer(&self, member: &Member<'_>) -> Option<u32> {
        self.btf.strip(member.type_id).filter(|t| t.kind == Kind::Ptr).map(|t| t.type_id())
    }

    /// A size may be given twice, by type and by number, if both agree.
    fn same(&self, member: &Member<'_>, before: u32, now: u32) -> Result<u32, ObjectError> {
        if before != 0 && before != now {
            return Err(self.fault(member.name, "contradicts the size given before"));
        }
        Ok(now)
    }

    /// `T *values[]`: T is the definition of the inner maps, or a function's type for an array of programs.
    fn values(&mut self, member: &Member<'a>) -> Result<(), ObjectError> {
        let array = self.btf.strip(member.type_id).and_then(|t| t.array());
        let pointer = array.and_then(|a| self.btf.strip(a.element)).filter(|t| t.kind == Kind::Ptr);
        let target = pointer.and_then(|p| self.btf.strip(p.type_id()));
        match target {
            Some(inner) if inner.kind == Kind::Struct => {
                let name = format!("{}.inner", self.map);
                let mut reader = Reader { btf: self.btf, spec: empty(&name), map: name, values: None };
                reader.read(&inner, true)?;
                self.spec.inner = Some(Box::new(reader.spec));
            }
            Some(function) if function.kind == Kind::FuncProto => {}
            _ => return Err(self.fault(member.name, "holds neither maps nor programs")),
        }
        self.values = Some(member.bit_offset);
        Ok(())
    }

    /// Whether `values` suits the map's type; slots are descriptors, of 4 bytes each.
    fn check_values(&mut self) -> Result<(), ObjectError> {
        let holds_maps = matches!(self.spec.map_type, ARRAY_OF_MAPS | HASH_OF_MAPS);
        let holds_programs = self.spec.map_type == PROG_ARRAY;
        if holds_maps && self.spec.inner.is_none() {
            return Err(
                self.fault("values", "is missing: the kernel wants to know the shape of the inner maps")
            );
        }
        if self.values.is_some() && !(if self.spec.inner.is_some() { holds_maps } else { holds_programs }) {
            return Err(self.fault("values", "does not suit this type of map"));
        }
        // Nothing else fits into an array of descriptors.
        if holds_maps || holds_programs || self.spec.map_type == PERF_EVENT_ARRAY {
            let default = |size: u32| if size == 0 { 4 } else { size };
            (self.spec.key_size, self.spec.value_size) =
                (default(self.spec.key_size), default(self.spec.value_size));
            if self.spec.value_size != 4 {
                return Err(self.fault("value_size", "is not 4, the size of a descriptor"));
            }
        }
        Ok(())
    }

    fn fault(&self, attribute: &str, what: &'static str) -> ObjectError {
        ObjectError::Map { map: self.map.clone(), attribute: attribute.to_owned(), what }
    }
}

/// The kernel takes a value's type only together with the key's, except where there are no keys; some kinds of map take none
/// (`map_check_btf()`, kernel/bpf/syscall.c), and some only with one sort of key: `array_map_check_btf()`,
/// `trie_check_btf()`.
pub fn withhold_types(spec: &mut MapSpec, btf: &Btf) {
    let keyless = spec.map_type == BLOOM_FILTER;
    let complete = spec.value_type_id != 0 && (spec.key_type_id != 0 || keyless);
    let key = btf.strip(spec.key_type_id);
    let taken = match spec.map_type {
        ARRAY | PERCPU_ARRAY => key.and_then(|k| k.int()).is_some_and(|i| (i.bits, i.shift) == (32, 0)),
        LPM_TRIE => key.is_some_and(|k| k.kind == Kind::Struct),
        other => !WITHOUT_TYPES.contains(&other),
    };
    spec.types_withheld = !complete || !taken;
}

/// What of a map no kernel takes, or takes notice of.
pub fn notice_odd(spec: &MapSpec, warnings: &mut Vec<String>) {
    // bpf_map_attr_numa_node() (include/linux/bpf.h)
    if spec.numa_node.is_some() && spec.flags & BPF_F_NUMA_NODE == 0 {
        warnings.push(format!(
            "map {}: the kernel takes no notice of numa_node without __uint(map_flags, BPF_F_NUMA_NODE)",
            spec.name
        ));
    }
    if spec.map_type == LPM_TRIE && spec.flags & BPF_F_NO_PREALLOC == 0 {
        warnings.push(format!(
            "map {}: the kernel refuses an LPM trie without __uint(map_flags, BPF_F_NO_PREALLOC)",
            spec.name
        ));
    }
    let by_key = matches!(spec.map_type, ARRAY | PERCPU_ARRAY | LPM_TRIE);
    if by_key && spec.types_withheld && spec.key_type_id != 0 && spec.value_type_id != 0 {
        warnings.push(format!(
            "map {}: the kernel takes no key of this type here, and is told no types: who dumps it needs --types",
            spec.name
        ));
    }
    spec.inner.iter().for_each(|inner| notice_odd(inner, warnings));
}

/// A map of this name, and nothing else said of it.
pub fn empty(name: &str) -> MapSpec {
    MapSpec {
        name: name.to_owned(),
        kernel_name: kernel_name(name),
        map_type: 0,
        key_size: 0,
        value_size: 0,
        max_entries: 0,
        flags: 0,
        map_extra: 0,
        numa_node: None,
        pinning: 0,
        key_type_id: 0,
        value_type_id: 0,
        types_withheld: false,
        inner: None,
        slots: Vec::new(),
        contents: None,
        frozen: false,
    }
}

const LIBBPF_PIN_BY_NAME: u32 = 1;
// enum bpf_map_type
const ARRAY: u32 = 2;
pub const PROG_ARRAY: u32 = 3;
const PERF_EVENT_ARRAY: u32 = 4;
const PERCPU_ARRAY: u32 = 6;
const LPM_TRIE: u32 = 11;
pub const ARRAY_OF_MAPS: u32 = 12;
pub const HASH_OF_MAPS: u32 = 13;
const RINGBUF: u32 = 27;
const BLOOM_FILTER: u32 = 30;
const BPF_F_NO_PREALLOC: u32 = 1;
pub const BPF_F_NUMA_NODE: u32 = 1 << 2;
/// PERF_EVENT_ARRAY, STACK_TRACE, CGROUP_ARRAY, the maps of maps, DEVMAP, SOCKMAP, CPUMAP, XSKMAP, SOCKHASH, QUEUE,
/// STACK, DEVMAP_HASH, ARENA.
const WITHOUT_TYPES: [u32; 14] = [4, 7, 8, ARRAY_OF_MAPS, HASH_OF_MAPS, 14, 15, 16, 17, 18, 22, 23, 25, 33];
