// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A linked object to the steps that make its types, maps and programs in the kernel; nothing is attached here.
use crate::load::facts::Machine;
use crate::load::home;
use crate::load::kept::Kept;
use crate::load::record::Record;
use crate::load::shared::Shared;
use crate::load::slot_programs::is_loaded;
use crate::load::sockopt::GETSOCKOPT;
use crate::load::step::{Arg, Blob, Bpf, Expect, Hole, Step};
use crate::load::unpinned::RECORD_MAP;
use crate::object::{Btf, Insn, LineInfo, MapRef, MapSpec, Module, Object, Program, Slot};
use detour_sys::commands;

/// The symbol of the record's map; no C name can hold an `@`.
pub const RECORD: &str = "%@record";

/// What `create` is told besides the object.
///
/// ```
/// use detour::load::create::{Creation, Write};
///
/// // One of the object's programs; a map of another size, and an element that is there before the program runs.
/// let write = Write { map: "seen".into(), key: 60_u32.to_ne_bytes().into(), value: 1_u64.to_ne_bytes().into() };
/// let creation = Creation {
///     file: "variants.bpf.o".into(),
///     programs: vec!["variants".into()],
///     sizes: vec![("seen".into(), 64)],
///     writes: vec![write],
///     ..Creation::default()
/// };
/// # let object = detour::object::Object::parse(&std::fs::read("../elf/fixtures/variants.bpf.o")?)?;
/// # detour::load::plan::dry_run(&object, &creation, &Default::default())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Creation {
    /// The object's file name, which names its parts in the plan.
    pub file: String,
    /// The programs to load, by name.
    pub programs: Vec<String>,
    /// Maps whose `max_entries` differs from the object's.
    pub sizes: Vec<(String, u32)>,
    /// Elements to write before any program is loaded.
    pub writes: Vec<Write>,
    /// Maps that are pinned by name outside the instance.
    pub shared: Vec<Shared>,
    /// Maps of the instance that is replaced, which these programs use on.
    pub kept: Vec<Kept>,
    /// What kind of programs they are.
    pub kind: Kind,
    /// What the verifier shall say of programs that it takes too: 1 its decisions, 2 the state at each instruction, 4 numbers
    /// at the end (`BPF_LOG_LEVEL` and `BPF_LOG_STATS` in include/linux/bpf_verifier.h), or sums of them; 0 nothing.
    pub log_level: u32,
}

/// A kind of programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// `BPF_PROG_TYPE_SCHED_CLS`.
    #[default]
    SchedCls,
    /// `BPF_PROG_TYPE_CGROUP_SOCKOPT` for [`GETSOCKOPT`]; made beside others, so its types have a symbol of their own.
    Getsockopt,
}

/// One element to write into a map of the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The map's name in the object.
    pub map: String,
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
}

const PROG_TYPE_SCHED_CLS: u64 = 3;
const PROG_TYPE_CGROUP_SOCKOPT: u64 = 25;
const MAP_TYPE_PERF_EVENT_ARRAY: u32 = 4;
const MAP_TYPE_LRU_HASH: u32 = 9;
const MAP_TYPE_LRU_PERCPU_HASH: u32 = 10;
const MAP_TYPE_CPUMAP: u32 = 16;
const MAP_TYPE_RINGBUF: u32 = 27;
const MAP_TYPE_USER_RINGBUF: u32 = 31;
const BPF_F_NO_COMMON_LRU: u32 = 1 << 1;
const BTF_LOG: usize = 1 << 20;
/// Memory that the kernel does not write costs none.
const PROG_LOG: usize = 16 << 20;

/// The symbol of the types.
fn btf_symbol(creation: &Creation) -> &'static str {
    match creation.kind {
        Kind::SchedCls => "%btf",
        Kind::Getsockopt => "%btf@getsockopt",
    }
}

/// The symbol of a map's descriptor.
pub fn map_symbol(map: &MapSpec) -> String {
    ["%", &map.name].concat()
}

/// The symbol of a program's descriptor.
pub fn prog_symbol(name: &str) -> String {
    ["%", name].concat()
}

