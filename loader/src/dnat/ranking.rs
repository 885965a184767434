// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Rows of `asked` and a choice -> the rows or sums that are wanted, in the order that is wanted. Pure.
use super::asked::Asked;
use super::rules::protocol_name;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

/// What rows are added up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Who asked.
    Client,
    /// Protocol and port, whoever had the address.
    Port,
    /// Address, whatever the port.
    Dest,
}

/// What comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// Most packets.
    #[default]
    Packets,
    /// Most bytes.
    Bytes,
    /// Newest first packet.
    First,
    /// Newest last packet.
    Last,
    /// By address and port, or by the label of a sum.
    Name,
}

/// What is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Only what was asked for within this time.
    pub since: Option<Duration>,
    /// The order.
    pub sort: Sort,
    /// At most so many.
    pub top: Option<usize>,
}

/// Rows added up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sum {
    /// An address, or `tcp/80`.
    pub label: String,
    /// How many rows.
    pub rows: u64,
    /// Their packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Since the first packet of all.
    pub first: Duration,
    /// Since the newest.
    pub last: Duration,
}

/// The rows that are wanted, and how many `top` left out.
pub fn rows(mut rows: Vec<Asked>, choice: &Choice) -> (Vec<Asked>, usize) {
    rows.retain(|row| recent(row, choice));
    let name = |row: &Asked| (row.client, row.protocol, row.destination, row.port);
    match choice.sort {
        Sort::Packets => rows.sort_by_key(|row| (Reverse(row.packets), name(row))),
        Sort::Bytes => rows.sort_by_key(|row| (Reverse(row.bytes), name(row))),
        Sort::First => rows.sort_by_key(|row| (row.first, name(row))),
        Sort::Last => rows.sort_by_key(|row| (row.last, name(row))),
        Sort::Name => rows.sort_by_key(name),
    }
    let left = cut(&mut rows, choice);
    (rows, left)
}

/// The sums that are wanted, and how many `top` left out.
pub fn sums(rows: &[Asked], by: By, choice: &Choice) -> (Vec<Sum>, usize) {
    let mut sums: BTreeMap<_, Sum> = BTreeMap::new();
    for row in rows.iter().filter(|row| recent(row, choice)) {
        let (key, label) = match by {
            By::Client => ((Some(row.client), 0, 0), row.client.to_string()),
            By::Dest => ((Some(row.destination), 0, 0), row.destination.to_string()),
            By::Port => ((None, row.protocol, row.port), service(row.protocol, row.port)),
        };
        let none = Sum { label, rows: 0, packets: 0, bytes: 0, first: row.first, last: row.last };
        let sum = sums.entry(key).or_insert(none);
        sum.rows = sum.rows.saturating_add(1);
        sum.packets = sum.packets.saturating_add(row.packets);
        sum.bytes = sum.bytes.saturating_add(row.bytes);
        sum.first = sum.first.max(row.first);
        sum.last = sum.last.min(row.last);
    }
    // By address or port so far: the sort keeps that order among equals.
    let mut sums: Vec<Sum> = sums.into_values().collect();
    match choice.sort {
        Sort::Packets => sums.sort_by_key(|sum| Reverse(sum.packets)),
        Sort::Bytes => sums.sort_by_key(|sum| Reverse(sum.bytes)),
        Sort::First => sums.sort_by_key(|sum| sum.first),
        Sort::Last => sums.sort_by_key(|sum| sum.last),
        Sort::Name => {}
    }
    let left = cut(&mut sums, choice);
    (sums, left)
}

/// `tcp/80`, `udp/53`, `icmp`.
pub fn service(protocol: u8, port: u16) -> String {
    let name = protocol_name(protocol).map_or_else(|| protocol.to_string(), str::to_owned);
    match super::flows::has_ports(protocol) {
        true => format!("{name}/{port}"),
        false => name,
    }
}

fn recent(row: &Asked, choice: &Choice) -> bool {
    choice.since.is_none_or(|since| row.last <= since)
}

