// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `map` beside bpftool, and `test` beside what the fixtures say of themselves.
use e2e::detour::{self, code};
use e2e::lab::Lab;
use e2e::netns::Netns;
use e2e::snapshot::Snapshot;
use e2e::tools::{self, Scratch};
use serde_json::{json, Value};

const DEVICE: &str = "eth0";

fn fixture(name: &str) -> String {
    tools::project().join(format!("elf/fixtures/{name}.bpf.o")).display().to_string()
}

#[test]
fn elements_are_read_and_written_by_their_types() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let file = fixture("maps");
    detour::run(ns, &["load", &file, DEVICE, "--name", "m", "--ingress", "maps"]).done();
    // Writes go to a map that no program uses: packets of the lab itself change the others.
    let map = |what: &str, rest: &[&str]| {
        detour::run(ns, &[&["map", what, DEVICE, "m"], rest, &["--types", &file, "-j"]].concat())
    };
    let rows = map("list", &[]).done().json();
    let rows = rows["maps"].as_array().unwrap();
    for row in rows {
        let id = row["id"].as_u64().unwrap().to_string();
        let theirs = tools::json(ns, "bpftool", &["-j", "map", "show", "id", &id]);
        for (ours, name) in [
            ("type", "type"),
            ("key_size", "bytes_key"),
            ("value_size", "bytes_value"),
            ("max_entries", "max_entries"),
        ] {
            assert_eq!(row[ours], theirs[name], "{row} {theirs}");
        }
    }
    assert_eq!(
        map("set", &["unused_by_programs", "0", "0x10"]).done().json()["elements"],
        json!([{"key": 0, "value": 16}])
    );
    assert_eq!(
        map("get", &["unused_by_programs", "0"]).done().json()["elements"],
        json!([{"key": 0, "value": 16}])
    );
    let id = rows.iter().find(|row| row["name"] == "unused_by_programs").unwrap()["id"].as_u64().unwrap();
    assert_eq!(tools::map_dump(ns, id)[0]["formatted"], json!({"key": 0, "value": 16}));
    let locked = map("dump", &["locked_pinned"]).done().json();
    assert_eq!(locked["elements"][1]["value"]["count"], 0, "{locked}");
    map("get", &["unused_by_programs", "7"]).ends(code::NO);
    map("get", &["nothing", "0"]).refused(code::USAGE, &["nothing", "unused_by_programs"]);
    let beyond = map("set", &["unused_by_programs", "7", "1"]);
    beyond.refused(code::KERNEL, &["unused_by_programs: MAP_UPDATE_ELEM", "type array", "entries at most"]);
    map("set", &["unused_by_programs", "0", "many"]).refused(code::USAGE, &["many", "number"]);
    map("set", &["unused_by_programs", "0", "hex:00"]).refused(code::USAGE, &["8 bytes"]);
    let other = ["map", "dump", DEVICE, "m", "unused_by_programs", "--types", &fixture("globals")];
    detour::run(ns, &other).refused(code::USAGE, &["globals.bpf.o"]);
    // Without the object, the types that the kernel keeps; with ours, its own without being told.
    let raw = detour::json(ns, &["map", "dump", DEVICE, "m", "unused_by_programs"]);
    assert_eq!(raw["elements"], json!([{"key": 0, "value": 16}]));
    let raw = detour::json(ns, &["map", "dump", DEVICE, "m", "sized"]);
    assert_eq!(raw["elements"], json!([]), "it has none");
    detour::up(ns, DEVICE, &[]);
    let rodata = detour::json(ns, &["map", "dump", DEVICE, "up", ".rodata"]);
    assert_eq!(rodata["elements"][0]["value"]["cfg"]["l2_len"], 14);
    let cpus = detour_sys::possible_cpus().unwrap();
    let reasons = detour::json(ns, &["map", "get", DEVICE, "up", "reasons", "0"]);
    assert_eq!(reasons["elements"][0]["value"].as_array().map(Vec::len), Some(cpus));
    let maps = detour::json(ns, &["map", "list", DEVICE, "up"])["maps"].clone();
    let rodata = maps.as_array().unwrap().iter().find(|map| map["name"] == ".rodata").unwrap();
    let zeros = "00".repeat(rodata["value_size"].as_u64().unwrap() as usize);
    let frozen = ["map", "set", DEVICE, "up", ".rodata", "hex:00000000", &format!("hex:{zeros}")];
    detour::run(ns, &frozen).refused(code::PERMISSION, &["MAP_UPDATE_ELEM"]);
    detour::run(ns, &["map", "list", DEVICE, "none"]).ends(code::NO);
}

/// `test` on frames of these lengths, all zero but for an ethertype that the kernel does not know.
fn verdicts(ns: &Netns, arguments: &[&str], lengths: &[usize]) -> Vec<i64> {
    let scratch = Scratch::new();
    let frame = |length: &usize| format!("{}88b5{}", "00".repeat(12), "00".repeat(length - 14));
    let mut all = Vec::new();
    for length in lengths {
        let path = scratch.write("packet", frame(length));
        let document = detour::json(ns, &[&["test"], arguments, &["--packet", &path]].concat());
        let run = &document["runs"][0];
        assert_eq!((&run["in"], &run["changed"]), (&Value::from(frame(length)), &json!(false)), "{document}");
        all.push(run["verdict"].as_i64().unwrap());
    }
    all
}

