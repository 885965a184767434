// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `inspect FILE`: what an object holds, without a kernel.
use crate::cmd::{objects, Answer};
use crate::load::refusal::Refusal;
use crate::load::transcript::hex;
use crate::object::{MapSpec, Object, Program, ProgramKind};
use clap::ArgMatches;
use serde_json::{json, Value};

/// Reads the object and lists its programs, maps and variables.
pub fn inspect(args: &ArgMatches) -> Result<Answer, Refusal> {
    let named = objects::open(args)?;
    let object = &named.object;
    let mut text = format!(
        "object   {}\nsha256   {}\nlicense  \"{}\"\n",
        named.file.escape_debug(),
        hex(&object.sha256),
        object.license.escape_debug()
    );
    object.programs.iter().for_each(|p| text.push_str(&program(object, p)));
    object.maps.iter().for_each(|m| text.push_str(&map(m)));
    object.warnings.iter().for_each(|w| text.push_str(&format!("note: {w}\n")));
    let json = json!({
        "schema": "detour.inspect/1",
        "file": named.file,
        "sha256": hex(&object.sha256),
        "license": object.license,
        "programs": object.programs.iter().map(program_json).collect::<Vec<_>>(),
        "maps": object.maps.iter().map(map_json).collect::<Vec<_>>(),
        "warnings": object.warnings,
    });
    Ok(Answer::done(text, json))
}

fn kind(program: &Program) -> &'static str {
    match program.kind {
        ProgramKind::SchedCls => "sched_cls",
        ProgramKind::Unknown => "unknown",
    }
}

fn program(object: &Object, program: &Program) -> String {
    let tags = program.tags();
    let mut maps: Vec<&str> =
        program.refs.iter().filter_map(|r| Some(object.maps.get(r.map)?.name.as_str())).collect();
    maps.sort_unstable();
    maps.dedup();
    format!(
        "program  {} section {} type {} insns {} functions {} tag {} (sha1 {})\n         maps {}\n",
        program.name.escape_debug(),
        program.section.escape_debug(),
        kind(program),
        program.insns.len(),
        program.labels.len(),
        hex(&tags.sha256),
        hex(&tags.sha1),
        maps.join(" ")
    )
}

fn program_json(program: &Program) -> Value {
    json!({
        "name": program.name,
        "section": program.section,
        "type": kind(program),
        "autoload": program.autoload,
        "insns": program.insns.len(),
        "functions": program.labels.iter().map(|l| l.name.as_str()).collect::<Vec<_>>(),
        "tag": crate::load::plan_json::tags(&program.tags()),
    })
}

fn map(map: &MapSpec) -> String {
    format!(
        "map      {} type {} key {} value {} entries {} flags {:#x}{}\n",
        map.name.escape_debug(),
        map.map_type,
        map.key_size,
        map.value_size,
        map.max_entries,
        map.flags,
        if map.frozen { " frozen" } else { "" }
    )
}

fn map_json(map: &MapSpec) -> Value {
    json!({
        "name": map.name, "type": map.map_type, "key_size": map.key_size, "value_size": map.value_size,
        "max_entries": map.max_entries, "flags": map.flags, "frozen": map.frozen,
    })
}
