// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A record of the ring buffer -> an event: a flow that came, was confirmed or closed, a refusal, a packet.
use super::abi::{EventRecord, EVENT_PACKET};
use super::clock::Clock;
use super::codes;
use super::counters::outcome;
use super::datagram;
use super::dns::{self, Answer};
use super::flows::{rule_number, End};
use super::wire::Shared;
use std::net::Ipv6Addr;
use std::time::Duration;

/// What happened. Names are those of the JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A flow was opened.
    New,
    /// Its client heard the server.
    Confirmed,
    /// A confirmed one was closed by both sides, or reset.
    Closed,
    /// No flow could be opened, or a packet not rewritten.
    Refused,
    /// A rule drops or rejects.
    Denied,
    /// No confirmed slot is free.
    Full,
    /// Something was asked for that nobody had asked for before, and no rule translates it.
    Asked,
    /// A packet.
    Packet,
    /// A DNS answer.
    Dns,
}

/// Kind, number in the ring buffer, name.
pub const KINDS: [(What, u32, &str); 9] = [
    (What::New, codes::EVENT_FLOW_NEW, "new"),
    (What::Confirmed, codes::EVENT_FLOW_CONFIRMED, "confirmed"),
    (What::Closed, codes::EVENT_FLOW_CLOSED, "closed"),
    (What::Refused, codes::EVENT_REFUSED, "refused"),
    (What::Denied, codes::EVENT_DENIED, "denied"),
    (What::Full, codes::EVENT_FULL, "full"),
    (What::Asked, codes::EVENT_ASKED, "asked"),
    (What::Packet, codes::EVENT_PACKET, "packet"),
    (What::Dns, codes::EVENT_DNS, "dns"),
];

impl What {
    /// Its name.
    pub fn name(self) -> &'static str {
        KINDS.iter().find(|(what, ..)| *what == self).map_or("?", |(_, _, name)| name)
    }

    /// Its bit in what a reader wants.
    pub fn bit(self) -> u32 {
        let number = KINDS.iter().find(|(what, ..)| *what == self).map_or(0, |(_, number, _)| *number);
        1_u32.checked_shl(number).unwrap_or(0)
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub what: What,
    /// How long ago, to the precision of a tick.
    pub ago: Duration,
    /// IPPROTO_*.
    pub protocol: u8,
    /// Who asked.
    pub client: End,
    /// For what.
    pub destination: End,
    /// Who answers.
    pub server: End,
    /// The client's port as the server sees it.
    pub port_at_server: u16,
    /// Number of the rule, from 1, in the rules of `rules_generation`.
    pub rule: Option<u32>,
    /// Generation of the rules then.
    pub rules_generation: u32,
    /// Why, such as `drop` or `no_rule`.
    pub reason: &'static str,
    /// Of what opens a flow or has none: what became of it, as `asked` has it.
    pub outcome: Option<&'static str>,
    /// Of what opens a flow or has none: whether anyone on this machine listens where it goes.
    pub served: Option<bool>,
    /// From the client, and to it.
    pub packets: [u64; 2],
    /// Likewise.
    pub bytes: [u64; 2],
    /// Of packets: the frame.
    pub frame: Option<Frame>,
    /// The name by which the client knows the destination, if that was learnt.
    pub name: Option<String>,
    /// Of DNS answers: what it says.
    pub answer: Option<Answer>,
}

/// A packet as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// CLOCK_MONOTONIC.
    pub time: Duration,
    /// Bytes of the whole packet.
    pub length: u32,
    /// `enum packet_stage`.
    pub stage: u8,
    /// The first bytes of it.
    pub bytes: Vec<u8>,
}

impl Frame {
    /// Whether it came in, translated or not yet.
    pub fn arrived(&self) -> bool {
        ![codes::STAGE_OUT, codes::STAGE_OUT_DONE].contains(&self.stage)
    }

    /// Whether it belongs to no flow: it was denied, or passed as it came.
    pub fn is_alone(&self) -> bool {
        [codes::STAGE_DENIED, codes::STAGE_PASSED].contains(&self.stage)
    }
}

