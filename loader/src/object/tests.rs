// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Small objects to what is made of them, or to the sentence that refuses them.

use super::sample::*;
use super::*;

fn refusal(sample: Sample) -> String {
    Object::parse(&sample.bytes()).unwrap_err().to_string()
}

fn parsed(sample: Sample) -> Object {
    Object::parse(&sample.bytes()).unwrap()
}

#[test]
fn the_smallest_object_has_one_program_and_no_warning() {
    let object = parsed(Sample::drop());
    let [program] = &object.programs[..] else { panic!("{:?}", object.programs) };
    assert_eq!((program.name.as_str(), program.section.as_str()), ("drop", "tc"));
    assert_eq!((program.kind, program.autoload), (ProgramKind::SchedCls, true));
    assert_eq!(program.insns, [MOV_0, EXIT]);
    assert_eq!(program.tags().sha256, 0x59f4_a931_744d_cdc6_u64.to_be_bytes());
    assert_eq!((object.license.as_str(), object.warnings.len()), ("GPL", 0));
}

#[test]
fn what_is_no_bpf_object_is_named() {
    let refuse = |bytes: &[u8]| Object::parse(bytes).unwrap_err().to_string();
    assert_eq!(refuse(b""), "not an ELF file");
    assert_eq!(refuse(b"#!/bin/sh\n"), "not an ELF file");
    // The magic of LLVM's bitcode, which clang -flto writes.
    assert!(refuse(b"BC\xc0\xde\x35\x14").contains("-flto"));
    let with = |change: fn(&mut Sample)| {
        let mut sample = Sample::drop();
        change(&mut sample);
        refusal(sample)
    };
    assert!(with(|s| s.byte_order = 2).contains("big-endian"));
    assert!(with(|s| s.machine = 62).contains("not for BPF"));
    let mut sample = Sample::new();
    sample.code("tc", &[MOV_0, EXIT]);
    assert!(refusal(sample).contains("no symbol table"));
    let whole = Sample::drop().bytes();
    assert!(refuse(&whole[..whole.len() - 1]).contains("section table is truncated"));
    assert!(refuse(&whole[..40]).contains("ELF header is truncated"));
}

#[test]
fn a_license_is_never_assumed() {
    let with = |text: &[u8]| {
        let mut sample = Sample::new();
        sample.code("tc", &[MOV_0, EXIT]);
        sample.symbol("drop", FUNC | GLOBAL, 1, 0, 16);
        if !text.is_empty() {
            sample.data("license", text);
        }
        sample
    };
    let none = parsed(with(b""));
    assert_eq!(none.license, "");
    assert!(none.warnings[0].contains("no license section"));
    let odd = parsed(with(b"GPL-2.0-or-later\0"));
    assert_eq!(odd.license, "GPL-2.0-or-later");
    assert!(odd.warnings[0].contains("counts it as not GPL"));
    assert!(parsed(with(b"Dual MIT/GPL\0")).warnings.is_empty());
    assert_eq!(parsed(with(b"GPL")).license, "GPL");
}

#[test]
fn a_version_is_a_number_and_nothing_more() {
    let with = |bytes: &[u8]| {
        let mut sample = Sample::drop();
        sample.data("version", bytes);
        Object::parse(&sample.bytes()).map(|object| object.programs.len()).map_err(|e| e.to_string())
    };
    assert_eq!(with(&[0, 1, 6, 0]), Ok(1));
    assert_eq!(with(&[0, 1, 6]), Err("section version: is not one number of 4 bytes".to_owned()));
}

#[test]
fn sections_are_tc_by_any_of_the_names_in_use() {
    let tc =
        ["classifier", "tc", "action", "classifier/x", "tc/ingress", "tcx/egress", "netkit/peer", "action/y"];
    for name in tc {
        assert_eq!(functions::program_kind(name), (ProgramKind::SchedCls, true), "{name}");
    }
    assert_eq!(functions::program_kind("?tc"), (ProgramKind::SchedCls, false));
    for name in ["xdp", "tcx", "netkit", "tcp", "classifiers", "kprobe/tc", "", "/tc"] {
        assert_eq!(functions::program_kind(name).0, ProgramKind::Unknown, "{name}");
    }
}

