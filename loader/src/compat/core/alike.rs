// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Two types to whether one may stand for the other: as fields, as types by their kind, or exactly.

use super::spec::MAX_STEPS;
use crate::compat::target::essential;
use crate::object::{Btf, Kind, Type};

type Verdict = Result<bool, &'static str>;

/// Equal kinds; both sorts of enum count as one.
pub fn same_kind(a: Kind, b: Kind) -> bool {
    a == b || is_enum(a) && is_enum(b)
}

fn is_enum(kind: Kind) -> bool {
    matches!(kind, Kind::Enum | Kind::Enum64)
}

/// `bpf_core_fields_are_compat()`: sizes and signs may differ, the code is told of it.
pub fn fields(local: &Btf, mut local_id: u32, target: &Btf, mut target_id: u32) -> Verdict {
    for _ in 0..MAX_STEPS {
        let (Some(a), Some(b)) = (local.strip(local_id), target.strip(target_id)) else { return Ok(false) };
        let composite = |t: &Type<'_>| matches!(t.kind, Kind::Struct | Kind::Union);
        if composite(&a) && composite(&b) {
            return Ok(true);
        }
        if !same_kind(a.kind, b.kind) {
            return Ok(false);
        }
        return Ok(match a.kind {
            Kind::Ptr | Kind::Float => true,
            Kind::Fwd | Kind::Enum | Kind::Enum64 => {
                let (a, b) = (essential(a.name()), essential(b.name()));
                a.is_empty() || b.is_empty() || a == b
            }
            Kind::Int => is_plain(&a) && is_plain(&b),
            Kind::Array => {
                let (Some(x), Some(y)) = (a.array(), b.array()) else { return Ok(false) };
                (local_id, target_id) = (x.element, y.element);
                continue;
            }
            _ => false,
        });
    }
    Err("arrays are nested too deeply")
}

/// No bit-field of old compilers.
fn is_plain(int: &Type<'_>) -> bool {
    int.int().is_some_and(|i| i.shift == 0)
}

/// `bpf_core_types_are_compat()`: the same kinds all the way through pointers, arrays and prototypes.
pub fn compatible(local: &Btf, local_id: u32, target: &Btf, target_id: u32) -> Verdict {
    match (local.get(local_id), target.get(target_id)) {
        (Some(a), Some(b)) if same_kind(a.kind, b.kind) => {
            compatible_within(local, local_id, target, target_id, DEPTH)
        }
        _ => Ok(false),
    }
}

fn compatible_within(
    local: &Btf,
    mut local_id: u32,
    target: &Btf,
    mut target_id: u32,
    depth: usize,
) -> Verdict {
    let depth = depth.checked_sub(1).ok_or(TOO_DEEP)?;
    for _ in 0..DEPTH {
        let (a, b) = match (local.strip(local_id), target.strip(target_id)) {
            (None, None) => return Ok(true),
            (Some(a), Some(b)) if same_kind(a.kind, b.kind) => (a, b),
            _ => return Ok(false),
        };
        match a.kind {
            Kind::Struct | Kind::Union | Kind::Enum | Kind::Enum64 | Kind::Fwd => return Ok(true),
            Kind::Int => return Ok(is_plain(&a) && is_plain(&b)),
            Kind::Ptr => (local_id, target_id) = (a.type_id(), b.type_id()),
            Kind::Array => {
                let (Some(x), Some(y)) = (a.array(), b.array()) else { return Ok(false) };
                (local_id, target_id) = (x.element, y.element);
            }
            Kind::FuncProto => {
                if a.params().count() != b.params().count() {
                    return Ok(false);
                }
                for (x, y) in a.params().zip(b.params()) {
                    if !compatible_within(local, x.type_id, target, y.type_id, depth)? {
                        return Ok(false);
                    }
                }
                (local_id, target_id) = (a.type_id(), b.type_id());
            }
            _ => return Ok(false),
        }
    }
    Err(TOO_DEEP)
}

/// `bpf_core_types_match()`: names, sizes and signs too; the kernel's type may have more members.
pub fn matches(local: &Btf, local_id: u32, target: &Btf, target_id: u32) -> Verdict {
    let pair = Pair { local, target };
    pair.matches(local_id, target_id, false, DEPTH)
}

struct Pair<'l, 't> {
    local: &'l Btf,
    target: &'t Btf,
}

impl Pair<'_, '_> {
    fn matches(&self, mut local_id: u32, mut target_id: u32, mut pointed: bool, depth: usize) -> Verdict {
        let depth = depth.checked_sub(1).ok_or(TOO_DEEP)?;
        for _ in 0..DEPTH {
            let (a, b) = match (self.local.strip(local_id), self.target.strip(target_id)) {
                (None, None) => return Ok(true),
                (Some(a), Some(b)) => (a, b),
                _ => return Ok(false),
            };
            if essential(a.name()) != essential(b.name()) {
                return Ok(false);
            }
            let same = a.kind == b.kind;
            match a.kind {
                Kind::Fwd if same => return Ok(a.kind_flag() == b.kind_flag()),
                Kind::Fwd => {
                    let body = if a.kind_flag() { Kind::Union } else { Kind::Struct };
                    return Ok(pointed && b.kind == body);
                }
                Kind::Enum | Kind::Enum64 => return Ok(is_enum(b.kind) && enums(&a, &b)),
                Kind::Struct | Kind::Union if pointed => {
                    let forward = b.kind == Kind::Fwd && (a.kind == Kind::Union) == b.kind_flag();
                    return Ok(same || forward);
                }
                Kind::Struct | Kind::Union => {
                    return if same { self.members(&a, &b, depth) } else { Ok(false) }
                }
                _ if !same => return Ok(false),
                Kind::Int => {
                    let signed = |t: &Type<'_>| t.int().map(|i| i.signed);
                    return Ok(a.size() == b.size() && signed(&a) == signed(&b));
                }
                Kind::Ptr => {
                    pointed = true;
                    (local_id, target_id) = (a.type_id(), b.type_id());
                }
                Kind::Array => {
                    let (Some(x), Some(y)) = (a.array(), b.array()) else { return Ok(false) };
                    if x.count != y.count {
                        return Ok(false);
                    }
                    (local_id, target_id) = (x.element, y.element);
                }
                Kind::FuncProto => {
                    if a.params().count() != b.params().count() {
                        return Ok(false);
                    }
                    for (x, y) in a.params().zip(b.params()) {
                        if !self.matches(x.type_id, y.type_id, pointed, depth)? {
                            return Ok(false);
                        }
                    }
                    (local_id, target_id) = (a.type_id(), b.type_id());
                }
                _ => return Ok(false),
            }
        }
        Err(TOO_DEEP)
    }

    /// Every local member has one of its name and type.
    fn members(&self, a: &Type<'_>, b: &Type<'_>, depth: usize) -> Verdict {
        if a.members().count() > b.members().count() {
            return Ok(false);
        }
        for wanted in a.members() {
            let mut found = false;
            for candidate in b.members().filter(|c| essential(c.name) == essential(wanted.name)) {
                if self.matches(wanted.type_id, candidate.type_id, false, depth)? {
                    found = true;
                    break;
                }
            }
            if !found {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Every local enumerator is there; its value may differ.
fn enums(a: &Type<'_>, b: &Type<'_>) -> bool {
    let there = |name: &str| b.enumerators().any(|(other, _)| essential(other) == essential(name));
    a.size() == b.size()
        && a.enumerators().count() <= b.enumerators().count()
        && a.enumerators().all(|(name, _)| there(name))
}

const DEPTH: usize = 32;
const TOO_DEEP: &str = "types are nested too deeply";
