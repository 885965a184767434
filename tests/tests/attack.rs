// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What strangers can do to a gateway: floods, scans and races. Those who talk already must not notice.
use e2e::bench::Bench;
use e2e::capture::Wire;
use e2e::crowd::{arrivals, meanwhile, Crowd, Flood};
use e2e::detour::{self, up};
use e2e::family::Family;
use e2e::lab::Lab;
use e2e::packet::{Packet, ACK, FIN, RST, SYN};
use e2e::race::race;
use e2e::serve::Server;
use e2e::talk;
use e2e::testrun::{Outcome, Sums};
use nix::sys::resource::{getrlimit, setrlimit, Resource};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// The table of confirmed flows.
const FLOWS: u32 = 65_536;
/// Half-open flows of a processor.
const HALF_OPEN: u32 = 4096;

/// What IPv6 gets of `four` slots.
fn share(family: Family, four: u32) -> u32 {
    family.pick(four, four / 4)
}

/// Addresses that nobody has, one for each `n`, at `port`.
fn nobody(family: Family, n: u32, port: u16) -> SocketAddr {
    let four = Ipv4Addr::from(u32::from(Ipv4Addr::new(203, 0, 0, 0)) + n);
    let six = Ipv6Addr::from(u128::from(Ipv6Addr::new(0x2001, 0xdb8, 0xbad, 0, 0, 0, 0, 0)) + u128::from(n));
    SocketAddr::new(family.pick(IpAddr::from(four), six.into()), port)
}

/// The server's end.
fn server(family: Family, port: u16) -> SocketAddr {
    SocketAddr::new(family.gateway(), port)
}

/// Both ends of thousands of connections are in this process.
fn many_descriptors() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}

fn a_flood(family: Family, first_packets: u32) {
    many_descriptors();
    let lab = Lab::new();
    // The answers to clients that are not there have somewhere to go.
    lab.gateway.run("ip", &["route", "add", "default", "via", &family.client().to_string()]);
    let (rule, flows) = ("tcp dport 80 redirect to :8080", family.pick(FLOWS, 4 * FLOWS).to_string());
    up(&lab.gateway, &lab.device, &["--rule", rule, "--rule", "redirect", "--flows-max", &flows]);
    let _servers =
        (Server::echo(&lab.gateway, server(family, 8080)), Server::udp(&lab.gateway, server(family, 53)));
    let mut crowd = Crowd::new(&lab.client, 1000, |n| nobody(family, n, 80));
    // Served and refused, by TCP and by UDP.
    let mut flood = Flood::new(&lab, family, &[80, 81], &[53, 54]);
    let (over, start) = (AtomicBool::new(false), Instant::now());
    let ((tried, served), seconds) = std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            flood.send(first_packets);
            over.store(true, Ordering::Relaxed);
            start.elapsed().as_secs_f64()
        });
        scope.spawn(|| meanwhile(&over, || crowd.exchange()));
        (arrivals(&lab.client, 260, |n| nobody(family, 0x10000 + n, 80), &over), flood.join().unwrap())
    });
    crowd.exchange();
    println!(
        "{first_packets} first packets in {seconds:.1} s; meanwhile {} exchanges on each of 1000 connections, {served} of {tried} \
         new ones served",
        crowd.rounds()
    );
    assert!(f64::from(tried) >= 200.0 * seconds, "the load was not made: {tried} new ones in {seconds} s");
    // One that may fail, at 99 of 100.
    assert!(tried >= 100, "the flood was over after {tried} new connections: this shows little");
    assert!(served * 100 >= tried * 99, "{served} of {tried}");
}

/// One after the other: each takes a processor for itself.
#[test]
fn a_flood_of_first_packets_costs_nobody_a_connection() {
    a_flood(Family::V4, 20 * FLOWS);
    a_flood(Family::V6, 20 * FLOWS);
}

