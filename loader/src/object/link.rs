// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Functions to programs: what an entry can reach is appended to it, and every distance is filled in.

use std::collections::{BTreeMap, BTreeSet};

use super::body::{Body, Target};
use super::btf_ext::BtfExt;
use super::elf::Elf;
use super::error::ObjectError;
use super::functions::{program_kind, Function, Functions};
use super::insn::Insn;
use super::{CoreRelo, FuncInfo, Label, LineInfo, Program, ProgramKind};

/// Everything that programs are made of. A body that could not be read is an error only for those who reach it.
pub struct Parts<'a> {
    pub elf: &'a Elf<'a>,
    pub functions: &'a Functions<'a>,
    /// One for each function.
    pub bodies: Vec<Result<Body, ObjectError>>,
    pub ext: BtfExt<'a>,
    /// The exception callbacks of programs, both by index.
    pub catchers: BTreeMap<usize, usize>,
    /// Programs for slots of program arrays, by index: for tc, whatever their section is called, and not loaded alone.
    pub tails: Vec<usize>,
}

/// A program, and its address loads by what they were in the object.
pub struct Linked {
    pub program: Program,
    pub loads: Vec<(usize, Target)>,
}

impl<'a> Parts<'a> {
    /// All entry functions as programs, in file order, and after them static functions that none of them reaches.
    ///
    /// What cannot be linked is an error if it would be loaded. In a program that is not for tc, or that must be asked
    /// for, it becomes that program's defect: the object's other programs are none the worse.
    pub fn link(&self) -> Result<Vec<Linked>, ObjectError> {
        let (mut linked, mut budget) = (Vec::new(), MAX_INSNS);
        let (mut reached, mut names) = (BTreeSet::new(), BTreeSet::new());
        reached.extend(self.catchers.values().copied());
        let (entries, others): (Vec<_>, Vec<_>) = self.functions.iter().partition(|(_, f)| f.entry);
        for (index, function) in entries.into_iter().chain(others) {
            let section = self.section_of(function);
            let (kind, autoload) = match self.tails.contains(&index) {
                true => (ProgramKind::SchedCls, false),
                false => program_kind(section),
            };
            let autoload = autoload && function.entry;
            if !function.entry
                && (section == ".text" || reached.contains(&index) || names.contains(function.name))
            {
                continue;
            }
            names.insert(function.name);
            let (chain, defect) = match Chain::from(self, index, budget) {
                Ok(chain) => (chain, None),
                Err(error) if kind == ProgramKind::SchedCls && autoload => return Err(error),
                Err(error) => (Chain::default(), Some(error)),
            };
            budget = budget.saturating_sub(chain.insns.len());
            reached.extend(chain.starts.keys().copied());
            let program = Program {
                name: function.name.to_owned(),
                section: section.to_owned(),
                kind,
                autoload,
                insns: chain.insns,
                refs: Vec::new(),
                labels: chain.labels,
                funcs: chain.funcs.unwrap_or_default(),
                lines: chain.lines.unwrap_or_default(),
                core: chain.core,
                externs: Vec::new(),
                poisoned: Vec::new(),
                defect,
            };
            linked.push(Linked { program, loads: chain.loads });
        }
        Ok(linked)
    }

    fn section_of(&self, function: &Function<'_>) -> &'a str {
        self.elf.sections.get(function.section).map_or("", |s| s.name)
    }

    fn body(&self, index: usize) -> Result<&Body, ObjectError> {
        match self.bodies.get(index) {
            Some(Ok(body)) => Ok(body),
            Some(Err(error)) => Err(error.clone()),
            None => Err(ObjectError::Elf("a function is gone")),
        }
    }
}

/// A program while it grows.
#[derive(Default)]
struct Chain {
    insns: Vec<Insn>,
    loads: Vec<(usize, Target)>,
    labels: Vec<Label>,
    /// The kernel wants these for every function or not at all (`check_btf_func()`): `None` once one has none.
    funcs: Option<Vec<FuncInfo>>,
    /// Likewise: each function must begin with one (`check_btf_line()`).
    lines: Option<Vec<LineInfo>>,
    core: Vec<CoreRelo>,
    /// Where each function that is in went.
    starts: BTreeMap<usize, usize>,
}

impl Chain {
    /// Depth first in the order of the calls, each function right behind the one that first calls it: libbpf's order, so
    /// that both loaders give the kernel the same bytes. An exception callback comes last, with what it calls.
    fn from(parts: &Parts<'_>, entry: usize, budget: usize) -> Result<Chain, ObjectError> {
        let mut chain = Chain { funcs: Some(Vec::new()), lines: Some(Vec::new()), ..Chain::default() };
        chain.follow(parts, entry, budget)?;
        if let Some(catcher) = parts.catchers.get(&entry).filter(|c| !chain.starts.contains_key(c)) {
            chain.follow(parts, *catcher, budget)?;
        }
        chain.loads.sort_unstable_by_key(|(insn, _)| *insn);
        chain.core.sort_by_key(|r| r.insn);
        Ok(chain)
    }

