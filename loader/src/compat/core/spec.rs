// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A path such as `0:1:2` from a type to the fields it goes through.

use crate::object::{Btf, Kind, Type};

/// `enum bpf_core_relo_kind` (include/uapi/linux/bpf.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    ByteOffset,
    ByteSize,
    FieldExists,
    Signed,
    LeftShift,
    RightShift,
    TypeIdLocal,
    TypeIdTarget,
    TypeExists,
    TypeSize,
    EnumeratorExists,
    EnumeratorValue,
    TypeMatches,
}

impl Ask {
    const ALL: [(Ask, &'static str); 13] = [
        (Ask::ByteOffset, "field offset"),
        (Ask::ByteSize, "field size"),
        (Ask::FieldExists, "field exists"),
        (Ask::Signed, "field signedness"),
        (Ask::LeftShift, "bit-field left shift"),
        (Ask::RightShift, "bit-field right shift"),
        (Ask::TypeIdLocal, "local type id"),
        (Ask::TypeIdTarget, "type id"),
        (Ask::TypeExists, "type exists"),
        (Ask::TypeSize, "type size"),
        (Ask::EnumeratorExists, "enumerator exists"),
        (Ask::EnumeratorValue, "enumerator value"),
        (Ask::TypeMatches, "type matches"),
    ];

    pub fn from_number(number: u32) -> Option<Ask> {
        Ask::ALL.get(usize::try_from(number).ok()?).map(|(ask, _)| *ask)
    }

    pub fn name(self) -> &'static str {
        Ask::ALL.iter().find(|(ask, _)| *ask == self).map_or("", |(_, name)| name)
    }

    /// Asks about a type as a whole.
    pub fn is_about_type(self) -> bool {
        use Ask::{TypeExists, TypeIdLocal, TypeIdTarget, TypeMatches, TypeSize};
        matches!(self, TypeIdLocal | TypeIdTarget | TypeExists | TypeSize | TypeMatches)
    }

    pub fn is_about_enumerator(self) -> bool {
        matches!(self, Ask::EnumeratorExists | Ask::EnumeratorValue)
    }
}

/// One step of a path.
#[derive(Clone, Copy, Debug)]
pub struct Access<'a> {
    /// The struct, union, enum, or what elements of an array are.
    pub type_id: u32,
    /// Of the member, enumerator or element.
    pub index: u32,
    /// The member's or enumerator's; none for an element.
    pub name: Option<&'a str>,
}

/// A path: anonymous members are gone through, but are no steps.
#[derive(Clone, Debug)]
pub struct Spec<'a> {
    pub btf: &'a Btf,
    pub root: u32,
    pub steps: Vec<Access<'a>>,
    /// Of what the path leads to, from the root's start.
    pub bit_offset: u64,
}

impl<'a> Spec<'a> {
    /// A path of no steps.
    pub fn of(btf: &'a Btf, root: u32) -> Spec<'a> {
        Spec { btf, root, steps: Vec::new(), bit_offset: 0 }
    }

    /// Reads a path of the object's.
    pub fn read(btf: &'a Btf, root: u32, access: &str, ask: Ask) -> Result<Spec<'a>, &'static str> {
        let indexes: Option<Vec<u32>> = access.split(':').map(|n| n.parse().ok()).collect();
        let indexes = indexes.filter(|i| i.len() <= MAX_STEPS).ok_or("is not numbers with colons")?;
        let (first, rest) = indexes.split_first().ok_or("is empty")?;
        let mut spec = Spec::of(btf, root);
        if ask.is_about_type() {
            return if *first == 0 && rest.is_empty() { Ok(spec) } else { Err("a type has no parts here") };
        }
        let start = btf.strip(root).ok_or("starts from no type")?;
        if ask.is_about_enumerator() {
            let one = position(*first).and_then(|n| start.enumerators().nth(n));
            let (name, _) = one.filter(|_| rest.is_empty()).ok_or("names no enumerator")?;
            spec.steps.push(Access { type_id: start.id, index: *first, name: Some(name) });
            return Ok(spec);
        }
        spec.element(start.id, *first).ok_or("starts from a type without size")?;
        let mut at = start;
        for index in rest {
            at = spec.step(&at, *index)?;
        }
        Ok(spec)
    }

    /// Goes to an element of an array whose elements are of this type.
    pub fn element(&mut self, type_id: u32, index: u32) -> Option<()> {
        let bits = u64::from(self.btf.size_of(type_id)?).checked_mul(8)?.checked_mul(index.into())?;
        self.bit_offset = self.bit_offset.checked_add(bits)?;
        self.steps.push(Access { type_id, index, name: None });
        Some(())
    }

    fn step(&mut self, at: &Type<'a>, index: u32) -> Result<Type<'a>, &'static str> {
        let btf = self.btf;
        match at.kind {
            Kind::Struct | Kind::Union => {
                let member = position(index).and_then(|n| at.members().nth(n)).ok_or("names no member")?;
                let place = self.bit_offset.checked_add(member.bit_offset.into());
                self.bit_offset = place.ok_or("leads too far")?;
                if !member.name.is_empty() {
                    self.steps.push(Access { type_id: at.id, index, name: Some(member.name) });
                }
                btf.strip(member.type_id).ok_or("leads to no type")
            }
            Kind::Array => {
                let array = at.array().ok_or("leads to a damaged array")?;
                if index >= array.count && !self.is_flexible(array.count) {
                    return Err("leads beyond an array");
                }
                let element = btf.strip(array.element).ok_or("leads to no type")?;
                self.element(element.id, index).ok_or("leads to a type without size")?;
                Ok(element)
            }
            _ => Err("goes into something without parts"),
        }
    }

    /// An array without length at the end of a struct, just stepped into: it has elements beyond its type.
    pub fn is_flexible(&self, count: u32) -> bool {
        let Some(last) = self.steps.last().filter(|s| s.name.is_some()) else { return false };
        let members = self.btf.get(last.type_id).map_or(0, |t| t.members().count());
        count == 0 && position(last.index).and_then(|n| n.checked_add(1)) == Some(members)
    }

    /// `struct iphdr.saddr`, `enum e.VALUE`, `struct x.list[3]`.
    pub fn describe(&self) -> String {
        let mut text = self.btf.describe(self.root);
        for (n, step) in self.steps.iter().enumerate() {
            match step.name {
                Some(name) => text.push_str(&format!(".{name}")),
                None if n > 0 || step.index > 0 => text.push_str(&format!("[{}]", step.index)),
                None => {}
            }
        }
        text
    }
}

pub fn position(index: u32) -> Option<usize> {
    usize::try_from(index).ok()
}

/// `BPF_CORE_SPEC_MAX_LEN`.
pub const MAX_STEPS: usize = 64;
