// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A description of a packet to an Ethernet frame with right checksums, and a frame back to its description or its faults.
//!
//! All sums are computed over the whole header, never updated: this is the arithmetic the data path is compared with.
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// TCP flags.
pub const FIN: u8 = 1;
/// Synchronise.
pub const SYN: u8 = 2;
/// Reset.
pub const RST: u8 = 4;
/// Push.
pub const PSH: u8 = 8;
/// Acknowledge.
pub const ACK: u8 = 16;

const ETHERNET: usize = 14;

/// What IP carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inner {
    /// TCP; options are padded to four bytes.
    Tcp { sport: u16, dport: u16, seq: u32, ack: u32, flags: u8, window: u16, options: Vec<u8> },
    /// UDP; `summed` false sends checksum 0.
    Udp { sport: u16, dport: u16, summed: bool },
    /// ICMP or ICMPv6; `rest` is the header's second word.
    Icmp { kind: u8, code: u8, rest: [u8; 4] },
    /// Any protocol, taken as it is.
    Other(u8),
}

/// A packet; ports and numbers in host order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// From.
    pub src: IpAddr,
    /// To.
    pub dst: IpAddr,
    /// TOS or traffic class.
    pub tos: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// IPv6 flow label.
    pub label: u32,
    /// IPv4 identification.
    pub id: u16,
    /// IPv4 fragment word: DF 0x4000, MF 0x2000, offset in units of 8 bytes.
    pub fragment: u16,
    /// IPv4 options, padded to four bytes.
    pub options: Vec<u8>,
    /// Header above IP; a later fragment has [`Inner::Other`].
    pub inner: Inner,
    /// What follows it.
    pub payload: Vec<u8>,
}

impl Packet {
    fn new(src: IpAddr, dst: IpAddr, inner: Inner) -> Packet {
        let payload = Vec::new();
        Packet {
            src,
            dst,
            tos: 0,
            ttl: 64,
            label: 0,
            id: 0x1234,
            fragment: 0x4000,
            options: Vec::new(),
            inner,
            payload,
        }
    }

    /// A TCP segment.
    pub fn tcp(from: impl Into<SocketAddr>, to: impl Into<SocketAddr>, flags: u8) -> Packet {
        let (from, to) = (from.into(), to.into());
        let (sport, dport) = (from.port(), to.port());
        let inner =
            Inner::Tcp { sport, dport, seq: 0x0102_0304, ack: 0, flags, window: 64240, options: Vec::new() };
        Packet::new(from.ip(), to.ip(), inner)
    }

    /// A UDP datagram.
    pub fn udp(from: impl Into<SocketAddr>, to: impl Into<SocketAddr>) -> Packet {
        let (from, to) = (from.into(), to.into());
        let inner = Inner::Udp { sport: from.port(), dport: to.port(), summed: true };
        Packet::new(from.ip(), to.ip(), inner)
    }

    /// An ICMP (v4) message.
    pub fn icmp(src: Ipv4Addr, dst: Ipv4Addr, kind: u8, id: u16, sequence: u16) -> Packet {
        let rest = [id.to_be_bytes(), sequence.to_be_bytes()].concat().try_into().unwrap();
        Packet::new(src.into(), dst.into(), Inner::Icmp { kind, code: 0, rest })
    }

    /// An echo request of either family.
    pub fn echo(src: IpAddr, dst: IpAddr, id: u16, sequence: u16) -> Packet {
        let rest = [id.to_be_bytes(), sequence.to_be_bytes()].concat().try_into().unwrap();
        let kind = if src.is_ipv4() { 8 } else { 128 };
        Packet::new(src, dst, Inner::Icmp { kind, code: 0, rest })
    }

    /// A packet of any other protocol.
    pub fn other(src: IpAddr, dst: IpAddr, protocol: u8) -> Packet {
        Packet::new(src, dst, Inner::Other(protocol))
    }

