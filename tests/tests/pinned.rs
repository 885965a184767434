// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Maps pinned by name: shared only when a folder is named, only with the same shape, replaced only when told.
use detour_sys::{call, commands, Map, Value};
use e2e::detour::{self, code};
use e2e::lab::Lab;
use e2e::netns::Netns;
use e2e::tools;
use std::os::fd::AsFd;

const DEVICE: &str = "eth0";
const DIR: &str = "/sys/fs/bpf/shared";
const MAP: &str = "/sys/fs/bpf/shared/locked_pinned";

fn load(ns: &Netns, name: &str, rest: &[&str]) -> detour::Run {
    let file = tools::project().join("elf/fixtures/maps.bpf.o").display().to_string();
    let load = ["load", &file, DEVICE, "--name", name, "--ingress", "maps"];
    detour::run(ns, &[&load[..], rest].concat())
}

/// The number of the map pinned at `path`.
fn id(ns: &Netns, path: &str) -> u64 {
    tools::json(ns, "bpftool", &["-j", "map", "show", "pinned", path])["id"].as_u64().unwrap()
}

fn used(ns: &Netns, name: &str) -> u64 {
    let rows = detour::json(ns, &["map", "list", DEVICE, name]);
    let rows = rows["maps"].as_array().unwrap();
    rows.iter().find(|row| row["name"] == "locked_pinned").unwrap()["id"].as_u64().unwrap()
}

fn lab() -> Lab {
    let lab = Lab::on(Netns::alone(), DEVICE);
    lab.gateway.run("mkdir", &["-m", "0700", DIR]);
    lab
}

#[test]
fn the_same_shape_is_shared_and_outlives_both() {
    let lab = lab();
    let ns = &lab.gateway;
    let run = load(ns, "alone", &[]).done();
    assert!(run.stdout.contains("without --pin-dir"), "{run:?}");
    load(ns, "a", &["--pin-dir", DIR]).done();
    load(ns, "b", &["--pin-dir", DIR]).done();
    let shared = id(ns, MAP);
    assert_eq!((used(ns, "a"), used(ns, "b")), (shared, shared));
    assert_ne!(used(ns, "alone"), shared);
    for name in ["a", "b", "alone"] {
        detour::run(ns, &["unload", DEVICE, name]).done();
    }
    assert_eq!(id(ns, MAP), shared, "it stays");
    load(ns, "c", &["--pin-dir", DIR]).done();
    assert_eq!(used(ns, "c"), shared);
}

#[test]
fn another_shape_is_refused_or_replaced() {
    let lab = lab();
    let ns = &lab.gateway;
    let create =
        ["map", "create", MAP, "type", "hash", "key", "4", "value", "8", "entries", "5", "name", "other"];
    ns.run("bpftool", &create);
    let other = id(ns, MAP);
    let words = [MAP, "map_type is 1, not 2", "max_entries is 5, not 2", "--on-incompatible=recreate"];
    load(ns, "a", &["--pin-dir", DIR]).refused(code::FOREIGN, &words);
    let recreate = ["--pin-dir", DIR, "--on-incompatible", "recreate"];
    // A later step fails: the old map is back at its place.
    let late = [&recreate[..], &["--tcx", "--revision", "999"]].concat();
    load(ns, "a", &late).refused(code::KERNEL, &["revision"]);
    // No snapshot here: who lists maps while a program array goes away can make the kernel forget to free it.
    assert_eq!(id(ns, MAP), other, "it is back at its place");
    assert!(!ns.within(|| std::path::Path::new("/sys/fs/bpf/detour").exists()), "nothing else is left");
    load(ns, "a", &recreate).done();
    assert_ne!(id(ns, MAP), other);
    assert_eq!(used(ns, "a"), id(ns, MAP));
}

