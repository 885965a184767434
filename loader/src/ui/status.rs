// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What is up on a device -> a block of lines, or JSON.

use serde_json::{json, Value};

use crate::dnat::counters::Counter;
use crate::dnat::in_force::{InForce, RuleInForce};
use crate::dnat::look::{Fill, Flows};
use crate::load::tc::{protocol_name, ETH_P_ALL};
use crate::load::transcript::hex;

use super::paper::Paper;
use super::rules::{rule_json, with_target};
use super::text::{cut, escape, table, Column};

/// An instance on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The device's name.
    pub device: String,
    /// Its index.
    pub ifindex: u32,
    /// The instance's name.
    pub instance: String,
    /// SHA-256 of the object file it was loaded from.
    pub object_sha256: [u8; 32],
    /// Whether it is found by pins; otherwise by the ids behind its filters.
    pub pinned: bool,
    /// Its programs, in the order in which packets meet them.
    pub programs: Vec<Program>,
    /// Of the DNAT only.
    pub dnat: Option<Dnat>,
}

/// A program and where it sits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its name.
    pub name: String,
    /// `ingress` or `egress`.
    pub hook: &'static str,
    /// Priority of the filter.
    pub prio: u32,
    /// Handle of the filter.
    pub handle: u32,
    /// Chain of the filter.
    pub chain: u32,
    /// Ethertype of the frames that it sees, or [`ETH_P_ALL`].
    pub protocol: u16,
    /// Of a program for socket options: the id of its cgroup.
    pub cgroup: Option<u64>,
    /// Number in the kernel.
    pub id: u32,
    /// The kernel's tag.
    pub tag: [u8; 8],
    /// Whether the filter still runs it; it may have been removed or replaced by somebody else.
    pub in_place: bool,
}

/// What the DNAT's maps say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dnat {
    /// The rules.
    pub rules: InForce,
    /// How full its tables are.
    pub fill: Fill,
    /// Why packets were left alone or dropped.
    pub counters: Vec<Counter>,
}

/// A block for each instance.
pub fn text(all: &[Status], paper: &Paper) -> String {
    all.iter().map(|status| block(status, paper)).collect::<Vec<_>>().join("\n")
}

fn block(status: &Status, paper: &Paper) -> String {
    let sha256 = hex(status.object_sha256.get(..8).unwrap_or_default());
    let head = format!(
        "{} ({})  {}  object {sha256}{}",
        escape(&status.device),
        status.ifindex,
        escape(&status.instance),
        if status.pinned { "" } else { "  nothing pinned" }
    );
    let mut lines = vec![paper.bold(&cut(&head, paper))];
    for program in &status.programs {
        let Program { hook, prio, handle, id, .. } = program;
        let place = match program.cgroup {
            Some(cgroup) => format!("cgroup {cgroup}"),
            None => format!("prio {prio}  handle {handle:#x}{}", less_usual(program)),
        };
        let gone = if program.in_place { "" } else { "  NOT IN PLACE: removed or replaced by somebody else" };
        let name = escape(&program.name);
        let tag = hex(&program.tag);
        lines.push(cut(&format!("  {hook:<7}  {place}  {name}  id {id}  tag {tag}{gone}"), paper));
    }
    for line in status.dnat.iter().flat_map(dnat) {
        lines.push(cut(&line, paper));
    }
    lines.push(String::new());
    lines.join("\n")
}

/// What says a filter's chain and protocol, where they are not those that all have.
fn less_usual(program: &Program) -> String {
    let chain = if program.chain == 0 { String::new() } else { format!("  chain {}", program.chain) };
    match program.protocol {
        ETH_P_ALL => chain,
        protocol => format!("{chain}  protocol {}", protocol_name(protocol)),
    }
}

fn dnat(dnat: &Dnat) -> Vec<String> {
    let (count, generation) = (dnat.rules.rules.len(), dnat.rules.generation);
    let mut lines = vec![format!("  rules    {count}, generation {generation}")];
    lines.extend(indented(&dnat.rules.rules.iter().enumerate().map(rule).collect::<Vec<_>>()));
    let of = |(used, most): (u64, u64)| format!("{used} of {most}");
    for (name, flows) in [("flows  ", dnat.fill.v4), ("  IPv6 ", dnat.fill.v6)] {
        lines.push(format!("  {name}  {} confirmed, {} half-open", of(flows.confirmed), of(flows.half_open)));
    }
    lines.push(format!("  asked    {} rows", of(dnat.fill.asked)));
    if !dnat.counters.is_empty() {
        lines.push("  packets  not translated".to_owned());
        let counted = |counter: &Counter| vec![counter.packets.to_string(), counter.meaning.to_owned()];
        lines.extend(indented(&dnat.counters.iter().map(counted).collect::<Vec<_>>()));
    }
    lines
}

/// Rows without heads, four blanks in; the first column is of numbers.
fn indented(rows: &[Vec<String>]) -> Vec<String> {
    let columns = [Column::Right(""), Column::Left(""), Column::Right(""), Column::Left("")];
    let columns = columns.get(..rows.first().map_or(0, Vec::len)).unwrap_or_default();
    let whole = table(columns, rows, &Paper::default());
    whole.lines().skip(1).map(|line| format!("    {line}")).collect()
}

fn rule((index, rule): (usize, &RuleInForce)) -> Vec<String> {
    let number = index.saturating_add(1).to_string();
    let packets = if rule.packets == 1 { "packet" } else { "packets" };
    vec![number, escape(&with_target(rule)), rule.packets.to_string(), packets.to_owned()]
}

