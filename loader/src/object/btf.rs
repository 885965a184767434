// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A `.BTF` section to types that can be looked up, and back to the bytes BPF_BTF_LOAD takes.

/// Types and strings.
#[derive(Clone, Debug)]
pub struct Btf {
    image: Vec<u8>,
}

impl Btf {
    /// The bytes for BPF_BTF_LOAD: header, types, strings.
    pub fn image(&self) -> Vec<u8> {
        self.image.clone()
    }
}
