// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The file in which the running kernel shows its types to a slice of that very memory.
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

/// Where the running kernel shows its types. No other file is ever mapped: this one cannot change or get shorter.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// The kernel's own BTF, mapped: neither copied nor, being the kernel's memory, counted as ours.
#[derive(Debug)]
pub struct KernelTypes {
    start: NonNull<u8>,
    length: usize,
}

impl KernelTypes {
    /// Maps it.
    ///
    /// # Errors
    /// ENODEV before Linux 6.16: the file can only be read, a page at a time.
    pub fn map() -> io::Result<KernelTypes> {
        let file = File::open(VMLINUX)?;
        let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        // SAFETY: mmap(2) with no address chooses a free place, so no memory of ours is touched. The mapping outlives the
        // descriptor.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ, libc::MAP_PRIVATE, file.as_raw_fd(), 0)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(KernelTypes { start, length })
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `length` bytes are mapped at `start` until `self` is dropped, which the borrow forbids. They are the section
        // .BTF of the running kernel, which is read-only and stays as long as the kernel does
        // (btf_sysfs_vmlinux_mmap() in kernel/bpf/sysfs_btf.c).
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl Drop for KernelTypes {
    fn drop(&mut self) {
        // SAFETY: exactly what mmap(2) gave, and nobody holds a slice of it any more. It cannot fail for that.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}
