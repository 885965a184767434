// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! An object to the reads of this machine that decide what it left open, and to the object with everything decided.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};

use detour_sys::types::{KernelTypes, VMLINUX};

use crate::compat::config::{self, Config};
use crate::compat::gzip::gunzip;
use crate::compat::source::Source;
use crate::compat::target::Target;
use crate::compat::{core, externs, modules};
use crate::object::{Module, Object, ObjectError, Origin, Program};

/// Decides everything that an object leaves to the kernel. `btf` is a file with another kernel's types.
/// Returns what was read, for the plan.
///
/// ```
/// let mut object = detour::object::Object::parse(&std::fs::read("../elf/fixtures/core.bpf.o")?)?;
/// // `Some("…")` for the types of another kernel.
/// let reads = detour::compat::kernel::resolve(&mut object, None)?;
/// assert!(reads[0].ends_with("(/sys/kernel/btf/vmlinux)"));
/// object.programs.iter().try_for_each(|program| object.check_resolved(program))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// What cannot be read, what is missing and not weak, and what the kernel answers in more than one way.
pub fn resolve(object: &mut Object, btf: Option<&str>) -> Result<Vec<String>, ObjectError> {
    let mut wanted = core::wanted(object);
    wanted.extend(externs::wanted(object));
    match wanted.is_empty() && object.externs.is_empty() {
        true => Ok(Vec::new()),
        false => decide(object, btf, &wanted),
    }
}

/// What few objects need is not in the way of those that do not.
#[inline(never)]
fn decide(
    object: &mut Object,
    btf: Option<&str>,
    wanted: &BTreeSet<String>,
) -> Result<Vec<String>, ObjectError> {
    let mut reads = Vec::new();
    let mut targets = Vec::new();
    if !wanted.is_empty() {
        let path = btf.unwrap_or(VMLINUX);
        let kernel = types(path, &mut reads)?;
        let target = Target::read(path, &*kernel, wanted)?;
        let mut missing = target.missing(wanted);
        missing.extend(externs::missing(object, &target));
        targets.push(target);
        if btf.is_none() && !missing.is_empty() {
            targets.extend(modules::read(&*kernel, &missing, &mut reads)?);
        }
        let called = targets.iter().skip(1).map(|t| Module { name: t.name.clone(), btf_id: 0 });
        object.modules = called.collect();
        core::relocate(object, &targets)?;
    }
    if !object.externs.is_empty() {
        let addresses = addresses(&externs::untyped(object), &mut reads)?;
        let config = configuration(object, &mut reads)?;
        externs::fill(object, &targets, &addresses, &config)?;
    }
    // Types that accesses depend on are not asked for again; functions are, in PROG_LOAD.
    if !object.programs.iter().any(Program::modules) {
        object.modules.clear();
    }
    Ok(reads)
}

/// The running kernel's types are in memory already, if it lets us see them there.
fn types(path: &str, reads: &mut Vec<String>) -> Result<Box<dyn Source>, ObjectError> {
    if path == VMLINUX {
        if let Ok(mapped) = KernelTypes::map() {
            reads.push(format!("mmap({path})"));
            return Ok(Box::new(mapped));
        }
    }
    reads.push(format!("read({path})"));
    Ok(Box::new(open(path)?))
}

fn open(path: &str) -> Result<File, ObjectError> {
    File::open(path).map_err(|error| ObjectError::Resolve {
        program: String::new(),
        about: path.to_owned(),
        what: format!("{error}; the kernel needs CONFIG_DEBUG_INFO_BTF, or say --btf FILE"),
    })
}

pub(super) fn unreadable(path: &str, error: std::io::Error) -> ObjectError {
    ObjectError::Resolve { program: String::new(), about: path.to_owned(), what: error.to_string() }
}

