// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What happens at limits: tables that are full, clients that want too much, devices that are sealed, TCP that ends.
use e2e::bench::{at, client, Bench, Hook, FAR};
use e2e::capture::Wire;
use e2e::detour::{code, json, run, up};
use e2e::lab::{Lab, CLIENT, GATEWAY, SERVER};
use e2e::packet::{Inner, Packet, ACK, FIN, PSH, RST, SYN};
use e2e::serve::Server;
use e2e::talk;
use e2e::testrun::{Sums, REDIRECT, SHOT, UNSPEC};
use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

/// A lab that is up with `options` and the rule `redirect`.
fn bench(options: &[&str]) -> Bench {
    let lab = Lab::new();
    up(&lab.gateway, &lab.device, options);
    Bench { lab }
}

fn counters(bench: &Bench) -> Value {
    json(&bench.lab.gateway, &["status", &bench.lab.device])["instances"][0]["dnat"]["not_translated"].take()
}

fn states(bench: &Bench) -> Vec<String> {
    let flows = json(&bench.lab.gateway, &["flows", &bench.lab.device]);
    flows["flows"].as_array().unwrap().iter().map(|f| f["state"].as_str().unwrap().to_string()).collect()
}

/// Opens a connection from `from` to port 80 under `far` until it is confirmed; whether it could be opened.
fn connect(ingress: &Hook<'_>, egress: &Hook<'_>, from: SocketAddrV4, far: Ipv4Addr) -> bool {
    let asked = |flags| Packet::tcp(from, at(far, 80), flags);
    let outcome = ingress.program.run(&asked(SYN).frame(), ingress.sums);
    if outcome.verdict != UNSPEC || outcome.frame == asked(SYN).frame() {
        return false;
    }
    egress.program.run(&answer(from, SYN | ACK).frame(), egress.sums);
    let mut heard = asked(ACK);
    let Inner::Tcp { ack, .. } = &mut heard.inner else { panic!() };
    // The sequence number of all packets here, and one for the SYN.
    *ack = 0x0102_0305;
    ingress.rewrites(&heard, &heard.clone().between(from, at(GATEWAY, 80)));
    true
}

fn answer(to: SocketAddrV4, flags: u8) -> Packet {
    Packet::tcp(at(GATEWAY, 80), to, flags)
}

/// The hooks of a bench, for one way of summing.
fn hooks(bench: &Bench, scene: impl FnOnce(&Hook<'_>, &Hook<'_>)) {
    let (ingress, egress) = (bench.program("ingress"), bench.program("egress"));
    let hook = |program| Hook { program, sums: Sums::None };
    scene(&hook(&ingress), &hook(&egress));
}

#[test]
fn a_full_table_keeps_what_it_has() {
    for (what, verdict) in [("drop", SHOT), ("reject", REDIRECT), ("pass", UNSPEC), ("hold", UNSPEC)] {
        let bench = bench(&["--flows-max", "16", "--when-full", what]);
        hooks(&bench, |ingress, egress| {
            for port in 0..16 {
                assert!(connect(ingress, egress, client(4000 + port), FAR), "{what}: flow {port}");
            }
            assert_eq!(states(&bench), ["confirmed"; 16], "{what}");
            let syn = Packet::tcp(client(5000), at(FAR, 80), SYN);
            let outcome = ingress.program.run(&syn.frame(), ingress.sums);
            assert_eq!(outcome.verdict, verdict, "{what}");
            if what == "hold" {
                assert_ne!(outcome.frame, syn.frame(), "held half-open");
            } else {
                assert_eq!(counters(&bench)["no_room"], 1, "{what}");
                if verdict != REDIRECT {
                    assert_eq!(outcome.frame, syn.frame(), "{what}: untouched");
                }
            }
            // Those that were there carry on, and direct ones are nobody's to refuse.
            for port in 0..16 {
                let data = Packet::tcp(client(4000 + port), at(FAR, 80), ACK | PSH).payload(b"more");
                ingress.rewrites(&data, &data.clone().between(client(4000 + port), at(GATEWAY, 80)));
            }
            ingress.passes("direct", &Packet::tcp(client(5001), at(GATEWAY, 80), SYN).frame());
        });
    }
}

