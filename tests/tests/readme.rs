// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! README's example, done as it stands there: what it says is printed is printed.
use e2e::detour;
use e2e::lab::{Lab, GATEWAY};
use e2e::serve::Server;
use e2e::talk;
use e2e::tools::{project, Scratch};
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

/// The example's lines: the rules, and what each command prints.
struct Example {
    rules: String,
    printed: Vec<(String, String)>,
}

impl Example {
    fn read() -> Example {
        let text = std::fs::read_to_string(project().join("README.md")).unwrap();
        let (_, text) = text.split_once("Use it. ").expect("README has an example");
        let mut example = Example { rules: String::new(), printed: Vec::new() };
        for line in text.lines().skip_while(|line| !line.starts_with("    ")) {
            match (line.strip_prefix("    "), example.printed.last_mut()) {
                (Some(line), last) => match (line.strip_prefix("$ sudo detour "), last) {
                    (Some(command), _) => example.printed.push((command.into(), String::new())),
                    (None, Some((_, printed))) => *printed += &format!("{line}\n"),
                    (None, None) if line.starts_with('$') => {}
                    (None, None) => example.rules += &format!("{line}\n"),
                },
                (None, None) => {}
                (None, Some(_)) => break,
            }
        }
        example
    }
}

/// The words of a table that are no ages.
fn timeless(table: &str) -> Vec<Vec<&str>> {
    let age = |word: &&str| word.strip_suffix('s').is_some_and(|number| number.parse::<u32>().is_ok());
    table.lines().map(|line| line.split_whitespace().filter(|word| !age(word)).collect()).collect()
}

#[test]
fn the_example_prints_what_it_says() {
    let example = Example::read();
    let commands = example.printed.iter().map(|(command, _)| command.as_str());
    assert_eq!(commands.collect::<Vec<_>>(), ["up eth0 web.rules", "asked eth0", "down eth0"]);
    let (lab, scratch) = (Lab::new(), Scratch::new());
    let rules = scratch.write("web.rules", &example.rules);
    let _server = Server::http(&lab.gateway, (GATEWAY, 8080), "page");
    let run = |number: usize| {
        let line = example.printed[number].0.replace("web.rules", &rules);
        detour::run(&lab.gateway, &line.split(' ').collect::<Vec<_>>()).done().stdout
    };
    assert_eq!(run(0), example.printed[0].1);
    for (port, to) in
        [(1, "198.51.100.7:25"), (2, "198.51.100.7:80"), (3, "198.51.100.7:443"), (4, "203.0.113.9:80")]
    {
        let to: SocketAddr = to.parse().unwrap();
        let heard = talk::dial_for(&lab.client, 40000 + port, to, Duration::from_millis(300));
        assert_eq!(heard.is_ok(), to.port() == 80, "{to}: {heard:?}");
    }
    assert_eq!(timeless(&run(1)), timeless(&example.printed[1].1));
    assert_eq!(run(2), example.printed[2].1);
}

/// What README and the audit guide tell an auditor to type, in the order of the guide, where `detour` is the program under test.
#[test]
fn what_an_auditor_is_told_to_type() {
    let project = project();
    let read = |file: &str| std::fs::read_to_string(project.join(file)).unwrap();
    let guide = read("loader/docs/audit-guide.md");
    let mut lines: Vec<String> = guide
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with("detour ") || line.starts_with("strace "))
        .map(|line| line.split(" #").next().unwrap().trim().to_string())
        .collect();
    assert!(lines.len() == 5 && lines[4].starts_with("strace "), "{lines:?}");
    let readme = read("README.md");
    let first = readme.lines().find_map(|line| line.strip_prefix("1. `")).unwrap();
    lines.extend(first.split('`').step_by(2).map(|line| line.trim_end_matches('.').replace("DEV", "eth0")));
    assert!(lines[5].starts_with("detour plan up eth0") && lines[6].starts_with("strace "), "{lines:?}");
    let lab = Lab::new();
    let ns = &lab.gateway;
    let path = format!("{}:{}", detour::path().parent().unwrap().display(), std::env::var("PATH").unwrap());
    for line in &lines {
        let words: Vec<&str> = line.split(' ').collect();
        let output = ns.output(Command::new(words[0]).args(&words[1..]).env("PATH", &path));
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout.len() > 20, "{line}");
        // What strace is to be compared with has a line for each effect, in the same order.
        if words[0] == "strace" {
            let log = String::from_utf8(output.stderr).unwrap();
            let made = ["mkdir(", "rename("].map(|call| log.matches(call).count());
            assert!(made[0] >= 2 && made[1] == 1, "{line}: {log}");
            detour::run(ns, &["down", "eth0"]).done();
        }
    }
}
