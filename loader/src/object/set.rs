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
    let place = locate(path, btf, variables).map_err(fault)?;
    let spec = maps.get_mut(place.map).ok_or_else(|| fault("is in no map".into()))?;
    let size = usize::try_from(spec.value_size).unwrap_or(usize::MAX);
    let contents = spec.contents.get_or_insert_with(|| vec![0; size]);
    let outside = || fault("lies outside its map".into());
    let room = contents.get_mut(place.offset..).ok_or_else(outside)?;
    if place.bits != 0 {
        let number = bit_field(value, btf, &place).map_err(fault)?;
        return put_bits(room, number, place.shift, place.bits).ok_or_else(outside);
    }
    let bytes = encode(value, btf, place.type_id).map_err(fault)?;
    room.get_mut(..bytes.len()).ok_or_else(outside)?.copy_from_slice(&bytes);
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

/// What a path leads to.
struct Place {
    map: usize,
    /// In the map's value, in bytes.
    offset: usize,
    type_id: u32,
    /// Of a bit-field: where it begins in that byte, and its width; a width of 0 for anything else.
    shift: u32,
    bits: u32,
}

fn locate(path: &str, btf: &Btf, variables: &[Variable]) -> Result<Place, Fault> {
    let (variable, mut rest) = variable(path, variables)?;
    let (mut offset, mut type_id) = (variable.offset, variable.type_id);
    let (mut shift, mut bits) = (0, 0);
    while !rest.is_empty() {
        let found = btf.strip(type_id).ok_or("is of no known type")?;
        let (step, inner);
        if let Some(field) = rest.strip_prefix('.') {
            let end = field.find(['.', '[']).unwrap_or(field.len());
            let (name, after) = field.split_at(end);
            let bit_offset;
            (bit_offset, bits, inner) = member(btf, &found, name)?;
            (step, shift, rest) = (bit_offset >> 3, bit_offset & 7, after);
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
    let offset = usize::try_from(offset).map_err(|_| "lies too far")?;
    Ok(Place { map: variable.map, offset, type_id, shift, bits })
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

/// Bit offset, bit-field width and type of a member.
fn member(btf: &Btf, outer: &Type<'_>, name: &str) -> Result<(u32, u32, u32), Fault> {
    if !matches!(outer.kind, Kind::Struct | Kind::Union) {
        return Err("is not a struct or union".into());
    }
    let found = Some(name).filter(|name| !name.is_empty());
    let found = found.and_then(|name| search(btf, outer, name, MAX_NESTING));
    found.ok_or_else(|| Fault("has no such field", names(btf, outer, MAX_NESTING)))
}

/// The names of all members, those of unnamed structs and unions among them.
fn names(btf: &Btf, outer: &Type<'_>, depth: usize) -> Vec<String> {
    let Some(deeper) = depth.checked_sub(1) else { return Vec::new() };
    let name = |m: super::btf_type::Member<'_>| match (m.name, btf.strip(m.type_id)) {
        ("", Some(inner)) => names(btf, &inner, deeper),
        (name, _) => vec![name.to_owned()],
    };
    outer.members().flat_map(name).collect()
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
        Kind::Int if found.int().is_none_or(|i| i.shift != 0 || i.bits != size.saturating_mul(8)) => {
            Err("is a bit-field of an old compiler: give the struct around it as hex:…".into())
        }
        Kind::Int | Kind::Enum | Kind::Enum64 => {
            let number = scalar(value, &found, size.saturating_mul(8))?;
            number.to_le_bytes().get(..length).map(<[u8]>::to_vec).ok_or("is too wide a number".into())
        }
        Kind::Float if matches!(length, 4 | 8) => {
            let number: f64 = value.parse().map_err(|_| "wants a number such as 0.5 or 1e-3")?;
            let short: f32 = value.parse().map_err(|_| "wants a number such as 0.5 or 1e-3")?;
            let infinite = if length == 4 { short.is_infinite() } else { number.is_infinite() };
            if infinite && !value.contains("inf") {
                return Err("the number does not fit its type".into());
            }
            Ok(if length == 4 { short.to_le_bytes().to_vec() } else { number.to_le_bytes().to_vec() })
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

/// The number that an integer, a boolean or an enum of so many bits is to have.
fn scalar(value: &str, found: &Type<'_>, bits: u32) -> Result<i128, Fault> {
    let Some(encoding) = found.int() else {
        let named = found.enumerators().find(|(name, _)| *name == value).map(|(_, number)| number);
        let names = || found.enumerators().map(|(name, _)| name.to_owned()).collect();
        let number =
            named.or_else(|| number(value)).ok_or_else(|| Fault("is no enumerator of its type", names()))?;
        return fit(number, bits, found.kind_flag());
    };
    let number = match value {
        "true" if encoding.boolean => 1,
        "false" if encoding.boolean => 0,
        _ => number(value).ok_or("wants a number: decimal, or hexadecimal with 0x")?,
    };
    fit(number, if encoding.boolean { 1 } else { bits }, encoding.signed)
}

/// The number, if so many bits hold it.
fn fit(number: i128, bits: u32, signed: bool) -> Result<i128, Fault> {
    let least = if signed { number >> bits.saturating_sub(1).min(127) } else { number >> bits.min(127) };
    // What is above an unsigned number's bits is zero, above a signed one's the sign.
    match least == 0 || signed && least == -1 {
        true => Ok(number),
        false => Err("the number does not fit its type".into()),
    }
}

fn bit_field(value: &str, btf: &Btf, place: &Place) -> Result<i128, Fault> {
    let found = btf.strip(place.type_id).ok_or("is of no known type")?;
    match found.kind {
        Kind::Int | Kind::Enum | Kind::Enum64 => scalar(value, &found, place.bits),
        _ => Err("is a bit-field of no number: give the struct around it as hex:…".into()),
    }
}

/// Puts the low `bits` of a number into the bits from `shift` on, counted as little-endian machines do.
fn put_bits(room: &mut [u8], number: i128, shift: u32, bits: u32) -> Option<()> {
    let length = usize::try_from(shift.checked_add(bits)?.div_ceil(8)).ok()?;
    let room = room.get_mut(..length)?;
    let mut wide = [0; 16];
    wide.get_mut(..length)?.copy_from_slice(room);
    let mask = u128::MAX.checked_shr(128_u32.checked_sub(bits)?)?.checked_shl(shift)?;
    let number = (number as u128).checked_shl(shift)? & mask;
    let changed = (u128::from_le_bytes(wide) & !mask | number).to_le_bytes();
    room.copy_from_slice(changed.get(..length)?);
    Some(())
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
