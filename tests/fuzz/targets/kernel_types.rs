// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The types of a kernel, of which sound objects ask for everything that can be asked.
#![no_main]

use detour::object::Object;

static OBJECTS: [&[u8]; 4] = [
    include_bytes!("../../../elf/fixtures/core.bpf.o"),
    include_bytes!("../../../elf/fixtures/ksyms.bpf.o"),
    include_bytes!("../../../elf/fixtures/kconfig.bpf.o"),
    include_bytes!("../../../elf/fixtures/core_missing.bpf.o"),
];

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for object in OBJECTS {
        detour_fuzz::bounded(bytes.len() + object.len(), || {
            let mut object = Object::parse(object).expect("it is sound");
            detour_fuzz::uses::resolve(&mut object, bytes);
        });
    }
});
