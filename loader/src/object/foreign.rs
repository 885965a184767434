// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! An object for big-endian machines to what is in it by name: nothing here runs it, so its instructions are not read.

use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader as _, SectionHeader as _, Sym as _};
use object::BigEndian;

/// What such a file says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// SHA-256 of the whole file.
    pub sha256: [u8; 32],
    /// The `license` section up to its first NUL.
    pub license: String,
    /// Its functions in file order.
    pub functions: Vec<Function>,
    /// The names in `.maps`.
    pub maps: Vec<String>,
}

/// A function in a section of instructions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its ELF symbol.
    pub name: String,
    /// The ELF section's name as written.
    pub section: String,
    /// Instructions, of 8 bytes.
    pub insns: u64,
}

type Header = FileHeader64<BigEndian>;
const BE: BigEndian = BigEndian;

impl Foreign {
    /// Reads one; None for every file that is not a BPF object for the other byte order, or is a damaged one.
    ///
    /// ```
    /// use detour::object::Foreign;
    ///
    /// let foreign = Foreign::parse(&std::fs::read("../elf/fixtures/big_endian.bpf.o")?).expect("it is one");
    /// assert_eq!(foreign.functions[0].section, "classifier");
    /// assert_eq!(Foreign::parse(&std::fs::read("../elf/drop.bpf.o")?), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn parse(bytes: &[u8]) -> Option<Foreign> {
        let ident = [0x7f, b'E', b'L', b'F', elf::ELFCLASS64.0, elf::ELFDATA2MSB.0];
        let header = bytes.starts_with(&ident).then(|| Header::parse(bytes).ok()).flatten()?;
        if header.e_type(BE) != elf::ET_REL || header.e_machine(BE) != elf::EM_BPF {
            return None;
        }
        let table = header.sections(BE, bytes).ok()?;
        let symbols = table.symbols(BE, bytes, elf::SHT_SYMTAB).ok()?;
        let name_of = |header| table.section_name(BE, header).unwrap_or_default();
        let license = table.iter().find(|header| name_of(header) == b"license");
        let license = license.and_then(|header| header.data(BE, bytes).ok()).unwrap_or_default();
        let mut foreign = Foreign {
            sha256: super::sha256(bytes),
            license: text(license.split(|b| *b == 0).next().unwrap_or_default()),
            functions: Vec::new(),
            maps: Vec::new(),
        };
        let mut places = Vec::new();
        // Names may overlap in the file; all of them together are no longer than it, or it is damaged.
        let mut left = bytes.len();
        for (index, symbol) in symbols.enumerate() {
            if !matches!(symbol.st_type(), elf::STT_FUNC | elf::STT_OBJECT) {
                continue;
            }
            let Ok(Some(at)) = symbols.symbol_section(BE, symbol, index) else { continue };
            let Ok(header) = table.section(at) else { continue };
            let (section, name) = (name_of(header), symbols.symbol_name(BE, symbol).unwrap_or_default());
            left = left.checked_sub(section.len())?.checked_sub(name.len())?;
            if section == b".maps" && symbol.st_type() == elf::STT_OBJECT {
                foreign.maps.push(text(name));
            } else if symbol.st_type() == elf::STT_FUNC {
                let (name, section) = (text(name), text(section));
                let insns = symbol.st_size(BE).checked_div(8).unwrap_or(0);
                places.push((at.0, symbol.st_value(BE), Function { name, section, insns }));
            }
        }
        places.sort_by_key(|(section, offset, _)| (*section, *offset));
        foreign.functions = places.into_iter().map(|(_, _, function)| function).collect();
        Some(foreign)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
