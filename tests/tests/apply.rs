// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `apply`: a reviewed plan is done to the byte, or not at all.
use e2e::cgroup::Cgroup;
use e2e::detour::{self, code};
use e2e::lab::{ip, Lab};
use e2e::netns::Netns;
use e2e::serve::Server;
use e2e::snapshot::Snapshot;
use e2e::talk;
use e2e::tools::{self, Scratch};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;

const DEVICE: &str = "eth0";

/// Plans `line`, reviews nothing, applies it; the same plan a second time ends as `again`.
fn applied(ns: &Netns, scratch: &Scratch, line: &[&str], again: i32) {
    let plan = detour::json(ns, &[&["plan"], line].concat());
    let file = scratch.write("plan", plan.to_string());
    let run = detour::run(ns, &["apply", &file]).done();
    let steps = plan["steps"].as_array().unwrap().len();
    assert!(run.stdout.contains(&format!("({steps} steps, as reviewed)")), "{}", run.stdout);
    detour::run(ns, &["apply", &file]).ends(again);
}

#[test]
fn a_reviewed_plan_is_applied() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let before = Snapshot::take(ns);
    let scratch = Scratch::new();
    let rules = scratch.write("a.rules", "tcp dport 80 redirect to :8080\n");
    let applied = |line: &[&str], again| applied(ns, &scratch, line, again);
    applied(&["up", DEVICE, &rules, "--rule", "drop"], code::NO);
    let status = detour::json(ns, &["status", DEVICE]);
    assert_eq!(status["instances"][0]["dnat"]["rules"].as_array().unwrap().len(), 2);
    applied(&["map", "set", DEVICE, "up", "local4", "hex:01020304", "hex:01000000"], code::DONE);
    // A replacement is of the programs that were seen: the facts name them, and now others run.
    applied(&["up", DEVICE, "--flows-max", "1000", "--fresh"], code::NO);
    let status = detour::json(ns, &["status", DEVICE]);
    assert_eq!(status["instances"][0]["dnat"]["flows"]["ipv4"]["confirmed"]["most"], 1000, "{status}");
    applied(&["load", "@drop", DEVICE, "--prio", "7"], code::FOREIGN);
    applied(&["unload", DEVICE, "drop"], code::NO);
    applied(&["load", "@trace", DEVICE, "--tcx"], code::FOREIGN);
    applied(&["load", "@trace", DEVICE, "--tcx", "--replace"], code::NO);
    applied(&["unload", DEVICE, "trace"], code::NO);
    applied(&["down", DEVICE], code::NO);
    let cgroup = Cgroup::empty();
    applied(&["up", DEVICE, &format!("--original-dst={}", cgroup.path())], code::NO);
    applied(&["down", DEVICE], code::NO);
    before.holds(ns, "plans that were applied");
}

/// Which flows end is part of the plan: those that were there, and no others.
#[test]
fn flows_end_as_reviewed() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    let scratch = Scratch::new();
    detour::up(ns, DEVICE, &["--rule", "redirect"]);
    let _server = Server::echo(ns, SocketAddr::from(([0; 4], 80)));
    let connect = |to: [u8; 4]| talk::dial(&lab.client, 0, SocketAddr::from((to, 80))).unwrap();
    let flows = || detour::json(ns, &["flows", DEVICE])["flows"].as_array().unwrap().len();
    let _one = connect([1, 2, 3, 4]);
    let plan = detour::json(ns, &["plan", "flush", DEVICE]);
    let file = scratch.write("plan", plan.to_string());
    let _two = connect([1, 2, 3, 5]);
    detour::run(ns, &["apply", &file]).refused(code::NO, &["differs"]);
    assert_eq!(flows(), 2);
    applied(ns, &scratch, &["flush", DEVICE, "ip daddr 1.2.3.4"], code::NO);
    assert_eq!(flows(), 1);
    applied(ns, &scratch, &["up", DEVICE, "--rule", "tcp drop", "--flush", ""], code::NO);
    assert_eq!(flows(), 0);
}

