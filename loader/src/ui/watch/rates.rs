// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Readings one after the other -> what happened in between, by the second, and how it was before.
use super::Reading;
use crate::dnat::asked::{Asked, Key};
use crate::dnat::flows::{End, Flow};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Values that are kept of each.
const KEPT: usize = 240;

/// What identifies a flow.
type Pair = (End, u8, End);

/// One quantity over time, each value by the second.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// Oldest first.
    pub values: VecDeque<u64>,
}

impl Series {
    /// The newest.
    pub fn now(&self) -> Option<u64> {
        self.values.back().copied()
    }

    /// The greatest of those that are kept.
    pub fn peak(&self) -> u64 {
        self.values.iter().copied().max().unwrap_or(0)
    }

    fn add(&mut self, value: u64) {
        if self.values.len() >= KEPT {
            self.values.pop_front();
        }
        self.values.push_back(value);
    }
}

/// What is known of the past.
#[derive(Clone, Debug, Default)]
pub struct Rates {
    before: Option<Before>,
    /// Bytes from clients, of flows.
    pub there: Series,
    /// Bytes to clients, of flows.
    pub back: Series,
    /// Packets both ways, of flows.
    pub packets: Series,
    /// Packets that ask for something.
    pub asked: Series,
    /// Packets that a rule decided, by its number and text.
    pub rules: BTreeMap<(usize, String), Series>,
    /// Packets that were left alone or dropped, by the reason's name.
    pub reasons: BTreeMap<&'static str, Series>,
    rows: BTreeMap<Key, u64>,
    flows: BTreeMap<Pair, u64>,
}

#[derive(Clone, Debug)]
struct Before {
    at: Duration,
    rows: BTreeMap<Key, u64>,
    others: u64,
    flows: BTreeMap<Pair, ([u64; 2], [u64; 2])>,
    rules: BTreeMap<(usize, String), u64>,
    reasons: BTreeMap<&'static str, u64>,
}

impl Rates {
    /// Another reading. What was not there before is new since then; a counter that went back began anew.
    pub fn add(&mut self, reading: &Reading) {
        let now = Before::of(reading);
        if let Some(before) = self.before.take().filter(|before| before.at < now.at) {
            let by_second = |change: u64| {
                let elapsed = now.at.saturating_sub(before.at).as_millis().max(1);
                let scaled = u128::from(change).saturating_mul(1000).checked_div(elapsed).unwrap_or(0);
                u64::try_from(scaled).unwrap_or(u64::MAX)
            };
            let rows = |key: &Key, packets: u64| change(packets, before.rows.get(key).copied());
            self.rows = now.rows.iter().map(|(key, n)| (*key, by_second(rows(key, *n)))).collect();
            let asked = sum(now.rows.iter().map(|(key, n)| rows(key, *n)));
            let others = change(now.others, Some(before.others));
            self.asked.add(by_second(asked.saturating_add(others)));

            let (mut packets, mut bytes) = (0_u64, [0_u64; 2]);
            self.flows.clear();
            for (key, (its_packets, its_bytes)) in &now.flows {
                let known = before.flows.get(key);
                let of = |n: usize| {
                    let get = |list: &[u64; 2]| list.get(n).copied().unwrap_or(0);
                    let packets = change(get(its_packets), known.map(|(packets, _)| get(packets)));
                    (packets, change(get(its_bytes), known.map(|(_, bytes)| get(bytes))))
                };
                let [(there, bytes_there), (back, bytes_back)] = [of(0), of(1)];
                packets = packets.saturating_add(there).saturating_add(back);
                bytes = [bytes[0].saturating_add(bytes_there), bytes[1].saturating_add(bytes_back)];
                self.flows.insert(*key, by_second(bytes_there.saturating_add(bytes_back)));
            }
            self.packets.add(by_second(packets));
            self.there.add(by_second(bytes[0]));
            self.back.add(by_second(bytes[1]));
            follow(&mut self.rules, &now.rules, |key, n| {
                by_second(change(n, before.rules.get(key).copied()))
            });
            follow(&mut self.reasons, &now.reasons, |key, n| {
                by_second(change(n, Some(before.reasons.get(key).copied().unwrap_or(0))))
            });
        }
        self.before = Some(now);
    }

