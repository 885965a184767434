// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Devices that are sealed: nothing leaves by another way, under whatever source, and what the machine is for goes on.
use e2e::bench::Bench;
use e2e::capture::{Frame, Wire};
use e2e::detour::{json, up};
use e2e::family::Family;
use e2e::lab::{ip, Lab};
use e2e::packet::{Inner, Packet, ACK, FIN, RST, SYN};
use e2e::serve::Server;
use e2e::six::{destination_options, extended, fragment, hop_by_hop, routing};
use e2e::talk;
use e2e::testrun::{REDIRECT, SHOT, UNSPEC};
use std::net::{IpAddr, SocketAddr};

fn host(address: IpAddr) -> String {
    SocketAddr::new(address, 80).to_string().trim_end_matches(":80").to_string()
}

/// Whoever is behind a sealed device can say that it is: itself, a neighbour, somebody far away, the gateway, the server, nobody.
fn names(family: Family) -> [IpAddr; 8] {
    let four = ["192.168.178.52", "203.0.113.77", "10.9.9.77", "169.254.0.9", "0.0.0.0"];
    let six = ["fd00::52", "2001:db8:77::1", "fd09::77", "fe80::9", "::"];
    let [a, b, c, d, e] = family.pick(four, six).map(|name| name.parse().unwrap());
    [family.client(), a, b, c, d, e, family.gateway(), family.server()]
}

/// One of everything that could be forwarded, from `src` to the server behind the gateway, as IP packets.
fn forwardable(family: Family, src: IpAddr) -> Vec<Vec<u8>> {
    let dst = family.server();
    let [from, to] = [SocketAddr::new(src, 4000), SocketAddr::new(dst, 22)];
    let udp = Packet::udp(from, SocketAddr::new(dst, 53)).payload(&[1; 64]);
    let icmp = |kind, code, payload: &[u8]| {
        let inner = Inner::Icmp { kind, code, rest: [0, 1, 0, 1] };
        Packet { inner, ..Packet::other(src, dst, family.pick(1, 58)) }.payload(payload).ip()
    };
    let [request, reply] = family.pick([8, 0], [128, 129]);
    let (unreachable, code) = family.pick((3, 3), (1, 4));
    let quoted = Packet::udp(SocketAddr::new(dst, 53), SocketAddr::new(src, 9)).ip();
    let mut packets: Vec<Vec<u8>> =
        [SYN, SYN | ACK, ACK, FIN | ACK, RST, 0].map(|flags| Packet::tcp(from, to, flags).ip()).to_vec();
    packets.extend([
        udp.ip(),
        icmp(request, 0, b"ping"),
        icmp(reply, 0, b"ping"),
        icmp(unreachable, code, &quoted),
        Packet::other(src, dst, 47).payload(&[1; 50]).ip(),
        Packet::other(src, dst, 132).payload(&[1; 50]).ip(),
    ]);
    if family == Family::V4 {
        let piece = |fragment| Packet { fragment, ..Packet::other(src, dst, 17).payload(&[1; 64]) }.ip();
        packets.extend([piece(0x2000), piece(0x0008), Packet::tcp(from, to, SYN).options(&[1; 8]).ip()]);
        return packets;
    }
    packets.push(Packet::other(src, dst, 59).ip());
    let extensions = [
        vec![fragment(0, true)],
        vec![fragment(8, false)],
        vec![destination_options(1)],
        vec![hop_by_hop(), destination_options(2), routing(0)],
        vec![routing(1)],
        vec![destination_options(1); 7],
    ];
    packets.extend(extensions.map(|extensions| extended(&udp.ip(), &extensions)));
    packets
}

/// Puts the packet onto the client's wire, for the gateway.
fn sends(wire: &Wire, family: Family, packet: &[u8]) {
    let kind = family.pick([8, 0], [0x86, 0xdd]);
    wire.send(&[&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 0x51][..], &kind, packet].concat());
}

