// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Requests for memory to blocks of a region that the program brings along, which costs neither a system call nor a search.
//!
//! A load makes some thousand requests for 200 KiB and ends. The C libraries' own allocators take a hundred instructions for
//! each, musl's also a system call for most new pages (loader/docs/benchmarks.md). What does not fit, for its size or for a full
//! region, is the C library's as ever: the region never grows, so a program that runs for weeks is as well off as without it.
use crate::blocks::{class, Blocks};
use std::alloc::{GlobalAlloc, Layout, System};

/// The allocator of a program: `#[global_allocator] static HEAP: Heap = Heap::new();`.
#[derive(Debug)]
pub struct Heap(Blocks);

impl Heap {
    /// With nothing given out.
    #[must_use]
    #[allow(clippy::new_without_default)] // Half a megabyte belongs into a static.
    pub const fn new() -> Heap {
        Heap(Blocks::new())
    }
}

// SAFETY: a block of `Blocks` is aligned to 16 bytes, as large as its class says, within the region, and nobody else's until
// `give`; the same layout gives the same class when it is taken and given. The C library's blocks are its own. Nothing unwinds.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match class(layout).and_then(|class| self.0.take(class)) {
            Some(block) => block.at,
            // SAFETY: the caller's own promise.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match class(layout).and_then(|class| self.0.take(class)) {
            Some(block) => {
                // SAFETY: a new block of at least so many bytes.
                unsafe { block.at.write_bytes(0, layout.size().min(block.dirty)) };
                block.at
            }
            // SAFETY: the caller's own promise.
            None => unsafe { System.alloc_zeroed(layout) },
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match (self.0.index(block), class(layout)) {
            (Some(index), Some(class)) => self.0.give(index, class),
            // SAFETY: the caller's own promise, and the block is none of ours.
            _ => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(index) = self.0.index(block) else {
            // SAFETY: the caller's own promise, and the block is none of ours.
            return unsafe { System.realloc(block, layout, size) };
        };
        // SAFETY: the caller promises that `size` with this alignment makes a layout.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        if let (Some(old), Some(new)) = (class(layout), class(wanted)) {
            if self.0.resized(index, old, new) {
                return block;
            }
        }
        // SAFETY: the layout from above.
        let moved = unsafe { self.alloc(wanted) };
        if !moved.is_null() {
            // SAFETY: two blocks, both at least so large, of which nobody has the new one yet.
            unsafe { moved.copy_from_nonoverlapping(block, layout.size().min(size)) };
            // SAFETY: the caller's own promise; nothing looks at the old block any more.
            unsafe { self.dealloc(block, layout) };
        }
        moved
    }
}

#[cfg(test)]
#[path = "heap_tests.rs"]
mod tests;
