// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! DNS questions and answers as RFC 1035 has them on the wire, built by hand.
use std::net::IpAddr;

/// A name as labels.
pub fn labels(name: &str) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        name.split('.').flat_map(|l| [&[l.len() as u8][..], l.as_bytes()].concat()).collect();
    bytes.push(0);
    bytes
}

/// A question for the addresses of `name`.
pub fn question(name: &str) -> Vec<u8> {
    [&[0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &labels(name), &[0, 1, 0, 1]].concat()
}

/// The answer to a question: these addresses, without error.
pub fn answer(question: &[u8], addresses: &[IpAddr]) -> Vec<u8> {
    let mut bytes = question.to_vec();
    bytes[2..4].copy_from_slice(&[0x81, 0x80]);
    bytes[7] = addresses.len() as u8;
    for address in addresses {
        let (kind, octets) = match address {
            IpAddr::V4(v4) => (1, v4.octets().to_vec()),
            IpAddr::V6(v6) => (28, v6.octets().to_vec()),
        };
        bytes.extend([0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 60, 0, octets.len() as u8]);
        bytes.extend(octets);
    }
    bytes
}
