// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Bytes and their BTF type -> what they mean, for people and as JSON.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
use super::text::escape;
use crate::load::transcript::hex;
use crate::object::{Btf, Kind, Place, Type};
use serde_json::{json, Map, Value as Json};

/// What bytes mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// An integer.
    Number(i128),
    /// `_Bool`.
    Bool(bool),
    /// `float` or `double`, in the fewest digits that mean it.
    Real(String),
    /// An enumerator and its number.
    Name(String, i128),
    /// A NUL-terminated array of char.
    Text(String),
    /// An array.
    List(Vec<Value>),
    /// A struct or union, members as declared; an unnamed one within is part of it.
    Fields(Vec<(String, Value)>),
    /// What has no type that says more: bytes as they lie in memory.
    Bytes(Vec<u8>),
}

/// Most parts of one value; a hostile union of unions means more of them than anybody reads.
pub const PARTS: usize = 1 << 16;
/// Deepest nesting.
const DEPTH: usize = 32;

/// Reads `bytes` as the type `type_id`; bytes that do not fit it stay bytes.
///
/// ```
/// let object = detour::object::Object::parse(&std::fs::read("../elf/fixtures/globals.bpf.o")?)?;
/// let pairs = object.variables.iter().find(|variable| variable.name == "pairs").expect("it is there");
/// let (btf, bytes) = (object.btf.as_ref().expect("types"), [1, 0, 2, 0, 3, 0, 4, 0]);
/// let text = detour::ui::value::value(btf, pairs.type_id, &bytes).text();
/// assert_eq!(text, "{{.low = 1, .high = 2}, {.low = 3, .high = 4}}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn value(btf: &Btf, type_id: u32, bytes: &[u8]) -> Value {
    let mut left = PARTS;
    value_within(btf, type_id, bytes, &mut left)
}

/// A part of a value, which may be a bit-field.
pub fn part(btf: &Btf, place: &Place, bytes: &[u8]) -> Value {
    let rest = bytes.get(place.offset..).unwrap_or_default();
    let bits = || {
        let found = btf.strip(place.type_id)?;
        Some(scalar(&found, bit_field(rest, place.shift, place.bits, signed(&found))?))
    };
    match place.bits {
        0 => value(btf, place.type_id, rest),
        _ => bits().unwrap_or_else(|| Value::Bytes(rest.to_vec())),
    }
}

/// The same of one of many values, which have `left` parts all together.
pub fn value_within(btf: &Btf, type_id: u32, bytes: &[u8], left: &mut usize) -> Value {
    let most = PARTS.min(*left);
    let mut reader = Reader { btf, left: most };
    let read = reader.read(type_id, bytes, DEPTH);
    *left = left.saturating_sub(most.saturating_sub(reader.left));
    read.unwrap_or_else(|| Value::Bytes(bytes.to_vec()))
}

struct Reader<'a> {
    btf: &'a Btf,
    left: usize,
}