/// The addresses of an IP packet in a frame.
fn ends(family: Family, frame: &Frame) -> Option<(IpAddr, IpAddr)> {
    let at = |from: usize| -> Option<IpAddr> {
        Some(match family {
            Family::V4 => IpAddr::from(<[u8; 4]>::try_from(frame.bytes.get(from..from + 4)?).ok()?),
            Family::V6 => IpAddr::from(<[u8; 16]>::try_from(frame.bytes.get(from..from + 16)?).ok()?),
        })
    };
    let (src, dst) = family.pick((26, 30), (22, 38));
    (frame.bytes[12..14] == family.pick([8, 0], [0x86, 0xdd])).then_some((at(src)?, at(dst)?))
}

/// The whole way: a host beyond hears nothing from behind a sealed device, and everything without.
#[test]
fn nothing_leaks_through_a_sealed_device() {
    for (family, sealed) in Family::BOTH.into_iter().flat_map(|family| [(family, false), (family, true)]) {
        let lab = Lab::new();
        let server = lab.server6();
        let _web = Server::http(&lab.gateway, family.any(80), "gateway");
        let _far = Server::http(&server, (family.server(), 81), "far");
        let mut options = vec!["--rule", "tcp dport 80 redirect", "--rule", "tcp dport 81 accept"];
        options.extend(sealed.then_some("--sealed"));
        up(&lab.gateway, &lab.device, &options);
        // The neighbour beyond is known, so that nothing waits for it.
        server.run("ping", &["-c", "1", "-W", "10", family.pick("10.9.9.1", "fd09::1")]);
        let wire = Wire::tap(&server, "eth0").only();
        let from_client = Wire::tap(&lab.client, "eth0");
        let mut sent = 0;
        for packet in names(family).into_iter().flat_map(|name| forwardable(family, name)) {
            sends(&from_client, family, &packet);
            sent += 1;
        }
        let passed = wire.frames(2 * talk::QUIET);
        let arrived = passed.iter().filter(|frame| !frame.sent).filter_map(|frame| ends(family, frame));
        let to_server: Vec<IpAddr> =
            arrived.filter(|(_, dst)| *dst == family.server()).map(|(src, _)| src).collect();
        let of = |name: IpAddr| to_server.iter().filter(|src| **src == name).count();
        let kinds = sent / names(family).len();
        if sealed {
            assert_eq!(to_server, Vec::<IpAddr>::new(), "{family:?}");
        } else {
            // Not the SYN-ACK, fragments before their first one, and what the kernel does not forward.
            for name in &names(family)[..4] {
                assert!(
                    of(*name) + 5 >= kinds,
                    "this would show nothing: {} of {kinds} from {name}",
                    of(*name)
                );
            }
        }
        // What this machine is for goes on: the translated, the direct, the accepted, ARP or neighbour discovery.
        let page = |address, port: &str| talk::curl(&lab.client, &format!("http://{}{port}/", host(address)));
        assert!(page(family.far(), "").starts_with("gateway"));
        assert!(page(family.gateway(), "").starts_with("gateway"));
        assert!(page(family.server(), ":81").starts_with("far"));
        lab.client.run("ip", &["neighbour", "flush", "all"]);
        lab.client.run("ping", &["-c", "1", "-W", "10", &family.gateway().to_string()]);
        let status = json(&lab.gateway, &["status", &lab.device]);
        let dropped = status["instances"][0]["dnat"]["not_translated"]["sealed"].as_u64().unwrap_or(0);
        assert_eq!(sealed, dropped > 0, "{status}");
        // What is left is dropped for another reason: no first fragment.
        assert!(!sealed || dropped + 2 * names(family).len() as u64 >= sent as u64, "{status}");
    }
}

