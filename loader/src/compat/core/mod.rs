// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! CO-RE: constants that the compiler took from one layout of the kernel's types to those of the kernel at hand.
//!
//! Each relocation names a local type, a path into it and what is asked (`enum bpf_core_relo_kind`). [`spec`] reads the path,
//! [`find`] looks it up in a type of the kernel, [`alike`] decides which types may stand for each other, [`value`]
//! computes the constant, [`patch`] writes it. The rules are those of tools/lib/bpf/relo_core.c, which the kernel uses as
//! well, so both give the same program.

pub(super) mod alike;
mod find;
pub(super) mod patch;
mod spec;
mod value;

use std::collections::BTreeSet;

use crate::compat::target::{essential, Target};
use crate::object::{Btf, CoreRelo, Object, ObjectError, Program};
use patch::Change;
use spec::{Ask, Spec};
use value::Answer;

/// The names of the types that the relocations of these programs are about, without flavours.
pub fn wanted(object: &Object) -> BTreeSet<String> {
    let Some(btf) = object.btf.as_ref() else { return BTreeSet::new() };
    let relos = object.programs.iter().flat_map(|p| &p.core);
    let names = relos.filter_map(|r| Some(essential(btf.get(r.type_id)?.name()).to_owned()));
    names.filter(|name| !name.is_empty()).collect()
}

/// Makes all CO-RE relocations of an object. What does not exist in the kernel becomes a poisoned instruction. The first
/// target is the kernel itself, those of modules follow: they are asked for what the kernel has no type of that name for.
///
/// # Errors
/// A damaged relocation, or one for which the kernel's types give more than one answer.
pub fn relocate(object: &mut Object, targets: &[Target]) -> Result<(), ObjectError> {
    let Some(btf) = object.btf.take() else { return Ok(()) };
    let mut programs = std::mem::take(&mut object.programs);
    let result = programs.iter_mut().try_for_each(|program| {
        let done = relocate_program(&btf, program, targets);
        let at = |insn: usize| {
            let upto = program.lines.partition_point(|l| usize::try_from(l.insn).is_ok_and(|i| i <= insn));
            let line = upto.checked_sub(1).and_then(|i| program.lines.get(i));
            let text = |offset| String::from_utf8_lossy(btf.string(offset).unwrap_or_default()).into_owned();
            line.map(|l| format!(", {}:{}", text(l.file_off), l.line_col >> 10)).unwrap_or_default()
        };
        match done {
            Ok(()) => Ok(()),
            // A program that is not for tc, or that must be asked for, is no fault of the others.
            Err((insn, about, what)) => {
                let about = format!("{about}{}", at(insn));
                let error = ObjectError::Resolve { program: program.name.clone(), about, what };
                if program.loads_by_itself() {
                    return Err(error);
                }
                program.give_up(error);
                Ok(())
            }
        }
    });
    (object.btf, object.programs) = (Some(btf), programs);
    result
}

/// Where, about what, what is wrong.
type Fault = (usize, String, String);

fn relocate_program(btf: &Btf, program: &mut Program, targets: &[Target]) -> Result<(), Fault> {
    for relo in std::mem::take(&mut program.core) {
        let fault = |about: &str, what: String| (relo.insn, about.to_owned(), what);
        let ask = Ask::from_number(relo.kind)
            .ok_or_else(|| fault("CO-RE", format!("the relocation kind {} is unknown", relo.kind)))?;
        let access =
            btf.string(relo.access_off).and_then(|s| std::str::from_utf8(s).ok()).unwrap_or_default();
        let local = Spec::read(btf, relo.type_id, access, ask)
            .map_err(|what| fault(&btf.describe(relo.type_id), format!("CO-RE path {access:?}: {what}")))?;
        let about = format!("{} ({})", local.describe(), ask.name());
        let change = decide(&relo, &local, ask, targets).map_err(|what| fault(&about, what))?;
        let missing = patch::apply(&mut program.insns, relo.insn, &change);
        if let Some(why) = missing.map_err(|what| fault(&about, what.to_owned()))? {
            program.poisoned.push((relo.insn, format!("{about} {why} {}", name(targets))));
        }
    }
    Ok(())
}

fn name(targets: &[Target]) -> &str {
    targets.first().map_or("the kernel", |target| &target.name)
}

/// Asks every type of the same name; all that fit must agree.
fn decide(relo: &CoreRelo, local: &Spec<'_>, ask: Ask, targets: &[Target]) -> Result<Change, String> {
    if ask == Ask::TypeIdLocal {
        return Ok(Change {
            old: Answer::number(relo.type_id.into()),
            new: Some(Answer::number(relo.type_id.into())),
        });
    }
    let old = value::answer(Some(local), ask)?.ok_or("asks for what is not even in the object")?;
    let root = local.btf.get(relo.type_id).ok_or("the type does not exist")?;
    let name = essential(root.name());
    if name.is_empty() {
        return Err("a type without a name cannot be looked up in a kernel".to_owned());
    }
    let mut found: Option<(Spec<'_>, Option<Answer>)> = None;
    let alike =
        |target: &Target, id: &u32| target.btf.get(*id).is_some_and(|t| alike::same_kind(t.kind, root.kind));
    // What the kernel itself only declares, a module may define.
    let own = targets.iter().take(1).any(|target| target.named(name).iter().any(|id| alike(target, id)));
    let asked = targets.iter().take(if own { 1 } else { targets.len() });
    for (target, id) in asked.flat_map(|target| target.named(name).iter().map(move |id| (target, id))) {
        if !alike(target, id) {
            continue;
        }
        let Some(spec) = find::find(local, &target.btf, *id, ask)? else { continue };
        let mut answer = value::answer(Some(&spec), ask)?;
        if let (Ask::TypeIdTarget, Some(answer)) = (ask, &mut answer) {
            answer.value = target.kernel_id(*id).unwrap_or(0).into();
        }
        match &found {
            None => found = Some((spec, answer)),
            Some((first, before)) => {
                let value = |a: &Option<Answer>| a.as_ref().map(|a| a.value);
                if first.bit_offset != spec.bit_offset || value(before) != value(&answer) {
                    return Err(format!(
                        "{} has several such types, which give different answers",
                        self::name(targets)
                    ));
                }
            }
        }
    }
    let new = match found {
        Some((_, answer)) => answer,
        None => value::answer(None, ask)?,
    };
    Ok(Change { old, new })
}
