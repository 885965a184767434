// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Externs and what a kernel said of them to instructions, and to types that the kernel takes.

use std::collections::{BTreeMap, BTreeSet};

use crate::compat::config::{self, Config};
use crate::compat::core::alike;
use crate::compat::core::patch::replace;
use crate::compat::target::{essential, Target};
use crate::object::{Btf, Extern, Insn, Kind, MapRef, Object, ObjectError, Origin, Program, CALL};

/// What a kernel says of one extern.
enum Found {
    /// Its place in the map `.kconfig`.
    Value(u32),
    /// The kernel's BTF id of a variable or function.
    Type(u32),
    /// The BTF id of a function in a module, and the module's number in calls.
    Module(u32, i16),
    /// The address of a variable that has no type.
    Address(u64),
    /// Nothing, and it is weak.
    Missing,
    /// Something else of this name, as is said, and it is weak.
    Other(String),
}

/// The names that have to be looked up in the kernel's types.
pub fn wanted(object: &Object) -> BTreeSet<String> {
    let typed = object.externs.iter().filter(|e| e.origin != Origin::Config && !is_untyped(object, e));
    typed.map(|e| essential(&e.name).to_owned()).collect()
}

/// The names of those functions and variables that the kernel itself has none of, whatever else it calls so.
pub fn missing(object: &Object, kernel: &Target) -> BTreeSet<String> {
    let lacks = |e: &&Extern| {
        let kind = if e.origin == Origin::Function { Kind::Func } else { Kind::Var };
        let of_kind = |id: &u32| kernel.btf.get(*id).is_some_and(|t| t.kind == kind);
        !kernel.named(essential(&e.name)).iter().any(of_kind)
    };
    let typed = object.externs.iter().filter(|e| e.origin != Origin::Config && !is_untyped(object, e));
    typed.filter(lacks).map(|e| essential(&e.name).to_owned()).collect()
}

/// The names that have to be looked up in the kernel's list of symbols.
pub fn untyped(object: &Object) -> BTreeSet<&str> {
    object.externs.iter().filter(|e| is_untyped(object, e)).map(|e| e.name.as_str()).collect()
}

/// `extern const void name __ksym`: nothing but an address is asked for.
fn is_untyped(object: &Object, wanted: &Extern) -> bool {
    let var = object.btf.as_ref().and_then(|btf| Some((btf, btf.get(wanted.type_id)?)));
    wanted.origin == Origin::Variable && var.is_some_and(|(btf, var)| btf.strip(var.type_id()).is_none())
}

/// Fills every instruction that names an extern.
///
/// # Errors
/// A strong extern that is missing or of another type, in a program that loads by itself.
pub fn fill(
    object: &mut Object,
    targets: &[Target],
    addresses: &BTreeMap<String, BTreeSet<u64>>,
    config: &Config,
) -> Result<(), ObjectError> {
    let externs = std::mem::take(&mut object.externs);
    let Some(mut btf) = object.btf.take() else { return Ok(()) };
    let (map, places) = match config::map(&btf, &externs, config) {
        Some((map, places)) => (Some(map), places),
        None => (None, BTreeMap::new()),
    };
    let answers: Vec<Result<Found, String>> = externs
        .iter()
        .enumerate()
        .map(|(index, wanted)| match (wanted.origin, places.get(&index)) {
            (_, Some((place, value))) => value.clone().map(|()| Found::Value(*place)),
            (Origin::Config, None) => Err("is of a type without size".to_owned()),
            (Origin::Variable, _)
                if btf.get(wanted.type_id).is_some_and(|v| btf.strip(v.type_id()).is_none()) =>
            {
                address(wanted, addresses)
            }
            _ => typed(&btf, wanted, targets),
        })
        .collect();
    object.warnings.extend(externs.iter().zip(&answers).filter_map(|(wanted, answer)| match answer {
        Ok(Found::Other(what)) => {
            Some(format!("extern {}: {what}; as it is __weak, it counts as missing", wanted.name))
        }
        Ok(Found::Module(_, number)) => shared_name(wanted, targets, *number),
        _ => None,
    }));
    let offsets = externs.iter().enumerate().filter_map(|(n, e)| Some((e.type_id, places.get(&n)?.0)));
    let offsets: BTreeMap<u32, u32> = offsets.collect();
    let size = map.as_ref().map_or(0, |m| m.value_size);
    fix_config(&mut btf, &offsets, size);
    fix_symbols(&mut btf).ok_or(ObjectError::Btf { type_id: 0, what: ".ksyms is damaged" })?;
    object.btf = Some(btf);
    let config_map = object.maps.len();
    object.maps.extend(map);
    for program in &mut object.programs {
        fill_program(program, &externs, &answers, config_map)?;
    }
    Ok(())
}

