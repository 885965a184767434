// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! An object -> all that it says of itself, as text and JSON. Every name in it is foreign, so it is escaped.
use crate::load::transcript::hex;

use super::map_type::{map_flags, map_type};
use super::text::escape;
use super::value::{value_within, Value, PARTS};
use crate::object::{
    helper, CoreRelo, Extern, MapSpec, Object, Origin, Program, ProgramKind, Slot, Variable,
};
use serde_json::{json, Value as Json};
use std::collections::BTreeSet;
use std::fmt::Write;

/// Programs, maps, variables, one after the other.
pub fn text(file: &str, object: &Object) -> String {
    let mut text = format!(
        "object   {}\nsha256   {}\nlicense  \"{}\"\ntypes    {}\n",
        escape(file),
        hex(&object.sha256),
        escape(&object.license),
        object.btf.as_ref().map_or(0, |btf| btf.types().count()),
    );
    let mut left = Left::of(object);
    object.programs.iter().for_each(|p| text.push_str(&program(object, p)));
    for (index, map) in object.maps.iter().enumerate() {
        text.push_str(&map_text(map));
        for found in object.variables.iter().filter(|v| v.map == index) {
            text.push_str(&variable(object, found, &mut left));
        }
    }
    for wanted in &object.externs {
        let weak = if wanted.weak { " weak" } else { "" };
        let _ = writeln!(text, "extern   {} {}{weak}", escape(&wanted.name), origin(wanted));
    }
    object.warnings.iter().for_each(|w| text.push_str(&format!("note: {}\n", escape(w))));
    text
}

/// The same as one document; the instructions only when `disasm` says so.
pub fn json(file: &str, object: &Object, disasm: bool) -> Json {
    let mut left = Left::of(object);
    json!({
        "schema": "detour.inspect/1",
        "file": file,
        "sha256": hex(&object.sha256),
        "license": object.license,
        "types": object.btf.as_ref().map_or(0, |btf| btf.types().count()),
        "programs": object.programs.iter().map(|p| program_json(object, p, disasm)).collect::<Vec<_>>(),
        "maps": object.maps.iter().map(map_json).collect::<Vec<_>>(),
        "variables": object.variables.iter().map(|v| variable_json(object, v, &mut left)).collect::<Vec<_>>(),
        "externs": object.externs.iter().map(extern_json).collect::<Vec<_>>(),
        "warnings": object.warnings,
    })
}

fn origin(wanted: &Extern) -> &'static str {
    match wanted.origin {
        Origin::Config => "configuration",
        Origin::Variable => "kernel variable",
        Origin::Function => "kernel function",
    }
}

fn extern_json(wanted: &Extern) -> Json {
    json!({"name": wanted.name, "of": origin(wanted), "weak": wanted.weak})
}

/// The instructions of all programs, or of those named, with the C lines they came from.
pub fn listing(object: &Object, only: &[&String]) -> String {
    let mut text = String::new();
    for program in object.programs.iter().filter(|p| only.is_empty() || only.contains(&&p.name)) {
        let _ = writeln!(text, "program {} section {}", escape(&program.name), escape(&program.section));
        if let Some(defect) = &program.defect {
            let _ = writeln!(text, "  cannot be loaded: {}", escape(&defect.to_string()));
        }
        for line in object.listing(program) {
            if let Some(label) = line.label {
                let _ = writeln!(text, "{}:", escape(label));
            }
            if let Some(source) = line.source {
                let _ = writeln!(text, "; {}", escape(&source.to_string()));
            }
            let core = line.core.map(|asks| format!("   ; CO-RE {}", escape(&asks))).unwrap_or_default();
            let _ = writeln!(text, "{:6}: {}{core}", line.insn, escape(&line.text));
        }
    }
    text
}

fn kind(program: &Program) -> &'static str {
    match program.kind {
        ProgramKind::SchedCls => "sched_cls",
        ProgramKind::Unknown => "unknown",
    }
}

/// The maps a program refers to, each once, in the object's order.
fn maps(object: &Object, program: &Program) -> Vec<String> {
    let used = |(index, _): &(usize, &MapSpec)| program.refs.iter().any(|r| r.map == *index);
    object.maps.iter().enumerate().filter(used).map(|(_, map)| map.name.clone()).collect()
}

