// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A device to the programs that tcx runs there (Linux 6.6), first to last; and an anchor to the place of a new one.
//!
//! tcx runs before the filters of clsact: `tcx_run()` and then `tc_run()` in net/core/dev.c. Kernel side: kernel/bpf/tcx.c
//! and mprog.c.
use crate::load::create::prog_symbol;
use crate::load::home::link_pin;
use crate::load::step::{Arg, Bpf, Step};
use detour_sys::{commands, Value};
use std::io;
use std::os::fd::AsFd;

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

/// Where in the order of a hook a new program goes.
///
/// ```
/// use detour::load::{plan::Attach, tc::Place, tcx};
///
/// // At ingress of device 3, before the program with the id 17.
/// let place = Place::new(3, tcx::INGRESS, 0, 0);
/// let anchor = tcx::Anchor { relative: Some(17), before: true, revision: None };
/// let attach = Attach { program: "first".into(), place, anchor };
/// assert!(attach.is_tcx());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Anchor {
    /// Before or after which program, by its id; None: before or after all.
    pub relative: Option<u32>,
    /// Before; otherwise after, so that nothing said means last.
    pub before: bool,
    /// Refused unless the hook still has this revision: nobody else has changed it meanwhile.
    pub revision: Option<u64>,
}

const BPF_F_BEFORE: u64 = 1 << 3;
const BPF_F_AFTER: u64 = 1 << 4;
const BPF_F_ID: u64 = 1 << 5;

/// A link from `program` (its name) to a hook, pinned in `dir`. The link goes with the descriptor and the pin, so the pin's
/// undo is enough.
pub fn attach(ifindex: u32, hook: u32, anchor: &Anchor, program: &str, dir: &str) -> [Step; 2] {
    let link = format!("{}@{program}", if hook == EGRESS { "%egress" } else { "%ingress" });
    let side = if anchor.before { BPF_F_BEFORE } else { BPF_F_AFTER };
    let mut args = vec![
        ("prog_fd", Arg::Fd(prog_symbol(program))),
        ("target_ifindex", Arg::Num(ifindex.into())),
        ("attach_type", Arg::Num(hook.into())),
        ("flags", Arg::Num(side | anchor.relative.map_or(0, |_| BPF_F_ID))),
    ];
    args.extend(anchor.relative.map(|id| ("relative_id", Arg::Num(id.into()))));
    args.extend(anchor.revision.map(|revision| ("expected_revision", Arg::Num(revision))));
    let pin = format!("{dir}/{}", link_pin(hook == EGRESS, program));
    [Bpf::new(&commands::LINK_CREATE, args).gives(&link).into(), Step::pin(&link, pin)]
}

/// What an error of LINK_CREATE means: `bpf_mprog_attach()` in kernel/bpf/mprog.c.
pub fn hint(errno: nix::errno::Errno) -> &'static str {
    use nix::errno::Errno;
    match errno {
        Errno::EINVAL => "this kernel has no tcx (Linux 6.6): without --tcx the filters of clsact do it",
        Errno::ESTALE => {
            "the hook has another revision: somebody changed it; 'detour list' shows what is there now"
        }
        Errno::ENOENT | Errno::ERANGE => "the program named by --before or --after is not at this hook",
        _ => "",
    }
}

/// What a pinned link runs, and at which hook of which device: `struct bpf_link_info` in include/uapi/linux/bpf.h. Without any
/// capability but what opens the pin. A link whose device is gone, or that was detached, has the index 0.
pub fn link(path: &str) -> io::Result<(Attached, u32, u32)> {
    let answer = detour_sys::call(&commands::OBJ_GET, &[("pathname", Value::Text(path))]);
    let fd = answer.map_err(|(error, _)| error)?.fd.ok_or(io::ErrorKind::InvalidData)?;
    let info = detour_sys::info(fd.as_fd(), 24)?;
    let word = |at: usize| info.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_ne_bytes);
    let read = || Some((Attached { program: word(8)?, link: word(4)? }, word(16)?, word(20)?));
    read().ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Asks the kernel for all of them; needs CAP_NET_ADMIN. A kernel without tcx has no programs there: it answers EINVAL.
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
