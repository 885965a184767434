// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A tun or tap device whose far end is a descriptor: packets written to it arrive there, and what leaves it is read here.
use crate::netns::Netns;
use crate::packet::{checksum, Packet};
use crate::talk::PATIENCE;
use nix::poll::{poll, PollFd, PollFlags};
use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::os::fd::AsFd;
use std::process::Command;
use std::time::{Duration, Instant};

/// What a device and its open end are like.
#[derive(Clone, Copy, Default)]
pub struct Kind {
    /// Ethernet frames and not IP packets.
    pub tap: bool,
    /// Each packet has a header that says what of it is still to be done, see [`Left`].
    pub header: bool,
    /// Of a packet that is written in pieces only the first lies where headers are looked for, each other one is a fragment
    /// of the kernel's buffer (IFF_NAPI_FRAGS). Of a tap.
    pub pieces: bool,
    /// What this end can do: [`SUMS`], [`SEGMENTS`].
    pub can: u32,
}

/// TUN_F_CSUM: it finishes checksums.
pub const SUMS: u32 = 1;
/// TUN_F_TSO4, TUN_F_TSO6, TUN_F_USO4, TUN_F_USO6: it cuts what is longer than the MTU.
pub const SEGMENTS: u32 = 0x66;

/// The open end of a device.
pub struct Tun {
    file: File,
    kind: Kind,
}

const HEADER: usize = 10;
const NEEDS_CSUM: u8 = 1;

/// `struct virtio_net_hdr` (linux/virtio_net.h): what of a packet is left to whoever is last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// VIRTIO_NET_HDR_F_NEEDS_CSUM or VIRTIO_NET_HDR_F_DATA_VALID.
    pub flags: u8,
    /// How it is cut: 1 TCPv4, 4 TCPv6, 5 UDP.
    pub gso: u8,
    /// Bytes of headers; a hint.
    pub headers: u16,
    /// Bytes of payload in each packet that it is cut into.
    pub size: u16,
    /// Where what is summed begins.
    pub start: u16,
    /// Where the sum is, from there.
    pub offset: u16,
}

impl Left {
    /// Of `packet`, behind `before` bytes, everything that can be left is left; where that is cut into payloads of `size` bytes,
    /// the cutting, too. And its bytes as they are then, from the IP header on.
    pub fn all(packet: &Packet, before: usize, size: Option<usize>) -> (Left, Vec<u8>) {
        let mut ip = packet.ip();
        let four = packet.src.is_ipv4();
        let start = if four { 20 + packet.options.len() } else { 40 };
        let (gso, offset, header) = match (packet.protocol(), four) {
            (6, true) => (1, 16, usize::from(ip[start + 12] >> 4) * 4),
            (6, false) => (4, 16, usize::from(ip[start + 12] >> 4) * 4),
            (17, _) => (5, 6, 8),
            _ => return (Left::default(), ip), // ICMP has no pseudo header that could be summed before
        };
        let at = start + offset;
        ip[at..at + 2].copy_from_slice(&packet.pseudo_sum().to_be_bytes());
        let mut left = Left {
            flags: NEEDS_CSUM,
            start: (before + start) as u16,
            offset: offset as u16,
            ..Left::default()
        };
        if let Some(size) = size {
            (left.gso, left.size, left.headers) = (gso, size as u16, (before + start + header) as u16);
        }
        (left, ip)
    }

    fn bytes(&self) -> [u8; HEADER] {
        let words = [self.headers, self.size, self.start, self.offset].map(u16::to_ne_bytes).concat();
        [&[self.flags, self.gso][..], &words].concat().try_into().unwrap()
    }

    fn read(bytes: &[u8]) -> Left {
        let word = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        Left {
            flags: bytes[0],
            gso: bytes[1],
            headers: word(2),
            size: word(4),
            start: word(6),
            offset: word(8),
        }
    }

