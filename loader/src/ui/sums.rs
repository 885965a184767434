// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Sums of what was asked for -> a table or JSON; rows and sums -> CSV (RFC 4180).
use crate::dnat::asked::Asked;
use crate::dnat::flows::has_ports;
use crate::dnat::ranking::{service, Sum};
use serde_json::{json, Value};
use std::time::Duration;

use super::chart::Bar;
use super::paper::Paper;
use super::text::{bytes, duration, protocol, rfc3339, table, Column};

/// A table of sums.
pub fn text(sums: &[Sum], paper: &Paper) -> String {
    let columns = [
        Column::Left("WHAT"),
        Column::Right("ROWS"),
        Column::Right("COUNT"),
        Column::Right("BYTES"),
        Column::Right("FIRST"),
        Column::Right("LAST"),
    ];
    let cells = |sum: &Sum| {
        vec![
            sum.label.clone(),
            sum.rows.to_string(),
            sum.packets.to_string(),
            bytes(sum.bytes),
            duration(sum.first),
            duration(sum.last),
        ]
    };
    table(&columns, &sums.iter().map(cells).collect::<Vec<_>>(), paper)
}

/// `{"schema":"detour.asked-sums/1","device":…,"now":…,"sums":[…],"left_out":…}`
pub fn json(device: &str, sums: &[Sum], left: usize, now: Duration) -> Value {
    let time = |ago: Duration| rfc3339(now.saturating_sub(ago));
    let sum = |sum: &Sum| {
        json!({"what": sum.label, "rows": sum.rows, "packets": sum.packets, "bytes": sum.bytes,
            "first_seen": time(sum.first), "last_seen": time(sum.last)})
    };
    json!({"schema": "detour.asked-sums/1", "device": device, "now": rfc3339(now),
        "sums": sums.iter().map(sum).collect::<Vec<_>>(), "left_out": left})
}

/// Rows as bars of packets.
pub fn row_bars(rows: &[Asked]) -> Vec<Bar> {
    let label =
        |row: &Asked| format!("{} -> {} {}", row.client, row.destination, service(row.protocol, row.port));
    rows.iter().map(|row| Bar { label: label(row), count: row.packets }).collect()
}

/// Sums as bars of packets.
pub fn bars(sums: &[Sum]) -> Vec<Bar> {
    sums.iter().map(|sum| Bar { label: sum.label.clone(), count: sum.packets }).collect()
}

/// Rows as CSV; times as in JSON.
pub fn rows_csv(rows: &[Asked], now: Duration) -> String {
    let head = ["client", "protocol", "destination", "port", "packets", "bytes", "first_seen", "last_seen"];
    let time = |ago: Duration| rfc3339(now.saturating_sub(ago));
    let cells = |row: &Asked| {
        let port = if has_ports(row.protocol) { row.port.to_string() } else { String::new() };
        let mut cells =
            vec![row.client.to_string(), protocol(row.protocol), row.destination.to_string(), port];
        cells.extend([row.packets.to_string(), row.bytes.to_string(), time(row.first), time(row.last)]);
        let served = row.served.map_or("", |served| if served { "yes" } else { "no" });
        let rule = row.rule.map_or(String::new(), |rule| rule.to_string());
        let name = row.name.clone().unwrap_or_default();
        cells.extend([row.outcome.to_owned(), served.to_owned(), rule, name]);
        cells
    };
    csv(&[&head[..], &["outcome", "served", "rule", "name"]].concat(), rows.iter().map(cells))
}

/// Sums as CSV.
pub fn sums_csv(sums: &[Sum], now: Duration) -> String {
    let time = |ago: Duration| rfc3339(now.saturating_sub(ago));
    let cells = |sum: &Sum| {
        let numbers = [sum.rows, sum.packets, sum.bytes].map(|number| number.to_string());
        [&[sum.label.clone()][..], &numbers, &[time(sum.first), time(sum.last)]].concat()
    };
    csv(&["what", "rows", "packets", "bytes", "first_seen", "last_seen"], sums.iter().map(cells))
}

fn csv(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let head = head.iter().map(|name| (*name).to_owned()).collect();
    let line = |cells: Vec<String>| {
        let cells: Vec<String> = cells.iter().map(|cell| quoted(cell)).collect();
        format!("{}\r\n", cells.join(","))
    };
    std::iter::once(head).chain(rows).map(line).collect()
}

/// A cell; a spreadsheet must not take it for a formula.
fn quoted(cell: &str) -> String {
    let safe = match cell.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        true => format!("'{cell}"),
        false => cell.to_owned(),
    };
    match safe.contains([',', '"', '\r', '\n']) {
        true => format!("\"{}\"", safe.replace('"', "\"\"")),
        false => safe,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums() -> Vec<Sum> {
        let (first, last) = (Duration::from_secs(3700), Duration::from_secs(2));
        vec![Sum { label: "tcp/80".into(), rows: 2, packets: 12, bytes: 900, first, last }]
    }

    #[test]
    fn a_table_and_the_same_for_programs() {
        let expect = "WHAT    ROWS  COUNT  BYTES  FIRST  LAST\ntcp/80     2     12  900 B   1h1m    2s\n";
        assert_eq!(text(&sums(), &Paper::default()), expect);
        let now = Duration::from_secs(1_795_395_723);
        let value = json("eth0", &sums(), 3, now);
        assert_eq!((&value["sums"][0]["packets"], &value["left_out"]), (&json!(12), &json!(3)));
        let expect = "what,rows,packets,bytes,first_seen,last_seen\r\n\
                      tcp/80,2,12,900,2026-11-23T00:00:23Z,2026-11-23T01:02:01Z\r\n";
        assert_eq!(sums_csv(&sums(), now), expect);
    }

    #[test]
    fn cells_are_quoted_as_the_standard_says() {
        assert_eq!(
            ["a", "a,b", "a\"b", "=1+1", "a\r\nb", ""].map(quoted),
            ["a", "\"a,b\"", "\"a\"\"b\"", "'=1+1", "\"a\r\nb\"", ""]
        );
    }
}
