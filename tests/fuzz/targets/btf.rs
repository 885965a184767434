// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A `.BTF` section by itself: read, written back, read again.
#![no_main]

use detour::object::{Btf, Kind};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    detour_fuzz::bounded(bytes.len(), || {
        let Ok(btf) = Btf::parse(bytes) else { return };
        detour_fuzz::uses::types(&btf, usize::MAX);
        // What goes to a kernel says nothing of the layout of kinds: whoever knows a kind needs none, and old kernels refuse it.
        if btf.types().all(|found| found.kind != Kind::Unknown) {
            let image = btf.image();
            assert_eq!(Btf::parse(&image).map(|again| again.image()), Ok(image));
        }
    });
});
