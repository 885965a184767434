// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Random whole packets of both families, IPv6 behind extension headers, and their answers: each becomes what a model says, to the
//! byte.
use e2e::bench::Bench;
use e2e::family::Family;
use e2e::model::{arrives, destinations, frame, leaves, Fate, PORTS, RULES};
use e2e::packet::Packet;
use e2e::random::Random;
use e2e::six::Extension;
use e2e::testrun::{Program, Sums, SHOT, UNSPEC};
use std::net::SocketAddr;

const PACKETS: u16 = 10_000;

/// Runs it and compares what comes out; which fate it had, as a number.
fn meets(program: &Program<'_>, packet: &Packet, chain: &[Extension], fate: &Fate, sums: Sums) -> usize {
    let sent = frame(packet, chain);
    let outcome = program.run_here(&sent, sums).unwrap();
    let (verdict, expected, kind) = match fate {
        Fate::Passes => (UNSPEC, sent, 0),
        Fate::Dropped => (SHOT, sent, 1),
        Fate::Sent(packet) => (UNSPEC, frame(packet, chain), 2),
    };
    let what = || format!("{packet:?} behind {chain:02x?}, {sums:?}: {fate:?}");
    assert_eq!(outcome.verdict, verdict, "{}", what());
    assert_eq!(outcome.frame, expected, "{}", what());
    kind
}

fn as_the_model_says(family: Family) {
    let bench = Bench::new(&RULES);
    let (ingress, egress) = (bench.program("ingress"), bench.program("egress"));
    let (mut random, destinations) = (Random::new(1), destinations(family));
    let mut seen = [[0; 3]; 2];
    bench.lab.gateway.within(|| {
        for (sums, base) in [(Sums::None, 1024), (Sums::Complete, 1024 + PACKETS)] {
            for n in 0..PACKETS {
                // A client port each, so that nobody has to take another one.
                let client = SocketAddr::new(family.client(), base + n);
                let to = SocketAddr::new(random.one(&destinations), random.one(&PORTS));
                let mut chain = || match family {
                    Family::V4 => Vec::new(),
                    Family::V6 => random.extensions(),
                };
                let [chain, back] = [chain(), chain()];
                let asked = random.packet(client, to);
                let fate = arrives(&asked, &chain);
                seen[0][meets(&ingress, &asked, &chain, &fate, sums)] += 1;
                // Who answers: the server, the one of our addresses that was asked, or somebody who was not asked at all.
                let heard = match &fate {
                    Fate::Sent(served) => served.clone(),
                    _ if [family.gateway(), family.second()].contains(&asked.dst) => asked.clone(),
                    _ => asked.clone().between(client, SocketAddr::new(family.gateway(), to.port())),
                };
                let answer = random.answer(&heard);
                let fate = leaves(&asked, &chain, &fate, &answer, &back);
                seen[1][meets(&egress, &answer, &back, &fate, sums)] += 1;
            }
        }
    });
    println!("{family:?}: passed, dropped, sent: {seen:?}");
    assert!(seen.iter().flatten().all(|n| *n > 200), "passed, dropped, sent: {seen:?}");
}

#[test]
fn whole_ipv4_packets_as_the_model_says() {
    as_the_model_says(Family::V4);
}

#[test]
fn whole_ipv6_packets_as_the_model_says() {
    as_the_model_says(Family::V6);
}
