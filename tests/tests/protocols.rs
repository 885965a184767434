// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Protocols besides TCP, UDP and ICMP: of those that nothing but the IP header sums, the address becomes another one, and
//! nothing else does. Beside nft: protocols_live.rs.
use e2e::bench::{Bench, Hook};
use e2e::detour;
use e2e::family::Family;
use e2e::packet::{Inner, Packet};
use e2e::sctp::SCTP;
use std::net::IpAddr;

/// An SCTP packet; a tag of 0 is that of an INIT.
fn sctp(from: (IpAddr, u16), to: (IpAddr, u16), tag: u32) -> Packet {
    e2e::sctp::sctp(from, to, tag, u8::from(tag == 0))
}

fn ends(packet: &Packet, src: IpAddr, dst: IpAddr) -> Packet {
    Packet { src, dst, ..packet.clone() }
}

/// Runs the scene with `rules` in each family, see [`Bench::scenes`]; the benches.
fn scenes(rules: &[&str], scene: impl Fn(Family, u16, &Hook<'_>, &Hook<'_>)) -> [Bench; 2] {
    Family::BOTH.map(|family| {
        let bench = Bench::new(rules);
        bench.scenes(|port, ingress, egress| scene(family, port, ingress, egress));
        bench
    })
}

#[test]
fn the_address_alone() {
    scenes(&[], |family, port, ingress, egress| {
        let (client, far, gateway) = (family.client(), family.far(), family.gateway());
        // Numbers without a name, IPIP, 6in4, GRE, ESP, L2TP; with payloads shorter than any header.
        for protocol in [4, 41, 46, 47, 50, 94, 97, 98, 108, 115, 137, 143, 253, 254] {
            for length in [0, 3, 8, 9, 1400] {
                let packet = Packet::other(client, far, protocol).payload(&vec![0x5a; length]);
                ingress.rewrites(&packet, &ends(&packet, client, gateway));
                let answer = ends(&packet, far, client);
                egress.rewrites(&ends(&answer, gateway, client), &answer);
            }
        }
        let init = sctp((client, port), (far, 5000), 0);
        let data = sctp((client, port), (far, 5000), 0x1234_5678);
        let answer = sctp((far, 5000), (client, port), 0x8765_4321);
        for packet in [init, data] {
            ingress.rewrites(&packet, &ends(&packet, client, gateway));
            egress.rewrites(&ends(&answer, gateway, client), &answer);
        }
    });
}

#[test]
fn what_sums_its_addresses_passes() {
    scenes(&[], |family, _, ingress, egress| {
        for protocol in [2, 33, 51, 89, 103, 112, 135, 136, 139] {
            let packet = Packet::other(family.client(), family.far(), protocol).payload(&[0x5a; 60]);
            ingress.passes("a protocol that sums its addresses", &packet.frame());
            egress.passes("its answer", &ends(&packet, family.gateway(), family.client()).frame());
        }
    });
}

/// Nothing tells two of them apart at the server: the second is not sent there.
#[test]
fn the_second_flow_without_ports_is_dropped_and_counted() {
    let benches = scenes(&[], |family, port, ingress, _| {
        let (client, far, gateway) = (family.client(), family.far(), family.gateway());
        let [other, neighbour]: [IpAddr; 2] = family
            .pick(["1.2.3.4", "192.168.178.52"], ["2001:db8::4", "fd00::52"])
            .map(|ip| ip.parse().unwrap());
        let protocol = 60 + (port / 1000) as u8;
        let first = Packet::other(client, far, protocol).payload(&[1; 30]);
        ingress.rewrites(&first, &ends(&first, client, gateway));
        ingress.drops(&ends(&first, client, other));
        let others = ends(&first, neighbour, other);
        ingress.rewrites(&others, &ends(&others, neighbour, gateway));
        let init = sctp((client, port), (far, 5000), 0);
        ingress.rewrites(&init, &ends(&init, client, gateway));
        ingress.drops(&ends(&init, client, other));
        let next = sctp((client, port + 1), (other, 5000), 0);
        ingress.rewrites(&next, &ends(&next, client, gateway));
    });
    for bench in benches {
        let status = detour::json(&bench.lab.gateway, &["status", &bench.lab.device]);
        assert_eq!(status["instances"][0]["dnat"]["not_translated"]["no_port"], 4, "{status}");
    }
}

#[test]
fn rules_see_the_ports_of_sctp() {
    let rules = ["sctp dport 5000 redirect", "sctp sport 7 drop", "sctp accept", "meta l4proto 47 redirect"];
    let benches = scenes(&rules, |family, port, ingress, _| {
        let (client, far, gateway) = (family.client(), family.far(), family.gateway());
        let to = |sport: u16, dport, tag| sctp((client, sport), (far, dport), tag);
        let served = to(port, 5000, 0);
        ingress.rewrites(&served, &ends(&served, client, gateway));
        ingress.drops(&to(7, 5001, 0));
        ingress.passes("accepted", &to(port, 5001, 0).frame());
        let gre = Packet::other(client, far, 47).payload(&[1; 30]);
        ingress.rewrites(&gre, &ends(&gre, client, gateway));
        ingress.passes("of no rule", &Packet::udp((client, port), (far, 5000)).frame());
        let short = Packet { inner: Inner::Other(SCTP), payload: vec![0; 11], ..served.clone() };
        ingress.passes("no whole header", &short.frame());
    });
    for bench in benches {
        let flows = detour::json(&bench.lab.gateway, &["flows", &bench.lab.device]);
        let named: Vec<&str> =
            flows["flows"].as_array().unwrap().iter().map(|f| f["protocol"].as_str().unwrap()).collect();
        assert_eq!(named, ["47", "sctp", "sctp"], "{flows}");
    }
}

/// Where the gateway forwards, an association in mid-stream is not ours to bend.
#[test]
fn sctp_in_mid_stream() {
    for family in Family::BOTH {
        let lab = e2e::lab::Lab::new();
        lab.gateway.sysctl(family.pick("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"), "1");
        Bench::on(lab, &[]).scenes(|port, ingress, _| {
            let data = sctp((family.client(), port), (family.far(), 5000), 0x1234_5678);
            ingress.passes("no INIT, no flow", &data.frame());
        });
    }
}
