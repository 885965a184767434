// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `run`: a service manager's view of it. Ready, alive, reloaded, a bad file, another address, metrics, a file of events, the
//! end, and kill -9; and what others do meanwhile to what it listens to.
use e2e::detour::{self, code};
use e2e::lab::{self, Lab, GATEWAY};
use e2e::serve::Server;
use e2e::service::Service;
use e2e::talk;
use e2e::tools::{promtool, Scratch};
use e2e::version::{compile, COUNTS};
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
    promtool(&metrics());
    // A new address of ours is never redirected: a server there is reached directly.
    lab::ip(&lab.gateway, &format!("address add 192.168.178.77/24 dev {}", lab.device));
    service.logs("addresses have changed: eth0: other rules are in force");
    let status = detour::json(&lab.gateway, &["status", &lab.device]);
    assert_eq!(status["notes"].as_array().unwrap().len(), 0, "nothing has drifted: {status}");
    let server = Server::udp(&lab.gateway, ([192, 168, 178, 77], 5000));
    let socket = talk::udp(&lab.client, 0);
    talk::ask(&socket, ([192, 168, 178, 77], 5000).into(), "direct").unwrap();
    assert_eq!(server.heard().len(), 1);
    // It is written again and again, and says what the command says.
    let say = || detour::run(&lab.gateway, &["metrics", &lab.device]).done().stdout;
    let (start, mut said) = (std::time::Instant::now(), say());
    while metrics() != said {
        assert!(start.elapsed().as_secs() < 20, "{}\n{said}", metrics());
        said = say();
    }
    promtool(&said);

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

/// Until the service's log has it, this is done again and again: whoever listens anew does so within seconds.
fn until_heard(lab: &Lab, service: &Service, port: u16) {
    let start = std::time::Instant::now();
    let words = format!(" -> 198.51.100.7:{port} ");
    while !service.log().contains(&words) {
        assert!(start.elapsed().as_secs() < 20, "{words} is not in:\n{}", service.log());
        heard(lab, port);
    }
}

#[test]
fn what_others_do_meanwhile_leaves_it_listening() {
    let lab = Lab::new();
    let _server = Server::udp(&lab.gateway, (GATEWAY, 1001));
    let rules = "udp redirect to :1001\n";
    let mut service = Service::start(&lab.gateway, &lab.device, rules, &[]);
    until_heard(&lab, &service, 7);
    let file = service.scratch.write("same", rules);
    detour::up(&lab.gateway, &lab.device, &[&file, "--fresh"]);
    until_heard(&lab, &service, 8);
    detour::run(&lab.gateway, &["down", &lab.device]).done();
    service.logs("<4>no events are heard: nothing is up on eth0");
    detour::up(&lab.gateway, &lab.device, &[&file]);
    service.logs("<6>events are heard again");
    until_heard(&lab, &service, 9);
    service.signal(Signal::SIGTERM);
    service.says("STOPPING=1");
    service.ends();
}

/// Who has confined itself does not put its own programs back: it says so and ends, and the traffic goes on.
#[test]
fn it_ends_where_others_put_other_programs_in_place() {
    let scratch = Scratch::new();
    let other = compile(&scratch, "counts.bpf.o", &COUNTS);
    let rules = "udp redirect to :1001\n";
    for signal in [true, false] {
        let lab = Lab::new();
        let _server = Server::udp(&lab.gateway, (GATEWAY, 1001));
        let mut service = Service::start(&lab.gateway, &lab.device, rules, &[]);
        let file = service.scratch.write("same", rules);
        detour::up(&lab.gateway, &lab.device, &[&file, "--object", &other]);
        match signal {
            true => service.signal(Signal::SIGHUP),
            false => drop(lab.gateway.run("ip", &["address", "add", "192.168.178.9/24", "dev", &lab.device])),
        }
        service.ends_with(code::PERMISSION);
        let words = "other programs run on eth0 now, and this process has confined itself to those before";
        assert!(service.log().contains(words), "{}", service.log());
        assert!(heard(&lab, 7).starts_with("x "), "{}", heard(&lab, 7));
    }
}

