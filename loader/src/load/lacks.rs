// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A call that was refused with EPERM to the capability that this thread lacks for it, or to the word that it lacks none. They
//! are read from /proc when something was refused, and only then.
use crate::load::gather;
use crate::load::step::Bpf;
use detour_sys::commands;

/// A capability: its name and number (include/uapi/linux/capability.h).
pub type Capability = (&'static str, u32);

/// Attaches, and loads programs of the network.
pub const NET_ADMIN: Capability = ("CAP_NET_ADMIN", 12);
/// Lets programs compare and keep what they would otherwise leak.
pub const PERFMON: Capability = ("CAP_PERFMON", 38);
/// Creates.
pub const BPF: Capability = ("CAP_BPF", 39);
/// Stands for the two before (`bpf_capable()` and `perfmon_capable()` in include/linux/capability.h).
const SYS_ADMIN: u32 = 21;

/// Who else says EPERM.
const OTHERS: &str = "lockdown, a seccomp filter or an LSM";

/// Which of `needs` is missing; where none is, who else refuses.
///
/// ```
/// use detour::load::lacks::{hint, BPF, NET_ADMIN};
/// let hint = hint(&[BPF, NET_ADMIN]);
/// assert!(hint.contains("CAP_BPF"), "{hint}");
/// ```
pub fn hint(needs: &[Capability]) -> String {
    text(have(), needs)
}

/// Whether it is known that this thread lacks it.
pub fn lacks(capability: Capability) -> bool {
    have().is_some_and(|have| !has(have, capability))
}

/// The same for a bpf(2) that was refused: `__sys_bpf()` in kernel/bpf/syscall.c, and from there. Before Linux 5.19 every kind
/// needed CAP_BPF.
pub fn refused(call: &Bpf) -> String {
    let creates = [&commands::MAP_CREATE, &commands::BTF_LOAD];
    match call.command {
        command if command == &commands::PROG_LOAD => hint(&[BPF, NET_ADMIN]),
        command if command == &commands::LINK_CREATE => hint(&[NET_ADMIN]),
        command if creates.contains(&command) => hint(&[BPF]),
        // What a confined process may still do: it may open no file of /proc.
        command if command.is_element() => {
            format!("nobody writes into a frozen map; into others: {}", text(None, &[BPF]))
        }
        _ => text(None, &[BPF]),
    }
}

fn have() -> Option<u64> {
    gather::capabilities(&std::fs::read_to_string(gather::STATUS).ok()?)
}

fn has(have: u64, (_, number): Capability) -> bool {
    let bit = |n: u32| have.checked_shr(n).unwrap_or(0) & 1 == 1;
    bit(number) || (number >= PERFMON.1 && bit(SYS_ADMIN))
}

fn text(have: Option<u64>, needs: &[Capability]) -> String {
    let names = |all: &[Capability]| all.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" and ");
    let Some(have) = have else {
        return format!("needs {}, or root; who has that is refused by {OTHERS}", names(needs));
    };
    let missing: Vec<Capability> = needs.iter().filter(|c| !has(have, **c)).copied().collect();
    match missing.is_empty() {
        false => format!("needs {}, or root", names(&missing)),
        true => format!(
            "this process has {}: it is refused by {OTHERS}, or has that in a user namespace only",
            names(needs)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_and_nothing_else() {
        let told = |have: &[u32], needs: &[Capability]| {
            text(Some(have.iter().fold(0, |all, number| all | 1 << number)), needs)
        };
        assert_eq!(told(&[39], &[BPF, NET_ADMIN]), "needs CAP_NET_ADMIN, or root");
        assert_eq!(told(&[12, 38], &[BPF, NET_ADMIN]), "needs CAP_BPF, or root");
        assert_eq!(told(&[], &[BPF, NET_ADMIN]), "needs CAP_BPF and CAP_NET_ADMIN, or root");
        assert_eq!(told(&[21], &[BPF, NET_ADMIN, PERFMON]), "needs CAP_NET_ADMIN, or root");
        for whole in [&[12, 39][..], &[12, 21]] {
            let told = told(whole, &[BPF, NET_ADMIN]);
            assert!(
                told.starts_with("this process has CAP_BPF and CAP_NET_ADMIN: ") && told.contains("lockdown")
            );
        }
        assert!(text(None, &[BPF]).starts_with("needs CAP_BPF, or root; who has that is refused by lockdown"));
    }
}
