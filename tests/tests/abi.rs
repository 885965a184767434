// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Three views of the same bytes: the C of ebpf-src, read from the objects' BTF, our Rust tables, and the running kernel.
use detour::dnat::abi::LAYOUTS;
use detour::dnat::codes::{ENUMERATORS, REASONS};
use detour::load::record::{Record, RecordProgram};
use detour::object::{Btf, Kind, Object, Type};
use detour_sys::commands::COMMANDS;
use e2e::tools::project;
use std::collections::BTreeMap;

fn object(name: &str) -> Object {
    let path = project().join("elf").join(name);
    Object::parse(&std::fs::read(&path).unwrap())
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The types of ebpf-src/abi.h.
fn shared() -> Btf {
    object("abi.bpf.o").btf.expect("BTF")
}

fn kernel() -> Btf {
    Btf::parse(&std::fs::read("/sys/kernel/btf/vmlinux").unwrap()).unwrap()
}

/// Offset and size in bytes of each member, those of anonymous structs and unions within included.
fn members(btf: &Btf, of: Type<'_>, base: u32, into: &mut BTreeMap<String, (usize, usize)>) {
    for member in of.members() {
        let at = base + member.bit_offset / 8;
        let inner = btf.strip(member.type_id).unwrap();
        // Of the variants of BPF_LINK_CREATE only that of tcx is used, by a struct of that name.
        if member.name.is_empty() || member.name == "tcx" {
            members(btf, inner, at, into);
        } else {
            let size = btf.size_of(member.type_id).unwrap();
            into.insert(member.name.to_string(), (at as usize, size as usize));
        }
    }
}

fn fields(btf: &Btf, name: &str) -> (usize, BTreeMap<String, (usize, usize)>) {
    let found = btf.find(Kind::Struct, name).unwrap_or_else(|| panic!("no struct {name}"));
    let mut all = BTreeMap::new();
    members(btf, found, 0, &mut all);
    (found.size() as usize, all)
}

/// All enumerators by name.
fn enumerators(btf: &Btf) -> BTreeMap<String, i128> {
    let enums = btf.types().filter(|t| matches!(t.kind, Kind::Enum | Kind::Enum64));
    enums
        .flat_map(|t| t.enumerators().map(|(name, value)| (name.to_string(), value)).collect::<Vec<_>>())
        .collect()
}

#[test]
fn rust_reads_what_c_writes() {
    let btf = shared();
    for layout in LAYOUTS {
        let (size, mut in_c) = fields(&btf, layout.name);
        assert_eq!(layout.size, size, "struct {}", layout.name);
        for (name, offset, size) in layout.fields {
            assert_eq!(in_c.remove(*name), Some((*offset, *size)), "{}.{name}", layout.name);
        }
        in_c.retain(|name, _| !name.contains("pad") && name != "lock");
        assert!(in_c.is_empty(), "struct {}: Rust does not know {in_c:?}", layout.name);
    }
    let in_c = enumerators(&btf);
    for (name, value) in ENUMERATORS {
        assert_eq!(in_c.get(*name), Some(&i128::from(*value)), "{name}");
    }
    for (number, (name, _)) in REASONS.iter().enumerate() {
        let name = format!("REASON_{}", name.to_uppercase());
        assert_eq!(in_c.get(&name), Some(&(number as i128)), "{name}");
    }
    assert_eq!(in_c.get("REASON_COUNT"), Some(&(REASONS.len() as i128)), "reasons that Rust does not know");
}

/// C has no loose ends: all bytes of every shared struct belong to a member, so none is ever uninitialised.
#[test]
fn padding_is_written_out() {
    let btf = shared();
    for layout in LAYOUTS {
        let (size, members) = fields(&btf, layout.name);
        let mut covered = vec![false; size];
        members.values().for_each(|(at, length)| covered[*at..at + length].fill(true));
        let hole = covered.iter().position(|byte| !byte);
        assert_eq!(hole, None, "struct {}: byte of padding that the compiler made", layout.name);
    }
}

#[test]
fn the_record_is_written_as_c_declares_it() {
    let btf = shared();
    let program = |id, name: &str| RecordProgram {
        id,
        parent: 0xffff_fff2,
        prio: 100,
        protocol: 0x86dd,
        chain: 7,
        handle: 0xd370,
        tag: [1, 2, 3, 4, 5, 6, 7, 8],
        name: name.to_string(),
    };
    let record = Record {
        schema: 1,
        ifindex: 77,
        object_sha256: [9; 32],
        ifname: "eth0.100".into(),
        name: "dnat".into(),
        programs: vec![program(5, "first"), program(6, "second")],
        flags: 1,
    };
    let bytes = record.bytes();
    let (size, head) = fields(&btf, "record");
    let (entry, entries) = fields(&btf, "record_prog");
    assert_eq!(bytes.len(), size);
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let text = |at: usize| String::from_utf8_lossy(&bytes[at..at + 16]).trim_end_matches('\0').to_string();
    let half = |at: usize| u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap());
    assert_eq!((word(head["schema"].0), word(head["ifindex"].0)), (1, 77));
    assert_eq!((half(head["count"].0), half(head["flags"].0)), (2, 1));
    assert_eq!(bytes[head["object_sha256"].0..][..32], [9; 32]);
    assert_eq!((text(head["ifname"].0), text(head["name"].0)), ("eth0.100".into(), "dnat".into()));
    let second = head["progs"].0 + entry;
    assert_eq!(word(second + entries["id"].0), 6);
    assert_eq!(word(second + entries["parent"].0), 0xffff_fff2);
    assert_eq!((half(second + entries["prio"].0), half(second + entries["protocol"].0)), (100, 0x86dd));
    assert_eq!((word(second + entries["handle"].0), word(head["chain"].0)), (0xd370, 7));
    assert_eq!(bytes[second + entries["tag"].0..][..8], [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(text(second + entries["name"].0), "second");
    assert_eq!(Record::parse(&bytes), Some(record));
}

/// Every field of every bpf(2) command is where this kernel has it in `union bpf_attr`, as large as here.
#[test]
fn commands_are_the_kernels() {
    let btf = kernel();
    let numbers = enumerators(&btf);
    let attr = btf.find(Kind::Union, "bpf_attr").expect("union bpf_attr");
    assert!(attr.size() as usize >= detour_sys::attr::ATTR_MAX);
    let variants: Vec<BTreeMap<String, (usize, usize)>> = attr
        .members()
        .map(|variant| {
            let mut all = BTreeMap::new();
            members(&btf, btf.strip(variant.type_id).unwrap(), 0, &mut all);
            all
        })
        .collect();
    for command in COMMANDS {
        let name = format!("BPF_{}", command.name);
        assert_eq!(numbers.get(&name), Some(&i128::from(command.number)), "{name}");
        let fits = |variant: &&BTreeMap<String, (usize, usize)>| {
            command.fields.iter().all(|field| variant.get(field.name) == Some(&(field.at, field.width())))
        };
        assert!(variants.iter().any(|variant| fits(&variant)), "{name}: {:?}", command.fields);
    }
}

/// What our C declares of the kernel's interface is what this kernel has.
#[test]
fn vendored_declarations_are_the_kernels() {
    let btf = kernel();
    let numbers = enumerators(&btf);
    let mut compared = 0;
    for name in ["abi.bpf.o", "dnat.bpf.o", "drop.bpf.o", "trace.bpf.o"] {
        let ours = object(name).btf.expect("BTF");
        for (struct_name, sized) in [("__sk_buff", false), ("bpf_sock_tuple", true)] {
            let Some(found) = ours.find(Kind::Struct, struct_name) else { continue };
            let mut declared = BTreeMap::new();
            members(&ours, found, 0, &mut declared);
            let (size, theirs) = fields(&btf, struct_name);
            assert!(!sized || size == found.size() as usize, "{name}: struct {struct_name}");
            for (member, place) in declared {
                assert_eq!(theirs.get(&member), Some(&place), "{name}: {struct_name}.{member}");
                compared += 1;
            }
        }
        for (enumerator, value) in enumerators(&ours) {
            if ["BPF_", "TC_ACT_", "IPPROTO_"].iter().any(|prefix| enumerator.starts_with(prefix)) {
                if let Some(kernels) = numbers.get(&enumerator) {
                    assert_eq!(*kernels, value, "{name}: {enumerator}");
                    compared += 1;
                }
            }
        }
    }
    assert!(compared >= 10, "only {compared} declarations compared");
}
