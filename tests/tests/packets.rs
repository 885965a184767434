// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Single packets of both families through the running programs by BPF_PROG_TEST_RUN, byte for byte against packets built anew.
//!
//! What comes out has to be the packet that the test builds with the other addresses, all checksums computed over the
//! whole; once as bytes, once with `CHECKSUM_COMPLETE`, where the kernel checks that the card's sum is still right.
use e2e::bench::{both_ways, Bench, Hook};
use e2e::family::Family;
use e2e::lab::Lab;
use e2e::packet::{Inner, Packet, ACK, FIN, PSH, RST, SYN};
use e2e::quote::Talk;
use e2e::testrun::Sums;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Runs the scene with `rules` in each family, see [`Bench::scenes`].
fn scenes(rules: &[&str], scene: impl Fn(Family, u16, &Hook<'_>, &Hook<'_>)) {
    for family in Family::BOTH {
        Bench::new(rules).scenes(|port, ingress, egress| scene(family, port, ingress, egress));
    }
}

fn client(family: Family, port: u16) -> SocketAddr {
    (family.client(), port).into()
}

fn far(family: Family, port: u16) -> SocketAddr {
    (family.far(), port).into()
}

/// Nobody's, one for each `n`.
fn other(family: Family, n: u8) -> IpAddr {
    let six = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n.into());
    family.pick(Ipv4Addr::new(20, 0, 0, n).into(), six.into())
}

/// An echo request's answer.
fn reply(asked: &Packet) -> Packet {
    let mut reply = asked.clone().reversed();
    let Inner::Icmp { kind, .. } = &mut reply.inner else { panic!("{asked}") };
    *kind = Family::of(asked.src).pick(0, 129);
    reply
}

#[test]
fn tcp_from_the_first_to_the_last_segment() {
    scenes(&["tcp dport 8080 redirect to :80", "redirect"], |family, port, ingress, egress| {
        for (port, dport, server_port) in [(port, 80, 80), (port + 1, 8080, 80), (port + 2, 443, 443)] {
            let (client, far) = (client(family, port), far(family, dport));
            let out = |flags| Packet::tcp(client, far, flags);
            let back = |flags| Packet::tcp(far, client, flags);
            let segment = |asked, heard| both_ways(ingress, egress, &Talk::new(asked, heard, server_port));
            let options = [2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7];
            segment(out(SYN).tcp_options(&options), back(SYN | ACK).tcp_options(&options));
            segment(out(ACK), back(ACK));
            segment(out(ACK | PSH).payload(b"GET / HTTP/1.0\r\n\r\n"), back(ACK).payload(b"HTTP/1.0 200 OK"));
            let whole = family.pick(1460, 1440);
            segment(out(ACK).payload(b"o"), back(ACK | PSH).payload(&vec![0xff; whole]));
            segment(out(ACK).payload(&vec![0; whole - 1]), back(ACK).payload(&[1; 3]));
            segment(out(FIN | ACK), back(FIN | ACK));
            segment(out(RST), back(RST));
        }
    });
}

/// RFC 5382, REQ-2 a: each end's first segment is a SYN.
#[test]
fn tcp_that_both_ends_open() {
    scenes(&["redirect"], |family, port, ingress, egress| {
        let (client, far) = (client(family, port), far(family, 80));
        for flags in [SYN, SYN | ACK, ACK, ACK | PSH, FIN | ACK, ACK] {
            let [asked, heard] = [Packet::tcp(client, far, flags), Packet::tcp(far, client, flags)];
            both_ways(ingress, egress, &Talk::new(asked, heard, 80));
        }
    });
}

/// In IPv6 that is allowed for tunnels (RFC 6935); nothing but the card's sum can tell of the addresses then.
#[test]
fn udp_with_and_without_checksum() {
    scenes(&["udp dport 53 redirect to :5353", "redirect"], |family, port, ingress, egress| {
        for (port, dport, server_port) in [(port, 53, 5353), (port + 1, 123, 123)] {
            let (client, far) = (client(family, port), far(family, dport));
            let gateway = SocketAddr::new(family.gateway(), server_port);
            let out = || Packet::udp(client, far);
            let back = || Packet::udp(far, client);
            let datagram = |asked, heard| both_ways(ingress, egress, &Talk::new(asked, heard, server_port));
            datagram(out().payload(b"question"), back().payload(b"an answer"));
            datagram(out(), back().payload(&[7; 1400]));
            datagram(out().payload(b"none").unsummed(), back().payload(b"none").unsummed());
            // Sums that come out as zero afterwards, which is sent as 0xffff, and those that are already.
            datagram(vanishing(out(), client, gateway), back());
            datagram(out(), vanishing(back(), far, client));
            datagram(out(), vanishing(back(), gateway, client));
            datagram(vanishing(out(), client, far), back());
        }
    });
}

