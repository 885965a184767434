// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Every command with exactly the capabilities that it needs, and with each of them missing: what fails names it.
use e2e::detour::{self, code, Run};
use e2e::lab::Lab;
use e2e::netns::Netns;
use e2e::talk;
use e2e::tools::Scratch;
use std::process::Command;

const DEVICE: &str = "eth0";

/// Runs the program as root with these capabilities and no others, from a copy that root without any can read.
fn with(ns: &Netns, capabilities: &[&str], line: &[&str]) -> Run {
    let scratch = Scratch::new();
    std::fs::copy(detour::path(), scratch.path("detour")).unwrap();
    let set: String = capabilities.iter().map(|name| format!(",+{name}")).collect();
    let mut command = Command::new("setpriv");
    command.arg(format!("--bounding-set=-all{set}")).args(["--inh-caps=-all", "--no-new-privs"]);
    command.arg(scratch.path("detour")).args(line);
    Run::of(line, &ns.output(&mut command))
}

const LOADS: &[&str] = &["bpf", "net_admin", "perfmon"];
const CHANGES: &[&str] = &["bpf", "net_admin"];
const READS: &[&str] = &["bpf"];

/// From Linux 5.19 on only creating needs CAP_BPF: `sysctl_unprivileged_bpf_disabled` in kernel/bpf/syscall.c lets a map
/// be used by whoever could open its pin, which belongs to root.
fn on_this_kernel(needs: &'static [&'static str]) -> Vec<&'static str> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|n| n.parse::<u32>().unwrap_or(0));
    let new = (numbers.next(), numbers.next()) >= (Some(5), Some(19));
    needs.iter().copied().filter(|name| !new || *name != "bpf" || needs == LOADS).collect()
}

/// Each command, before it what makes it possible, and what it needs.
const COMMANDS: [(&[&str], &[&str], &[&str]); 18] = [
    (&[], &["up", DEVICE], LOADS),
    (&[], &["load", "@trace", DEVICE], LOADS),
    (&["load", "@trace", DEVICE], &["load", "@trace", DEVICE, "--replace"], LOADS),
    (&[], &["load", "@trace", DEVICE, "--tcx"], LOADS),
    (&["load", "@trace", DEVICE], &["unload", DEVICE], CHANGES),
    (&["up", DEVICE], &["up", DEVICE, "--rule", "drop"], READS),
    (&["up", DEVICE], &["map", "set", DEVICE, "up", "local4", "hex:01020304", "hex:01000000"], READS),
    (&["up", DEVICE], &["down", DEVICE], CHANGES),
    (&["up", DEVICE], &["flush", DEVICE], LOADS),
    (&["up", DEVICE], &["orig", "icmp", "192.168.178.51:7", "192.168.178.2"], READS),
    (&["up", DEVICE], &["status", DEVICE], READS),
    (&["up", DEVICE], &["flows", DEVICE], READS),
    (&["up", DEVICE], &["asked", DEVICE], READS),
    (&["up", DEVICE], &["rules", DEVICE], READS),
    (&["up", DEVICE], &["map", "dump", DEVICE, "up", "reasons"], READS),
    (&["up", DEVICE], &["plan", "down", DEVICE], READS),
    (&[], &["plan", "up", DEVICE], &[]),
    (&[], &["verify"], &[]),
];

#[test]
fn each_command_with_what_it_needs_and_without() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    let mut wrong = Vec::new();
    let mut tried = 0;
    for (before, line, most) in COMMANDS {
        let needs = on_this_kernel(most);
        let prepare = || {
            if !before.is_empty() {
                detour::run(ns, before).done();
                // So that there is a flow.
                let heard = (before[0] == "up").then(|| talk::ping(&lab.client, 7, [1, 2, 3, 4].into()));
                assert!(heard.as_ref().is_none_or(Result::is_ok), "{heard:?}");
            }
        };
        let clear = || {
            for rest in [&["down", DEVICE][..], &["unload", DEVICE]] {
                detour::run(ns, rest);
            }
        };
        for given in [&needs[..], most] {
            prepare();
            let run = with(ns, given, line);
            if run.code != Some(code::DONE) {
                wrong.push(format!("with {given:?} it is not done: {run:?}"));
            }
            clear();
        }
        for missing in &needs {
            let rest: Vec<&str> = needs.iter().filter(|name| *name != missing).copied().collect();
            prepare();
            let run = with(ns, &rest, line);
            let name = format!("CAP_{}", missing.to_uppercase());
            if run.code != Some(code::PERMISSION) || !run.stderr.contains(&name) {
                wrong.push(format!("without {name}: {run:?}"));
            }
            clear();
            tried += 1;
        }
    }
    assert!(tried >= 14, "{tried}");
    assert!(wrong.is_empty(), "{} of {tried}:\n{}", wrong.len(), wrong.join("\n"));
}

/// With /sys read-only around it, as services see it, nothing changes; with a read-only BPF file system it is said.
#[test]
fn a_read_only_sys() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    let inside = |script: &str, line: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-ec", script]).arg(detour::path()).args(line);
        Run::of(line, &ns.output(&mut command))
    };
    let sys = "mount --bind /sys/fs/bpf /mnt; mount -o remount,ro,bind /sys; umount /mnt; exec \"$0\" \"$@\"";
    for line in [&["up", DEVICE][..], &["status", DEVICE], &["down", DEVICE]] {
        inside(sys, line).done();
    }
    let bpffs = "mount -o remount,ro,bind /sys/fs/bpf; exec \"$0\" \"$@\"";
    inside(bpffs, &["up", DEVICE]).refused(code::KERNEL, &["/sys/fs/bpf", "Read-only"]);
}
