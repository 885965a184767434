// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A file of packets, as hex text or pcap, to their bytes; and packets to a pcap file.
//!
//! pcap: a header of 24 bytes whose first word says the byte order, then for each packet 16 bytes (seconds, fraction,
//! length here, length on the wire) and the packet itself.

/// Why a file is none of packets.
pub type Fault = &'static str;

const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;
/// The type of a section header block, with which pcapng begins, the same in both byte orders.
const PCAPNG: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
const HEADER: usize = 24;
const RECORD: usize = 16;
/// LINKTYPE_ETHERNET.
const ETHERNET: u32 = 1;
/// LINKTYPE_NETLINK: what a capture on an `nlmon` device has.
const NETLINK: u32 = 253;

/// All packets of a pcap file, or the one that hex digits make; spaces, line ends and `#` to the end of a line are nothing.
pub fn read(bytes: &[u8]) -> Result<Vec<Vec<u8>>, Fault> {
    let magic = bytes.first_chunk().copied().unwrap_or_default();
    for swapped in [false, true] {
        let word = |b: [u8; 4]| if swapped { u32::from_be_bytes(b) } else { u32::from_le_bytes(b) };
        if [MICROSECONDS, NANOSECONDS].contains(&word(magic)) {
            return pcap(bytes, word);
        }
    }
    match magic == PCAPNG {
        true => Err("a pcapng file, of which 'editcap -F pcap' makes a pcap file"),
        false => hex(bytes).map(|packet| vec![packet]),
    }
}

fn pcap(bytes: &[u8], word: impl Fn([u8; 4]) -> u32) -> Result<Vec<Vec<u8>>, Fault> {
    let at = |at: usize| Some(word(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?));
    if at(20).ok_or("a pcap file without a whole header")? & 0xffff != ETHERNET {
        return Err("a pcap file of another link type than Ethernet");
    }
    let (mut packets, mut here) = (Vec::new(), HEADER);
    while here < bytes.len() {
        let cut = "a pcap file that ends in a packet";
        let length = at(here.saturating_add(8)).and_then(|n| usize::try_from(n).ok()).ok_or(cut)?;
        let start = here.saturating_add(RECORD);
        let end = start.checked_add(length).ok_or(cut)?;
        packets.push(bytes.get(start..end).ok_or(cut)?.to_vec());
        here = end;
    }
    match packets.is_empty() {
        true => Err("a pcap file without packets"),
        false => Ok(packets),
    }
}

fn hex(bytes: &[u8]) -> Result<Vec<u8>, Fault> {
    let what = "neither a pcap file nor hex digits";
    let text = std::str::from_utf8(bytes).map_err(|_| what)?;
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let digits: String = lines.flat_map(str::chars).filter(|c| !c.is_whitespace()).collect();
    crate::load::plan_json::unhex(&digits).filter(|packet| !packet.is_empty()).ok_or(what)
}

/// A pcap file of Ethernet frames; all at the beginning of 1970, for nobody looked at a clock.
pub fn write(packets: &[Vec<u8>]) -> Vec<u8> {
    file(ETHERNET, packets)
}

/// A pcap file of messages to rtnetlink, as if an `nlmon` device had seen them: each behind 16 bytes of "outgoing",
/// ARPHRD_NETLINK and the family NETLINK_ROUTE, which are in network byte order.
pub fn write_netlink(messages: &[Vec<u8>]) -> Vec<u8> {
    let cooked = [0, 4, 3, 56, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let packets: Vec<Vec<u8>> = messages.iter().map(|m| [&cooked, m.as_slice()].concat()).collect();
    file(NETLINK, &packets)
}

fn file(link_type: u32, packets: &[Vec<u8>]) -> Vec<u8> {
    let words = |words: &[u32]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
    // Version 2.4, no zone, no accuracy, whole packets.
    let mut file = words(&[MICROSECONDS, 4 << 16 | 2, 0, 0, 1 << 18, link_type]);
    for packet in packets {
        let length = u32::try_from(packet.len()).unwrap_or(u32::MAX);
        file.extend(words(&[0, 0, length, length]));
        file.extend(packet);
    }
    file
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let packets = vec![vec![1, 2, 3], vec![0; 60]];
        let file = write(&packets);
        assert_eq!(read(&file).unwrap(), packets);
        for end in HEADER + 1..file.len() {
            // Cut behind the first packet, it is a file of one.
            assert_eq!(read(file.get(..end).unwrap()).is_ok(), end == HEADER + RECORD + 3);
        }
        let big: Vec<u8> =
            file.chunks(4).take(10).flat_map(|w| w.iter().rev().copied().collect::<Vec<_>>()).collect();
        let big = [big.as_slice(), &[1, 2, 3]].concat();
        assert_eq!(read(&big).unwrap(), [[1, 2, 3]]);
        assert_eq!(read(&write(&[])), Err("a pcap file without packets"));
    }

    #[test]
    fn hex_is_what_people_write() {
        assert_eq!(read(b"00 11\n22 # a comment\n 3344").unwrap(), [[0, 0x11, 0x22, 0x33, 0x44]]);
        for bad in [&b""[..], b"0", b"0x00", b"\xff\xff", b"# nothing"] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
        assert!(read(b"\n\r\r\n\x1c\0\0\0").unwrap_err().contains("pcapng"));
    }
}
