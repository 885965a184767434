// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Sizes to blocks of a region of words: the one of that size that was freed last, or a new one; safe code.
//!
//! The region is words that any thread may write; the link from one free block to the next lies in its first word, as an index.
//! What has to be checked is that a block has one owner: [`Blocks::take`] and [`Blocks::give`] are the only places that move
//! one, both under the lock, and [`Blocks::resized`] moves the end of the last one.
use std::alloc::Layout;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Words of the region: 512 KiB, of which only those pages take memory that were used.
pub const WORDS: usize = 64 << 10;
/// The largest block, in bytes.
pub const LARGEST: usize = 64 << 10;
/// How many sizes there are: 16 steps of 16 bytes, then four between each power of two and the next.
pub const CLASSES: usize = 16 + 8 * 4;
/// What every block begins at a multiple of, in bytes.
pub const ALIGN: usize = 16;

/// A region, and which blocks of it are free.
#[derive(Debug)]
pub struct Blocks {
    region: Region,
    lists: Lists,
    held: AtomicBool,
}

#[derive(Debug)]
#[repr(align(4096))]
struct Region([AtomicU64; WORDS]);

#[derive(Debug)]
struct Lists {
    /// Of each size the index of the block that was freed last, plus one: 0 is none.
    free: [AtomicU32; CLASSES],
    /// Where the part of the region begins that nobody has, in words.
    used: AtomicU32,
    /// Where the part begins that nobody ever had.
    fresh: AtomicU32,
}

/// What is given.
#[derive(Debug, Clone, Copy)]
pub struct Block {
    /// Its address.
    pub at: *mut u8,
    /// So many bytes of it somebody may have written before; those behind them are zero.
    pub dirty: usize,
}

impl Blocks {
    /// With nothing given out.
    pub const fn new() -> Blocks {
        Blocks {
            region: Region([const { AtomicU64::new(0) }; WORDS]),
            lists: Lists {
                free: [const { AtomicU32::new(0) }; CLASSES],
                used: AtomicU32::new(0),
                fresh: AtomicU32::new(0),
            },
            held: AtomicBool::new(false),
        }
    }

    /// A block of this class that nobody has, at least [`words`] long; None where the region is full.
    pub fn take(&self, class: usize) -> Option<Block> {
        let (index, fresh) = self.locked(|lists| {
            let fresh = lists.fresh.load(Ordering::Relaxed) as usize;
            Some((lists.take(class, &self.region)?, fresh))
        })?;
        let at = self.region.0.get(index)?.as_ptr().cast();
        Some(Block { at, dirty: fresh.saturating_sub(index).saturating_mul(8) })
    }

    /// Takes back what [`Blocks::take`] gave.
    pub fn give(&self, index: usize, class: usize) {
        self.locked(|lists| lists.give(index, class, &self.region));
    }

    /// Whether a block of the class `old` is one of the class `new` now, where it is.
    pub fn resized(&self, index: usize, old: usize, new: usize) -> bool {
        let cut = |lists: &Lists| lists.is_last(index, old) && lists.cut(index, new).is_some();
        old == new || self.locked(cut)
    }

    /// The index of a block of the region; None for any other address.
    pub fn index(&self, block: *mut u8) -> Option<usize> {
        let start = self.region.0.as_ptr().addr();
        block.addr().checked_sub(start).map(|bytes| bytes / 8).filter(|index| *index < WORDS)
    }

    /// Nobody else moves a block meanwhile. What is done takes some twenty instructions: another thread waits for its turn.
    fn locked<T>(&self, moves: impl FnOnce(&Lists) -> T) -> T {
        while self.held.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            std::thread::yield_now();
        }
        let moved = moves(&self.lists);
        self.held.store(false, Ordering::Release);
        moved
    }
}

impl Lists {
    /// A block that was freed, of this size or the next, which is this size's from now on; else a new one.
    fn take(&self, class: usize, region: &Region) -> Option<usize> {
        for list in self.free.get(class..)?.iter().take(2) {
            if let Some(index) = list.load(Ordering::Relaxed).checked_sub(1) {
                let index = index as usize;
                let next = region.0.get(index)?.load(Ordering::Relaxed);
                list.store(u32::try_from(next).unwrap_or(0), Ordering::Relaxed);
                return Some(index);
            }
        }
        self.cut(self.used.load(Ordering::Relaxed) as usize, class)
    }

    /// The block at `index`, behind which nothing is used, gets the size of `class`.
    fn cut(&self, index: usize, class: usize) -> Option<usize> {
        let end = index.checked_add(words(class)).filter(|end| *end <= WORDS)?;
        let end = u32::try_from(end).ok()?;
        self.used.store(end, Ordering::Relaxed);
        self.fresh.store(end.max(self.fresh.load(Ordering::Relaxed)), Ordering::Relaxed);
        Some(index)
    }

    fn give(&self, index: usize, class: usize, region: &Region) {
        if self.is_last(index, class) {
            return self.used.store(u32::try_from(index).unwrap_or(0), Ordering::Relaxed);
        }
        if let (Some(list), Some(word)) = (self.free.get(class), region.0.get(index)) {
            word.store(list.load(Ordering::Relaxed).into(), Ordering::Relaxed);
            list.store(u32::try_from(index.saturating_add(1)).unwrap_or(0), Ordering::Relaxed);
        }
    }

    fn is_last(&self, index: usize, class: usize) -> bool {
        index.checked_add(words(class)) == Some(self.used.load(Ordering::Relaxed) as usize)
    }
}

/// The smallest class whose blocks hold what is asked for, if there is one.
pub fn class(layout: Layout) -> Option<usize> {
    let last = layout.size().saturating_sub(1);
    match last {
        _ if layout.align() > ALIGN || last >= LARGEST => None,
        ..256 => Some(last / ALIGN),
        _ => {
            let power = last.ilog2() as usize;
            Some(16 + (power - 8) * 4 + ((last >> (power - 2)) & 3))
        }
    }
}

/// The words of a block of this class.
pub fn words(class: usize) -> usize {
    match class.checked_sub(16) {
        None => (class + 1) * 2,
        Some(step) => (5 + step % 4) << (3 + step / 4),
    }
}
