// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Bad input: one clear message with what, where and how to mend, the right exit code, nothing left behind.
use e2e::detour::{self, code, Run};
use e2e::lab::Lab;
use e2e::netns::Netns;
use e2e::snapshot::Snapshot;
use e2e::tools::{self, Scratch};
use std::process::Command;

const DEVICE: &str = "eth0";

/// A lab whose machine has to be the same at the end.
fn untouched(scene: impl FnOnce(&Netns)) {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let before = Snapshot::take(&lab.gateway);
    scene(&lab.gateway);
    before.holds(&lab.gateway, "what was refused");
}

#[test]
fn a_device_that_is_not_there() {
    untouched(|ns| {
        for command in ["up", "down", "status", "flows", "asked", "unload"] {
            detour::run(ns, &[command, "eth7"]).refused(code::KERNEL, &["eth7"]);
        }
        detour::run(ns, &["load", "@drop", "eth7"]).refused(code::KERNEL, &["eth7"]);
        detour::run(ns, &["plan", "up", "eth7"]).refused(code::KERNEL, &["eth7"]);
        // Foreign text is escaped before it reaches a terminal.
        let run = detour::run(ns, &["up", "\u{1b}[31m"]);
        assert!(run.code != Some(0) && !run.stderr.contains('\u{1b}'), "{run:?}");
    });
}

#[test]
fn usage() {
    untouched(|ns| {
        for arguments in [
            &["upp", DEVICE][..],
            &["up"],
            &["up", DEVICE, "/no/such/file.rules"],
            &["load", "@nothing", DEVICE],
            &["load", "/no/such/file.o", DEVICE],
            &["load", "@drop", DEVICE, "--name", "a/b"],
            &["load", "@drop", DEVICE, "--ingress", "no_such_program"],
            &["load", "@drop", DEVICE, "--prio", "0"],
            &["load", "@drop", DEVICE, "--prio", "65536"],
            &["load", "@drop", DEVICE, "--set", "nothing=1"],
            &["load", "@dnat", DEVICE, "--set", "cfg.no_such_field=1"],
        ] {
            let run = detour::run(ns, arguments);
            assert!(matches!(run.code, Some(code::USAGE | code::OBJECT)), "{run:?}");
            assert!(run.stdout.is_empty() && !run.stderr.trim().is_empty(), "{run:?}");
        }
    });
}

#[test]
fn rules_point_at_the_fault() {
    untouched(|ns| {
        let scratch = Scratch::new();
        let file = scratch.write("bad.rules", "# fine\ntcp dport 80 redirect\ntcp dport 99999 redirect\n");
        detour::run(ns, &["up", DEVICE, &file]).refused(code::USAGE, &["bad.rules:3:11", "99999", "^"]);
        for rule in [
            "tcp dport",
            "udp redirect to",
            "dnat to 1.2.3.4.5",
            "frobnicate",
            "tcp dport 80 redirect to :0x",
        ] {
            detour::run(ns, &["up", DEVICE, "--rule", rule]).refused(code::USAGE, &["^"]);
        }
        let many: String = (0..1025).map(|n| format!("tcp dport {n} drop\n")).collect();
        let many = scratch.write("many.rules", many);
        detour::run(ns, &["up", DEVICE, &many]).refused(code::USAGE, &["1024"]);
        let binary = scratch.write("binary.rules", [0xff, 0xfe, 0, 1]);
        detour::run(ns, &["up", DEVICE, &binary]).ends(code::USAGE);
        // Errors are JSON where JSON is asked for, and still on stderr.
        let run = detour::run(ns, &["-j", "up", DEVICE, "--rule", "nonsense"]).refused(code::USAGE, &[]);
        let error: serde_json::Value = serde_json::from_str(&run.stderr).expect("JSON on stderr");
        assert!(error.to_string().contains("nonsense"), "{error}");
    });
}

