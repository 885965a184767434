// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A ring buffer map to copies of the records that the programs submit, by its memory shared with the kernel.
//!
//! Layout (kernel/bpf/ringbuf.c): a page with our position, which we write; a page with the programs' position; the data,
//! mapped twice in a row so that no record is ever split. A record: 32 bits of length and flags, 32 bits of the kernel's,
//! the bytes, up to a multiple of 8.
use crate::info::info;
use crate::Map;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The record is still being written.
const BUSY: u32 = 1 << 31;
/// The program gave it up.
const DISCARD: u32 = 1 << 30;
const HEADER: u64 = 8;

/// Pages of the map: unmapped when it is dropped.
#[derive(Debug)]
struct Pages {
    at: NonNull<u8>,
    length: usize,
}

impl Pages {
    fn map(map: &Map, length: usize, protection: libc::c_int, offset: usize) -> io::Result<Pages> {
        let offset = libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: a new mapping at an address of the kernel's choice, over nothing that is there already; the kernel checks
        // length, offset and protection against the map (ringbuf_map_mmap_kern()).
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                protection,
                libc::MAP_SHARED,
                map.as_fd().as_raw_fd(),
                offset,
            )
        };
        match NonNull::new(at.cast::<u8>()) {
            Some(start) if at != libc::MAP_FAILED => Ok(Pages { at: start, length }),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: exactly what mmap(2) gave, once; nothing borrowed from it is left, for records are copied.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.length) };
    }
}

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
        // SAFETY: sysconf(3) reads a constant of the system; it touches no memory of ours.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let page = usize::try_from(page).map_err(|_| invalid())?;
        let data = usize::try_from(size).ok().and_then(|size| size.checked_mul(2)?.checked_add(page));
        let ours = Pages::map(&map, page, libc::PROT_READ | libc::PROT_WRITE, 0)?;
        let theirs = Pages::map(&map, data.ok_or_else(invalid)?, libc::PROT_READ, page)?;
        Ok(Ring { map, ours, theirs, page, size: size.into() })
    }

    /// The next record that is complete; None when there is none yet, or when positions make no sense.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        loop {
            // SAFETY: the mapping begins with our position, page-aligned and alive as long as self; everybody uses it as an
            // atomic 64-bit number (consumer_pos in struct bpf_ringbuf).
            let ours = unsafe { self.ours.at.cast::<AtomicU64>().as_ref() };
            // SAFETY: likewise, with the programs' position (producer_pos).
            let theirs = unsafe { self.theirs.at.cast::<AtomicU64>().as_ref() };
            let at = ours.load(Ordering::Relaxed);
            let waiting = theirs.load(Ordering::Acquire).checked_sub(at)?;
            if waiting < HEADER || waiting > self.size || at % 8 != 0 {
                return None;
            }
            let offset = self.page.checked_add(usize::try_from(at & (self.size - 1)).ok()?)?;
            // SAFETY: `offset` is a page and less than `size`, a multiple of 8: inside the mapping of a page and twice `size`.
            let header = unsafe { self.theirs.at.add(offset) };
            // SAFETY: aligned to 8 bytes, inside the mapping, and used as an atomic 32-bit number by the kernel too
            // (bpf_ringbuf_commit() exchanges it).
            let length = unsafe { header.cast::<AtomicU32>().as_ref() }.load(Ordering::Acquire);
            let bytes = u64::from(length & !(BUSY | DISCARD));
            if length & BUSY != 0 || bytes.checked_add(HEADER)? > waiting {
                return None;
            }
            let count = usize::try_from(bytes).ok()?;
            let mut record = vec![0; count];
            // SAFETY: HEADER + `count` is at most `waiting`, at most `size`: from any offset below `size` that stays inside
            // the data, which is mapped twice. The kernel leaves a complete record alone until our position has passed it.
            let from = unsafe { header.add(HEADER as usize) };
            // SAFETY: as above; the vector has just been made with this length.
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
