// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A device to the programs that tcx runs there (Linux 6.6), first to last; and an anchor to the place of a new one.
//!
//! tcx runs before the filters of clsact: `tcx_run()` and then `tc_run()` in net/core/dev.c. Kernel side: kernel/bpf/tcx.c
//! and mprog.c.
use detour_sys::{commands, Value};
use std::io;

/// `BPF_TCX_INGRESS`: the programs see what arrives.
pub const INGRESS: u32 = 46;
/// `BPF_TCX_EGRESS`: the programs see what leaves.
pub const EGRESS: u32 = 47;

/// Programs at one hook.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hook {
    /// [`INGRESS`] or [`EGRESS`].
    pub attach: u32,
    /// Grows with each change; 0 where tcx was never used.
    pub revision: u64,
    /// In the order in which they run.
    pub programs: Vec<Attached>,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The program's id.
    pub program: u32,
    /// The id of its link; 0 when it was attached without one.
    pub link: u32,
}

/// Whether this is one of the two hooks, and not the parent of a filter.
pub fn is_hook(attach: u32) -> bool {
    attach == INGRESS || attach == EGRESS
}

/// Asks the kernel; needs CAP_NET_ADMIN. A kernel without tcx has no programs there: it answers EINVAL.
pub fn query(ifindex: u32, attach: u32) -> io::Result<Hook> {
    let mut room = 64;
    loop {
        let arguments = [
            ("target_ifindex", Value::Num(ifindex.into())),
            ("attach_type", Value::Num(attach.into())),
            ("prog_ids", Value::Room(room)),
            ("link_ids", Value::Room(room)),
            ("revision", Value::Num(0)),
        ];
        let command = &commands::PROG_QUERY;
        match detour_sys::call(command, &arguments) {
            Ok(answer) => {
                let count = usize::try_from(answer.number(command, "count")).unwrap_or(usize::MAX);
                let words = |room: &str| -> Vec<u32> {
                    let words = answer.room(room).chunks_exact(4).take(count);
                    words.filter_map(|w| w.try_into().ok()).map(u32::from_ne_bytes).collect()
                };
                let pairs = words("prog_ids").into_iter().zip(words("link_ids"));
                let programs = pairs.map(|(program, link)| Attached { program, link }).collect();
                return Ok(Hook { attach, revision: answer.number(command, "revision"), programs });
            }
            Err((error, _)) => match error.raw_os_error().map(nix::errno::Errno::from_raw) {
                Some(nix::errno::Errno::ENOSPC) if room < 4096 => room = room.saturating_mul(4),
                Some(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => {
                    return Ok(Hook { attach, ..Hook::default() });
                }
                _ => return Err(error),
            },
        }
    }
}
