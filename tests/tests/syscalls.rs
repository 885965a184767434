// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Every system call that each command makes, as strace saw it, to loader/docs/syscalls.md: it has to be current, in both
//! directions.
//!
//! `BLESS=1 cargo test -p e2e --test syscalls` writes it anew, by the program that is shipped. A call that nobody has given a
//! reason for fails the test, and so does a reason for a call that nobody makes.
use e2e::commands::{self, Case, Files, COMMANDS, DEVICE};
use e2e::detour;
use e2e::lab::Lab;
use e2e::netns::Netns;
use e2e::tmux::Tmux;
use e2e::tools::{self, Scratch};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::process::Command;

/// Calls that depend on how much there is and on who runs beside us; fcntl by which a debug build asks whether a descriptor is
/// open. They are in no row.
const SOMETIMES: [&str; 9] =
    ["brk", "clock_gettime", "clock_nanosleep", "fcntl", "futex", "madvise", "mremap", "munmap", "poll"];

/// Why each call is made.
const REASONS: &[(&str, &str)] = &[
    ("accept4", "demo: its web server"),
    ("arch_prctl", "start of the C library: thread-local memory"),
    ("bind", "the netlink socket gets its port"),
    ("bpf", "maps, programs, types, pins; read or made"),
    ("brk", "memory"),
    ("capget", "which capabilities there are to give up"),
    ("capset", "`run`, `events`, `watch`, `map listen`: gives them up"),
    ("clock_gettime", "how long a lock is waited for; the age of flows"),
    ("clock_nanosleep", "between two attempts at a lock"),
    ("clone3", "demo, doctor: a thread in a namespace of its own"),
    ("close", "descriptors"),
    ("connect", "a socket of netlink"),
    ("execve", "the program itself"),
    ("exit", "a thread's end"),
    ("exit_group", "the end"),
    ("fcntl", "start of the Rust library: are 0, 1 and 2 open; copies of what nothing pins and a confined process keeps open"),
    ("flock", "one command at a time changes /sys/fs/bpf"),
    ("futex", "locks inside the program"),
    ("getdents64", "names in our folders"),
    ("geteuid", "who owns our folders"),
    ("getpeername", "demo: who asks the web server"),
    ("getpid", "the name of the new metrics file"),
    ("getrandom", "start of the C library"),
    ("getsockname", "the netlink socket's port"),
    ("getsockopt", "SO_NETNS_COOKIE: the namespace's number"),
    ("gettid", "start of the Rust library: the name of the thread"),
    ("ioctl", "is this a terminal"),
    ("landlock_add_rule", "`run`: the folders of its files"),
    ("landlock_create_ruleset", "`run`, `events`, `watch`, `map listen`: which changes of files are forbidden"),
    ("landlock_restrict_self", "`run`, `events`, `watch`, `map listen`: from here on"),
    ("listen", "demo: its web server"),
    ("madvise", "memory"),
    ("mkdir", "our folders in /sys/fs/bpf"),
    ("mmap", "memory; the ring buffer of `events`, `run`, `watch` and `map listen`; the pages of a variable that `map set` writes"),
    ("mount", "`--mount-bpffs`; demo: a BPF file system of its own"),
    ("mprotect", "memory, less of it writable"),
    ("mremap", "memory"),
    ("munmap", "memory"),
    ("newfstatat", "whether a file is there, and whose"),
    ("openat", "files, folders"),
    ("poll", "waiting for an answer"),
    ("prctl", "start of the C library; no_new_privs, ambient capabilities"),
    ("prlimit64", "start of the Rust library: size of the stack"),
    ("read", "files"),
    ("readlink", "start of the C library"),
    ("recvfrom", "answers of rtnetlink"),
    ("rename", "the commit of `up` and `load`"),
    ("renameat2", "the commit of `load --replace` and of an upgrade"),
    ("rmdir", "our folders"),
    ("rseq", "start of the C library"),
    ("rt_sigaction", "start of the Rust library; SIGPIPE"),
    ("rt_sigprocmask", "a signal waits until a step is done"),
    ("sched_getaffinity", "start of the Rust library"),
    ("seccomp", "`run`, `events`, `watch`, `map listen`: the filter of confinement.md"),
    ("sendto", "requests to rtnetlink"),
    ("set_robust_list", "start of the C library"),
    ("set_tid_address", "start of the C library"),
    ("setns", "-n"),
    ("setsockopt", "extended acks, strict checks"),
    ("sigaltstack", "start of the Rust library: a stack for the overflow of the stack"),
    ("signalfd4", "has a signal come that waits"),
    ("socket", "NETLINK_ROUTE"),
    ("statfs", "is /sys/fs/bpf a BPF file system"),
    ("statx", "size and kind of a file, and whose"),
    ("unlink", "our pins"),
    ("unshare", "demo, doctor: namespaces of their own"),
    ("write", "the answer"),
];

