// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What people see of what is done, of what is refused, and what `doctor` says about the machine: text that is compared with
//! tests/golden/done.txt. With looks.txt every command has its text. `BLESS=1 cargo test -p e2e --test looks_done` writes it.
use e2e::commands::{tree, Files};
use e2e::detour::{self, code};
use e2e::golden::{self, masked, NONE};
use e2e::lab::Lab;
use e2e::netns::Netns;
use e2e::service::Service;
use e2e::tools::{self, Scratch};
use nix::sys::signal::Signal;
use std::fmt::Write;

const DEVICE: &str = "eth0";

/// Lines in this order, each with its exit code and the column of its ids; `{…}` are files.
const DONE: [(&[&str], i32, usize); 63] = [
    (&["status"], code::NO, NONE),
    (&["up", DEVICE, "{rules}"], 0, NONE),
    (&["up", DEVICE, "{rules}"], 0, NONE),
    (&["up", DEVICE, "{other}"], 0, NONE),
    (&["up", DEVICE, "{rules}", "--flush", ""], 0, NONE),
    (&["up", DEVICE, "{shadowed}"], 0, NONE),
    (&["up", DEVICE, "{rules}", "--flows-max", "1000"], code::FOREIGN, NONE),
    (&["up", DEVICE, "{rules}", "--flows-max", "1000", "--fresh"], 0, NONE),
    (&["up", DEVICE, "{rules}", "--flows-max", "1000", "--prio", "7"], code::FOREIGN, NONE),
    (&["up", DEVICE, "{rules}", "--flows-max", "1000", "--no-pin"], code::FOREIGN, NONE),
    (&["up", DEVICE, "{bad}"], code::USAGE, NONE),
    (&["check", "{bad}"], code::USAGE, NONE),
    (&["up", DEVICE, "{missing}"], code::USAGE, NONE),
    (&["up", "nothere"], code::KERNEL, NONE),
    (&["up"], code::USAGE, NONE),
    (&["upp", DEVICE], code::USAGE, NONE),
    (&["up", DEVICE, "--timeout", "udp=never"], code::USAGE, NONE),
    (&["flush", DEVICE], 0, NONE),
    (&["flush", DEVICE, "tcp port"], code::USAGE, NONE),
    (&["map", "get", DEVICE, "up", "event_control", "0"], 0, NONE),
    (&["map", "set", DEVICE, "up", "local4", "hex:01020304", "hex:01000000"], 0, NONE),
    (&["plan", "map", "del", DEVICE, "up", "local4", "hex:01020304"], 0, NONE),
    (&["map", "del", DEVICE, "up", "local4", "hex:01020304"], 0, NONE),
    (&["map", "del", DEVICE, "up", "local4", "hex:01020304"], code::NO, NONE),
    (&["map", "del", DEVICE, "up", "event_control", "0"], code::KERNEL, NONE),
    (&["map", "set", DEVICE, "up", ".rodata", "cfg.l2_len", "14"], code::PERMISSION, NONE),
    (&["map", "set", DEVICE, "up", ".rodata", "cfg.l3_len", "14"], code::USAGE, NONE),
    (&["map", "get", DEVICE, "up", ".rodata", "cfg.l2_len"], 0, NONE),
    (&["load", "{variables}", DEVICE, "--tcx"], 0, NONE),
    (&["map", "set", DEVICE, "variables", ".bss", "pairs[1].high", "7"], 0, NONE),
    (&["map", "get", DEVICE, "variables", ".bss", "pairs[1]"], 0, NONE),
    (&["map", "set", DEVICE, "variables", "table", "1", "low=5,high=0x10"], 0, NONE),
    (&["map", "set", DEVICE, "variables", "table", "1", "5"], code::USAGE, NONE),
    (&["map", "set", DEVICE, "variables", ".data.own", "own", "1"], code::KERNEL, NONE),
    (&["plan", "map", "set", DEVICE, "variables", ".bss", "bits.mode", "5"], 0, NONE),
    (&["unload", DEVICE, "variables"], 0, NONE),
    (&["map", "dump", DEVICE, "up", "hands"], 0, NONE),
    (&["map", "dump", DEVICE, "up", "no_map"], code::USAGE, NONE),
    (&["map", "listen", DEVICE, "up", "events"], code::USAGE, NONE),
    (&["map", "listen", DEVICE, "up", "asked"], code::USAGE, NONE),
    (&["load", "@trace", DEVICE], 0, NONE),
    (&["load", "@trace", DEVICE], code::FOREIGN, NONE),
    (&["load", "@trace", DEVICE, "--replace"], 0, NONE),
    (&["load", "@drop", DEVICE, "--name", "up"], code::USAGE, NONE),
    (&["load", "@drop", "--no-attach"], 0, NONE),
    (&["load", "{missing}", DEVICE], code::USAGE, NONE),
    (&["load", "{rules}", DEVICE], code::OBJECT, NONE),
    (&["load", "@drop", DEVICE, "--egress", "no_program"], code::USAGE, NONE),
    (&["test", "@drop", "drop", "--packet", "{packet}"], 0, NONE),
    (&["plan", "unload", DEVICE, "trace"], 0, NONE),
    (&["plan", "flush", DEVICE], 0, NONE),
    (&["plan", "map", "set", DEVICE, "up", "local4", "hex:01020304", "hex:01000000"], 0, NONE),
    (&["plan", "down", DEVICE], 0, NONE),
    (&["unload", DEVICE, "nobody"], code::NO, NONE),
    (&["unload", DEVICE, "trace"], 0, NONE),
    (&["down", DEVICE], 0, NONE),
    (&["down", DEVICE], code::NO, NONE),
    (&["apply", "{plan}"], 0, NONE),
    (&["down", DEVICE], 0, NONE),
    (&["apply", "{rules}"], code::USAGE, NONE),
    (&["flows", DEVICE], code::NO, NONE),
    (&["watch", DEVICE, "--once"], code::NO, NONE),
    (&["orig", "tcp", "192.0.2.1", "192.0.2.2:80"], code::USAGE, NONE),
];

