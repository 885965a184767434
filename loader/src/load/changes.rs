// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Whether devices or addresses of the namespace have changed: rtnetlink's multicast groups, read and counted, no more.
use crate::load::netlink::NetlinkError;
use netlink_sys::{protocols::NETLINK_ROUTE, Socket, SocketAddr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR of include/uapi/linux/rtnetlink.h.
const GROUPS: u32 = 0x1 | 0x10 | 0x100;

/// A socket that hears of changes.
#[derive(Debug)]
pub struct Changes(Socket);

impl Changes {
    /// In the network namespace of this thread.
    pub fn open() -> Result<Changes, NetlinkError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind(&SocketAddr::new(0, GROUPS))?;
            socket.set_non_blocking(true)?;
            Ok(Changes(socket))
        };
        open().map_err(|error: io::Error| NetlinkError::io("NETLINK_ROUTE groups", &error))
    }

    /// Whether anything has changed since it was asked last. What it was, facts tell, read anew; lost messages (ENOBUFS) are
    /// changes as well.
    pub fn any(&self) -> bool {
        let mut changed = false;
        loop {
            // Cut off is enough: nobody reads what it says.
            let mut some = Vec::with_capacity(16);
            match self.0.recv(&mut some, 0) {
                Ok(_) => changed = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return changed,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return true,
            }
        }
    }
}

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
