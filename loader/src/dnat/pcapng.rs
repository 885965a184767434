// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Packets with comments -> pcapng (draft-ietf-opsawg-pcapng): a section, an interface, then a block for each packet.
use std::time::Duration;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const OPT_COMMENT: u16 = 1;
const IF_NAME: u16 = 2;
const IF_TSRESOL: u16 = 9;
const EPB_FLAGS: u16 = 2;
/// LINKTYPE_ETHERNET and LINKTYPE_RAW.
pub const ETHERNET: u16 = 1;
/// Packets begin with their IP header.
pub const RAW: u16 = 101;

/// The beginning of a file with one device; times in nanoseconds.
pub fn begin(device: &str, link: u16, snap: u32) -> Vec<u8> {
    let section = [&BYTE_ORDER.to_le_bytes()[..], &[1, 0, 0, 0], &u64::MAX.to_le_bytes()].concat();
    let mut interface = [&link.to_le_bytes()[..], &[0, 0], &snap.to_le_bytes()].concat();
    option(&mut interface, IF_NAME, device.as_bytes());
    option(&mut interface, IF_TSRESOL, &[9]);
    option(&mut interface, 0, &[]);
    [block(SECTION, &section), block(INTERFACE, &interface)].concat()
}

/// One packet: `time` since 1970, its whole `length`, the bytes that were kept, whether it arrived, and a comment.
pub fn packet(time: Duration, length: u32, bytes: &[u8], inbound: bool, comment: &str) -> Vec<u8> {
    let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let (high, low) = ((time >> 32) as u32, time as u32);
    let kept = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let mut body: Vec<u8> =
        [0, high, low, kept, length.max(kept)].iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
    body.extend(bytes);
    pad(&mut body);
    option(&mut body, OPT_COMMENT, comment.as_bytes());
    option(&mut body, EPB_FLAGS, &(if inbound { 1_u32 } else { 2 }).to_le_bytes());
    option(&mut body, 0, &[]);
    block(PACKET, &body)
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = value.get(..usize::from(u16::MAX)).unwrap_or(value);
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    body.extend(code.to_le_bytes());
    body.extend(length.to_le_bytes());
    body.extend(value);
    pad(body);
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// Type, whole length, body, whole length again.
fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len().saturating_add(12)).unwrap_or(u32::MAX).to_le_bytes();
    [&kind.to_le_bytes()[..], &length, body, &length].concat()
}
