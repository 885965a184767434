// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A linked program to lines for a reader: what each instruction does, by name, and the C it came from.

use std::borrow::Cow;
use std::fmt;

use super::disasm::{constant, disassemble};
use super::helpers::helper;
use super::insn::{Insn, CALL, PSEUDO_FUNC};
use super::{CoreRelo, Label, MapRef, Object, Program};

/// One instruction of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Index in [`Program::insns`]; the second half of a 16-byte load has no line of its own.
    pub insn: usize,
    /// The function that begins here.
    pub label: Option<&'a str>,
    /// The C line that begins here.
    pub source: Option<Source<'a>>,
    /// As llvm-objdump writes it, with names for maps, variables, functions, helpers and what the kernel has.
    pub text: String,
    /// What this kernel's types decide about it, before it is loaded: `byte_off struct sk_buff 0:5`, in LLVM's words, the type
    /// and the path of indexes in it. Until then the text is as it was compiled.
    pub core: Option<String>,
}

/// A place in the C source, as the object remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source<'a> {
    /// The file as the compiler was given it.
    pub file: Cow<'a, str>,
    /// Counts from 1.
    pub line: u32,
    /// Counts from 1.
    pub column: u32,
    /// The line itself, without indentation.
    pub text: Cow<'a, str>,
}

/// `drop.bpf.c:12: return TC_ACT_SHOT;`. The text is the file's: escape it before a terminal.
impl fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.trim_start_matches("./"), self.line, self.text)
    }
}

impl Object {
    /// The C line that an instruction came from, as for the verifier's `12: (bf) r6 = r1`.
    pub fn source(&self, program: &Program, insn: usize) -> Option<Source<'_>> {
        let upto = program.lines.partition_point(|l| usize::try_from(l.insn).is_ok_and(|i| i <= insn));
        let record = program.lines.get(upto.checked_sub(1)?)?;
        let string = |offset| self.btf.as_ref()?.string(offset).map(String::from_utf8_lossy);
        Some(Source {
            file: string(record.file_off)?,
            line: record.line_col >> 10,
            column: record.line_col & 0x3ff,
            text: match string(record.line_off)? {
                Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
                Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
            },
        })
    }

    /// The program's instructions, one line each.
    ///
    /// ```
    /// let object = detour::object::Object::parse(&std::fs::read("../elf/fixtures/globals.bpf.o")?)?;
    /// for line in object.listing(&object.programs[0]) {
    ///     let source = line.source.map(|source| format!("   ; {source}")).unwrap_or_default();
    ///     println!("{:4} {}{source}", line.insn, line.text);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn listing<'a>(&'a self, program: &'a Program) -> Vec<Line<'a>> {
        let (mut lines, mut second_half, mut shown) = (Vec::new(), false, None);
        for (index, insn) in program.insns.iter().enumerate() {
            let is_second = second_half;
            second_half = insn.is_ld_imm64() && !is_second;
            if is_second {
                continue;
            }
            // Each place in a line has a record of its own, but the line is worth showing once.
            let record =
                program.lines.binary_search_by_key(&index, |l| usize::try_from(l.insn).unwrap_or(usize::MAX));
            let record = record.ok().and_then(|found| program.lines.get(found));
            let place = record.map(|l| (l.file_off, l.line_col >> 10)).or(shown);
            let source = if place == shown { None } else { self.source(program, index) };
            shown = place;
            lines.push(Line {
                insn: index,
                label: label_at(program, index),
                source,
                text: self.text(program, index, insn),
                core: program
                    .core
                    .binary_search_by_key(&index, |relo| relo.insn)
                    .ok()
                    .and_then(|found| self.asks(program.core.get(found)?)),
            });
        }
        lines
    }

    fn asks(&self, relo: &CoreRelo) -> Option<String> {
        let btf = self.btf.as_ref()?;
        let path = String::from_utf8_lossy(btf.string(relo.access_off)?);
        let kind = usize::try_from(relo.kind).ok().and_then(|kind| ASKS.get(kind)).unwrap_or(&"unknown");
        Some(format!("{kind} {} {path}", btf.describe(relo.type_id)))
    }

    fn text(&self, program: &Program, index: usize, insn: &Insn) -> String {
        let next = index.saturating_add(1);
        let function = || {
            let start = next.checked_add_signed(isize::try_from(insn.imm).ok()?)?;
            label_at(program, start)
        };
        let wanted = || {
            let found = program.externs.binary_search_by_key(&index, |e| e.insn).ok()?;
            self.externs.get(program.externs.get(found)?.wanted).map(|wanted| &wanted.name)
        };
        let external = wanted().and_then(|name| match insn.code {
            CALL => Some(format!("call {name}")),
            _ if insn.is_ld_imm64() => Some(format!("r{} = &{name}", insn.dst())),
            _ => None,
        });
        let named = match insn.code {
            _ if external.is_some() => external,
            _ if insn.is_local_call() => function().map(|name| format!("call {name}")),
            CALL if insn.src() == 0 => helper(insn.imm).map(|name| format!("call {name}#{}", insn.imm)),
            _ if insn.is_ld_imm64() && insn.src() == PSEUDO_FUNC => {
                function().map(|name| format!("r{} = &{name}", insn.dst()))
            }
            _ if insn.is_map_load() => program
                .refs
                .binary_search_by_key(&index, |r| r.insn)
                .ok()
                .and_then(|found| self.address(program.refs.get(found)?))
                .map(|address| format!("r{} = {address}", insn.dst())),
            _ => None,
        };
        named.unwrap_or_else(|| disassemble(insn, program.insns.get(next)))
    }

    /// `map[flows]`; `&cfg+0x4`; `&.rodata+0x50` where no variable is known.
    fn address(&self, reference: &MapRef) -> Option<String> {
        let map = self.maps.get(reference.map)?;
        let Some(offset) = reference.offset else { return Some(format!("map[{}]", map.name)) };
        let inside = |v: &&super::Variable| {
            v.map == reference.map && offset.checked_sub(v.offset).is_some_and(|o| o < v.size)
        };
        let (name, rest) = match self.variables.iter().find(inside) {
            Some(variable) => (&variable.name, offset.saturating_sub(variable.offset)),
            None => (&map.name, offset),
        };
        Some(if rest == 0 { format!("&{name}") } else { format!("&{name}+{}", constant(rest)) })
    }
}

/// `enum bpf_core_relo_kind` as llvm-objdump calls it.
const ASKS: [&str; 13] = [
    "byte_off",
    "byte_sz",
    "field_exists",
    "signed",
    "lshift_u64",
    "rshift_u64",
    "local_type_id",
    "target_type_id",
    "type_exists",
    "type_size",
    "enumval_exists",
    "enumval_value",
    "type_matches",
];

fn label_at(program: &Program, insn: usize) -> Option<&str> {
    let index = program.labels.binary_search_by_key(&insn, |l: &Label| l.insn).ok()?;
    program.labels.get(index).map(|l| l.name.as_str())
}
