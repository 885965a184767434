// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! All that runs at a device's hooks, in order -> a table and JSON.
use crate::load::tc::{protocol_name, Place, ETH_P_ALL};
use crate::load::transcript::hex;

use super::paper::Paper;
use super::text::{escape, table, Column};
use serde_json::{json, Value};

/// One filter or tcx program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// `ingress` or `egress`.
    pub hook: &'static str,
    /// `tcx`, or the filter's kind: `bpf`, `u32`, `flower` …
    pub kind: String,
    /// Of a filter: where it sits.
    pub place: Option<Place>,
    /// Of a filter: whether the program's answer is the verdict.
    pub direct_action: Option<bool>,
    /// Of a tcx program: its link's id, 0 without one.
    pub link: Option<u32>,
    /// The program's id; None for classic BPF and other kinds.
    pub id: Option<u32>,
    /// The program's tag, where it could be read.
    pub tag: Option<[u8; 8]>,
    /// The filter's name (TCA_BPF_NAME).
    pub filter: Option<String>,
    /// The program's name, where it could be read.
    pub program: Option<String>,
    /// How often it ran and for how many nanoseconds, where that is counted.
    pub runs: Option<(u64, u64)>,
    /// The instance of ours that it belongs to.
    pub owner: Option<String>,
    /// Whether it is somebody else's; None where our records may not be read.
    pub foreign: Option<bool>,
}

/// A table, the revisions of the tcx hooks that `load --revision` takes, then what could not be seen.
pub fn text(rows: &[Row], revisions: &[(&str, u64)], unseen: &[String], paper: &Paper) -> String {
    let columns = [
        Column::Left("HOOK"),
        Column::Left("KIND"),
        Column::Right("PRIO"),
        Column::Right("HANDLE"),
        Column::Right("ID"),
        Column::Left("TAG"),
        Column::Left("NAME"),
        Column::Left("OWNER"),
        Column::Right("RUNS"),
    ];
    let cells = |row: &Row| {
        let dash = || "-".to_owned();
        let mut kind = escape(&row.kind);
        if row.direct_action == Some(false) {
            kind.push_str(" classid");
        }
        if let Some(place) = row.place.filter(|place| place.protocol != ETH_P_ALL) {
            kind.push_str(&format!(" {}", protocol_name(place.protocol)));
        }
        if let Some(place) = row.place.filter(|place| place.chain != 0) {
            kind.push_str(&format!(" chain {}", place.chain));
        }
        vec![
            row.hook.to_owned(),
            kind,
            row.place.map_or_else(dash, |place| place.prio.to_string()),
            row.place.map_or_else(dash, |place| format!("{:#x}", place.handle)),
            row.id.map_or_else(dash, |id| id.to_string()),
            row.tag.map_or_else(dash, |tag| hex(&tag)),
            row.program.as_ref().or(row.filter.as_ref()).map_or_else(dash, |name| escape(name)),
            match (&row.owner, row.foreign) {
                (Some(name), _) => format!("detour {}", escape(name)),
                (None, Some(true)) => "foreign".to_owned(),
                (None, _) => "?".to_owned(),
            },
            row.runs.map_or_else(dash, |(runs, _)| runs.to_string()),
        ]
    };
    let mut text = match rows.is_empty() {
        true => "no filter and no tcx program\n".to_owned(),
        false => table(&columns, &rows.iter().map(cells).collect::<Vec<_>>(), paper),
    };
    for (hook, revision) in revisions.iter().filter(|(_, revision)| *revision > 1) {
        text.push_str(&format!("tcx {hook} has revision {revision}\n"));
    }
    unseen.iter().for_each(|what| text.push_str(&format!("note: {what}\n")));
    text
}

/// `{"schema":"detour.list/1","dev":…,"programs":[…],"unseen":[…]}`, in the order in which they run.
pub fn json(device: &str, rows: &[Row], revisions: &[(&str, u64)], unseen: &[String]) -> Value {
    let row = |row: &Row| {
        json!({
            "hook": row.hook, "kind": row.kind,
            "prio": row.place.map(|p| p.prio), "handle": row.place.map(|p| p.handle),
            "chain": row.place.map(|p| p.chain), "protocol": row.place.map(|p| protocol_name(p.protocol)),
            "direct_action": row.direct_action, "link_id": row.link, "id": row.id, "tag": row.tag.map(|t| hex(&t)),
            "filter_name": row.filter, "program_name": row.program,
            "run_count": row.runs.map(|r| r.0), "run_time_ns": row.runs.map(|r| r.1),
            "owner": row.owner, "foreign": row.foreign,
        })
    };
    let rows: Vec<Value> = rows.iter().map(row).collect();
    let revisions: serde_json::Map<String, Value> =
        revisions.iter().map(|(hook, revision)| ((*hook).to_owned(), json!(revision))).collect();
    json!({"schema": "detour.list/1", "dev": device, "programs": rows, "tcx_revisions": revisions, "unseen": unseen})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::tc::EGRESS;

    fn rows() -> Vec<Row> {
        let tcx = Row {
            hook: "ingress",
            kind: "tcx".into(),
            link: Some(3),
            id: Some(41),
            tag: Some([0xab; 8]),
            program: Some("evil\x1b[2J".into()),
            foreign: Some(true),
            ..Row::default()
        };
        let filter = Row {
            hook: "egress",
            kind: "bpf".into(),
            place: Some(Place { protocol: 0x0800, chain: 5, ..Place::new(3, EGRESS, 200, 1) }),
            direct_action: Some(true),
            id: Some(42),
            filter: Some("detour/lab/drop".into()),
            owner: Some("lab".into()),
            runs: Some((7, 900)),
            ..Row::default()
        };
        vec![tcx, filter]
    }

    #[test]
    fn a_table_a_person_can_read() {
        let unseen = ["something".to_owned()];
        let expect = "\
HOOK     KIND            PRIO  HANDLE  ID  TAG               NAME             OWNER       RUNS
ingress  tcx                -       -  41  abababababababab  evil\\u{1b}[2J    foreign        -
egress   bpf ip chain 5   200     0x1  42  -                 detour/lab/drop  detour lab     7
tcx ingress has revision 3
note: something
";
        assert_eq!(text(&rows(), &[("ingress", 3), ("egress", 1)], &unseen, &Paper::default()), expect);
        assert_eq!(text(&[], &[], &[], &Paper::default()), "no filter and no tcx program\n");
    }

    #[test]
    fn json_a_program_can_read() {
        let document = json("eth0", &rows(), &[], &[]);
        let first = document.get("programs").and_then(|p| p.get(0)).unwrap();
        assert_eq!(first.get("foreign"), Some(&Value::Bool(true)));
        assert_eq!(first.get("prio"), Some(&Value::Null));
        assert_eq!(first.get("tag"), Some(&Value::from("abababababababab")));
    }
}
