// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The table of allowed system calls to loader/docs/confinement.md, which has to be current; and the filter made of it, call
//! by call, by running it.
//!
//! `BLESS=1 cargo test -p detour --test confine` writes the page anew.
#![allow(clippy::unwrap_used, clippy::panic)]
#![cfg(feature = "operate")]
use detour::load::allowed::{Only, Task, DOWN, EVENTS, GROWS, LISTEN, METRICS, RUN, TABLE, TASKS, WATCH};
use detour::load::confine::{filter, kept};
use std::fmt::Write;

const HEAD: &str = "\
<!-- SPDX-License-Identifier: MIT OR GPL-2.0-or-later -->
# Confinement

`run`, `events`, `watch` and `map listen` live long. When everything that they need is open, they give up all capabilities but
those below, can gain none (no_new_privs), and let the kernel kill them (SIGSYS) at any system call that is not in this table. The
filter is built from the table in `loader/src/load/allowed.rs`, and so is this page (`loader/tests/confine.rs`).

What follows: of bpf(2) the process can look up and write elements of maps that are there, and open what is pinned; `map listen`
can do nothing by it, for its ring buffer is mapped. None of them can create a map, load a program, make a link, pin anything, open
a socket, start a program or a thread, enter a namespace.
Other rules and addresses are elements, so SIGHUP and changes of addresses still work.
A device that comes back needs a load: then `run` ends with exit code 5 and says so, and a service manager starts it anew
(`Restart=on-failure`). `--no-confine` keeps everything, and loads by itself.

What `--no-pin` made is opened before that, by CAP_SYS_ADMIN, and kept: no id is asked for afterwards, so the process reaches
the maps of this instance and no others. When other programs run in its place, `run` ends with exit code 5, `events` and `map listen`
with 1, and `watch` says so; a new process finds them.

Nothing opened before is closed by this: stderr, stdout, a capture, the sockets of rtnetlink and of the service manager.

## Files

The filter lets `watch` open files for reading only, `events` and `map listen` none. `run` may also make new
files, rename and remove, with `--metrics-file` and `--names`, and make and lengthen files, with `--events`. A filter sees no paths, so
Landlock (Linux 5.13) says where: in the folders of these files as they are at the start, with `--down-on-exit` below /sys/fs/bpf, and nowhere else; nothing is moved from
one folder to another. Where the name that `--events` has is a link at the start, the folder that it leads to counts as well;
one that is put there later leads nowhere. So give these files a folder of their own: in /etc, what took over `run` could
write what it likes there.

Without Landlock (before Linux 5.13, or left out of `lsm=`) `run` says so when it begins to serve, and with these options it can
make, replace and remove files wherever root without capabilities may, which is where root owns the folder: /etc/cron.d is such
a place. There, the unit's `ProtectSystem=strict` does what Landlock does elsewhere; or leave these options out.

## Which call was it

A process that the filter killed ends by signal 31 (`status=31/SYS` in `systemctl status`), and the kernel names the call:

    journalctl -k | grep type=1326      # audit: … exe=\"/usr/local/sbin/detour\" sig=31 … syscall=41
    strace -f detour run --no-confine … # the last call before the place where it died

";

fn tasks(bits: Task) -> String {
    let all = EVENTS | RUN | WATCH | LISTEN;
    if bits & all == all {
        return "all".into();
    }
    let names = TASKS.iter().filter(|(task, _)| bits & task != 0).map(|(_, name)| format!("`{name}`"));
    names.collect::<Vec<_>>().join(", ")
}

fn only(only: Only) -> String {
    match only {
        Only::Any => String::new(),
        Only::OneOf(at, values) => {
            let names: Vec<&str> = values.iter().map(|(name, _)| *name).collect();
            format!("argument {at} is {}", names.join(" or "))
        }
        Only::Without(at, names, _) => format!("argument {at} without {names}"),
        Only::Itself(at, values) => {
            let names: Vec<&str> = values.iter().map(|(name, _)| *name).collect();
            format!("argument 0 is the process itself and argument {at} is {}", names.join(" or "))
        }
    }
}

