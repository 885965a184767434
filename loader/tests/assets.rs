// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The clap tree to the man page and the shell completions in loader/assets: they have to be current.
//!
//! `BLESS=1 cargo test -p detour --test assets` writes them anew.
#![allow(clippy::unwrap_used)]
#![cfg(all(
    feature = "compat",
    feature = "audit",
    feature = "demo",
    feature = "suggest",
    feature = "operate"
))]
use clap::Command;
use clap_complete::{generate, Shell};
use std::path::PathBuf;

fn tree() -> Command {
    let mut tree = detour::ui::cli::command().bin_name("detour");
    tree.build();
    tree
}

/// The whole man page: the front, then a section for each command, for nobody wants twenty pages.
fn man() -> Vec<u8> {
    let tree = tree();
    let man = clap_mangen::Man::new(tree.clone())
        .title("DETOUR")
        .section("8")
        .manual("System administration")
        .source("detour")
        .date("");
    let mut page = b".\\\" SPDX-License-Identifier: MIT OR GPL-2.0-or-later\n.\\\" Made from loader/src/ui/cli by loader/tests/assets.rs\n".to_vec();
    man.render_title(&mut page).unwrap();
    man.render_name_section(&mut page).unwrap();
    man.render_synopsis_section(&mut page).unwrap();
    man.render_description_section(&mut page).unwrap();
    man.render_options_section(&mut page).unwrap();
    let mut commands = Vec::new();
    leaves(&tree, "detour", &mut commands);
    for (path, command) in commands {
        // Those that every command has stand above.
        let own = |arg: clap::Arg| match arg.is_global_set() || arg.get_id() == "help" {
            true => arg.hide(true),
            false => arg,
        };
        let man = clap_mangen::Man::new(command.clone().mut_args(own));
        let mut part = Vec::new();
        man.render_description_section(&mut part).unwrap();
        man.render_options_section(&mut part).unwrap();
        // What '--help' says at its end.
        man.render_extra_section(&mut part).unwrap();
        let text = String::from_utf8(part).unwrap();
        page.extend(format!(".SH {}\n", path.to_uppercase()).bytes());
        for line in text.lines() {
            match line {
                ".SH DESCRIPTION" | ".ie \\n(.g .ds Aq \\(aq" | ".el .ds Aq '" => continue,
                ".SH OPTIONS" | ".SH EXTRA" => page.extend(b".PP\n"),
                line => page.extend(line.bytes().chain([b'\n'])),
            }
        }
    }
    page.extend(TAIL.bytes());
    page
}

/// Commands that do something, with the words that lead to them. Those of `plan` have the options of their own command.
fn leaves<'a>(command: &'a Command, path: &str, found: &mut Vec<(String, &'a Command)>) {
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        let path = format!("{path} {}", sub.get_name());
        match sub.has_subcommands() {
            true => leaves(sub, &path, found),
            false => found.push((path, sub)),
        }
    }
}

const TAIL: &str = r".SH CAPABILITIES
.BR up ,
.BR run ,
.B load
and
.B doctor
need CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON;
.B flush
and
.B test
the first two;
.B down
and
.B unload
CAP_NET_ADMIN.
What only looks, and
.B up
or
.B run
with other rules over what runs, needs none.
.BR \-n ,
.B \-\-mount\-bpffs
and whatever finds what
.B \-\-no\-pin
made need CAP_SYS_ADMIN as well;
.B demo
that, CAP_NET_ADMIN and CAP_NET_BIND_SERVICE.
Before Linux 5.19 all of them need CAP_BPF; before 5.11 what creates needs CAP_SYS_RESOURCE too, unless the limit of
locked memory is infinite.
.BR run ,
.B events
and
.B watch
give up what they do not need once they serve (loader/docs/confinement.md).
/sys/fs/bpf belongs to root: be root, or have CAP_DAC_OVERRIDE.
A command that lacks one ends with status 5 and names it; loader/docs/syscalls.md has every command's.
.SH FILES
.TP
.I /sys/fs/bpf/detour/
State, a folder for each network namespace and device.
.SH SEE ALSO
.BR detour.rules (5),
.BR tc-bpf (8),
.BR bpf (2),
.BR nft (8)
";

fn completion(shell: Shell) -> Vec<u8> {
    let mut text = Vec::new();
    generate(shell, &mut detour::ui::cli::command(), "detour", &mut text);
    // The licence goes behind the first line, which may be one that the shell reads.
    let at = text.iter().position(|b| *b == b'\n').unwrap() + 1;
    let mut with = text[..at].to_vec();
    with.extend(b"# SPDX-License-Identifier: MIT OR GPL-2.0-or-later\n");
    with.extend(&text[at..]);
    with
}

/// What the service files call is a command line that this program takes.
#[test]
fn services_call_what_there_is() {
    let units = [
        include_str!("../assets/systemd/detour@.service"),
        include_str!("../assets/systemd/detour-run@.service"),
    ];
    let lines = units.iter().flat_map(|unit| unit.lines());
    let lines: Vec<&str> = lines.filter(|l| l.starts_with("Exec") && l.contains("/detour ")).collect();
    assert!(lines.len() >= 6);
    for line in lines {
        let line =
            line.split_once('=').unwrap().1.replace("%I", "eth0").replace("$DETOUR_OPTIONS", "--prio=7");
        let line: Vec<&str> =
            line.split(' ').filter(|word| !(line.contains(" down ") && word.starts_with("--"))).collect();
        assert!(detour::ui::cli::command().try_get_matches_from(&line).is_ok(), "{line:?}");
    }
}

#[test]
fn assets_are_current() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("assets");
    let mut stale = Vec::new();
    for (file, text) in [
        ("man/detour.8", man()),
        ("completions/detour.bash", completion(Shell::Bash)),
        ("completions/_detour", completion(Shell::Zsh)),
        ("completions/detour.fish", completion(Shell::Fish)),
    ] {
        let path = folder.join(file);
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        if std::fs::read(&path).unwrap_or_default() != text {
            stale.push(file);
        }
    }
    assert!(stale.is_empty(), "{stale:?}: BLESS=1 cargo test -p detour --test assets writes them anew");
}
