// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A packet to what has to become of it under the rules below, and a frame to what of it may not change; said by the standards and
//! the documents, without any of the code that does it.
use crate::family::Family;
use crate::lab::{GATEWAY, GATEWAY6, SECOND};
use crate::packet::{checksum, Inner, Packet};
use crate::six::{extended, framed, Extension};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The rules that [`arrives`] knows.
pub const RULES: [&str; 6] = [
    "tcp dport 80 redirect to :8080",
    "udp dport { 53, 5000-5999 } redirect to :53",
    "tcp dport 1000-1999 accept",
    "ip daddr 198.51.100.0/24 drop",
    "ip6 daddr 2001:db8:c6::/48 drop",
    "redirect",
];

/// Ports on both sides of what the rules say.
pub const PORTS: [u16; 11] = [80, 53, 5000, 5999, 6000, 999, 1000, 1999, 2000, 67, 443];

/// Destinations, half of them nobody's.
pub fn destinations(family: Family) -> Vec<IpAddr> {
    let four = [
        ["93.184.216.34", "1.1.1.1", "223.255.255.255", "198.51.100.7", "203.0.113.9"],
        ["224.0.0.251", "255.255.255.255", "192.168.178.255", "169.254.1.1", "127.0.0.1"],
        ["0.0.0.0", "192.168.178.2", "192.168.178.3", "192.168.179.255", "169.255.0.1"],
    ];
    let six = [
        ["2001:db8:5d:b8:d8:22:0:34", "2001:db8:c6::7", "64:ff9b::102:304", "fec0::1", "fd00:0:0:1::2"],
        ["ff02::fb", "ff0e::101", "fe80::2", "febf::2", "::1"],
        ["::", "::ffff:1.2.3.4", "fd00::", "fd00::2", "2606:4700::1111"],
    ];
    family.pick(four, six).concat().iter().map(|ip| ip.parse().unwrap()).collect()
}

/// The packet with `chain` between its header and what it carries.
pub fn frame(packet: &Packet, chain: &[Extension]) -> Vec<u8> {
    if chain.is_empty() {
        packet.frame()
    } else {
        framed(&extended(&packet.ip(), chain))
    }
}

/// What becomes of a packet.
#[derive(Debug)]
pub enum Fate {
    /// It passes as it is.
    Passes,
    /// It is dropped.
    Dropped,
    /// It goes on as this one, behind the same extension headers.
    Sent(Packet),
}

/// What no rule is about: the machine's own, and what is not for one host that others can reach.
fn kept(dst: IpAddr) -> bool {
    match dst {
        IpAddr::V4(ip) => {
            let segment = Ipv4Addr::new(192, 168, 178, 255);
            let special = ip.is_multicast() || ip.is_broadcast() || ip.is_link_local() || ip.is_loopback();
            special || ip.octets()[0] == 0 || [GATEWAY, SECOND, segment].contains(&ip)
        }
        IpAddr::V6(ip) => {
            // RFC 4291, 2.6.1: all routers of the segment.
            let routers = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0);
            let link = ip.segments()[0] & 0xffc0 == 0xfe80;
            let special = ip.is_multicast() || link || ip.is_loopback() || ip.is_unspecified();
            special || ip.to_ipv4_mapped().is_some() || [GATEWAY6, routers].contains(&ip)
        }
    }
}

/// What is behind extension headers as far as a translator may know.
#[derive(PartialEq)]
enum Behind {
    /// The transport header.
    Transport,
    /// Something that covers the addresses (RFC 4302, 3.3.3), whatever it carries.
    Authentication,
    /// Nobody knows: too many, too long, or on its way to another hop.
    Nothing,
}

fn behind(chain: &[Extension]) -> Behind {
    let mut end = 14 + 40;
    for (n, (kind, bytes)) in chain.iter().enumerate() {
        if *kind == 51 && end < 2048 && n <= 6 {
            return Behind::Authentication;
        }
        if n == 6 || *kind == 43 && bytes[3] != 0 {
            return Behind::Nothing;
        }
        end += bytes.len();
    }
    if end < 2048 {
        Behind::Transport
    } else {
        Behind::Nothing
    }
}

