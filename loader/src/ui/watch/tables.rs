// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A reading and what is chosen of it -> columns, in the order that is wanted.
use super::columns::Column;
use super::rates::{Rates, Series};
use super::spark::{spark, Glyphs};
use super::state::State;
use super::Reading;
use crate::dnat::asked::Asked;
use crate::dnat::flows::{has_ports, Flow};
use crate::dnat::ranking::{self, Choice, Sort};
use crate::ui::flows::{self, rule};
use crate::ui::text::{bytes, duration, escape, protocol};
use std::cmp::Reverse;

/// Rows of what was asked for.
pub fn asked(reading: &Reading, rates: &Rates, state: &State) -> Vec<Column> {
    let all = reading.asked.iter().filter(|row| state.rows.as_ref().is_none_or(|rows| rows.has_row(row)));
    let sort = match state.order() {
        "bytes" => Sort::Bytes,
        "first" => Sort::First,
        "last" => Sort::Last,
        "name" => Sort::Name,
        _ => Sort::Packets,
    };
    let (mut rows, _) = ranking::rows(all.cloned().collect(), &Choice { sort, ..Choice::default() });
    if state.order() == "rate" {
        rows.sort_by_key(|row| Reverse(rates.of_row(row)));
    }
    let cells = |cell: &dyn Fn(&Asked) -> String| rows.iter().map(cell).collect::<Vec<_>>().into_iter();
    let mut columns = vec![
        Column::left("CLIENT", 0, cells(&|row| row.client.to_string())),
        Column::left("PROTO", 0, cells(&|row| protocol(row.protocol))),
        Column::left("DESTINATION", 0, cells(&|row| row.destination.to_string())),
        Column::right("PORT", 0, cells(&|row| port(row))),
        Column::right("COUNT", 0, cells(&|row| row.packets.to_string())),
        Column::right("/S", 1, cells(&|row| number(rates.of_row(row)))),
        Column::right("BYTES", 6, cells(&|row| bytes(row.bytes))),
        Column::right("FIRST", 7, cells(&|row| duration(row.first))),
        Column::right("LAST", 3, cells(&|row| duration(row.last))),
        Column::left("OUTCOME", 2, cells(&|row| row.outcome.to_owned())),
        Column::left(
            "SERVED",
            5,
            cells(&|row| row.served.map_or("-", |s| if s { "yes" } else { "no" }).to_owned()),
        ),
        Column::left("RULE", 4, cells(&|row| rule(row.rule, row.rules_generation, reading.rules.generation))),
    ];
    columns.extend(names(rows.iter().map(|row| row.name.as_deref())));
    columns
}

/// Translations in force.
pub fn flows(reading: &Reading, rates: &Rates, state: &State) -> Vec<Column> {
    let mut all: Vec<&Flow> = reading.flows.iter().filter(|flow| state.flows.has_flow(flow)).collect();
    let sum = |two: [u64; 2]| two.iter().fold(0, |sum: u64, n| sum.saturating_add(*n));
    match state.order() {
        "rate" => all.sort_by_key(|flow| Reverse(rates.of_flow(flow))),
        "bytes" => all.sort_by_key(|flow| Reverse(sum(flow.bytes))),
        "packets" => all.sort_by_key(|flow| Reverse(sum(flow.packets))),
        "idle" => all.sort_by_key(|flow| flow.idle),
        "age" => all.sort_by_key(|flow| flow.age),
        // As they are read.
        _ => {}
    }
    let rows: Vec<Vec<String>> = all.iter().map(|flow| flows::row(flow, reading.rules.generation)).collect();
    let cells = |n: usize| rows.iter().map(move |row| row.get(n).cloned().unwrap_or_default());
    let rate = all.iter().map(|flow| rates.of_flow(flow).map_or("-".to_owned(), bytes));
    let mut columns = vec![
        Column::left("PROTO", 0, cells(0)),
        Column::left("CLIENT", 0, cells(1)),
        Column::left("ORIGINAL", 0, cells(2)),
        Column::left("SERVER", 1, cells(3)),
        Column::right("SEEN-AS", 8, cells(4)),
        Column::left("STATE", 3, cells(5)),
        Column::right("AGE", 6, cells(6)),
        Column::right("IDLE", 4, cells(7)),
        Column::right("/S", 0, rate),
        Column::right("PACKETS", 7, cells(8)),
        Column::right("BYTES", 5, cells(9)),
        Column::left("RULE", 6, cells(10)),
    ];
    columns.extend(names(all.iter().map(|flow| flow.name.as_deref())));
    columns
}

/// Quantities, rules and reasons over time, with a curve of so many characters.
pub fn rates(reading: &Reading, rates: &Rates, state: &State, curve: usize, glyphs: Glyphs) -> Vec<Column> {
    let fixed = [
        ("from clients, bytes", &rates.there),
        ("to clients, bytes", &rates.back),
        ("packets of flows", &rates.packets),
        ("packets that ask", &rates.asked),
    ];
    let rules = rates
        .rules
        .iter()
        .map(|((n, text), series)| (format!("rule {}: {}", n.saturating_add(1), escape(text)), series));
    let reason =
        |name: &str| reading.counters.iter().find(|counter| counter.name == name).map_or("", |c| c.meaning);
    let reasons =
        rates.reasons.iter().map(|(name, series)| (format!("not translated: {}", reason(name)), series));
    let fixed = fixed.into_iter().map(|(name, series)| (name.to_owned(), series));
    let mut all: Vec<(String, &Series)> = fixed.chain(rules).chain(reasons).collect();
    match state.order() {
        "rate" => all.sort_by_key(|(_, series)| Reverse(series.now())),
        "peak" => all.sort_by_key(|(_, series)| Reverse(series.peak())),
        _ => {}
    }
    let curves = all.iter().map(|(_, series)| spark(series.values.iter().copied(), curve, glyphs));
    vec![
        Column::left("WHAT", 0, all.iter().map(|(name, _)| name.chars().take(NAME).collect())),
        Column::right("/S", 0, all.iter().map(|(_, series)| number(series.now()))),
        Column::right("PEAK", 1, all.iter().map(|(_, series)| series.peak().to_string())),
        Column::left("TIME", 2, curves),
    ]
}

