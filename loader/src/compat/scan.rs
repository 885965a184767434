// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The BTF of a whole kernel to where in it the types are whose names are wanted.
//!
//! Where the file is in memory one pass over the types suffices, with a look at the first letters of each name. Where it
//! is read piece by piece, a pass over the strings comes first, so that each byte is read once.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;
use std::io;

use crate::compat::source::{words, Source, Window};
use crate::compat::target::essential;
use crate::object::Kind;

/// A file after its passes.
pub struct Scan<'a> {
    pub source: &'a dyn Source,
    pub types: (u64, u64),
    pub strings: (u64, u64),
    /// Where type 1, 17, 33 … begin.
    pub starts: Vec<u32>,
    /// The kernel's ids of the types that are wanted, with their names.
    pub found: BTreeMap<u32, String>,
    sizes: [Option<Size>; 32],
}

impl<'a> Scan<'a> {
    /// Makes the passes.
    pub fn new(source: &'a dyn Source, wanted: &BTreeSet<String>) -> io::Result<Scan<'a>> {
        let mut scan = Scan::open(source)?;
        match source.whole() {
            Some(all) => scan.find(all, wanted)?,
            None => {
                let names = scan.read_names(wanted)?;
                scan.read_types(&names)?;
            }
        }
        Ok(scan)
    }

    /// Where in the strings of a file the wanted names are, flavours included: rising.
    pub fn offsets(source: &'a dyn Source, wanted: &BTreeSet<String>) -> io::Result<Vec<u32>> {
        Ok(Scan::open(source)?.read_names(wanted)?.into_keys().collect())
    }

    fn open(source: &'a dyn Source) -> io::Result<Scan<'a>> {
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
        let sizes = std::array::from_fn(Size::of_kind);
        let mut scan = Scan { source, types, strings, starts: Vec::new(), found: BTreeMap::new(), sizes };
        if header >= 32 {
            scan.read_layout(header)?;
        }
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
            let [fixed, each, ..] = bytes.map(usize::from);
            if let Some(size) = usize::try_from(entry).ok().and_then(|kind| self.sizes.get_mut(kind)) {
                // What the file says of kinds that we know would be what we know.
                size.get_or_insert(Size { fixed, each });
            }
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

    /// Both passes in one over a file that is in memory.
    fn find(&mut self, all: &[u8], wanted: &BTreeSet<String>) -> io::Result<()> {
        let part = |(from, length): (u64, u64)| {
            let (from, length) = (usize::try_from(from).ok()?, usize::try_from(length).ok()?);
            all.get(from..from.checked_add(length)?)
        };
        let cut = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let (types, strings) = part(self.types).zip(part(self.strings)).ok_or_else(cut)?;
        let mut letters: [&[&str]; 256] = [&[]; 256];
        let by_letter: Vec<&str> = wanted.iter().map(String::as_str).collect();
        for same in by_letter.chunk_by(|a, b| a.bytes().next() == b.bytes().next()) {
            let first = same.first().and_then(|name| name.bytes().next());
            if let Some(place) = first.and_then(|first| letters.get_mut(usize::from(first))) {
                *place = same;
            }
        }
        let (mut rest, mut id) = (types, 1u32);
        while !rest.is_empty() {
            if id % STRIDE == 1 {
                let at = types.len().saturating_sub(rest.len());
                self.starts.push(u32::try_from(at).map_err(|_| io::ErrorKind::InvalidData)?);
            }
            let [a, b, c, d, e, f, g, h, ..] = *rest.first_chunk::<12>().ok_or_else(cut)?;
            let (name, info) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
            let text = usize::try_from(name).ok().and_then(|at| strings.get(at..)).unwrap_or_default();
            let names = text.first().and_then(|first| letters.get(usize::from(*first))).copied();
            for one in names.unwrap_or_default() {
                if is_name(text, one) && Kind::from_info(info).is_some() {
                    self.found.insert(id, (*one).to_string());
                }
            }
            let size = self.size(info)?;
            rest = rest.get(size..).unwrap_or_default();
            id = id.saturating_add(1);
        }
        Ok(())
    }

    /// A type's name, its kind when that is known, and its size in bytes.
    pub fn head(&self, window: &mut Window<'_>, at: u64) -> io::Result<(u32, Option<Kind>, u64)> {
        let [name, info] = words(window.get(at, 12)?).ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok((name, Kind::from_info(info), self.size(info)? as u64))
    }

    /// Bytes in a type.
    fn size(&self, info: u32) -> io::Result<usize> {
        let number = info >> 24 & 31;
        let size = usize::try_from(number).ok().and_then(|number| self.sizes.get(number).copied().flatten());
        let Some(Size { fixed, each }) = size else {
            let what = format!("a type is of kind {number}, which this loader does not know");
            return Err(io::Error::other(what));
        };
        let parts = usize::try_from(info & 0xffff).unwrap_or(0);
        let size = each.checked_mul(parts).and_then(|n| n.checked_add(fixed)?.checked_add(12));
        size.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

/// How many bytes follow the 12 that every type has.
#[derive(Clone, Copy)]
struct Size {
    fixed: usize,
    each: usize,
}

impl Size {
    /// By what this loader knows.
    fn of_kind(number: usize) -> Option<Size> {
        let kind = Kind::from_info(u32::try_from(number).ok()?.checked_shl(24)?)?;
        let (none, one) = (kind.extra_words(0)?, kind.extra_words(1)?);
        Some(Size { fixed: none.checked_mul(4)?, each: one.checked_sub(none)?.checked_mul(4)? })
    }
}

/// Whether the text that begins here is this name, without flavour.
fn is_name(text: &[u8], name: &str) -> bool {
    let Some(rest) = text.strip_prefix(name.as_bytes()) else { return false };
    if rest.first() == Some(&0) {
        // What has a flavour in it is wanted by no name.
        return essential(name) == name;
    }
    let whole = || CStr::from_bytes_until_nul(text).ok()?.to_str().ok();
    rest.starts_with(b"___") && whole().is_some_and(|text| essential(text) == name)
}

fn bit(length: usize) -> u64 {
    1 << (length & 63)
}

/// Bytes in memory during a pass.
const CHUNK: usize = 64 << 10;
/// How many types lie between two whose places are known.
pub const STRIDE: u32 = 16;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A file that is not in memory.
    struct Pieces<'a>(&'a Vec<u8>);

    impl Source for Pieces<'_> {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
            self.0.read_at(buffer, offset)
        }
    }

    fn both(bytes: &Vec<u8>, wanted: &[&str]) -> Option<(Vec<u32>, BTreeMap<u32, String>)> {
        let wanted = wanted.iter().map(|name| (*name).to_string()).collect();
        let scan =
            |source: &dyn Source| Scan::new(source, &wanted).map(|scan| (scan.starts, scan.found)).ok();
        let (whole, pieces) = (scan(bytes), scan(&Pieces(bytes)));
        assert_eq!(whole, pieces);
        whole
    }

    #[test]
    fn one_pass_finds_what_two_find() {
        let strings = b"\0int\0sk_buff\0sk_buff___old\0sk_buff____no\0sk_\0a___b___c\0";
        let mut types = Vec::new();
        for name in [1_u32, 5, 13, 27, 41, 45, 1] {
            // struct NAME { int unnamed; }
            types.extend([name, 4 << 24 | 1, 4, 0, 1, 0].iter().flat_map(|word| word.to_le_bytes()));
        }
        let (t, s) = (u32::try_from(types.len()).unwrap(), u32::try_from(strings.len()).unwrap());
        let mut bytes: Vec<u8> =
            [0x0001_eb9f, 24, 0, t, t, s].iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.extend(&types);
        bytes.extend(strings);
        let names = ["sk_buff", "sk_", "a___b", "a", "sk_buff___old", "none"];
        let (starts, found) = both(&bytes, &names).unwrap();
        let found: Vec<(u32, &str)> = found.iter().map(|(id, name)| (*id, name.as_str())).collect();
        assert_eq!(starts, [0]);
        assert_eq!(found, [(2, "sk_buff"), (3, "sk_buff"), (5, "sk_"), (6, "a___b")]);
        for end in 0..bytes.len() {
            both(&bytes[..end].to_vec(), &names);
        }
    }

    #[test]
    fn they_find_the_same_in_the_running_kernel() {
        let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else { return };
        let (starts, found) = both(&bytes, &["sk_buff", "task_struct", "int", "bpf_map", "pid_t"]).unwrap();
        assert!(starts.len() > 1000 && found.len() >= 5);
    }
}