/// Whether it may open a flow: a first SYN; a segment in mid-stream, for the gateway does not forward; all else.
fn opens(packet: &Packet) -> bool {
    !matches!(packet.inner, Inner::Tcp { flags, .. } if ![0x02, 0x10].contains(&(flags & 0x16)))
}

/// What the rules above make of a packet without flow that arrives.
pub fn arrives(packet: &Packet, chain: &[Extension]) -> Fate {
    let (from, to) = packet.ends();
    let denied = match packet.dst {
        IpAddr::V4(ip) => ip.octets()[..3] == [198, 51, 100],
        IpAddr::V6(ip) => ip.segments()[..3] == [0x2001, 0xdb8, 0xc6],
    };
    match behind(chain) {
        Behind::Authentication if denied => return Fate::Dropped,
        Behind::Authentication | Behind::Nothing => return Fate::Passes,
        Behind::Transport => {}
    }
    if kept(packet.dst) || !opens(packet) {
        return Fate::Passes;
    }
    let (tcp, udp) = (matches!(packet.inner, Inner::Tcp { .. }), matches!(packet.inner, Inner::Udp { .. }));
    let port = match to.port() {
        80 if tcp => 8080,
        53 | 5000..=5999 if udp => 53,
        1000..=1999 if tcp => return Fate::Passes,
        _ if denied => return Fate::Dropped,
        port => port,
    };
    let gateway = Family::of(packet.dst).gateway();
    Fate::Sent(packet.clone().between(from, SocketAddr::new(gateway, port)))
}

/// Whether it is a packet that the server of rules may have been asked by without us: a direct one opens a flow of its own.
fn direct(asked: &Packet, chain: &[Extension]) -> bool {
    asked.dst == Family::of(asked.dst).gateway() && opens(asked) && behind(chain) == Behind::Transport
}

/// What becomes of an answer that leaves, after `asked` behind `asked_chain` had that `fate`.
pub fn leaves(
    asked: &Packet,
    asked_chain: &[Extension],
    fate: &Fate,
    answer: &Packet,
    chain: &[Extension],
) -> Fate {
    if behind(chain) != Behind::Transport {
        return Fate::Passes;
    }
    if let Fate::Sent(_) = fate {
        let (client, far) = asked.ends();
        return Fate::Sent(answer.clone().between(far, client));
    }
    // Its SYN must have opened a flow that we have lost; untranslated its client would refuse it.
    let accepts = matches!(answer.inner, Inner::Tcp { flags, .. } if flags & 0x12 == 0x12);
    if accepts && answer.src == Family::of(answer.src).gateway() && !direct(asked, asked_chain) {
        return Fate::Dropped;
    }
    Fate::Passes
}

/// Where a frame has what a translation changes.
struct Shape {
    protocol: u8,
    /// Where the transport header begins, and where the packet ends.
    l4: usize,
    end: usize,
    /// A later fragment: it has no transport header.
    later: bool,
    /// The first of several: it has less than its transport header says.
    first: bool,
}

