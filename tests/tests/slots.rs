// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A slot goes from one flow to the next, in either family: the one before is found until its keys have left the index, on every
//! processor.
use detour::dnat::abi::Secret;
use detour::dnat::index::index;
use detour::dnat::wire::Shared;
use detour_sys::Map;
use e2e::bench::Bench;
use e2e::detour::up;
use e2e::family::Family;
use e2e::lab::Lab;
use e2e::packet::{Packet, ACK, SYN};
use e2e::race::on_processor;
use e2e::testrun::{Outcome, Program, Sums, SHOT, UNSPEC};
use std::net::{IpAddr, SocketAddr};

/// Half-open slots of a processor.
const RING: u16 = 16;

/// Offset in a slot (ebpf-src/abi.h): the forward key, behind it the reverse key, then `state`, and `last`.
const FWD: usize = 8;
const LAST: usize = 12;
/// States: `FLOW_OPENING`, `FLOW_CONFIRMED`, `FLOW_ENDING`.
const OPENING: u8 = 1;
const CONFIRMED: u8 = 5;
const ENDING: u8 = 7;

/// The tables of flows of one family, and the program that fills them, on one processor.
struct Table<'a> {
    family: Family,
    index: Map,
    slots: Map,
    secret: Map,
    ingress: Program<'a>,
    egress: Program<'a>,
}

impl Table<'_> {
    fn of(bench: &Bench, family: Family) -> Table<'_> {
        let [index, slots] = family.pick(["idx4", "slots4"], ["idx6", "slots6"]).map(|name| bench.map(name));
        let (ingress, egress) = (bench.program("ingress"), bench.program("egress"));
        Table { family, index, slots, secret: bench.map("secret"), ingress, egress }
    }

    fn client(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.family.client(), port)
    }

    fn far(&self) -> SocketAddr {
        SocketAddr::new(self.family.far(), 80)
    }

    /// Nobody either.
    fn far_too(&self) -> SocketAddr {
        let ip: IpAddr = self.family.pick("93.184.216.35", "2001:db8::35").parse().unwrap();
        SocketAddr::new(ip, 80)
    }

    fn server(&self) -> SocketAddr {
        SocketAddr::new(self.family.gateway(), 8080)
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
        assert_eq!((outcome.verdict, to), (UNSPEC, self.server()), "{packet}");
        Some(from)
    }

    /// Its SYN, the server's answer, and that the client heard it.
    fn confirms(&self, from: SocketAddr, far: SocketAddr) {
        let syn = Packet::tcp(from, far, SYN);
        let Some(port) = self.seen(&syn) else { panic!("{syn}") };
        let answer = Packet::tcp(self.server(), port, SYN | ACK);
        assert_eq!(self.egress.run_here(&answer.frame(), Sums::None).unwrap().verdict, UNSPEC);
        self.acknowledges(from, far);
    }

    fn acknowledges(&self, from: SocketAddr, far: SocketAddr) {
        assert!(self.seen(&Packet::tcp(from, far, ACK).acknowledging(0x0102_0305)).is_some());
    }

    /// A key of a flow as the index knows it.
    fn indexed(&self, key: &[u8]) -> Vec<u8> {
        let secret = self.secret.lookup(&[0; 4]).unwrap().unwrap();
        index(key, &Secret::read(&secret).unwrap())
    }

    fn slot(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.index.lookup(&self.indexed(key)).unwrap()
    }

    fn loses(&self, key: &[u8]) {
        self.index.delete(&self.indexed(key)).unwrap();
    }

    fn flow(&self, slot: &[u8]) -> Vec<u8> {
        self.slots.lookup(slot).unwrap().unwrap()
    }

    /// Where a slot has the reverse key, and `state`.
    fn places(&self) -> (usize, usize) {
        let key = self.family.pick(16, 40);
        (FWD + key, FWD + 2 * key)
    }

    /// The reverse key in a slot as it was.
    fn reverse<'a>(&self, flow: &'a [u8]) -> &'a [u8] {
        let (rev, state) = self.places();
        &flow[rev..state]
    }

    /// Another state and age for the flow in a slot.
    fn forge(&self, slot: &[u8], state: u8, age: u32) {
        let mut flow = self.flow(slot);
        let at = self.places().1;
        let when = at + LAST..at + LAST + 4;
        let last = u32::from_ne_bytes(flow[when.clone()].try_into().unwrap());
        flow[at] = state;
        flow[when].copy_from_slice(&last.wrapping_sub(age).to_ne_bytes());
        self.slots.update(slot, &flow, 0).unwrap();
    }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// The key of a TCP flow's packets from one end to the other: `dir` 0 those of the client.
fn key_of(from: SocketAddr, to: SocketAddr, dir: u8) -> Vec<u8> {
    let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    [&octets(from.ip())[..], &octets(to.ip()), &ports, &[6, dir, 0, 0]].concat()
}

/// The forward key of the flow.
fn key(from: SocketAddr, far: SocketAddr) -> Vec<u8> {
    key_of(from, far, 0)
}

