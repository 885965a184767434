// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `flush` and `up --flush`: what is chosen ends, by its own clients and in the tables; all else goes on, under any traffic.
use e2e::crowd::Crowd;
use e2e::detour::{self, code, up};
use e2e::lab::{Lab, CLIENT};
use e2e::serve::Server;
use e2e::strace;
use e2e::talk;
use serde_json::{json, Value};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const DEVICE: &str = "eth0";

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

fn flows(lab: &Lab) -> Vec<String> {
    let document = detour::json(&lab.gateway, &["flows", DEVICE]);
    let one = |f: &Value| format!("{} {}", f["protocol"].as_str().unwrap(), f["client"]["port"]);
    document["flows"].as_array().unwrap().iter().map(one).collect()
}

fn flush(lab: &Lab, words: &[&str]) -> Value {
    detour::json(&lab.gateway, &[&["flush", DEVICE], words].concat())["flows"].clone()
}

/// Elements of a map of the instance.
fn elements(lab: &Lab, map: &str) -> usize {
    let document = detour::json(&lab.gateway, &["map", "dump", DEVICE, "up", map]);
    document["elements"].as_array().unwrap().len()
}

/// Says something and hears it.
fn echoes(stream: &mut TcpStream) -> bool {
    let mut room = [0; 4];
    stream.write_all(b"echo").is_ok() && stream.read_exact(&mut room).is_ok() && &room == b"echo"
}

#[test]
fn what_is_chosen_ends_and_nothing_else() {
    let lab = Lab::new();
    up(&lab.gateway, DEVICE, &["--no-pickup", "--rule", "tcp dport 80 redirect", "--rule", "udp redirect"]);
    let _echo = Server::echo(&lab.gateway, at("[::]:80"));
    let _names = Server::udp(&lab.gateway, at("[::]:53"));
    let dial = |port, to: &str| talk::dial(&lab.client, port, at(to)).unwrap();
    let mut one = dial(4000, "1.2.3.4:80");
    let mut two = dial(4001, "93.184.216.34:80");
    let mut six = dial(4002, "[2001:db8::1]:80");
    let mut other = dial(4003, "[2001:db8::2]:80");
    assert!([&mut one, &mut two, &mut six, &mut other].map(echoes).iter().all(|heard| *heard));
    let socket = talk::udp(&lab.client, 5000);
    talk::ask(&socket, at("8.8.8.8:53"), "name?").unwrap();
    assert_eq!(flows(&lab), ["tcp 4000", "tcp 4001", "udp 5000", "tcp 4002", "tcp 4003"]);
    let [index4, index6] = ["idx4", "idx6"].map(|map| elements(&lab, map));
    assert_eq!((index4, index6), (6, 4), "two keys a flow");

    let none = detour::run(&lab.gateway, &["flush", DEVICE, "icmp"]).done();
    assert_eq!(none.stdout, "eth0: no flow ended (0 steps)\n");
    assert_eq!(flush(&lab, &["tcp ip daddr 1.2.3.4"]), json!({"ended": 1, "gone": 0, "moving": 0}));
    let run = detour::run(&lab.gateway, &["flush", DEVICE, "tcp", "ip6", "daddr", "2001:db8::1"]).done();
    assert!(run.stdout.starts_with("eth0: 1 flow ended ("), "{}", run.stdout);
    assert_eq!(flows(&lab), ["tcp 4001", "udp 5000", "tcp 4003"]);
    assert_eq!((elements(&lab, "idx4"), elements(&lab, "idx6")), (4, 2), "no key is left");
    for stream in [&mut one, &mut six] {
        stream.set_read_timeout(Some(talk::SILENCE)).unwrap();
    }
    assert!(!echoes(&mut one) && !echoes(&mut six), "nobody knows them any more");
    assert!(echoes(&mut two) && echoes(&mut other));
    assert_eq!(talk::ask(&socket, at("8.8.8.8:53"), "again").unwrap().1, at("8.8.8.8:53"));

    assert_eq!(flush(&lab, &[])["ended"], 3);
    assert_eq!(flows(&lab), [""; 0]);
    // A datagram opens a flow anew.
    talk::ask(&socket, at("8.8.8.8:53"), "anew").unwrap();
    assert_eq!(flows(&lab), ["udp 5000"]);

    let words = ["flush", DEVICE, "tcp", "dport", "http"];
    detour::run(&lab.gateway, &words).refused(code::USAGE, &["MATCH:1:11: `http` is no number"]);
    detour::run(&lab.gateway, &["flush", "lo"]).refused(code::NO, &["nothing is up on lo"]);
}

