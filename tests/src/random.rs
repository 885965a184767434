// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Numbers that look random and are the same in each run, and packets made of them.
use crate::packet::{Inner, Packet};
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
        let mut packet = match self.below(5) {
            0 | 1 => {
                let flags = self.one(&[0x02, 0x02, 0xc2, 0x10, 0x18, 0x12, 0x11, 0x14, 0x04, 0x00]);
                let mut packet = Packet::tcp(from, to, flags).tcp_options(&self.bytes(40));
                let Inner::Tcp { seq, ack, window, .. } = &mut packet.inner else { unreachable!() };
                (*seq, *ack, *window) = (self.bits() as u32, self.bits() as u32, self.bits() as u16);
                packet
            }
            2 => Packet::udp(from, to).unsummed(),
            3 => Packet::udp(from, to),
            _ => Packet::echo(from.ip(), to.ip(), from.port(), self.bits() as u16),
        };
        packet.payload = self.bytes(200);
        packet.tos = self.bits() as u8;
        packet.ttl = self.one(&[1, 2, 64, 128, 255]);
        packet.id = self.bits() as u16;
        packet.fragment = self.one(&[0, 0x4000]);
        if from.is_ipv4() && self.below(4) == 0 {
            packet.options = vec![1; 4 * self.below(11)];
        }
        packet
    }
}
