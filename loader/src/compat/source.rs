// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A large file to the few bytes of it that are wanted at a time.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes that can be read at any place.
pub trait Source {
    /// Fills the buffer from `offset` on; an error where there are fewer bytes.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl Source for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }
}

impl Source for Vec<u8> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = self.get(from..).and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
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