fn helpers(program: &Program) -> Vec<String> {
    let name = |number: i32| helper(number).unwrap_or_else(|| format!("unknown#{number}"));
    program.helpers().into_iter().map(name).collect()
}

/// The externs a program needs, each once.
fn externs(object: &Object, program: &Program) -> Vec<String> {
    let used = |(index, _): &(usize, &Extern)| program.externs.iter().any(|r| r.wanted == *index);
    object.externs.iter().enumerate().filter(used).map(|(_, e)| e.name.clone()).collect()
}

/// The CO-RE relocations of a program, each access once: `struct sk_buff 0:5`, a type and the path of indexes in it.
fn core(object: &Object, program: &Program) -> BTreeSet<String> {
    let access = |relo: &CoreRelo| {
        let btf = object.btf.as_ref()?;
        let path = String::from_utf8_lossy(btf.string(relo.access_off)?);
        Some(format!("{} {path}", btf.describe(relo.type_id)))
    };
    program.core.iter().filter_map(access).collect()
}

/// Whether its instructions are those that any kernel would be given.
fn is_final(program: &Program) -> bool {
    program.core.is_empty() && program.externs.is_empty()
}

fn functions(program: &Program) -> Vec<String> {
    program.labels.iter().map(|l| l.name.clone()).collect()
}

fn program(object: &Object, program: &Program) -> String {
    let (name, section, kind) = (escape(&program.name), escape(&program.section), kind(program));
    let mut text = format!("program  {name} section {section} type {kind}");
    match &program.defect {
        Some(defect) => {
            let _ = write!(text, "\n         cannot be loaded: {}", escape(&defect.to_string()));
        }
        None if !is_final(program) => {
            let _ = write!(text, " insns {} tag: depends on the kernel", program.insns.len());
        }
        None => {
            let tags = program.tags();
            let (insns, sha256, sha1) = (program.insns.len(), hex(&tags.sha256), hex(&tags.sha1));
            let _ = write!(text, " insns {insns} tag {sha256} (sha1 {sha1})");
        }
    }
    if !program.autoload {
        text.push_str("\n         loaded only when named");
    }
    let lists = [
        ("functions", functions(program)),
        ("maps", maps(object, program)),
        ("helpers", helpers(program)),
        ("externs", externs(object, program)),
    ];
    for access in core(object, program) {
        let _ = write!(text, "\n         depends on the layout of {}", escape(&access));
    }
    for (what, list) in lists.iter().filter(|(_, list)| !list.is_empty()) {
        let list: Vec<String> = list.iter().map(|name| escape(name)).collect();
        let _ = write!(text, "\n         {what} {}", list.join(" "));
    }
    text + "\n"
}

fn program_json(object: &Object, program: &Program, disasm: bool) -> Json {
    let mut json = json!({
        "name": program.name,
        "section": program.section,
        "type": kind(program),
        "autoload": program.autoload,
        "insns": program.insns.len(),
        "functions": functions(program),
        "maps": maps(object, program),
        "helpers": helpers(program),
        "externs": externs(object, program),
        "core_relocations": core(object, program),
        "tag": is_final(program).then(|| crate::load::plan_json::tags(&program.tags())),
        "defect": program.defect.as_ref().map(ToString::to_string),
    });
    if disasm {
        let line = |line: &crate::object::Line<'_>| {
            let source = line.source.as_ref();
            json!({"insn": line.insn, "text": line.text, "function": line.label, "core": line.core,
                "source": source.map(|s| json!({"file": s.file, "line": s.line, "text": s.text}))})
        };
        json["listing"] = object.listing(program).iter().map(line).collect();
    }
    json
}

fn map_text(map: &MapSpec) -> String {
    let mut text = format!("map      {}{}", escape(&map.name), shape(map));
    if let Some(inner) = &map.inner {
        let _ = write!(text, "\n         of maps{}", shape(inner));
    }
    for (index, slot) in &map.slots {
        let name = match slot {
            Slot::Map(name) | Slot::Program(name) => escape(name),
        };
        let _ = write!(text, "\n         slot {index} = {name}");
    }
    text + "\n"
}

