// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Sections and symbols to functions, and sections' names to what their programs are.

use std::collections::{BTreeMap, BTreeSet};

use super::btf::Btf;
use super::btf_type::Kind;
use super::elf::{Elf, Place, Role, Symbol, SymbolKind};
use super::error::ObjectError;
use super::ProgramKind;

/// A function's name and place. Those of one section are apart, or one function by another name.
pub struct Function<'a> {
    pub name: &'a str,
    /// Index in [`Elf::sections`].
    pub section: usize,
    /// The first instruction, counted from the section's start.
    pub start: usize,
    /// One past the last instruction.
    pub end: usize,
    /// Not `static`, and outside `.text`, or there is nothing outside: can be loaded by itself.
    pub entry: bool,
}

/// All functions, by section and start.
pub struct Functions<'a>(Vec<Function<'a>>);

impl<'a> Functions<'a> {
    /// Collects the function symbols of all executable sections.
    pub fn collect(elf: &Elf<'a>) -> Result<Functions<'a>, ObjectError> {
        let mut found = Vec::new();
        let typed: BTreeSet<usize> = elf.symbols.iter().filter_map(typed_function).collect();
        for symbol in &elf.symbols {
            let Place::Section(index) = symbol.place else { continue };
            // LLVM before 8 gave functions no type; labels of jumps were local.
            let untyped = symbol.kind == SymbolKind::Other && !symbol.local && symbol.size != 0;
            let function = symbol.kind == SymbolKind::Function || untyped && !typed.contains(&index);
            if !function {
                continue;
            }
            let Some(section) = elf.sections.get(index).filter(|s| s.role == Role::Code) else { continue };
            let fault = |what| ObjectError::Code {
                section: section.name.to_owned(),
                offset: symbol.value,
                name: symbol.name.to_owned(),
                what,
            };
            // Nothing was left of a body that can never run to its end; who refers to it is refused.
            if symbol.size == 0 && (symbol.local || program_kind(section.name).0 != ProgramKind::SchedCls) {
                continue;
            }
            let end = symbol.value.checked_add(symbol.size).filter(|end| *end <= section.size);
            let end = end.ok_or_else(|| fault("the function reaches beyond its section"))?;
            if symbol.value % 8 != 0 || end % 8 != 0 || symbol.size == 0 {
                return Err(fault("the function is empty or no whole number of instructions"));
            }
            let insn = |offset: u64| usize::try_from(offset >> 3).unwrap_or(usize::MAX);
            let entry = !symbol.local;
            found.push(Function {
                name: symbol.name,
                section: index,
                start: insn(symbol.value),
                end: insn(end),
                entry,
            });
        }
        // Who has programs in sections of their own calls what is in `.text`.
        let is_text = |f: &Function<'_>| elf.sections.get(f.section).is_some_and(|s| s.name == ".text");
        if !found.iter().all(is_text) {
            found.iter_mut().filter(|f| is_text(f)).for_each(|f| f.entry = false);
        }
        found.sort_by_key(|f| (f.section, f.start));
        let mut names = 1usize;
        for pair in found.windows(2) {
            if let [a, b] = pair {
                // One function may have two names: __attribute__((alias)).
                let alias = (a.section, a.start, a.end) == (b.section, b.start, b.end);
                names = if alias { names.saturating_add(1) } else { 1 };
                if a.section == b.section && b.start < a.end && (!alias || names > MAX_NAMES) {
                    let section = elf.sections.get(a.section).map_or("", |s| s.name).to_owned();
                    let offset = (b.start as u64) << 3;
                    let what = "the function overlaps another one";
                    return Err(ObjectError::Code { section, offset, name: b.name.to_owned(), what });
                }
            }
        }
        Ok(Functions(found))
    }

    /// The function with this index.
    pub fn get(&self, index: usize) -> Option<&Function<'a>> {
        self.0.get(index)
    }

    /// All of them, with their indexes.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Function<'a>)> {
        self.0.iter().enumerate()
    }

    /// Which function catches what each program throws: nothing calls it, only a tag of the program's declaration,
    /// `exception_callback:NAME`, says so.
    pub fn catchers(&self, btf: &Btf) -> Result<BTreeMap<usize, usize>, ObjectError> {
        let index = |name: &str, entry: bool| self.0.iter().position(|f| f.name == name && f.entry == entry);
        let mut found = BTreeMap::new();
        for tag in btf.types().filter(|t| t.kind == Kind::DeclTag && t.component().is_none()) {
            let Some(catcher) = tag.name().strip_prefix("exception_callback:") else { continue };
            let program = btf.get(tag.type_id()).filter(|t| t.kind == Kind::Func);
            let Some(program) = program.and_then(|t| index(t.name(), true)) else { continue };
            let fault = |what| ObjectError::Btf { type_id: tag.id, what };
            let catcher =
                index(catcher, false).ok_or(fault("names an exception callback that is not there"))?;
            if found.insert(program, catcher).is_some() {
                return Err(fault("is a second exception callback of one program"));
            }
        }
        Ok(found)
    }

    /// The index of the function that starts exactly there; of several names the one that the symbol table has first.
    pub fn at(&self, section: usize, start: usize) -> Option<usize> {
        let index = self.0.partition_point(|f| (f.section, f.start) < (section, start));
        self.0.get(index).filter(|f| (f.section, f.start) == (section, start)).map(|_| index)
    }
}

/// Of one function: each is read by itself.
const MAX_NAMES: usize = 16;

/// The section of a symbol that says it is a function.
fn typed_function(symbol: &Symbol<'_>) -> Option<usize> {
    match (symbol.kind, symbol.place) {
        (SymbolKind::Function, Place::Section(section)) => Some(section),
        _ => None,
    }
}

/// What programs of this section are, and whether they load without being named.
///
/// The union of what libbpf, cilium/ebpf, aya and tc take for a tc program, since the differences are only spelling.
pub fn program_kind(section: &str) -> (ProgramKind, bool) {
    let (name, autoload) = section.strip_prefix('?').map_or((section, true), |name| (name, false));
    let kind = match name.split_once('/') {
        None if matches!(name, "classifier" | "tc" | "action") => ProgramKind::SchedCls,
        Some(("classifier" | "tc" | "action" | "tcx" | "netkit", _)) => ProgramKind::SchedCls,
        _ => ProgramKind::Unknown,
    };
    (kind, autoload)
}
