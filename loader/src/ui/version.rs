// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What this program was built of -> the lines of `detour -V -v`, or the document of `-V -v -j`.
use crate::dnat::embedded;
use crate::load::transcript::hex;
use crate::object::sha256;
use serde_json::{json, Value};
use std::fmt::Write;

/// The lock file, which has the checksums, and the list of what is linked.
const LOCK: &str = include_str!("../../../Cargo.lock");
const DEPS: &str = include_str!("../../../scripts/deps.txt");

/// The document of `-V -j`: the version, and with `-v` commit, compiler, target, unsafe blocks, features, objects, crates.
pub fn json(verbose: bool) -> Value {
    let version = env!("CARGO_PKG_VERSION");
    if !verbose {
        return json!({"schema": "detour.version/1", "version": version});
    }
    let all = [
        ("compat", cfg!(feature = "compat")),
        ("audit", cfg!(feature = "audit")),
        ("operate", cfg!(feature = "operate")),
        ("watch", cfg!(feature = "watch")),
        ("suggest", cfg!(feature = "suggest")),
        ("demo", cfg!(feature = "demo")),
    ];
    let features: Vec<&str> = all.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect();
    let object = |(name, bytes): &(&str, &[u8])| json!({"file": format!("{name}.bpf.o"), "sha256": hex(&sha256(bytes))});
    // A build without features has the crates of the core only.
    let linked = |kind: &str| !features.is_empty() || kind == "core";
    let one = |line: &str| {
        let mut words = line.split_whitespace();
        let (name, version, kind) = (words.next()?, words.next()?, words.next()?);
        linked(kind).then(|| json!({"name": name, "version": version, "sha256": checksum(name, version)}))
    };
    json!({
        "schema": "detour.version/1",
        "version": version,
        "commit": env!("DETOUR_COMMIT"),
        "compiler": env!("DETOUR_RUSTC"),
        "target": env!("DETOUR_TARGET"),
        "unsafe_blocks": env!("DETOUR_UNSAFE").parse::<u64>().ok(),
        "features": features,
        "objects": embedded::OBJECTS.iter().map(object).collect::<Vec<_>>(),
        "crates": DEPS.lines().filter(|line| !line.starts_with('#')).filter_map(one).collect::<Vec<_>>(),
    })
}

/// The same as lines.
pub fn text() -> String {
    let document = json(true);
    let of = |value: &Value, name: &str| {
        let value = value.get(name).unwrap_or(&Value::Null);
        value.as_str().map_or_else(|| value.to_string(), str::to_string)
    };
    let list = |name: &str| document.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut text = format!("detour {}\n", of(&document, "version"));
    for name in ["commit", "compiler", "target"] {
        let _ = writeln!(text, "{name:<9} {}", of(&document, name));
    }
    let _ = writeln!(text, "unsafe    {} uses, all in loader/sys", of(&document, "unsafe_blocks"));
    let features = list("features");
    let on: Vec<&str> = features.iter().filter_map(Value::as_str).collect();
    let _ = writeln!(text, "features  {}", if on.is_empty() { "none".to_string() } else { on.join(" ") });
    for object in list("objects") {
        let _ = writeln!(text, "object    {} {}", of(&object, "sha256"), of(&object, "file"));
    }
    for each in list("crates") {
        let (name, version) = (of(&each, "name"), of(&each, "version"));
        let _ = writeln!(text, "crate     {} {name} {version}", of(&each, "sha256"));
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
