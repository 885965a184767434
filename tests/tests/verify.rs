// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `verify`: what somebody with root changes behind our back, one thing at a time, and what is said of it.
use ::detour::dnat::abi;
use detour_sys::{call, commands, Map, Value as Attr};
use e2e::detour::{self, code, Run};
use e2e::lab::{ip, Lab};
use e2e::netns::Netns;
use e2e::tools::{self, Scratch};
use std::os::fd::AsFd;
use std::process::Command;

const DEVICE: &str = "eth0";

/// A gateway that is up with two rules.
fn up() -> Lab {
    let lab = Lab::new();
    let rules = ["--rule", "tcp dport 80 redirect to :8080", "--rule", "ip saddr != 10.0.0.0/8 udp drop"];
    detour::up(&lab.gateway, DEVICE, &rules);
    verify(&lab.gateway, &[]).done();
    lab
}

fn verify(ns: &Netns, rest: &[&str]) -> Run {
    detour::run(ns, &[&["verify", "--live", DEVICE], rest].concat())
}

/// It has to be found out, in these words, and nothing else has.
fn told(ns: &Netns, lines: &[&str]) {
    let run = verify(ns, &[]).ends(code::NO);
    let found: Vec<&str> = run.stdout.lines().filter(|line| line.contains("DIFFERS")).collect();
    assert_eq!(found.len(), lines.len(), "{lines:?}\n{}", run.stdout);
    for (line, words) in found.iter().zip(lines) {
        assert!(words.split(" … ").all(|word| line.contains(word)), "{words}: {line}");
    }
    let document = verify(ns, &["-j"]).ends(code::NO).json();
    assert_eq!((&document["ok"], document["different"].as_u64()), (&false.into(), Some(lines.len() as u64)));
}

fn pin(ns: &Netns, name: &str) -> String {
    ns.within(|| {
        let folder = std::fs::read_dir("/sys/fs/bpf/detour").unwrap().next().unwrap().unwrap();
        folder.path().join("up").join(name).display().to_string()
    })
}

/// The pinned map, opened as anybody with root can.
fn open(path: &str) -> Map {
    let fd = call(&commands::OBJ_GET, &[("pathname", Attr::Text(path))]).map_err(|(e, _)| e).unwrap().fd;
    Map::from_fd(fd.unwrap()).unwrap()
}

#[test]
fn another_program_in_our_place() {
    let lab = up();
    let ns = &lab.gateway;
    ns.run("tc", &["qdisc", "add", "dev", "lo", "clsact"]);
    detour::run(ns, &["load", "@drop", "lo"]).done();
    let theirs = ns.within(|| {
        let folders = std::fs::read_dir("/sys/fs/bpf/detour").unwrap().map(|f| f.unwrap().path());
        folders.map(|f| f.join("drop/prog_drop")).find(|p| p.exists()).unwrap().display().to_string()
    });
    let place = ["dev", DEVICE, "ingress", "prio", "100", "handle", "0xd370", "protocol", "all"];
    let program = ["bpf", "da", "object-pinned", &theirs];
    ns.run("tc", &[&["filter", "replace"][..], &place, &program].concat());
    // The filter is somebody else's now, and it is also what runs at our place before anything of ours.
    told(ns, &["ingress detour_in … runs program", "has the tag … it has", "no filter of others … drop"]);
}

#[test]
fn another_verdict_of_the_same_program() {
    let lab = up();
    let ns = &lab.gateway;
    let program = pin(ns, "prog_detour_out");
    let place = ["dev", DEVICE, "egress", "prio", "100", "handle", "0xd370", "protocol", "all"];
    ns.run("tc", &[&["filter", "replace"][..], &place, &["bpf", "object-pinned", &program]].concat());
    told(ns, &["egress detour_out … is direct-action … ignored"]);
}