/// The addresses of kernel symbols: `ffffffff81000000 T _text [module]`, one a line.
fn addresses(
    wanted: &BTreeSet<&str>,
    reads: &mut Vec<String>,
) -> Result<BTreeMap<String, BTreeSet<u64>>, ObjectError> {
    let mut found: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    if wanted.is_empty() {
        return Ok(found);
    }
    let path = "/proc/kallsyms";
    reads.push(format!("read({path})"));
    let file = File::open(path).map_err(|e| unreadable(path, e))?;
    for line in BufReader::new(file).lines() {
        let line = line.map_err(|e| unreadable(path, e))?;
        let mut words = line.split_ascii_whitespace();
        let address = words.next().and_then(|word| u64::from_str_radix(word, 16).ok());
        if let (Some(address), Some(name)) = (address, words.nth(1)) {
            if wanted.contains(name) {
                found.entry(name.to_owned()).or_default().insert(address);
            }
        }
    }
    Ok(found)
}

/// What of the kernel's configuration and version the object asks for.
fn configuration(object: &Object, reads: &mut Vec<String>) -> Result<Config, ObjectError> {
    let names: BTreeSet<&str> =
        object.externs.iter().filter(|e| e.origin == Origin::Config).map(|e| e.name.as_str()).collect();
    let mut config = Config::default();
    let wrapper = names.contains(WRAPPER);
    if wrapper || names.iter().any(|name| name.starts_with("CONFIG_")) {
        let text = config_text(reads)?;
        config = Config::read(&text, |name| names.contains(name));
        if wrapper {
            let there = text.lines().any(|line| line == "CONFIG_ARCH_HAS_SYSCALL_WRAPPER=y");
            config.set(WRAPPER, there.into());
        }
    }
    if names.contains(COOKIE) {
        let there = !addresses(&BTreeSet::from([COOKIE_HELPER]), reads)?.is_empty();
        config.set(COOKIE, there.into());
    }
    if names.contains(VERSION) {
        config.set(VERSION, config::version(&release(reads)?));
    }
    Ok(config)
}

/// /proc/config.gz, or where distributions put the same text.
fn config_text(reads: &mut Vec<String>) -> Result<String, ObjectError> {
    let compressed = "/proc/config.gz";
    if let Ok(bytes) = fs::read(compressed) {
        reads.push(format!("read({compressed})"));
        let text = gunzip(&bytes).and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is not text"));
        return text.map_err(|what| unreadable(compressed, std::io::Error::other(what)));
    }
    let path = "/proc/sys/kernel/osrelease";
    let release = fs::read_to_string(path).map_err(|e| unreadable(path, e))?;
    let path = format!("/boot/config-{}", release.trim());
    reads.push(format!("read({path})"));
    fs::read_to_string(&path).map_err(|e| unreadable(&format!("neither {compressed} nor {path}"), e))
}

/// The version that the kernel's code is of: Debian and Ubuntu name it elsewhere, their release stays at `6.1.0`.
fn release(reads: &mut Vec<String>) -> Result<String, ObjectError> {
    let ubuntu = "/proc/version_signature";
    if let Ok(text) = fs::read_to_string(ubuntu) {
        reads.push(format!("read({ubuntu})"));
        return Ok(text.split_ascii_whitespace().last().unwrap_or_default().to_owned());
    }
    let path = "/proc/sys/kernel/version";
    reads.push(format!("read({path})"));
    let version = fs::read_to_string(path).map_err(|e| unreadable(path, e))?;
    if let Some((_, debian)) = version.split_once("Debian ") {
        return Ok(debian.to_owned());
    }
    let path = "/proc/sys/kernel/osrelease";
    reads.push(format!("read({path})"));
    fs::read_to_string(path).map_err(|e| unreadable(path, e))
}

const VERSION: &str = "LINUX_KERNEL_VERSION";
const WRAPPER: &str = "LINUX_HAS_SYSCALL_WRAPPER";
const COOKIE: &str = "LINUX_HAS_BPF_COOKIE";
/// bpf_get_attach_cookie() of kprobes, which is what libbpf tries (Linux 5.15).
const COOKIE_HELPER: &str = "bpf_get_attach_cookie_trace";
