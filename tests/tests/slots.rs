// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A slot goes from one flow to the next: the one before is found until its keys have left the index, on every processor.
use detour_sys::{call, commands, Map, Value};
use e2e::bench::{at, client, Bench, FAR};
use e2e::detour::{json, up};
use e2e::lab::{Lab, GATEWAY};
use e2e::packet::{Packet, ACK, SYN};
use e2e::race::on_processor;
use e2e::testrun::{Outcome, Program, Sums, SHOT, UNSPEC};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

/// Half-open slots of a processor.
const RING: u16 = 16;
/// Nobody either.
const FAR_TOO: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 35);

/// Offsets in a slot of `slots4` (ebpf-src/abi.h): the forward key, the reverse key, `state` and `last`.
const FWD: usize = 8;
const REV: usize = FWD + 16;
const STATE: usize = REV + 16;
const LAST: usize = STATE + 12;
/// States: `FLOW_OPENING`, `FLOW_CONFIRMED`, `FLOW_ENDING`.
const OPENING: u8 = 1;
const CONFIRMED: u8 = 5;
const ENDING: u8 = 7;

/// The tables of flows, and the program that fills them, on one processor.
struct Table<'a> {
    index: Map,
    slots: Map,
    ingress: Program<'a>,
    egress: Program<'a>,
}

impl Table<'_> {
    fn of(bench: &Bench) -> Table<'_> {
        let maps = json(&bench.lab.gateway, &["map", "list", &bench.lab.device, "up"]);
        let map = |name: &str| {
            let row = maps["maps"].as_array().unwrap().iter().find(|row| row["name"] == name).unwrap();
            let id = [("map_id", Value::Num(row["id"].as_u64().unwrap()))];
            Map::from_fd(call(&commands::MAP_GET_FD_BY_ID, &id).unwrap().fd.unwrap()).unwrap()
        };
        let (ingress, egress) = (bench.program("ingress"), bench.program("egress"));
        Table { index: map("idx4"), slots: map("slots4"), ingress, egress }
    }

    fn arrives(&self, packet: &Packet) -> Outcome {
        self.ingress.run_here(&packet.frame(), Sums::None).unwrap()
    }

    /// From where the server sees a packet of the client's, if it does.
    fn seen(&self, packet: &Packet) -> Option<SocketAddr> {
        let outcome = self.arrives(packet);
        if outcome.verdict == SHOT {
            return None;
        }
        let (from, to) = Packet::read(&outcome.frame).unwrap().ends();
        assert_eq!((outcome.verdict, to), (UNSPEC, SocketAddr::from((GATEWAY, 8080))), "{packet}");
        Some(from)
    }

    /// Its SYN, the server's answer, and that the client heard it.
    fn confirms(&self, from: SocketAddrV4, far: SocketAddrV4) {
        let syn = Packet::tcp(from, far, SYN);
        let Some(SocketAddr::V4(port)) = self.seen(&syn) else { panic!("{syn}") };
        let answer = Packet::tcp(at(GATEWAY, 8080), port, SYN | ACK);
        assert_eq!(self.egress.run_here(&answer.frame(), Sums::None).unwrap().verdict, UNSPEC);
        self.acknowledges(from, far);
    }

    fn acknowledges(&self, from: SocketAddrV4, far: SocketAddrV4) {
        assert!(self.seen(&Packet::tcp(from, far, ACK).acknowledging(0x0102_0305)).is_some());
    }

    fn slot(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.index.lookup(key).unwrap()
    }

    /// Another state and age for the flow in a slot.
    fn forge(&self, slot: &[u8], state: u8, age: u32) {
        let mut flow = self.slots.lookup(slot).unwrap().unwrap();
        let last = u32::from_ne_bytes(flow[LAST..LAST + 4].try_into().unwrap());
        flow[STATE] = state;
        flow[LAST..LAST + 4].copy_from_slice(&last.wrapping_sub(age).to_ne_bytes());
        self.slots.update(slot, &flow, 0).unwrap();
    }
}

/// The forward key of the flow.
fn key(from: SocketAddrV4, far: SocketAddrV4) -> Vec<u8> {
    let ports = [from.port().to_be_bytes(), far.port().to_be_bytes()].concat();
    [&from.ip().octets()[..], &far.ip().octets(), &ports, &[6, 0, 0, 0]].concat()
}

/// The key of its answers, where the client kept its port.
fn reverse_key(from: SocketAddrV4) -> Vec<u8> {
    let ports = [8080_u16.to_be_bytes(), from.port().to_be_bytes()].concat();
    [&GATEWAY.octets()[..], &from.ip().octets(), &ports, &[6, 1, 0, 0]].concat()
}

