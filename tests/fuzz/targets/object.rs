// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A whole ELF file.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    detour_fuzz::bounded(bytes.len(), || detour_fuzz::uses::object(bytes, true, true));
});