#[test]
fn other_rules_with_and_without() {
    let lab = Lab::new();
    let [old, new] = ["udp dport 53 redirect to :5301", "udp dport 53 redirect to :5302"];
    up(&lab.gateway, DEVICE, &["--rule", old]);
    let servers = [5301, 5302].map(|port| Server::udp(&lab.gateway, SocketAddr::from(([0; 4], port))));
    let heard = || [0, 1].map(|n: usize| servers[n].heard().len());
    let sockets = [5000, 5001].map(|port| talk::udp(&lab.client, port));
    let ask = || {
        for socket in &sockets {
            talk::ask(socket, at("8.8.8.8:53"), "name?").unwrap();
        }
    };
    ask();
    up(&lab.gateway, DEVICE, &["--rule", new]);
    ask();
    assert_eq!(heard(), [4, 0], "flows keep their translation");
    let again = up(&lab.gateway, DEVICE, &["--rule", new, "--flush", "udp sport 5001"]);
    assert!(again.stdout.contains("it is up with these rules; 1 flow ended ("), "{}", again.stdout);
    ask();
    assert_eq!(heard(), [5, 1]);
    let swap = ["up", DEVICE, "--rule", old, "--flush", ""];
    let document = detour::json(&lab.gateway, &swap);
    assert_eq!((&document["change"], &document["flows"]["ended"]), (&"rules".into(), &2.into()));
    ask();
    assert_eq!(heard(), [7, 1]);
    // Rules that are refused end nothing.
    let wrong = ["up", DEVICE, "--rule", "udp dport 53 redirect to 1", "--flush", ""];
    detour::run(&lab.gateway, &wrong).ends(code::USAGE);
    assert_eq!(flows(&lab).len(), 2);
    detour::run(&lab.gateway, &["down", DEVICE]).done();
    let first = up(&lab.gateway, DEVICE, &["--rule", new, "--flush", ""]);
    assert!(first.stdout.contains("nothing was up, so there are no flows to end"), "{}", first.stdout);
}