fn cut<T>(rows: &mut Vec<T>, choice: &Choice) -> usize {
    let all = rows.len();
    rows.truncate(choice.top.unwrap_or(usize::MAX));
    all.saturating_sub(rows.len())
}

/// `90`, `90s`, `5m`, `2h`, `1d`: a length of time.
pub fn length_of_time(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(['s', 'm', 'h', 'd']);
    let unit = match text.get(digits.len()..)? {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => return None,
    };
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let number = digits.parse::<u64>().ok().filter(|_| plain)?;
    number.checked_mul(unit).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(client: &str, destination: &str, protocol: u8, port: u16, packets: u64, last: u64) -> Asked {
        Asked {
            client: client.parse().unwrap(),
            protocol,
            destination: destination.parse().unwrap(),
            port,
            packets,
            bytes: 1000 / packets,
            first: Duration::from_secs(last + 10),
            last: Duration::from_secs(last),
            rule: None,
            rules_generation: 1,
            outcome: "no_rule",
            served: None,
            name: None,
        }
    }

    fn asked() -> Vec<Asked> {
        vec![
            row("10.0.0.2", "192.0.2.1", 6, 80, 5, 100),
            row("10.0.0.1", "192.0.2.1", 6, 443, 2, 5),
            row("10.0.0.1", "192.0.2.9", 17, 53, 1, 50),
            row("10.0.0.1", "192.0.2.9", 1, 0, 4, 1),
        ]
    }

    #[test]
    fn rows_come_in_the_order_that_was_asked_for() {
        let order = |sort| {
            let choice = Choice { sort, ..Choice::default() };
            rows(asked(), &choice).0.iter().map(|row| row.packets).collect::<Vec<_>>()
        };
        assert_eq!(order(Sort::Packets), [5, 4, 2, 1]);
        assert_eq!(order(Sort::Bytes), [1, 2, 4, 5]);
        assert_eq!(order(Sort::Last), [4, 2, 1, 5]);
        assert_eq!(order(Sort::First), [4, 2, 1, 5]);
        assert_eq!(order(Sort::Name), [4, 2, 1, 5]);
        let choice = Choice { since: Some(Duration::from_secs(50)), top: Some(2), ..Choice::default() };
        let (few, left) = rows(asked(), &choice);
        assert_eq!((few.iter().map(|r| r.packets).collect::<Vec<_>>(), left), (vec![4, 2], 1));
    }

    #[test]
    fn rows_add_up_by_who_where_and_what() {
        let label = |by, choice: &Choice| {
            let (sums, left) = sums(&asked(), by, choice);
            (sums.into_iter().map(|s| (s.label, s.rows, s.packets)).collect::<Vec<_>>(), left)
        };
        let all = Choice::default();
        let is = |label: &str, rows, packets| (label.to_owned(), rows, packets);
        assert_eq!(label(By::Client, &all), (vec![is("10.0.0.1", 3, 7), is("10.0.0.2", 1, 5)], 0));
        assert_eq!(label(By::Dest, &all), (vec![is("192.0.2.1", 2, 7), is("192.0.2.9", 2, 5)], 0));
        let ports = [is("tcp/80", 1, 5), is("icmp", 1, 4), is("tcp/443", 1, 2)].to_vec();
        assert_eq!(label(By::Port, &Choice { top: Some(3), ..all }), (ports, 1));
        let (sums, _) = sums(&asked(), By::Client, &all);
        assert_eq!((sums[0].first.as_secs(), sums[0].last.as_secs()), (60, 1));
    }

    #[test]
    fn a_length_of_time_has_one_unit() {
        let seconds = |text| length_of_time(text).map(|time| time.as_secs());
        assert_eq!(["90", "90s", "5m", "2h", "1d"].map(seconds), [90, 90, 300, 7200, 86400].map(Some));
        assert_eq!(["", "m", "-1m", "1.5h", "5min", "1ms", "99999999999999999999d"].map(seconds), [None; 7]);
    }
}
