// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Frames as one end of a link sends and receives them, and frames of our own put onto it.
use crate::netns::Netns;
use crate::talk::PATIENCE;
use nix::sys::socket::{
    bind, recvfrom, sendto, setsockopt, socket, sockopt, AddressFamily, LinkAddr, MsgFlags, SockFlag,
    SockProtocol, SockType,
};
use nix::sys::time::{TimeVal, TimeValLike};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

/// A packet socket on one device.
pub struct Wire {
    fd: OwnedFd,
    link: LinkAddr,
}

/// A frame that passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Sent from here (true) or received.
    pub sent: bool,
    /// From the Ethernet header on.
    pub bytes: Vec<u8>,
}

const PACKET_OUTGOING: u8 = 4; // linux/if_packet.h

impl Wire {
    /// Listens on `device` of `ns` from now on.
    pub fn tap(ns: &Netns, device: &str) -> Wire {
        ns.within(|| {
            let fd =
                socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)
                    .unwrap();
            let interfaces = nix::ifaddrs::getifaddrs().unwrap();
            let link = interfaces
                .filter(|i| i.interface_name == device)
                .find_map(|i| i.address?.as_link_addr().copied())
                .unwrap_or_else(|| panic!("no device {device}"));
            // Past what the machine allows to others: what does not fit is lost.
            setsockopt(&fd, sockopt::RcvBufForce, &(32 << 20)).unwrap();
            Wire { fd, link }
        })
    }

    /// Puts a frame onto the link.
    pub fn send(&self, frame: &[u8]) {
        sendto(self.fd.as_raw_fd(), frame, &self.link, MsgFlags::empty()).unwrap();
    }

    /// What has passed since the last call, after nothing more came for `quiet_ms` milliseconds.
    pub fn frames(&self, quiet_ms: i64) -> Vec<Frame> {
        setsockopt(&self.fd, sockopt::ReceiveTimeout, &TimeVal::milliseconds(quiet_ms)).unwrap();
        let (mut frames, mut room) = (Vec::new(), vec![0; 1 << 17]);
        while let Ok((length, Some(from))) = recvfrom::<LinkAddr>(self.fd.as_raw_fd(), &mut room) {
            if from.ifindex() == self.link.ifindex() {
                frames
                    .push(Frame { sent: from.pkttype() == PACKET_OUTGOING, bytes: room[..length].to_vec() });
            }
        }
        frames
    }

    /// The next frame of which `wanted` makes something, and that. None if it does not come.
    pub fn next<T>(&self, wanted: impl Fn(&Frame) -> Option<T>) -> Option<T> {
        self.next_for(PATIENCE, wanted)
    }

    /// The same, given up when nothing passes for as long as `patience`.
    pub fn next_for<T>(&self, patience: Duration, wanted: impl Fn(&Frame) -> Option<T>) -> Option<T> {
        let patience = TimeVal::milliseconds(patience.as_millis() as i64);
        setsockopt(&self.fd, sockopt::ReceiveTimeout, &patience).unwrap();
        let mut room = vec![0; 1 << 17];
        while let Ok((length, Some(from))) = recvfrom::<LinkAddr>(self.fd.as_raw_fd(), &mut room) {
            let frame = Frame { sent: from.pkttype() == PACKET_OUTGOING, bytes: room[..length].to_vec() };
            if let Some(found) = wanted(&frame) {
                return Some(found);
            }
        }
        None
    }

    /// Has the socket bound to its device, so that a frame for another one does not even reach it.
    pub fn only(self) -> Wire {
        bind(self.fd.as_raw_fd(), &self.link).unwrap();
        self
    }
}
