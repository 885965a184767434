// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! ICMP errors between real stacks: what a client behind `detour up` hears, and what it hears of nftables' same rule.
use e2e::capture::Wire;
use e2e::detour::up;
use e2e::lab::{ip, Lab, CLIENT, GATEWAY, SERVER};
use e2e::netns::Netns;
use e2e::packet::{checksum, Inner, Packet};
use e2e::serve::Server;
use e2e::talk;
use nix::sys::socket::{setsockopt, sockopt};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const FAKE: Ipv4Addr = Ipv4Addr::new(1, 2, 3, 4);

/// Runs the scene under nftables and under detour, with offload on and off; both tell the same.
fn both(nft: &str, rule: &str, scene: impl Fn(&Lab) -> Vec<String>) -> Vec<String> {
    let mut told = Vec::new();
    for offload in [true, false] {
        let theirs = Lab::new().tx_checksum(offload);
        theirs.nft(nft);
        let theirs = scene(&theirs);
        let ours = Lab::new().tx_checksum(offload);
        up(&ours.gateway, &ours.device, &["--rule", rule]);
        told = scene(&ours);
        assert_eq!(told, theirs, "offload {offload}");
    }
    told
}

/// The ICMP errors among what passed: sender, receiver, type, code and the quoted packet's ends. Errors are always
/// summed by the sender, so what is read here is right in every sum of its own.
fn errors(wire: &Wire) -> Vec<String> {
    let mut lines = Vec::new();
    for frame in wire.frames(talk::QUIET).iter().filter(|frame| frame.bytes[12..14] == [8, 0]) {
        let packet = Packet::read_loosely(&frame.bytes).unwrap_or_else(|fault| panic!("{fault}"));
        let Inner::Icmp { kind: kind @ (3 | 11 | 12), code, .. } = packet.inner else { continue };
        let checked = Packet::read(&frame.bytes).unwrap_or_else(|fault| panic!("{fault}"));
        let quoted = &checked.payload;
        assert_eq!(checksum(&quoted[..20]), 0, "the quoted header's sum");
        let ends = |at: usize| <[u8; 4]>::try_from(&quoted[at..at + 4]).map(Ipv4Addr::from).unwrap();
        let dport = u16::from_be_bytes([quoted[22], quoted[23]]);
        let (from, to) = (ends(12), ends(16));
        lines.push(format!("{} {kind}/{code}: {from} > {to}:{dport}", packet.src));
    }
    lines.dedup(); // a busy machine may make somebody ask again
    lines
}

#[test]
fn a_closed_udp_port_refuses() {
    let told = both("ip protocol { tcp, udp, icmp } redirect", "redirect", |lab| {
        let wire = Wire::tap(&lab.client, "eth0");
        let socket = talk::udp(&lab.client, 4000);
        socket.connect((FAKE, 9)).unwrap();
        assert_eq!(talk::refusal(&socket).unwrap(), ErrorKind::ConnectionRefused);
        errors(&wire)
    });
    assert_eq!(told, ["1.2.3.4 3/3: 192.168.178.51 > 1.2.3.4:9"]);
}

/// The other way: a server learns that its client is gone.
#[test]
fn a_client_that_left_refuses_the_answer() {
    both("ip protocol { tcp, udp, icmp } redirect", "redirect", |lab| {
        let server = lab.gateway.within(|| std::net::UdpSocket::bind((GATEWAY, 53)).unwrap());
        server.set_read_timeout(Some(talk::PATIENCE)).unwrap();
        let socket = talk::udp(&lab.client, 4000);
        socket.send_to(b"quick", (FAKE, 53)).unwrap();
        drop(socket);
        let (_, client) = server.recv_from(&mut [0; 10]).unwrap();
        server.connect(client).unwrap();
        assert_eq!(talk::refusal(&server).unwrap(), ErrorKind::ConnectionRefused);
        vec![client.to_string()]
    });
}

/// What `traceroute` does: one hop more with each question, until a port is unreachable.
fn trace(lab: &Lab, to: Ipv4Addr, hops: u32) -> Vec<String> {
    let wire = Wire::tap(&lab.client, "eth0");
    for ttl in 1..=hops {
        let socket = talk::udp(&lab.client, 5000);
        socket.set_ttl(ttl).unwrap();
        socket.connect((to, 33433 + ttl as u16)).unwrap();
        // Of hops on the way the kernel tells a socket only when it asked to hear of such errors.
        setsockopt(&socket, sockopt::Ipv4RecvErr, &true).unwrap();
        talk::refused(&socket, b"where?").unwrap();
    }
    errors(&wire)
}

