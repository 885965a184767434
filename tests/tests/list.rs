// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `list DEV` beside `tc`, `bpftool` and somebody else's tcx program: all that runs, in order, and whose it is.
use e2e::detour;
use e2e::lab::{Lab, GATEWAY};
use e2e::netns::Netns;
use e2e::{talk, tools};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

const DEVICE: &str = "eth0";

/// A gateway with clsact, a filter of somebody else's before and after ours, and tcx before all of them.
fn busy() -> Lab {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    ns.run("tc", &["qdisc", "add", "dev", DEVICE, "clsact"]);
    for prio in [50, 300] {
        tools::foreign_filter(ns, DEVICE, "ingress", prio);
    }
    detour::run(ns, &["load", "@trace", DEVICE]).done();
    detour::run(ns, &["load", "@trace", DEVICE, "--name", "later"]).done();
    for hook in tools::HOOKS {
        tools::foreign_tcx(ns, DEVICE, hook, &format!("/sys/fs/bpf/tcx_{hook}"));
    }
    lab
}

#[test]
fn everything_is_there_in_the_order_in_which_it_runs() {
    let lab = busy();
    let ns = &lab.gateway;
    let document = detour::json(ns, &["list", DEVICE]);
    let rows = document["programs"].as_array().unwrap();
    let brief: Vec<(&str, &str, Option<u64>, &str)> = rows
        .iter()
        .map(|row| {
            let owner = row["owner"].as_str().unwrap_or(if row["foreign"] == true { "foreign" } else { "?" });
            (row["hook"].as_str().unwrap(), row["kind"].as_str().unwrap(), row["prio"].as_u64(), owner)
        })
        .collect();
    let expect = [
        ("ingress", "tcx", None, "foreign"),
        ("ingress", "bpf", Some(50), "foreign"),
        ("ingress", "bpf", Some(200), "later"),
        ("ingress", "bpf", Some(200), "trace"),
        ("ingress", "bpf", Some(300), "foreign"),
        ("egress", "tcx", None, "foreign"),
    ];
    assert_eq!(brief, expect);
    assert_eq!(document["unseen"], Value::Array(Vec::new()));
    // tc sees the same filters in the same order, bpftool the same programs.
    let filters: Vec<&Value> = rows.iter().filter(|r| r["hook"] == "ingress" && r["kind"] == "bpf").collect();
    let by_tc = tools::filters(ns, DEVICE, "ingress");
    assert_eq!(filters.len(), by_tc.len());
    for (ours, theirs) in filters.iter().zip(&by_tc) {
        assert_eq!(ours["prio"], theirs["pref"]);
        assert_eq!(ours["id"], theirs["options"]["prog"]["id"]);
        assert_eq!(ours["tag"], theirs["options"]["prog"]["tag"]);
    }
    for row in rows.iter().filter(|row| !row["id"].is_null()) {
        let program = tools::program(ns, row["id"].as_u64().unwrap());
        assert_eq!((&row["tag"], &row["program_name"]), (&program["tag"], &program["name"]));
    }
    let text = detour::run(ns, &["list", DEVICE]).done().stdout;
    assert_eq!(text.lines().count(), 1 + expect.len() + 2, "a head, rows, two revisions: {text}");
    assert!(text.contains("detour later") && text.contains("foreign"), "{text}");
}

#[test]
fn runs_are_counted_as_bpftool_counts_them() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let scratch = tools::Scratch::new();
    let (source, program) = (tools::project().join("tests/fixtures/stats.c"), scratch.path("stats"));
    let words = ["-Wall", "-Werror", "-o", program.to_str().unwrap(), source.to_str().unwrap()];
    ns.run("cc", &words);
    detour::run(ns, &["load", "@trace", DEVICE]).done();
    let row = || detour::json(ns, &["list", DEVICE])["programs"][0].clone();
    assert!(row()["run_count"].is_null(), "nobody counts yet");
    let mut counting = Command::new(&program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(counting.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "on\n");
    for n in 1..=3 {
        talk::ping(&lab.client, n, GATEWAY).unwrap();
    }
    ns.run("ip", &["link", "set", DEVICE, "down"]);
    let row = row();
    let theirs = tools::program(ns, row["id"].as_u64().unwrap());
    assert!(row["run_count"].as_u64() >= Some(3), "{row}");
    assert_eq!((&row["run_count"], &row["run_time_ns"]), (&theirs["run_cnt"], &theirs["run_time_ns"]));
    drop(counting.stdin.take());
    assert!(counting.wait().unwrap().success());
}

#[test]
fn without_privilege_the_filters_are_there_and_what_is_not_is_said() {
    let lab = busy();
    let scratch = tools::Scratch::new();
    let copy = scratch.path("detour");
    detour::copy(&copy);
    for path in [&copy, copy.parent().unwrap()] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let nobody = ["--reuid", "65534", "--clear-groups", copy.to_str().unwrap(), "list", DEVICE, "-j"];
    let document: Value = serde_json::from_str(&lab.gateway.run("setpriv", &nobody)).unwrap();
    let rows = document["programs"].as_array().unwrap();
    assert_eq!(rows.len(), 4, "{document}");
    assert!(rows.iter().all(|row| row["foreign"].is_null() && row["owner"].is_null()), "{document}");
    assert!(rows[1]["filter_name"].as_str().unwrap().contains("later"), "{document}");
    assert_eq!(document["unseen"].as_array().unwrap().len(), 3, "{document}");
}

#[test]
fn an_ingress_qdisc_has_no_egress() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let empty = detour::json(ns, &["list", DEVICE]);
    assert_eq!(empty["programs"], Value::Array(Vec::new()));
    ns.run("tc", &["qdisc", "add", "dev", DEVICE, "ingress"]);
    tools::foreign_filter(ns, DEVICE, "ingress", 1);
    let document = detour::json(ns, &["list", DEVICE]);
    assert_eq!(document["programs"].as_array().unwrap().len(), 1, "{document}");
    detour::run(ns, &["list", "none"]).refused(detour::code::KERNEL, &["none"]);
}
