// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A `.BTF.ext` section in an object that is otherwise sound.
#![no_main]

static OBJECT: &[u8] = include_bytes!("../../../elf/fixtures/core.bpf.o");

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (index, _) = detour_fuzz::section(OBJECT, ".BTF.ext").expect("it is there");
    let object = detour_fuzz::with_section(OBJECT, index, bytes);
    detour_fuzz::bounded(object.len(), || detour_fuzz::uses::object(&object, true, false));
});
