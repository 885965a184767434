// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Everything a loader can leave behind, before and after, and what is different.
use crate::netns::Netns;
use crate::tools;
use detour_sys::{attr, commands};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

/// The kernel frees programs and maps a grace period after their last user.
const PATIENCE: Duration = Duration::from_secs(3);
/// Objects that are in no place of this namespace are likely somebody else's on the same machine, who may take longer.
const MORE_PATIENCE: Duration = Duration::from_secs(20);

/// The bpf file system, qdiscs and filters of a namespace, and the machine's programs, maps, links and BTF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Has to be equal: lines that say what is in this namespace.
    here: BTreeSet<String>,
    /// May only shrink, as other people's objects also come and go: "kind id name", of maps "map id".
    machine: BTreeSet<String>,
}

impl Snapshot {
    /// The state now. Take it with [`Netns::alone`] if others could make objects meanwhile.
    pub fn take(ns: &Netns) -> Snapshot {
        let mut machine = BTreeSet::new();
        for kind in ["prog", "link", "btf"] {
            let line = |object: &Value| format!("{kind} {} {}", object["id"], object["name"]);
            machine.extend(tools::objects(ns, kind).iter().map(line));
        }
        machine.extend(map_ids().map(|id| format!("map {id}")));
        Snapshot { machine, ..Snapshot::here(ns) }
    }

    /// The same of the namespace alone, whatever others make meanwhile.
    pub fn here(ns: &Netns) -> Snapshot {
        let mut here = BTreeSet::new();
        ns.within(|| tree(Path::new("/sys/fs/bpf"), &mut here));
        for qdisc in tools::qdiscs(ns) {
            here.insert(format!("qdisc {} {} {}", qdisc["dev"], qdisc["kind"], qdisc["handle"]));
            if qdisc["kind"] == "clsact" {
                let device = qdisc["dev"].as_str().unwrap();
                for hook in tools::HOOKS {
                    let filters = tools::filters(ns, device, hook);
                    here.extend(filters.iter().map(|filter| format!("filter {device} {hook} {filter}")));
                }
            }
        }
        Snapshot { here, machine: BTreeSet::new() }
    }

    /// What `later` has more (+) or less (-), a line each.
    pub fn changes(&self, later: &Snapshot) -> Vec<String> {
        let gone = self.here.difference(&later.here).map(|line| format!("- {line}"));
        let come = later.here.difference(&self.here).map(|line| format!("+ {line}"));
        let made = later.machine.difference(&self.machine).map(|line| format!("+ {line}"));
        gone.chain(come).chain(made).collect()
    }

    /// Fails unless the machine is, soon, as it was; `what` happened in between.
    #[track_caller]
    pub fn holds(&self, ns: &Netns, what: &str) {
        let changes = self.changes_soon(ns);
        assert!(changes.is_empty(), "{what} left the machine different:\n{}", changes.join("\n"));
    }

    /// What stays different after the kernel had its time.
    pub fn changes_soon(&self, ns: &Netns) -> Vec<String> {
        let start = Instant::now();
        loop {
            let now = Snapshot::take(ns);
            let changes = self.changes(&now);
            let patience = if self.here == now.here { MORE_PATIENCE } else { PATIENCE };
            if changes.is_empty() || start.elapsed() > patience {
                return changes;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The ids of all maps. bpftool would open each, and who opens and closes a PROG_ARRAY while the kernel still empties it
/// after its last user makes the kernel count one user too many (`prog_array_map_clear()` in kernel/bpf/arraymap.c takes
/// a reference for work that is queued already): such a map stays for good.
fn map_ids() -> impl Iterator<Item = u64> {
    let command = &commands::MAP_GET_NEXT_ID;
    std::iter::successors(Some(0), |id| {
        match detour_sys::call(
            command,
            &[("start_id", attr::Value::Num(*id)), ("next_id", attr::Value::Num(0))],
        ) {
            Ok(answer) => Some(answer.number(command, "next_id")),
            Err((error, _)) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err((error, _)) => panic!("MAP_GET_NEXT_ID after {id}: {error}"),
        }
    })
    .skip(1)
}

fn tree(folder: &Path, lines: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        lines.insert(format!("bpffs {}", entry.path().display()));
        if entry.file_type().unwrap().is_dir() {
            tree(&entry.path(), lines);
        }
    }
}
