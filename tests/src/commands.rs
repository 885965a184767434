// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Every command of the program as a line that can be run in a lab, what has to be there before, and what it may need.
//! Tests that hold for all commands go through this table; one of them compares it with the command line's own tree.
use crate::detour;
use crate::lab::Lab;
use crate::netns::Netns;
use crate::talk;
use crate::tools::{self, project, Scratch};
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The device of the labs.
pub const DEVICE: &str = "eth0";

/// One command line.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The words of the command; in brackets what is special.
    pub name: &'static str,
    /// Lines that make what it finds; the first word may be `mount`.
    pub before: &'static [&'static [&'static str]],
    /// Its arguments; `{name}` is a file of [`Files`].
    pub line: &'static [&'static str],
    /// Capabilities without which it says which one is missing, as setpriv(1) names them. `bpf<5.19`: from that Linux on it
    /// is for creating only; `sysctl_unprivileged_bpf_disabled` in kernel/bpf/syscall.c lets a map be used by whoever could
    /// open its pin, which belongs to root.
    pub needs: &'static [&'static str],
    /// Whether what was there before is another thing after it.
    pub changes: bool,
    /// Its exit code.
    pub code: i32,
    /// Its exit code where a capability is missing.
    pub without: i32,
}

/// What creates programs and puts them onto a device.
pub const LOADS: &[&str] = &["bpf", "net_admin", "perfmon"];
/// What attaches and detaches.
pub const CHANGES: &[&str] = &["net_admin", "bpf<5.19"];
/// What finds by ids what nothing pins.
pub const FINDS: &[&str] = &["sys_admin", "bpf<5.19"];
/// What looks, and writes elements.
pub const READS: &[&str] = &["bpf<5.19"];
/// What creates maps and programs that look into no packet.
pub const CREATES: &[&str] = &["bpf", "net_admin"];
const NONE: &[&str] = &[];

const LOOK: Case =
    Case { name: "", before: NOTHING, line: &[], needs: NONE, changes: false, code: 0, without: 5 };
const CHANGE: Case = Case { changes: true, ..LOOK };

const NOTHING: &[&[&str]] = &[];
const UP: &[&[&str]] = &[&["up", DEVICE, "{rules}"]];
const UNPINNED: &[&[&str]] = &[&["up", DEVICE, "{rules}", "--no-pin"]];
const TRACE: &[&[&str]] = &[&["load", "@trace", DEVICE]];
const RINGS: &[&[&str]] = &[&["load", "{rings}", DEVICE]];
const TCX: &[&[&str]] = &[&["load", "@trace", DEVICE, "--tcx"]];
/// No BPF file system.
const COVERED: &[&[&str]] = &[&["mount", "-t", "tmpfs", COVER, BPFFS]];
const COVER: &str = "cover";
const BPFFS: &str = "/sys/fs/bpf";
/// An instance whose program has variables.
const VARIABLES: &[&[&str]] = &[&["load", "{variables}", DEVICE]];
/// The map of local addresses has this one, which is the lab's.
const OWN: &str = "hex:c0a8b202";
/// An element of the map of local addresses, which nobody else has.
const KEY: &str = "hex:01020304";

