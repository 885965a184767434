// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! IPv6 ends and extension headers to packets that run through the two programs of a lab that is up.
use crate::bench::Hook;
use crate::lab::CLIENT6;
use crate::netns::Netns;
use crate::testrun::UNSPEC;
use std::net::{Ipv6Addr, SocketAddrV6};

/// Nobody here.
pub const FAR6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x5d, 0xb8, 0xd8, 0x22, 0, 0x34);

/// An extension header: its kind and its bytes, of which the first is overwritten by the kind of the next one.
pub type Extension = (u8, Vec<u8>);

/// Hop-by-hop options of 8 bytes: padding.
pub fn hop_by_hop() -> Extension {
    (0, vec![0, 0, 1, 4, 0, 0, 0, 0])
}

/// Destination options of `units` × 8 bytes: padding.
pub fn destination_options(units: u8) -> Extension {
    let mut bytes = vec![0; usize::from(units) * 8];
    bytes[1] = units - 1;
    (60, bytes)
}

/// A routing header of type 4 with `left` segments left.
pub fn routing(left: u8) -> Extension {
    (43, [&[0, 2, 4, left, 0, 0, 0, 0][..], &[0x20; 16]].concat())
}

/// A fragment header: offset in units of 8 bytes, and whether more follow.
pub fn fragment(offset: u16, more: bool) -> Extension {
    (44, [&[0, 0][..], &(offset << 3 | u16::from(more)).to_be_bytes(), &[1, 2, 3, 4]].concat())
}

/// An authentication header with a digest of 12 bytes.
pub fn authentication() -> Extension {
    (51, [&[0, 4, 0, 0][..], &[7; 20]].concat())
}

/// The IPv6 packet with `extensions` between its header and the next one.
pub fn extended(ip: &[u8], extensions: &[Extension]) -> Vec<u8> {
    let mut out = ip[..40].to_vec();
    let mut next_at = 6;
    for (kind, bytes) in extensions {
        out[next_at] = *kind;
        next_at = out.len();
        out.extend(bytes);
    }
    out[next_at] = ip[6];
    out.extend(&ip[40..]);
    let length = (out.len() - 40) as u16;
    out[4..6].copy_from_slice(&length.to_be_bytes());
    out
}

/// The same as a frame.
pub fn framed(ip: &[u8]) -> Vec<u8> {
    [&[0; 12][..], &[0x86, 0xdd], ip].concat()
}

/// The client at `port`.
pub fn client6(port: u16) -> SocketAddrV6 {
    at6(CLIENT6, port)
}

/// `ip` at `port`.
pub fn at6(ip: Ipv6Addr, port: u16) -> SocketAddrV6 {
    SocketAddrV6::new(ip, port, 0, 0)
}

impl Hook<'_> {
    /// The packet, as bytes from the IP header on, comes out as `expected`, which is another one.
    #[track_caller]
    pub fn makes(&self, what: &str, ip: &[u8], expected: &[u8]) {
        assert_ne!(ip, expected, "{what}: this would show nothing");
        let outcome = self.program.run(&framed(ip), self.sums);
        assert_eq!(outcome.verdict, UNSPEC, "{what}");
        let want = framed(expected);
        assert_eq!(
            outcome.frame, want,
            "{what} ({:?})\n got {:02x?}\nwant {want:02x?}",
            self.sums, outcome.frame
        );
    }
}

/// Counters that say that somebody met a wrong checksum, of either family.
pub fn bad_checksums(ns: &Netns) -> Vec<String> {
    let read =
        |file: &str| ns.within(|| std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap());
    let (six, four) = (read("snmp6"), read("snmp"));
    let mut bad: Vec<String> = six
        .lines()
        .filter(|line| line.contains("Csum"))
        .filter(|line| line.split_whitespace().nth(1) != Some("0"))
        .map(str::to_owned)
        .collect();
    // Pairs of lines: the names of a protocol's counters, and the counters.
    let lines: Vec<&str> = four.lines().collect();
    for pair in lines.chunks_exact(2) {
        let names = pair[0].split_whitespace().zip(pair[1].split_whitespace());
        bad.extend(
            names
                .filter(|(name, n)| name.contains("Csum") && *n != "0")
                .map(|(name, n)| format!("{} {name} {n}", pair[0].split(':').next().unwrap_or_default())),
        );
    }
    bad
}
