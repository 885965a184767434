// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The port that a client gets at a server where its own cannot be: of which range it is, and whose it never is.
use e2e::bench::Bench;
use e2e::detour::{run, up};
use e2e::family::Family;
use e2e::lab::Lab;
use e2e::netns::Netns;
use e2e::packet::{Inner, Packet, ACK, SYN};
use e2e::race::on_processor;
use e2e::serve::Server;
use e2e::talk;
use e2e::testrun::{Program, Sums, REDIRECT, UNSPEC};
use e2e::tools;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Where a port is looked for first: no client of Linux uses these by itself.
const FIRST: u16 = 61_000;

/// The client's end as the server sees it.
fn seen(frame: &[u8]) -> SocketAddr {
    let packet = Packet::read(frame).unwrap();
    let (Inner::Tcp { .. } | Inner::Udp { .. }) = packet.inner else { panic!("{packet}") };
    packet.ends().0
}

/// RFC 4787, REQ-3 b: what is privileged stays so, and nothing else becomes it.
#[test]
fn a_port_of_the_clients_class_where_the_range_is_full() {
    // More flows than the range has room for, and then some of each class.
    const MANY: u16 = u16::MAX - FIRST + 1 + 1500;
    const LAST: u16 = 200;
    for family in Family::BOTH {
        let lab = Lab::new();
        up(&lab.gateway, &lab.device, &["--half-open", "32768", "--rule", "tcp redirect to :80"]);
        let bench = Bench { lab };
        let (ingress, egress) = (bench.program("ingress"), bench.program("egress"));
        bench.lab.gateway.within(|| {
            // One processor's ring of half-open flows holds them all, also IPv6's quarter of it.
            on_processor(0);
            let mut taken = BTreeSet::new();
            let mut given = |port: u16, n: u16| {
                let [a, b] = n.to_be_bytes();
                let far = family.pick(
                    Ipv4Addr::new(20, 0, a, b).into(),
                    IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n)),
                );
                let from = SocketAddr::new(family.client(), port);
                let syn = Packet::tcp(from, SocketAddr::new(far, 80), SYN);
                let outcome = ingress.run_here(&syn.frame(), Sums::None).unwrap();
                assert_eq!(outcome.verdict, UNSPEC, "{syn}: each finds one");
                let at_server = seen(&outcome.frame);
                assert!(taken.insert(at_server.port()), "{at_server} twice");
                let answer = Packet::tcp(SocketAddr::new(family.gateway(), 80), at_server, SYN | ACK);
                let restored = egress.run_here(&answer.frame(), Sums::None).unwrap().frame;
                assert_eq!(restored, answer.between(SocketAddr::new(far, 80), from).frame());
                at_server.port()
            };
            for port in [1024, 1023] {
                let all: Vec<u16> = (0..if port == 1024 { MANY } else { LAST })
                    .map(|n| given(port, n))
                    .filter(|given| *given < FIRST)
                    .collect();
                let (own, class) = all.split_first().expect("the first one");
                assert_eq!(*own, port, "nobody has it yet");
                assert!(class.len() >= 150, "{port}: {} where the range is full", class.len());
                let stays = |given: &&u16| (**given < 1024) == (port < 1024);
                assert_eq!(class.iter().filter(stays).count(), class.len(), "{port} became {class:?}");
                assert!(!class.contains(&0), "{port}: 0 is none");
            }
        });
    }
}

/// A client, a gateway that masquerades, and the server of all.
struct Segment {
    family: Family,
    lab: Lab,
    server: Netns,
}

impl Segment {
    /// The gateway's own address is a target as well, so that also direct connections to it are known.
    fn new(family: Family) -> Segment {
        let (lab, server) = Lab::segment(true);
        let to = format!("dport 53 dnat to {} masquerade", family.neighbour());
        let rules = [&format!("tcp {to}"), &format!("udp {to}"), "tcp dport 22 redirect"];
        up(&lab.gateway, "br0", &rules.map(|rule| ["--rule", rule]).concat());
        Segment { family, lab, server }
    }

    fn program(&self, hook: &str) -> Program<'_> {
        let id = tools::filters(&self.lab.gateway, "br0", hook)[0]["options"]["prog"]["id"].as_u64().unwrap();
        Program::by_id(&self.lab.gateway, id)
    }

    /// The server's end.
    fn there(&self) -> SocketAddr {
        SocketAddr::new(self.family.neighbour(), 53)
    }

    /// The client asks, and another port of the gateway is the one that the server sees.
    fn given(&self, tcp: bool) -> u16 {
        let (from, to) =
            (SocketAddr::new(self.family.client(), 4000), SocketAddr::new(self.family.far(), 53));
        let asks = if tcp { Packet::tcp(from, to, SYN) } else { Packet::udp(from, to).payload(b"who?") };
        let outcome = self.program("ingress").run(&asks.frame(), Sums::None);
        let own = seen(&outcome.frame);
        assert_eq!((outcome.verdict, own.ip()), (REDIRECT, self.family.gateway()), "{asks}");
        assert!(own.port() >= FIRST, "{own}");
        own.port()
    }

    /// As if nobody had asked: the next one to ask would get the same port.
    fn forgets(&self, tcp: bool, port: u16) {
        run(&self.lab.gateway, &["flush", "br0"]).done();
        assert_eq!(self.given(tcp), port, "it follows from the flow");
        run(&self.lab.gateway, &["flush", "br0"]).done();
    }
}

