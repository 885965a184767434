// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A few bytes of a map of global data to loads and stores of exactly them, while programs change what is beside.
//!
//! BPF_MAP_UPDATE_ELEM writes a whole value, so a count that a program adds between reading and writing would be lost. Here
//! only the pages with the wanted bytes are mapped, and only those bytes are written.
use crate::pages::{page_size, Atomic, Pages};
use crate::Map;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, AtomicU8, Ordering::Relaxed};

/// Bytes of a map's element 0, shared with the programs that use it.
///
/// ```no_run
/// use detour_sys::{window::Window, Map, Value};
///
/// // BPF_MAP_TYPE_ARRAY of one entry with BPF_F_MMAPABLE (Linux 5.5).
/// let numbers = [("map_type", 2), ("key_size", 4), ("value_size", 16), ("max_entries", 1), ("map_flags", 1 << 10)];
/// let map = Map::create(&numbers.map(|(name, number)| (name, Value::Num(number))))?;
/// let counter = Window::map(&map, 8, 4)?;
/// counter.store(&7_u32.to_ne_bytes(), &[0xff; 4])?;
/// assert_eq!(counter.load(), 7_u32.to_ne_bytes());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Window {
    pages: Pages,
    /// Of the first wanted byte, from the first page's beginning.
    at: usize,
    length: usize,
}

/// The pages that hold `length` bytes from `at` on: where they begin and how long they are, as mmap(2) is told.
///
/// # Errors
/// `InvalidInput`: no byte at all, or beyond what can be addressed.
pub fn pages(at: usize, length: usize) -> io::Result<(usize, usize)> {
    let page = page_size()?;
    let first = at & !(page - 1);
    let end =
        at.checked_add(length).filter(|_| length > 0).and_then(|end| end.checked_next_multiple_of(page));
    end.map(|end| (first, end - first)).ok_or(io::ErrorKind::InvalidInput.into())
}

impl Window {
    /// Maps `length` bytes from `at` on of element 0, for reading and writing.
    ///
    /// # Errors
    /// `InvalidInput`: they do not lie in the value. EINVAL: the map was made without BPF_F_MMAPABLE. EPERM: it is frozen;
    /// EACCES: it is for programs to read only (BPF_F_RDONLY_PROG).
    pub fn map(map: &Map, at: usize, length: usize) -> io::Result<Window> {
        let inside = at.checked_add(length).is_some_and(|end| end <= map.value_size());
        let (first, mapped) = pages(at, length).and_then(|pages| match inside {
            true => Ok(pages),
            false => Err(io::ErrorKind::InvalidInput.into()),
        })?;
        let pages = Pages::map(map, mapped, libc::PROT_READ | libc::PROT_WRITE, first)?;
        Ok(Window { pages, at: at - first, length })
    }

    /// What the bytes are now. Two, four or eight that are aligned to their number are read at once, others one by one.
    pub fn load(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.length];
        self.visit(|cell, range| {
            if let Some(bytes) = bytes.get_mut(range) {
                cell.load(bytes);
            }
        });
        bytes
    }

    /// Writes those bits of `bytes` that `mask` has. Two, four or eight bytes that are aligned to their number change at
    /// once, others one by one. Bits beside those of the mask stay what the programs make them, also meanwhile.
    ///
    /// # Errors
    /// `InvalidInput`: `bytes` or `mask` are not as long as the window.
    pub fn store(&self, bytes: &[u8], mask: &[u8]) -> io::Result<()> {
        if (bytes.len(), mask.len()) != (self.length, self.length) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.visit(|cell, range| {
            if let (Some(bytes), Some(mask)) = (bytes.get(range.clone()), mask.get(range)) {
                cell.store(bytes, mask);
            }
        });
        Ok(())
    }

    /// Shows the window as one number, where it is one and aligned, otherwise byte by byte.
    fn visit(&self, mut see: impl FnMut(&dyn Cell, Range<usize>)) {
        let whole = 0..self.length;
        let mut all = |cell: Option<&dyn Cell>, range| {
            if let Some(cell) = cell {
                see(cell, range);
            }
        };
        match self.length {
            2 if self.at % 2 == 0 => all(self.cell::<AtomicU16>(0), whole),
            4 if self.at % 4 == 0 => all(self.cell::<AtomicU32>(0), whole),
            8 if self.at % 8 == 0 => all(self.cell::<AtomicU64>(0), whole),
            _ => whole.for_each(|at| all(self.cell::<AtomicU8>(at), at..at + 1)),
        }
    }

    /// The number that begins `at` bytes after the window does. All of the window lies in its pages.
    fn cell<T: Atomic + Cell + 'static>(&self, at: usize) -> Option<&dyn Cell> {
        self.pages.cell::<T>(self.at + at).map(|cell| cell as &dyn Cell)
    }
}

/// A number in memory that others change, too.
trait Cell {
    fn load(&self, bytes: &mut [u8]);
    /// Whole numbers are stored; of others the bits of the mask are exchanged.
    fn store(&self, bytes: &[u8], mask: &[u8]);
}

macro_rules! cells {
    ($($cell:ty, $number:ty;)*) => {$(
        impl Cell for $cell {
            fn load(&self, bytes: &mut [u8]) {
                bytes.iter_mut().zip(self.load(Relaxed).to_ne_bytes()).for_each(|(byte, new)| *byte = new);
            }

            fn store(&self, bytes: &[u8], mask: &[u8]) {
                let number = |bytes: &[u8]| bytes.try_into().map(<$number>::from_ne_bytes).unwrap_or_default();
                let (new, mask) = (number(bytes), number(mask));
                match mask {
                    <$number>::MAX => self.store(new, Relaxed),
                    _ => drop(self.fetch_update(Relaxed, Relaxed, |old| Some(old & !mask | new & mask))),
                }
            }
        }
    )*};
}
cells! {
    AtomicU8, u8;
    AtomicU16, u16;
    AtomicU32, u32;
    AtomicU64, u64;
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn pages_hold_the_bytes() {
        let page = page_size().unwrap();
        assert_eq!(pages(0, 1).unwrap(), (0, page));
        assert_eq!(pages(page - 1, 1).unwrap(), (0, page));
        assert_eq!(pages(page - 1, 2).unwrap(), (0, 2 * page));
        assert_eq!(pages(page + 8, 8).unwrap(), (page, page));
        for (at, length) in [(0, 0), (usize::MAX, 1), (usize::MAX - 1, 1)] {
            assert_eq!(pages(at, length).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }
}
