// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Packets whose headers do not lie where programs read them, but in fragments of the kernel's buffer, cut at every byte: each comes
//! out as one that lies in a row does, to the byte. A program before ours drops what lies otherwise than it was written.
use e2e::family::Family;
use e2e::model::{self, arrives, destinations, frame, leaves, Fate, PORTS};
use e2e::packet::{Packet, SYN};
use e2e::quote::{error, kinds, masquerade, refusal, router, talks, Talk, REFUSE, RULES};
use e2e::random::Random;
use e2e::six::{destination_options, fragment, hop_by_hop, routing, Extension};
use e2e::talk::{PATIENCE, SILENCE};
use e2e::taps::{Taps, Way};
use e2e::tun::{Kind, Left};
use std::net::SocketAddr;

/// The Ethernet header is what every packet has in the linear part.
const LEAST: usize = 14;
/// MAX_SKB_FRAGS: so many pieces besides the first.
const PIECES: usize = 17;

fn taps(rules: &[&str]) -> Taps {
    let taps = Taps::new(Kind { pieces: true, ..Kind::default() }, rules);
    taps.witness();
    taps
}

/// Ways to cut a frame: at each byte; at each byte and behind the Ethernet header; in as many pieces of one length as there may be,
/// from each of the first bytes on; and not at all.
fn cuts(ip: &[u8]) -> Vec<Vec<usize>> {
    let end = LEAST + ip.len();
    // No header lies further behind.
    let last = end.min(LEAST + 260);
    let mut cuts: Vec<Vec<usize>> = (LEAST..last).map(|at| vec![at]).collect();
    cuts.extend((LEAST + 1..last).map(|at| vec![LEAST, at]));
    for length in [1, 2, 3, 5, 8, (end - LEAST).div_ceil(PIECES)] {
        for first in LEAST..LEAST + 8 {
            cuts.push((first..end).step_by(length).take(PIECES).collect());
        }
    }
    cuts.push(Vec::new());
    cuts
}

/// Cut in each way; how many they were.
fn each_way(taps: &Taps, way: Way, ip: &[u8], expected: &[u8]) -> usize {
    assert_ne!(ip, expected, "this would show nothing");
    let cuts = cuts(ip);
    cuts.iter().for_each(|cuts| taps.makes(way, ip, cuts, expected));
    cuts.len()
}

/// Extension headers before what a packet carries; for IPv4 none.
fn chains(family: Family) -> Vec<Vec<Extension>> {
    let six = vec![
        vec![hop_by_hop(), destination_options(3)],
        vec![routing(0), fragment(0, false)],
        vec![destination_options(1); 6],
    ];
    [vec![vec![]], family.pick(Vec::new(), six)].concat()
}

fn bytes(packet: &Packet, chain: &[Extension]) -> Vec<u8> {
    frame(packet, chain).split_off(14)
}

/// Else the rest of this file would show nothing.
#[test]
fn the_program_before_ours_knows_how_a_packet_lies() {
    let taps = taps(&RULES);
    for talk in talks(Family::V4, 4000) {
        let ip = talk.asked.ip();
        for cut in [LEAST, LEAST + 1, LEAST + 20, LEAST + 28] {
            for other in [LEAST - 1, cut - 1, cut + 1, LEAST + ip.len()] {
                taps.write_as(other, Way::In, &Left::default(), &ip, &[cut]);
            }
        }
        assert_eq!(taps.read(Way::In, SILENCE), None, "{}", talk.asked);
        taps.makes(Way::In, &ip, &[LEAST], &talk.served.ip());
    }
}

#[test]
fn packets_of_flows_cut_everywhere() {
    for family in Family::BOTH {
        let taps = taps(&RULES);
        let mut seen = 0;
        for (n, talk) in talks(family, 4000).into_iter().enumerate() {
            let mut ways = |talk: &Talk, chain: &[Extension]| {
                seen += each_way(&taps, Way::In, &bytes(&talk.asked, chain), &bytes(&talk.served, chain));
                seen += each_way(&taps, Way::Out, &bytes(&talk.answer, chain), &bytes(&talk.heard, chain));
            };
            for chain in chains(family) {
                ways(&talk, &chain);
            }
            let later = talk.later();
            // Behind IPv4 options, and 700 bytes of payload.
            ways(&later[later.len() - 1 - n % 2], &[]);
        }
        assert!(seen > 4 * 2 * 2 * 150, "{seen}");
    }
}

