// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What a confined process may still ask of the kernel: one table of system calls, each with its reason. The filter is built
//! from it ([`super::confine`]), and loader/docs/confinement.md is printed from it.
use detour_sys::commands;
use nix::libc;

/// What the process is confined to; bits, for `run` may do several things.
pub type Task = u8;
/// `events`: reads the ring buffer, writes lines and a capture that is open already.
pub const EVENTS: Task = 1;
/// `run`: the same, and other rules and addresses into maps that are there.
pub const RUN: Task = 2;
/// `watch`: reads maps, writes to a terminal.
pub const WATCH: Task = 4;
/// `run --metrics-file`, `run --names`: a file is replaced.
pub const METRICS: Task = 8;
/// `run --down-on-exit`: detaches and unpins at the end.
pub const DOWN: Task = 16;
/// `run --events`: a file grows, and is opened anew.
pub const GROWS: Task = 32;
/// `map listen`: reads a ring buffer, writes lines. It makes no bpf(2).
pub const LISTEN: Task = 128;
/// Where nothing is pinned: the filters say whether what it goes by is still what runs.
pub const UNPINNED: Task = 64;

const ALL: Task = EVENTS | RUN | WATCH | LISTEN;
const SEE: Task = RUN | WATCH;

/// The names of the tasks, as they are printed.
pub const TASKS: [(Task, &str); 8] = [
    (EVENTS, "events"),
    (RUN, "run"),
    (WATCH, "watch"),
    (METRICS, "run --metrics-file` or `--names"),
    (DOWN, "run --down-on-exit"),
    (GROWS, "run --events"),
    (LISTEN, "map listen"),
    (UNPINNED, "events` and `map listen` after `--no-pin"),
];

/// What an argument may be.
#[derive(Clone, Copy, Debug)]
pub enum Only {
    /// Anything.
    Any,
    /// One of these in the argument with this number.
    OneOf(u8, &'static [(&'static str, u64)]),
    /// None of these bits in it.
    Without(u8, &'static str, u64),
    /// One of these in the argument with this number, and argument 0 is the process itself.
    Itself(u8, &'static [(&'static str, u64)]),
}
use Only::{Any, Itself, OneOf, Without};

/// A line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    /// The call's name.
    pub name: &'static str,
    /// Its number; None where this architecture does not have it.
    pub number: Option<i64>,
    /// What its argument may be.
    pub only: Only,
    /// Who may make it.
    pub tasks: Task,
    /// Why.
    pub reason: &'static str,
}

/// Calls that newer architectures have in their `…at` form only (include/uapi/asm-generic/unistd.h).
macro_rules! number {
    (old $number:ident) => {{
        #[cfg(target_arch = "x86_64")]
        let number = Some(libc::$number);
        #[cfg(not(target_arch = "x86_64"))]
        let number = None;
        number
    }};
    (new $number:ident) => {
        Some(libc::$number)
    };
}

macro_rules! table {
    ($($age:ident $number:ident $name:literal $only:expr, $tasks:expr, $reason:literal;)*) => {
        &[$(Allowed { name: $name, number: number!($age $number), only: $only, tasks: $tasks, reason: $reason }),*]
    };
}

/// Who listens, and looks whether that is still what runs.
const ELEMENTS: &[(&str, u64)] = &[
    command(&commands::MAP_LOOKUP_ELEM),
    command(&commands::MAP_UPDATE_ELEM),
    command(&commands::OBJ_GET),
    command(&commands::OBJ_GET_INFO_BY_FD),
];
/// Who looks, and says that it listens.
const READ: &[(&str, u64)] = &[
    command(&commands::MAP_LOOKUP_ELEM),
    command(&commands::MAP_UPDATE_ELEM),
    command(&commands::MAP_LOOKUP_BATCH),
    command(&commands::OBJ_GET),
    command(&commands::OBJ_GET_INFO_BY_FD),
];
/// Nothing here creates, loads, attaches or pins.
const PINNED: &[(&str, u64)] = &[
    command(&commands::MAP_LOOKUP_ELEM),
    command(&commands::MAP_UPDATE_ELEM),
    command(&commands::MAP_DELETE_ELEM),
    command(&commands::MAP_LOOKUP_BATCH),
    command(&commands::OBJ_GET),
    command(&commands::OBJ_GET_INFO_BY_FD),
];
const EXECUTABLE: (&str, u64) = ("PROT_EXEC", libc::PROT_EXEC as u64);
const READ_ONLY: Only = Without(
    2,
    "O_WRONLY, O_RDWR, O_CREAT, O_TRUNC",
    (libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC) as u64,
);
const READ_ONLY_OLD: Only = Without(
    1,
    "O_WRONLY, O_RDWR, O_CREAT, O_TRUNC",
    (libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC) as u64,
);
/// A file that is not there yet; with musl's O_LARGEFILE and without.
const NEW_FILE: &[(&str, u64)] =
    &[("O_WRONLY|O_CREAT|O_EXCL|O_CLOEXEC", NEW), ("the same and O_LARGEFILE", NEW | LARGE)];