/// Reads a record; `None` for what is none, or of a later version. Frames have `link` bytes before the IP header.
pub fn event(record: &[u8], clock: &Clock, link: u32) -> Option<Event> {
    let e = EventRecord::read(record)?;
    let (what, ..) = KINDS.iter().find(|(_, number, _)| *number == e.kind)?;
    let end = |octets: [u8; 16], port: u16| End::new(Ipv6Addr::from(octets).to_canonical(), port);
    let is_packet = matches!(what, What::Packet | What::Dns);
    let frame = if is_packet { Some(frame(record)?) } else { None };
    let link = usize::try_from(link).ok()?;
    let alone = match what {
        What::New | What::Refused | What::Denied | What::Asked => true,
        _ => frame.as_ref().is_some_and(Frame::is_alone),
    };
    let payload =
        frame.as_ref().filter(|_| *what == What::Dns).and_then(|f| datagram::payload(&f.bytes, link));
    Some(Event {
        what: *what,
        ago: clock.since(e.tick),
        protocol: e.proto,
        client: end(e.client, e.client_port.0),
        destination: end(e.dst, e.dst_port.0),
        server: end(e.server, e.server_port.0),
        port_at_server: e.server_client_port.0,
        rule: rule_number(e.rule),
        rules_generation: e.rules_generation,
        reason: codes::reason(e.reason).map_or("unknown", |(name, _)| name),
        outcome: alone.then(|| outcome(e.verdict, e.reason)),
        served: codes::served(e.served),
        packets: e.packets,
        bytes: e.bytes,
        name: None,
        answer: payload.and_then(dns::answer),
        frame,
    })
}

fn frame(record: &[u8]) -> Option<Frame> {
    let number = |name| u32::read(EVENT_PACKET.part(record, name));
    let kept = usize::try_from(number("kept")?).ok()?;
    Some(Frame {
        time: Duration::from_nanos(u64::read(EVENT_PACKET.part(record, "time"))?),
        length: number("length")?,
        stage: u8::read(EVENT_PACKET.part(record, "stage"))?,
        bytes: EVENT_PACKET.part(record, "data").get(..kept)?.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::abi::Cfg;
    use super::super::wire::Be16;
    use super::*;

    fn clock() -> Clock {
        Clock::new(&Cfg { hz: 1, ..Cfg::default() }, Duration::from_secs(350)) // tick 50
    }

    #[test]
    fn a_record_is_read_or_refused() {
        let mapped = |address: &str| address.parse::<std::net::Ipv4Addr>().unwrap().to_ipv6_mapped().octets();
        let record = EventRecord {
            kind: codes::EVENT_DENIED,
            tick: 45,
            client: mapped("10.0.0.1"),
            dst: mapped("192.0.2.1"),
            client_port: Be16(4000),
            dst_port: Be16(25),
            rule: 2,
            proto: 6,
            reason: 19,
            ..EventRecord::default()
        };
        let read = event(&record.to_bytes(), &clock(), 14).unwrap();
        assert_eq!(
            (read.what.name(), read.ago.as_secs(), read.rule, read.reason),
            ("denied", 5, Some(3), "drop")
        );
        assert_eq!(read.client, "10.0.0.1:4000".parse().unwrap());
        assert_eq!(event(&record.to_bytes()[..111], &clock(), 14), None);
        assert_eq!(event(&EventRecord { kind: 99, ..record }.to_bytes(), &clock(), 14), None);
        // A packet needs all of its record, and no more of it than is there.
        let mut packet = EventRecord { kind: codes::EVENT_PACKET, ..record }.to_bytes();
        assert_eq!(event(&packet, &clock(), 14), None);
        packet.resize(EVENT_PACKET.size, 7);
        EVENT_PACKET.part_mut(&mut packet, "kept").copy_from_slice(&1537_u32.to_ne_bytes());
        assert_eq!(event(&packet, &clock(), 14), None);
        EVENT_PACKET.part_mut(&mut packet, "kept").copy_from_slice(&60_u32.to_ne_bytes());
        assert_eq!(event(&packet, &clock(), 14).unwrap().frame.unwrap().bytes, [7; 60]);
    }
}
