// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `MAP=N` to another `max_entries` of a map, checked against what the object puts into it.

use super::error::ObjectError;
use super::{MapSpec, Slot};

/// Makes one assignment.
pub fn resize(assignment: &str, maps: &mut [MapSpec]) -> Result<(), ObjectError> {
    let fault = |what, known| ObjectError::Set { assignment: assignment.to_owned(), what, known };
    let (name, number) =
        assignment.split_once('=').ok_or_else(|| fault("is not of the form MAP=N", Vec::new()))?;
    let entries = entries(number).ok_or_else(|| fault("N is a number from 1 to 4294967295", Vec::new()))?;
    // An element of a data map is a section: it has one, and its address is in the instructions.
    let known: Vec<String> = maps.iter().filter(|map| !is_data(map)).map(|map| map.name.clone()).collect();
    let Some(map) = maps.iter_mut().find(|map| map.name == name) else {
        return Err(fault("there is no such map", known));
    };
    if is_data(map) {
        return Err(fault("holds variables, which have one element", known));
    }
    let used = map.slots.iter().map(|(index, _): &(u32, Slot)| index).max();
    if used.is_some_and(|index| *index >= entries) {
        return Err(fault("the object fills slots behind that", Vec::new()));
    }
    map.max_entries = entries;
    Ok(())
}

fn entries(text: &str) -> Option<u32> {
    let number = match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => text.parse(),
    };
    number.ok().filter(|n| *n != 0)
}

/// Whether it is a section of variables: those alone are called as a section is.
fn is_data(map: &MapSpec) -> bool {
    map.name.starts_with('.')
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::object::Object;

    fn object(name: &str) -> Object {
        let path = format!("{}/../elf/fixtures/{name}.bpf.o", env!("CARGO_MANIFEST_DIR"));
        Object::parse(&std::fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn one_map_changes_and_nothing_else() {
        let before = object("maps");
        let mut after = before.clone();
        after.resize("sized=0x20").unwrap();
        for (old, new) in before.maps.iter().zip(&after.maps) {
            assert_eq!(new.max_entries, if old.name == "sized" { 32 } else { old.max_entries });
        }
        assert_eq!(after.programs, before.programs);
    }

    #[test]
    fn what_cannot_be_is_said() {
        for (name, assignment, words) in [
            ("maps", "sized", "MAP=N"),
            ("maps", "sized=0", "from 1"),
            ("maps", "sized=4294967296", "from 1"),
            ("maps", "sized=-1", "from 1"),
            ("maps", "size=1", "there is: "),
            ("globals", ".rodata=2", "one element"),
        ] {
            let error = object(name).resize(assignment).unwrap_err().to_string();
            assert!(error.contains(words) && error.starts_with(assignment), "{error}");
        }
    }

    #[test]
    fn filled_slots_stay() {
        // [1] = tail
        let mut maps = object("maps");
        assert!(maps.resize("jumps=1").unwrap_err().to_string().contains("fills slots"));
        maps.resize("jumps=2").unwrap();
    }
}
