// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! nft's words for a refusal <-> what the refused client is sent, by family.

use std::fmt;

use super::codes::{REJECT_NONE, REJECT_RESET};
use super::rules::Family;

/// What a refused client is told: one of [`REJECTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Word after `with`.
    with: &'static str,
    /// nft's name of the ICMP code; `reset` of TCP.
    name: &'static str,
    /// IPv4 clients: `REJECT_RESET`, or the code of an ICMP destination unreachable + 1; `REJECT_NONE`: not for them.
    pub v4: u8,
    /// IPv6 clients, in the same way.
    pub v6: u8,
}

impl Reject {
    /// Plain `reject`, and `icmpx port-unreachable`: the port is unreachable, whatever the family.
    pub const PORT: Self = icmpx("port-unreachable", 3, 4);
    /// `tcp reset`.
    pub const RESET: Self = Self { with: "tcp", name: "reset", v4: REJECT_RESET, v6: REJECT_RESET };

    /// By the words after `with`.
    pub fn named(with: &str, name: &str) -> Option<Self> {
        REJECTS.into_iter().find(|reject| reject.with == with && reject.name == name)
    }

    /// Whether clients of this family can be told so.
    pub fn serves(&self, family: Family) -> bool {
        REJECT_NONE != if family == Family::V4 { self.v4 } else { self.v6 }
    }
}

/// Whether the word begins the name of a kind of refusal.
pub(super) fn is_with(word: &str) -> bool {
    REJECTS.iter().any(|reject| reject.with == word)
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if *self == Self::PORT {
            return f.write_str("reject");
        }
        write!(f, "reject with {} {}", self.with, self.name)
    }
}

const fn icmp(name: &'static str, code: u8) -> Reject {
    Reject { with: "icmp", name, v4: code.saturating_add(1), v6: REJECT_NONE }
}

const fn icmpv6(name: &'static str, code: u8) -> Reject {
    Reject { with: "icmpv6", name, v4: REJECT_NONE, v6: code.saturating_add(1) }
}

const fn icmpx(name: &'static str, code: u8, code6: u8) -> Reject {
    Reject { with: "icmpx", name, v4: code.saturating_add(1), v6: code6.saturating_add(1) }
}

/// Every refusal that nft has. What `icmpx` stands for in each family: `icmp_code_v4` and `icmp_code_v6` in
/// net/netfilter/nft_reject.c.
pub const REJECTS: [Reject; 18] = [
    Reject::RESET,
    icmp("net-unreachable", 0),
    icmp("host-unreachable", 1),
    icmp("prot-unreachable", 2),
    icmp("port-unreachable", 3),
    icmp("net-prohibited", 9),
    icmp("host-prohibited", 10),
    icmp("admin-prohibited", 13),
    icmpv6("no-route", 0),
    icmpv6("admin-prohibited", 1),
    icmpv6("addr-unreachable", 3),
    icmpv6("port-unreachable", 4),
    icmpv6("policy-fail", 5),
    icmpv6("reject-route", 6),
    icmpx("no-route", 0, 0),
    Reject::PORT,
    icmpx("host-unreachable", 1, 3),
    icmpx("admin-prohibited", 13, 1),
];
