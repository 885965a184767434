// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Many connections that say something different each time and have to hear just that again; and a flood beside them.
use crate::capture::Wire;
use crate::family::Family;
use crate::lab::Lab;
use crate::netns::Netns;
use crate::packet::{Packet, SYN};
use crate::talk::{dial_here, PATIENCE};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Connections to a server that sends everything back, see [`crate::serve::Server::echo`].
pub struct Crowd {
    streams: Vec<TcpStream>,
    rounds: u64,
}

impl Crowd {
    /// `count` connections from `ns`, the nth to `to(n)`; each has been answered twice, so that nobody doubts it.
    pub fn new(ns: &Netns, count: u32, to: impl Fn(u32) -> SocketAddr) -> Crowd {
        let to: Vec<SocketAddr> = (0..count).map(to).collect();
        let connect =
            |to: &SocketAddr| dial_here(0, *to, PATIENCE).unwrap_or_else(|error| panic!("{to}: {error}"));
        let streams = ns.within(|| to.iter().map(connect).collect());
        let mut crowd = Crowd { streams, rounds: 0 };
        crowd.exchange();
        crowd.exchange();
        crowd
    }

    /// Each says 512 bytes that nobody said before and hears them.
    #[track_caller]
    pub fn exchange(&mut self) {
        self.rounds += 1;
        for (n, stream) in self.streams.iter_mut().enumerate() {
            stream.write_all(&said(n, self.rounds)).unwrap_or_else(|error| panic!("connection {n}: {error}"));
        }
        for (n, stream) in self.streams.iter_mut().enumerate() {
            let mut heard = [0; 512];
            stream.read_exact(&mut heard).unwrap_or_else(|error| panic!("connection {n}: {error}"));
            assert_eq!(heard, said(n, self.rounds), "connection {n}, round {}", self.rounds);
        }
    }

    /// How often each has spoken.
    pub fn rounds(&self) -> u64 {
        self.rounds
    }
}

fn said(connection: usize, round: u64) -> [u8; 512] {
    let mut state = (connection as u64) << 32 ^ round ^ 0x9e37_79b9_7f4a_7c15;
    std::array::from_fn(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    })
}

/// A connection that says one thing, hears it and ends.
pub fn honest(ns: &Netns, to: SocketAddr) -> io::Result<()> {
    ns.within(|| honest_here(to))
}

fn honest_here(to: SocketAddr) -> io::Result<()> {
    let mut stream = dial_here(0, to, PATIENCE)?;
    stream.write_all(b"honest")?;
    let mut heard = [0; 6];
    stream.read_exact(&mut heard)?;
    match &heard {
        b"honest" => Ok(()),
        other => Err(io::Error::other(format!("heard {other:02x?}"))),
    }
}

/// New connections from `ns`, each to another `to(n)`, `rate` a second, until `over`: how many were tried, and how many served.
/// Many people do this at once, so that those who wait keep nobody from trying.
pub fn arrivals(
    ns: &Netns,
    rate: u32,
    to: impl Fn(u32) -> SocketAddr + Sync,
    over: &AtomicBool,
) -> (u32, u32) {
    const PEOPLE: usize = 100;
    let start = Instant::now();
    let (turns, tried, served) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    let person = || loop {
        let n = turns.fetch_add(1, Ordering::Relaxed);
        let due = start + Duration::from_secs(1) * n / rate;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if over.load(Ordering::Relaxed) {
            return;
        }
        tried.fetch_add(1, Ordering::Relaxed);
        match honest_here(to(n)) {
            Ok(()) => drop(served.fetch_add(1, Ordering::Relaxed)),
            Err(error) => eprintln!("{}: {error}", to(n)),
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..PEOPLE {
            scope.spawn(|| ns.within(person));
        }
    });
    (tried.into_inner(), served.into_inner())
}

/// First packets from clients that are not there, as fast as one core makes them.
pub struct Flood {
    wire: Wire,
    family: Family,
    frames: Vec<Vec<u8>>,
}

impl Flood {
    /// SYNs to `tcp` and datagrams to `udp` of ever new addresses, from the client's side of `lab`.
    pub fn new(lab: &Lab, family: Family, tcp: &[u16], udp: &[u16]) -> Flood {
        let end =
            |four: [u8; 4], six: [u16; 8], port| SocketAddr::new(family.pick(four.into(), six.into()), port);
        let from = end([10, 66, 0, 0], [0xfd66, 0, 0, 0, 0, 0, 0, 1], 1024);
        let to = |port: &u16| end([100, 64, 0, 0], [0x2001, 0xdb8, 0xf1, 0, 0, 0, 0, 1], *port);
        let syns = tcp.iter().map(|port| Packet::tcp(from, to(port), SYN));
        let datagrams = udp.iter().map(|port| Packet::udp(from, to(port)).payload(&[0; 32]));
        let frames = syns.chain(datagrams).map(|packet| {
            let mut frame = packet.frame();
            frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 0x51]);
            frame
        });
        Flood { wire: Wire::tap(&lab.client, "eth0").only(), family, frames: frames.collect() }
    }

    /// Sends `count` of them, each different. What is added to one word of an address is taken from another one, and what
    /// is added to the port from the word behind the header's first, so that all checksums stay right.
    pub fn send(&mut self, count: u32) {
        let kinds = self.frames.len() as u32;
        let (source, destination) = self.family.pick(((26, 28), (32, 30)), ((32, 34), (50, 48)));
        let (protocol, l4) = self.family.pick((23, 34), (20, 54));
        for n in 0..count {
            let frame = &mut self.frames[(n % kinds) as usize];
            let random = n.wrapping_mul(0x9e37_79b1);
            shift(frame, source.0, source.1, (random & 0xff) as u16);
            shift(frame, destination.0, destination.1, (random >> 8) as u16 & 0x3f);
            // The high word of a sequence number, or the end of a datagram.
            let balance = if frame[protocol] == 6 { l4 + 4 } else { frame.len() - 2 };
            shift(frame, l4, balance, (random >> 16) as u16 | 1);
            self.wire.send(frame);
        }
    }
}

/// Adds `by` to the 16-bit word at `up` and takes it from the one at `down`, in ones' complement.
fn shift(frame: &mut [u8], up: usize, down: usize, by: u16) {
    for (at, by) in [(up, by), (down, !by)] {
        let (sum, carry) = u16::from_be_bytes([frame[at], frame[at + 1]]).overflowing_add(by);
        frame[at..at + 2].copy_from_slice(&(sum + u16::from(carry)).to_be_bytes());
    }
}

/// Runs `beside` again and again until `main` is done; how often that was.
pub fn meanwhile(done: &AtomicBool, mut beside: impl FnMut()) -> u64 {
    let mut times = 0;
    while !done.load(Ordering::Relaxed) {
        beside();
        times += 1;
    }
    times
}
