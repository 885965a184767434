// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! CO-RE: this loader, bpftool and the kernel's own engine make the same instructions of the same relocations.
use ::detour::compat::kernel::resolve;
use ::detour::object::{Insn, Object, Program};
use detour_sys::{call, commands, Value};
use e2e::detour;
use e2e::netns::Netns;
use e2e::tools::{json, project};
use std::collections::BTreeSet;
use std::os::fd::AsFd;

fn fixture(name: &str) -> String {
    project().join("elf/fixtures").join(name).to_str().unwrap().to_string()
}

fn object(name: &str) -> Object {
    Object::parse(&std::fs::read(fixture(name)).unwrap()).unwrap()
}

/// Loads a program whose relocations nobody has made, and returns the tag of what the kernel made of it.
fn tag_by_the_kernel(object: &Object, program: &Program) -> [u8; 8] {
    let image = object.btf.as_ref().unwrap().image();
    let btf = call(&commands::BTF_LOAD, &[("btf", Value::Bytes(&image))]).unwrap().fd.unwrap();
    let words = |list: Vec<u32>| list.into_iter().flat_map(u32::to_ne_bytes).collect::<Vec<u8>>();
    let insns: Vec<u8> = program.insns.iter().copied().flat_map(Insn::to_bytes).collect();
    let funcs = words(program.funcs.iter().flat_map(|f| [f.insn, f.type_id]).collect());
    let record = |r: &::detour::object::CoreRelo| {
        [u32::try_from(r.insn).unwrap() * 8, r.type_id, r.access_off, r.kind]
    };
    let relos = words(program.core.iter().flat_map(record).collect());
    let lines =
        words(program.lines.iter().flat_map(|l| [l.insn, l.file_off, l.line_off, l.line_col]).collect());
    let arguments = [
        ("prog_type", Value::Num(3)),
        ("insns", Value::Bytes(&insns)),
        ("license", Value::Text(&object.license)),
        ("prog_btf_fd", Value::Fd(btf.as_fd())),
        ("func_info_rec_size", Value::Num(8)),
        ("func_info", Value::Bytes(&funcs)),
        ("line_info_rec_size", Value::Num(16)),
        ("line_info", Value::Bytes(&lines)),
        ("core_relo_rec_size", Value::Num(16)),
        ("core_relos", Value::Bytes(&relos)),
        ("log_level", Value::Num(1)),
        ("log_buf", Value::Room(1 << 20)),
    ];
    let fd = match call(&commands::PROG_LOAD, &arguments) {
        Ok(answer) => answer.fd.unwrap(),
        Err((error, answer)) => {
            panic!("{}: {error}\n{}", program.name, String::from_utf8_lossy(answer.room("log_buf")))
        }
    };
    let arguments = [("bpf_fd", Value::Fd(fd.as_fd())), ("info", Value::Room(16))];
    let answer = call(&commands::OBJ_GET_INFO_BY_FD, &arguments).unwrap();
    answer.room("info")[8..16].try_into().unwrap()
}

#[test]
fn three_engines_make_the_same_instructions() {
    let raw = object("core.bpf.o");
    let mut ours = raw.clone();
    let reads = resolve(&mut ours, None).unwrap();
    // Its modules come second, for types that the kernel itself does not have; before 6.16 nothing can be mapped.
    assert!(["mmap(/sys/kernel/btf/vmlinux)", "read(/sys/kernel/btf/vmlinux)"].contains(&reads[0].as_str()));
    assert_eq!(reads[1], "readdir(/sys/kernel/btf)");
    let ns = Netns::new();
    let pins = "/sys/fs/bpf/oracle";
    ns.run("bpftool", &["prog", "loadall", &fixture("core.bpf.o"), pins]);
    assert!(raw.programs.len() >= 7);
    let kinds: BTreeSet<u32> =
        raw.programs.iter().flat_map(|p| p.core.iter().map(|relo| relo.kind)).collect();
    assert_eq!(kinds, (0..=12).collect(), "a kind of `enum bpf_core_relo_kind` that nobody tries");
    for (before, after) in raw.programs.iter().zip(&ours.programs) {
        assert!(!before.core.is_empty() && after.core.is_empty(), "{}", before.name);
        let kernel = tag_by_the_kernel(&raw, before);
        let tags = after.tags();
        assert!(kernel == tags.sha256 || kernel == tags.sha1, "{}: not as the kernel does it", before.name);
        let pin = format!("{pins}/{}", before.name);
        let hex: String = kernel.iter().map(|byte| format!("{byte:02x}")).collect();
        let shown = json(&ns, "bpftool", &["-j", "prog", "show", "pinned", &pin]);
        assert_eq!(shown["tag"], hex, "{}: not as bpftool does it", before.name);
    }
}

#[test]
fn what_the_kernel_lacks_is_named_with_its_line() {
    let ns = Netns::new();
    let words = [
        "__sk_buff___new.no_such_field (field offset) does not exist in /sys/kernel/btf/vmlinux",
        ".bpf.c:15",
    ];
    detour::run(&ns, &["load", &fixture("core_missing.bpf.o"), "--no-attach"]).refused(4, &words);
    let words = ["__sk_buff___signed.mark (field offset) has another size"];
    detour::run(&ns, &["load", &fixture("core_narrow.bpf.o"), "--no-attach"]).refused(4, &words);
}

#[test]
fn types_of_another_kernel_come_from_a_file() {
    let ns = Netns::new();
    let file = fixture("core.bpf.o");
    let plan = |rest: &[&str]| {
        let mut plan = detour::json(&ns, &[&["plan", "load", &file, "--no-attach"], rest].concat());
        plan["object"] = serde_json::Value::Null;
        plan["command"] = serde_json::Value::Null;
        plan
    };
    assert_eq!(plan(&[]), plan(&["--btf", "/sys/kernel/btf/vmlinux"]));
    detour::run(&ns, &["plan", "load", &file, "--no-attach", "--btf", &file]).refused(3, &["not BTF"]);
    detour::run(&ns, &["plan", "load", &file, "--no-attach", "--btf", "/nowhere"])
        .refused(3, &["No such file"]);
}

#[test]
fn without_types_the_same_instructions_are_loaded() {
    let ns = Netns::new();
    let plan = |rest: &[&str]| {
        let plan = ns.output(&mut detour::command(
            &[&["plan", "load", &fixture("core.bpf.o"), "--no-attach"], rest].concat(),
        ));
        String::from_utf8(plan.stdout).unwrap()
    };
    let (with, without) = (plan(&[]), plan(&["--no-btf"]));
    assert!(with.contains("BTF_LOAD") && !without.contains("BTF_LOAD") && !without.contains("func_info"));
    let tags = |text: &str| -> Vec<String> {
        text.lines()
            .filter_map(|line| line.split_once("tag must be "))
            .map(|(_, tags)| tags.to_owned())
            .collect()
    };
    assert_eq!(tags(&with), tags(&without));
    detour::run(&ns, &["load", &fixture("core.bpf.o"), "--no-attach", "--no-btf"]).done();
}
