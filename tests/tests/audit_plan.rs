// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The plan, the transcript and strace of one run, for every command that changes the kernel: they say the same.
use ::detour::load::compare::{bare, effects};
use ::detour::load::message::Message;
use e2e::contents;
use e2e::detour::{self, code};
use e2e::lab::{ip, Lab};
use e2e::netns::Netns;
use e2e::serve::Server;
use e2e::snapshot::Snapshot;
use e2e::strace::{self, Argument, Call, Fault, EFFECTS};
use e2e::talk;
use e2e::tools::{self, Scratch};
use e2e::witness::{find, Witness};
use serde_json::Value;
use std::net::SocketAddr;

const DEVICE: &str = "eth0";

/// Plans `line` in three forms, runs it with a transcript under strace, compares all of them.
fn all_say_the_same(ns: &Netns, line: &[&str]) -> Value {
    let scratch = Scratch::new();
    let (facts, transcript) = (scratch.write("facts", ""), scratch.write("transcript", ""));
    let plan = detour::json(ns, &[&["plan"], line].concat());
    let steps: Vec<Value> = plan["steps"].as_array().unwrap().iter().map(bare).collect();
    assert!(!steps.is_empty(), "{line:?} does something");
    let form =
        detour::run(ns, &[&["plan"], line, &["--strace", "--save-facts", &facts]].concat()).done().stdout;
    let recorded = [line, &["--transcript", &transcript]].concat();
    // Opening a folder is a step, too; other files are read before and after.
    let traced = format!("{EFFECTS}{}", if line.contains(&"--original-dst") { ",openat" } else { "" });
    let (output, calls) = strace::trace(ns, &detour::command(&recorded), &traced, None);
    assert!(output.status.success(), "{line:?}: {}", String::from_utf8_lossy(&output.stderr));
    Witness::compare(&plan, &calls);
    // After `down` and `unload` there is no map to look into.
    if !["down", "unload"].contains(&line[0]) {
        let written = contents::compare(ns, &plan);
        let least = if line[0] == "flush" { 0 } else { 1 };
        assert!(written >= least, "{line:?}: {written} elements");
    }
    let done = effects(&std::fs::read_to_string(&transcript).unwrap(), false).unwrap();
    assert_eq!(done, steps, "{line:?}: plan and transcript");
    let form = strace::read(&form.lines().map(|line| format!("1 {line}\n")).collect::<String>());
    assert_eq!(form.len(), steps.len(), "{line:?}: a line each");
    in_order(&form, &calls);
    // What these read besides is in no file of facts.
    if !["map", "flush"].contains(&line[0]) && !line.contains(&"--flush") && !line.contains(&"--pin-dir") {
        let before = ["--facts", &facts, "--against", &transcript];
        let run = detour::run(ns, &[&["plan"], line, &before].concat()).done();
        assert!(run.stdout.starts_with("the same "), "{}", run.stdout);
    }
    plan
}

/// Each line of the strace form is one of the calls that strace saw, in this order.
fn in_order(form: &[Call], calls: &[Call]) {
    let mut rest = calls.iter();
    for line in form {
        assert!(rest.any(|call| alike(line, call)), "strace has not seen {line:?}");
    }
}

fn alike(line: &Call, call: &Call) -> bool {
    let same = |n: usize| line.arguments.get(n) == call.arguments.get(n);
    let fields = |n: usize, names: Vec<&str>| {
        let (Some(shown), Some(seen)) = (line.arguments.get(n), call.arguments.get(n)) else { return false };
        names.iter().all(|name| match (find(shown, name), find(seen, name)) {
            (Some(Argument::Number(a)), Some(Argument::Number(b))) => a == b,
            (Some(Argument::Bytes(a)), Some(Argument::Bytes(b))) => a == b,
            // A symbol, or what strace shows by its address only; a zero that strace leaves out.
            (Some(Argument::Number(n)), None) => *n == 0 || *name == "target_ifindex",
            _ => true,
        })
    };
    let names = |n: usize| match line.arguments.get(n) {
        Some(Argument::Record(fields)) => fields.iter().map(|(name, _)| name.as_str()).collect(),
        _ => Vec::new(),
    };
    line.name == call.name
        && match line.name.as_str() {
            // strace 6.1 knows the number of PROG_BIND_MAP only.
            "bpf" if line.bpf() == Some(35) => same(0) && same(2),
            "bpf" => same(0) && same(2) && fields(1, names(1)),
            "sendto" => call.netlink().is_some() && same(2),
            _ => line.arguments == call.arguments,
        }
}