/// `.text`: two subprograms, `leaf` called by `branch`, and `unused`. `tc`: two entries, one calls `branch` twice.
fn family() -> Sample {
    let mut sample = Sample::new();
    let text = sample.code(".text", &[MOV_0, EXIT, call(-3), EXIT, MOV_0, EXIT]);
    let tc = sample.code("tc", &[call(-1), call(1), EXIT, MOV_0, EXIT]);
    sample.symbol("leaf", FUNC | LOCAL, text, 0, 16);
    let branch = sample.symbol("branch", FUNC | GLOBAL, text, 16, 16);
    sample.symbol("unused", FUNC | LOCAL, text, 32, 16);
    let section = sample.symbol("", SECTION | LOCAL, text, 0, 0);
    sample.symbol("first", FUNC | GLOBAL, tc, 0, 24);
    sample.symbol("second", FUNC | GLOBAL, tc, 24, 16);
    // A global function by its symbol and -1, a static one by its section and its place in it.
    sample.relocations(tc, &[(0, 10, branch), (8, 10, section)]);
    sample.data("license", b"GPL\0");
    sample
}

#[test]
fn only_reachable_subprograms_are_appended_and_calls_lead_to_them() {
    let object = parsed(family());
    let first = object.program("first").unwrap();
    let labels: Vec<_> = first.labels.iter().map(|l| (l.insn, l.name.as_str())).collect();
    assert_eq!(labels, [(0, "first"), (3, "branch"), (5, "leaf")]);
    let distances: Vec<_> = first.insns.iter().filter(|i| i.is_local_call()).map(|i| i.imm).collect();
    assert_eq!(distances, [2, 1, 1]);
    assert_eq!(object.program("second").unwrap().insns, [MOV_0, EXIT]);
    assert!(object.program("branch").is_none(), "a function of .text is no program");
}

#[test]
fn recursion_is_left_for_the_verifier_to_refuse() {
    let mut sample = Sample::new();
    sample.code("tc", &[call(-1), EXIT]);
    sample.symbol("round", FUNC | GLOBAL, 1, 0, 16);
    sample.data("license", b"GPL\0");
    assert_eq!(parsed(sample).programs[0].insns, [call(-1), EXIT]);
}

#[test]
fn a_long_chain_of_calls_needs_no_stack() {
    let count = 50_000;
    let mut sample = Sample::new();
    let code: Vec<Insn> = (0..count).flat_map(|_| [call(1), EXIT]).collect();
    sample.code("tc", &[&code[..], &[MOV_0, EXIT]].concat());
    for n in 0..=count {
        sample.symbol("f", FUNC | if n == 0 { GLOBAL } else { LOCAL }, 1, n * 16, 16);
    }
    sample.data("license", b"GPL\0");
    assert_eq!(parsed(sample).programs[0].labels.len(), count as usize + 1);
}

fn one_relocation(insns: &[Insn], kind: u32, make: fn(&mut Sample) -> u32) -> Sample {
    let mut sample = Sample::new();
    let tc = sample.code("tc", insns);
    sample.symbol("it", FUNC | GLOBAL, tc, 0, insns.len() as u64 * 8);
    let symbol = make(&mut sample);
    sample.relocations(tc, &[(8, kind, symbol)]);
    sample.data("license", b"GPL\0");
    sample
}

#[test]
fn a_relocation_that_is_not_understood_is_refused_with_its_place() {
    let [low, high] = load(0);
    let code = [MOV_0, low, high, EXIT];
    let extern_ = |s: &mut Sample| s.symbol("thing", GLOBAL, 0, 0, 0);
    let text = refusal(one_relocation(&code, 77, extern_));
    assert_eq!(text, "section tc, offset 0x8: relocation type 77 against 'thing': is unknown here");
    let text = refusal(one_relocation(&code, 1, extern_));
    assert!(text.starts_with("section tc, offset 0x8: R_BPF_64_64 against 'thing': is extern"), "{text}");
    let text = refusal(one_relocation(&code, 10, extern_));
    assert!(text.ends_with("R_BPF_64_32 against 'thing': does not fit the instruction there"), "{text}");
    let text = refusal(one_relocation(&[MOV_0, insn(0x85, 0, 2, 0, -1), EXIT], 10, extern_));
    assert!(text.contains("'thing': is extern"), "{text}");
    let text = refusal(one_relocation(&code, 1, |s| s.symbol("far", OBJECT | GLOBAL, 3, 0, 4)));
    assert!(text.contains("points into a section that is neither"), "{text}");
    let text = refusal(one_relocation(&[MOV_0, call(-1), EXIT], 10, |s| s.symbol("mid", GLOBAL, 1, 8, 0)));
    assert!(text.contains("'mid': is not the start of a function"), "{text}");
}