/// The answer of a server behind a sealed device leaves through that device, wherever its client says that it is; its
/// fragments do not, for nothing says where the first one went.
#[test]
fn answers_of_a_server_behind_a_sealed_device() {
    for (family, sealed) in Family::BOTH.into_iter().flat_map(|family| [(family, false), (family, true)]) {
        let server = SocketAddr::new(family.neighbour(), 53);
        let lab = Lab::new();
        let rule = format!("udp dnat to {}", family.neighbour());
        up(
            &lab.gateway,
            &lab.device,
            &[&["--rule", &rule][..], if sealed { &["--sealed"] } else { &[] }].concat(),
        );
        Bench { lab }.scenes(|port, ingress, _| {
            let forged = SocketAddr::new(names(family)[2], port);
            let asked = Packet::udp(forged, SocketAddr::new(family.far(), 53));
            ingress.rewrites(&asked, &asked.clone().between(forged, server));
            let answer = Packet { id: port, ..Packet::udp(server, forged) }.payload(&[7; 1600]);
            let verdict = |packet: &Packet| ingress.program.run(&packet.frame(), ingress.sums).verdict;
            assert_eq!(verdict(&answer), if sealed { REDIRECT } else { UNSPEC });
            let pieces = answer.fragments(1400);
            let wanted = if sealed { SHOT } else { UNSPEC };
            assert_eq!([verdict(&pieces[0]), verdict(&pieces[1])], [wanted; 2]);
        });
    }
}

/// The same on wires: a client and a server on one segment, the server answers through the gateway.
#[test]
fn answers_stay_on_the_sealed_segment() {
    for (family, sealed) in Family::BOTH.into_iter().flat_map(|family| [(family, false), (family, true)]) {
        let (lab, server) = Lab::segment(true);
        let beyond = lab.server6();
        let (forged, gateway) = (names(family)[2], family.gateway());
        ip(&server, &format!("route add {} via {gateway}", family.client()));
        ip(
            &lab.gateway,
            &format!(
                "link set br0 address 02:00:00:00:00:02
                 route add {forged} via {}",
                family.server()
            ),
        );
        beyond.run("ping", &["-c", "1", "-W", "10", family.pick("10.9.9.1", "fd09::1")]);
        let echo = Server::udp(&server, family.any(53));
        let rule = format!("udp dnat to {}", family.neighbour());
        up(&lab.gateway, "br0", &[&["--rule", &rule][..], if sealed { &["--sealed"] } else { &[] }].concat());
        // To the client, each answer under the address that was asked; in fragments only where it is not sealed.
        let socket = talk::udp_for(&lab.client, family, 4000);
        let far = SocketAddr::new(family.far(), 53);
        for text in ["who?", "and who else?"] {
            assert_eq!(talk::ask(&socket, far, text).unwrap().1, far, "{family:?}, sealed {sealed}");
        }
        // What is asked under a name from elsewhere is answered to there, and goes nowhere.
        let asked = Packet::udp(SocketAddr::new(forged, 4001), far).payload(b"forged");
        let wires = (Wire::tap(&beyond, "eth0").only(), Wire::tap(&lab.client, "eth0").only());
        sends(&wires.1, family, &asked.ip());
        let to_forged = |frame: &Frame| {
            ends(family, frame).filter(|(_, dst)| !frame.sent && *dst == forged).map(|(src, _)| src)
        };
        if sealed {
            // The kernel asks the segment for that address, and nobody says that it is there.
            let seen: Vec<IpAddr> = wires.0.frames(4 * talk::QUIET).iter().filter_map(to_forged).collect();
            assert_eq!(seen, Vec::<IpAddr>::new(), "{family:?}");
        } else {
            assert_eq!(wires.0.next(to_forged), Some(family.neighbour()), "{family:?}");
        }
        let heard = echo.heard();
        assert_eq!(heard.last().map(|(from, _)| from.ip()), Some(forged), "the server answered: {heard:?}");
    }
}