/// What strace saw of a command, which has to end as it should.
fn calls(ns: &Netns, files: &Files, case: &Case) -> BTreeSet<String> {
    let scratch = Scratch::new();
    let log = scratch.write("strace", "");
    let line = files.line(ns, case.line);
    let mut strace = Command::new("strace");
    strace.args(["-f", "-e", "signal=none", "-o", &log]).arg(detour::path()).args(&line);
    let output = commands::output(ns, &mut strace, &line);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(case.code), "{line:?}: {complaint}");
    names(&log)
}

/// What strace saw of `watch` on a terminal, up to its end by a key.
fn live(ns: &Netns) -> BTreeSet<String> {
    let tmux = Tmux::new(ns, 80, 24);
    let log = tmux.file("strace");
    let program = detour::path().display();
    tmux.line(&format!("strace -f -e signal=none -o {log} {program} watch {DEVICE}; echo code=$?"));
    tmux.shows("q quit");
    tmux.types("q");
    tmux.shows("code=0");
    names(&log)
}

/// The names of the calls in what strace wrote.
fn names(log: &str) -> BTreeSet<String> {
    let log = std::fs::read_to_string(log).unwrap();
    let name = |line: &str| Some(line.split_once(' ')?.1.trim_start().split_once('(')?.0.to_string());
    let is_name = |name: &String| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    log.lines().filter_map(name).filter(is_name).collect()
}

fn page(seen: &BTreeMap<&str, BTreeSet<String>>) -> String {
    let sometimes = SOMETIMES.map(str::to_string);
    let all: BTreeSet<&String> = seen.values().flatten().chain(&sometimes).collect();
    let mut page = String::from(
        "<!-- SPDX-License-Identifier: MIT OR GPL-2.0-or-later -->\n# System calls\n\n\
         What strace saw; made by tests/tests/syscalls.rs, which also fails where a command makes a call that is not here,\n\
         or does not make one that is. x86-64, static glibc. `run` was told to read its rules anew (SIGHUP). What `run`,\n\
         `events` and `watch` may still call when they serve: [confinement.md](confinement.md).\n\n",
    );
    let _ = writeln!(page, "Together: {} system calls.\n\n## Why\n\n| call | why |\n|---|---|", all.len());
    for call in &all {
        let _ = writeln!(page, "| `{call}` | {} |", reason(call).unwrap_or("?"));
    }
    let rows: BTreeMap<&str, BTreeSet<String>> = seen
        .iter()
        .map(|(command, calls)| {
            let always = calls.iter().filter(|call| !SOMETIMES.contains(&call.as_str()));
            (*command, always.cloned().collect())
        })
        .collect();
    let mut common = rows.values().next().cloned().unwrap_or_default();
    rows.values().for_each(|calls| common.retain(|call| calls.contains(call)));
    let list =
        |calls: &BTreeSet<String>| calls.iter().map(|c| format!("`{c}`")).collect::<Vec<_>>().join(" ");
    let _ = writeln!(
        page,
        "\n## Every command\n\n{}\n\nAny of them may call these as well, by how much there is and who runs beside it: {}\n\n\
         ## Besides\n\n| command | calls |\n|---|---|",
        list(&common),
        list(&sometimes.clone().into())
    );
    for (command, calls) in &rows {
        let _ = writeln!(page, "| `{command}` | {} |", list(&calls.difference(&common).cloned().collect()));
    }
    page + &capabilities()
}

