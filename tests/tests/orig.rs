// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `orig`: from what a server's own socket sees, what its client had asked for; beside what the client itself knows.
use e2e::detour::{self, code, up};
use e2e::lab::{ip, Lab, CLIENT, GATEWAY, GATEWAY6, SECOND};
use e2e::talk;
use serde_json::{json, Value};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};

const DEVICE: &str = "eth0";
const FAR: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 34);

fn to(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

/// A connection from `port` of the client to `asked`: its end here, and both ends as the server's socket has them.
fn connect(lab: &Lab, listener: &TcpListener, port: u16, asked: SocketAddr) -> (TcpStream, TcpStream) {
    let client = talk::dial(&lab.client, port, asked).unwrap();
    let (server, _) = listener.accept().unwrap();
    (client, server)
}

fn ask(lab: &Lab, protocol: &str, client: SocketAddr, server: SocketAddr) -> Value {
    detour::json(&lab.gateway, &["orig", protocol, &client.to_string(), &server.to_string()])
}

#[test]
fn a_server_learns_what_was_asked_for() {
    let lab = Lab::new();
    up(&lab.gateway, DEVICE, &["--rule", "tcp redirect to :8080"]);
    // As many servers have it: one socket for both families, so that IPv4 clients are ::ffff:a.b.c.d.
    let listener = lab.gateway.within(|| TcpListener::bind("[::]:8080").unwrap());
    // The gateway itself first, so that the client's port is taken where the others come from it.
    let asked = [(GATEWAY.into(), 8080), (FAR.into(), 80), (FAR.into(), 443)];
    let asked = asked.map(|(address, port): (IpAddr, u16)| SocketAddr::new(address, port));
    let asked = asked.into_iter().chain(["[2001:db8::1]:80", "[2001:db8::1]:443"].map(to));
    let mut talks = Vec::new();
    for asked in asked {
        let (client, server) = connect(&lab, &listener, 4000, asked);
        let (peer, local) = (server.peer_addr().unwrap(), server.local_addr().unwrap());
        let line = ["orig", "tcp", &peer.to_string(), &local.to_string()];
        assert_eq!(detour::run(&lab.gateway, &line).done().stdout, format!("{asked}\n"));
        let document = detour::json(&lab.gateway, &line);
        assert_eq!(document["schema"], "detour.orig/1");
        assert_eq!(document["original"], json!({"address": asked.ip().to_string(), "port": asked.port()}));
        assert_eq!(document["flow"]["client"]["port"], 4000);
        assert_eq!(document["flow"]["client_port_at_server"], peer.port());
        assert_eq!(document["flow"]["direct"], Value::Bool(asked.ip() == IpAddr::from(GATEWAY)));
        talks.push((client, server));
    }
    let ports: Vec<u16> = talks.iter().map(|(_, server)| server.peer_addr().unwrap().port()).collect();
    assert_eq!((ports[0], ports[3]), (4000, 4000));
    assert!([1, 2, 4].iter().all(|i| ports[*i] != 4000), "taken, so another: {ports:?}");
    // No rule leads to the second address, so nobody follows what goes there.
    let (_client, server) = connect(&lab, &listener, 4001, (SECOND, 8080).into());
    let (peer, local) = (server.peer_addr().unwrap().to_string(), server.local_addr().unwrap().to_string());
    detour::run(&lab.gateway, &["orig", "tcp", &peer, &local]).ends(code::NO);
}

#[test]
fn datagrams_and_echoes() {
    let lab = Lab::new();
    up(&lab.gateway, DEVICE, &["--rule", "redirect"]);
    let socket = lab.gateway.within(|| UdpSocket::bind("[::]:53").unwrap());
    let mut room = [0; 16];
    for (asked, own, any) in [
        (to("8.8.8.8:53"), IpAddr::from(GATEWAY), "0.0.0.0"),
        (to("[2001:db8::53]:53"), GATEWAY6.into(), "::"),
    ] {
        let from =
            lab.client.within(|| UdpSocket::bind(SocketAddr::new(any.parse().unwrap(), 5000)).unwrap());
        from.send_to(b"name?", asked).unwrap();
        let (_, peer) = socket.recv_from(&mut room).unwrap();
        // All it knows is its port, if it did not ask for more.
        for server in [own, any.parse().unwrap()] {
            let found = ask(&lab, "udp", peer, SocketAddr::new(server, 53));
            assert_eq!(found["original"]["address"], asked.ip().to_string(), "{found}");
        }
    }
    // Whatever routing makes it answer from; but not from what is no address of ours.
    let second = ask(&lab, "udp", (CLIENT, 5000).into(), (SECOND, 53).into());
    assert_eq!(second["original"]["address"], "8.8.8.8");
    let no = |line: &[&str]| {
        let run = detour::run(&lab.gateway, &[&["orig"], line].concat()).ends(code::NO);
        assert_eq!(run.stdout, "no such translation\n", "{line:?}");
    };
    no(&["udp", "192.168.178.51:5000", "192.168.178.77:53"]);
    no(&["udp", "192.168.178.51:5001", "192.168.178.2:53"]);
    no(&["tcp", "192.168.178.51:5000", "192.168.178.2:53"]);

    assert_eq!(talk::ping(&lab.client, 77, FAR).unwrap(), IpAddr::from(FAR));
    let line = ["orig", "icmp", "192.168.178.51:77", "192.168.178.2"];
    assert_eq!(detour::run(&lab.gateway, &line).done().stdout, "93.184.216.34\n");
    assert_eq!(detour::json(&lab.gateway, &line)["original"]["port"], Value::Null);
    let missing = ["orig", "icmp", "192.168.178.51:78", "192.168.178.2", "-j"];
    let document = detour::run(&lab.gateway, &missing).ends(code::NO).json();
    assert_eq!((&document["original"], &document["flow"]), (&Value::Null, &Value::Null));
}

#[test]
fn all_devices_or_one() {
    let lab = Lab::new();
    let listener = lab.gateway.within(|| TcpListener::bind("0.0.0.0:8080").unwrap());
    let line = ["orig", "tcp", "192.168.178.51:4000", "192.168.178.2:8080"];
    detour::run(&lab.gateway, &line).refused(code::NO, &["nothing is up in this network namespace"]);
    ip(
        &lab.gateway,
        "link add spare type veth peer name other\n address add 10.8.8.1/24 dev spare\n link set spare up",
    );
    up(&lab.gateway, "spare", &[]);
    detour::run(&lab.gateway, &line).ends(code::NO);
    up(&lab.gateway, DEVICE, &["--rule", "tcp redirect to :8080"]);
    let _talk = connect(&lab, &listener, 4000, (FAR, 80).into());
    assert_eq!(detour::json(&lab.gateway, &line)["device"], DEVICE);
    let on = |device: &str| detour::run(&lab.gateway, &[&line[..], &["--dev", device]].concat());
    assert_eq!(on(DEVICE).done().stdout, "93.184.216.34:80\n");
    on("spare").ends(code::NO);
    on("lo").refused(code::NO, &["nothing is up on lo"]);
    detour::run(&lab.gateway, &["orig", "tcp", "192.168.178.51", "192.168.178.2:8080"])
        .refused(code::USAGE, &["'192.168.178.51' is not ADDRESS:PORT"]);
}