/// All of them, in an order in which each finds what the one before left, if neither changes anything.
pub const COMMANDS: &[Case] = &[
    Case { name: "check", line: &["check", "{rules}"], ..LOOK },
    Case { name: "inspect", line: &["inspect", "@trace"], ..LOOK },
    Case { name: "verify", line: &["verify"], ..LOOK },
    Case { name: "list", line: &["list", DEVICE], ..LOOK },
    Case { name: "plan up", line: &["plan", "up", DEVICE, "{rules}"], ..LOOK },
    Case { name: "plan load", line: &["plan", "load", "@trace", DEVICE], ..LOOK },
    Case {
        name: "status (-n)",
        line: &["-n", "/proc/self/ns/net", "status"],
        needs: &["sys_admin"],
        code: 1,
        ..LOOK
    },
    Case { name: "doctor", line: &["doctor", DEVICE], needs: LOADS, without: 1, ..LOOK },
    Case { name: "test", line: &["test", "@drop", "drop", "--packet", "{packet}"], needs: CREATES, ..LOOK },
    Case { name: "load (--no-attach)", line: &["load", "@trace", "--no-attach"], needs: LOADS, ..LOOK },
    Case { name: "demo", line: &["demo"], needs: &["sys_admin", "net_admin", "net_bind_service"], ..LOOK },
    Case { name: "up", line: &["up", DEVICE, "{rules}"], needs: LOADS, ..CHANGE },
    Case { name: "up (--no-pin)", line: &["up", DEVICE, "{rules}", "--no-pin"], needs: LOADS, ..CHANGE },
    Case {
        name: "up (--original-dst)",
        line: &["up", DEVICE, "{rules}", "--original-dst"],
        needs: LOADS,
        ..CHANGE
    },
    // CAP_SYS_ADMIN stands for CAP_BPF and CAP_PERFMON.
    Case {
        name: "up (--mount-bpffs)",
        before: COVERED,
        line: &["up", DEVICE, "{rules}", "--mount-bpffs"],
        needs: &["sys_admin", "net_admin"],
        ..CHANGE
    },
    Case {
        name: "run",
        line: &["run", DEVICE, "{rules}", "--metrics-file", "{out}"],
        needs: LOADS,
        ..CHANGE
    },
    Case {
        name: "run (--names)",
        line: &[
            "run",
            DEVICE,
            "{rules}",
            "--names",
            "{hosts}",
            "--events",
            "{events}",
            "--transcript",
            "{out}",
        ],
        needs: LOADS,
        ..CHANGE
    },
    Case { name: "apply", line: &["apply", "{plan}"], needs: LOADS, ..CHANGE },
    Case { name: "load", line: &["load", "@trace", DEVICE], needs: LOADS, ..CHANGE },
    Case { name: "load (--tcx)", line: &["load", "@trace", DEVICE, "--tcx"], needs: LOADS, ..CHANGE },
    Case { name: "load (--no-pin)", line: &["load", "@trace", DEVICE, "--no-pin"], needs: LOADS, ..CHANGE },
    Case {
        name: "load (--pin-dir)",
        line: &["load", "{pins}", DEVICE, "--pin-dir", "{shared}"],
        needs: CREATES,
        ..CHANGE
    },
    Case { name: "load (CO-RE)", line: &["load", "{core}", "--no-attach"], needs: CREATES, ..LOOK },
    Case {
        name: "load (--replace)",
        before: TRACE,
        line: &["load", "@trace", DEVICE, "--replace"],
        needs: LOADS,
        ..CHANGE
    },
    Case { name: "plan unload", before: TRACE, line: &["plan", "unload", DEVICE], needs: READS, ..LOOK },
    Case { name: "unload", before: TRACE, line: &["unload", DEVICE], needs: CHANGES, ..CHANGE },
    // Its links end with their pins.
    Case { name: "unload (tcx)", before: TCX, line: &["unload", DEVICE], needs: READS, ..CHANGE },
    Case { name: "status", before: UP, line: &["status", DEVICE], needs: READS, ..LOOK },
    Case { name: "asked", before: UP, line: &["asked", DEVICE, "--svg", "{out}"], needs: READS, ..LOOK },
    Case { name: "flows", before: UP, line: &["flows", DEVICE], needs: READS, ..LOOK },
    Case {
        name: "orig",
        before: UP,
        line: &["orig", "icmp", "192.168.178.51:7", "192.168.178.2"],
        needs: READS,
        ..LOOK
    },
    Case { name: "rules", before: UP, line: &["rules", DEVICE], needs: READS, ..LOOK },
    Case { name: "metrics", before: UP, line: &["metrics", "--file", "{out}"], needs: READS, ..LOOK },
    Case { name: "events", before: UP, line: &["events", DEVICE, "--pcap", "{out}"], needs: READS, ..LOOK },
    Case { name: "watch", before: UP, line: &["watch", DEVICE, "--once"], needs: READS, ..LOOK },
    Case { name: "map list", before: UP, line: &["map", "list", DEVICE, "up"], needs: READS, ..LOOK },
    Case {
        name: "map dump",
        before: UP,
        line: &["map", "dump", DEVICE, "up", "reasons"],
        needs: READS,
        ..LOOK
    },
    Case {
        name: "map listen",
        before: RINGS,
        line: &["map", "listen", DEVICE, "rings", "records", "--as", "heard_t", "--types", "{rings}", "-v"],
        needs: READS,
        ..LOOK
    },
    Case {
        name: "map get",
        before: UP,
        line: &["map", "get", DEVICE, "up", "event_control", "0"],
        needs: READS,
        ..LOOK
    },
    Case {
        name: "verify (--live)",
        before: UP,
        line: &["verify", "--live", DEVICE, "--rules", "{rules}"],
        needs: READS,
        ..LOOK
    },
    Case { name: "plan down", before: UP, line: &["plan", "down", DEVICE], needs: READS, ..LOOK },
    Case {
        name: "plan map set",
        before: UP,
        line: &["plan", "map", "set", DEVICE, "up", "local4", KEY, "hex:01000000"],
        needs: READS,
        ..LOOK
    },
    Case {
        name: "plan map del",
        before: UP,
        line: &["plan", "map", "del", DEVICE, "up", "local4", OWN],
        needs: READS,
        ..LOOK
    },
    Case {
        name: "map del",
        before: UP,
        line: &["map", "del", DEVICE, "up", "local4", OWN],
        needs: READS,
        ..CHANGE
    },
    Case {
        name: "map set (variable)",
        before: VARIABLES,
        line: &["map", "set", DEVICE, "variables", ".bss", "step", "1", "--types", "{variables}"],
        needs: READS,
        ..CHANGE
    },
    Case {
        name: "map set",
        before: UP,
        line: &["map", "set", DEVICE, "up", "local4", KEY, "hex:01000000"],
        needs: READS,
        ..CHANGE
    },
    Case { name: "plan flush", before: UP, line: &["plan", "flush", DEVICE], needs: READS, ..LOOK },
    Case { name: "flush", before: UP, line: &["flush", DEVICE, "icmp"], needs: CREATES, ..CHANGE },
    Case {
        name: "up (--flush)",
        before: UP,
        line: &["up", DEVICE, "--rule", "drop", "--flush", "icmp"],
        needs: CREATES,
        ..CHANGE
    },
    Case {
        name: "up (--fresh)",
        before: UP,
        line: &["up", DEVICE, "--flows-max", "1000", "--fresh"],
        needs: LOADS,
        ..CHANGE
    },
    Case { name: "up (reload)", before: UP, line: &["up", DEVICE, "--rule", "drop"], needs: READS, ..CHANGE },
    Case {
        name: "run (over up)",
        before: UP,
        line: &["run", DEVICE, "{rules}", "--metrics-file", "{out}"],
        needs: READS,
        ..CHANGE
    },
    Case {
        name: "run (--down-on-exit)",
        before: UP,
        line: &["run", DEVICE, "{rules}", "--down-on-exit"],
        needs: CHANGES,
        ..CHANGE
    },
    Case { name: "status (--no-pin)", before: UNPINNED, line: &["status", DEVICE], needs: FINDS, ..LOOK },
    Case {
        name: "events (--no-pin)",
        before: UNPINNED,
        line: &["events", DEVICE, "--pcap", "{out}"],
        needs: FINDS,
        ..LOOK
    },
    Case {
        name: "run (over up, --no-pin)",
        before: UNPINNED,
        line: &["run", DEVICE, "{rules}", "--metrics-file", "{out}"],
        needs: FINDS,
        ..CHANGE
    },
    Case {
        name: "up (reload, --no-pin)",
        before: UNPINNED,
        line: &["up", DEVICE, "--rule", "drop"],
        needs: FINDS,
        ..CHANGE
    },
    Case {
        name: "down (--no-pin)",
        before: UNPINNED,
        line: &["down", DEVICE],
        needs: &["sys_admin", "net_admin", "bpf<5.19"],
        ..CHANGE
    },
    Case { name: "down", before: UP, line: &["down", DEVICE], needs: CHANGES, ..CHANGE },
];