#[test]
fn values_of_maps() {
    let lab = up();
    let ns = &lab.gateway;
    let table = pin(ns, "map_rules_0");
    let change = |at: usize| {
        ns.within(|| {
            let map = open(&table);
            let mut value = map.lookup(&[0; 4]).unwrap().unwrap();
            value[at] ^= 1;
            map.update(&[0; 4], &value, 0).unwrap();
        });
    };
    let (_, vectors, _) = *abi::RULES.fields.iter().find(|(name, ..)| *name == "vectors").unwrap();
    change(vectors);
    told(ns, &["rules in force … its bytes are others"]);
    change(vectors);
    verify(ns, &[]).done();
    // An address that is called ours and is not: the programs would leave its packets alone.
    let locals = pin(ns, "map_local4");
    ns.within(|| open(&locals).update(&[9, 9, 9, 9], &1_u32.to_ne_bytes(), 0).unwrap());
    told(ns, &["map local4 … 1 elements are others, 0 are missing"]);
    ns.within(|| open(&locals).delete(&[9, 9, 9, 9]).unwrap());
    verify(ns, &[]).done();
    ip(ns, &format!("address add 192.168.178.9/24 dev {DEVICE}"));
    told(ns, &["map local4 … 0 elements are others, 1 are missing"]);
}

/// What packets write no plan knows, so nobody can say that it is wrong (threat-model.md): shapes are compared, contents are not.
#[test]
fn what_packets_write_is_not_seen() {
    let lab = up();
    let ns = &lab.gateway;
    for (name, index) in [("secret", 0_u32), ("event_control", 0), ("slots4", 7), ("reasons", 3)] {
        let path = pin(ns, &format!("map_{name}"));
        ns.within(|| {
            let map = open(&path);
            let mut value = map.lookup(&index.to_ne_bytes()).unwrap().unwrap();
            // What is first may be a lock, which reads as zero.
            *value.last_mut().unwrap() ^= 1;
            map.update(&index.to_ne_bytes(), &value, 0).unwrap();
            assert_eq!(map.lookup(&index.to_ne_bytes()).unwrap().unwrap(), value, "{name}");
        });
        let run = verify(ns, &[]).done();
        assert!(run.stdout.contains(&format!("map {name} ")), "{}", run.stdout);
    }
}

#[test]
fn a_configuration_that_is_not_frozen_and_not_ours() {
    let lab = up();
    let ns = &lab.gateway;
    let path = pin(ns, "map__rodata");
    let size = ns.within(|| open(&path).value_size()).to_string();
    ns.within(|| std::fs::remove_file(&path).unwrap());
    let shape = ["type", "array", "key", "4", "value", &size, "entries", "1", "name", "rodata"];
    ns.run("bpftool", &[&["map", "create", &path][..], &shape, &["flags", "128"]].concat());
    told(
        ns,
        &[
            "map .rodata … btf_value_type_id",
            "map .rodata  is frozen … can be written",
            "map .rodata  holds … cfg.schema is 0, not 4",
            "program detour_in  uses the maps of this instance only … is none of them",
            "program detour_out  uses the maps of this instance only … is none of them",
        ],
    );
}

#[test]
fn order_and_qdisc() {
    let lab = up();
    let ns = &lab.gateway;
    tools::foreign_filter(ns, DEVICE, "egress", 101);
    verify(ns, &[]).done();
    tools::foreign_filter(ns, DEVICE, "egress", 7);
    told(ns, &["egress  no filter of others … bpf … at priority 7"]);
    ns.run("tc", &["qdisc", "del", "dev", DEVICE, "clsact"]);
    told(
        ns,
        &["qdisc … the device has none", "egress detour_out … no filter", "ingress detour_in … no filter"],
    );
    ns.run("tc", &["qdisc", "add", "dev", DEVICE, "clsact"]);
    told(ns, &["egress detour_out … no filter is there", "ingress detour_in … no filter is there"]);
    detour::run(ns, &["down", DEVICE]).done();
    told(ns, &["instance … nothing of ours is there"]);
}

