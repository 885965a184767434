// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What happens at limits, over both families: tables that are full, clients that want too much, TCP that ends.
use e2e::bench::{Bench, Hook};
use e2e::detour::{code, json, run, up};
use e2e::family::Family;
use e2e::lab::Lab;
use e2e::packet::{Inner, Packet, ACK, FIN, PSH, RST, SYN};
use e2e::quote::error;
use e2e::testrun::{Sums, REDIRECT, SHOT, UNSPEC};
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};

/// The sequence number of all packets here, and one for the SYN.
const HEARD: u32 = 0x0102_0305;

/// A lab that is up with `options` and the rule `redirect`, and how TCP goes through its hooks.
struct Scene<'a> {
    bench: &'a Bench,
    family: Family,
    ingress: Hook<'a>,
    egress: Hook<'a>,
}

/// Plays `scene` in each family.
fn scenes(options: &[&str], scene: impl Fn(&Scene<'_>)) {
    Family::BOTH.into_iter().for_each(|family| scene_in(family, options, &scene));
}

fn scene_in(family: Family, options: &[&str], scene: impl Fn(&Scene<'_>)) {
    let lab = Lab::new();
    up(&lab.gateway, &lab.device, options);
    let bench = Bench { lab };
    let (ingress, egress) = (bench.program("ingress"), bench.program("egress"));
    let hook = |program| Hook { program, sums: Sums::None };
    scene(&Scene { bench: &bench, family, ingress: hook(&ingress), egress: hook(&egress) });
}

impl Scene<'_> {
    fn counters(&self) -> Value {
        let lab = &self.bench.lab;
        json(&lab.gateway, &["status", &lab.device])["instances"][0]["dnat"]["not_translated"].take()
    }

    fn states(&self) -> Vec<String> {
        let flows = json(&self.bench.lab.gateway, &["flows", &self.bench.lab.device]);
        flows["flows"].as_array().unwrap().iter().map(|f| f["state"].as_str().unwrap().to_string()).collect()
    }

    fn client(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.family.client(), port)
    }

    /// Another client; one of the same /64 would be the same to us.
    fn other(&self) -> IpAddr {
        self.family.pick("192.168.178.52", "fd00:0:0:1::52").parse().unwrap()
    }

    fn far(&self) -> SocketAddr {
        SocketAddr::new(self.family.far(), 80)
    }

    fn gateway(&self) -> SocketAddr {
        SocketAddr::new(self.family.gateway(), 80)
    }

    fn asked(&self, from: SocketAddr, flags: u8) -> Packet {
        Packet::tcp(from, self.far(), flags)
    }

    fn answer(&self, to: SocketAddr, flags: u8) -> Packet {
        Packet::tcp(self.gateway(), to, flags)
    }

    fn inward(&self, packet: &Packet) {
        let from = packet.ends().0;
        self.ingress.rewrites(packet, &packet.clone().between(from, self.gateway()));
    }

    fn outward(&self, packet: &Packet) {
        let to = packet.ends().1;
        self.egress.rewrites(packet, &packet.clone().between(self.far(), to));
    }

    /// Opens a connection until it is confirmed; whether it could be opened.
    fn connect(&self, from: SocketAddr) -> bool {
        let syn = self.asked(from, SYN);
        let outcome = self.ingress.program.run(&syn.frame(), self.ingress.sums);
        if outcome.verdict != UNSPEC || outcome.frame == syn.frame() {
            return false;
        }
        self.outward(&self.answer(from, SYN | ACK));
        self.inward(&self.asked(from, ACK).acknowledging(HEARD));
        true
    }
}

#[test]
fn a_full_table_keeps_what_it_has() {
    for (what, verdict) in [("drop", SHOT), ("reject", REDIRECT), ("pass", UNSPEC), ("hold", UNSPEC)] {
        for family in Family::BOTH {
            // IPv6 has a quarter of IPv4's.
            let options = ["--flows-max", family.pick("16", "64"), "--when-full", what];
            scene_in(family, &options, |scene| full(scene, what, verdict));
        }
    }
}

fn full(scene: &Scene<'_>, what: &str, verdict: i32) {
    for port in 0..16 {
        assert!(scene.connect(scene.client(4000 + port)), "{what}: flow {port}");
    }
    assert_eq!(scene.states(), ["confirmed"; 16], "{what}");
    let syn = scene.asked(scene.client(5000), SYN);
    let outcome = scene.ingress.program.run(&syn.frame(), scene.ingress.sums);
    assert_eq!(outcome.verdict, verdict, "{what}");
    match what {
        "hold" => assert_ne!(outcome.frame, syn.frame(), "held half-open"),
        "reject" => {
            let reset = Packet::tcp(scene.far(), scene.client(5000), RST | ACK).acknowledging(HEARD);
            let mut reset = Packet { id: 0, ..reset };
            let Inner::Tcp { seq, window, .. } = &mut reset.inner else { panic!() };
            (*seq, *window) = (0, 0);
            assert_eq!(outcome.frame, reset.frame(), "{what}");
            // RFC 5508, REQ-8: "communication administratively prohibited"; RFC 4443, 3.1 has another number for it.
            let asked = Packet::udp(scene.client(5000), scene.far()).payload(b"anybody?");
            let kind = scene.family.pick((3, 13, [0; 4]), (1, 1, [0; 4]));
            let told = error(kind, scene.far().ip(), &asked, &[], usize::MAX);
            let told = Packet { tos: scene.family.pick(0xc0, 0), id: 0, ..told };
            scene.ingress.answers(&asked, &told);
        }
        _ => assert_eq!(outcome.frame, syn.frame(), "{what}: untouched"),
    }
    if what != "hold" {
        let refused = if what == "reject" { 2 } else { 1 };
        assert_eq!(scene.counters()["no_room"], refused, "{what}");
    }
    // Those that were there carry on, and direct ones are nobody's to refuse.
    for port in 0..16 {
        scene.inward(&scene.asked(scene.client(4000 + port), ACK | PSH).payload(b"more"));
    }
    scene.ingress.passes("direct", &Packet::tcp(scene.client(5001), scene.gateway(), SYN).frame());
}