#[test]
fn another_qdisc_in_the_way() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    ns.run("tc", &["qdisc", "add", "dev", DEVICE, "ingress"]);
    let before = Snapshot::take(ns);
    detour::run(ns, &["up", DEVICE]).refused(code::FOREIGN, &["ingress", DEVICE, "tc qdisc del"]);
    detour::run(ns, &["load", "@drop", DEVICE]).refused(code::FOREIGN, &["ingress", DEVICE]);
    before.holds(ns, "an ingress qdisc in the way");
}

/// Its filters would be those of every device that uses the block.
#[test]
fn a_shared_block() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    ns.run("tc", &["qdisc", "add", "dev", DEVICE, "ingress_block", "22", "clsact"]);
    let theirs = ["filter", "add", "block", "22", "prio", "9", "bpf", "da", "bytecode", "1,6 0 0 4294967295"];
    ns.run("tc", &theirs);
    let before = Snapshot::take(ns);
    detour::run(ns, &["up", DEVICE]).refused(code::FOREIGN, &["block 22", DEVICE]);
    detour::run(ns, &["load", "@drop", DEVICE]).refused(code::FOREIGN, &["block 22", DEVICE]);
    before.holds(ns, "a shared block");
    let filters = || ns.run("tc", &["filter", "show", "block", "22"]);
    assert!(filters().contains("pref 9 bpf"), "{}", filters());
}

#[test]
fn another_filter_in_our_place() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    ns.run("tc", &["qdisc", "add", "dev", DEVICE, "clsact"]);
    let bytecode = ["bpf", "da", "bytecode", "1,6 0 0 4294967295"];
    let place =
        ["filter", "add", "dev", DEVICE, "egress", "prio", "100", "handle", "0xd370", "protocol", "all"];
    ns.run("tc", &[&place[..], &bytecode].concat());
    let before = Snapshot::take(ns);
    detour::run(ns, &["up", DEVICE]).refused(code::FOREIGN, &["100", "0xd370", DEVICE]);
    before.holds(ns, "a filter in our place");
}

#[test]
fn a_bpf_file_system_that_is_missing_or_not_to_be_trusted() {
    untouched(|ns| {
        let nothing = "mount -t tmpfs none /sys/fs/bpf; exec \"$0\" \"$@\"";
        let elsewhere = |script: &str, arguments: &[&str]| {
            // In a mount namespace of its own, so that only this run sees it.
            let mut command = Command::new("unshare");
            command.args(["--mount", "sh", "-c", script]).arg(detour::path()).args(arguments);
            Run::of(arguments, &ns.output(&mut command))
        };
        elsewhere(nothing, &["up", DEVICE])
            .refused(code::KERNEL, &["/sys/fs/bpf", "mount -t bpf", "--mount-bpffs"]);
        elsewhere(nothing, &["load", "@drop", DEVICE]).refused(code::KERNEL, &["/sys/fs/bpf"]);
        let run = elsewhere(nothing, &["down", DEVICE]);
        assert!(matches!(run.code, Some(code::NO | code::KERNEL)), "{run:?}");
        // The kernel's own choice, 1777, lets anybody make the folder that ours would be.
        let open = "mount -t bpf bpf /sys/fs/bpf; exec \"$0\" \"$@\"";
        elsewhere(open, &["up", DEVICE]).refused(code::FOREIGN, &["/sys/fs/bpf", "0700"]);
        let strangers =
            "mount -t bpf -o mode=0700 bpf /sys/fs/bpf; chown 65534 /sys/fs/bpf; exec \"$0\" \"$@\"";
        elsewhere(strangers, &["up", DEVICE]).refused(code::FOREIGN, &["/sys/fs/bpf"]);
        let squatter = "mount -t bpf -o mode=0700 bpf /sys/fs/bpf; mkdir /sys/fs/bpf/detour;
                        chown 65534 /sys/fs/bpf/detour; exec \"$0\" \"$@\"";
        elsewhere(squatter, &["up", DEVICE])
            .refused(code::FOREIGN, &["/sys/fs/bpf/detour belongs to user 65534", "chown"]);
        let loose = "mount -t bpf -o mode=0700 bpf /sys/fs/bpf; mkdir /sys/fs/bpf/detour;
                     chmod 0777 /sys/fs/bpf/detour; exec \"$0\" \"$@\"";
        elsewhere(loose, &["up", DEVICE]).refused(
            code::FOREIGN,
            &["/sys/fs/bpf/detour may be written by others (mode 0777)", "chmod -R go-w /sys/fs/bpf/detour"],
        );
        // Asked to, it mounts one; the namespace, and with it everything, ends with this run.
        elsewhere(nothing, &["up", DEVICE, "--mount-bpffs"]).done();
        detour::run(ns, &["down", DEVICE]).ends(code::NO);
        ns.run("tc", &["qdisc", "del", "dev", DEVICE, "clsact"]);
    });
}