fn fill_program(
    program: &mut Program,
    externs: &[Extern],
    answers: &[Result<Found, String>],
    config_map: usize,
) -> Result<(), ObjectError> {
    for reference in std::mem::take(&mut program.externs) {
        let (Some(wanted), Some(answer)) = (externs.get(reference.wanted), answers.get(reference.wanted))
        else {
            continue;
        };
        let found = match answer {
            Ok(found) => found,
            Err(what) => {
                let (about, what) = (format!("extern {}", wanted.name), what.clone());
                let error = ObjectError::Resolve { program: program.name.clone(), about, what };
                if program.loads_by_itself() {
                    return Err(error);
                }
                program.give_up(error);
                return Ok(());
            }
        };
        let at = reference.insn;
        let Some(insn) = program.insns.get(at).copied() else { continue };
        let is_call = insn.code == CALL;
        match found {
            Found::Value(offset) => {
                program.refs.push(MapRef { insn: at, map: config_map, offset: Some(*offset) });
                load(&mut program.insns, at, insn.with_src(PSEUDO_MAP_VALUE), 0, *offset as i32);
            }
            Found::Type(id) if is_call => {
                replace(&mut program.insns, at, Insn { imm: *id as i32, off: 0, ..insn })
            }
            Found::Module(id, module) if is_call => {
                replace(&mut program.insns, at, Insn { imm: *id as i32, off: *module, ..insn });
            }
            // The kernel would take the address only with the number of a descriptor, which no tag could be told of beforehand;
            // and nobody can do with it but ask whether the function is there (bpf_ksym_exists()).
            Found::Module(..) => load(&mut program.insns, at, insn.with_src(0), 1, 0),
            Found::Type(id) => load(&mut program.insns, at, insn.with_src(PSEUDO_BTF_ID), *id as i32, 0),
            Found::Address(address) => {
                load(&mut program.insns, at, insn.with_src(0), *address as i32, (*address >> 32) as i32);
            }
            Found::Missing | Found::Other(_) if is_call => {
                let number = i32::try_from(reference.wanted).unwrap_or(0);
                let imm = POISONED_KFUNC.saturating_add(number);
                replace(&mut program.insns, at, Insn { code: CALL, regs: 0, off: 0, imm });
                program.poisoned.push((at, format!("{} does not exist in this kernel; it is __weak, so it may only be called where bpf_ksym_exists() said so", wanted.name)));
            }
            Found::Missing | Found::Other(_) => load(&mut program.insns, at, insn.with_src(0), 0, 0),
        }
    }
    program.refs.sort_by_key(|r| r.insn);
    program.poisoned.sort_by_key(|(insn, _)| *insn);
    Ok(())
}

/// Both halves of an `ld_imm64`.
fn load(insns: &mut [Insn], at: usize, insn: Insn, low: i32, high: i32) {
    replace(insns, at, Insn { imm: low, off: 0, ..insn });
    let second = at.saturating_add(1);
    replace(insns, second, Insn { code: 0, regs: 0, off: 0, imm: high });
}

fn absent(wanted: &Extern, what: String) -> Result<Found, String> {
    if wanted.weak {
        Ok(Found::Missing)
    } else {
        Err(what)
    }
}

