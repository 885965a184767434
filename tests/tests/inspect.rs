// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `inspect`: what an object says of itself, in words and as JSON, without a kernel.
use e2e::detour::{self, code, Run};
use e2e::tools::project;
use serde_json::{json, Value};
use std::process::Command;

fn fixture(name: &str) -> String {
    project().join("elf/fixtures").join(name).with_extension("bpf.o").to_str().unwrap().to_string()
}

fn inspect(arguments: &[&str]) -> Run {
    let arguments = [&["inspect"], arguments].concat();
    Run::of(&arguments, &detour::command(&arguments).output().unwrap())
}

/// The element of a list of the document that is called so.
#[track_caller]
fn named<'a>(document: &'a Value, list: &str, name: &str) -> &'a Value {
    let found = document[list].as_array().unwrap().iter().find(|one| one["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {}", document[list]))
}

#[test]
fn variables_have_types_and_values() {
    let document = inspect(&[&fixture("globals"), "-j"]).done().json();
    for (name, kind, value) in [
        ("enabled", "_Bool", json!(false)),
        ("negative", "__s32", json!(-5)),
        ("large", "__u64", json!(1_u64 << 40)),
        ("colour", "enum colour", json!("RED")),
        ("name", "char[16]", json!("nobody")),
        ("pairs", "struct pair[2]", json!([{"low": 1, "high": 2}, {"low": 3, "high": 4}])),
        ("zeroed", "__u64", json!(0)),
    ] {
        let variable = named(&document, "variables", name);
        assert_eq!((&variable["type"], &variable["value"]), (&json!(kind), &value), "{name}");
    }
    let text = inspect(&[&fixture("globals")]).done().stdout;
    for line in [
        "struct pair[2] pairs = {{.low = 1, .high = 2}, {.low = 3, .high = 4}}",
        "char[16] name = \"nobody\"",
        "map      .rodata.own type array key 4 value 4 entries 1 flags rdonly_prog,mmapable frozen",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[test]
fn what_is_set_is_shown() {
    let set = ["--set", "pairs[1].low=9", "--set", "colour=1", "-j"];
    let document = inspect(&[&[fixture("globals").as_str()][..], &set].concat()).done().json();
    assert_eq!(named(&document, "variables", "pairs")["value"][1], json!({"low": 9, "high": 4}));
    inspect(&[&fixture("globals"), "--set", "nothing=1"]).refused(code::USAGE, &["nothing", "pairs"]);
}

#[test]
fn maps_have_shapes_and_slots() {
    let document = inspect(&[&fixture("maps"), "-j"]).done().json();
    let outer = named(&document, "maps", "outer");
    assert_eq!(outer["type_name"], "array_of_maps");
    assert_eq!(outer["inner"]["value_size"], 8);
    assert_eq!(outer["slots"], json!([{"index": 2, "map": "inner_1"}]));
    assert_eq!(named(&document, "maps", "jumps")["slots"], json!([{"index": 1, "program": "tail"}]));
    assert_eq!(named(&document, "maps", "locked_pinned")["pin_by_name"], true);
    assert_eq!(named(&document, "maps", "sized")["flag_names"], json!(["no_prealloc"]));
    let program = named(&document, "programs", "maps");
    assert_eq!(program["maps"], json!(["outer", "jumps", "locked_pinned", "sized"]));
    assert!(program["helpers"].as_array().unwrap().contains(&json!("bpf_tail_call")), "{program}");
}

/// Of which the kernel shows one for what was loaded (fixtures.rs).
#[test]
fn tags_are_those_of_the_plan() {
    for name in ["maps", "globals", "subprograms", "callbacks", "variants_v4"] {
        let document = inspect(&[&fixture(name), "-j"]).done().json();
        let line = ["plan", "load", &fixture(name), "--no-attach", "-j"];
        let plan = Run::of(&line, &detour::command(&line).output().unwrap()).done().json();
        let mut compared = 0;
        for step in plan["steps"].as_array().unwrap().iter().filter(|step| !step["expect"].is_null()) {
            let program =
                named(&document, "programs", step["gives"].as_str().unwrap().trim_start_matches('?'));
            assert_eq!(program["tag"], step["expect"]["tag"], "{name}");
            compared += 1;
        }
        assert!(compared > 0, "{plan}");
    }
}

#[test]
fn sections_make_kinds() {
    let document = inspect(&[&fixture("sections"), "-j"]).done().json();
    for (name, kind, autoload) in
        [("first", "sched_cls", true), ("asleep", "sched_cls", false), ("stranger", "unknown", true)]
    {
        let program = named(&document, "programs", name);
        assert_eq!((&program["type"], &program["autoload"]), (&json!(kind), &json!(autoload)), "{name}");
    }
}

#[test]
fn what_the_kernel_has_to_provide_is_listed() {
    let document = inspect(&[&fixture("kconfig"), "-j"]).done().json();
    let externs = document["externs"].as_array().unwrap();
    assert!(externs.iter().any(|e| e["of"] == "configuration" && e["weak"] == true), "{externs:?}");
    let document = inspect(&[&fixture("ksyms"), "-j"]).done().json();
    let externs = document["externs"].as_array().unwrap();
    assert!(externs.iter().any(|e| e["of"] == "kernel function"), "{externs:?}");
    let used =
        document["programs"].as_array().unwrap().iter().map(|p| p["externs"].as_array().unwrap().len());
    assert!(used.sum::<usize>() > 0, "{document}");
    let document = inspect(&[&fixture("core"), "-j"]).done().json();
    assert!(document["programs"][0]["tag"].is_null(), "it depends on the kernel");
    let relocations = document["programs"][0]["core_relocations"].as_array().unwrap();
    assert!(relocations.iter().any(|r| r.as_str().unwrap().starts_with("struct ")), "{relocations:?}");
}

/// `CO-RE <byte_off> [2] struct __sk_buff___moved::mark (0:0)` is llvm-objdump's form; of types and enumerators it has no path.
#[test]
fn what_the_kernels_types_decide_is_said_as_llvm_says_it() {
    let file = fixture("core");
    let output = Command::new("llvm-objdump-19").args(["-dr", &file]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let llvms = said.lines().filter_map(|line| {
        let (kind, rest) = line.split_once("CO-RE <")?.1.split_once("> ")?;
        let (name, path) =
            rest.split_once("] ")?.1.split_once("::").unwrap_or((rest.split_once("] ")?.1, ""));
        let path = path.rsplit_once('(').map(|(_, path)| path.trim_end_matches(')'));
        let name = name.trim_start_matches("fwd ").trim_start_matches("typedef ");
        Some(format!("{kind} {name} {}", path.unwrap_or_default()))
    });
    let mut llvms: Vec<String> = llvms.collect();
    llvms.sort();
    let document = inspect(&[&file, "-j", "--disasm"]).done().json();
    let listings =
        document["programs"].as_array().unwrap().iter().flat_map(|p| p["listing"].as_array().unwrap());
    let mut ours: Vec<&str> = listings.filter_map(|line| line["core"].as_str()).collect();
    ours.sort_unstable();
    assert!(ours.len() > 40 && ours.len() == llvms.len(), "{ours:?} {llvms:?}");
    for (ours, llvms) in ours.iter().zip(&llvms) {
        assert!(ours.starts_with(llvms), "{ours}: {llvms}");
    }
    assert!(inspect(&[&file, "--disasm"])
        .done()
        .stdout
        .contains("   ; CO-RE byte_off struct __sk_buff___moved 0:0\n"));
}

#[test]
fn instructions_come_with_their_source() {
    let text = inspect(&["@dnat", "--disasm", "--program", "detour_out"]).done().stdout;
    for line in ["detour_out:", "dnat.bpf.c:", "call bpf_map_lookup_elem#1", "map[idx4]", "&cfg"] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("program detour_in"));
    let document = inspect(&["@drop", "--disasm", "-j"]).done().json();
    let listing = document["programs"][0]["listing"].as_array().unwrap();
    assert_eq!(listing.last().unwrap()["text"], "exit");
    inspect(&["@drop", "--disasm", "--program", "none"]).refused(code::USAGE, &["none", "it has: drop"]);
}

#[test]
fn names_from_the_object_cannot_harm_a_terminal() {
    let scratch = e2e::tools::Scratch::new();
    let mut bytes = std::fs::read(fixture("sections")).unwrap();
    let at = bytes.windows(8).position(|w| w == b"stranger").unwrap();
    // The name stands once in the ELF strings, where its symbol finds it, and once in the types.
    let second = at + 8 + bytes[at + 8..].windows(8).position(|w| w == b"stranger").unwrap_or(0);
    for at in [at, second] {
        bytes[at..at + 8].copy_from_slice(b"\x1b[31mred");
    }
    let run = inspect(&[&scratch.write("evil.o", bytes)]);
    assert!(!run.stdout.contains('\x1b') && !run.stderr.contains('\x1b'), "{run:?}");
}

#[test]
fn what_is_for_the_other_byte_order_is_named() {
    // The same source for both: what is in it by name is the same.
    let (big, little) = (fixture("variants_big_endian"), fixture("variants"));
    let said = inspect(&[&big, "-j"]).done().json();
    let ours = inspect(&[&little, "-j"]).done().json();
    assert_eq!((&said["byte_order"], &said["license"]), (&json!("big-endian"), &ours["license"]));
    let of = |list: &Value| {
        let names = list.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap_or_default());
        names.filter(|name| !name.starts_with('.')).map(str::to_owned).collect::<Vec<_>>()
    };
    let maps: Vec<&str> = said["maps"].as_array().unwrap().iter().map(|map| map.as_str().unwrap()).collect();
    assert!(!maps.is_empty() && of(&ours["maps"]).iter().all(|map| maps.contains(&map.as_str())), "{said}");
    for program in ours["programs"].as_array().unwrap() {
        let function = named(&said, "functions", program["name"].as_str().unwrap());
        assert_eq!(function["section"], program["section"]);
    }
    // Sizes as readelf has them.
    let symbols = Command::new("readelf").args(["-s", "--wide", &big]).output().unwrap();
    for line in String::from_utf8(symbols.stdout).unwrap().lines().filter(|line| line.contains(" FUNC ")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let function = named(&said, "functions", words[7]);
        assert_eq!(function["insns"].as_u64().unwrap() * 8, words[2].parse::<u64>().unwrap(), "{line}");
    }
    let text = inspect(&[&big]).done().stdout;
    assert!(text.contains("order    big-endian") && text.contains("'load' refuses it"), "{text}");
    // What takes more than names is refused as loading is.
    for more in [&["--disasm"][..], &["--set", "x=1"], &["--policy", "/dev/null"]] {
        inspect(&[&[big.as_str()], more].concat()).refused(code::OBJECT, &["big-endian"]);
    }
}
