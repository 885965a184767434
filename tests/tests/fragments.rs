// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Fragments through the running programs: the first one goes as any packet, the later ones follow it, and what cannot be
//! placed is dropped. What has to come out are the fragments of the whole datagram after translation, its checksum computed anew.
use e2e::bench::{at, client, Bench, Hook, FAR};
use e2e::detour;
use e2e::family::Family;
use e2e::lab::{Lab, CLIENT, GATEWAY, GATEWAY6};
use e2e::packet::{Inner, Packet, ACK, SYN};
use e2e::random::Random;
use e2e::six::{at6, client6, extended, fragment, framed, FAR6};
use e2e::testrun::{Sums, REDIRECT, SHOT, UNSPEC};
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A datagram in pieces comes out as `expected` in the same pieces.
#[track_caller]
fn follows(hook: &Hook<'_>, packet: &Packet, expected: &Packet, size: usize) {
    for (piece, expected) in packet.fragments(size).iter().zip(expected.fragments(size)) {
        hook.rewrites(piece, &expected);
    }
}

fn numbered(packet: Packet, id: u16) -> Packet {
    Packet { id, fragment: 0, ..packet }
}

/// The client's port, the address that it asks, and the server there.
fn ends(family: Family, port: u16, dport: u16, server_port: u16) -> [SocketAddr; 3] {
    let [client, far, gateway] = [family.client(), family.far(), family.gateway()];
    [(client, port), (far, dport), (gateway, server_port)].map(SocketAddr::from)
}

/// Runs the scene with `rules` in each family, see [`Bench::scenes`]; the benches.
fn scenes(rules: &[&str], scene: impl Fn(Family, u16, &Hook<'_>, &Hook<'_>)) -> [Bench; 2] {
    Family::BOTH.map(|family| {
        let bench = Bench::new(rules);
        bench.scenes(|port, ingress, egress| scene(family, port, ingress, egress));
        bench
    })
}

/// An echo request of 4,000 bytes, and its answer, follow.
fn pings_follow(family: Family, id: u16, ingress: &Hook<'_>, egress: &Hook<'_>) {
    let [client, far, gateway] = ends(family, 0, 0, 0);
    let ping = numbered(Packet::echo(client.ip(), far.ip(), id, 1).payload(&[9; 4000]), 7);
    follows(ingress, &ping, &ping.clone().between(client, gateway), 1480);
    let mut pong = numbered(ping.reversed(), 8);
    let Inner::Icmp { kind, .. } = &mut pong.inner else { panic!("{pong}") };
    *kind = family.pick(0, 129);
    follows(egress, &pong.clone().between(gateway, client), &pong, 1480);
}

#[test]
fn later_fragments_follow_the_first_both_ways() {
    scenes(&["udp dport 53 redirect to :5353", "redirect"], |family, port, ingress, egress| {
        let [client, far, server] = ends(family, port, 53, 5353);
        // Offsets of n × 256 bytes are zero in one byte of the field; the last piece may be shorter than any header.
        for (n, size) in [8, 64, 256, 1480].into_iter().enumerate() {
            for (m, length) in [1473, 1600, 3000, 2993].into_iter().enumerate() {
                let id = (n * 16 + m) as u16;
                let asked = numbered(Packet::udp(client, far).payload(&vec![3; length]), id);
                let answer = numbered(Packet::udp(far, client).payload(&vec![4; length]), id);
                follows(ingress, &asked, &asked.clone().between(client, server), size);
                follows(egress, &answer.clone().between(server, client), &answer, size);
                let unsummed = numbered(asked.unsummed(), id + 256);
                follows(ingress, &unsummed, &unsummed.clone().between(client, server), size);
            }
        }
        pings_follow(family, port, ingress, egress);
        let [client, far, server] = ends(family, port, 80, 80);
        let syn = Packet::tcp(client, far, SYN);
        ingress.rewrites(&syn, &syn.clone().between(client, server));
        let segment = Packet::tcp(client, far, ACK).payload(&[5; 1400]).options(&[1; 8]);
        let segment = numbered(segment, 9);
        follows(ingress, &segment, &segment.clone().between(client, server), 576);
    });
}

