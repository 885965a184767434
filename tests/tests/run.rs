// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `run`: a service manager's view of it. Ready, reloaded, a bad file, another address, metrics, the end, and kill -9.
use e2e::detour::{self, code};
use e2e::lab::{self, Lab, GATEWAY};
use e2e::serve::Server;
use e2e::service::Service;
use e2e::talk;
use e2e::tools::Scratch;
use nix::sys::signal::Signal;

fn heard(lab: &Lab, port: u16) -> String {
    let socket = talk::udp(&lab.client, 0);
    talk::ask(&socket, ([198, 51, 100, 7], port).into(), "x").map_or_else(|e| e.to_string(), |(text, _)| text)
}

#[test]
fn rules_are_reloaded_and_a_bad_file_changes_nothing() {
    let lab = Lab::new();
    let _one = Server::udp(&lab.gateway, (GATEWAY, 1001));
    let two = Server::udp(&lab.gateway, (GATEWAY, 1002));
    let mut service = Service::start(&lab.gateway, &lab.device, "udp dport 7 redirect to :1001\n", &[]);
    assert!(heard(&lab, 7).starts_with("x "));
    service.logs("<6>eth0: up");
    service.logs(" new udp 192.168.178.51:");

    service.scratch.write("rules", "udp dport 7 redirect to :1002\n");
    service.signal(Signal::SIGHUP);
    service.says("RELOADING=1\nMONOTONIC_USEC=");
    service.says("READY=1");
    assert!(heard(&lab, 7).starts_with("x "));
    assert_eq!(two.heard().len(), 1);

    service.scratch.write("rules", "udp dport 7 redirect to :99999\n");
    service.signal(Signal::SIGHUP);
    service.says("RELOADING=1");
    service.says("READY=1");
    service.logs("<3>SIGHUP: nothing is changed");
    assert!(service.log().contains("99999"), "the mistake is shown:\n{}", service.log());
    assert!(heard(&lab, 7).starts_with("x "));
    assert_eq!(two.heard().len(), 2, "the old rules are in force");

    service.signal(Signal::SIGTERM);
    service.says("STOPPING=1");
    service.ends();
    assert!(heard(&lab, 7).starts_with("x "), "the kernel carries on");
    detour::run(&lab.gateway, &["status", &lab.device]).done();
}

#[test]
fn it_follows_addresses_and_writes_metrics() {
    let lab = Lab::new();
    let scratch = Scratch::new();
    let file = scratch.path("detour.prom");
    let more = ["--metrics-file", file.to_str().unwrap(), "--down-on-exit"];
    let mut service = Service::start(&lab.gateway, &lab.device, "udp redirect to :1001\n", &more);
    let metrics = || std::fs::read_to_string(&file).unwrap();
    assert!(metrics().contains("detour_program_in_place{"), "written before it is ready: {}", metrics());
    // A new address of ours is never redirected: a server there is reached directly.
    lab::ip(&lab.gateway, &format!("address add 192.168.178.77/24 dev {}", lab.device));
    service.logs("addresses have changed: eth0: other rules are in force");
    let status = detour::json(&lab.gateway, &["status", &lab.device]);
    assert_eq!(status["notes"].as_array().unwrap().len(), 0, "nothing has drifted: {status}");
    let server = Server::udp(&lab.gateway, ([192, 168, 178, 77], 5000));
    let socket = talk::udp(&lab.client, 0);
    talk::ask(&socket, ([192, 168, 178, 77], 5000).into(), "direct").unwrap();
    assert_eq!(server.heard().len(), 1);

    service.signal(Signal::SIGINT);
    service.says("STOPPING=1");
    service.ends();
    detour::run(&lab.gateway, &["status", &lab.device]).ends(code::NO);
}

#[test]
fn killed_it_leaves_the_traffic_and_the_next_one_takes_over() {
    let lab = Lab::new();
    let _server = Server::http(&lab.gateway, (GATEWAY, 8080), "hello");
    let rules = "tcp dport 80 redirect to :8080\n";
    let service = Service::start(&lab.gateway, &lab.device, rules, &[]);
    let mut stream = talk::dial(&lab.client, 0, ([198, 51, 100, 7], 80).into()).unwrap();
    let events = detour::run(&lab.gateway, &["events", &lab.device, "--count", "1"]);
    events.refused(code::FOREIGN, &["already reads"]);
    drop(service); // SIGKILL
    let next = Service::start(&lab.gateway, &lab.device, rules, &[]);
    assert!(talk::get(&mut stream, "x").unwrap().starts_with("hello"), "the connection has lived on");
    next.logs("nothing to do, it is up with these rules");
    let bad = ["run", &lab.device, "--rule", "nonsense"];
    detour::run(&lab.gateway, &bad).refused(code::USAGE, &["nonsense"]);
}
