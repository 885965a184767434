// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! tun and tap devices whose far end is this test: every byte that goes in and comes out, with checksums and segmentation done
//! by whoever sends or left to whoever is last.
use e2e::bench::FAR;
use e2e::detour::{self, up};
use e2e::lab::{ip, CLIENT, CLIENT6, GATEWAY, GATEWAY6};
use e2e::netns::Netns;
use e2e::packet::{Inner, Packet, ACK, PSH, RST, SYN};
use e2e::serve::Server;
use e2e::six::FAR6;
use e2e::talk::PATIENCE;
use e2e::tun::Tun;
use std::net::{IpAddr, SocketAddr};

const MTU: usize = 1500;

/// What TCP says first, and what the other side answered, numbers included.
struct Segment {
    seq: u32,
    ack: u32,
    flags: u8,
}

fn segment(packet: &Packet) -> Option<Segment> {
    match packet.inner {
        Inner::Tcp { seq, ack, flags, .. } => Some(Segment { seq, ack, flags }),
        _ => None,
    }
}

fn with(mut packet: Packet, number: u32, acknowledges: u32) -> Packet {
    let Inner::Tcp { seq, ack, .. } = &mut packet.inner else { panic!("not TCP: {packet}") };
    (*seq, *ack) = (number, acknowledges);
    packet
}

/// One client that speaks to `far` in bytes, and to the gateway itself.
struct Client<'a> {
    tun: &'a Tun,
    offload: bool,
    own: IpAddr,
    far: IpAddr,
}

impl Client<'_> {
    fn at(&self, port: u16) -> SocketAddr {
        (self.own, port).into()
    }

    /// The next packet that answers `port` in the name of exactly `from`.
    fn hears<T>(&self, what: &str, port: u16, from: SocketAddr, wanted: impl Fn(&Packet) -> Option<T>) -> T {
        let ends = (from, self.at(port));
        self.tun.next(what, |packet| (packet.ends() == ends).then(|| wanted(packet)).flatten())
    }

    fn datagrams(&self, gateway: IpAddr) {
        for (port, to) in [(4000, self.far), (4001, gateway)] {
            for length in [1, 7, 1000] {
                let text = vec![b'a' + port as u8 % 2; length];
                self.tun.send(&Packet::udp(self.at(port), (to, 53)).payload(&text), MTU);
                // The server says back what it heard, and from whom.
                let heard = [&text[..], b" "].concat();
                self.hears("udp", port, (to, 53).into(), |p| p.payload.starts_with(&heard).then_some(()));
            }
        }
    }

    fn echo(&self) {
        let asked = Packet::echo(self.own, self.far, 77, 3).payload(b"is there anybody");
        self.tun.send(&asked, MTU);
        let Inner::Icmp { rest, .. } = asked.inner else { panic!() };
        let kind = if self.own.is_ipv4() { 0 } else { 129 };
        let answer = Inner::Icmp { kind, code: 0, rest };
        self.tun.next("echo", |p| {
            let is = p.src == self.far && p.dst == self.own && p.inner == answer;
            (is && p.payload == asked.payload).then_some(())
        });
    }

    /// A connection in which as much comes back as was said; the longest packet that did.
    fn stream(&self, length: usize) -> usize {
        let (port, to) = (5000, SocketAddr::from((self.far, 80)));
        let tcp = |flags| Packet::tcp(self.at(port), to, flags);
        // The kernel of a machine with this MTU would name the same size.
        let mss = (MTU - if self.own.is_ipv4() { 40 } else { 60 }) as u16;
        let first = 1_000_000;
        let syn = tcp(SYN).tcp_options(&[&[2, 4][..], &mss.to_be_bytes()].concat());
        self.tun.send(&with(syn, first, 0), MTU);
        let theirs = self.hears("syn-ack", port, to, segment);
        assert_eq!((theirs.flags, theirs.ack), (SYN | ACK, first + 1));
        let text: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
        let (next, from) = (first + 1, theirs.seq.wrapping_add(1));
        self.tun.send(&with(tcp(ACK), next, from), MTU);
        self.tun.send(&with(tcp(ACK | PSH), next, from).payload(&text), MTU);
        let (mut heard, mut longest) = (vec![None; length], 0);
        while heard.contains(&None) {
            let (at, bytes, whole) = self.hears("what was said", port, to, |p| {
                let at = segment(p)?.seq.wrapping_sub(from) as usize;
                (!p.payload.is_empty()).then(|| (at, p.payload.clone(), p.ip().len()))
            });
            longest = longest.max(whole);
            heard[at..at + bytes.len()].iter_mut().zip(bytes).for_each(|(to, byte)| *to = Some(byte));
        }
        assert_eq!(heard.into_iter().flatten().collect::<Vec<u8>>(), text);
        self.tun.send(&with(tcp(RST), next + length as u32, 0), MTU);
        longest
    }

    /// Ports that nobody listens at say so under the address that was asked.
    fn refusals(&self) {
        let to = |port| SocketAddr::from((self.far, port));
        self.tun.send(&with(Packet::tcp(self.at(5001), to(81), SYN), 7, 0), MTU);
        let reset = self.hears("reset", 5001, to(81), segment);
        assert_eq!((reset.flags, reset.ack), (RST | ACK, 8));
        let asked = Packet::udp(self.at(4002), to(82)).payload(b"closed?");
        let (kind, header) = if self.own.is_ipv4() { (3, 20) } else { (1, 40) };
        let (addresses, ports) = (if header == 20 { 12..20 } else { 8..40 }, header..header + 4);
        let sent = asked.ip();
        let refused = |p: &Packet| {
            let is = matches!(p.inner, Inner::Icmp { kind: k, code, .. } if k == kind && code == if kind == 3 { 3 } else { 4 });
            if !is || p.dst != self.own {
                return None;
            }
            assert_eq!(p.src, self.far);
            assert_eq!(p.payload[addresses.clone()], sent[addresses.clone()], "what is quoted was sent to");
            assert_eq!(p.payload[ports.clone()], sent[ports.clone()]);
            Some(())
        };
        // A kernel may keep an ICMP error to itself (see talk::refused): asked again, it tells the same.
        let told = (0..5).any(|_| {
            self.tun.send(&asked, MTU);
            self.tun.next_for(PATIENCE / 5, "port unreachable", refused).is_some()
        });
        assert!(told, "port unreachable: nothing came");
    }

    fn conversations(&self, gateway: IpAddr) {
        self.datagrams(gateway);
        self.echo();
        let length = if self.offload { 6000 } else { 1200 };
        let longest = self.stream(length);
        assert_eq!(longest > MTU, self.offload, "{longest} bytes in one packet");
        self.refusals();
    }
}

