// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The usual cast: a client whose only way out is a gateway, and on request a server behind the gateway.
use crate::family::Family;
use crate::netns::Netns;
use crate::talk;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The client's address.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 178, 51);
/// The gateway's address towards the client, its primary one.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 178, 2);
/// A second address of the gateway on the same link.
pub const SECOND: Ipv4Addr = Ipv4Addr::new(192, 168, 178, 3);
/// The server behind the gateway, see [`Lab::server`].
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 2);
/// The server on the clients' own segment, see [`Lab::segment`].
pub const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(192, 168, 178, 7);
/// Its IPv6 address.
pub const NEIGHBOUR6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 7);
/// The IPv6 address of the server behind the gateway, see [`Lab::server6`].
pub const SERVER6: Ipv6Addr = Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, 2);
/// The client's IPv6 address.
pub const CLIENT6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x51);
/// The gateway's IPv6 address.
pub const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
/// A second one, see [`Lab::second6`].
pub const SECOND6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 3);

/// Two namespaces joined by a veth pair; the gateway's end is the device under test.
pub struct Lab {
    /// Has the default route to [`GATEWAY`] and [`GATEWAY6`].
    pub client: Netns,
    /// Owns [`GATEWAY`], [`SECOND`] and [`GATEWAY6`].
    pub gateway: Netns,
    /// Name of the gateway's end.
    pub device: String,
}

impl Lab {
    /// The usual lab, device `eth0`.
    pub fn new() -> Lab {
        Lab::on(Netns::new(), "eth0")
    }

    /// A lab whose gateway is `gateway` and whose device is called `device`.
    pub fn on(gateway: Netns, device: &str) -> Lab {
        let client = gateway.beside();
        let lab = Lab { client, gateway, device: device.to_string() };
        let peer = lab.client.path();
        ip(
            &lab.gateway,
            &format!(
                "link add {device} address 02:00:00:00:00:02 type veth peer name eth0 address 02:00:00:00:00:51 netns {}
                 address add {GATEWAY}/24 dev {device}
                 address add {SECOND}/24 dev {device}
                 address add {GATEWAY6}/64 dev {device} nodad
                 link set {device} up",
                peer.display()
            ),
        );
        ip(
            &lab.client,
            &format!(
                "address add {CLIENT}/24 dev eth0
                 address add {CLIENT6}/64 dev eth0 nodad
                 link set eth0 up
                 route add default via {GATEWAY}
                 route add default via {GATEWAY6}"
            ),
        );
        reached(&lab.client, GATEWAY);
        settled(&lab.gateway, &lab.device);
        lab
    }

    /// Transmit checksum offload at both ends. On, a veth hides wrong checksums; off, it shows them.
    pub fn tx_checksum(self, on: bool) -> Lab {
        let state = if on { "on" } else { "off" };
        self.gateway.run("ethtool", &["-K", &self.device, "tx", state]);
        self.client.run("ethtool", &["-K", "eth0", "tx", state]);
        self
    }

    /// A third namespace with [`SERVER`], reached through the gateway's `eth1`; the gateway forwards from now on.
    /// No link-local address comes up there while a test goes on: `status` would speak of it.
    pub fn server(&self) -> Netns {
        let server = self.gateway.beside();
        let peer = server.path();
        ip(
            &self.gateway,
            &format!(
                "link add eth1 type veth peer name eth0 netns {}
                 address add 10.9.9.1/24 dev eth1
                 link set eth1 up",
                peer.display()
            ),
        );
        ip(
            &server,
            &format!("address add {SERVER}/24 dev eth0\n link set eth0 up\n route add default via 10.9.9.1"),
        );
        self.gateway.sysctl("net/ipv4/ip_forward", "1");
        reached(&server, Ipv4Addr::new(10, 9, 9, 1));
        settled(&self.gateway, "eth1");
        server
    }

