// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Sizes to blocks of a region of words: of those that were freed the smallest that is large enough, or a new one; safe code.
//!
//! The region is words that any thread may write; the link from one free block to the next lies in its first word, as an index.
//! What has to be checked is that a word has one owner: [`Lists::take`] and [`Lists::cut`] give words away, [`Lists::give`] and
//! [`Lists::rest`] take them back, all under one lock. Free blocks that lie side by side are not joined: what is too large for
//! any of them, in a program that runs for long, is the C library's.
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
    /// Of which sizes there is one: a bit each.
    some: AtomicU64,
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
                some: AtomicU64::new(0),
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
        // From the whole region: a pointer that was made of one word may not lead to the next.
        let at = self.region.0.as_ptr().wrapping_add(index).cast_mut().cast();
        (index < WORDS).then_some(Block { at, dirty: fresh.saturating_sub(index).saturating_mul(8) })
    }

    /// Takes back what [`Blocks::take`] gave.
    pub fn give(&self, index: usize, class: usize) {
        self.locked(|lists| lists.give(index, class, &self.region));
    }

    /// Whether a block of the class `old` is one of the class `new` now, where it is.
    pub fn resized(&self, index: usize, old: usize, new: usize) -> bool {
        old == new || self.locked(|lists| lists.resize(index, old, new, &self.region))
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
    /// The smallest free block that is large enough, without what it has too much; where there is none, a new one.
    fn take(&self, class: usize, region: &Region) -> Option<usize> {
        let enough = self.some.load(Ordering::Relaxed) & u64::MAX.checked_shl(u32::try_from(class).ok()?)?;
        if enough == 0 {
            return self.cut(self.used.load(Ordering::Relaxed) as usize, class);
        }
        let found = enough.trailing_zeros() as usize;
        let list = self.free.get(found)?;
        let index = list.load(Ordering::Relaxed).checked_sub(1)? as usize;
        let next = u32::try_from(region.0.get(index)?.load(Ordering::Relaxed)).ok()?;
        list.store(next, Ordering::Relaxed);
        if next == 0 {
            self.some.store(self.some.load(Ordering::Relaxed) & !(1 << found), Ordering::Relaxed);
        }
        self.rest(index, found, class, region);
        Some(index)
    }

    /// Takes back a block that [`Lists::take`] gave.
    fn give(&self, index: usize, class: usize, region: &Region) {
        if self.is_last(index, class) {
            return self.used.store(u32::try_from(index).unwrap_or(0), Ordering::Relaxed);
        }
        if let (Some(list), Some(word)) = (self.free.get(class), region.0.get(index)) {
            word.store(list.load(Ordering::Relaxed).into(), Ordering::Relaxed);
            list.store(u32::try_from(index.saturating_add(1)).unwrap_or(0), Ordering::Relaxed);
            self.some.store(self.some.load(Ordering::Relaxed) | 1 << class, Ordering::Relaxed);
        }
    }

    /// Gives back what a block of the class `old` has more than one of the class `new`, in blocks as large as they can be.
    fn rest(&self, index: usize, old: usize, new: usize, region: &Region) {
        let (mut at, mut rest) = (index + words(new), words(old).saturating_sub(words(new)));
        while let Some(class) = largest_within(rest) {
            self.give(at, class, region);
            (at, rest) = (at + words(class), rest - words(class));
        }
    }

    /// Whether a block of the class `old` is one of the class `new` now.
    fn resize(&self, index: usize, old: usize, new: usize, region: &Region) -> bool {
        if self.is_last(index, old) {
            return self.cut(index, new).is_some();
        }
        if new < old {
            self.rest(index, old, new, region);
        }
        new <= old
    }

    /// The block at `index`, behind which nobody has anything, gets the size of `class`.
    fn cut(&self, index: usize, class: usize) -> Option<usize> {
        let end = index.checked_add(words(class)).filter(|end| *end <= WORDS)?;
        let end = u32::try_from(end).ok()?;
        self.used.store(end, Ordering::Relaxed);
        self.fresh.store(end.max(self.fresh.load(Ordering::Relaxed)), Ordering::Relaxed);
        Some(index)
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

/// The largest class whose blocks fit into so many words.
pub fn largest_within(room: usize) -> Option<usize> {
    let layout = Layout::from_size_align(room * 8, ALIGN).ok().filter(|_| room > 0)?;
    class(layout).and_then(|class| if words(class) == room { Some(class) } else { class.checked_sub(1) })
}

/// The words of a block of this class.
pub fn words(class: usize) -> usize {
    match class.checked_sub(16) {
        None => (class + 1) * 2,
        Some(step) => (5 + step % 4) << (3 + step / 4),
    }
}