/// `up` on a device that this test holds, and what a client behind it hears.
fn device(name: &str, tap: bool, offload: bool) {
    let gateway = Netns::new();
    let tun = Tun::new(&gateway, name, tap, offload);
    if tap {
        ip(&gateway, &format!("link set {name} address {}", Tun::ADDRESS));
    }
    ip(
        &gateway,
        &format!(
            "address add {GATEWAY}/24 dev {name}
             address add {GATEWAY6}/64 dev {name} nodad
             link set {name} mtu {MTU} up"
        ),
    );
    if tap {
        for client in [IpAddr::from(CLIENT), CLIENT6.into()] {
            ip(&gateway, &format!("neighbour add {client} lladdr {} dev {name}", Tun::NEIGHBOUR));
        }
    }
    let _names = Server::udp(&gateway, SocketAddr::from(([0u16; 8], 53)));
    let _echo = Server::echo(&gateway, SocketAddr::from(([0u16; 8], 80)));
    up(&gateway, name, &[]);
    for (own, far, gateway) in
        [(CLIENT.into(), FAR.into(), IpAddr::from(GATEWAY)), (CLIENT6.into(), FAR6.into(), GATEWAY6.into())]
    {
        Client { tun: &tun, offload, own, far }.conversations(gateway);
    }
    let doctor = detour::json(&gateway, &["doctor", name]);
    let framing = doctor["findings"].as_array().unwrap().iter().find(|f| f["check"] == "framing").unwrap();
    assert_eq!(framing["finding"], if tap { "Ethernet" } else { "none, layer 3" });
    // As the programs were told: no header before that of IP, or Ethernet's.
    let flows = detour::json(&gateway, &["flows", name]);
    let translated = flows["flows"].as_array().unwrap().iter().filter(|f| f["direct"] == false).count();
    assert_eq!(translated, 2 * 5, "two datagrams' flows, an echo and two connections each: {flows}");
    detour::run(&gateway, &["down", name]).done();
}

#[test]
fn a_tun_device() {
    device("tun0", false, false);
}

#[test]
fn a_tun_device_with_offloads() {
    device("tun1", false, true);
}

#[test]
fn a_tap_device() {
    device("tap0", true, false);
}

#[test]
fn a_tap_device_with_offloads() {
    device("tap1", true, true);
}