fn address(wanted: &Extern, addresses: &BTreeMap<String, BTreeSet<u64>>) -> Result<Found, String> {
    let known: Vec<u64> = addresses.get(&wanted.name).into_iter().flatten().copied().collect();
    match known.as_slice() {
        [] => absent(wanted, "is not among the kernel's symbols (/proc/kallsyms)".to_owned()),
        [0] => {
            Err("the kernel hides addresses from this process: CAP_SYSLOG and kernel.kptr_restrict decide"
                .to_owned())
        }
        [address] => Ok(Found::Address(*address)),
        many => Err(format!("the kernel has {} symbols of this name", many.len())),
    }
}

/// Looks in the kernel itself first, then in its modules. The first target is the kernel, and the others are the object's
/// modules in order.
fn typed(btf: &Btf, wanted: &Extern, targets: &[Target]) -> Result<Found, String> {
    let kind = if wanted.origin == Origin::Function { Kind::Func } else { Kind::Var };
    let sort = if kind == Kind::Func { "kernel function" } else { "kernel variable with a type" };
    let name = essential(&wanted.name);
    let Some(kernel) = targets.first() else {
        return absent(wanted, "no types of a kernel are known".to_owned());
    };
    let found = targets.iter().enumerate().find_map(|(number, target)| {
        let mut types = target.named(name).iter().filter_map(|id| target.btf.get(*id));
        Some((number, target, types.find(|t| t.kind == kind && t.name() == name)?))
    });
    let Some((number, target, found)) = found else {
        return absent(wanted, format!("is no {sort} in {}", kernel.name));
    };
    let ours = btf.get(wanted.type_id).map_or(0, |t| t.type_id());
    let ours = btf.strip(ours).map_or(0, |t| t.id);
    let theirs = target.btf.strip(found.type_id()).map_or(0, |t| t.id);
    if !alike::compatible(btf, ours, &target.btf, theirs)? {
        let what = format!("is declared with another type than in {}", target.name);
        return absent(wanted, what.clone()).map(|_| Found::Other(what));
    }
    let id = target.kernel_id(found.id).ok_or("has no id")?;
    match (number, kind) {
        (0, _) => Ok(Found::Type(id)),
        (_, Kind::Func) => {
            Ok(Found::Module(id, i16::try_from(number).map_err(|_| "is in too many modules")?))
        }
        // Such a load names the module by a descriptor's number, so no tag could be told beforehand.
        _ => Err(format!("is a variable of {}: only those of the kernel itself can be had", target.name)),
    }
}

/// Says so where more than one module has a function of this name. Other loaders take that of the module that was there first.
fn shared_name(wanted: &Extern, targets: &[Target], number: i16) -> Option<String> {
    let name = essential(&wanted.name);
    let has = |target: &&Target| {
        let mut types = target.named(name).iter().filter_map(|id| target.btf.get(*id));
        types.any(|t| t.kind == Kind::Func)
    };
    let taken = targets.get(usize::try_from(number).ok()?)?;
    let all: Vec<&str> = targets.iter().skip(1).filter(has).map(|t| t.name.as_str()).collect();
    (all.len() > 1).then(|| {
        format!("extern {name}: the modules {} have it, that of {} is meant", all.join(", "), taken.name)
    })
}

/// `.kconfig` becomes a section like those of data: its variables defined, at their places, in rising order.
fn fix_config(btf: &mut Btf, offsets: &BTreeMap<u32, u32>, size: u32) {
    let Some(section) = btf.find(Kind::Datasec, ".kconfig") else { return };
    let (id, mut placed) = (section.id, section.placed().collect::<Vec<_>>());
    for place in &mut placed {
        place.offset = offsets.get(&place.var).copied().unwrap_or(0);
        btf.patch(place.var, LINKAGE, GLOBAL);
    }
    placed.sort_by_key(|p| p.offset);
    let words = placed.iter().flat_map(|p| [p.var, p.offset, p.size]);
    for (word, value) in (2usize..).zip(std::iter::once(size).chain(words)) {
        btf.patch(id, word, value);
    }
}

