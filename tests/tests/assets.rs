// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Man pages, completions and service files, judged by those who will read them: man, the shells, systemd.
use e2e::detour;
use e2e::lab::Lab;
use e2e::netns::Netns;
use e2e::tools::{self, Scratch};
use std::collections::BTreeSet;
use std::process::Command;

/// Runs a program on a file of loader/assets; it has to succeed and have nothing to complain of.
fn content(program: &str, arguments: &[&str], file: &str) -> String {
    let path = tools::project().join("loader/assets").join(file);
    let output = Command::new(program).args(arguments).arg(path).env("LC_ALL", "C.UTF-8").output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let (text, complaint) =
        (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && complaint.trim().is_empty(), "{program} {file}: {text}{complaint}");
    text
}

#[test]
fn man_pages_are_well_formed() {
    for (file, words) in [("man/detour.8", "--require-signature"), ("man/detour.rules.5", "redirect")] {
        let page = content("man", &["--warnings", "-E", "UTF-8", "-l"], file);
        assert!(page.contains(words) && page.contains("NAME"), "{page}");
    }
}

#[test]
fn shells_read_what_is_for_them() {
    content("bash", &["-n"], "completions/detour.bash");
    content("zsh", &["-n"], "completions/_detour");
    content("fish", &["--no-execute"], "completions/detour.fish");
    for file in ["init/detour.openrc", "init/rcS.busybox"] {
        content("shellcheck", &["--shell=sh"], file);
    }
}

/// What is in `loader/assets/init`, with the rules in this folder.
fn script(file: &str, rules: &Scratch) -> String {
    let text = std::fs::read_to_string(tools::project().join("loader/assets/init").join(file)).unwrap();
    rules.write("eth0.rules", "tcp dport 80 redirect to :8080\n");
    text.replace("/etc/detour", rules.path("").display().to_string().trim_end_matches('/'))
}

/// Runs a script where `detour` is the program under test.
fn sh(ns: &Netns, script: &str) {
    let folder = detour::path().parent().unwrap().display().to_string();
    let mut command = Command::new("sh");
    command.args(["-c", script]).env("PATH", format!("{folder}:{}", std::env::var("PATH").unwrap()));
    let output = ns.output(&mut command);
    assert!(output.status.success(), "{script}\n{output:?}");
}

/// OpenRC calls these functions in turn; what it would have prepared stands before the script.
#[test]
fn openrc_starts_reloads_and_stops_it() {
    let (lab, rules) = (Lab::new(), Scratch::new());
    let ns = &lab.gateway;
    let openrc = "RC_SVCNAME=detour.eth0 detour_options=--sealed; ebegin() { :; }; eend() { return $1; }; need() { :; }; after() { :; };";
    let service =
        |what: &str| sh(ns, &format!("{openrc}\n{}\ndepend && {what}", script("detour.openrc", &rules)));
    service("start_pre && start");
    detour::run(ns, &["verify", "--live", "eth0", "--sealed", "--rule", "tcp dport 80 redirect to :8080"])
        .done();
    service("reload");
    service("stop");
    detour::run(ns, &["status", "eth0"]).ends(detour::code::NO);
}

/// The whole start-up of an appliance, in a namespace in which nothing is mounted and no address is set.
#[test]
fn busybox_starts_it() {
    let (lab, rules) = (Lab::new(), Scratch::new());
    let ns = &lab.gateway;
    ns.run("ip", &["address", "flush", "dev", "eth0"]);
    for folder in ["/sys", "/proc"] {
        ns.run("mount", &["-t", "tmpfs", "none", folder]);
    }
    let script = script("rcS.busybox", &rules);
    let down = script.lines().find_map(|line| line.strip_prefix("#   ::shutdown:/sbin/")).unwrap();
    sh(ns, &script);
    detour::run(ns, &["verify", "--live", "eth0", "--rule", "tcp dport 80 redirect to :8080"]).done();
    sh(ns, down);
    detour::run(ns, &["status", "eth0"]).ends(detour::code::NO);
}

