// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Every command with exactly the capabilities that it needs, with each of them missing, with bpf(2) refused as lockdown
//! does, and below a read-only /sys: what fails says why.
use e2e::commands::{self, tree, Case, Files, COMMANDS};
use e2e::detour::{self, code, Run};
use e2e::lab::Lab;
use e2e::netns::Netns;
use e2e::snapshot::Snapshot;
use e2e::tools::Scratch;
use std::collections::BTreeSet;
use std::process::Command;

/// A lab in which the lines of the table are run, each finding what it wants.
struct Stage {
    lab: Lab,
    files: Files,
    /// A copy of the program that root without any capability can read.
    program: Scratch,
    ready: Option<&'static [&'static [&'static str]]>,
}

impl Stage {
    fn new() -> Stage {
        let program = Scratch::new();
        detour::copy(&program.path("detour"));
        Stage { lab: Lab::new(), files: Files::new(), program, ready: None }
    }

    fn ns(&self) -> &Netns {
        &self.lab.gateway
    }

    /// Makes what the case finds, and the files that its line names; where it changes something, what is there then.
    fn before(&mut self, case: &Case) -> Option<Snapshot> {
        if self.ready != Some(case.before) {
            commands::prepare(&self.lab, &self.files, case.before);
        }
        self.ready = Some(case.before);
        self.files.line(self.ns(), case.line);
        case.changes.then(|| Snapshot::here(self.ns()))
    }

    /// Runs a case behind the words of `wrapper`. What was refused has changed nothing.
    fn run(&mut self, case: &Case, wrapper: &[&str]) -> Run {
        if self.ready != Some(case.before) {
            commands::prepare(&self.lab, &self.files, case.before);
        }
        let run = self.try_out(case, wrapper);
        self.ready = (!case.changes || run.code == Some(case.without)).then_some(case.before);
        run
    }

    fn try_out(&self, case: &Case, wrapper: &[&str]) -> Run {
        let line = self.files.line(self.ns(), case.line);
        let mut command = Command::new(wrapper[0]);
        command.args(&wrapper[1..]).arg(self.program.path("detour")).args(&line).env("NO_COLOR", "1");
        let output = commands::output(self.ns(), &mut command, &line);
        Run::of(&line.iter().map(String::as_str).collect::<Vec<_>>(), &output)
    }

    fn with(&mut self, case: &Case, capabilities: &[&str]) -> Run {
        let set: String = capabilities.iter().map(|name| format!(",+{name}")).collect();
        let set = format!("--bounding-set=-all{set}");
        self.run(case, &["setpriv", &set, "--inh-caps=-all", "--no-new-privs"])
    }
}

/// What the case needs here, and what it needs anywhere.
fn needs(case: &Case) -> (Vec<&'static str>, Vec<&'static str>) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|n| n.parse::<u32>().unwrap_or(0));
    let new = (numbers.next(), numbers.next()) >= (Some(5), Some(19));
    let here = case.needs.iter().filter(|name| !new || !name.ends_with("<5.19"));
    let plain = |name: &&'static str| name.trim_end_matches("<5.19");
    (here.map(plain).collect(), case.needs.iter().map(plain).collect())
}

/// The capabilities that a message says are needed.
fn named(text: &str) -> BTreeSet<String> {
    let text = text.replace(", not CAP_BPF;", ";");
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("CAP_")).map(str::to_string).collect()
}

#[test]
fn the_table_is_the_command_line() {
    let named = COMMANDS.iter().map(|case| case.name.split(" (").next().unwrap().to_string());
    assert_eq!(named.collect::<BTreeSet<_>>(), tree().into_iter().collect::<BTreeSet<_>>());
}

#[test]
fn each_command_with_what_it_needs_and_without() {
    let mut stage = Stage::new();
    let (mut wrong, mut tried) = (Vec::new(), 0);
    for case in COMMANDS {
        let (needs, anywhere) = needs(case);
        let before = stage.before(case);
        for missing in &needs {
            let rest: Vec<&str> = needs.iter().filter(|name| *name != missing).copied().collect();
            let run = stage.with(case, &rest);
            let name = format!("CAP_{}", missing.to_uppercase());
            let said = match case.without {
                code::NO => run.stdout.contains(&name),
                _ => named(&run.stderr) == [name.clone()].into(),
            };
            if run.code != Some(case.without) || !said {
                wrong.push(format!("{} without {name}: {run:?}", case.name));
            }
            tried += 1;
        }
        if before.is_some_and(|before| before != Snapshot::here(stage.ns())) {
            wrong.push(format!("{} was refused, and changed something", case.name));
        }
        let mut given = vec![needs.clone()];
        given.extend((needs != anywhere).then_some(anywhere));
        for given in given {
            let run = stage.with(case, &given);
            if run.code != Some(case.code) {
                wrong.push(format!("{} with {given:?} ends otherwise: {run:?}", case.name));
            }
        }
    }
    assert!(tried >= 30, "{tried}");
    assert!(wrong.is_empty(), "{} of {tried}:\n{}", wrong.len(), wrong.join("\n"));
}

/// Lockdown, a seccomp filter around us, an LSM: bpf(2) says EPERM to who has every capability.
#[test]
fn bpf_refused_from_outside() {
    let mut stage = Stage::new();
    let (mut wrong, mut tried) = (Vec::new(), 0);
    for case in COMMANDS.iter().filter(|case| needs(case).1.contains(&"bpf")) {
        let run = stage.run(
            case,
            &["strace", "-f", "-o", "/dev/null", "-e", "trace=bpf", "-e", "inject=bpf:error=EPERM"],
        );
        let text = format!("{}{}", run.stdout, run.stderr);
        if run.code != Some(case.without) || !text.contains("CAP_BPF") || !text.contains("lockdown") {
            wrong.push(format!("{}: {run:?}", case.name));
        }
        tried += 1;
    }
    assert!(wrong.is_empty(), "{} of {tried}:\n{}", wrong.len(), wrong.join("\n"));
}

/// With /sys read-only around it, as services see it, nothing changes; with a read-only BPF file system it is said.
#[test]
fn a_read_only_sys() {
    let mut stage = Stage::new();
    let sys = "mount --bind /sys/fs/bpf /mnt; mount -o remount,ro,bind /sys; umount /mnt; exec \"$0\" \"$@\"";
    let bpffs = "mount -o remount,ro,bind /sys/fs/bpf; exec \"$0\" \"$@\"";
    let (mut wrong, mut refused) = (Vec::new(), 0);
    for case in COMMANDS {
        let run = stage.run(case, &["unshare", "--mount", "sh", "-ec", sys]);
        if run.code != Some(case.code) {
            wrong.push(format!("{} below a read-only /sys: {run:?}", case.name));
        }
        let run = stage.run(case, &["unshare", "--mount", "sh", "-ec", bpffs]);
        let said = run.stderr.contains("/sys/fs/bpf") && run.stderr.contains("Read-only");
        match run.code == Some(code::KERNEL) && said {
            true => refused += 1,
            false if run.code == Some(case.code) => {}
            false => wrong.push(format!("{} with a read-only bpffs: {run:?}", case.name)),
        }
    }
    assert!(refused >= 6, "what pins and unpins: {refused}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