/// The symbol of a program's id.
pub fn id_symbol(name: &str) -> String {
    ["?", name].concat()
}

/// Types, maps, contents, programs, in this order. After a program that was selected its id and tag are asked for; one that
/// only a slot needs has no place in the record, and `verify` looks at its tag.
pub fn create(object: &Object, creation: &Creation, machine: &Machine) -> Vec<Step> {
    let slots = object.maps.iter().map(|map| map.slots.len());
    let others = [1, object.maps.len(), object.programs.len(), object.programs.len()];
    let mut steps = Vec::with_capacity(slots.chain(others).sum());
    steps.extend(object.btf.as_ref().map(|btf| btf_load(creation, btf)));
    for map in &object.maps {
        map_create(&mut steps, object, map, creation, machine);
    }
    for map in &object.maps {
        fill(&mut steps, map, creation);
    }
    let programs: Vec<&Program> = loaded(object, &creation.programs);
    if programs.iter().any(|program| program.modules()) {
        steps.extend(object.modules.iter().map(module));
    }
    for program in &programs {
        steps.push(prog_load(object, program, creation));
        if creation.programs.contains(&program.name) {
            steps.push(prog_info(program));
        }
    }
    for map in &object.maps {
        steps.extend(map.slots.iter().filter_map(|(index, slot)| match slot {
            Slot::Program(name) if programs.iter().any(|p| p.name == *name) => {
                Some(slot_update(map, *index, &prog_symbol(name)))
            }
            _ => None,
        }));
    }
    steps
}

/// The selected programs and those for tc that stand in slots of program arrays, in the object's order.
pub fn loaded<'a>(object: &'a Object, selected: &[String]) -> Vec<&'a Program> {
    let in_slot = |name: &str| {
        let mut slots = object.maps.iter().flat_map(|m| &m.slots);
        slots.any(|(_, slot)| matches!(slot, Slot::Program(p) if p == name))
    };
    let wanted = |p: &&Program| selected.contains(&p.name) || in_slot(&p.name);
    object.programs.iter().filter(wanted).filter(|p| is_loaded(p, selected)).collect()
}

/// Pins of everything that `create` made, in the folder `dir`.
pub fn pins(object: &Object, creation: &Creation, dir: &str) -> Vec<Step> {
    let map = |m: &MapSpec| Step::pin(&map_symbol(m), [dir, "/", &home::map_pin(&m.name)].concat());
    let program =
        |p: &&Program| Step::pin(&prog_symbol(&p.name), [dir, "/", &home::prog_pin(&p.name)].concat());
    let programs = loaded(object, &creation.programs);
    object.maps.iter().map(map).chain(programs.iter().map(program)).collect()
}

fn btf_load(creation: &Creation, btf: &Btf) -> Step {
    let call = |part: &str, bytes: Vec<u8>| {
        let blob = Blob { bytes, part: Some(format!("{}/{part}", creation.file)), holes: Vec::new() };
        Bpf::new(&commands::BTF_LOAD, vec![("btf", Arg::Bytes(blob))]).gives(btf_symbol(creation))
    };
    let hear = vec![("btf_log_buf", Arg::Room(BTF_LOG)), ("btf_log_level", Arg::Num(1))];
    let instead = plain(btf).map(|image| call("btf_plain", image));
    Step { instead, on_failure: vec![hear], ..Step::from(call("btf", btf.image())) }
}

/// The types without kinds that kernels may not know, if there are any.
#[cfg(feature = "compat")]
fn plain(btf: &Btf) -> Option<Vec<u8>> {
    btf.plain_image()
}

#[cfg(not(feature = "compat"))]
fn plain(_: &Btf) -> Option<Vec<u8>> {
    None
}

