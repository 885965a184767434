// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What this program was built of -> the lines of `detour -V -v`.
use crate::dnat::embedded;
use crate::load::transcript::hex;
use crate::object::sha256;
use std::fmt::Write;

/// The lock file, which has the checksums, and the list of what is linked.
const LOCK: &str = include_str!("../../../Cargo.lock");
const DEPS: &str = include_str!("../../../scripts/deps.txt");

/// Version, commit, compiler, features, unsafe blocks, objects, crates.
pub fn text() -> String {
    let mut text = format!("detour {}\n", env!("CARGO_PKG_VERSION"));
    for (name, value) in [
        ("commit", env!("DETOUR_COMMIT")),
        ("compiler", env!("DETOUR_RUSTC")),
        ("target", env!("DETOUR_TARGET")),
        ("unsafe", concat!(env!("DETOUR_UNSAFE"), " blocks, all in loader/sys")),
    ] {
        let _ = writeln!(text, "{name:<9} {value}");
    }
    let features = [
        ("compat", cfg!(feature = "compat")),
        ("audit", cfg!(feature = "audit")),
        ("operate", cfg!(feature = "operate")),
        ("watch", cfg!(feature = "watch")),
        ("suggest", cfg!(feature = "suggest")),
        ("demo", cfg!(feature = "demo")),
    ];
    let on: Vec<&str> = features.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect();
    let _ = writeln!(text, "features  {}", if on.is_empty() { "none".to_string() } else { on.join(" ") });
    for (name, bytes) in embedded::OBJECTS {
        let _ = writeln!(text, "object    {} {name}.bpf.o", hex(&sha256(bytes)));
    }
    // A build without features has the crates of the core only.
    let core = on.is_empty();
    for line in DEPS.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let (Some(name), Some(version), Some(kind)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        if !core || kind == "core" {
            let _ = writeln!(text, "crate     {} {name} {version}", checksum(name, version));
        }
    }
    text
}

/// The SHA-256 of a crate's file, as the lock file has it.
fn checksum(name: &str, version: &str) -> &'static str {
    let head = format!("name = \"{name}\"\nversion = \"{version}\"\n");
    let of = LOCK.split("[[package]]").find(|package| package.contains(&head)).unwrap_or_default();
    let line = of.lines().find_map(|line| line.strip_prefix("checksum = \""));
    line.map_or("?", |line| line.trim_end_matches('"'))
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_crate_has_its_checksum() {
        let text = super::text();
        let crates: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("crate     ")).collect();
        assert!(crates.len() >= 20, "{text}");
        for line in crates {
            let digest = line.split(' ').next().unwrap();
            assert!(digest.len() == 64 && digest.chars().all(|c| c.is_ascii_hexdigit()), "{line}");
        }
        assert_eq!(text.matches("\nobject    ").count(), crate::dnat::embedded::OBJECTS.len());
    }
}