#[test]
fn a_program_before_all_filters() {
    let lab = up();
    let ns = &lab.gateway;
    // XDP_PASS.
    let insns = [0xb7, 0, 0, 0, 2, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
    let of_xdp =
        [("prog_type", Attr::Num(6)), ("insns", Attr::Bytes(&insns)), ("license", Attr::Text("GPL"))];
    ns.within(|| {
        let program = call(&commands::PROG_LOAD, &of_xdp).map_err(|(e, _)| e).unwrap().fd.unwrap();
        let at = [("pathname", Attr::Text("/sys/fs/bpf/first")), ("bpf_fd", Attr::Fd(program.as_fd()))];
        call(&commands::OBJ_PIN, &at).map_err(|(e, _)| e).unwrap();
    });
    ns.run("ip", &["link", "set", "dev", DEVICE, "xdpgeneric", "pinned", "/sys/fs/bpf/first"]);
    told(ns, &["device  no XDP program … XDP program"]);
    ns.run("ip", &["link", "set", "dev", DEVICE, "xdpgeneric", "off"]);
    verify(ns, &[]).done();
    tools::foreign_tcx(ns, DEVICE, "ingress", "/sys/fs/bpf/theirs");
    told(ns, &["ingress  no filter of others … tcx program"]);
    ns.run("rm", &["/sys/fs/bpf/theirs"]);
    verify(ns, &[]).done();
}

/// What runs keeps the flags that it was started with: the next `up` says so, and it is no difference.
#[test]
fn a_machine_that_has_changed() {
    let lab = up();
    let ns = &lab.gateway;
    ns.run("ip", &["link", "add", "other", "type", "veth", "peer", "name", "far"]);
    ns.run("ip", &["addr", "add", "10.9.0.1/24", "dev", "other"]);
    let rules = [
        "up",
        DEVICE,
        "--rule",
        "tcp dport 80 redirect to :8080",
        "--rule",
        "ip saddr != 10.0.0.0/8 udp drop",
    ];
    let run = detour::run(ns, &rules).done();
    assert!(run.stdout.contains("'detour up eth0 --fresh' with the same options follows"), "{}", run.stdout);
    verify(ns, &[]).done();
    let run = detour::run(ns, &[&rules[..], &["--fresh"]].concat()).done();
    assert!(!run.stdout.contains("--fresh"), "{}", run.stdout);
    verify(ns, &[]).done();
}

#[test]
fn what_was_asked_for_is_compared() {
    let lab = up();
    let ns = &lab.gateway;
    let rules = ["--rule", "tcp dport 80 redirect to :8080", "--rule", "ip saddr != 10.0.0.0/8 udp drop"];
    verify(ns, &rules).done();
    let run = verify(ns, &["--rule", "drop"]).ends(code::NO);
    assert!(run.stdout.contains("rules in force"), "{}", run.stdout);
    let run = verify(ns, &["--flows-max", "1000"]).ends(code::NO);
    assert!(run.stdout.contains("cfg.confirmed_slots4 is 65536, not 1000"), "{}", run.stdout);
    // A reload changes the rules, and then those of the reload are the right ones.
    detour::up(ns, DEVICE, &["--rule", "drop"]);
    verify(ns, &["--rule", "drop"]).done();
    verify(ns, &[]).done();
    // Somebody puts the table from before back. It is a whole one: who does not say what should be there cannot tell.
    detour::up(ns, DEVICE, &["--rule", "udp drop"]);
    let [inner, outer] = ["map_rules_1", "map_rules"].map(|name| pin(ns, name));
    let update = ["map", "update", "pinned", &outer, "key", "0", "0", "0", "0", "value", "pinned", &inner];
    ns.run("bpftool", &update);
    verify(ns, &[]).done();
    let run = verify(ns, &["--rule", "udp drop"]).ends(code::NO);
    assert!(run.stdout.contains("rules in force"), "{}", run.stdout);
    verify(ns, &["--rule", "drop"]).done();
}

#[test]
fn any_instance_beside_its_object() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    let file = tools::project().join("elf/fixtures/globals.bpf.o").display().to_string();
    detour::run(ns, &["load", &file, DEVICE]).done();
    let run = verify(ns, &[]).done();
    assert!(run.stdout.contains("unseen   object") && run.stdout.contains("--object FILE"), "{}", run.stdout);
    let run = verify(ns, &["--object", &file]).done();
    assert!(run.stdout.contains("map .rodata  holds what was configured"), "{}", run.stdout);
    assert!(!run.stdout.contains("unseen "), "{}", run.stdout);
    detour::run(ns, &["unload", DEVICE, "globals"]).done();
    // Maps of which the kernel shows something else than it was told; what only the kernel knows; and with each option that
    // changes what it gets.
    for (name, rest) in [
        ("adapted", &[][..]),
        ("sizes", &[]),
        ("kconfig", &["--ingress", "hz"]),
        ("legacy", &["--legacy-maps"]),
        ("globals", &["--fd-array"]),
        ("globals", &["--no-btf"]),
        ("core", &["--ingress", "fields", "--btf", "/sys/kernel/btf/vmlinux"]),
    ] {
        let file = tools::project().join(format!("elf/fixtures/{name}.bpf.o")).display().to_string();
        let hook = rest.iter().take_while(|word| **word == "--ingress").count() * 2;
        detour::run(ns, &[&["load", &file, DEVICE, "--name", "it"], rest].concat()).done();
        let run = verify(ns, &[&["--object", &file], &rest[hook..]].concat()).done();
        assert!(run.stdout.contains("has the tag that follows from the object"), "{}", run.stdout);
        assert!(!run.stdout.contains("unseen "), "{name}: {}", run.stdout);
        if hook < rest.len() && !rest.contains(&"--btf") {
            let without = verify(ns, &["--object", &file]);
            assert_ne!(without.code, Some(0), "{name} {rest:?}");
        }
        detour::run(ns, &["unload", DEVICE, "it"]).done();
    }
}

