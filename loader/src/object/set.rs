// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `VAR[.FIELD][[N]]=VALUE` to bytes in a data map, checked against the variable's type.

use super::btf::Btf;
use super::btf_type::{Kind, Type};
use super::data::Variable;
use super::error::ObjectError;
use super::place::{self, Fault, Place};
use super::MapSpec;

/// Makes one assignment.
pub fn set(
    assignment: &str,
    btf: Option<&Btf>,
    variables: &[Variable],
    maps: &mut [MapSpec],
) -> Result<(), ObjectError> {
    let fault = |fault: Fault| fault.of(assignment);
    let (path, value) =
        assignment.split_once('=').ok_or_else(|| fault("is not of the form VAR=VALUE".into()))?;
    let btf = btf.ok_or_else(|| fault("the object has no BTF, so its variables are unknown".into()))?;
    let (map, place) = place::locate(path, btf, variables).map_err(fault)?;
    let spec = maps.get_mut(map).ok_or_else(|| fault("is in no map".into()))?;
    let size = usize::try_from(spec.value_size).unwrap_or(usize::MAX);
    let contents = spec.contents.get_or_insert_with(|| vec![0; size]);
    let written = write(value, btf, &place).map_err(fault)?;
    written.put(contents).ok_or_else(|| fault("lies outside its map".into()))
}

/// Bits to be written into a value that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// In the value, in bytes.
    pub at: usize,
    /// The new ones.
    pub bytes: Vec<u8>,
    /// As many, with the bits that are meant: all of them unless it is a bit-field.
    pub mask: Vec<u8>,
}

impl Written {
    /// Writes them into a copy of the value; None where they lie outside it.
    pub fn put(&self, value: &mut [u8]) -> Option<()> {
        let room = value.get_mut(self.at..self.at.checked_add(self.bytes.len())?)?;
        for ((byte, new), mask) in room.iter_mut().zip(&self.bytes).zip(&self.mask) {
            *byte = *byte & !mask | new & mask;
        }
        Some(())
    }
}

impl Btf {
    /// A value as the bytes that a variable of this type has, written as [`super::Object::set`] takes it.
    ///
    /// # Errors
    /// It is no value of that type, or the type is none that can be written as a whole.
    pub fn encode(&self, type_id: u32, value: &str) -> Result<Vec<u8>, ObjectError> {
        encode(value, self, type_id).map_err(|fault| fault.of(value))
    }

    /// The same of a part of a value, which may be a bit-field.
    ///
    /// ```
    /// let object = detour::object::Object::parse(&std::fs::read("../elf/fixtures/globals.bpf.o")?)?;
    /// let btf = object.btf.as_ref().ok_or("it has types")?;
    /// let rodata = object.maps.iter().find(|map| map.name == ".rodata").ok_or("it has constants")?;
    /// let place = btf.place(rodata.value_type_id, "pairs[1].high")?;
    /// let written = btf.write(&place, "0x2a")?;
    /// assert_eq!((written.at, written.bytes, written.mask), (place.offset, vec![0x2a, 0], vec![0xff; 2]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Btf::encode`].
    pub fn write(&self, place: &Place, value: &str) -> Result<Written, ObjectError> {
        write(value, self, place).map_err(|fault| fault.of(value))
    }
}

fn write(value: &str, btf: &Btf, place: &Place) -> Result<Written, Fault> {
    let at = place.offset;
    if place.bits == 0 {
        let bytes = encode(value, btf, place.type_id)?;
        return Ok(Written { at, mask: vec![0xff; bytes.len()], bytes });
    }
    let number = bit_field(value, btf, place)?;
    let [bytes, mask] = bits(number, place.shift, place.bits).ok_or("is too wide a bit-field")?;
    Ok(Written { at, bytes, mask })
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

/// The low `bits` of a number in the bits from `shift` on, counted as little-endian machines do, and which bits those are.
fn bits(number: i128, shift: u32, bits: u32) -> Option<[Vec<u8>; 2]> {
    let length = usize::try_from(shift.checked_add(bits)?.div_ceil(8)).ok()?;
    let mask = u128::MAX.checked_shr(128_u32.checked_sub(bits)?)?.checked_shl(shift)?;
    let number = (number as u128).checked_shl(shift)? & mask;
    let bytes = |number: u128| Some(number.to_le_bytes().get(..length)?.to_vec());
    Some([bytes(number)?, bytes(mask)?])
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = digits.chars().map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let byte = |pair: &[u32]| match pair {
        [high, low] => u8::try_from(high << 4 | low).ok(),
        _ => None,
    };
    digits.chunks(2).map(byte).collect()
}
