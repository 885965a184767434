// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `doctor`: a good machine is called good, every fault that is planted is found with its fix, and nothing is left behind.
use e2e::detour::{self, code};
use e2e::lab::{self, Lab};
use e2e::netns::Netns;
use e2e::snapshot::Snapshot;
use e2e::tools;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;

const DEVICE: &str = "eth0";

fn finding<'a>(document: &'a Value, check: &str) -> &'a Value {
    let found = document["findings"].as_array().unwrap().iter().find(|one| one["check"] == check);
    found.unwrap_or_else(|| panic!("no {check} in {document}"))
}

#[test]
fn a_machine_that_runs_up_is_ready_and_stays_as_it_was() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let before = Snapshot::take(&lab.gateway);
    let document = detour::json(&lab.gateway, &["doctor", DEVICE]);
    before.holds(&lab.gateway, "doctor");
    assert_eq!(document["ready"], true, "{document}");
    for probe in ["map ringbuf", "helper skc_lookup_tcp", "programs of up", "hook clsact"] {
        let found = finding(&document, probe);
        assert_eq!(found["state"], "ok", "{found}");
        assert!(!found["calls"].as_array().unwrap().is_empty(), "{found}");
    }
    // Who could check signatures of programs: what the kernel answers to one that is none.
    let trace = ["-e", "trace=bpf", "-X", "raw", detour::path().to_str().unwrap(), "doctor"];
    let output = lab.gateway.output(std::process::Command::new("strace").args(trace));
    let trace = String::from_utf8_lossy(&output.stderr);
    let config = std::process::Command::new("zcat").arg("/proc/config.gz").output().unwrap().stdout;
    let config = String::from_utf8_lossy(&config).into_owned();
    let said = finding(&document, "signatures by the kernel")["finding"].as_str().unwrap().to_owned();
    let (answer, words) = match config.contains("\nCONFIG_SYSTEM_DATA_VERIFICATION=y\n") {
        _ if !trace.contains("= -1 EOPNOTSUPP") && trace.contains("= -1 E2BIG") => ("E2BIG", "knows none"),
        true => ("EBADMSG", "could check some"),
        false => ("EOPNOTSUPP", "CONFIG_SYSTEM_DATA_VERIFICATION"),
    };
    assert!(trace.contains(answer) && said.contains(words), "{said}\n{trace}");
    assert!(said.contains("checked by detour itself, not by the kernel"), "{said}");
    detour::run(&lab.gateway, &["up", DEVICE]).done();
}

#[test]
fn every_planted_fault_is_found_and_its_fix_mends_it() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    let note = |check: &str, words: &[&str]| {
        let document = detour::json(ns, &["doctor", DEVICE]);
        let found = finding(&document, check);
        assert_eq!(found["state"], "note", "{found}");
        assert!(words.iter().all(|word| found["finding"].as_str().unwrap().contains(word)), "{found}");
        found["fix"].as_str().unwrap().to_owned()
    };
    let good = |check: &str| {
        let document = detour::json(ns, &["doctor", DEVICE]);
        assert_eq!(finding(&document, check)["state"], "ok", "{document}");
    };
    for (name, value, check, word) in [
        ("net/ipv4/ip_forward", "1", "ip_forward", "forwarded"),
        ("net/ipv6/conf/all/forwarding", "1", "ipv6 forwarding", "IPv6"),
        ("net/ipv4/conf/eth0/rp_filter", "1", "rp_filter", "strict"),
    ] {
        good(check);
        ns.sysctl(name, value);
        let fix = note(check, &[word]);
        // The first command of the fix, done as it stands.
        ns.run("sh", &["-c", fix.split(',').next().unwrap()]);
        good(check);
    }
    good("before us at ingress");
    ns.run("tc", &["qdisc", "add", "dev", DEVICE, "clsact"]);
    tools::foreign_filter(ns, DEVICE, "egress", 300);
    good("before us at egress");
    tools::foreign_filter(ns, DEVICE, "ingress", 50);
    note("before us at ingress", &["bpf prio 50"]);

    good("other NAT");
    ns.run("nft", &["add table ip t; add chain ip t pre { type nat hook prerouting priority -100; }"]);
    ns.run("nft", &["add chain ip t post { type nat hook postrouting priority 100; }"]);
    note("other NAT", &["t pre"]);
    ns.run("nft", &["flush ruleset"]);
    good("other NAT");

    good("master");
    lab::ip(ns, "link add br0 type bridge\n link set eth0 master br0");
    note("master", &["port of device"]);
    lab::ip(ns, "link set eth0 nomaster");

    assert!(finding(&detour::json(ns, &["doctor", DEVICE]), "checksum offload")["finding"]
        .as_str()
        .unwrap()
        .starts_with("on"));
    ns.run("ethtool", &["-K", DEVICE, "tx", "off"]);
    assert!(finding(&detour::json(ns, &["doctor", DEVICE]), "checksum offload")["finding"]
        .as_str()
        .unwrap()
        .starts_with("off"));

    let whole = || {
        let document = detour::json(ns, &["doctor", DEVICE]);
        document["findings"].as_array().unwrap().iter().all(|one| one["check"] != "instance")
    };
    detour::up(ns, DEVICE, &[]);
    assert!(whole());
    ns.run("tc", &["filter", "del", "dev", DEVICE, "egress", "pref", "100"]);
    let fix = note("instance", &["'up' is not as it was made: 'detour status eth0' says what is missing"]);
    assert!(fix.starts_with("the same 'up'"), "{fix}");
    assert!(detour::run(ns, &["status", DEVICE]).ends(code::NO).stdout.contains("NOT IN PLACE"));
    detour::up(ns, DEVICE, &[]);
    assert!(whole());
}

