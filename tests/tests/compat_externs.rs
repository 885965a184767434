// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Externs: what other objects define, once linked; the kernel's configuration, functions and variables, as the kernel's own
//! files and bpftool have them.
use ::detour::compat::kernel::resolve;
use ::detour::object::Object;
use e2e::detour::{self, code};
use e2e::lab::Lab;
use e2e::netns::Netns;
use e2e::strace;
use e2e::testrun::{Program, Sums};
use e2e::tools::{self, json, project, Scratch};

const DEVICE: &str = "eth0";

fn fixture(name: &str) -> String {
    project().join(format!("elf/fixtures/{name}.bpf.o")).to_str().unwrap().to_string()
}

/// A line of the running kernel's configuration.
fn configured(ns: &Netns, name: &str) -> String {
    let text = ns.run("zcat", &["/proc/config.gz"]);
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_default().to_owned()
}

/// What a program of a loaded fixture returns.
fn verdict(ns: &Netns, object: &str, program: &str) -> i32 {
    run(ns, &fixture(object), program)
}

fn run(ns: &Netns, file: &str, program: &str) -> i32 {
    detour::run(ns, &["load", file, DEVICE, "--name", "it", "--ingress", program]).done();
    let filters = tools::filters(ns, DEVICE, "ingress");
    let id = filters[0]["options"]["prog"]["id"].as_u64().unwrap();
    let mut frame = [0; 60];
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    let verdict = Program::by_id(ns, id).run(&frame, Sums::None).verdict;
    detour::run(ns, &["unload", DEVICE, "it"]).done();
    verdict
}

/// What libbpf found out when it tried: it stands in the map that bpftool made.
fn cookie(ns: &Netns) -> bool {
    ns.run("bpftool", &["prog", "loadall", &fixture("kconfig"), "/sys/fs/bpf/tried"]);
    let shown = json(ns, "bpftool", &["-j", "prog", "show", "pinned", "/sys/fs/bpf/tried/others"]);
    let map = tools::map_dump(ns, shown["map_ids"][0].as_u64().unwrap());
    let values = map[0]["formatted"]["value"][".kconfig"].as_array().unwrap();
    values.iter().find_map(|value| value["LINUX_HAS_BPF_COOKIE"].as_bool()).unwrap()
}

#[test]
fn the_kernels_configuration_reaches_the_program() {
    let lab = Lab::on(Netns::new(), DEVICE);
    let ns = &lab.gateway;
    let release = ns.run("uname", &["-r"]);
    let numbers: Vec<i32> = release.split(['.', '-', '\n']).filter_map(|n| n.parse().ok()).collect();
    let sum = |values: &[i32]| values.iter().fold(0i32, |sum, v| sum.wrapping_mul(31).wrapping_add(*v));
    if !ns.run("uname", &["-v"]).contains("Debian") {
        let version = numbers[0] << 16 | numbers[1] << 8 | numbers[2].min(255);
        assert_eq!(verdict(ns, "kconfig", "version"), version);
    }
    assert_eq!(verdict(ns, "kconfig", "hz").to_string(), configured(ns, "CONFIG_HZ"));
    let yes = |name: &str| i32::from(configured(ns, name) == "y");
    let tristate = match configured(ns, "CONFIG_NET_CLS_BPF").as_str() {
        "y" => 1,
        "m" => 2,
        _ => 0,
    };
    let text = configured(ns, "CONFIG_CC_VERSION_TEXT");
    let start = configured(ns, "CONFIG_PHYSICAL_START");
    let start = i32::from_str_radix(start.trim_start_matches("0x"), 16).unwrap_or(0);
    let others = [
        0,
        yes("CONFIG_ARCH_HAS_SYSCALL_WRAPPER"),
        i32::from(cookie(ns)),
        yes("CONFIG_BPF_SYSCALL"),
        tristate,
        i32::from(configured(ns, "CONFIG_BPF").as_bytes()[0]),
        i32::from(text.as_bytes()[1]),
        start,
    ];
    assert_eq!(verdict(ns, "kconfig", "others"), sum(&others));
}

#[test]
fn tags_are_those_of_bpftool() {
    let ns = Netns::new();
    // Not weak_ones: libbpf before 1.3 leaves the call of a function that is missing as it was.
    for (name, programs) in
        [("kconfig", &["version", "hz", "others"][..]), ("ksyms", &["calls", "addresses"])]
    {
        let pins = format!("/sys/fs/bpf/oracle-{name}");
        ns.run("bpftool", &["prog", "loadall", &fixture(name), &pins]);
        let mut object = Object::parse(&std::fs::read(fixture(name)).unwrap()).unwrap();
        resolve(&mut object, None).unwrap();
        for program in programs {
            let shown = json(&ns, "bpftool", &["-j", "prog", "show", "pinned", &format!("{pins}/{program}")]);
            let tags = object.program(program).unwrap().tags();
            let hex = |tag: [u8; 8]| tag.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            let tag = shown["tag"].as_str().unwrap();
            assert!([hex(tags.sha256), hex(tags.sha1)].contains(&tag.to_owned()), "{name}/{program}");
        }
    }
}

