// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Nanoseconds of one run where the stack has just been at work: what a packet on a wire meets, not what a loop does.
use crate::spread::Spread;
use crate::traffic::least;
use e2e::bench::{at, client, Bench, FAR};
use e2e::lab::Lab;
use e2e::packet::Packet;
use e2e::testrun::{Program, Sums};
use std::net::UdpSocket;

/// Single runs for one value.
const ONCE: usize = 2_000;
/// Datagrams through the stack before each.
const BEFORE: usize = 2;

/// Prints the table.
pub fn table(rounds: usize) {
    let stateless = Bench { lab: Lab::new() };
    least(&stateless.lab);
    let ours = Bench::new(&["redirect"]);
    let frame = Packet::udp(client(4000), at(FAR, 53)).frame();
    let programs = [
        ("an empty program", Program::nothing(&ours.lab.gateway)),
        ("stateless", stateless.program("ingress")),
        ("ours, IPv4 UDP established, in", ours.program("ingress")),
    ];
    for (name, program) in &programs[1..] {
        assert_ne!(program.run(&frame, Sums::None).frame, frame, "{name}: nothing is translated");
    }
    let server = UdpSocket::bind("127.0.0.1:0").expect("a server");
    let sender = UdpSocket::bind("127.0.0.1:0").expect("a client");
    sender.connect(server.local_addr().expect("an address")).expect("an address");
    let mut room = [0; 64];
    let mut busy = || {
        for _ in 0..BEFORE {
            sender.send(&[7; 36]).expect("sent");
            server.recv(&mut room).expect("heard");
        }
    };
    let mut values = [(); 3].map(|()| Vec::new());
    for _ in 0..rounds {
        for ((_, program), values) in programs.iter().zip(&mut values) {
            let times = program.each_after(&frame, ONCE, &mut busy);
            values.push(Spread::of(times.into_iter().map(f64::from).collect()).median);
        }
    }
    println!(
        "| one run, after {BEFORE} datagrams through the stack | ns | over an empty program |\n|---|---|---|"
    );
    for ((name, _), own) in programs.iter().zip(&values) {
        let over = Spread::pairs(own, &values[0], |a, b| a - b);
        println!("| {name} | {} | {over} |", Spread::of(own.clone()));
    }
    println!();
}