/// Established flows go on under other rules, also in pieces, and also where those no longer name the server.
#[test]
fn fragments_of_a_flow_whose_rule_is_gone() {
    for family in Family::BOTH {
        let rule = "meta l4proto { icmp, ipv6-icmp } redirect";
        let bench = Bench::new(&[rule]);
        let up = |rule: &str| detour::up(&bench.lab.gateway, &bench.lab.device, &["--rule", rule]);
        bench.scenes(|port, ingress, egress| {
            up(rule);
            let [client, far, gateway] = ends(family, 0, 0, 0);
            let ping = Packet::echo(client.ip(), far.ip(), port, 1);
            ingress.rewrites(&ping, &ping.clone().between(client, gateway));
            up("tcp dport 9 drop");
            pings_follow(family, port, ingress, egress);
        });
    }
}

/// In whatever order they come: from the first one on they follow, before it they are dropped; and repeated ones, too.
#[test]
fn any_order() {
    scenes(&[], |family, port, ingress, egress| {
        let [client, far, server] = ends(family, port, 53, 53);
        let mut random = Random::new(port.into());
        let (mut early, mut followed) = (0, 0);
        for id in port..port + 200 {
            let asked = numbered(Packet::udp(client, far).payload(&[6; 1000]), id);
            let answer = numbered(Packet::udp(far, client).payload(&[7; 1000]), id);
            for (hook, packet, expected) in [
                (ingress, &asked, asked.clone().between(client, server)),
                (egress, &answer.clone().between(server, client), answer.clone()),
            ] {
                let (pieces, expected) = (packet.fragments(200), expected.fragments(200));
                let mut order: Vec<usize> = (0..pieces.len()).chain([random.below(pieces.len())]).collect();
                (1..order.len()).for_each(|n| order.swap(n, random.below(n + 1)));
                let mut seen = false;
                for n in order {
                    seen |= n == 0;
                    if seen {
                        hook.rewrites(&pieces[n], &expected[n]);
                        followed += 1;
                    } else {
                        hook.drops(&pieces[n]);
                        early += 1;
                    }
                }
            }
        }
        assert!(early > 100 && followed > 1000, "{early} came early, {followed} followed");
    });
}

#[test]
fn what_belongs_to_no_first_fragment_is_dropped() {
    let benches = scenes(&["redirect"], |family, port, ingress, egress| {
        let [client, far, server] = ends(family, port, 53, 53);
        let asked = numbered(Packet::udp(client, far).payload(&[1; 600]), port);
        let expected = asked.clone().between(client, server);
        let (pieces, seen) = (asked.fragments(256), expected.fragments(256));
        ingress.rewrites(&pieces[0], &seen[0]);
        let [neighbour, other]: [IpAddr; 2] = family
            .pick(["192.168.178.52", "1.2.3.4"], ["fd00::52", "2001:db8::4"])
            .map(|ip| ip.parse().unwrap());
        let mut others = vec![
            ("another datagram", numbered(asked.clone(), port + 1).fragments(256).swap_remove(1)),
            ("another client", Packet { src: neighbour, ..pieces[1].clone() }),
            ("another destination", Packet { dst: other, ..pieces[1].clone() }),
        ];
        if family == Family::V4 {
            // In IPv6 only the first one says what is in it (RFC 8200, 4.5).
            others.push(("another protocol", Packet { inner: Inner::Other(6), ..pieces[1].clone() }));
        }
        for (what, other) in others {
            assert_eq!(ingress.program.run(&other.frame(), ingress.sums).verdict, SHOT, "{what}");
        }
        // What left is not what arrives.
        let mirrored = Packet { src: server.ip(), dst: client.ip(), ..pieces[1].clone() };
        egress.drops(&mirrored);
        ingress.rewrites(&pieces[1], &seen[1]);
    });
    for (bench, lost) in benches.iter().zip([10, 8]) {
        let status = detour::json(&bench.lab.gateway, &["status", &bench.lab.device]);
        assert_eq!(status["instances"][0]["dnat"]["not_translated"]["fragment_lost"], lost, "{status}");
    }
}

