// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Flows written into the maps of a running instance, so that one packet run many times meets a different flow each time.
//!
//! Flow i takes what is asked of address i to address i + 1, in an order that jumps about; so what comes out of one run is
//! the first packet of the next flow. At egress the same flows lead back.
use detour::dnat::abi::{Flow4, Flow6, Key4, Key6, Secret};
use detour::dnat::codes::FLOW_CONFIRMED;
use detour::dnat::index::index;
use detour::dnat::wire::{Be16, Be32, Shared};
use detour_sys::Map;
use e2e::bench::Bench;
use e2e::packet::{Packet, ACK};
use e2e::testrun::Sums;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd};

/// The client of all flows.
const CLIENT: u32 = u32::from_be_bytes([192, 168, 178, 51]);
/// Where their addresses begin; nobody is there.
const FIRST: u32 = u32::from_be_bytes([20, 0, 0, 0]);
const PORT: u16 = 4242;
const SERVICE: u16 = 80;

/// The IPv6 address with number `n` behind a prefix of documentation.
fn address6(n: u32) -> Ipv6Addr {
    Ipv6Addr::from((0x2001_0db8_u128 << 96) | u128::from(n))
}

/// Which address the chain visits as its `i`th of `count`, a power of two: a fixed jump that meets each of them once.
fn visit(i: u32, count: u32) -> u32 {
    FIRST + (i.wrapping_mul(0x9e37_79b1) & (count - 1))
}

/// What the kernel says about the map in its descriptor's information, by name.
pub fn fact(map: &Map, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", map.as_fd().as_raw_fd()));
    let text = text.expect("the descriptor's information");
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("no {name} in\n{text}"))
}

/// How many entries the map has room for.
fn entries(map: &Map) -> u32 {
    fact(map, "max_entries") as u32
}

/// Writes `count` confirmed TCP flows; the packet that meets them one after the other, inwards and outwards.
pub fn ipv4(bench: &Bench, count: u32) -> (Packet, Packet) {
    let tables = Tables::of(bench, "idx4", "slots4");
    let client = |port| SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::from(CLIENT), port));
    let server = |n| SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::from(visit(n, count)), SERVICE));
    let forward = |n| Key4 {
        src: Be32(CLIENT),
        dst: Be32(visit(n, count)),
        sport: Be16(PORT),
        dport: Be16(SERVICE),
        proto: 6,
        dir: 0,
    };
    let first = tables.opened(bench, &Packet::tcp(client(7), server(0), 2), |key: &mut Key4| {
        *key = Key4 { sport: Be16(7), ..forward(0) }
    });
    let mut flow = Flow4::read(&first).expect("a flow");
    let base = entries(&tables.slots) - count;
    let secret = tables.secret();
    for n in 0..count {
        flow.fwd = forward(n);
        flow.rev = Key4 {
            src: Be32(visit(n + 1, count)),
            dst: Be32(CLIENT),
            sport: Be16(SERVICE),
            dport: Be16(PORT),
            proto: 6,
            dir: 1,
        };
        flow.state = FLOW_CONFIRMED;
        tables.enter(&secret, base + n, [&flow.fwd.to_bytes(), &flow.rev.to_bytes()], &flow.to_bytes());
    }
    (Packet::tcp(client(PORT), server(0), ACK), Packet::tcp(server(0), client(PORT), ACK))
}

/// The same for IPv6.
pub fn ipv6(bench: &Bench, count: u32) -> (Packet, Packet) {
    let tables = Tables::of(bench, "idx6", "slots6");
    let from = address6(CLIENT);
    let client = |port| SocketAddr::V6(SocketAddrV6::new(from, port, 0, 0));
    let server = |n| SocketAddr::V6(SocketAddrV6::new(address6(visit(n, count)), SERVICE, 0, 0));
    let forward = |n| Key6 {
        src: from.octets(),
        dst: address6(visit(n, count)).octets(),
        sport: Be16(PORT),
        dport: Be16(SERVICE),
        proto: 6,
        dir: 0,
    };
    let first = tables.opened(bench, &Packet::tcp(client(7), server(0), 2), |key: &mut Key6| {
        *key = Key6 { sport: Be16(7), ..forward(0) }
    });
    let mut flow = Flow6::read(&first).expect("a flow");
    let base = entries(&tables.slots) - count;
    let secret = tables.secret();
    for n in 0..count {
        flow.fwd = forward(n);
        flow.rev = Key6 {
            src: address6(visit(n + 1, count)).octets(),
            dst: from.octets(),
            sport: Be16(SERVICE),
            dport: Be16(PORT),
            proto: 6,
            dir: 1,
        };
        flow.state = FLOW_CONFIRMED;
        tables.enter(&secret, base + n, [&flow.fwd.to_bytes(), &flow.rev.to_bytes()], &flow.to_bytes());
    }
    (Packet::tcp(client(PORT), server(0), ACK), Packet::tcp(server(0), client(PORT), ACK))
}

/// Where the flows of one family are.
struct Tables {
    index: Map,
    slots: Map,
    secret: Map,
}

impl Tables {
    fn of(bench: &Bench, index: &str, slots: &str) -> Tables {
        Tables { index: bench.map(index), slots: bench.map(slots), secret: bench.map("secret") }
    }

    /// What the IPv6 index is hashed with, once a flow has opened.
    fn secret(&self) -> Secret {
        let bytes = self.secret.lookup(&[0; 4]).expect("a look-up").expect("an element");
        Secret::read(&bytes).expect("a secret")
    }

    /// Has the program open a flow for `syn`; the bytes of its slot, in which the time of day is right.
    fn opened<K: Shared + Default>(&self, bench: &Bench, syn: &Packet, set: impl Fn(&mut K)) -> Vec<u8> {
        bench.program("ingress").run(&syn.frame(), Sums::None);
        let mut key = K::default();
        set(&mut key);
        let element = index(&key.to_bytes(), &self.secret());
        let slot = self.index.lookup(&element).expect("a look-up").expect("the SYN opened a flow");
        self.slots.lookup(&slot).expect("a look-up").expect("its slot")
    }

    fn enter(&self, secret: &Secret, slot: u32, keys: [&[u8]; 2], flow: &[u8]) {
        let slot = slot.to_ne_bytes();
        self.slots.update(&slot, flow, 0).expect("a slot");
        for key in keys {
            self.index.update(&index(key, secret), &slot, 0).expect("an entry of the index");
        }
    }
}