/// The datagram with two bytes of payload that make its checksum zero, which is sent as 0xffff, between these ends.
fn vanishing(packet: Packet, from: SocketAddr, to: SocketAddr) -> Packet {
    let sum_between = |payload: [u8; 2]| {
        let ip = packet.clone().payload(&payload).between(from, to).ip();
        u16::from_be_bytes([ip[ip.len() - 4], ip[ip.len() - 3]])
    };
    let needed = sum_between([0, 0]);
    let payload = needed.to_be_bytes();
    assert_eq!(sum_between(payload), 0xffff);
    packet.payload(&payload)
}

/// The server's answer may leave from any address of the gateway, but from no other.
#[test]
fn udp_answers_from_another_address() {
    for family in Family::BOTH {
        let lab = Lab::new();
        lab.second6();
        let rule = format!("udp dnat to {}", family.second());
        Bench::on(lab, &[&rule]).scenes(|port, ingress, egress| {
            let (client, far) = (client(family, port), far(family, 53));
            let asked = Packet::udp(client, far).payload(b"question");
            let answer = |from: IpAddr| Packet::udp((from, 53), client).payload(b"answer");
            let served = asked.clone().between(client, (family.second(), 53));
            ingress.rewrites(&asked, &served);
            let (second, first) = (family.second(), family.gateway());
            for (question, from) in [(0, second), (1, first), (2, first), (3, second)] {
                if question == 1 {
                    // The second question confirms the flow: its index entries move with it.
                    ingress.rewrites(&asked, &served);
                }
                egress.rewrites(&answer(from), &answer(far.ip()));
            }
            egress.passes("a stranger's answer", &answer(family.server()).frame());
            egress.passes("another port's answer", &Packet::udp((first, 54), client).frame());
            // A direct question from the same port gets another one.
            let direct = Packet::udp(client, (first, 53)).payload(b"direct");
            let outcome = ingress.program.run(&direct.frame(), ingress.sums);
            let Inner::Udp { sport, .. } = Packet::read(&outcome.frame).unwrap().inner else {
                panic!("not UDP")
            };
            assert_ne!(sport, port, "only the port tells the two apart");
            let answer = Packet::udp((first, 53), (client.ip(), sport)).payload(b"direct answer");
            egress.rewrites(&answer, &answer.clone().between((first, 53), client));
        });
    }
}

#[test]
fn pings() {
    scenes(&[], |family, id, ingress, egress| {
        let (client, gateway) = (family.client(), family.gateway());
        for (sequence, payload) in [(1, &b""[..]), (2, b"odd"), (3, &[0xaa; 1400])] {
            let asked = Packet::echo(client, family.far(), id, sequence).payload(payload);
            both_ways(ingress, egress, &Talk::new(asked.clone(), reply(&asked), 0));
        }
        // The same identifier towards another address gets another one, and its own back.
        let second = Packet::echo(client, other(family, 2), id, 1);
        let served = Packet::read(&ingress.program.run(&second.frame(), ingress.sums).frame).unwrap();
        let Inner::Icmp { rest, .. } = served.inner else { panic!("{served}") };
        assert_ne!(rest[..2], id.to_be_bytes());
        assert_eq!((served.src, served.dst), (client, gateway));
        egress.rewrites(&reply(&served), &reply(&second));
    });
}