#[test]
fn without_root_it_says_what_it_could_not_see() {
    let lab = up();
    let ns = &lab.gateway;
    let scratch = Scratch::new();
    detour::copy(&scratch.path("detour"));
    let nobody = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"]);
        command.arg(scratch.path("detour")).args(arguments);
        Run::of(arguments, &ns.output(&mut command))
    };
    let run = nobody(&["verify", "--live", DEVICE]).done();
    assert!(run.stdout.contains("ok       ingress detour_in  has the tag"), "{}", run.stdout);
    assert!(run.stdout.contains("unseen   pins") && run.stdout.contains("CAP_BPF"), "{}", run.stdout);
    nobody(&["verify"]).done();
    ns.run("tc", &["filter", "del", "dev", DEVICE, "ingress"]);
    let run = nobody(&["verify", "--live", DEVICE]).ends(code::NO);
    assert!(run.stdout.contains("DIFFERS  ingress detour_in"), "{}", run.stdout);
    assert!(!run.stdout.contains("DIFFERS  egress"), "{}", run.stdout);
    tools::foreign_filter(ns, DEVICE, "egress", 7);
    let run = nobody(&["verify", "--live", DEVICE]).ends(code::NO);
    assert!(run.stdout.contains("DIFFERS  egress  no filter of others"), "{}", run.stdout);
}

#[test]
fn objects_and_their_manifest() {
    let ns = Netns::new();
    let run = detour::run(&ns, &["verify"]).done();
    for name in ["dnat.bpf.o", "drop.bpf.o", "trace.bpf.o"] {
        let bytes = std::fs::read(tools::project().join("elf").join(name)).unwrap();
        let digest = ns.run("sha256sum", &[tools::project().join("elf").join(name).to_str().unwrap()]);
        assert!(run.stdout.contains(digest.split(' ').next().unwrap()) && !bytes.is_empty());
    }
    let file = tools::project().join("elf/fixtures/maps.bpf.o").display().to_string();
    detour::run(&ns, &["verify", &file]).done();
    let scratch = Scratch::new();
    let mut bytes = std::fs::read(tools::project().join("elf/drop.bpf.o")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    let changed = scratch.write("drop.bpf.o", bytes);
    let run = detour::run(&ns, &["verify", &changed]).ends(code::NO);
    assert!(run.stdout.contains("DIFFERS  object drop.bpf.o"), "{}", run.stdout);
}