#[test]
fn every_command_that_changes_the_kernel() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    let file = tools::project().join("elf/fixtures/globals.bpf.o").display().to_string();
    let pins = tools::project().join("elf/fixtures/pins.bpf.o").display().to_string();
    ns.within(|| std::fs::create_dir("/sys/fs/bpf/shared").unwrap());
    for line in [
        &["up", DEVICE][..],
        &["up", DEVICE, "--rule", "tcp dport 80 redirect", "--rule", "udp dnat to 192.168.178.77"],
        &["map", "set", DEVICE, "up", "local4", "hex:01020304", "hex:01000000"],
        &["down", DEVICE],
        &["up", DEVICE, "--original-dst", "--rule", "redirect"],
        &["up", DEVICE, "--original-dst", "--rule", "tcp drop"],
        &["down", DEVICE],
        &["load", "@drop", DEVICE],
        &["load", "@drop", DEVICE, "--replace"],
        &["load", "@trace", DEVICE, "--egress", "trace", "--handle", "7"],
        &["unload", DEVICE, "drop"],
        &["unload", DEVICE, "trace"],
        &["load", "@drop", DEVICE, "--chain", "5", "--protocol", "ip"],
        &["load", "@drop", DEVICE, "--replace"],
        &["unload", DEVICE, "drop"],
        &["load", &file, DEVICE],
        &["unload", DEVICE],
        &["load", &file, DEVICE, "--fd-array"],
        &["unload", DEVICE],
        &["load", &pins, DEVICE, "--pin-dir", "/sys/fs/bpf/shared"],
        &["unload", DEVICE],
        &["load", "@trace", DEVICE, "--tcx"],
        &["load", "@trace", DEVICE, "--tcx", "--replace"],
        &["unload", DEVICE],
        &["load", "@trace", "--no-attach"],
    ] {
        if line.contains(&"--no-attach") {
            let plan = detour::json(ns, &[&["plan"], line].concat());
            let (_, calls) = strace::trace(ns, &detour::command(line), EFFECTS, None);
            Witness::compare(&plan, &calls);
            continue;
        }
        all_say_the_same(ns, line);
    }
}

#[test]
fn flows_that_end() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    detour::up(ns, DEVICE, &["--rule", "udp drop", "--rule", "redirect"]);
    let _servers =
        ["0.0.0.0:80", "[fd00::2]:80"].map(|at| Server::echo(ns, at.parse::<SocketAddr>().unwrap()));
    let connect = |to: &str| talk::dial(&lab.client, 0, to.parse().unwrap()).unwrap();
    let _streams = ["1.2.3.4:80", "[2001:db8::1]:80"].map(connect);
    let plan = all_say_the_same(ns, &["flush", DEVICE]);
    let runs = plan["steps"].as_array().unwrap().iter().filter(|s| s["command"] == "PROG_TEST_RUN").count();
    assert_eq!(runs, 2);
    let _streams = ["1.2.3.4:80", "[2001:db8::1]:80"].map(connect);
    all_say_the_same(ns, &["up", DEVICE, "--rule", "tcp drop", "--flush", "ip daddr 1.2.3.4"]);
    detour::run(ns, &["plan", "flush", DEVICE, "--facts", "none"]).refused(code::USAGE, &["--facts"]);
}

#[test]
fn a_transcript_tells_what_was_undone() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let before = Snapshot::take(ns);
    let scratch = Scratch::new();
    let transcript = scratch.write("transcript", "");
    let up = detour::command(&["up", DEVICE, "--transcript", &transcript]);
    let output = strace::inject(ns, &up, "rename", &Fault::error("rename", 1, "EPERM")).unwrap();
    assert_eq!(output.status.code(), Some(code::PERMISSION));
    let text = std::fs::read_to_string(&transcript).unwrap();
    let count = |what: &str| text.matches(&format!("\"outcome\":\"{what}\"")).count();
    assert_eq!((count("failed"), count("undo failed")), (1, 0), "{text}");
    assert!(text.contains("Operation not permitted"), "{text}");
    // What stayed done has no undo of its own: descriptors, which ended with the process.
    let left = effects(&text, false).unwrap();
    assert!(count("undone") > 20 && left.iter().all(|effect| effect["do"] == "bpf"), "{left:#?}");
    before.holds(ns, "the failed up");
    detour::run(ns, &["up", DEVICE, "--transcript", "/no/such/folder/t"])
        .refused(code::USAGE, &["transcript"]);
    before.holds(ns, "an up without its transcript");
}