const NEW: u64 = (libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC) as u64;
/// include/uapi/asm-generic/fcntl.h; the crate has 0 for glibc, which takes it for granted.
#[cfg(not(target_arch = "aarch64"))]
const LARGE: u64 = 0o100_000;
#[cfg(target_arch = "aarch64")]
const LARGE: u64 = 0o400_000;
/// A file that grows, likewise.
const GROWING: &[(&str, u64)] =
    &[("O_WRONLY|O_CREAT|O_APPEND|O_CLOEXEC", GROW), ("the same and O_LARGEFILE", GROW | LARGE)];
const GROW: u64 = (libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND | libc::O_CLOEXEC) as u64;
const DESCRIPTOR: &[(&str, u64)] = &[
    ("F_GETFD", libc::F_GETFD as u64),
    ("F_SETFD", libc::F_SETFD as u64),
    ("F_GETFL", libc::F_GETFL as u64),
    ("F_DUPFD_CLOEXEC", libc::F_DUPFD_CLOEXEC as u64),
];
/// include/uapi/asm-generic/socket.h, which the crate has for no C library.
const COOKIE: &[(&str, u64)] = &[("SO_NETNS_COOKIE", 71)];
const STOP: &[(&str, u64)] = &[("SIGSTOP", libc::SIGSTOP as u64)];
const ABORT: &[(&str, u64)] = &[("SIGABRT", libc::SIGABRT as u64)];
// Numbers of ioctl(2) have another type in musl.
#[allow(clippy::unnecessary_cast)]
const TERMINAL: &[(&str, u64)] = &[
    ("TCGETS", libc::TCGETS as u64),
    ("TCSETS", libc::TCSETS as u64),
    ("TCSETSW", libc::TCSETSW as u64),
    ("TCSETSF", libc::TCSETSF as u64),
    // The C library's from glibc 2.42 on.
    ("TCGETS2", libc::TCGETS2 as u32 as u64),
    ("TCSETS2", libc::TCSETS2 as u32 as u64),
    ("TCSETSW2", libc::TCSETSW2 as u32 as u64),
    ("TCSETSF2", libc::TCSETSF2 as u32 as u64),
    ("TIOCGWINSZ", libc::TIOCGWINSZ as u64),
];

const fn command(command: &detour_sys::Command) -> (&'static str, u64) {
    (command.name, command.number as u64)
}