#[test]
fn sealed_by_destination() {
    for family in Family::BOTH {
        let lab = Lab::new();
        up(&lab.gateway, &lab.device, &["--sealed", "--no-pickup", "--rule", "udp redirect"]);
        Bench { lab }.scenes(|port, ingress, _| {
            let client = SocketAddr::new(family.client(), port);
            let to = |address: &str| Packet::tcp(client, SocketAddr::new(address.parse().unwrap(), 80), SYN);
            let beyond = family.pick(
                ["1.2.3.4", "169.254.169.254", "100.64.0.1", "192.168.178.7"],
                ["2001:db8::1", "64:ff9b::1", "fd00::7", "::ffff:1.2.3.4"],
            );
            beyond.iter().for_each(|address| ingress.drops(&to(address)));
            ingress.drops(&Packet::tcp(client, SocketAddr::new(family.far(), 80), ACK));
            // Ours, broadcast and multicast; link-local, all nodes, the gateway's solicited-node group, DHCP and MLD.
            let here = family.pick(
                &["192.168.178.2", "255.255.255.255", "192.168.178.255", "224.0.0.1"][..],
                &["fd00::2", "::1", "fe80::2", "ff02::1", "ff02::1:ff00:2", "ff02::1:2", "ff02::16"],
            );
            here.iter().for_each(|address| ingress.passes("for us", &to(address).frame()));
            let served = Packet::udp(client, SocketAddr::new(family.far(), 53)).payload(b"served");
            let gateway = SocketAddr::new(family.gateway(), 53);
            ingress.rewrites(&served, &served.clone().between(client, gateway));
            // Other kinds of frames.
            let kind = |bytes: [u8; 2]| {
                let frame = [&[0; 12][..], &bytes, &to(beyond[0]).ip()].concat();
                ingress.program.run(&frame, ingress.sums).verdict
            };
            assert_eq!(kind([0x08, 0x06]), UNSPEC, "ARP");
            assert_eq!(kind([0x81, 0x00]), SHOT, "VLAN");
            assert_eq!(kind([0x88, 0x47]), SHOT, "MPLS");
            assert_eq!(kind([0x88, 0xb5]), SHOT, "unknown");
        });
    }
}

/// A packet for this machine which says where it goes from here (RFC 791: loose and strict source route; RFC 8200: segments left)
/// stays, also in pieces and behind other options; with anything else it is this machine's own.
#[test]
fn a_sealed_device_lets_nobody_choose_the_way() {
    let route = |kind| vec![kind, 7, 4, 10, 9, 9, 2, 0];
    let [record, alert, stamp] =
        [vec![7, 7, 4, 0, 0, 0, 0, 0], vec![148, 4, 0, 0], vec![68, 8, 5, 0, 0, 0, 0, 0]];
    let behind = [vec![1, 1, 1], alert.clone(), vec![1], route(131)].concat();
    let last = [vec![1; 33], vec![137, 7, 4, 10, 9, 9, 2]].concat();
    // What follows the end of the list is none.
    let after = [vec![0, 0, 0, 0], route(131)].concat();
    for (family, sealed) in Family::BOTH.into_iter().flat_map(|family| [(family, false), (family, true)]) {
        let lab = Lab::new();
        let options = ["--rule", "tcp dport 80 redirect", "--no-pickup", "--sealed"];
        up(&lab.gateway, &lab.device, &options[..if sealed { 4 } else { 3 }]);
        Bench { lab }.scenes(|port, ingress, _| {
            let client = SocketAddr::new(family.client(), port);
            let verdict = |ip: &[u8]| {
                let frame = [&[0; 12][..], &family.pick([8, 0], [0x86, 0xdd]), ip].concat();
                ingress.program.run(&frame, ingress.sums).verdict
            };
            let stays = if sealed { SHOT } else { UNSPEC };
            for to in [SocketAddr::new(family.gateway(), 22), SocketAddr::new(family.far(), 80)] {
                let syn = Packet::tcp(client, to, SYN);
                let own = to.ip() == family.gateway();
                if family == Family::V6 {
                    let with = |extensions: &[_]| verdict(&extended(&syn.ip(), extensions));
                    let piece = [fragment(0, true), routing(1)];
                    for extensions in
                        [&[routing(1)][..], &[hop_by_hop(), destination_options(1), routing(2)], &piece]
                    {
                        assert_eq!(with(extensions), stays, "{to} {extensions:?}");
                    }
                    assert_eq!(with(&[hop_by_hop(), destination_options(1)]), UNSPEC, "{to}");
                    continue;
                }
                for options in [&route(131), &route(137), &behind, &last] {
                    assert_eq!(verdict(&syn.clone().options(options).ip()), stays, "{to} {options:?}");
                }
                for options in [&record, &alert, &stamp, &after] {
                    assert_eq!(verdict(&syn.clone().options(options).ip()), UNSPEC, "{to} {options:?}");
                }
                if own {
                    let later = Packet { fragment: 8, ..Packet::udp(client, to).payload(&[1; 64]) };
                    assert_eq!(verdict(&later.clone().ip()), UNSPEC);
                    assert_eq!(verdict(&later.options(&route(131)).ip()), stays);
                }
            }
        });
    }
}