#[test]
fn traces_end_at_the_address_that_was_asked() {
    let told = both("ip protocol { tcp, udp, icmp } redirect", "redirect", |lab| trace(lab, FAKE, 1));
    assert_eq!(told, ["1.2.3.4 3/3: 192.168.178.51 > 1.2.3.4:33434"]);
    let told = both("ip protocol udp dnat to 10.9.9.2", "udp dnat to 10.9.9.2", |lab| {
        let _server = lab.server();
        trace(lab, FAKE, 2)
    });
    let hops =
        ["1.2.3.4 11/0: 192.168.178.51 > 1.2.3.4:33434", "1.2.3.4 3/3: 192.168.178.51 > 1.2.3.4:33435"];
    assert_eq!(told, hops);
}

/// Who traces the server by its own address hears the routers under theirs, though such flows are known to the programs.
#[test]
fn traces_to_the_server_itself() {
    let told = both(
        "ip daddr 1.2.3.4 ip protocol udp dnat to 10.9.9.2",
        "ip daddr 1.2.3.4 udp dnat to 10.9.9.2",
        |lab| {
            let _server = lab.server();
            trace(lab, Ipv4Addr::new(10, 9, 9, 2), 2)
        },
    );
    let hops = [
        "192.168.178.2 11/0: 192.168.178.51 > 10.9.9.2:33434",
        "10.9.9.2 3/3: 192.168.178.51 > 10.9.9.2:33435",
    ];
    assert_eq!(told, hops);
}

/// A link of 1280 bytes between the gateway and the server: the client's segments get smaller.
#[test]
fn a_narrow_link_before_the_server() {
    let told = both("tcp dport 80 dnat to 10.9.9.2", "tcp dport 80 dnat to 10.9.9.2", |lab| {
        let server = lab.server();
        ip(&lab.gateway, "link set eth1 mtu 1280");
        let web = Server::http(&server, (SERVER, 80), "got it");
        let wire = Wire::tap(&lab.client, "eth0");
        let long = "upload ".repeat(3000);
        let mut stream = talk::dial(&lab.client, 4000, (FAKE, 80).into()).unwrap();
        assert!(talk::get(&mut stream, &long).unwrap().starts_with("got it "));
        assert!(web.heard()[0].1.len() > long.len());
        some(errors(&wire))
    });
    assert_eq!(told, ["1.2.3.4 3/4: 192.168.178.51 > 1.2.3.4:80"]);
}

/// A link of 1280 bytes behind a router on the client's side: the server's segments get smaller.
#[test]
fn a_narrow_link_before_the_client() {
    let told = both("tcp dport 80 redirect", "tcp dport 80 redirect", |lab| {
        let far = behind(lab);
        let _web = Server::http(&lab.gateway, SocketAddr::from(([0, 0, 0, 0], 80)), &"page ".repeat(9000));
        let wire = Wire::tap(&lab.client, "eth0");
        let mut stream = talk::dial(&far, 4000, (FAKE, 80).into()).unwrap();
        assert!(talk::get(&mut stream, "example.org").unwrap().len() > 45_000);
        assert_eq!(stream.peer_addr().unwrap().ip(), IpAddr::V4(FAKE));
        some(errors(&wire))
    });
    assert_eq!(told, [format!("{CLIENT} 3/4: 1.2.3.4 > 10.7.7.2:4000")]);
}

/// A namespace that the lab's client forwards for, over a narrow link of which only the client knows.
fn behind(lab: &Lab) -> Netns {
    let far = lab.client.beside();
    let peer = far.path();
    ip(
        &lab.client,
        &format!(
            "link add eth1 mtu 1280 type veth peer name eth0 mtu 1500 netns {}
             address add 10.7.7.1/24 dev eth1
             link set eth1 up",
            peer.display()
        ),
    );
    ip(&far, "address add 10.7.7.2/24 dev eth0\n link set eth0 up\n route add default via 10.7.7.1");
    lab.client.sysctl("net/ipv4/ip_forward", "1");
    ip(&lab.gateway, &format!("route add 10.7.7.0/24 via {CLIENT}"));
    far
}

/// The different ones: how many are sent depends on timing.
fn some(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines.dedup();
    lines
}
