// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A lab that is up to packets that run through its two programs, each compared with the packet that has to come out.
use crate::detour::up;
use crate::lab::{Lab, CLIENT};
use crate::packet::Packet;
use crate::quote::Talk;
use crate::testrun::{Outcome, Program, Sums, REDIRECT, SHOT, UNSPEC};
use crate::tools;
use detour_sys::{call, commands, Map, Value};
use std::net::{Ipv4Addr, SocketAddrV4};

/// Nobody here.
pub const FAR: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 34);

/// A lab that is up, and its two programs.
pub struct Bench {
    /// Client and gateway.
    pub lab: Lab,
}

impl Bench {
    /// The usual lab with `rules`.
    pub fn new(rules: &[&str]) -> Bench {
        Bench::on(Lab::new(), rules)
    }

    /// `lab` with `rules`.
    pub fn on(lab: Lab, rules: &[&str]) -> Bench {
        let arguments: Vec<&str> = rules.iter().flat_map(|rule| ["--rule", rule]).collect();
        up(&lab.gateway, &lab.device, &arguments);
        Bench { lab }
    }

    /// The program at `ingress` or `egress`.
    pub fn program(&self, hook: &str) -> Program<'_> {
        let filters = tools::filters(&self.lab.gateway, &self.lab.device, hook);
        Program::by_id(&self.lab.gateway, filters[0]["options"]["prog"]["id"].as_u64().expect("a program"))
    }

    /// The map `name` of the instance, by its pin.
    pub fn map(&self, name: &str) -> Map {
        self.lab.gateway.within(|| {
            let devices = std::fs::read_dir("/sys/fs/bpf/detour").expect("an instance");
            let device = devices.flatten().next().expect("one device").path();
            let path = device.join("up").join(format!("map_{name}"));
            let path = path.to_str().expect("a path");
            let answer = call(&commands::OBJ_GET, &[("pathname", Value::Text(path))]);
            let fd = answer.unwrap_or_else(|(error, _)| panic!("{path}: {error}")).fd.expect("a descriptor");
            Map::from_fd(fd).expect("a map")
        })
    }

    /// Runs `scene(port, in, out)` with each way of summing, a fresh client port each time.
    pub fn scenes(&self, scene: impl Fn(u16, &Hook<'_>, &Hook<'_>)) {
        let (ingress, egress) = (self.program("ingress"), self.program("egress"));
        for (n, sums) in [Sums::None, Sums::Complete].into_iter().enumerate() {
            let hook = |program| Hook { program, sums };
            scene(4000 + 1000 * n as u16, &hook(&ingress), &hook(&egress));
        }
    }
}

/// A program and how packets come to it.
pub struct Hook<'a> {
    /// What runs.
    pub program: &'a Program<'a>,
    /// How packets come.
    pub sums: Sums,
}

impl Hook<'_> {
    /// The packet comes out as `expected`, which is another one.
    #[track_caller]
    pub fn rewrites(&self, packet: &Packet, expected: &Packet) {
        assert_ne!(packet.frame(), expected.frame(), "{packet}: this would show nothing");
        let outcome = self.program.run(&packet.frame(), self.sums);
        assert_eq!(outcome.verdict, UNSPEC, "{packet}");
        if outcome.frame != expected.frame() {
            let read = Packet::read(&outcome.frame);
            panic!("{packet} ({:?})\n got {read:?}\nwant {expected:?}", self.sums);
        }
    }

    /// The frame passes as it is.
    #[track_caller]
    pub fn passes(&self, what: &str, frame: &[u8]) {
        let outcome = self.program.run(frame, self.sums);
        assert_eq!(outcome, Outcome { verdict: UNSPEC, frame: frame.to_vec() }, "{what} ({:?})", self.sums);
    }

    /// The packet becomes `answer`, which goes back through the device.
    #[track_caller]
    pub fn answers(&self, packet: &Packet, answer: &Packet) {
        let outcome = self.program.run(&packet.frame(), self.sums);
        let expected = Outcome { verdict: REDIRECT, frame: answer.frame() };
        if outcome != expected {
            let read = Packet::read(&outcome.frame);
            panic!("{packet} ({:?}, {})\n got {read:?}\nwant {answer:?}", self.sums, outcome.verdict);
        }
    }

    /// The packet is dropped.
    #[track_caller]
    pub fn drops(&self, packet: &Packet) {
        assert_eq!(self.program.run(&packet.frame(), self.sums).verdict, SHOT, "{packet}");
    }
}

/// The client at `port`.
pub fn client(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(CLIENT, port)
}

/// `ip` at `port`.
pub fn at(ip: Ipv4Addr, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(ip, port)
}

/// The question comes in as one to the server, and its answer leaves as one from whom the client asked.
#[track_caller]
pub fn both_ways(ingress: &Hook<'_>, egress: &Hook<'_>, talk: &Talk) {
    ingress.rewrites(&talk.asked, &talk.served);
    egress.rewrites(&talk.answer, &talk.heard);
}
