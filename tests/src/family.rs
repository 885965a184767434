// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A family to what it calls things: the usual cast's addresses, and whatever else a test that is about both has to choose.
use crate::bench::FAR;
use crate::lab::{
    CLIENT, CLIENT6, GATEWAY, GATEWAY6, NEIGHBOUR, NEIGHBOUR6, SECOND, SECOND6, SERVER, SERVER6,
};
use crate::six::FAR6;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const BOTH: [Family; 2] = [Family::V4, Family::V6];

    /// That of an address.
    pub fn of(address: IpAddr) -> Family {
        if address.is_ipv4() {
            Family::V4
        } else {
            Family::V6
        }
    }

    /// The one or the other.
    pub fn pick<T>(self, four: T, six: T) -> T {
        match self {
            Family::V4 => four,
            Family::V6 => six,
        }
    }

    fn address(self, four: Ipv4Addr, six: Ipv6Addr) -> IpAddr {
        self.pick(four.into(), six.into())
    }

    /// The client.
    pub fn client(self) -> IpAddr {
        self.address(CLIENT, CLIENT6)
    }

    /// The gateway's primary address.
    pub fn gateway(self) -> IpAddr {
        self.address(GATEWAY, GATEWAY6)
    }

    /// Another address of the gateway; IPv6 has it where a test gives it.
    pub fn second(self) -> IpAddr {
        self.address(SECOND, SECOND6)
    }

    /// The server behind the gateway.
    pub fn server(self) -> IpAddr {
        self.address(SERVER, SERVER6)
    }

    /// The server on the clients' own segment.
    pub fn neighbour(self) -> IpAddr {
        self.address(NEIGHBOUR, NEIGHBOUR6)
    }

    /// Nobody here.
    pub fn far(self) -> IpAddr {
        self.address(FAR, FAR6)
    }

    /// `port` of every address.
    pub fn any(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address(Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED), port)
    }
}
