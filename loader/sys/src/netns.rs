// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A socket to the number of its network namespace.
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// include/uapi/asm-generic/socket.h.
const SO_NETNS_COOKIE: libc::c_int = 71;

/// The cookie of the network namespace that `socket` lives in: never used again before a reboot, unlike the inode number.
///
/// # Errors
/// ENOPROTOOPT before Linux 5.14.
pub fn netns_cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: getsockopt(2) writes at most `length` bytes, which is the size of `cookie`, and then the length itself; both
    // live on this stack during the call. A descriptor that is no socket makes it fail with ENOTSOCK.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(cookie)
    } else {
        Err(io::Error::last_os_error())
    }
}
