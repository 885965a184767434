// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Types as the compiler left them to types as the kernel takes them.
//!
//! A compiler does not know where a linker puts things, so it leaves the sizes of sections and the offsets of global
//! variables at zero; `btf_datasec_check_meta()` and `btf_func_check()` (kernel/bpf/btf.c) refuse that. Ids never change.

use std::collections::{BTreeMap, BTreeSet};

use super::btf::Btf;
use super::btf_type::{IntEncoding, Kind, Placed, Type};
use super::elf::{Elf, Place, Symbol, SymbolKind};
use super::error::ObjectError;

/// Makes all of the fix-ups.
pub fn fix_up(btf: &mut Btf, elf: &Elf<'_>) -> Result<(), ObjectError> {
    one_encoding(btf);
    place_variables(btf, elf)?;
    narrow_hidden_functions(btf, elf);
    name_functions(btf)?;
    name_parameters(btf)
}

/// GCC calls a `char` both signed and a character, and the kernel takes only one of these (`btf_int_check_meta()`). LLVM
/// calls it signed.
fn one_encoding(btf: &mut Btf) {
    let both = |int: &IntEncoding| int.signed && int.character;
    let ints: Vec<(u32, IntEncoding)> =
        btf.types().filter_map(|t| Some((t.id, t.int()?))).filter(|(_, int)| both(int)).collect();
    for (id, int) in ints {
        btf.patch(id, 3, SIGNED << 24 | int.shift << 16 | int.bits);
    }
}

/// Gives each DATASEC its section's size and its variables their offsets, rising.
///
/// LLVM places static variables itself, as their names may not be enough: two may share one. GCC leaves them at 0. A `__hidden`
/// one becomes static, as libbpf makes it: nobody outside is to find it.
fn place_variables(btf: &mut Btf, elf: &Elf<'_>) -> Result<(), ObjectError> {
    let (globals, statics) = (global_variables(elf), static_variables(elf));
    let hidden: BTreeSet<(usize, &str)> =
        elf.symbols.iter().filter(|s| s.hidden).filter_map(|s| Some(place(s)?.0)).collect();
    let sections: Vec<(u32, String)> =
        btf.types().filter(|t| t.kind == Kind::Datasec).map(|t| (t.id, t.name().to_owned())).collect();
    for (id, name) in sections {
        let fault = |what| ObjectError::Btf { type_id: id, what };
        // `.ksyms` and `.kconfig` are sections of BTF only.
        let Some((index, section)) = elf.section(&name) else { continue };
        let size = u32::try_from(section.size).map_err(|_| fault("is of a section larger than 4 GiB"))?;
        let datasec = btf.get(id).ok_or(fault("is not there"))?;
        let mut placed: Vec<Placed> = datasec.placed().collect();
        for variable in &mut placed {
            let var = btf.get(variable.var).filter(|v| v.kind == Kind::Var);
            let var = var.ok_or(fault("places something that is no variable"))?;
            if var.linkage() == GLOBAL {
                let offset =
                    globals.get(&(index, var.name())).ok_or(fault("places a variable that has no symbol"))?;
                variable.offset = *offset;
                // A map is made and named all the same, as libbpf did before 1.1.
                if name != ".maps" && hidden.contains(&(index, var.name())) {
                    btf.patch(variable.var, 3, STATIC).ok_or(fault("is cut short"))?;
                }
            } else if let Some(Some(offset)) = statics.get(&(index, var.name())) {
                variable.offset = *offset;
            }
        }
        placed.sort_by_key(|p| p.offset);
        let end = |p: &Placed| p.offset.saturating_add(p.size);
        let apart = placed.windows(2).all(|pair| matches!(pair, [a, b] if end(a) <= b.offset));
        if !apart || placed.iter().any(|p| end(p) > size) {
            place_anew(btf, elf, (id, index, &name, size), &placed).ok_or(fault("is cut short"))?;
            continue;
        }
        let parts = placed.iter().flat_map(|p| [p.var, p.offset, p.size]);
        for (word, value) in (2usize..).zip(std::iter::once(size).chain(parts)) {
            btf.patch(id, word, value).ok_or(fault("is cut short"))?;
        }
    }
    Ok(())
}