/// Both ends change at once, from the packet that opens the flow on, and all of it goes back through the device.
#[test]
fn masqueraded_packets_cut_everywhere() {
    for family in Family::BOTH {
        let taps = taps(&[masquerade(family).as_str()]);
        let (mut port, mut seen) = (4000, 0);
        for (n, chain) in (0..4).flat_map(|n| chains(family).into_iter().map(move |chain| (n, chain))) {
            let whole = bytes(&talks(family, port)[n].asked, &chain);
            for cuts in cuts(&whole) {
                // Each opens a flow of its own.
                port += 1;
                let talk = &talks(family, port)[n];
                let asked = bytes(&talk.asked, &chain);
                taps.write(Way::Back, &Left::default(), &asked, &cuts);
                let (_, first) = taps
                    .read(Way::Back, PATIENCE)
                    .unwrap_or_else(|| panic!("{} {cuts:?}: silence", talk.asked));
                // The port, or an echo's identifier.
                let at =
                    asked.len() - talk.asked.ip().len() + family.pick(20, 40) + if n == 3 { 4 } else { 0 };
                let talk = talk.clone().masqueraded(u16::from_be_bytes([first[at], first[at + 1]]));
                assert_eq!(first, bytes(&talk.served, &chain), "{} {cuts:?}", talk.asked);
                let [served, answer, heard] =
                    [&talk.served, &talk.answer, &talk.heard].map(|packet| bytes(packet, &chain));
                taps.makes(Way::Back, &answer, &cuts, &heard);
                taps.makes(Way::Back, &asked, &cuts, &served);
                seen += 1;
            }
        }
        assert!(seen > 4 * 100, "{seen}");
    }
}

/// The first of the conversation, whole, with a server of the gateway's own or, if it `masquerades`, with one on the client's
/// segment.
fn opened(taps: &Taps, first: Talk, masquerades: bool) -> Talk {
    if masquerades {
        return taps.masquerades(first, |packet| (Left::default(), packet.ip()));
    }
    taps.makes(Way::In, &first.asked.ip(), &[], &first.served.ip());
    taps.makes(Way::Out, &first.answer.ip(), &[], &first.heard.ip());
    first
}

/// With servers of the gateway's own, and with one on the clients' segment.
fn gateways() -> [(Family, bool); 4] {
    [(Family::V4, false), (Family::V6, false), (Family::V4, true), (Family::V6, true)]
}

#[test]
fn errors_cut_everywhere() {
    for (family, masquerades) in gateways() {
        let rule = masquerade(family);
        let rules = [rule.as_str()];
        let taps = taps(if masquerades { &rules[..] } else { &RULES });
        let mut seen = 0;
        for (n, first) in talks(family, 4000).into_iter().enumerate() {
            let later = opened(&taps, first, masquerades).later();
            let talk = &later[later.len() - 1 - n % 3];
            let kinds = kinds(family);
            for (m, chain) in chains(family).iter().enumerate() {
                let (kind, length) = (kinds[(n + m) % kinds.len()], [8, 20, 28, 548][(n + m) % 4]);
                let [far, client] = [family.far(), family.client()];
                let [asks, answers] = if masquerades { [Way::Back; 2] } else { [Way::In, Way::Out] };
                // About the question, and about the answer: whoever receives one must find its own packet in it.
                for (way, from, about, to, quoted) in [
                    (answers, talk.served.dst, &talk.served, far, &talk.asked),
                    (answers, router(family), &talk.served, far, &talk.asked),
                    (asks, client, &talk.heard, talk.served.src, &talk.answer),
                ] {
                    let [sent, expected] = [(from, about), (to, quoted)]
                        .map(|(from, about)| error(kind, from, about, chain, length).ip());
                    seen += each_way(&taps, way, &sent, &expected);
                }
            }
        }
        assert!(seen > 4 * 3 * 150, "{seen}");
    }
}

/// Later fragments have no transport header to look for, and a first one need not have a whole one.
#[test]
fn fragments_cut_everywhere() {
    for (family, masquerades) in gateways() {
        let rule = masquerade(family);
        let rules = [rule.as_str()];
        let taps = taps(if masquerades { &rules[..] } else { &[] });
        let [client, far] = [(family.client(), 4000), (family.far(), 53)].map(SocketAddr::from);
        let talk = Talk::new(Packet::udp(client, far), Packet::udp(far, client), 53);
        let talk = opened(&taps, talk, masquerades);
        let [asks, answers] = if masquerades { [Way::Back; 2] } else { [Way::In, Way::Out] };
        for (id, payload) in [(1, 40), (2, 600)] {
            let talk =
                talk.each(|packet| Packet { fragment: 0, id, ..packet.clone().payload(&vec![7; payload]) });
            for (way, from, to) in [(asks, &talk.asked, &talk.served), (answers, &talk.answer, &talk.heard)] {
                for (piece, expected) in
                    from.fragments(payload / 40 * 16).iter().zip(to.fragments(payload / 40 * 16))
                {
                    each_way(&taps, way, &piece.ip(), &expected.ip());
                }
            }
        }
    }
}

