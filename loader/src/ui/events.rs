// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! An event -> a line of text, a line of JSON, or the comment of a packet.
use crate::dnat::dns::Answer;
use crate::dnat::events::{Event, Frame, What};
use crate::dnat::flows::{has_ports, End};
use serde_json::{json, Value};
use std::time::Duration;

use super::text::{bytes, escape, protocol, rfc3339};

/// `2026-11-23T01:02:03Z new tcp 192.0.2.51:40000 -> 198.51.100.7:80 by 192.0.2.1:8080 rule 1`; `now` since 1970.
pub fn text(event: &Event, now: Duration) -> String {
    let time = rfc3339(now.saturating_sub(event.ago));
    let [there, back] = event.bytes.map(bytes);
    let more = match event.what {
        What::Closed => format!(" {}/{} packets {there}/{back}", event.packets[0], event.packets[1]),
        What::New if event.served == Some(false) => " not served".to_owned(),
        What::Refused | What::Denied | What::Asked => why(event),
        What::Packet => {
            event.frame.as_ref().map_or(String::new(), |f| format!(" {} bytes {}", f.length, stage(f.stage)))
        }
        What::Dns => event.answer.as_ref().map_or(" not understood".to_owned(), answer),
        _ => String::new(),
    };
    format!("{time} {} {}{more}\n", event.what.name(), flow(event))
}

/// ` www.example.org is 192.0.2.1 192.0.2.2`
fn answer(answer: &Answer) -> String {
    let addresses: String = answer.addresses.iter().map(|address| format!(" {address}")).collect();
    format!(" {} is{}", escape(&answer.name), if addresses.is_empty() { " nothing" } else { &addresses })
}

/// ` drop`, and where a monitor only looks what the rules say as well: ` monitor: dnat`.
fn why(event: &Event) -> String {
    match event.outcome {
        Some(outcome) if event.reason == "monitor" && outcome != event.reason => {
            format!(" monitor: {outcome}")
        }
        _ => format!(" {}", event.reason),
    }
}

/// Who asked for what, who answers, and by which rule.
fn flow(event: &Event) -> String {
    // Later fragments have none either.
    let has_ports = has_ports(event.protocol) && (event.client.port(), event.destination.port()) != (0, 0);
    let end = |end: End| if has_ports { end.to_string() } else { end.ip().to_string() };
    let translated = is_translated(event);
    let by = if translated { format!(" by {}", end(event.server)) } else { String::new() };
    let seen_as = match translated && event.port_at_server != event.client.port() {
        true => format!(" seen as port {}", event.port_at_server),
        false => String::new(),
    };
    let rule = event.rule.map_or(String::new(), |rule| format!(" rule {rule}"));
    let protocol = protocol(event.protocol);
    let name = event.name.as_ref().map_or(String::new(), |name| format!(" ({})", escape(name)));
    format!("{protocol} {} -> {}{name}{by}{seen_as}{rule}", end(event.client), end(event.destination))
}

/// Whether somebody answers in the place of who was asked.
fn is_translated(event: &Event) -> bool {
    let alone = event.frame.as_ref().is_some_and(Frame::is_alone);
    !alone && !matches!(event.what, What::Refused | What::Denied | What::Asked)
}

/// What a packet is, `enum packet_stage`.
fn stage(stage: u8) -> &'static str {
    [
        "as it arrived",
        "translated, to the server",
        "as the server sent it",
        "translated, to the client",
        "as it arrived, and denied",
        "as it arrived, and passed",
    ]
    .get(usize::from(stage))
    .copied()
    .unwrap_or("?")
}

/// The comment of a packet in a capture.
pub fn comment(event: &Event) -> String {
    match &event.frame {
        Some(frame) if frame.is_alone() => format!("{}; {};{}", stage(frame.stage), flow(event), why(event)),
        frame => format!("{}; flow {}", frame.as_ref().map_or("", |f| stage(f.stage)), flow(event)),
    }
}