#[test]
fn objects_that_are_none() {
    untouched(|ns| {
        let scratch = Scratch::new();
        let good = std::fs::read(tools::project().join("elf/drop.bpf.o")).unwrap();
        let refused = |name: &str, bytes: &[u8], words: &[&str]| {
            let file = scratch.write(name, bytes);
            for command in [&["load", &file, DEVICE][..], &["inspect", &file]] {
                detour::run(ns, command).refused(code::OBJECT, words);
            }
        };
        refused("empty.o", b"", &["empty.o"]);
        refused("text.o", b"this is no ELF\n", &["text.o"]);
        for part in [1, 2, 3] {
            refused("truncated.o", &good[..good.len() * part / 4], &["truncated.o"]);
        }
        let mut other = good.clone();
        other[5] = 2; // EI_DATA: ELFDATA2MSB
        refused("big-endian.o", &other, &["big-endian.o", "endian"]);
        let mut other = good.clone();
        other[4] = 1; // EI_CLASS: ELFCLASS32
        refused("32.o", &other, &["32.o"]);
        let mut other = good.clone();
        other[18] = 62; // e_machine: x86-64
        refused("x86.o", &other, &["x86.o"]);
        let mut other = good;
        let table = symbol_table(&other);
        other[table + 4] = 1; // sh_type: the symbols become program bits
        refused("no-symbols.o", &other, &["no-symbols.o", "symbol"]);
    });
}

/// Offset of the section header of type SHT_SYMTAB in a 64-bit little-endian ELF file.
fn symbol_table(elf: &[u8]) -> usize {
    let u16_at = |at: usize| usize::from(u16::from_le_bytes(elf[at..at + 2].try_into().unwrap()));
    let headers = u64::from_le_bytes(elf[0x28..0x30].try_into().unwrap()) as usize;
    let mut all = (0..u16_at(0x3c)).map(|n| headers + n * u16_at(0x3a));
    all.find(|header| elf[header + 4] == 2).expect("a symbol table")
}

/// Runs the program as root without some capabilities. It is copied to where root without any can read it.
fn with_capabilities(ns: &Netns, set: &str, arguments: &[&str]) -> Run {
    let scratch = Scratch::new();
    detour::copy(&scratch.path("detour"));
    let mut command = Command::new("setpriv");
    command.arg(format!("--bounding-set={set}")).args(["--inh-caps=-all"]);
    command.arg(scratch.path("detour")).args(arguments);
    Run::of(arguments, &ns.output(&mut command))
}

#[test]
fn missing_capabilities_are_named() {
    untouched(|ns| {
        for (set, name) in [
            ("-all", "CAP_"),
            ("-all,+net_admin,+perfmon", "CAP_BPF"),
            ("-all,+bpf,+perfmon", "CAP_NET_ADMIN"),
            ("-all,+bpf,+net_admin", "CAP_PERFMON"),
        ] {
            with_capabilities(ns, set, &["up", DEVICE]).refused(code::PERMISSION, &[name]);
        }
    });
}

#[test]
fn three_capabilities_are_enough() {
    untouched(|ns| {
        with_capabilities(ns, "-all,+bpf,+net_admin,+perfmon", &["up", DEVICE]).done();
        for command in ["status", "flows", "asked", "down"] {
            with_capabilities(ns, "-all,+bpf,+net_admin", &[command, DEVICE]).done();
        }
    });
}
