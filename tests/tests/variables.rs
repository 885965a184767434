// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Variables of a program that runs, read and written one by one: bpftool dumps what is there, the program counts meanwhile,
//! and no count is lost. Elements are deleted, as bpftool sees.
use ::detour::load::create::Creation;
use ::detour::load::gather::gather;
use ::detour::load::netlink::Socket;
use ::detour::load::plan::{self, Attach, Config};
use ::detour::load::tc::{Place, INGRESS};
use ::detour::load::tcx::Anchor;
use ::detour::load::{exec, plan_json};
use ::detour::object::Object;
use detour_sys::window::Window;
use detour_sys::{call, commands, Map, Value as Arg};
use e2e::detour::{self, code};
use e2e::lab::Lab;
use e2e::netns::Netns;
use e2e::strace::{self, EFFECTS};
use e2e::testrun::{Program, Sums, SHOT};
use e2e::tools::{self, Scratch};
use e2e::witness::Witness;
use serde_json::{json, Value};
use std::sync::atomic::{AtomicBool, Ordering};

const DEVICE: &str = "eth0";

fn fixture(name: &str) -> String {
    tools::project().join(format!("elf/fixtures/{name}.bpf.o")).display().to_string()
}

/// A device with the fixture on it as `v`, which no packet reaches but those that tests run through it.
fn loaded() -> Lab {
    let lab = Lab::on(Netns::alone(), DEVICE);
    lab.gateway.run("ip", &["link", "set", DEVICE, "down"]);
    detour::run(&lab.gateway, &["load", &fixture("variables"), DEVICE, "--name", "v"]).done();
    lab
}

/// `detour map WHAT eth0 v …`.
fn map(ns: &Netns, what: &str, rest: &[&str]) -> detour::Run {
    detour::run(ns, &[&["map", what, DEVICE, "v"], rest, &["-j"]].concat())
}

fn get(ns: &Netns, name: &str, variable: &str) -> Value {
    let document = map(ns, "get", &[name, variable]).done().json();
    assert_eq!(document["elements"][0]["key"], variable, "{document}");
    document["elements"][0]["value"].clone()
}

/// The kernel's number of a map of the instance.
fn id(ns: &Netns, name: &str) -> u64 {
    id_of(ns, "variables", name)
}

/// The same where another object is loaded.
fn id_of(ns: &Netns, object: &str, name: &str) -> u64 {
    let maps =
        map(ns, "list", &["--types", &fixture(object)]).done().json()["maps"].as_array().unwrap().clone();
    maps.iter().find(|map| map["name"] == name).unwrap_or_else(|| panic!("no {name}"))["id"].as_u64().unwrap()
}

fn program(ns: &Netns) -> Program<'_> {
    let status = detour::json(ns, &["list", DEVICE]);
    let id = status.pointer("/programs/0/id").and_then(Value::as_u64);
    Program::by_id(ns, id.unwrap_or_else(|| panic!("{status:#}")))
}

/// What bpftool reads in a map of global data: its variables by name.
fn theirs(ns: &Netns, name: &str) -> Value {
    let dump = tools::map_dump(ns, id(ns, name));
    let section = dump[0]["formatted"]["value"].as_object().unwrap().values().next().unwrap().clone();
    let all = section.as_array().unwrap().iter().flat_map(|one| one.as_object().unwrap().clone());
    Value::Object(all.collect())
}

/// Of an ethertype for experiments, for `lo`.
fn frame() -> Vec<u8> {
    let mut frame = vec![0; 60];
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    frame
}

