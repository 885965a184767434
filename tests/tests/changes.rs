// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The machine changes under a running instance: addresses come, filters and devices go. `status` says so, nothing is lost.
use e2e::detour::{self, code, up, Run};
use e2e::lab::{ip, Lab, GATEWAY};
use e2e::netns::Netns;
use e2e::serve::Server;
use e2e::snapshot::Snapshot;
use e2e::talk;
use std::net::SocketAddr;
use std::process::Command;

const DEVICE: &str = "eth0";

fn any(port: u16) -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], port))
}

#[test]
fn an_address_that_comes_later_is_noticed_and_followed() {
    let lab = Lab::new();
    let _web = Server::http(&lab.gateway, any(80), "page");
    let _ssh = Server::http(&lab.gateway, any(22), "shell");
    let rules = ["--rule", "tcp redirect to :80"];
    up(&lab.gateway, DEVICE, &rules);
    detour::run(&lab.gateway, &["status"]).done();
    ip(&lab.gateway, "address add 192.168.178.9/24 dev eth0");
    let run = detour::run(&lab.gateway, &["status"]).ends(code::NO);
    assert!(run.stdout.contains("addresses of this machine have changed"), "{run:?}");
    assert_eq!(detour::run(&lab.gateway, &["-j", "status"]).json()["notes"].as_array().unwrap().len(), 1);
    up(&lab.gateway, DEVICE, &rules);
    detour::run(&lab.gateway, &["status"]).done();
    assert!(talk::curl(&lab.client, "http://192.168.178.9:22/").starts_with("shell "), "its own again");
}

#[test]
fn a_filter_that_somebody_removed_is_a_no() {
    let lab = Lab::new();
    up(&lab.gateway, DEVICE, &[]);
    lab.gateway.run("tc", &["filter", "del", "dev", DEVICE, "egress"]);
    let run = detour::run(&lab.gateway, &["status", DEVICE]).ends(code::NO);
    assert!(run.stdout.contains("NOT IN PLACE"), "{run:?}");
    up(&lab.gateway, DEVICE, &[]);
    detour::run(&lab.gateway, &["status", DEVICE]).done();
}

#[test]
fn the_folder_of_a_device_that_is_gone_is_named_and_cleared() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    ip(ns, "link add other type veth peer name more\naddress add 203.0.113.1/24 dev other");
    let before = Snapshot::take(ns);
    up(ns, DEVICE, &[]);
    ip(ns, "link del eth0");
    let run = detour::run(ns, &["status"]).ends(code::NO);
    assert!(run.stdout.contains("/sys/fs/bpf/detour/") && run.stdout.contains("is gone"), "{run:?}");
    up(ns, "other", &[]);
    detour::run(ns, &["status"]).done();
    detour::run(ns, &["down", "other"]).done();
    let left = before.changes_soon(ns).join("\n");
    assert!(!left.contains("bpffs") && !left.contains("+ prog") && !left.contains("+ map"), "{left}");
}

#[test]
fn who_may_not_look_is_told_so() {
    let lab = Lab::new();
    up(&lab.gateway, DEVICE, &[]);
    for arguments in [&["status"][..], &["status", DEVICE], &["flows", DEVICE]] {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--clear-groups"]).arg(detour::path()).args(arguments);
        Run::of(arguments, &lab.gateway.output(&mut command)).refused(code::PERMISSION, &["/sys/fs/bpf"]);
    }
}

/// A client whose address no rule may touch reaches the gateway itself, also where every other SYN is tracked.
#[test]
fn a_link_local_client_reaches_the_gateway_itself() {
    let lab = Lab::new();
    let _ssh = Server::http(&lab.gateway, any(22), "shell");
    ip(
        &lab.client,
        "address flush dev eth0\naddress add 169.254.7.7/16 dev eth0\nroute add default dev eth0",
    );
    ip(&lab.gateway, "route add 169.254.0.0/16 dev eth0");
    up(&lab.gateway, DEVICE, &["--rule", "tcp dport 80 redirect to :8080"]);
    assert!(talk::curl(&lab.client, &format!("http://{GATEWAY}:22/")).starts_with("shell "));
}

#[test]
fn names_of_our_own_folders_name_no_instance() {
    let lab = Lab::new();
    for name in ["clsact", "clsactx", "clsact-1", "x-new", "", "sixteen_letters_", "a/b", "a.b", "up"] {
        detour::run(&lab.gateway, &["load", "@drop", DEVICE, "--name", name]).ends(code::USAGE);
    }
    assert!(!lab.gateway.within(|| std::path::Path::new("/sys/fs/bpf/detour").exists()));
}

/// Whoever looks while somebody changes sees it before or after, never between.
#[test]
fn readers_wait_for_writers() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for _ in 0..8 {
                up(ns, DEVICE, &[]);
                detour::run(ns, &["down", DEVICE]).done();
            }
        });
        let mut looks = 0;
        while !writer.is_finished() || looks == 0 {
            for command in ["status", "asked", "flows"] {
                let run = detour::run(ns, &[command, DEVICE]);
                assert!(matches!(run.code, Some(code::DONE | code::NO)), "{run:?}");
            }
            looks += 1;
        }
    });
}

#[test]
fn steps_are_json_where_answers_are() {
    let lab = Lab::new();
    let run = detour::run(&lab.gateway, &["-j", "-v", "up", DEVICE]).done();
    let lines: Vec<serde_json::Value> = run
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    let numbers: Vec<u64> = lines.iter().filter_map(|line| line["step"].as_u64()).collect();
    assert_eq!(numbers.len() as u64, run.json()["steps"].as_u64().unwrap());
    assert!(numbers.windows(2).all(|two| two[0] + 1 == two[1]), "{numbers:?}");
}
