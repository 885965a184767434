// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `VAR[.FIELD][[N]]=VALUE` to bytes in a data map, checked against the variable's type.

use super::btf::Btf;
use super::btf_type::{Kind, Type};
use super::data::Variable;
use super::error::ObjectError;
use super::MapSpec;

/// Makes one assignment.
pub fn set(
    assignment: &str,
    btf: Option<&Btf>,
    variables: &[Variable],
    maps: &mut [MapSpec],
) -> Result<(), ObjectError> {
    let fault =
        |Fault(what, known): Fault| ObjectError::Set { assignment: assignment.to_owned(), what, known };
    let (path, value) =
        assignment.split_once('=').ok_or_else(|| fault("is not of the form VAR=VALUE".into()))?;
    let btf = btf.ok_or_else(|| fault("the object has no BTF, so its variables are unknown".into()))?;
    let (map, offset, type_id) = locate(path, btf, variables).map_err(fault)?;
    let bytes = encode(value, btf, type_id).map_err(fault)?;
    let spec = maps.get_mut(map).ok_or_else(|| fault("is in no map".into()))?;
    let size = usize::try_from(spec.value_size).unwrap_or(usize::MAX);
    let contents = spec.contents.get_or_insert_with(|| vec![0; size]);
    let place = offset.checked_add(bytes.len()).and_then(|end| contents.get_mut(offset..end));
    place.ok_or_else(|| fault("lies outside its map".into()))?.copy_from_slice(&bytes);
    Ok(())
}

impl Btf {
    /// A value as the bytes that a variable of this type has, written as [`super::Object::set`] takes it.
    ///
    /// # Errors
    /// It is no value of that type, or the type is none that can be written as a whole.
    pub fn encode(&self, type_id: u32, value: &str) -> Result<Vec<u8>, ObjectError> {
        let fault =
            |Fault(what, known): Fault| ObjectError::Set { assignment: value.to_owned(), what, known };
        encode(value, self, type_id).map_err(fault)
    }
}

/// What is wrong, and the names that would have been right.
struct Fault(&'static str, Vec<String>);

impl From<&'static str> for Fault {
    fn from(what: &'static str) -> Fault {
        Fault(what, Vec::new())
    }
}

/// The map, the byte in its value and the type that a path leads to.
fn locate(path: &str, btf: &Btf, variables: &[Variable]) -> Result<(usize, usize, u32), Fault> {
    let (variable, mut rest) = variable(path, variables)?;
    let (mut offset, mut type_id) = (variable.offset, variable.type_id);
    while !rest.is_empty() {
        let found = btf.strip(type_id).ok_or("is of no known type")?;
        let (step, inner);
        if let Some(field) = rest.strip_prefix('.') {
            let end = field.find(['.', '[']).unwrap_or(field.len());
            let (name, after) = field.split_at(end);
            (step, inner, rest) = member(btf, &found, name)?.with(after);
        } else {
            let (number, after) =
                rest.strip_prefix('[').and_then(|r| r.split_once(']')).ok_or("has a lone bracket")?;
            let array = found.array().ok_or("is not an array")?;
            let index: u32 = number.parse().map_err(|_| "has an index that is no number")?;
            if index >= array.count {
                return Err("has an index beyond the array".into());
            }
            let size = btf.size_of(array.element).ok_or("is an array of unknown size")?;
            (step, inner, rest) = (index.checked_mul(size).ok_or("lies too far")?, array.element, after);
        }
        (offset, type_id) = (offset.checked_add(step).ok_or("lies too far")?, inner);
    }
    Ok((variable.map, usize::try_from(offset).map_err(|_| "lies too far")?, type_id))
}

/// The variable whose name the path begins with. A static variable in a function is called `function.name`: the longest
/// name wins.
fn variable<'a, 'p>(path: &'p str, variables: &'a [Variable]) -> Result<(&'a Variable, &'p str), Fault> {
    let rest = |v: &&Variable| {
        path.strip_prefix(v.name.as_str()).filter(|r| r.is_empty() || r.starts_with(['.', '[']))
    };
    let longest = variables.iter().filter(|v| rest(v).is_some()).max_by_key(|v| v.name.len());
    let Some(found) = longest else {
        let what = "no program uses a variable of that name";
        return Err(Fault(what, variables.iter().map(|v| v.name.clone()).collect()));
    };
    if variables.iter().filter(|v| v.name == found.name).count() > 1 {
        return Err("several static variables have that name".into());
    }
    Ok((found, rest(&found).unwrap_or_default()))
}

/// A member's offset in bytes, and its type.
struct Inner(u32, u32);

impl Inner {
    fn with(self, rest: &str) -> (u32, u32, &str) {
        (self.0, self.1, rest)
    }
}

