// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The BTF of a whole kernel to the few types that one object asks for.
//!
//! A kernel has 150,000 types in 5 MB. Two passes over the file find those of the names that are wanted and where every 16th
//! type begins; then what they are made of is picked out and numbered anew. Behind a pointer only names and sizes
//! matter, so the members of structs end there.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;
use std::io;

use crate::compat::source::{words, Source, Window};
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

    /// The names of `wanted` that are not here.
    pub fn missing(&self, wanted: &BTreeSet<String>) -> BTreeSet<String> {
        wanted.iter().filter(|name| !self.named.contains_key(*name)).cloned().collect()
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

/// A file after its two passes.
struct Scan<'a> {
    source: &'a dyn Source,
    types: (u64, u64),
    strings: (u64, u64),
    /// Where type 1, 17, 33 … begin.
    starts: Vec<u32>,
    /// The kernel's ids of the types that are wanted, with their names.
    found: BTreeMap<u32, String>,
    layout: Vec<[u8; 4]>,
}

impl<'a> Scan<'a> {
    fn new(source: &'a dyn Source, wanted: &BTreeSet<String>) -> io::Result<Scan<'a>> {
        let mut header = [0; 24];
        source.read_at(&mut header, 0)?;
        let mut words = header.chunks_exact(4).map(|w| w.try_into().map_or(0, u32::from_le_bytes));
        let mut next = || words.next().unwrap_or(0);
        if next() & 0x00ff_ffff != 0x0001_eb9f {
            return Err(io::Error::other("not BTF of version 1, little-endian"));
        }
        let header = next();
        let mut part = || (u64::from(header).saturating_add(next().into()), u64::from(next()));
        let (types, strings) = (part(), part());
        let mut scan =
            Scan { source, types, strings, starts: Vec::new(), found: BTreeMap::new(), layout: Vec::new() };
        if header >= 32 {
            scan.read_layout(header)?;
        }
        let names = scan.read_names(wanted)?;
        scan.read_types(&names)?;
        Ok(scan)
    }

    /// `struct btf_layout { u8 info_sz, elem_sz; u16 flags; }` for each kind: how large types are that we do not know.
    fn read_layout(&mut self, header: u32) -> io::Result<()> {
        let mut words = [0; 8];
        self.source.read_at(&mut words, 24)?;
        let [o0, o1, o2, o3, l0, l1, l2, l3] = words;
        let (offset, length) = (u32::from_le_bytes([o0, o1, o2, o3]), u32::from_le_bytes([l0, l1, l2, l3]));
        let place = u64::from(header).saturating_add(offset.into());
        for entry in 0..u64::from(length / 4).min(32) {
            let mut bytes = [0; 4];
            self.source.read_at(&mut bytes, place.saturating_add(entry.saturating_mul(4)))?;
            self.layout.push(bytes);
        }
        Ok(())
    }

    /// The first pass: where in the strings the wanted names are, flavours included.
    fn read_names(&self, wanted: &BTreeSet<String>) -> io::Result<BTreeMap<u32, String>> {
        let mut names = BTreeMap::new();
        // Most strings are told apart by their first letter and length already.
        let mut lengths = [0_u64; 256];
        for name in wanted {
            if let Some(mask) = name.bytes().next().and_then(|first| lengths.get_mut(usize::from(first))) {
                *mask |= bit(name.len());
            }
        }
        let maybe = |text: &[u8]| {
            let mask = text.first().and_then(|first| lengths.get(usize::from(*first))).copied().unwrap_or(0);
            mask != 0 && (mask & bit(text.len()) != 0 || text.windows(3).any(|w| w == b"___"))
        };
        let (base, length) = self.strings;
        let mut at = 0u64;
        let mut rest: Vec<u8> = Vec::new();
        let mut begin = 0u64;
        let mut window = Window::new(self.source, base, length, CHUNK);
        while at < length {
            let count = usize::try_from(length.saturating_sub(at)).unwrap_or(CHUNK).min(CHUNK);
            let mut chunk = window.get(at, count)?;
            while !chunk.is_empty() {
                // The standard library looks for a NUL many bytes at a time.
                let found = CStr::from_bytes_until_nul(chunk);
                let (text, ends) = found.map_or((chunk, false), |text| (text.to_bytes(), true));
                chunk = chunk.get(text.len().saturating_add(1)..).unwrap_or_default();
                let whole = if rest.is_empty() {
                    text
                } else {
                    rest.extend_from_slice(text);
                    &rest
                };
                if !ends {
                    if rest.is_empty() {
                        rest.extend_from_slice(text);
                    }
                    continue;
                }
                if maybe(whole) {
                    let name = std::str::from_utf8(whole).map(essential).unwrap_or_default();
                    if let (Some(name), Ok(offset)) = (wanted.get(name), u32::try_from(begin)) {
                        names.insert(offset, name.clone());
                    }
                }
                begin = begin.saturating_add(whole.len() as u64).saturating_add(1);
                rest.clear();
            }
            at = at.saturating_add(count as u64);
        }
        Ok(names)
    }

    /// The second pass: which types have these names, and where every 16th type begins.
    fn read_types(&mut self, names: &BTreeMap<u32, String>) -> io::Result<()> {
        let (base, length) = self.types;
        let mut window = Window::new(self.source, base, length, CHUNK);
        let (mut at, mut id) = (0u64, 1u32);
        while at < length {
            if id % STRIDE == 1 {
                self.starts.push(u32::try_from(at).map_err(|_| io::ErrorKind::InvalidData)?);
            }
            let (name, kind, size) = self.head(&mut window, at)?;
            if let Some(name) = names.get(&name).filter(|_| kind.is_some()) {
                self.found.insert(id, name.clone());
            }
            at = at.saturating_add(size);
            id = id.saturating_add(1);
        }
        Ok(())
    }

    /// A type's name, its kind when that is known, and its size in bytes.
    fn head(&self, window: &mut Window<'_>, at: u64) -> io::Result<(u32, Option<Kind>, u64)> {
        let [name, info] = words(window.get(at, 12)?).ok_or(io::ErrorKind::UnexpectedEof)?;
        let vlen = usize::try_from(info & 0xffff).unwrap_or(0);
        let kind = Kind::from_info(info);
        let extra = match kind {
            Some(kind) => kind.extra_words(vlen).and_then(|n| n.checked_mul(4)),
            None => {
                let number = info >> 24 & 31;
                let entry = self.layout.get(usize::try_from(number).unwrap_or(usize::MAX));
                let [fixed, each, ..] = entry.ok_or_else(|| {
                    io::Error::other(format!("a type is of kind {number}, which this loader does not know"))
                })?;
                usize::from(*each).checked_mul(vlen).and_then(|n| n.checked_add(usize::from(*fixed)))
            }
        };
        let extra = extra.ok_or(io::ErrorKind::InvalidData)?;
        Ok((name, kind, (extra as u64).saturating_add(12)))
    }

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

fn bit(length: usize) -> u64 {
    1 << (length & 63)
}

/// Bytes in memory during a pass.
const CHUNK: usize = 64 << 10;
/// Bytes in memory while single types are picked; sysfs gives no more than a page at a time.
const RANDOM: usize = 4 << 10;
const STRIDE: u32 = 16;
const MOST: usize = 1 << 16;
