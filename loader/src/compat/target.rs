// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The BTF of a whole kernel to the few types that one object asks for.
//!
//! A kernel has 150,000 types in 5 MB. [`Scan`] finds those of the names that are wanted; then what they are made of is picked
//! out and numbered anew. Behind a pointer only names and sizes matter, so the members of structs end there.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use crate::compat::scan::{Scan, STRIDE};
use crate::compat::source::{Source, Window};
use crate::object::{Btf, Kind, ObjectError};

/// A part of a kernel's types.
#[derive(Clone, Debug)]
pub struct Target {
    /// What the types are of, for messages: `/sys/kernel/btf/vmlinux`.
    pub name: String,
    /// The types that were taken over, by ids of their own.
    pub btf: Btf,
    /// The kernel's id of each type: that of type 1 first.
    ids: Vec<u32>,
    /// The types of each name (without flavour), by rising id.
    named: BTreeMap<String, Vec<u32>>,
}

impl Target {
    /// Picks out the types whose name without flavour is in `wanted`, and everything that they are made of.
    ///
    /// # Errors
    /// A file that cannot be read, or is no BTF, or has a wanted type of a kind that this loader does not know.
    pub fn read(name: &str, source: &dyn Source, wanted: &BTreeSet<String>) -> Result<Target, ObjectError> {
        let fault = |error: io::Error| ObjectError::Resolve {
            program: String::new(),
            about: name.to_owned(),
            what: match error.kind() {
                io::ErrorKind::UnexpectedEof => "the BTF is cut short".to_owned(),
                _ => error.to_string(),
            },
        };
        let scan = Scan::new(source, wanted).map_err(fault)?;
        let types = scan.pull().map_err(fault)?;
        let (btf, ids) = scan.number_anew(&types).map_err(fault)?;
        let mut target = Target { name: name.to_owned(), btf: btf?, ids, named: BTreeMap::new() };
        for (id, name) in &scan.found {
            if let Some(new) = target.new_id(*id) {
                target.named.entry(name.clone()).or_default().push(new);
            }
        }
        Ok(target)
    }

    /// The kernel's own id of a type.
    pub fn kernel_id(&self, id: u32) -> Option<u32> {
        self.ids.get(usize::try_from(id).ok()?.checked_sub(1)?).copied()
    }

    /// The types of this name, which is without flavour.
    pub fn named(&self, name: &str) -> &[u32] {
        self.named.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// The names of `wanted` that are not here, or only as structs that somebody else defines: a module.
    pub fn missing(&self, wanted: &BTreeSet<String>) -> BTreeSet<String> {
        let defined = |id: &u32| self.btf.get(*id).is_some_and(|t| t.kind != Kind::Fwd);
        wanted.iter().filter(|name| !self.named(name).iter().any(defined)).cloned().collect()
    }

    fn new_id(&self, kernel_id: u32) -> Option<u32> {
        let index = self.ids.binary_search(&kernel_id).ok()?;
        u32::try_from(index).ok()?.checked_add(1)
    }
}

/// A name without its flavour: what follows the last `___` between other letters tells C apart what is one thing in the
/// kernel.
pub fn essential(name: &str) -> &str {
    let flavour =
        |w: &[u8]| matches!(w, [before, b'_', b'_', b'_', after] if *before != b'_' && *after != b'_');
    let at = name.as_bytes().windows(5).rposition(flavour);
    at.and_then(|at| name.get(..at.saturating_add(1))).unwrap_or(name)
}

/// One type as it lies in the file.
struct Raw {
    words: Vec<u32>,
    kind: Kind,
    vlen: usize,
}

impl Scan<'_> {
    /// The type with this id, found from the nearest known start before it.
    fn raw(&self, window: &mut Window<'_>, id: u32) -> io::Result<Raw> {
        let before = id.checked_sub(1).ok_or(io::ErrorKind::InvalidData)?;
        let near = usize::try_from(before / STRIDE).ok().and_then(|i| self.starts.get(i));
        let mut at = u64::from(*near.ok_or(io::ErrorKind::InvalidData)?);
        for _ in 0..before % STRIDE {
            at = at.saturating_add(self.head(window, at)?.2);
        }
        let (_, kind, size) = self.head(window, at)?;
        let bytes = window.get(at, usize::try_from(size).map_err(|_| io::ErrorKind::InvalidData)?)?;
        let words: Vec<u32> =
            bytes.chunks_exact(4).map(|w| w.try_into().map_or(0, u32::from_le_bytes)).collect();
        let vlen = words.get(1).map_or(0, |info| info & 0xffff);
        let kind = kind.ok_or_else(|| io::Error::other("a wanted type is of an unknown kind"))?;
        Ok(Raw { words, kind, vlen: usize::try_from(vlen).unwrap_or(0) })
    }