#[test]
fn a_scan_of_all_ports_hides_nobody_else() {
    for family in Family::BOTH {
        let lab = Lab::new();
        up(
            &lab.gateway,
            &lab.device,
            &["--rule", "tcp dport 80 redirect", "--rule", "redirect", "--asked-max", "4096"],
        );
        let _server = Server::echo(&lab.gateway, server(family, 80));
        let mut crowd = Crowd::new(&lab.client, 8, |n| nobody(family, n, 80));
        let bench = Bench { lab };
        let ingress = bench.program("ingress");
        let scanner = nobody(family, 0x20000, 40_000);
        bench.lab.gateway.within(|| {
            for port in 1..=u16::MAX {
                let packet = Packet::tcp(scanner, SocketAddr::new(family.far(), port), SYN);
                ingress.run_here(&packet.frame(), Sums::None).unwrap();
            }
        });
        crowd.exchange();
        let asked = detour::json(&bench.lab.gateway, &["asked", &bench.lab.device]);
        let rows = asked["rows"].as_array().expect("rows");
        let of = |client: IpAddr| rows.iter().filter(|row| row["client"] == client.to_string()).count();
        assert_eq!(of(family.client()), 8, "one row for each that the crowd asked: {asked}");
        // A client may own a sixteenth of the table; the rest of its packets are counted together.
        assert_eq!(of(scanner.ip()), 4096 / 16);
        let others = asked["others"].as_array().expect("others");
        let others: u64 = others.iter().map(|other| other["packets"].as_u64().unwrap()).sum();
        assert_eq!(others, 65_535 - 4096 / 16);
    }
}

/// Runs each of `frames` through the ingress program on two processors at the same moment.
fn both(bench: &Bench, frames: &[Vec<u8>]) -> [Vec<Outcome>; 2] {
    let ingress = bench.program("ingress");
    let run = |_, n: usize| ingress.run_here(&frames[n], Sums::None).unwrap();
    race(&bench.lab.gateway, frames.len(), run).0
}

/// Half-open slots that both processors together have taken, and confirmed ones.
fn taken(bench: &Bench, family: Family) -> (usize, usize) {
    let number = |bytes: &[u8]| u32::from_ne_bytes(bytes[..4].try_into().unwrap()) as usize;
    // struct hands (ebpf-src/abi.h) of each processor: where it goes on in its ring, which has not come round.
    let hands = bench.map("hands").lookup(&family.pick(0u32, 1).to_ne_bytes()).unwrap().unwrap();
    let half = hands.chunks(8).map(number).sum();
    let slots = bench.map(family.pick("slots4", "slots6"));
    let first = share(family, HALF_OPEN) * (hands.len() / 8) as u32;
    // A slot counts its tenants, also those who left it at once.
    let tenants = |slot: u32| slots.lookup(&slot.to_ne_bytes()).unwrap().map(|slot| number(&slot[4..]));
    (half, (first..).map_while(tenants).sum())
}

#[test]
fn two_processors_open_and_confirm_one_flow() {
    Family::BOTH.into_iter().for_each(two_processors);
}

fn two_processors(family: Family) {
    let bench = Bench::new(&["tcp dport 80 redirect to :8080"]);
    let client = |n: u16| SocketAddr::new(family.client(), 10_000 + n);
    // Every second one has to take another client port, because the one before has this 4-tuple at the server.
    let far = |n: u16| nobody(family, u32::from(n % 2), 80);
    let packet = |n: u16, flags| Packet::tcp(client(n / 2), far(n), flags);
    // A race takes a half-open slot on both processors.
    let count = share(family, HALF_OPEN) as u16 - 24;

    let syns: Vec<Vec<u8>> = (0..count).map(|n| packet(n, SYN).frame()).collect();
    let [here, there] = both(&bench, &syns);
    for (n, (here, there)) in here.iter().zip(&there).enumerate() {
        assert_eq!(here, there, "flow {n}: both processors rewrite it alike");
    }
    let mut ends: Vec<(u16, SocketAddr)> = Vec::new();
    for (n, outcome) in (0..count).zip(&here) {
        let read = Packet::read(&outcome.frame).unwrap();
        let (from, to) = read.ends();
        assert_eq!(to, server(family, 8080), "flow {n}");
        ends.push((n, from));
    }
    ends.sort_by_key(|(_, from)| *from);
    let twice = ends.windows(2).find(|two| two[0].1 == two[1].1);
    assert_eq!(twice, None, "two flows share a 4-tuple at the server");

    // Who finds the flow takes no slot: where both have taken one, both were about to open the flow.
    let races = taken(&bench, family).0 - usize::from(count);

    // The server answers, then both processors see the client's acknowledgement.
    let egress = bench.program("egress");
    ends.sort();
    for (n, from) in &ends {
        let answer = Packet::tcp(server(family, 8080), *from, SYN | ACK);
        let outcome = egress.run(&answer.frame(), Sums::None);
        assert_eq!(Packet::read(&outcome.frame), Ok(packet(*n, SYN | ACK).reversed()), "flow {n}");
    }
    let acks: Vec<Vec<u8>> = (0..count).map(|n| packet(n, ACK).acknowledging(0x0102_0305).frame()).collect();
    let [here, there] = both(&bench, &acks);
    assert_eq!(here, there);
    // And as for opening: where both have taken a slot, both were about to move the flow there.
    let moves = taken(&bench, family).1 - usize::from(count);
    println!("{family:?}: {races} and {moves} of {count} were races");
    assert!(races >= 10 && moves >= 10, "{races} and {moves} of {count} were races: this shows little");
    let flows = detour::json(&bench.lab.gateway, &["flows", &bench.lab.device]);
    let flows = flows["flows"].as_array().expect("flows");
    let confirmed = flows.iter().filter(|flow| flow["state"] == "confirmed").count();
    assert_eq!((confirmed, flows.len()), (usize::from(count), usize::from(count)));
    for flow in flows {
        // SYN and ACK, each on two processors, and one answer. Who loses a race counts in what the winner made.
        assert_eq!(flow["from_client"]["packets"], 4, "{flow}");
        assert_eq!(flow["from_server"]["packets"], 1, "{flow}");
    }
}