/// No half is ever lost by itself, for the index forgets nothing. Where somebody takes one away: the forward one comes back
/// with the client's next packet that may open a flow, as one of the same flow; the reverse one when the flow is confirmed.
#[test]
fn a_half_that_was_lost_comes_back() {
    let bench = bench(&["--pickup"]);
    bench.lab.gateway.within(|| {
        let table = Table::of(&bench);
        let (from, far) = (client(4000), at(FAR, 80));
        let (forward, reverse) = (key(from, far), reverse_key(from));
        table.confirms(from, far);
        let slot = table.slot(&forward).expect("a flow");
        assert_eq!(table.slot(&reverse).as_ref(), Some(&slot));
        table.index.delete(&forward).unwrap();
        table.acknowledges(from, far);
        assert_eq!(table.slot(&forward).as_ref(), Some(&slot), "the same flow");

        let (from, far) = (client(4001), at(FAR, 80));
        let (forward, reverse) = (key(from, far), reverse_key(from));
        let syn = Packet::tcp(from, far, SYN);
        assert_eq!(table.seen(&syn), Some(from.into()));
        let answer = Packet::tcp(at(GATEWAY, 8080), from, SYN | ACK);
        assert_eq!(table.egress.run_here(&answer.frame(), Sums::None).unwrap().verdict, UNSPEC);
        table.index.delete(&reverse).unwrap();
        table.acknowledges(from, far);
        let slot = table.slot(&forward).expect("a flow");
        assert_eq!(table.slot(&reverse), Some(slot), "it is confirmed");
    });
}

fn bench(options: &[&str]) -> Bench {
    let lab = Lab::new();
    let ring = RING.to_string();
    let common = ["--half-open", &ring, "--rule", "tcp dport 80 redirect to :8080"];
    up(&lab.gateway, &lab.device, &[&common, options].concat());
    Bench { lab }
}

/// Longer than any idle time.
const AGES: u32 = 1 << 30;

#[test]
fn a_half_open_flow_that_leaves_keeps_its_slot_and_its_tuple_until_it_has() {
    let bench = bench(&[]);
    let table = Table::of(&bench);
    let far = at(FAR, 80);
    bench.lab.gateway.within(|| {
        on_processor(0);
        let syn = Packet::tcp(client(4000), far, SYN);
        assert_eq!(table.seen(&syn), Some(client(4000).into()));
        let one = key(client(4000), far);
        let slot = table.slot(&one).unwrap();
        table.forge(&slot, ENDING, AGES);
        let before = table.slots.lookup(&slot).unwrap().unwrap();
        // It is found, however old it is, so that nobody opens it anew …
        assert_eq!(table.seen(&syn), Some(client(4000).into()));
        assert_eq!(table.slot(&one).as_ref(), Some(&slot));
        // … and its tuple at the server is taken.
        let other = table.seen(&Packet::tcp(client(4000), at(FAR_TOO, 80), SYN)).unwrap();
        assert_ne!(other, SocketAddr::from(client(4000)));
        // The ring comes round three times, and each time one flow finds no slot.
        let opened = (0..3 * RING).filter(|n| table.seen(&Packet::tcp(client(5000 + n), far, SYN)).is_some());
        assert_eq!(opened.count(), usize::from(3 * RING - 3));
        assert_eq!(table.slot(&one).as_ref(), Some(&slot));
        let after = table.slots.lookup(&slot).unwrap().unwrap();
        assert_eq!((&after[..STATE + 1]), (&before[..STATE + 1]), "its generation, keys and state");
        // Anything else is evicted, and both of its keys are gone.
        table.forge(&slot, OPENING, 0);
        for n in 0..RING {
            assert!(table.seen(&Packet::tcp(client(6000 + n), far, SYN)).is_some());
        }
        assert_eq!((table.slot(&one), table.slot(&before[REV..STATE])), (None, None));
    });
}

#[test]
fn a_flow_that_is_over_leaves_with_both_keys_when_another_wants_its_tuple() {
    let bench = bench(&[]);
    let table = Table::of(&bench);
    bench.lab.gateway.within(|| {
        on_processor(0);
        let (one, two) = (at(FAR, 80), at(FAR_TOO, 80));
        table.confirms(client(4000), one);
        let slot = table.slot(&key(client(4000), one)).unwrap();
        table.forge(&slot, CONFIRMED, AGES);
        assert_eq!(table.seen(&Packet::tcp(client(4000), two, SYN)), Some(client(4000).into()));
        assert_eq!(table.slot(&key(client(4000), one)), None);
        let new = table.slot(&key(client(4000), two)).unwrap();
        let flow = table.slots.lookup(&new).unwrap().unwrap();
        assert_eq!(table.slot(&flow[REV..STATE]), Some(new), "the reverse key is the new flow's");
        assert_eq!(table.slots.lookup(&slot).unwrap().unwrap()[STATE], 0, "free");
    });
}

#[test]
fn a_confirmed_flow_that_leaves_keeps_its_slot_until_it_has() {
    let bench = bench(&["--flows-max", "16"]);
    let table = Table::of(&bench);
    let far = at(FAR, 80);
    bench.lab.gateway.within(|| {
        on_processor(0);
        (0..16).for_each(|n| table.confirms(client(4000 + n), far));
        let one = key(client(4000), far);
        let slot = table.slot(&one).unwrap();
        table.forge(&slot, ENDING, AGES);
        let before = table.slots.lookup(&slot).unwrap().unwrap();
        table.confirms(client(5000), far);
        let new = table.slot(&key(client(5000), far)).unwrap();
        assert!(u32::from_ne_bytes(new.try_into().unwrap()) < u32::from(RING), "it stays half-open");
        assert_eq!(table.slot(&one).as_ref(), Some(&slot));
        table.forge(&slot, CONFIRMED, 0);
        table.acknowledges(client(5000), far);
        assert_eq!(table.slot(&key(client(5000), far)), Some(slot), "now it has the slot");
        assert_eq!((table.slot(&one), table.slot(&before[REV..STATE])), (None, None));
    });
}
