// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Entries of the `asked` maps -> who asked for what, served or not.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::abi::{AskedClient, AskedKey, AskedOthers, AskedRow};
use super::clock::Clock;
use super::codes;
use super::counters::outcome;
use super::flows::rule_number;
use super::wire::{elements, Shared};

/// A destination that a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Who asked.
    pub client: IpAddr,
    /// IPPROTO_*.
    pub protocol: u8,
    /// For which address.
    pub destination: IpAddr,
    /// And port; 0 of ICMP echo.
    pub port: u16,
    /// Packets that open something or match nothing; what follows in a flow is counted there.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Since the first of them.
    pub first: Duration,
    /// Since the newest.
    pub last: Duration,
    /// Number of the rule that decided the newest, from 1, in the rules of `rules_generation`.
    pub rule: Option<u32>,
    /// Generation of the rules then.
    pub rules_generation: u32,
    /// What became of the newest: `dnat`, `accept`, `drop`, or the reason it was left alone, such as `no_rule`.
    pub outcome: &'static str,
    /// Whether anyone on this machine listens where the newest packet goes in the end; `None` where that is not known.
    pub served: Option<bool>,
    /// The name by which the client knows the destination, if that was learnt.
    pub name: Option<String>,
}

/// What a client asked for beyond the rows that it may own, or what clients asked for that there was no room for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Others {
    /// The client, or `None` for all that are not even counted by themselves.
    pub client: Option<IpAddr>,
    /// Packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Since the first and since the newest, where that is known.
    pub seen: Option<(Duration, Duration)>,
}

/// What tells rows apart: client, protocol, destination, port.
pub type Key = (IpAddr, u8, IpAddr, u16);

impl Asked {
    /// This row's.
    pub fn key(&self) -> Key {
        (self.client, self.protocol, self.destination, self.port)
    }
}

/// An entry of `asked`; `None` when the bytes are none.
pub fn asked(key: &[u8], value: &[u8], clock: &Clock) -> Option<Asked> {
    let (key, row) = (AskedKey::read(key)?, AskedRow::read(value)?);
    Some(Asked {
        client: address(key.client),
        protocol: key.proto,
        destination: address(key.dst),
        port: key.dport.0,
        packets: row.packets,
        bytes: row.bytes,
        first: clock.since(row.first),
        last: clock.since(row.last),
        rule: rule_number(row.rule),
        rules_generation: row.rules_generation,
        outcome: outcome(row.verdict, row.reason),
        served: codes::served(row.served),
        name: None,
    })
}

/// An entry of `asked_clients`; `None` when the client had no packet without a row.
pub fn others(key: &[u8], value: &[u8], clock: &Clock) -> Option<Others> {
    let (client, row) = (<[u8; 16]>::read(key)?, AskedClient::read(value)?);
    let seen = Some((clock.since(row.first), clock.since(row.last)));
    let others = Others { client: Some(address(client)), packets: row.packets, bytes: row.bytes, seen };
    (row.packets != 0).then_some(others)
}

/// The value of `asked_others`, every CPU's after the other; `None` when nothing was left out.
pub fn left_out(per_cpu: &[u8]) -> Option<Others> {
    let none = Others { client: None, packets: 0, bytes: 0, seen: None };
    let sum = elements(per_cpu).fold(none, |sum, one: AskedOthers| Others {
        packets: sum.packets.wrapping_add(one.packets),
        bytes: sum.bytes.wrapping_add(one.bytes),
        ..sum
    });
    (sum.packets != 0).then_some(sum)
}

/// Puts rows into the order they are shown in: what was asked for most first.
pub fn sort(rows: &mut [Asked]) {
    rows.sort_by_key(|row| {
        (u64::MAX.wrapping_sub(row.packets), row.client, row.protocol, row.destination, row.port)
    });
}

/// IPv4 addresses are kept as ::ffff:a.b.c.d.
fn address(octets: [u8; 16]) -> IpAddr {
    Ipv6Addr::from(octets).to_canonical()
}

