// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Lists of intervals as sets of numbers: sorted, united, complemented and intersected.

/// The numbers from `first` to `last`, both included. Addresses are taken as host-order numbers, the way they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interval {
    /// The lowest number.
    pub first: u128,
    /// The highest number, not below `first`.
    pub last: u128,
}

impl Interval {
    /// The interval of one number.
    pub fn one(value: u128) -> Self {
        Self { first: value, last: value }
    }

    /// Whether `value` lies inside.
    pub fn contains(&self, value: u128) -> bool {
        self.first <= value && value <= self.last
    }

    /// The length of the prefix that is exactly this interval among numbers of `bits` bits, if there is one.
    pub fn prefix(&self, bits: u32) -> Option<u32> {
        let host = self.first ^ self.last;
        let aligned = self.first & host == 0 && host & host.wrapping_add(1) == 0;
        aligned.then(|| bits.saturating_sub(host.count_ones()))
    }
}

/// The same numbers as sorted intervals that neither overlap nor touch.
pub fn united(mut set: Vec<Interval>) -> Vec<Interval> {
    set.sort_unstable();
    let mut out: Vec<Interval> = Vec::with_capacity(set.len());
    for interval in set {
        match out.last_mut() {
            Some(before) if before.last.checked_add(1).is_none_or(|next| interval.first <= next) => {
                before.last = before.last.max(interval.last);
            }
            _ => out.push(interval),
        }
    }
    out
}

/// What of 0..=`highest` is not in `set`; `set` is sorted as [`united`] leaves it.
pub fn complement(set: &[Interval], highest: u128) -> Vec<Interval> {
    let mut out = Vec::with_capacity(set.len().saturating_add(1));
    let mut next = Some(0);
    for interval in set {
        if let (Some(first), Some(last)) = (next, interval.first.checked_sub(1)) {
            if first <= last {
                out.push(Interval { first, last });
            }
        }
        next = interval.last.checked_add(1);
    }
    match next {
        Some(first) if first <= highest => out.push(Interval { first, last: highest }),
        _ => {}
    }
    out
}

/// What is in both; both are sorted as [`united`] leaves them.
pub fn intersection(a: &[Interval], b: &[Interval]) -> Vec<Interval> {
    let (mut rest_a, mut rest_b, mut out) = (a, b, Vec::new());
    while let (Some((x, after_x)), Some((y, after_y))) = (rest_a.split_first(), rest_b.split_first()) {
        let both = Interval { first: x.first.max(y.first), last: x.last.min(y.last) };
        if both.first <= both.last {
            out.push(both);
        }
        if x.last < y.last {
            rest_a = after_x;
        } else {
            rest_b = after_y;
        }
    }
    out
}

/// Whether something is in both; both are sorted as [`united`] leaves them.
pub fn overlap(a: &[Interval], b: &[Interval]) -> bool {
    let (mut rest_a, mut rest_b) = (a, b);
    while let (Some((x, after_x)), Some((y, after_y))) = (rest_a.split_first(), rest_b.split_first()) {
        if x.last < y.first {
            rest_a = after_x;
        } else if y.last < x.first {
            rest_b = after_y;
        } else {
            return true;
        }
    }
    false
}

/// Whether all of `a` is in `b`; both are sorted as [`united`] leaves them, so each interval of `a` lies in one of `b`.
pub fn is_within(a: &[Interval], b: &[Interval]) -> bool {
    a.iter().all(|x| {
        let first = b.get(b.partition_point(|y| y.last < x.first));
        first.is_some_and(|y| y.first <= x.first && x.last <= y.last)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pairs: &[(u128, u128)]) -> Vec<Interval> {
        pairs.iter().map(|&(first, last)| Interval { first, last }).collect()
    }

    #[test]
    fn unites_what_overlaps_or_touches() {
        assert_eq!(united(set(&[(5, 9), (1, 4), (20, 30), (8, 12)])), set(&[(1, 12), (20, 30)]));
        assert_eq!(united(set(&[(3, u128::MAX), (7, 7)])), set(&[(3, u128::MAX)]));
        assert_eq!(united(Vec::new()), Vec::new());
    }

    #[test]
    fn complements_up_to_the_highest_number() {
        assert_eq!(complement(&set(&[(0, 3), (8, 9)]), 9), set(&[(4, 7)]));
        assert_eq!(complement(&set(&[(2, 2)]), 9), set(&[(0, 1), (3, 9)]));
        assert_eq!(complement(&[], u128::MAX), set(&[(0, u128::MAX)]));
        assert_eq!(complement(&set(&[(0, u128::MAX)]), u128::MAX), Vec::new());
    }

    #[test]
    fn agrees_with_a_bit_set_on_every_small_set() {
        let bits = |s: &[Interval]| {
            (0..6).filter(|&v| s.iter().any(|i| i.contains(v))).fold(0u32, |m, v| m | 1 << v)
        };
        let of = |mask: u32| united((0..6).filter(|v| mask >> v & 1 == 1).map(Interval::one).collect());
        for a in 0..64 {
            assert_eq!(bits(&complement(&of(a), 5)), !a & 63);
            for b in 0..64 {
                assert_eq!(bits(&intersection(&of(a), &of(b))), a & b);
                assert_eq!(overlap(&of(a), &of(b)), a & b != 0);
                assert_eq!(is_within(&of(a), &of(b)), a & !b == 0);
            }
        }
    }

    #[test]
    fn names_prefixes() {
        let net = |first, last| Interval { first, last }.prefix(32);
        assert_eq!(net(0x0a00_0000, 0x0aff_ffff), Some(8));
        assert_eq!(net(7, 7), Some(32));
        assert_eq!(net(0, 0xffff_ffff), Some(0));
        assert_eq!(net(1, 2), None);
        assert_eq!(net(4, 9), None);
        assert_eq!(Interval { first: 0, last: u128::MAX }.prefix(128), Some(0));
    }
}
