// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Other people's objects, one feature each (ebpf-src/fixtures): loaded into the kernel and run, or refused in words.
use e2e::detour::{self, code};
use e2e::lab::Lab;
use e2e::netns::Netns;
use e2e::snapshot::Snapshot;
use e2e::strace::{self, EFFECTS};
use e2e::testrun::{Program, Sums, SHOT, UNSPEC};
use e2e::tools;
use e2e::witness::Witness;

const DEVICE: &str = "eth0";

fn fixture(name: &str) -> String {
    tools::project().join(format!("elf/fixtures/{name}.bpf.o")).display().to_string()
}

/// Loads a fixture as its plan says, `rest` being more arguments; what `test` finds true, then all away again.
fn loaded(name: &str, rest: &[&str], test: impl FnOnce(&Netns)) {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    // Programs that count shall see the packets of the test only.
    ns.run("ip", &["link", "set", DEVICE, "down"]);
    let before = Snapshot::take(ns);
    let file = fixture(name);
    let arguments = [&["load", &file, DEVICE, "--name", "fixture"], rest].concat();
    let plan = detour::json(ns, &[&["plan"], &arguments[..]].concat());
    let (output, calls) = strace::trace(ns, &detour::command(&arguments), EFFECTS, None);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Witness::compare(&plan, &calls);
    test(ns);
    detour::run(ns, &["unload", DEVICE, "fixture"]).done();
    // Who looks at a program array, as bpftool does, before the kernel's worker has emptied it, makes the kernel leak it:
    // prog_array_map_clear() (kernel/bpf/arraymap.c) takes a reference for a work that may be scheduled already.
    std::thread::sleep(std::time::Duration::from_millis(300));
    before.holds(ns, name);
}

fn program<'a>(ns: &'a Netns, hook: &str, name: &str) -> Program<'a> {
    let filters = tools::filters(ns, DEVICE, hook);
    let wanted = format!("detour/fixture/{name}");
    let filter = filters.iter().find(|filter| filter["options"]["bpf_name"] == wanted.as_str());
    let filter = filter.unwrap_or_else(|| panic!("no {wanted} in {filters:?}"));
    Program::by_id(ns, filter["options"]["prog"]["id"].as_u64().unwrap())
}

/// The verdict on a packet of `length` bytes.
fn verdict(program: &Program<'_>, length: usize) -> i32 {
    let mut frame = vec![0; length];
    frame[12..14].copy_from_slice(&[0x88, 0xb5]); // a local experiment's ethertype: the kernel looks no further
    program.run(&frame, Sums::None).verdict
}

#[test]
fn global_data_as_compiled_and_as_set() {
    loaded("globals", &[], |ns| assert_eq!(verdict(&program(ns, "ingress", "globals"), 60), UNSPEC));
    // 3 + 1 - 5 + 9: the three data sections and a constant, each with its own contents.
    let clear = ["--set", "large=0", "--set", "pairs[1].high=0", "--set", "own_section=0"];
    loaded("globals", &clear, |ns| {
        let globals = program(ns, "ingress", "globals");
        assert_eq!(verdict(&globals, 60), 8);
        assert_eq!(verdict(&globals, 60), 13, "it counts on");
    });
    let other =
        [&clear[..], &["--set", "negative=-7", "--set", "small=0xff", "--set", "own_data=0"]].concat();
    loaded("globals", &other, |ns| assert_eq!(verdict(&program(ns, "ingress", "globals"), 60), 3 - 7 + 255));
    let drop = ["--set", "enabled=true", "--set", "colour=GREEN"];
    loaded("globals", &drop, |ns| assert_eq!(verdict(&program(ns, "ingress", "globals"), 60), SHOT));
    let renamed = [&drop[..], &["--set", "name=\"somebody\""]].concat();
    loaded("globals", &renamed, |ns| assert_eq!(verdict(&program(ns, "ingress", "globals"), 60), UNSPEC));
}

#[test]
fn zeros_of_other_names_and_of_many_bytes() {
    // own becomes 3 + 60, and the last of half a million numbers is 3.
    for (set, expected) in [
        (&["--set", "own=3", "--set", "huge[524287]=3"][..], SHOT),
        (&[], SHOT),
        (&["--set", "own=3"], UNSPEC),
    ] {
        loaded("bss_own", set, |ns| assert_eq!(verdict(&program(ns, "ingress", "bss_own"), 60), expected));
    }
}

#[test]
fn values_that_do_not_fit() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let before = Snapshot::take(&lab.gateway);
    for (setting, word) in [
        ("small=256", "small"),
        ("small=-1", "small"),
        ("negative=2147483648", "negative"),
        ("colour=BLUE", "GREEN"),
        ("enabled=2", "enabled"),
        ("name=\"a name of more than sixteen\"", "name"),
        ("pairs[2].low=1", "pairs"),
        ("pairs[0].middle=1", "low"),
        ("nothing=1", "nothing"),
        ("small", "small"),
    ] {
        let run = detour::run(&lab.gateway, &["load", &fixture("globals"), DEVICE, "--set", setting]);
        assert!(matches!(run.code, Some(code::USAGE | code::OBJECT)), "{setting}: {run:?}");
        assert!(run.stderr.contains(word) && run.stdout.is_empty(), "{setting}: {run:?}");
    }
    for (setting, words) in [
        ("bits.low=8", "does not fit"),
        ("bits.low=-1", "does not fit"),
        ("bits.negative=16", "does not fit"),
        ("bits.yes=2", "does not fit"),
        ("bits.colour=BLUE", "GREEN"),
        ("bits.colour=16", "does not fit"),
        ("bits.=1", "word, inside"),
        ("half=1e39", "does not fit"),
        ("large=much", "such as 0.5"),
    ] {
        let arguments = ["load", &fixture("values"), DEVICE, "--set", setting];
        detour::run(&lab.gateway, &arguments).refused(code::USAGE, &[setting, words]);
    }
    before.holds(&lab.gateway, "settings that do not fit");
}