#[cfg(test)]
mod tests {
    use super::super::abi::Cfg;
    use super::super::wire::Be16;
    use super::*;

    fn clock() -> Clock {
        // Tick 50.
        Clock::new(&Cfg { hz: 1, ..Cfg::default() }, Duration::from_secs(350))
    }

    fn mapped(address: &str) -> [u8; 16] {
        address.parse::<std::net::Ipv4Addr>().unwrap().to_ipv6_mapped().octets()
    }

    #[test]
    fn reads_a_row() {
        let key = AskedKey { client: mapped("10.0.0.1"), dst: mapped("8.8.8.8"), dport: Be16(53), proto: 17 };
        let value = AskedRow {
            packets: 2,
            bytes: 120,
            first: 10,
            last: 45,
            rules_generation: 3,
            rule: 0,
            verdict: codes::VERDICT_DNAT,
            reason: 0,
            served: codes::SERVED_NO,
            settled: 0,
        };
        let row = asked(&key.to_bytes(), &value.to_bytes(), &clock()).unwrap();
        assert_eq!((row.client, row.destination), ("10.0.0.1".parse().unwrap(), "8.8.8.8".parse().unwrap()));
        assert_eq!((row.protocol, row.port, row.packets, row.bytes), (17, 53, 2, 120));
        assert_eq!((row.first, row.last), (Duration::from_secs(40), Duration::from_secs(5)));
        assert_eq!((row.rule, row.rules_generation, row.outcome), (Some(1), 3, "dnat"));
        assert_eq!(row.served, Some(false));
        let unmatched = AskedRow { rule: codes::RULE_NONE, verdict: 0, reason: 14, ..value };
        let row = asked(&key.to_bytes(), &unmatched.to_bytes(), &clock()).unwrap();
        assert_eq!((row.rule, row.outcome), (None, "no_rule"));
        assert_eq!(asked(&[0; 39], &value.to_bytes(), &clock()), None);
        let v6 = AskedKey { client: [0xfd; 16], ..key };
        let row = asked(&v6.to_bytes(), &value.to_bytes(), &clock()).unwrap();
        assert_eq!(row.client, "fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn others_are_shown_when_there_are_any() {
        let none = AskedClient { rows: 5, ..AskedClient::default() };
        assert_eq!(others(&mapped("10.0.0.1"), &none.to_bytes(), &clock()), None);
        let some = AskedClient { rows: 5, packets: 7, bytes: 700, first: 20, last: 49, known: 0 };
        let seen = Some((Duration::from_secs(30), Duration::from_secs(1)));
        let client = Some("10.0.0.1".parse().unwrap());
        let expect = Others { client, packets: 7, bytes: 700, seen };
        assert_eq!(others(&mapped("10.0.0.1"), &some.to_bytes(), &clock()), Some(expect));
        let cpus = [AskedOthers { packets: 1, bytes: 60 }, AskedOthers { packets: 2, bytes: 90 }];
        let cpus: Vec<u8> = cpus.iter().flat_map(Shared::to_bytes).collect();
        let left = left_out(&cpus).unwrap();
        assert_eq!((left.client, left.packets, left.bytes), (None, 3, 150));
        assert_eq!(left_out(&[0; 32]), None);
    }

    #[test]
    fn the_most_asked_comes_first() {
        let row = |packets, port| {
            let key =
                AskedKey { client: mapped("10.0.0.1"), dst: mapped("8.8.8.8"), dport: Be16(port), proto: 6 };
            let value = AskedRow { packets, ..AskedRow::default() };
            asked(&key.to_bytes(), &value.to_bytes(), &clock()).unwrap()
        };
        let mut rows = vec![row(1, 9), row(5, 2), row(1, 3)];
        sort(&mut rows);
        assert_eq!(rows.iter().map(|r| r.port).collect::<Vec<_>>(), [2, 3, 9]);
    }
}
