// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `up --original-dst` at its edges, beside nf_conntrack: how much room the asker has, servers elsewhere, and `run` confined.
use e2e::cgroup::Cgroup;
use e2e::detour::{self, up};
use e2e::family::Family;
use e2e::lab::{Lab, GATEWAY, NEIGHBOUR};
use e2e::service::Service;
use e2e::talk;
use nix::sys::signal::Signal;
use nix::sys::socket::{getsockopt, sockopt};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};

const DEVICE: &str = "eth0";

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

/// Accepts one connection and asks with each amount of room: level, room, and what came, or the error's number. 0 is Python's
/// word for the room of a number.
const ASKER: &str = r#"
import socket, sys
listener = socket.socket(socket.AF_INET6)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("::", 8080))
listener.listen()
print("ready", flush=True)
for level in (0, 41):
    connection, _ = listener.accept()
    for room in (0, 1, 8, 15, 16, 17, 27, 28, 29, 64, 128, 1024):
        try:
            answer = connection.getsockopt(level, 80, room).hex() if room else connection.getsockopt(level, 80)
        except OSError as error:
            answer = "errno %d" % error.errno
        print(level, room, answer, flush=True)
"#;

/// What a server hears that asks with each amount of room, of an IPv4 and of an IPv6 connection.
fn answers(lab: &Lab) -> Vec<String> {
    let mut python = Command::new("python3");
    python.args(["-c", ASKER]).stdout(Stdio::piped());
    let mut child = lab.gateway.within(|| python.spawn().expect("python3"));
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().as_deref(), Some("ready"));
    let asked = ["93.184.216.34:80", "[2001:db8::1]:443"];
    let talks = asked.map(|to| talk::dial(&lab.client, 4000, at(to)).unwrap());
    let lines: Vec<String> = lines.collect();
    assert!(child.wait().unwrap().success());
    drop(talks);
    lines
}

/// The structures are of 16 and 28 bytes. Who has room gets them, from us with that length. Who has not is told EINVAL (22) there;
/// here the kernel's own answer stays, without nf_conntrack ENOPROTOOPT (92): programs may not choose an error before Linux 5.18.
#[test]
fn as_much_room_as_the_asker_has() {
    let cgroup = Cgroup::joined();
    let theirs = Lab::new();
    theirs.nft("meta l4proto tcp redirect to :8080");
    theirs.nft_for(Family::V6, "meta l4proto tcp redirect to :8080");
    let theirs = answers(&theirs);
    let ours = Lab::new();
    let option = format!("--original-dst={}", cgroup.path());
    up(&ours.gateway, DEVICE, &["--rule", "tcp redirect to :8080", &option]);
    let ours = answers(&ours);
    assert_eq!((theirs.len(), ours.len()), (24, 24));
    let (mut answered, mut refused) = (0, 0);
    for (ours, theirs) in ours.iter().zip(&theirs) {
        if theirs.contains("errno") {
            assert!(ours.contains("errno"), "ours {ours}, theirs {theirs}");
            refused += 1;
        } else {
            // Beyond the structure they leave what was in the asker's memory, and say nothing of a length.
            assert!(theirs.starts_with(ours.as_str()), "ours {ours}, theirs {theirs}");
            let length = ours.rsplit(' ').next().unwrap().len() / 2;
            assert_eq!(length, if ours.starts_with("0 ") { 16 } else { 28 });
            answered += 1;
        }
    }
    assert_eq!((answered, refused), (8 + 5, 4 + 7), "{theirs:#?}");
}

/// A masqueraded flow's server is another machine, where nobody can ask for it: there the kernel knows nothing. `orig` does.
#[test]
fn masqueraded_servers_ask_the_gateway() {
    let cgroup = Cgroup::joined();
    let (lab, server) = Lab::segment(true);
    let option = format!("--original-dst={}", cgroup.path());
    let rule = format!("tcp dport 80 dnat to {NEIGHBOUR}:8080 masquerade");
    up(&lab.gateway, &lab.device, &["--rule", &rule, &option]);
    let listener = server.within(|| TcpListener::bind("0.0.0.0:8080").unwrap());
    let asked = at("93.184.216.34:80");
    let _client = talk::dial(&lab.client, 4000, asked).unwrap();
    let (there, peer) = listener.accept().unwrap();
    assert_eq!(peer.ip(), GATEWAY);
    assert!(getsockopt(&there, sockopt::OriginalDst).is_err(), "its namespace is not the instance's");
    let seen = [peer, there.local_addr().unwrap()].map(|end| end.to_string());
    let orig = detour::run(&lab.gateway, &["orig", "tcp", &seen[0], &seen[1]]).done();
    assert_eq!(orig.stdout, format!("{asked}\n"));
}

/// What the kernel says of an accepted connection.
fn told(socket: &TcpStream) -> Option<SocketAddr> {
    let answer = getsockopt(socket, sockopt::OriginalDst).ok()?;
    Some((Ipv4Addr::from_bits(u32::from_be(answer.sin_addr.s_addr)), u16::from_be(answer.sin_port)).into())
}

/// `run` gives up what it took to load the third program, and goes on; other rules come into force without it.
#[test]
fn a_confined_service_answers() {
    let cgroup = Cgroup::joined();
    let lab = Lab::new();
    let option = format!("--original-dst={}", cgroup.path());
    let mut service =
        Service::start(&lab.gateway, &lab.device, "tcp dport 80 redirect to :8080\n", &[&option]);
    service.logs("<6>confined to ");
    let listener = lab.gateway.within(|| TcpListener::bind("0.0.0.0:8080").unwrap());
    let connect = |port, to: &str| {
        let client = talk::dial(&lab.client, port, at(to)).unwrap();
        (client, listener.accept().unwrap().0)
    };
    let first = connect(4000, "93.184.216.34:80");
    assert_eq!(told(&first.1), Some(at("93.184.216.34:80")));
    service.scratch.write("rules", "tcp dport 81 redirect to :8080\n");
    service.signal(Signal::SIGHUP);
    service.says("RELOADING=1");
    service.says("READY=1");
    let second = connect(4001, "93.184.216.34:81");
    assert_eq!(
        [told(&first.1), told(&second.1)],
        ["93.184.216.34:80", "93.184.216.34:81"].map(|to| Some(at(to)))
    );
    service.signal(Signal::SIGTERM);
    service.ends();
    // Without --down-on-exit everything goes on.
    assert_eq!(told(&second.1), Some(at("93.184.216.34:81")));
    detour::run(&lab.gateway, &["status", DEVICE]).done();
    detour::run(&lab.gateway, &["down", DEVICE]).done();
}