fn map_create(steps: &mut Vec<Step>, object: &Object, map: &MapSpec, creation: &Creation, machine: &Machine) {
    let types = object.btf.as_ref().map(|_| btf_symbol(creation));
    let inner = map.inner.as_ref().map(|inner| match template(object, map, inner) {
        Some(first) => map_symbol(first),
        None => {
            let symbol = format!("{}.inner", map_symbol(map));
            steps.push(map_call(inner, entries(inner, machine), None, types).gives(&symbol).into());
            symbol
        }
    });
    let given = creation.sizes.iter().find(|(name, _)| *name == map.name).map(|(_, n)| *n);
    let entries = given.unwrap_or_else(|| entries(map, machine));
    steps.push(map_call(map, entries, inner, types).gives(map_symbol(map)).into());
}

/// `max_entries` as the kernel wants it, where the object cannot know what that is.
pub(super) fn entries(map: &MapSpec, machine: &Machine) -> u32 {
    match map.map_type {
        MAP_TYPE_RINGBUF | MAP_TYPE_USER_RINGBUF => ring_size(map.max_entries, machine.page_size),
        // One buffer for each CPU.
        MAP_TYPE_PERF_EVENT_ARRAY if map.max_entries == 0 => machine.possible_cpus,
        // One queue for each, and the kernel refuses more than it could ever have.
        MAP_TYPE_CPUMAP if map.max_entries == 0 => machine.possible_cpus,
        MAP_TYPE_CPUMAP => map.max_entries.min(machine.possible_cpus),
        MAP_TYPE_LRU_HASH | MAP_TYPE_LRU_PERCPU_HASH if map.flags & BPF_F_NO_COMMON_LRU != 0 => {
            lru_size(map.max_entries, machine.possible_cpus)
        }
        _ => map.max_entries,
    }
}

/// The map in the first static slot serves as the template when it has the template's shape and was made before.
fn template<'a>(object: &'a Object, outer: &MapSpec, inner: &MapSpec) -> Option<&'a MapSpec> {
    let (_, Slot::Map(name)) = outer.slots.first()? else { return None };
    let position = |name: &str| object.maps.iter().position(|m| m.name == name);
    let map = object.maps.get(position(name)?)?;
    let shape = |m: &MapSpec| (m.map_type, m.key_size, m.value_size, m.max_entries, m.flags, m.map_extra);
    (position(name)? < position(&outer.name)? && shape(map) == shape(inner)).then_some(map)
}

fn map_call(map: &MapSpec, entries: u32, inner: Option<String>, types: Option<&str>) -> Bpf {
    let mut args = Vec::with_capacity(commands::MAP_CREATE.fields.len());
    args.extend([
        ("map_type", Arg::Num(map.map_type.into())),
        ("key_size", Arg::Num(map.key_size.into())),
        ("value_size", Arg::Num(map.value_size.into())),
        ("max_entries", Arg::Num(entries.into())),
        ("map_name", Arg::Text(map.kernel_name.clone())),
    ]);
    if map.flags != 0 {
        args.push(("map_flags", Arg::Num(map.flags.into())));
    }
    args.extend(inner.map(|symbol| ("inner_map_fd", Arg::Fd(symbol))));
    args.extend(map.numa_node.map(|node| ("numa_node", Arg::Num(node.into()))));
    if let (Some(types), true) = (types, map.value_type_id != 0 && !map.types_withheld) {
        args.push(("btf_fd", Arg::Fd(types.to_string())));
        args.push(("btf_key_type_id", Arg::Num(map.key_type_id.into())));
        args.push(("btf_value_type_id", Arg::Num(map.value_type_id.into())));
    }
    if map.map_extra != 0 {
        args.push(("map_extra", Arg::Num(map.map_extra)));
    }
    Bpf::new(&commands::MAP_CREATE, args)
}

/// A ring buffer is a power of two and at least a page: `ringbuf_map_alloc()` in kernel/bpf/ringbuf.c.
fn ring_size(wanted: u32, page_size: u32) -> u32 {
    wanted.max(page_size).checked_next_power_of_two().unwrap_or(wanted)
}

