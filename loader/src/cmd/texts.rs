// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A FILE argument that is no object to its text, or to a refusal that says what the file is and what it ought to be.
use crate::load::refusal::{Refusal, Stage};
use serde_json::Value;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

/// What a file has to be, and where such a file comes from.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// `a policy`
    pub what: &'static str,
    /// The hint.
    pub hint: &'static str,
}

/// Most bytes of a file that is named on the command line.
pub const MOST: u64 = 64 << 20;

impl Wanted {
    /// That `path` is not this: `given` says what it is.
    pub fn not(&self, path: &str, given: &str) -> Refusal {
        let what = format!("{}: {given}, and not {}", path.escape_debug(), self.what);
        Refusal::new(Stage::Usage, what, self.hint)
    }

    /// The text of a file, which has some.
    pub fn text(&self, path: &str) -> Result<String, Refusal> {
        let bytes = regular(path, || self.not(path, NOT_REGULAR))?;
        let text = String::from_utf8(bytes).map_err(|e| {
            let elf = e.as_bytes().starts_with(b"\x7fELF");
            self.not(path, if elf { "this is an ELF object" } else { "this is not text (UTF-8)" })
        })?;
        match text.trim().is_empty() {
            true => Err(self.not(path, "this is empty")),
            false => Ok(text),
        }
    }

    /// The document with this schema that a text is.
    pub fn document(&self, path: &str, text: &str, schema: &str) -> Result<Value, Refusal> {
        match serde_json::from_str::<Value>(text) {
            Ok(document) if document.get("schema").and_then(Value::as_str) == Some(schema) => Ok(document),
            _ => Err(self.not(path, &kind(text))),
        }
    }
}

const NOT_REGULAR: &str = "this is not a regular file of at most 64 MiB";

/// What a text says that it is: a document, or lines of them as transcripts are.
pub fn kind(text: &str) -> String {
    let schema = |value: &Value| value.get("schema").and_then(Value::as_str).map(str::to_string);
    let whole = serde_json::from_str::<Value>(text);
    let first = || serde_json::from_str::<Value>(text.lines().next().unwrap_or_default()).ok();
    match whole {
        Ok(value) => match schema(&value) {
            Some(name) => format!("this is a {}", name.escape_debug()),
            None => "this is JSON without a schema".into(),
        },
        Err(error) => match first().as_ref().and_then(schema) {
            Some(name) => format!("these are lines of a {}", name.escape_debug()),
            None => format!("this is not JSON ({error})"),
        },
    }
}

/// The bytes of a regular file; whoever else is named gets what `otherwise` says.
pub fn regular(path: &str, otherwise: impl Fn() -> Refusal) -> Result<Vec<u8>, Refusal> {
    let failed = |e: std::io::Error| Refusal::unreadable(path, &e);
    // Not to wait for whoever might write to a pipe of that name.
    let at_once = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let mut file = OpenOptions::new().read(true).custom_flags(at_once).open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if meta.is_dir() {
        return Err(failed(std::io::ErrorKind::IsADirectory.into()));
    }
    if !meta.is_file() || meta.len() > MOST {
        return Err(otherwise());
    }
    let mut bytes = vec![0; usize::try_from(meta.len()).unwrap_or(0)];
    file.read_exact(&mut bytes).map_err(failed)?;
    Ok(bytes)
}