#[test]
fn fragments_of_what_is_not_translated_pass() {
    let rules = ["udp dport 53 accept", "udp dport 80 redirect"];
    scenes(&rules, |family, port, ingress, egress| {
        let client = SocketAddr::new(family.client(), port);
        let to = |ip: IpAddr| numbered(Packet::udp(client, (ip, 80)).payload(&[1; 600]), port);
        let special: &[(&str, &str)] = family.pick(
            &[
                ("its second address", "192.168.178.3"),
                ("broadcast", "255.255.255.255"),
                ("the network's broadcast", "192.168.178.255"),
                ("multicast", "239.1.2.3"),
                ("link-local", "169.254.1.1"),
            ],
            &[("its network's routers", "fd00::"), ("multicast", "ff0e::3"), ("link-local", "fe80::9")],
        );
        let mut packets = vec![("to the gateway", to(family.gateway()))];
        packets.extend(special.iter().map(|(what, ip)| (*what, to(ip.parse().unwrap()))));
        let nowhere = family.any(0).ip();
        for (what, src) in [("from the gateway", family.gateway()), ("from nowhere", nowhere)] {
            packets.push((what, Packet { src, ..to(family.far()) }));
        }
        for (what, packet) in packets {
            for piece in packet.fragments(256).iter().rev() {
                ingress.passes(what, &piece.frame());
            }
        }
        for dport in [53, 81] {
            let packet = numbered(Packet::udp(client, (family.far(), dport)).payload(&[1; 600]), dport);
            for piece in packet.fragments(256) {
                ingress.passes("accepted, or of no rule", &piece.frame());
            }
        }
        let answer = |from: IpAddr, id| numbered(Packet::udp((from, 123), client).payload(&[1; 600]), id);
        for piece in answer(family.server(), 5).fragments(256).iter().rev() {
            egress.passes("forwarded from a host that no rule names", &piece.frame());
        }
        for piece in answer(family.gateway(), 6).fragments(256) {
            egress.passes("of no flow", &piece.frame());
        }
    });
}

/// What is refused is told with the first one, and once.
#[test]
fn a_dropped_first_fragment_takes_the_others_with_it() {
    let rules = ["udp dport 25 drop", "udp dport 26 reject", "redirect"];
    let benches = scenes(&rules, |family, port, ingress, _| {
        for (dport, first) in [(25, SHOT), (26, REDIRECT)] {
            let [client, far, _] = ends(family, port, dport, 0);
            let pieces = numbered(Packet::udp(client, far).payload(&[1; 600]), dport).fragments(256);
            let verdict = |piece: &Packet| ingress.program.run(&piece.frame(), ingress.sums).verdict;
            assert_eq!(verdict(&pieces[0]), first, "{family:?} {dport}");
            pieces[1..].iter().for_each(|piece| ingress.drops(piece));
        }
    });
    for bench in benches {
        let status = detour::json(&bench.lab.gateway, &["status", &bench.lab.device]);
        assert_eq!(status["instances"][0]["dnat"]["not_translated"]["fragment_drop"], 8, "{status}");
    }
}

