// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `run`: a service manager's view of it. Ready, reloaded, a bad file, another address, metrics, the end, and kill -9.
use e2e::detour::{self, code};
use e2e::lab::{self, Lab, GATEWAY};
use e2e::netns::Netns;
use e2e::serve::Server;
use e2e::talk;
use e2e::tools::Scratch;
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// A running service, its manager's socket, its log and its files.
struct Service {
    child: Child,
    manager: UnixDatagram,
    scratch: Scratch,
}

impl Service {
    /// Starts it and waits until it says that it is ready.
    fn start(ns: &Netns, device: &str, rules: &str, more: &[&str]) -> Service {
        let scratch = Scratch::new();
        let rules = scratch.write("rules", rules);
        let manager = UnixDatagram::bind(scratch.path("notify")).unwrap();
        manager.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let log = std::fs::File::create(scratch.path("log")).unwrap();
        let mut command = detour::command(&[&["run", device, &rules], more].concat());
        command.env("NOTIFY_SOCKET", scratch.path("notify")).env("WATCHDOG_USEC", "400000");
        command.env("JOURNAL_STREAM", "8:1").stdout(Stdio::null()).stderr(log);
        let child = ns.within(|| command.spawn().unwrap());
        let service = Service { child, manager, scratch };
        service.says("READY=1");
        service
    }

    /// The next thing it says, signs of life aside.
    #[track_caller]
    fn says(&self, expect: &str) {
        let mut room = [0; 256];
        loop {
            let length =
                self.manager.recv(&mut room).unwrap_or_else(|e| panic!("{expect}: {e}\n{}", self.log()));
            let said = std::str::from_utf8(&room[..length]).unwrap();
            if said != "WATCHDOG=1" {
                assert!(said.starts_with(expect), "{said} instead of {expect}:\n{}", self.log());
                return;
            }
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.path("log")).unwrap()
    }

    /// Waits until the log has it.
    #[track_caller]
    fn logs(&self, words: &str) {
        let start = Instant::now();
        while !self.log().contains(words) {
            assert!(start.elapsed() < Duration::from_secs(20), "{words} is not in:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    #[track_caller]
    fn ends(&mut self) {
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}\n{}", self.log());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

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
