// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Undefined symbols to what a kernel shall provide for each: configuration, variables, functions.

use std::collections::BTreeMap;

use super::btf::Btf;
use super::btf_type::Kind;
use super::elf::{Elf, Place};

/// `extern … __kconfig`, `extern … __ksym`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extern {
    /// Its C name.
    pub name: String,
    /// `__weak`: may be missing.
    pub weak: bool,
    /// Where the kernel's answer comes from.
    pub origin: Origin,
    /// BTF id of the VAR or FUNC.
    pub type_id: u32,
}

/// What an extern is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `.kconfig`: a value of the kernel's configuration, or its version.
    Config,
    /// `.ksyms`, a variable: its address.
    Variable,
    /// `.ksyms`, a function: its BTF id.
    Function,
}

/// The externs of an object, by the names of its undefined symbols.
pub struct Externs<'a> {
    pub all: Vec<Extern>,
    by_name: BTreeMap<&'a str, usize>,
}

impl<'a> Externs<'a> {
    /// Only BTF says which symbol is of which sort; what it does not mention is left out.
    pub fn collect(elf: &Elf<'a>, btf: Option<&Btf>) -> Externs<'a> {
        let mut found = Externs { all: Vec::new(), by_name: BTreeMap::new() };
        let placed: BTreeMap<&str, (Origin, u32)> = btf.into_iter().flat_map(declared).collect();
        let mut symbols: Vec<_> = elf.symbols.iter().collect();
        // libbpf's order, since a missing function's number enters into the code.
        symbols.sort_by_key(|s| (placed.get(s.name).map(|(origin, _)| *origin != Origin::Config), s.name));
        for symbol in symbols.into_iter().filter(|s| s.place == Place::Undefined && !s.local) {
            if let Some((origin, type_id)) = placed.get(symbol.name) {
                found.by_name.entry(symbol.name).or_insert(found.all.len());
                let (name, weak) = (symbol.name.to_owned(), symbol.weak);
                found.all.push(Extern { name, weak, origin: *origin, type_id: *type_id });
            }
        }
        found
    }

    /// The index of the extern with this name.
    pub fn get(&self, name: &str) -> Result<usize, &'static str> {
        self.by_name.get(name).copied().ok_or(
            "is extern, defined nowhere, and BTF does not say what it is: .kconfig and .ksyms are known",
        )
    }
}

/// What BTF declares in its `.kconfig` and `.ksyms`, which are sections of BTF only.
fn declared(btf: &Btf) -> impl Iterator<Item = (&str, (Origin, u32))> {
    let sections = btf.types().filter(|t| t.kind == Kind::Datasec);
    let placed = sections.flat_map(move |section| {
        let config = section.name() == ".kconfig";
        let known = config || section.name() == ".ksyms";
        section.placed().filter(move |_| known).map(move |p| (p.var, config))
    });
    placed.filter_map(move |(id, config)| {
        let found = btf.get(id)?;
        let origin = match found.kind {
            Kind::Func => Origin::Function,
            _ if config => Origin::Config,
            _ => Origin::Variable,
        };
        Some((found.name(), (origin, id)))
    })
}