    /// The wanted types and everything that they are made of; structs behind pointers without their members.
    fn pull(&self) -> io::Result<BTreeMap<u32, Raw>> {
        let mut window = Window::new(self.source, self.types.0, self.types.1, RANDOM);
        let mut taken: BTreeMap<u32, (Raw, bool)> = BTreeMap::new();
        let mut round: BTreeMap<u32, bool> = self.found.keys().map(|id| (*id, true)).collect();
        while !round.is_empty() {
            let mut next: BTreeMap<u32, bool> = BTreeMap::new();
            for (id, whole) in round {
                if taken.get(&id).is_some_and(|(_, before)| *before || !whole) {
                    continue;
                }
                let raw = self.raw(&mut window, id)?;
                let hollow = !whole && matches!(raw.kind, Kind::Struct | Kind::Union);
                if !hollow {
                    let inside = whole && raw.kind != Kind::Ptr && raw.kind != Kind::Var;
                    for place in raw.references() {
                        let about = raw.words.get(place).copied().filter(|about| *about != 0);
                        if let Some(about) = about {
                            *next.entry(about).or_default() |= inside;
                        }
                    }
                }
                taken.insert(id, (if hollow { raw.hollow() } else { raw }, whole));
            }
            if taken.len() > MOST {
                return Err(io::Error::other("the wanted types are made of too many others"));
            }
            round = next;
        }
        Ok(taken.into_iter().map(|(id, (raw, _))| (id, raw)).collect())
    }

    /// The same types with rising ids from 1, and only their own strings.
    #[allow(clippy::type_complexity)]
    fn number_anew(&self, types: &BTreeMap<u32, Raw>) -> io::Result<(Result<Btf, ObjectError>, Vec<u32>)> {
        let ids: Vec<u32> = types.keys().copied().collect();
        let mut offsets: BTreeMap<u32, u32> = BTreeMap::new();
        for raw in types.values() {
            let names = raw.names().filter_map(|place| raw.words.get(place));
            offsets.extend(names.map(|offset| (*offset, 0)));
        }
        let mut window = Window::new(self.source, self.strings.0, self.strings.1, RANDOM);
        let mut strings = vec![0];
        for (old, new) in offsets.iter_mut().filter(|(old, _)| **old != 0) {
            *new = u32::try_from(strings.len()).map_err(|_| io::ErrorKind::InvalidData)?;
            strings.extend(window.text(u64::from(*old))?);
            strings.push(0);
            // Nobody writes names that end in one another; a thousand ends of one name would be a thousand names.
            if strings.len() as u64 > self.strings.1 {
                return Err(io::Error::other("names overlap"));
            }
        }
        let mut bytes = Vec::new();
        for raw in types.values() {
            let mut words = raw.words.clone();
            for place in raw.references() {
                if let Some(word) = words.get_mut(place) {
                    let index = ids.binary_search(word).map_or(0, |i| i.saturating_add(1));
                    *word = u32::try_from(index).unwrap_or(0);
                }
            }
            for place in raw.names() {
                if let Some(word) = words.get_mut(place) {
                    *word = offsets.get(word).copied().unwrap_or(0);
                }
            }
            bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        }
        Ok((Btf::from_parts(bytes, strings), ids))
    }
}

impl Raw {
    /// The words that are ids of types.
    fn references(&self) -> Vec<usize> {
        let each = |first: usize, step: usize| {
            (0..self.vlen).map(|n| n.saturating_mul(step).saturating_add(first)).collect::<Vec<_>>()
        };
        match self.kind {
            Kind::Struct | Kind::Union => each(4, 3),
            Kind::Datasec => each(3, 3),
            Kind::Array => vec![3, 4],
            Kind::FuncProto => [vec![2], each(4, 2)].concat(),
            kind if kind.has_size() || kind == Kind::Fwd => Vec::new(),
            _ => vec![2],
        }
    }

    /// The words that are offsets of names.
    fn names(&self) -> impl Iterator<Item = usize> {
        let step = match self.kind {
            Kind::Struct | Kind::Union | Kind::Enum64 => Some(3),
            Kind::Enum | Kind::FuncProto => Some(2),
            _ => None,
        };
        let count = if step.is_some() { self.vlen } else { 0 };
        let own = (0..count).map(move |n| n.saturating_mul(step.unwrap_or(0)).saturating_add(3));
        std::iter::once(0).chain(own)
    }

    /// Without its members.
    fn hollow(mut self) -> Raw {
        self.words.truncate(3);
        if let Some(info) = self.words.get_mut(1) {
            *info &= !0xffff;
        }
        self.vlen = 0;
        self
    }
}

/// Bytes in memory while single types are picked; sysfs gives no more than a page at a time.
const RANDOM: usize = 4 << 10;
const MOST: usize = 1 << 16;
