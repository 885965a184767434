// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Man pages, completions and service files, judged by those who will read them: man, the shells, systemd.
use e2e::tools;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
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
fn shells_read_their_completions() {
    content("bash", &["-n"], "completions/detour.bash");
    content("zsh", &["-n"], "completions/_detour");
    content("fish", &["--no-execute"], "completions/detour.fish");
    content("sh", &["-n"], "init/detour.openrc");
    content("sh", &["-n"], "init/rcS.busybox");
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
    let common = words(seen.split("## Every command\n").nth(1).unwrap().lines().nth(1).unwrap());
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

/// The threat model names tests: they have to be there.
#[test]
fn the_tests_of_the_threat_model_exist() {
    let page = std::fs::read_to_string(tools::project().join("loader/docs/threat-model.md")).unwrap();
    let named = page.split('`').filter(|word| word.ends_with(".rs") || word.starts_with("scripts/"));
    let folders = ["tests/tests", "", "loader/src/dnat"];
    let is_there = |name: &&str| folders.iter().any(|f| tools::project().join(f).join(name).exists());
    let missing: Vec<&str> = named.filter(|name| !is_there(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Code lines of a file as scripts/audit-numbers counts them: neither empty, nor comment, nor test.
fn lines(file: &Path) -> usize {
    let text = std::fs::read_to_string(file).unwrap();
    let code = text.split("\n#[cfg(test)]").next().unwrap_or_default();
    let mut inside = false;
    let counts = |line: &str| {
        let line = line.trim();
        let begins = line.starts_with("/*");
        let comment = inside || begins || line.starts_with("//");
        inside = (inside || begins) && !line.ends_with("*/");
        !line.is_empty() && !comment
    };
    code.lines().map(counts).filter(|code| *code).count()
}

/// The route of the audit guide leads to files that are there, and says how long they are, to a tenth.
#[test]
fn the_route_of_the_auditor_is_as_long_as_it_says() {
    let guide = std::fs::read_to_string(tools::project().join("loader/docs/audit-guide.md")).unwrap();
    let is_source = |word: &&str| [".rs", ".c", ".h"].iter().any(|end| word.ends_with(end));
    let all = |folder: &Path| -> Vec<PathBuf> {
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let tests = ["tests", "_tests", "sample", "sample_types"];
        let is_code = |file: &PathBuf| {
            let stem = file.file_stem().unwrap().to_str().unwrap();
            is_source(&file.to_str().unwrap()) && !tests.iter().any(|test| stem.ends_with(test))
        };
        files.filter(is_code).collect()
    };
    let mut said = 0;
    for section in guide.split("\n## ").skip(1) {
        let (title, text) = section.split_once('\n').unwrap();
        let folder = title.split([':', ',']).next().unwrap();
        let folder = tools::project().join(if folder == "loader/sys" { "loader/sys/src" } else { folder });
        let named: Vec<&str> = text.split('`').filter(is_source).collect();
        let places = [folder.clone(), tools::project().into(), tools::project().join("tests/tests")];
        for name in &named {
            let there = places.iter().any(|place| place.join(name).exists());
            assert!(there, "{title}: {name}");
        }
        let Some(count) = title.strip_suffix(" lines").and_then(|title| title.rsplit(", ").next()) else {
            continue;
        };
        let count: usize = count.replace(',', "").parse().unwrap();
        // Some stops are of a few files, others of all.
        let whole = ["loader/sys:", "loader/src/object:", "ebpf-src:"].iter().any(|of| title.starts_with(of));
        let files = match whole {
            true => all(&folder),
            false => named.iter().map(|name| folder.join(name)).filter(|file| file.exists()).collect(),
        };
        let there: usize = files.iter().map(|file| lines(file)).sum();
        assert!(there.abs_diff(count) * 10 <= there, "{title}: {there}");
        said += 1;
    }
    assert_eq!(said, 5);
    // And what all of it would be.
    let readme = std::fs::read_to_string(tools::project().join("README.md")).unwrap();
    let core = readme.lines().find(|line| line.starts_with("| core (")).unwrap();
    let core: usize = core.split('|').nth(2).unwrap().trim().split(' ').next().unwrap().parse().unwrap();
    let named = guide.split("(`--no-default-features`) has ").nth(1).unwrap().split(' ').next().unwrap();
    let named: usize = named.replace(',', "").parse().unwrap();
    assert!(named.abs_diff(core) * 20 <= core, "{core}");
}