/// Extension headers of IPv6 are in extensions.rs.
#[test]
fn ip_options_and_every_header_field_stay() {
    scenes(&[], |family, port, ingress, egress| {
        for words in 1..=family.pick(10, 0u16) {
            let options = vec![1; usize::from(words) * 4];
            let client = client(family, port + words);
            let with = |packet: Packet| packet.options(&options).payload(b"x");
            let (web, dns) = (far(family, 80), far(family, 53));
            let [syn, answer] =
                [Packet::tcp(client, web, SYN), Packet::tcp(web, client, SYN | ACK)].map(with);
            both_ways(ingress, egress, &Talk::new(syn, answer, 80));
            let [asked, heard] = [Packet::udp(client, dns), Packet::udp(dns, client)].map(with);
            both_ways(ingress, egress, &Talk::new(asked, heard.payload(b"yy"), 53));
        }
        let fields =
            [(1, 0, 0x4000, 0, 0), (255, 0xff, 0, 0xffff, 0xf_ffff), (64, 0x2e << 2, 0x4000, 1, 0x1_2345)];
        for (n, (ttl, tos, fragment, id, label)) in (20..).zip(fields) {
            let (client, dns) = (client(family, port + n), far(family, 53));
            let change = |packet: Packet| Packet { ttl, tos, fragment, id, label, ..packet.payload(b"x") };
            let [asked, heard] = [Packet::udp(client, dns), Packet::udp(dns, client)].map(change);
            both_ways(ingress, egress, &Talk::new(asked, heard, 53));
        }
    });
}

/// Transit connections must not be cut: where the device forwards this family, TCP without state is not ours; the other family's
/// forwarding makes no difference.
#[test]
fn tcp_in_mid_stream() {
    for family in Family::BOTH {
        let forwarding = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"];
        let [own, others] = family.pick(forwarding, [forwarding[1], forwarding[0]]);
        for (n, forwards) in [&[][..], &[others], &[own], &[own, others]].into_iter().enumerate() {
            let lab = Lab::new();
            forwards.iter().for_each(|name| lab.gateway.sysctl(name, "1"));
            Bench::on(lab, &[]).scenes(|port, ingress, egress| {
                let (client, far) = (client(family, port), far(family, 80));
                let asked = Packet::tcp(client, far, ACK).payload(b"still there?");
                if n < 2 {
                    both_ways(ingress, egress, &Talk::new(asked, Packet::tcp(far, client, ACK), 80));
                    return;
                }
                ingress.passes("transit", &asked.frame());
                for flags in [ACK, FIN | ACK, RST] {
                    ingress.passes("transit", &Packet::tcp(client, far, flags).frame());
                }
            });
        }
    }
}

/// One client port to many destinations: all but the first get another port, and all get theirs back.
#[test]
fn clashing_ports_are_exchanged_and_restored() {
    scenes(&[], |family, port, ingress, egress| {
        let (client, gateway) = (client(family, port), SocketAddr::new(family.gateway(), 80));
        let mut given = std::collections::BTreeSet::new();
        for n in 1..=40 {
            let far = SocketAddr::new(other(family, n), 80);
            let asked = Packet::tcp(client, far, SYN);
            let outcome = ingress.program.run(&asked.frame(), ingress.sums);
            let seen = Packet::read(&outcome.frame).unwrap();
            let Inner::Tcp { sport, .. } = seen.inner else { panic!("{seen}") };
            let as_seen = SocketAddr::new(client.ip(), sport);
            assert_eq!(seen, asked.clone().between(as_seen, gateway), "only ends change");
            assert!(given.insert(sport), "port {sport} twice");
            assert!(sport == port || sport >= 61_000, "{sport}: no client of this machine's own is there");
            let answer = Packet::tcp(gateway, as_seen, SYN | ACK);
            egress.rewrites(&answer, &answer.clone().between(far, client));
            // The same packet again is the same flow.
            assert_eq!(ingress.program.run(&asked.frame(), ingress.sums), outcome);
        }
        assert!(given.contains(&port), "the first keeps its port");
    });
}