/// A socket of the gateway that talks to the same server from the port that the client would get goes on doing so.
#[test]
fn no_port_of_the_gateways_own_sockets() {
    for family in Family::BOTH {
        let segment = Segment::new(family);
        let (gateway, there) = (&segment.lab.gateway, segment.there());
        let _web = Server::echo(&segment.server, family.any(53));
        let port = segment.given(true);
        segment.forgets(true, port);
        let mut own = talk::dial(gateway, port, there).unwrap();
        assert_ne!(segment.given(true), port, "{family:?}: its connection");
        let mut heard = [0; 5];
        own.write_all(b"still").unwrap();
        own.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"still");

        let _echo = Server::udp(&segment.server, family.any(53));
        let port = segment.given(false);
        for connected in [false, true] {
            segment.forgets(false, port);
            let own = talk::udp_for(gateway, family, port);
            if connected {
                own.connect(there).unwrap();
            }
            assert_ne!(segment.given(false), port, "{family:?}: its socket, connected {connected}");
            let (answer, from) = talk::ask(&own, there, "still?").unwrap();
            assert_eq!(
                (from, answer),
                (there, format!("still? {}", SocketAddr::new(family.gateway(), port)))
            );
        }
    }
}

/// What the gateway asks a client is not given away to who speaks from the same port to nobody: with nftables beside, for conntrack
/// knows who asked. Not so where the gateway's socket is connected to nobody, and not where a server's socket is there as well.
#[test]
fn no_port_that_the_gateway_itself_talks_to() {
    for family in Family::BOTH {
        let heard = [true, false].map(|ours| {
            let lab = Lab::new();
            match ours {
                true => drop(up(&lab.gateway, &lab.device, &["--rule", "udp redirect"])),
                false => lab.nft("meta l4proto udp redirect"),
            }
            let asks = talk::udp_for(&lab.gateway, family, 5000);
            let client = talk::udp_for(&lab.client, family, 4000);
            asks.connect(SocketAddr::new(family.client(), 4000)).unwrap();
            let mut room = [0; 16];
            let mut question = || {
                asks.send(b"who?").unwrap();
                client.recv_from(&mut room).unwrap().1
            };
            let gateway = question();
            client.send_to(b"stranger", SocketAddr::new(family.far(), 5000)).unwrap();
            client.send_to(b"answer", gateway).unwrap();
            let again = question();
            let mut room = [0; 16];
            let length = asks.recv(&mut room).unwrap();
            (gateway, again, room[..length].to_vec())
        });
        let gateway = SocketAddr::new(family.gateway(), 5000);
        assert_eq!(heard, [(); 2].map(|()| (gateway, gateway, b"answer".to_vec())), "{family:?}");
    }
}

/// A server that connects a socket to each client is found by it also where its flow was forgotten: another socket serves that port.
#[test]
fn the_port_of_a_servers_connected_socket() {
    for family in Family::BOTH {
        let lab = Lab::new();
        up(&lab.gateway, &lab.device, &["--rule", "udp redirect"]);
        let shared = |connected| {
            let socket = talk::udp_shared(&lab.gateway, family, 5000);
            if connected {
                socket.connect(SocketAddr::new(family.client(), 4000)).unwrap();
            }
            socket
        };
        let (listens, serves) = (shared(false), shared(true));
        listens.set_nonblocking(true).unwrap();
        let client = talk::udp_for(&lab.client, family, 4000);
        let mut room = [0; 16];
        for text in [b"one", b"two"] {
            client.send_to(text, SocketAddr::new(family.far(), 5000)).unwrap();
            let length = serves.recv(&mut room).unwrap();
            assert_eq!(&room[..length], text, "{family:?}");
            run(&lab.gateway, &["flush", &lab.device]).done();
        }
        listens.recv(&mut room).unwrap_err();
    }
}

/// The server is itself a client of the gateway, from the port where it serves to the one that the client would get: what it says
/// is no answer to the client.
#[test]
fn no_port_that_the_server_itself_talks_to() {
    for family in Family::BOTH {
        for tcp in [true, false] {
            let segment = Segment::new(family);
            let port = segment.given(tcp);
            segment.forgets(tcp, port);
            let (there, gateway) = (segment.there(), SocketAddr::new(family.gateway(), port));
            let says = |first: bool, text: &[u8]| match tcp {
                true => Packet::tcp(there, gateway, if first { SYN } else { ACK }).payload(text),
                false => Packet::udp(there, gateway).payload(text),
            };
            let ingress = segment.program("ingress");
            let passes = |packet: Packet| {
                let outcome = ingress.run(&packet.frame(), Sums::None);
                assert_eq!((outcome.verdict, outcome.frame), (UNSPEC, packet.frame()), "{packet}");
            };
            passes(says(true, b""));
            assert_ne!(segment.given(tcp), port, "{family:?}");
            passes(says(false, b"and more"));
        }
    }
}