#[test]
fn a_window_changes_its_bytes_and_no_other() {
    let numbers = [("map_type", 2), ("key_size", 4), ("value_size", 5000), ("max_entries", 1)];
    let make = |flags: u64| {
        let numbers = numbers.iter().copied().chain([("map_flags", flags)]);
        let numbers: Vec<_> = numbers.map(|(name, number)| (name, Arg::Num(number))).collect();
        Map::create(&numbers).unwrap()
    };
    let map = make(1 << 10);
    let mut wanted: Vec<u8> = (0..5000_u32).map(|n| n as u8).collect();
    map.update(&[0; 4], &wanted, 0).unwrap();
    for (at, length) in [(8, 8), (4092, 4), (4095, 1), (4095, 2), (4091, 13), (4996, 4), (0, 2), (6, 4)] {
        let window = Window::map(&map, at, length).unwrap();
        assert_eq!(window.load(), wanted[at..at + length]);
        let (new, mask): (Vec<u8>, Vec<u8>) = (vec![0xa5; length], vec![0xf0; length]);
        window.store(&new, &mask).unwrap();
        wanted[at..at + length].iter_mut().for_each(|byte| *byte = 0xa0 | *byte & 0x0f);
        assert_eq!(map.lookup(&[0; 4]).unwrap().unwrap(), wanted, "{length} at {at}, in part");
        window.store(&new, &vec![0xff; length]).unwrap();
        wanted[at..at + length].fill(0xa5);
        assert_eq!(map.lookup(&[0; 4]).unwrap().unwrap(), wanted, "{length} at {at}");
        assert!(window.store(&new, &mask[1..]).is_err() && window.store(&[], &[]).is_err());
    }
    for (at, length) in [(4997, 4), (5000, 1), (0, 5001), (usize::MAX, 2), (0, 0)] {
        let error = Window::map(&map, at, length).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{length} at {at}");
    }
    assert_eq!(Window::map(&make(0), 0, 4).unwrap_err().raw_os_error(), Some(nix::libc::EINVAL));
    let for_reading = Window::map(&make(1 << 10 | 1 << 7), 0, 4).unwrap_err();
    assert_eq!(for_reading.raw_os_error(), Some(nix::libc::EACCES));
}

#[test]
fn variables_are_read_and_written_by_name() {
    let lab = loaded();
    let ns = &lab.gateway;
    assert_eq!(get(ns, ".data", "name"), "nobody");
    assert_eq!((get(ns, ".rodata", "fixed"), get(ns, ".bss", "packets")), (json!(42), json!(0)));
    for (section, variable, value, expected) in [
        (".bss", "step", "0x10", json!(16)),
        (".bss", "pairs[1].high", "513", json!(513)),
        (".bss", "pairs[2]", "hex:01000200", json!({"low": 1, "high": 2})),
        (".bss", "bits.offset", "-200", json!(-200)),
        (".bss", "bits.mode", "5", json!(5)),
        (".data", "odd", "255", json!(255)),
        (".data", "name", "\"somebody\"", json!("somebody")),
        (".data", "limit", "59", json!(59)),
    ] {
        let said = map(ns, "set", &[section, variable, value]).done().json();
        assert_eq!(said["elements"], json!([{"key": variable, "value": expected}]));
        assert_eq!(get(ns, section, variable), expected);
    }
    let text = detour::run(ns, &["map", "get", DEVICE, "v", ".bss", "pairs[1]"]).done().stdout;
    assert_eq!(text, "pairs[1]: {.low = 0, .high = 513}\n");
    let (bss, data) = (theirs(ns, ".bss"), theirs(ns, ".data"));
    assert_eq!(bss["pairs"], json!([{"low": 0, "high": 0}, {"low": 0, "high": 513}, {"low": 1, "high": 2}]));
    assert_eq!((&bss["step"], &bss["packets"], &bss["sum"]), (&json!(16), &json!(0), &json!(0)));
    assert_eq!((&data["limit"], &data["odd"]), (&json!(59), &json!(255)), "{data}");
    // mode 5 in the low three bits, -200 in nine after them.
    let word = 5 | (-200_i32 as u32 & 0x1ff) << 3;
    let whole = map(ns, "get", &[".bss", "hex:00000000"]).done().json();
    assert_eq!(whole["elements"][0]["value"]["bits"], json!({"mode": word & 7, "offset": -200, "count": 0}));
    // What is written counts: 60 bytes are above the limit of 59, and so is a name that does not begin with n.
    assert_eq!(program(ns).run(&frame(), Sums::None).verdict, SHOT);
    map(ns, "set", &[".data", "limit", "60"]).done();
    assert_eq!(program(ns).run(&frame(), Sums::None).verdict, SHOT);
    map(ns, "set", &[".data", "name", "\"n\""]).done();
    assert_eq!(program(ns).run(&frame(), Sums::None).verdict, 42 + 7 + 8 + 255);
    assert_eq!((get(ns, ".bss", "sum"), get(ns, ".bss", "packets")), (json!(48), json!(3)));
    assert_eq!((get(ns, ".bss", "pairs[2].high"), get(ns, ".bss", "bits.count")), (json!(5), json!(3)));
}