#[test]
fn programs_run_on_packets_without_a_device() {
    let ns = Netns::alone();
    let before = Snapshot::take(&ns);
    assert_eq!(verdicts(&ns, &["@drop", "drop"], &[60]), [2]);
    assert_eq!(verdicts(&ns, &[&fixture("core_unsigned"), "core_unsigned"], &[60]), [6], "BPF_PROG_TYPE_XDP");
    assert_eq!(verdicts(&ns, &[&fixture("maps"), "maps"], &[60, 1200]), [-1, 2], "the tail call's word");
    let clear = ["--set", "large=0", "--set", "pairs[1].high=0", "--set", "own_section=0"];
    assert_eq!(verdicts(&ns, &[&[&fixture("globals"), "globals"], &clear[..]].concat(), &[60]), [8]);
    for name in ["merged", "merged_clang14"] {
        let arguments = [&fixture(name), "merged", "--set", "own=70"];
        assert_eq!(verdicts(&ns, &arguments, &[60, 63]), [5 + 70, 8 + 70], "a constant beside a table");
    }
    let scratch = Scratch::new();
    let packet = scratch.write("packet", "00".repeat(64));
    let out = scratch.path("out.pcap");
    let run =
        ["test", "@drop", "drop", "--packet", &packet, "--out", out.to_str().unwrap(), "--repeat", "10"];
    assert!(detour::run(&ns, &run).done().stdout.contains("verdict 2 (shot)"));
    let again = detour::json(&ns, &["test", "@drop", "drop", "--packet", out.to_str().unwrap()]);
    assert_eq!(again["runs"][0]["in"], "00".repeat(64));
    // A program that makes another packet of it: link addresses change places, and it grows by four zeros.
    let (one, other, rest) = ("021122334455", "06aabbccddee", format!("88b5{}", "5a".repeat(46)));
    let packet = scratch.write("other", format!("{one}{other}{rest}"));
    let changed =
        ["test", &fixture("rewrites"), "rewrites", "--packet", &packet, "--out", out.to_str().unwrap()];
    let run = detour::json(&ns, &changed)["runs"][0].clone();
    let after = format!("{other}{one}{rest}00000000");
    assert_eq!((&run["out"], &run["changed"], &run["verdict"]), (&json!(after), &json!(true), &json!(-1)));
    let text = detour::run(&ns, &changed).done().stdout;
    assert!(text.contains("changed, 64 bytes") && text.contains(&after), "{text}");
    let sources = tools::tshark(out.to_str().unwrap(), &["eth.dst", "eth.src", "frame.len"]);
    assert_eq!(sources.trim(), "06:aa:bb:cc:dd:ee|02:11:22:33:44:55|64");
    detour::run(&ns, &["test", "@drop", "none", "--packet", &packet]).refused(code::USAGE, &["none"]);
    let short = scratch.write("short", "0011");
    detour::run(&ns, &["test", "@drop", "drop", "--packet", &short]).refused(code::KERNEL, &["14 bytes"]);
    let text = scratch.write("text", "not hex");
    detour::run(&ns, &["test", "@drop", "drop", "--packet", &text]).refused(code::USAGE, &["pcap"]);
    before.holds(&ns, "test runs");
}

#[test]
fn values_that_are_no_whole_bytes_and_no_integers() {
    let set = [
        "bits.low=6",
        "bits.negative=-16",
        "bits.yes=true",
        "bits.colour=GREEN",
        "bits.across=0x123456789a",
        "bits.inside=2.5",
        "half=-1",
        "large=0.1",
        "wide=18446744073709551616",
    ];
    let ns = Netns::new();
    let file = fixture("values");
    // The program knows where its compiler put them, and has a bit for each.
    let run = |set: &[&str]| {
        let set: Vec<&str> = set.iter().flat_map(|one| ["--set", one]).collect();
        verdicts(&ns, &[&[file.as_str(), "values"], &set[..]].concat(), &[60])
    };
    assert_eq!(run(&[]), [0]);
    for (bit, one) in set.iter().enumerate() {
        assert_eq!(run(&[one]), [1 << bit], "{one}");
    }
    assert_eq!(run(&set), [0x1ff]);
    let shown = detour::json(&ns, &["inspect", &file, "--set", "half=-1", "--set", "bits.colour=GREEN"]);
    let variable = |name: &str| {
        let found = shown["variables"].as_array().unwrap().iter().find(|v| v["name"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {shown}"))["value"].clone()
    };
    assert_eq!((variable("half"), variable("large")), (json!(-1.0), json!(1e300)));
    assert_eq!((&variable("bits")["colour"], &variable("bits")["yes"]), (&json!("GREEN"), &json!(false)));
}
