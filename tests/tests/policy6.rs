// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Devices that are sealed, and tables that are full, for IPv6.
use e2e::bench::{Bench, Hook};
use e2e::capture::{Frame, Wire};
use e2e::detour::{json, up};
use e2e::lab::{Lab, CLIENT6, GATEWAY6, SERVER6};
use e2e::packet::{Inner, Packet, ACK, FIN, PSH, RST, SYN};
use e2e::serve::Server;
use e2e::six::{at6, client6, destination_options, extended, fragment, framed, hop_by_hop, routing, FAR6};
use e2e::talk;
use e2e::testrun::{Sums, REDIRECT, SHOT, UNSPEC};
use std::net::{Ipv6Addr, SocketAddr};

/// The whole way: a host beyond hears nothing of a client behind a sealed device, and everything without.
#[test]
fn nothing_leaks_through_a_sealed_device() {
    for sealed in [false, true] {
        let lab = Lab::new();
        let server = lab.server6();
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 80));
        let _web = Server::http(&lab.gateway, any, "gateway");
        let _far = Server::http(&server, (SERVER6, 81), "far");
        let mut options = vec!["--rule", "tcp dport 80 redirect", "--rule", "tcp dport 81 accept"];
        options.extend(sealed.then_some("--sealed"));
        up(&lab.gateway, &lab.device, &options);
        server.run("ping", &["-6", "-c", "1", "-W", "10", "fd09::1"]);
        let wire = Wire::tap(&server, "eth0").only();
        let from_client = Wire::tap(&lab.client, "eth0");
        // Everything that could be forwarded.
        let to = at6(SERVER6, 22);
        let udp = Packet::udp(client6(4000), at6(SERVER6, 53)).payload(&[1; 64]);
        let mut error = Packet::echo(CLIENT6.into(), SERVER6.into(), 0, 0).payload(&udp.ip());
        error.inner = Inner::Icmp { kind: 1, code: 0, rest: [0; 4] };
        let plain =
            [SYN, SYN | ACK, ACK, FIN | ACK, RST, 0].map(|flags| Packet::tcp(client6(4000), to, flags));
        let mut frames: Vec<Vec<u8>> = plain.iter().map(Packet::ip).collect();
        frames.extend([
            udp.ip(),
            error.ip(),
            Packet::echo(CLIENT6.into(), SERVER6.into(), 1, 1).ip(),
            Packet::other(CLIENT6.into(), SERVER6.into(), 47).payload(&[1; 50]).ip(),
            Packet::other(CLIENT6.into(), SERVER6.into(), 132).payload(&[1; 50]).ip(),
            Packet::other(CLIENT6.into(), SERVER6.into(), 59).ip(),
        ]);
        for extensions in [
            vec![fragment(0, true)],
            vec![fragment(8, false)],
            vec![destination_options(1)],
            vec![hop_by_hop(), destination_options(2), routing(0)],
            vec![routing(1)],
            vec![destination_options(1); 7],
        ] {
            frames.push(extended(&udp.ip(), &extensions));
        }
        for packet in &frames {
            let mut frame = framed(packet);
            frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 0x51]);
            from_client.send(&frame);
        }
        let forged = wire.frames(2 * talk::QUIET);
        let of_client =
            |frame: &&Frame| frame.bytes[12..14] == [0x86, 0xdd] && frame.bytes[22..38] == CLIENT6.octets();
        let leaked = forged.iter().filter(of_client).count();
        if sealed {
            assert_eq!(leaked, 0, "{leaked} packets arrived");
        } else {
            // The UDP fragment that comes after its first one, and the rest; no SYN-ACK or RST without connection is lost.
            assert!(leaked >= 16, "this would show nothing: {leaked} of {} packets arrived", frames.len());
        }
        // What this machine is for goes on: the translated, the direct, the accepted, neighbour discovery.
        assert!(talk::curl(&lab.client, &format!("http://[{FAR6}]/")).starts_with("gateway"));
        assert!(talk::curl(&lab.client, &format!("http://[{GATEWAY6}]/")).starts_with("gateway"));
        assert!(talk::curl(&lab.client, &format!("http://[{SERVER6}]:81/")).starts_with("far"));
        lab.client.run("ip", &["-6", "neighbour", "flush", "all"]);
        lab.client.run("ping", &["-6", "-c", "1", "-W", "10", &GATEWAY6.to_string()]);
        let status = json(&lab.gateway, &["status", &lab.device]);
        let dropped = &status["instances"][0]["dnat"]["not_translated"]["sealed"];
        assert_eq!(sealed, dropped.as_u64().is_some_and(|n| n >= frames.len() as u64 - 2), "{status}");
    }
}

