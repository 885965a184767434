// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The objects that are shipped: what is read from each is what its source says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use detour::object::{Kind, Object, Program, ProgramKind};

fn elf() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../elf")
}

fn object(name: &str) -> Object {
    Object::parse(&std::fs::read(elf().join(name)).unwrap()).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn text(object: &Object, program: &Program) -> String {
    object.listing(program).iter().map(|line| format!("{}\n", line.text)).collect()
}

#[test]
fn shipped_objects_are_clean_and_know_their_source() {
    for name in ["drop.bpf.o", "trace.bpf.o", "dnat.bpf.o"] {
        let object = object(name);
        assert_eq!(
            (object.license.as_str(), object.warnings.as_slice()),
            ("Dual MIT/GPL", &[][..]),
            "{name}"
        );
        for program in &object.programs {
            assert_eq!((program.section.as_str(), program.kind), ("classifier", ProgramKind::SchedCls));
            assert_eq!(program.funcs.len(), program.labels.len());
            let source = object.source(program, 0).unwrap();
            assert!(source.line > 0 && !source.text.is_empty(), "{name}: {source}");
            assert!(!source.file.starts_with('/'), "{name}: built with the path of a machine: {source}");
        }
    }
}

#[test]
fn digests_are_those_of_the_manifest() {
    let manifest = std::fs::read_to_string(elf().join("MANIFEST")).unwrap();
    for name in ["drop.bpf.o", "trace.bpf.o", "dnat.bpf.o"] {
        let digest: String = object(name).sha256.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(manifest.contains(&format!("{digest}  {name}\n")), "{name} is not {digest}");
    }
}

#[test]
fn a_listing_names_what_is_called_and_loaded() {
    let object = object("dnat.bpf.o");
    let listing = text(&object, object.program("detour_in").unwrap());
    for part in ["call bpf_map_lookup_elem#1\n", "r1 = map[", "= &cfg", "exit\n", "if "] {
        assert!(listing.contains(part), "no '{part}'");
    }
    assert!(!listing.contains("<unknown"), "an instruction has no text");
}

#[test]
fn a_listing_names_what_the_kernel_has() {
    let object = object("fixtures/ksyms.bpf.o");
    let listing: String = object.programs.iter().map(|program| text(&object, program)).collect();
    // A function, its address and a variable's; two of them are nowhere.
    for part in ["call bpf_rcu_read_lock\n", "r1 = &no_such_function\n", "r0 = &vprintk\n"] {
        assert!(listing.contains(part), "no '{part}' in {listing}");
    }
    assert!(!listing.contains("call 0x0"), "{listing}");
}

#[test]
fn settings_reach_the_frozen_data_and_leave_the_rest() {
    let mut object = object("dnat.bpf.o");
    let cfg = object.variables.iter().find(|v| v.name == "cfg").unwrap().clone();
    let btf = object.btf.as_ref().unwrap();
    let field = btf.strip(cfg.type_id).unwrap().members().find(|m| m.name == "l2_len").unwrap();
    let place = usize::try_from(cfg.offset + field.bit_offset / 8).unwrap();
    let size = usize::try_from(btf.size_of(field.type_id).unwrap()).unwrap();
    let before = object.maps[cfg.map].contents.clone().unwrap();
    object.set("cfg.l2_len=0").unwrap();
    let map = &object.maps[cfg.map];
    let after = map.contents.clone().unwrap();
    assert!(map.frozen && before[place..place + size] != after[place..place + size]);
    assert_eq!((&before[..place], &before[place + size..]), (&after[..place], &after[place + size..]));
    assert!(object.set("cfg.l3_len=0").unwrap_err().to_string().contains("there is: "));
}

#[test]
fn data_maps_have_the_type_the_kernel_wants_for_them() {
    let object = object("dnat.bpf.o");
    let btf = object.btf.as_ref().unwrap();
    let rodata = object.maps.iter().find(|m| m.name == ".rodata").unwrap();
    let datasec = btf.get(rodata.value_type_id).unwrap();
    assert_eq!((datasec.kind, datasec.name(), datasec.size()), (Kind::Datasec, ".rodata", rodata.value_size));
    let rules = object.maps.iter().find(|m| m.name == "rules").unwrap();
    assert_eq!((rules.map_type, rules.inner.is_some(), rules.slots.len()), (12, true, 1));
}

/// A file of 3 KB may claim 2 GiB of zeros, and have as many variables in one place as it likes.
#[test]
fn what_is_said_of_variables_is_bounded() {
    use detour::ui::inspect::{json, text};
    let huge = object("fixtures/bss_own.bpf.o");
    let said = text("bss_own", &huge);
    assert!(said.contains("__u32[524288] huge = {0}\n") && said.contains("__u32 own = 0\n"), "{said}");
    let said = json("bss_own", &huge, false);
    let of = |name: &str| {
        said["variables"].as_array().unwrap().iter().find(|v| v["name"] == name).unwrap().clone()
    };
    assert!(
        of("huge")["value"].is_null() && of("huge")["size"] == 2 << 20 && of("own")["value"] == 0,
        "{said}"
    );
    let mut many = object("fixtures/globals.bpf.o");
    let pairs = many.variables.iter().find(|v| v.name == "pairs").unwrap().clone();
    let held: usize = many.maps.iter().filter_map(|map| map.contents.as_ref()).map(Vec::len).sum();
    many.variables = vec![pairs; 10_000];
    let said = json("globals", &many, false);
    let read = said["variables"].as_array().unwrap().iter().filter(|v| !v["value"].is_null()).count();
    assert_eq!(read, held / 8, "each byte once");
    assert!(text("globals", &many).contains("struct pair[2] pairs = ?\n"));
}
