// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Text -> rules: a subset of nft's rule syntax, one rule a line, errors with line, column and reason.
//!
//! ```text
//! rule    = { match } verdict [ "#" text ]
//! match   = ("ip" | "ip6") ("saddr" | "daddr") ["!="] set-of (address | prefix | address "-" address)
//!         | ("tcp" | "udp" | "sctp") ("sport" | "dport") ["!="] set-of (port | port "-" port)
//!         | "meta" "l4proto" ["!="] set-of (name | number | number "-" number)
//!         | "tcp" | "udp" | "sctp" | "icmp" | "icmpv6"           short for meta l4proto
//! verdict = "dnat" ["ip" | "ip6"] "to" address [":" port] ["masquerade"]
//!         | "redirect" ["to" ":" port] | "accept" | "drop" | "reject" ["with" refusal]
//! refusal = "tcp" "reset" | ("icmp" | "icmpv6" | "icmpx") ["type"] name of an ICMP code
//! set-of x = x | "{" x { "," x } "}"
//! ```
//! Except for the bare protocol words and `masquerade` every such line is nft's too; rules print in a form without the former.

use super::diagnostic::{Diagnostic, Reason};
use super::reject::{self, Reject};
use super::rules::{self, Field, Match, Place, Rule, Side, Verdict, ICMP, ICMPV6, SCTP, TCP, UDP};
use super::scan::{Fault, Word, Words};
use super::set::{intersection, Interval};
use super::values;

/// A text of rules and what it is called in messages.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// A path, or `--rule 2`.
    pub name: &'a str,
    /// The text as read.
    pub text: &'a [u8],
}

/// The rules of all sources in order, first match wins.
///
/// # Errors
/// What is wrong, at most one a line and [`MOST_MESSAGES`] in all.
pub fn parse(sources: &[Source]) -> Result<Vec<Rule>, Vec<Diagnostic>> {
    let (mut rules, mut wrong) = (Vec::new(), Vec::new());
    for (source, Source { name, text }) in sources.iter().enumerate() {
        for (line, bytes) in (1..).zip(text.split(|&byte| byte == b'\n')) {
            let place = Place { source, line };
            match rule(bytes, place) {
                Ok(Some(_)) if rules.len() >= MOST_RULES => {
                    let fault = Fault { first: 0, len: 0, reason: Reason::TooManyRules(MOST_RULES) };
                    wrong.push(fault.at(name, line, bytes));
                    return Err(wrong);
                }
                Ok(rule) => rules.extend(rule),
                Err(fault) => wrong.push(fault.at(name, line, bytes)),
            }
            if wrong.len() >= MOST_MESSAGES {
                return Err(wrong);
            }
        }
    }
    if wrong.is_empty() {
        Ok(rules)
    } else {
        Err(wrong)
    }
}

/// The rule of a line, if there is one on it.
fn rule(bytes: &[u8], place: Place) -> Result<Option<Rule>, Fault> {
    let line = std::str::from_utf8(bytes).map_err(|error| Fault::encoding(bytes, &error))?;
    let mut words = Words::of(line);
    if words.peek().is_none() {
        return Ok(None);
    }
    let mut matches = Vec::new();
    loop {
        let word = words.next(START)?;
        let Some(condition) = condition(&mut words, word)? else {
            // Every rule is counted here; the word is taken so that a line can be copied from nft.
            if word.text == "counter" {
                continue;
            }
            let verdict = verdict(&mut words, word, &matches)?;
            words.end()?;
            if verdict == Verdict::Reject(Reject::RESET)
                && rules::protocols(&matches) == rules::protocols(&[])
            {
                matches.push(only(TCP));
            }
            return Ok(Some(Rule { matches: needed(matches), verdict, place }));
        };
        add(&mut matches, condition).map_err(|reason| words.since(word, reason))?;
    }
}

/// The conditions of a rule without a verdict: what `flows`, `asked` and `flush` choose by. None means everything.
///
/// # Errors
/// What is wrong with them first.
pub fn parse_conditions(source: &Source) -> Result<Vec<Match>, Box<Diagnostic>> {
    conditions(source.text).map_err(|fault| Box::new(fault.at(source.name, 1, source.text)))
}

