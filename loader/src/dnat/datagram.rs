// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A frame, perhaps cut off -> what its UDP datagram carries.

const UDP: u8 = 17;
const UDP_HEADER: usize = 8;
const ETHERNET: usize = 14;
/// Ethertypes of tags: IEEE 802.1Q and 802.1ad.
const TAGS: [u16; 2] = [0x8100, 0x88a8];
/// Extension headers that are passed over, as ebpf-src/ipv6.h does.
const EXTENSIONS: [u8; 3] = [0, 43, 60];
const FRAGMENT: u8 = 44;
const MOST: usize = 8;

/// The payload. `link` bytes stand before the IP header, VLAN tags not counted: 14, or 0 on devices without.
pub fn payload(frame: &[u8], link: usize) -> Option<&[u8]> {
    let mut packet = frame.get(link..)?;
    let mut kind = if link == ETHERNET { number(frame, 12)? } else { 0 };
    for _ in 0..2 {
        if TAGS.contains(&kind) {
            kind = number(packet, 2)?;
            packet = packet.get(4..)?;
        }
    }
    let datagram = match packet.first()? >> 4 {
        4 => of_ipv4(packet)?,
        6 => of_ipv6(packet)?,
        _ => return None,
    };
    let length = usize::from(number(datagram, 4)?);
    // The frame may have been cut; the datagram ends where it says.
    datagram.get(UDP_HEADER..length.min(datagram.len()))
}

fn of_ipv4(packet: &[u8]) -> Option<&[u8]> {
    let header = usize::from(packet.first()? & 15).checked_mul(4)?;
    let later = number(packet, 6)? & 0x1fff != 0;
    if *packet.get(9)? != UDP || header < 20 || later {
        return None;
    }
    packet.get(header..)
}

fn of_ipv6(packet: &[u8]) -> Option<&[u8]> {
    let (mut next, mut rest) = (*packet.get(6)?, packet.get(40..)?);
    for _ in 0..MOST {
        let length = match next {
            UDP => return Some(rest),
            FRAGMENT if number(rest, 2)? & 0xfff8 == 0 => 8,
            other if EXTENSIONS.contains(&other) => {
                usize::from(*rest.get(1)?).checked_add(1)?.checked_mul(8)?
            }
            _ => return None,
        };
        (next, rest) = (*rest.first()?, rest.get(length..)?);
    }
    None
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at.checked_add(2)?)?.try_into().ok().map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn udp(data: &[u8]) -> Vec<u8> {
        [&[0, 53, 0x9c, 0x40][..], &(data.len() as u16 + 8).to_be_bytes(), &[0, 0], data].concat()
    }

    fn ipv4(fragment: u16, data: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 1, 0, 0, 64, UDP, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
        packet[6..8].copy_from_slice(&fragment.to_be_bytes());
        [packet, data.to_vec()].concat()
    }

    fn ipv6(next: u8, data: &[u8]) -> Vec<u8> {
        [&[0x60, 0, 0, 0, 0, 0, next, 64][..], &[0xfd; 32], data].concat()
    }

    fn ethernet(tags: &[u16], kind: u16, packet: &[u8]) -> Vec<u8> {
        let tags: Vec<u8> = tags.iter().flat_map(|tag| [tag.to_be_bytes(), [0, 7]].concat()).collect();
        [&[2; 12][..], &tags, &kind.to_be_bytes(), packet].concat()
    }

    #[test]
    fn the_payload_is_found_behind_every_header() {
        let data = udp(b"hello");
        assert_eq!(payload(&ethernet(&[], 0x800, &ipv4(0, &data)), 14), Some(&b"hello"[..]));
        assert_eq!(payload(&ethernet(&[0x8100], 0x800, &ipv4(0, &data)), 14), Some(&b"hello"[..]));
        assert_eq!(payload(&ethernet(&[0x88a8, 0x8100], 0x800, &ipv4(0, &data)), 14), Some(&b"hello"[..]));
        assert_eq!(payload(&ipv4(0x2000, &data), 0), Some(&b"hello"[..]), "a first fragment");
        assert_eq!(payload(&ipv4(1, &data), 0), None, "a later one");
        assert_eq!(payload(&ethernet(&[], 0x86dd, &ipv6(UDP, &data)), 14), Some(&b"hello"[..]));
        let options = [&[FRAGMENT, 0, 1, 4, 0, 0, 0, 0][..], &[UDP, 0, 0, 1, 0, 0, 0, 9], &data].concat();
        assert_eq!(payload(&ipv6(0, &options), 0), Some(&b"hello"[..]));
        assert_eq!(payload(&ipv6(6, &data), 0), None, "TCP");
    }

    #[test]
    fn what_is_cut_off_does_no_harm() {
        let whole = ethernet(
            &[0x8100],
            0x86dd,
            &ipv6(0, &[&[UDP, 0, 1, 4, 0, 0, 0, 0][..], &udp(b"hello")].concat()),
        );
        for length in 0..whole.len() {
            let cut = payload(&whole[..length], 14);
            assert!(cut.is_none_or(|c| b"hello".starts_with(c)), "{length}: {cut:?}");
        }
        // Padding behind the datagram is none of it, and a length that lies reaches nothing.
        assert_eq!(payload(&[ipv4(0, &udp(b"hi")), vec![0; 20]].concat(), 0), Some(&b"hi"[..]));
        let mut lies = ipv4(0, &udp(b"hi"));
        lies[24..26].copy_from_slice(&[0, 3]);
        assert_eq!(payload(&lies, 0), None);
        // Headers that never end.
        assert_eq!(payload(&ipv6(60, &[60, 0, 0, 0, 0, 0, 0, 0].repeat(100)), 0), None);
    }
}
