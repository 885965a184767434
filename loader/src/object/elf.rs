// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! An ELF file to its sections, symbols and relocations, as far as a BPF object has them.

use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader as _, Rel as _, SectionHeader as _, SectionTable, Sym as _, SymbolTable};
use object::{LittleEndian, SectionIndex};

use super::error::ObjectError;

/// The file's tables, names resolved, indexes as in the file.
pub struct Elf<'a> {
    pub sections: Vec<Section<'a>>,
    pub symbols: Vec<Symbol<'a>>,
}

/// One section.
pub struct Section<'a> {
    pub name: &'a str,
    pub role: Role,
    /// Empty for NOBITS.
    pub data: &'a [u8],
    /// Bytes in memory: `data.len()` but for NOBITS.
    pub size: u64,
    /// By rising offset.
    pub relocations: Vec<Relocation>,
}

/// What a section is to a loader.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// SHF_EXECINSTR: instructions.
    Code,
    /// SHF_ALLOC with bytes: data, map definitions, the license.
    Data,
    /// SHF_ALLOC without bytes.
    Zeros,
    /// Debug information, BTF, tables.
    Other,
}

/// One symbol.
pub struct Symbol<'a> {
    /// A section symbol has its section's name.
    pub name: &'a str,
    pub kind: SymbolKind,
    pub place: Place,
    pub value: u64,
    pub size: u64,
    /// `static` in C.
    pub local: bool,
    /// STV_HIDDEN or STV_INTERNAL: `__hidden` in C.
    pub hidden: bool,
    /// STB_WEAK: `__weak` in C.
    pub weak: bool,
}

/// STT_FUNC, STT_SECTION, or anything else (data, and what old compilers left untyped).
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SymbolKind {
    Function,
    Section,
    Other,
}

/// Where a symbol is defined.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Index in [`Elf::sections`].
    Section(usize),
    /// Nowhere in this file.
    Undefined,
    /// SHN_ABS, SHN_COMMON, reserved: nothing a program can point to.
    Nowhere,
}

/// One entry of a SHT_REL section.
#[derive(Clone, Copy)]
pub struct Relocation {
    /// In the section it is about.
    pub offset: u64,
    /// `R_BPF_…`.
    pub kind: u32,
    /// Index in [`Elf::symbols`].
    pub symbol: usize,
}

type Header = FileHeader64<LittleEndian>;
type Symbols<'a> = SymbolTable<'a, Header>;
const LE: LittleEndian = LittleEndian;

impl<'a> Elf<'a> {
    /// Reads the tables of a little-endian ELF64 relocatable file for BPF.
    pub fn parse(bytes: &'a [u8]) -> Result<Elf<'a>, ObjectError> {
        check_ident(bytes)?;
        let header =
            Header::parse(bytes).map_err(|_| ObjectError::Elf("the ELF header is truncated or damaged"))?;
        if header.e_type(LE) != elf::ET_REL {
            return Err(ObjectError::Elf(
                "not a relocatable object (ET_REL): what `clang -c` writes is wanted",
            ));
        }
        // LLVM before 5 left e_machine at EM_NONE.
        if !matches!(header.e_machine(LE), elf::EM_BPF | elf::EM_NONE) {
            return Err(ObjectError::Elf(
                "not for BPF: it was compiled for another machine (`-target bpfel` is wanted)",
            ));
        }
        let table = header
            .sections(LE, bytes)
            .map_err(|_| ObjectError::Elf("the section table is truncated or damaged"))?;
        let raw = table
            .symbols(LE, bytes, elf::SHT_SYMTAB)
            .map_err(|_| ObjectError::Elf("the symbol table is truncated or damaged"))?;
        if raw.is_empty() {
            return Err(ObjectError::Elf("no symbol table: stripped? (`llvm-strip -g` keeps it)"));
        }
        let mut sections = read_sections(&table, bytes)?;
        let symbols = read_symbols(&raw, &sections)?;
        read_relocations(&table, bytes, &raw, &mut sections)?;
        Ok(Elf { sections, symbols })
    }

    /// The first section of this name and its index.
    pub fn section(&self, name: &str) -> Option<(usize, &Section<'a>)> {
        self.sections.iter().enumerate().find(|(_, s)| s.name == name)
    }

    /// The symbol a relocation is against.
    pub fn symbol(&self, relocation: &Relocation) -> Option<&Symbol<'a>> {
        self.symbols.get(relocation.symbol)
    }
}

fn check_ident(bytes: &[u8]) -> Result<(), ObjectError> {
    let Some([b'\x7f', b'E', b'L', b'F', class, data, _]) = bytes.first_chunk() else {
        let bitcode = bytes.starts_with(b"BC\xc0\xde");
        return Err(ObjectError::Elf(match bitcode {
            true => "LLVM bitcode, not an ELF file: compile without -flto, or link it",
            false => "not an ELF file",
        }));
    };
    match (elf::FileClass(*class), elf::DataEncoding(*data)) {
        (elf::ELFCLASS64, elf::ELFDATA2LSB) => Ok(()),
        (elf::ELFCLASS64, elf::ELFDATA2MSB) => Err(ObjectError::Elf(
            "big-endian: this loader and its machine are little-endian (`-target bpfel` is wanted)",
        )),
        (elf::ELFCLASS64, _) => Err(ObjectError::Elf("the ELF header names no byte order")),
        _ => Err(ObjectError::Elf("not ELF64: a BPF object always is")),
    }
}

