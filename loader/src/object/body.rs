// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! One function's bytes and relocations to instructions with what each refers to.

use std::collections::{BTreeMap, BTreeSet};

use super::elf::{Elf, Place, Relocation, Role, Section, Symbol, SymbolKind};
use super::error::ObjectError;
use super::externs::Externs;
use super::functions::{Function, Functions};
use super::insn::{self, Insn};
use super::isa;

/// A function that is read but not yet placed in a program.
pub struct Body {
    pub insns: Vec<Insn>,
    /// Instructions that load a map's or a value's address.
    pub loads: Vec<(usize, Target)>,
    /// Instructions that call, or take the address of, the function with this index. By rising instruction.
    pub calls: Vec<(usize, usize)>,
}

/// What an address load is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The map with this index in the definitions.
    Map(usize),
    /// A byte of the data section with this index.
    Data { section: usize, offset: u32 },
    /// What the kernel shall provide: the index in [`super::Object::externs`].
    Extern(usize),
}

/// What functions are read against.
pub struct Context<'a> {
    pub elf: &'a Elf<'a>,
    pub functions: &'a Functions<'a>,
    /// Where each map definition begins, by section and offset, to its index.
    pub maps: &'a BTreeMap<(usize, u64), usize>,
    pub externs: &'a Externs<'a>,
    /// Whether GCC compiled the object, so that GNU's assembler wrote it.
    pub by_gcc: bool,
}

/// As the object says itself.
pub fn by_gcc(elf: &Elf<'_>) -> bool {
    // Strings, the first of them empty.
    elf.section(".comment").is_some_and(|(_, comment)| comment.data.starts_with(b"\0GCC: "))
}

impl Context<'_> {
    /// Reads one function.
    pub fn read(&self, function: &Function<'_>) -> Result<Body, ObjectError> {
        let section = self
            .elf
            .sections
            .get(function.section)
            .ok_or(ObjectError::Elf("a function's section is gone"))?;
        let code = section
            .data
            .chunks_exact(8)
            .skip(function.start)
            .take(function.end.saturating_sub(function.start));
        let insns = code.filter_map(|bytes| bytes.first_chunk().copied().map(Insn::from_bytes)).collect();
        let mut body = Body { insns, loads: Vec::new(), calls: Vec::new() };
        let site = Site { context: self, section, function };
        let mut relocated = BTreeSet::new();
        for relocation in site.relocations() {
            relocated.insert(site.relocate(&mut body, relocation)?);
        }
        site.check_unrelocated(&mut body, &relocated)?;
        site.check_known(&body)?;
        body.calls.sort_unstable();
        Ok(body)
    }
}

/// A function while it is read, for what messages say.
struct Site<'a> {
    context: &'a Context<'a>,
    section: &'a Section<'a>,
    function: &'a Function<'a>,
}

