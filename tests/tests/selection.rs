// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Which programs of an object `load` takes, what it says of the rest, and what it adds that only the machine knows.
use e2e::detour::{self, code};
use e2e::lab::Lab;
use e2e::netns::Netns;
use e2e::snapshot::Snapshot;
use e2e::tools;
use serde_json::{json, Value};

const DEVICE: &str = "eth0";

fn fixture(name: &str) -> String {
    tools::project().join(format!("elf/fixtures/{name}.bpf.o")).display().to_string()
}

fn skipped(document: &Value) -> Vec<&str> {
    document["skipped"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect()
}

#[test]
fn what_is_skipped_is_said() {
    let ns = Netns::alone();
    let before = Snapshot::take(&ns);
    let file = fixture("sections");
    let dry = ["load", &file, "--no-attach"];
    let document = detour::json(&ns, &dry);
    assert_eq!(document["programs"], json!(["first", "second"]));
    assert_eq!(skipped(&document), ["asleep", "stranger"]);
    let text = detour::run(&ns, &dry).done().stdout;
    assert!(text.contains("stranger: skipped, section 'uprobe/unheard_of' is not for tc"), "{text}");
    let one = detour::json(&ns, &[&dry[..], &["--program", "asleep"]].concat());
    assert_eq!((&one["programs"], skipped(&one).len()), (&json!(["asleep"]), 3));
    before.holds(&ns, "dry runs");
}

/// What the slot would hold, libbpf loads for XDP: the kernel takes it into no array that a tc program uses (EINVAL).
#[test]
fn a_slot_with_what_is_not_for_tc_is_empty_or_refused() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let before = Snapshot::take(ns);
    let file = fixture("slot_xdp");
    let load = ["load", &file, DEVICE, "--name", "it"];
    let calls = || detour::json(ns, &["map", "dump", DEVICE, "it", "calls"])["elements"].clone();
    let document = detour::json(ns, &load);
    assert_eq!(skipped(&document), ["other", "jumps"]);
    let notes = document["notes"].to_string();
    assert!(notes.contains("map calls: slot 1 holds 'other' in section 'xdp'"), "{notes}");
    assert_eq!(calls(), json!([]));
    detour::run(ns, &["unload", DEVICE, "it"]).done();
    let jumps = [&load[..], &["--ingress", "jumps"]].concat();
    let words =
        ["map calls: slot 1", "'other' in section 'xdp'", "'jumps' uses this map", "--type sched_cls"];
    detour::run(ns, &jumps).refused(code::OBJECT, &words);
    before.holds(ns, "refusals");
    let document = detour::json(ns, &[&jumps[..], &["--type", "sched_cls"]].concat());
    assert_eq!(skipped(&document), ["alone"]);
    assert_eq!(calls().as_array().map(Vec::len), Some(1));
    detour::run(ns, &["unload", DEVICE, "it"]).done();
    // bpftool opens the maps of a program by their ids: of one that is on its way out the array would stay until reboot
    // (conformance.md, a PROG_ARRAY that stays).
    std::thread::sleep(std::time::Duration::from_secs(1));
    before.holds(ns, "load and unload");
}

#[test]
fn an_unknown_section_needs_a_type() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let before = Snapshot::take(ns);
    let file = fixture("sections");
    let load = ["load", &file, DEVICE, "--name", "strange", "--ingress", "stranger"];
    detour::run(ns, &load).refused(code::OBJECT, &["stranger", "uprobe/unheard_of", "--type"]);
    detour::run(ns, &[&load[..], &["--type", "kprobe"]].concat()).refused(code::USAGE, &["--type"]);
    detour::run(ns, &["load", &file, DEVICE, "--ingress", "none"]).refused(code::USAGE, &["none", "first"]);
    before.holds(ns, "refusals");
    let document = detour::json(ns, &[&load[..], &["--type", "sched_cls"]].concat());
    assert_eq!(skipped(&document), ["first", "second", "asleep"]);
    assert_eq!(tools::filters(ns, DEVICE, "ingress").len(), 1);
    detour::run(ns, &["unload", DEVICE, "strange"]).done();
    before.holds(ns, "load and unload");
    // tc loads it as `sec .text`.
    let file = fixture("text");
    detour::run(ns, &["load", &file, DEVICE]).refused(code::OBJECT, &["text (.text)", "--type sched_cls"]);
    let named = ["--ingress", "text", "--type", "sched_cls"];
    detour::run(ns, &[&["load", &file, DEVICE], &named[..]].concat()).done();
    let ours = tools::filters(ns, DEVICE, "ingress")[0]["options"]["prog"]["tag"].clone();
    detour::run(ns, &["unload", DEVICE, "text"]).done();
    before.holds(ns, "load and unload");
    ns.run("tc", &["qdisc", "add", "dev", DEVICE, "clsact"]);
    ns.run("tc", &["filter", "add", "dev", DEVICE, "ingress", "bpf", "da", "obj", &file, "sec", ".text"]);
    assert_eq!(tools::filters(ns, DEVICE, "ingress")[0]["options"]["prog"]["tag"], ours);
}