/// All of it. Calls of musl stand beside those of glibc: the program is built with both.
pub const TABLE: &[Allowed] = table! {
    new SYS_read "read" Any, ALL, "signals by signalfd, files, keys";
    new SYS_write "write" Any, ALL, "lines, the capture, the metrics file, names";
    new SYS_close "close" Any, ALL, "what was opened";
    old SYS_poll "poll" Any, ALL, "waits for events, signals, changes, keys, answers of rtnetlink";
    new SYS_ppoll "ppoll" Any, ALL, "the same where there is no poll";
    new SYS_restart_syscall "restart_syscall" Any, ALL, "waiting goes on after SIGSTOP and SIGCONT";
    new SYS_bpf "bpf" OneOf(0, ELEMENTS), EVENTS, "how many events were lost; the word that says who listens; is it still to what is pinned";
    new SYS_bpf "bpf" OneOf(0, PINNED), RUN, "elements of maps; pins are opened, what they are is asked";
    new SYS_bpf "bpf" OneOf(0, READ), WATCH, "elements of maps, the word that says who listens; pins are opened";
    new SYS_rt_sigprocmask "rt_sigprocmask" Any, ALL, "a signal waits until a step is done";
    new SYS_signalfd4 "signalfd4" Any, ALL, "has a signal come that waits";
    new SYS_clock_gettime "clock_gettime" Any, ALL, "the time, where the vDSO does not tell it";
    new SYS_brk "brk" Any, ALL, "memory";
    new SYS_mmap "mmap" Without(2, EXECUTABLE.0, EXECUTABLE.1), ALL, "memory, never to be run";
    new SYS_mprotect "mprotect" Without(2, EXECUTABLE.0, EXECUTABLE.1), ALL, "memory, never to be run";
    new SYS_mremap "mremap" Any, ALL, "memory";
    new SYS_munmap "munmap" Any, ALL, "memory; the ring buffer at the end";
    new SYS_madvise "madvise" Any, ALL, "memory";
    new SYS_getrandom "getrandom" Any, ALL, "hash tables, the C library's memory";
    new SYS_fcntl "fcntl" OneOf(1, DESCRIPTOR), ALL, "musl: closed at exec; a debug build: is it open; what nothing pins is kept open, and used by copies";
    new SYS_sigaltstack "sigaltstack" Any, ALL, "end of the Rust library";
    new SYS_getpid "getpid" Any, ALL, "abort(3) after a panic; who is to be stopped by Ctrl-Z";
    new SYS_gettid "gettid" Any, ALL, "abort(3); a panic says whose it is";
    new SYS_tgkill "tgkill" Itself(2, ABORT), ALL, "abort(3)";
    new SYS_tkill "tkill" Itself(1, ABORT), ALL, "abort(3) of musl";
    new SYS_exit_group "exit_group" Any, ALL, "the end";
    new SYS_openat "openat" READ_ONLY, SEE, "rules, our folders, /proc and /sys: for reading only";
    old SYS_open "open" READ_ONLY_OLD, SEE, "the same by musl";
    new SYS_statx "statx" Any, ALL, "size and kind of a file, and whose; is an instance still there";
    new SYS_newfstatat "newfstatat" Any, ALL, "the same";
    new SYS_fstat "fstat" Any, SEE, "the same";
    old SYS_stat "stat" Any, ALL, "the same by musl";
    old SYS_lstat "lstat" Any, SEE, "the same by musl";
    new SYS_statfs "statfs" Any, SEE, "is /sys/fs/bpf a BPF file system";
    new SYS_lseek "lseek" Any, SEE, "reading a file";
    new SYS_getdents64 "getdents64" Any, SEE, "names in our folders";
    new SYS_geteuid "geteuid" Any, SEE, "who owns our folders";
    new SYS_flock "flock" Any, EVENTS | SEE, "one command at a time changes /sys/fs/bpf, one reads the events";
    new SYS_clock_nanosleep "clock_nanosleep" Any, SEE, "between two attempts at that lock";
    new SYS_nanosleep "nanosleep" Any, SEE, "the same by musl";
    new SYS_clock_getres "clock_getres" Any, SEE, "the length of a jiffy";
    new SYS_sendto "sendto" Any, SEE | UNPINNED, "rtnetlink and the service manager, by sockets that are open already";
    new SYS_recvfrom "recvfrom" Any, SEE | UNPINNED, "answers of rtnetlink; that devices or addresses have changed";
    new SYS_getsockopt "getsockopt" OneOf(2, COOKIE), SEE, "the namespace's number";
    new SYS_ioctl "ioctl" OneOf(1, TERMINAL), WATCH, "size of the terminal; how it reads keys, and as it was before";
    new SYS_kill "kill" Itself(1, STOP), WATCH, "Ctrl-Z";
    new SYS_openat "openat" OneOf(2, NEW_FILE), METRICS, "the new file beside the old one";
    old SYS_open "open" OneOf(1, NEW_FILE), METRICS, "the same by musl";
    new SYS_openat "openat" OneOf(2, GROWING), GROWS, "events at the end of a file, or of a new one";
    old SYS_open "open" OneOf(1, GROWING), GROWS, "the same by musl";
    old SYS_rename "rename" Any, METRICS, "the new file takes the old one's name";
    new SYS_renameat "renameat" Any, METRICS, "the same where there is no rename";
    old SYS_unlink "unlink" Any, METRICS | DOWN, "a file that could not be written; our pins";
    new SYS_unlinkat "unlinkat" Any, METRICS | DOWN, "the same where there is no unlink";
    old SYS_rmdir "rmdir" Any, DOWN, "our folders";
};