#[test]
fn one_client_may_not_open_all() {
    let bench = bench(&["--client-new", "20"]);
    hooks(&bench, |ingress, _| {
        let opened = |ip: Ipv4Addr, count: u16| {
            let run = |n| {
                let syn = Packet::tcp(at(ip, 1000 + n), at(FAR, 80), SYN);
                ingress.program.run(&syn.frame(), ingress.sums).verdict == UNSPEC
            };
            (0..count).filter(|n| run(*n)).count()
        };
        // A tick is a little more than a second, and two of them may have begun.
        let first = opened(CLIENT, 200);
        assert!((20..=70).contains(&first), "{first} of 200");
        assert_eq!(opened([192, 168, 178, 52].into(), 20), 20, "another client");
        assert_eq!(counters(&bench)["client_new"], 200 - first);
    });
}

#[test]
fn one_client_may_not_have_all() {
    let bench = bench(&["--client-live", "3"]);
    hooks(&bench, |ingress, egress| {
        let from = |n: u16| client(4000 + n);
        for n in 0..3 {
            assert!(connect(ingress, egress, from(n), FAR), "flow {n}");
        }
        assert!(!connect(ingress, egress, from(3), FAR), "a fourth");
        let other = at([192, 168, 178, 52].into(), 4000);
        assert!(connect(ingress, egress, other, FAR), "another client");
        // One ends: both sides say so.
        let ends = Packet::tcp(from(0), at(FAR, 80), FIN | ACK);
        ingress.rewrites(&ends, &ends.clone().between(from(0), at(GATEWAY, 80)));
        assert!(!connect(ingress, egress, from(3), FAR), "half closed");
        egress.program.run(&answer(from(0), FIN | ACK).frame(), egress.sums);
        assert!(connect(ingress, egress, from(4), FAR), "room again");
        assert!(!connect(ingress, egress, from(5), FAR), "for one");
        assert_eq!(counters(&bench)["client_live"], 3);
    });
}

/// A RST, which anybody can forge, ends a connection only if nothing follows it.
#[test]
fn a_forged_reset_ends_nothing() {
    for forger in ["client", "server"] {
        let bench = bench(&[]);
        hooks(&bench, |ingress, egress| {
            let (from, far) = (client(4000), at(FAR, 80));
            assert!(connect(ingress, egress, from, FAR));
            assert_eq!(states(&bench), ["confirmed"]);
            match forger {
                "client" => drop(ingress.program.run(&Packet::tcp(from, far, RST).frame(), Sums::None)),
                _ => drop(egress.program.run(&answer(from, RST).frame(), Sums::None)),
            }
            assert_eq!(states(&bench), ["closing"], "by the {forger}");
            egress
                .rewrites(&answer(from, ACK).payload(b"data"), &Packet::tcp(far, from, ACK).payload(b"data"));
            assert_eq!(states(&bench), ["confirmed"], "by the {forger}");
        });
    }
}

#[test]
fn connections_close_and_open_again() {
    let bench = bench(&[]);
    hooks(&bench, |ingress, egress| {
        let (from, far) = (client(4000), at(FAR, 80));
        assert!(connect(ingress, egress, from, FAR));
        let asked = |flags| Packet::tcp(from, far, flags);
        let inward = |flags| ingress.rewrites(&asked(flags), &asked(flags).between(from, at(GATEWAY, 80)));
        let outward = |flags| egress.rewrites(&answer(from, flags), &Packet::tcp(far, from, flags));
        inward(FIN | ACK);
        assert_eq!(states(&bench), ["confirmed"], "one side may still speak");
        outward(ACK);
        outward(FIN | ACK);
        assert_eq!(states(&bench), ["closing"]);
        inward(ACK);
        assert_eq!(states(&bench), ["closing"], "the last acknowledgement revives nothing");
        inward(SYN);
        assert_eq!(states(&bench), ["opening"], "a new connection of the same ports");
        outward(SYN | ACK);
        assert_eq!(states(&bench), ["answered"]);
    });
}