fn page() -> String {
    let mut page = HEAD.to_string();
    page.push_str("## Capabilities that are kept\n\n| which | when | why |\n|---|---|---|\n");
    for (when, kept) in [
        ("before Linux 5.19", kept(RUN, (5, 10), true)),
        ("`run --down-on-exit`", kept(RUN | DOWN, (6, 18), true)),
        ("another user than root", kept(RUN, (6, 18), false)),
    ] {
        for (name, why) in kept {
            let _ = writeln!(page, "| {name} | {when} | {why} |");
        }
    }
    page.push_str("\n## System calls\n\n| call | only where | by | why |\n|---|---|---|---|\n");
    for line in TABLE {
        let (only, tasks) = (only(line.only), tasks(line.tasks));
        let _ = writeln!(page, "| `{}` | {only} | {tasks} | {} |", line.name, line.reason);
    }
    page
}

#[test]
fn the_page_is_the_table() {
    let path = format!("{}/docs/confinement.md", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    let is = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(is == page(), "BLESS=1 cargo test -p detour --test confine writes {path} anew");
}

/// What the kernel would do with a call: kernel/seccomp.c runs the filter over `struct seccomp_data`.
fn verdict(program: &seccompiler::BpfProgram, number: u32, arch: u32, arguments: [u64; 6]) -> u32 {
    let mut data = [number, arch, 0, 0].map(u32::to_le_bytes).concat();
    arguments.iter().for_each(|argument| data.extend(argument.to_le_bytes()));
    let (mut at, mut a) = (0, 0_u32);
    loop {
        let insn = &program[at];
        at += 1;
        let jump = |taken: bool| usize::from(if taken { insn.jt } else { insn.jf });
        // include/uapi/linux/bpf_common.h: BPF_LD|W|ABS, BPF_ALU|AND, BPF_JMP|… with a constant, BPF_RET.
        match insn.code {
            0x20 => a = u32::from_le_bytes(data[insn.k as usize..][..4].try_into().unwrap()),
            0x54 => a &= insn.k,
            0x05 => at += insn.k as usize,
            0x15 => at += jump(a == insn.k),
            0x25 => at += jump(a > insn.k),
            0x35 => at += jump(a >= insn.k),
            0x06 => return insn.k,
            code => panic!("{code:#x}"),
        }
    }
}

const ALLOW: u32 = 0x7fff_0000;
const KILL: u32 = 0x8000_0000;
/// include/uapi/linux/audit.h.
const ARCH: u32 = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };
const OTHER: u32 = 0x4000_0003; // i386

/// Every number that a system call has or may get, with arguments that are in the table and such that are not.
#[test]
fn the_filter_is_the_table() {
    let (mut tried, own) = (0, u64::from(std::process::id()));
    for task in [EVENTS, LISTEN, WATCH, RUN, RUN | METRICS, RUN | DOWN, RUN | METRICS | DOWN, RUN | GROWS] {
        let program = filter(task).unwrap();
        let lines = |number: u32| {
            TABLE.iter().filter(move |l| l.tasks & task != 0 && l.number == Some(i64::from(number)))
        };
        // x32 has the same architecture and a bit in the number.
        for number in (0..600).chain((0..600).map(|n| n | 1 << 30)) {
            for at in 0..6 {
                let values = (0..64).chain([0x5401, 0x5402, 0x5403, 0x5404, 0x5413, 71]);
                let values = values.chain([0x80241, 0x88241, 0xa0241, 0x80441, 0x88441, 0xa0441]);
                // Argument 0 is 0, or the process itself, which is what kill(2) may be told.
                for (value, first) in values.flat_map(|value| [(value, 0), (value, own)]) {
                    let mut arguments = [first, 0, 0, 0, 0, 0];
                    arguments[at] = value;
                    let fits = lines(number).any(|line| match line.only {
                        Only::Any => true,
                        Only::OneOf(n, values) => values.iter().any(|(_, v)| *v == arguments[usize::from(n)]),
                        Only::Without(n, _, bits) => arguments[usize::from(n)] & bits == 0,
                        Only::Itself(n, values) => {
                            arguments[0] == own && values.iter().any(|(_, v)| *v == arguments[usize::from(n)])
                        }
                    });
                    let expected = if fits { ALLOW } else { KILL };
                    assert_eq!(
                        verdict(&program, number, ARCH, arguments),
                        expected,
                        "{task} {number} {arguments:?}"
                    );
                    tried += 1;
                }
                if lines(number).next().is_none() {
                    break;
                }
            }
            assert_eq!(verdict(&program, number, OTHER, [0; 6]), KILL, "{number} of another architecture");
        }
    }
    assert!(tried > 100_000, "{tried}");
}
