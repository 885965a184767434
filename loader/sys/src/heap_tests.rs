// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What a program may rely on: room, alignment, one owner of each byte, also among threads and when the region is full.
#![allow(clippy::unwrap_used, clippy::multiple_unsafe_ops_per_block)]
use super::*;
use crate::blocks::{largest_within, words, ALIGN, CLASSES, LARGEST, WORDS};
use std::collections::BTreeMap;

fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).unwrap()
}

/// Blocks that are held at once, each full of a byte of its own.
struct Held<'a> {
    heap: &'a Heap,
    blocks: BTreeMap<usize, (Layout, u8)>,
}

impl Held<'_> {
    fn new(heap: &Heap) -> Held<'_> {
        Held { heap, blocks: BTreeMap::new() }
    }

    fn own(&mut self, block: *mut u8, layout: Layout, byte: u8) {
        let start = block.addr();
        assert_eq!(start % layout.align(), 0);
        let below = self.blocks.range(..=start).next_back();
        assert!(below.is_none_or(|(at, (of, _))| at + of.size() <= start), "two own the same bytes");
        let above = self.blocks.range(start..).next();
        assert!(above.is_none_or(|(at, _)| start + layout.size() <= *at), "two own the same bytes");
        self.blocks.insert(start, (layout, byte));
        // SAFETY: a block that was just given, of so many bytes.
        unsafe { block.write_bytes(byte, layout.size()) };
    }

    fn alloc(&mut self, layout: Layout, byte: u8) {
        let block = if byte % 3 == 0 {
            // SAFETY: no size here is 0.
            let block = unsafe { self.heap.alloc_zeroed(layout) };
            check(block, layout.size(), 0);
            block
        } else {
            // SAFETY: no size here is 0.
            unsafe { self.heap.alloc(layout) }
        };
        assert!(!block.is_null());
        self.own(block, layout, byte);
    }

    /// The number-th block is no longer held; its bytes are those that were written, up to `size` at least.
    fn release(&mut self, number: usize) -> (*mut u8, Layout, u8) {
        let at = *self.blocks.keys().nth(number % self.blocks.len()).unwrap();
        let (layout, byte) = self.blocks.remove(&at).unwrap();
        let block = std::ptr::with_exposed_provenance_mut::<u8>(at);
        check(block, layout.size(), byte);
        (block, layout, byte)
    }

    fn free(&mut self, number: usize) {
        let (block, layout, _) = self.release(number);
        // SAFETY: given with this layout, and held no more.
        unsafe { self.heap.dealloc(block, layout) };
    }

    fn resize(&mut self, number: usize, size: usize) {
        let (block, old, byte) = self.release(number);
        // SAFETY: given with this layout; the size is not 0.
        let moved = unsafe { self.heap.realloc(block, old, size) };
        check(moved, size.min(old.size()), byte);
        self.own(moved, layout(size, old.align()), byte);
    }
}

fn check(block: *mut u8, length: usize, byte: u8) {
    // SAFETY: the caller holds a block of at least so many bytes, all written.
    let bytes = unsafe { std::slice::from_raw_parts(block, length) };
    assert!(bytes.iter().all(|found| *found == byte), "somebody else wrote here");
}

/// Linear congruential: the same steps in every run.
fn random(seed: &mut u64, below: usize) -> usize {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    usize::try_from(*seed >> 33).unwrap() % below
}

fn work(heap: &Heap, mut seed: u64, steps: usize, most: usize) {
    let mut held = Held::new(heap);
    for step in 0..steps {
        let size = 1 + random(&mut seed, [64, 600, 5_000, 100_000][step % 4]);
        let number = random(&mut seed, most);
        match random(&mut seed, 4) {
            _ if held.blocks.is_empty() => held.alloc(layout(size, 1), step.to_le_bytes()[0]),
            0 => held.free(number),
            1 => held.resize(number, size),
            _ if held.blocks.len() >= most => held.free(number),
            _ => held.alloc(layout(size, 1 << random(&mut seed, 7)), step.to_le_bytes()[0]),
        }
    }
    (0..held.blocks.len()).for_each(|_| held.free(0));
}