fn conditions(bytes: &[u8]) -> Result<Vec<Match>, Fault> {
    let line = std::str::from_utf8(bytes).map_err(|error| Fault::encoding(bytes, &error))?;
    let (mut words, mut matches) = (Words::of(line), Vec::new());
    while words.peek().is_some() {
        let word = words.next(CONDITION)?;
        let condition = condition(&mut words, word)?.ok_or_else(|| word.expected(CONDITION))?;
        add(&mut matches, condition).map_err(|reason| words.since(word, reason))?;
    }
    Ok(needed(matches))
}

/// The condition that starts with `word`, if that starts one.
fn condition(words: &mut Words, word: Word) -> Result<Option<Match>, Fault> {
    Ok(Some(match word.text {
        "ip" => address(words, rules::Family::V4)?,
        "ip6" => address(words, rules::Family::V6)?,
        "tcp" => port(words, TCP)?,
        "udp" => port(words, UDP)?,
        "sctp" => port(words, SCTP)?,
        "icmp" => only(ICMP),
        "icmpv6" => only(ICMPV6),
        "meta" => protocol(words)?,
        _ => return Ok(None),
    }))
}

/// One more condition, unless it contradicts those before.
fn add(matches: &mut Vec<Match>, condition: Match) -> Result<(), Reason> {
    matches.push(condition);
    conflict(matches).map_or(Ok(()), |conflict| Err(Reason::Conflict(conflict)))
}

/// What a condition on a port implies need not be said twice, and nft would refuse some of it.
fn needed(mut matches: Vec<Match>) -> Vec<Match> {
    if matches.iter().any(|m| matches!(m.field, Field::Port(..))) {
        matches.retain(|m| m.field != Field::Protocol);
    }
    matches
}

/// Why no packet can fulfil all of `matches`, the last of which is new.
fn conflict(matches: &[Match]) -> Option<&'static str> {
    let last = matches.last()?;
    if matches
        .iter()
        .any(|m| matches!((m.field, last.field), (Field::Address(a, _), Field::Address(b, _)) if a != b))
    {
        Some("a packet is either IPv4 or IPv6")
    } else if rules::protocols(matches).is_empty() {
        Some("a packet has one protocol")
    } else if rules::values(matches, last.field).is_empty() {
        Some("nothing is left of the values of this field")
    } else {
        None
    }
}

/// After `ip` or `ip6`.
fn address(words: &mut Words, family: rules::Family) -> Result<Match, Fault> {
    let word = words.next("saddr or daddr")?;
    let side = match word.text {
        "saddr" => Side::Source,
        "daddr" => Side::Destination,
        _ => return Err(word.expected("saddr or daddr")),
    };
    set(words, Field::Address(family, side), "an address, a prefix, a range or a set in braces")
}

/// After `tcp`, `udp` or `sctp`: a port, or nothing more.
fn port(words: &mut Words, protocol: u8) -> Result<Match, Fault> {
    let side = match words.peek().map(|word| word.text) {
        Some("sport") => Side::Source,
        Some("dport") => Side::Destination,
        _ => return Ok(only(protocol)),
    };
    words.skip();
    set(words, Field::Port(protocol, side), "a port, a range or a set in braces")
}

/// After `meta`.
fn protocol(words: &mut Words) -> Result<Match, Fault> {
    let word = words.next("l4proto")?;
    if word.text != "l4proto" {
        return Err(word.expected("l4proto"));
    }
    set(words, Field::Protocol, "a protocol, a range or a set in braces")
}

/// `meta l4proto` with one protocol.
fn only(protocol: u8) -> Match {
    Match { field: Field::Protocol, negated: false, set: vec![Interval::one(protocol.into())] }
}

/// After the name of a field: `[!=]` and one element, or several in braces.
fn set(words: &mut Words, field: Field, expected: &'static str) -> Result<Match, Fault> {
    let negated = words.peek().is_some_and(|word| word.text == "!=");
    if negated {
        words.skip();
    }
    let word = words.next(expected)?;
    if word.text != "{" {
        return Ok(Match { field, negated, set: vec![values::element(word, field, expected)?] });
    }
    let mut set = Vec::new();
    loop {
        set.push(values::element(words.next(expected)?, field, expected)?);
        let word = words.next("`,` or `}`")?;
        match word.text {
            "," => {}
            "}" => return Ok(Match { field, negated, set }),
            _ => return Err(word.expected("`,` or `}`")),
        }
    }
}

