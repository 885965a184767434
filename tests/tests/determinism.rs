// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The same file gives the same plan in every process and the same bytes to the kernel, whatever descriptors are in use; what
//! an object declares comes in the order in which readelf sees it.
use ::detour::object::{Insn, Object};
use e2e::detour;
use e2e::netns::Netns;
use e2e::strace;
use e2e::tools::project;
use e2e::witness::assemble;
use std::path::PathBuf;
use std::process::Command;

/// Every object that is checked in.
fn objects() -> Vec<String> {
    let list = |folder: &str| std::fs::read_dir(project().join(folder)).unwrap();
    let paths = list("elf").chain(list("elf/fixtures")).map(|entry| entry.unwrap().path());
    let objects = paths.filter(|path| path.extension().is_some_and(|end| end == "o"));
    let mut all: Vec<String> = objects.map(|path| path.to_str().unwrap().to_owned()).collect();
    all.sort();
    assert!(all.len() > 60, "{}", all.len());
    all
}

fn fixture(name: &str) -> String {
    project().join(format!("elf/fixtures/{name}.bpf.o")).to_str().unwrap().to_owned()
}

#[test]
fn two_processes_make_the_same_plan_of_every_object() {
    let ns = Netns::new();
    let (mut plans, mut refusals) = (0, 0);
    for file in objects() {
        for rest in [&["--bytes", "--undo"][..], &["-j", "--legacy-maps"], &["-j", "--fd-array"]] {
            let line = [&["plan", "load", &file, "--no-attach"], rest].concat();
            let (one, other) = (detour::run(&ns, &line), detour::run(&ns, &line));
            let said = |run: &detour::Run| (run.code, run.stdout.clone(), run.stderr.clone());
            assert_eq!(said(&one), said(&other), "{line:?}");
            *(if one.code == Some(detour::code::DONE) { &mut plans } else { &mut refusals }) += 1;
        }
    }
    assert!(plans > 120 && refusals > 20, "{plans} plans, {refusals} refusals");
}

/// What a load of `file` gives to the kernel as the instructions of each program, in order.
fn loaded(ns: &Netns, command: &Command) -> Vec<Vec<u8>> {
    let (output, calls) = strace::trace(ns, command, "bpf", None);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let loads = calls.iter().filter(|call| call.bpf() == Some(5));
    let insns = |call: &strace::Call| match call.arguments[1].field("insns") {
        Some(strace::Argument::List(list)) => assemble(list).unwrap(),
        other => panic!("{other:?}"),
    };
    loads.map(insns).collect()
}

/// Instructions without what loads of maps name, which is all that may depend on descriptors.
fn nameless(insns: &[u8]) -> Vec<u8> {
    let insns = insns.chunks_exact(8).map(|bytes| Insn::from_bytes(bytes.try_into().unwrap()));
    let nameless = |insn: Insn| if insn.is_map_load() { Insn { imm: 0, ..insn } } else { insn };
    insns.flat_map(|insn| nameless(insn).to_bytes()).collect()
}

#[test]
fn instructions_do_not_depend_on_descriptors() {
    let ns = Netns::new();
    for name in ["globals", "maps", "kinds", "kconfig", "bss_own", "variants"] {
        let file = fixture(name);
        // As usual, and where the first descriptors are taken.
        let both = |rest: &[&str]| {
            let line = [&["load", &file, "--no-attach"], rest].concat();
            let mut busy = Command::new("sh");
            let taken = "exec 3</dev/null 4<&3 5<&3 6<&3 7<&3 8<&3 9<&3; exec \"$0\" \"$@\"";
            busy.args(["-c", taken]).arg(detour::path()).args(&line);
            (loaded(&ns, &detour::command(&line)), loaded(&ns, &busy))
        };
        let (usual, busy) = both(&[]);
        assert_ne!(usual, busy, "{name}: nothing moved, so this shows nothing");
        let without = |all: &[Vec<u8>]| all.iter().map(|insns| nameless(insns)).collect::<Vec<_>>();
        assert_eq!(without(&usual), without(&busy), "{name}");
        let (usual, busy) = both(&["--fd-array"]);
        assert!(!usual.is_empty() && usual == busy, "{name} --fd-array");
        // Those are the ones that a plan can print: they come from no kernel and no descriptor.
        let plan = detour::run(&ns, &["plan", "load", &file, "--no-attach", "--fd-array"]).done().stdout;
        assert!(plan.contains("fd_array="), "{plan}");
    }
}

/// Names of readelf's symbols of this type, by section and place; those of sections whose index is in `of`, if there is one.
fn symbols(file: &str, kind: &str) -> Vec<(usize, u64, String)> {
    let output = Command::new("readelf").args(["-sW", file]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let place = (words.get(6)?.parse().ok()?, u64::from_str_radix(words[1], 16).ok()?);
        (words[3] == kind).then(|| (place.0, place.1, words[7].to_owned()))
    };
    let mut found: Vec<_> = text.lines().filter_map(line).collect();
    found.sort();
    found
}

#[test]
fn what_is_declared_comes_in_its_order() {
    let (mut programs, mut maps) = (0, 0);
    for file in objects() {
        let bytes = std::fs::read(PathBuf::from(&file)).unwrap();
        let Ok(object) = Object::parse(&bytes) else { continue };
        let named = |symbols: Vec<(usize, u64, String)>, names: &[&str]| {
            let names = |(_, _, name): &(usize, u64, String)| names.contains(&name.as_str());
            symbols.into_iter().filter(names).map(|(_, _, name)| name).collect::<Vec<_>>()
        };
        let names: Vec<&str> = object.programs.iter().map(|program| program.name.as_str()).collect();
        assert_eq!(named(symbols(&file, "FUNC"), &names), names, "{file}");
        programs += names.len();
        let names: Vec<&str> =
            object.maps.iter().map(|map| map.name.as_str()).filter(|name| !name.starts_with('.')).collect();
        assert_eq!(named(symbols(&file, "OBJECT"), &names), names, "{file}");
        maps += names.len();
    }
    assert!(programs > 80 && maps > 60, "{programs} programs, {maps} maps");
}

#[test]
fn the_order_of_words_does_not_count() {
    let ns = Netns::new();
    let steps = |line: &[&str]| detour::json(&ns, &[&["plan", "load"], line, &["--no-attach"]].concat());
    let file = fixture("sections");
    let one = steps(&[&file, "--program", "first", "--program", "second"]);
    let other = steps(&[&file, "--program", "second", "--program", "first"]);
    assert!(one["steps"].is_array() && one["steps"] == other["steps"], "{one}\n{other}");
    let file = fixture("globals");
    let one = steps(&[&file, "--set", "small=9", "--set", "large=7"]);
    let other = steps(&[&file, "--set", "large=7", "--set", "small=9"]);
    assert!(one["steps"].is_array() && one["steps"] == other["steps"], "{one}\n{other}");
}
