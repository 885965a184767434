// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The types of the kernel's modules to those that the kernel itself did not have. Only modules that know one of the names
//! are looked into.

use std::collections::BTreeSet;
use std::fs;

use crate::compat::kernel::unreadable;
use crate::compat::source::{Source, Split};
use crate::compat::target::Target;
use crate::object::ObjectError;

/// Where the kernel shows its types, one file for itself and one for each module.
const FOLDER: &str = "/sys/kernel/btf";

/// Reads the wanted types of all modules that have some, by rising names.
pub fn read(
    kernel: &dyn Source,
    wanted: &BTreeSet<String>,
    reads: &mut Vec<String>,
) -> Result<Vec<Target>, ObjectError> {
    reads.push(format!("readdir({FOLDER})"));
    let folder = fs::read_dir(FOLDER).map_err(|e| unreadable(FOLDER, e))?;
    let names = folder.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let names: BTreeSet<String> = names.filter(|name| name != "vmlinux").collect();
    let mut found = Vec::new();
    for name in names {
        let path = format!("{FOLDER}/{name}");
        reads.push(format!("read({path})"));
        // A module may go meanwhile.
        let Ok(bytes) = fs::read(&path) else { continue };
        if mentions(&bytes, wanted) {
            let split = Split::new(kernel, &bytes).map_err(|e| unreadable(&path, e))?;
            found.push(Target::read(&name, &split, wanted)?);
        }
    }
    Ok(found)
}

/// Whether one of the names stands among the strings, flavours apart.
fn mentions(bytes: &[u8], wanted: &BTreeSet<String>) -> bool {
    let texts = bytes.split(|byte| *byte == 0).filter_map(|text| std::str::from_utf8(text).ok());
    texts.into_iter().any(|text| wanted.contains(text))
}
