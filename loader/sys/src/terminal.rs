// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A terminal to its size in characters, by ioctl(TIOCGWINSZ).
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Lines and columns; either may be 0, where nobody has said so.
///
/// # Errors
/// ENOTTY.
pub fn size(terminal: BorrowedFd<'_>) -> io::Result<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one `struct winsize`, which lives on this stack.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((size.ws_row, size.ws_col))
}
