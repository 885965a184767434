// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Numbers that look random and are the same in each run, and packets made of them.
use crate::family::Family;
use crate::packet::{Inner, Packet};
use crate::six::{authentication, destination_options, fragment, hop_by_hop, routing, Extension};
use std::net::SocketAddr;

/// A sequence of numbers; the same seed gives the same one (splitmix64).
pub struct Random(u64);

impl Random {
    /// The sequence that `seed` begins.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// One of 0 to `end` - 1.
    pub fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    /// One of `these`.
    pub fn one<T: Copy>(&mut self, these: &[T]) -> T {
        these[self.below(these.len())]
    }

    /// Up to `most` bytes.
    pub fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.bits() as u8).collect()
    }

    /// A whole TCP, UDP or echo packet between these ends; all that does not matter to a translation is random.
    pub fn packet(&mut self, from: SocketAddr, to: SocketAddr) -> Packet {
        let echo = Family::of(from.ip()).pick(1, 58);
        let protocol = self.one(&[6, 6, 17, 17, echo]);
        self.packet_of(protocol, from, to)
    }

    /// The same of one protocol; ICMP is an echo request.
    fn packet_of(&mut self, protocol: u8, from: SocketAddr, to: SocketAddr) -> Packet {
        let mut packet = match protocol {
            6 => {
                let flags = self.one(&[0x02, 0x02, 0xc2, 0x10, 0x18, 0x12, 0x11, 0x14, 0x04, 0x00]);
                let mut packet = Packet::tcp(from, to, flags).tcp_options(&self.bytes(40));
                let Inner::Tcp { seq, ack, window, .. } = &mut packet.inner else { unreachable!() };
                (*seq, *ack, *window) = (self.bits() as u32, self.bits() as u32, self.bits() as u16);
                packet
            }
            17 if self.below(2) == 0 => Packet::udp(from, to).unsummed(),
            17 => Packet::udp(from, to),
            _ => Packet::echo(from.ip(), to.ip(), from.port(), self.bits() as u16),
        };
        packet.payload = self.bytes(200);
        packet.tos = self.bits() as u8;
        packet.ttl = self.one(&[1, 2, 64, 128, 255]);
        packet.id = self.bits() as u16;
        packet.fragment = self.one(&[0, 0x4000]);
        match Family::of(from.ip()) {
            Family::V6 => packet.label = self.bits() as u32 & 0xf_ffff,
            Family::V4 if self.below(4) == 0 => packet.options = vec![1; 4 * self.below(11)],
            Family::V4 => {}
        }
        packet
    }

    /// An answer to `asked`: of its protocol, between the same ends, to an echo request the reply.
    pub fn answer(&mut self, asked: &Packet) -> Packet {
        let (from, to) = asked.ends();
        let mut answer = self.packet_of(asked.protocol(), to, from);
        if let (Inner::Icmp { kind, rest, .. }, Inner::Icmp { rest: asked, .. }) =
            (&mut answer.inner, &asked.inner)
        {
            (*kind, *rest) = (if from.is_ipv4() { 0 } else { 129 }, *asked);
        }
        answer
    }

    /// Extension headers for an IPv6 packet: seldom more than a translator looks behind, or of a kind that keeps it out.
    pub fn extensions(&mut self) -> Vec<Extension> {
        let mut chain = Vec::new();
        let mut length = 0;
        for n in 0..self.one(&[0, 0, 1, 1, 2, 3, 4, 5, 6, 7]) {
            let extension = match self.below(20) {
                0 => routing(1),
                1 => authentication(),
                2 => destination_options(130),
                3..=7 => routing(0),
                8..=12 => fragment(0, false), // an atomic one (RFC 6946)
                13.. if n == 0 => hop_by_hop(),
                units => destination_options(units as u8 - 12),
            };
            length += extension.1.len();
            if length > 2600 {
                break; // BPF_PROG_TEST_RUN takes less than a page
            }
            chain.push(extension);
        }
        chain
    }
}