/// The paths in a plan are whole, so it means the same wherever it is applied.
#[test]
fn a_plan_is_applied_in_another_folder() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    let scratch = Scratch::new();
    std::fs::copy(tools::project().join("elf/dnat.bpf.o"), scratch.path("dnat.bpf.o")).unwrap();
    let pins = tools::project().join("elf/fixtures/pins.bpf.o").display().to_string();
    scratch.write("a.rules", "tcp dport 80 redirect to :8080\n");
    scratch.write("a.policy", "maps max 100\n");
    ns.within(|| std::fs::create_dir("/sys/fs/bpf/shared").unwrap());
    let plan = |folder: &Path, line: &[&str]| {
        let command = [&["plan"], line, &["-j"]].concat();
        let output = ns.output(detour::command(&command).current_dir(folder));
        assert!(output.status.success(), "{line:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let root = Path::new("/");
    for (folder, line) in [
        (
            scratch.path(""),
            &["up", DEVICE, "a.rules", "--object", "dnat.bpf.o", "--policy", "./a.policy"][..],
        ),
        ("/sys/fs/bpf".into(), &["load", &pins, DEVICE, "--pin-dir", "shared"]),
        ("/sys/fs/bpf".into(), &["unload", DEVICE, "pins"]),
        ("/sys/fs/bpf".into(), &["load", "@trace", DEVICE]),
    ] {
        let document = plan(&folder, line);
        let file = scratch.write("plan", &document);
        let output = ns.output(detour::command(&["apply", &file]).current_dir(root));
        assert!(output.status.success(), "{line:?}: {}", String::from_utf8_lossy(&output.stderr));
        let document: Value = serde_json::from_str(&document).unwrap();
        for step in document["steps"].as_array().unwrap() {
            let paths = ["path", "from", "to"].map(|name| &step[name]);
            for path in paths.into_iter().chain([&step["args"]["pathname"]]).filter_map(Value::as_str) {
                assert!(path.starts_with('/'), "{line:?}: {path}");
            }
        }
    }
    // One that somebody wrote by hand, and that would depend on the folder.
    let relative = detour::json(ns, &["plan", "up", DEVICE, "--rule", "drop"]);
    let mut relative = relative.clone();
    relative["command"] = serde_json::json!(["up", DEVICE, "a.rules"]);
    let file = scratch.write("plan", relative.to_string());
    detour::run(ns, &["apply", &file]).refused(code::USAGE, &["not written as 'plan' writes it"]);
}

#[test]
fn what_was_not_reviewed_is_not_applied() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let before = Snapshot::take(ns);
    let scratch = Scratch::new();
    let rules = scratch.write("a.rules", "tcp dport 80 redirect to :8080\n");
    let plan = detour::json(ns, &["plan", "up", DEVICE, &rules]);
    let refused = |change: &dyn Fn(&mut Value), code: i32, words: &[&str]| {
        let mut plan = plan.clone();
        change(&mut plan);
        let file = scratch.write("plan", plan.to_string());
        detour::run(ns, &["apply", &file]).refused(code, words);
        before.holds(ns, "a plan that was refused");
    };
    let same = |_: &mut Value| {};
    std::fs::write(&rules, "tcp dport 81 redirect to :8080\n").unwrap();
    refused(&same, code::NO, &["differs", "MAP_UPDATE_ELEM"]);
    std::fs::write(&rules, "tcp dport 80 redirect to :8080\n").unwrap();
    ip(ns, &format!("address add 192.168.178.9/24 dev {DEVICE}"));
    refused(&same, code::NO, &["differs"]);
    ip(ns, &format!("address del 192.168.178.9/24 dev {DEVICE}"));
    refused(&|plan| plan["object"]["sha256"] = "00".into(), code::NO, &["the object is"]);
    let steps = plan["steps"].as_array().unwrap().len();
    for n in 0..steps {
        refused(&|plan| drop(plan["steps"].as_array_mut().unwrap().remove(n)), code::NO, &["differs"]);
    }
    refused(&|plan| plan["steps"][0]["path"] = "/tmp/x".into(), code::NO, &["/tmp/x"]);
    refused(&|plan| plan["steps"][0]["undo"]["path"] = "/tmp/x".into(), code::NO, &["/tmp/x"]);
    // Of another machine: one difference says it all.
    let elsewhere = detour::json(ns, &["plan", "up", DEVICE, &rules, "--facts", "none"]);
    let file = scratch.write("plan", elsewhere.to_string());
    let run = detour::run(ns, &["apply", &file]).refused(code::NO, &["at /facts/netns", "in the file: 0"]);
    assert_eq!(run.stderr.lines().count(), 4, "{run:?}");
    // What no step depends on was reviewed as well.
    ip(ns, &format!("link set {DEVICE} mtu 1400"));
    refused(&same, code::NO, &["differs", "at /facts/device/mtu", "now: 1400", "in the file: 1500"]);
    ip(ns, &format!("link set {DEVICE} mtu 1500"));
    refused(
        &|plan| plan["facts"]["addresses"][0]["ip"] = "192.0.2.9".into(),
        code::NO,
        &["differs", "at /facts/addresses/0/ip", "in the file: \"192.0.2.9\"", "plan again"],
    );
    let members = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    for name in members(&plan["facts"]) {
        let gone = |plan: &mut Value| drop(plan["facts"].as_object_mut().unwrap().remove(&name));
        refused(&gone, code::NO, &[&format!("at /facts/{name}"), "in the file: nothing"]);
    }
    refused(&|plan| plan["notes"] = serde_json::json!(["it is fine"]), code::NO, &["at /notes/"]);
    refused(
        &|plan| plan["reviewed"] = true.into(),
        code::NO,
        &["at /reviewed", "in the plan of now: nothing"],
    );
    refused(&|plan| plan["object"]["by"] = "me".into(), code::NO, &["at /object/by"]);
    refused(&|plan| plan["object"]["file"] = "x.o".into(), code::NO, &["at /object/file"]);
    refused(&|plan| plan["steps"][0]["by"] = "me".into(), code::NO, &["differs"]);
    refused(&|plan| plan["command"][0] = "status".into(), code::USAGE, &["command"]);
    refused(&|plan| plan["command"] = serde_json::json!(["up", DEVICE, "--pcap=/tmp/x"]), code::USAGE, &[]);
    refused(&|plan| plan["schema"] = "detour.plan/2".into(), code::USAGE, &["detour.plan/1"]);
    let file = scratch.write("plan", plan.to_string());
    detour::run(ns, &["apply", &file]).done();
    detour::run(ns, &["down", DEVICE]).done();
    before.holds(ns, "the plan as it was");
}
