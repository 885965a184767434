// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What GCC 12 with GNU binutils 2.40 writes otherwise than LLVM, to the same program.

use super::sample::*;
use super::sample_types::*;
use super::*;

/// A program that loads the address of `symbol`, with `imm` in the instruction, and the section that is made for it.
fn loads(imm: i32, named: bool, comment: &[u8]) -> Result<Object, ObjectError> {
    let mut sample = Sample::new();
    let [low, high] = load(imm);
    let code = sample.code("tc", &[low, high, MOV_0, EXIT]);
    sample.symbol("f", FUNC | GLOBAL, code, 0, 32);
    sample.data("license", b"GPL\0");
    let data = sample.data(".data", &[0; 64]);
    let symbol = match named {
        true => sample.symbol("v", OBJECT | GLOBAL, data, 16, 8),
        false => sample.symbol("", SECTION, data, 0, 0),
    };
    sample.relocations(code, &[(0, 1, symbol)]);
    sample.section(".comment", 1, 0, comment.to_vec());
    Object::parse(&sample.bytes())
}

const GCC: &[u8] = b"\0GCC: (12.2.0-14+deb12u1+) 12.2.0\0";
const CLANG: &[u8] = b"\0Debian clang version 19.1.7\0";

#[test]
fn an_address_that_may_be_two_is_refused() {
    let offset = |object: Result<Object, ObjectError>| object.unwrap().programs[0].refs[0].offset;
    assert_eq!(
        [loads(0, true, CLANG), loads(16, true, CLANG), loads(16, false, CLANG)].map(offset),
        [Some(16), Some(32), Some(16)]
    );
    // Of a static variable, and of a global one where nothing was added.
    assert_eq!([loads(16, false, GCC), loads(0, true, GCC)].map(offset), [Some(16), Some(16)]);
    let refusal = loads(16, true, GCC).unwrap_err().to_string();
    assert!(
        refusal.contains("section tc, offset 0x0: R_BPF_64_64 against 'v': may mean two places"),
        "{refusal}"
    );
}

#[test]
fn a_map_and_a_function_are_meant_whatever_was_added() {
    let mut types = Types::new();
    let attributes = [("type", types.uint(1)), ("max_entries", types.uint(1))];
    let map = types.structure(&attributes);
    let vars = ["a", "b"].map(|name| types.add(14, 0, name, map, &[1]));
    // In the order of its own, and nothing placed.
    types.add(15, 2, ".maps", 0, &[vars[1], 0, 16, vars[0], 0, 16]);
    let mut sample = Sample::new();
    let [low, high] = load(16);
    let code = sample.code("tc", &[low, high, call(31), EXIT, MOV_0, EXIT]);
    sample.symbol("f", FUNC | GLOBAL, code, 0, 32);
    let callee = sample.symbol("g", FUNC | GLOBAL, code, 32, 16);
    sample.data("license", b"GPL\0");
    let maps = sample.data(".maps", &[0; 32]);
    sample.symbol("a", OBJECT | GLOBAL, maps, 0, 16);
    let second = sample.symbol("b", OBJECT | GLOBAL, maps, 16, 16);
    sample.relocations(code, &[(0, 1, second), (16, 10, callee)]);
    sample.section(".BTF", 1, 0, types.bytes());
    let object = Object::parse(&sample.bytes()).unwrap();
    let f = object.program("f").unwrap();
    assert_eq!(object.maps[f.refs[0].map].name, "b");
    assert_eq!(f.labels.iter().map(|l| (l.insn, l.name.as_str())).collect::<Vec<_>>(), [(0, "f"), (4, "g")]);
    // From behind the call, at 3, to 4.
    assert_eq!(f.insns[2].imm, 1);
}

#[test]
fn a_slot_may_have_the_old_relocation_of_data() {
    let slots = |kind: u32| {
        let mut types = Types::new();
        let function = types.add(13, 0, "", 1, &[]);
        let pointer = types.pointer(function);
        let (values, four) = (types.array(pointer, 2), types.uint(4));
        let (number, entries) = (types.uint(3), types.uint(2));
        let map = types.structure(&[
            ("type", number),
            ("key_size", four),
            ("max_entries", entries),
            ("values", values),
        ]);
        let var = types.add(14, 0, "m", map, &[1]);
        types.add(15, 1, ".maps", 0, &[var, 0, 40]);
        let mut sample = Sample::drop();
        let maps = sample.data(".maps", &[0; 40]);
        sample.symbol("m", OBJECT | GLOBAL, maps, 0, 40);
        // The program is symbol 1.
        sample.relocations(maps, &[(32, kind, 1)]);
        sample.section(".BTF", 1, 0, types.bytes());
        Object::parse(&sample.bytes()).map(|object| object.maps[0].slots.clone()).map_err(|e| e.to_string())
    };
    let filled = Ok(vec![(1, Slot::Program("drop".into()))]);
    assert_eq!([1, 2, 12].map(slots), [filled.clone(), filled.clone(), filled]);
    assert!(slots(11).unwrap_err().contains("relocation type 11 against 'drop': is unknown here"));
}

#[test]
fn its_types_are_made_such_as_a_kernel_takes() {
    let mut types = Types::new();
    let character = types.add(1, 0, "char", 1, &[3 << 24 | 8]);
    let proto = types.add(13, 0, "", 1, &[]);
    let function = types.add(12, 0, "", proto, &[]);
    let (a, b) = (types.add(14, 0, "a", 2, &[0]), types.add(14, 0, "b", 2, &[0]));
    let section = types.add(15, 2, ".data", 0, &[b, 0, 8, a, 0, 8]);
    let mut sample = Sample::drop();
    let data = sample.data(".data", &[0; 16]);
    sample.symbol("a", OBJECT, data, 0, 8);
    sample.symbol("b", OBJECT, data, 8, 8);
    sample.section(".BTF", 1, 0, types.bytes());
    let btf = Object::parse(&sample.bytes()).unwrap().btf.unwrap();
    let int = btf.get(character).unwrap().int().unwrap();
    assert_eq!((int.signed, int.character, int.bits), (true, false, 8));
    assert!(!btf.get(function).unwrap().name().is_empty());
    let section = btf.get(section).unwrap();
    assert_eq!(section.size(), 16);
    assert_eq!(
        section.placed().map(|p| (p.var, p.offset, p.size)).collect::<Vec<_>>(),
        [(a, 0, 8), (b, 8, 8)]
    );
}
