// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Folders to a Landlock ruleset (Linux 5.13): from then on this thread changes files in them only.
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// System calls 444 to 446, the same on every architecture (include/uapi/asm-generic/unistd.h).
const CREATE_RULESET: libc::c_long = 444;
const ADD_RULE: libc::c_long = 445;
const RESTRICT_SELF: libc::c_long = 446;
/// include/uapi/linux/landlock.h.
const CREATE_RULESET_VERSION: libc::c_uint = 1;
const RULE_PATH_BENEATH: libc::c_int = 1;

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneath {
    allowed_access: u64,
    parent_fd: i32,
}

/// The version of Landlock that this kernel has.
///
/// # Errors
/// ENOSYS and EOPNOTSUPP where there is none.
pub fn version() -> io::Result<u32> {
    // SAFETY: without attribute, of size 0, landlock_create_ruleset(2) reads and writes no memory and returns a number.
    let result =
        unsafe { libc::syscall(CREATE_RULESET, std::ptr::null::<u64>(), 0_usize, CREATE_RULESET_VERSION) };
    u32::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// A ruleset that forbids these accesses (`LANDLOCK_ACCESS_FS_…`), but for what [`allow`] adds.
///
/// # Errors
/// EINVAL for an access that this version does not know.
pub fn ruleset(forbidden: u64) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads as many bytes of `struct landlock_ruleset_attr` as it is told: its first field, a u64 that
    // lives on this stack; it writes nothing.
    let result =
        unsafe { libc::syscall(CREATE_RULESET, &raw const forbidden, size_of::<u64>(), 0 as libc::c_uint) };
    match i32::try_from(result) {
        // SAFETY: the call returned this descriptor just now, so it is open and nobody else owns it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// These of the forbidden accesses are allowed in `folder` and below.
///
/// # Errors
/// EINVAL for an access that the ruleset does not forbid.
pub fn allow(ruleset: BorrowedFd<'_>, folder: BorrowedFd<'_>, accesses: u64) -> io::Result<()> {
    let rule = PathBeneath { allowed_access: accesses, parent_fd: folder.as_raw_fd() };
    // SAFETY: for RULE_PATH_BENEATH the kernel reads a `struct landlock_path_beneath_attr`, packed as here, which lives on this
    // stack; it writes nothing. Both descriptors are borrowed.
    let result = unsafe {
        libc::syscall(ADD_RULE, ruleset.as_raw_fd(), RULE_PATH_BENEATH, &raw const rule, 0 as libc::c_uint)
    };
    done(result)
}

/// The ruleset holds for this thread, for good.
///
/// # Errors
/// EPERM without no_new_privs.
pub fn restrict(ruleset: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: landlock_restrict_self(2) takes a descriptor, which is borrowed, and no memory.
    done(unsafe { libc::syscall(RESTRICT_SELF, ruleset.as_raw_fd(), 0 as libc::c_uint) })
}

fn done(result: libc::c_long) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
