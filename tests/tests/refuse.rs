// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Rules that reject: the answer to each packet byte for byte, and what clients hear beside nftables' same rules.
use e2e::bench::{at, client, Bench, FAR};
use e2e::capture::Wire;
use e2e::detour::{json, up};
use e2e::lab::{Lab, CLIENT, GATEWAY};
use e2e::packet::{Inner, Packet, ACK, FIN, RST, SYN};
use e2e::talk;
use e2e::testrun::{Sums, REDIRECT, SHOT, UNSPEC};
use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr};

/// What nft calls each refusal, and the code that goes out.
const CODES: [(&str, u8); 12] = [
    ("", 3),
    (" with icmp net-unreachable", 0),
    (" with icmp host-unreachable", 1),
    (" with icmp prot-unreachable", 2),
    (" with icmp type port-unreachable", 3),
    (" with icmp net-prohibited", 9),
    (" with icmp host-prohibited", 10),
    (" with icmp admin-prohibited", 13),
    (" with icmpx no-route", 0),
    (" with icmpx port-unreachable", 3),
    (" with icmpx host-unreachable", 1),
    (" with icmpx admin-prohibited", 13),
];

/// The refusal of `packet` by an ICMP destination unreachable.
fn unreachable(packet: &Packet, code: u8) -> Packet {
    let ip = packet.ip();
    let payload = ip[..ip.len().min(576 - 28)].to_vec();
    let inner = Inner::Icmp { kind: 3, code, rest: [0; 4] };
    let answer = Packet::other(packet.dst, packet.src, 1);
    Packet { inner, payload, tos: 0xc0, id: 0, ..answer }
}

#[test]
fn each_code_goes_out() {
    let rules: Vec<String> =
        CODES.iter().zip(1..).map(|((with, _), port)| format!("udp dport {port} reject{with}")).collect();
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    Bench::new(&rules).scenes(|port, ingress, _| {
        for ((_, code), dport) in CODES.into_iter().zip(1..) {
            let packet = Packet::udp(client(port), at(FAR, dport)).payload(b"anybody?");
            ingress.answers(&packet, &unreachable(&packet, code));
        }
    });
}