#[test]
fn a_block_holds_what_was_asked_for_and_at_most_a_quarter_more() {
    for size in 1..=LARGEST {
        let class = class(layout(size, 16)).unwrap();
        let room = words(class) * 8;
        assert!(class < CLASSES && room % ALIGN == 0, "{size}");
        assert!(room >= size && room - size < 16.max(size.div_ceil(4)), "{size}: {room}");
    }
    for (size, align) in [(LARGEST + 1, 1), (usize::MAX / 4, 8), (64, 32)] {
        assert_eq!(class(layout(size, align)), None, "{size} {align}");
    }
}

#[test]
fn every_byte_has_one_owner() {
    static HEAP: Heap = Heap::new();
    work(&HEAP, 1, 10_000, 300);
}

#[test]
fn threads_share_it() {
    static HEAP: Heap = Heap::new();
    std::thread::scope(|scope| {
        for seed in 2..6 {
            scope.spawn(move || work(&HEAP, seed, 5_000, 60));
        }
    });
}

#[test]
fn when_the_region_is_full_the_c_library_gives_and_what_was_freed_is_given_again() {
    static HEAP: Heap = Heap::new();
    let mut held = Held::new(&HEAP);
    let inside = |held: &Held<'_>| {
        let ours = |at: &&usize| HEAP.0.index(std::ptr::without_provenance_mut(**at)).is_some();
        held.blocks.keys().filter(ours).count()
    };
    let fits = WORDS * 8 / 1024;
    (0..fits + 10).for_each(|number| held.alloc(layout(1024, 8), number.to_le_bytes()[0]));
    assert_eq!(inside(&held), fits);
    (0..fits + 10).for_each(|number| held.resize(number, 900));
    (0..fits + 10).for_each(|_| held.free(0));
    (0..fits).for_each(|_| held.alloc(layout(1000, 8), 7));
    assert_eq!(inside(&held), fits);
    (0..fits).for_each(|_| held.free(0));
}

#[test]
fn a_smaller_block_leaves_the_rest_to_others() {
    static HEAP: Heap = Heap::new();
    let mut held = Held::new(&HEAP);
    held.alloc(layout(40 << 10, 8), 1);
    held.alloc(layout(16, 8), 2);
    held.resize(0, 1024);
    let end = *held.blocks.keys().next_back().unwrap();
    // 39 KiB are free between the two: 38 blocks of 1 KiB at least, and nothing is cut off behind the second.
    (0..38).for_each(|number| held.alloc(layout(1024, 8), number + 3));
    assert_eq!(*held.blocks.keys().next_back().unwrap(), end);
    (0..held.blocks.len()).for_each(|_| held.free(0));
}

#[test]
fn every_size_of_rest_is_found() {
    for class in 0..CLASSES {
        let (room, next) = (words(class), words(class + 1));
        assert!(
            (room..next).all(|between| largest_within(between) == Some(class) || between > LARGEST / 8),
            "{class}"
        );
    }
    assert_eq!((largest_within(0), largest_within(1)), (None, None));
}

#[test]
fn the_last_block_grows_where_it_is_and_others_are_copied() {
    static HEAP: Heap = Heap::new();
    // SAFETY: sizes are not 0, layouts are those of the blocks, and each is freed once.
    unsafe {
        let first = HEAP.alloc(layout(16, 1));
        let grown = HEAP.realloc(first, layout(16, 1), 5_000);
        assert_eq!(grown, first);
        let second = HEAP.alloc(layout(16, 1));
        let moved = HEAP.realloc(grown, layout(5_000, 1), 9_000);
        assert_ne!(moved, first);
        let zero = HEAP.alloc_zeroed(layout(5_000, 1));
        assert_eq!(zero, first);
        check(zero, 5_000, 0);
        // Behind what was ever given out nothing has to be written.
        let fresh = HEAP.alloc_zeroed(layout(60_000, 1));
        check(fresh, 60_000, 0);
        fresh.write_bytes(1, 60_000);
        HEAP.dealloc(fresh, layout(60_000, 1));
        let again = HEAP.alloc_zeroed(layout(61_000, 1));
        assert_eq!(again, fresh);
        check(again, 61_000, 0);
        for (block, size) in [(moved, 9_000), (zero, 5_000), (second, 16)] {
            HEAP.dealloc(block, layout(size, 1));
        }
    }
}
