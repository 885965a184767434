// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Plans for a machine that is described in a file: no root, no kernel asked, the same text every time.
//!
//! The golden texts help a reviewer see what a change does to the calls that are made. They prove nothing by themselves;
//! strace does (`witness.rs`). `BLESS=1 cargo test -p e2e --test plan` writes them anew.
use e2e::detour;
use e2e::tools::Scratch;
use std::path::PathBuf;
use std::process::{Command, Output};

const CASES: [(&str, &[&str]); 5] = [
    ("load-drop", &["load", "@drop", "eth0", "--undo"]),
    (
        "load-trace-egress",
        &["load", "@trace", "eth0", "--egress", "trace", "--name", "wire", "--handle", "0x10"],
    ),
    ("dry-run", &["load", "@drop", "--no-attach", "--undo"]),
    ("up", &["up", "eth0", "--rule", "tcp dport 80 redirect to :8080", "--rule", "udp accept"]),
    ("bytes", &["load", "@drop", "eth0", "--bytes"]),
];

fn golden(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden").join(file)
}

/// Runs `detour plan …` as nobody, over the facts of the file.
fn plan(arguments: &[&str], json: bool) -> Output {
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--inh-caps=-all",
        "--bounding-set=-all",
    ]);
    // Copies that nobody can read, too, wherever the checkout is.
    let scratch = Scratch::new();
    let (program, facts) = (scratch.path("detour"), scratch.path("facts.json"));
    detour::copy(&program);
    std::fs::copy(golden("eth0.facts.json"), &facts).unwrap();
    command.arg(program).arg("plan").args(arguments).arg("--facts").arg(facts);
    if json {
        command.arg("-j");
    }
    command.output().unwrap()
}

/// Digests, tags and sizes belong to the compiler's work and are checked where they are made; here they are `#`.
fn masked(text: &str) -> String {
    let mut out = String::new();
    let mut word = String::new();
    for c in text.chars().chain(['\n']) {
        if c.is_ascii_alphanumeric() {
            word.push(c);
            continue;
        }
        let digest = word.len() >= 16 && word.chars().all(|c| c.is_ascii_hexdigit());
        let count = word.split_once('x').is_some_and(|(n, unit)| {
            ["1", "8", "16"].contains(&unit) && !n.is_empty() && n.chars().all(|c| c.is_ascii_digit())
        });
        out.push_str(if digest || count { "#" } else { &word });
        word.clear();
        out.push(c);
    }
    out.pop();
    let mut parts = out.split("type_id=");
    let first = parts.next().unwrap_or_default().to_string();
    parts.fold(first, |text, part| text + "type_id=#" + part.trim_start_matches(|c: char| c.is_ascii_digit()))
}

#[test]
fn plans_are_what_was_reviewed() {
    let mut wrong = Vec::new();
    for (name, arguments) in CASES {
        let output = plan(arguments, false);
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let text = masked(&String::from_utf8(output.stdout).unwrap());
        let file = golden(&format!("{name}.txt"));
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&file, &text).unwrap();
        }
        let expected = std::fs::read_to_string(&file).unwrap_or_default();
        let differs = text.lines().zip(expected.lines()).find(|(a, b)| a != b);
        if text != expected {
            wrong.push(format!(
                "{name}: {differs:?}, {} and {} lines",
                text.lines().count(),
                expected.lines().count()
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}\nBLESS=1 writes them anew; then read the difference");
}

#[test]
fn the_same_facts_give_the_same_plan() {
    for (name, arguments) in CASES {
        assert_eq!(plan(arguments, true).stdout, plan(arguments, true).stdout, "{name}");
    }
}
