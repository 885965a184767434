// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Names of kernel modules to the ids of their types in this kernel; reads only.
use crate::load::refusal::{Refusal, Stage};
use crate::object::Object;
use detour_sys::{commands, Value};
use std::io;
use std::os::fd::AsFd;

/// Finds the id of each module whose functions are called; needs CAP_SYS_ADMIN. Returns what was read.
pub fn number(object: &mut Object) -> Result<Vec<String>, Refusal> {
    let modules = &mut object.modules;
    if modules.is_empty() {
        return Ok(Vec::new());
    }
    let refused = |e: io::Error| {
        let (stage, hint) = match e.raw_os_error().map(nix::errno::Errno::from_raw) {
            Some(nix::errno::Errno::EPERM) => (Stage::Permission, "functions of modules need CAP_SYS_ADMIN"),
            _ => (Stage::Kernel, ""),
        };
        Refusal::new(stage, format!("the ids of the kernel's types: {e}"), hint)
    };
    let mut id = 0;
    while let Some(next) = next(id).map_err(refused)? {
        id = next;
        let Some(name) = name(id).map_err(refused)? else { continue };
        if let Some(module) = modules.iter_mut().find(|m| m.name == name) {
            module.btf_id = id;
        }
    }
    match modules.iter().find(|m| m.btf_id == 0) {
        None => Ok(vec!["BTF_GET_NEXT_ID …, BTF_GET_FD_BY_ID …, OBJ_GET_INFO_BY_FD …".to_owned()]),
        Some(gone) => {
            let what = format!("the module {} has gone meanwhile", gone.name.escape_debug());
            Err(Refusal::new(Stage::Kernel, what, ""))
        }
    }
}

/// The id after this one; None after the last.
fn next(id: u32) -> io::Result<Option<u32>> {
    let command = &commands::BTF_GET_NEXT_ID;
    let arguments = [("start_id", Value::Num(id.into())), ("next_id", Value::Num(0))];
    match detour_sys::call(command, &arguments) {
        Ok(answer) => Ok(u32::try_from(answer.number(command, "next_id")).ok()),
        Err((error, _)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err((error, _)) => Err(error),
    }
}

/// Whose types have this id; None when they are gone.
fn name(id: u32) -> io::Result<Option<String>> {
    let fd = match detour_sys::call(&commands::BTF_GET_FD_BY_ID, &[("btf_id", Value::Num(id.into()))]) {
        Ok(answer) => answer.fd.ok_or(io::ErrorKind::InvalidData)?,
        Err((error, _)) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err((error, _)) => return Err(error),
    };
    detour_sys::info::btf_name(fd.as_fd()).map(Some)
}