#[test]
fn what_cannot_be_written_is_said_and_what_to_do() {
    let lab = loaded();
    let ns = &lab.gateway;
    let set = |words: &[&str]| map(ns, "set", words);
    set(&[".rodata", "fixed", "1"]).refused(code::PERMISSION, &["mmap", "--set VAR=VALUE"]);
    set(&[".bss", "nothing", "1"]).refused(code::USAGE, &["nothing", "packets", "pairs"]);
    set(&[".bss", "pairs[3].low", "1"]).refused(code::USAGE, &["pairs[3].low", "beyond"]);
    set(&[".bss", "pairs[0].middle", "1"]).refused(code::USAGE, &["middle", "low, high"]);
    set(&[".bss", "pairs[0]", "1"]).refused(code::USAGE, &["pairs[0]", "VAR.FIELD"]);
    set(&[".bss", "step", "-1"]).refused(code::USAGE, &["step", "does not fit"]);
    set(&[".bss", "bits.mode", "8"]).refused(code::USAGE, &["does not fit"]);
    map(ns, "get", &[".bss", "nothing"]).refused(code::USAGE, &["nothing", "packets"]);
    // Variables that nobody outside is to find: libbpf makes no map for mmap(2) of them either.
    for (section, variable) in [(".data.hidden", "hidden"), (".data.own", "own")] {
        set(&[section, variable, "1"]).refused(code::KERNEL, &["BPF_F_MMAPABLE", "static or hidden"]);
    }
    assert_eq!((get(ns, ".data.hidden", "hidden"), get(ns, ".data.own", "own")), (json!(7), json!(8)));
    map(ns, "set", &[".data.hidden", "hex:00000000", "hex:2a000000"]).done();
    assert_eq!(get(ns, ".data.hidden", "hidden"), 42);
    assert_eq!(theirs(ns, ".bss")["step"], 0);
}

#[test]
fn the_plan_is_what_happens_and_can_be_applied() {
    let lab = loaded();
    let ns = &lab.gateway;
    for words in [
        &["map", "set", DEVICE, "v", ".bss", "pairs[1].high", "7"][..],
        &["map", "set", DEVICE, "v", ".bss", "bits.offset", "-3"],
        &["map", "set", DEVICE, "v", "table", "1", "low=5"],
        &["map", "del", DEVICE, "v", "table", "1"],
    ] {
        let plan = detour::json(ns, &[&["plan"], words].concat());
        let effects = format!("{EFFECTS},mmap");
        let (output, calls) = strace::trace(ns, &detour::command(words), &effects, None);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        Witness::compare(&plan, &calls);
    }
    let line = ["plan", "map", "set", DEVICE, "v", ".bss", "step", "9"];
    let scratch = Scratch::new();
    let plan = scratch.write("plan", detour::json(ns, &line).to_string());
    let strace = detour::run(ns, &[&line[..], &["--strace"]].concat()).done().stdout;
    assert!(strace.contains("mmap(NULL, 4096, 0x3, 0x1, %map, 0"), "{strace}");
    let text = detour::run(ns, &line).done().stdout;
    assert!(text.contains("2 store   %map at ") && text.contains("[09000000]"), "{text}");
    detour::run(ns, &["apply", &plan]).done();
    assert_eq!(get(ns, ".bss", "step"), 9);
    // What somebody reviews as JSON is the same step.
    for words in [&["set", DEVICE, "v", ".bss", "bits.mode", "1"][..], &["del", DEVICE, "v", "table", "1"]] {
        let document = detour::json(ns, &[&["plan", "map"], words].concat());
        let read = plan_json::read_plan(&document, &|_| None).unwrap();
        assert_eq!(plan_json::plan(&read)["steps"], document["steps"]);
    }
    // A transcript of it has the same effects.
    let log = scratch.path("log");
    let log = log.to_str().unwrap();
    detour::run(ns, &["map", "set", DEVICE, "v", ".bss", "step", "9", "--transcript", log]).done();
    detour::run(ns, &[&line[..], &["--against", log]].concat()).done();
}

