// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The stages from bytes to an object, in order.

use std::collections::{BTreeMap, BTreeSet};

use super::body::{by_gcc, Context, Target};
use super::btf::Btf;
use super::btf_ext::BtfExt;
use super::elf::{Elf, Role};
use super::error::ObjectError;
use super::externs::Externs;
use super::functions::{program_kind, Functions};
use super::link::{Linked, Parts};
use super::maps::OldMaps;
use super::{btf_fixup, data, digest, license, maps, slots};
use super::{ExternRef, MapRef, MapSpec, Object, Program, ProgramKind, Slot};

/// Reads, checks and links.
pub fn parse(bytes: &[u8], old_maps: OldMaps) -> Result<Object, ObjectError> {
    let mut warnings = Vec::new();
    let elf = Elf::parse(bytes)?;
    let license = license::license(&elf, &mut warnings)?;
    license::check_version(&elf)?;
    let btf = types(&elf)?;

    let mut definitions = maps::definitions(&elf, btf.as_ref())?;
    slots::fill(&elf, &mut definitions)?;
    let functions = Functions::collect(&elf)?;
    let (more, tails) = old_maps(&elf, btf.as_ref(), &functions, &mut warnings)?;
    definitions.extend(more);
    let places: BTreeMap<(usize, u64), usize> =
        definitions.iter().enumerate().map(|(index, d)| ((d.section, d.offset), index)).collect();
    let mut maps: Vec<MapSpec> = definitions.into_iter().map(|d| d.spec).collect();

    let ext = instructions(&elf, btf.as_ref())?;
    let externs = Externs::collect(&elf, btf.as_ref());
    let by_gcc = by_gcc(&elf);
    let context = Context { elf: &elf, functions: &functions, maps: &places, externs: &externs, by_gcc };
    let bodies = functions.iter().map(|(_, function)| context.read(function)).collect();
    let catchers = btf.as_ref().map_or(Ok(BTreeMap::new()), |btf| functions.catchers(btf))?;
    let linked = Parts { elf: &elf, functions: &functions, bodies, ext, catchers, tails }.link()?;

    let sections = add_data(&elf, btf.as_ref(), &linked, &mut maps, &mut warnings)?;
    let programs: Vec<Program> = linked.into_iter().map(|l| refer(l, &sections)).collect();
    check_names(&programs, &maps, &mut warnings)?;
    maps.iter().for_each(|map| maps::notice_odd(map, &mut warnings));
    notice_the_odd(&elf, &functions, &programs, &mut warnings);
    let variables = btf.as_ref().map(|btf| data::variables(&maps, btf)).unwrap_or_default();
    Ok(Object {
        sha256: digest::sha256(bytes),
        license,
        programs,
        maps,
        btf,
        variables,
        externs: externs.all,
        modules: Vec::new(),
        warnings,
    })
}

fn types(elf: &Elf<'_>) -> Result<Option<Btf>, ObjectError> {
    let Some((_, section)) = elf.section(".BTF") else { return Ok(None) };
    let mut btf = Btf::parse(section.data)?;
    btf_fixup::fix_up(&mut btf, elf)?;
    Ok(Some(btf))
}

/// `.BTF.ext`; its strings are those of BTF.
fn instructions<'a>(elf: &Elf<'_>, btf: Option<&'a Btf>) -> Result<BtfExt<'a>, ObjectError> {
    let (Some((_, section)), Some(btf)) = (elf.section(".BTF.ext"), btf) else {
        return Ok(BtfExt::default());
    };
    BtfExt::parse(section.data, |offset| std::str::from_utf8(btf.string(offset)?).ok())
}

/// Adds a map for each data section that a program refers to, and says which is which.
fn add_data(
    elf: &Elf<'_>,
    btf: Option<&Btf>,
    linked: &[Linked],
    maps: &mut Vec<MapSpec>,
    warnings: &mut Vec<String>,
) -> Result<BTreeMap<usize, usize>, ObjectError> {
    let targets = linked.iter().flat_map(|l| &l.loads).map(|(_, target)| target);
    let section = |target: &Target| match target {
        Target::Data { section, .. } => Some(*section),
        Target::Map(_) | Target::Extern(_) => None,
    };
    let used: BTreeSet<usize> = targets.filter_map(section).collect();
    let mut sections = BTreeMap::new();
    for section in used {
        sections.insert(section, maps.len());
        maps.push(data::spec(elf, section, btf, warnings)?);
    }
    Ok(sections)
}

/// Turns a program's address loads into map references.
fn refer(linked: Linked, sections: &BTreeMap<usize, usize>) -> Program {
    let refs = linked.loads.iter().filter_map(|(insn, target)| match target {
        Target::Map(map) => Some(MapRef { insn: *insn, map: *map, offset: None }),
        Target::Data { section, offset } => {
            Some(MapRef { insn: *insn, map: *sections.get(section)?, offset: Some(*offset) })
        }
        Target::Extern(_) => None,
    });
    let externs = linked.loads.iter().filter_map(|(insn, target)| match target {
        Target::Extern(wanted) => Some(ExternRef { insn: *insn, wanted: *wanted }),
        _ => None,
    });
    Program { refs: refs.collect(), externs: externs.collect(), ..linked.program }
}

/// Static slots must name programs that exist, and names must stay distinct when the kernel cuts them.
fn check_names(
    programs: &[Program],
    maps: &[MapSpec],
    warnings: &mut Vec<String>,
) -> Result<(), ObjectError> {
    let names: BTreeSet<&str> = programs.iter().map(|p| p.name.as_str()).collect();
    let mut kernel_names = BTreeSet::new();
    for map in maps {
        for (_, slot) in &map.slots {
            if matches!(slot, Slot::Program(name) if !names.contains(name.as_str())) {
                let what = "holds a function that is not a program";
                return Err(ObjectError::Map { map: map.name.clone(), attribute: "values".to_owned(), what });
            }
        }
        if !kernel_names.insert(&map.kernel_name) {
            warnings.push(format!(
                "map {}: the kernel shows it as {}, like another one",
                map.name, map.kernel_name
            ));
        }
    }
    Ok(())
}

fn notice_the_odd(
    elf: &Elf<'_>,
    functions: &Functions<'_>,
    programs: &[Program],
    warnings: &mut Vec<String>,
) {
    for (index, section) in
        elf.sections.iter().enumerate().filter(|(_, s)| s.role == Role::Code && s.size != 0)
    {
        if !functions.iter().any(|(_, f)| f.section == index) {
            warnings.push(format!("section {}: holds instructions but no function", section.name));
        }
    }
    let names: BTreeSet<&str> = programs.iter().map(|p| p.name.as_str()).collect();
    for (_, function) in functions.iter().filter(|(_, f)| !f.entry && names.contains(f.name)) {
        let section = elf.sections.get(function.section).map_or("", |s| s.name);
        if program_kind(section).0 == ProgramKind::SchedCls {
            warnings
                .push(format!("section {section}: {} is static, so it loads only when named", function.name));
        }
    }
    if !programs.iter().any(|p| p.kind == ProgramKind::SchedCls) {
        warnings.push(
            "no program for tc: none is in a section named classifier, tc, tcx/…, netkit/… or action"
                .to_owned(),
        );
    }
}
