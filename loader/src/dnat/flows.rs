// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Slots of the flow table -> the translations in force.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::abi::{Cfg, Flow4, Flow6};
use super::clock::Clock;
use super::codes::{self, RULE_NONE};
use super::rules::{ICMP, ICMPV6, SCTP, TCP, UDP};
use super::wire::{Be16, Be32, Shared};

/// An address and a port.
pub type End = SocketAddr;

/// A translation. Of an ICMP echo the client's port is the identifier and the other ports are 0; of other protocols
/// without ports all are 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// IPPROTO_*.
    pub protocol: u8,
    /// Who speaks.
    pub client: End,
    /// Whom it believes to speak to.
    pub original: End,
    /// Who answers.
    pub server: End,
    /// The client's port as the server sees it: another than the client's own when that was taken.
    pub port_at_server: u16,
    /// How far the flow has come.
    pub state: State,
    /// Addressed to the server itself and not rewritten: tracked so that no translation takes its port.
    pub direct: bool,
    /// Opened in mid-stream.
    pub picked_up: bool,
    /// Number of the rule that opened it, from 1, in the rules of `rules_generation`.
    pub rule: Option<u32>,
    /// Generation of the rules when it was opened.
    pub rules_generation: u32,
    /// Since its first packet.
    pub age: Duration,
    /// Since its newest packet.
    pub idle: Duration,
    /// From the client, and from the server.
    pub packets: [u64; 2],
    /// The same in bytes, whole frames.
    pub bytes: [u64; 2],
    /// The name by which the client knows the original destination, if that was learnt.
    pub name: Option<String>,
}

/// How far a flow has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// The client spoke.
    Opening,
    /// The server answered.
    Answered,
    /// The client has shown that it heard the answer; a flood of new flows cannot push it out.
    Confirmed,
    /// TCP that ended, kept for late packets.
    Closing,
}

impl State {
    /// The state in one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Answered => "answered",
            Self::Confirmed => "confirmed",
            Self::Closing => "closing",
        }
    }
}

/// The flow in a slot of `slots4` or `slots6`; `None` when the slot is free, or its flow has been idle for too long and counts
/// as gone.
pub fn flow(slot: &[u8], cfg: &Cfg, clock: &Clock) -> Option<Flow> {
    match slot.len() {
        Flow4::SIZE => Slot::from(Flow4::read(slot)?).flow(cfg, clock),
        Flow6::SIZE => Slot::from(Flow6::read(slot)?).flow(cfg, clock),
        _ => None,
    }
}

/// In which slot the flow lives now that moved out of this one.
pub fn moved(slot: &[u8]) -> Option<u32> {
    let (state, first) = match slot.len() {
        Flow4::SIZE => Flow4::read(slot).map(|slot| (slot.state, slot.first))?,
        Flow6::SIZE => Flow6::read(slot).map(|slot| (slot.state, slot.first))?,
        _ => return None,
    };
    (state == codes::FLOW_MOVED).then_some(first)
}

/// What slots of both families hold.
struct Slot {
    protocol: u8,
    /// As `fwd` has them, and `rev`: source and destination.
    forward: [End; 2],
    reverse: [End; 2],
    state: u8,
    marks: u8,
    rule: u16,
    rules_generation: u32,
    first: u32,
    last: u32,
    packets: [u64; 2],
    bytes: [u64; 2],
}

macro_rules! slot_of {
    ($($flow:ident $address:expr;)*) => {
        $(impl From<$flow> for Slot {
            fn from(slot: $flow) -> Self {
                let $flow { fwd, rev, state, marks, rule, rules_generation, first, last, packets, bytes, .. } = slot;
                let end = |address, port: Be16| SocketAddr::new($address(address), port.0);
                Self {
                    protocol: fwd.proto,
                    forward: [end(fwd.src, fwd.sport), end(fwd.dst, fwd.dport)],
                    reverse: [end(rev.src, rev.sport), end(rev.dst, rev.dport)],
                    state, marks, rule, rules_generation, first, last, packets, bytes,
                }
            }
        })*
    };
}

slot_of! {
    Flow4 |address: Be32| IpAddr::from(address.0.to_be_bytes());
    Flow6 |address: [u8; 16]| IpAddr::from(address);
}

impl Slot {
    fn flow(self, cfg: &Cfg, clock: &Clock) -> Option<Flow> {
        let state = match self.state {
            codes::FLOW_OPENING => State::Opening,
            codes::FLOW_ANSWERED => State::Answered,
            codes::FLOW_CONFIRMED => State::Confirmed,
            codes::FLOW_CLOSING => State::Closing,
            _ => return None,
        };
        if clock.ticks_since(self.last) > idle_ticks(self.protocol, state, cfg) {
            return None;
        }
        let ([client, original], [server, client_there]) = (self.forward, self.reverse);
        Some(Flow {
            protocol: self.protocol,
            client,
            original,
            server,
            port_at_server: client_there.port(),
            state,
            direct: self.marks & codes::MARK_DIRECT != 0,
            picked_up: self.marks & codes::MARK_PICKED_UP != 0,
            rule: rule_number(self.rule),
            rules_generation: self.rules_generation,
            age: clock.since(self.first),
            idle: clock.since(self.last),
            packets: self.packets,
            bytes: self.bytes,
            name: None,
        })
    }
}

/// Puts flows into the order they are shown in: by client, protocol and what was asked for.
pub fn sort(flows: &mut [Flow]) {
    flows.sort_by_key(|flow| (flow.client.ip(), flow.protocol, flow.original, flow.client.port()));
}

/// Number of a rule as people count; `None` for RULE_NONE.
pub(super) fn rule_number(index: u16) -> Option<u32> {
    (index != RULE_NONE).then(|| u32::from(index).saturating_add(1))
}