#[test]
fn values_must_mean_the_same_whatever_their_types_are_called() {
    let lab = lab();
    let ns = &lab.gateway;
    // Packets of others would be counted.
    ns.run("ip", &["link", "set", DEVICE, "down"]);
    let load = |object: &str, name: &str, rest: &[&str]| {
        let file = tools::project().join(format!("elf/fixtures/{object}.bpf.o")).display().to_string();
        let load = ["load", &file, DEVICE, "--name", name, "--pin-dir", DIR];
        detour::run(ns, &[&load[..], rest].concat())
    };
    let table = || id(ns, "/sys/fs/bpf/shared/table");
    load("pins", "a", &[]).done();
    let first = table();
    load("pins_alike", "b", &[]).done();
    assert_eq!(table(), first);
    // The kernel's numbers of this map are those of the other: only types and the inner maps tell.
    let words = ["outer holds another map", "max_entries of its inner maps is 1, not 2"];
    load("pins_moved", "c", &[]).refused(code::FOREIGN, &words);
    ns.run("rm", &["/sys/fs/bpf/shared/outer"]);
    let words = ["value.bytes is called packets there", "--on-incompatible=recreate"];
    load("pins_moved", "c", &[]).refused(code::FOREIGN, &words);
    load("pins_moved", "c", &["--on-incompatible", "recreate"]).done();
    assert_ne!(table(), first);
    // Nobody gives the object: the kernel has kept the types.
    let file = tools::project().join("elf/fixtures/pins_moved.bpf.o").display().to_string();
    let set = ["map", "set", DEVICE, "c", "table", "7", "hex:050000000600000001000000"];
    detour::run(ns, &[&set[..], &["--types", &file]].concat()).done();
    let dump = |rest: &[&str]| detour::run(ns, &[&["map", "dump", DEVICE, "c", "table"], rest].concat());
    let text = dump(&[]).done().stdout;
    assert!(text.contains("bytes = 5") && text.contains("last = SECOND"), "{text}");
    assert_eq!(text, dump(&["--types", &file]).done().stdout);
}

/// Each number that the kernel tells of a map, alone; of `numa_node` it tells the flag.
#[test]
fn each_number_that_differs_is_named() {
    let lab = lab();
    let ns = &lab.gateway;
    let table = [("map_type", 1), ("key_size", 4), ("value_size", 12), ("max_entries", 8), ("map_flags", 0)];
    let bloom = [("map_type", 30), ("value_size", 4), ("max_entries", 100), ("map_extra", 4)];
    for (object, name, shape, field, other) in [
        ("pins", "table", &table[..], "map_type", 9),
        ("pins", "table", &table, "key_size", 8),
        ("pins", "table", &table, "value_size", 16),
        ("pins", "table", &table, "max_entries", 9),
        ("pins", "table", &table, "map_flags", 1), // BPF_F_NO_PREALLOC
        ("pins", "table", &table, "map_flags", 4), // BPF_F_NUMA_NODE
        ("map_kinds", "bloom_long", &bloom, "map_extra", 3),
    ] {
        let usual = shape.iter().find(|(name, _)| *name == field).unwrap().1;
        let path = format!("{DIR}/{name}");
        ns.within(|| {
            let number = |(name, usual): &(&'static str, u64)| {
                (*name, Value::Num(if *name == field { other } else { *usual }))
            };
            let map = Map::create(&shape.iter().map(number).collect::<Vec<_>>()).unwrap();
            let pin = [("pathname", Value::Text(&path)), ("bpf_fd", Value::Fd(map.as_fd()))];
            call(&commands::OBJ_PIN, &pin).unwrap();
        });
        let file = tools::project().join(format!("elf/fixtures/{object}.bpf.o")).display().to_string();
        let run = detour::run(ns, &["load", &file, DEVICE, "--pin-dir", DIR]);
        let words = format!("{path} holds another map: {field} is {other}, not {usual}");
        let run = run.refused(code::FOREIGN, &[&words]);
        assert!(run.stderr.lines().any(|line| line.ends_with(&words)), "more than that: {}", run.stderr);
        ns.run("rm", &[&path]);
    }
}

/// Of these maps the kernel shows other numbers than it was told, which libbpf takes for another map.
#[test]
fn what_the_kernel_adapts_is_no_difference() {
    let lab = lab();
    let ns = &lab.gateway;
    let file = tools::project().join("elf/fixtures/adapted.bpf.o").display().to_string();
    let pinned = || ["devices", "spread"].map(|name| id(ns, &format!("{DIR}/{name}")));
    let mut first = None;
    for name in ["a", "b"] {
        detour::run(ns, &["load", &file, DEVICE, "--name", name, "--pin-dir", DIR]).done();
        assert_eq!(pinned(), *first.get_or_insert_with(pinned));
    }
}

#[test]
fn a_folder_that_cannot_be_trusted_is_refused() {
    let lab = lab();
    let ns = &lab.gateway;
    ns.run("mkdir", &["-m", "0777", "/sys/fs/bpf/open"]);
    ns.run("chmod", &["0777", "/sys/fs/bpf/open"]);
    for (dir, word) in
        [("/sys/fs/bpf/none", "No such file"), ("/tmp", "BPF file system"), ("/sys/fs/bpf/open", "others")]
    {
        load(ns, "a", &["--pin-dir", dir]).refused(code::USAGE, &["--pin-dir", word]);
    }
    ns.run("mkdir", &["/sys/fs/bpf/shared/locked_pinned"]);
    load(ns, "a", &["--pin-dir", DIR]).refused(code::FOREIGN, &["locked_pinned is no map"]);
}