#[test]
fn what_up_needs_and_is_missing_is_an_exit_code() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    let scratch = tools::Scratch::new();
    let copy = scratch.path("detour");
    detour::copy(&copy);
    for path in [&copy, copy.parent().unwrap()] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let nobody = ["--reuid", "65534", "--clear-groups", copy.to_str().unwrap(), "doctor", DEVICE, "-j"];
    let output = ns.output(std::process::Command::new("setpriv").args(nobody));
    let run = detour::Run::of(&nobody, &output).ends(code::NO);
    let document = run.json();
    assert_eq!(document["ready"], false);
    for check in ["CAP_BPF", "CAP_NET_ADMIN", "bpffs", "map hash", "programs of up"] {
        let found = finding(&document, check);
        assert_eq!(found["state"], "bad", "{found}");
        assert!(!found["fix"].is_null(), "{found}");
    }
    let text = detour::run(ns, &["doctor", "--verbose"]).done().stdout;
    assert!(text.contains("MAP_CREATE map_type=27") && text.contains("RTM_NEWTFILTER"), "{text}");
    detour::run(ns, &["doctor", "none"]).refused(code::KERNEL, &["none"]);
}

/// What a check says when `prepare` was done in a mount namespace of the test's own: state, finding, fix.
fn after(ns: &Netns, prepare: &str, check: &str) -> (String, String, String) {
    let program = detour::path().display();
    let script = format!("set -e\n{prepare}\nexec {program} doctor {DEVICE} -j");
    let output = ns.output(std::process::Command::new("unshare").args(["-m", "sh", "-c", &script]));
    let document = serde_json::from_slice::<Value>(&output.stdout);
    let document = document.unwrap_or_else(|_| panic!("{prepare}: {output:?}"));
    let found = finding(&document, check);
    let bad = document["findings"].as_array().unwrap().iter().any(|one| one["state"] == "bad");
    assert_eq!((document["ready"] == false, output.status.code()), (bad, Some(i32::from(bad))), "{prepare}");
    let text = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
    (text("state"), text("finding"), text("fix"))
}

/// Files of /proc and /sys that say something else to whoever runs behind the mount.
fn says(aside: &str, file: &str, text: &str) -> String {
    let (folder, name) = file.rsplit_once('/').unwrap();
    // What a namespace does not have is put there beside what it has; else the file itself is covered.
    match std::path::Path::new(file).exists() && folder != "/proc/sys/net/core" {
        true => format!("t=$(mktemp -p {aside}); echo '{text}' >$t; mount --bind $t {file}"),
        false => format!("mount -t tmpfs none {folder}; echo '{text}' >{folder}/{name}"),
    }
}

