// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A record of a ring buffer, and the type that it is said to have -> a line of text or of JSON.
use super::text::escape;
use super::value::{value, Value};
use crate::load::transcript::hex;
use crate::object::{Btf, Kind};
use serde_json::{json, Value as Json};
use std::fmt;

/// A type by which records are read.
#[derive(Clone, Copy, Debug)]
pub struct Shape<'a> {
    btf: &'a Btf,
    id: u32,
    size: usize,
}

/// Why a name is none of a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// The name.
    pub what: String,
    /// What there is.
    pub hint: String,
}

/// What a name without `struct`, `union` or `enum` before it is looked for as, in this order.
const KINDS: [Kind; 6] = [Kind::Struct, Kind::Union, Kind::Typedef, Kind::Enum, Kind::Enum64, Kind::Int];
/// So many names are told.
const TOLD: usize = 12;

impl Shape<'_> {
    /// The type of that name as C writes it: `struct event`, or `event` for a struct, a union, a typedef, an enum, a number.
    ///
    /// # Errors
    /// There is none that has a size.
    pub fn named<'a>(btf: &'a Btf, written: &str) -> Result<Shape<'a>, Unknown> {
        let (kinds, name) = match written.split_once(' ') {
            Some(("struct", name)) => (&[Kind::Struct][..], name),
            Some(("union", name)) => (&[Kind::Union][..], name),
            Some(("enum", name)) => (&[Kind::Enum, Kind::Enum64][..], name),
            _ => (&KINDS[..], written),
        };
        let shape = |kind: &Kind| {
            let id = btf.find(*kind, name)?.id;
            Some(Shape { btf, id, size: usize::try_from(btf.size_of(id)?).ok()? })
        };
        let unknown = || {
            let records = btf.types().filter(|t| matches!(t.kind, Kind::Struct | Kind::Union));
            let named = records.filter(|t| !t.name().is_empty());
            let mut names: Vec<String> = named.map(|t| escape(&btf.describe(t.id))).take(TOLD + 1).collect();
            if names.len() > TOLD {
                names.truncate(TOLD);
                names.push("…".into());
            }
            let what = format!("there is no type '{}', or it has no size", escape(written));
            Unknown { what, hint: format!("there are: {}", names.join(", ")) }
        };
        kinds.iter().find_map(shape).ok_or_else(unknown)
    }

    /// Whether the record is as long as the type.
    pub fn fits(&self, record: &[u8]) -> bool {
        record.len() == self.size
    }
}

impl fmt::Display for Shape<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(&self.btf.describe(self.id)))
    }
}

/// `{.length = 60, .first = 1}`; without a type, or where the record is of another length, all of its bytes.
pub fn text(record: &[u8], shape: Option<&Shape<'_>>) -> String {
    match shape {
        None => format!("hex:{}\n", hex(record)),
        Some(shape) if shape.fits(record) => format!("{}\n", value(shape.btf, shape.id, record).text()),
        Some(shape) => {
            format!("hex:{} ({} bytes, and {shape} has {})\n", hex(record), record.len(), shape.size)
        }
    }
}

/// `{"schema":"detour.record/1",…}`; `type` is null where the record is shown as hex.
pub fn json(device: &str, map: &str, record: &[u8], shape: Option<&Shape<'_>>) -> Json {
    let shape = shape.filter(|shape| shape.fits(record));
    let read = shape.map_or_else(|| Value::Bytes(record.to_vec()), |s| value(s.btf, s.id, record));
    json!({
        "schema": "detour.record/1", "device": device, "map": map, "bytes": record.len(),
        "type": shape.map(ToString::to_string), "value": read.json(),
    })
}
