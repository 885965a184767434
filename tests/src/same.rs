// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The plan, the transcript and strace of one command to one answer: they say the same.
use crate::contents;
use crate::detour;
use crate::netns::Netns;
use crate::strace::{self, Argument, Call, EFFECTS};
use crate::tools::Scratch;
use crate::witness::{find, Witness};
use ::detour::load::compare::{bare, effects};
use serde_json::Value;

/// Plans `line` in three forms, runs it with a transcript under strace, compares all of them; the plan.
#[track_caller]
pub fn all_say_the_same(ns: &Netns, line: &[&str]) -> Value {
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
pub fn in_order(form: &[Call], calls: &[Call]) {
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