#[test]
fn what_only_a_relocation_could_fill_in_is_refused_without() {
    let with = |insns: &[Insn]| {
        let mut sample = Sample::new();
        sample.code("tc", insns);
        sample.symbol("it", FUNC | GLOBAL, 1, 0, insns.len() as u64 * 8);
        refusal(sample)
    };
    let [low, high] = load(3);
    assert!(
        with(&[low.with_src(1), high, EXIT]).contains("offset 0x0, it: a load that only the loader can fill")
    );
    assert!(with(&[insn(0x85, 0, 2, 0, 5), EXIT]).contains("a call of a kernel function has no relocation"));
    assert!(with(&[call(7), EXIT]).contains("a call leads to no function"));
}

#[test]
fn a_program_that_is_not_for_tc_may_be_beyond_us() {
    let mut sample = Sample::drop();
    let xdp = sample.code("xdp", &[insn(0x85, 0, 2, 0, -1), EXIT]);
    sample.symbol("other", FUNC | GLOBAL, xdp, 0, 16);
    let missing = sample.symbol("bpf_something", GLOBAL, 0, 0, 0);
    sample.relocations(xdp, &[(0, 10, missing)]);
    let object = parsed(sample);
    let other = object.program("other").unwrap();
    assert_eq!((other.kind, other.insns.len()), (ProgramKind::Unknown, 0));
    assert!(other.defect.as_ref().unwrap().to_string().contains("bpf_something"));
    assert!(object.program("drop").unwrap().defect.is_none());
}

#[test]
fn data_becomes_a_map_only_if_something_refers_to_it() {
    let [low, high] = load(4);
    let mut sample = one_relocation(&[MOV_0, low, high, EXIT], 1, |s| {
        let index = s.data(".rodata.str1.1", b"\0\0\0\0hello\0");
        s.data(".rodata", b"nobody");
        s.symbol("", SECTION | LOCAL, index, 0, 0)
    });
    sample.zeros(".bss", 1 << 50);
    let object = parsed(sample);
    let [map] = &object.maps[..] else { panic!("{:?}", object.maps) };
    assert_eq!((map.name.as_str(), map.kernel_name.as_str()), (".rodata.str1.1", "rodata.str1.1"));
    assert_eq!((map.value_size, map.max_entries, map.flags, map.frozen), (10, 1, 1 << 7, true));
    assert_eq!(map.contents.as_deref(), Some(&b"\0\0\0\0hello\0"[..]));
    let program = &object.programs[0];
    assert_eq!(program.refs, [MapRef { insn: 1, map: 0, offset: Some(4) }]);
    assert_eq!((program.insns[1].src(), program.insns[1].imm, program.insns[2].imm), (2, 0, 4));
}

#[test]
fn addresses_outside_their_section_and_huge_sections_are_refused() {
    let [low, high] = load(10);
    let code = [MOV_0, low, high, EXIT];
    let section = |s: &mut Sample| {
        let index = s.data(".data", b"0123456789");
        s.symbol("", SECTION | LOCAL, index, 0, 0)
    };
    assert!(refusal(one_relocation(&code, 1, section)).contains("'.data': points beyond its section"));
    let huge = |s: &mut Sample| {
        let index = s.zeros(".bss", 1 << 31);
        s.symbol("counters", OBJECT | GLOBAL, index, 0, 8)
    };
    assert!(refusal(one_relocation(&code, 1, huge)).contains("section .bss: is larger than any map"));
}

#[test]
fn a_common_variable_lies_in_no_section() {
    let mut sample = Sample::new();
    let [low, high] = load(0);
    let code = sample.code("tc", &[low, high, MOV_0, EXIT]);
    sample.symbol("f", FUNC | GLOBAL, code, 0, 32);
    // SHN_COMMON
    let common = sample.symbol("v", OBJECT | GLOBAL, 0xfff2, 4, 4);
    sample.relocations(code, &[(0, 1, common)]);
    assert!(refusal(sample).contains("R_BPF_64_64 against 'v': lies in no section"));
}

