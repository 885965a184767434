// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Types to map shapes, variables and settings, or to the sentence that refuses them.

use super::sample::*;
use super::sample_types::*;
use super::*;

type Members = Vec<(&'static str, u32)>;

fn map(attributes: impl Fn(&mut Types) -> Members) -> Result<MapSpec, String> {
    let object = Object::parse(&with_map(1, attributes).bytes()).map_err(|e| e.to_string())?;
    Ok(object.maps.into_iter().next().unwrap())
}

#[test]
fn a_definition_is_its_type() {
    let spec = map(|t| {
        let (int, long) = (t.pointer(1), t.pointer(2));
        let extra = t.add(6, 1, "", 4, &[1, 3]);
        let members = [("type", t.uint(1)), ("max_entries", t.uint(512)), ("map_flags", t.uint(5))];
        [&members[..], &[("key", int), ("value", long), ("numa_node", t.uint(0)), ("map_extra", extra)]]
            .concat()
    });
    let spec = spec.unwrap();
    assert_eq!((spec.name.as_str(), spec.map_type, spec.max_entries, spec.flags), ("m", 1, 512, 5));
    assert_eq!((spec.key_size, spec.key_type_id, spec.value_size, spec.value_type_id), (4, 1, 8, 2));
    assert_eq!((spec.numa_node, spec.map_extra, spec.pinning), (Some(0), 3, 0));
    assert_eq!((spec.inner, spec.contents, spec.frozen), (None, None, false));
}

#[test]
fn a_ring_has_neither_keys_nor_values() {
    let ring = map(|t| vec![("type", t.uint(27)), ("value", t.pointer(2)), ("max_entries", t.uint(4096))]);
    let ring = ring.unwrap();
    assert_eq!((ring.key_size, ring.value_size, ring.value_type_id), (0, 0, 0));
    assert_eq!(ring.max_entries, 4096);
}

#[test]
fn what_a_definition_must_not_say_is_refused_by_name() {
    let refuse =
        |more: fn(&mut Types) -> Members| map(|t| [vec![("type", t.uint(1))], more(t)].concat()).unwrap_err();
    assert_eq!(refuse(|t| vec![("colour", t.uint(1))]), "map m, attribute colour: is unknown");
    assert!(refuse(|t| vec![("key", t.pointer(1)), ("key_size", t.uint(8))]).contains("contradicts the size"));
    assert!(refuse(|t| vec![("pinning", t.uint(2))]).contains("attribute pinning: is neither"));
    assert!(refuse(|_| vec![("max_entries", 1)]).contains("is not written with __uint"));
    assert!(refuse(|_| vec![("key", 1)]).contains("is not written with __type"));
    assert!(refuse(|t| vec![("key", t.pointer(0))]).contains("is of a type without size"));
    assert!(map(|t| vec![("max_entries", t.uint(1))]).unwrap_err().contains("attribute type: is missing"));
    assert!(map(|t| vec![("type", t.uint(12))]).unwrap_err().contains("attribute values: is missing"));
    assert!(map(|t| vec![("key", t.pointer(1)), ("key_size", t.uint(4)), ("type", t.uint(1))]).is_ok());
}

#[test]
fn flags_that_no_kernel_takes_are_noticed() {
    let warnings = |flags: u32| {
        let sample = with_map(1, move |t| vec![("type", t.uint(11)), ("map_flags", t.uint(flags))]);
        Object::parse(&sample.bytes()).unwrap().warnings
    };
    assert!(warnings(0).iter().any(|w| w.contains("map m") && w.contains("BPF_F_NO_PREALLOC")));
    assert_eq!(warnings(1), [""; 0]);
}

#[test]
fn who_gets_no_types_in_the_kernel_is_told() {
    let warnings = |number: u32, key: u32| {
        let sample = with_map(1, move |t| {
            let flags = ("map_flags", t.uint(1));
            vec![("type", t.uint(number)), flags, ("key", t.pointer(key)), ("value", t.pointer(1))]
        });
        Object::parse(&sample.bytes()).unwrap().warnings
    };
    for (number, key) in [(11, 1), (2, 2)] {
        let warnings = warnings(number, key);
        assert!(warnings.iter().any(|w| w.contains("map m") && w.contains("--types")), "{warnings:?}");
    }
    // An integer of 32 bits in an array and in a hash; and a map that never has any.
    assert_eq!([(2, 1), (1, 1), (15, 1)].map(|(number, key)| warnings(number, key).len()), [0; 3]);
}

#[test]
fn static_extern_and_filled_maps_are_refused_by_name() {
    let refuse = |linkage| {
        let sample = with_map(linkage, |t| vec![("type", t.uint(1))]);
        Object::parse(&sample.bytes()).unwrap_err().to_string()
    };
    assert!(refuse(0).starts_with("map m: is static"));
    assert!(refuse(2).starts_with("map m: is extern"));
    let mut bytes = with_map(1, |t| vec![("type", t.uint(1))]).bytes();
    let at = bytes.windows(4).position(|w| w == b"GPL\0").unwrap() + 4;
    bytes[at] = 1;
    assert!(Object::parse(&bytes).unwrap_err().to_string().starts_with("map m: has a value"));
}

#[test]
fn a_hidden_map_is_a_map() {
    let mut sample = with_map(1, |t| vec![("type", t.uint(27)), ("max_entries", t.uint(4096))]);
    sample.hide(sample.last());
    assert_eq!(Object::parse(&sample.bytes()).unwrap().maps[0].name, "m");
}

/// Each unnamed struct is twice a member of the next: 2^28 ways lead to the innermost one.
#[test]
fn unnamed_members_that_multiply_are_looked_at_once() {
    let mut types = Types::new();
    let mut outer = types.structure(&[("innermost", 1)]);
    for _ in 0..28 {
        outer = types.add(4, 2, "", 8, &[0, outer, 0, 0, outer, 0]);
    }
    let var = types.add(14, 0, "v", outer, &[1]);
    types.add(15, 1, ".data", 0, &[var, 0, 8]);
    let [first, second] = load(0);
    let mut sample = Sample::new();
    let tc = sample.code("tc", &[first, second, EXIT]);
    sample.symbol("it", FUNC | GLOBAL, tc, 0, 24);
    let data = sample.data(".data", &[0; 8]);
    let symbol = sample.symbol("v", OBJECT | GLOBAL, data, 0, 8);
    sample.relocations(tc, &[(0, 1, symbol)]);
    sample.data("license", b"GPL\0");
    sample.section(".BTF", 1, 0, types.bytes());
    let mut object = Object::parse(&sample.bytes()).unwrap();
    let said = object.set("v.zz=1").unwrap_err().to_string();
    assert_eq!(said.matches("innermost").count(), 1, "{said}");
    object.set("v.innermost=7").unwrap();
    assert_eq!(object.maps[0].contents.as_ref().unwrap()[..4], [7, 0, 0, 0]);
}

#[test]
fn types_are_withheld_from_maps_that_refuse_them() {
    let withheld = |number: u32| {
        let spec =
            map(move |t| vec![("type", t.uint(number)), ("key", t.pointer(1)), ("value", t.pointer(1))]);
        let spec = spec.unwrap();
        assert_eq!((spec.key_type_id, spec.value_type_id), (1, 1), "an object's reader has them");
        spec.types_withheld
    };
    assert_eq!([1, 2, 4, 11, 15].map(withheld), [false, false, true, true, true]);
    let only_value =
        map(|t| vec![("type", t.uint(1)), ("key_size", t.uint(4)), ("value", t.pointer(1))]).unwrap();
    assert!(only_value.types_withheld);
    let bloom = map(|t| vec![("type", t.uint(30)), ("value", t.pointer(1))]).unwrap();
    assert_eq!((bloom.key_type_id, bloom.value_type_id, bloom.types_withheld), (0, 1, false));
}

#[test]
fn a_map_of_maps_has_a_template_and_slots() {
    let mut sample = with_map(1, |t| {
        let inner =
            [("type", t.uint(2)), ("max_entries", t.uint(1)), ("key", t.pointer(1)), ("value", t.pointer(2))];
        let inner = t.structure(&inner);
        let pointer = t.pointer(inner);
        let mut members = vec![("type", t.uint(12)), ("max_entries", t.uint(1)), ("key_size", t.uint(4))];
        members.push(("values", t.array(pointer, 0)));
        members
    });
    // The map's own symbol is the last one: a slot that holds the map itself is odd, but shows where it goes.
    sample.relocations(3, &[(24, 2, 2)]);
    let object = Object::parse(&sample.bytes()).unwrap();
    let spec = &object.maps[0];
    assert_eq!((spec.value_size, spec.slots.as_slice()), (4, &[(0, Slot::Map("m".to_owned()))][..]));
    let inner = spec.inner.as_ref().unwrap();
    assert_eq!((inner.name.as_str(), inner.map_type, inner.key_size, inner.value_size), ("m.inner", 2, 4, 8));
}

/// `.data` with `struct { int a; u64 b; u64 list[2]; } cfg`, `bool on`, `char text[8]`, `enum { LOW = -1, HIGH = 7 } e`.
fn settable() -> Object {
    let mut types = Types::new();
    let list = types.array(2, 2);
    let fields = types.structure(&[("a", 1), ("b", 2), ("list", list)]);
    let boolean = types.add(1, 0, "_Bool", 1, &[4 << 24 | 8]);
    let character = types.add(1, 0, "char", 1, &[1 << 24 | 8]);
    let text = types.array(character, 8);
    let (low, high) = (types.string("LOW"), types.string("HIGH"));
    let choice = types.add(6, 1 << 31 | 2, "choice", 4, &[low, u32::MAX, high, 7]);
    let variables =
        [("cfg", fields, 0, 32), ("on", boolean, 32, 1), ("text", text, 40, 8), ("e", choice, 48, 4)];
    let mut placed = Vec::new();
    for (name, type_id, offset, size) in variables {
        placed.extend([types.add(14, 0, name, type_id, &[0]), offset, size]);
    }
    types.add(15, 4, ".data", 0, &placed);
    let [first, second] = load(0);
    let mut sample = Sample::new();
    let tc = sample.code("tc", &[first, second, EXIT]);
    sample.symbol("it", FUNC | GLOBAL, tc, 0, 24);
    let data = sample.data(".data", &[0; 56]);
    let symbol = sample.symbol("", SECTION | LOCAL, data, 0, 0);
    sample.relocations(tc, &[(0, 1, symbol)]);
    sample.data("license", b"GPL\0");
    sample.section(".BTF", 1, 0, types.bytes());
    Object::parse(&sample.bytes()).unwrap()
}

#[test]
fn values_are_written_as_their_types_say() {
    let mut object = settable();
    let settings =
        ["cfg.a=-2", "cfg.b=0xffffffffffffffff", "cfg.list[1]=258", "on=true", "text=\"eth0\"", "e=HIGH"];
    for setting in settings {
        object.set(setting).unwrap_or_else(|e| panic!("{e}"));
    }
    let bytes = object.maps[0].contents.as_ref().unwrap();
    assert_eq!(bytes[..16], *b"\xfe\xff\xff\xff\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff");
    assert_eq!(bytes[24..33], *b"\x02\x01\0\0\0\0\0\0\x01");
    assert_eq!(bytes[40..], *b"eth0\0\0\0\0\x07\0\0\0\0\0\0\0");
    object.set("e=LOW").unwrap();
    object.set("cfg.list[0]=hex:0102030405060708").unwrap();
    let bytes = object.maps[0].contents.as_ref().unwrap();
    assert_eq!(
        (&bytes[16..24], &bytes[48..52]),
        (&b"\x01\x02\x03\x04\x05\x06\x07\x08"[..], &b"\xff\xff\xff\xff"[..])
    );
}

#[test]
fn what_does_not_fit_is_refused_and_the_right_names_are_given() {
    let mut object = settable();
    let mut refuse = |setting: &str| object.set(setting).unwrap_err().to_string();
    assert_eq!(
        refuse("nope=1"),
        "nope=1: no program uses a variable of that name; there is: cfg, on, text, e"
    );
    assert_eq!(refuse("cfg.c=1"), "cfg.c=1: has no such field; there is: a, b, list");
    assert_eq!(refuse("e=MIDDLE"), "e=MIDDLE: is no enumerator of its type; there is: LOW, HIGH");
    for (setting, what) in [
        ("on", "not of the form"),
        ("cfg.a=2147483648", "does not fit"),
        ("cfg.a=1 ", "wants a number"),
        ("cfg.a=+1", "wants a number"),
        ("cfg.b=-1", "does not fit"),
        ("on=2", "does not fit"),
        ("cfg.a=true", "wants a number"),
        ("text=eth0", "in quotes"),
        ("text=\"12345678\"", "does not fit"),
        ("text=\"", "in quotes"),
        ("cfg=1", "set its parts"),
        ("cfg.list[2]=1", "beyond the array"),
        ("cfg.list[x]=1", "no number"),
        ("cfg.list[0=1", "lone bracket"),
        ("on.x=1", "not a struct"),
        ("on[0]=1", "not an array"),
        ("on=hex:0", "pairs of hexadecimal"),
        ("on=hex:0000", "another length"),
        ("=", "no program uses"),
    ] {
        assert!(refuse(setting).contains(what), "{setting}: {}", refuse(setting));
    }
}

#[test]
fn damaged_types_are_refused() {
    let refuse = |bytes: &[u8]| Btf::parse(bytes).unwrap_err().to_string();
    let good = Types::new().bytes();
    assert!(Btf::parse(&good).is_ok());
    assert_eq!(refuse(&good[..20]), "BTF: the header is cut short");
    assert_eq!(refuse(&good[..60]), "BTF: the strings lie outside");
    assert_eq!(refuse(&[&[0xeb, 0x9f], &good[2..]].concat()), "BTF: is big-endian");
    let mut unknown = Types::new();
    unknown.add(20, 0, "", 0, &[]);
    assert_eq!(refuse(&unknown.bytes()), "BTF type 3: is cut short or of an unknown kind");
    let mut cut = Types::new();
    cut.add(4, 9, "", 0, &[]);
    assert_eq!(refuse(&cut.bytes()), "BTF type 3: is cut short or of an unknown kind");
}

#[test]
fn kinds_of_the_future_are_stepped_over_by_their_layout() {
    let mut types = Types::new();
    // Kind 22: four bytes behind each, eight for each of its two parts; then one that is known.
    types.add(22, 2, "", 0, &[7, 1, 2, 3, 4]);
    let last = types.add(1, 0, "after", 2, &[16]);
    let plain = types.bytes();
    let word = |at: usize| u32::from_le_bytes(plain[at..at + 4].try_into().unwrap());
    let with = |fixed: u8, each: u8, kinds: u32| {
        let parts = &plain[24..];
        let mut bytes = [&plain[..4], &32u32.to_le_bytes(), &plain[8..24]].concat();
        bytes.extend([parts.len() as u32, kinds * 4].iter().flat_map(|word| word.to_le_bytes()));
        bytes.extend(parts);
        bytes.extend((0..kinds).flat_map(|kind| if kind == 22 { [fixed, each, 0, 0] } else { [0; 4] }));
        Btf::parse(&bytes)
    };
    assert_eq!(
        (word(4), word(16) + word(20)),
        (24, plain.len() as u32 - 24),
        "what follows is the last part"
    );
    let read = with(4, 8, 23).unwrap();
    let after = read.get(last).unwrap();
    assert_eq!((after.kind, after.name(), read.size_of(last)), (Kind::Int, "after", Some(2)));
    assert_eq!((read.get(3).unwrap().kind, read.size_of(3)), (Kind::Unknown, None));
    // Without a layout for it, or with one that leads elsewhere, it is refused.
    for (fixed, each, kinds) in [(4, 8, 22), (4, 8, 0), (200, 200, 23)] {
        let what = with(fixed, each, kinds).unwrap_err().to_string();
        assert_eq!(what, "BTF type 3: is cut short or of an unknown kind");
    }
}

#[test]
fn endless_types_have_no_size() {
    let mut types = Types::new();
    let round = types.add(8, 0, "round", 3, &[]);
    let big = types.array(2, u32::MAX);
    let btf = Btf::parse(&types.bytes()).unwrap();
    assert_eq!(
        (btf.size_of(round), btf.size_of(big), btf.size_of(0), btf.size_of(99)),
        (None, None, None, None)
    );
    assert!(btf.strip(round).is_none());
    assert_eq!(btf.describe(big), "u64[4294967295]");
}

#[test]
fn the_running_kernels_types_are_read_whole() {
    let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else { return };
    let btf = Btf::parse(&bytes).unwrap();
    assert_eq!(btf.image(), bytes, "nothing is lost or moved");
    let insn = btf.find(Kind::Struct, "bpf_insn").unwrap();
    assert_eq!(btf.size_of(insn.id), Some(8));
    let places: Vec<_> = insn.members().map(|m| (m.name, m.bit_offset, m.bits)).collect();
    assert_eq!(
        places,
        [("code", 0, 0), ("dst_reg", 8, 4), ("src_reg", 12, 4), ("off", 16, 0), ("imm", 32, 0)]
    );
    let info = btf.find(Kind::Struct, "bpf_line_info").unwrap();
    assert_eq!(btf.size_of(info.id), Some(16));
}