/// Each shell completes a command and an option of it, as if the tabulator had been pressed.
#[test]
fn shells_complete() {
    let folder = tools::project().join("loader/assets/completions").display().to_string();
    let bash = "source $0/detour.bash; words() { COMP_WORDS=(\"$@\") COMP_CWORD=$(($# - 1)) COMPREPLY=()
        _detour \"$1\" \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD - 1]}\"; echo \"${COMPREPLY[@]}\"; }
        words detour flo; words detour plan up eth0 --original";
    let fish =
        "source $argv[1]/detour.fish; complete -C 'detour flo'; complete -C 'detour plan up eth0 --original'";
    // An interactive one in a terminal of its own; what it shows has to come.
    let zsh = "zmodload zsh/zpty; zpty z zsh -f -i
        zpty -w z \"PS1=; fpath=($1 \\$fpath); autoload -Uz compinit; compinit -u -D; bindkey '^I' complete-word; print RE''ADY\"
        zpty -r z out '*READY*'
        zpty -w -n z $'detour flo\\t'; zpty -r z out '*flows*' && print -- flows
        zpty -w -n z $'\\025detour plan up eth0 --original\\t'; zpty -r z out '*--original-dst*' && print -- --original-dst
        zpty -d z";
    for (shell, words) in [
        ("bash", &["--norc", "-c", bash, &folder][..]),
        ("fish", &["--no-config", "-c", fish, &folder]),
        ("zsh", &["-f", "-c", zsh, "zsh", &folder]),
    ] {
        let output = Command::new("timeout").args(["60", shell]).args(words).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let found: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!(found, ["flows", "--original-dst"], "{shell}: {output:?}");
    }
}

/// 0 is no exposure, 10 the worst; the threshold is given in tenths.
#[test]
fn units_expose_little() {
    let judge = ["security", "--offline=true", "--no-pager", "--threshold=20"];
    for unit in UNITS {
        let report = content("systemd-analyze", &judge, unit);
        assert!(report.contains("Overall exposure level"), "{report}");
    }
}

const UNITS: [&str; 2] = ["systemd/detour@.service", "systemd/detour-run@.service"];

/// The calls in one of systemd's groups, or the call itself.
fn group(name: &str) -> BTreeSet<String> {
    if !name.starts_with('@') {
        return [name.to_string()].into();
    }
    let output =
        Command::new("systemd-analyze").args(["syscall-filter", "--no-pager", name]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let words = text.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    words.flat_map(group).collect()
}

/// What the commands were seen to call, and what a confined one may call, is what the units let through.
#[test]
fn units_allow_what_is_called() {
    let docs = tools::project().join("loader/docs");
    let read = |page: &str| std::fs::read_to_string(docs.join(page)).unwrap();
    let (seen, table) = (read("syscalls.md"), read("confinement.md"));
    let words = |line: &str| line.split('`').skip(1).step_by(2).map(str::to_string).collect::<BTreeSet<_>>();
    let common = words(seen.split("## Every command\n").nth(1).unwrap().split("## Besides").next().unwrap());
    let row = |name: &str| {
        words(seen.lines().find_map(|line| line.strip_prefix(&format!("| `{name}` |"))).unwrap())
    };
    let confined = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let confined: BTreeSet<String> = confined.map(str::to_string).collect();
    assert!(common.len() > 15 && confined.len() > 35, "{common:?} {confined:?}");
    for unit in UNITS {
        let text = std::fs::read_to_string(tools::project().join("loader/assets").join(unit)).unwrap();
        let mut allowed = BTreeSet::new();
        for words in text.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
            let calls: BTreeSet<String> = words.trim_start_matches('~').split(' ').flat_map(group).collect();
            match words.starts_with('~') {
                true => allowed.retain(|call| !calls.contains(call)),
                false => allowed.extend(calls),
            }
        }
        let called = match unit.contains("run") {
            true => [common.clone(), confined.clone(), row("check"), row("run"), row("run (over up)")],
            false => [common.clone(), row("check"), row("up"), row("up (reload)"), row("down")],
        };
        let called: BTreeSet<String> = called.into_iter().flatten().collect();
        let missing: Vec<&String> = called.difference(&allowed).collect();
        assert!(missing.is_empty(), "{unit}: {missing:?}");
    }
}

/// Each stop of the audit guide names files that are there, and has its row in the table of times, which `scripts/audit-numbers`
/// keeps.
#[test]
fn the_route_of_the_auditor_leads_to_what_is_there() {
    let guide = std::fs::read_to_string(tools::project().join("loader/docs/audit-guide.md")).unwrap();
    let is_source = |word: &&str| [".rs", ".c", ".h"].iter().any(|end| word.ends_with(end));
    let mut stops = 0;
    for section in guide.split("\n## ").skip(1) {
        let (title, text) = section.split_once('\n').unwrap();
        let place = title.split([':', ',']).next().unwrap();
        let folder = tools::project().join(if place == "loader/sys" { "loader/sys/src" } else { place });
        let named: Vec<&str> = text.split('`').filter(is_source).collect();
        let places = [folder, tools::project().into(), tools::project().join("tests/tests")];
        for name in &named {
            let there = places.iter().any(|place| place.join(name).exists());
            assert!(there, "{title}: {name}");
        }
        stops += usize::from(guide.lines().any(|row| row.starts_with(&format!("| `{}`", place))));
    }
    assert_eq!(stops, 5);
}
