// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The objects inside this program, each checked against the manifest inside this program before it is used.
use crate::load::refusal::{Refusal, Stage};
use crate::load::transcript::hex;
use crate::object::sha256;

/// Name and bytes of each object, as `scripts/build-elf` made them.
pub const OBJECTS: &[(&str, &[u8])] = &[
    ("dnat", include_bytes!("../../../elf/dnat.bpf.o")),
    ("drop", include_bytes!("../../../elf/drop.bpf.o")),
    #[cfg(feature = "operate")]
    ("flush", include_bytes!("../../../elf/flush.bpf.o")),
    #[cfg(feature = "operate")]
    ("original", include_bytes!("../../../elf/original.bpf.o")),
    ("trace", include_bytes!("../../../elf/trace.bpf.o")),
];

/// `elf/MANIFEST`: first lines that `sha256sum -c` accepts.
pub const MANIFEST: &str = include_str!("../../../elf/MANIFEST");

/// The bytes of `@name`.
pub fn object(name: &str) -> Result<&'static [u8], Refusal> {
    let found = OBJECTS.iter().find(|(n, _)| *n == name);
    let (_, bytes) = found.ok_or_else(|| {
        let names: Vec<String> = OBJECTS.iter().map(|(n, _)| format!("@{n}")).collect();
        let hint = format!("there are: {}", names.join(", "));
        Refusal::new(Stage::Usage, format!("no object '@{}' in this program", name.escape_debug()), hint)
    })?;
    let file = format!("{name}.bpf.o");
    if !listed(&file, bytes) {
        let what = format!("the object {file} in this program is not the one in its manifest");
        return Err(Refusal::new(
            Stage::Object,
            what,
            "this program was built wrongly or was changed: build it again",
        ));
    }
    Ok(bytes)
}

/// Whether these are the bytes that the manifest has of this file.
fn listed(file: &str, bytes: &[u8]) -> bool {
    let digest = hex(&sha256(bytes));
    MANIFEST.lines().filter_map(|line| line.split_once("  ")).any(|(d, f)| d == digest && f == file)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_object_is_the_one_in_the_manifest() {
        for (name, bytes) in super::OBJECTS {
            assert!(super::object(name).is_ok(), "{name}");
            let mut other = bytes.to_vec();
            other[bytes.len() / 2] ^= 1;
            assert!(!super::listed(&format!("{name}.bpf.o"), &other), "{name}");
        }
        assert!(super::object("nothing").is_err());
    }
}