    /// Packets by the second of what this row asks for; `None` after one reading only.
    pub fn of_row(&self, row: &Asked) -> Option<u64> {
        self.rows.get(&row.key()).copied()
    }

    /// Bytes by the second of a flow, both ways.
    pub fn of_flow(&self, flow: &Flow) -> Option<u64> {
        self.flows.get(&flow_key(flow)).copied()
    }
}

/// Those that are there get another value, the others are forgotten.
fn follow<K: Ord + Clone>(
    series: &mut BTreeMap<K, Series>,
    now: &BTreeMap<K, u64>,
    value: impl Fn(&K, u64) -> u64,
) {
    series.retain(|key, _| now.contains_key(key));
    for (key, n) in now {
        series.entry(key.clone()).or_default().add(value(key, *n));
    }
}

fn change(now: u64, before: Option<u64>) -> u64 {
    now.checked_sub(before.unwrap_or(0)).unwrap_or(now)
}

fn sum(values: impl Iterator<Item = u64>) -> u64 {
    values.fold(0, u64::saturating_add)
}

fn flow_key(flow: &Flow) -> Pair {
    (flow.client, flow.protocol, flow.original)
}

impl Before {
    fn of(reading: &Reading) -> Before {
        let rules = reading.rules.rules.iter().enumerate();
        Before {
            at: reading.at,
            rows: reading.asked.iter().map(|row| (row.key(), row.packets)).collect(),
            others: sum(reading.others.iter().map(|others| others.packets)),
            flows: reading.flows.iter().map(|flow| (flow_key(flow), (flow.packets, flow.bytes))).collect(),
            rules: rules.map(|(n, rule)| ((n, rule.text.clone()), rule.packets)).collect(),
            reasons: reading.counters.iter().map(|counter| (counter.name, counter.packets)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tables::tests::{flow, reading, row};
    use super::*;
    use crate::dnat::counters::Counter;

    #[test]
    fn what_happened_in_between_by_the_second() {
        let mut rates = Rates::default();
        let at = |seconds, packets, bytes| {
            let mut reading = reading();
            reading.at = Duration::from_secs(seconds);
            reading.asked = vec![row(80, packets)];
            reading.flows = vec![flow(80, [packets, packets], [bytes, 2 * bytes])];
            reading.counters = vec![Counter { name: "no_rule", meaning: "", packets }];
            reading
        };
        rates.add(&at(10, 4, 1000));
        assert_eq!((rates.asked.now(), rates.of_row(&row(80, 4))), (None, None), "one reading says nothing");
        rates.add(&at(12, 10, 5000));
        assert_eq!((rates.asked.now(), rates.of_row(&row(80, 10))), (Some(3), Some(3)));
        assert_eq!(
            (rates.packets.now(), rates.there.now(), rates.back.now()),
            (Some(6), Some(2000), Some(4000))
        );
        assert_eq!(rates.of_flow(&flow(80, [0; 2], [0; 2])), Some(6000));
        assert_eq!(rates.reasons["no_rule"].now(), Some(3));
        // Another flow, and one of the same name that began anew.
        let mut next = at(13, 2, 500);
        next.flows.push(flow(81, [1, 0], [70, 0]));
        rates.add(&next);
        assert_eq!(
            (rates.packets.now(), rates.there.now(), rates.back.now()),
            (Some(5), Some(570), Some(1000))
        );
        assert_eq!((rates.there.peak(), rates.there.values.len()), (2000, 2));
        // Time that stands still is no reading, and nothing is kept for ever.
        rates.add(&next);
        assert_eq!(rates.there.values.len(), 2);
        for n in 0..1000 {
            rates.add(&at(100 + n, n, n));
        }
        assert_eq!((rates.there.values.len(), rates.asked.now()), (KEPT, Some(1)));
    }

    #[test]
    fn rules_that_are_gone_are_forgotten() {
        let mut rates = Rates::default();
        let mut now = reading();
        rates.add(&now);
        now.at += Duration::from_secs(1);
        now.rules.rules[0].packets += 7;
        rates.add(&now);
        assert_eq!(rates.rules.values().filter_map(Series::now).collect::<Vec<_>>(), [7, 0]);
        now.at += Duration::from_secs(1);
        now.rules.rules.truncate(1);
        rates.add(&now);
        assert_eq!(rates.rules.len(), 1);
    }
}
