// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Conditions as rules have them -> which flows and which rows of `asked` are meant, decided in user space.
//!
//! The fields are those of the packet that opens a flow, as the rules see it: `saddr` and `sport` are the client's, `daddr`
//! and `dport` are what it asked for.

use std::net::IpAddr;

use super::asked::Asked;
use super::diagnostic::{Diagnostic, Reason};
use super::flows::Flow;
use super::parse::{parse_conditions, Source};
use super::rules::{number, Family, Field, Match, Side};

/// What is meant: everything for which all conditions hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    matches: Vec<Match>,
}

/// The fields that conditions look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    /// IPPROTO_*.
    pub protocol: u8,
    /// The client.
    pub source: IpAddr,
    /// What it asked for.
    pub destination: IpAddr,
    /// The client's port; `None` where it is not known, and then no condition on it holds.
    pub sport: Option<u16>,
    /// The port that it asked for.
    pub dport: u16,
}

impl Selection {
    /// Reads the match part of a rule; no words at all mean everything.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Selection, Box<Diagnostic>> {
        let matches = parse_conditions(&Source { name: "MATCH", text: text.as_bytes() })?;
        Ok(Selection { matches })
    }

    /// As [`Selection::parse`], for rows of `asked`: those know no client port.
    ///
    /// # Errors
    /// What is wrong with the text; a condition on a source port.
    pub fn parse_for_asked(text: &str) -> Result<Selection, Box<Diagnostic>> {
        let selection = Selection::parse(text)?;
        match text.find("sport") {
            Some(at) if selection.matches.iter().any(|m| matches!(m.field, Field::Port(_, Side::Source))) => {
                Err(Box::new(Diagnostic {
                    source: "MATCH".to_owned(),
                    line: 1,
                    first: text.get(..at).unwrap_or_default().chars().count(),
                    len: "sport".len(),
                    text: text.to_owned(),
                    reason: Reason::NoClientPort,
                }))
            }
            _ => Ok(selection),
        }
    }

    /// Whether no condition is named.
    pub fn is_everything(&self) -> bool {
        self.matches.is_empty()
    }

    /// Whether all conditions hold.
    pub fn holds(&self, tuple: &Tuple) -> bool {
        self.matches.iter().all(|condition| {
            let inside = |value: u128| condition.set.iter().any(|interval| interval.contains(value));
            tuple.value(condition.field).is_some_and(|value| inside(value) != condition.negated)
        })
    }

    /// Whether a translation is meant.
    pub fn has_flow(&self, flow: &Flow) -> bool {
        self.holds(&Tuple {
            protocol: flow.protocol,
            source: flow.client.ip(),
            destination: flow.original.ip(),
            sport: Some(flow.client.port()),
            dport: flow.original.port(),
        })
    }

    /// Whether a row of `asked` is meant.
    pub fn has_row(&self, row: &Asked) -> bool {
        self.holds(&Tuple {
            protocol: row.protocol,
            source: row.client,
            destination: row.destination,
            sport: None,
            dport: row.port,
        })
    }
}

impl Tuple {
    /// The value of a field; `None` where there is no such field, and then neither `=` nor `!=` holds, as in nft.
    fn value(&self, field: Field) -> Option<u128> {
        match field {
            Field::Address(family, side) => {
                let address = if side == Side::Source { self.source } else { self.destination };
                (Family::of(address) == family).then(|| number(address))
            }
            Field::Port(protocol, side) => {
                let port = if side == Side::Source { self.sport? } else { self.dport };
                (self.protocol == protocol).then_some(port.into())
            }
            Field::Protocol => Some(self.protocol.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(protocol: u8, source: &str, destination: &str) -> Tuple {
        let end = |text: &str| text.parse::<std::net::SocketAddr>().unwrap();
        let (source, destination) = (end(source), end(destination));
        let (sport, dport) = (Some(source.port()), destination.port());
        Tuple { protocol, source: source.ip(), destination: destination.ip(), sport, dport }
    }

    #[test]
    fn fields_are_those_of_the_first_packet() {
        let web = tuple(6, "10.0.0.9:40000", "93.184.216.34:80");
        let dns = tuple(17, "[fd00::9]:40001", "[2001:db8::53]:53");
        for (text, takes_web, takes_dns) in [
            ("", true, true),
            ("# nothing", true, true),
            ("tcp", true, false),
            ("tcp dport 80", true, false),
            ("tcp dport != 80", false, false),
            ("tcp dport { 1-79, 81 }", false, false),
            ("tcp dport 80 ip saddr 10.0.0.0/8", true, false),
            ("tcp dport 80 ip saddr 10.0.0.0/29", false, false),
            ("ip daddr != 93.184.216.0/24", false, false),
            ("ip daddr 93.184.216.30-93.184.216.40", true, false),
            ("ip saddr != 10.0.0.10", true, false),
            ("tcp sport 40000", true, false),
            ("udp sport { 40001, 9 }", false, true),
            ("udp dport 53 ip6 saddr fd00::/8", false, true),
            ("ip6 daddr != 2001:db8::/64", false, false),
            ("meta l4proto { udp, icmp }", false, true),
            ("meta l4proto != udp", true, false),
            ("icmp", false, false),
        ] {
            let selection = Selection::parse(text).unwrap_or_else(|fault| panic!("{fault}"));
            assert_eq!((selection.holds(&web), selection.holds(&dns)), (takes_web, takes_dns), "{text}");
            assert_eq!(selection.is_everything(), text.is_empty() || text.starts_with('#'));
        }
    }

    #[test]
    fn a_verdict_is_no_condition() {
        let fault = |text: &str| Selection::parse(text).unwrap_err().to_string();
        let expected = "expected a condition (ip, ip6, tcp, udp, sctp, icmp, icmpv6, meta)";
        assert_eq!(fault("tcp dport 80 drop"), format!("MATCH:1:14: {expected}, found `drop`"));
        assert_eq!(fault("counter"), format!("MATCH:1:1: {expected}, found `counter`"));
        assert_eq!(fault("tcp dport 99999"), "MATCH:1:11: port 99999 is above 65535");
        assert_eq!(fault("tcp udp"), "MATCH:1:5: no packet can match this: a packet has one protocol");
    }

    #[test]
    fn what_was_asked_for_knows_no_client_port() {
        let row = tuple(6, "10.0.0.9:1", "1.2.3.4:80");
        let row = Tuple { sport: None, ..row };
        assert!(Selection::parse_for_asked("tcp dport 80").unwrap().holds(&row));
        assert!(!Selection::parse("tcp sport 0-65535").unwrap().holds(&row));
        let fault = Selection::parse_for_asked("ip saddr 10.0.0.9 tcp sport 9").unwrap_err();
        assert_eq!((fault.first, fault.len, &fault.reason), (22, 5, &Reason::NoClientPort));
    }
}
