// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Packets, connections and bytes between two namespaces: with nothing in between, an empty program, nftables, ours, and
//! the least that any DNAT in tc would do (tests/peers/stateless.bpf.c, named by `$STATELESS`).
use crate::spread::Spread;
use e2e::bench::FAR;
use e2e::lab::{Lab, GATEWAY};
use e2e::tools;
use nix::time::{clock_gettime, ClockId};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

const UDP: u16 = 9999;
const TCP: u16 = 8080;
/// How long one measurement lasts.
const TURN: Duration = Duration::from_secs(1);

/// A lab, what stands between its hosts, and the address that the client asks.
struct Candidate {
    name: &'static str,
    lab: Lab,
    asked: Ipv4Addr,
}

/// What is measured of a candidate in one turn.
type Measure = fn(&Candidate) -> f64;

/// Prints the table.
pub fn table(rounds: usize) {
    let candidates = candidates();
    let measures: [(&str, Measure); 6] = [
        ("UDP, 64 bytes: packets per second", udp_rate),
        ("UDP, 64 bytes: ns of CPU per packet", udp_cpu),
        ("TCP, 1 stream: MByte per second", |c| bulk(c, 1)),
        ("TCP, 8 streams: MByte per second", |c| bulk(c, 8)),
        ("TCP: connections per second", connections_rate),
        ("TCP: microseconds of CPU per connection", connections_cpu),
    ];
    let names = candidates.each_ref().map(|c| c.name).join(" | ");
    println!("| what | {names} | ours / empty | ours / nft | stateless / empty |");
    println!("|---|{}", "---|".repeat(candidates.len() + 3));
    for (name, measure) in measures {
        let mut values = candidates.each_ref().map(|_| Vec::new());
        for _ in 0..rounds {
            for (candidate, values) in candidates.iter().zip(&mut values) {
                values.push(measure(candidate));
            }
        }
        let ratio = |of: usize, to: usize| Spread::pairs(&values[of], &values[to], |a, b| a / b);
        let (empty, nft, least) = (ratio(3, 1), ratio(3, 2), ratio(4, 1));
        let row = values.each_ref().map(|values| format!("{:.0}", Spread::of(values.clone())));
        println!("| {name} | {} | {empty:.3} | {nft:.3} | {least:.3} |", row.join(" | "));
    }
    println!();
}

fn candidates() -> [Candidate; 5] {
    let direct = |name| Candidate { name, lab: Lab::new(), asked: GATEWAY };
    let far = |name| Candidate { name, lab: Lab::new(), asked: FAR };
    let all = [direct("nothing"), direct("empty program"), far("nft"), far("ours"), far("stateless")];
    for hook in tools::HOOKS {
        if hook == "ingress" {
            all[1].lab.gateway.run("tc", &["qdisc", "add", "dev", "eth0", "clsact"]);
        }
        tools::foreign_filter(&all[1].lab.gateway, "eth0", hook, 100);
    }
    all[2].lab.nft(&format!("meta l4proto {{ tcp, udp }} dnat to {GATEWAY}"));
    e2e::detour::up(&all[3].lab.gateway, "eth0", &["--rule", "redirect"]);
    least(&all[4].lab);
    all
}

/// Loads the least that any DNAT does, from FAR to the gateway.
pub fn least(lab: &Lab) {
    let least = std::env::var("STATELESS").expect("STATELESS: tests/peers/stateless.bpf.c, compiled");
    let set = [("asked", FAR), ("server", GATEWAY)]
        .map(|(name, address)| format!("{name}={}", u32::from_ne_bytes(address.octets())));
    let ends = ["--ingress", "arrives", "--egress", "leaves", "--set", &set[0], "--set", &set[1]];
    e2e::detour::run(&lab.gateway, &[&["load", &least, &lab.device][..], &ends].concat()).done();
}

/// Seconds of CPU that this process has used, the kernel's work for it included.
fn cpu() -> f64 {
    Duration::from(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("a clock")).as_secs_f64()
}

/// What was done in one turn, and what it took.
struct Turn {
    done: f64,
    seconds: f64,
    cpu: f64,
}