/// What no rule can be about, whatever its ports, passes in any order, as under nft; of all else the first one has to be seen.
#[test]
fn early_fragments_of_what_no_rule_is_about_pass() {
    let rules = [
        "ip daddr 198.51.100.0/24 udp dport 53 redirect",
        "ip saddr 192.168.178.52 drop",
        "ip daddr != 198.51.100.0/24 tcp dport { 80, 443 } redirect to :8080",
        "ip6 daddr 2001:db8:1::/48 udp dport 53 redirect",
        "meta l4proto 47 ip daddr 203.0.113.9 dnat to 192.168.178.3",
    ];
    let [served, other]: [Ipv4Addr; 2] = [[198, 51, 100, 7].into(), [192, 168, 178, 52].into()];
    let early = |packet: Packet| packet.fragments(256)[1].frame();
    let one = |src: Ipv4Addr, dst: Ipv4Addr, protocol: u8| {
        let piece = Packet::other(src.into(), dst.into(), protocol).payload(&[1; 600]);
        early(Packet { fragment: 0, ..piece })
    };
    let six = |to: &str| {
        let packet = Packet::udp(client6(4000), at6(to.parse().unwrap(), 9)).payload(&[1; 64]);
        framed(&extended(&packet.ip(), &[fragment(8, false)]))
    };
    let pass = [one(CLIENT, FAR, 17), one(CLIENT, served, 6), one(CLIENT, FAR, 47), one(CLIENT, served, 47)];
    let drop = [
        ("served", one(CLIENT, served, 17)),
        ("its source", one(other, FAR, 17)),
        ("TCP", one(CLIENT, FAR, 6)),
        ("GRE", one(CLIENT, [203, 0, 113, 9].into(), 47)),
        ("served, IPv6", six("2001:db8:1::5")),
    ];
    let bench = Bench::new(&rules);
    bench.scenes(|_, ingress, _| {
        for frame in pass.iter().chain([&six("2001:db8:2::5")]) {
            ingress.passes("no rule is about it", frame);
        }
        for (what, frame) in &drop {
            assert_eq!(ingress.program.run(frame, ingress.sums).verdict, SHOT, "{what}");
        }
    });
    // Where a rule names source ports, it could be that one.
    let ports = ["--rule", "udp sport 4000 ip daddr 198.51.100.0/24 redirect", "--rule", "tcp redirect"];
    detour::up(&bench.lab.gateway, &bench.lab.device, &ports);
    bench.scenes(|_, ingress, _| {
        assert_eq!(ingress.program.run(&pass[0], ingress.sums).verdict, SHOT);
        ingress.passes("nothing is about GRE", &pass[2]);
    });
    // A datagram that is translated is so in order, and one that no rule is about in any.
    detour::up(&bench.lab.gateway, &bench.lab.device, &["--rule", rules[0]]);
    bench.scenes(|port, ingress, _| {
        let asked = |to| numbered(Packet::udp(client(port), at(to, 53)).payload(&[3; 900]), port);
        follows(ingress, &asked(served), &asked(served).between(client(port), at(GATEWAY, 53)), 256);
        for piece in asked(FAR).fragments(256).iter().rev() {
            ingress.passes("in reverse", &piece.frame());
        }
    });
    // Sealed, nothing of it goes on.
    let lab = Lab::new();
    detour::up(&lab.gateway, &lab.device, &["--sealed", "--rule", rules[0]]);
    Bench { lab }.scenes(|_, ingress, _| {
        assert_eq!(ingress.program.run(&pass[0], ingress.sums).verdict, SHOT, "sealed");
    });
}

/// Lengths that lie, first fragments without ports: nothing is changed, nothing is remembered as translated.
#[test]
fn damaged_fragments_pass_untouched() {
    scenes(&[], |family, port, ingress, _| {
        let [client, far, _] = ends(family, port, 80, 80);
        let pieces = numbered(Packet::tcp(client, far, SYN).payload(&[1; 600]), port).fragments(8);
        ingress.passes("a first fragment that ends within the ports", &pieces[0].frame());
        let frame = pieces[3].frame();
        ingress.passes("a later one, cut short", &frame[..frame.len() - 1]);
        let mut long = frame.clone();
        long[family.pick(17, 19)] += 1;
        ingress.passes("a later one that says it is longer", &long);
    });
}

/// Where nothing is translated, no fragment has to wait for its first one.
#[test]
fn a_monitor_drops_no_fragment() {
    let lab = Lab::new();
    detour::up(&lab.gateway, &lab.device, &["--monitor", "--rule", "redirect"]);
    Bench { lab }.scenes(|port, ingress, egress| {
        let asked = numbered(Packet::udp(client(port), at(FAR, 53)).payload(&[1; 600]), port);
        let answer = numbered(Packet::udp(at(GATEWAY, 53), client(port)).payload(&[1; 600]), port);
        for (asked, answer) in asked.fragments(256).iter().zip(answer.fragments(256)).rev() {
            ingress.passes("asked", &asked.frame());
            egress.passes("answered", &answer.frame());
        }
        let asked = Packet::udp(client6(port), at6(FAR6, 53)).payload(&[1; 64]);
        let answer = Packet::udp(at6(GATEWAY6, 53), client6(port)).payload(&[1; 64]);
        for more in [false, true] {
            let extensions = [fragment(if more { 0 } else { 8 }, more)];
            ingress.passes("asked", &framed(&extended(&asked.ip(), &extensions)));
            egress.passes("answered", &framed(&extended(&answer.ip(), &extensions)));
        }
    });
}

