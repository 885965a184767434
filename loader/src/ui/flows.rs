// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Flows -> a table, or JSON.

use serde_json::{json, Value};

use crate::dnat::flows::{has_ports, End, Flow};
use crate::dnat::rules::{ICMP, ICMPV6};

use super::paper::Paper;
use super::text::{bytes, duration, named, protocol, table, Column};

/// A table of flows, one a line; `generation` is that of the rules in force.
pub fn text(flows: &[Flow], generation: u32, paper: &Paper) -> String {
    if flows.is_empty() {
        return "no translations in force\n".to_owned();
    }
    let mut columns = vec![
        Column::Left("PROTO"),
        Column::Left("CLIENT"),
        Column::Left("ORIGINAL"),
        Column::Left("SERVER"),
        Column::Right("SEEN-AS"),
        Column::Left("STATE"),
        Column::Right("AGE"),
        Column::Right("IDLE"),
        Column::Right("PACKETS"),
        Column::Right("BYTES"),
        Column::Left("RULE"),
    ];
    let mut rows: Vec<Vec<String>> = flows.iter().map(|flow| row(flow, generation)).collect();
    named(&mut columns, &mut rows, flows.iter().map(|flow| flow.name.as_deref()));
    table(&columns, &rows, paper)
}

pub(super) fn row(flow: &Flow, generation: u32) -> Vec<String> {
    let end = |end: End| if has_ports(flow.protocol) { end.to_string() } else { end.ip().to_string() };
    let [there, back] = flow.packets;
    let [bytes_there, bytes_back] = flow.bytes.map(bytes);
    let no_id = !has_ports(flow.protocol) && ![ICMP, ICMPV6].contains(&flow.protocol);
    // Worth a look only where the client's own port was taken.
    let seen_as = if flow.port_at_server == flow.client.port() {
        "-".to_owned()
    } else {
        flow.port_at_server.to_string()
    };
    vec![
        protocol(flow.protocol),
        if no_id { flow.client.ip().to_string() } else { flow.client.to_string() },
        end(flow.original),
        end(flow.server),
        seen_as,
        state(flow),
        duration(flow.age),
        duration(flow.idle),
        format!("{there}/{back}"),
        format!("{bytes_there}/{bytes_back}"),
        rule(flow.rule, flow.rules_generation, generation),
    ]
}

fn state(flow: &Flow) -> String {
    let marks = [(flow.direct, ",direct"), (flow.picked_up, ",picked-up")];
    let marks = marks.iter().filter(|(set, _)| *set).map(|(_, word)| *word);
    std::iter::once(flow.state.name()).chain(marks).collect()
}

/// The number of a rule; of rules that are not in force any more it says so.
pub(super) fn rule(number: Option<u32>, of: u32, in_force: u32) -> String {
    match number {
        None => "-".to_owned(),
        Some(number) if of == in_force => number.to_string(),
        Some(number) => format!("{number} (old)"),
    }
}

/// `{"schema":"detour.flows/1","device":…,"rules_generation":…,"flows":[…]}`; times in seconds.
pub fn json(device: &str, flows: &[Flow], generation: u32) -> Value {
    let flows: Vec<Value> = flows.iter().map(flow_json).collect();
    json!({"schema": "detour.flows/1", "device": device, "rules_generation": generation, "flows": flows})
}

/// A flow.
pub(super) fn flow_json(flow: &Flow) -> Value {
    let end = |end: End| end_json(flow.protocol, end);
    let way = |i: usize| json!({"packets": flow.packets.get(i), "bytes": flow.bytes.get(i)});
    let id = [ICMP, ICMPV6].contains(&flow.protocol).then(|| flow.client.port());
    json!({
        "protocol": protocol(flow.protocol),
        "client": end(flow.client),
        "original": end(flow.original),
        "server": end(flow.server),
        "client_port_at_server": flow.port_at_server,
        "icmp_id": id,
        "state": flow.state.name(),
        "direct": flow.direct,
        "picked_up": flow.picked_up,
        "rule": flow.rule,
        "rules_generation": flow.rules_generation,
        "age_s": flow.age.as_secs_f64(),
        "idle_s": flow.idle.as_secs_f64(),
        "from_client": way(0),
        "from_server": way(1),
        "name": flow.name,
    })
}

/// One end: its port is null where the protocol has none.
pub(super) fn end_json(protocol: u8, end: End) -> Value {
    json!({"address": end.ip().to_string(), "port": has_ports(protocol).then(|| end.port())})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dnat::flows::State;
    use std::time::Duration;

    fn flows() -> [Flow; 2] {
        let tcp = Flow {
            protocol: 6,
            client: "192.0.2.51:40000".parse().unwrap(),
            original: "1.2.3.4:80".parse().unwrap(),
            server: "192.0.2.1:8080".parse().unwrap(),
            port_at_server: 61003,
            state: State::Confirmed,
            direct: false,
            picked_up: true,
            rule: Some(1),
            rules_generation: 1,
            age: Duration::from_secs(125),
            idle: Duration::from_millis(1024),
            packets: [5, 4],
            bytes: [1500, 90],
            name: None,
        };
        let client = "192.0.2.51:7".parse().unwrap();
        let ping = Flow {
            protocol: 1,
            client,
            port_at_server: 7,
            state: State::Answered,
            picked_up: false,
            rule: None,
            ..tcp.clone()
        };
        [tcp, ping]
    }

    #[test]
    fn a_table_a_person_can_read() {
        assert_eq!(
            text(&flows(), 2, &Paper::default()),
            "\
PROTO  CLIENT            ORIGINAL    SERVER          SEEN-AS  STATE                 AGE  IDLE  PACKETS        BYTES  RULE
tcp    192.0.2.51:40000  1.2.3.4:80  192.0.2.1:8080    61003  confirmed,picked-up  2m5s    1s      5/4  1.5 kB/90 B  1 (old)
icmp   192.0.2.51:7      1.2.3.4     192.0.2.1             -  answered             2m5s    1s      5/4  1.5 kB/90 B  -
"
        );
        let [tcp, ping] = flows();
        let named = [Flow { name: Some("a\x1b.example".to_owned()), ..tcp }, ping];
        let text = text(&named, 2, &Paper::default());
        let lines: Vec<&str> =
            text.lines().map(|line| line.split_at(line.rfind("  ").unwrap()).1.trim()).collect();
        assert_eq!(lines, ["NAME", "a\\u{1b}.example", "-"], "a column more, and foreign text is harmless");
        assert_eq!(super::text(&[], 1, &Paper::default()), "no translations in force\n");
    }

    #[test]
    fn json_a_program_can_read() {
        let value = json("eth0", &flows(), 2);
        assert_eq!(value["schema"], "detour.flows/1");
        let [tcp, ping] = [&value["flows"][0], &value["flows"][1]];
        assert_eq!(tcp["original"], json!({"address": "1.2.3.4", "port": 80}));
        assert_eq!((&tcp["idle_s"], &tcp["icmp_id"], &tcp["rule"]), (&json!(1.024), &Value::Null, &json!(1)));
        assert_eq!((&ping["client"]["port"], &ping["icmp_id"]), (&Value::Null, &json!(7)));
        assert_eq!(tcp["from_client"], json!({"packets": 5, "bytes": 1500}));
    }
}
