// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The ids of what nothing pins -> descriptors that a confined process keeps: they are opened again by it without CAP_SYS_ADMIN.
use crate::load::home::{prog_pin, Dir};
use crate::load::step::{Arg, Bpf};
use detour_sys::commands;
use nix::errno::Errno;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Whether it is a program, and its id.
type Id = (bool, u32);

thread_local! {
    /// None while any id may be opened. A confined process has one thread.
    static HELD: RefCell<Option<BTreeMap<Id, OwnedFd>>> = const { RefCell::new(None) };
}

/// From now on this thread opens by id what is in `dir` and nothing else. Where it is a folder that is nothing at all: the
/// filter of a confined process kills whoever asks the kernel for an id.
///
/// # Errors
/// What the kernel refused; then nothing is held.
pub fn hold(dir: &Dir) -> io::Result<()> {
    let mut held = BTreeMap::new();
    if let Dir::Ids(ids) = dir {
        let programs = ids.iter().filter(|(name, _)| name.starts_with(&prog_pin("")));
        for (_, program) in programs {
            let fd = super::unpinned::open(true, *program)?;
            for map in detour_sys::info::program_maps(fd.as_fd())? {
                held.insert((false, map), super::unpinned::open(false, map)?);
            }
            held.insert((true, *program), fd);
        }
    }
    HELD.with(|all| *all.borrow_mut() = Some(held));
    Ok(())
}

/// A descriptor of its own of what is held; EPERM, as the kernel would say it, for anything else. None where any may be opened.
pub fn open(program: bool, id: u32) -> Option<io::Result<OwnedFd>> {
    HELD.with(|all| {
        let all = all.borrow();
        let held = all.as_ref()?;
        Some(match held.get(&(program, id)) {
            Some(fd) => fd.try_clone(),
            None => Err(Errno::EPERM.into()),
        })
    })
}

/// What this call would open by an id.
pub fn named(call: &Bpf) -> Option<Id> {
    let (program, argument) = match call.command {
        c if *c == commands::PROG_GET_FD_BY_ID => (true, "prog_id"),
        c if *c == commands::MAP_GET_FD_BY_ID => (false, "map_id"),
        _ => return None,
    };
    match call.arg(argument) {
        Some(Arg::Num(id)) => Some((program, u32::try_from(*id).ok()?)),
        _ => None,
    }
}

/// Whether this call opens by id what is held.
pub fn has(call: &Bpf) -> bool {
    let is_held = |id: Id| HELD.with(|all| all.borrow().as_ref().is_some_and(|held| held.contains_key(&id)));
    named(call).is_some_and(is_held)
}
