// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The `license` section to the string the kernel gets, and whether it knows that string; `version` to nothing.

use super::elf::Elf;
use super::error::ObjectError;

/// The text up to its first NUL or the section's end; empty without the section: nothing is assumed.
pub fn license(elf: &Elf<'_>, warnings: &mut Vec<String>) -> Result<String, ObjectError> {
    let Some((_, section)) = elf.section("license") else {
        warnings.push(
            "no license section: the kernel counts it as not GPL and refuses GPL-only helpers".to_owned(),
        );
        return Ok(String::new());
    };
    let fault = |what| ObjectError::Section { section: "license".to_owned(), what };
    let text = section.data.split(|b| *b == 0).next().unwrap_or_default();
    let text = std::str::from_utf8(text).map_err(|_| fault("is not text"))?;
    if !KNOWN.contains(&text) {
        warnings.push(format!(
            "license \"{text}\": the kernel counts it as not GPL; it knows: {}",
            KNOWN.join(", ")
        ));
    }
    Ok(text.to_owned())
}

/// Before Linux 5.0 the kernel wanted to know of kprobes which version they were for; now nobody reads it.
pub fn check_version(elf: &Elf<'_>) -> Result<(), ObjectError> {
    match elf.section("version") {
        Some((_, section)) if section.size != 4 => {
            Err(ObjectError::Section { section: "version".to_owned(), what: "is not one number of 4 bytes" })
        }
        _ => Ok(()),
    }
}

/// `license_is_gpl_compatible()` (include/linux/license.h).
const KNOWN: [&str; 6] =
    ["GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL"];
