// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! An object from elsewhere to the ways in which it is not the DNAT that this program knows: programs, `cfg`, every map.
//!
//! What it has besides is its own affair.
use crate::object::{MapSpec, Object};

/// Everything that differs, a sentence each; empty when this program can configure, fill and read it.
pub fn differences(object: &Object, ours: &Object) -> Vec<String> {
    let mut found = Vec::new();
    for program in &ours.programs {
        if object.program(&program.name).is_none_or(|p| !p.loads_by_itself()) {
            found.push(format!("it has no program {}", program.name));
        }
    }
    found.extend(configuration(object, ours));
    for map in ours.maps.iter().filter(|m| !m.name.starts_with('.')) {
        match object.maps.iter().find(|m| m.name == map.name) {
            Some(theirs) => found.extend(map_differs((object, theirs), (ours, map))),
            None => found.push(format!("it has no map {}", map.name)),
        }
    }
    found
}

/// `cfg` has to lie at the same place of `.rodata`, where every version looks for it.
fn configuration(object: &Object, ours: &Object) -> Option<String> {
    let cfg = |object: &Object| object.variables.iter().find(|v| v.name == "cfg").cloned();
    let (Some(theirs), Some(our)) = (cfg(object), cfg(ours)) else {
        return Some("it has no variable cfg".to_string());
    };
    let place = |object: &Object, map: usize| object.maps.get(map).map(|m| m.name.clone());
    if (place(object, theirs.map), theirs.offset) != (place(ours, our.map), our.offset) {
        return Some("its variable cfg lies elsewhere".to_string());
    }
    types((object, theirs.type_id), (ours, our.type_id), "cfg")
}

fn map_differs((object, map): (&Object, &MapSpec), (ours, our): (&Object, &MapSpec)) -> Option<String> {
    let shape = |m: &MapSpec| {
        [m.map_type, m.key_size, m.value_size, m.max_entries, m.flags].map(|n| n.to_string()).join(" ")
    };
    let inner = |m: &MapSpec| m.inner.as_ref().map(|inner| shape(inner));
    if (shape(map), inner(map)) != (shape(our), inner(our)) {
        let words = "type, key, value, entries, flags";
        return Some(format!("map {} is {}, not {} ({words})", our.name, shape(map), shape(our)));
    }
    let side = |mine: u32, theirs: u32, what: &str| {
        types((object, theirs), (ours, mine), &format!("{what} of map {}", our.name))
    };
    side(our.key_type_id, map.key_type_id, "key")
        .or_else(|| side(our.value_type_id, map.value_type_id, "value"))
}

fn types((object, theirs): (&Object, u32), (ours, our): (&Object, u32), path: &str) -> Option<String> {
    match (&object.btf, &ours.btf) {
        (Some(btf), Some(our_btf)) if our != 0 => our_btf.difference(our, btf, theirs, path),
        (None, Some(_)) => Some(format!("it has no types, so {path} cannot be known")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dnat::embedded;

    #[test]
    fn only_the_dnat_is_like_itself() {
        let object = |name: &str| Object::parse(embedded::object(name).unwrap()).unwrap();
        let ours = object("dnat");
        assert_eq!(differences(&ours, &ours), Vec::<String>::new());
        let found = differences(&object("trace"), &ours);
        assert!(found.contains(&"it has no program detour_in".to_string()), "{found:?}");
        assert!(found.contains(&"it has no variable cfg".to_string()), "{found:?}");
        assert!(found.contains(&"it has no map idx4".to_string()), "{found:?}");
        let mut other = ours.clone();
        other.maps.iter_mut().find(|m| m.name == "asked").unwrap().value_size = 48;
        let found = differences(&other, &ours);
        assert_eq!(
            found,
            ["map asked is 1 40 48 16384 0, not 1 40 40 16384 0 (type, key, value, entries, flags)"]
        );
        let mut other = ours.clone();
        other.variables.iter_mut().find(|v| v.name == "cfg").unwrap().offset = 4;
        assert_eq!(differences(&other, &ours), ["its variable cfg lies elsewhere"]);
    }
}