#[test]
fn maps_of_every_shape() {
    loaded("maps", &["--ingress", "maps"], |ns| {
        let maps = program(ns, "ingress", "maps");
        assert_eq!(verdict(&maps, 60), UNSPEC);
        assert_eq!(verdict(&maps, 60), UNSPEC);
        assert_eq!(verdict(&maps, 1200), SHOT, "the tail call's word");
        let dump = |name: &str| {
            let all = tools::objects(ns, "map");
            let id =
                all.iter().filter(|map| map["name"] == name).map(|map| map["id"].as_u64().unwrap()).max();
            tools::map_dump(ns, id.unwrap_or_else(|| panic!("no map {name} in {all:?}")))
        };
        assert_eq!(dump("inner_1")[0]["formatted"]["value"], 3, "through the map in the map");
        assert_eq!(dump("locked_pinned")[0]["formatted"]["value"]["count"], 3);
        assert!(dump("sized").is_empty());
    });
}

#[test]
fn programs_that_share_a_section() {
    loaded("sections", &["--ingress", "first", "--egress", "second", "--egress", "first"], |ns| {
        assert_eq!(verdict(&program(ns, "ingress", "first"), 60), UNSPEC);
        assert_eq!(verdict(&program(ns, "egress", "second"), 60), UNSPEC);
        assert_eq!(tools::filters(ns, DEVICE, "egress").len(), 2);
    });
    loaded("sections", &["--ingress", "asleep"], |ns| {
        assert_eq!(verdict(&program(ns, "ingress", "asleep"), 60), SHOT, "no mark");
    });
}

#[test]
fn functions_with_and_without_relocation() {
    loaded("subprograms", &["--ingress", "one", "--egress", "two"], |ns| {
        let (one, two) = (program(ns, "ingress", "one"), program(ns, "egress", "two"));
        assert_eq!((verdict(&one, 99), verdict(&one, 100)), (UNSPEC, SHOT));
        assert_eq!(
            (verdict(&two, 98), verdict(&two, 99), verdict(&two, 101)),
            (2 * UNSPEC, SHOT + UNSPEC, 2 * SHOT)
        );
    });
    loaded("static_call", &[], |ns| {
        let program = program(ns, "ingress", "static_call");
        assert_eq!((verdict(&program, 60), verdict(&program, 61)), (UNSPEC, SHOT));
    });
    loaded("no_btf", &[], |ns| {
        let program = program(ns, "ingress", "no_btf");
        assert_eq!((verdict(&program, 60), verdict(&program, 2001)), (UNSPEC, SHOT));
    });
}

#[test]
fn functions_that_the_kernel_calls() {
    // 0 + 1 + 4 + 9, by a function in a loop and one for each element.
    loaded("callbacks", &[], |ns| assert_eq!(verdict(&program(ns, "ingress", "callbacks"), 60), 14));
    // What is thrown is 7: three times that by who catches it, itself where nobody does.
    loaded("exceptions", &["--ingress", "caught", "--egress", "uncaught"], |ns| {
        let (caught, uncaught) = (program(ns, "ingress", "caught"), program(ns, "egress", "uncaught"));
        assert_eq!((verdict(&caught, 60), verdict(&caught, 101)), (1, 21));
        assert_eq!((verdict(&uncaught, 60), verdict(&uncaught, 101)), (2, 7));
    });
}

#[test]
fn refused_before_any_call_and_by_the_kernel() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let before = Snapshot::take(ns);
    for (name, words) in [
        ("bad_relocation", &["bad_relocation.bpf.o", "classifier", "0x0", "target"][..]),
        ("undefined", &["undefined.bpf.o", "nowhere"]),
        ("big_endian", &["big_endian.bpf.o", "big-endian", "little-endian"]),
    ] {
        for command in [&["load", &fixture(name), DEVICE][..], &["plan", "load", &fixture(name), DEVICE]] {
            detour::run(ns, command).refused(code::OBJECT, words);
        }
        let load = detour::command(&["load", &fixture(name), DEVICE]);
        let (_, calls) = strace::trace(ns, &load, "bpf", None);
        assert!(calls.is_empty(), "{name}: {calls:?}");
    }
    for (name, words) in [
        (
            "rejected",
            &["PROG_LOAD rejected", "invalid access to packet", "rejected.bpf.c", "return data[20]"][..],
        ),
        ("no_license", &["GPL-restricted function", "license is \"\""]),
    ] {
        detour::run(ns, &["load", &fixture(name), DEVICE]).refused(code::KERNEL, words);
        detour::run(ns, &["load", &fixture(name), DEVICE, "--no-attach"]).refused(code::KERNEL, words);
        // A failed load is made again only to hear why: at most two calls more, as the plan says.
        let (_, calls) = strace::trace(ns, &detour::command(&["load", &fixture(name), DEVICE]), "bpf", None);
        let loads = calls.iter().filter(|call| call.bpf() == Some(5)).count();
        assert!((2..=3).contains(&loads), "{name}: {loads} loads");
    }
    before.holds(ns, "objects that were refused");
}