/// The lines of `doctor` about the machine whose words are another machine's on another one.
const OF_THE_MACHINE: [&str; 13] = [
    "kernel",
    "lockdown",
    "security modules",
    "unprivileged_bpf_disabled",
    "bpf_jit_enable",
    "bpf_stats_enabled",
    "memlock",
    "other NAT",
    "types (BTF)",
    "signatures by the kernel",
    "hook tcx",
    "bpffs",
    "CAP_SYS_ADMIN",
];

/// One line of `doctor`, its head and its words; None for a fix, which is there on some machines.
fn of_doctor(line: &str) -> Option<String> {
    let (state, rest) = line.split_at_checked(6)?;
    let (name, words) = rest.split_once("  ")?;
    let fix = state.trim().is_empty();
    let own = !OF_THE_MACHINE.contains(&name);
    (!fix).then(
        || if own { format!("{} {name} {}", state.trim(), words.trim()) } else { format!("# {name} #") },
    )
}

#[test]
fn what_people_are_told() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let (ns, scratch, files) = (&lab.gateway, Scratch::new(), Files::new());
    for (name, text) in [
        ("rules", "udp dport 53 redirect to :5353\nudp dport 25 drop\n"),
        ("other", "tcp redirect to :80\n"),
        ("shadowed", "udp drop\nudp dport 53 redirect\n"),
        ("bad", "udp dport 53 redirect to :5353\nudp dport 70000 drop\ntcp dport http drop\n"),
    ] {
        scratch.write(name, text);
    }
    let of = |name: &str| scratch.path(name).display().to_string();
    let folder = scratch.path("").display().to_string();
    let mut all = String::new();
    let mut wrong = Vec::new();
    for (line, expected, ids) in DONE {
        let words: Vec<String> = line
            .iter()
            .map(|word| match word.strip_prefix('{').and_then(|word| word.strip_suffix('}')) {
                Some("plan" | "packet" | "variables") => files.line(ns, &[word]).remove(0),
                Some(name) => of(name),
                None => word.to_string(),
            })
            .collect();
        let run = detour::run(ns, &words.iter().map(String::as_str).collect::<Vec<_>>());
        let text = run.stdout.clone() + &run.stderr;
        if run.code != Some(expected) {
            wrong.push(format!("{line:?} ends with {:?}: {text}", run.code));
        }
        // Nothing but an answer on stdout, nothing but a refusal on stderr.
        assert!(run.stdout.is_empty() != run.stderr.is_empty(), "{line:?}: {text}");
        let text = of_the_run(&text);
        let text = places(&text.replace(&folder, "").replace(&words[words.len() - 1], line[line.len() - 1]));
        let _ = write!(all, "$ detour {}\n{}", line.join(" "), masked(&text, ids));
        let _ = writeln!(all, "{}", if expected == 0 { String::new() } else { format!("[{expected}]\n") });
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let _ = write!(all, "$ detour run {DEVICE} rules\n{}\n", masked(&served(ns), NONE));
    let run = detour::run(ns, &["doctor", DEVICE]);
    let machine = run.stdout.split("\nok    link ").next().unwrap();
    let lines: Vec<String> = machine.lines().filter_map(of_doctor).collect();
    let _ = write!(all, "$ detour doctor {DEVICE}\n{}\n", lines.join("\n"));
    golden::compare("done.txt", &all);
    every_command_is_there(&all);
}