impl Reader<'_> {
    fn read(&mut self, type_id: u32, bytes: &[u8], depth: usize) -> Option<Value> {
        let depth = depth.checked_sub(1)?;
        self.left = self.left.checked_sub(1)?;
        let size = usize::try_from(self.btf.size_of(type_id)?).ok()?;
        let bytes = bytes.get(..size)?;
        let found = self.btf.strip(type_id)?;
        match found.kind {
            Kind::Int | Kind::Enum | Kind::Enum64 => {
                let number = number(bytes, signed(&found))?;
                // Larger than any number here is.
                let wide = number < 0 && !signed(&found);
                Some(if wide { Value::Bytes(bytes.to_vec()) } else { scalar(&found, number) })
            }
            Kind::Float => Some(real(bytes).unwrap_or_else(|| Value::Bytes(bytes.to_vec()))),
            Kind::Array => self.array(&found, bytes, depth),
            Kind::Struct | Kind::Union => {
                let mut fields = Vec::new();
                self.members(&found, bytes, depth, &mut fields)?;
                Some(Value::Fields(fields))
            }
            Kind::Datasec => {
                let mut fields = Vec::new();
                for placed in found.placed() {
                    let variable = self.btf.get(placed.var)?;
                    let rest = bytes.get(usize::try_from(placed.offset).ok()?..)?;
                    fields.push((variable.name().to_owned(), self.read(variable.type_id(), rest, depth)?));
                }
                Some(Value::Fields(fields))
            }
            _ => Some(Value::Bytes(bytes.to_vec())),
        }
    }

    fn array(&mut self, array: &Type<'_>, bytes: &[u8], depth: usize) -> Option<Value> {
        let element = array.array()?.element;
        let kind = self.btf.strip(element)?;
        if kind.kind == Kind::Int && kind.size() == 1 && is_char(self.btf, element) {
            if let Some(text) = text(bytes) {
                return Some(Value::Text(text));
            }
        }
        let size = usize::try_from(self.btf.size_of(element)?).ok().filter(|size| *size > 0)?;
        bytes
            .chunks_exact(size)
            .map(|part| self.read(element, part, depth))
            .collect::<Option<_>>()
            .map(Value::List)
    }

    fn members(
        &mut self,
        outer: &Type<'_>,
        bytes: &[u8],
        depth: usize,
        fields: &mut Vec<(String, Value)>,
    ) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        for member in outer.members() {
            let at = usize::try_from(member.bit_offset >> 3).ok()?;
            let rest = bytes.get(at..)?;
            let inner = self.btf.strip(member.type_id);
            if member.bits != 0 {
                self.left = self.left.checked_sub(1)?;
                let inner = inner?;
                let number = bit_field(rest, member.bit_offset & 7, member.bits, signed(&inner))?;
                fields.push((member.name.to_owned(), scalar(&inner, number)));
            } else if let (true, Some(inner)) = (member.name.is_empty(), inner) {
                self.left = self.left.checked_sub(1)?;
                self.members(&inner, rest, depth, fields)?;
            } else {
                fields.push((member.name.to_owned(), self.read(member.type_id, rest, depth)?));
            }
        }
        Some(())
    }
}

/// Whether an element is called `char`; `__u8` is a number.
fn is_char(btf: &Btf, type_id: u32) -> bool {
    btf.describe(type_id).ends_with("char") && !btf.describe(type_id).starts_with("unsigned")
}

/// Text up to the NULs that fill the rest; None when there is something else in it.
fn text(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|b| *b == 0)?;
    let (text, rest) = bytes.split_at_checked(end)?;
    let fine = rest.iter().all(|b| *b == 0) && text.iter().all(|b| matches!(b, b' '..=b'~'));
    fine.then(|| String::from_utf8_lossy(text).into_owned())
}

fn number(bytes: &[u8], signed: bool) -> Option<i128> {
    let mut wide = [0; 16];
    wide.get_mut(..bytes.len())?.copy_from_slice(bytes);
    let unsigned = i128::from_le_bytes(wide);
    let bits = u32::try_from(bytes.len()).ok()?.checked_mul(8)?;
    Some(sign(unsigned, bits, signed))
}

/// The number that the low `bits` stand for.
fn sign(unsigned: i128, bits: u32, signed: bool) -> i128 {
    let unused = 128_u32.saturating_sub(bits);
    match (signed, unsigned.checked_shl(unused)) {
        (true, Some(high)) => high >> unused,
        _ => unsigned,
    }
}

fn bit_field(bytes: &[u8], shift: u32, bits: u32, signed: bool) -> Option<i128> {
    let length = usize::try_from(shift.checked_add(bits)?.div_ceil(8)).ok()?;
    let mask = 1_i128.checked_shl(bits)?.checked_sub(1)?;
    let number = number(bytes.get(..length)?, false)?.checked_shr(shift)? & mask;
    Some(sign(number, bits, signed))
}

fn signed(found: &Type<'_>) -> bool {
    found.int().map_or(found.kind_flag(), |i| i.signed)
}

/// What a number means to an integer, a boolean or an enum.
fn scalar(found: &Type<'_>, number: i128) -> Value {
    if found.int().is_some_and(|i| i.boolean) {
        return Value::Bool(number != 0);
    }
    let name = found.enumerators().find(|(_, n)| *n == number).map(|(name, _)| name.to_owned());
    name.map_or(Value::Number(number), |name| Value::Name(name, number))
}

fn real(bytes: &[u8]) -> Option<Value> {
    let short = bytes.try_into().ok().map(|bytes| format!("{:?}", f32::from_le_bytes(bytes)));
    let long = || bytes.try_into().ok().map(|bytes| format!("{:?}", f64::from_le_bytes(bytes)));
    short.or_else(long).map(Value::Real)
}

/// How many elements of an array are shown to people.
const SHOWN: usize = 16;

