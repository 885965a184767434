// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Network namespaces as containers have them: without a name, held by a process, alike in all but their number. And who is
//! killed while he looks: packets do not care.
use e2e::crowd::{self, Crowd};
use e2e::detour::{self, code, up};
use e2e::lab::{Lab, GATEWAY};
use e2e::netns::Netns;
use e2e::serve::Server;
use e2e::talk;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

const RULES: [&str; 2] = ["--rule", "tcp redirect to :7007"];

fn far(port: u16) -> SocketAddr {
    ([198, 51, 100, 7], port).into()
}

/// A process that does nothing and is killed with the test.
struct Holder(Child);

impl Holder {
    fn of(ns: &Netns) -> Holder {
        Holder(ns.within(|| Command::new("sleep").arg("300").stdin(Stdio::null()).spawn().unwrap()))
    }

    /// As `podman inspect` and `lsns` give it.
    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_namespace_that_a_process_holds() {
    let lab = Lab::new();
    let holder = Holder::of(&lab.gateway);
    let path = holder.path();
    // Whoever administers it stands elsewhere, and sees the same bpf file system.
    let host = lab.gateway.beside();
    let there = |line: &[&str]| detour::run(&host, &[&["-n", &path], line].concat());
    there(&[&["up", &lab.device], &RULES[..]].concat()).done();
    let _echo = Server::echo(&lab.gateway, (GATEWAY, 7007));
    crowd::honest(&lab.client, far(80)).unwrap();
    assert!(there(&["asked", &lab.device]).done().stdout.contains("198.51.100.7"));
    there(&["verify", "--live", &lab.device]).done();
    detour::run(&host, &["status"]).ends(code::NO);
    there(&["down", &lab.device]).done();
    detour::run(&host, &["-n", "/proc/self/status", "status"])
        .refused(code::KERNEL, &["not a network namespace"]);
    detour::run(&host, &["-n", "/proc/0/ns/net", "status"]).refused(code::USAGE, &["/proc/0/ns/net"]);
}

/// As root of a container without privileges: nothing can be loaded there, `doctor` says why, and as its fix says it goes from
/// outside.
#[test]
fn a_namespace_of_another_user() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    let own = ns.run("readlink", &["/proc/self/ns/net"]);
    let inside = |line: &[&str]| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--net"]).arg(detour::path()).args(line);
        detour::Run::of(line, &ns.output(unshare.env("NO_COLOR", "1")))
    };
    let said = inside(&["doctor", "-j"]).ends(code::NO).json();
    let found = |check: &str| {
        let all = said["findings"].as_array().unwrap();
        all.iter().find(|one| one["check"] == check).unwrap_or_else(|| panic!("no {check} in {said}")).clone()
    };
    for check in ["CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF", "programs of up"] {
        assert_eq!(found(check)["state"], "bad", "{check}");
    }
    let fix = "as root outside of it: 'detour -n NETNS up DEV', NETNS such as /proc/PID/ns/net";
    assert_eq!(found("CAP_BPF")["fix"], fix);
    inside(&["up", "lo"]).refused(code::PERMISSION, &["in a user namespace only"]);

    let args = ["--user", "--map-root-user", "--net", "sleep", "300"];
    let holder =
        Holder(ns.within(|| Command::new("unshare").args(args).stdin(Stdio::null()).spawn().unwrap()));
    while ns.run("readlink", &[&holder.path()]) == own {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let path = holder.path();
    detour::run(ns, &["-n", &path, "up", "lo", "--rule", "udp drop"]).done();
    let rules = detour::json(ns, &["-n", &path, "rules", "lo"]);
    assert_eq!(rules["rules"][0]["text"], "meta l4proto udp drop", "{rules}");
    detour::run(ns, &["-n", &path, "down", "lo"]).done();
    assert!(!ns.run("ls", &["/sys/fs/bpf"]).contains("detour"));
}

/// The same name, the same index, one bpf file system: nothing of one is the other's.
#[test]
fn two_namespaces_with_the_same_device() {
    let one = Lab::new();
    let two = Lab::on(one.gateway.beside(), &one.device);
    let index = |lab: &Lab| {
        lab.gateway.run("ip", &["-o", "link", "show", &lab.device]).split(':').next().unwrap().to_string()
    };
    assert_eq!(index(&one), index(&two), "two links that look alike");
    let servers = [&one, &two].map(|lab| Server::http(&lab.gateway, (GATEWAY, 8080), "hello"));
    let rule = |port: u16| format!("tcp dport {port} redirect to :8080");
    up(&one.gateway, &one.device, &["--rule", &rule(80)]);
    up(&two.gateway, &two.device, &["--rule", &rule(81)]);
    for (lab, port) in [(&one, 80), (&two, 81)] {
        let page = talk::curl(&lab.client, &format!("http://198.51.100.7:{port}/"));
        assert!(page.starts_with("hello"), "{page}");
        let rows = detour::json(&lab.gateway, &["asked", &lab.device])["rows"].as_array().unwrap().clone();
        assert_eq!((rows.len(), &rows[0]["port"]), (1, &port.into()), "{rows:?}");
    }
    assert_eq!(servers.each_ref().map(|server| server.heard().len()), [1, 1]);
    detour::run(&one.gateway, &["down", &one.device]).done();
    detour::run(&one.gateway, &["status", &one.device]).ends(code::NO);
    detour::run(&two.gateway, &["status", &two.device]).done();
    talk::curl(&two.client, "http://198.51.100.7:81/");
    detour::run(&two.gateway, &["down", &two.device]).done();
    assert!(!two.gateway.run("ls", &["/sys/fs/bpf"]).contains("detour"), "both have cleared up");
}

/// Everything that can be running is killed again and again, at whatever it is doing.
#[test]
fn who_is_killed_takes_nothing_along() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    let _echo = Server::echo(ns, (GATEWAY, 7007));
    up(ns, &lab.device, &RULES);
    let mut crowd = Crowd::new(&lab.client, 8, |n| far(1000 + n as u16));
    let done = AtomicBool::new(false);
    let port = AtomicBool::new(false);
    let served = std::thread::scope(|scope| {
        let served = scope.spawn(|| {
            crowd::meanwhile(&done, || {
                crowd::honest(&lab.client, far(if port.load(Ordering::Relaxed) { 2000 } else { 2001 }))
                    .unwrap();
                port.fetch_xor(true, Ordering::Relaxed);
                std::thread::sleep(std::time::Duration::from_millis(10));
            })
        });
        let lines: [&[&str]; 8] = [
            &["run", &lab.device, RULES[0], RULES[1]],
            &["events", &lab.device],
            &["up", &lab.device, RULES[0], RULES[1], "--rule", "udp drop"],
            &["up", &lab.device, RULES[0], RULES[1]],
            &["asked", &lab.device],
            &["flows", &lab.device],
            &["metrics"],
            &["verify", "--live", &lab.device],
        ];
        // From just started to long since serving.
        for milliseconds in [0, 1, 2, 4, 8, 16, 32, 64, 128, 256] {
            for line in lines {
                let mut command = detour::command(line);
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                let mut child = ns.within(|| command.spawn().unwrap());
                std::thread::sleep(std::time::Duration::from_millis(milliseconds));
                child.kill().unwrap();
                child.wait().unwrap();
                crowd.exchange();
            }
        }
        done.store(true, Ordering::Relaxed);
        served.join().unwrap()
    });
    assert!(served > 10, "{served}");
    up(ns, &lab.device, &RULES);
    detour::run(ns, &["status", &lab.device]).done();
    detour::run(ns, &["verify", "--live", &lab.device]).done();
    crowd.exchange();
}
