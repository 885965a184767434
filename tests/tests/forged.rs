// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What who forges source addresses, and sees no answer, can do; and what the mark that detour puts on its own answers lets a
//! local sender do.
use e2e::bench::Bench;
use e2e::detour::{json, up};
use e2e::family::Family;
use e2e::lab::Lab;
use e2e::packet::{Packet, ACK, SYN};
use e2e::talk;
use e2e::testrun::{Program, Sums, UNSPEC};
use nix::sys::socket::{setsockopt, sockopt};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Command;

/// Somebody who never spoke: one for each `n`, over IPv6 each in a network of its own.
fn nobody(family: Family, n: u16) -> SocketAddr {
    let four = Ipv4Addr::new(203, 0, (113 + (n >> 8)) as u8, n as u8);
    SocketAddr::new(family.pick(four.into(), Ipv6Addr::new(0x2001, 0xdb8, 0xbad, n, 0, 0, 0, 9).into()), 4000)
}

/// A lab that is up, and what goes through its programs.
struct Scene {
    bench: Bench,
    family: Family,
}

impl Scene {
    fn new(family: Family, options: &[&str]) -> Scene {
        let lab = Lab::new();
        let rules = ["--rule", "udp dport 53 redirect", "--rule", "tcp dport 80 redirect"];
        up(&lab.gateway, &lab.device, &[&rules, options].concat());
        Scene { bench: Bench { lab }, family }
    }

    /// Where the server sees the packet come from, if it does.
    fn arrives(&self, program: &Program<'_>, packet: &Packet) -> Option<SocketAddr> {
        let outcome = program.run(&packet.frame(), Sums::None);
        let (from, to) = Packet::read(&outcome.frame).unwrap().ends();
        (outcome.verdict == UNSPEC && to.ip() == self.family.gateway()).then_some(from)
    }

    /// A datagram, the server's answer, which whoever forged the first does not see, and another datagram.
    fn twice(&self, from: SocketAddr) -> bool {
        let (ingress, egress) = (self.bench.program("ingress"), self.bench.program("egress"));
        let asked = Packet::udp(from, SocketAddr::new(self.family.far(), 53)).payload(b"who?");
        let Some(at_server) = self.arrives(&ingress, &asked) else { return false };
        let answer = Packet::udp(SocketAddr::new(self.family.gateway(), 53), at_server);
        assert_eq!(egress.run(&answer.frame(), Sums::None).verdict, UNSPEC);
        self.arrives(&ingress, &asked).is_some()
    }

    /// How many flows are in that state.
    fn count(&self, state: &str) -> usize {
        let flows = json(&self.bench.lab.gateway, &["flows", &self.bench.lab.device]);
        flows["flows"].as_array().unwrap().iter().filter(|flow| flow["state"] == state).count()
    }
}

/// What a client under another's name cannot do is acknowledge what it never saw: that takes luck, 2^20 in 2^32.
#[test]
fn forged_syns_confirm_nothing() {
    for family in Family::BOTH {
        let scene = Scene::new(family, &[]);
        let (ingress, egress) = (scene.bench.program("ingress"), scene.bench.program("egress"));
        let far = SocketAddr::new(family.far(), 80);
        // The server's sequence number, as all packets here have it, and one for the SYN.
        let expected: u32 = 0x0102_0305;
        let guesses = [expected.wrapping_sub(1), expected + (1 << 20), 0, expected, expected + (1 << 20) - 1];
        for (n, guess) in (0..).zip(guesses) {
            let from = nobody(family, n);
            let at_server = scene.arrives(&ingress, &Packet::tcp(from, far, SYN)).expect("translated");
            let answer = Packet::tcp(SocketAddr::new(family.gateway(), 80), at_server, SYN | ACK);
            assert_eq!(egress.run(&answer.frame(), Sums::None).verdict, UNSPEC);
            scene.arrives(&ingress, &Packet::tcp(from, far, ACK).acknowledging(guess)).expect("translated");
        }
        assert_eq!((scene.count("answered"), scene.count("confirmed")), (3, 2), "{family:?}");
    }
}

/// UDP has nothing that only the client knows, so two datagrams under anybody's name confirm a flow where a server answers. A
/// limit bounds what one address takes; who forges them all fills the table for the idle time, and then those
/// that talked before go on, and new ones live half-open.
#[test]
fn forged_datagrams_confirm_flows_as_far_as_limits_go() {
    for family in Family::BOTH {
        let limited = Scene::new(family, &["--client-live", "3"]);
        for (name, port) in (0..2).flat_map(|name| (0..10).map(move |port| (name, port))) {
            let from = SocketAddr::new(nobody(family, name).ip(), 4000 + port);
            assert_eq!(limited.twice(from), port < 3, "{from}");
        }
        assert_eq!(limited.count("confirmed"), 2 * 3, "{family:?}");

        // IPv6 has a quarter of the slots.
        let full = Scene::new(family, &["--flows-max", family.pick("16", "64")]);
        let early = SocketAddr::new(family.client(), 5000);
        assert!(full.twice(early));
        assert!(
            (0..100).all(|n| full.twice(nobody(family, n))),
            "{family:?}: each finds a slot, or half of one"
        );
        assert_eq!(full.count("confirmed"), 16, "{family:?}");
        assert!(full.twice(SocketAddr::new(family.client(), 5001)), "{family:?}: a new one is served");
        let ingress = full.bench.program("ingress");
        let asked = Packet::udp(early, SocketAddr::new(family.far(), 53));
        assert_eq!(full.arrives(&ingress, &asked), Some(early), "{family:?}: who was there goes on");
        assert_eq!(full.count("confirmed"), 16, "{family:?}");
    }
}

/// What `ebpf-src/maps.h` calls OURS.
const MARK: u32 = 0x6465_7472;

#[test]
fn a_packet_with_our_mark_leaves_as_its_sender_made_it() {
    for family in Family::BOTH {
        let lab = Lab::new();
        up(&lab.gateway, &lab.device, &[]);
        let far = SocketAddr::new(family.far(), 53);
        let own: IpAddr = family.gateway();
        let socket = talk::udp_for(&lab.client, family, 4000);
        let server = talk::udp_for(&lab.gateway, family, 53);
        for (mark, heard) in [(0, far.ip()), (7, far.ip()), (MARK, own), (0, far.ip())] {
            socket.send_to(b"who?", far).unwrap();
            let (_, peer) = talk::next(&server).unwrap();
            lab.gateway.within(|| setsockopt(&server, sockopt::Mark, &mark)).unwrap();
            server.send_to(b"I", peer).unwrap();
            assert_eq!(talk::next(&socket).unwrap().1.ip(), heard, "{family:?}, mark {mark:#x}");
        }
    }
    let nobody = ["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "python3", "-c"];
    let marks =
        format!("import socket as s; s.socket(s.AF_INET, s.SOCK_DGRAM).setsockopt(s.SOL_SOCKET, 36, {MARK})");
    let output = Lab::new().gateway.output(Command::new("setpriv").args(nobody).arg(marks));
    assert!(String::from_utf8_lossy(&output.stderr).contains("Operation not permitted"), "{output:?}");
}