/// Entries of the table of first fragments.
const TABLE: u32 = 8192;

/// A datagram of its own for each number, in two pieces, to where it goes.
fn datagram(family: Family, n: u32) -> (IpAddr, Vec<Vec<u8>>) {
    let six = Ipv6Addr::from_bits(FAR6.to_bits() + (u128::from(n) << 32));
    let far: IpAddr = family.pick(Ipv4Addr::from_bits(0x1400_0000 + n).into(), six.into());
    let [client, to] = [(family.client(), 4000), (far, 53)].map(SocketAddr::from);
    let packet = numbered(Packet::udp(client, to).payload(&[1; 64]), 77);
    (far, packet.fragments(48).into_iter().map(|piece| piece.frame()).collect())
}

/// What `detour map dump` shows of that table.
fn table(bench: &Bench) -> Vec<Value> {
    let dump = detour::json(&bench.lab.gateway, &["map", "dump", &bench.lab.device, "up", "frags"]);
    dump["elements"].as_array().unwrap().clone()
}

#[test]
fn the_table_is_bounded() {
    for family in Family::BOTH {
        let bench = Bench::new(&[]);
        let ingress = bench.program("ingress");
        bench.lab.gateway.within(|| {
            let run = |n: u32, piece: usize| {
                let frame = &datagram(family, n).1[piece];
                ingress.run_here(frame, Sums::None).unwrap().verdict
            };
            for n in 0..TABLE + 1000 {
                assert_eq!(run(n, 0), UNSPEC, "{family:?} {n}");
            }
            assert_eq!(run(TABLE + 999, 1), UNSPEC, "{family:?}: right after its first fragment");
            assert_eq!(run(0, 1), SHOT, "{family:?}: the oldest has gone");
        });
        let entries = table(&bench).len();
        assert!((TABLE as usize / 2..=TABLE as usize).contains(&entries), "{family:?}: {entries}");
    }
}

/// Nobody waits here: the entry is given the time stamp that it would have.
#[test]
fn first_fragments_are_forgotten_after_half_a_minute() {
    for family in Family::BOTH {
        let bench = Bench::new(&[]);
        let ingress = bench.program("ingress");
        let run = |frame: &[u8]| ingress.run(frame, Sums::None).verdict;
        let (far, pieces) = datagram(family, 0);
        assert_eq!([run(&pieces[0]), run(&pieces[1])], [UNSPEC, UNSPEC]);
        let entry = &table(&bench)[0];
        let seen = entry["value"]["seen"].as_u64().unwrap() as u32;
        let mapped = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        };
        // As on the wire; in IPv6 the protocol is none of it.
        let [high, low] = 77u16.to_be_bytes();
        let (id, protocol) = family.pick(([high, low, 0, 0], 17), ([0xfe, 0xdc, high, low], 0));
        let key = [&mapped(family.client())[..], &mapped(far), &id, &[protocol, 0, 0, 0]].concat();
        // Ticks are 2^n jiffies, and at least a second long: of 30 s there are at most 30.
        for (ticks, verdict) in [(15, UNSPEC), (31, SHOT), (0, UNSPEC), (u32::MAX, UNSPEC)] {
            let seen = seen.wrapping_sub(ticks).to_ne_bytes();
            let value = [&mapped(family.gateway())[..], &[0; 16], &seen, &[0; 4]].concat();
            let hex = |bytes: &[u8]| {
                bytes.iter().fold("hex:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
            };
            let set = ["map", "set", &bench.lab.device, "up", "frags", &hex(&key), &hex(&value)];
            detour::run(&bench.lab.gateway, &set).done();
            assert_eq!(run(&pieces[1]), verdict, "{family:?}: {ticks} ticks later");
        }
        assert_eq!(table(&bench).len(), 1, "{family:?}: it was that entry");
    }
}