/// Behind tags, of which the kernel takes the first out of the frame; what it looks at for that lies in a row afterwards.
#[test]
fn tagged_frames_cut_everywhere() {
    const TAGS: [&[u8]; 2] = [&[0x81, 0, 0, 100], &[0x88, 0xa8, 0, 7, 0x81, 0, 0, 9]];
    for (family, tags) in Family::BOTH.into_iter().flat_map(|family| TAGS.map(|tags| (family, tags))) {
        let taps = Taps::with(Kind { pieces: true, ..Kind::default() }, &["--vlan", "any"]);
        taps.witness();
        let [client, far, gateway] =
            [(family.client(), 4000), (family.far(), 53), (family.gateway(), 53)].map(SocketAddr::from);
        let asked = Packet::udp(client, far).payload(&[7; 40]);
        let served = asked.clone().between(client, gateway);
        let kind = family.pick([8, 0], [0x86, 0xdd]);
        for cut in LEAST..LEAST + tags.len() + asked.ip().len() {
            let linear = cut.max(LEAST + 6) - 4;
            let [sent, expected] = [&asked, &served].map(|packet| {
                let station =
                    [&[2, 0, 0, 0, 0, 2, 2, 0][..], &(linear as u16).to_ne_bytes(), &[0, 0x51]].concat();
                [&station[..], tags, &kind, &packet.ip()].concat()
            });
            taps.near.write(&Left::default(), &sent, &[cut]);
            let seen = loop {
                let (_, seen) =
                    taps.far.read(PATIENCE).unwrap_or_else(|| panic!("{tags:02x?} {cut}: silence"));
                if seen[12..14] == tags[..2] {
                    break seen;
                }
            };
            assert_eq!(seen, expected, "{tags:02x?} cut at {cut}");
        }
    }
}

/// What a rule refuses becomes the answer, wherever it lay.
#[test]
fn refusals_cut_everywhere() {
    for family in Family::BOTH {
        let taps = taps(&REFUSE);
        let [client, far] = [(family.client(), 4000), (family.far(), 80)].map(SocketAddr::from);
        let syn = Packet::tcp(client, far, SYN).payload(b"fast open");
        for packet in [syn, Packet::udp(client, far).payload(&[5; 60])] {
            let answer = refusal(&packet);
            for (n, cuts) in cuts(&packet.ip()).iter().enumerate() {
                if n % 40 == 39 {
                    // As many answers as that are sent at once, then a thousand a second.
                    std::thread::sleep(std::time::Duration::from_millis(100));
                }
                taps.write(Way::In, &Left::default(), &packet.ip(), cuts);
                // It goes back.
                let seen =
                    taps.read(Way::Out, PATIENCE).unwrap_or_else(|| panic!("{packet} {cuts:?}: silence"));
                assert_eq!(seen.1, answer.ip(), "{packet} {cuts:?}");
            }
        }
    }
}

/// Random whole packets and their answers, cut at random: what the model says, to the byte.
#[test]
fn random_packets_cut_at_random() {
    for family in Family::BOTH {
        let taps = taps(&model::RULES);
        let mut random = Random::new(11);
        // What is for groups the kernel sends as well.
        let destinations: Vec<_> = destinations(family).into_iter().filter(|to| !to.is_multicast()).collect();
        let mut seen = [0; 3];
        for n in 0..4000 {
            let client = SocketAddr::new(family.client(), 1024 + n);
            let to = SocketAddr::new(random.one(&destinations), random.one(&PORTS));
            let mut chain = || family.pick(Vec::new(), random.extensions());
            let [chain, back] = [chain(), chain()];
            let asked = random.packet(client, to);
            let fate = arrives(&asked, &chain);
            seen[meets(&taps, &mut random, Way::In, &asked, &chain, &fate)] += 1;
            let served = match &fate {
                Fate::Sent(served) => served.clone(),
                _ => asked.clone(),
            };
            let answer = random.answer(&served);
            let fate = leaves(&asked, &chain, &fate, &answer, &back);
            seen[meets(&taps, &mut random, Way::Out, &answer, &back, &fate)] += 1;
        }
        assert!(seen[0] > 500 && seen[1] > 50 && seen[2] > 1000, "{family:?} {seen:?}");
    }
}

/// Which fate it had, as a number. What is dropped would come out before the next one.
fn meets(
    taps: &Taps,
    random: &mut Random,
    way: Way,
    packet: &Packet,
    chain: &[Extension],
    fate: &Fate,
) -> usize {
    let ip = bytes(packet, chain);
    let mut cuts: Vec<usize> = (0..random.below(PIECES)).map(|_| LEAST + random.below(ip.len())).collect();
    cuts.sort();
    cuts.dedup();
    let (expected, kind) = match fate {
        Fate::Dropped => {
            taps.write(way, &Left::default(), &ip, &cuts);
            return 1;
        }
        Fate::Passes => (ip.clone(), 0),
        Fate::Sent(packet) => (bytes(packet, chain), 2),
    };
    taps.makes(way, &ip, &cuts, &expected);
    kind
}
