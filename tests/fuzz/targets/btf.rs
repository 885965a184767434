// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A `.BTF` section by itself: read, written back, read again.
#![no_main]

use detour::object::Btf;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    detour_fuzz::bounded(bytes.len(), || {
        let Ok(btf) = Btf::parse(bytes) else { return };
        detour_fuzz::uses::types(&btf, usize::MAX);
        assert_eq!(Btf::parse(&btf.image()), Ok(btf));
    });
});
