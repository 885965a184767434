// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What is wrong with an object, to one sentence that says where.

use std::fmt;

/// Why an object, or a setting for it, is refused. Names come from the file: escape them before a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ObjectError {
    /// The file as a whole.
    Elf(&'static str),
    /// One ELF section.
    Section { section: String, what: &'static str },
    /// One instruction or symbol; `offset` is in bytes from the section's start.
    Code { section: String, offset: u64, name: String, what: &'static str },
    /// One instruction that is none of the instruction set; `offset` is in bytes from the section's start.
    Insn { section: String, offset: u64, name: String, code: u8, what: &'static str },
    /// One relocation entry; `offset` is in bytes from the section's start.
    Relocation { section: String, offset: u64, kind: u32, symbol: String, what: &'static str },
    /// The types.
    Btf { type_id: u32, what: &'static str },
    /// One map definition; `attribute` is empty when it is about the whole.
    Map { map: String, attribute: String, what: &'static str },
    /// Something that a kernel decides, in one program.
    Resolve { program: String, about: String, what: String },
    /// An assignment; `known` are the names that exist there.
    Set { assignment: String, what: &'static str, known: Vec<String> },
}

impl fmt::Display for ObjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ObjectError::Elf(what) => f.write_str(what),
            ObjectError::Section { section, what } => write!(f, "section {section}: {what}"),
            ObjectError::Code { section, offset, name, what } => {
                write!(f, "section {section}, offset {offset:#x}, {name}: {what}")
            }
            ObjectError::Insn { section, offset, name, code, what } => {
                let class = super::isa::class(*code);
                write!(f, "section {section}, offset {offset:#x}, {name}: instruction {code:#04x} of class {class}: {what}")
            }
            ObjectError::Relocation { section, offset, kind, symbol, what } => {
                let kind = Kind(*kind);
                write!(f, "section {section}, offset {offset:#x}: {kind} against '{symbol}': {what}")
            }
            ObjectError::Btf { type_id: 0, what } => write!(f, "BTF: {what}"),
            ObjectError::Btf { type_id, what } => write!(f, "BTF type {type_id}: {what}"),
            ObjectError::Map { map, attribute, what } if attribute.is_empty() => {
                write!(f, "map {map}: {what}")
            }
            ObjectError::Map { map, attribute, what } => {
                write!(f, "map {map}, attribute {attribute}: {what}")
            }
            ObjectError::Resolve { program, about, what } if program.is_empty() => {
                write!(f, "{about}: {what}")
            }
            ObjectError::Resolve { program, about, what } => write!(f, "program {program}: {about}: {what}"),
            ObjectError::Set { assignment, what, known } if known.is_empty() => {
                write!(f, "{assignment}: {what}")
            }
            ObjectError::Set { assignment, what, known } => {
                write!(f, "{assignment}: {what}; there is: {}", known.join(", "))
            }
        }
    }
}

impl std::error::Error for ObjectError {}

/// A relocation type by its name in Documentation/bpf/llvm_reloc.rst.
struct Kind(u32);

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("R_BPF_NONE"),
            1 => f.write_str("R_BPF_64_64"),
            2 => f.write_str("R_BPF_64_ABS64"),
            3 => f.write_str("R_BPF_64_ABS32"),
            4 => f.write_str("R_BPF_64_NODYLD32"),
            10 => f.write_str("R_BPF_64_32"),
            n => write!(f, "relocation type {n}"),
        }
    }
}