#[test]
fn netkit_programs_are_listed_and_go_where_they_are_told_to() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let before = Snapshot::take(ns);
    let file = fixture("netkit");
    let listed = detour::json(ns, &["inspect", &file]);
    let of = |index: usize, what: &str| listed["programs"][index][what].as_str().unwrap().to_owned();
    assert_eq!((of(0, "section"), of(0, "type")), ("netkit/primary".to_owned(), "sched_cls".to_owned()));
    assert_eq!((of(1, "section"), of(1, "name")), ("netkit/peer".to_owned(), "peer".to_owned()));
    let words = ["'primary' in section 'netkit/primary'", "not served", "--ingress FUNC"];
    detour::run(ns, &["load", &file, DEVICE]).refused(code::USAGE, &words);
    let dry = detour::json(ns, &["load", &file, "--no-attach"]);
    assert_eq!(dry["programs"], json!(["primary", "peer"]));
    before.holds(ns, "a refusal and a dry run");
    detour::run(ns, &["load", &file, DEVICE, "--egress", "primary"]).done();
    let filters = tools::filters(ns, DEVICE, "egress");
    assert_eq!(filters[0]["options"]["bpf_name"], "detour/netkit/primary");
    detour::run(ns, &["unload", DEVICE, "netkit"]).done();
    before.holds(ns, "load and unload");
}

#[test]
fn sizes_that_only_the_machine_knows() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let before = tools::objects(ns, "map");
    let run = detour::run(ns, &["load", &fixture("sizes"), DEVICE]).done();
    for words in [
        "a_name_that_is_long_2: the kernel shows it as a_name_that_is_",
        "near_each: the kernel takes no notice of numa_node",
        "by_place: the kernel takes no key of this type",
        "by_prefix: the kernel takes no key of this type",
    ] {
        assert!(run.stdout.contains(words), "{run:?}");
    }
    let maps = tools::objects(ns, "map");
    let made = |name: &str| {
        let mut made = maps.iter().filter(|map| map["name"] == name && !before.contains(map));
        made.next().unwrap_or_else(|| panic!("no {name} in {maps:?}"))["max_entries"].as_u64()
    };
    let cpus = detour_sys::possible_cpus().unwrap() as u64;
    assert_eq!((made("one_each"), made("ring")), (Some(cpus), Some(8192)));
    assert_eq!(made("ring_to_us"), Some(8192));
    let pins = ns.run("ls", &["-R", "/sys/fs/bpf/detour"]);
    for name in ["map_a_name_that_is_long_1", "map_a_name_that_is_long_2", "map_near"] {
        assert!(pins.contains(name), "{name} is not in {pins}");
    }
    // The kernel is told no types of it, and the object has them.
    let dump = ["map", "dump", DEVICE, "sizes", "by_place", "--types", &fixture("sizes")];
    assert_eq!(detour::run(ns, &dump).done().stdout, "HERE: 0\nTHERE: 0\n");
    detour::run(ns, &["unload", DEVICE, "sizes"]).done();

    detour::run(ns, &["load", &fixture("loose"), DEVICE]).done();
    let maps = tools::objects(ns, "map");
    for (name, entries) in [("no_sizes", cpus), ("each_cpu", cpus), ("too_many", cpus), ("as_ulong", 9)] {
        let made = maps.iter().find(|map| map["name"] == name && !before.contains(map));
        assert_eq!(made.map(|map| map["max_entries"].clone()), Some(entries.into()), "{name}");
    }
    detour::run(ns, &["unload", DEVICE, "loose"]).done();
}
