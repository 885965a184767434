// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Two paths to each other's names, by renameat2(2), which the crates have for glibc only.
use std::ffi::CString;
use std::io;

/// `RENAME_EXCHANGE` (include/uapi/linux/fs.h), Linux 3.15.
const EXCHANGE: libc::c_uint = 2;

/// Each gets the other's name, in one step.
pub fn exchange(one: &str, other: &str) -> io::Result<()> {
    let (one, other) = (CString::new(one)?, CString::new(other)?);
    // SAFETY: renameat2(2) reads two strings up to their NULs; both are CStrings that live until after the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_renameat2,
            libc::AT_FDCWD,
            one.as_ptr(),
            libc::AT_FDCWD,
            other.as_ptr(),
            EXCHANGE,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
