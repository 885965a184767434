// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A large file to the few bytes of it that are wanted at a time.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use detour_sys::KernelTypes;

/// Bytes that can be read at any place.
pub trait Source {
    /// Fills the buffer from `offset` on; an error where there are fewer bytes.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// All of them, where they are in memory already.
    fn whole(&self) -> Option<&[u8]> {
        None
    }
}

impl Source for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }
}

/// The first `N` words of 32 bits.
pub fn words<const N: usize>(bytes: &[u8]) -> Option<[u32; N]> {
    let mut words = [0; N];
    for (word, chunk) in words.iter_mut().zip(bytes.get(..const { N * 4 })?.chunks_exact(4)) {
        *word = u32::from_le_bytes(chunk.try_into().ok()?);
    }
    Some(words)
}

impl Source for Vec<u8> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        copy(self, buffer, offset)
    }

    fn whole(&self) -> Option<&[u8]> {
        Some(self)
    }
}

impl Source for KernelTypes {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        copy(self.bytes(), buffer, offset)
    }

    fn whole(&self) -> Option<&[u8]> {
        Some(self.bytes())
    }
}

fn copy(all: &[u8], buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let from = usize::try_from(offset).unwrap_or(usize::MAX);
    let bytes = all.get(from..).and_then(|rest| rest.get(..buffer.len()));
    buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
    Ok(())
}

/// A module's types behind those of the kernel, on which they build: ids and offsets of names go on where the kernel's end,
/// so both together read as one file.
pub struct Split<'a> {
    header: [u8; 24],
    /// Pieces of the files in order: which file, from where, how long.
    parts: [(&'a dyn Source, u64, u64); 4],
}

impl<'a> Split<'a> {
    pub fn new(base: &'a dyn Source, module: &'a dyn Source) -> io::Result<Split<'a>> {
        let ([types, strings], [more_types, more_strings]) = (parts(base)?, parts(module)?);
        let length = |a: (u64, u64), b: (u64, u64)| {
            u32::try_from(a.1.saturating_add(b.1)).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
        };
        let (type_len, str_len) = (length(types, more_types)?, length(strings, more_strings)?);
        let mut header = [0; 24];
        let words = [0x0001_eb9f, 24, 0, type_len, type_len, str_len];
        for (place, word) in header.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        let of = |source, (from, length)| (source, from, length);
        let parts = [of(base, types), of(module, more_types), of(base, strings), of(module, more_strings)];
        Ok(Split { header, parts })
    }
}

/// Where the types and the strings of a file lie, and how long they are (`struct btf_header`).
fn parts(source: &dyn Source) -> io::Result<[(u64, u64); 2]> {
    let mut header = [0; 24];
    source.read_at(&mut header, 0)?;
    let [magic, hdr_len, type_off, type_len, str_off, str_len] =
        words(&header).ok_or(io::ErrorKind::UnexpectedEof)?;
    if magic & 0x00ff_ffff != 0x0001_eb9f {
        return Err(io::Error::other("not BTF of version 1, little-endian"));
    }
    let part = |offset: u32, length: u32| (u64::from(hdr_len).saturating_add(offset.into()), length.into());
    Ok([part(type_off, type_len), part(str_off, str_len)])
}

impl Source for Split<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let header = (&self.header.to_vec() as &dyn Source, 0, 24);
        let (mut buffer, mut at) = (buffer, offset);
        for (source, from, length) in std::iter::once(header).chain(self.parts) {
            if at >= length {
                at = at.saturating_sub(length);
                continue;
            }
            let here = usize::try_from(length.saturating_sub(at)).unwrap_or(usize::MAX).min(buffer.len());
            let (now, rest) = buffer.split_at_mut_checked(here).ok_or(io::ErrorKind::InvalidData)?;
            source.read_at(now, from.saturating_add(at))?;
            (buffer, at) = (rest, 0);
            if buffer.is_empty() {
                return Ok(());
            }
        }
        match buffer.is_empty() {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// A part of a source, of which `size` bytes or so are in memory.
pub struct Window<'a> {
    source: &'a dyn Source,
    /// Of the part, in the source.
    base: u64,
    length: u64,
    size: usize,
    /// Where `bytes` are, in the part.
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    pub fn new(source: &'a dyn Source, base: u64, length: u64, size: usize) -> Window<'a> {
        Window { source, base, length, size, start: 0, bytes: Vec::new() }
    }

    /// `count` bytes at `at`, both in the part.
    pub fn get(&mut self, at: u64, count: usize) -> io::Result<&[u8]> {
        if let Some(all) = self.source.whole() {
            let end = at.checked_add(count as u64).filter(|end| *end <= self.length);
            let range = |end: u64| {
                let from = usize::try_from(self.base.checked_add(at)?).ok()?;
                all.get(from..usize::try_from(self.base.checked_add(end)?).ok()?)
            };
            return end.and_then(range).ok_or_else(|| io::ErrorKind::UnexpectedEof.into());
        }
        let inside = |start: u64, have: usize| {
            let from = usize::try_from(at.checked_sub(start)?).ok()?;
            let to = from.checked_add(count)?;
            (to <= have).then_some(from..to)
        };
        if inside(self.start, self.bytes.len()).is_none() {
            let rest = self.length.checked_sub(at).ok_or(io::ErrorKind::UnexpectedEof)?;
            let rest = usize::try_from(rest).unwrap_or(usize::MAX);
            if count > rest {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let place = self.base.checked_add(at).ok_or(io::ErrorKind::UnexpectedEof)?;
            self.bytes.resize(rest.min(self.size.max(count)), 0);
            self.start = at;
            self.source.read_at(&mut self.bytes, place)?;
        }
        let range = inside(self.start, self.bytes.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        self.bytes.get(range).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// The bytes at `at` up to a NUL, without it.
    pub fn text(&mut self, at: u64) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        let mut next = at;
        loop {
            let rest = self.length.checked_sub(next).ok_or(io::ErrorKind::UnexpectedEof)?;
            let piece = self.get(next, usize::try_from(rest).unwrap_or(usize::MAX).min(PIECE))?;
            if piece.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match piece.iter().position(|b| *b == 0) {
                Some(end) => {
                    text.extend_from_slice(piece.get(..end).unwrap_or_default());
                    return Ok(text);
                }
                None => text.extend_from_slice(piece),
            }
            if text.len() > MAX_NAME {
                return Err(io::ErrorKind::InvalidData.into());
            }
            next = next.saturating_add(PIECE as u64);
        }
    }
}

const PIECE: usize = 64;
const MAX_NAME: usize = 4096;
