// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What `tc` and `bpftool` say about a namespace, as JSON; other people's filters and programs to live beside.
use crate::netns::Netns;
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The two hooks, by tc's names.
pub const HOOKS: [&str; 2] = ["ingress", "egress"];

/// The document that a tool with `-j` prints; nothing printed is an empty list.
pub fn json(ns: &Netns, program: &str, arguments: &[&str]) -> Value {
    let text = ns.run(program, arguments);
    if text.trim().is_empty() {
        return Value::Array(Vec::new());
    }
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{program} {arguments:?}: {error}\n{text}"))
}

fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(rows) => rows,
        other => panic!("not a list: {other}"),
    }
}

/// `tc qdisc show`.
pub fn qdiscs(ns: &Netns) -> Vec<Value> {
    list(json(ns, "tc", &["-j", "qdisc", "show"]))
}

/// `tc filter show dev DEVICE HOOK`, without the header rows that tc prints for each priority.
pub fn filters(ns: &Netns, device: &str, hook: &str) -> Vec<Value> {
    let rows = list(json(ns, "tc", &["-j", "filter", "show", "dev", device, hook]));
    rows.into_iter().filter(|row| !row["options"].is_null()).collect()
}

/// Whether `device` has a clsact qdisc.
pub fn has_clsact(ns: &Netns, device: &str) -> bool {
    qdiscs(ns).iter().any(|qdisc| qdisc["kind"] == "clsact" && qdisc["dev"] == device)
}

/// `bpftool -j KIND show` for `prog`, `map`, `link` and `btf`.
pub fn objects(ns: &Netns, kind: &str) -> Vec<Value> {
    list(json(ns, "bpftool", &["-j", kind, "show"]))
}

/// `bpftool -j prog show id ID`.
pub fn program(ns: &Netns, id: u64) -> Value {
    json(ns, "bpftool", &["-j", "prog", "show", "id", &id.to_string()])
}

/// `bpftool -j map dump id ID`.
pub fn map_dump(ns: &Netns, id: u64) -> Vec<Value> {
    list(json(ns, "bpftool", &["-j", "map", "dump", "id", &id.to_string()]))
}

/// A directory for a test's files, removed with it.
pub struct Scratch(PathBuf);

impl Scratch {
    /// A new one.
    pub fn new() -> Scratch {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("detour-test-{}-{count}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Scratch(path)
    }

    /// The path of `name` in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file; its path as text.
    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path(name), contents).unwrap();
        self.path(name).to_str().unwrap().to_string()
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Scratch::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The project's top folder.
pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Somebody else's cls_bpf filter, loaded by tc: it lets everything pass to the next filter.
pub fn foreign_filter(ns: &Netns, device: &str, hook: &str, prio: u32) {
    // The cBPF form needs no object: "return -1" is TC_ACT_UNSPEC with direct-action.
    let (prio, code) = (prio.to_string(), "1,6 0 0 4294967295");
    let rest = ["protocol", "all", "bpf", "da", "bytecode", code];
    ns.run("tc", &[&["filter", "add", "dev", device, hook, "prio", &prio][..], &rest].concat());
}

/// Somebody else's tcx program at a hook, its link pinned at `path`: it lets everything pass on.
pub fn foreign_tcx(ns: &Netns, device: &str, hook: &str, path: &str) {
    let scratch = Scratch::new();
    let (source, program) = (project().join("tests/fixtures/tcx.c"), scratch.path("tcx"));
    let (source, program) = (source.to_str().unwrap(), program.to_str().unwrap());
    ns.run("cc", &["-Wall", "-Werror", "-o", program, source]);
    let link = ns.run("ip", &["-o", "link", "show", device]);
    ns.run(program, &[link.split(':').next().unwrap(), hook, path]);
}

/// The fields of each packet in a capture, a line each.
pub fn tshark(path: &str, fields: &[&str]) -> String {
    let mut tshark = Command::new("tshark");
    tshark.args(["-r", path, "-T", "fields", "-E", "separator=|", "-o", "ip.check_checksum:TRUE"]);
    tshark.args(fields.iter().flat_map(|field| ["-e", field]));
    let output = tshark.output().expect("tshark, of the Debian package of that name");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// `promtool check metrics` says nothing at all.
pub fn promtool(text: &str) {
    let mut tool = Command::new("promtool");
    tool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = tool.spawn().expect("promtool, of Debian's package prometheus");
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}\n{text}", String::from_utf8_lossy(&said));
}