#[test]
fn one_client_may_not_open_all() {
    scenes(&["--client-new", "20"], |scene| {
        let opened = |ip: IpAddr, count: u16| {
            let run = |n| {
                let syn = scene.asked(SocketAddr::new(ip, 1000 + n), SYN);
                scene.ingress.program.run(&syn.frame(), scene.ingress.sums).verdict == UNSPEC
            };
            (0..count).filter(|n| run(*n)).count()
        };
        // A tick is a little more than a second, and two of them may have begun.
        let first = opened(scene.family.client(), 200);
        assert!((20..=70).contains(&first), "{first} of 200");
        assert_eq!(opened(scene.other(), 20), 20, "another client");
        assert_eq!(scene.counters()["client_new"], 200 - first);
    });
}

#[test]
fn one_client_may_not_have_all() {
    scenes(&["--client-live", "3"], |scene| {
        let from = |n: u16| scene.client(4000 + n);
        for n in 0..3 {
            assert!(scene.connect(from(n)), "flow {n}");
        }
        assert!(!scene.connect(from(3)), "a fourth");
        assert!(scene.connect(SocketAddr::new(scene.other(), 4000)), "another client");
        if scene.family == Family::V6 {
            assert!(!scene.connect("[fd00::53]:4000".parse().unwrap()), "another address of its network");
        }
        // One ends: both sides say so.
        scene.inward(&scene.asked(from(0), FIN | ACK));
        assert!(!scene.connect(from(3)), "half closed");
        scene.outward(&scene.answer(from(0), FIN | ACK));
        assert!(scene.connect(from(4)), "room again");
        assert!(!scene.connect(from(5)), "for one");
        assert_eq!(scene.counters()["client_live"], scene.family.pick(3, 4));
    });
}

/// A RST, which anybody can forge, ends a connection only if nothing follows it.
#[test]
fn a_forged_reset_ends_nothing() {
    for forger in ["client", "server"] {
        scenes(&[], |scene| {
            let from = scene.client(4000);
            assert!(scene.connect(from));
            assert_eq!(scene.states(), ["confirmed"]);
            match forger {
                "client" => scene.inward(&scene.asked(from, RST)),
                _ => scene.outward(&scene.answer(from, RST)),
            }
            assert_eq!(scene.states(), ["closing"], "by the {forger}");
            scene.outward(&scene.answer(from, ACK).payload(b"data"));
            assert_eq!(scene.states(), ["confirmed"], "by the {forger}");
        });
    }
}

#[test]
fn connections_close_and_open_again() {
    scenes(&[], |scene| {
        let from = scene.client(4000);
        assert!(scene.connect(from));
        let inward = |flags| scene.inward(&scene.asked(from, flags));
        let outward = |flags| scene.outward(&scene.answer(from, flags));
        inward(FIN | ACK);
        assert_eq!(scene.states(), ["confirmed"], "one side may still speak");
        outward(ACK);
        outward(FIN | ACK);
        assert_eq!(scene.states(), ["closing"]);
        inward(ACK);
        assert_eq!(scene.states(), ["closing"], "the last acknowledgement revives nothing");
        inward(SYN);
        assert_eq!(scene.states(), ["opening"], "a new connection of the same ports");
        outward(SYN | ACK);
        assert_eq!(scene.states(), ["answered"]);
    });
}

/// Options are frozen with the programs; what is asked for otherwise is named.
#[test]
fn options_stay_as_they_are_until_down() {
    let lab = Lab::new();
    let options = ["--timeout", "udp=2m", "--timeout", "tcp-established=1h", "--client-live", "9"];
    up(&lab.gateway, &lab.device, &options);
    let again = |more: &[&str]| run(&lab.gateway, &[&["up", &lab.device], more].concat());
    again(&options).done();
    again(&[&options[..], &["--rule", "drop"]].concat()).done();
    again(&[]).refused(
        code::FOREIGN,
        &["other options", "tcp_established is", "udp is", "client_live is 9, not 0"],
    );
    again(&[&options[..], &["--sealed"]].concat()).refused(code::FOREIGN, &["flags is"]);
    let wrong = run(&lab.gateway, &["up", &lab.device, "--timeout", "udp=0"]);
    wrong.refused(code::USAGE, &["a time from 1s"]);
    let both = run(&lab.gateway, &["up", &lab.device, "--sealed", "--when-full", "pass"]);
    both.refused(code::USAGE, &["--when-full pass"]);
}