/// Has `work` done again and again; it says how much it did.
fn turn(mut work: impl FnMut() -> usize) -> Turn {
    let (start, cpu_before, mut done) = (Instant::now(), cpu(), 0);
    while start.elapsed() < TURN {
        done += work();
    }
    Turn { done: done as f64, seconds: start.elapsed().as_secs_f64(), cpu: cpu() - cpu_before }
}

fn udp_rate(candidate: &Candidate) -> f64 {
    let turn = udp(candidate);
    turn.done / turn.seconds
}

fn udp_cpu(candidate: &Candidate) -> f64 {
    let turn = udp(candidate);
    turn.cpu * 1e9 / turn.done
}

/// Datagrams that arrive, sent and taken in turns so that none has to be dropped.
fn udp(candidate: &Candidate) -> Turn {
    let server = candidate.lab.gateway.within(|| UdpSocket::bind((GATEWAY, UDP)).expect("a server"));
    let client = candidate.lab.client.within(|| UdpSocket::bind("0.0.0.0:0").expect("a client"));
    client.connect((candidate.asked, UDP)).expect("an address");
    server.set_nonblocking(true).expect("a socket");
    let mut room = [0; 128];
    let turn = turn(|| {
        for _ in 0..32 {
            // 64 bytes of IP: 20 of header, 8 of UDP.
            client.send(&[7; 36]).expect("sent");
        }
        std::iter::from_fn(|| server.recv(&mut room).ok()).count()
    });
    assert!(turn.done > 0.0, "{}: nothing arrives", candidate.name);
    turn
}

fn connections_rate(candidate: &Candidate) -> f64 {
    let turn = connections(candidate);
    turn.done / turn.seconds
}

fn connections_cpu(candidate: &Candidate) -> f64 {
    let turn = connections(candidate);
    turn.cpu * 1e6 / turn.done
}

/// Connections with a byte each way, ended by a reset, so that nothing waits afterwards.
fn connections(candidate: &Candidate) -> Turn {
    let server = candidate.lab.gateway.within(|| TcpListener::bind((GATEWAY, TCP)).expect("a server"));
    let to = SocketAddrV4::new(candidate.asked, TCP);
    candidate.lab.client.within(|| {
        turn(|| {
            let mut client = TcpStream::connect(to).expect("a connection");
            let (mut served, _) = server.accept().expect("it arrives");
            let mut byte = [7];
            client.write_all(&byte).expect("asked");
            served.read_exact(&mut byte).expect("heard");
            served.write_all(&byte).expect("answered");
            client.read_exact(&mut byte).expect("heard back");
            nix::sys::socket::setsockopt(
                &client,
                nix::sys::socket::sockopt::Linger,
                &nix::libc::linger { l_onoff: 1, l_linger: 0 },
            )
            .expect("an option");
            1
        })
    })
}

/// Megabytes per second over `streams` connections.
fn bulk(candidate: &Candidate, streams: usize) -> f64 {
    let server = candidate.lab.gateway.within(|| TcpListener::bind((GATEWAY, TCP)).expect("a server"));
    let to = SocketAddr::from((candidate.asked, TCP));
    let pairs: Vec<(TcpStream, TcpStream)> = (0..streams)
        .map(|_| {
            let client = candidate.lab.client.within(|| TcpStream::connect(to).expect("a connection"));
            (client, server.accept().expect("it arrives").0)
        })
        .collect();
    let start = Instant::now();
    let bytes: usize = std::thread::scope(|scope| {
        let readers: Vec<_> = pairs
            .iter()
            .map(|(client, served)| {
                scope.spawn(move || {
                    let block = vec![7; 1 << 16];
                    let mut client = client;
                    while start.elapsed() < TURN {
                        client.write_all(&block).expect("sent");
                    }
                    client.shutdown(std::net::Shutdown::Write).expect("ended");
                });
                scope.spawn(move || {
                    let (mut served, mut room, mut bytes) = (served, vec![0; 1 << 16], 0);
                    while let Ok(n @ 1..) = served.read(&mut room) {
                        bytes += n;
                    }
                    bytes
                })
            })
            .collect();
        readers.into_iter().map(|reader| reader.join().expect("read")).sum()
    });
    bytes as f64 / 1e6 / start.elapsed().as_secs_f64()
}
