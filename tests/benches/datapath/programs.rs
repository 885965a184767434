// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Nanoseconds that the programs take per packet more than a program that does nothing, by BPF_PROG_TEST_RUN.
use crate::chain;
use crate::einat::Einat;
use crate::spread::Spread;
use e2e::bench::Bench;
use e2e::detour::up;
use e2e::lab::{Lab, CLIENT, CLIENT6, GATEWAY};
use e2e::packet::{Packet, ACK, SYN};
use e2e::testrun::{Program, Sums};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// How often a packet is run for one measurement.
/// Short, so that some rounds are over before anybody else wants the processor.
const REPEAT: u32 = 20_000;
/// Packets that open a flow can be run once each; so many make one measurement.
const ONCE: usize = 2_000;

const FAR4: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 34);
const FAR: IpAddr = IpAddr::V4(FAR4);
const FAR6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x34));

/// One row: a bench, a hook and what is run there.
struct Case<'a> {
    name: String,
    program: Program<'a>,
    run: Box<dyn FnMut(&Program<'_>) -> f64 + 'a>,
    /// Measured like the case, with the program that does nothing.
    floor: Box<dyn FnMut(&Program<'_>) -> f64 + 'a>,
}

/// Prints the table.
pub fn table(rounds: usize) {
    let one = "ip daddr 93.184.216.34 tcp dport 80 redirect to :8080";
    let plain = Bench::new(&[one]);
    let transit = with(&["--rule", one, "--no-pickup"]);
    let rules64 = Bench::new(&rules(64).iter().map(String::as_str).collect::<Vec<_>>());
    let rules1024 = Bench::new(&rules(1024).iter().map(String::as_str).collect::<Vec<_>>());
    let settles_not = [1, 1024].map(|count| {
        let mut lines = rules(count - 1);
        lines.push("udp sport 5000 udp dport 9 redirect to :53".into());
        (count, Bench::new(&lines.iter().map(String::as_str).collect::<Vec<_>>()))
    });
    let curious = with(&["--rule", one, "--asked-max", "65536"]);
    let every = Bench::new(&["tcp dport 80 redirect to :8080", "udp dport 53 redirect to :5353", "redirect"]);
    let clashing = Bench::new(&["tcp dport 80 redirect to :8080"]);
    let chained: Vec<(u32, Bench)> = [1, 1 << 16, 1 << 20].into_iter().map(|n| (n, crowded(n))).collect();

    let einat = Einat::start();

    let mut cases = Vec::new();
    for (family, far, client) in [("IPv4", FAR, IpAddr::V4(CLIENT)), ("IPv6", FAR6, IpAddr::V6(CLIENT6))] {
        let client = SocketAddr::new(client, 4000);
        let far = move |port| SocketAddr::new(far, port);
        cases.push(steady(
            &transit,
            format!("{family} TCP in transit, opens nothing"),
            Packet::tcp(client, far(443), ACK),
        ));
        for (bench, count) in [(&plain, 1), (&rules64, 64), (&rules1024, 1024)] {
            let packet = Packet::udp(client, far(9));
            cases.push(steady(bench, format!("{family} UDP that matches none of {count} rules"), packet));
        }
        // The rest of the packet is what the last rule asks for, so each packet is looked up whole, in every dimension.
        for (count, bench) in &settles_not {
            let name = format!("{family} UDP that only its source port keeps from the last of {count} rules");
            cases.push(steady(bench, name, Packet::udp(client, far(9))));
        }
        // Another client now and then, because one may own so many rows and no more.
        cases.push(fresh(
            &curious,
            format!("{family} UDP that matches none of 1 rules, never asked for before"),
            1,
            move |n| {
                Packet::udp(
                    SocketAddr::new(beyond(client.ip(), n / 512), 4000),
                    SocketAddr::new(beyond(far(9).ip(), n), 9),
                )
            },
        ));
        cases.push(fresh(&every, format!("{family} TCP, a new flow"), 1, move |n| {
            Packet::tcp(SocketAddr::new(client.ip(), 1024 + (n % 60_000) as u16), far(80), SYN)
        }));
        // Two flows of one client port, to two addresses: the second meets the first at the server.
        cases.push(fresh(
            &clashing,
            format!("{family} TCP, a new flow that must take another client port"),
            2,
            move |n| {
                let from = SocketAddr::new(client.ip(), 1024 + (n / 2 % 60_000) as u16);
                Packet::tcp(from, SocketAddr::new(beyond(far(80).ip(), n % 2), 80), SYN)
            },
        ));
        cases.push(fresh(&every, format!("{family} UDP, a new flow"), 1, move |n| {
            Packet::udp(SocketAddr::new(client.ip(), 1024 + (n % 60_000) as u16), far(53))
        }));
    }
    for (count, bench) in &chained {
        let mut families = vec![("IPv4", *count, chain::ipv4(bench, *count))];
        // The IPv6 tables have a quarter of the size.
        families.push(("IPv6", count.div_ceil(4), chain::ipv6(bench, count.div_ceil(4))));
        for (family, count, (inwards, outwards)) in families {
            cases.push(steady(bench, format!("{family} TCP established, in, {count} flows"), inwards));
            let mut case = steady(bench, format!("{family} TCP established, out, {count} flows"), outwards);
            case.program = bench.program("egress");
            cases.push(case);
        }
    }

    // One run at a time, because einat's packets do not come out as others of its own: its rows compare with these only.
    let asks = Packet::udp(SocketAddr::from((CLIENT, 900)), SocketAddr::from((FAR4, 53)));
    every.program("ingress").run(&asks.frame(), Sums::None);
    let answers = Packet::udp(SocketAddr::from((GATEWAY, 5353)), SocketAddr::from((CLIENT, 900)));
    let mut singles = vec![
        ("towards the server", every.program("ingress"), asks),
        ("back", every.program("egress"), answers),
    ];
    if let Some(einat) = &einat {
        let (leaves, arrives) = einat.packets(FAR4);
        singles.push(("einat, outwards", einat.program("egress_snat"), leaves));
        singles.push(("einat, back", einat.program("ingress_rev_snat"), arrives));
    }
    for (name, program, packet) in singles {
        let changed = program.run(&packet.frame(), Sums::None).frame != packet.frame();
        assert!(changed, "{name}: nothing is translated");
        let name = format!("IPv4 UDP established, one run at a time: {name}");
        let mut case = fresh(&every, name, 1, move |_| packet.clone());
        case.program = program;
        cases.push(case);
    }

    let nothing = Program::nothing(&plain.lab.gateway);
    let mut values = vec![Vec::new(); cases.len()];
    for _ in 0..rounds {
        for (case, values) in cases.iter_mut().zip(&mut values) {
            let floor = (case.floor)(&nothing);
            values.push((case.run)(&case.program) - floor);
        }
    }
    println!("| packet | ns over an empty program |\n|---|---|");
    for (case, values) in cases.iter().zip(values) {
        println!("| {} | {} |", case.name, Spread::of(values));
    }
    println!();
}

/// A lab whose tables are made for `count` flows.
fn crowded(count: u32) -> Bench {
    let max = count.max(65536).to_string();
    with(&["--rule", "tcp dport 80 redirect to :8080", "--flows-max", &max])
}

/// A lab that is up with these options.
fn with(options: &[&str]) -> Bench {
    let lab = Lab::new();
    up(&lab.gateway, &lab.device, options);
    Bench { lab }
}

/// Rules that the measured packets do not match, all different.
fn rules(count: u32) -> Vec<String> {
    (0..count)
        .map(|n| match n % 2 {
            0 => format!(
                "ip daddr 10.{}.{}.0/24 tcp dport {} redirect to :8080",
                n / 256,
                n % 256,
                1000 + n / 4
            ),
            _ => format!("ip6 daddr 2001:db8:{n:x}::/48 udp dport {} redirect to :53", 1000 + n / 4),
        })
        .collect()
}

/// A packet that can be run again and again: it changes nothing, or leads on to the next flow.
fn steady(bench: &Bench, name: String, packet: Packet) -> Case<'_> {
    let (frame, same) = (packet.frame(), packet.frame());
    let time = |frame: Vec<u8>| move |program: &Program<'_>| f64::from(program.nanoseconds(&frame, REPEAT));
    Case { name, program: bench.program("ingress"), run: Box::new(time(frame)), floor: Box::new(time(same)) }
}

/// The address `n` further on.
fn beyond(address: IpAddr, n: usize) -> IpAddr {
    match address {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() + n as u32).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() + n as u128).into(),
    }
}

/// Packets that are new each time; the median of many single runs, of every `nth` only.
fn fresh<'a>(
    bench: &'a Bench,
    name: String,
    nth: usize,
    packet: impl Fn(usize) -> Packet + Clone + 'a,
) -> Case<'a> {
    let time = || {
        let (packet, mut sent) = (packet.clone(), 0);
        move |program: &Program<'_>| {
            let frames: Vec<Vec<u8>> = (sent..sent + ONCE).map(|n| packet(n).frame()).collect();
            sent += ONCE;
            let times = program.each(&frames);
            Spread::of(times.into_iter().skip(nth - 1).step_by(nth).map(f64::from).collect()).median
        }
    };
    Case { name, program: bench.program("ingress"), run: Box::new(time()), floor: Box::new(time()) }
}