#[test]
fn netlink_messages_for_wireshark() {
    let lab = Lab::new();
    let scratch = Scratch::new();
    let pcap = scratch.write("messages.pcap", "");
    detour::run(&lab.gateway, &["plan", "up", DEVICE, "--pcap", &pcap]).done();
    let fields = ["-T", "fields", "-e", "netlink-route.nltype", "-e", "frame.len"];
    let told = lab.gateway.run("tshark", &[&["-r", &pcap][..], &fields].concat());
    // RTM_NEWQDISC, RTM_NEWTFILTER twice.
    let rows: Vec<Vec<u32>> = told
        .lines()
        .map(|row| {
            let number = |word: &str| match word.strip_prefix("0x") {
                Some(hex) => u32::from_str_radix(hex, 16).unwrap(),
                None => word.parse().unwrap(),
            };
            row.split_whitespace().map(number).collect()
        })
        .collect();
    assert_eq!(rows.iter().map(|row| row[0]).collect::<Vec<_>>(), [36, 44, 44], "{told}");
    let plan = detour::json(&lab.gateway, &["plan", "up", DEVICE]);
    let steps = plan["steps"].as_array().unwrap().iter().filter(|step| step["do"] == "netlink");
    let lengths = steps.map(|step| {
        let message = Message::from_json(&step["message"]).unwrap().resolved(&|_| Some(0));
        message.encode(0).unwrap().len() as u32 + 16 // and the header of the link type
    });
    assert_eq!(rows.iter().map(|row| row[1]).collect::<Vec<_>>(), lengths.collect::<Vec<_>>(), "{told}");
}

#[test]
fn a_reviewed_plan_is_applied() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let before = Snapshot::take(ns);
    let scratch = Scratch::new();
    let rules = scratch.write("a.rules", "tcp dport 80 redirect to :8080\n");
    let applied = |line: &[&str]| {
        let plan = detour::json(ns, &[&["plan"], line].concat());
        let file = scratch.write("plan", plan.to_string());
        let run = detour::run(ns, &["apply", &file]).done();
        assert!(run.stdout.contains("as reviewed"), "{}", run.stdout);
        // The same plan a second time: it is not what would be done now.
        let again = detour::run(ns, &["apply", &file]);
        let expected = match line[0] {
            "map" => code::DONE,
            "load" => code::FOREIGN,
            _ => code::NO,
        };
        again.ends(expected);
    };
    applied(&["up", DEVICE, &rules, "--rule", "drop"]);
    let status = detour::json(ns, &["status", DEVICE]);
    assert_eq!(status["instances"][0]["dnat"]["rules"].as_array().unwrap().len(), 2);
    applied(&["map", "set", DEVICE, "up", "local4", "hex:01020304", "hex:01000000"]);
    applied(&["load", "@drop", DEVICE, "--prio", "7"]);
    applied(&["unload", DEVICE, "drop"]);
    applied(&["down", DEVICE]);
    before.holds(ns, "plans that were applied");
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
    refused(&|plan| plan["command"][0] = "status".into(), code::USAGE, &["command"]);
    refused(&|plan| plan["command"] = serde_json::json!(["up", DEVICE, "--pcap=/tmp/x"]), code::USAGE, &[]);
    refused(&|plan| plan["schema"] = "detour.plan/2".into(), code::USAGE, &["detour.plan/1"]);
    let file = scratch.write("plan", plan.to_string());
    detour::run(ns, &["apply", &file]).done();
    detour::run(ns, &["down", DEVICE]).done();
    before.holds(ns, "the plan as it was");
}

#[test]
fn every_member_is_documented() {
    let page = std::fs::read_to_string(tools::project().join("loader/docs/plan-json.md")).unwrap();
    let lab = Lab::new();
    let ns = &lab.gateway;
    let mut unknown = Vec::new();
    for line in [&["up", DEVICE][..], &["down", DEVICE], &["load", "@drop", DEVICE, "--replace"]] {
        let plan = detour::json(ns, &[&["plan"], line].concat());
        detour::run(ns, line).done();
        members(&plan, &mut |name| {
            if !page.contains(&format!("`{name}`")) && !page.contains(&format!("\"{name}\"")) {
                unknown.push(name.to_string());
            }
        });
    }
    assert!(unknown.is_empty(), "not in loader/docs/plan-json.md: {unknown:?}");
}

/// The names of members, but for facts, arguments and fields, which have the kernel's names.
fn members(value: &Value, tell: &mut dyn FnMut(&str)) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                tell(name);
                match name.as_str() {
                    "facts" | "fields" => {}
                    "args" => value.as_object().unwrap().values().for_each(|value| members(value, tell)),
                    "on_failure" => {}
                    _ => members(value, tell),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| members(value, tell)),
        _ => {}
    }
}