/// Constants that LLVM merged into `.rodata.cst…` are said to be in `.rodata` still (clang 14), and the kernel takes no such
/// types. So a second type of the section has what is there by its symbol, and the first becomes a type that is nobody's, as
/// long as it was: a union.
fn place_anew(
    btf: &mut Btf,
    elf: &Elf<'_>,
    (id, index, name, size): (u32, usize, &str, u32),
    placed: &[Placed],
) -> Option<()> {
    let largest = placed.iter().map(|p| p.size).max()?;
    let count = |n: usize| u32::try_from(n).ok();
    let (mut union, mut new) =
        (vec![0, (Kind::Union as u32) << 24 | count(placed.len())?, largest], Vec::new());
    let mut end = 0u32;
    for variable in placed {
        let var = btf.get(variable.var)?;
        union.extend([0, var.type_id(), 0]);
        let here = |s: &Symbol<'_>| {
            s.name == var.name() && s.place == Place::Section(index) && s.value == u64::from(variable.offset)
        };
        let after = variable.offset.checked_add(variable.size)?;
        if elf.symbols.iter().any(here) && variable.offset >= end && after <= size {
            end = after;
            new.extend([variable.var, variable.offset, variable.size]);
        }
    }
    (0usize..).zip(union).try_for_each(|(word, value)| btf.patch(id, word, value))?;
    if !new.is_empty() {
        let name = btf.add_string(name)?;
        let kind = (Kind::Datasec as u32) << 24 | count(new.len() / 3)?;
        btf.add_type(&[&[name, kind, size], &new[..]].concat())?;
    }
    Some(())
}

/// By section and name, where each lies in its section.
fn global_variables<'a>(elf: &Elf<'a>) -> BTreeMap<(usize, &'a str), u32> {
    elf.symbols.iter().filter(|s| !s.local).filter_map(place).collect()
}

/// The same; None for a name that two share.
fn static_variables<'a>(elf: &Elf<'a>) -> BTreeMap<(usize, &'a str), Option<u32>> {
    let mut found = BTreeMap::new();
    for (name, offset) in elf.symbols.iter().filter(|s| s.local).filter_map(place) {
        found.entry(name).and_modify(|only| *only = None).or_insert(Some(offset));
    }
    found
}

fn place<'a>(symbol: &Symbol<'a>) -> Option<((usize, &'a str), u32)> {
    match symbol.place {
        Place::Section(index) if symbol.kind == SymbolKind::Other => {
            Some(((index, symbol.name), u32::try_from(symbol.value).ok()?))
        }
        _ => None,
    }
}

/// A `__hidden` function becomes static: the kernel then verifies it in its callers and not alone, as its author wants.
fn narrow_hidden_functions(btf: &mut Btf, elf: &Elf<'_>) {
    let hidden: BTreeSet<&str> = elf
        .symbols
        .iter()
        .filter(|s| s.kind == SymbolKind::Function && !s.local && s.hidden)
        .map(|s| s.name)
        .collect();
    let ids: Vec<u32> = btf
        .types()
        .filter(|t| t.kind == Kind::Func && t.linkage() == GLOBAL && hidden.contains(t.name()))
        .map(|t| t.id)
        .collect();
    for id in ids {
        btf.patch(id, 1, (Kind::Func as u32) << 24 | STATIC);
    }
}

/// A function must have a name, and GCC has one without where a pointer leads to functions. No code is of this type.
fn name_functions(btf: &mut Btf) -> Result<(), ObjectError> {
    let unnamed = |t: &Type<'_>| t.kind == Kind::Func && t.name().is_empty();
    let ids: Vec<u32> = btf.types().filter(unnamed).map(|t| t.id).collect();
    let Some(first) = ids.first() else { return Ok(()) };
    let name = btf
        .add_string("unnamed")
        .ok_or(ObjectError::Btf { type_id: *first, what: "has too many strings" })?;
    for id in ids {
        btf.patch(id, 0, name);
    }
    Ok(())
}

/// A function's parameters must have names, and C lets a definition leave them out.
fn name_parameters(btf: &mut Btf) -> Result<(), ObjectError> {
    let protos: BTreeSet<u32> = btf.types().filter(|t| t.kind == Kind::Func).map(|t| t.type_id()).collect();
    let mut unnamed = Vec::new();
    for id in protos {
        let Some(proto) = btf.get(id).filter(|t| t.kind == Kind::FuncProto) else { continue };
        let params = (0usize..).zip(proto.params());
        // The last one without a type is `...`, which has no name.
        unnamed.extend(params.filter(|(_, p)| p.name.is_empty() && p.type_id != 0).map(|(n, _)| (id, n)));
    }
    let mut names: BTreeMap<usize, u32> = BTreeMap::new();
    for (id, n) in unnamed {
        let fault = ObjectError::Btf { type_id: id, what: "has too many strings" };
        let name = match names.get(&n) {
            Some(offset) => *offset,
            None => btf.add_string(&format!("arg{n}")).ok_or(fault)?,
        };
        names.insert(n, name);
        btf.patch(id, n.saturating_mul(2).saturating_add(3), name);
    }
    Ok(())
}

/// BTF_INT_SIGNED.
const SIGNED: u32 = 1;
/// BTF_FUNC_STATIC.
const STATIC: u32 = 0;
/// BTF_FUNC_GLOBAL, BTF_VAR_GLOBAL_ALLOCATED.
const GLOBAL: u32 = 1;
