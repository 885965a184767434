// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Every object in elf/fixtures: loaded or refused as its source expects; what bpftool and tc load too is the same code.
use e2e::detour::{self, code};
use e2e::lab::Lab;
use e2e::netns::Netns;
use e2e::tools::{self, json};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

const DEVICE: &str = "eth0";

/// What is expected of one object: this loader's verdict, and what the others make of it.
struct Expected {
    name: &'static str,
    ours: Verdict,
    /// bpftool 7.1 (libbpf 1.1) loads the whole object.
    bpftool: bool,
    /// tc 6.1 (libbpf 1.1), asked for the sections one by one, loads all that we load.
    tc: bool,
}

enum Verdict {
    /// All that load by themselves.
    Loads,
    /// The exit code, and words of the message.
    Refused(i32, &'static [&'static str]),
}
use Verdict::{Loads, Refused};

const fn row(name: &'static str, ours: Verdict, bpftool: bool, tc: bool) -> Expected {
    Expected { name, ours, bpftool, tc }
}

const fn bad(name: &'static str, words: &'static [&'static str]) -> Expected {
    row(name, Refused(code::OBJECT, words), false, false)
}

const fn refused_by_kernel(name: &'static str, words: &'static [&'static str]) -> Expected {
    row(name, Refused(code::KERNEL, words), false, false)
}

const EXPECTED: &[Expected] = &[
    row("adapted", Loads, true, true),
    row("addresses", Loads, true, true),
    bad("bad_maps_conflict", &["map bad, attribute key_size", "contradicts"]),
    bad("bad_maps_extern", &["map bad", "extern and defined nowhere"]),
    // The others load it and forget the value.
    row("bad_maps_filled", Refused(code::OBJECT, &["map bad", "has a value"]), true, true),
    bad("bad_maps_pinning", &["map bad, attribute pinning", "LIBBPF_PIN_BY_NAME"]),
    bad("bad_maps_static", &["map bad", "static"]),
    bad("bad_maps_unknown", &["map bad, attribute max_elements", "unknown"]),
    bad("bad_relocation", &["R_BPF_64_NODYLD32 against 'target'"]),
    bad("big_endian", &["big-endian"]),
    row("bss_own", Loads, false, true), // bpftool: "skipping section .bss.own"
    row("callbacks", Loads, true, true),
    row("core", Loads, true, true),
    row("core_clang16", Loads, true, true),
    row("core_clang22", Loads, true, true),
    refused_by_kernel("core_missing", &["no_such_field"]),
    refused_by_kernel("core_narrow", &["has another size"]),
    refused_by_kernel("core_narrow_bits", &["is a bit-field either in the object or in"]),
    row("core_unsigned", Loads, false, false), // only the Go library takes it
    row("exceptions", Loads, false, false),    // libbpf 1.3
    row("globals", Loads, true, true),
    row("kconfig", Loads, true, true),
    bad("kconfig_missing", &["extern CONFIG_NO_SUCH_THING"]),
    row("kinds", Loads, true, true),
    row("ksym_exists", Loads, true, true),
    row("ksyms", Loads, true, true),
    bad("ksyms_missing", &["extern no_such_function"]),
    bad("ksyms_other_type", &["extern bpf_rcu_read_lock"]),
    row("ksyms_other_type_weak", Loads, false, false), // libbpf 1.1 refuses weak ones, too
    bad("legacy", &["section maps", "--legacy-maps"]),
    bad("legacy_iproute2", &["section maps", "--legacy-maps"]),
    row("legacy_modern", Loads, true, true),
    bad("legacy_short", &["section maps", "--legacy-maps"]),
    bad("legacy_short_no_btf", &["section maps", "--legacy-maps"]),
    bad("link_a", &["other"]),
    bad("link_b", &["no tc program"]),
    row("loose", Loads, false, false),     // only the Go library takes it
    row("map_kinds", Loads, false, false), // __ulong: libbpf 1.4
    row("maps", Loads, true, true),
    row("merged", Loads, true, true),
    row("merged_clang14", Loads, true, true),
    row("mixed", Loads, false, false), // the kprobe's missing function
    row("module_function", Loads, true, true),
    row("names", Loads, false, true), // libbpf knows tc, classifier, action and no more
    row("netkit", Loads, true, true), // by bpftool as `type classifier`; libbpf knows them from 1.3 on
    row("no_btf", Loads, true, true),
    refused_by_kernel("no_license", &["GPL-restricted function"]),
    row("pins", Loads, true, true),
    row("pins_alike", Loads, true, true),
    // Both share the pins of the one before, whose values mean something else.
    row("pins_moved", Loads, true, true),
    refused_by_kernel("rejected", &["invalid access to packet"]),
    row("rewrites", Loads, true, true),
    row("rings", Loads, true, true),
    row("sections", Loads, false, true), // `stranger` has no type for libbpf
    row("sizes", Loads, true, true),
    row("slot_xdp", Loads, false, false), // bpftool cannot leave out `jumps`, tc fills the slot and fails
    row("static_call", Loads, false, false), // libbpf: static functions in .text only
    row("subprograms", Loads, true, true),
    row("subprograms_clang14", Loads, true, true),
    row("subprograms_clang22", Loads, true, true),
    bad("undefined", &["nowhere"]),
    row("text", Refused(code::OBJECT, &["--type sched_cls"]), true, true),
    row("values", Loads, true, true),
    row("variables", Loads, true, true),
    row("variants", Loads, true, true),
    bad("variants_big_endian", &["big-endian"]),
    row("variants_clang14", Loads, true, true),
    row("variants_clang16", Loads, true, true),
    row("variants_clang22", Loads, true, true),
    bad("variants_no_btf", &[".maps", "BTF"]),
    row("variants_no_btf_ext", Loads, true, true),
    bad("variants_stripped", &["no symbol table"]),
    row("variants_v1", Loads, true, true),
    row("variants_v2", Loads, true, true),
    row("variants_v4", Loads, true, true),
];

fn file(name: &str) -> String {
    tools::project().join(format!("elf/fixtures/{name}.bpf.o")).display().to_string()
}

/// The expected verdict of each object; which one it is of `ksyms_variable` depends on the kernel, see compat_externs.
fn expected() -> BTreeMap<&'static str, &'static Expected> {
    EXPECTED.iter().map(|row| (row.name, row)).collect()
}

#[test]
fn every_object_is_expected_to_load_or_not() {
    let folder = std::fs::read_dir(tools::project().join("elf/fixtures")).unwrap();
    let mut names: Vec<String> = folder
        .map(|entry| entry.unwrap().file_name().into_string().unwrap().replace(".bpf.o", ""))
        .filter(|name| name != "ksyms_variable")
        .collect();
    names.sort();
    assert_eq!(names, expected().into_keys().collect::<Vec<_>>());
    let ns = Netns::new();
    for Expected { name, ours, .. } in EXPECTED {
        let run = detour::run(&ns, &["load", &file(name), "--no-attach"]);
        match ours {
            Loads => drop(run.done()),
            Refused(code, words) => drop(run.refused(*code, words)),
        }
    }
}

/// The tags of all programs that `plan load --no-attach` would load, by name.
fn planned(ns: &Netns, name: &str) -> BTreeMap<String, [String; 2]> {
    let plan = detour::json(ns, &["plan", "load", &file(name), "--no-attach"]);
    let tags = plan["steps"].as_array().unwrap().iter().filter_map(|step| {
        let tag = |kind: &str| Some(step["expect"]["tag"][kind].as_str()?.to_owned());
        let program = step["gives"].as_str()?.strip_prefix('?')?.to_owned();
        Some((program, [tag("sha256")?, tag("sha1")?]))
    });
    tags.collect()
}

/// The instructions that the kernel made of a pinned program, without the numbers of maps. Without the source lines too:
/// libbpf gives the kernel no types at all where it refuses some (`merged_clang14`).
fn translated(ns: &Netns, pin: &str) -> String {
    let text = ns.run("bpftool", &["prog", "dump", "xlated", "pinned", pin]);
    let text: String = text.lines().filter(|line| line.contains(": (")).collect();
    let mut parts = text.split("map[id:");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + "map[" + part.trim_start_matches(|c: char| c.is_ascii_digit()))
}

const BPF_F_MMAPABLE: u64 = 1 << 10;

/// The maps of global data that a program uses: section, sizes, flags but for those of `mask`, whether it is frozen. libbpf puts
/// its file's name before a section's.
fn data_maps(ns: &Netns, program: &[&str], mask: u64) -> BTreeSet<String> {
    let program = json(ns, "bpftool", &[&["-j", "prog", "show"], program].concat());
    let ids = program["map_ids"].as_array().cloned().unwrap_or_default();
    let maps = ids.iter().map(|id| json(ns, "bpftool", &["-j", "map", "show", "id", &id.to_string()]));
    let data = maps.filter_map(|map| {
        let name = map["name"].as_str()?;
        let section = name.split_once('.').map_or(name, |(before, after)| match before {
            "rodata" | "data" | "bss" => name,
            _ => after,
        });
        let shape = ["bytes_key", "bytes_value", "max_entries", "frozen"].map(|n| map[n].to_string());
        let flags = map["flags"].as_u64()? & !mask;
        let known = ["rodata", "data", "bss", "kconfig"].iter().any(|kind| section.starts_with(kind));
        known.then(|| format!("{section:.14} {} flags {flags}", shape.join(" ")))
    });
    data.collect()
}

/// Loads an object on the device as `load` does; the folder of its pins.
fn load(ns: &Netns, name: &str, programs: &[&String]) -> String {
    let file = file(name);
    let mut arguments = vec!["load", &file, DEVICE, "--name", "it"];
    programs.iter().for_each(|program| arguments.extend(["--ingress", program.as_str()]));
    detour::run(ns, &arguments).done();
    let folder = ns.run("sh", &["-c", "echo /sys/fs/bpf/detour/*/it"]);
    folder.trim().to_owned()
}

#[test]
fn what_bpftool_loads_is_the_same_code() {
    let lab = Lab::on(Netns::new(), DEVICE);
    let (ns, mut compared) = (&lab.gateway, 0);
    for Expected { name, ours, bpftool, .. } in EXPECTED {
        let pins = format!("/sys/fs/bpf/bpftool-{name}");
        let arguments = ["prog", "loadall", &file(name), &pins, "type", "classifier"];
        let output = ns.output(Command::new("bpftool").args(arguments));
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        // An object without programs is nothing to bpftool.
        assert_eq!(output.status.success() && *name != "link_b", *bpftool, "{name}: {words}");
        if !bpftool || !matches!(ours, Loads) {
            continue;
        }
        let tags = planned(ns, name);
        let folder = load(ns, name, &tags.keys().collect::<Vec<_>>());
        for (program, tags) in tags {
            let pin = format!("{pins}/{program}");
            let shown = json(ns, "bpftool", &["-j", "prog", "show", "pinned", &pin]);
            // libbpf before 1.3 leaves the call of a function that is missing as it was.
            if program != "weak_ones" {
                assert!(tags.contains(&shown["tag"].as_str().unwrap().to_owned()), "{name}: {program}");
                let ours = format!("{folder}/prog_{program}");
                assert_eq!(translated(ns, &ours), translated(ns, &pin), "{name}: {program}");
                // Every program of bpftool's is bound to .rodata, used or not. Its libbpf, before 1.1.0, makes all of these maps
                // for mmap(2).
                let [ours, theirs] = [&ours, &pin].map(|pin| data_maps(ns, &["pinned", pin], BPF_F_MMAPABLE));
                assert!(ours.is_subset(&theirs), "{name}: {program}: {ours:?}, bpftool has {theirs:?}");
                compared += 1;
            }
        }
        detour::run(ns, &["unload", DEVICE, "it"]).done();
    }
    assert!(compared >= 25, "{compared} programs");
}

#[test]
fn what_tc_loads_is_the_same_code() {
    let lab = Lab::on(Netns::new(), DEVICE);
    let (ns, mut compared, mut differ) = (&lab.gateway, 0, Vec::new());
    let (mut mapped, mut others) = (0, 0);
    ns.run("tc", &["qdisc", "add", "dev", DEVICE, "clsact"]);
    for Expected { name, tc, .. } in EXPECTED.iter().filter(|row| matches!(row.ours, Loads)) {
        let tags = planned(ns, name);
        let programs = detour::json(ns, &["inspect", &file(name)]);
        let programs = programs["programs"].as_array().unwrap().clone();
        let programs = programs.iter().filter(|p| tags.contains_key(p["name"].as_str().unwrap()));
        let mut all = true;
        let mut before = "";
        for program in programs {
            // tc takes the first program of a section.
            let section = program["section"].as_str().unwrap();
            if std::mem::replace(&mut before, section) == section {
                continue;
            }
            let filter = ["filter", "replace", "dev", DEVICE, "ingress", "prio", "1", "handle", "1"];
            let rest = ["bpf", "da", "obj", &file(name), "sec", section];
            let loaded = ns.output(Command::new("tc").args([&filter[..], &rest].concat())).status.success();
            all &= loaded;
            if loaded && name != &"ksyms" {
                let filters = tools::filters(ns, DEVICE, "ingress");
                let tag = filters[0]["options"]["prog"]["tag"].as_str().unwrap().to_owned();
                let program = program["name"].as_str().unwrap().to_owned();
                let tags = &tags[&program];
                assert!(tags.contains(&tag), "{name}: {section}: {tag} is not one of {tags:?}");
                compared += 1;
                // Its libbpf, 1.1.0, makes those maps for mmap(2) in which somebody is to find a variable.
                let id = filters[0]["options"]["prog"]["id"].to_string();
                let theirs = data_maps(ns, &["id", &id], 0);
                let pin = format!("{}/prog_{}", load(ns, name, &[&program]), program);
                let ours = data_maps(ns, &["pinned", &pin], 0);
                detour::run(ns, &["unload", DEVICE, "it"]).done();
                assert!(ours.is_subset(&theirs), "{name}: {section}: {ours:?}, tc has {theirs:?}");
                let flags = |map: &&String| ["flags 1024", "flags 1152"].iter().any(|end| map.ends_with(end));
                mapped += ours.iter().filter(flags).count();
                others += ours.iter().filter(|map| !flags(map)).count();
            }
        }
        if all != *tc {
            differ.push(*name);
        }
    }
    assert!(mapped >= 12 && others >= 4, "{mapped} maps are for mmap(2), {others} are not");
    assert_eq!(differ, [""; 0], "tc does not what the table says");
    assert!(compared >= 20, "{compared} programs");
}
