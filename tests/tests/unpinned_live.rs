// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What lives long beside an instance that nothing pins: `events`, `run` and `watch` hear and reload it without any capability,
//! and end when it is replaced; and `load --no-pin` of any object.
use e2e::detour::{self, code, Run};
use e2e::lab::{Lab, CLIENT, GATEWAY};
use e2e::listen::Events;
use e2e::netns::Netns;
use e2e::serve::Server;
use e2e::service::Service;
use e2e::snapshot::Snapshot;
use e2e::talk;
use e2e::tmux::Tmux;
use e2e::tools::{self, Scratch};
use e2e::version::{compile, COUNTS};
use nix::sys::signal::Signal;
use std::io::Read;
use std::net::SocketAddr;

const DEVICE: &str = "eth0";
const RULE: &str = "udp dport 7 redirect to :1001";

fn bare() -> (Lab, Server) {
    on(Netns::bare())
}

/// One that is compared with what it was.
fn alone() -> (Lab, Server, Snapshot) {
    let (lab, server) = on(Netns::bare_alone());
    let before = Snapshot::take(&lab.gateway);
    (lab, server, before)
}

fn on(ns: Netns) -> (Lab, Server) {
    let lab = Lab::on(ns, DEVICE);
    let server = Server::udp(&lab.gateway, (GATEWAY, 1001));
    (lab, server)
}

fn ask(lab: &Lab, from: u16, port: u16) -> bool {
    let far: SocketAddr = ([198, 51, 100, 7], port).into();
    talk::ask(&talk::udp(&lab.client, from), far, "x").is_ok()
}

/// No capability and a filter, by the kernel's word.
#[track_caller]
fn may_do_nothing(pid: u32) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(u64::from_str_radix(&value(set), 16), Ok(0), "{set}\n{status}");
    }
    assert_eq!((value("Seccomp:"), value("NoNewPrivs:")), ("2".into(), "1".into()));
}

/// Programs of another file in the place of those that run.
fn upgrade(ns: &Netns) {
    let scratch = Scratch::new();
    let other = compile(&scratch, "counts.bpf.o", &COUNTS);
    let change = detour::json(ns, &["up", DEVICE, "--rule", RULE, "--object", &other]);
    assert_eq!(change["change"], "upgraded");
    // All types were compared, those of a ring buffer, which has none, as well.
    assert!(!change["notes"].to_string().contains("only sizes"), "{change}");
}

#[test]
fn events_are_heard_until_others_run() {
    let (lab, _server) = bare();
    let ns = &lab.gateway;
    detour::up(ns, DEVICE, &["--no-pin", "--rule", RULE]);
    let scratch = Scratch::new();
    let capture = scratch.path("all.pcapng").display().to_string();
    let events = Events::start(ns, DEVICE, &["-j", "--pcap", &capture]);
    may_do_nothing(events.0.id());
    let who = format!("(process {})", events.0.id());
    detour::run(ns, &["events", DEVICE]).refused(code::FOREIGN, &["already reads the events", &who]);
    // Elsewhere a device of the same name has another reader.
    let other = Lab::on(ns.beside(), DEVICE);
    detour::up(&other.gateway, DEVICE, &["--no-pin", "--rule", RULE]);
    let elsewhere = Events::start(&other.gateway, DEVICE, &["-j"]);
    assert!(ask(&lab, 40_000, 7));
    // Other rules change nothing for who listens.
    detour::up(ns, DEVICE, &["--rule", RULE, "--rule", "udp drop"]);
    assert!(!ask(&lab, 40_000, 25));
    let heard = events.end();
    assert_eq!(elsewhere.end().len(), 1);
    let told: Vec<_> = heard.iter().map(|line| line["event"].as_str().unwrap_or("")).collect();
    assert_eq!(told, ["new", "denied", ""], "{heard:?}");
    assert_eq!(heard[0]["client"]["address"], CLIENT.to_string(), "{heard:?}");
    assert_eq!(heard[2]["gone"], false);
    let packets = ns.run("tshark", &["-r", &capture]);
    assert!(packets.lines().count() >= 2, "{packets}");

    let mut events = Events::start(ns, DEVICE, &["-j"]);
    upgrade(ns);
    assert_eq!(events.0.wait().unwrap().code(), Some(code::NO));
    let mut text = String::new();
    events.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(text.contains("\"gone\":true"), "{text}");
}

