// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A map to the types that it was made with, as the kernel keeps them; reads only.
use crate::object::Btf;
use detour_sys::{commands, Value};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// Types, and which of them the keys and values of a map are; 0 where there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapTypes {
    /// All types of the object that the map came from.
    pub btf: Btf,
    /// Of the keys.
    pub key: u32,
    /// Of the values.
    pub value: u32,
}

/// `struct bpf_map_info` up to `btf_value_type_id`; the ids of types stand before (include/uapi/linux/bpf.h).
const INFO: usize = 80;
const IDS: usize = 64;

/// Asks for a map's types; None when it was made without. Needs CAP_SYS_ADMIN.
///
/// ```no_run
/// use std::os::fd::AsFd;
///
/// let map = detour::load::gather::open_map("/sys/fs/bpf/counters")?;
/// let types = detour::load::types::of_map(map.as_fd())?.ok_or("it was made without types")?;
/// let mut key = map.next_key(None)?;
/// while let Some(at) = key {
///     let element = map.lookup(&at)?.unwrap_or_default();
///     println!("{}", detour::ui::value::value(&types.btf, types.value, &element).text());
///     key = map.next_key(Some(&at))?;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn of_map(map: BorrowedFd<'_>) -> io::Result<Option<MapTypes>> {
    let info = detour_sys::info(map, INFO)?;
    let ids: Vec<u32> = info
        .get(IDS..IDS.saturating_add(12))
        .unwrap_or_default()
        .chunks_exact(4)
        .filter_map(|word| word.try_into().ok())
        .map(u32::from_ne_bytes)
        .collect();
    let &[btf_id, key, value] = ids.as_slice() else { return Err(io::ErrorKind::InvalidData.into()) };
    if btf_id == 0 || (key, value) == (0, 0) {
        return Ok(None);
    }
    Ok(Some(MapTypes { btf: by_id(btf_id)?, key, value }))
}

/// `struct bpf_prog_info` up to `btf_id`.
const PROGRAM: usize = 132;

/// Asks for the types that a program was loaded with, which are those of its object (Linux 5.0); None when without. Needs
/// CAP_SYS_ADMIN.
pub fn of_program(program: BorrowedFd<'_>) -> io::Result<Option<Btf>> {
    let info = detour_sys::info(program, PROGRAM)?;
    let id = info.get(128..PROGRAM).and_then(|word| word.try_into().ok()).map_or(0, u32::from_ne_bytes);
    if id == 0 {
        return Ok(None);
    }
    by_id(id).map(Some)
}

fn by_id(id: u32) -> io::Result<Btf> {
    let arguments = [("btf_id", Value::Num(id.into()))];
    let answer = detour_sys::call(&commands::BTF_GET_FD_BY_ID, &arguments).map_err(|(error, _)| error)?;
    let fd = answer.fd.ok_or(io::ErrorKind::InvalidData)?;
    let image = detour_sys::info::btf_image(fd.as_fd())?;
    Btf::parse(&image).map_err(|error| io::Error::other(error.to_string()))
}