/// As an earlier version loaded it: without the flag.
fn load_without_mmap(ns: &Netns, name: &str) {
    const BPF_F_MMAPABLE: u32 = 1 << 10;
    let mut object = Object::parse(&std::fs::read(fixture(name)).unwrap()).unwrap();
    object.maps.iter_mut().for_each(|map| map.flags &= !BPF_F_MMAPABLE);
    ns.within(|| {
        let mut socket = Socket::open().unwrap();
        let facts = gather(&mut socket, DEVICE).unwrap();
        let place = Place::new(facts.device.ifindex, INGRESS, 100, 1);
        let program = object.programs[0].name.clone();
        let creation =
            Creation { file: "it.bpf.o".into(), programs: vec![program.clone()], ..Creation::default() };
        let attach = vec![Attach { program, place, anchor: Anchor::default() }];
        let (name, no) = ("v".to_owned(), false);
        let config = Config { creation, attach, name, mount: no, unpinned: no, replace: no, beside: None };
        exec::run(&plan::load(&object, &config, &facts).unwrap(), &mut socket, &mut |_| {}).unwrap();
    });
}

#[test]
fn what_an_earlier_version_loaded_goes_on_and_can_be_replaced() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let (ns, file) = (&lab.gateway, fixture("globals"));
    load_without_mmap(ns, "globals");
    let flags = || {
        tools::json(ns, "bpftool", &["-j", "map", "show", "id", &id_of(ns, "globals", ".data").to_string()])
            ["flags"]
            .clone()
    };
    assert_eq!(flags(), 0);
    detour::run(ns, &["verify", "--live", DEVICE, "--object", &file]).done();
    detour::run(ns, &["list", DEVICE]).done();
    assert_eq!(get(ns, ".data", "counter"), 3);
    map(ns, "set", &[".data", "counter", "1"]).refused(code::KERNEL, &["BPF_F_MMAPABLE", "--replace"]);
    map(ns, "set", &[".data", "hex:00000000", "hex:05000000"]).done();
    assert_eq!(get(ns, ".data", "counter"), 5);
    detour::run(ns, &["load", &file, DEVICE, "--name", "v", "--replace"]).done();
    assert_eq!(flags(), 1024);
    map(ns, "set", &[".data", "counter", "1"]).done();
    detour::run(ns, &["verify", "--live", DEVICE, "--object", &file]).done();
    detour::run(ns, &["unload", DEVICE, "v"]).done();
}