/// With a list for each CPU all lists are equally long: `htab_map_alloc()` in kernel/bpf/hashtab.c.
fn lru_size(wanted: u32, cpus: u32) -> u32 {
    let rest = wanted.checked_rem(cpus).unwrap_or(0);
    let missing = if rest == 0 { 0 } else { cpus.saturating_sub(rest) };
    wanted.checked_add(missing).unwrap_or(wanted.saturating_sub(rest))
}

fn fill(steps: &mut Vec<Step>, map: &MapSpec, creation: &Creation) {
    if let Some(contents) = &map.contents {
        steps.push(Step::update(&map_symbol(map), vec![0; 4], contents.clone().into()));
    }
    let writes = creation.writes.iter().filter(|w| w.map == map.name);
    steps.extend(writes.map(|w| Step::update(&map_symbol(map), w.key.clone(), w.value.clone().into())));
    for (index, slot) in &map.slots {
        if let Slot::Map(name) = slot {
            steps.push(slot_update(map, *index, &format!("%{name}")));
        }
    }
    if map.frozen {
        steps.push(Bpf::new(&commands::MAP_FREEZE, vec![("map_fd", Arg::Fd(map_symbol(map)))]).into());
    }
}

/// A slot of a map of maps or programs takes a descriptor as its value.
pub fn slot_update(map: &MapSpec, index: u32, symbol: &str) -> Step {
    let hole = Hole { at: 0, symbol: symbol.to_string() };
    let value = Blob { bytes: vec![0; 4], holes: vec![hole], part: None };
    Step::update(&map_symbol(map), index.to_ne_bytes().to_vec(), value)
}

fn module_symbol(module: &Module) -> String {
    format!("%@{}", module.name)
}

/// The descriptor by which a program's calls name a module's functions.
fn module(module: &Module) -> Step {
    let args = vec![("btf_id", Arg::Num(module.btf_id.into()))];
    Bpf::new(&commands::BTF_GET_FD_BY_ID, args).gives(module_symbol(module)).into()
}

/// `fd_array`: modules and maps by the numbers that instructions have for them; None where they have none. Number 0 stands
/// for the kernel itself and is never looked at.
fn fd_array(object: &Object, program: &Program) -> Option<Blob> {
    let by_number = program.refs.iter().any(|r| program.insns.get(r.insn).is_some_and(|i| !i.is_map_load()));
    if !program.modules() && !by_number {
        return None;
    }
    let maps = program.maps().into_iter().filter(|_| by_number).filter_map(|map| object.maps.get(map));
    // Numbers of maps go on where those of modules end, whether this program calls any or not.
    let first = object.modules.len().saturating_add(1);
    let modules = (1usize..).zip(object.modules.iter().filter(|_| program.modules()).map(module_symbol));
    let symbols = modules.chain((first..).zip(maps.map(map_symbol)));
    let holes: Vec<Hole> = symbols.map(|(n, symbol)| Hole { at: n.saturating_mul(4), symbol }).collect();
    let length = holes.last().map_or(0, |hole| hole.at.saturating_add(4));
    Some(Blob { bytes: vec![0; length], holes, part: None })
}

