// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A FILE argument to an object: a path, or `@name` for one of those inside this program.
use crate::cmd::texts;
use crate::dnat::{alike, embedded};
use crate::load::plan::Plan;
use crate::load::refusal::{Refusal, Stage};
use crate::object::{Object, ObjectError, Program, ProgramKind, Slot};
use clap::ArgMatches;
use std::collections::BTreeSet;

/// An object and what it is called.
#[derive(Debug)]
pub struct Named {
    /// `dnat.bpf.o`: names its parts in plans.
    pub file: String,
    /// The object.
    pub object: Object,
    /// What of this machine was read to decide what the object leaves to the kernel.
    pub reads: Vec<String>,
}

impl Named {
    /// The file's name up to its first dot, cut to what an instance can be called.
    pub fn stem(&self) -> String {
        let stem = self.file.split('.').next().unwrap_or_default();
        let letter = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
        stem.chars().map(letter).take(15).collect()
    }
}

/// Reads, checks and links the object that FILE names, and makes it as `--set` and `--map-size` want it.
pub fn open(args: &ArgMatches) -> Result<Named, Refusal> {
    Ok(with_bytes(args)?.0)
}

/// The same beside the file's bytes.
fn with_bytes(args: &ArgMatches) -> Result<(Named, Vec<u8>), Refusal> {
    let path = args.get_one::<String>("file").map(String::as_str).unwrap_or_default();
    let (file, bytes) = bytes(path)?;
    let refused = |error: ObjectError| Refusal::from(error).about(path);
    let object = edited(parse(&bytes, args).map_err(refused)?, args)?;
    Ok((Named { file, object, reads: Vec::new() }, bytes))
}

/// A file's name and its bytes; `@name` is one of those in this program.
fn bytes(path: &str) -> Result<(String, Vec<u8>), Refusal> {
    Ok(match path.strip_prefix('@') {
        Some(name) => (format!("{name}.bpf.o"), embedded::object(name)?.to_vec()),
        None => (path.rsplit('/').next().unwrap_or_default().to_string(), read(path)?),
    })
}

/// The DNAT that `up` loads: the one in this program, or one of `--object FILE` with the same programs and maps.
pub fn dnat(args: &ArgMatches) -> Result<Named, Refusal> {
    let mut held = embedded::object("dnat")?.to_vec();
    let mut named =
        Named { file: "dnat.bpf.o".to_string(), object: Object::parse(&held)?, reads: Vec::new() };
    if let Some(path) = args.try_get_one::<String>("object").ok().flatten() {
        (named.file, held) = bytes(path)?;
        let object = Object::parse(&held).map_err(|e| Refusal::from(e).about(path))?;
        let differences = alike::differences(&object, &named.object);
        if !differences.is_empty() {
            let what =
                format!("it is not a DNAT that this program can configure: {}", differences.join("; "));
            let hint = "'up' needs the programs, maps and types of @dnat; 'load' takes any object";
            return Err(Refusal::new(Stage::Object, what, hint).about(path));
        }
        named.object = object;
    }
    admitted(named, &held, args)
}

fn held((_, slot): &(u32, Slot)) -> Option<&String> {
    match slot {
        Slot::Program(name) => Some(name),
        Slot::Map(_) => None,
    }
}

/// The object as `--set`, `--map-size` and `--type` want it, where the command has those options.
fn edited(mut object: Object, args: &ArgMatches) -> Result<Object, Refusal> {
    if let Ok(true) = args.try_contains_id("type") {
        // Programs of slots are named by the object.
        let named: BTreeSet<&String> =
            object.maps.iter().flat_map(|map| &map.slots).filter_map(held).collect();
        let unknown = |p: &&mut Program| p.kind == ProgramKind::Unknown && named.contains(&p.name);
        for program in object.programs.iter_mut().filter(unknown) {
            (program.kind, program.autoload) = (ProgramKind::SchedCls, false);
        }
    }
    let mut each = |option: &str, edit: fn(&mut Object, &str) -> Result<(), ObjectError>| {
        let given = args.try_get_many::<String>(option).ok().flatten().into_iter().flatten();
        for assignment in given {
            edit(&mut object, assignment).map_err(|e| Refusal {
                stage: Stage::Usage,
                ..Refusal::from(e).about(&format!("--{option}"))
            })?;
        }
        Ok::<_, Refusal>(())
    };
    each("set", Object::set)?;
    #[cfg(feature = "compat")]
    each("map-size", Object::resize)
        .map_err(|refusal| Refusal { hint: "MAP=N; 'detour inspect' lists the maps".into(), ..refusal })?;
    Ok(object)
}

