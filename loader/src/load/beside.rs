// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! An object that works on the maps of another one, which are there already, to the steps that make the rest of it.
use crate::load::create::{create, map_symbol, prog_symbol, Creation};
use crate::load::facts::Machine;
use crate::load::home::{map_pin, prog_pin, Dir};
use crate::load::step::{Arg, Effect, Step};
use crate::object::{MapSpec, Object};

/// Gives the object's own data, `.rodata`, a name that the other object has not: `.rodata.flush`. All other maps are shared,
/// by their names.
pub fn own_data(object: &mut Object, suffix: &str) {
    for map in object.maps.iter_mut().filter(|map| is_own(map)) {
        map.name = format!("{}.{suffix}", map.name);
    }
}

/// The steps of [`create`] without those that make or fill shared maps: their symbols are defined before.
pub fn create_beside(object: &Object, creation: &Creation, machine: &Machine) -> Vec<Step> {
    let shared: Vec<String> = object.maps.iter().filter(|map| !is_own(map)).map(map_symbol).collect();
    let is_shared = |step: &Step| {
        let Effect::Bpf(call) = &step.effect else { return false };
        let written = match call.arg("map_fd") {
            Some(Arg::Fd(symbol)) => Some(symbol),
            _ => None,
        };
        call.gives.as_ref().into_iter().chain(written).any(|symbol| shared.contains(symbol))
    };
    create(object, creation, machine).into_iter().filter(|step| !is_shared(step)).collect()
}

/// Opens the shared maps that a program uses, where `dir` has them pinned.
pub fn open_shared(object: &Object, program: &str, dir: &Dir) -> Vec<Step> {
    let used = object.program(program).map(|p| p.maps()).unwrap_or_default();
    let maps = used.into_iter().filter_map(|map| object.maps.get(map)).filter(|map| !is_own(map));
    let open = |map: &MapSpec| Step::get(dir.map(&map.name), &map_symbol(map));
    maps.map(open).collect()
}

/// Pins of the object's own data and of the program, in the folder `dir`.
pub fn pins(object: &Object, program: &str, dir: &str) -> Vec<Step> {
    let map = |map: &MapSpec| Step::pin(&map_symbol(map), format!("{dir}/{}", map_pin(&map.name)));
    let program = Step::pin(&prog_symbol(program), format!("{dir}/{}", prog_pin(program)));
    object.maps.iter().filter(|m| is_own(m)).map(map).chain([program]).collect()
}

fn is_own(map: &MapSpec) -> bool {
    map.name.starts_with('.')
}