/// The sections without their relocations. No two may share bytes, so that work stays proportional to the file.
fn read_sections<'a>(
    table: &SectionTable<'a, Header>,
    bytes: &'a [u8],
) -> Result<Vec<Section<'a>>, ObjectError> {
    let mut sections = Vec::with_capacity(table.len());
    let mut total = 0usize;
    for header in table.iter() {
        let name = table.section_name(LE, header).ok().and_then(text);
        let name = name.ok_or(ObjectError::Elf("a section's name is damaged"))?;
        let fault = |what| ObjectError::Section { section: name.to_owned(), what };
        let data = header.data(LE, bytes).map_err(|_| fault("lies outside the file: truncated?"))?;
        total = total.saturating_add(data.len());
        if total > bytes.len() {
            return Err(fault("overlaps another section"));
        }
        let flags = header.sh_flags(LE);
        let has = |flag: elf::SectionFlags| flags.0 & flag.0 != 0;
        let role = if has(elf::SHF_EXECINSTR) {
            Role::Code
        } else if !has(elf::SHF_ALLOC) {
            Role::Other
        } else if header.sh_type(LE) == elf::SHT_NOBITS {
            Role::Zeros
        } else {
            Role::Data
        };
        if role != Role::Other && has(elf::SHF_COMPRESSED) {
            return Err(fault("is compressed"));
        }
        sections.push(Section { name, role, data, size: header.sh_size(LE), relocations: Vec::new() });
    }
    Ok(sections)
}

/// A name; what is far too long for one could make the file's every symbol as long as the file.
fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|name| name.len() <= MAX_NAME)
}

fn read_symbols<'a>(table: &Symbols<'a>, sections: &[Section<'a>]) -> Result<Vec<Symbol<'a>>, ObjectError> {
    let mut symbols = Vec::with_capacity(table.len());
    for (index, raw) in table.enumerate() {
        let name = table.symbol_name(LE, raw).ok().and_then(text);
        let name = name.ok_or(ObjectError::Elf("a symbol's name is damaged"))?;
        let section = table
            .symbol_section(LE, raw, index)
            .map_err(|_| ObjectError::Elf("a symbol's section is damaged"))?;
        let place = match section {
            Some(SectionIndex(s)) if s < sections.len() => Place::Section(s),
            Some(_) => return Err(ObjectError::Elf("a symbol's section does not exist")),
            None if raw.is_undefined(LE) => Place::Undefined,
            None => Place::Nowhere,
        };
        let kind = match raw.st_type() {
            elf::STT_FUNC => SymbolKind::Function,
            elf::STT_SECTION => SymbolKind::Section,
            _ => SymbolKind::Other,
        };
        let name = match (kind, place) {
            (SymbolKind::Section, Place::Section(s)) => sections.get(s).map_or(name, |s| s.name),
            _ => name,
        };
        let hidden = matches!(raw.st_visibility(), elf::STV_HIDDEN | elf::STV_INTERNAL);
        let (value, size) = (raw.st_value(LE), raw.st_size(LE));
        symbols.push(Symbol {
            name,
            kind,
            place,
            value,
            size,
            local: raw.is_local(),
            hidden,
            weak: raw.is_weak(),
        });
    }
    Ok(symbols)
}

/// Adds to each section what SHT_REL sections say about it. BPF has no SHT_RELA.
fn read_relocations<'a>(
    table: &SectionTable<'a, Header>,
    bytes: &'a [u8],
    symbols: &Symbols<'a>,
    sections: &mut [Section<'a>],
) -> Result<(), ObjectError> {
    for header in table.iter() {
        let SectionIndex(about) = header.info_link(LE);
        let Some(section) = sections.get_mut(about) else { continue };
        // Debug sections and BTF hold right values without their relocations, which only a linker needs.
        if section.role == Role::Other {
            continue;
        }
        let fault = |what| ObjectError::Section { section: section.name.to_owned(), what };
        if header.sh_type(LE) == elf::SHT_RELA {
            return Err(fault("has SHT_RELA relocations, which BPF does not use"));
        }
        let entries = header.rel(LE, bytes).map_err(|_| fault("has damaged relocations"))?;
        let Some((entries, linked)) = entries else { continue };
        if linked != symbols.section() {
            return Err(fault("has relocations against another symbol table"));
        }
        section.relocations.extend(entries.iter().map(|e| Relocation {
            offset: e.r_offset(LE),
            kind: e.r_type(LE).0,
            symbol: usize::try_from(e.r_sym(LE)).unwrap_or(usize::MAX),
        }));
        section.relocations.sort_by_key(|r| r.offset);
    }
    Ok(())
}

const MAX_NAME: usize = 4096;