/// The last part: `tests/tests/privilege.rs` tries each of them.
fn capabilities() -> String {
    let mut part = String::from(
        "\n## Capabilities\n\nBesides owning /sys/fs/bpf, hence uid 0 or CAP_DAC_OVERRIDE.\n\n| command | needs |\n|---|---|\n",
    );
    for case in COMMANDS {
        let needs = case.needs.iter().map(|name| match name.strip_suffix("<5.19") {
            Some(name) => format!("CAP_{} before Linux 5.19", name.to_uppercase()),
            None => format!("CAP_{}", name.to_uppercase()),
        });
        let _ = writeln!(part, "| `{}` | {} |", case.name, needs.collect::<Vec<_>>().join(", "));
    }
    part
}

fn reason(call: &str) -> Option<&'static str> {
    REASONS.iter().find(|(name, _)| *name == call).map(|(_, why)| *why)
}

#[test]
fn every_call_is_listed_with_its_reason() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    let files = Files::new();
    let mut seen: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut ready = None;
    for case in COMMANDS {
        if ready != Some(case.before) {
            commands::prepare(&lab, &files, case.before);
        }
        ready = (!case.changes).then_some(case.before);
        seen.insert(case.name, calls(ns, &files, case));
        if case.name == "watch" {
            seen.insert("watch (live)", live(ns));
        }
    }
    let unknown: BTreeSet<&String> = seen.values().flatten().filter(|call| reason(call).is_none()).collect();
    assert!(unknown.is_empty(), "without a reason: {unknown:?}");
    let path = tools::project().join("loader/docs/syscalls.md");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, page(&seen)).unwrap();
    }
    let of_nobody: Vec<&str> = REASONS
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| !seen.values().flatten().any(|call| call == name))
        .collect();
    let of_nobody: Vec<&str> = of_nobody.into_iter().filter(|name| !SOMETIMES.contains(name)).collect();
    assert!(of_nobody.is_empty(), "a reason, and nobody makes it: {of_nobody:?}");
    let listed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(listed.ends_with(&capabilities()), "BLESS=1 cargo test -p e2e --test syscalls");
    let common =
        listed.split("## Every command").nth(1).unwrap_or_default().lines().nth(2).unwrap_or_default();
    let words =
        |line: &str| -> BTreeSet<String> { line.split('`').skip(1).step_by(2).map(str::to_string).collect() };
    let mut rows = BTreeMap::new();
    let besides =
        listed.split("## Besides").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap_or_default();
    for row in besides.lines().filter(|line| line.starts_with("| `")) {
        let mut calls = words(&format!("{common} {}", row.splitn(3, '|').nth(2).unwrap()));
        calls.retain(|call| !call.is_empty());
        rows.insert(row.split('`').nth(1).unwrap().to_string(), calls);
    }
    let mut wrong = Vec::new();
    for (command, calls) in &seen {
        let Some(row) = rows.remove(*command) else {
            wrong.push(format!("{command} is not listed"));
            continue;
        };
        let always = |call: &&String| !SOMETIMES.contains(&call.as_str());
        let gone = row.difference(calls).filter(always);
        wrong.extend(gone.map(|call| format!("{command} does not make {call}")));
        let new = calls.difference(&row).filter(always);
        wrong.extend(new.map(|call| format!("{command} makes {call}")));
    }
    wrong.extend(rows.keys().map(|command| format!("{command} is listed, and there is none")));
    assert!(wrong.is_empty(), "BLESS=1 cargo test -p e2e --test syscalls:\n{}", wrong.join("\n"));
}
