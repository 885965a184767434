// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `load --tcx`: links in the order asked for, beside foreign ones, gone without a trace after `unload`.
use e2e::detour::{self, code};
use e2e::lab::{Lab, CLIENT, GATEWAY};
use e2e::netns::Netns;
use e2e::snapshot::Snapshot;
use e2e::{talk, tools};

const DEVICE: &str = "eth0";

/// Loads the tracing program as the instance `name`.
fn load(ns: &Netns, name: &str, rest: &[&str]) -> detour::Run {
    detour::run(ns, &[&["load", "@trace", DEVICE, "--tcx", "--name", name], rest].concat())
}

/// Owners and program ids at ingress, in order; "foreign" for others.
fn order(ns: &Netns) -> Vec<(String, u64)> {
    let document = detour::json(ns, &["list", DEVICE]);
    let rows = document["programs"].as_array().unwrap().iter();
    let ingress = rows.filter(|row| row["kind"] == "tcx" && row["hook"] == "ingress");
    let one = |row: &serde_json::Value| {
        (row["owner"].as_str().unwrap_or("foreign").to_string(), row["id"].as_u64().unwrap())
    };
    ingress.map(one).collect()
}

fn names(ns: &Netns) -> Vec<String> {
    order(ns).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn anchors_decide_the_order_and_unload_takes_ours_only() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    tools::foreign_tcx(ns, DEVICE, "ingress", "/sys/fs/bpf/tcx_foreign");
    let before = Snapshot::take(ns);
    let id = order(ns)[0].1.to_string();
    load(ns, "last", &[]).done();
    load(ns, "first", &["--first"]).done();
    load(ns, "mid", &["--before", "last"]).done();
    load(ns, "near", &["--after", &id]).done();
    assert_eq!(names(ns), ["first", "foreign", "near", "mid", "last"]);
    load(ns, "end", &["--last"]).done();
    assert_eq!(names(ns).last().map(String::as_str), Some("end"));
    assert!(!tools::has_clsact(ns, DEVICE), "tcx needs no qdisc");
    let status = detour::run(ns, &["status", DEVICE]).done().stdout;
    assert!(status.contains("tcx ingress") && !status.contains("NOT IN PLACE"), "{status}");
    for name in ["mid", "first", "end", "near", "last"] {
        detour::run(ns, &["unload", DEVICE, name]).done();
        assert!(!names(ns).contains(&name.to_string()));
    }
    // The kernel lets a link go some milliseconds after its last pin (bpf_free_inode() comes after a grace period of RCU).
    let start = std::time::Instant::now();
    while names(ns) != ["foreign"] {
        assert!(start.elapsed() < std::time::Duration::from_secs(20), "{:?}", names(ns));
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    before.holds(ns, "five links");
}

#[test]
fn what_is_refused_leaves_nothing() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    load(ns, "there", &[]).done();
    let revision = detour::json(ns, &["list", DEVICE])["tcx_revisions"]["ingress"].as_u64().unwrap();
    let before = Snapshot::take(ns);
    load(ns, "x", &["--revision", &(revision + 1).to_string()]).refused(code::KERNEL, &["revision"]);
    load(ns, "x", &["--after", "4294967295"]).refused(code::KERNEL, &["--after"]);
    load(ns, "x", &["--before", "nobody"]).refused(code::USAGE, &["nobody"]);
    load(ns, "x", &["--before", "there", "--last"]).refused(code::USAGE, &["--last"]);
    load(ns, "x", &["--prio", "7"]).refused(code::USAGE, &["--prio"]);
    load(ns, "there", &[]).refused(code::FOREIGN, &["there"]);
    before.holds(ns, "six refusals");
    load(ns, "x", &["--revision", &revision.to_string()]).done();
    assert_eq!(names(ns), ["there", "x"]);
}

#[test]
fn a_verdict_counts_and_filters_live_beside() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let answered = || talk::ping(&lab.client, 7, GATEWAY).is_ok();
    assert!(answered(), "{CLIENT} reaches the gateway");
    let before = Snapshot::take(ns);
    detour::run(ns, &["load", "@trace", DEVICE]).done();
    detour::run(ns, &["load", "@drop", DEVICE, "--tcx"]).done();
    assert!(!answered(), "tcx drops before the filter runs");
    detour::run(ns, &["unload", DEVICE, "drop"]).done();
    assert!(answered());
    detour::run(ns, &["unload", DEVICE]).done();
    before.holds(ns, "a filter and a link");
}

#[test]
fn both_hooks_and_the_plan() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let both = ["load", "@trace", DEVICE, "--tcx", "--ingress", "trace", "--egress", "trace"];
    let plan = detour::json(ns, &[&["plan"], &both[..]].concat());
    let steps = plan["steps"].as_array().unwrap();
    let links: Vec<_> = steps.iter().filter(|s| s["command"] == "LINK_CREATE").collect();
    assert_eq!(
        links.iter().map(|s| s["args"]["attach_type"].as_u64().unwrap()).collect::<Vec<_>>(),
        [47, 46]
    );
    let before = Snapshot::take(ns);
    detour::run(ns, &both).done();
    let rows = detour::json(ns, &["list", DEVICE]);
    let hooks: Vec<&str> =
        rows["programs"].as_array().unwrap().iter().map(|row| row["hook"].as_str().unwrap()).collect();
    assert_eq!(hooks, ["ingress", "egress"]);
    detour::run(ns, &["unload", DEVICE]).done();
    before.holds(ns, "both hooks");
}