#[test]
fn map_definitions_of_the_old_form_are_refused_with_the_reason() {
    let mut sample = Sample::drop();
    sample.data("maps", &[0; 28]);
    assert!(refusal(sample).contains("section maps: has map definitions of an old form"));
}

#[test]
fn functions_are_whole_and_apart() {
    let mut sample = Sample::drop();
    sample.symbol("again", FUNC | GLOBAL, 1, 8, 8);
    assert!(refusal(sample).contains("offset 0x8, again: the function overlaps another one"));
    let mut sample = Sample::drop();
    sample.symbol("beyond", FUNC | GLOBAL, 1, 16, 8);
    assert!(refusal(sample).contains("beyond: the function reaches beyond its section"));
}

#[test]
fn a_function_may_have_two_names() {
    let mut sample = Sample::new();
    let code = sample.code("tc", &[call(1), EXIT, MOV_0, EXIT]);
    for (name, start) in [("f", 0), ("called", 16), ("g", 0), ("other", 16)] {
        sample.symbol(name, FUNC | GLOBAL, code, start, 16);
    }
    let object = parsed(sample);
    let programs: Vec<_> = object.programs.iter().map(|p| (p.name.as_str(), p.tags())).collect();
    let tags = |name: &str| object.program(name).unwrap().tags();
    assert_eq!(programs, ["f", "g", "called", "other"].map(|name| (name, tags(name))));
    assert_eq!([tags("f"), tags("called")], [tags("g"), tags("other")]);
    let labels =
        |name: &str| object.program(name).unwrap().labels.iter().map(|l| l.name.as_str()).collect::<Vec<_>>();
    assert_eq!([labels("f"), labels("g")], [["f", "called"], ["g", "called"]]);
    let mut sample = Sample::drop();
    sample.symbol("shorter", FUNC | GLOBAL, 1, 0, 8);
    assert!(refusal(sample).contains("overlaps"));
    let many = |count: usize| {
        let mut sample = Sample::drop();
        for n in 0..count {
            sample.symbol(&format!("again{n}"), FUNC | GLOBAL, 1, 0, 16);
        }
        Object::parse(&sample.bytes()).map_err(|e| e.to_string())
    };
    // What is read is bounded by the file's size.
    assert_eq!(many(15).map(|object| object.programs.len()), Ok(16));
    assert!(many(16).unwrap_err().contains("overlaps"));
}

#[test]
fn a_static_function_that_nobody_calls_loads_only_when_named() {
    let mut sample = Sample::drop();
    let more = sample.code("tc/more", &[MOV_0, EXIT]);
    sample.symbol("hidden", FUNC | LOCAL, more, 0, 16);
    let text = sample.code(".text", &[MOV_0, EXIT]);
    sample.symbol("no_program", FUNC | LOCAL, text, 0, 16);
    let object = parsed(sample);
    let programs: Vec<_> = object.programs.iter().map(|p| (p.name.as_str(), p.autoload)).collect();
    assert_eq!(programs, [("drop", true), ("hidden", false)]);
    assert_eq!(object.warnings, ["section tc/more: hidden is static, so it loads only when named"]);
}

#[test]
fn functions_in_text_are_programs_where_there_is_nothing_else() {
    let mut alone = Sample::new();
    let text = alone.code(".text", &[MOV_0, EXIT]);
    alone.symbol("only", FUNC | GLOBAL, text, 0, 16);
    let object = parsed(alone);
    let programs: Vec<_> = object.programs.iter().map(|p| (p.name.as_str(), p.kind)).collect();
    assert_eq!(programs, [("only", ProgramKind::Unknown)]);
}

#[test]
fn functions_of_old_compilers_have_no_type() {
    const UNTYPED: u8 = 0;
    let mut sample = Sample::drop();
    let more = sample.code("classifier", &[MOV_0, EXIT]);
    sample.symbol("old", UNTYPED | GLOBAL, more, 0, 16);
    sample.symbol("LBB0_1", UNTYPED | LOCAL, more, 8, 0);
    // Where functions have types, something else is none.
    sample.symbol("inside", UNTYPED | GLOBAL, 1, 8, 8);
    let object = parsed(sample);
    let names: Vec<_> = object.programs.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["drop", "old"]);
}
