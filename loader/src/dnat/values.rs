// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A word -> the value it stands for: an address, a prefix, a range, a port, a protocol, a target.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::diagnostic::Reason;
use super::rules::{number, Family, Field, PROTOCOLS};
use super::scan::{Fault, Word};
use super::set::Interval;

/// One element of a set of values of `field`.
pub(super) fn element(word: Word, field: Field, expected: &'static str) -> Result<Interval, Fault> {
    if matches!(word.text, "{" | "}" | "," | "!=") {
        return Err(word.expected(expected));
    }
    if let Some(operator) = operator(word.text) {
        let reason = Reason::Operator(operator.to_owned());
        return Err(Fault { first: word.first, len: operator.len(), reason });
    }
    let value = |text: &str| match field {
        Field::Address(family, _) => address(text, family).map(number),
        Field::Port(..) => decimal(text, "port", field.highest()),
        Field::Protocol => match PROTOCOLS.iter().find(|(_, name)| *name == text) {
            Some((number, _)) => Ok(u128::from(*number)),
            None if text.starts_with(|c: char| c.is_ascii_digit()) => {
                decimal(text, "protocol", field.highest())
            }
            None => Err(Reason::Protocol(text.to_owned())),
        },
    };
    // `ipv6-icmp` holds a dash and is no range.
    let whole = value(word.text);
    let interval = match (field, word.text.split_once('/'), word.text.split_once('-')) {
        (Field::Address(family, _), Some((net, length)), _) => {
            address(net, family).and_then(|net| prefix(number(net), length, family))
        }
        (_, _, Some((first, last))) if whole.is_err() => {
            value(first).and_then(|first| Ok(Interval { first, last: value(last)? }))
        }
        _ => whole.map(Interval::one),
    };
    let interval = interval.map_err(|reason| word.fault(reason))?;
    if interval.first > interval.last {
        return Err(word.fault(Reason::Descending));
    }
    Ok(interval)
}

/// The comparison that a word is, or begins with.
fn operator(text: &str) -> Option<&str> {
    if ["eq", "ne", "lt", "gt", "le", "ge"].contains(&text) {
        return Some(text);
    }
    let signs = text.find(|c: char| !"=!<>".contains(c)).unwrap_or(text.len());
    text.get(..signs).filter(|signs| !signs.is_empty())
}

/// Where `dnat to` leads: an address of `family` (of either when `None`) and perhaps a port.
pub(super) fn target(word: Word, family: Option<Family>) -> Result<(IpAddr, Option<u16>), Fault> {
    let fail = |reason| word.fault(reason);
    let (text, port, bracketed) = match word.text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inner, "")) => (inner, None, true),
        Some((inner, after)) => (
            inner,
            Some(after.strip_prefix(':').ok_or_else(|| word.expected("a colon and a port after `]`"))?),
            true,
        ),
        // A bare IPv6 address has several colons, and its last group is no port.
        None => match word.text.split_once(':') {
            Some((address, port)) if !port.contains(':') => (address, Some(port), false),
            _ => (word.text, None, false),
        },
    };
    let v6 = bracketed || text.contains(':');
    let written = if v6 { Family::V6 } else { Family::V4 };
    if family.is_some_and(|family| family != written) {
        return Err(fail(Reason::Conflict("the target is of the other family")));
    }
    let to = address(text, written).map_err(fail)?;
    let broadcast = to == IpAddr::V4(Ipv4Addr::BROADCAST);
    if to.is_unspecified() || to.is_multicast() || broadcast {
        return Err(fail(Reason::NotUnicast));
    }
    let port = port.map(|digits| target_port(word, digits)).transpose()?;
    Ok((to, port))
}

/// A port that flows are sent to; `digits` is a part of `word`.
pub(super) fn target_port(word: Word, digits: &str) -> Result<u16, Fault> {
    let port = decimal(digits, "port", u16::MAX.into()).map_err(|reason| word.fault(reason))?;
    match u16::try_from(port) {
        Ok(port) if port != 0 => Ok(port),
        _ => Err(word.fault(Reason::PortZero)),
    }
}

/// The family that `ip` or `ip6` names.
pub(super) fn family_word(word: Word) -> Option<Family> {
    match word.text {
        "ip" => Some(Family::V4),
        "ip6" => Some(Family::V6),
        _ => None,
    }
}

fn address(text: &str, family: Family) -> Result<IpAddr, Reason> {
    let parsed = match family {
        Family::V4 => text.parse::<Ipv4Addr>().map(IpAddr::V4),
        Family::V6 => text.parse::<Ipv6Addr>().map(IpAddr::V6),
    };
    parsed.map_err(|_| Reason::Address(text.to_owned(), family))
}

/// All addresses that share their first `length` bits with `net`; further bits of `net` are ignored, as nft does.
fn prefix(net: u128, length: &str, family: Family) -> Result<Interval, Reason> {
    let refused = || Reason::PrefixLength(length.to_owned(), family);
    let bits = decimal(length, "prefix length", family.bits().into()).map_err(|_| refused())?;
    let host_bits = u128::from(family.bits()).checked_sub(bits).ok_or_else(refused)?;
    let shift = u32::try_from(host_bits).map_err(|_| refused())?;
    let host = 1u128.checked_shl(shift).map_or(u128::MAX, |power| power.wrapping_sub(1));
    Ok(Interval { first: net & !host, last: net | host })
}

/// A number in the one way to write it: decimal digits, no sign, no leading zero.
fn decimal(text: &str, what: &'static str, highest: u128) -> Result<u128, Reason> {
    let plain = !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'));
    if !plain {
        return Err(Reason::Number(text.to_owned()));
    }
    // What does not even fit a u128 is too large as well.
    match text.parse::<u128>() {
        Ok(number) if number <= highest => Ok(number),
        _ => Err(Reason::TooLarge { what, found: text.to_owned(), highest }),
    }
}