#[cfg(feature = "compat")]
fn parse(bytes: &[u8], args: &ArgMatches) -> Result<Object, ObjectError> {
    match args.try_get_one::<bool>("legacy-maps").ok().flatten() {
        Some(true) => Object::parse_legacy(bytes),
        _ => Object::parse(bytes),
    }
}

/// An object that is known to have been loaded, and so with `--legacy-maps` if it wanted that.
#[cfg(feature = "compat")]
pub fn parse_known(bytes: &[u8]) -> Result<Object, ObjectError> {
    Object::parse_legacy(bytes)
}

#[cfg(not(feature = "compat"))]
pub fn parse_known(bytes: &[u8]) -> Result<Object, ObjectError> {
    Object::parse(bytes)
}

#[cfg(not(feature = "compat"))]
fn parse(bytes: &[u8], _: &ArgMatches) -> Result<Object, ObjectError> {
    Object::parse(bytes)
}

/// The object, if it is signed and allowed as the command line wants it.
fn admitted(named: Named, _bytes: &[u8], _args: &ArgMatches) -> Result<Named, Refusal> {
    #[cfg(feature = "audit")]
    crate::cmd::admit::object(&named, _bytes, _args)?;
    Ok(named)
}

/// What a plan to load has to say of how its object was let in, and signatures in it for the kernel.
pub fn finish(plan: &mut Plan, args: &ArgMatches) -> Result<(), Refusal> {
    plan.notes.extend(notes(args));
    #[cfg(feature = "audit")]
    crate::cmd::admit::sign(plan, args)?;
    Ok(())
}

/// What a plan has to say of how its object was let in.
pub fn notes(_args: &ArgMatches) -> Vec<String> {
    #[cfg(feature = "audit")]
    return crate::cmd::admit::notes(_args);
    #[cfg(not(feature = "audit"))]
    Vec::new()
}

/// The same for an object that is to be loaded: what it leaves to the kernel is decided.
#[cfg(feature = "compat")]
pub fn open_for_kernel(args: &ArgMatches) -> Result<Named, Refusal> {
    let (named, bytes) = with_bytes(args)?;
    let mut named = admitted(named, &bytes, args)?;
    named.reads = decide(&mut named.object, args).map_err(|error| Refusal::from(error).about(&named.file))?;
    named.reads.extend(crate::load::modules::number(&mut named.object)?);
    Ok(named)
}

/// Decides what an object leaves to the kernel, and what options say; not every command that loads has them.
#[cfg(feature = "compat")]
fn decide(object: &mut Object, args: &ArgMatches) -> Result<Vec<String>, ObjectError> {
    let btf = args.try_get_one::<String>("btf").ok().flatten().map(String::as_str);
    let reads = crate::compat::kernel::resolve(object, btf)?;
    let flag = |name: &str| args.try_get_one::<bool>(name).ok().flatten() == Some(&true);
    if flag("no-btf") {
        object.btf = None;
    }
    if flag("fd-array") {
        object.name_maps_by_number();
    }
    Ok(reads)
}

/// The same for an object that is to be loaded. This build decides nothing for it: that is in the feature `compat`.
#[cfg(not(feature = "compat"))]
pub fn open_for_kernel(args: &ArgMatches) -> Result<Named, Refusal> {
    let (named, bytes) = with_bytes(args)?;
    admitted(named, &bytes, args)
}

/// The object of a file as `load` with these options would give it to this kernel, if it is the one that is wanted.
pub fn resolved(
    bytes: &[u8],
    args: &ArgMatches,
    path: &str,
    wanted: impl Fn(&Object) -> bool,
) -> Result<Option<Object>, Refusal> {
    let refused = |e: ObjectError| Refusal::from(e).about(path);
    let object = parse(bytes, args).map_err(refused)?;
    if !wanted(&object) {
        return Ok(None);
    }
    #[allow(unused_mut)]
    let mut object = edited(object, args)?;
    #[cfg(feature = "compat")]
    decide(&mut object, args).map_err(refused)?;
    Ok(Some(object))
}

/// The bytes of a file that may be an object.
pub fn read(path: &str) -> Result<Vec<u8>, Refusal> {
    texts::regular(path, || {
        let what = format!("{} is not a file of at most 64 MiB", path.escape_debug());
        Refusal::new(Stage::Object, what, "give a BPF object, clang -target bpf -c")
    })
}