/// The files that the lines name.
pub struct Files(Scratch);

impl Files {
    /// Writes them; the plan is made when it is wanted.
    pub fn new() -> Files {
        let scratch = Scratch::new();
        scratch.write("rules", "tcp dport 80 redirect to :8080\nredirect\n");
        // To nobody, IPv4 and no more.
        scratch.write(
            "packet",
            "ffffffffffff 020000000051 0800 45000014 0000 0000 40 11 0000 c0a8b233 c0a8b202\n",
        );
        Files(scratch)
    }

    /// A line of the table as arguments.
    pub fn line(&self, ns: &Netns, line: &[&str]) -> Vec<String> {
        let file = |word: &&str| {
            let Some(name) = word.strip_prefix('{').and_then(|word| word.strip_suffix('}')) else {
                return word.to_string();
            };
            let path = match name {
                "pins" | "core" | "rings" | "variables" => {
                    project().join(format!("elf/fixtures/{name}.bpf.o"))
                }
                "shared" => PathBuf::from("/sys/fs/bpf/shared"),
                _ => self.0.path(name),
            };
            let path = path.display().to_string();
            if name == "shared" {
                ns.within(|| std::fs::create_dir_all(&path).unwrap());
            }
            if name == "plan" {
                let plan = detour::json(ns, &["plan", "up", DEVICE, "--rule", "drop"]);
                std::fs::write(&path, plan.to_string()).unwrap();
            }
            path
        };
        line.iter().map(file).collect()
    }
}