#[test]
fn no_count_is_lost_while_a_variable_beside_it_is_written() {
    const WRITES: u32 = 1000;
    let lab = loaded();
    let ns = &lab.gateway;
    let program = program(ns);
    let answer = call(&commands::MAP_GET_FD_BY_ID, &[("map_id", Arg::Num(id(ns, ".bss")))]);
    let map = Map::from_fd(answer.unwrap_or_else(|(error, _)| panic!("{error}")).fd.unwrap()).unwrap();
    let at = |name: &str| {
        let shown = detour::json(ns, &["inspect", &fixture("variables")]);
        let all = shown["variables"].as_array().unwrap().clone();
        let variable = all.iter().find(|variable| variable["name"] == name).unwrap();
        variable["offset"].as_u64().unwrap() as usize
    };
    let [step, bits] = ["step", "bits"].map(at);
    let done = AtomicBool::new(false);
    let mut batches = 0;
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let [step, bits] = [step, bits].map(|at| Window::map(&map, at, 4).unwrap());
            for n in 1..=WRITES {
                step.store(&n.to_ne_bytes(), &[0xff; 4]).unwrap();
                // The lowest three bits; the program counts in the bits above.
                bits.store(&(n & 7).to_ne_bytes(), &7_u32.to_ne_bytes()).unwrap();
                assert_eq!(step.load(), n.to_ne_bytes());
                std::thread::sleep(std::time::Duration::from_micros(200));
            }
            done.store(true, Ordering::SeqCst);
        });
        while !done.load(Ordering::SeqCst) {
            program.nanoseconds(&frame(), 1000);
            batches += 1;
        }
    });
    assert!(batches > 10, "{batches} batches ran beside the writes");
    // Four more writes, by the command.
    for n in 0..4 {
        self::map(ns, "set", &[".bss", "bits.mode", &n.to_string()]).done();
        program.nanoseconds(&frame(), 1000);
        batches += 1;
    }
    assert_eq!(get(ns, ".bss", "packets"), batches * 1000);
    assert_eq!((get(ns, ".bss", "step"), get(ns, ".bss", "bits.mode")), (json!(WRITES), json!(3)));
    // Twenty bits and sixteen wrap.
    assert_eq!(get(ns, ".bss", "bits.count"), batches * 1000 % (1 << 20));
    assert_eq!(get(ns, ".bss", "pairs[2].high"), batches * 1000 % (1 << 16));
}

#[test]
fn members_of_an_element_and_its_end() {
    let lab = loaded();
    let ns = &lab.gateway;
    map(ns, "set", &["table", "0", "low=5"]).done();
    let said = map(ns, "set", &["table", "0", "high=0x10"]).done().json();
    assert_eq!(said["elements"], json!([{"key": 0, "value": {"low": 5, "high": 16}}]));
    map(ns, "set", &["table", "3", "high=1,low=2"]).done();
    let number = id(ns, "table");
    let mut dump = tools::map_dump(ns, number);
    dump.sort_by_key(|element| element["formatted"]["key"].as_u64());
    assert_eq!(dump[0]["formatted"], json!({"key": 0, "value": {"low": 5, "high": 16}}));
    assert_eq!(dump[1]["formatted"], json!({"key": 3, "value": {"low": 2, "high": 1}}));
    assert_eq!(program(ns).run(&frame(), Sums::None).verdict, 5);
    map(ns, "set", &["table", "0", "middle=1"]).refused(code::USAGE, &["middle", "low, high"]);
    map(ns, "set", &["table", "0", "5"]).refused(code::USAGE, &["MEMBER=VALUE"]);
    // What is said fits what was written: a number is no struct.
    let number_is_too_large = map(ns, "set", &[".data", "limit", "0x100000000"]);
    assert!(!number_is_too_large.stderr.contains("part by part"), "{}", number_is_too_large.stderr);
    number_is_too_large.refused(code::USAGE, &["limit", "does not fit", "hex:"]);
    map(ns, "set", &[".bss", "pairs", "5"]).refused(code::USAGE, &["pairs", "part by part"]);
    let said = map(ns, "del", &["table", "0"]).done().json();
    assert_eq!(said, json!({"schema": "detour.deleted/1", "map": "table", "key": 0}));
    assert_eq!(tools::map_dump(ns, number).len(), 1);
    map(ns, "del", &["table", "hex:03000000"]).done();
    assert!(tools::map_dump(ns, number).is_empty());
    // What is not there, and what never goes.
    map(ns, "del", &["table", "0"]).refused(code::NO, &["'table' has no such element"]);
    map(ns, "del", &["table", "hex:00"]).refused(code::USAGE, &["4 bytes"]);
    let array = map(ns, "del", &[".data.own", "hex:00000000"]);
    array.refused(code::KERNEL, &[".data.own: MAP_DELETE_ELEM", "has all of its elements"]);
    assert_eq!(get(ns, ".data.own", "own"), 8);
}
