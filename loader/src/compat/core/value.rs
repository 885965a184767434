// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A path that was found, or was not, to the constant that the program is to hold.

use super::spec::{position, Ask, Spec};
use crate::object::{Kind, Type};

/// A constant, and for a field's offset what is read or written there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub value: u64,
    /// Of an unsigned enum of 32 bits the value without a sign, which compilers have in a 64-bit load; else as `value`.
    pub unsigned: u64,
    pub access: Option<Width>,
    /// Whether the instruction must hold the object's own answer before it is changed: compilers see bit-fields in more
    /// than one way.
    pub exact: bool,
}

/// The field's size in bytes, and what it is, since only some may be read with another width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Width {
    pub bytes: u32,
    pub sort: Sort,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    Pointer,
    Unsigned,
    Other,
}

impl Answer {
    pub fn number(value: u64) -> Answer {
        Answer { value, unsigned: value, access: None, exact: false }
    }

    fn exact(value: u64) -> Answer {
        Answer { exact: true, ..Answer::number(value) }
    }
}

/// The answer, with `None` as the spec for what the kernel does not have. No answer means that the code must not run.
pub fn answer(spec: Option<&Spec<'_>>, ask: Ask) -> Result<Option<Answer>, &'static str> {
    let Some(spec) = spec else {
        let zero = matches!(ask, Ask::FieldExists | Ask::EnumeratorExists) || ask.is_about_type();
        return Ok(zero.then(|| Answer::exact(0)));
    };
    let value = match ask {
        Ask::FieldExists | Ask::EnumeratorExists | Ask::TypeExists | Ask::TypeMatches => 1,
        Ask::TypeIdLocal => return Ok(Some(Answer::number(spec.root.into()))),
        // The kernel's own id is filled in by who knows it, and old compilers left another one in the instruction.
        Ask::TypeIdTarget => return Ok(Some(Answer::number(spec.root.into()))),
        Ask::TypeSize => spec.btf.size_of(spec.root).ok_or("the type has no size")?.into(),
        Ask::EnumeratorValue => {
            let (value, unsigned) = enumerator(spec).ok_or("names no enumerator")?;
            return Ok(Some(Answer { unsigned, ..Answer::exact(value) }));
        }
        _ => return field(spec, ask).map(Some),
    };
    Ok(Some(Answer::exact(value)))
}

/// A 32-bit enum is signed for CO-RE, whatever it is in C; and what it is in C.
fn enumerator(spec: &Spec<'_>) -> Option<(u64, u64)> {
    let step = spec.steps.first()?;
    let found = spec.btf.get(step.type_id)?;
    let (_, value) = found.enumerators().nth(position(step.index)?)?;
    let signed = if found.kind == Kind::Enum { i64::from(value as i32) as u64 } else { value as u64 };
    Some((signed, value as u64))
}

fn field(spec: &Spec<'_>, ask: Ask) -> Result<Answer, &'static str> {
    let btf = spec.btf;
    let last = spec.steps.last().ok_or("leads nowhere")?;
    let width = |id: u32| {
        // Of an array one element is accessed at a time.
        let (mut element, mut found) = (id, btf.strip(id));
        while let Some(array) = found.and_then(|t| t.array()) {
            element = array.element;
            found = btf.strip(element);
        }
        Some(Width { bytes: btf.size_of(element)?, sort: sort(btf.strip(id)) })
    };
    if last.name.is_none() {
        let size = btf.size_of(last.type_id).ok_or("leads to a type without size")?;
        return match ask {
            Ask::ByteOffset => {
                let access = width(last.type_id);
                Ok(Answer { access, ..Answer::exact(spec.bit_offset >> 3) })
            }
            Ask::ByteSize => Ok(Answer::exact(size.into())),
            _ => Err("this cannot be asked of an array's element"),
        };
    }
    let holder = btf.get(last.type_id).ok_or("leads nowhere")?;
    let member = position(last.index).and_then(|n| holder.members().nth(n)).ok_or("leads nowhere")?;
    let of = btf.strip(member.type_id);
    let bits = u64::from(member.bits);
    let place = match bits {
        0 => {
            let size = u64::from(btf.size_of(member.type_id).ok_or("leads to a type without size")?);
            Place { byte: spec.bit_offset >> 3, size, bits: size.checked_mul(8).ok_or("is too large")? }
        }
        _ => around(spec.bit_offset, bits, of.map_or(0, |t| t.size().into()))
            .ok_or("is a damaged bit-field")?,
    };
    let start = spec.bit_offset.checked_sub(place.byte.saturating_mul(8)).ok_or("is a damaged bit-field")?;
    let exact = bits == 0;
    Ok(match ask {
        Ask::ByteOffset => {
            let access = if exact { width(member.type_id) } else { None };
            Answer { access, exact, ..Answer::number(place.byte) }
        }
        Ask::ByteSize => Answer { exact, ..Answer::number(place.size) },
        Ask::Signed => Answer::exact(of.is_some_and(|t| is_signed(&t)).into()),
        Ask::LeftShift => {
            let end = start.checked_add(place.bits).ok_or("is too large")?;
            Answer { exact, ..Answer::number(64u64.wrapping_sub(end)) }
        }
        Ask::RightShift => Answer::exact(64u64.wrapping_sub(place.bits)),
        _ => return Err("this cannot be asked of a field"),
    })
}

/// The bytes to load for a field, and how many of their bits are the field's.
struct Place {
    byte: u64,
    size: u64,
    bits: u64,
}

/// The smallest aligned integer, at least as large as the declared one, that holds a bit-field.
fn around(bit_offset: u64, bits: u64, declared: u64) -> Option<Place> {
    let mut size = declared;
    loop {
        let byte = (bit_offset >> 3).checked_div(size)?.checked_mul(size)?;
        let end = bit_offset.checked_add(bits)?.checked_sub(byte.checked_mul(8)?)?;
        if end <= size.checked_mul(8)? {
            return Some(Place { byte, size, bits });
        }
        if size >= 8 {
            return None;
        }
        size = size.checked_mul(2)?;
    }
}

fn is_signed(found: &Type<'_>) -> bool {
    match found.kind {
        Kind::Enum | Kind::Enum64 => found.kind_flag(),
        _ => found.int().is_some_and(|i| i.signed),
    }
}

fn sort(found: Option<Type<'_>>) -> Sort {
    match found {
        Some(t) if t.kind == Kind::Ptr => Sort::Pointer,
        Some(t) if t.int().is_some_and(|i| !i.signed) => Sort::Unsigned,
        _ => Sort::Other,
    }
}