    /// Appends a function that is not in, and all that it reaches. The stack is ours, for its depth is the input's.
    fn follow(&mut self, parts: &Parts<'_>, first: usize, budget: usize) -> Result<(), ObjectError> {
        let mut open = vec![(first, self.append(parts, first, budget)?, 0usize)];
        while let Some((caller, base, next)) = open.last_mut() {
            let Some((at, callee)) = parts.body(*caller)?.calls.get(*next).copied() else {
                open.pop();
                continue;
            };
            *next = next.saturating_add(1);
            let from = base.saturating_add(at);
            let to = match self.starts.get(&callee) {
                Some(start) => *start,
                None => {
                    let start = self.append(parts, callee, budget)?;
                    open.push((callee, start, 0));
                    start
                }
            };
            let after = i32::try_from(from.saturating_add(1)).unwrap_or(i32::MAX);
            if let Some(insn) = self.insns.get_mut(from) {
                insn.imm = i32::try_from(to).unwrap_or(i32::MAX).saturating_sub(after);
            }
        }
        Ok(())
    }

    /// Puts a function at the end and returns where it begins.
    fn append(&mut self, parts: &Parts<'_>, index: usize, budget: usize) -> Result<usize, ObjectError> {
        let body = parts.body(index)?;
        let function = parts.functions.get(index).ok_or(ObjectError::Elf("a function is gone"))?;
        let start = self.insns.len();
        if start.saturating_add(body.insns.len()) > budget {
            return Err(ObjectError::Elf("the programs are too large together"));
        }
        self.starts.insert(index, start);
        self.labels.push(Label { insn: start, name: function.name.to_owned() });
        self.insns.extend_from_slice(&body.insns);
        self.loads.extend(body.loads.iter().map(|(at, target)| (at.saturating_add(start), *target)));
        self.describe(parts, function, start);
        Ok(start)
    }

    /// Takes over `func_info` and `line_info` of one function, now at `start`.
    fn describe(&mut self, parts: &Parts<'_>, function: &Function<'_>, start: usize) {
        let section = parts.section_of(function);
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let (old, end, new) = (number(function.start), number(function.end), number(start));

        let core = parts.ext.core.get(section).map(Vec::as_slice).unwrap_or_default();
        let before = |insn: u32| core.partition_point(|r| r.insn < insn);
        let own = core.get(before(old)..before(end)).unwrap_or_default();
        let place = |insn: u32| usize::try_from(insn.saturating_sub(old)).unwrap_or(usize::MAX);
        self.core.extend(own.iter().map(|r| CoreRelo {
            insn: place(r.insn).saturating_add(start),
            type_id: r.type_id,
            access_off: r.access_off,
            kind: r.kind,
        }));

        let funcs = parts.ext.funcs.get(section).map(Vec::as_slice).unwrap_or_default();
        let found = funcs.binary_search_by_key(&old, |r| r.insn).ok().and_then(|i| funcs.get(i));
        match (&mut self.funcs, found) {
            (Some(list), Some(record)) => list.push(FuncInfo { insn: new, ..*record }),
            _ => self.funcs = None,
        }

        let lines = parts.ext.lines.get(section).map(Vec::as_slice).unwrap_or_default();
        let before = |insn: u32| lines.partition_point(|r| r.insn < insn);
        let mut own = lines.get(before(old)..before(end)).unwrap_or_default().to_vec();
        own.dedup_by_key(|r| r.insn);
        match (&mut self.lines, own.first()) {
            (Some(list), Some(first)) if first.insn == old => {
                let moved =
                    |r: &LineInfo| LineInfo { insn: r.insn.saturating_sub(old).saturating_add(new), ..*r };
                list.extend(own.iter().map(moved));
            }
            _ => self.lines = None,
        }
    }
}

/// Of all programs of an object together; the verifier gives up at a million in one.
const MAX_INSNS: usize = 4 << 20;
