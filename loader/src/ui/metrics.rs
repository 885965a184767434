// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What is up -> Prometheus text (exposition format 0.0.4), or JSON. Counters end in `_total`; units are packets and bytes.
use std::fmt::Write;

use crate::dnat::codes::REASONS;
use crate::dnat::look::Flows;
use crate::load::transcript::hex;

use super::status::{Dnat, Status};
use serde_json::{json, Map, Value};

/// Labels and a value.
type Sample = (Vec<(&'static str, String)>, u64);

/// Samples of one name.
struct Family {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    samples: Vec<Sample>,
}

fn families(all: &[Status]) -> Vec<Family> {
    let mut families = vec![info(all), in_place(all)];
    let dnats: Vec<(&str, &Dnat)> =
        all.iter().filter_map(|s| Some((s.device.as_str(), s.dnat.as_ref()?))).collect();
    let mut family = |name, kind, help, samples: &dyn Fn(&Dnat) -> Vec<Sample>| {
        let with_device = |(device, dnat): &(&str, &Dnat)| {
            let device = (*device).to_owned();
            let add = move |(mut labels, value): (Vec<_>, u64)| {
                labels.insert(0, ("device", device.clone()));
                (labels, value)
            };
            samples(dnat).into_iter().map(add).collect::<Vec<_>>()
        };
        let samples = dnats.iter().flat_map(with_device).collect();
        families.push(Family { name, kind, help, samples });
    };
    // Of both families and states, how many there are (`used`) or may be.
    let flows = |d: &Dnat, of: fn((u64, u64)) -> u64| {
        let sample = |family: &str, state: &str, fill| {
            (vec![("family", family.to_owned()), ("state", state.to_owned())], of(fill))
        };
        let tables = [("ipv4", d.fill.v4), ("ipv6", d.fill.v6)];
        let states = |(family, t): (&str, Flows)| {
            [sample(family, "confirmed", t.confirmed), sample(family, "half_open", t.half_open)]
        };
        tables.into_iter().flat_map(states).collect()
    };
    family("detour_flows", "gauge", "Translations in force.", &|d| flows(d, |fill| fill.0));
    family("detour_flows_limit", "gauge", "Translations that there is room for.", &|d| {
        flows(d, |fill| fill.1)
    });
    family("detour_asked_rows", "gauge", "Rows of what clients asked for.", &|d| {
        vec![(vec![], d.fill.asked.0)]
    });
    family("detour_asked_rows_limit", "gauge", "Rows that there is room for.", &|d| {
        vec![(vec![], d.fill.asked.1)]
    });
    family("detour_rules", "gauge", "Rules in force.", &|d| vec![(vec![], d.rules.rules.len() as u64)]);
    family("detour_rules_generation", "gauge", "Grows with each reload of the rules.", &|d| {
        vec![(vec![], d.rules.generation.into())]
    });
    let of_rules = |d: &Dnat, value: fn(&crate::dnat::in_force::RuleInForce) -> u64| {
        let sample = |(i, rule): (usize, &crate::dnat::in_force::RuleInForce)| {
            let labels = vec![("rule", i.saturating_add(1).to_string()), ("text", rule.text.clone())];
            (labels, value(rule))
        };
        d.rules.rules.iter().enumerate().map(sample).collect()
    };
    family(
        "detour_rule_packets_total",
        "counter",
        "Packets that opened something and that the rule decided; from 0 with each reload.",
        &|d| of_rules(d, |rule| rule.packets),
    );
    family("detour_rule_bytes_total", "counter", "Their bytes, whole frames.", &|d| {
        of_rules(d, |rule| rule.bytes)
    });
    family(
        "detour_untranslated_packets_total",
        "counter",
        "Packets that were passed or dropped, by the reason.",
        &|d| {
            let count = |name: &str| d.counters.iter().find(|c| c.name == name).map_or(0, |c| c.packets);
            let sample = |(name, meaning): &(&'static str, &'static str)| {
                let action = meaning.split(':').next().unwrap_or_default().to_owned();
                (vec![("reason", (*name).to_owned()), ("action", action)], count(name))
            };
            REASONS.iter().skip(1).filter(|(_, meaning)| meaning.contains(": ")).map(sample).collect()
        },
    );
    families
}

fn info(all: &[Status]) -> Family {
    let sample = |s: &Status| {
        let labels = vec![
            ("device", s.device.clone()),
            ("instance", s.instance.clone()),
            ("object_sha256", hex(&s.object_sha256)),
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ];
        (labels, 1)
    };
    let samples = all.iter().map(sample).collect();
    Family { name: "detour_info", kind: "gauge", help: "What is up, and what it was made of.", samples }
}

fn in_place(all: &[Status]) -> Family {
    let samples = all.iter().flat_map(|s| {
        s.programs.iter().map(|p| {
            let labels = [("device", &s.device), ("instance", &s.instance), ("program", &p.name)];
            let labels = labels.map(|(name, value)| (name, value.clone())).to_vec();
            ([labels, vec![("hook", p.hook.to_owned())]].concat(), u64::from(p.in_place))
        })
    });
    let help = "1 where the program runs on the device; 0 where somebody removed or replaced it.";
    Family { name: "detour_program_in_place", kind: "gauge", help, samples: samples.collect() }
}

/// The text that a scraper or the textfile collector of node_exporter reads.
pub fn text(all: &[Status]) -> String {
    let mut out = String::new();
    for Family { name, kind, help, samples } in families(all).iter().filter(|f| !f.samples.is_empty()) {
        // Writing to a String cannot fail.
        let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for (labels, value) in samples {
            let labels: Vec<String> =
                labels.iter().map(|(name, value)| format!("{name}=\"{}\"", quoted(value))).collect();
            let _ = writeln!(out, "{name}{{{}}} {value}", labels.join(","));
        }
    }
    out
}

/// A label's value as the format wants it: `\\`, `\"` and `\n`; everything else stands as it is.
fn quoted(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// `{"schema":"detour.metrics/1","metrics":[{"name":…,"type":…,"help":…,"samples":[{"labels":{…},"value":…}]}]}`
pub fn json(all: &[Status]) -> Value {
    let sample = |(labels, value): &Sample| {
        let labels: Map<String, Value> =
            labels.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        json!({"labels": labels, "value": value})
    };
    let family = |f: &Family| {
        json!({"name": f.name, "type": f.kind, "help": f.help,
            "samples": f.samples.iter().map(sample).collect::<Vec<_>>()})
    };
    json!({"schema": "detour.metrics/1", "metrics": families(all).iter().map(family).collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::status::Program;

    #[test]
    fn foreign_text_stays_inside_its_quotes() {
        let program = Program {
            name: "a\"b\\c\nd".into(),
            hook: "ingress",
            prio: 1,
            chain: 0,
            protocol: 3,
            handle: 1,
            cgroup: None,
            id: 1,
            tag: [0; 8],
            in_place: false,
        };
        let status = Status {
            device: "eth0".into(),
            ifindex: 2,
            instance: "x".into(),
            object_sha256: [0xab; 32],
            pinned: true,
            programs: vec![program],
            dnat: None,
        };
        let text = text(&[status]);
        let expect = "detour_program_in_place{device=\"eth0\",instance=\"x\",program=\"a\\\"b\\\\c\\nd\",hook=\"ingress\"} 0\n";
        assert!(text.ends_with(expect), "{text}");
        assert_eq!(text.lines().count(), 6);
    }
}