/// As `idle_time()` in ebpf-src/flow.h.
fn idle_ticks(protocol: u8, state: State, cfg: &Cfg) -> u32 {
    match protocol {
        TCP if state == State::Confirmed => cfg.tcp_established,
        TCP => cfg.tcp_transitory,
        UDP => cfg.udp,
        ICMP | ICMPV6 => cfg.icmp,
        _ => cfg.generic,
    }
}

/// Whether the protocol has ports.
pub fn has_ports(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP | SCTP)
}

#[cfg(test)]
mod tests {
    use super::super::abi::{Key4, Key6};
    use super::*;

    const CFG: Cfg = Cfg { hz: 1, tcp_established: 100, tcp_transitory: 20, udp: 30, icmp: 10, ..DEFAULT };
    const DEFAULT: Cfg = Cfg {
        schema: 1,
        flags: 0,
        l2_len: 14,
        hz: 0,
        tick_shift: 0,
        cpus: 1,
        half_slots4: 1,
        confirmed_slots4: 1,
        half_slots6: 1,
        confirmed_slots6: 1,
        asked_rows: 1,
        tcp_established: 0,
        tcp_transitory: 0,
        udp: 0,
        icmp: 0,
        port_first: 0,
        port_count: 0,
        ip_frag: 0,
        generic: 0,
        client_new: 0,
        client_live: 0,
    };

    fn slot(proto: u8, state: u8, last: u32) -> Flow4 {
        let [client, original, server] =
            [[10, 0, 0, 1], [1, 2, 3, 4], [10, 0, 0, 254]].map(|a| Be32(u32::from_be_bytes(a)));
        let fwd = Key4 { src: client, dst: original, sport: Be16(5000), dport: Be16(80), proto, dir: 0 };
        let rev = Key4 { src: server, dst: client, sport: Be16(8080), dport: Be16(61000), proto, dir: 1 };
        let (packets, bytes) = ([3, 2], [300, 200]);
        Flow4 {
            fwd,
            rev,
            state,
            rule: 2,
            rules_generation: 7,
            first: 5,
            last,
            packets,
            bytes,
            ..Flow4::default()
        }
    }

    #[test]
    fn reads_a_slot() {
        // 2^32 - 300 + 350 seconds, so now is tick 50.
        let clock = Clock::new(&CFG, Duration::from_secs(350));
        let mut bytes = slot(TCP, codes::FLOW_CONFIRMED, 45).to_bytes();
        bytes[41] = codes::MARK_PICKED_UP;
        assert_eq!(bytes.len(), 96);
        assert_eq!(bytes[8..24], [10, 0, 0, 1, 1, 2, 3, 4, 0x13, 0x88, 0, 80, 6, 0, 0, 0], "network order");
        let flow = flow(&bytes, &CFG, &clock).unwrap();
        let expect = Flow {
            protocol: 6,
            client: "10.0.0.1:5000".parse().unwrap(),
            original: "1.2.3.4:80".parse().unwrap(),
            server: "10.0.0.254:8080".parse().unwrap(),
            port_at_server: 61000,
            state: State::Confirmed,
            direct: false,
            picked_up: true,
            rule: Some(3),
            rules_generation: 7,
            age: Duration::from_secs(45),
            idle: Duration::from_secs(5),
            packets: [3, 2],
            bytes: [300, 200],
            name: None,
        };
        assert_eq!(flow, expect);
    }

    #[test]
    fn reads_a_slot_of_ipv6() {
        let [client, original, server] =
            ["fd00::1", "2001:db8::2", "fd00::fe"].map(|a| a.parse::<std::net::Ipv6Addr>().unwrap().octets());
        let proto = ICMPV6;
        let fwd = Key6 { src: client, dst: original, sport: Be16(7), dport: Be16(0), proto, dir: 0 };
        let rev = Key6 { src: server, dst: client, sport: Be16(0), dport: Be16(9), proto, dir: 1 };
        let slot = Flow6 { fwd, rev, state: codes::FLOW_ANSWERED, last: 1, ..Flow6::default() };
        let flow = flow(&slot.to_bytes(), &CFG, &Clock::new(&CFG, Duration::from_secs(301))).unwrap();
        assert_eq!(
            (flow.client, flow.original),
            ("[fd00::1]:7".parse().unwrap(), "[2001:db8::2]:0".parse().unwrap())
        );
        assert_eq!((flow.server, flow.port_at_server), ("[fd00::fe]:0".parse().unwrap(), 9));
        assert!(!has_ports(flow.protocol));
    }

    #[test]
    fn leaves_out_what_is_free_or_expired() {
        let at = |now: u64| Clock::new(&CFG, Duration::from_secs(300 + now));
        let alive = |slot: Flow4, now| flow(&slot.to_bytes(), &CFG, &at(now)).is_some();
        for (proto, state, idle) in [
            (TCP, codes::FLOW_OPENING, 20),
            (TCP, codes::FLOW_ANSWERED, 20),
            (TCP, codes::FLOW_CONFIRMED, 100),
            (TCP, codes::FLOW_CLOSING, 20),
            (UDP, codes::FLOW_CONFIRMED, 30),
            (UDP, codes::FLOW_OPENING, 30),
            (ICMP, codes::FLOW_OPENING, 10),
        ] {
            assert!(alive(slot(proto, state, 50), 50 + idle), "{proto} {state}");
            assert!(!alive(slot(proto, state, 50), 51 + idle), "{proto} {state}");
        }
        for state in [codes::FLOW_FREE, codes::FLOW_MOVED, codes::FLOW_TAKEN, codes::FLOW_ENDING, 200] {
            assert!(!alive(slot(TCP, state, 50), 50));
        }
        assert_eq!(flow(&[0; 95], &CFG, &at(1)), None);
    }
}
