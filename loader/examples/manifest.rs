// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Objects to the stanzas of `elf/MANIFEST` that name each program and the tags the kernel will show for it.
//!
//! `manifest FILE...` prints to standard output; `scripts/build-elf` and `scripts/check-elf` call it. Exit code 1: a file
//! cannot be read or is no object, and standard error says which.
use std::path::Path;
use std::process::ExitCode;

use detour::object::Object;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One stanza a program: both tags, because kernels before 6.18 hash with SHA-1, later ones with SHA-256.
fn stanzas(path: &Path) -> Result<String, String> {
    let object =
        Object::parse(&std::fs::read(path).map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let stanza = |program: &detour::object::Program| {
        let tags = program.tags();
        format!(
            "\nprogram: {}\nobject: {file}\nsection: {}\ninstructions: {}\ntag-sha1: {}\ntag-sha256: {}\n",
            program.name,
            program.section,
            program.insns.len(),
            hex(&tags.sha1),
            hex(&tags.sha256),
        )
    };
    Ok(object.programs.iter().map(stanza).collect())
}

fn main() -> ExitCode {
    for path in std::env::args_os().skip(1) {
        match stanzas(Path::new(&path)) {
            Ok(text) => print!("{text}"),
            Err(error) => {
                eprintln!("manifest: {}: {error}", Path::new(&path).display());
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