#[test]
fn what_is_wrong_with_the_machine_is_found_and_mended() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    let before = detour::json(ns, &["doctor", DEVICE]);
    let scratch = tools::Scratch::new();
    let aside = scratch.path("").display().to_string();
    let says = |file: &str, text: &str| says(&aside, file, text);
    let release = "/proc/sys/kernel/osrelease";
    let security = "/sys/kernel/security/lockdown";
    for (check, prepare, state, words, fix, mends) in [
        ("kernel", says(release, "5.4.0-1-amd64"), "bad", "5.4.0-1-amd64 is older than 5.10", "newer", false),
        (
            "memlock",
            format!("{}; ulimit -l 64", says(release, "5.10.0-1")),
            "note",
            "65536 bytes",
            "LimitMEMLOCK=infinity",
            false,
        ),
        (
            "lockdown",
            says(security, "none integrity [confidentiality]"),
            "note",
            "confidentiality",
            "lockdown=integrity",
            false,
        ),
        (
            "unprivileged_bpf_disabled",
            says("/proc/sys/kernel/unprivileged_bpf_disabled", "0"),
            "note",
            "any user",
            "sysctl",
            true,
        ),
        (
            "bpf_jit_enable",
            says("/proc/sys/net/core/bpf_jit_enable", "0"),
            "note",
            "interpreted",
            "sysctl",
            true,
        ),
        (
            "bpf_stats_enabled",
            says("/proc/sys/kernel/bpf_stats_enabled", "1"),
            "note",
            "40 ns",
            "sysctl",
            true,
        ),
        (
            "bpffs",
            "mount -t tmpfs none /sys/fs/bpf".into(),
            "bad",
            "no BPF file system",
            "mount -t bpf",
            true,
        ),
        (
            "bpffs",
            "mount -t bpf -o mode=1777 bpf /sys/fs/bpf".into(),
            "bad",
            "by others (mode 1777)",
            "chmod 0700",
            true,
        ),
        ("CAP_BPF", "C=-bpf".into(), "bad", "missing: no map", "root", false),
        ("CAP_NET_ADMIN", "C=-net_admin".into(), "bad", "missing: nothing can be attached", "root", false),
        ("CAP_PERFMON", "C=-perfmon".into(), "bad", "missing: the verifier", "root", false),
        ("CAP_SYS_ADMIN", "C=-sys_admin".into(), "note", "missing: -n, demo", "root", false),
    ] {
        // A capability is left out of what the program itself may get.
        let prepare = match prepare.strip_prefix("C=") {
            Some(without) => format!("set -- setpriv --bounding-set {without} --inh-caps=-all"),
            None => prepare,
        };
        let run = |more: &str| match prepare.strip_prefix("set -- ") {
            Some(wrapper) => {
                let line = format!("exec {wrapper} {} doctor {DEVICE} -j\n", detour::path().display());
                after(ns, &line, check)
            }
            None => after(ns, &format!("{prepare}\n{more}"), check),
        };
        let found = run("");
        assert!(found.0 == state && found.1.contains(words) && found.2.contains(fix), "{check}: {found:?}");
        // A variable of the machine may be anything; its fix is tried.
        assert!(mends || finding(&before, check)["state"] == "ok", "{check} without it");
        if mends {
            // The first command of the fix, or the first two, as they stand.
            let command = found.2.split(", or").next().unwrap();
            assert_eq!(run(&format!("({command}) >/dev/null")).0, "ok", "{check}: {command}");
        }
    }
    let (state, said, _) = after(ns, &says("/sys/kernel/security/lsm", "capability,bpf"), "security modules");
    assert_eq!((state.as_str(), said.as_str()), ("ok", "capability,bpf"));
}

#[test]
fn what_is_wrong_with_the_device_is_found() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    let found = |check: &str| {
        let document = detour::json(ns, &["doctor", DEVICE]);
        let one = finding(&document, check).clone();
        let text = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
        (text("state"), text("finding"), text("fix"))
    };
    let ok = |check: &str| assert_eq!(found(check).0, "ok", "{check}");
    let note = |check: &str, words: &str, fix: &str| {
        let (state, finding, mends) = found(check);
        assert!(state == "note" && finding.contains(words) && mends.contains(fix), "{finding}: {mends}");
        mends
    };
    // Packets reach a tcx program and an XDP program first.
    ok("before us at ingress");
    detour::run(ns, &["load", "@trace", DEVICE, "--tcx"]).done();
    note("before us at ingress", "tcx ", "detour list eth0");
    detour::run(ns, &["unload", DEVICE]).done();
    ok("before us at ingress");
    ok("xdp");
    let scratch = tools::Scratch::new();
    let source =
        scratch.write("first.c", "__attribute__((section(\"xdp\"))) int first(void *c) { return 2; }\n");
    let object = scratch.path("first.o").display().to_string();
    ns.run("clang-19", &["-target", "bpf", "-O2", "-g", "-c", &source, "-o", &object]);
    ns.run("bpftool", &["prog", "load", &object, "/sys/fs/bpf/first", "type", "xdp"]);
    ns.run("bpftool", &["net", "attach", "xdpgeneric", "pinned", "/sys/fs/bpf/first", "dev", DEVICE]);
    let id = tools::json(ns, "bpftool", &["-j", "prog", "show", "pinned", "/sys/fs/bpf/first"])["id"].clone();
    let fix = note("xdp", &format!("program {id} "), "xdp off");
    ns.run("sh", &["-c", &fix.rsplit(": ").next().unwrap().replace("xdp off", "xdpgeneric off")]);
    ok("xdp");
    // The tables of the older iptables.
    ok("other NAT");
    ns.run("iptables-legacy", &["-t", "nat", "-S"]);
    note("other NAT", "iptables nat PREROUTING", "iptables -t nat -L");
    // A target on the loopback network, which the kernel drops from other devices.
    assert!(found("route_localnet").1.starts_with("off"));
    detour::run(ns, &["up", DEVICE, "--rule", "tcp dport 80 dnat to 127.0.0.1:8080"]).done();
    let fix = note("rules in force", "127.0.0.1", "route_localnet");
    ns.sysctl("net/ipv4/conf/eth0/route_localnet", "1");
    assert!(found("route_localnet").1.starts_with("on"), "{fix}");
    ok("rules in force");
    detour::run(ns, &["down", DEVICE]).done();
    // Neither address nor carrier.
    ok("address");
    lab::ip(ns, "addr flush dev eth0");
    note("address", "none of IPv4", "ip address add ADDRESS/LENGTH dev eth0");
    ok("link");
    lab::ip(ns, "link set eth0 down");
    let fix = note("link", "switched off", "ip link set eth0 up");
    ns.run("sh", &["-c", &fix]);
    ok("link");
}