fn member(btf: &Btf, outer: &Type<'_>, name: &str) -> Result<Inner, Fault> {
    if !matches!(outer.kind, Kind::Struct | Kind::Union) {
        return Err("is not a struct or union".into());
    }
    match search(btf, outer, name, MAX_NESTING) {
        Some((_, bits, _)) if bits != 0 => Err("is a bit-field: give the struct around it as hex:…".into()),
        Some((bit_offset, _, type_id)) => Ok(Inner(bit_offset >> 3, type_id)),
        None => Err(Fault("has no such field", outer.members().map(|m| m.name.to_owned()).collect())),
    }
}

/// Bit offset, bit-field width and type of a member, also inside unnamed structs and unions.
fn search(btf: &Btf, outer: &Type<'_>, name: &str, depth: usize) -> Option<(u32, u32, u32)> {
    let deeper = depth.checked_sub(1)?;
    outer.members().find_map(|m| match m.name {
        "" => {
            let (offset, bits, id) = search(btf, &btf.strip(m.type_id)?, name, deeper)?;
            Some((m.bit_offset.checked_add(offset)?, bits, id))
        }
        found => (found == name).then_some((m.bit_offset, m.bits, m.type_id)),
    })
}

/// A value as the bytes a variable of this type has.
fn encode(value: &str, btf: &Btf, type_id: u32) -> Result<Vec<u8>, Fault> {
    let size = btf.size_of(type_id).ok_or("is of a type without size")?;
    let length = usize::try_from(size).map_err(|_| "is too large")?;
    if let Some(digits) = value.strip_prefix("hex:") {
        let bytes = hex(digits).ok_or("hex: wants pairs of hexadecimal digits")?;
        return if bytes.len() == length {
            Ok(bytes)
        } else {
            Err("hex: has another length than the variable".into())
        };
    }
    let found = btf.strip(type_id).ok_or("is of no known type")?;
    match found.kind {
        Kind::Int => {
            let encoding = found.int().ok_or("is of no known type")?;
            let number = match value {
                "true" if encoding.boolean => 1,
                "false" if encoding.boolean => 0,
                _ => number(value).ok_or("wants a number: decimal, or hexadecimal with 0x")?,
            };
            let bits = if encoding.boolean { 1 } else { encoding.bits };
            fit(number, bits, encoding.signed, length)
        }
        Kind::Enum | Kind::Enum64 => {
            let named = found.enumerators().find(|(name, _)| *name == value).map(|(_, number)| number);
            let names = || found.enumerators().map(|(name, _)| name.to_owned()).collect();
            let number = named
                .or_else(|| number(value))
                .ok_or_else(|| Fault("is no enumerator of its type", names()))?;
            fit(number, size.saturating_mul(8), found.kind_flag(), length)
        }
        Kind::Array => text(value, btf, &found, length),
        _ => Err("is not of a type that can be set as a whole: set its parts, or give hex:…".into()),
    }
}

/// `"text"` for an array of char, filled up with NUL, of which there is at least one.
fn text(value: &str, btf: &Btf, array: &Type<'_>, length: usize) -> Result<Vec<u8>, Fault> {
    let element = array.array().and_then(|a| btf.strip(a.element));
    if !element.is_some_and(|t| t.kind == Kind::Int && t.size() == 1) {
        return Err("is an array: set its elements, or give hex:…".into());
    }
    let text =
        value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).ok_or("wants \"text\", in quotes")?;
    if text.len() >= length || text.contains('\0') {
        return Err("the text does not fit, with the NUL behind it".into());
    }
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(length, 0);
    Ok(bytes)
}

fn number(text: &str) -> Option<i128> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let (radix, digits) = digits.strip_prefix("0x").map_or((10, digits), |digits| (16, digits));
    // Of more digits than any 64-bit number has, and `from_str_radix` would take a sign here.
    let plain = digits.len() <= 40 && digits.bytes().all(|b| b.is_ascii_alphanumeric());
    let number = i128::from_str_radix(digits, radix).ok().filter(|_| plain)?;
    if negative {
        number.checked_neg()
    } else {
        Some(number)
    }
}

/// A number in little-endian bytes, if its type has it.
fn fit(number: i128, bits: u32, signed: bool, length: usize) -> Result<Vec<u8>, Fault> {
    let span = 1i128.checked_shl(bits).filter(|_| bits < 127).ok_or("is too wide a number")?;
    let half = span >> 1;
    let range = if signed { half.saturating_neg()..half } else { 0..span };
    if !range.contains(&number) {
        return Err("the number does not fit its type".into());
    }
    number.to_le_bytes().get(..length).map(<[u8]>::to_vec).ok_or("is too wide a number".into())
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = digits.chars().map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let byte = |pair: &[u32]| match pair {
        [high, low] => u8::try_from(high << 4 | low).ok(),
        _ => None,
    };
    digits.chunks(2).map(byte).collect()
}

const MAX_NESTING: usize = 32;
