// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! For tests: a few words to the bytes of an object, so that each way of being wrong can be written down.

use super::insn::Insn;

/// An object to be. Section 0 and symbol 0 are there already.
pub struct Sample {
    sections: Vec<Part>,
    symbols: Vec<u8>,
    names: Vec<u8>,
    pub machine: u16,
    pub byte_order: u8,
}

struct Part {
    name: u32,
    kind: u32,
    flags: u64,
    data: Vec<u8>,
    size: u64,
    link: u32,
    info: u32,
}

pub const EXEC: u64 = 6;
pub const DATA: u64 = 2;
pub const FUNC: u8 = 2;
pub const OBJECT: u8 = 1;
pub const SECTION: u8 = 3;
pub const GLOBAL: u8 = 1 << 4;
pub const LOCAL: u8 = 0;

impl Sample {
    pub fn new() -> Sample {
        let mut sample = Sample {
            sections: Vec::new(),
            symbols: vec![0; 24],
            names: vec![0],
            machine: 247,
            byte_order: 1,
        };
        sample.section("", 0, 0, Vec::new());
        sample
    }

    /// One program that returns 0, and its license: what every test starts from.
    pub fn drop() -> Sample {
        let mut sample = Sample::new();
        sample.code("tc", &[MOV_0, EXIT]);
        sample.symbol("drop", FUNC | GLOBAL, 1, 0, 16);
        sample.data("license", b"GPL\0");
        sample
    }

    pub fn section(&mut self, name: &str, kind: u32, flags: u64, data: Vec<u8>) -> u16 {
        let name = self.name(name);
        let size = data.len() as u64;
        self.sections.push(Part { name, kind, flags, data, size, link: 0, info: 0 });
        self.sections.len() as u16 - 1
    }

    pub fn code(&mut self, name: &str, insns: &[Insn]) -> u16 {
        self.section(name, 1, EXEC, insns.iter().flat_map(|i| i.to_bytes()).collect())
    }

    pub fn data(&mut self, name: &str, bytes: &[u8]) -> u16 {
        self.section(name, 1, DATA, bytes.to_vec())
    }

    pub fn zeros(&mut self, name: &str, size: u64) -> u16 {
        let index = self.section(name, 8, DATA, Vec::new());
        self.sections.last_mut().unwrap().size = size;
        index
    }

    /// Returns the symbol's index; section 0 is undefined.
    pub fn symbol(&mut self, name: &str, info: u8, section: u16, value: u64, size: u64) -> u32 {
        let name = self.name(name).to_le_bytes();
        let index = self.symbols.len() / 24;
        self.symbols.extend(name);
        self.symbols.extend([info, 0]);
        self.symbols.extend(section.to_le_bytes());
        self.symbols.extend(value.to_le_bytes());
        self.symbols.extend(size.to_le_bytes());
        index as u32
    }

    /// The symbol that was added last.
    pub fn last(&self) -> u32 {
        self.symbols.len() as u32 / 24 - 1
    }

    /// `__hidden` in C.
    pub fn hide(&mut self, symbol: u32) {
        self.symbols[symbol as usize * 24 + 5] = 2;
    }

    /// Relocations of a section: offset, type, symbol.
    pub fn relocations(&mut self, about: u16, entries: &[(u64, u32, u32)]) {
        let bytes = entries.iter().flat_map(|(offset, kind, symbol)| {
            [offset.to_le_bytes(), (u64::from(*symbol) << 32 | u64::from(*kind)).to_le_bytes()].concat()
        });
        let bytes = bytes.collect();
        self.section(".rel", 9, 0, bytes);
        let part = self.sections.last_mut().unwrap();
        part.info = about.into();
    }

    fn name(&mut self, name: &str) -> u32 {
        let offset = self.names.len() as u32;
        self.names.extend(name.as_bytes());
        self.names.push(0);
        offset
    }

    pub fn bytes(mut self) -> Vec<u8> {
        let symbols = std::mem::take(&mut self.symbols);
        if symbols.len() > 24 {
            let table = self.section(".symtab", 2, 0, symbols);
            let part = self.sections.last_mut().unwrap();
            (part.link, part.info) = (u32::from(table) + 1, 1);
            self.sections.iter_mut().filter(|s| s.kind == 9).for_each(|s| s.link = table.into());
        }
        let names = self.section(".strtab", 3, 0, Vec::new());
        let bytes = self.names.clone();
        let part = self.sections.last_mut().unwrap();
        (part.size, part.data) = (bytes.len() as u64, bytes);
        let mut file = vec![0x7f, b'E', b'L', b'F', 2, self.byte_order, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        file.extend([1, 0]);
        file.extend(self.machine.to_le_bytes());
        file.extend(1u32.to_le_bytes());
        file.extend([0; 16]);
        let table: u64 = 64 + self.sections.iter().map(|s| s.data.len() as u64).sum::<u64>();
        file.extend(table.to_le_bytes());
        file.extend([0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 64, 0]);
        file.extend((self.sections.len() as u16).to_le_bytes());
        file.extend(names.to_le_bytes());
        let (mut headers, mut at) = (Vec::new(), 64u64);
        for part in &self.sections {
            file.extend(&part.data);
            let words =
                [part.flags, 0, at, part.size, u64::from(part.info) << 32 | u64::from(part.link), 8, 0];
            headers.extend(part.name.to_le_bytes());
            headers.extend(part.kind.to_le_bytes());
            headers.extend(words.iter().flat_map(|word| word.to_le_bytes()));
            at += part.data.len() as u64;
        }
        file.extend(headers);
        file
    }
}

pub const fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Insn {
    Insn { code, regs: dst | src << 4, off, imm }
}

pub const MOV_0: Insn = insn(0xb7, 0, 0, 0, 0);
pub const EXIT: Insn = insn(0x95, 0, 0, 0, 0);
/// Both halves of a constant load into r1.
pub const fn load(low: i32) -> [Insn; 2] {
    [insn(0x18, 1, 0, 0, low), insn(0, 0, 0, 0, 0)]
}
pub const fn call(distance: i32) -> Insn {
    insn(0x85, 0, 1, 0, distance)
}