/// The verdict that starts with `word`.
fn verdict(words: &mut Words, word: Word, matches: &[Match]) -> Result<Verdict, Fault> {
    let verdict = match word.text {
        "accept" => Verdict::Accept,
        "drop" => Verdict::Drop,
        "reject" => Verdict::Reject(reject(words, matches)?),
        "redirect" => Verdict::Redirect { port: redirect_port(words)? },
        "dnat" => dnat(words, rules::family(matches))?,
        _ => return Err(word.expected(START)),
    };
    let fault = |reason| Err(words.since(word, reason));
    let rewrites_port =
        matches!(verdict, Verdict::Dnat { port: Some(_), .. } | Verdict::Redirect { port: Some(_) });
    let with_ports = [TCP, UDP, SCTP].map(|number| Interval::one(number.into()));
    let allowed = rules::protocols(matches);
    if rewrites_port && intersection(&allowed, &with_ports) != allowed {
        return fault(Reason::PortWithoutProtocol);
    }
    if rewrites_port && allowed.iter().any(|interval| interval.contains(SCTP.into())) {
        return fault(Reason::SctpPort);
    }
    Ok(verdict)
}

/// After `redirect`: `to :PORT`, or nothing more.
fn redirect_port(words: &mut Words) -> Result<Option<u16>, Fault> {
    if words.peek().is_none_or(|word| word.text != "to") {
        return Ok(None);
    }
    words.skip();
    let word = words.next("a colon and a port, such as :8080")?;
    let digits =
        word.text.strip_prefix(':').ok_or_else(|| word.expected("a colon and a port, such as :8080"))?;
    values::target_port(word, digits).map(Some)
}

/// After `reject`: `with` and what the client is told, or nothing more.
fn reject(words: &mut Words, matches: &[Match]) -> Result<Reject, Fault> {
    if words.peek().is_none_or(|word| word.text != "with") {
        return Ok(Reject::PORT);
    }
    words.skip();
    let with = words.next(REFUSAL)?;
    if !reject::is_with(with.text) {
        return Err(with.expected(REFUSAL));
    }
    if words.peek().is_some_and(|word| word.text == "type" && with.text != "tcp") {
        words.skip();
    }
    let name = words.next(REFUSAL)?;
    let reject = Reject::named(with.text, name.text).ok_or_else(|| name.expected(REFUSAL))?;
    if rules::family(matches).is_some_and(|family| !reject.serves(family)) {
        return Err(words.since(with, Reason::Conflict("this refusal is of the other family")));
    }
    let allowed = rules::protocols(matches);
    let only_tcp = [Interval::one(TCP.into())];
    if reject == Reject::RESET && allowed != only_tcp && allowed != rules::protocols(&[]) {
        return Err(words.since(with, Reason::ResetWithoutTcp));
    }
    Ok(reject)
}

/// After `dnat`.
fn dnat(words: &mut Words, mut family: Option<rules::Family>) -> Result<Verdict, Fault> {
    let mut word = words.next("to")?;
    if let Some(named) = values::family_word(word) {
        if family.is_some_and(|f| f != named) {
            return Err(word.fault(Reason::Conflict("a packet is either IPv4 or IPv6")));
        }
        family = Some(named);
        word = words.next("to")?;
    }
    if word.text != "to" {
        return Err(word.expected("to"));
    }
    let (to, port) =
        values::target(words.next("an address, such as 192.0.2.1:8080 or [2001:db8::1]:8080")?, family)?;
    let masquerade = words.peek().is_some_and(|word| word.text == "masquerade");
    if masquerade {
        words.skip();
    }
    Ok(Verdict::Dnat { to, port, masquerade })
}

/// What a rule can go on with until its verdict.
const START: &str =
    "a condition (ip, ip6, tcp, udp, sctp, icmp, icmpv6, meta) or a verdict (redirect, dnat, accept, drop, reject)";
/// What a selection consists of.
const CONDITION: &str = "a condition (ip, ip6, tcp, udp, sctp, icmp, icmpv6, meta)";
/// What a client can be told.
const REFUSAL: &str =
    "`tcp reset`, or icmp, icmpv6 or icmpx and nft's name of a code, such as `icmp host-unreachable`";
/// RULES_MAX of ebpf-src/abi.h.
pub const MOST_RULES: usize = 1024;
/// A file full of mistakes is not repeated to the end.
pub const MOST_MESSAGES: usize = 20;

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
