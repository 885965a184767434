// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Two taps of one gateway, `up` on the first: what is written into either passes the hook and comes out of the other, so that a
//! packet can come to the programs in any state of a kernel's buffer, and is seen as it leaves them.
use crate::detour::up;
use crate::family::Family;
use crate::lab::{ip, GATEWAY, GATEWAY6, SECOND};
use crate::netns::Netns;
use crate::packet::{Inner, Packet};
use crate::quote::Talk;
use crate::talk::PATIENCE;
use crate::tun::{Kind, Left, Tun};
use detour_sys::{call, commands, Value};
use std::os::fd::AsFd;
use std::time::Duration;

/// A gateway and its two devices.
pub struct Taps {
    /// Has the usual addresses.
    pub gateway: Netns,
    /// The device with the programs: what is written here arrives, and comes out of the other one.
    pub near: Tun,
    /// What is written here leaves through the first.
    pub far: Tun,
}

/// Which of the two programs a frame passes, and where it comes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// At ingress.
    In,
    /// At egress.
    Out,
    /// At ingress, from where it goes back through the device.
    Back,
}

/// Drops a frame unless exactly as many bytes of it lie where programs read them as the two bytes behind its sender's first two
/// say: r2 = data; r3 = data_end; r4 = r2 + 14; if r4 > r3 drop; r5 = the two bytes; r3 -= r2; r0 = -1; if r3 == r5 exit.
const LINEAR: [[u8; 8]; 11] = [
    [0x61, 0x12, 76, 0, 0, 0, 0, 0],
    [0x61, 0x13, 80, 0, 0, 0, 0, 0],
    [0xbf, 0x24, 0, 0, 0, 0, 0, 0],
    [0x07, 0x04, 0, 0, 14, 0, 0, 0],
    [0x2d, 0x34, 4, 0, 0, 0, 0, 0],
    [0x69, 0x25, 8, 0, 0, 0, 0, 0],
    [0x1f, 0x23, 0, 0, 0, 0, 0, 0],
    [0xb7, 0x00, 0, 0, 0xff, 0xff, 0xff, 0xff],
    [0x1d, 0x53, 1, 0, 0, 0, 0, 0],
    [0xb7, 0x00, 0, 0, 2, 0, 0, 0],
    [0x95, 0x00, 0, 0, 0, 0, 0, 0],
];

impl Taps {
    /// Both are alike; the one has `rules`.
    pub fn new(kind: Kind, rules: &[&str]) -> Taps {
        let rules: Vec<&str> = rules.iter().flat_map(|rule| ["--rule", rule]).collect();
        Taps::with(kind, &rules)
    }

    /// The same with options of `up`.
    pub fn with(kind: Kind, options: &[&str]) -> Taps {
        let gateway = Netns::new();
        let [near, far] = ["near", "far"].map(|name| Tun::of(&gateway, name, Kind { tap: true, ..kind }));
        // Nothing of its own leaves the second.
        gateway.sysctl("net/ipv6/conf/far/disable_ipv6", "1");
        ip(
            &gateway,
            &format!(
                "link set near address {}
                 address add {GATEWAY}/24 dev near
                 address add {SECOND}/24 dev near
                 address add {GATEWAY6}/64 dev near nodad
                 link set near up
                 link set far up",
                Tun::ADDRESS
            ),
        );
        // Where they are is known, so that nobody asks and no packet waits.
        for family in Family::BOTH {
            for address in [family.client(), family.neighbour()] {
                let line =
                    format!("neighbour add {address} lladdr {} dev near nud permanent", Tun::NEIGHBOUR);
                ip(&gateway, &line);
            }
        }
        up(&gateway, "near", options);
        gateway.run("tc", &["qdisc", "add", "dev", "far", "clsact"]);
        for (from, to) in [("near", "far"), ("far", "near")] {
            let line = format!(
                "filter add dev {from} ingress prio 300 protocol all u32 match u32 0 0 action mirred egress redirect dev {to}"
            );
            gateway.run("tc", &line.split(' ').collect::<Vec<_>>());
        }
        Taps { gateway, near, far }
    }