#[test]
fn sealed_by_destination() {
    let lab = Lab::new();
    up(&lab.gateway, &lab.device, &["--sealed", "--no-pickup", "--rule", "udp redirect"]);
    let bench = Bench { lab };
    bench.scenes(|port, ingress, _| {
        let to = |ip: &str| Packet::tcp(client6(port), at6(ip.parse().unwrap(), 80), SYN);
        for beyond in ["2001:db8::1", "64:ff9b::1", "fd00::7", "::ffff:1.2.3.4"] {
            ingress.drops(&to(beyond));
        }
        ingress.drops(&Packet::tcp(client6(port), at6(FAR6, 80), ACK));
        // Ours, link-local, all nodes, the gateway's solicited-node group, DHCP and MLD.
        for here in
            [&GATEWAY6.to_string(), "::1", "fe80::2", "ff02::1", "ff02::1:ff00:2", "ff02::1:2", "ff02::16"]
        {
            ingress.passes("for us", &to(here).frame());
        }
        let served = Packet::udp(client6(port), at6(FAR6, 53)).payload(b"served");
        ingress.rewrites(&served, &served.clone().between(client6(port), at6(GATEWAY6, 53)));
    });
}

/// What is dropped opens no flow for its like to follow, also where a rule leads to the same address.
#[test]
fn a_sealed_device_drops_what_comes_again() {
    let target: Ipv6Addr = "fd09::2".parse().unwrap();
    let to_target = format!("tcp dport 80 dnat to {target}");
    let lab = Lab::new();
    up(
        &lab.gateway,
        &lab.device,
        &["--sealed", "--no-pickup", "--rule", &to_target, "--rule", "tcp dport 443 accept"],
    );
    Bench { lab }.scenes(|port, ingress, _| {
        let syn = |to| Packet::tcp(client6(port), to, SYN);
        for packet in [
            syn(at6(target, 22)),
            Packet::udp(client6(port), at6(target, 53)).payload(b"leak"),
            Packet::echo(CLIENT6.into(), target.into(), port, 1),
        ] {
            (0..3).for_each(|_| ingress.drops(&packet));
        }
        let served = syn(at6(FAR6, 80));
        (0..2)
            .for_each(|_| ingress.rewrites(&served, &served.clone().between(client6(port), at6(target, 80))));
        let accepted = syn(at6(target, 443)).frame();
        (0..2).for_each(|_| ingress.passes("accepted", &accepted));
        (0..2).for_each(|_| ingress.passes("for us", &syn(at6(GATEWAY6, 22)).frame()));
    });
}

/// Opens a connection from `port` until it is confirmed.
fn connect(ingress: &Hook<'_>, egress: &Hook<'_>, port: u16) {
    let asked = |flags| Packet::tcp(client6(port), at6(FAR6, 80), flags);
    let server = at6(GATEWAY6, 80);
    ingress.rewrites(&asked(SYN), &asked(SYN).between(client6(port), server));
    let answer = Packet::tcp(at6(FAR6, 80), client6(port), SYN | ACK);
    egress.rewrites(&answer.clone().between(server, client6(port)), &answer);
    let heard = asked(ACK).acknowledging(0x0102_0305);
    ingress.rewrites(&heard, &heard.clone().between(client6(port), server));
}

#[test]
fn a_full_table_keeps_what_it_has() {
    for (what, verdict) in [("drop", SHOT), ("reject", REDIRECT), ("pass", UNSPEC), ("hold", UNSPEC)] {
        let lab = Lab::new();
        up(&lab.gateway, &lab.device, &["--flows-max", "64", "--when-full", what]);
        let bench = Bench { lab };
        let (ingress, egress) = (bench.program("ingress"), bench.program("egress"));
        let hook = |program| Hook { program, sums: Sums::None };
        let (ingress, egress) = (hook(&ingress), hook(&egress));
        // IPv6 has a quarter of IPv4's.
        for n in 0..16 {
            connect(&ingress, &egress, 4000 + n);
        }
        let syn = Packet::tcp(client6(5000), at6(FAR6, 80), SYN);
        let outcome = ingress.program.run(&syn.frame(), ingress.sums);
        assert_eq!(outcome.verdict, verdict, "{what}");
        if what == "hold" {
            assert_ne!(outcome.frame, syn.frame(), "held half-open");
        } else {
            let status = json(&bench.lab.gateway, &["status", &bench.lab.device]);
            assert_eq!(status["instances"][0]["dnat"]["not_translated"]["no_room"], 1, "{what}");
        }
        if what == "reject" {
            let mut reset = Packet::tcp(at6(FAR6, 80), client6(5000), RST | ACK).acknowledging(0x0102_0305);
            let Inner::Tcp { seq, window, .. } = &mut reset.inner else { panic!() };
            (*seq, *window) = (0, 0);
            assert_eq!(outcome.frame, reset.frame(), "{what}");
        }
        // Those that were there carry on.
        for n in 0..16 {
            let data = Packet::tcp(client6(4000 + n), at6(FAR6, 80), ACK | PSH).payload(b"more");
            ingress.rewrites(&data, &data.clone().between(client6(4000 + n), at6(GATEWAY6, 80)));
        }
    }
}
