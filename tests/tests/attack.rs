// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What strangers can do to a gateway: floods, scans and races. Those who talk already must not notice.
use e2e::bench::{at, Bench, FAR};
use e2e::crowd::{honest, meanwhile, Crowd, Flood};
use e2e::detour::{self, up};
use e2e::lab::{Lab, CLIENT, GATEWAY};
use e2e::netns::apart;
use e2e::packet::{Packet, ACK, SYN};
use e2e::serve::Server;
use e2e::testrun::{Outcome, Sums};
use nix::sched::{sched_setaffinity, CpuSet};
use nix::sys::resource::{getrlimit, setrlimit, Resource};
use nix::unistd::Pid;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Barrier;

/// The table of confirmed flows, and 20 times as many first packets.
const FLOWS: u32 = 65_536;
const FLOOD: u32 = 20 * FLOWS;

/// Addresses that nobody has, one for each `n`.
fn nobody(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(203, 0, 0, 0)) + n)
}

/// Both ends of thousands of connections are in this process.
fn many_descriptors() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}

#[test]
fn a_flood_of_first_packets_costs_nobody_a_connection() {
    many_descriptors();
    let lab = Lab::new();
    // The answers to clients that are not there have somewhere to go.
    lab.gateway.run("ip", &["route", "add", "default", "via", &CLIENT.to_string()]);
    let (rule, flows) = ("tcp dport 80 redirect to :8080", FLOWS.to_string());
    up(&lab.gateway, &lab.device, &["--rule", rule, "--rule", "redirect", "--flows-max", &flows]);
    let _server = Server::echo(&lab.gateway, SocketAddr::from((GATEWAY, 8080)));
    let mut crowd = Crowd::new(&lab.client, 1000, |n| SocketAddr::from((nobody(n), 80)));
    // Served and refused, by TCP and by UDP.
    let mut flood = Flood::new(&lab, &[80, 81], &[53, 54]);

    let over = AtomicBool::new(false);
    let (mut good, mut tried) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            flood.send(FLOOD);
            over.store(true, Ordering::Relaxed);
        });
        scope.spawn(|| meanwhile(&over, || crowd.exchange()));
        meanwhile(&over, || {
            tried += 1;
            let to = SocketAddr::from((nobody(0x10000 + tried), 80));
            good += u32::from(honest(&lab.client, to).map_err(|error| eprintln!("{to}: {error}")).is_ok());
        });
    });
    crowd.exchange();
    println!("{FLOOD} first packets; meanwhile {} exchanges on each of 1000 connections, {good} of {tried} new ones served", crowd.rounds());
    assert!(tried >= 1000, "the flood was over after {tried} new connections: this shows little");
    assert!(good * 100 >= tried * 99, "{good} of {tried}");
}

#[test]
fn a_scan_of_all_ports_hides_nobody_else() {
    let lab = Lab::new();
    up(
        &lab.gateway,
        &lab.device,
        &["--rule", "tcp dport 80 redirect", "--rule", "redirect", "--asked-max", "4096"],
    );
    let _server = Server::echo(&lab.gateway, SocketAddr::from((GATEWAY, 80)));
    let mut crowd = Crowd::new(&lab.client, 8, |n| SocketAddr::from((nobody(n), 80)));
    let bench = Bench { lab };
    let ingress = bench.program("ingress");
    let scanner = |port| at(Ipv4Addr::new(10, 77, 0, 1), port);
    bench.lab.gateway.within(|| {
        for port in 1..=u16::MAX {
            let packet = Packet::tcp(scanner(40_000), at(FAR, port), SYN);
            ingress.run_here(&packet.frame(), Sums::None).unwrap();
        }
    });
    crowd.exchange();
    let asked = detour::json(&bench.lab.gateway, &["asked", &bench.lab.device]);
    let rows = asked["rows"].as_array().expect("rows");
    let of = |client: &str| rows.iter().filter(|row| row["client"] == client).count();
    assert_eq!(of(&CLIENT.to_string()), 8, "one row for each that the crowd asked: {asked}");
    // A client may own a sixteenth of the table; the rest of its packets are counted together.
    assert_eq!(of("10.77.0.1"), 4096 / 16);
    let others: u64 =
        asked["others"].as_array().expect("others").iter().map(|o| o["packets"].as_u64().unwrap()).sum();
    assert_eq!(others, 65_535 - 4096 / 16);
}

