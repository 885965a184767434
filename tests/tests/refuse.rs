// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Rules that reject, over both families: the answer to each packet byte for byte, and what clients hear beside nftables' same
//! rules.
use detour::load::gather;
use e2e::bench::{Bench, Hook};
use e2e::capture::Wire;
use e2e::detour::{json, up};
use e2e::family::Family;
use e2e::lab::{tell_all_errors, Lab};
use e2e::packet::{Inner, Packet, ACK, FIN, RST, SYN};
use e2e::race::on_processor;
use e2e::six::{bad_checksums, destination_options, extended, hop_by_hop, routing, Extension};
use e2e::talk;
use e2e::testrun::{Sums, REDIRECT, SHOT, UNSPEC};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{Ipv4RecvErr, Ipv4Tos, Ipv6RecvErr, Ipv6TClass};
use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What nft calls each refusal, and the code that goes out.
const CODES4: [(&str, u8); 12] = [
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

/// The same of RFC 4443, 3.1.
const CODES6: [(&str, u8); 11] = [
    ("", 4),
    (" with icmpv6 no-route", 0),
    (" with icmpv6 admin-prohibited", 1),
    (" with icmpv6 addr-unreachable", 3),
    (" with icmpv6 port-unreachable", 4),
    (" with icmpv6 policy-fail", 5),
    (" with icmpv6 reject-route", 6),
    (" with icmpx no-route", 0),
    (" with icmpx port-unreachable", 4),
    (" with icmpx host-unreachable", 3),
    (" with icmpx admin-prohibited", 1),
];

/// Bytes of a refused packet that its answer quotes: RFC 1812, 4.3.2.3, and as much as the least MTU has room for
/// (RFC 4443, 2.4 c).
fn quoted(family: Family) -> usize {
    family.pick(576 - 28, 1280 - 48)
}

/// The refusal of `packet` by an ICMP destination unreachable.
fn unreachable(packet: &Packet, code: u8) -> Packet {
    let (family, ip) = (Family::of(packet.src), packet.ip());
    let payload = ip[..ip.len().min(quoted(family))].to_vec();
    let inner = Inner::Icmp { kind: family.pick(3, 1), code, rest: [0; 4] };
    let answer = Packet::other(packet.dst, packet.src, family.pick(1, 58));
    Packet { inner, payload, tos: family.pick(packet.tos & 0x1e | 0xc0, 0), id: 0, ..answer }
}

/// Runs the scene with `rules` in each family, with each way of summing and a fresh client port.
fn scenes(rules: &[&str], scene: impl Fn(Family, SocketAddr, &Hook<'_>)) -> [Bench; 2] {
    Family::BOTH.map(|family| {
        let bench = Bench::new(rules);
        bench.scenes(|port, ingress, _| scene(family, SocketAddr::new(family.client(), port), ingress));
        bench
    })
}

fn far(family: Family, port: u16) -> SocketAddr {
    SocketAddr::new(family.far(), port)
}

#[test]
fn each_code_goes_out() {
    for (family, codes) in [(Family::V4, &CODES4[..]), (Family::V6, &CODES6)] {
        let rule = |((with, _), port): (&(&str, u8), u16)| format!("udp dport {port} reject{with}");
        let rules: Vec<String> = codes.iter().zip(1..).map(rule).collect();
        let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
        Bench::new(&rules).scenes(|port, ingress, _| {
            for ((_, code), dport) in codes.iter().zip(1..) {
                let client = SocketAddr::new(family.client(), port);
                let packet = Packet::udp(client, far(family, dport)).payload(b"anybody?");
                ingress.answers(&packet, &unreachable(&packet, *code));
            }
        });
    }
}

/// The IPv6 packet with extension headers, of which the last leads to what it carries.
fn behind(packet: &Packet, extensions: &[Extension]) -> Packet {
    let ip = extended(&packet.ip(), extensions);
    Packet { inner: Inner::Other(ip[6]), payload: ip[40..].to_vec(), ..packet.clone() }
}

/// What cannot be told by the kernel's test: what is cut takes the device's sum with it, which the kernel forgets and its test
/// does not.
fn loses_its_sum(ingress: &Hook<'_>, before: usize, after: usize) -> bool {
    ingress.sums == Sums::Complete && before > after
}

#[test]
fn packets_of_every_shape_are_quoted() {
    let answered = Cell::new(0);
    scenes(&["reject"], |family, client, ingress| {
        let answers = |packet: &Packet| {
            if loses_its_sum(ingress, packet.ip().len(), quoted(family)) {
                return;
            }
            ingress.answers(packet, &unreachable(packet, family.pick(3, 4)));
            answered.set(answered.get() + 1);
            if answered.get() % 40 == 0 {
                // As many answers as that are sent at once, then a thousand a second.
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
        };
        let lengths = family.pick(
            [0, 1, 2, 3, 5, 483, 484, 500, 519, 520, 521, 600, 1024, 1472],
            [0, 1, 2, 3, 5, 500, 1183, 1184, 1185, 1186, 1192, 1193, 1400, 1452],
        );
        for length in lengths {
            let udp = Packet::udp(client, far(family, 53)).payload(&vec![0xa5; length]);
            answers(&udp);
            let echo = Packet::echo(client.ip(), family.far(), client.port(), 1);
            answers(&echo.payload(&vec![0x5a; length]));
            if family == Family::V4 {
                answers(&udp.clone().unsummed());
                answers(&udp.options(&[1; 8]));
            } else {
                answers(&behind(&udp, &[hop_by_hop()]));
                answers(&behind(&udp, &[destination_options(3), routing(0)]));
            }
        }
        answers(&Packet::tcp(client, far(family, 80), SYN).tcp_options(&[1; 20]));
        answers(&Packet::other(client.ip(), family.far(), 47).payload(&[7; 100]));
        for tos in [0x10, 0xb8, 0xff] {
            let last = Packet { tos, ttl: 1, ..Packet::udp(client, far(family, 53)) };
            answers(&Packet { fragment: 0, label: family.pick(0, 0xabcde), ..last });
        }
    });
    assert!(answered.get() > 2 * 60, "{} were answered", answered.get());
}

#[test]
fn connections_are_reset() {
    scenes(&["reject with tcp reset"], |family, client, ingress| {
        let far = far(family, 80);
        let reset = |packet: &Packet, seq: u32, ack: u32, flags: u8| {
            let mut answer = Packet { id: 0, ..Packet::tcp(far, client, flags) };
            let Inner::Tcp { seq: s, ack: a, window, .. } = &mut answer.inner else { panic!() };
            (*s, *a, *window) = (seq, ack, 0);
            if !loses_its_sum(ingress, packet.frame().len(), answer.frame().len()) {
                ingress.answers(packet, &answer);
            }
        };
        // The sequence number of all packets here.
        let first = 0x0102_0304;
        let syn = Packet::tcp(client, far, SYN);
        reset(&syn, 0, first + 1, RST | ACK);
        reset(&syn.clone().payload(b"fast open"), 0, first + 10, RST | ACK);
        reset(&syn.clone().tcp_options(&[2, 4, 5, 0xb4, 1, 1, 1, 0]), 0, first + 1, RST | ACK);
        let headers = [hop_by_hop(), destination_options(2)];
        let long = family.pick(syn.clone().options(&[1; 40]).tcp_options(&[1; 40]), syn.clone());
        reset(&family.pick(long, behind(&syn, &headers)), 0, first + 1, RST | ACK);
        reset(&Packet::tcp(client, far, SYN | FIN), 0, first + 2, RST | ACK);
        // In mid-stream, where the machine does not forward: what was acknowledged is what it waits for.
        let data = Packet::tcp(client, far, ACK).payload(b"still there?").acknowledging(77);
        reset(&data, 77, 0, RST);
        ingress.passes("a RST", &Packet::tcp(client, far, RST).frame());
        ingress.passes("no TCP", &Packet::udp(client, far).frame());
    });
}

/// Nobody is told what may not be his: damaged packets, groups, other errors. And IPv6 has no UDP without checksum.
#[test]
fn some_are_not_told() {
    let benches = scenes(&["reject"], |family, client, ingress| {
        if ingress.sums == Sums::Complete {
            return; // the kernel itself refuses wrong sums there
        }
        // The first bytes behind the IP header: ports, or an ICMP message's type and code.
        let l4 = family.pick(34, 54);
        for packet in [
            Packet::udp(client, far(family, 53)).payload(b"damaged"),
            Packet::tcp(client, far(family, 80), SYN).payload(&[1; 700]),
            Packet::echo(client.ip(), family.far(), client.port(), 1).payload(b"damaged"),
        ] {
            for at in [packet.frame().len() - 1, l4, l4 + 1] {
                let mut frame = packet.frame();
                frame[at] ^= 0x40;
                // Another type or code is no echo.
                let icmp = [1, 58].contains(&packet.protocol());
                let verdict = if at < l4 + 2 && icmp { UNSPEC } else { SHOT };
                assert_eq!(ingress.program.run(&frame, Sums::None).verdict, verdict, "{packet} byte {at}");
            }
        }
        if family == Family::V6 {
            ingress.drops(&Packet::udp(client, far(family, 53)).payload(b"unsummed").unsummed());
        }
        let group: IpAddr = family.pick("224.0.0.9", "ff02::9").parse().unwrap();
        ingress.passes("multicast", &Packet::udp(client, SocketAddr::new(group, 53)).frame());
        let quoted = Packet::udp(far(family, 53), client).ip();
        let (kind, code) = family.pick((3, 0), (1, 4));
        let error = Packet::other(client.ip(), family.far(), family.pick(1, 58)).payload(&quoted);
        let error = Packet { inner: Inner::Icmp { kind, code, rest: [0; 4] }, ..error };
        ingress.passes("an error", &error.frame());
    });
    for (bench, silent) in benches.iter().zip([7, 8]) {
        let counters = &json(&bench.lab.gateway, &["status", &bench.lab.device])["instances"][0]["dnat"];
        assert_eq!(counters["not_translated"]["silent"], silent, "{counters}");
    }
}

/// ICMP answers are as many as the kernel's own by default (net.ipv4.icmp_msgs_per_sec and icmp_msgs_burst), on each processor.
/// RSTs are not limited.
#[test]
fn answers_have_a_limit() {
    const PER_SECOND: u64 = 1000;
    const AT_ONCE: u64 = 50;
    let hz = u64::from(gather::machine().unwrap().hz);
    for family in Family::BOTH {
        let bench = Bench::new(&["tcp reject with tcp reset", "reject"]);
        let (program, answers) = (bench.program("ingress"), bench.map("answers"));
        bench.lab.gateway.within(|| {
            on_processor(0);
            let client = SocketAddr::new(family.client(), 4000);
            let answered =
                |packet: Packet| program.run_here(&packet.frame(), Sums::None).unwrap().verdict == REDIRECT;
            let told = || answered(Packet::udp(client, far(family, 53)));
            // The first processor's `struct answers`: when it was last raised, and how many are left.
            let read = || {
                let all = answers.lookup(&[0; 4]).unwrap().unwrap();
                let left = u32::from_ne_bytes(all[8..12].try_into().unwrap());
                (u64::from_ne_bytes(all[..8].try_into().unwrap()), u64::from(left))
            };
            let forge = |since: u64, left: u32| {
                let mut all = answers.lookup(&[0; 4]).unwrap().unwrap();
                all[..8].copy_from_slice(&since.to_ne_bytes());
                all[8..12].copy_from_slice(&left.to_ne_bytes());
                answers.update(&[0; 4], &all, 0).unwrap();
            };
            assert!(told(), "the first one");
            let (mut now, left) = read();
            assert_eq!(left, AT_ONCE - 1);
            // After so many ticks in which nobody was told. More may have passed meanwhile, and then it says so.
            for ticks in [1, 2, 3, hz / 100, hz / 40, hz / 25, hz, 1000 * hz] {
                let since = now - ticks;
                let before = (ticks % 3) as u32;
                forge(since, before);
                assert!(told(), "{ticks} ticks");
                let left;
                (now, left) = read();
                assert!(now >= since + ticks, "{since} + {ticks} is later than {now}");
                let due = u64::from(before) + (now - since) * PER_SECOND / hz;
                assert_eq!(left + 1, due.min(AT_ONCE), "{} ticks of {hz} a second", now - since);
            }
            // None is left: nobody is told before the next tick.
            loop {
                forge(now, 0);
                let told = told();
                let (later, _) = read();
                assert_eq!(told, later > now, "{now} {later}");
                if !told {
                    break;
                }
                now = later;
            }
            // A fraction of a second.
            let syns = (0..5000).map(|n| SocketAddr::new(family.client(), n));
            let mut resets = syns.map(|client| answered(Packet::tcp(client, far(family, 80), SYN)));
            assert!(resets.all(|answered| answered));
        });
    }
}

/// The frames go back to the station that sent them.
#[test]
fn link_addresses_change_places() {
    scenes(&["reject"], |family, client, ingress| {
        let mut frame = Packet::udp(client, far(family, 53)).frame();
        frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 0x51]);
        let outcome = ingress.program.run(&frame, ingress.sums);
        assert_eq!((outcome.verdict, &outcome.frame[..6]), (REDIRECT, &frame[6..12]));
        assert_eq!(outcome.frame[6..12], frame[..6]);
    });
}

/// Nobody has it.
fn fake(family: Family) -> IpAddr {
    family.pick(Ipv4Addr::new(1, 2, 3, 4).into(), Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 3, 4, 0, 1).into())
}