/// Runs the scene in each family, with the rule that these flows go by.
fn scenes(options: &[&str], scene: impl Fn(&Table<'_>) + Sync) {
    for family in Family::BOTH {
        let lab = Lab::new();
        // IPv6 has a quarter of IPv4's.
        let (ring, flows) = (RING * family.pick(1, 4), family.pick("16", "64"));
        let ring = ring.to_string();
        let common = ["--half-open", &ring, "--flows-max", flows, "--rule", "tcp dport 80 redirect to :8080"];
        up(&lab.gateway, &lab.device, &[&common, options].concat());
        let bench = Bench { lab };
        let table = Table::of(&bench, family);
        bench.lab.gateway.within(|| {
            on_processor(0);
            scene(&table);
        });
    }
}

/// Longer than any idle time.
const AGES: u32 = 1 << 30;

/// No half is ever lost by itself, for the index forgets nothing. Where somebody takes one away: the forward one comes back
/// with the client's next packet that may open a flow, as one of the same flow; the reverse one when the flow is confirmed.
#[test]
fn a_half_that_was_lost_comes_back() {
    scenes(&["--pickup"], |table| {
        let (from, far) = (table.client(4000), table.far());
        let (forward, reverse) = (key(from, far), key_of(table.server(), from, 1));
        table.confirms(from, far);
        let slot = table.slot(&forward).expect("a flow");
        assert_eq!(table.slot(&reverse).as_ref(), Some(&slot));
        table.loses(&forward);
        table.acknowledges(from, far);
        assert_eq!(table.slot(&forward).as_ref(), Some(&slot), "the same flow");

        let from = table.client(4001);
        let (forward, reverse) = (key(from, far), key_of(table.server(), from, 1));
        let syn = Packet::tcp(from, far, SYN);
        assert_eq!(table.seen(&syn), Some(from));
        let answer = Packet::tcp(table.server(), from, SYN | ACK);
        assert_eq!(table.egress.run_here(&answer.frame(), Sums::None).unwrap().verdict, UNSPEC);
        table.loses(&reverse);
        table.acknowledges(from, far);
        let slot = table.slot(&forward).expect("a flow");
        assert_eq!(table.slot(&reverse), Some(slot), "it is confirmed");
    });
}

#[test]
fn a_half_open_flow_that_leaves_keeps_its_slot_and_its_tuple_until_it_has() {
    scenes(&[], |table| {
        let (client, far) = (|port| table.client(port), table.far());
        let syn = Packet::tcp(client(4000), far, SYN);
        assert_eq!(table.seen(&syn), Some(client(4000)));
        let one = key(client(4000), far);
        let slot = table.slot(&one).unwrap();
        table.forge(&slot, ENDING, AGES);
        let before = table.flow(&slot);
        // It is found, however old it is, so that nobody opens it anew …
        assert_eq!(table.seen(&syn), Some(client(4000)));
        assert_eq!(table.slot(&one).as_ref(), Some(&slot));
        // … and its tuple at the server is taken.
        let other = table.seen(&Packet::tcp(client(4000), table.far_too(), SYN)).unwrap();
        assert_ne!(other, client(4000));
        // The ring comes round three times, and each time one flow finds no slot.
        let opened = (0..3 * RING).filter(|n| table.seen(&Packet::tcp(client(5000 + n), far, SYN)).is_some());
        assert_eq!(opened.count(), usize::from(3 * RING - 3));
        assert_eq!(table.slot(&one).as_ref(), Some(&slot));
        let (after, state) = (table.flow(&slot), table.places().1);
        assert_eq!((&after[..state + 1]), (&before[..state + 1]), "its generation, keys and state");
        // Anything else is evicted, and both of its keys are gone.
        table.forge(&slot, OPENING, 0);
        for n in 0..RING {
            assert!(table.seen(&Packet::tcp(client(6000 + n), far, SYN)).is_some());
        }
        assert_eq!((table.slot(&one), table.slot(table.reverse(&before))), (None, None));
    });
}

#[test]
fn a_flow_that_is_over_leaves_with_both_keys_when_another_wants_its_tuple() {
    scenes(&[], |table| {
        let (client, one, two) = (table.client(4000), table.far(), table.far_too());
        table.confirms(client, one);
        let slot = table.slot(&key(client, one)).unwrap();
        table.forge(&slot, CONFIRMED, AGES);
        assert_eq!(table.seen(&Packet::tcp(client, two, SYN)), Some(client));
        assert_eq!(table.slot(&key(client, one)), None);
        let new = table.slot(&key(client, two)).unwrap();
        let flow = table.flow(&new);
        assert_eq!(table.slot(table.reverse(&flow)), Some(new), "the reverse key is the new flow's");
        assert_eq!(table.flow(&slot)[table.places().1], 0, "free");
    });
}

#[test]
fn a_confirmed_flow_that_leaves_keeps_its_slot_until_it_has() {
    scenes(&[], |table| {
        let (client, far) = (|port| table.client(port), table.far());
        (0..16).for_each(|n| table.confirms(client(4000 + n), far));
        let one = key(client(4000), far);
        let slot = table.slot(&one).unwrap();
        table.forge(&slot, ENDING, AGES);
        let before = table.flow(&slot);
        table.confirms(client(5000), far);
        let new = table.slot(&key(client(5000), far)).unwrap();
        assert!(u32::from_ne_bytes(new.try_into().unwrap()) < u32::from(RING), "it stays half-open");
        assert_eq!(table.slot(&one).as_ref(), Some(&slot));
        table.forge(&slot, CONFIRMED, 0);
        table.acknowledges(client(5000), far);
        assert_eq!(table.slot(&key(client(5000), far)), Some(slot), "now it has the slot");
        assert_eq!((table.slot(&one), table.slot(table.reverse(&before))), (None, None));
    });
}