/// Runs `frame` through the ingress program on two CPUs at the same moment, `times` times with another frame each.
fn race(bench: &Bench, frames: &[Vec<u8>]) -> [Vec<Outcome>; 2] {
    let barrier = Barrier::new(2);
    let ingress = bench.program("ingress");
    let side = |cpu: usize| {
        bench.lab.gateway.within(|| {
            let mut set = CpuSet::new();
            set.set(cpu).unwrap();
            sched_setaffinity(Pid::from_raw(0), &set).expect("two CPUs");
            let run = |frame: &Vec<u8>| {
                barrier.wait();
                ingress.run_here(frame, Sums::None).unwrap()
            };
            frames.iter().map(run).collect()
        })
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| side(1));
        let this = apart(|| side(0));
        [this, other.join().unwrap()]
    })
}

#[test]
fn two_processors_open_and_confirm_one_flow() {
    let bench = Bench::new(&["tcp dport 80 redirect to :8080"]);
    let client = |n: u16| at(CLIENT, 10_000 + n);
    // Every second one has to take another client port, because the one before has this 4-tuple at the server.
    let far = |n: u16| at(nobody(u32::from(n % 2)), 80);
    let packet = |n: u16, flags| Packet::tcp(client(n / 2), far(n), flags);
    const COUNT: u16 = 4000;

    let syns: Vec<Vec<u8>> = (0..COUNT).map(|n| packet(n, SYN).frame()).collect();
    let [here, there] = race(&bench, &syns);
    for (n, (here, there)) in here.iter().zip(&there).enumerate() {
        assert_eq!(here, there, "flow {n}: both processors rewrite it alike");
    }
    let mut ends: Vec<(u16, SocketAddr)> = Vec::new();
    for (n, outcome) in (0..COUNT).zip(&here) {
        let read = Packet::read(&outcome.frame).unwrap();
        let (from, to) = read.ends();
        assert_eq!(to, SocketAddr::from((GATEWAY, 8080)), "flow {n}");
        ends.push((n, from));
    }
    ends.sort_by_key(|(_, from)| *from);
    let twice = ends.windows(2).find(|two| two[0].1 == two[1].1);
    assert_eq!(twice, None, "two flows share a 4-tuple at the server");

    // The server answers, then both processors see the client's acknowledgement.
    let egress = bench.program("egress");
    ends.sort();
    for (n, from) in &ends {
        let SocketAddr::V4(from) = from else { panic!("{from}") };
        let answer = Packet::tcp(at(GATEWAY, 8080), *from, SYN | ACK);
        let outcome = egress.run(&answer.frame(), Sums::None);
        assert_eq!(Packet::read(&outcome.frame), Ok(packet(*n, SYN | ACK).reversed()), "flow {n}");
    }
    let acks: Vec<Vec<u8>> = (0..COUNT).map(|n| packet(n, ACK).acknowledging(0x0102_0305).frame()).collect();
    let [here, there] = race(&bench, &acks);
    assert_eq!(here, there);
    let flows = detour::json(&bench.lab.gateway, &["flows", &bench.lab.device]);
    let flows = flows["flows"].as_array().expect("flows");
    let confirmed = flows.iter().filter(|flow| flow["state"] == "confirmed").count();
    assert_eq!((confirmed, flows.len()), (usize::from(COUNT), usize::from(COUNT)));
    for flow in flows {
        // SYN and ACK, each on two processors, and one answer. Who loses a race counts in what the winner made.
        assert_eq!(flow["from_client"]["packets"], 4, "{flow}");
        assert_eq!(flow["from_server"]["packets"], 1, "{flow}");
    }
}

#[test]
fn a_full_table_keeps_what_it_has() {
    let lab = Lab::new();
    up(&lab.gateway, &lab.device, &["--rule", "tcp dport 80 redirect to :8080", "--flows-max", "16"]);
    let _server = Server::echo(&lab.gateway, SocketAddr::from((GATEWAY, 8080)));
    let mut first = Crowd::new(&lab.client, 16, |n| SocketAddr::from((nobody(n), 80)));
    // These find no room and stay half-open: served as long as nobody pushes them out.
    let mut later = Crowd::new(&lab.client, 16, |n| SocketAddr::from((nobody(100 + n), 80)));
    later.exchange();
    let flows = detour::json(&lab.gateway, &["flows", &lab.device]);
    let of = |state: &str| flows["flows"].as_array().unwrap().iter().filter(|f| f["state"] == state).count();
    assert_eq!((of("confirmed"), of("answered")), (16, 16), "{flows}");
    let status = detour::json(&lab.gateway, &["status", &lab.device]);
    let counters = &status["instances"][0]["dnat"]["not_translated"];
    assert!(counters["full"].as_u64() >= Some(16), "each of the later ones asked for a slot: {status}");
    // 20 times the half-open slots: the later ones are pushed out, the first ones stay.
    Flood::new(&lab, &[80], &[]).send(2 * 4096 * 20);
    first.exchange();
}