/// The whole way: a host beyond hears nothing of a client behind a sealed device, and everything without.
#[test]
fn nothing_leaks_through_a_sealed_device() {
    for sealed in [false, true] {
        let lab = Lab::new();
        let server = lab.server();
        let _web = Server::http(&lab.gateway, SocketAddr::from(([0, 0, 0, 0], 80)), "gateway");
        let _far = Server::http(&server, (SERVER, 81), "far");
        let mut options = vec!["--rule", "tcp dport 80 redirect", "--rule", "tcp dport 81 accept"];
        options.extend(sealed.then_some("--sealed"));
        up(&lab.gateway, &lab.device, &options);
        let wire = Wire::tap(&server, "eth0").only();
        let from_client = Wire::tap(&lab.client, "eth0");
        // Everything that could be forwarded.
        let frames: Vec<Packet> = [SYN, SYN | ACK, ACK, FIN | ACK, RST, 0]
            .map(|flags| Packet::tcp(client(4000), at(SERVER, 22), flags))
            .into_iter()
            .chain([
                Packet::udp(client(4000), at(SERVER, 53)).payload(b"leak"),
                Packet::icmp(CLIENT, SERVER, 8, 1, 1),
                Packet::icmp(CLIENT, SERVER, 0, 1, 1),
                Packet::icmp(CLIENT, SERVER, 3, 0, 0).payload(&Packet::udp(at(SERVER, 53), client(9)).ip()),
                Packet::other(CLIENT.into(), SERVER.into(), 47).payload(&[1; 50]),
                Packet::other(CLIENT.into(), SERVER.into(), 132).payload(&[1; 50]),
                Packet {
                    fragment: 0x2000,
                    ..Packet::other(CLIENT.into(), SERVER.into(), 17).payload(&[1; 64])
                },
                Packet {
                    fragment: 0x0008,
                    ..Packet::other(CLIENT.into(), SERVER.into(), 17).payload(&[1; 64])
                },
                Packet::tcp(client(4000), at(SERVER, 22), SYN).options(&[1; 8]),
            ])
            .collect();
        for packet in &frames {
            let mut frame = packet.frame();
            frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
            frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 0x51]);
            from_client.send(&frame);
        }
        let forged = wire.frames(2 * talk::QUIET);
        let of_client = |frame: &&e2e::capture::Frame| {
            frame.bytes[12..14] == [8, 0] && frame.bytes[26..30] == CLIENT.octets()
        };
        let leaked = forged.iter().filter(of_client).count();
        if sealed {
            assert_eq!(leaked, 0, "{leaked} packets arrived");
        } else {
            assert!(leaked >= 12, "this would show nothing: {leaked} packets arrived");
        }
        // What this machine is for goes on: the translated, the direct, the accepted, ARP.
        assert!(talk::curl(&lab.client, "http://93.184.216.34/").starts_with("gateway"));
        assert!(talk::curl(&lab.client, &format!("http://{GATEWAY}/")).starts_with("gateway"));
        assert!(talk::curl(&lab.client, &format!("http://{SERVER}:81/")).starts_with("far"));
        lab.client.run("ip", &["neighbour", "flush", "all"]);
        lab.client.run("ping", &["-c", "1", "-W", "3", &GATEWAY.to_string()]);
        let status = json(&lab.gateway, &["status", &lab.device]);
        let dropped = &status["instances"][0]["dnat"]["not_translated"]["sealed"];
        assert_eq!(sealed, dropped.as_u64().is_some_and(|n| n >= frames.len() as u64 - 2), "{status}");
    }
}

/// The answer of a server behind a sealed device leaves through that device, wherever its client says that it is.
#[test]
fn answers_of_a_server_behind_a_sealed_device() {
    let server = at(Ipv4Addr::new(192, 168, 178, 7), 53);
    let forged = at(Ipv4Addr::new(203, 0, 113, 77), 5000);
    for sealed in [false, true] {
        let options =
            [&["--rule", "udp dnat to 192.168.178.7"][..], if sealed { &["--sealed"] } else { &[] }].concat();
        hooks(&bench(&options), |ingress, _| {
            let asked = Packet::udp(forged, at(FAR, 53));
            ingress.rewrites(&asked, &asked.clone().between(forged, server));
            let answer = Packet::udp(server, forged).payload(&[7; 1600]);
            let verdict = |frame: &[u8]| ingress.program.run(frame, ingress.sums).verdict;
            assert_eq!(verdict(&answer.frame()), if sealed { REDIRECT } else { UNSPEC });
            let pieces = answer.fragments(1480);
            let wanted = if sealed { SHOT } else { UNSPEC };
            assert_eq!([verdict(&pieces[0].frame()), verdict(&pieces[1].frame())], [wanted; 2]);
        });
    }
}