#[test]
fn verdicts_of_rules() {
    let rules = [
        "ip6 daddr 0::/0 tcp dport 23 redirect to :1",
        "ip daddr 0.0.0.0/0 tcp dport 22 redirect to :1",
        "ip6 saddr != fd00::/64 tcp dport 80 drop",
        "ip saddr != 192.168.178.0/24 tcp dport 80 drop",
        "ip6 daddr 2001:db8:5d:b8::/64 tcp dport 80 dnat to [fd00::2]:8080",
        "ip daddr 93.184.216.0/24 tcp dport 80 dnat to 192.168.178.2:8080",
        "ip6 daddr { 2001:db8::1, 2001:db8::4-2001:db8::9 } tcp dport 25 drop",
        "ip daddr { 20.0.0.1, 20.0.0.4-20.0.0.9 } tcp dport 25 drop",
        "meta l4proto { icmp, ipv6-icmp } redirect",
        "udp dport 53 accept",
    ];
    for family in Family::BOTH {
        let theirs = format!("udp dnat to {}", family.pick("fd00::2", "192.168.178.2"));
        Bench::new(&[&rules[..], &[&theirs]].concat()).scenes(|port, ingress, _| {
            let client = client(family, port);
            let syn = |to: IpAddr, dport: u16| Packet::tcp(client, (to, dport), SYN);
            let web = syn(family.far(), 80);
            ingress.rewrites(&web, &web.clone().between(client, (family.gateway(), 8080)));
            let stranger: IpAddr = family.pick("192.168.179.51", "fd00:0:0:1::51").parse().unwrap();
            ingress.drops(&web.clone().between((stranger, port), web.ends().1));
            let (own, others) = family.pick((22, 23), (23, 22));
            let ours = syn(family.far(), own);
            ingress.rewrites(&ours, &ours.clone().between(client, (family.gateway(), 1)));
            ingress.passes("a rule of the other family", &syn(family.far(), others).frame());
            for (last, drops) in [(0, 0), (1, 1), (2, 0), (3, 0), (4, 1), (7, 1), (9, 1), (10, 0), (255, 0)] {
                let mail = syn(other(family, last), 25);
                match drops {
                    1 => ingress.drops(&mail),
                    // The rule is about opening: what passes its first packet is dropped at none.
                    _ => ingress.passes("no rule", &mail.frame()),
                }
            }
            ingress.passes("accept", &Packet::udp(client, far(family, 53)).frame());
            ingress.passes("a target of the other family", &Packet::udp(client, far(family, 54)).frame());
            let ping = Packet::echo(family.client(), family.far(), port, 1);
            ingress.rewrites(&ping, &Packet { dst: family.gateway(), ..ping.clone() });
        });
    }
}

/// What no rule is about passes, also ICMP.
#[test]
fn what_no_rule_is_about() {
    scenes(&["tcp dport 80 redirect"], |family, port, ingress, _| {
        let (client, gateway) = (client(family, port), family.gateway());
        let syn = |dport| Packet::tcp(client, far(family, dport), SYN);
        ingress.rewrites(&syn(80), &syn(80).between(client, (gateway, 80)));
        ingress.passes("no rule", &syn(81).frame());
        ingress.passes("no ping rule", &Packet::echo(family.client(), family.far(), port, 1).frame());
    });
}

/// What was asked for, and the flows, as they are told.
#[test]
fn flows_and_asked_are_told() {
    for family in Family::BOTH {
        let bench = Bench::new(&["tcp dport 80 redirect to :8080"]);
        let (ingress, egress) = (bench.program("ingress"), bench.program("egress"));
        let hook = |program| Hook { program, sums: Sums::None };
        let (client, web, dns) = (client(family, 4000), far(family, 80), far(family, 53));
        let (asked, heard) = (Packet::tcp(client, web, SYN), Packet::tcp(web, client, SYN | ACK));
        both_ways(&hook(&ingress), &hook(&egress), &Talk::new(asked, heard, 8080));
        hook(&ingress).passes("no rule", &Packet::udp(client, dns).frame());
        let gateway = &bench.lab.gateway;
        let flows = e2e::detour::json(gateway, &["flows", &bench.lab.device]);
        let [flow] = &flows["flows"].as_array().unwrap()[..] else { panic!("{flows}") };
        let end = |ip: IpAddr, port: u16| serde_json::json!({"address": ip.to_string(), "port": port});
        assert_eq!(flow["client"], end(family.client(), 4000));
        assert_eq!(flow["original"], end(family.far(), 80));
        assert_eq!((&flow["server"], &flow["state"]), (&end(family.gateway(), 8080), &"answered".into()));
        let rows = e2e::detour::json(gateway, &["asked", &bench.lab.device]);
        let row = |row: &serde_json::Value| {
            (row["destination"].as_str().unwrap().to_owned(), row["port"].as_u64().unwrap())
        };
        let mut rows: Vec<_> = rows["rows"].as_array().unwrap().iter().map(row).collect();
        rows.sort();
        let to = family.far().to_string();
        assert_eq!(rows, [(to.clone(), 53), (to, 80)]);
        let status = e2e::detour::json(gateway, &["status", &bench.lab.device]);
        let used = &status["instances"][0]["dnat"]["flows"][family.pick("ipv4", "ipv6")]["half_open"]["used"];
        assert_eq!(*used, 1, "{status}");
    }
}
