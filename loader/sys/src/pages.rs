// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A part of a map to pages of memory that are shared with the kernel's programs, until they are dropped.
use crate::Map;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, AtomicU8};

/// Bytes in a page.
pub fn page_size() -> io::Result<usize> {
    // SAFETY: sysconf(3) reads a constant of the system; it touches no memory of ours.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(page).ok().filter(|page| page.is_power_of_two()).ok_or(io::ErrorKind::InvalidInput.into())
}

/// Pages of the map: unmapped when it is dropped.
#[derive(Debug)]
pub struct Pages {
    at: NonNull<u8>,
    length: usize,
}

impl Pages {
    /// Maps `length` bytes from `offset` on, shared with the kernel.
    pub fn map(map: &Map, length: usize, protection: libc::c_int, offset: usize) -> io::Result<Pages> {
        let offset = libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: a new mapping at an address of the kernel's choice, over nothing that is there already; the kernel checks
        // length, offset and protection against the map (bpf_map_mmap(), ringbuf_map_mmap_kern(), array_map_mmap()).
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

impl Pages {
    /// The number `at` bytes from the beginning, as everybody shares it; None where none of this size and alignment lies.
    pub fn cell<T: Atomic>(&self, at: usize) -> Option<&T> {
        let cell = self.inside(at, size_of::<T>())?.cast::<T>();
        if at % align_of::<T>() != 0 {
            return None;
        }
        // SAFETY: inside the mapping, which is there as long as self, and aligned, as it begins at a page. Every bit pattern is
        // a number, and this process uses these bytes as atomic numbers only; what programs do to them is beyond it.
        Some(unsafe { cell.as_ref() })
    }

    /// Where `length` bytes from `at` on begin; None where they do not lie inside.
    pub fn inside(&self, at: usize, length: usize) -> Option<NonNull<u8>> {
        at.checked_add(length).filter(|end| *end <= self.length)?;
        // SAFETY: `at` is at most `length`, so it stays in the mapping, or one past its end.
        Some(unsafe { self.at.add(at) })
    }
}

/// Numbers that may lie there.
pub trait Atomic {}
impl Atomic for AtomicU8 {}
impl Atomic for AtomicU16 {}
impl Atomic for AtomicU32 {}
impl Atomic for AtomicU64 {}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: exactly what mmap(2) gave, once; nothing borrowed from it is left: what is in it is copied.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.length) };
    }
}