    /// A gateway whose one device is a bridge, with the client and a server, [`NEIGHBOUR`] and [`NEIGHBOUR6`], on it.
    pub fn segment(offload: bool) -> (Lab, Netns) {
        let gateway = Netns::new();
        let lab = Lab { client: gateway.beside(), gateway, device: "br0".to_string() };
        let server = lab.gateway.beside();
        ip(
            &lab.gateway,
            &format!(
                "link add br0 type bridge
                 address add {GATEWAY}/24 dev br0
                 address add {GATEWAY6}/64 dev br0 nodad
                 link set br0 up"
            ),
        );
        for (name, ns, address, six) in
            [("port1", &lab.client, CLIENT, CLIENT6), ("port2", &server, NEIGHBOUR, NEIGHBOUR6)]
        {
            let peer = ns.path();
            ip(
                &lab.gateway,
                &format!(
                    "link add {name} type veth peer name eth0 netns {}
                     link set {name} master br0
                     link set {name} up",
                    peer.display()
                ),
            );
            ip(
                ns,
                &format!(
                    "address add {address}/24 dev eth0
                     address add {six}/64 dev eth0 nodad
                     link set eth0 up
                     route add default via {GATEWAY}
                     route add default via {GATEWAY6}"
                ),
            );
            let state = if offload { "on" } else { "off" };
            lab.gateway.run("ethtool", &["-K", name, "tx", state]);
            ns.run("ethtool", &["-K", "eth0", "tx", state]);
        }
        // Nobody may take a short cut.
        for variable in ["all", "br0"] {
            lab.gateway.sysctl(&format!("net/ipv4/conf/{variable}/send_redirects"), "0");
        }
        reached(&lab.client, GATEWAY);
        reached(&server, GATEWAY);
        (lab, server)
    }

    /// The same with [`SERVER6`].
    pub fn server6(&self) -> Netns {
        let server = self.server();
        ip(&self.gateway, "address add fd09::1/64 dev eth1 nodad");
        ip(&server, &format!("address add {SERVER6}/64 dev eth0 nodad\n route add default via fd09::1"));
        self.gateway.sysctl("net/ipv6/conf/all/forwarding", "1");
        server
    }

    /// The gateway's addresses that the client can reach.
    pub fn own(&self) -> [IpAddr; 2] {
        [IpAddr::V4(GATEWAY), IpAddr::V4(SECOND)]
    }

    /// Gives the gateway [`SECOND6`]. The address that came last is the primary one, so the first one comes again.
    pub fn second6(&self) {
        ip(
            &self.gateway,
            &format!(
                "address add {SECOND6}/64 dev {0} nodad
                 address del {GATEWAY6}/64 dev {0}
                 address add {GATEWAY6}/64 dev {0} nodad",
                self.device
            ),
        );
    }

    /// Offers the same rule to the same traffic by nftables instead: what a client should see.
    pub fn nft(&self, rules: &str) {
        self.nft_for(Family::V4, rules);
    }

    /// The same for either family.
    pub fn nft_for(&self, family: Family, rules: &str) {
        let (ip, one, two) = (family.pick("ip", "ip6"), family.gateway(), family.second());
        let table = format!(
            "table {ip} nat {{
               chain pre {{
                 type nat hook prerouting priority dstnat; policy accept;
                 {ip} daddr {{ {one}, {two} }} accept
                 {rules}
               }}
             }}"
        );
        feed(&self.gateway, Command::new("nft").args(["-f", "-"]), &table);
    }
}

/// The kernel sends as many ICMP errors as it has reasons for; without, one host hears no more than one a second, after six, and
/// all together no more than some fifty at once (icmp_msgs_burst), which only the masks switch off.
pub fn tell_all_errors(ns: &Netns) {
    ns.sysctl("net/ipv4/icmp_ratelimit", "0");
    ns.sysctl("net/ipv4/icmp_ratemask", "0");
    ns.sysctl("net/ipv6/icmp/ratelimit", "0");
    // Of types one that nobody uses (RFC 4443, 2.1), for the list cannot be empty.
    ns.sysctl("net/ipv6/icmp/ratemask", "127");
}

impl Default for Lab {
    fn default() -> Self {
        Lab::new()
    }
}

/// Waits until `device` has its link-local address: it comes after the link, and an address that comes late is a change.
fn settled(ns: &Netns, device: &str) {
    let start = Instant::now();
    while !ns.run("ip", &["-6", "address", "show", "dev", device, "scope", "link"]).contains("fe80:") {
        assert!(start.elapsed() < talk::PATIENCE, "{device} got no link-local address");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until `to` answers `ns`. A link carries nothing until a worker of the kernel has seen both ends up, which on a
/// busy machine takes a while; and what is sent before is lost.
pub fn reached(ns: &Netns, to: Ipv4Addr) {
    let start = Instant::now();
    while let Err(error) = talk::ping_for(ns, 1, to, Duration::from_millis(200)) {
        assert!(start.elapsed() < 2 * talk::PATIENCE, "{to} never answered: {error}");
    }
    // As if nobody had asked: an address may still move to another device.
    ns.run("ip", &["neighbour", "flush", "all"]);
}

/// Runs the lines of `batch` as `ip` commands inside `ns`.
pub fn ip(ns: &Netns, batch: &str) {
    feed(ns, Command::new("ip").args(["-batch", "-"]), batch);
}

fn feed(ns: &Netns, command: &mut Command, text: &str) {
    let output = ns.within(|| {
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
}
