// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Slots of program arrays that hold what is not for tc, to a refusal or to a note.
//!
//! The programs of an array are of one type, that of whoever calls them or of the first (`bpf_prog_map_compatible()` in
//! kernel/bpf/core.c). Other loaders load each as what its section says, and fail where a tc program calls them.
use crate::load::create::{loaded, Creation};
use crate::load::refusal::{Refusal, Stage};
use crate::object::{Object, Program, ProgramKind, Slot};

/// Whether a load puts this program into the slots that want it.
pub fn is_loaded(program: &Program, selected: &[String]) -> bool {
    program.kind == ProgramKind::SchedCls || selected.contains(&program.name)
}

/// One note for each slot that stays empty. An array that a loaded program uses must not have one.
pub fn left_empty(object: &Object, creation: &Creation) -> Result<Vec<String>, Refusal> {
    let programs = loaded(object, &creation.programs);
    let mut notes = Vec::new();
    for (index, map) in object.maps.iter().enumerate() {
        for (slot, holds) in &map.slots {
            let Slot::Program(name) = holds else { continue };
            let Some(held) = object.program(name).filter(|p| !is_loaded(p, &creation.programs)) else {
                continue;
            };
            let what = format!(
                "map {}: slot {slot} holds '{name}' in section '{}', which is not for tc",
                map.name, held.section
            );
            if let Some(user) = programs.iter().find(|p| p.refs.iter().any(|r| r.map == index)) {
                let hint = format!(
                    "'{}' uses this map, and the kernel wants all programs of one to be of one type; --type sched_cls loads '{name}' as one for tc",
                    user.name
                );
                return Err(Refusal::new(Stage::Object, what, hint));
            }
            notes.push(format!("{what}: it stays empty, as no program that is loaded uses this map"));
        }
    }
    Ok(notes)
}