    /// The same with `payload`.
    pub fn payload(mut self, payload: &[u8]) -> Packet {
        self.payload = payload.to_vec();
        self
    }

    /// The same with IPv4 options.
    pub fn options(mut self, options: &[u8]) -> Packet {
        self.options = options.to_vec();
        self
    }

    /// The same with TCP options.
    pub fn tcp_options(mut self, bytes: &[u8]) -> Packet {
        let Inner::Tcp { options, .. } = &mut self.inner else { panic!("not TCP: {self}") };
        *options = bytes.to_vec();
        self
    }

    /// The same with the UDP checksum left out.
    pub fn unsummed(mut self) -> Packet {
        let Inner::Udp { summed, .. } = &mut self.inner else { panic!("not UDP: {self}") };
        *summed = false;
        self
    }

    /// Acknowledges up to `number`.
    pub fn acknowledging(mut self, number: u32) -> Packet {
        let Inner::Tcp { ack, .. } = &mut self.inner else { panic!("not TCP: {self}") };
        *ack = number;
        self
    }

    /// Whom it is from and to; port 0 where there is none.
    pub fn ends(&self) -> (SocketAddr, SocketAddr) {
        let (sport, dport) = match self.inner {
            Inner::Tcp { sport, dport, .. } | Inner::Udp { sport, dport, .. } => (sport, dport),
            _ => (0, 0),
        };
        (SocketAddr::new(self.src, sport), SocketAddr::new(self.dst, dport))
    }

    /// The port that it is from; of an echo the identifier.
    pub fn from_port(&self) -> u16 {
        match self.inner {
            Inner::Icmp { rest, .. } => u16::from_be_bytes([rest[0], rest[1]]),
            _ => self.ends().0.port(),
        }
    }

    /// The answer's addresses and ports: both ends exchanged.
    pub fn reversed(mut self) -> Packet {
        std::mem::swap(&mut self.src, &mut self.dst);
        if let Inner::Tcp { sport, dport, .. } | Inner::Udp { sport, dport, .. } = &mut self.inner {
            std::mem::swap(sport, dport);
        }
        self
    }

    /// The same with other ends; ports stay where there are none.
    pub fn between(mut self, from: impl Into<SocketAddr>, to: impl Into<SocketAddr>) -> Packet {
        let (from, to) = (from.into(), to.into());
        (self.src, self.dst) = (from.ip(), to.ip());
        if let Inner::Tcp { sport, dport, .. } | Inner::Udp { sport, dport, .. } = &mut self.inner {
            (*sport, *dport) = (from.port(), to.port());
        }
        self
    }

    /// Fragments of at most `size` payload bytes (a multiple of 8), as packets whose bytes are fixed: in IPv6 they begin with
    /// the fragment header, whose identification ends in `id`.
    pub fn fragments(&self, size: usize) -> Vec<Packet> {
        assert!(size % 8 == 0);
        let whole = self.transport();
        let last = (whole.len() - 1) / size;
        let piece = |(n, bytes): (usize, &[u8])| {
            let (more, offset) = (n < last, (n * size) as u16);
            if self.src.is_ipv4() {
                let fragment = (offset / 8) | if more { 0x2000 } else { 0 };
                let inner = Inner::Other(self.protocol());
                return Packet { fragment, inner, payload: bytes.to_vec(), ..self.clone() };
            }
            let [high, low] = (offset | u16::from(more)).to_be_bytes();
            let [first, second] = self.id.to_be_bytes();
            let header = [self.protocol(), 0, high, low, 0xfe, 0xdc, first, second];
            Packet { inner: Inner::Other(44), payload: [&header[..], bytes].concat(), ..self.clone() }
        };
        whole.chunks(size).enumerate().map(piece).collect()
    }

