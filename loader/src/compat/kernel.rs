// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! An object to the reads of this machine that decide what it left open, and to the object with everything decided.

use std::fs::File;

use crate::compat::core;
use crate::compat::target::Target;
use crate::object::{Object, ObjectError};

/// Where the running kernel shows its types.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Decides everything that an object leaves to the kernel. `btf` is a file with another kernel's types.
/// Returns what was read, for the plan.
///
/// # Errors
/// What cannot be read, what is missing and not weak, and what the kernel answers in more than one way.
pub fn resolve(object: &mut Object, btf: Option<&str>) -> Result<Vec<String>, ObjectError> {
    let mut reads = Vec::new();
    let wanted = core::wanted(object);
    if !wanted.is_empty() {
        let path = btf.unwrap_or(VMLINUX);
        reads.push(format!("read({path})"));
        let target = open(path).and_then(|file| Target::read(path, &file, &wanted))?;
        core::relocate(object, &target)?;
    }
    Ok(reads)
}

fn open(path: &str) -> Result<File, ObjectError> {
    File::open(path).map_err(|error| ObjectError::Resolve {
        program: String::new(),
        about: path.to_owned(),
        what: format!("{error}; the kernel needs CONFIG_DEBUG_INFO_BTF, or say --btf FILE"),
    })
}