#[test]
fn sealed_by_kind_of_frame() {
    let bench = bench(&["--sealed", "--no-pickup", "--rule", "udp redirect"]);
    hooks(&bench, |ingress, _| {
        let to = |ip: [u8; 4]| Packet::tcp(client(4000), at(ip.into(), 80), SYN);
        ingress.drops(&to([1, 2, 3, 4]));
        ingress.drops(&to([169, 254, 169, 254]));
        ingress.drops(&Packet::tcp(client(4000), at(FAR, 80), ACK));
        for here in [GATEWAY.octets(), [255; 4], [192, 168, 178, 255], [224, 0, 0, 1]] {
            ingress.passes("for us", &to(here).frame());
        }
        let kind = |bytes: [u8; 2]| {
            let mut frame = to([1, 2, 3, 4]).frame();
            frame[12..14].copy_from_slice(&bytes);
            ingress.program.run(&frame, ingress.sums).verdict
        };
        assert_eq!(kind([0x08, 0x06]), UNSPEC, "ARP");
        assert_eq!(kind([0x81, 0x00]), SHOT, "VLAN");
        assert_eq!(kind([0x88, 0x47]), SHOT, "MPLS");
        assert_eq!(kind([0x88, 0xb5]), SHOT, "unknown");
    });
}

/// What is dropped opens no flow for its like to follow, also where a rule leads to the same address.
#[test]
fn a_sealed_device_drops_what_comes_again() {
    let target = Ipv4Addr::new(10, 9, 9, 2);
    let to_target = format!("tcp dport 80 dnat to {target}");
    let bench = bench(&["--sealed", "--rule", &to_target, "--rule", "tcp dport 443 accept"]);
    bench.scenes(|port, ingress, _| {
        let syn = |to: SocketAddrV4| Packet::tcp(client(port), to, SYN);
        for packet in [
            syn(at(target, 22)),
            Packet::udp(client(port), at(target, 53)).payload(b"leak"),
            Packet::icmp(CLIENT, target, 8, port, 1),
        ] {
            (0..3).for_each(|_| ingress.drops(&packet));
        }
        assert_eq!(states(&bench).len(), 2 * usize::from(port / 1000 - 4), "{port}: flows");
        let served = syn(at(FAR, 80));
        (0..2).for_each(|_| ingress.rewrites(&served, &served.clone().between(client(port), at(target, 80))));
        let accepted = syn(at(target, 443)).frame();
        (0..2).for_each(|_| ingress.passes("accepted", &accepted));
        (0..2).for_each(|_| ingress.passes("for us", &syn(at(GATEWAY, 22)).frame()));
    });
}

/// Options are frozen with the programs; what is asked for otherwise is named.
#[test]
fn options_stay_as_they_are_until_down() {
    let lab = Lab::new();
    let options = ["--timeout", "udp=2m", "--timeout", "tcp-established=1h", "--client-live", "9"];
    up(&lab.gateway, &lab.device, &options);
    let again = |more: &[&str]| run(&lab.gateway, &[&["up", &lab.device], more].concat());
    again(&options).done();
    again(&[&options[..], &["--rule", "drop"]].concat()).done();
    again(&[]).refused(
        code::FOREIGN,
        &["other options", "tcp_established is", "udp is", "client_live is 9, not 0"],
    );
    again(&[&options[..], &["--sealed"]].concat()).refused(code::FOREIGN, &["flags is"]);
    let wrong = run(&lab.gateway, &["up", &lab.device, "--timeout", "udp=0"]);
    wrong.refused(code::USAGE, &["a time from 1s"]);
    let both = run(&lab.gateway, &["up", &lab.device, "--sealed", "--when-full", "pass"]);
    both.refused(code::USAGE, &["--when-full pass"]);
}