/// `.ksyms` becomes a section of one `int` for each extern, since the kernel takes neither undefined variables nor
/// functions in a section; a function's place goes to one variable that stands for all of them.
fn fix_symbols(btf: &mut Btf) -> Option<()> {
    let Some(section) = btf.find(Kind::Datasec, ".ksyms") else { return Some(()) };
    let (id, placed) = (section.id, section.placed().collect::<Vec<_>>());
    let int = btf.types().find(|t| t.kind == Kind::Int && t.size() == 4).map(|t| t.id);
    let int = match int {
        Some(int) => int,
        None => {
            let name = btf.add_string("int")?;
            btf.add_type(&[name, (Kind::Int as u32) << 24, 4, SIGNED_32])?
        }
    };
    let name = btf.add_string("dummy_ksym")?;
    let stand_in = btf.add_type(&[name, (Kind::Var as u32) << 24, int, GLOBAL])?;
    let mut words = Vec::new();
    let mut offset = 0u32;
    for place in &placed {
        let found = btf.get(place.var)?;
        let var = match found.kind {
            Kind::Func => {
                btf.patch(place.var, 1, (Kind::Func as u32) << 24 | GLOBAL)?;
                stand_in
            }
            _ => {
                btf.patch(place.var, 2, int)?;
                btf.patch(place.var, LINKAGE, GLOBAL)?;
                place.var
            }
        };
        words.extend([var, offset, 4]);
        offset = offset.checked_add(4)?;
    }
    for (word, value) in (2usize..).zip(std::iter::once(offset).chain(words)) {
        btf.patch(id, word, value)?;
    }
    Some(())
}

/// The word of a VAR that says its linkage, and BTF_VAR_GLOBAL_ALLOCATED, BTF_FUNC_GLOBAL.
const LINKAGE: usize = 3;
const GLOBAL: u32 = 1;
/// BTF_INT_SIGNED, 32 bits.
const SIGNED_32: u32 = 1 << 24 | 32;
const PSEUDO_MAP_VALUE: u8 = 2;
/// `src_reg` of an `ld_imm64`: `imm` is the BTF id of a kernel's variable or function.
const PSEUDO_BTF_ID: u8 = 3;
/// Calls of what is missing become calls of helpers with numbers from here on, as in libbpf.
const POISONED_KFUNC: i32 = 2_002_000_000;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The kernel's own types in the place of those of modules.
    #[test]
    fn of_two_modules_with_one_name_the_first_is_taken_and_said() {
        let Ok(types) = std::fs::read("/sys/kernel/btf/vmlinux") else { return };
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../elf/fixtures/ksyms.bpf.o");
        let object = Object::parse(&std::fs::read(path).unwrap()).unwrap();
        let wanted = wanted(&object);
        let target = |name: &str| Target::read(name, &types, &wanted).unwrap();
        let kernel = target("kernel");
        let lock = object.externs.iter().find(|e| e.name == "bpf_rcu_read_lock").unwrap();
        let none: Vec<u8> =
            [0x0001_eb9f_u32, 24, 0, 0, 0, 1].iter().flat_map(|w| w.to_le_bytes()).chain([0]).collect();
        let targets = [Target::read("none", &none, &wanted).unwrap(), target("one"), target("other")];
        let btf = object.btf.as_ref().unwrap();
        let Ok(Found::Module(id, 1)) = typed(btf, lock, &targets) else { panic!("not of the first module") };
        assert_eq!(
            kernel.named("bpf_rcu_read_lock").iter().filter_map(|n| kernel.kernel_id(*n)).collect::<Vec<_>>(),
            [id]
        );
        let said = shared_name(lock, &targets, 1).unwrap();
        assert!(said.contains("one, other have it, that of one"), "{said}");
        assert_eq!(shared_name(lock, &targets[..2], 1), None);
        assert_eq!(missing(&object, &targets[0]), wanted);
    }
}