/// Characters of the name of a quantity.
pub const NAME: usize = 44;

fn names<'a>(names: impl Iterator<Item = Option<&'a str>> + Clone) -> Option<Column> {
    let any = names.clone().any(|name| name.is_some());
    let cells = names.map(|name| name.map_or("-".to_owned(), escape));
    any.then(|| Column { shrinks: true, ..Column::left("NAME", 2, cells) })
}

fn number(value: Option<u64>) -> String {
    value.map_or("-".to_owned(), |value| value.to_string())
}

fn port(row: &Asked) -> String {
    if has_ports(row.protocol) {
        row.port.to_string()
    } else {
        "-".to_owned()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::state::View;
    use super::*;
    use crate::dnat::flows::State as FlowState;
    use crate::dnat::in_force::{InForce, RuleInForce};
    use std::time::Duration;

    pub fn row(port: u16, packets: u64) -> Asked {
        Asked {
            client: "192.0.2.51".parse().unwrap(),
            protocol: 6,
            destination: "198.51.100.7".parse().unwrap(),
            port,
            packets,
            bytes: packets * 60,
            first: Duration::from_secs(100),
            last: Duration::from_secs(port.into()),
            rule: Some(1),
            rules_generation: 1,
            outcome: "dnat",
            served: Some(true),
            name: None,
        }
    }

    pub fn flow(port: u16, packets: [u64; 2], bytes: [u64; 2]) -> Flow {
        Flow {
            protocol: 6,
            client: "192.0.2.51:40000".parse().unwrap(),
            original: format!("198.51.100.7:{port}").parse().unwrap(),
            server: "192.0.2.1:8080".parse().unwrap(),
            port_at_server: 40000,
            state: FlowState::Confirmed,
            direct: false,
            picked_up: false,
            rule: Some(1),
            rules_generation: 1,
            age: Duration::from_secs(10),
            idle: Duration::from_secs(1),
            packets,
            bytes,
            name: None,
        }
    }

    pub fn reading() -> Reading {
        let rule = |text: &str| RuleInForce {
            text: text.to_owned(),
            line: 1,
            verdict: 1,
            targets: Vec::new(),
            port: 0,
            packets: 0,
            bytes: 0,
        };
        let rules = vec![rule("tcp dport 80 redirect to :8080"), rule("drop")];
        Reading {
            at: Duration::from_secs(1),
            asked: vec![row(80, 3), row(443, 9)],
            flows: vec![flow(80, [5, 4], [500, 4000]), flow(443, [9, 9], [90, 90])],
            rules: InForce { generation: 1, rules },
            ..Reading::default()
        }
    }

    fn column(columns: &[Column], head: &str) -> Vec<String> {
        columns.iter().find(|column| column.head == head).map(|c| c.cells.clone()).unwrap_or_default()
    }

    #[test]
    fn the_order_is_the_one_that_was_chosen() {
        let (mut state, rates) = (State::new(View::Asked, "").unwrap(), Rates::default());
        let mut ports = || {
            let ports = column(&asked(&reading(), &rates, &state), "PORT");
            state.key(super::super::keys::Key::Char('s'));
            ports.join(" ")
        };
        assert_eq!([(); 6].map(|()| ports()), ["443 80", "443 80", "443 80", "80 443", "80 443", "80 443"]);
        let mut state = State::new(View::Flows, "tcp dport 80").unwrap();
        assert_eq!(column(&flows(&reading(), &rates, &state), "PACKETS"), ["5/4"]);
        state.key(super::super::keys::Key::Escape);
        let mut first = || {
            let packets = column(&flows(&reading(), &rates, &state), "PACKETS");
            state.key(super::super::keys::Key::Char('s'));
            packets[0].clone()
        };
        assert_eq!([(); 4].map(|()| first()), ["5/4", "5/4", "5/4", "9/9"]);
    }

    #[test]
    fn a_name_has_a_column_where_there_is_one() {
        let (state, rates) = (State::new(View::Asked, "").unwrap(), Rates::default());
        let mut reading = reading();
        assert_eq!(column(&asked(&reading, &rates, &state), "NAME"), Vec::<String>::new());
        reading.asked[1].name = Some("evil\x1b[2J".to_owned());
        assert_eq!(column(&asked(&reading, &rates, &state), "NAME"), ["evil\\u{1b}[2J", "-"]);
        let state = State::new(View::Flows, "").unwrap();
        reading.flows[0].name = Some("www.example.org".to_owned());
        assert_eq!(column(&flows(&reading, &rates, &state), "NAME"), ["www.example.org", "-"]);
    }
}