#[test]
fn packets_of_every_shape_are_quoted() {
    let bench = Bench::new(&["reject"]);
    let answered = Cell::new(0);
    bench.scenes(|port, ingress, _| {
        let answers = |packet: &Packet| {
            // What is cut takes the device's sum with it: the kernel forgets it, but its test does not.
            if ingress.sums == Sums::Complete && packet.ip().len() > 576 - 28 {
                return;
            }
            ingress.answers(packet, &unreachable(packet, 3));
            answered.set(answered.get() + 1);
            if answered.get() % 40 == 0 {
                // As many answers as that are sent at once, then a thousand a second.
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
        };
        for length in [0, 1, 2, 3, 5, 483, 484, 500, 519, 520, 521, 600, 1024, 1472] {
            let udp = Packet::udp(client(port), at(FAR, 53)).payload(&vec![0xa5; length]);
            answers(&udp);
            answers(&udp.clone().unsummed());
            answers(&udp.options(&[1; 8]));
            answers(&Packet::icmp(CLIENT, FAR, 8, port, 1).payload(&vec![0x5a; length]));
        }
        answers(&Packet::tcp(client(port), at(FAR, 80), SYN).tcp_options(&[1; 20]));
        answers(&Packet::other(CLIENT.into(), FAR.into(), 47).payload(&[7; 100]));
        answers(&Packet { tos: 0x10, ttl: 1, fragment: 0, ..Packet::udp(client(port), at(FAR, 53)) });
    });
}

#[test]
fn connections_are_reset() {
    Bench::new(&["reject with tcp reset"]).scenes(|port, ingress, _| {
        let reset = |packet: &Packet, seq: u32, ack: u32, flags: u8| {
            let mut answer = Packet { id: 0, ..Packet::tcp(at(FAR, 80), client(port), flags) };
            let Inner::Tcp { seq: s, ack: a, window, .. } = &mut answer.inner else { panic!() };
            (*s, *a, *window) = (seq, ack, 0);
            if ingress.sums == Sums::Complete && packet.frame().len() > answer.frame().len() {
                return; // what is cut takes the device's sum with it: the kernel forgets it, but its test does not
            }
            ingress.answers(packet, &answer);
        };
        // The sequence number of all packets here.
        let first = 0x0102_0304;
        let syn = Packet::tcp(client(port), at(FAR, 80), SYN);
        reset(&syn, 0, first + 1, RST | ACK);
        reset(&syn.clone().payload(b"fast open"), 0, first + 10, RST | ACK);
        reset(&syn.clone().tcp_options(&[2, 4, 5, 0xb4, 1, 1, 1, 0]), 0, first + 1, RST | ACK);
        reset(&syn.clone().options(&[1; 40]).tcp_options(&[1; 40]), 0, first + 1, RST | ACK);
        reset(&Packet::tcp(client(port), at(FAR, 80), SYN | FIN), 0, first + 2, RST | ACK);
        // In mid-stream, where the machine does not forward: what was acknowledged is what it waits for.
        let mut data = Packet::tcp(client(port), at(FAR, 80), ACK).payload(b"still there?");
        let Inner::Tcp { ack, .. } = &mut data.inner else { panic!() };
        *ack = 77;
        reset(&data, 77, 0, RST);
        ingress.passes("a RST", &Packet::tcp(client(port), at(FAR, 80), RST).frame());
        ingress.passes("no TCP", &Packet::udp(client(port), at(FAR, 80)).frame());
    });
}

/// Nobody is told what may not be his: damaged packets, groups, other errors.
#[test]
fn some_are_not_told() {
    let bench = Bench::new(&["reject"]);
    bench.scenes(|port, ingress, _| {
        if ingress.sums == Sums::Complete {
            return; // the kernel itself refuses wrong sums there
        }
        for packet in [
            Packet::udp(client(port), at(FAR, 53)).payload(b"damaged"),
            Packet::tcp(client(port), at(FAR, 80), SYN).payload(&[1; 700]),
            Packet::icmp(CLIENT, FAR, 8, port, 1).payload(b"damaged"),
        ] {
            for at in [packet.frame().len() - 1, 34, 35] {
                let mut frame = packet.frame();
                frame[at] ^= 0x40;
                let outcome = ingress.program.run(&frame, Sums::None);
                // Another type or code is no echo.
                let verdict = if at < 36 && packet.protocol() == 1 { UNSPEC } else { SHOT };
                assert_eq!(outcome.verdict, verdict, "{packet} byte {at}");
            }
        }
        ingress.passes("multicast", &Packet::udp(client(port), at([224, 0, 0, 9].into(), 53)).frame());
        let quoted = Packet::udp(at(FAR, 53), client(port)).ip();
        ingress.passes("an error", &Packet::icmp(CLIENT, FAR, 3, 0, 0).payload(&quoted).frame());
    });
    let counters = &json(&bench.lab.gateway, &["status", &bench.lab.device])["instances"][0]["dnat"];
    assert_eq!(counters["not_translated"]["silent"], 7, "{counters}");
}

/// ICMP answers are as many as the kernel's own would be, RSTs are not limited by it either.
#[test]
fn answers_have_a_limit() {
    // A thousand a second are answered, and this takes a fraction of a second for each thousand.
    const MANY: u16 = 30_000;
    let bench = Bench::new(&["tcp reject with tcp reset", "reject"]);
    let program = bench.program("ingress");
    bench.lab.gateway.within(|| {
        let run = |packet: Packet| program.run_here(&packet.frame(), Sums::None).unwrap().verdict;
        let told = |packet: fn(u16) -> Packet| (0..MANY).filter(|n| run(packet(*n)) == REDIRECT).count();
        assert_eq!(told(|n| Packet::tcp(client(n), at(FAR, 80), SYN)), usize::from(MANY));
        let told = told(|n| Packet::udp(client(n), at(FAR, 53)));
        assert!((50..usize::from(MANY)).contains(&told), "{told} of {MANY} were answered");
    });
}

/// The frames go back to the station that sent them.
#[test]
fn link_addresses_change_places() {
    let bench = Bench::new(&["reject"]);
    let mut frame = Packet::udp(client(4000), at(FAR, 53)).frame();
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 0x51]);
    let outcome = bench.program("ingress").run(&frame, Sums::None);
    assert_eq!((outcome.verdict, &outcome.frame[..6]), (REDIRECT, &frame[6..12]));
    assert_eq!(outcome.frame[6..12], frame[..6]);
}

const FAKE: Ipv4Addr = Ipv4Addr::new(1, 2, 3, 4);

