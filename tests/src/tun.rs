// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A tun or tap device whose far end is a descriptor: packets written to it arrive there, and what leaves it is read here.
use crate::netns::Netns;
use crate::packet::Packet;
use crate::talk::PATIENCE;
use nix::poll::{poll, PollFd, PollFlags};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::Command;
use std::time::Instant;

/// The open end of a device.
pub struct Tun {
    file: File,
    /// Ethernet frames and not IP packets.
    tap: bool,
    /// Each packet has a header that says what of it is still to be done.
    offload: bool,
}

/// `struct virtio_net_hdr`, linux/virtio_net.h.
const HEADER: usize = 10;
const NEEDS_CSUM: u8 = 1;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;

/// The address that the device's frames are sent to and come from, of a tap.
const FAR: [u8; 6] = [2, 0, 0, 0, 0, 0x51];
const NEAR: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// One ioctl on descriptor 0, which two processes share: TUNSETIFF with name and flags, TUNSETOFFLOAD with what this end can do.
const SET: &str = "import fcntl, struct, sys\n\
     fcntl.ioctl(0, 0x400454ca, struct.pack('16sH22x', sys.argv[1].encode(), int(sys.argv[2], 16)))\n\
     if int(sys.argv[3]): fcntl.ioctl(0, 0x400454d0, int(sys.argv[3]))\n";

impl Tun {
    /// Makes `name` in `ns`, switched off. With `offload` checksums are left to whoever is last, and packets of TCP may be longer
    /// than the device's MTU, both ways.
    pub fn new(ns: &Netns, name: &str, tap: bool, offload: bool) -> Tun {
        // IFF_TUN or IFF_TAP, IFF_NO_PI, IFF_VNET_HDR; TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6.
        let flags = if tap { 0x1002 } else { 0x1001 } | if offload { 0x4000 } else { 0 };
        let can = if offload { "7" } else { "0" };
        ns.within(|| {
            let file = File::options().read(true).write(true).open("/dev/net/tun").expect("/dev/net/tun");
            let mut python = Command::new("python3");
            python.args(["-c", SET, name, &format!("{flags:x}"), can]).stdin(file.try_clone().unwrap());
            let output = python.output().expect("python3");
            assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
            Tun { file, tap, offload }
        })
    }

    /// What the device's address has to be, of a tap.
    pub const ADDRESS: &'static str = "02:00:00:00:00:02";
    /// Where it has to believe all its neighbours to be.
    pub const NEIGHBOUR: &'static str = "02:00:00:00:00:51";

    /// Lets `packet` arrive. With offload its transport checksum is unfinished, and what is longer than `mtu` is to be cut.
    pub fn send(&self, packet: &Packet, mtu: usize) {
        let mut ip = packet.ip();
        let mut header = [0; HEADER];
        let sum = match packet.protocol() {
            6 => Some(16_u16),
            17 => Some(6),
            _ => None, // ICMP has no pseudo header that could be summed before
        };
        if let (true, Some(offset)) = (self.offload, sum) {
            let start = if packet.src.is_ipv4() { 20 } else { 40 };
            let at = start + usize::from(offset);
            ip[at..at + 2].copy_from_slice(&packet.pseudo_sum().to_be_bytes());
            header[0] = NEEDS_CSUM;
            let l2 = if self.tap { 14 } else { 0 };
            header[6..8].copy_from_slice(&((l2 + start) as u16).to_ne_bytes());
            header[8..10].copy_from_slice(&offset.to_ne_bytes());
            if ip.len() > mtu {
                let headers = start + 20;
                header[1] = if packet.src.is_ipv4() { GSO_TCPV4 } else { GSO_TCPV6 };
                header[2..4].copy_from_slice(&((l2 + headers) as u16).to_ne_bytes());
                header[4..6].copy_from_slice(&((mtu - headers) as u16).to_ne_bytes());
            }
        }
        let mut bytes = if self.offload { header.to_vec() } else { Vec::new() };
        if self.tap {
            bytes.extend([NEAR, FAR].concat());
            bytes.extend(if packet.src.is_ipv4() { [8, 0] } else { [0x86, 0xdd] });
        }
        bytes.extend(ip);
        assert_eq!((&self.file).write(&bytes).unwrap(), bytes.len(), "{packet}");
    }

    /// The next packet that leaves and that `wanted` makes something of; its checksums are right, also after what was left to
    /// this end is done. Other IP packets are read and forgotten.
    #[track_caller]
    pub fn next<T>(&self, what: &str, mut wanted: impl FnMut(&Packet) -> Option<T>) -> T {
        let (start, mut room) = (Instant::now(), vec![0; 1 << 17]);
        while start.elapsed() < PATIENCE {
            let mut fds = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
            if poll(&mut fds, 200u16).unwrap() == 0 {
                continue;
            }
            let length = (&self.file).read(&mut room).unwrap();
            let Some(ip) = self.finished(&room[..length]) else { continue };
            let packet = Packet::read_ip(&ip).unwrap_or_else(|fault| panic!("{what}: {fault}"));
            if let Some(found) = wanted(&packet) {
                return found;
            }
        }
        panic!("{what}: nothing came");
    }

    /// The IP packet in what was read, its checksum finished if that was left to us.
    fn finished(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let (header, frame) = bytes.split_at(if self.offload { HEADER } else { 0 });
        let at = if self.tap { 14 } else { 0 };
        if self.tap && ![[8, 0], [0x86, 0xdd]].iter().any(|kind| frame[12..14] == *kind) {
            return None;
        }
        let mut ip = frame[at..].to_vec();
        if header.first().is_some_and(|flags| flags & NEEDS_CSUM != 0) {
            let field = |at| usize::from(u16::from_ne_bytes([header[at], header[at + 1]]));
            let (start, offset) = (field(6) - at, field(8));
            let sum = match crate::packet::checksum(&ip[start..]) {
                0 if offset == 6 => 0xffff,
                sum => sum,
            };
            ip[start + offset..start + offset + 2].copy_from_slice(&sum.to_be_bytes());
        }
        Some(ip)
    }
}