/// Makes what the case finds, and nothing else; after `up` the client has a flow, an echo with identifier 7.
pub fn prepare(lab: &Lab, files: &Files, before: &[&[&str]]) {
    let ns = &lab.gateway;
    for rest in [&["down", DEVICE][..], &["unload", DEVICE]] {
        detour::run(ns, rest);
    }
    uncover(ns);
    for line in before {
        if line[0] == "mount" {
            ns.run("mount", &line[1..]);
            continue;
        }
        let line = files.line(ns, line);
        detour::run(ns, &line.iter().map(String::as_str).collect::<Vec<_>>()).done();
    }
    if before.iter().any(|line| line[0] == "up") {
        talk::ping(&lab.client, 7, [1, 2, 3, 4]).unwrap();
    }
}

/// Takes away what was mounted on the lab's BPF file system; what was pinned there goes with it.
fn uncover(ns: &Netns) {
    let mounts = ns.run("cat", &["/proc/self/mounts"]);
    let mounts = mounts.lines().filter(|line| line.split(' ').nth(1) == Some(BPFFS));
    let over: Vec<&str> = mounts.skip_while(|line| !line.starts_with(COVER)).collect();
    over.iter().for_each(|_| drop(ns.run("umount", &[BPFFS])));
    if !over.is_empty() && tools::has_clsact(ns, DEVICE) {
        ns.run("tc", &["qdisc", "del", "dev", DEVICE, "clsact"]);
    }
}

impl Default for Files {
    fn default() -> Self {
        Files::new()
    }
}

/// Whether a command goes on until a signal ends it.
fn is_endless(line: &[String]) -> bool {
    matches!(line[0].as_str(), "run" | "events") || line.iter().any(|word| word == "listen")
}

/// What it is told when it serves: `run` to read its rules anew, and to end.
fn signals(line: &[String]) -> &'static [Signal] {
    match line[0].as_str() {
        "run" => &[Signal::SIGHUP, Signal::SIGTERM],
        _ => &[Signal::SIGTERM],
    }
}

/// Runs `command`, whose program may be a wrapper such as strace, for the line `line`. One that goes on gets its signals when
/// it has confined itself, which is the last that it does before it serves.
pub fn output(ns: &Netns, command: &mut Command, line: &[String]) -> Output {
    if !is_endless(line) {
        return ns.output(command);
    }
    let mut child = ns.within(|| command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < Duration::from_secs(60), "{line:?} does not begin to serve");
        if let Some(pid) = serving(&child) {
            // What it does at once when it serves, it has done.
            for signal in signals(line) {
                std::thread::sleep(Duration::from_millis(300));
                kill(pid, *signal).unwrap();
            }
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}

/// The child, or its child under a wrapper, if it is confined.
fn serving(child: &Child) -> Option<Pid> {
    let under = format!("/proc/{0}/task/{0}/children", child.id());
    let pids = format!("{} {}", child.id(), std::fs::read_to_string(under).unwrap_or_default());
    let confined = |pid: &&str| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("Seccomp:") && line.ends_with('2'))
    };
    let pid = pids.split_whitespace().find(confined)?;
    Some(Pid::from_raw(pid.parse().unwrap()))
}

/// The commands of the program's own tree, those of `plan` and `map` with both words.
pub fn tree() -> Vec<String> {
    fn leaves(command: &clap::Command, path: &str, found: &mut Vec<String>) {
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            let path = format!("{path} {}", sub.get_name());
            match sub.has_subcommands() {
                true => leaves(sub, &path, found),
                false => found.push(path.trim().to_string()),
            }
        }
    }
    let mut found = Vec::new();
    leaves(&::detour::ui::cli::command(), "", &mut found);
    found
}
