// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! IPv6 extension headers: what lies behind them is translated, and they stay as they are, in whole packets and in fragments.
use e2e::bench::Bench;
use e2e::lab::{CLIENT6, GATEWAY6};
use e2e::packet::{Packet, SYN};
use e2e::six::{
    at6, client6, destination_options, extended, fragment, framed, hop_by_hop, routing, Extension, FAR6,
};
use e2e::testrun::SHOT;

/// Up to six, whatever they are.
#[test]
fn extension_headers_stay() {
    let chains: Vec<Vec<Extension>> = vec![
        vec![hop_by_hop()],
        vec![destination_options(1)],
        vec![destination_options(2), destination_options(31)],
        vec![routing(0)],
        vec![fragment(0, false)],
        vec![hop_by_hop(), destination_options(1), routing(0), fragment(0, false), destination_options(2)],
        vec![destination_options(1); 6],
        vec![destination_options(40); 6],
    ];
    Bench::new(&[]).scenes(|port, ingress, egress| {
        for (n, chain) in chains.iter().enumerate() {
            let port = port + n as u16;
            let questions = [
                Packet::tcp(client6(port), at6(FAR6, 80), SYN).payload(b"early data"),
                Packet::udp(client6(port), at6(FAR6, 53)).payload(b"x"),
            ];
            for asked in questions {
                let server = at6(GATEWAY6, asked.ends().1.port());
                let served = asked.clone().between(client6(port), server);
                let [question, expected] = [&asked, &served].map(|packet| extended(&packet.ip(), chain));
                ingress.makes("a question", &question, &expected);
                let [answer, heard] = [served.reversed(), asked.reversed()].map(|p| extended(&p.ip(), chain));
                egress.makes("an answer", &answer, &heard);
            }
            let ping = Packet::echo(CLIENT6.into(), FAR6.into(), port, 1).payload(b"ping");
            let served = Packet { dst: GATEWAY6.into(), ..ping.clone() };
            ingress.makes("a ping", &extended(&ping.ip(), chain), &extended(&served.ip(), chain));
        }
    });
}

/// The packet in pieces of `size` bytes, `chain` behind each fragment header belonging to the first alone.
fn pieces(packet: &Packet, id: u32, chain: &[Extension], size: usize) -> Vec<Vec<u8>> {
    let ip = extended(&packet.ip(), chain);
    let last = (ip.len() - 41) / size;
    let piece = |(n, bytes): (usize, &[u8])| {
        let mut header = fragment((n * size / 8) as u16, n < last);
        header.1[4..].copy_from_slice(&id.to_be_bytes());
        extended(&[&ip[..40], bytes].concat(), &[header])
    };
    ip[40..].chunks(size).enumerate().map(piece).collect()
}

/// Later fragments follow the first one, both ways; before it, and of another packet, they are dropped.
#[test]
fn fragments_follow_the_first_one() {
    Bench::new(&[]).scenes(|port, ingress, egress| {
        for (n, chain) in [vec![], vec![destination_options(2)]].into_iter().enumerate() {
            let (port, id) = (port + n as u16, u32::from(port) << 8 | n as u32);
            let asked = Packet::udp(client6(port), at6(FAR6, 53)).payload(&[3; 3001]);
            let served = asked.clone().between(client6(port), at6(GATEWAY6, 53));
            for (hook, from, to) in
                [(ingress, &asked, &served), (egress, &served.clone().reversed(), &asked.clone().reversed())]
            {
                let (before, after) = (pieces(from, id, &chain, 1208), pieces(to, id, &chain, 1208));
                let drops = |piece: &[u8]| {
                    assert_eq!(hook.program.run(&framed(piece), hook.sums).verdict, SHOT, "{piece:02x?}");
                };
                drops(&before[1]);
                for (before, after) in before.iter().zip(&after) {
                    hook.makes("a fragment", before, after);
                }
                hook.makes("the last one again", &before[2], &after[2]);
                drops(&pieces(from, id + 77, &chain, 1208)[2]);
            }
        }
        let own = Packet::udp(client6(port), at6(GATEWAY6, 99)).payload(&[1; 3000]);
        ingress.passes("a later fragment to the gateway", &framed(&pieces(&own, 1, &[], 1208)[1]));
    });
}
