// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! For tests: numbers -> rule texts of the whole language, made to overlap often.

use super::reject::REJECTS;
use super::rules::Family;

/// One rule of one family. `random(n)` gives numbers below n.
pub fn rule(random: &mut impl FnMut(usize) -> usize, v6: bool) -> String {
    let mut text = String::new();
    for side in ["saddr", "daddr"] {
        if random(3) == 0 {
            let family = if v6 { "ip6" } else { "ip" };
            text += &format!("{family} {side} {} ", set(random, |random| addresses(random, v6)));
        }
    }
    let protocol = ["tcp", "udp", "sctp"][random(3)];
    let mut ports = false;
    for side in ["sport", "dport"] {
        if random(2) == 0 {
            text += &format!("{protocol} {side} {} ", set(random, port_range));
            ports = true;
        }
    }
    if !ports && random(2) == 0 {
        let protocols = [["icmp", "tcp", "udp", "sctp"], ["icmp", "ipv6-icmp", "47", "6-17"]];
        text +=
            &format!("meta l4proto {} ", set(random, |random| protocols[random(2)][random(4)].to_owned()));
    }
    let to_port = ports && protocol != "sctp"; // its ports stay
    let target = if v6 { "fd00::2" } else { "192.0.2.2" };
    text += &match random(7) {
        0 => "accept".to_owned(),
        1 => "drop".to_owned(),
        2 => {
            // Those of both families at once are for nft's inet tables only.
            let kinds: Vec<String> = REJECTS
                .iter()
                .filter(|r| r.serves(if v6 { Family::V6 } else { Family::V4 }))
                .map(ToString::to_string)
                .filter(|text| {
                    !text.contains("icmpx") && (!text.contains("tcp") || protocol == "tcp" && ports)
                })
                .collect();
            kinds[random(kinds.len())].clone()
        }
        3 => "redirect".to_owned(),
        4 if to_port => format!("redirect to :{}", 1 + random(65535)),
        5 if to_port && v6 => format!("dnat to [{target}]:{}", 1 + random(65535)),
        5 if to_port => format!("dnat to {target}:{}", 1 + random(65535)),
        _ => format!("dnat to {target}"),
    };
    text
}

/// `[!=]` one element, or some in braces.
fn set<R: FnMut(usize) -> usize>(random: &mut R, mut element: impl FnMut(&mut R) -> String) -> String {
    let negation = if random(4) == 0 { "!= " } else { "" };
    match random(4) {
        0 => format!(
            "{negation}{{ {} }}",
            (0..=random(5)).map(|_| element(random)).collect::<Vec<_>>().join(", ")
        ),
        _ => format!("{negation}{}", element(random)),
    }
}

fn port_range(random: &mut impl FnMut(usize) -> usize) -> String {
    let first = random(100);
    match random(3) {
        0 => format!("{first}-{}", first + random(50)),
        _ => first.to_string(),
    }
}

fn addresses(random: &mut impl FnMut(usize) -> usize, v6: bool) -> String {
    let address = |last: usize| if v6 { format!("2001:db8::{last:x}") } else { format!("198.51.100.{last}") };
    let first = random(250);
    match random(3) {
        0 => address(first),
        1 => format!("{}-{}", address(first), address(first + random(255 - first))),
        _ => format!("{}/{}", address(first), (if v6 { 120 } else { 24 }) + random(9)),
    }
}

/// Numbers below a bound, always the same ones (xorshift64).
pub fn random() -> impl FnMut(usize) -> usize {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((u128::from(state) * below as u128) >> 64) as usize
    }
}
