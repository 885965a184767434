// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A device's name and a question of one number to the answer of its driver, by ioctl(SIOCETHTOOL).
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// include/uapi/linux/sockios.h.
const SIOCETHTOOL: libc::Ioctl = 0x8946;

/// `ETHTOOL_GTXCSUM`: 1 where the device completes transport checksums.
pub const TX_CHECKSUM: u32 = 0x16;
/// `ETHTOOL_GFLAGS`: bits, of which [`FLAG_LRO`] is one.
pub const FLAGS: u32 = 0x25;
/// `ETH_FLAG_LRO`: arriving packets are merged for good.
pub const FLAG_LRO: u32 = 1 << 15;

/// `struct ethtool_value` of include/uapi/linux/ethtool.h.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// `struct ifreq`, of which SIOCETHTOOL reads a name and a pointer.
#[repr(C)]
struct Ifreq {
    name: [u8; 16],
    data: *mut EthtoolValue,
    rest: [u64; 2],
}

/// The number that answers `command`, which has to be one of those above: they all read and write `struct ethtool_value`.
/// `socket` is any socket of the device's network namespace.
///
/// # Errors
/// EOPNOTSUPP where the driver has no such thing, ENODEV, EINVAL for other commands.
pub fn value(socket: BorrowedFd<'_>, device: &str, command: u32) -> io::Result<u32> {
    let mut name = [0; 16];
    let room = name.get_mut(..device.len()).filter(|room| room.len() < 16);
    room.ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(device.as_bytes());
    if ![TX_CHECKSUM, FLAGS].contains(&command) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut value = EthtoolValue { command, data: 0 };
    let mut request = Ifreq { name, data: &raw mut value, rest: [0; 2] };
    // SAFETY: SIOCETHTOOL reads `struct ifreq` (40 bytes, the size of `Ifreq`) and, for the commands let through above,
    // reads and writes the 8 bytes of `struct ethtool_value` that its pointer leads to; both live on this stack.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(value.data)
}