#[test]
fn kernel_functions_and_addresses() {
    let lab = Lab::on(Netns::new(), DEVICE);
    let ns = &lab.gateway;
    assert_eq!(verdict(ns, "ksyms", "calls"), 60, "the length of the frame, as its sk_buff has it");
    assert_eq!(verdict(ns, "ksyms", "weak_ones"), 2);
    let symbols = ns.run("cat", &["/proc/kallsyms"]);
    let address = |name: &str| {
        let line = symbols.lines().find(|line| line.split_whitespace().nth(2) == Some(name));
        line.map(|line| u64::from_str_radix(&line[..16], 16).unwrap())
    };
    let high = address("vprintk").unwrap() >> 32;
    assert_eq!(verdict(ns, "ksyms", "addresses"), high as u32 as i32);
    let variable = detour::run(ns, &["load", &fixture("ksyms_variable"), "--no-attach"]);
    match address("bpf_prog_active") {
        Some(_) => drop(variable.done()),
        None => drop(variable.refused(code::KERNEL, &["kernel symbol 'bpf_prog_active'"])),
    }
}

#[test]
fn what_is_missing_is_named_before_any_call() {
    let ns = Netns::new();
    for (name, words) in [
        ("kconfig_missing", ["extern CONFIG_NO_SUCH_THING", "does not have it, and it is not __weak"]),
        ("ksyms_missing", ["extern no_such_function", "is no kernel function in /sys/kernel/btf/vmlinux"]),
        ("ksyms_other_type", ["extern bpf_rcu_read_lock", "is declared with another type than in"]),
    ] {
        let load = ["load", &fixture(name), "--no-attach"];
        detour::run(&ns, &load).refused(code::OBJECT, &words);
        // MAP_CREATE, PROG_LOAD, BTF_LOAD: nothing was made.
        let (_, calls) = strace::trace(&ns, &detour::command(&load), "bpf", None);
        assert!(calls.iter().all(|call| !matches!(call.bpf(), Some(0 | 5 | 18))), "{name}: {calls:?}");
    }
}

/// Built in here; `scripts/test-kernels` runs the same where nf_conntrack is a module, before and after it is loaded.
#[test]
fn a_weak_function_is_there_or_not() {
    let lab = Lab::on(Netns::new(), DEVICE);
    let ns = &lab.gateway;
    let symbols = ns.run("cat", &["/proc/kallsyms"]);
    let there = symbols.lines().any(|line| line.split_whitespace().nth(2) == Some("bpf_skb_ct_lookup"));
    for program in ["asks", "calls"] {
        assert_eq!(verdict(ns, "ksym_exists", program), i32::from(there), "{program}");
    }
    assert_eq!(verdict(ns, "ksyms_other_type_weak", "calls_it"), 0);
    let said = detour::run(ns, &["load", &fixture("ksyms_other_type_weak"), "--no-attach"]).done().stdout;
    let words =
        "bpf_rcu_read_lock: is declared with another type than in /sys/kernel/btf/vmlinux; as it is __weak";
    assert!(said.contains(words), "{said}");
}

#[test]
fn linked_objects_are_one() {
    let lab = Lab::on(Netns::new(), DEVICE);
    let (ns, scratch) = (&lab.gateway, Scratch::new());
    detour::run(ns, &["load", &fixture("link_a"), "--no-attach"])
        .refused(code::OBJECT, &["other", "defined nowhere"]);
    let file = scratch.path("linked.o").to_str().unwrap().to_owned();
    ns.run("bpftool", &["gen", "object", &file, &fixture("link_a"), &fixture("link_b")]);
    assert_eq!(run(ns, &file, "first"), 60 * 3 + 2 + 60 * 3 - 1);
    assert_eq!(run(ns, &file, "second"), 60 * 3 + 2 + 60 * 3 - 1 + 5, "one program calls another");
}

#[test]
fn inspect_names_what_is_left_to_the_kernel() {
    let ns = Netns::new();
    let inspected = detour::json(&ns, &["inspect", &fixture("ksyms")]);
    let row = serde_json::json!({"name": "no_such_function", "of": "kernel function", "weak": true});
    assert!(inspected["externs"].as_array().unwrap().contains(&row), "{inspected}");
    let text = detour::run(&ns, &["inspect", &fixture("kconfig")]).done().stdout;
    assert!(text.contains("extern   CONFIG_HZ configuration\n"), "{text}");
}
