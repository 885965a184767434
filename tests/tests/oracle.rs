// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Other programs' word for what detour says: strace for its plans, tc and bpftool for its status.
use e2e::contents;
use e2e::detour;
use e2e::lab::Lab;
use e2e::netns::Netns;
use e2e::strace::{self, EFFECTS};
use e2e::tools;
use e2e::witness::Witness;
use serde_json::Value;

const DEVICE: &str = "eth0";

/// Prints the plan of a command, runs the command under strace, compares.
fn plan_is_what_happens(ns: &Netns, arguments: &[&str]) -> Value {
    let plan = detour::json(ns, &[&["plan"], arguments].concat());
    let (output, calls) = strace::trace(ns, &detour::command(arguments), EFFECTS, None);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    assert!(!plan["steps"].as_array().unwrap().is_empty(), "{arguments:?} does something");
    Witness::compare(&plan, &calls);
    plan
}

#[test]
fn up_and_down_make_exactly_the_calls_of_their_plans() {
    let lab = Lab::new();
    let plan = plan_is_what_happens(&lab.gateway, &["up", DEVICE]);
    assert!(contents::compare(&lab.gateway, &plan) >= 3, "configuration, rules and record, at least");
    let other = ["up", DEVICE, "--rule", "tcp dport 80 redirect", "--rule", "udp redirect to :53"];
    plan_is_what_happens(&lab.gateway, &other);
    plan_is_what_happens(&lab.gateway, &["down", DEVICE]);
}

#[test]
fn load_and_unload_make_exactly_the_calls_of_their_plans() {
    let lab = Lab::new();
    for object in ["@drop", "@trace"] {
        plan_is_what_happens(&lab.gateway, &["load", object, DEVICE]);
        plan_is_what_happens(&lab.gateway, &["unload", DEVICE, &object[1..]]);
    }
    // Beside a foreign qdisc and filter less is done.
    lab.gateway.run("tc", &["qdisc", "add", "dev", DEVICE, "clsact"]);
    tools::foreign_filter(&lab.gateway, DEVICE, "ingress", 3);
    let plan = plan_is_what_happens(&lab.gateway, &["load", "@drop", DEVICE, "--name", "other"]);
    let text = plan.to_string();
    assert!(!text.contains("RTM_NEWQDISC") && text.contains("RTM_NEWTFILTER"), "{text}");
    plan_is_what_happens(&lab.gateway, &["unload", DEVICE, "other"]);
}

#[test]
fn tc_and_bpftool_agree_with_status() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    detour::up(ns, DEVICE, &[]);
    detour::run(ns, &["load", "@trace", DEVICE, "--name", "looker"]).done();
    let status = detour::json(ns, &["status", DEVICE]);
    let instances = status["instances"].as_array().unwrap();
    assert_eq!(instances.len(), 2, "{status:#}");
    let mut compared = 0;
    for instance in instances {
        assert_eq!(instance["device"], DEVICE);
        for program in instance["programs"].as_array().unwrap() {
            let (id, hook) = (program["id"].as_u64().unwrap(), program["hook"].as_str().unwrap());
            let filters = tools::filters(ns, DEVICE, hook);
            let filter =
                filters.iter().find(|filter| filter["options"]["prog"]["id"] == id).expect("a filter");
            assert_eq!(filter["pref"], program["prio"]);
            let handle = filter["options"]["handle"].as_str().unwrap().trim_start_matches("0x");
            assert_eq!(u64::from_str_radix(handle, 16).ok(), program["handle"].as_u64());
            assert!(filter["options"]["bpf_name"].as_str().unwrap().starts_with("detour/"), "{filter}");
            let kernels = tools::program(ns, id);
            assert_eq!((&kernels["tag"], &kernels["name"]), (&program["tag"], &program["name"]));
            assert_eq!((&kernels["type"], &kernels["gpl_compatible"]), (&"sched_cls".into(), &true.into()));
            assert!(kernels["btf_id"].as_u64() > Some(0), "types are loaded with the program");
            compared += 1;
        }
    }
    let all: usize = tools::HOOKS.iter().map(|hook| tools::filters(ns, DEVICE, hook).len()).sum();
    assert_eq!(compared, all, "status lists every filter of ours: {status:#}");
    // The kernel's tags are those that the manifest of the checked-in objects tells.
    let manifest = std::fs::read_to_string(tools::project().join("elf/MANIFEST")).unwrap();
    for program in instances.iter().flat_map(|instance| instance["programs"].as_array().unwrap()) {
        assert!(manifest.contains(program["tag"].as_str().unwrap()), "{program}");
    }
}

/// The comparison itself: it finds what a plan leaves out, and what it says differently.
#[test]
fn a_plan_that_lies_is_found_out() {
    let lab = Lab::new();
    let honest = detour::json(&lab.gateway, &["plan", "load", "@drop", DEVICE]);
    let load = detour::command(&["load", "@drop", DEVICE]);
    let (_, calls) = strace::trace(&lab.gateway, &load, EFFECTS, None);
    Witness::compare(&honest, &calls);
    let steps = honest["steps"].as_array().unwrap();
    let found_out = |plan: Value| std::panic::catch_unwind(|| Witness::compare(&plan, &calls)).is_err();
    for n in 0..steps.len() {
        let mut plan = honest.clone();
        plan["steps"].as_array_mut().unwrap().remove(n);
        assert!(found_out(plan), "step {} left out", n + 1);
    }
    let lies = [
        ("mkdir", "path", Value::from("/sys/fs/bpf/elsewhere")),
        ("rename", "to", Value::from("/sys/fs/bpf/elsewhere")),
        ("bpf", "command", Value::from("MAP_FREEZE")),
        ("bpf", "args", serde_json::json!({"license": "GPL"})),
    ];
    for (kind, field, lie) in lies {
        let n = steps.iter().position(|step| step["do"] == kind).unwrap();
        let mut plan = honest.clone();
        plan["steps"][n][field] = lie;
        assert!(found_out(plan), "step {}: another {field}", n + 1);
    }
}