    /// The protocol number.
    pub fn protocol(&self) -> u8 {
        match self.inner {
            Inner::Tcp { .. } => 6,
            Inner::Udp { .. } => 17,
            Inner::Icmp { .. } if self.src.is_ipv4() => 1,
            Inner::Icmp { .. } => 58,
            Inner::Other(protocol) => protocol,
        }
    }

    /// The packet from the IP header on.
    pub fn ip(&self) -> Vec<u8> {
        let transport = self.transport();
        let mut ip = match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let options = padded(&self.options);
                let header = 20 + options.len();
                let mut ip = vec![0x40 | (header / 4) as u8, self.tos];
                ip.extend(((header + transport.len()) as u16).to_be_bytes());
                ip.extend(self.id.to_be_bytes());
                ip.extend(self.fragment.to_be_bytes());
                ip.extend([self.ttl, self.protocol(), 0, 0]);
                ip.extend(src.octets());
                ip.extend(dst.octets());
                ip.extend(options);
                let sum = checksum(&ip);
                ip[10..12].copy_from_slice(&sum.to_be_bytes());
                ip
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let mut ip = (0x6000_0000 | u32::from(self.tos) << 20 | self.label).to_be_bytes().to_vec();
                ip.extend((transport.len() as u16).to_be_bytes());
                ip.extend([self.protocol(), self.ttl]);
                ip.extend(src.octets());
                ip.extend(dst.octets());
                ip
            }
            ends => panic!("addresses of two families: {ends:?}"),
        };
        ip.extend(transport);
        ip
    }

    /// The Ethernet frame. Both addresses are zero, which BPF_PROG_TEST_RUN takes for "to this host".
    pub fn frame(&self) -> Vec<u8> {
        let kind: u16 = if self.src.is_ipv4() { 0x0800 } else { 0x86dd };
        [&[0; 12][..], &kind.to_be_bytes(), &self.ip()].concat()
    }

    fn transport(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut sum_at = None;
        match &self.inner {
            Inner::Tcp { sport, dport, seq, ack, flags, window, options } => {
                let options = padded(options);
                bytes.extend([sport.to_be_bytes(), dport.to_be_bytes()].concat());
                bytes.extend([seq.to_be_bytes(), ack.to_be_bytes()].concat());
                bytes.extend([(((20 + options.len()) / 4) << 4) as u8, *flags]);
                bytes.extend(window.to_be_bytes());
                bytes.extend([0; 4]);
                bytes.extend(options);
                sum_at = Some(16);
            }
            Inner::Udp { sport, dport, summed } => {
                bytes.extend([sport.to_be_bytes(), dport.to_be_bytes()].concat());
                bytes.extend([((8 + self.payload.len()) as u16).to_be_bytes(), [0, 0]].concat());
                sum_at = summed.then_some(6);
            }
            Inner::Icmp { kind, code, rest } => {
                bytes.extend([*kind, *code, 0, 0]);
                bytes.extend(rest);
                sum_at = Some(2);
            }
            Inner::Other(_) => {}
        }
        bytes.extend(&self.payload);
        if let Some(at) = sum_at {
            let mut sum = checksum(&[self.pseudo(bytes.len()), bytes.clone()].concat());
            if sum == 0 && self.protocol() == 17 {
                sum = 0xffff; // RFC 768: zero would say that there is none
            }
            bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        bytes
    }

    /// What the checksum field holds until a device finishes the checksum: the sum of the pseudo header.
    pub fn pseudo_sum(&self) -> u16 {
        !checksum(&self.pseudo(self.transport().len()))
    }

    fn pseudo(&self, length: usize) -> Vec<u8> {
        match (self.src, self.dst) {
            (IpAddr::V4(_), _) if self.protocol() == 1 => Vec::new(),
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let rest = [0, self.protocol(), (length >> 8) as u8, length as u8];
                [&src.octets()[..], &dst.octets(), &rest].concat()
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let rest = [(length as u32).to_be_bytes(), [0, 0, 0, self.protocol()]].concat();
                [&src.octets()[..], &dst.octets(), &rest].concat()
            }
            ends => panic!("addresses of two families: {ends:?}"),
        }
    }

    /// Reads a frame and checks every length and checksum in it (checksums above IP only where the packet is whole).
    pub fn read(frame: &[u8]) -> Result<Packet, String> {
        Packet::read_ip(frame.get(ETHERNET..).ok_or("short frame")?)
    }

    /// The same without an Ethernet header.
    pub fn read_ip(ip: &[u8]) -> Result<Packet, String> {
        let (packet, bytes) = Packet::read_unsummed(ip)?;
        let again = packet.ip();
        if again == bytes {
            return Ok(packet);
        }
        let at = again.iter().zip(&bytes).position(|(a, b)| a != b);
        Err(format!("{packet}: byte {at:?} after the IP header's start is wrong\n got {bytes:02x?}\nwant {again:02x?}"))
    }

    /// The same without looking at checksums, as a device with checksum offload is handed packets.
    pub fn read_loosely(frame: &[u8]) -> Result<Packet, String> {
        Packet::read_unsummed(frame.get(ETHERNET..).ok_or("short frame")?).map(|(packet, _)| packet)
    }

    /// The description and the packet's bytes without trailing padding; what cannot be described is [`Inner::Other`].
    fn read_unsummed(ip: &[u8]) -> Result<(Packet, Vec<u8>), String> {
        let at = |i: usize| ip.get(i).copied().ok_or_else(|| format!("byte {i} of the IP packet is missing"));
        let word = |i: usize| Ok::<u16, String>(u16::from_be_bytes([at(i)?, at(i + 1)?]));
        let part = |from, to| {
            ip.get(from..to).ok_or_else(|| format!("bytes {from}..{to} of the IP packet are missing"))
        };
        let (mut packet, protocol, header, total) = match at(0)? >> 4 {
            4 => {
                let (header, total) = (usize::from(at(0)? & 15) * 4, usize::from(word(2)?));
                let address =
                    |i| Ok::<_, String>(IpAddr::from(<[u8; 4]>::try_from(part(i, i + 4)?).unwrap()));
                let mut packet = Packet::other(address(12)?, address(16)?, at(9)?);
                (packet.tos, packet.ttl, packet.id, packet.fragment) = (at(1)?, at(8)?, word(4)?, word(6)?);
                packet.options = part(20, header)?.to_vec();
                (packet, at(9)?, header, total)
            }
            6 => {
                let address =
                    |i| Ok::<_, String>(IpAddr::from(<[u8; 16]>::try_from(part(i, i + 16)?).unwrap()));
                let mut packet = Packet::other(address(8)?, address(24)?, at(6)?);
                (packet.tos, packet.ttl) = ((word(0)? >> 4) as u8, at(7)?);
                packet.label = u32::from(at(1)? & 15) << 16 | u32::from(word(2)?);
                (packet, at(6)?, 40, 40 + usize::from(word(4)?))
            }
            version => return Err(format!("IP version {version}")),
        };
        let bytes = part(0, total)?.to_vec();
        let mut used = header;
        let whole = packet.src.is_ipv6() || packet.fragment & 0x3fff == 0;
        match protocol {
            6 if whole && total >= header + 20 => {
                let length = usize::from(at(header + 12)? >> 4) * 4;
                let long = |i| Ok::<u32, String>(u32::from(word(i)?) << 16 | u32::from(word(i + 2)?));
                packet.inner = Inner::Tcp {
                    sport: word(header)?,
                    dport: word(header + 2)?,
                    seq: long(header + 4)?,
                    ack: long(header + 8)?,
                    flags: at(header + 13)?,
                    window: word(header + 14)?,
                    options: part(header + 20, header + length)?.to_vec(),
                };
                used += length;
            }
            17 if whole && total >= header + 8 => {
                let summed = word(header + 6)? != 0;
                packet.inner = Inner::Udp { sport: word(header)?, dport: word(header + 2)?, summed };
                used += 8;
            }
            1 | 58 if whole && total >= header + 8 => {
                let rest = part(header + 4, header + 8)?.try_into().unwrap();
                packet.inner = Inner::Icmp { kind: at(header)?, code: at(header + 1)?, rest };
                used += 8;
            }
            _ => {}
        }
        packet.payload = part(used, total)?.to_vec();
        Ok((packet, bytes))
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (src, dst) = (self.src, self.dst);
        match &self.inner {
            Inner::Tcp { sport, dport, flags, .. } => {
                let names = [(SYN, 'S'), (FIN, 'F'), (RST, 'R'), (PSH, 'P'), (ACK, '.')];
                let flags: String =
                    names.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, c)| *c).collect();
                write!(f, "tcp {src}:{sport} > {dst}:{dport} [{flags}]")?;
            }
            Inner::Udp { sport, dport, .. } => write!(f, "udp {src}:{sport} > {dst}:{dport}")?,
            Inner::Icmp { kind, code, .. } => write!(f, "icmp {src} > {dst} type {kind} code {code}")?,
            Inner::Other(protocol) => {
                write!(f, "protocol {protocol} {src} > {dst} fragment {:#06x}", self.fragment)?
            }
        }
        write!(f, " {} bytes", self.payload.len())
    }
}

