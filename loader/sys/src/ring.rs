// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A ring buffer map to copies of the records that the programs submit, by its memory shared with the kernel.
//!
//! Layout (kernel/bpf/ringbuf.c): a page with our position, which we write; a page with the programs' position; the data,
//! mapped twice in a row so that no record is ever split. A record: 32 bits of length and flags, 32 bits of the kernel's,
//! the bytes, up to a multiple of 8.
use crate::info::info;
use crate::pages::{page_size, Pages};
use crate::Map;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{fence, AtomicU32, AtomicU64, Ordering};

/// The record is still being written.
const BUSY: u32 = 1 << 31;
/// The program gave it up.
const DISCARD: u32 = 1 << 30;
const HEADER: u64 = 8;

/// A reader of a ring buffer. Each record goes to one of several readers of this kind; others, such as libbpf's, do not look
/// whether somebody else has moved the position.
#[derive(Debug)]
pub struct Ring {
    map: Map,
    ours: Pages,
    theirs: Pages,
    page: usize,
    size: u64,
}

impl Ring {
    /// Maps the ring buffer `map` (type 27, Linux 5.8).
    pub fn map(map: Map) -> io::Result<Ring> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let info = info(map.as_fd(), 20)?;
        let word = |at: usize| info.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes);
        // struct bpf_map_info: type, id, key_size, value_size, max_entries.
        let size =
            word(16).filter(|size| word(0) == Some(27) && size.is_power_of_two()).ok_or_else(invalid)?;
        let page = page_size()?;
        let data = usize::try_from(size).ok().and_then(|size| size.checked_mul(2)?.checked_add(page));
        let ours = Pages::map(&map, page, libc::PROT_READ | libc::PROT_WRITE, 0)?;
        let theirs = Pages::map(&map, data.ok_or_else(invalid)?, libc::PROT_READ, page)?;
        Ok(Ring { map, ours, theirs, page, size: size.into() })
    }

    /// The next record that is complete; None when there is none yet, or when positions make no sense.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        loop {
            // consumer_pos and producer_pos in struct bpf_ringbuf: everybody uses them as atomic 64-bit numbers.
            let ours = self.ours.cell::<AtomicU64>(0)?;
            let theirs = self.theirs.cell::<AtomicU64>(0)?;
            let at = ours.load(Ordering::Relaxed);
            // Their pages are mapped for reading only, and there only a relaxed load is promised to be nothing but a load.
            let waiting = theirs.load(Ordering::Relaxed).checked_sub(at)?;
            fence(Ordering::Acquire);
            if waiting < HEADER || waiting > self.size || at % 8 != 0 {
                return None;
            }
            let offset = self.page.checked_add(usize::try_from(at & (self.size - 1)).ok()?)?;
            // The kernel, too, uses it as an atomic 32-bit number (bpf_ringbuf_commit() exchanges it).
            let length = self.theirs.cell::<AtomicU32>(offset)?.load(Ordering::Relaxed);
            fence(Ordering::Acquire);
            let bytes = u64::from(length & !(BUSY | DISCARD));
            if length & BUSY != 0 || bytes.checked_add(HEADER)? > waiting {
                return None;
            }
            let count = usize::try_from(bytes).ok()?;
            let mut record = vec![0; count];
            let from = self.theirs.inside(offset.checked_add(HEADER as usize)?, count)?;
            // SAFETY: `count` bytes from there are inside the mapping, in which the data stands twice in a row; the vector has just
            // been made with this length. The kernel leaves a complete record alone until our position has passed it.
            unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), record.as_mut_ptr(), count) };
            let next = at + (bytes + HEADER).next_multiple_of(8);
            // Another reader may have had it meanwhile, and the kernel its place: what was copied is of no use then.
            let taken = ours.compare_exchange(at, next, Ordering::Release, Ordering::Relaxed).is_ok();
            if taken && length & DISCARD == 0 {
                return Some(record);
            }
        }
    }
}

impl AsFd for Ring {
    /// Readable when there is a record: poll(2) on it.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }
}