/// One object.
pub fn json(device: &str, event: &Event, now: Duration) -> Value {
    let port = |port: u16| has_ports(event.protocol).then_some(port);
    let end = |end: End| json!({"address": end.ip().to_string(), "port": port(end.port())});
    let frame = event.frame.as_ref().map(|f| {
        json!({"length": f.length, "stage": stage(f.stage), "bytes": crate::load::transcript::hex(&f.bytes)})
    });
    json!({
        "schema": "detour.event/1", "device": device, "event": event.what.name(),
        "time": rfc3339(now.saturating_sub(event.ago)), "protocol": protocol(event.protocol),
        "client": end(event.client), "destination": end(event.destination),
        "server": is_translated(event).then(|| end(event.server)),
        "client_port_at_server": port(event.port_at_server), "rule": event.rule,
        "rules_generation": event.rules_generation, "reason": event.reason,
        "outcome": event.outcome, "served": event.served,
        "from_client": {"packets": event.packets[0], "bytes": event.bytes[0]},
        "from_server": {"packets": event.packets[1], "bytes": event.bytes[1]},
        "frame": frame, "name": event.name,
        "answer": event.answer.as_ref().map(|a| json!({"name": a.name, "addresses": a.addresses})),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let event = Event {
            what: What::Closed,
            ago: Duration::from_secs(3),
            protocol: 6,
            client: "192.0.2.51:40000".parse().unwrap(),
            destination: "198.51.100.7:80".parse().unwrap(),
            server: "192.0.2.1:8080".parse().unwrap(),
            port_at_server: 61003,
            rule: Some(1),
            rules_generation: 1,
            reason: "none",
            outcome: None,
            served: None,
            packets: [5, 4],
            bytes: [500, 4000],
            frame: None,
            name: None,
            answer: None,
        };
        let now = Duration::from_secs(1_795_395_726);
        assert_eq!(
            text(&event, now),
            "2026-11-23T01:02:03Z closed tcp 192.0.2.51:40000 -> 198.51.100.7:80 by 192.0.2.1:8080 \
             seen as port 61003 rule 1 5/4 packets 500 B/4.0 kB\n"
        );
        let value = json("eth0", &event, now);
        assert_eq!((&value["event"], &value["from_server"]["bytes"]), (&json!("closed"), &json!(4000)));
        let denied = Event { what: What::Denied, reason: "drop", ..event.clone() };
        assert!(text(&denied, now).ends_with("198.51.100.7:80 rule 1 drop\n"), "{}", text(&denied, now));
        assert_eq!(json("eth0", &denied, now)["server"], Value::Null);
        let (new, refused) = ((What::New, "none"), (What::Refused, "no_room"));
        for ((what, reason), words) in [
            (new, "198.51.100.7:80 by 192.0.2.1:8080 seen as port 61003 rule 1 not served\n"),
            (refused, "refused tcp 192.0.2.51:40000 -> 198.51.100.7:80 rule 1 no_room\n"),
            (
                (What::Full, "full"),
                "full tcp 192.0.2.51:40000 -> 198.51.100.7:80 by 192.0.2.1:8080 seen as port 61003 rule 1\n",
            ),
        ] {
            let event = Event { what, reason, served: Some(false), ..event.clone() };
            assert!(text(&event, now).ends_with(words), "{}", text(&event, now));
        }
        let answer = |addresses: &[&str]| {
            let addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
            Some(Answer { name: "www.example.org".to_owned(), addresses })
        };
        let dns = Event { what: What::Dns, answer: answer(&["192.0.2.1", "fd00::1"]), ..event.clone() };
        assert!(text(&dns, now).ends_with(" www.example.org is 192.0.2.1 fd00::1\n"), "{}", text(&dns, now));
        assert_eq!(json("eth0", &dns, now)["answer"]["addresses"], json!(["192.0.2.1", "fd00::1"]));
        assert!(text(&Event { answer: answer(&[]), ..dns.clone() }, now).ends_with(" is nothing\n"));
        let named = Event { name: Some("a\x1bb".to_owned()), ..event.clone() };
        assert!(text(&named, now).contains(" -> 198.51.100.7:80 (a\\u{1b}b) by "), "{}", text(&named, now));
        let frame = Some(Frame { time: Duration::ZERO, length: 60, stage: 1, bytes: vec![1] });
        let packet = Event { what: What::Packet, frame, port_at_server: 40000, ..event };
        let words = "80 by 192.0.2.1:8080 rule 1 60 bytes translated, to the server\n";
        assert!(text(&packet, now).ends_with(words), "{}", text(&packet, now));
        assert_eq!(
            comment(&packet),
            "translated, to the server; flow tcp 192.0.2.51:40000 -> 198.51.100.7:80 by 192.0.2.1:8080 rule 1"
        );
        let frame = Some(Frame { time: Duration::ZERO, length: 60, stage: 4, bytes: vec![1] });
        let packet = Event { frame, reason: "reject", ..packet };
        assert_eq!(
            comment(&packet),
            "as it arrived, and denied; tcp 192.0.2.51:40000 -> 198.51.100.7:80 rule 1; reject"
        );
        assert_eq!(json("eth0", &packet, now)["server"], Value::Null);
    }
}