#[test]
fn a_service_reloads_what_it_keeps_open() {
    let (lab, _server, before) = alone();
    let ns = &lab.gateway;
    let metrics = Scratch::new();
    let file = metrics.path("d.prom").display().to_string();
    let mut service = Service::start(ns, DEVICE, RULE, &["--no-pin", "--metrics-file", &file]);
    may_do_nothing(service.pid());
    service.logs("confined to no capability");
    assert!(ask(&lab, 40_000, 7));
    service.logs(&format!(" new udp {CLIENT}:40000"));
    assert_eq!(std::fs::read_to_string(&file).unwrap().matches("detour_program_in_place{").count(), 2);
    let status = detour::json(ns, &["status", DEVICE]);
    assert_eq!(status["instances"][0]["pinned"], false);
    for (rules, port) in [("udp dport 8 redirect to :1001", 8), ("udp dport { 7, 9 } redirect to :1001", 9)] {
        service.scratch.write("rules", rules);
        service.signal(Signal::SIGHUP);
        service.says("RELOADING=1");
        service.says("READY=1");
        assert!(ask(&lab, 41_000 + port, port), "{}", service.log());
        assert_eq!(detour::json(ns, &["rules", DEVICE])["rules"][0]["text"], rules);
    }
    service.scratch.write("rules", "no rule");
    service.signal(Signal::SIGHUP);
    service.logs("SIGHUP: nothing is changed");
    service.logs("1:1");
    may_do_nothing(service.pid());
    // Addresses that come are followed.
    e2e::lab::ip(ns, "address add 203.0.113.1/24 dev eth0");
    service.scratch.write("rules", RULE);
    service.logs("SIGHUP: nothing is changed");
    // What others put there it may not open: a new process can.
    upgrade(ns);
    service.ends_with(code::PERMISSION);
    assert!(service.log().contains("other programs run on eth0 now"), "{}", service.log());
    let mut service = Service::start(ns, DEVICE, RULE, &["--down-on-exit"]);
    service.signal(Signal::SIGTERM);
    service.ends();
    e2e::lab::ip(ns, "address del 203.0.113.1/24 dev eth0");
    before.holds(ns, "a service without pins");
    // Unconfined it goes on, whatever runs.
    let mut service = Service::start(ns, DEVICE, RULE, &["--no-pin", "--no-confine", "--down-on-exit"]);
    upgrade(ns);
    service.signal(Signal::SIGHUP);
    service.says("RELOADING=1");
    service.says("READY=1");
    assert!(ask(&lab, 42_000, 7));
    service.logs(&format!(" new udp {CLIENT}:42000"));
    service.signal(Signal::SIGTERM);
    service.ends();
    before.holds(ns, "one that was not confined");
}

#[test]
fn a_screen_without_pins() {
    let (lab, _server) = bare();
    let ns = &lab.gateway;
    detour::up(ns, DEVICE, &["--no-pin", "--rule", RULE]);
    assert!(ask(&lab, 40_000, 7));
    let once = detour::json(ns, &["watch", DEVICE, "--once"]);
    assert_eq!(once["asked"]["rows"].as_array().map(Vec::len), Some(1), "{once}");
    let tmux = Tmux::new(ns, 80, 24);
    tmux.line(&format!("{} watch {DEVICE} --interval 0.1; echo code=$?", detour::path().display()));
    tmux.shows("asked 1");
    let shell = tmux.says("#{pane_pid}");
    let child = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap();
    may_do_nothing(child.trim().parse().unwrap());
    assert!(ask(&lab, 40_001, 7));
    tmux.shows("flows 2");
    upgrade(ns);
    tmux.shows("other programs run on eth0 now");
    tmux.types("q");
    tmux.shows("code=0");
}

#[test]
fn any_object() {
    let (lab, _server, before) = alone();
    let ns = &lab.gateway;
    let fixture = |name: &str| tools::project().join("elf/fixtures").join(name).display().to_string();
    let load = |more: &[&str]| -> Run { detour::run(ns, &[&["load"], more].concat()) };
    for (words, says) in [
        (vec!["@trace", DEVICE, "--no-pin", "--tcx"], vec!["tcx link ends", "without --tcx"]),
        (
            vec![&*fixture("maps.bpf.o"), DEVICE, "--no-pin", "--ingress", "maps"],
            vec!["empties jumps", "--mount-bpffs"],
        ),
        (vec![&*fixture("map_kinds.bpf.o"), DEVICE, "--no-pin"], vec!["makes timers", "--mount-bpffs"]),
        (vec!["@trace", DEVICE, "--no-pin", "--mount-bpffs"], vec!["--mount-bpffs"]),
        (vec!["@trace", DEVICE, "--no-pin", "--pin-dir", "/x"], vec!["--pin-dir"]),
        (vec!["@trace", "--no-pin", "--no-attach"], vec!["--no-attach"]),
    ] {
        load(&words).refused(code::USAGE, &says);
        before.holds(ns, &format!("{words:?}"));
    }
    load(&["@trace", DEVICE, "--no-pin"]).done();
    load(&["@drop", DEVICE, "--no-pin", "--ingress", "drop"]).done();
    load(&["@trace", DEVICE, "--no-pin"]).refused(code::FOREIGN, &["trace"]);
    let status = detour::json(ns, &["status", DEVICE]);
    let all = status["instances"].as_array().unwrap();
    assert_eq!(all.len(), 2, "{status:#}");
    assert!(all.iter().all(|i| i["pinned"] == false && i["programs"][0]["in_place"] == true), "{status:#}");
    let owners = detour::json(ns, &["list", DEVICE]).to_string();
    assert_eq!(
        (owners.matches("\"trace\"").count() > 0, owners.matches("\"drop\"").count() > 0),
        (true, true)
    );
    assert!(!ask(&lab, 40_000, 1001), "it drops");
    detour::run(ns, &["unload", DEVICE]).refused(code::USAGE, &["2 instances"]);
    detour::run(ns, &["unload", DEVICE, "drop"]).done();
    detour::run(ns, &["verify", "--live", DEVICE]).done();
    assert!(!detour::json(ns, &["map", "list", DEVICE, "trace"])["maps"].as_array().unwrap().is_empty());
    // Replaced it stays what it is, and beside it `up` goes with or without.
    let old = tools::filters(ns, DEVICE, "ingress")[0]["options"]["prog"]["id"].clone();
    load(&["@trace", DEVICE, "--replace"]).done();
    assert_ne!(tools::filters(ns, DEVICE, "ingress")[0]["options"]["prog"]["id"], old);
    detour::up(ns, DEVICE, &["--no-pin", "--rule", RULE]);
    assert!(ask(&lab, 40_001, 7));
    detour::run(ns, &["unload", DEVICE, "trace"]).done();
    assert!(ask(&lab, 40_002, 7));
    detour::run(ns, &["down", DEVICE]).done();
    before.holds(ns, "loaded and unloaded");
}