/// `{"schema":"detour.status/1","instances":[…]}`.
pub fn json(all: &[Status]) -> Value {
    json!({"schema": "detour.status/1", "instances": all.iter().map(instance).collect::<Vec<_>>()})
}

fn instance(status: &Status) -> Value {
    let program = |program: &Program| {
        json!({
            "name": program.name,
            "hook": program.hook,
            "prio": program.prio,
            "handle": program.handle,
            "chain": program.chain,
            "protocol": protocol_name(program.protocol),
            "cgroup_id": program.cgroup,
            "id": program.id,
            "tag": hex(&program.tag),
            "in_place": program.in_place,
        })
    };
    json!({
        "device": status.device,
        "ifindex": status.ifindex,
        "instance": status.instance,
        "object_sha256": hex(&status.object_sha256),
        "pinned": status.pinned,
        "programs": status.programs.iter().map(program).collect::<Vec<_>>(),
        "dnat": status.dnat.as_ref().map(dnat_json),
    })
}

fn dnat_json(dnat: &Dnat) -> Value {
    let of = |(used, most): (u64, u64)| json!({"used": used, "most": most});
    let flows = |flows: Flows| json!({"confirmed": of(flows.confirmed), "half_open": of(flows.half_open)});
    let counters =
        dnat.counters.iter().map(|counter| (counter.name.to_owned(), Value::from(counter.packets)));
    json!({
        "rules_generation": dnat.rules.generation,
        "rules": dnat.rules.rules.iter().map(rule_json).collect::<Vec<_>>(),
        "flows": {"ipv4": flows(dnat.fill.v4), "ipv6": flows(dnat.fill.v6)},
        "asked": of(dnat.fill.asked),
        "not_translated": counters.collect::<serde_json::Map<_, _>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dnat::codes;

    fn status() -> Status {
        let program = |name: &str, hook, id, in_place| Program {
            name: name.to_owned(),
            hook,
            prio: 100,
            handle: 0xd370,
            chain: if hook == "egress" { 5 } else { 0 },
            protocol: if hook == "egress" { 0x86dd } else { ETH_P_ALL },
            cgroup: None,
            id,
            tag: [0xab; 8],
            in_place,
        };
        let rule = |text: &str, verdict, targets: &[&str], port| RuleInForce {
            text: text.to_owned(),
            line: 1,
            verdict,
            targets: targets.iter().map(|t| t.parse().unwrap()).collect(),
            port,
            packets: u64::from(port),
            bytes: 60,
        };
        let rules = vec![
            rule("tcp dport 80 redirect to :1", codes::VERDICT_DNAT, &["192.0.2.7"], 1),
            rule("meta l4proto udp dnat to 192.0.2.9:5353", codes::VERDICT_DNAT, &["192.0.2.9"], 5353),
            rule("drop", codes::VERDICT_DROP, &[], 0),
        ];
        let counters =
            vec![Counter { name: "own", meaning: "passed: addressed to this machine", packets: 1204 }];
        Status {
            device: "eth0\x1b".to_owned(),
            ifindex: 3,
            instance: "dnat".to_owned(),
            object_sha256: [0x6c; 32],
            pinned: true,
            programs: vec![
                program("detour_in", "ingress", 86, true),
                program("detour_out", "egress", 87, false),
            ],
            dnat: Some(Dnat {
                rules: InForce { generation: 2, rules },
                fill: Fill {
                    v4: Flows { confirmed: (412, 65536), half_open: (3, 8192) },
                    v6: Flows { confirmed: (5, 16384), half_open: (1, 2048) },
                    asked: (18, 16384),
                },
                counters,
            }),
        }
    }

    #[test]
    fn a_block_a_person_can_read() {
        assert_eq!(
            text(&[status()], &Paper::default()),
            "\
eth0\\u{1b} (3)  dnat  object 6c6c6c6c6c6c6c6c
  ingress  prio 100  handle 0xd370  detour_in  id 86  tag abababababababab
  egress   prio 100  handle 0xd370  chain 5  protocol ipv6  detour_out  id 87  tag abababababababab  NOT IN PLACE: removed or replaced by somebody else
  rules    3, generation 2
    1  tcp dport 80 redirect to :1  (192.0.2.7)     1  packet
    2  meta l4proto udp dnat to 192.0.2.9:5353   5353  packets
    3  drop                                         0  packets
  flows    412 of 65536 confirmed, 3 of 8192 half-open
    IPv6   5 of 16384 confirmed, 1 of 2048 half-open
  asked    18 of 16384 rows
  packets  not translated
    1204  passed: addressed to this machine
"
        );
        let foreign = Status { dnat: None, programs: Vec::new(), pinned: false, ..status() };
        let head = "eth0\\u{1b} (3)  dnat  object 6c6c6c6c6c6c6c6c  nothing pinned\n";
        assert_eq!(text(std::slice::from_ref(&foreign), &Paper::default()), head);
        assert_eq!(text(&[foreign.clone(), foreign], &Paper::default()).lines().count(), 3);
        assert_eq!(text(&[], &Paper::default()), "");
    }

    #[test]
    fn json_a_program_can_read() {
        let value = json(&[status()]);
        let dnat = &value["instances"][0]["dnat"];
        assert_eq!(dnat["rules"][0]["targets"], json!(["192.0.2.7"]));
        assert_eq!((&dnat["rules"][2]["verdict"], &dnat["rules"][2]["port"]), (&json!("drop"), &Value::Null));
        assert_eq!(dnat["not_translated"], json!({"own": 1204}));
        assert_eq!(value["instances"][0]["programs"][0]["tag"], "abababababababab");
    }
}