/// What a client hears from ports under an address that nobody has, and the answers on its wire.
fn conversations(lab: &Lab, family: Family, offload: bool) -> Vec<String> {
    // The kernel tells one client no more than once a second, after six.
    tell_all_errors(&lab.gateway);
    let wire = Wire::tap(&lab.client, "eth0").only();
    let to = |port| SocketAddr::new(fake(family), port);
    let mut told = Vec::new();
    for port in [80, 81, 82] {
        let error = talk::dial(&lab.client, 4000, to(port)).unwrap_err();
        told.push(format!("tcp {port}: {:?}", error.kind()));
    }
    for port in [53, 54, 55, 56] {
        for (length, tos) in [(1, 0), (33, 0x12), (1400, 0xb8)] {
            let socket = talk::udp_for(&lab.client, family, 5000);
            // Otherwise the kernel keeps to itself what may pass by itself.
            match family {
                Family::V4 => {
                    setsockopt(&socket, Ipv4RecvErr, &true).unwrap();
                    setsockopt(&socket, Ipv4Tos, &tos).unwrap();
                }
                Family::V6 => {
                    setsockopt(&socket, Ipv6RecvErr, &true).unwrap();
                    setsockopt(&socket, Ipv6TClass, &tos).unwrap();
                }
            }
            socket.connect(to(port)).unwrap();
            let error = talk::refused(&socket, &vec![7; length]).unwrap();
            told.push(format!("udp {port}: {:?}", error.raw_os_error()));
        }
    }
    let ping = talk::ping_for(&lab.client, 7, fake(family), talk::SILENCE);
    told.push(format!("ping: {:?}", ping.map_err(|e| e.kind())));
    let kind = family.pick([8, 0], [0x86, 0xdd]);
    for frame in wire.frames(talk::QUIET).iter().filter(|f| !f.sent && f.bytes[12..14] == kind) {
        let mut packet = Packet::read_loosely(&frame.bytes).unwrap();
        // The kernel numbers its ICMP packets and lets them be fragmented; ours are short, and need no number. And it labels
        // what it sends over IPv6.
        (packet.id, packet.fragment, packet.label) = (0, 0x4000, 0);
        match &mut packet.inner {
            Inner::Tcp { ack, .. } => {
                *ack = 0; // a random one
                told.push(format!("{packet:?}"));
            }
            // Neighbours, and who listens to which group, are no answers.
            Inner::Icmp { kind, .. } if *kind == family.pick(3, 1) => {
                // A quoted sum that a device is to finish is unfinished here, and the answer's own counts it as finished.
                if !offload {
                    Packet::read(&frame.bytes).unwrap_or_else(|fault| panic!("{fault}"));
                }
                let quoted = Packet::read_ip(&packet.payload).map_or("cut".to_string(), |q| q.to_string());
                told.push(format!("{packet} tos {:#x} ttl {} about {quoted}", packet.tos, packet.ttl));
            }
            _ => {}
        }
    }
    // What a busy machine made somebody ask again.
    told.dedup();
    told
}