/// What a service logs from its start to its end; what confines it is the kernel's.
fn served(ns: &Netns) -> String {
    let mut service = Service::start(ns, DEVICE, "udp dport 53 redirect to :5353\n", &["--down-on-exit"]);
    for (rules, said) in [("udp drop\n", "SIGHUP: eth0: "), ("udp dorp\n", "SIGHUP: nothing is changed")] {
        service.scratch.write("rules", rules);
        service.signal(Signal::SIGHUP);
        service.logs(said);
        service.says("RELOADING=1");
        service.says("READY=1");
    }
    service.signal(Signal::SIGTERM);
    service.ends();
    let folder = service.scratch.path("").display().to_string();
    let log = service.log();
    let line = |line: &str| match line.split_once("confined to ") {
        Some((head, _)) => format!("{head}confined to #\n"),
        None => format!("{}\n", line.replace(&folder, "")),
    };
    log.lines().map(line).collect()
}

/// Without times and the kernel's release.
fn of_the_run(text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in text.split_inclusive(char::is_whitespace) {
        let before = words.last().map_or("", |word| word.trim());
        let (number, unit) = (before.parse::<u64>().is_ok(), word.trim());
        let (is_release, is_time) = (before == "Linux", number && unit == "ns");
        if is_time {
            words.pop();
            words.push("# ".into());
        }
        words.push(if is_release { word.replace(unit, "#") } else { word.to_owned() });
    }
    words.concat()
}

/// Numbers in paths: of the namespace, of the device, of its clsact.
fn places(text: &str) -> String {
    let mut parts = text.split("/sys/fs/bpf/detour/");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-');
        let rest = match rest.strip_prefix("/clsact-") {
            Some(rest) => format!("/clsact-#{}", rest.trim_start_matches(|c: char| c.is_ascii_digit())),
            None => rest.to_owned(),
        };
        let _ = write!(out, "/sys/fs/bpf/detour/#{rest}");
    }
    out
}

/// Each command of the tree is in one of the files; what has a text of its own elsewhere is named.
fn every_command_is_there(done: &str) {
    let golden =
        |name: &str| std::fs::read_to_string(tools::project().join("tests/golden").join(name)).unwrap();
    let looks = golden("looks.txt");
    // A story, told by tests/demo.rs; tests/golden has plans of these two; the shell's words for the tree itself.
    let elsewhere = ["demo", "plan up", "plan load"];
    for command in tree().iter().filter(|command| !elsewhere.contains(&command.as_str())) {
        let line = format!("$ detour {command}");
        let is = |at: &str| at == line || at.starts_with(&format!("{line} "));
        assert!(done.lines().chain(looks.lines()).any(is), "{command} has no golden text");
    }
}
