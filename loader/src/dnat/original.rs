// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What a server sees of a flow, protocol and both ends -> the keys under which the index may know it.

use std::net::{IpAddr, SocketAddr};

use super::abi::{Flow4, Flow6, Key4, Key6};
use super::codes;
use super::flows::{has_ports, End};
use super::rules::{protocol_name, ICMP, ICMPV6, UDP};
use super::wire::{Be16, Be32, Shared};

/// A connection as its server has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// IPPROTO_*.
    pub protocol: u8,
    /// Its peer; of an ICMP echo the port is the identifier.
    pub client: End,
    /// Its own end.
    pub server: End,
}

impl Seen {
    /// Reads the three words, `tcp 192.0.2.9:40000 192.0.2.1:80`. IPv4 written as ::ffff:a.b.c.d, as a server on an
    /// IPv6 socket has it, is IPv4.
    ///
    /// # Errors
    /// What is wrong with which word.
    pub fn parse(protocol: &str, client: &str, server: &str) -> Result<Seen, String> {
        let number = (0..=u8::MAX).find(|n| protocol_name(*n) == Some(protocol) || n.to_string() == protocol);
        let protocol =
            number.ok_or_else(|| format!("'{protocol}' is neither a protocol's name nor its number"))?;
        let ports = has_ports(protocol);
        let seen = Seen {
            protocol,
            client: end(client, ports || matches!(protocol, ICMP | ICMPV6))?,
            server: end(server, ports)?,
        };
        match seen.client.is_ipv4() == seen.server.is_ipv4() {
            true => Ok(seen),
            false => Err(format!("{client} and {server} are of different families")),
        }
    }

    /// The keys to look up, in this order: as the server answers; for UDP as the index knows wildcard sockets; as a server
    /// has it whose client is masqueraded.
    pub fn keys(&self) -> Vec<Vec<u8>> {
        let reverse = self.key(self.server.ip(), 1);
        let mut keys = vec![reverse];
        if self.protocol == UDP {
            keys.push(self.key(unspecified(self.server.ip()), 1));
        }
        keys.push(self.key(self.server.ip(), 0));
        keys
    }

    fn key(&self, server: IpAddr, dir: u8) -> Vec<u8> {
        let (sport, dport, proto) = (Be16(self.server.port()), Be16(self.client.port()), self.protocol);
        match (server, self.client.ip()) {
            (IpAddr::V4(server), IpAddr::V4(client)) => {
                let [src, dst] = [server, client].map(|a| Be32(a.to_bits()));
                Key4 { src, dst, sport, dport, proto, dir }.to_bytes()
            }
            (server, client) => {
                let [src, dst] = [server, client].map(octets);
                Key6 { src, dst, sport, dport, proto, dir }.to_bytes()
            }
        }
    }

    /// Whether the tenant of a slot is the flow that `key` was looked up for. `own` says whether an address is one of this
    /// machine: whatever a wildcard socket answers from.
    pub fn is(&self, slot: &[u8], key: &[u8], own: impl Fn(IpAddr) -> bool) -> bool {
        let (rev, marks, server) = match slot.len() {
            Flow4::SIZE => {
                let Some(flow) = Flow4::read(slot) else { return false };
                (flow.rev.to_bytes(), flow.marks, IpAddr::from(flow.rev.src.0.to_be_bytes()))
            }
            _ => {
                let Some(flow) = Flow6::read(slot) else { return false };
                (flow.rev.to_bytes(), flow.marks, IpAddr::from(flow.rev.src))
            }
        };
        if marks & codes::MARK_ANY_SOURCE == 0 {
            return rev == key;
        }
        let asked = self.server.ip();
        let known = Seen { server: End::new(server, self.server.port()), ..*self };
        rev == known.key(server, 1) && (asked == server || asked.is_unspecified() || own(asked))
    }
}

