// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Two types, each of its own BTF, to the first place in which their bytes mean something else.

use std::fmt::Display;

use super::btf::Btf;
use super::btf_type::{Kind, Type};

impl Btf {
    /// Where `id` here and `other_id` in `other` differ, said of `path`; `None` if bytes of one are as good as bytes of the
    /// other. What a type is called does not matter, nor what a pointer points to unless the kernel keeps it (kptr); names
    /// of members do.
    pub fn difference(&self, id: u32, other: &Btf, other_id: u32, path: &str) -> Option<String> {
        differ((self, id), (other, other_id), path, MAX_DEPTH)
    }
}

fn differ(here: (&Btf, u32), there: (&Btf, u32), path: &str, depth: usize) -> Option<String> {
    let is = |a: &dyn Display, b: &dyn Display| Some(format!("{path} is {b}, not {a}"));
    let Some(depth) = depth.checked_sub(1) else { return Some(format!("{path} is nested too deeply")) };
    let (a, b) = match (here.0.strip(here.1), there.0.strip(there.1)) {
        (None, None) => return None,
        (Some(a), Some(b)) if family(&a) == family(&b) => (a, b),
        _ => return is(&here.0.describe(here.1), &there.0.describe(there.1)),
    };
    if a.kind != Kind::Ptr && here.0.size_of(a.id) != there.0.size_of(b.id) {
        let size = |btf: &Btf, id| format!("{} of {} bytes", btf.describe(id), btf.size_of(id).unwrap_or(0));
        return is(&size(here.0, here.1), &size(there.0, there.1));
    }
    match a.kind {
        Kind::Int if a.int() != b.int() => is(&here.0.describe(here.1), &there.0.describe(there.1)),
        Kind::Ptr => {
            let name = |btf: &Btf, t: &Type<'_>| btf.strip(t.type_id()).map(|t| t.name().to_owned());
            (name(here.0, &a) != name(there.0, &b))
                .then(|| is(&here.0.describe(here.1), &there.0.describe(there.1)))?
        }
        Kind::Array => {
            let (x, y) = (a.array()?, b.array()?);
            if x.count != y.count {
                return is(&format!("of {} elements", x.count), &format!("of {}", y.count));
            }
            differ((here.0, x.element), (there.0, y.element), &format!("{path}[]"), depth)
        }
        Kind::Struct | Kind::Union if a.kind == b.kind => members((here.0, &a), (there.0, &b), path, depth),
        Kind::Enum | Kind::Enum64 => {
            let mut pairs = a.enumerators().zip(b.enumerators());
            let (x, y) = pairs.find(|(x, y)| x != y)?;
            is(&format!("an enum with {} = {}", x.0, x.1), &format!("one with {} = {}", y.0, y.1))
        }
        Kind::Datasec => {
            let list = |btf: &Btf, t: &Type<'_>| {
                let name = |var: u32| btf.get(var).map(|v| v.name().to_owned()).unwrap_or_default();
                t.placed().map(|p| (name(p.var), p.offset, p.var)).collect::<Vec<_>>()
            };
            let (x, y) = (list(here.0, &a), list(there.0, &b));
            let pairs = x.iter().zip(&y);
            let mut found = pairs.map(|(p, q)| match (p.0 == q.0, p.1 == q.1) {
                (true, true) => variable((here.0, p.2), (there.0, q.2), &format!("{path}.{}", p.0), depth),
                (true, false) => Some(format!("{path}.{} is at byte {}, not {}", p.0, q.1, p.1)),
                _ => Some(format!("{path} has {} where {} is wanted", q.0, p.0)),
            });
            found.find_map(|difference| difference)
        }
        _ => None,
    }
}

fn variable(here: (&Btf, u32), there: (&Btf, u32), path: &str, depth: usize) -> Option<String> {
    let (a, b) = (here.0.get(here.1)?, there.0.get(there.1)?);
    differ((here.0, a.type_id()), (there.0, b.type_id()), path, depth)
}

fn members(here: (&Btf, &Type<'_>), there: (&Btf, &Type<'_>), path: &str, depth: usize) -> Option<String> {
    let (mine, theirs): (Vec<_>, Vec<_>) = (here.1.members().collect(), there.1.members().collect());
    for (a, b) in mine.iter().zip(&theirs) {
        let path = if a.name.is_empty() { path.to_owned() } else { format!("{path}.{}", a.name) };
        if a.name != b.name {
            return Some(format!("{path} is called {} there", b.name));
        }
        if (a.bit_offset, a.bits) != (b.bit_offset, b.bits) {
            return Some(format!("{path} is at bit {}, not {}", b.bit_offset, a.bit_offset));
        }
        if let Some(found) = differ((here.0, a.type_id), (there.0, b.type_id), &path, depth) {
            return Some(found);
        }
    }
    (mine.len() != theirs.len()).then(|| format!("{path} has {} members, not {}", theirs.len(), mine.len()))
}

/// Kinds that may stand for each other: what a kernel without the newer ones was given in their place.
fn family(found: &Type<'_>) -> Kind {
    match found.kind {
        Kind::Enum64 => Kind::Union,
        Kind::Float => Kind::Struct,
        kind => kind,
    }
}

const MAX_DEPTH: usize = 32;
