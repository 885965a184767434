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
