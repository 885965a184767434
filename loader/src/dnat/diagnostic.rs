// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A reason and a place in a text -> a message that says what, where and how to mend it.

use std::borrow::Cow;
use std::fmt;

use super::rules::Family;

/// What is wrong with a rule, and where. `Display` gives the first line, `ui::excerpt` the whole with the line and a caret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Name of the source: a path, or `--rule 2`.
    pub source: String,
    /// Line, from 1.
    pub line: u32,
    /// First character of what is wrong, from 0, counted in characters of `text`.
    pub first: usize,
    /// How many characters are wrong; 0 points behind the end.
    pub len: usize,
    /// The line itself, as it was read.
    pub text: String,
    /// What is wrong.
    pub reason: Reason,
}

/// What can be wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The text is not UTF-8.
    Encoding,
    /// Something else was expected here; `found` is empty at the end of the line.
    Expected {
        /// What could stand here.
        expected: &'static str,
        /// What stands here.
        found: String,
    },
    /// A word that is no address of the family.
    Address(String, Family),
    /// A prefix length that the family does not have.
    PrefixLength(String, Family),
    /// A word that is no number.
    Number(String),
    /// A comparison other than `!=`.
    Operator(String),
    /// A number above the highest that the field takes.
    TooLarge {
        /// `port` or `protocol`.
        what: &'static str,
        /// The number as written.
        found: String,
        /// The highest.
        highest: u128,
    },
    /// A range whose end lies below its start.
    Descending,
    /// A word that is no protocol.
    Protocol(String),
    /// The conditions of a rule exclude each other, so it could never match.
    Conflict(&'static str),
    /// A target port without a protocol that has ports.
    PortWithoutProtocol,
    /// A target port for SCTP.
    SctpPort,
    /// `reject with tcp reset` for something that is not only TCP.
    ResetWithoutTcp,
    /// Port 0 as a target.
    PortZero,
    /// An address that no server can have.
    NotUnicast,
    /// A condition on the client's port where that is not recorded.
    NoClientPort,
    /// More rules than the kernel table holds.
    TooManyRules(usize),
}

impl Reason {
    /// How to mend it, where that is not said by the message.
    pub fn hint(&self) -> Option<Cow<'static, str>> {
        let hint = match self {
            Self::PortWithoutProtocol => {
                "say which protocol first: `tcp redirect to :8080`, `udp dnat to 192.0.2.1:53`"
            }
            Self::Number(found) => return number_hint(found),
            Self::Operator(found) => match found.as_str() {
                "==" | "=" | "eq" => "a value alone means equal",
                "!" | "ne" => "unequal is `!=`",
                _ => "a range has both ends, such as 0-1023",
            },
            Self::Address(found, _) if a_name(found) => "names of hosts are not looked up",
            Self::Conflict(_) => "all conditions of a rule must hold at once; make two rules of it",
            Self::ResetWithoutTcp => "`reject` alone tells clients of every protocol",
            Self::SctpPort => "make two rules of it, and leave out the port for SCTP",
            _ => return None,
        };
        Some(hint.into())
    }
}

/// What may have been meant by something that is no plain decimal number.
fn number_hint(found: &str) -> Option<Cow<'static, str>> {
    let hexadecimal = found.strip_prefix("0x").or_else(|| found.strip_prefix("0X"));
    if let Some(number) = hexadecimal.and_then(|digits| u16::from_str_radix(digits, 16).ok()) {
        Some(format!("numbers are decimal: {number}").into())
    } else if let (true, Ok(number)) = (found.starts_with('0'), octal(found)) {
        Some(format!("numbers have no leading zeros; nft reads this as {number}").into())
    } else if found.is_empty() {
        Some("a range has both ends, such as 0-1023".into())
    } else if ["accept", "drop", "reject", "redirect", "dnat", "counter"].contains(&found) {
        Some("a value is missing before it".into())
    } else if a_name(found) {
        Some("names of services are not looked up".into())
    } else {
        None
    }
}

/// Octal where it can be, as nft and C have it.
fn octal(digits: &str) -> Result<u16, std::num::ParseIntError> {
    u16::from_str_radix(digits, 8).or_else(|_| digits.parse())
}

fn a_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
}

impl std::error::Error for Diagnostic {}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let column = self.first.saturating_add(1);
        write!(f, "{}:{}:{column}: {}", self.source.escape_debug(), self.line, self.reason)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let name = |family: &Family| if *family == Family::V4 { "IPv4" } else { "IPv6" };
        match self {
            Self::Encoding => f.write_str("this is not UTF-8 text"),
            Self::Expected { expected, found } if found.is_empty() => {
                write!(f, "the rule ends here, expected {expected}")
            }
            Self::Expected { expected, found } => {
                write!(f, "expected {expected}, found `{}`", found.escape_debug())
            }
            Self::Address(found, family) => {
                write!(f, "`{}` is no {} address", found.escape_debug(), name(family))
            }
            Self::PrefixLength(found, family) => {
                let bits = family.bits();
                write!(
                    f,
                    "an {} prefix has a length of 0 to {bits}, not `{}`",
                    name(family),
                    found.escape_debug()
                )
            }
            Self::Number(found) => write!(f, "`{}` is no number", found.escape_debug()),
            Self::Operator(found) => write!(f, "`{}` is not known here", found.escape_debug()),
            Self::TooLarge { what, found, highest } => {
                write!(f, "{what} {} is above {highest}", found.escape_debug())
            }
            Self::Descending => f.write_str("this range ends below its start"),
            Self::Protocol(found) => write!(f, "`{}` is no protocol name or number", found.escape_debug()),
            Self::Conflict(what) => write!(f, "no packet can match this: {what}"),
            Self::PortWithoutProtocol => {
                f.write_str("a port can only be rewritten in a protocol that has ports")
            }
            Self::SctpPort => {
                f.write_str("the port of SCTP stays as it is: its checksum would have to be computed anew")
            }
            Self::ResetWithoutTcp => f.write_str("only TCP connections can be reset"),
            Self::PortZero => f.write_str("port 0 cannot be a target"),
            Self::NotUnicast => f.write_str("no server can have this address"),
            Self::NoClientPort => f.write_str("what was asked for is recorded without the client's port"),
            Self::TooManyRules(limit) => write!(f, "more than {limit} rules"),
        }
    }
}
