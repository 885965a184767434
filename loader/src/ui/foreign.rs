// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! An object for big-endian machines -> what is in it by name, as text and JSON.
use super::text::escape;
use crate::load::transcript::hex;
use crate::object::Foreign;
use serde_json::{json, Value};
use std::fmt::Write;

/// As `inspect` says it, as far as that goes.
pub fn text(file: &str, object: &Foreign) -> String {
    let mut text = format!(
        "object   {}\nsha256   {}\nlicense  \"{}\"\norder    big-endian: for other machines, 'load' refuses it (clang -target bpfel makes one for this one)\n",
        escape(file),
        hex(&object.sha256),
        escape(&object.license),
    );
    for function in &object.functions {
        let (name, section) = (escape(&function.name), escape(&function.section));
        let _ = writeln!(text, "function {name} section {section} insns {}", function.insns);
    }
    object.maps.iter().for_each(|map| text.push_str(&format!("map      {}\n", escape(map))));
    text
}

/// The same as one document.
pub fn json(file: &str, object: &Foreign) -> Value {
    let functions = object.functions.iter();
    let functions = functions.map(|f| json!({"name": f.name, "section": f.section, "insns": f.insns}));
    json!({"schema": "detour.foreign/1", "file": file, "sha256": hex(&object.sha256), "license": object.license,
        "byte_order": "big-endian", "functions": functions.collect::<Vec<_>>(), "maps": object.maps})
}