#[test]
fn a_full_table_keeps_what_it_has() {
    Family::BOTH.into_iter().for_each(a_full_table);
}

fn a_full_table(family: Family) {
    let lab = Lab::new();
    let slots = family.pick("16", "64");
    up(&lab.gateway, &lab.device, &["--rule", "tcp dport 80 redirect to :8080", "--flows-max", slots]);
    let _server = Server::echo(&lab.gateway, server(family, 8080));
    let mut first = Crowd::new(&lab.client, 16, |n| nobody(family, n, 80));
    // These find no room and stay half-open: served as long as nobody pushes them out.
    let mut later = Crowd::new(&lab.client, 16, |n| nobody(family, 100 + n, 80));
    later.exchange();
    let flows = detour::json(&lab.gateway, &["flows", &lab.device]);
    let of = |state: &str| flows["flows"].as_array().unwrap().iter().filter(|f| f["state"] == state).count();
    assert_eq!((of("confirmed"), of("answered")), (16, 16), "{flows}");
    let status = detour::json(&lab.gateway, &["status", &lab.device]);
    let counters = &status["instances"][0]["dnat"]["not_translated"];
    assert!(counters["full"].as_u64() >= Some(16), "each of the later ones asked for a slot: {status}");
    // 20 times the half-open slots: the later ones are pushed out, the first ones stay.
    Flood::new(&lab, family, &[80], &[]).send(2 * share(family, HALF_OPEN) * 20);
    first.exchange();
}

/// Somebody knows both ends of a connection, and no sequence number: he says RST, or FIN where the server has said it
/// already, and then SYN in the client's name. The server takes neither (RFC 5961), and the connection goes on.
#[test]
fn forged_segments_end_no_connection() {
    for family in Family::BOTH {
        let lab = Lab::new();
        up(&lab.gateway, &lab.device, &["--rule", "tcp dport 80 redirect to :8080"]);
        let listener = lab.gateway.within(|| TcpListener::bind(server(family, 8080)).unwrap());
        let wire = Wire::tap(&lab.client, "eth0");
        for (port, half_closed, forged) in
            [(4000, false, RST), (4001, false, RST | ACK), (4002, true, FIN | ACK), (4003, true, RST)]
        {
            let (from, to) = (SocketAddr::new(family.client(), port), nobody(family, 0, 80));
            let mut client = talk::dial(&lab.client, port, to).unwrap();
            let (mut served, _) = listener.accept().unwrap();
            served.set_read_timeout(Some(talk::PATIENCE)).unwrap();
            client.write_all(b"one").unwrap();
            served.read_exact(&mut [0; 3]).unwrap();
            if half_closed {
                served.shutdown(Shutdown::Write).unwrap();
                assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
            }
            for flags in [forged, SYN] {
                let mut frame = Packet::tcp(from, to, flags).frame();
                frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
                frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 0x52]);
                wire.send(&frame);
            }
            let what = format!("{family:?}, flags {forged:#x}, half closed: {half_closed}");
            let mut heard = [0; 3];
            client.write_all(b"two").unwrap_or_else(|error| panic!("{what}: {error}"));
            served.read_exact(&mut heard).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(&heard, b"two", "{what}");
            // What ended all the same is told with the next segment.
            client.write_all(b"end").unwrap_or_else(|error| panic!("{what}: {error}"));
            served.read_exact(&mut heard).unwrap_or_else(|error| panic!("{what}: {error}"));
        }
    }
}
