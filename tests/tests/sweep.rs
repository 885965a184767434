// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `asked` under address sweeps, by destination and under forged sources: who is there stays, who proves himself gets in, and
//! each packet is counted once.
use e2e::bench::Bench;
use e2e::crowd::Crowd;
use e2e::detour::{self, up};
use e2e::family::Family;
use e2e::lab::Lab;
use e2e::packet::{Packet, SYN};
use e2e::serve::Server;
use e2e::testrun::Sums;
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// `--asked-max`: 16 times as many rows as one client may own, 4 times as many as there may be clients.
const ROWS: u64 = 1024;

/// Addresses that nobody has, one for each `n`, at `port`.
fn nobody(family: Family, n: u32, port: u16) -> SocketAddr {
    let four = Ipv4Addr::from(u32::from(Ipv4Addr::new(203, 0, 0, 0)) + n);
    let six = Ipv6Addr::from(u128::from(Ipv6Addr::new(0x2001, 0xdb8, 0xbad, 0, 0, 0, 0, 0)) + u128::from(n));
    SocketAddr::new(family.pick(IpAddr::from(four), six.into()), port)
}

struct Scene {
    bench: Bench,
    family: Family,
    _server: Server,
}

impl Scene {
    fn new(family: Family, more: &[&str]) -> Scene {
        let lab = Lab::new();
        let most = ROWS.to_string();
        let options = ["--rule", "tcp dport 80 redirect", "--asked-max", &most];
        up(&lab.gateway, &lab.device, &[&options, more].concat());
        let _server = Server::echo(&lab.gateway, SocketAddr::new(family.gateway(), 80));
        Scene { bench: Bench { lab }, family, _server }
    }

    /// SYNs: how many.
    fn sweep(&self, packets: impl Iterator<Item = (SocketAddr, SocketAddr)> + Send) -> u64 {
        let ingress = self.bench.program("ingress");
        self.bench.lab.gateway.within(|| {
            let each =
                packets.map(|(from, to)| ingress.run_here(&Packet::tcp(from, to, SYN).frame(), Sums::None));
            each.map(Result::unwrap).count() as u64
        })
    }

    /// Eight conversations of a client that is there, each with an address of its own: how many rows it has of them.
    fn converse(&self, first: u32) -> usize {
        let mut crowd = Crowd::new(&self.bench.lab.client, 8, |n| nobody(self.family, first + n, 80));
        crowd.exchange();
        self.asked().of(self.family.client())
    }

    fn asked(&self) -> Listed {
        let asked = detour::json(&self.bench.lab.gateway, &["asked", &self.bench.lab.device]);
        Listed {
            rows: asked["rows"].as_array().unwrap().clone(),
            others: asked["others"].as_array().unwrap().clone(),
        }
    }
}

struct Listed {
    rows: Vec<Value>,
    others: Vec<Value>,
}

impl Listed {
    fn of(&self, client: IpAddr) -> usize {
        self.rows.iter().filter(|row| row["client"] == client.to_string()).count()
    }

    /// In rows, and beside them.
    fn packets(&self) -> (u64, u64) {
        let sum = |of: &[Value]| of.iter().map(|one| one["packets"].as_u64().unwrap()).sum();
        (sum(&self.rows), sum(&self.others))
    }
}

/// A client asks for 65,535 addresses, of which it may own a sixteenth of the rows.
#[test]
fn a_sweep_of_addresses_hides_nobody_else() {
    for family in Family::BOTH {
        let scene = Scene::new(family, &[]);
        let early = nobody(family, 1, 40_000);
        scene.sweep([(early, SocketAddr::new(family.far(), 80))].into_iter());
        let from = nobody(family, 2, 40_000);
        let sent = scene.sweep((0..65_535).map(|n| (from, nobody(family, 0x10000 + n, 80))));
        assert_eq!(scene.converse(0x100), 8, "who comes afterwards is listed");
        let asked = scene.asked();
        assert_eq!((asked.of(early.ip()), asked.of(from.ip()) as u64), (1, ROWS / 16), "{family:?}");
        assert_eq!(asked.packets(), (1 + ROWS / 16 + 8, sent - ROWS / 16));
    }
}

/// Ten thousand sources that do not exist fill what there is for those who never proved anything; the last quarter is kept
/// for clients that hear their answers.
#[test]
fn forged_sources_leave_room_for_clients_that_are_there() {
    for family in Family::BOTH {
        let scene = Scene::new(family, &[]);
        let early = nobody(family, 1, 40_000);
        scene.sweep([(early, SocketAddr::new(family.far(), 80))].into_iter());
        let to = SocketAddr::new(family.far(), 80);
        let sent = 1 + scene.sweep((0..10_000).map(|n| (nobody(family, 0x10000 + n, 40_000), to)));
        let (clients, free) = (ROWS / 4 * 3 / 4, scene.asked());
        assert_eq!(free.packets(), (clients, sent - clients), "{family:?}");
        assert_eq!(scene.converse(0x100), 8, "{family:?}: each row, also that of its first conversation");
        let asked = scene.asked();
        assert_eq!(asked.of(early.ip()), 1, "{family:?}: who was there stays");
        // Of the first conversation the SYN had no row, so that it is among the others, and the row begins with the ACK.
        assert_eq!(asked.packets(), (clients + 8, sent - clients + 1), "{family:?}");
    }
}

/// The same with few sources and many ports: these take rows, and not clients.
#[test]
fn forged_sources_with_many_ports_leave_rows_too() {
    for family in Family::BOTH {
        let scene = Scene::new(family, &[]);
        let ports = (0..100).flat_map(|n| (1000..1064).map(move |port| (n, port)));
        let sent = scene.sweep(
            ports.map(|(n, port)| (nobody(family, 0x10000 + n, 4000), SocketAddr::new(family.far(), port))),
        );
        let rows = ROWS * 3 / 4;
        assert_eq!(scene.asked().packets(), (rows, sent - rows), "{family:?}");
        assert_eq!(scene.converse(0x100), 8, "{family:?}");
        assert_eq!(scene.asked().packets(), (rows + 8, sent - rows + 1), "{family:?}");
    }
}

/// Nobody can prove anything to a monitor, so nothing is kept free there.
#[test]
fn a_monitor_keeps_nothing_free() {
    let family = Family::V4;
    let scene = Scene::new(family, &["--monitor"]);
    let to = SocketAddr::new(family.far(), 80);
    let sent = scene.sweep((0..10_000).map(|n| (nobody(family, 0x10000 + n, 40_000), to)));
    // The entry of what all clients have together is one of the table's.
    let clients = ROWS / 4 - 1;
    assert_eq!(scene.asked().packets(), (clients, sent - clients));
}