/// The same on wires, where the kernel follows source routes.
#[test]
fn no_source_route_leads_out_of_a_sealed_device() {
    let beyond = [true, false].map(|sealed| {
        let lab = Lab::new();
        let server = lab.server6();
        up(
            &lab.gateway,
            &lab.device,
            &["--rule", "tcp dport 80 redirect", "--sealed"][..if sealed { 3 } else { 2 }],
        );
        for device in ["all", &lab.device] {
            lab.gateway.sysctl(&format!("net/ipv4/conf/{device}/accept_source_route"), "1");
        }
        server.run("ping", &["-c", "1", "-W", "10", "10.9.9.1"]);
        let wires = (Wire::tap(&server, "eth0").only(), Wire::tap(&lab.client, "eth0"));
        let from = SocketAddr::new(Family::V4.client(), 4000);
        for to in [SocketAddr::new(Family::V4.gateway(), 22), SocketAddr::new(Family::V4.far(), 80)] {
            let syn = Packet::tcp(from, to, SYN).options(&[131, 7, 4, 10, 9, 9, 2, 0]);
            sends(&wires.1, Family::V4, &syn.ip());
        }
        let frames = wires.0.frames(2 * talk::QUIET);
        let arrived =
            |frame: &&Frame| !frame.sent && ends(Family::V4, frame).is_some_and(|(src, _)| src == from.ip());
        frames.iter().filter(arrived).count()
    });
    assert_eq!(beyond, [0, 2], "sealed, and not");
}

/// What is dropped opens no flow for its like to follow, also where a rule leads to the same address.
#[test]
fn a_sealed_device_drops_what_comes_again() {
    for family in Family::BOTH {
        let target = family.server();
        let to_target = format!("tcp dport 80 dnat to {target}");
        let lab = Lab::new();
        up(&lab.gateway, &lab.device, &["--sealed", "--rule", &to_target, "--rule", "tcp dport 443 accept"]);
        let bench = Bench { lab };
        bench.scenes(|port, ingress, _| {
            let client = SocketAddr::new(family.client(), port);
            let at = |address, port| SocketAddr::new(address, port);
            let syn = |to| Packet::tcp(client, to, SYN);
            for packet in [
                syn(at(target, 22)),
                Packet::udp(client, at(target, 53)).payload(b"leak"),
                Packet::echo(client.ip(), target, port, 1),
            ] {
                (0..3).for_each(|_| ingress.drops(&packet));
            }
            let flows = json(&bench.lab.gateway, &["flows", &bench.lab.device]);
            assert_eq!(flows["flows"].as_array().unwrap().len(), 2 * usize::from(port / 1000 - 4), "{flows}");
            let served = syn(at(family.far(), 80));
            (0..2).for_each(|_| ingress.rewrites(&served, &served.clone().between(client, at(target, 80))));
            let accepted = syn(at(target, 443)).frame();
            (0..2).for_each(|_| ingress.passes("accepted", &accepted));
            (0..2).for_each(|_| ingress.passes("for us", &syn(at(family.gateway(), 22)).frame()));
        });
    }
}