/// None if its headers lie, end early, or lead nowhere (see [`Behind::Nothing`]).
fn shape(frame: &[u8]) -> Option<Shape> {
    let byte = |at: usize| frame.get(at).copied();
    let word = |at: usize| Some(u16::from_be_bytes([byte(at)?, byte(at + 1)?]));
    let shape = if word(12)? == 0x0800 {
        let (ihl, total) = (usize::from(byte(14)? & 15) * 4, usize::from(word(16)?));
        if byte(14)? >> 4 != 4 || ihl < 20 || total < ihl {
            return None;
        }
        let (later, first) = (word(20)? & 0x1fff != 0, word(20)? & 0x3fff == 0x2000);
        Shape { protocol: byte(23)?, l4: 14 + ihl, end: 14 + total, later, first }
    } else {
        let (mut protocol, mut l4, end) = (byte(20)?, 54, 54 + usize::from(word(18)?));
        let (mut later, mut first) = (false, false);
        if byte(14)? >> 4 != 6 {
            return None;
        }
        for _ in 0..6 {
            if ![0, 43, 44, 60].contains(&protocol) || later {
                break;
            }
            let at = l4;
            l4 += if protocol == 44 { 8 } else { (usize::from(byte(at + 1)?) + 1) * 8 };
            if l4 > end || protocol == 43 && byte(at + 3)? != 0 {
                return None;
            }
            if protocol == 44 {
                (later, first) = (word(at + 2)? >> 3 != 0, word(at + 2)? & 0xfff9 == 1);
            }
            protocol = byte(at)?;
        }
        if !later && ([0, 43, 44, 60].contains(&protocol) || l4 >= 2048) {
            return None;
        }
        Shape { protocol, l4, end, later, first }
    };
    let least = match shape.protocol {
        _ if shape.later => 0,
        6 => 20,
        1 if word(12)? == 0x0800 => 8,
        58 if word(12)? != 0x0800 => 8,
        17 => 8,
        132 => 12,
        _ => 0,
    };
    let room = shape.end.saturating_sub(shape.l4);
    let says = match shape.protocol {
        _ if shape.later => None,
        6 => byte(shape.l4 + 12).map(|offset| usize::from(offset >> 4) * 4).map(|header| {
            if shape.first {
                header.min(20)
            } else {
                header
            }
        }),
        17 => word(shape.l4 + 4).map(|length| if shape.first { length.min(8) } else { length }.into()),
        _ => None,
    };
    let lies = says.is_some_and(|says| says < least || says > room);
    (shape.end <= frame.len() && room >= least && !lies).then_some(shape)
}

/// Whether the headers of a frame are what they have to be, so that there is something to translate.
pub fn readable(frame: &[u8]) -> bool {
    shape(frame).is_some()
}

/// A readable frame without the bytes that a translation may change (of the addresses the destination where it arrives, the
/// source where it leaves), and what it may not: by how much each checksum is wrong.
pub fn residue(frame: &[u8], arrives: bool) -> (Vec<u8>, [u16; 2]) {
    let Shape { protocol, l4, end, later, .. } = shape(frame).expect("readable");
    let four = frame[12..14] == [8, 0];
    let icmp = if four { 1 } else { 58 };
    let (ports, sum) = match protocol {
        _ if later => (0..0, None),
        6 => (0..4, Some(16)),
        17 => (0..4, Some(6)),
        _ if protocol == icmp => (4..6, Some(2)),
        _ => (0..0, None),
    };
    let address = match (four, arrives) {
        (true, true) => 30..34,
        (true, false) => 26..30,
        (false, true) => 38..54,
        (false, false) => 22..38,
    };
    let header_sum = if four { 24..26 } else { 0..0 };
    let mut rest = frame.to_vec();
    let sums = sum.into_iter().flat_map(|at| l4 + at..l4 + at + 2);
    for at in [header_sum, address, l4 + ports.start..l4 + ports.end].into_iter().flatten().chain(sums) {
        rest[at] = 0;
    }
    let segment = &frame[l4..end];
    let pseudo = if four && protocol == icmp {
        Vec::new()
    } else {
        let addresses = if four { &frame[26..34] } else { &frame[22..54] };
        [addresses, &[0, protocol], &(segment.len() as u16).to_be_bytes()].concat()
    };
    let unsummed = protocol == 17 && segment.get(6..8) == Some(&[0, 0]);
    let wrong = if unsummed || sum.is_none() { 0 } else { checksum(&[&pseudo[..], segment].concat()) };
    let header = if four { checksum(&frame[14..l4]) } else { 0 };
    (rest, [header, wrong].map(|sum| if sum == 0xffff { 0 } else { sum }))
}
