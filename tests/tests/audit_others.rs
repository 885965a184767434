// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Commands that have no `plan` of their own, under strace: `apply` does what the file says, `test` what its transcript says,
//! `doctor` what its findings say, and nothing else.
use ::detour::load::compare::effects;
use e2e::cgroup::Cgroup;
use e2e::detour;
use e2e::lab::Lab;
use e2e::netns::Netns;
use e2e::serve::Server;
use e2e::strace::{self, Call, EFFECTS};
use e2e::talk;
use e2e::tools::Scratch;
use e2e::version::{compile, COUNTS};
use e2e::witness::{is_read, Witness};
use serde_json::{json, Value};
use std::net::SocketAddr;

const DEVICE: &str = "eth0";
/// NFNL_SUBSYS_NFTABLES << 8 | 4: whether nft translates as well is only asked.
const NFT_MSG_GETCHAIN: u16 = 10 << 8 | 4;

#[test]
fn apply_does_what_the_file_says() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let scratch = Scratch::new();
    let other = compile(&scratch, "counts.bpf.o", &COUNTS);
    let cgroup = Cgroup::empty();
    let original = format!("--original-dst={}", cgroup.path());
    let _server = Server::echo(ns, SocketAddr::from(([0; 4], 80)));
    let mut streams = Vec::new();
    // The first of the plans upgrades this: only instructions of the project's own objects can be compared as a whole.
    detour::up(ns, DEVICE, &["--rule", "redirect", "--object", &other]);
    for line in [
        &["up", DEVICE, "--rule", "redirect"][..],
        &["flush", DEVICE, "ip daddr 198.51.100.7"],
        &["up", DEVICE, "--rule", "tcp dport 80 redirect to :8080", "--flush", "ip daddr 198.51.100.8"],
        &["map", "set", DEVICE, "up", "local4", "hex:01020304", "hex:01000000"],
        &["up", DEVICE, "--rule", "drop", "--flows-max", "1000", "--fresh"],
        &["load", "@trace", DEVICE],
        &["load", "@trace", DEVICE, "--replace"],
        &["unload", DEVICE, "trace"],
        &["down", DEVICE],
        &["up", DEVICE, &original],
        &["down", DEVICE],
        &["up", DEVICE, "--rule", "tcp dport 80 redirect to :8080"],
        &["up", DEVICE, "--rule", "drop"],
        &["down", DEVICE],
        &["up", DEVICE, "--no-pin"],
        &["up", DEVICE, "--rule", "drop"],
        &["down", DEVICE],
        &["load", "@trace", DEVICE, "--no-pin"],
        &["unload", DEVICE, "trace"],
    ] {
        let plan = detour::json(ns, &[&["plan"], line].concat());
        let file = scratch.write("plan", plan.to_string());
        // Opening a folder is a step, too.
        let traced = format!("{EFFECTS}{}", if line.contains(&&*original) { ",openat" } else { "" });
        let (output, calls) = strace::trace(ns, &detour::command(&["apply", &file]), &traced, None);
        assert!(output.status.success(), "{line:?}: {}", String::from_utf8_lossy(&output.stderr));
        Witness::compare(&plan, &calls);
        // Something to end: each flush has one flow to look for.
        let flows = || detour::json(ns, &["flows", DEVICE])["flows"].as_array().unwrap().len();
        match line {
            [.., "redirect"] => {
                let loads = plan["steps"].as_array().unwrap().iter().filter(|s| s["command"] == "PROG_LOAD");
                assert_eq!(loads.count(), 2, "an upgrade");
                for last in [7, 8] {
                    streams.push(
                        talk::dial(&lab.client, 0, SocketAddr::from(([198, 51, 100, last], 80))).unwrap(),
                    );
                }
                assert_eq!(flows(), 2);
            }
            ["flush", ..] => assert_eq!(flows(), 1),
            [.., "--flush", _] => assert_eq!(flows(), 0),
            _ => {}
        }
    }
}

#[test]
fn test_does_what_its_transcript_says() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    let scratch = Scratch::new();
    let packet = "ffffffffffff 020000000051 0800 45000014 0000 0000 40 11 0000 c0a8b233 c0a8b202\n";
    let (packet, transcript) = (scratch.write("packet", packet), scratch.write("transcript", ""));
    for (object, program) in [("@drop", "drop"), ("@dnat", "detour_in")] {
        let line = ["test", object, program, "--packet", &packet, "--transcript", &transcript];
        let (output, calls) = strace::trace(ns, &detour::command(&line), EFFECTS, None);
        assert!(output.status.success(), "{line:?}: {}", String::from_utf8_lossy(&output.stderr));
        let done = effects(&std::fs::read_to_string(&transcript).unwrap(), false).unwrap();
        assert!(done.len() >= 3, "{done:?}");
        // PROG_TEST_RUN, once for each packet: what it changes goes with the process.
        let (runs, calls): (Vec<Call>, Vec<Call>) = calls.into_iter().partition(|c| c.bpf() == Some(10));
        assert_eq!(runs.len(), 1);
        Witness::compare(&json!({ "steps": done }), &calls);
    }
}

#[test]
fn doctor_does_what_its_findings_say() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    let (output, calls) = strace::trace(ns, &detour::command(&["doctor", DEVICE, "-j"]), EFFECTS, None);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let lines = report["findings"].as_array().unwrap().iter().flat_map(|f| f["calls"].as_array().unwrap());
    // "bpf     MAP_CREATE map_type=1 …", "netlink RTM_NEWQDISC …"
    let told = lines.map(|line| line.as_str().unwrap().split_whitespace().nth(1).unwrap().to_string());
    let told: Vec<String> = told.filter(|name| name != "OBJ_GET_INFO_BY_FD").collect();
    let made = calls.iter().filter(|call| !is_read(call)).filter_map(|call| match call.name.as_str() {
        "bpf" => {
            let number = call.bpf().unwrap();
            let command = detour_sys::commands::COMMANDS.iter().find(|c| i128::from(c.number) == number);
            Some(command.unwrap().name.to_string())
        }
        // include/uapi/linux/rtnetlink.h, nfnetlink.h and nf_tables.h.
        "sendto" => match call.netlink().unwrap() {
            36 => Some("RTM_NEWQDISC".to_string()),
            44 => Some("RTM_NEWTFILTER".to_string()),
            NFT_MSG_GETCHAIN => None,
            other => Some(other.to_string()),
        },
        // Its answer, and the namespace that ends with its thread.
        "write" | "unshare" | "prlimit64" => None,
        other => Some(other.to_string()),
    });
    assert_eq!(told, made.collect::<Vec<_>>());
    assert!(told.len() > 30 && told.contains(&"LINK_CREATE".to_string()), "{told:?}");
}
