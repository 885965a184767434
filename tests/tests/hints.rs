// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Whatever a person can write wrongly on a command line: the refusal says what is wrong, and how to mend it.
use ::detour::ui::cli;
use clap::{Arg, Command};
use e2e::detour::{self, code, Run};
use e2e::lab::Lab;
use e2e::netns::Netns;
use e2e::snapshot::Snapshot;
use e2e::tools::{self, Scratch};
use serde_json::Value;

const DEVICE: &str = "eth0";
/// A file in no folder; and no number, name, device, address, condition or rule.
const WRONG: &str = "/no/such/folder/file";

/// Every command with its words, `plan up` as well as `up`.
fn commands(command: &Command, words: &[String]) -> Vec<(Vec<String>, Command)> {
    let inner = command.get_subcommands().flat_map(|inner| {
        let words = [words, &[inner.get_name().to_string()]].concat();
        match inner.has_subcommands() {
            true => commands(inner, &words),
            false => vec![(words, inner.clone())],
        }
    });
    inner.collect()
}

/// What is right for an argument that has to be given.
fn right(arg: &Arg) -> &'static str {
    match arg.get_id().as_str() {
        "dev" => DEVICE,
        "file" => "@trace",
        "name" => "lab",
        "map" => "seen",
        "key" | "value" => "hex:00000000",
        "program" => "trace_in",
        "packet" | "plan" => "/etc/hostname",
        "protocol" => "tcp",
        "client" => "192.0.2.1:1",
        "server" => "192.0.2.2:2",
        other => panic!("{other}: what is right for it?"),
    }
}

/// The line of a command that has every argument it needs, and `wrong` wrongly.
fn line(words: &[String], command: &Command, wrong: &Arg) -> Vec<String> {
    let (mut line, mut after) = (words.to_vec(), Vec::new());
    for arg in command.get_arguments() {
        let is_wrong = arg.get_id() == wrong.get_id();
        if !is_wrong && !arg.is_required_set() {
            continue;
        }
        let value = if is_wrong { WRONG } else { right(arg) };
        match arg.get_long() {
            Some(long) => line.push(format!("--{long}={value}")),
            None => after.push((arg.get_index(), value.to_string())),
        }
    }
    // What comes before an argument without a name has to be there as well.
    for arg in command.get_positionals().filter(|arg| arg.get_index() < wrong.get_index()) {
        if after.iter().all(|(index, _)| *index != arg.get_index()) {
            after.push((arg.get_index(), right(arg).to_string()));
        }
    }
    after.sort();
    line.extend(after.into_iter().map(|(_, value)| value));
    line
}

fn judge(run: &Run) -> Result<(), String> {
    let codes = [code::NO, code::USAGE, code::OBJECT, code::KERNEL, code::FOREIGN].map(Some);
    let error: Value = serde_json::from_str(&run.stderr).map_err(|e| format!("{e}: {run:?}"))?;
    let said = |member: &str| error[member].as_str().is_some_and(|text| !text.trim().is_empty());
    match codes.contains(&run.code) && run.stdout.is_empty() && said("error") && said("hint") {
        true => Ok(()),
        false => Err(format!("{:?}: {} {} {}", run.code, run.line, run.stdout, run.stderr)),
    }
}

#[test]
fn every_option_of_every_command() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    detour::up(ns, DEVICE, &[]);
    detour::run(ns, &["load", "@trace", DEVICE, "--name", "lab"]).done();
    let before = Snapshot::take(ns);
    let (mut tried, mut mute) = (0, Vec::new());
    for (words, command) in commands(&cli::command(), &[]) {
        for arg in command.get_arguments().filter(|arg| arg.get_action().takes_values()) {
            let mut line = line(&words, &command, arg);
            line.push("-j".into());
            let line: Vec<&str> = line.iter().map(String::as_str).collect();
            let mut timeout = std::process::Command::new("timeout");
            timeout.arg("30").arg(detour::path()).args(&line).env("NO_COLOR", "1");
            tried += 1;
            mute.extend(judge(&Run::of(&line, &ns.output(&mut timeout))).err());
        }
    }
    assert!(mute.is_empty(), "{} of {tried}:\n{}", mute.len(), mute.join("\n"));
    before.holds(ns, "what was refused");
    assert!(tried > 200, "{tried}");
}

/// A file that is there, and is another one than it ought to be: the refusal says what it is, what it should be, and what makes one.
#[test]
fn a_file_of_another_kind() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let scratch = Scratch::new();
    let path = |name: &str| scratch.path(name).display().to_string();
    let [plan, transcript, facts] = ["plan", "transcript", "facts"].map(path);
    let line = ["up", DEVICE, "--rule", "drop"];
    let document =
        detour::run(ns, &[&["plan"], &line[..], &["-j", "--save-facts", &facts]].concat()).done().stdout;
    std::fs::write(&plan, &document).unwrap();
    detour::run(ns, &[&line[..], &["--transcript", &transcript]].concat()).done();
    detour::run(ns, &["down", DEVICE]).done();
    let before = Snapshot::take(ns);
    let object = tools::project().join("elf/drop.bpf.o").display().to_string();
    let (empty, words) = (scratch.write("empty", "\n"), scratch.write("words", "hello\n"));
    let list = scratch.write("list", "{}");
    // How each is said to be. /dev/zero has no end.
    let given = [
        ("/dev/null", "not a regular file"),
        ("/dev/zero", "not a regular file"),
        (&*empty, "empty"),
        (&*object, "an ELF object"),
        (&*words, "not JSON"),
        (&*list, "JSON without a schema"),
        (&*plan, "a detour.plan/1"),
        (&*transcript, "lines of a detour.transcript/1"),
        (&*facts, "a detour.facts/1"),
    ];
    let against = ["plan", "up", DEVICE, "--rule=drop", "--against"];
    let asks: [(&[&str], &[&str], &str, &str); 3] = [
        (&["apply"], &[&plan], "not a plan (detour.plan/1)", "detour plan"),
        (&against, &[&plan, &transcript], "not a transcript or a plan", "--transcript FILE"),
        (&["plan", "up", DEVICE, "--facts"], &[&facts], "not a file of facts", "--save-facts"),
    ];
    let mut tried = 0;
    for (ask, right, wanted, hint) in asks {
        for (file, is) in given.iter().filter(|(file, _)| !right.contains(file)) {
            detour::run(ns, &[ask, &[file]].concat()).refused(code::USAGE, &[file, is, wanted, hint]);
            tried += 1;
        }
    }
    assert_eq!(tried, 8 + 7 + 8);
    // These are no JSON, and say so otherwise.
    let policy = ["load", "@drop", DEVICE, "--policy"];
    let key = ["load", &object, DEVICE, "--require-signature"];
    for (ask, wanted, hint) in
        [(&policy, "not a policy", "helper deny"), (&key, "not a public key of minisign", "minisign -G")]
    {
        for (file, is) in &given[..4] {
            detour::run(ns, &[&ask[..], &[file]].concat()).refused(code::USAGE, &[file, is, wanted, hint]);
        }
    }
    detour::run(ns, &[&key[..], &[&words]].concat())
        .refused(code::USAGE, &["not a public key", "minisign -G"]);
    let comment = scratch.write("comment", "# nothing\n");
    detour::run(ns, &[&policy[..], &[&comment]].concat()).refused(code::USAGE, &["no rules", "not a policy"]);
    before.holds(ns, "what was refused");
}
