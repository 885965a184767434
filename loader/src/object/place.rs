// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `VAR[.FIELD][[N]]` to where that lies in a value, and of what type it is.

use super::btf::Btf;
use super::btf_type::{Kind, Type};
use super::data::{self, Variable};
use super::error::ObjectError;
use std::collections::BTreeSet;

/// What is wrong, and the names that would have been right.
pub struct Fault(pub &'static str, pub Vec<String>);

impl Fault {
    /// As an error about what somebody wrote.
    pub fn of(self, written: &str) -> ObjectError {
        ObjectError::Set { assignment: written.to_owned(), what: self.0, known: self.1 }
    }
}

impl From<&'static str> for Fault {
    fn from(what: &'static str) -> Fault {
        Fault(what, Vec::new())
    }
}

/// What a path leads to, in the value of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// In bytes.
    pub offset: usize,
    /// BTF id of its type.
    pub type_id: u32,
    /// Of a bit-field: where it begins in that byte, in bits; 0 for anything else.
    pub shift: u32,
    /// Its width in bits; 0 for anything else.
    pub bits: u32,
}

impl Btf {
    /// A part of a value of the type `type_id`: in a section of variables (a DATASEC) `VAR[.FIELD][[N]]`, in a struct or union
    /// `FIELD[.FIELD][[N]]`, in an array `[N]…`.
    ///
    /// # Errors
    /// No such variable or field; those there are are named.
    pub fn place(&self, type_id: u32, path: &str) -> Result<Place, ObjectError> {
        let found = match self.strip(type_id) {
            Some(section) if section.kind == Kind::Datasec => {
                let variables: Vec<Variable> = data::of(&section, self, 0).collect();
                locate(path, self, &variables).map(|(_, place)| place)
            }
            _ if path.starts_with(['.', '[']) => follow(path, self, (0, type_id)),
            _ => follow(&format!(".{path}"), self, (0, type_id)),
        };
        found.map_err(|fault| fault.of(path))
    }
}

/// The map, as the variable has it, and the place in its value.
pub fn locate(path: &str, btf: &Btf, variables: &[Variable]) -> Result<(usize, Place), Fault> {
    let (variable, rest) = variable(path, variables)?;
    Ok((variable.map, follow(rest, btf, (variable.offset, variable.type_id))?))
}

/// From an offset and a type on, by `.FIELD` and `[N]`.
fn follow(mut rest: &str, btf: &Btf, (mut offset, mut type_id): (u32, u32)) -> Result<Place, Fault> {
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
    Ok(Place { offset, type_id, shift, bits })
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
    let found = found.and_then(|name| search(btf, outer, name, MAX_NESTING, &mut BTreeSet::new()));
    found.ok_or_else(|| Fault("has no such field", names(btf, outer, MAX_NESTING, &mut BTreeSet::new())))
}

/// The names of all members, those of unnamed structs and unions among them. Each type is looked at once: where unnamed members
/// share one, and it has two of another, and so on, thirty types would have billions of names.
fn names(btf: &Btf, outer: &Type<'_>, depth: usize, seen: &mut BTreeSet<u32>) -> Vec<String> {
    let mut found = Vec::new();
    let Some(deeper) = depth.checked_sub(1).filter(|_| seen.insert(outer.id)) else { return found };
    for m in outer.members() {
        match (m.name, btf.strip(m.type_id)) {
            ("", Some(inner)) => found.extend(names(btf, &inner, deeper, seen)),
            (name, _) => found.push(name.to_owned()),
        }
    }
    found
}

/// Bit offset, bit-field width and type of a member, also inside unnamed structs and unions; in a type that did not have it once it
/// is not looked for again.
fn search(
    btf: &Btf,
    outer: &Type<'_>,
    name: &str,
    depth: usize,
    seen: &mut BTreeSet<u32>,
) -> Option<(u32, u32, u32)> {
    let deeper = depth.checked_sub(1).filter(|_| seen.insert(outer.id))?;
    outer.members().find_map(|m| match m.name {
        "" => {
            let (offset, bits, id) = search(btf, &btf.strip(m.type_id)?, name, deeper, seen)?;
            Some((m.bit_offset.checked_add(offset)?, bits, id))
        }
        found => (found == name).then_some((m.bit_offset, m.bits, m.type_id)),
    })
}

const MAX_NESTING: usize = 32;