/// What it put there goes with it; what others have put in its place stays, unless it was told to look since.
#[test]
fn down_on_exit_takes_its_own_programs_only() {
    let scratch = Scratch::new();
    let other = compile(&scratch, "counts.bpf.o", &COUNTS);
    let lab = Lab::new();
    let (ns, device) = (&lab.gateway, lab.device.as_str());
    let _server = Server::udp(ns, (GATEWAY, 1001));
    let rules = "udp redirect to :1001\n";
    let same = scratch.write("same", rules);
    let start = || Service::start(ns, device, rules, &["--down-on-exit"]);
    for line in [["--object", other.as_str()].as_slice(), &["--fresh"], &["--fresh", "--flows-max", "1000"]] {
        let mut service = start();
        detour::up(ns, device, &[&[same.as_str()], line].concat());
        service.signal(Signal::SIGTERM);
        service.says("STOPPING=1");
        service.ends_with(code::FOREIGN);
        let stays = "nothing was taken down: 'detour down eth0' does";
        for words in ["others have put other programs in place on eth0", stays] {
            assert!(service.log().contains(words), "{line:?}: {words}:\n{}", service.log());
        }
        assert!(heard(&lab, 7).starts_with("x "), "{line:?}");
        detour::run(ns, &["down", device]).done();
    }
    let ends = |meanwhile: &dyn Fn(&Service)| {
        let mut service = start();
        meanwhile(&service);
        service.signal(Signal::SIGTERM);
        service.says("STOPPING=1");
        service.ends();
        detour::run(ns, &["status", device]).ends(code::NO);
        service.log()
    };
    let log = ends(&|_| drop(detour::up(ns, device, &["--rule", "udp dport 7 redirect to :1001"])));
    assert!(log.contains("eth0: down ("), "other rules are no other programs: {log}");
    let log = ends(&|service| {
        detour::up(ns, device, &[&same, "--fresh"]);
        service.signal(Signal::SIGHUP);
        service.says("RELOADING=1");
        service.says("READY=1");
    });
    assert!(log.contains("SIGHUP: eth0: nothing to do") && log.contains("eth0: down ("), "{log}");
    let log = ends(&|_| drop(detour::run(ns, &["down", device]).done()));
    assert!(log.contains("nothing is up on eth0") && !log.contains("eth0: down ("), "{log}");
    // A part of it, which nobody else would clear.
    let log = ends(&|_| drop(ns.run("tc", &["qdisc", "del", "dev", device, "clsact"])));
    assert!(log.contains("eth0: down ("), "{log}");
    assert!(!ns.run("ls", &["/sys/fs/bpf"]).contains("detour"));
}

/// A reload changes no options: where others have chosen some it says which, and what would.
#[test]
fn a_reload_says_what_changes_options() {
    let lab = Lab::new();
    let _server = Server::udp(&lab.gateway, (GATEWAY, 1001));
    let rules = "udp redirect to :1001\n";
    let mut service = Service::start(&lab.gateway, &lab.device, rules, &[]);
    let file = service.scratch.write("same", rules);
    detour::up(&lab.gateway, &lab.device, &[&file, "--fresh", "--flows-max", "1000"]);
    service.signal(Signal::SIGHUP);
    service.says("RELOADING=1");
    service.says("READY=1");
    service.logs(
        "<3>SIGHUP: nothing is changed: eth0 is up with other options: confirmed_slots4 is 1000, not 65536",
    );
    service
        .logs("<3>  hint: the options that it was started with go on; 'detour up eth0 --fresh' with these");
    assert!(heard(&lab, 7).starts_with("x "));
    service.signal(Signal::SIGTERM);
    service.says("STOPPING=1");
    service.ends();
    detour::run(&lab.gateway, &["verify", "--live", &lab.device, "--flows-max", "1000"]).done();
}

/// The programs go with the device, and the service stays with the name: it says what is missing, and goes on when the name is
/// back.
#[test]
fn a_device_that_is_renamed_is_served_and_missed() {
    let lab = Lab::new();
    let (ns, device) = (&lab.gateway, lab.device.as_str());
    let _server = Server::udp(ns, (GATEWAY, 1001));
    let mut service = Service::start(ns, device, "udp redirect to :1001\n", &[]);
    until_heard(&lab, &service, 7);
    lab::ip(ns, "link set eth0 name lan0");
    service
        .logs("<3>devices or addresses have changed: nothing is changed: there is no network device 'eth0'");
    assert!(heard(&lab, 8).starts_with("x "), "the kernel carries on");
    let status = detour::json(ns, &["status"]);
    assert_eq!(status["instances"][0]["device"], "lan0", "{status}");
    service.scratch.write("rules", "udp dport 1-60000 redirect to :1001\n");
    service.signal(Signal::SIGHUP);
    service.says("RELOADING=1");
    service.says("READY=1");
    service.logs("<3>SIGHUP: nothing is changed: ");
    lab::ip(ns, "link set lan0 name eth0");
    service.logs("<6>devices or addresses have changed: eth0: other rules are in force now");
    until_heard(&lab, &service, 9);
    service.signal(Signal::SIGTERM);
    service.says("STOPPING=1");
    service.ends();
    detour::run(ns, &["status", device]).done();
}