    /// From now on a frame passes only if it lies in the kernel's buffer as it was written.
    pub fn witness(&self) {
        self.gateway.within(|| {
            let code = LINEAR.concat();
            let program = [
                ("prog_type", Value::Num(3)), // BPF_PROG_TYPE_SCHED_CLS
                ("insns", Value::Bytes(&code)),
                ("license", Value::Text("GPL")),
                ("prog_name", Value::Text("linear")),
            ];
            let program = call(&commands::PROG_LOAD, &program).unwrap_or_else(|(error, _)| panic!("{error}"));
            let program = program.fd.expect("a program");
            let pin =
                [("pathname", Value::Text("/sys/fs/bpf/linear")), ("bpf_fd", Value::Fd(program.as_fd()))];
            call(&commands::OBJ_PIN, &pin).unwrap_or_else(|(error, _)| panic!("{error}"));
        });
        for device in ["near", "far"] {
            // What parses headers for itself brings them into the linear part.
            self.gateway.run("ethtool", &["-K", device, "gro", "off"]);
            let line = format!("filter add dev {device} ingress prio 1 bpf da pinned /sys/fs/bpf/linear");
            self.gateway.run("tc", &line.split(' ').collect::<Vec<_>>());
        }
    }

    /// Writes a frame, the IP packet behind an Ethernet header, cut into pieces that end where `cuts` say.
    pub fn write(&self, way: Way, left: &Left, ip: &[u8], cuts: &[usize]) {
        let linear = cuts.first().copied().unwrap_or(14 + ip.len());
        self.write_as(linear, way, left, ip, cuts);
    }

    /// The same with a header that says that so many bytes lie in a row.
    pub fn write_as(&self, linear: usize, way: Way, left: &Left, ip: &[u8], cuts: &[usize]) {
        let linear = linear as u16;
        let kind = if ip[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
        let frame = [&[2, 0, 0, 0, 0, 2, 2, 0][..], &linear.to_ne_bytes(), &[0, 0x51], &kind, ip].concat();
        let into = if way == Way::Out { &self.far } else { &self.near };
        into.write(left, &frame, cuts);
    }

    /// The next IP packet that comes out, and what is left of it. None if nothing does for so long.
    pub fn read(&self, way: Way, patience: Duration) -> Option<(Left, Vec<u8>)> {
        let from = if way == Way::In { &self.far } else { &self.near };
        loop {
            let (left, mut frame) = from.read(patience)?;
            // What the kernel itself tells groups and neighbours is none of ours.
            let own = |packet: &Packet| {
                packet.dst.is_multicast() || matches!(packet.inner, Inner::Icmp { kind: 130..=143, .. })
            };
            if Packet::read_loosely(&frame).is_ok_and(|packet| !own(&packet)) {
                return Some((left, frame.split_off(14)));
            }
        }
    }

    /// Writes a packet cut like that, and what comes out is `expected`, to the byte.
    #[track_caller]
    pub fn makes(&self, way: Way, ip: &[u8], cuts: &[usize], expected: &[u8]) {
        self.write(way, &Left::default(), ip, cuts);
        let Some((_, seen)) = self.read(way, PATIENCE) else {
            panic!("{way:?}, cut at {cuts:?}: nothing came of {ip:02x?}");
        };
        assert_eq!(
            seen, expected,
            "{way:?}, cut at {cuts:?}\n got {seen:02x?}\nwant {expected:02x?}\nfrom {ip:02x?}"
        );
    }

    /// The conversation's first packet, of which `left` says what is left to do, becomes one of the gateway's to a server on the
    /// client's own segment, with a port that its clients do not use: the conversation as it goes on.
    #[track_caller]
    pub fn masquerades(&self, talk: Talk, left: impl Fn(&Packet) -> (Left, Vec<u8>)) -> Talk {
        let (unfinished, ip) = left(&talk.asked);
        self.write(Way::Back, &unfinished, &ip, &[]);
        let Some((left, ip)) = self.read(Way::Back, PATIENCE) else {
            panic!("nothing came of {}", talk.asked);
        };
        let mut frame = [&[0; 14][..], &ip].concat();
        left.finish(&mut frame);
        let seen = Packet::read(&frame).unwrap_or_else(|fault| panic!("{}: {fault}", talk.asked));
        let port = seen.from_port();
        assert!(port >= 61000, "{seen}");
        let talk = talk.masqueraded(port);
        assert_eq!(seen, talk.served);
        talk
    }
}