/// What a client hears from ports under one of the address that nobody has, and the answers on its wire.
fn conversations(lab: &Lab) -> Vec<String> {
    let wire = Wire::tap(&lab.client, "eth0").only();
    let to = |port| SocketAddr::from((FAKE, port));
    let mut told = Vec::new();
    for port in [80, 81, 82] {
        let error = talk::dial(&lab.client, 4000, to(port)).unwrap_err();
        told.push(format!("tcp {port}: {:?}", error.kind()));
    }
    for port in [53, 54, 55, 56] {
        for length in [1, 33, 1400] {
            let socket = talk::udp(&lab.client, 5000);
            socket.connect(to(port)).unwrap();
            socket.send(&vec![7; length]).unwrap();
            if [53, 55].contains(&port) {
                // Of the others the kernel tells a socket only when it asked to hear of such errors.
                let error = socket.recv(&mut [0; 10]).unwrap_err();
                told.push(format!("udp {port}: {:?}", error.raw_os_error()));
            }
        }
    }
    told.push(format!(
        "ping: {:?}",
        talk::ping_for(&lab.client, 7, FAKE, talk::SILENCE).map_err(|e| e.kind())
    ));
    for frame in wire.frames(talk::QUIET).iter().filter(|f| !f.sent && f.bytes[12..14] == [8, 0]) {
        let mut packet = Packet::read_loosely(&frame.bytes).unwrap();
        // The kernel numbers its ICMP packets and lets them be fragmented; ours are short, and need no number.
        (packet.id, packet.fragment) = (0, 0x4000);
        if let Inner::Tcp { ack, .. } = &mut packet.inner {
            *ack = 0; // a random one
        }
        if let Inner::Icmp { .. } = packet.inner {
            let quoted = Packet::read_ip(&packet.payload).map_or("cut".to_string(), |q| q.to_string());
            told.push(format!("{packet} tos {:#x} ttl {} about {quoted}", packet.tos, packet.ttl));
        } else {
            told.push(format!("{packet:?}"));
        }
    }
    told
}

#[test]
fn clients_hear_what_nftables_tells_them() {
    let rules = [
        "tcp dport 80 reject with tcp reset",
        "tcp dport 81 reject",
        "tcp dport 82 reject with icmp host-prohibited",
        "udp dport 53 reject",
        "udp dport 54 reject with icmp host-unreachable",
        "udp dport 55 reject with icmp admin-prohibited",
        "udp dport 56 reject with icmp net-unreachable",
        "meta l4proto icmp reject",
    ];
    for offload in [true, false] {
        let theirs = Lab::new().tx_checksum(offload);
        let rules_there = rules.join("\n");
        theirs.gateway.run(
            "nft",
            &[&format!(
                "table ip t {{ chain c {{ type filter hook prerouting priority 0;\n{rules_there}\n}}\n}}"
            )],
        );
        // The kernel tells one client no more than once a second, after six.
        theirs.gateway.sysctl("net/ipv4/icmp_ratelimit", "0");
        let mut theirs = conversations(&theirs);
        // The kernel's ICMP comes from the gateway; ours does not tell that there is one.
        theirs
            .iter_mut()
            .for_each(|line| *line = line.replace(&format!("icmp {GATEWAY} "), &format!("icmp {FAKE} ")));
        let ours = Lab::new().tx_checksum(offload);
        let arguments: Vec<&str> = rules.iter().flat_map(|rule| ["--rule", rule]).collect();
        up(&ours.gateway, &ours.device, &arguments);
        let heard = conversations(&ours);
        assert!(heard.contains(&"tcp 80: ConnectionRefused".to_string()), "{heard:#?}");
        for (n, (a, b)) in theirs.iter().zip(&heard).enumerate() {
            assert_eq!(a, b, "line {n}, offload {offload}");
        }
        assert_eq!(theirs.len(), heard.len(), "offload {offload}");
        // No answer was dropped by the client for a wrong checksum.
        let text = ours.client.within(|| std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap());
        assert!(sums(&text, "InCsumErrors").iter().all(|n| *n == 0), "{text}");
    }
}

/// The values of `field` in the tables of /proc/net/snmp.
fn sums(text: &str, field: &str) -> Vec<u64> {
    let lines: Vec<Vec<&str>> = text.lines().map(|l| l.split(' ').collect()).collect();
    let pairs = lines.chunks(2).filter(|pair| pair.len() == 2);
    pairs
        .filter_map(|pair| pair[1].get(pair[0].iter().position(|name| *name == field)?)?.parse().ok())
        .collect()
}