impl Value {
    /// In one line, as a C initialiser would say it: `{.addr4 = 3232281090, .name = "eth0"}`. Harmless on a terminal.
    pub fn text(&self) -> String {
        match self {
            Value::Number(n) => n.to_string(),
            Value::Bool(yes) => yes.to_string(),
            Value::Real(text) => text.clone(),
            Value::Name(name, _) => escape(name),
            Value::Text(text) => format!("\"{}\"", escape(text)),
            Value::Bytes(bytes) => {
                format!("hex:{}", hex(bytes.get(..bytes.len().min(64)).unwrap_or_default()))
            }
            Value::List(list) if list.iter().all(Value::is_zero) => format!("{{0}} x {}", list.len()),
            Value::List(list) => {
                let mut parts: Vec<String> = list.iter().take(SHOWN).map(Value::text).collect();
                if list.len() > SHOWN {
                    parts.push(format!("… {} more", list.len().saturating_sub(SHOWN)));
                }
                format!("{{{}}}", parts.join(", "))
            }
            Value::Fields(fields) => {
                let part = |(name, value): &(String, Value)| format!(".{} = {}", escape(name), value.text());
                format!("{{{}}}", fields.iter().map(part).collect::<Vec<_>>().join(", "))
            }
        }
    }

    /// Numbers as numbers, enumerators by name, text as text, other bytes in hex.
    pub fn json(&self) -> Json {
        match self {
            Value::Number(n) => match (u64::try_from(*n), i64::try_from(*n)) {
                (Ok(n), _) => json!(n),
                (_, Ok(n)) => json!(n),
                _ => json!(n.to_string()),
            },
            Value::Bool(yes) => json!(yes),
            // What JSON has no number for (inf, NaN) is text.
            Value::Real(text) => {
                text.parse().ok().filter(|n: &f64| n.is_finite()).map_or(json!(text), |n| json!(n))
            }
            Value::Name(text, _) | Value::Text(text) => json!(text),
            Value::Bytes(bytes) => json!(format!("hex:{}", hex(bytes))),
            Value::List(list) => list.iter().map(Value::json).collect(),
            Value::Fields(fields) => {
                let entry = |(name, value): &(String, Value)| (name.clone(), value.json());
                Json::Object(fields.iter().map(entry).collect::<Map<_, _>>())
            }
        }
    }

    fn is_zero(&self) -> bool {
        match self {
            Value::Number(n) | Value::Name(_, n) => *n == 0,
            Value::Bool(yes) => !yes,
            Value::Real(text) => text == "0.0",
            Value::Text(text) => text.is_empty(),
            Value::List(list) => list.iter().all(Value::is_zero),
            Value::Fields(fields) => fields.iter().all(|(_, value)| value.is_zero()),
            Value::Bytes(bytes) => bytes.iter().all(|b| *b == 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_sign_and_width() {
        assert_eq!(number(&[0xff, 0xff], false), Some(65535));
        assert_eq!(number(&[0xff, 0xff], true), Some(-1));
        assert_eq!(number(&[0; 17], true), None);
        assert_eq!(bit_field(&[0b1011_0100], 2, 3, false), Some(5));
        assert_eq!(bit_field(&[0b1011_0100], 2, 3, true), Some(-3));
        assert_eq!(bit_field(&[1], 4, 8, false), None);
    }

    #[test]
    fn long_arrays_are_short_for_people_only() {
        let list = Value::List((0..20).map(Value::Number).collect());
        assert!(list.text().ends_with("15, … 4 more}"), "{}", list.text());
        assert_eq!(list.json().as_array().map(Vec::len), Some(20));
        assert_eq!(Value::List(vec![Value::Number(0); 300]).text(), "{0} x 300");
        assert_eq!(Value::Text("a\u{1b}".into()).text(), "\"a\\u{1b}\"");
    }

    #[test]
    fn the_configuration_is_read_by_its_type() {
        let bytes = crate::dnat::embedded::object("dnat").unwrap();
        let object = crate::object::Object::parse(bytes).unwrap();
        let cfg = object.variables.iter().find(|v| v.name == "cfg").unwrap();
        let contents = object.maps.get(cfg.map).and_then(|map| map.contents.as_ref()).unwrap();
        let bytes: Vec<u8> =
            contents.iter().skip(cfg.offset as usize).take(cfg.size as usize).copied().collect();
        let Value::Fields(fields) = value(object.btf.as_ref().unwrap(), cfg.type_id, &bytes) else {
            panic!()
        };
        assert!(
            fields.iter().any(|(name, value)| name == "l2_len" && *value == Value::Number(14)),
            "{fields:?}"
        );
    }
}
