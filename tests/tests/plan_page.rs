// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Plans, files of facts and transcripts against loader/docs/plan-json.md: what one has, the other names, and the reverse.
use ::detour::load::compare::bare;
use e2e::cgroup::Cgroup;
use e2e::detour;
use e2e::lab::{ip, Lab};
use e2e::netns::Netns;
use e2e::strace::{self, Fault};
use e2e::tools::{self, Scratch};
use e2e::version::{compile, COUNTS};
use serde_json::Value;
use std::collections::BTreeSet;

const DEVICE: &str = "eth0";

/// On the page, and in no plan here: before Linux 5.11; a file system that others may write to; what is not pinned.
const ELSEWHERE: [&str; 4] = ["resource", "limit", "untrusted", "ids"];

/// The names in the first column of the page's tables.
fn named() -> BTreeSet<String> {
    let page = std::fs::read_to_string(tools::project().join("loader/docs/plan-json.md")).unwrap();
    let mut names = BTreeSet::new();
    for row in page.lines().filter_map(|line| line.strip_prefix("| `")) {
        let first = format!("`{}", row.split(" | ").next().unwrap());
        let words = first.split('`').skip(1).step_by(2);
        // A number or a text in quotes is an example of a value.
        let is_name =
            |word: &&str| word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        names.extend(words.filter(is_name).filter(|word| word.parse::<u64>().is_err()).map(str::to_string));
    }
    names
}

/// The names of members; of arguments, of a message's fields and of a refused call's further arguments only what is below
/// them: their own names are the kernel's.
fn members(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                names.insert(name.clone());
                match (name.as_str(), value) {
                    ("message", message) => {
                        names.extend(message.as_object().unwrap().keys().cloned());
                    }
                    ("args", args) => {
                        args.as_object().unwrap().values().for_each(|value| members(value, names))
                    }
                    ("on_failure", calls) => {
                        let calls = calls.as_array().unwrap().iter();
                        calls
                            .flat_map(|args| args.as_object().unwrap().values())
                            .for_each(|value| members(value, names));
                    }
                    (_, value) => members(value, names),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| members(value, names)),
        _ => {}
    }
}

#[test]
fn the_page_has_the_members_and_no_others() {
    let scratch = Scratch::new();
    let other = compile(&scratch, "counts.bpf.o", &COUNTS);
    let [kinds, variables] = ["kinds", "variables"]
        .map(|name| tools::project().join(format!("elf/fixtures/{name}.bpf.o")).display().to_string());
    let cgroup = Cgroup::empty();
    let option = format!("--original-dst={}", cgroup.path());
    let (file, transcript) = (scratch.write("facts", ""), scratch.write("transcript", ""));
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    // What a device leaves that is gone.
    ip(ns, "link add gone0 type veth peer name gone1\n link set gone0 up");
    detour::run(ns, &["load", "@drop", "gone0"]).done();
    ip(ns, "link del gone0");
    let mut names = BTreeSet::new();
    let mut plan = |line: &[&str]| {
        members(&detour::json(ns, &[&["plan"], line].concat()), &mut names);
        if line[0] != "flush" && !line.contains(&"--no-attach") {
            detour::run(ns, &[&["plan"], line, &["--save-facts", &file]].concat()).done();
            members(&serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap(), &mut names);
        }
    };
    let lines = [
        &["load", &kinds, "--no-attach"][..],
        &["load", "@trace", DEVICE, "--tcx"],
        &["unload", DEVICE],
        &["up", DEVICE, &option],
        &["up", DEVICE, &option, "--object", &other],
        &["down", DEVICE],
    ];
    for line in lines {
        plan(line);
        detour::run(ns, line).done();
    }
    ns.run("mount", &["-t", "tmpfs", "none", "/sys/fs/bpf"]);
    plan(&["up", DEVICE, "--mount-bpffs"]);
    ns.run("umount", &["/sys/fs/bpf"]);
    // One variable, and one element.
    detour::run(ns, &["load", &variables, DEVICE]).done();
    for line in [["set", ".data", "limit", "60"].as_slice(), &["del", "table", "7"]] {
        let (what, rest) = line.split_first().unwrap();
        let planned = [&["plan", "map", what, DEVICE, "variables"], rest].concat();
        members(&detour::json(ns, &planned), &mut names);
    }
    let up = detour::command(&["up", DEVICE, "--transcript", &transcript]);
    strace::inject(ns, &up, "rename", &Fault::error("rename", 1, "EPERM")).unwrap();
    for line in std::fs::read_to_string(&transcript).unwrap().lines() {
        members(&bare(&serde_json::from_str(line).unwrap()), &mut names);
    }
    let page = named();
    let unnamed: Vec<&String> =
        names.iter().filter(|name| !page.contains(*name) && *name != "version").collect();
    assert!(unnamed.is_empty(), "not in loader/docs/plan-json.md: {unnamed:?}");
    let unseen: Vec<&String> =
        page.difference(&names).filter(|name| !ELSEWHERE.contains(&name.as_str())).collect();
    assert!(unseen.is_empty(), "in loader/docs/plan-json.md, and nobody says it: {unseen:?}");
}
