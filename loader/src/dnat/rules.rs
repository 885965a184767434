// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! One rule as data, and data as the canonical text that nft also reads.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::reject::Reject;
use super::set::{complement, intersection, united, Interval};

/// One rule: when all `matches` hold for the first packet of a flow, `verdict` applies. The first rule that matches wins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Conditions, all of which must hold; none means every packet.
    pub matches: Vec<Match>,
    /// What happens then.
    pub verdict: Verdict,
    /// Where the rule was read.
    pub place: Place,
}

/// Where a rule was read: an index into the sources given to the parser, and a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index of the source.
    pub source: usize,
    /// Line, from 1.
    pub line: u32,
}

/// One condition on one field of the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// The field looked at.
    pub field: Field,
    /// Whether the field must be outside of `set` instead of inside.
    pub negated: bool,
    /// Values of the field, in the order written.
    pub set: Vec<Interval>,
}

impl Match {
    /// The values of the field that fulfil this condition.
    pub fn values(&self) -> Vec<Interval> {
        let set = united(self.set.clone());
        if self.negated {
            complement(&set, self.field.highest())
        } else {
            set
        }
    }
}

/// The values of `field` that all conditions on it allow.
pub fn values(matches: &[Match], field: Field) -> Vec<Interval> {
    let all = vec![Interval { first: 0, last: field.highest() }];
    let same = matches.iter().filter(|m| m.field == field);
    same.fold(all, |left, condition| intersection(&left, &condition.values()))
}

/// The protocol numbers that all conditions allow, those on ports included.
pub fn protocols(matches: &[Match]) -> Vec<Interval> {
    matches.iter().fold(values(matches, Field::Protocol), |left, condition| match condition.field {
        Field::Port(protocol, _) => intersection(&left, &[Interval::one(protocol.into())]),
        _ => left,
    })
}

/// The family that the conditions name, if they name one.
pub fn family(matches: &[Match]) -> Option<Family> {
    matches.iter().find_map(|condition| match condition.field {
        Field::Address(family, _) => Some(family),
        _ => None,
    })
}

/// A field of a packet that rules can look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// `ip saddr`, `ip6 daddr` …: an address of one family, as a host-order number.
    Address(Family, Side),
    /// `tcp dport` …: a port of one protocol (6, 17 or 132).
    Port(u8, Side),
    /// `meta l4proto`: the protocol number. ICMP means echo requests, for nothing else of it opens a flow.
    Protocol,
}

impl Field {
    /// How many bits a value has.
    pub fn bits(self) -> u32 {
        match self {
            Self::Address(family, _) => family.bits(),
            Self::Port(..) => u16::BITS,
            Self::Protocol => u8::BITS,
        }
    }

    /// The highest value.
    pub fn highest(self) -> u128 {
        u128::MAX >> u128::BITS.saturating_sub(self.bits())
    }
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4, 32-bit addresses.
    V4,
    /// IPv6, 128-bit addresses.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// How many bits an address has.
    pub fn bits(self) -> u32 {
        match self {
            Self::V4 => Ipv4Addr::BITS,
            Self::V6 => Ipv6Addr::BITS,
        }
    }

    /// The address that a host-order number stands for; bits beyond the family's are cut off.
    pub fn address(self, number: u128) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::from_bits(number as u32)),
            Self::V6 => IpAddr::V6(Ipv6Addr::from_bits(number)),
        }
    }
}

/// The host-order number that an address stands for.
pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// Which end of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Where it comes from.
    Source,
    /// Where it goes.
    Destination,
}

/// What happens to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Rewritten to `to`, and to `port` unless the port is kept.
    Dnat {
        /// The server's address.
        to: IpAddr,
        /// The server's port.
        port: Option<u16>,
        /// Whether the source is rewritten too, so that the answer comes back here.
        masquerade: bool,
    },
    /// As `Dnat`, to the device's own address.
    Redirect {
        /// The server's port; kept when absent.
        port: Option<u16>,
    },
    /// Passed unchanged.
    Accept,
    /// Thrown away.
    Drop,
    /// Thrown away, and the client is told.
    Reject(Reject),
}

/// Protocol number and nft's name of it, for those that have one here.
pub(super) const PROTOCOLS: [(u8, &str); 5] =
    [(TCP, "tcp"), (UDP, "udp"), (SCTP, "sctp"), (ICMP, "icmp"), (ICMPV6, "ipv6-icmp")];

/// IPPROTO_ICMP.
pub const ICMP: u8 = 1;
/// IPPROTO_TCP.
pub const TCP: u8 = 6;
/// IPPROTO_UDP.
pub const UDP: u8 = 17;
/// IPPROTO_ICMPV6.
pub const ICMPV6: u8 = 58;
/// IPPROTO_SCTP.
pub const SCTP: u8 = 132;

/// nft's name of a protocol number.
pub fn protocol_name(number: u8) -> Option<&'static str> {
    PROTOCOLS.iter().find(|(n, _)| *n == number).map(|(_, name)| *name)
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for condition in &self.matches {
            write!(f, "{condition} ")?;
        }
        write!(f, "{}", self.verdict)
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} {}", self.field, if self.negated { "!= " } else { "" })?;
        match self.set.as_slice() {
            [one] => element(f, self.field, *one),
            several => {
                for (i, interval) in several.iter().enumerate() {
                    f.write_str(if i == 0 { "{ " } else { ", " })?;
                    element(f, self.field, *interval)?;
                }
                f.write_str(" }")
            }
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (header, side, letter) = match self {
            Self::Address(Family::V4, side) => ("ip", side, "addr"),
            Self::Address(Family::V6, side) => ("ip6", side, "addr"),
            Self::Port(protocol, side) => (protocol_name(*protocol).unwrap_or("th"), side, "port"),
            Self::Protocol => return f.write_str("meta l4proto"),
        };
        write!(f, "{header} {}{letter}", if *side == Side::Source { "s" } else { "d" })
    }
}

/// One element of a set: a value, a prefix, or a range.
fn element(f: &mut fmt::Formatter, field: Field, interval: Interval) -> fmt::Result {
    match field {
        Field::Address(family, _) => {
            let (first, last) = (family.address(interval.first), family.address(interval.last));
            match interval.prefix(field.bits()) {
                Some(bits) if bits == field.bits() => write!(f, "{first}"),
                Some(bits) => write!(f, "{first}/{bits}"),
                None => write!(f, "{first}-{last}"),
            }
        }
        Field::Protocol if interval.first == interval.last => {
            match u8::try_from(interval.first).ok().and_then(protocol_name) {
                Some(name) => f.write_str(name),
                None => write!(f, "{}", interval.first),
            }
        }
        _ if interval.first == interval.last => write!(f, "{}", interval.first),
        _ => write!(f, "{}-{}", interval.first, interval.last),
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Dnat { to, port, masquerade } => {
                match (to, port) {
                    (IpAddr::V6(v6), Some(port)) => write!(f, "dnat to [{v6}]:{port}"),
                    (to, Some(port)) => write!(f, "dnat to {to}:{port}"),
                    (to, None) => write!(f, "dnat to {to}"),
                }?;
                f.write_str(if *masquerade { " masquerade" } else { "" })
            }
            Self::Redirect { port: Some(port) } => write!(f, "redirect to :{port}"),
            Self::Redirect { port: None } => f.write_str("redirect"),
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Reject(reject) => reject.fmt(f),
        }
    }
}