/// Flows that open while `up --flush` is under way do so by the rules before until the swap: they end with those that it found.
#[test]
fn none_is_left_of_the_rules_before() {
    let lab = Lab::new();
    let rule = |port: u16| format!("udp dport 53 redirect to :{port}");
    let _servers = [5301, 5302].map(|port| Server::udp(&lab.gateway, SocketAddr::from(([0; 4], port))));
    let kept = talk::udp(&lab.client, 0);
    up(&lab.gateway, DEVICE, &["--rule", &rule(5301), "--rule", "udp redirect to :5301"]);
    talk::ask(&kept, at("8.8.8.8:54"), "not chosen").unwrap();
    for port in [5302, 5301, 5302] {
        let (done, rule) = (AtomicBool::new(false), rule(port));
        let line = ["up", DEVICE, "--rule", &rule, "--rule", "udp redirect", "--flush", "udp dport 53", "-j"];
        let output = std::thread::scope(|scope| {
            scope.spawn(|| {
                // Every other one is confirmed at once.
                let mut heard = 0;
                while !done.load(Ordering::Relaxed) {
                    let socket = talk::udp(&lab.client, 0);
                    // An answer may meet a flow that has just ended.
                    socket.set_read_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
                    for _ in 0..=heard % 2 {
                        let _ = talk::ask(&socket, at("8.8.8.8:53"), "name?");
                    }
                    heard += 1;
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
            });
            let slow = strace::Fault::slow("bpf", 3);
            let output = strace::inject(&lab.gateway, &detour::command(&line), "bpf", &slow);
            done.store(true, Ordering::Relaxed);
            output.expect("it was slowed down")
        });
        let document = detour::Run::of(&line, &output).done().json();
        assert_eq!(document["flows"]["moving"], 0, "{document}");
        let flows = detour::json(&lab.gateway, &["flows", DEVICE, "udp", "dport", "53"]);
        let now = &flows["rules_generation"];
        let all = flows["flows"].as_array().unwrap();
        let old = all.iter().filter(|flow| flow["rules_generation"] != *now).count();
        assert_eq!(old, 0, "of {}: {document}", all.len());
        assert!(all.iter().all(|flow| flow["server"]["port"] == port), "{port}");
    }
    let flows = detour::json(&lab.gateway, &["flows", DEVICE, "udp", "dport", "54"]);
    assert_eq!(flows["flows"][0]["server"]["port"], 5301, "{flows}");
}

#[test]
fn a_client_gets_its_share_back() {
    let lab = Lab::new();
    up(&lab.gateway, DEVICE, &["--no-pickup", "--client-live", "2", "--when-full", "drop"]);
    let _echo = Server::echo(&lab.gateway, at("0.0.0.0:80"));
    let connect = |port| talk::dial_for(&lab.client, port, at("1.2.3.4:80"), talk::SILENCE);
    let mut streams: Vec<TcpStream> = [4000, 4001].map(|port| connect(port).unwrap()).into();
    assert!(streams.iter_mut().all(echoes));
    assert!(connect(4002).is_err(), "a third");
    assert_eq!(flush(&lab, &["tcp sport 4000"])["ended"], 1);
    let mut third = connect(4003).unwrap();
    assert!(echoes(&mut third) && echoes(&mut streams[1]));
    assert!(connect(4004).is_err(), "room for one");
    // Given back once for each, so that nobody gets more than its share.
    assert_eq!(flush(&lab, &[])["ended"], 2);
    let mut streams: Vec<TcpStream> = [4005, 4006].map(|port| connect(port).unwrap()).into();
    assert!(streams.iter_mut().all(echoes));
    assert!(connect(4007).is_err(), "and no more");
}

#[test]
fn under_traffic() {
    let lab = Lab::new();
    up(&lab.gateway, DEVICE, &["--no-pickup", "--client-live", "100000", "--half-open", "64"]);
    let _echo = Server::echo(&lab.gateway, at("0.0.0.0:80"));
    let _names = Server::udp(&lab.gateway, at("0.0.0.0:53"));
    let _others = Server::udp(&lab.gateway, at("0.0.0.0:54"));
    let mut crowd =
        Crowd::new(&lab.client, 50, |n| SocketAddr::from(([93, 184, 216, 1 + (n % 200) as u8], 80)));
    let (stop, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    let sockets: Vec<UdpSocket> = (0..40).map(|_| talk::udp(&lab.client, 0)).collect();
    let mut ended = 0;
    std::thread::scope(|scope| {
        // Flows that open, are confirmed and are ended all the time: whoever asks is answered whatever happens.
        for part in sockets.chunks(20) {
            let (stop, asked) = (&stop, &asked);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    for (n, socket) in part.iter().enumerate() {
                        let port = 53 + n as u16 % 2;
                        let to = SocketAddr::from(([8, 8, 8, n as u8], port));
                        socket.send_to(b"name?", to).unwrap();
                    }
                    for socket in part {
                        // An answer may meet a flow that has just ended; the next question opens another one.
                        socket.set_read_timeout(Some(std::time::Duration::from_millis(20))).unwrap();
                        asked.fetch_add(u64::from(talk::next(socket).is_ok()), Ordering::Relaxed);
                    }
                }
            });
        }
        for _ in 0..40 {
            ended += flush(&lab, &["udp", "dport", "53"])["ended"].as_u64().unwrap();
            crowd.exchange();
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(ended > 40 && asked.load(Ordering::Relaxed) > 100, "{ended} ended, {asked:?} answers");
    crowd.exchange();
    // Nor did a flow lose a key to the end of the one before it: each has its answers, from whom it asked.
    for (n, socket) in sockets.iter().enumerate() {
        while talk::next(socket).is_ok() {}
        socket.set_read_timeout(Some(talk::PATIENCE)).unwrap();
        let to = SocketAddr::from(([8, 8, 8, (n % 20) as u8], 53 + n as u16 % 2));
        for text in ["after", "again"] {
            let (heard, from) = talk::ask(socket, to, text).unwrap_or_else(|e| panic!("socket {n}: {e}"));
            assert!(heard.starts_with(text) && from == to, "socket {n}: {heard} from {from}");
        }
    }
    let confirmed = |document: &Value| {
        let flows = document["flows"].as_array().unwrap();
        flows.iter().filter(|f| f["state"] == "confirmed").count() as u64
    };
    // Every confirmed flow of the client counts once, however many were ended.
    let client =
        format!("hex:{}ffff{}", "0".repeat(20), CLIENT.octets().map(|b| format!("{b:02x}")).concat());
    let live = || {
        let document = detour::json(&lab.gateway, &["map", "get", DEVICE, "up", "clients", &client]);
        document["elements"][0]["value"]["live"].as_u64().unwrap()
    };
    assert_eq!(live(), confirmed(&detour::json(&lab.gateway, &["flows", DEVICE])));
    assert_eq!(flush(&lab, &[])["gone"], 0);
    assert_eq!(self::flows(&lab), [""; 0]);
    assert_eq!(live(), 0);
}