fn prog_load(object: &Object, program: &Program, creation: &Creation) -> Step {
    let blob = |kind: &str, holes| {
        let part = format!("{kind}/{}", program.name);
        let bytes = self::part(object, &part).unwrap_or_default();
        Arg::Bytes(Blob { bytes, holes, part: Some(format!("{}/{part}", creation.file)) })
    };
    let hole = |r: &MapRef| {
        let map =
            object.maps.get(r.map).filter(|_| program.insns.get(r.insn).is_some_and(Insn::is_map_load))?;
        // The descriptor is the `imm` of the first half: bytes 4 to 7.
        Some(Hole { at: r.insn.checked_mul(8)?.checked_add(4)?, symbol: map_symbol(map) })
    };
    let holes = program.refs.iter().filter_map(hole).collect();
    let (prog_type, expected) = match creation.kind {
        Kind::SchedCls => (PROG_TYPE_SCHED_CLS, None),
        Kind::Getsockopt => (PROG_TYPE_CGROUP_SOCKOPT, Some(GETSOCKOPT)),
    };
    let mut args = vec![
        ("prog_type", Arg::Num(prog_type)),
        ("insns", blob("insns", holes)),
        ("license", Arg::Text(object.license.clone())),
        ("prog_name", Arg::Text(program.name.chars().take(15).collect())),
    ];
    if object.btf.is_some() && !program.funcs.is_empty() {
        args.push(("prog_btf_fd", Arg::Fd(btf_symbol(creation).to_string())));
        args.push(("func_info_rec_size", Arg::Num(8)));
        args.push(("func_info", blob("func_info", Vec::new())));
        if !program.lines.is_empty() {
            args.push(("line_info_rec_size", Arg::Num(16)));
            args.push(("line_info", blob("line_info", Vec::new())));
        }
    }
    args.extend(expected.map(|hook| ("expected_attach_type", Arg::Num(hook.into()))));
    args.extend(fd_array(object, program).map(|array| ("fd_array", Arg::Bytes(array))));
    let listens = creation.log_level != 0;
    if listens {
        args.push(("log_level", Arg::Num(creation.log_level.into())));
        args.push(("log_buf", Arg::Room(PROG_LOG)));
    }
    let step = Step::prog_load(Bpf::new(&commands::PROG_LOAD, args).gives(prog_symbol(&program.name)));
    match listens {
        true => Step { on_failure: Vec::new(), ..step },
        false => step,
    }
}

/// The bytes of a part that a plan names: `btf`, `btf_plain`, `insns/PROGRAM`, `func_info/PROGRAM`, `line_info/PROGRAM`.
pub fn part(object: &Object, name: &str) -> Option<Vec<u8>> {
    if name == "btf" {
        return object.btf.as_ref().map(Btf::image);
    }
    if name == "btf_plain" {
        return object.btf.as_ref().and_then(plain);
    }
    let (kind, program) = name.split_once('/')?;
    let program = object.program(program)?;
    let words = |list: Vec<u32>| list.into_iter().flat_map(u32::to_ne_bytes).collect();
    match kind {
        "insns" => Some(program.insns.iter().flat_map(|i| i.to_bytes()).collect()),
        "func_info" => Some(words(program.funcs.iter().flat_map(|f| [f.insn, f.type_id]).collect())),
        "line_info" => {
            let record = |l: &LineInfo| [l.insn, l.file_off, l.line_off, l.line_col];
            Some(words(program.lines.iter().flat_map(record).collect()))
        }
        _ => None,
    }
}

/// `struct bpf_prog_info` up to the tag: type, id, tag.
const PROG_INFO: usize = 16;

fn prog_info(program: &Program) -> Step {
    let args = vec![("bpf_fd", Arg::Fd(prog_symbol(&program.name))), ("info", Arg::Room(PROG_INFO))];
    let call = Bpf::new(&commands::OBJ_GET_INFO_BY_FD, args).gives(id_symbol(&program.name));
    Step::from(call).expect(Expect::Tag(program.tags()))
}

/// The record of an instance in a map of its own, frozen and bound to each program.
pub fn record_map(record: &Record) -> Vec<Step> {
    let fd = || Arg::Fd(RECORD.to_string());
    let blob = record.blob();
    let create = vec![
        ("map_type", Arg::Num(2)),
        ("key_size", Arg::Num(4)),
        ("value_size", Arg::Num(blob.bytes.len() as u64)),
        ("max_entries", Arg::Num(1)),
        ("map_name", Arg::Text(RECORD_MAP.to_string())),
    ];
    let mut steps = vec![
        Bpf::new(&commands::MAP_CREATE, create).gives(RECORD).into(),
        Step::update(RECORD, vec![0; 4], blob),
        Bpf::new(&commands::MAP_FREEZE, vec![("map_fd", fd())]).into(),
    ];
    for program in &record.programs {
        let args = vec![("prog_fd", Arg::Fd(prog_symbol(&program.name))), ("map_fd", fd())];
        steps.push(Bpf::new(&commands::PROG_BIND_MAP, args).into());
    }
    steps
}