fn end(text: &str, port: bool) -> Result<End, String> {
    let expected =
        if port { "ADDRESS:PORT, such as 192.0.2.9:40000 or [2001:db8::9]:40000" } else { "an ADDRESS" };
    let read = match port {
        true => text.parse().ok(),
        false => text.parse().ok().map(|ip| SocketAddr::new(ip, 0)),
    };
    let end: SocketAddr = read.ok_or_else(|| format!("'{}' is not {expected}", text.escape_debug()))?;
    Ok(SocketAddr::new(end.ip().to_canonical(), end.port()))
}

fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => [0_u8; 4].into(),
        IpAddr::V6(_) => [0_u8; 16].into(),
    }
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_as_a_server_has_them() {
        let seen = Seen::parse("tcp", "[::ffff:192.0.2.9]:40000", "192.0.2.1:80").unwrap();
        assert_eq!((seen.protocol, seen.client), (6, "192.0.2.9:40000".parse().unwrap()));
        // Source, destination, ports in network order, protocol, DIR_REVERSE.
        let reverse = [192, 0, 2, 1, 192, 0, 2, 9, 0, 80, 0x9c, 0x40, 6, 1, 0, 0];
        assert_eq!(
            seen.keys(),
            [reverse.to_vec(), {
                let mut forward = reverse;
                forward[13] = 0;
                forward.to_vec()
            }]
        );
        assert_eq!(Seen::parse("icmp", "192.0.2.9:7", "192.0.2.1").unwrap().client.port(), 7);
        assert_eq!(Seen::parse("47", "192.0.2.9", "192.0.2.1").unwrap().protocol, 47);
        for (protocol, client, server, words) in [
            ("http", "192.0.2.9:1", "192.0.2.1:80", "'http' is neither"),
            ("tcp", "192.0.2.9", "192.0.2.1:80", "'192.0.2.9' is not ADDRESS:PORT"),
            ("tcp", "2001:db8::9:1", "192.0.2.1:80", "is not ADDRESS:PORT"),
            ("udp", "192.0.2.9:1", "[fd00::1]:53", "different families"),
            ("icmp", "192.0.2.9:7", "192.0.2.1:0", "'192.0.2.1:0' is not an ADDRESS"),
        ] {
            let fault = Seen::parse(protocol, client, server).unwrap_err();
            assert!(fault.contains(words), "{fault}");
        }
    }

    #[test]
    fn a_wildcard_socket_answers_from_any_address_of_ours() {
        let seen = |server: &str| Seen::parse("udp", "192.0.2.9:1", server).unwrap();
        let rev = seen("192.0.2.1:53").keys().remove(0);
        let mut slot = Flow4 { rev: Key4::read(&rev).unwrap(), ..Flow4::default() };
        let is = |slot: &Flow4, server: &str| {
            let seen = seen(server);
            let own = |ip: IpAddr| ip == IpAddr::from([192, 0, 2, 2]);
            seen.keys().iter().any(|key| seen.is(&slot.to_bytes(), key, own))
        };
        assert!(is(&slot, "192.0.2.1:53") && !is(&slot, "192.0.2.2:53") && !is(&slot, "0.0.0.0:53"));
        slot.marks = codes::MARK_ANY_SOURCE;
        assert!(is(&slot, "192.0.2.1:53") && is(&slot, "192.0.2.2:53") && is(&slot, "0.0.0.0:53"));
        assert!(!is(&slot, "192.0.2.3:53") && !is(&slot, "192.0.2.1:54"));
    }

    #[test]
    fn a_flow_over_ipv6() {
        let seen = Seen::parse("sctp", "[fd00::9]:7", "[fd00::1]:8").unwrap();
        let slot = Flow6 { rev: Key6::read(&seen.keys()[0]).unwrap(), ..Flow6::default() };
        assert_eq!(
            (slot.rev.sport, slot.rev.dport, slot.rev.proto, slot.rev.dir),
            (Be16(8), Be16(7), 132, 1)
        );
        assert!(seen.is(&slot.to_bytes(), &seen.keys()[0], |_| false));
        assert!(!seen.is(&slot.to_bytes(), &seen.keys()[1], |_| false), "the masqueraded one is another");
        assert!(!seen.is(&[0; 95], &seen.keys()[0], |_| false));
    }
}