    /// Finishes the checksum of a frame if that was left to us.
    pub fn finish(&self, frame: &mut [u8]) {
        if self.flags & NEEDS_CSUM != 0 {
            let (start, at) = (usize::from(self.start), usize::from(self.start + self.offset));
            let sum = match checksum(&frame[start..]) {
                0 if self.offset == 6 => 0xffff,
                sum => sum,
            };
            frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
    }
}

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
        // TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6.
        Tun::of(ns, name, Kind { tap, header: offload, can: if offload { 7 } else { 0 }, pieces: false })
    }

    /// Makes `name` in `ns`, switched off.
    pub fn of(ns: &Netns, name: &str, kind: Kind) -> Tun {
        // IFF_TUN or IFF_TAP, IFF_NO_PI, IFF_VNET_HDR, IFF_NAPI and IFF_NAPI_FRAGS.
        let flags = [(kind.tap, 1), (true, 0x1001), (kind.header, 0x4000), (kind.pieces, 0x30)];
        let flags: u32 = flags.iter().filter(|(on, _)| *on).map(|(_, flag)| flag).sum();
        ns.within(|| {
            let file = File::options().read(true).write(true).open("/dev/net/tun").expect("/dev/net/tun");
            let mut python = Command::new("python3");
            let arguments = ["-c", SET, name, &format!("{flags:x}"), &kind.can.to_string()];
            python.args(arguments).stdin(file.try_clone().unwrap());
            let output = python.output().expect("python3");
            assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
            Tun { file, kind }
        })
    }

    /// What the device's address has to be, of a tap.
    pub const ADDRESS: &'static str = "02:00:00:00:00:02";
    /// Where it has to believe all its neighbours to be.
    pub const NEIGHBOUR: &'static str = "02:00:00:00:00:51";

    /// Lets `packet` arrive. With offload its transport checksum is unfinished, and what is longer than `mtu` is to be cut.
    pub fn send(&self, packet: &Packet, mtu: usize) {
        let before = if self.kind.tap { 14 } else { 0 };
        let (left, ip) = if self.kind.header {
            let long = packet.ip().len() > mtu;
            let headers = if packet.src.is_ipv4() { 40 } else { 60 };
            Left::all(packet, before, long.then_some(mtu - headers))
        } else {
            (Left::default(), packet.ip())
        };
        let ethernet =
            [&[NEAR, FAR].concat()[..], if packet.src.is_ipv4() { &[8, 0] } else { &[0x86, 0xdd] }];
        self.write(&left, &[&ethernet.concat()[..before], &ip].concat(), &[]);
    }

    /// Lets a frame arrive, cut into pieces that end where `cuts` say.
    pub fn write(&self, left: &Left, frame: &[u8], cuts: &[usize]) {
        let header = left.bytes();
        let mut pieces = if self.kind.header { vec![IoSlice::new(&header)] } else { Vec::new() };
        let ends = cuts.iter().copied().chain([frame.len()]);
        let begins = [0].into_iter().chain(cuts.iter().copied());
        pieces.extend(begins.zip(ends).map(|(from, to)| IoSlice::new(&frame[from..to])));
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        let written = (&self.file).write_vectored(&pieces);
        assert_eq!(written.unwrap_or_else(|error| panic!("{cuts:?} {error}")), length, "{frame:02x?}");
    }

    /// The next frame that leaves, and what of it is left to this end. None after `patience`.
    pub fn read(&self, patience: Duration) -> Option<(Left, Vec<u8>)> {
        let mut fds = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, patience.as_millis() as u16).unwrap() == 0 {
            return None;
        }
        let mut room = vec![0; 1 << 17];
        let length = (&self.file).read(&mut room).unwrap();
        let (header, frame) = room[..length].split_at(if self.kind.header { HEADER } else { 0 });
        let left = if self.kind.header { Left::read(header) } else { Left::default() };
        Some((left, frame.to_vec()))
    }

    /// The next packet that leaves and that `wanted` makes something of; its checksums are right, also after what was left to
    /// this end is done. Other IP packets are read and forgotten.
    #[track_caller]
    pub fn next<T>(&self, what: &str, wanted: impl FnMut(&Packet) -> Option<T>) -> T {
        self.next_for(PATIENCE, what, wanted).unwrap_or_else(|| panic!("{what}: nothing came"))
    }

    /// The same, given up after `patience`.
    #[track_caller]
    pub fn next_for<T>(
        &self,
        patience: Duration,
        what: &str,
        mut wanted: impl FnMut(&Packet) -> Option<T>,
    ) -> Option<T> {
        let start = Instant::now();
        while let Some(rest) = patience.checked_sub(start.elapsed()) {
            let Some((left, mut frame)) = self.read(rest) else { continue };
            left.finish(&mut frame);
            let at = if self.kind.tap { 14 } else { 0 };
            if self.kind.tap && ![[8, 0], [0x86, 0xdd]].iter().any(|kind| frame[12..14] == *kind) {
                continue;
            }
            let packet = Packet::read_ip(&frame[at..]).unwrap_or_else(|fault| panic!("{what}: {fault}"));
            if let Some(found) = wanted(&packet) {
                return Some(found);
            }
        }
        None
    }
}
