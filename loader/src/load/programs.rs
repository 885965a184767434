// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The id of a program to what the kernel says of it; reads only.
use detour_sys::{commands, Value};
use std::io;
use std::os::fd::AsFd;

/// `struct bpf_prog_info`, the parts that a list shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgramInfo {
    /// At most 15 bytes; empty when it was loaded without.
    pub name: String,
    /// The kernel's digest of the instructions.
    pub tag: [u8; 8],
    /// How often it ran; counted only while kernel.bpf_stats_enabled is on.
    pub runs: u64,
    /// How long it ran, in nanoseconds; as above.
    pub nanoseconds: u64,
}

/// Bytes of `struct bpf_prog_info` up to and with `run_cnt` (Linux 5.1).
const SIZE: usize = 208;

/// Asks for the program with this id; needs CAP_SYS_ADMIN.
pub fn program(id: u32) -> io::Result<ProgramInfo> {
    let answer = detour_sys::call(&commands::PROG_GET_FD_BY_ID, &[("prog_id", Value::Num(id.into()))]);
    let fd = answer.map_err(|(error, _)| error)?.fd.ok_or(io::ErrorKind::InvalidData)?;
    let info = detour_sys::info(fd.as_fd(), SIZE)?;
    read(&info).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Offsets are those of include/uapi/linux/bpf.h; a test compares them with the running kernel's BTF.
fn read(info: &[u8]) -> Option<ProgramInfo> {
    let number = |at: usize| Some(u64::from_ne_bytes(info.get(at..at.checked_add(8)?)?.try_into().ok()?));
    let name = info.get(NAME..NAME.checked_add(16)?)?;
    let name = name.get(..name.iter().position(|b| *b == 0)?)?;
    Some(ProgramInfo {
        name: String::from_utf8_lossy(name).into_owned(),
        tag: info.get(TAG..TAG.checked_add(8)?)?.try_into().ok()?,
        runs: number(RUN_CNT)?,
        nanoseconds: number(RUN_TIME_NS)?,
    })
}

const TAG: usize = 8;
const NAME: usize = 64;
const RUN_TIME_NS: usize = 192;
const RUN_CNT: usize = 200;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::object::{Btf, Kind};

    #[test]
    fn offsets_are_the_running_kernels() {
        let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else { return };
        let btf = Btf::parse(&bytes).unwrap();
        let info = btf.find(Kind::Struct, "bpf_prog_info").unwrap();
        let at = |name: &str| info.members().find(|m| m.name == name).map(|m| m.bit_offset as usize / 8);
        for (name, offset) in
            [("tag", TAG), ("name", NAME), ("run_time_ns", RUN_TIME_NS), ("run_cnt", RUN_CNT)]
        {
            assert_eq!(at(name), Some(offset), "{name}");
        }
    }
}
