// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A conversation to the ICMP errors about its packets, of either family: each is built anew around the packet that its receiver
//! had sent, and all its sums are computed over the whole.
use crate::family::Family;
use crate::packet::{Inner, Packet, ACK, PSH, RST, SYN};
use crate::six::{extended, Extension};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Rules that refuse as [`refusal`] does.
pub const REFUSE: [&str; 2] = ["tcp reject with tcp reset", "reject"];

/// The rules that the [`talks`] go by.
pub const RULES: [&str; 2] = ["tcp dport 80 redirect to :8080", "redirect"];

/// The rule that all of them go by where the server is on the client's own segment.
pub fn masquerade(family: Family) -> String {
    format!("dnat to {} masquerade", family.neighbour())
}

/// Type, code and second word of an error.
pub type Kind = (u8, u8, [u8; 4]);

/// Port unreachable, fragmentation needed, time exceeded and the others of RFC 792.
const KINDS4: [Kind; 7] = [
    (3, 3, [0; 4]),
    (3, 4, [0, 0, 5, 0]),
    (3, 13, [0, 32, 0, 0]),
    (4, 0, [0; 4]),
    (11, 0, [0; 4]),
    (11, 1, [0; 4]),
    (12, 0, [20, 0, 0, 0]),
];

/// Port unreachable, too big, by route and rule, time exceeded, and a wrong parameter (RFC 4443).
const KINDS6: [Kind; 6] = [
    (1, 4, [0; 4]),
    (2, 0, [0, 0, 5, 0]),
    (1, 0, [0; 4]),
    (1, 1, [0; 4]),
    (3, 0, [0; 4]),
    (4, 1, [0, 0, 0, 40]),
];

/// All kinds of errors of a family.
pub fn kinds(family: Family) -> &'static [Kind] {
    family.pick(&KINDS4[..], &KINDS6[..])
}

/// "Port unreachable".
pub fn unreachable(family: Family) -> Kind {
    kinds(family)[0]
}

/// A router on the way.
pub fn router(family: Family) -> IpAddr {
    let six = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1);
    family.pick(Ipv4Addr::new(10, 1, 1, 1).into(), six.into())
}

/// The error that `from` sends to the sender of `about`: it quotes the IP header with all that belongs to it, options or the
/// extension headers `chain`, and `length` bytes above, if there are as many.
pub fn error(kind: Kind, from: IpAddr, about: &Packet, chain: &[Extension], length: usize) -> Packet {
    let family = Family::of(about.src);
    let mut ip = about.ip();
    let mut header = 20 + about.options.len().next_multiple_of(4);
    if family == Family::V6 {
        ip = extended(&ip, chain);
        header = 40 + chain.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
    }
    ip.truncate(header.saturating_add(length));
    let inner = Inner::Icmp { kind: kind.0, code: kind.1, rest: kind.2 };
    Packet { inner, ..Packet::other(from, about.src, family.pick(1, 58)) }.payload(&ip)
}

/// What becomes of a packet that a rule refuses, a SYN by a reset: as nft's `reject` does.
pub fn refusal(packet: &Packet) -> Packet {
    let (from, to) = packet.ends();
    let family = Family::of(packet.src);
    if let Inner::Tcp { seq: first, .. } = packet.inner {
        let mut reset = Packet { id: 0, ..Packet::tcp(to, from, RST | ACK) };
        let Inner::Tcp { seq, ack, window, .. } = &mut reset.inner else { panic!("{reset}") };
        (*seq, *ack, *window) = (0, first + 1 + packet.payload.len() as u32, 0);
        return reset;
    }
    let told = error(unreachable(family), packet.dst, packet, &[], usize::MAX);
    Packet { tos: family.pick(packet.tos & 0x1e | 0xc0, 0), id: 0, ..told }
}

/// What the client asked and what the server saw of it, what the server answered and what the client heard.
#[derive(Clone, Debug)]
pub struct Talk {
    /// As the client sent it.
    pub asked: Packet,
    /// As the server has to see it.
    pub served: Packet,
    /// As the server sent it.
    pub answer: Packet,
    /// As the client has to hear it.
    pub heard: Packet,
}

impl Talk {
    /// The server is the gateway at `port`; where there are no ports that is no matter.
    pub fn new(asked: Packet, heard: Packet, port: u16) -> Talk {
        let (client, server) = (asked.ends().0, SocketAddr::new(Family::of(asked.src).gateway(), port));
        let (served, answer) = (asked.clone().between(client, server), heard.clone().between(server, client));
        Talk { asked, served, answer, heard }
    }

    /// The same with a server on the client's own segment, to which the gateway is the client, from `port` or with that identifier.
    pub fn masqueraded(self, port: u16) -> Talk {
        let family = Family::of(self.asked.src);
        let own = SocketAddr::new(family.gateway(), port);
        let server = SocketAddr::new(family.neighbour(), self.asked.ends().1.port());
        let numbered = |mut packet: Packet| {
            if let Inner::Icmp { rest, .. } = &mut packet.inner {
                rest[..2].copy_from_slice(&port.to_be_bytes());
            }
            packet
        };
        let served = numbered(self.asked.clone().between(own, server));
        let answer = numbered(self.heard.clone().between(server, own));
        Talk { served, answer, ..self }
    }

    /// Each of its packets as `of` makes it.
    pub fn each(&self, of: impl Fn(&Packet) -> Packet) -> Talk {
        let [asked, served, answer, heard] = [&self.asked, &self.served, &self.answer, &self.heard].map(of);
        Talk { asked, served, answer, heard }
    }

    /// What is said later in the same flow, of any length, in IPv4 also behind options.
    pub fn later(&self) -> Vec<Talk> {
        let options = [&[][..], &[7, 7, 4, 0, 0, 0, 0, 0], &[1; 40]];
        let family = Family::of(self.asked.src);
        let mut later = Vec::new();
        for options in &options[..family.pick(3, 1)] {
            for size in [0, 1, 700] {
                let of = |packet: &Packet, set| {
                    let mut packet = packet.clone().options(options).payload(&vec![0x5a; size]);
                    if let Inner::Tcp { flags, .. } = &mut packet.inner {
                        *flags = set;
                    }
                    packet
                };
                let [asked, served] = [&self.asked, &self.served].map(|packet| of(packet, ACK | PSH));
                let [answer, heard] = [&self.answer, &self.heard].map(|packet| of(packet, ACK));
                later.push(Talk { asked, served, answer, heard });
            }
        }
        later
    }
}

/// The first packets of conversations of each protocol, UDP also without checksum, from the client's port or identifier `port`.
pub fn talks(family: Family, port: u16) -> [Talk; 4] {
    let client = SocketAddr::new(family.client(), port);
    let [web, dns] = [80, 53].map(|port| SocketAddr::new(family.far(), port));
    let (question, answer) =
        (Packet::udp(client, dns).payload(b"question"), Packet::udp(dns, client).payload(b"an answer"));
    let ping = Packet::echo(family.client(), family.far(), port, 1).payload(b"ping");
    let mut pong = ping.clone().reversed();
    let Inner::Icmp { kind, .. } = &mut pong.inner else { panic!("{pong}") };
    *kind = family.pick(0, 129);
    [
        Talk::new(Packet::tcp(client, web, SYN), Packet::tcp(web, client, SYN | ACK), 8080),
        Talk::new(question.clone(), answer.clone(), 53),
        Talk::new(question.unsummed(), answer.unsummed(), 53),
        Talk::new(ping, pong, 0),
    ]
}
