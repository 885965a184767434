// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! SCTP packets with right checksums, and whether one has it: CRC32c over ports, tag and chunks (RFC 9260, appendix A), which
//! covers no address. Bit by bit, as the standard defines it.
use crate::packet::Packet;
use std::net::SocketAddr;

/// The protocol's number.
pub const SCTP: u8 = 132;

/// The chunks that open an association and carry something over it: INIT, INIT ACK, COOKIE ECHO, COOKIE ACK, DATA, SACK.
/// The client sends every other one.
pub const CHUNKS: [u8; 6] = [1, 2, 10, 11, 0, 3];

/// A packet with one chunk of kind `chunk`; the tag of an INIT is 0.
pub fn sctp(from: impl Into<SocketAddr>, to: impl Into<SocketAddr>, tag: u32, chunk: u8) -> Packet {
    let (from, to) = (from.into(), to.into());
    // INIT and INIT ACK: tag, window, streams both ways, first number; others of the same length.
    let body = [&[0, 0, 0, 7][..], &[0, 1, 0, 0], &[0, 1, 0, 1], &[0, 0, 0, 9]].concat();
    let chunk = [&[chunk, 0, 0, 20][..], &body].concat();
    let header = [&from.port().to_be_bytes()[..], &to.port().to_be_bytes(), &tag.to_be_bytes(), &[0; 4]];
    let mut bytes = [&header.concat()[..], &chunk].concat();
    let sum = crc32c(&bytes);
    bytes[8..12].copy_from_slice(&sum.to_le_bytes());
    Packet::other(from.ip(), to.ip(), SCTP).payload(&bytes)
}

/// Whether the checksum of an SCTP packet, from its ports on, is right.
pub fn summed(bytes: &[u8]) -> bool {
    let mut zeroed = bytes.to_vec();
    zeroed[8..12].fill(0);
    crc32c(&zeroed).to_le_bytes() == bytes[8..12]
}

/// CRC32c: polynomial 0x1edc6f41, reflected.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value of CRC-32C, and two of the examples in RFC 3720, B.4.
    #[test]
    fn known_sums() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn damage_shows() {
        let packet = sctp(([10, 0, 0, 1], 4000), ([10, 0, 0, 2], 5000), 0, 1);
        assert!(summed(&packet.payload));
        for at in 0..packet.payload.len() {
            let mut bytes = packet.payload.clone();
            bytes[at] ^= 1;
            assert!(!summed(&bytes), "byte {at}");
        }
    }
}
