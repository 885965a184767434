// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Where a flow was last found stands in for the index, and misleads nobody where it is wrong.
use detour_sys::Map;
use e2e::bench::{Bench, Hook};
use e2e::detour::up;
use e2e::family::Family;
use e2e::lab::Lab;
use e2e::packet::{Packet, ACK, SYN};
use e2e::testrun::{Program, Sums};
use std::net::SocketAddr;

/// Bits of a hint (ebpf-src/look.h): a part of the key's hash, the generation of the slot's tenant, the slot.
const MARK: u64 = 0xff;
const GENERATION: u64 = 0xff_ffff << 8;
const SLOT: u32 = 32;

/// Flows of one family, by the client's port.
struct Flows<'a> {
    family: Family,
    ingress: Program<'a>,
    egress: Program<'a>,
    index: Map,
    hints: Map,
}

impl Flows<'_> {
    fn of(bench: &Bench, family: Family) -> Flows<'_> {
        let [index, hints] = family.pick(["idx4", "hints4"], ["idx6", "hints6"]).map(|name| bench.map(name));
        let [ingress, egress] = ["ingress", "egress"].map(|hook| bench.program(hook));
        Flows { family, ingress, egress, index, hints }
    }

    /// From the client to who was asked, and how it comes to the gateway.
    fn packets(&self, port: u16, flags: u8) -> [Packet; 2] {
        let (client, far) =
            (SocketAddr::new(self.family.client(), port), SocketAddr::new(self.family.far(), 80));
        let asked = Packet::tcp(client, far, flags).acknowledging(0x0102_0305);
        let served = asked.clone().between(client, SocketAddr::new(self.family.gateway(), 80));
        [asked, served]
    }

    /// A segment of each side finds its way.
    fn goes_on(&self, port: u16, flags: [u8; 2]) {
        let [asked, served] = self.packets(port, flags[0]);
        arriving(&self.ingress).rewrites(&asked, &served);
        let [asked, served] = self.packets(port, flags[1]).map(|packet| packet.reversed());
        arriving(&self.egress).rewrites(&served, &asked);
    }

    /// The hints that there are, with their keys.
    fn hints(&self) -> Vec<(Vec<u8>, u64)> {
        let all = (0_u32..).map(|n| n.to_ne_bytes().to_vec());
        let all = all.map_while(|key| self.hints.lookup(&key).unwrap().map(|hint| (key, hint)));
        let all = all.map(|(key, hint)| (key, u64::from_ne_bytes(hint.try_into().unwrap())));
        all.filter(|(_, hint)| *hint != 0).collect()
    }

    fn hint(&self, key: &[u8], hint: u64) {
        self.hints.update(key, &hint.to_ne_bytes(), 0).unwrap();
    }
}

fn arriving<'a>(program: &'a Program<'a>) -> Hook<'a> {
    Hook { program, sums: Sums::Complete }
}

/// In each family two established flows, whose four keys have a hint each.
fn established(check: impl Fn(&Flows<'_>)) {
    let lab = Lab::new();
    up(&lab.gateway, &lab.device, &["--no-pickup", "--rule", "redirect"]);
    let bench = Bench { lab };
    for family in Family::BOTH {
        let flows = Flows::of(&bench, family);
        assert_eq!(flows.hints(), [], "nothing has been found");
        for port in [4000, 4001] {
            flows.goes_on(port, [SYN, SYN | ACK]);
            flows.goes_on(port, [ACK, ACK]);
            flows.goes_on(port, [ACK, ACK]);
        }
        assert_eq!(flows.hints().len(), 4, "two keys of one hint: choose other ports");
        check(&flows);
    }
}

#[test]
fn the_index_is_not_asked_where_a_hint_is_right() {
    established(|flows| {
        for (key, _) in detour::dnat::running::entries(&flows.index).unwrap() {
            flows.index.delete(&key).unwrap();
        }
        flows.goes_on(4000, [ACK, ACK]);
        flows.goes_on(4001, [ACK, ACK]);
        flows.hints().iter().for_each(|(key, _)| flows.hint(key, 0));
        let [asked, served] = flows.packets(4000, ACK);
        arriving(&flows.ingress).passes("without hint and index", &asked.frame());
        arriving(&flows.egress).passes("without hint and index", &served.reversed().frame());
    });
}

#[test]
fn a_hint_that_is_wrong_misleads_nobody() {
    established(|flows| {
        let right = flows.hints();
        let slots: Vec<u64> = right.iter().map(|(_, hint)| hint >> SLOT).collect();
        let beyond = [0, u64::from(u32::MAX)];
        for slot in slots.iter().chain(&beyond) {
            right.iter().for_each(|(key, hint)| flows.hint(key, hint & (GENERATION | MARK) | slot << SLOT));
            flows.goes_on(4000, [ACK, ACK]);
            flows.goes_on(4001, [ACK, ACK]);
            assert_eq!(flows.hints(), right, "slot {slot}");
        }
        // Of another tenancy, or another key's.
        for bits in [1 << 8, GENERATION, 1, MARK] {
            right.iter().for_each(|(key, hint)| flows.hint(key, hint ^ bits));
            flows.goes_on(4000, [ACK, ACK]);
            flows.goes_on(4001, [ACK, ACK]);
            assert_eq!(flows.hints(), right, "{bits:#x}");
        }
    });
}
