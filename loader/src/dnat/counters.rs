// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Per-CPU values -> sums with names: why packets were left alone or dropped.

use super::codes::{self, REASONS};
use super::wire::elements;

/// How many packets were left alone or dropped for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    /// Name for machines, such as `not_ip`.
    pub name: &'static str,
    /// Meaning for people.
    pub meaning: &'static str,
    /// Packets, all CPUs together.
    pub packets: u64,
}

/// The counters that are not 0, in the order of `enum reason`; `value(i)` is `reasons[i]`, every CPU's after the other.
pub fn counters(mut value: impl FnMut(u32) -> Vec<u8>) -> Vec<Counter> {
    let named = (0_u32..).zip(REASONS).skip(1);
    let counted =
        named.map(|(number, (name, meaning))| Counter { name, meaning, packets: sum(&value(number)) });
    counted.filter(|counter| counter.packets != 0).collect()
}

/// The sum of the 64-bit counters of all CPUs.
pub fn sum(per_cpu: &[u8]) -> u64 {
    elements::<u64>(per_cpu).fold(0, u64::wrapping_add)
}

/// What became of a packet that opened something: nft's verdict, or the reason it had none.
pub fn outcome(verdict: u8, reason: u8) -> &'static str {
    match (codes::verdict(verdict), codes::reason(reason)) {
        (Some(word), _) if verdict != codes::VERDICT_NONE => word,
        (_, Some((name, _))) => name,
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_over_cpus_and_leaves_out_zeros() {
        let value = |number| match number {
            2 => [1_u64, 2, u64::MAX].iter().flat_map(|n| n.to_ne_bytes()).collect(),
            14 => 7_u64.to_ne_bytes().to_vec(),
            _ => vec![0; 16],
        };
        let named: Vec<_> = counters(value).into_iter().map(|c| (c.name, c.packets)).collect();
        assert_eq!(named, [("extension", 2), ("no_rule", 7)]);
    }

    #[test]
    fn an_outcome_has_one_word() {
        assert_eq!(outcome(codes::VERDICT_DNAT, 0), "dnat");
        assert_eq!(outcome(codes::VERDICT_NONE, 14), "no_rule");
        assert_eq!(outcome(codes::VERDICT_NONE, 10), "own");
        assert_eq!(outcome(9, 200), "unknown");
    }
}