/// The Internet checksum (RFC 1071) of `bytes`.
pub fn checksum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|pair| u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |b| u64::from(*b)));
    let mut sum: u64 = words.sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

fn padded(options: &[u8]) -> Vec<u8> {
    let mut options = options.to_vec();
    options.resize(options.len().next_multiple_of(4), 0);
    options
}

/// Shorthand for an IPv6 address of the documentation prefix.
pub fn doc6(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example header of RFC 1071's usual textbook illustration: 45 00 00 73 … sums to b861.
    #[test]
    fn known_header_checksum() {
        let header =
            [0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7];
        assert_eq!(checksum(&header), 0xb861);
    }

    #[test]
    fn what_is_written_is_read() {
        let (a, b) = (([10, 0, 0, 1], 4000), ([1, 2, 3, 4], 80));
        let six = |n, port| SocketAddr::from((doc6(n), port));
        for packet in [
            Packet::tcp(a, b, SYN).tcp_options(&[2, 4, 5, 0xb4]),
            Packet::tcp(a, b, ACK | PSH).payload(b"odd").options(&[7, 7, 4, 0, 0, 0, 0, 0]),
            Packet::udp(a, b).payload(b"hello"),
            Packet::udp(a, b).payload(b"hello").unsummed(),
            Packet::icmp([10, 0, 0, 1].into(), [1, 2, 3, 4].into(), 8, 7, 1).payload(&[9; 56]),
            Packet::udp(six(1, 4000), six(2, 53)).payload(b"six"),
        ] {
            let frame = packet.frame();
            assert_eq!(Packet::read(&frame).as_ref(), Ok(&packet));
            for at in ETHERNET..frame.len() {
                // Any damage changes what is read or is found out. One bit can hide: the UDP checksum going to zero.
                let mut damaged = frame.clone();
                damaged[at] ^= 1;
                assert_ne!(Packet::read(&damaged), Ok(packet.clone()), "byte {at} of {packet}");
            }
        }
    }

    #[test]
    fn fragments_carry_the_whole() {
        let packet = Packet::udp(([10, 0, 0, 1], 4000), ([1, 2, 3, 4], 53)).payload(&[5; 3000]);
        let pieces = packet.fragments(1480);
        assert_eq!(pieces.len(), 3);
        assert_eq!(pieces.iter().map(|p| p.fragment).collect::<Vec<_>>(), [0x2000, 0x2000 + 185, 370]);
        let joined: Vec<u8> = pieces.iter().flat_map(|p| p.payload.clone()).collect();
        assert_eq!(joined, packet.transport());
    }
}
