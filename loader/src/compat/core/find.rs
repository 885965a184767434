// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A path in the object's types to the same path in a type of the kernel, by names.

use super::alike;
use super::spec::{position, Access, Ask, Spec, MAX_STEPS};
use crate::compat::target::essential;
use crate::object::{Btf, Kind};

/// The path from the kernel's type `root`, or `None` if it does not lead there.
pub fn find<'t>(
    local: &Spec<'_>,
    target: &'t Btf,
    root: u32,
    ask: Ask,
) -> Result<Option<Spec<'t>>, &'static str> {
    let mut spec = Spec::of(target, root);
    if ask.is_about_type() {
        let alike = match ask {
            Ask::TypeMatches => alike::matches(local.btf, local.root, target, root)?,
            _ => alike::compatible(local.btf, local.root, target, root)?,
        };
        return Ok(alike.then_some(spec));
    }
    if ask.is_about_enumerator() {
        let wanted = local.steps.first().and_then(|s| s.name).map(essential);
        let Some(found) = target.strip(root) else { return Ok(None) };
        let mut enumerators = (0u32..).zip(found.enumerators());
        let one = enumerators.find(|(_, (name, _))| Some(essential(name)) == wanted);
        let Some((index, (name, _))) = one else { return Ok(None) };
        spec.steps.push(Access { type_id: found.id, index, name: Some(name) });
        return Ok(Some(spec));
    }
    let mut at = root;
    for (n, step) in local.steps.iter().enumerate() {
        if step.name.is_some() {
            match member(local, step, &mut spec, at, MAX_STEPS)? {
                Some(next) => at = next,
                None => return Ok(None),
            }
            continue;
        }
        let Some(mut found) = target.strip(at) else { return Ok(None) };
        if n > 0 {
            let Some(array) = found.array() else { return Ok(None) };
            if step.index >= array.count && !spec.is_flexible(array.count) {
                return Ok(None);
            }
            let Some(element) = target.strip(array.element) else { return Ok(None) };
            found = element;
        }
        at = found.id;
        spec.element(at, step.index).ok_or("the kernel's type has no size")?;
    }
    Ok(Some(spec))
}

/// Goes to the member of the same name, through anonymous ones, and returns its type; `None` without one that is alike.
fn member(
    local: &Spec<'_>,
    step: &Access<'_>,
    spec: &mut Spec<'_>,
    at: u32,
    depth: usize,
) -> Result<Option<u32>, &'static str> {
    let depth = depth.checked_sub(1).ok_or("anonymous members are nested too deeply")?;
    let target = spec.btf;
    let Some(found) = target.strip(at).filter(|t| matches!(t.kind, Kind::Struct | Kind::Union)) else {
        return Ok(None);
    };
    let wanted = local.btf.get(step.type_id);
    let wanted = wanted.and_then(|t| t.members().nth(position(step.index)?)).ok_or("names no member")?;
    let before = spec.bit_offset;
    for (index, candidate) in (0u32..).zip(found.members()) {
        spec.bit_offset = before.checked_add(candidate.bit_offset.into()).ok_or("leads too far")?;
        if candidate.name.is_empty() {
            if let Some(next) = member(local, step, spec, candidate.type_id, depth)? {
                return Ok(Some(next));
            }
        } else if candidate.name == wanted.name {
            let fits = alike::fields(local.btf, wanted.type_id, target, candidate.type_id)?;
            if fits {
                spec.steps.push(Access { type_id: found.id, index, name: Some(candidate.name) });
            }
            return Ok(fits.then_some(candidate.type_id));
        }
    }
    spec.bit_offset = before;
    Ok(None)
}