fn shape(map: &MapSpec) -> String {
    let mut text = format!(
        " type {} key {} value {} entries {}",
        map_type(map.map_type),
        map.key_size,
        map.value_size,
        map.max_entries
    );
    if map.flags != 0 {
        let _ = write!(text, " flags {}", map_flags(map.flags).join(","));
    }
    if map.map_extra != 0 {
        let _ = write!(text, " extra {:#x}", map.map_extra);
    }
    if let Some(node) = map.numa_node {
        let _ = write!(text, " numa {node}");
    }
    if map.pinning == 1 {
        text.push_str(" pinned by name");
    }
    if map.frozen {
        text.push_str(" frozen");
    }
    text
}

fn map_json(map: &MapSpec) -> Json {
    let slot = |(index, slot): &(u32, Slot)| match slot {
        Slot::Map(name) => json!({"index": index, "map": name}),
        Slot::Program(name) => json!({"index": index, "program": name}),
    };
    json!({
        "name": map.name, "kernel_name": map.kernel_name,
        "type": map.map_type, "type_name": map_type(map.map_type),
        "key_size": map.key_size, "value_size": map.value_size, "max_entries": map.max_entries,
        "flags": map.flags, "flag_names": map_flags(map.flags), "map_extra": map.map_extra,
        "numa_node": map.numa_node, "pin_by_name": map.pinning == 1, "frozen": map.frozen,
        "inner": map.inner.as_deref().map(map_json),
        "slots": map.slots.iter().map(slot).collect::<Vec<_>>(),
    })
}

/// What may still be read of variables: each byte that the object holds once, and some zeros. Variables that overlap, and
/// sections of zeros, which claim up to 2 GiB, would make gigabytes of a small file.
struct Left {
    held: usize,
    zeros: usize,
    parts: usize,
}

/// Of sections of zeros, in bytes: all variables together.
const ZEROS: usize = 64 << 10;

impl Left {
    fn of(object: &Object) -> Left {
        let held = object.maps.iter().filter_map(|map| map.contents.as_ref());
        let held = held.fold(0_usize, |sum, contents| sum.saturating_add(contents.len()));
        Left { held, zeros: ZEROS, parts: held.saturating_mul(2).saturating_add(PARTS) }
    }

    /// What a variable is at the start: its bytes by its type.
    fn initial(&mut self, object: &Object, variable: &Variable) -> Option<Value> {
        let (at, size) = (usize::try_from(variable.offset).ok()?, usize::try_from(variable.size).ok()?);
        let zeros;
        let bytes = match &object.maps.get(variable.map)?.contents {
            Some(contents) => {
                self.held = self.held.checked_sub(size)?;
                contents.get(at..at.checked_add(size)?)?
            }
            None => {
                self.zeros = self.zeros.checked_sub(size)?;
                zeros = vec![0; size];
                &zeros
            }
        };
        Some(value_within(object.btf.as_ref()?, variable.type_id, bytes, &mut self.parts))
    }
}

fn type_of(object: &Object, variable: &Variable) -> String {
    object.btf.as_ref().map(|btf| btf.describe(variable.type_id)).unwrap_or_default()
}

fn variable(object: &Object, variable: &Variable, left: &mut Left) -> String {
    let zeros = object.maps.get(variable.map).is_some_and(|map| map.contents.is_none());
    // As C has it.
    let unread = if zeros { "{0}" } else { "?" };
    let value = left.initial(object, variable).map_or_else(|| unread.to_owned(), |value| value.text());
    let (type_name, name) = (escape(&type_of(object, variable)), escape(&variable.name));
    format!("         {type_name} {name} = {value}\n")
}

fn variable_json(object: &Object, variable: &Variable, left: &mut Left) -> Json {
    json!({
        "name": variable.name, "map": object.maps.get(variable.map).map(|m| m.name.as_str()),
        "offset": variable.offset, "size": variable.size, "type": type_of(object, variable),
        "value": left.initial(object, variable).map(|value| value.json()),
    })
}
