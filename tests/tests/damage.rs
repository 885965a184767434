// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Random packets of both families with damage, in both directions: what lies about itself passes untouched, and of all else
//! nothing changes but what a translation changes; a wrong checksum stays wrong by as much.
use e2e::bench::Bench;
use e2e::family::Family;
use e2e::model::{arrives, destinations, frame, readable, residue, Fate, RULES};
use e2e::random::Random;
use e2e::testrun::{Outcome, Sums, SHOT, UNSPEC};
use std::net::SocketAddr;

const PACKETS: u16 = 20_000;

/// Some bytes of the headers become others; some frames end early, some have a tail.
fn damage(random: &mut Random, family: Family, frame: &mut Vec<u8>) {
    // BPF_PROG_TEST_RUN takes no frame that ends before the IP header does.
    let shortest = family.pick(34, 54);
    for _ in 0..random.below(4) {
        let most = random.one(&[60, 60, 400]).min(frame.len() - 14);
        let at = 14 + random.below(most);
        frame[at] = random.bits() as u8;
    }
    match random.below(4) {
        0 => frame.truncate(shortest + random.below(frame.len() - shortest + 1)),
        1 => frame.extend(random.bytes(60)),
        _ => {}
    }
}

fn stay_as_damaged_as_they_were(family: Family) {
    let bench = Bench::new(&RULES);
    let (ingress, egress) = (bench.program("ingress"), bench.program("egress"));
    let (mut random, destinations) = (Random::new(2), destinations(family));
    // Arriving and leaving: not readable, not translated, translated.
    let mut seen = [[0; 3]; 2];
    bench.lab.gateway.within(|| {
        for n in 0..PACKETS {
            let client = SocketAddr::new(family.client(), 1024 + n);
            let to = SocketAddr::new(random.one(&destinations), random.one(&[80, 53, 443]));
            let asked = random.packet(client, to);
            let chain = family.pick(Vec::new(), random.extensions());
            let sums = random.one(&[Sums::None, Sums::Complete]);
            let mut packet = frame(&asked, &chain);
            let mut leaving = false;
            if let (0..=1, Fate::Sent(served)) = (random.below(3), arrives(&asked, &[])) {
                // It arrives whole, and its answer is the damaged one.
                let outcome = ingress.run_here(&asked.frame(), sums);
                assert_eq!(outcome, Ok(Outcome { verdict: UNSPEC, frame: served.frame() }));
                packet = frame(&random.answer(&served), &chain);
                leaving = true;
            }
            damage(&mut random, family, &mut packet);
            let program = if leaving { &egress } else { &ingress };
            let outcome = program.run_here(&packet, sums).unwrap();
            let kind = if !readable(&packet) {
                assert_eq!((outcome.verdict, &outcome.frame), (UNSPEC, &packet), "not readable");
                0
            } else if outcome.frame == packet {
                assert!([UNSPEC, SHOT].contains(&outcome.verdict), "{} for {packet:02x?}", outcome.verdict);
                1
            } else {
                assert_eq!(outcome.verdict, UNSPEC, "{packet:02x?}");
                let [before, after] = [&packet, &outcome.frame].map(|frame| residue(frame, !leaving));
                assert_eq!(after, before, "{packet:02x?}\n{:02x?}", outcome.frame);
                2
            };
            seen[usize::from(leaving)][kind] += 1;
        }
    });
    println!("{family:?}: not readable, not translated, translated: {seen:?}");
    assert!(seen.iter().flatten().all(|n| *n > 500), "{seen:?}");
}

#[test]
fn damaged_ipv4_packets_stay_as_damaged_as_they_were() {
    stay_as_damaged_as_they_were(Family::V4);
}

#[test]
fn damaged_ipv6_packets_stay_as_damaged_as_they_were() {
    stay_as_damaged_as_they_were(Family::V6);
}
