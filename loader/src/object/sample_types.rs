// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! For tests: a few words to a `.BTF` section and a `.maps` section with it.

use super::sample::{Sample, GLOBAL, OBJECT};

/// Types to be; every method returns the new type's id.
pub struct Types {
    bytes: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
}

impl Types {
    /// Type 1 is `int`, type 2 `u64`.
    pub fn new() -> Types {
        let mut types = Types { bytes: Vec::new(), strings: vec![0], count: 0 };
        types.add(1, 0, "int", 4, &[1 << 24 | 32]);
        types.add(1, 0, "u64", 8, &[64]);
        types
    }

    pub fn add(&mut self, kind: u32, vlen: u32, name: &str, third: u32, extra: &[u32]) -> u32 {
        let name = self.string(name);
        let words = [name, kind << 24 | vlen, third];
        self.bytes.extend(words.iter().chain(extra).flat_map(|word| word.to_le_bytes()));
        self.count += 1;
        self.count
    }

    pub fn string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let offset = self.strings.len() as u32;
        self.strings.extend(text.as_bytes());
        self.strings.push(0);
        offset
    }

    pub fn pointer(&mut self, to: u32) -> u32 {
        self.add(2, 0, "", to, &[])
    }

    pub fn array(&mut self, of: u32, count: u32) -> u32 {
        self.add(3, 0, "", 0, &[of, 1, count])
    }

    /// Members of 8 bytes each, by name and type.
    pub fn structure(&mut self, members: &[(&str, u32)]) -> u32 {
        let mut extra = Vec::new();
        for (index, (name, type_id)) in (0u32..).zip(members) {
            extra.extend([self.string(name), *type_id, index * 64]);
        }
        let count = members.len() as u32;
        self.add(4, count, "", count * 8, &extra)
    }

    /// `__uint(name, number)` as a type.
    pub fn uint(&mut self, number: u32) -> u32 {
        let array = self.array(1, number);
        self.pointer(array)
    }

    pub fn bytes(&self) -> Vec<u8> {
        let (types, strings) = (self.bytes.len() as u32, self.strings.len() as u32);
        let mut all = vec![0x9f, 0xeb, 1, 0];
        all.extend([24, 0, types, types, strings].iter().flat_map(|word: &u32| word.to_le_bytes()));
        [all, self.bytes.clone(), self.strings.clone()].concat()
    }
}

/// The smallest object with one map `m`: `attributes` makes its members, `linkage` is 0 static, 1 global, 2 extern.
pub fn with_map(linkage: u32, attributes: impl Fn(&mut Types) -> Vec<(&'static str, u32)>) -> Sample {
    let mut types = Types::new();
    let members = attributes(&mut types);
    let size = members.len() as u32 * 8;
    let map = types.structure(&members);
    let var = types.add(14, 0, "m", map, &[linkage]);
    types.add(15, 1, ".maps", 0, &[var, 0, size]);
    let mut sample = Sample::drop();
    let section = sample.data(".maps", &vec![0; size as usize]);
    sample.symbol("m", OBJECT | GLOBAL, section, 0, size.into());
    sample.section(".BTF", 1, 0, types.bytes());
    sample
}
