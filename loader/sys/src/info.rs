// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A descriptor to what the kernel says of the object behind it, lists that the record points to included.
use crate::attr::{Attr, Value};
use crate::call::{bpf, call};
use crate::commands;
use std::io;
use std::os::fd::BorrowedFd;

/// The first `size` bytes of `struct bpf_prog_info`, `bpf_map_info`, `bpf_btf_info` or `bpf_link_info`.
pub fn info(fd: BorrowedFd<'_>, size: usize) -> io::Result<Vec<u8>> {
    let arguments = [("bpf_fd", Value::Fd(fd)), ("info", Value::Room(size))];
    let answer = call(&commands::OBJ_GET_INFO_BY_FD, &arguments).map_err(|(error, _)| error)?;
    Ok(answer.room("info").to_vec())
}

/// Where a record of include/uapi/linux/bpf.h says how long a list is and where it lies; and the bytes in one element.
struct List {
    count: usize,
    pointer: usize,
    unit: usize,
    /// Elements that the kernel writes besides those that it counts: the NUL behind text.
    more: usize,
}

/// `nr_map_ids` and `map_ids` of `struct bpf_prog_info`.
const MAP_IDS: List = List { count: 52, pointer: 56, unit: 4, more: 0 };
/// `btf_size` and `btf` of `struct bpf_btf_info`.
const BTF: List = List { count: 8, pointer: 0, unit: 1, more: 0 };
/// `name_len` and `name` of `struct bpf_btf_info`.
const BTF_NAME: List = List { count: 24, pointer: 16, unit: 1, more: 1 };

/// Ids of the maps that a program uses or is bound to (Linux 4.15).
pub fn program_maps(fd: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let bytes = list(fd, &MAP_IDS)?;
    Ok(bytes.chunks_exact(4).filter_map(|id| id.try_into().ok()).map(u32::from_ne_bytes).collect())
}

/// The types behind a BTF descriptor, as the kernel keeps them (Linux 4.18).
pub fn btf_image(fd: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    list(fd, &BTF)
}

/// Whose types they are: `vmlinux` or a module's name; empty for those of programs (Linux 5.11).
pub fn btf_name(fd: BorrowedFd<'_>) -> io::Result<String> {
    let name = list(fd, &BTF_NAME)?;
    Ok(String::from_utf8_lossy(&name).into_owned())
}

/// Asks for the length first, then for the list. The records begin with these fields since they exist, and end with 64
/// bytes here.
fn list(fd: BorrowedFd<'_>, of: &List) -> io::Result<Vec<u8>> {
    const MOST: usize = 1 << 26;
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let told = |record: &[u8]| {
        let count = record.get(of.count..of.count.saturating_add(4)).and_then(|b| b.try_into().ok());
        count.map(u32::from_ne_bytes).and_then(|n| usize::try_from(n).ok()).ok_or_else(invalid)
    };
    let count = told(&info(fd, RECORD)?)?.saturating_add(of.more);
    let size = count.checked_mul(of.unit).filter(|size| *size <= MOST).ok_or_else(invalid)?;
    let mut bytes = vec![0; size];
    let arguments = [("bpf_fd", Value::Fd(fd)), ("info", Value::Room(RECORD))];
    let mut attr = Attr::encode(&commands::OBJ_GET_INFO_BY_FD, &arguments)?;
    // The kernel writes `unit` bytes for each of at most `count` elements: exactly the vector, alive until after the call.
    let address = bytes.as_mut_ptr() as u64;
    attr.fill("info", of.count, &u32::try_from(count).map_err(|_| invalid())?.to_ne_bytes());
    attr.fill("info", of.pointer, &address.to_ne_bytes());
    let (_, buffers, result) = bpf(&commands::OBJ_GET_INFO_BY_FD, attr);
    result?;
    let after = told(buffers.first().map_or(&[], |record| &record.bytes))?;
    bytes.truncate(after.saturating_mul(of.unit));
    Ok(bytes)
}

const RECORD: usize = 64;