impl Site<'_> {
    /// Refuses what no kernel would know; the second half of a 16-byte load is no instruction.
    fn check_known(&self, body: &Body) -> Result<(), ObjectError> {
        let mut second = false;
        for (at, insn) in body.insns.iter().enumerate() {
            let is_second = second;
            second = !is_second && insn.is_ld_imm64();
            if let Some(what) = isa::unknown(insn).filter(|_| !is_second) {
                let (section, name) = (self.section.name.to_owned(), self.function.name.to_owned());
                let offset = (self.function.start.saturating_add(at) as u64) << 3;
                return Err(ObjectError::Insn { section, offset, name, code: insn.code, what });
            }
        }
        Ok(())
    }

    fn relocations(&self) -> &[Relocation] {
        let all = &self.section.relocations;
        let before = |insn: usize| all.partition_point(|r| r.offset < (insn as u64) << 3);
        all.get(before(self.function.start)..before(self.function.end)).unwrap_or_default()
    }

    /// Resolves one relocation and returns its instruction.
    fn relocate(&self, body: &mut Body, relocation: &Relocation) -> Result<usize, ObjectError> {
        let symbol = self.context.elf.symbol(relocation);
        let fault = |what| ObjectError::Relocation {
            section: self.section.name.to_owned(),
            offset: relocation.offset,
            kind: relocation.kind,
            symbol: symbol.map_or("?", |s| s.name).to_owned(),
            what,
        };
        if relocation.offset & 7 != 0 {
            return Err(fault("is about the middle of an instruction"));
        }
        let index =
            usize::try_from(relocation.offset >> 3).unwrap_or(usize::MAX).saturating_sub(self.function.start);
        let insn = body.insns.get(index).copied().ok_or_else(|| fault("is about no instruction"))?;
        let symbol = symbol.ok_or_else(|| fault("the symbol does not exist"))?;
        match (relocation.kind, insn.code) {
            (R_BPF_NONE, _) => {}
            (R_BPF_64_64, insn::LD_IMM64) | (R_BPF_64_32, insn::CALL) if symbol.place == Place::Undefined => {
                let wanted = self.context.externs.get(symbol.name).map_err(fault)?;
                body.loads.push((index, Target::Extern(wanted)));
                if insn.code == insn::CALL {
                    replace(body, index, Insn { imm: 0, ..insn.with_src(insn::PSEUDO_KFUNC_CALL) });
                }
            }
            (R_BPF_64_64, insn::LD_IMM64) => self.load(body, index, insn, symbol).map_err(fault)?,
            (R_BPF_64_32, insn::CALL) => {
                let callee = self.callee(insn, symbol).map_err(fault)?;
                body.calls.push((index, callee));
                replace(body, index, insn.with_src(insn::PSEUDO_CALL));
            }
            (R_BPF_64_64 | R_BPF_64_32, _) => return Err(fault("does not fit the instruction there")),
            _ => return Err(fault("is unknown here")),
        }
        Ok(index)
    }

    /// An `ld_imm64`: of a map, of data, of a function.
    fn load(
        &self,
        body: &mut Body,
        index: usize,
        insn: Insn,
        symbol: &Symbol<'_>,
    ) -> Result<(), &'static str> {
        let second = index.saturating_add(1);
        let high =
            body.insns.get(second).copied().filter(|i| i.code == 0).ok_or("the load has no second half")?;
        let Place::Section(place) = symbol.place else { return Err(not_here(symbol.place)) };
        let section = self.context.elf.sections.get(place).ok_or("the symbol's section does not exist")?;
        let address = symbol.value.checked_add_signed(insn.imm.into()).ok_or("points before its section")?;
        if section.role == Role::Code {
            let callee = self.function_at(place, address)?;
            body.calls.push((index, callee));
            replace(body, index, insn.with_src(insn::PSEUDO_FUNC));
        } else if section.name == ".maps"
            || self.context.maps.range((place, 0)..(place.saturating_add(1), 0)).next().is_some()
        {
            // GNU binutils before 2.41 put the symbol's value into the instruction too.
            let start = if u64::try_from(insn.imm) == Ok(symbol.value) { symbol.value } else { address };
            let map = self.context.maps.get(&(place, start)).filter(|_| symbol.kind != SymbolKind::Section);
            let map = map.ok_or("is not the start of a map definition")?;
            body.loads.push((index, Target::Map(*map)));
            replace(body, index, Insn { imm: 0, ..insn.with_src(insn::PSEUDO_MAP_FD) });
        } else if super::data::is_data(section) {
            let both = u64::try_from(insn.imm).is_ok_and(|imm| symbol.value > 0 && imm >= symbol.value);
            if both && symbol.kind != SymbolKind::Section && self.context.by_gcc {
                return Err(EITHER);
            }
            if address >= section.size {
                return Err("points beyond its section");
            }
            let offset = u32::try_from(address).map_err(|_| "points beyond 4 GiB")?;
            body.loads.push((index, Target::Data { section: place, offset }));
            replace(body, index, Insn { imm: 0, ..insn.with_src(insn::PSEUDO_MAP_VALUE) });
            replace(body, second, Insn { imm: offset as i32, ..high });
        } else {
            return Err("points into a section that is neither code, data nor map definitions");
        }
        Ok(())
    }

    /// For a global function the symbol says it all and `imm` is -1, or with GNU binutils before 2.41 its offset less 1; for a
    /// static one the symbol is its section, and `imm` counts instructions.
    fn callee(&self, insn: Insn, symbol: &Symbol<'_>) -> Result<usize, &'static str> {
        let Place::Section(place) = symbol.place else { return Err(not_here(symbol.place)) };
        let after = i64::from(insn.imm).saturating_add(1);
        let twice = symbol.kind != SymbolKind::Section && u64::try_from(after) == Ok(symbol.value);
        let distance = if twice { 0 } else { after.saturating_mul(8) };
        let address = symbol.value.checked_add_signed(distance).ok_or("points before its section")?;
        self.function_at(place, address)
    }

    fn function_at(&self, section: usize, address: u64) -> Result<usize, &'static str> {
        let start = usize::try_from(address >> 3).ok().filter(|_| address & 7 == 0);
        start
            .and_then(|start| self.context.functions.at(section, start))
            .ok_or("is not the start of a function")
    }

    /// Calls inside one section need no relocation; everything else that needs one must have had it.
    fn check_unrelocated(&self, body: &mut Body, relocated: &BTreeSet<usize>) -> Result<(), ObjectError> {
        let mut second_half = false;
        for (index, insn) in body.insns.iter().enumerate() {
            let fault = |what| ObjectError::Code {
                section: self.section.name.to_owned(),
                offset: (self.function.start.saturating_add(index) as u64) << 3,
                name: self.function.name.to_owned(),
                what,
            };
            let is_second = second_half;
            second_half = insn.is_ld_imm64() && !is_second;
            if is_second || relocated.contains(&index) {
                continue;
            }
            if insn.is_ld_imm64() && insn.src() != 0 {
                return Err(fault("a load that only the loader can fill has no relocation"));
            }
            if insn.code == insn::CALL && insn.src() == insn::PSEUDO_KFUNC_CALL {
                return Err(fault("a call of a kernel function has no relocation"));
            }
            if insn.is_local_call() {
                let next = self.function.start.saturating_add(index).saturating_add(1);
                let start =
                    isize::try_from(insn.imm).ok().and_then(|distance| next.checked_add_signed(distance));
                let callee = start.and_then(|start| self.context.functions.at(self.function.section, start));
                body.calls.push((index, callee.ok_or_else(|| fault("a call leads to no function"))?));
            }
        }
        Ok(())
    }
}

fn replace(body: &mut Body, index: usize, insn: Insn) {
    if let Some(place) = body.insns.get_mut(index) {
        *place = insn;
    }
}

fn not_here(place: Place) -> &'static str {
    match place {
        Place::Nowhere => {
            "lies in no section: a variable without a value in common ones, compile with -fno-common"
        }
        _ => "is neither code nor data of this object",
    }
}

/// With GNU binutils before 2.41 the instruction holds the variable's offset in its section already, with LLVM the distance
/// from the variable.
const EITHER: &str =
    "may mean two places, as GNU's assembler adds the variable's offset and LLVM's does not: \
    make the variable static, or compile with clang";
const R_BPF_NONE: u32 = 0;
const R_BPF_64_64: u32 = 1;
const R_BPF_64_32: u32 = 10;
