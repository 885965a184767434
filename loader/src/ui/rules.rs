// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Rules in force with their counters -> a table, or JSON.

use serde_json::{json, Value};

use crate::dnat::codes;
use crate::dnat::in_force::{InForce, RuleInForce};

use super::paper::Paper;
use super::text::{bytes, escape, table, Column};

/// A table of rules, one a line, in the order in which they are tried.
pub fn text(rules: &InForce, paper: &Paper) -> String {
    if rules.rules.is_empty() {
        return "no rules: nothing is translated\n".to_owned();
    }
    let columns = [
        Column::Right("RULE"),
        Column::Right("LINE"),
        Column::Right("PACKETS"),
        Column::Right("BYTES"),
        Column::Left("TEXT"),
    ];
    let row = |(index, rule): (usize, &RuleInForce)| {
        vec![
            index.saturating_add(1).to_string(),
            if rule.line == 0 { "-".to_owned() } else { rule.line.to_string() },
            rule.packets.to_string(),
            bytes(rule.bytes),
            escape(&with_target(rule)),
        ]
    };
    table(&columns, &rules.rules.iter().enumerate().map(row).collect::<Vec<_>>(), paper)
}

/// The text; where it says `redirect`, also the address that stands for.
pub(super) fn with_target(rule: &RuleInForce) -> String {
    let targets: Vec<String> = rule.targets.iter().map(ToString::to_string).collect();
    if targets.is_empty() || !rule.text.contains("redirect") {
        return rule.text.clone();
    }
    format!("{}  ({})", rule.text, targets.join(", "))
}

/// `{"schema":"detour.rules/1","device":…,"generation":…,"rules":[…]}`.
pub fn json(device: &str, rules: &InForce) -> Value {
    let list: Vec<Value> = rules.rules.iter().map(rule_json).collect();
    json!({"schema": "detour.rules/1", "device": device, "generation": rules.generation, "rules": list})
}

/// One rule.
pub(super) fn rule_json(rule: &RuleInForce) -> Value {
    json!({
        "text": rule.text,
        "line": rule.line,
        "verdict": codes::verdict(rule.verdict),
        "targets": rule.targets.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "port": (rule.port != 0).then_some(rule.port),
        "packets": rule.packets,
        "bytes": rule.bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> InForce {
        let rule = |text: &str, line, verdict, targets: &[&str], port, packets| RuleInForce {
            text: text.to_owned(),
            line,
            verdict,
            targets: targets.iter().map(|t| t.parse().unwrap()).collect(),
            port,
            packets,
            bytes: packets * 60,
        };
        let web = rule("tcp dport 80 redirect to :8080", 2, codes::VERDICT_DNAT, &["192.0.2.7"], 8080, 1204);
        let far = rule("dnat to 192.0.2.9", 0, codes::VERDICT_DNAT, &["192.0.2.9"], 0, 1);
        let rules = vec![web, far, rule("drop", 12, codes::VERDICT_DROP, &[], 0, 0)];
        InForce { generation: 4, rules }
    }

    #[test]
    fn a_table_a_person_can_read() {
        assert_eq!(
            text(&rules(), &Paper::default()),
            "\
RULE  LINE  PACKETS  BYTES  TEXT
   1     2     1204  72 kB  tcp dport 80 redirect to :8080  (192.0.2.7)
   2     -        1   60 B  dnat to 192.0.2.9
   3    12        0    0 B  drop
"
        );
        assert_eq!(text(&InForce::default(), &Paper::default()), "no rules: nothing is translated\n");
    }

    #[test]
    fn json_a_program_can_read() {
        let value = json("eth0", &rules());
        assert_eq!((&value["device"], &value["generation"]), (&json!("eth0"), &json!(4)));
        let web = json!({"text": "tcp dport 80 redirect to :8080", "line": 2, "verdict": "dnat",
            "targets": ["192.0.2.7"], "port": 8080, "packets": 1204, "bytes": 72240});
        assert_eq!(value["rules"][0], web);
        assert_eq!((&value["rules"][2]["port"], &value["rules"][2]["targets"]), (&Value::Null, &json!([])));
    }
}
