// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What clients asked for -> a table, or JSON.

use std::time::Duration;

use serde_json::{json, Value};

use crate::dnat::asked::{Asked, Others};
use crate::dnat::flows::has_ports;

use super::flows::rule;
use super::paper::Paper;
use super::text::{bytes, cut, duration, named, protocol, rfc3339, table, Column};

/// A table of rows, and a line for what has no row of its own; `generation` is that of the rules in force.
pub fn text(rows: &[Asked], others: &[Others], generation: u32, paper: &Paper) -> String {
    if rows.is_empty() && others.is_empty() {
        return "no row: nothing was asked for yet, or nothing that matches\n".to_owned();
    }
    let mut columns = vec![
        Column::Left("CLIENT"),
        Column::Left("PROTO"),
        Column::Left("DESTINATION"),
        Column::Right("PORT"),
        Column::Right("COUNT"),
        Column::Right("BYTES"),
        Column::Right("FIRST"),
        Column::Right("LAST"),
        Column::Left("OUTCOME"),
        Column::Left("SERVED"),
        Column::Left("RULE"),
    ];
    let cells = |row: &Asked| {
        vec![
            row.client.to_string(),
            protocol(row.protocol),
            row.destination.to_string(),
            if has_ports(row.protocol) { row.port.to_string() } else { "-".to_owned() },
            row.packets.to_string(),
            bytes(row.bytes),
            duration(row.first),
            duration(row.last),
            row.outcome.to_owned(),
            row.served.map_or("-", |served| if served { "yes" } else { "no" }).to_owned(),
            rule(row.rule, row.rules_generation, generation),
        ]
    };
    let mut cells: Vec<Vec<String>> = rows.iter().map(cells).collect();
    named(&mut columns, &mut cells, rows.iter().map(|row| row.name.as_deref()));
    let mut out = table(&columns, &cells, paper);
    for line in others.iter().map(other) {
        out.push_str(&cut(&line, paper));
        out.push('\n');
    }
    out
}

fn other(others: &Others) -> String {
    let Others { client, packets, bytes: size, seen } = others;
    let whose = match client {
        Some(client) => format!("of {client} beyond the rows it may have"),
        None => "of clients that there was no room for".to_owned(),
    };
    let last = seen.map_or(String::new(), |(_, last)| format!(", the last {} ago", duration(last)));
    let plural = if *packets == 1 { "" } else { "s" };
    format!("and {packets} packet{plural} ({}) {whose}{last}", bytes(*size))
}

/// `{"schema":"detour.asked/1","device":…,"now":…,"rows":[…],"others":[…]}`; `now` is the time since 1970.
pub fn json(device: &str, rows: &[Asked], others: &[Others], generation: u32, now: Duration) -> Value {
    let time = |ago: Duration| rfc3339(now.saturating_sub(ago));
    let row = |row: &Asked| {
        json!({
            "client": row.client.to_string(),
            "protocol": protocol(row.protocol),
            "destination": row.destination.to_string(),
            "port": has_ports(row.protocol).then_some(row.port),
            "packets": row.packets,
            "bytes": row.bytes,
            "first_seen": time(row.first),
            "last_seen": time(row.last),
            "outcome": row.outcome,
            "served": row.served,
            "rule": row.rule,
            "rules_generation": row.rules_generation,
            "name": row.name,
        })
    };
    let other = |others: &Others| {
        json!({
            "client": others.client.map(|client| client.to_string()),
            "packets": others.packets,
            "bytes": others.bytes,
            "first_seen": others.seen.map(|(first, _)| time(first)),
            "last_seen": others.seen.map(|(_, last)| time(last)),
        })
    };
    json!({
        "schema": "detour.asked/1",
        "device": device,
        "now": rfc3339(now),
        "rules_generation": generation,
        "rows": rows.iter().map(row).collect::<Vec<_>>(),
        "others": others.iter().map(other).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> [Asked; 2] {
        let dns = Asked {
            client: "192.0.2.51".parse().unwrap(),
            protocol: 17,
            destination: "8.8.8.8".parse().unwrap(),
            port: 53,
            packets: 12,
            bytes: 900,
            first: Duration::from_secs(3700),
            last: Duration::from_secs(2),
            rule: Some(2),
            rules_generation: 1,
            outcome: "dnat",
            served: Some(false),
            name: None,
        };
        let ping = Asked {
            protocol: 1,
            port: 0,
            packets: 1,
            rule: None,
            outcome: "no_rule",
            served: None,
            ..dns.clone()
        };
        [dns, ping]
    }

    fn others() -> [Others; 2] {
        let seen = Some((Duration::from_secs(60), Duration::from_secs(5)));
        let client = Some("192.0.2.66".parse().unwrap());
        [
            Others { client, packets: 7, bytes: 420, seen },
            Others { client: None, packets: 1, bytes: 60, seen: None },
        ]
    }

    #[test]
    fn a_table_a_person_can_read() {
        assert_eq!(
            text(&rows(), &others(), 1, &Paper::default()),
            "\
CLIENT      PROTO  DESTINATION  PORT  COUNT  BYTES  FIRST  LAST  OUTCOME  SERVED  RULE
192.0.2.51  udp    8.8.8.8        53     12  900 B   1h1m    2s  dnat     no      2
192.0.2.51  icmp   8.8.8.8         -      1  900 B   1h1m    2s  no_rule  -       -
and 7 packets (420 B) of 192.0.2.66 beyond the rows it may have, the last 5s ago
and 1 packet (60 B) of clients that there was no room for
"
        );
        assert_eq!(
            text(&[], &[], 1, &Paper::default()),
            "no row: nothing was asked for yet, or nothing that matches\n"
        );
    }

    #[test]
    fn json_a_program_can_read() {
        let value = json("eth0", &rows(), &others(), 1, Duration::from_secs(1_795_395_723));
        assert_eq!(value["now"], "2026-11-23T01:02:03Z");
        assert_eq!(value["rows"][0]["last_seen"], "2026-11-23T01:02:01Z");
        assert_eq!((&value["rows"][0]["port"], &value["rows"][1]["port"]), (&json!(53), &Value::Null));
        assert_eq!(
            (&value["others"][0]["packets"], &value["others"][1]["client"]),
            (&json!(7), &Value::Null)
        );
    }
}