/// Rules that both read, and one for pings, which nft and we say differently over IPv6.
fn rules(family: Family) -> (Vec<String>, [&'static str; 2]) {
    let (icmp, net, host) = family.pick(
        ("icmp", "net-unreachable", ["host-prohibited", "host-unreachable"]),
        ("icmpv6", "no-route", ["admin-prohibited", "addr-unreachable"]),
    );
    let [prohibited, unreachable] = host;
    let rules = [
        "tcp dport 80 reject with tcp reset".to_string(),
        "tcp dport 81 reject".to_string(),
        format!("tcp dport 82 reject with {icmp} {prohibited}"),
        "udp dport 53 reject".to_string(),
        format!("udp dport 54 reject with {icmp} {unreachable}"),
        format!("udp dport 55 reject with {icmp} admin-prohibited"),
        format!("udp dport 56 reject with {icmp} {net}"),
    ];
    let ping = family.pick(
        ["meta l4proto icmp reject"; 2],
        ["icmpv6 type echo-request reject", "meta l4proto ipv6-icmp reject"],
    );
    (rules.to_vec(), ping)
}

#[test]
fn clients_hear_what_nftables_tells_them() {
    for (family, offload) in Family::BOTH.into_iter().flat_map(|family| [(family, true), (family, false)]) {
        let (rules, [ping_there, ping]) = rules(family);
        let theirs = Lab::new().tx_checksum(offload);
        let chain = "chain c { type filter hook prerouting priority 0;";
        let table = format!(
            "table {} t {{ {chain}\n{}\n{ping_there}\n}}\n}}",
            family.pick("ip", "ip6"),
            rules.join("\n")
        );
        theirs.gateway.run("nft", &[&table]);
        let mut theirs = conversations(&theirs, family, offload);
        // The kernel's ICMP comes from the gateway; ours does not tell that there is one.
        let [from, to] = [family.gateway(), fake(family)].map(|source| format!("icmp {source} "));
        theirs.iter_mut().for_each(|line| *line = line.replace(&from, &to));
        let ours = Lab::new().tx_checksum(offload);
        let arguments = rules.iter().map(String::as_str).chain([ping]).flat_map(|rule| ["--rule", rule]);
        up(&ours.gateway, &ours.device, &arguments.collect::<Vec<_>>());
        let heard = conversations(&ours, family, offload);
        assert!(heard.contains(&"tcp 80: ConnectionRefused".to_string()), "{heard:#?}");
        assert!(heard.iter().filter(|line| line.starts_with("icmp ")).count() >= 14, "{heard:#?}");
        for (n, (a, b)) in theirs.iter().zip(&heard).enumerate() {
            assert_eq!(a, b, "line {n}, {family:?}, offload {offload}");
        }
        assert_eq!(theirs.len(), heard.len(), "{family:?}, offload {offload}");
        // No answer was dropped by the client for a wrong checksum.
        assert_eq!(bad_checksums(&ours.client), Vec::<String>::new(), "{family:?}, offload {offload}");
    }
}