#[test]
fn it_starts_beside_another_reader_and_follows_him() {
    let lab = Lab::new();
    let _server = Server::udp(&lab.gateway, (GATEWAY, 1001));
    let rules = "udp redirect to :1001\n";
    detour::up(&lab.gateway, &lab.device, &["--rule", "udp redirect to :1001"]);
    let events = e2e::listen::Events::start(&lab.gateway, &lab.device, &["-j"]);
    let service = Service::start(&lab.gateway, &lab.device, rules, &[]);
    let who = format!("<4>no events are heard: 'detour events eth0 -j' (process {})", events.0.id());
    service.logs(&who);
    drop(events); // SIGKILL
    service.logs("<6>events are heard again");
    until_heard(&lab, &service, 7);
}

#[test]
fn events_go_to_a_file_that_others_may_move_away() {
    let lab = Lab::new();
    let _server = Server::udp(&lab.gateway, (GATEWAY, 1001));
    let scratch = Scratch::new();
    let (file, old) = (scratch.path("events"), scratch.path("events.1"));
    std::fs::write(&file, "{\"before\":1}\n").unwrap();
    let more = ["-j", "--events", file.to_str().unwrap()];
    let mut service = Service::start(&lab.gateway, &lab.device, "udp redirect to :1001\n", &more);
    let lines = |path: &std::path::Path| -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    };
    let asked = |path: &std::path::Path| -> Vec<u64> {
        let new = lines(path).into_iter().filter(|line| line["event"] == "new");
        new.map(|line| line["destination"]["port"].as_u64().unwrap()).collect()
    };
    let comes = |path: &std::path::Path, ports: &[u64]| {
        let start = std::time::Instant::now();
        while asked(path) != ports {
            assert!(
                start.elapsed().as_secs() < 20,
                "{ports:?} is not in {:?}\n{}",
                lines(path),
                service.log()
            );
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    };
    heard(&lab, 7);
    comes(&file, &[7]);
    assert_eq!(lines(&file)[0]["before"], 1, "it is appended to");
    std::fs::rename(&file, &old).unwrap();
    heard(&lab, 8);
    comes(&old, &[7, 8]);
    service.signal(Signal::SIGHUP);
    service.says("RELOADING=1");
    service.says("READY=1");
    heard(&lab, 9);
    comes(&file, &[9]);
    assert!(!service.log().contains(" new udp "), "not in both places:\n{}", service.log());

    // A file that cannot be opened, or written, ends nothing: the one before goes on, and it is said once.
    std::fs::rename(&file, &old).unwrap();
    std::fs::create_dir(&file).unwrap();
    service.signal(Signal::SIGHUP);
    service.says("RELOADING=1");
    service.says("READY=1");
    service.logs("<3>");
    heard(&lab, 10);
    comes(&old, &[9, 10]);
    service.signal(Signal::SIGTERM);
    service.says("STOPPING=1");
    service.ends();
    std::fs::remove_dir(&file).unwrap();
    // As it is on a full disk; a link is followed that was there at the start.
    std::os::unix::fs::symlink("/dev/full", &file).unwrap();
    let mut service = Service::start(&lab.gateway, &lab.device, "udp redirect to :1001\n", &more);
    heard(&lab, 11);
    service.logs("events are not written: No space left on device");
    service.signal(Signal::SIGTERM);
    service.says("STOPPING=1");
    service.ends();
    for option in ["--events", "--names", "--metrics-file"] {
        let bad = ["run", &lab.device, "--rule", "redirect", option, "/nonexistent/file"];
        detour::run(&lab.gateway, &bad).refused(code::USAGE, &["/nonexistent/file", "mkdir -p /nonexistent"]);
    }
}

#[test]
fn signs_of_life_come_while_they_are_wanted() {
    let lab = Lab::new();
    let service = Service::start(&lab.gateway, &lab.device, "udp redirect to :1001\n", &[]);
    (0..3).for_each(|_| service.lives());
    // While it waits for the lock it cannot say so; then it goes on.
    service.signal(Signal::SIGHUP);
    service.says("RELOADING=1");
    service.says("READY=1");
    service.lives();
}
