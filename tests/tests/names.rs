// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Names: what a client looked up is shown beside the addresses that it asked for, of whichever server; a file of names; and
//! answers that are meant to harm.
use e2e::detour::{self, code, up};
use e2e::dns;
use e2e::lab::{ip, Lab, CLIENT, GATEWAY, NEIGHBOUR, SERVER};
use e2e::listen::{wanted, Events};
use e2e::netns::Netns;
use e2e::serve::Server;
use e2e::tools::Scratch;
use e2e::{random, talk};
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use serde_json::{json, Value};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Whom the client takes for its name server.
const RESOLVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 53);
const WEB: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
/// Another client.
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 168, 178, 52);

/// A child that is killed when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// dnsmasq, which knows one host and an alias of it.
fn dnsmasq(ns: &Netns, port: u16) -> Running {
    let mut command = Command::new("dnsmasq");
    command.args([
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--user=root",
    ]);
    command.args(["--pid-file=", "--log-facility=-", "--bind-interfaces", &format!("--port={port}")]);
    command.args([
        &format!("--host-record=www.example.org,{WEB},2001:db8::7"),
        "--cname=alias.example.org,www.example.org",
    ]);
    let running =
        Running(ns.within(|| command.stderr(Stdio::null()).spawn().expect("dnsmasq, of dnsmasq-base")));
    // It is there when it answers.
    while !ns.run("ss", &["-Hlun"]).contains(&format!(":{port} ")) {
        std::thread::sleep(Duration::from_millis(10));
    }
    running
}

fn dig(ns: &Netns, at: IpAddr, name: &str, kind: &str) -> Vec<String> {
    let at = format!("@{at}");
    let text = ns.run("dig", &[&at, "+short", "+time=3", "+tries=2", name, kind]);
    text.lines().map(str::to_owned).collect()
}

/// The client's web page, asked for from one of its addresses.
fn browse(lab: &Lab, from: Ipv4Addr) {
    let from = from.to_string();
    lab.client
        .run("curl", &["-sS", "--fail", "--max-time", "5", "--interface", &from, &format!("http://{WEB}/")]);
}

/// The names in events of a kind, with the client's address.
fn named(lines: &[Value], kind: &str) -> Vec<(String, Value)> {
    let of_kind = lines.iter().filter(|line| line["event"] == kind && line["protocol"] == "tcp");
    of_kind
        .map(|line| (line["client"]["address"].as_str().unwrap().to_owned(), line["name"].clone()))
        .collect()
}

const RULES: [&str; 4] =
    ["--rule", "udp dport 53 redirect to :5353", "--rule", "tcp dport 80 redirect to :8080"];

#[test]
fn events_carry_the_name_that_their_client_looked_up() {
    let lab = Lab::new();
    ip(&lab.client, &format!("address add {OTHER}/24 dev eth0"));
    up(&lab.gateway, &lab.device, &RULES);
    let _dns = dnsmasq(&lab.gateway, 5353);
    let _web = Server::http(&lab.gateway, (GATEWAY, 8080), "hello");
    let events = Events::start(&lab.gateway, &lab.device, &["-j"]);
    browse(&lab, CLIENT);
    let answer = dig(&lab.client, RESOLVER.into(), "ALIAS.example.org", "A");
    assert_eq!(answer, ["www.example.org.", "198.51.100.7"]);
    assert_eq!(dig(&lab.client, RESOLVER.into(), "nothing.example.org", "A"), Vec::<String>::new());
    browse(&lab, CLIENT);
    browse(&lab, OTHER);
    let name = json!("alias.example.org");
    let client = |address: Ipv4Addr, name: &Value| (address.to_string(), name.clone());
    let expect = [client(CLIENT, &Value::Null), client(CLIENT, &name), client(OTHER, &Value::Null)];
    let lines = events.end();
    assert_eq!(named(&lines, "new"), expect, "{lines:#?}");
    assert_eq!(lines.last().unwrap()["lost"], 0);
    assert!(lines.iter().all(|line| line["event"] != "dns"), "heard, and not shown: {lines:#?}");
}

/// What the DNS events of a lab say: from whom, and what.
fn answers(lines: &[Value]) -> Vec<(Value, Value)> {
    let dns = lines.iter().filter(|line| line["event"] == "dns");
    dns.map(|line| (line["destination"]["address"].clone(), line["answer"].clone())).collect()
}

#[test]
fn answers_of_every_server_are_seen() {
    let lab = Lab::new();
    let server = lab.server();
    up(
        &lab.gateway,
        &lab.device,
        &[
            "--rule",
            "ip daddr 203.0.113.53 udp dport 53 redirect to :5353",
            "--rule",
            "ip6 daddr 2001:db8::53 udp dport 53 redirect to :5353",
        ],
    );
    let _translated = dnsmasq(&lab.gateway, 5353);
    let _direct =
        Server::answering(&lab.gateway, (GATEWAY, 53), |q| dns::answer(q, &[IpAddr::from([192, 0, 2, 1])]));
    let _beyond =
        Server::answering(&server, (SERVER, 53), |q| dns::answer(q, &[IpAddr::from([192, 0, 2, 2])]));
    let events = Events::start(&lab.gateway, &lab.device, &["-j", "--kind", "dns"]);
    let resolver6: IpAddr = "2001:db8::53".parse().unwrap();
    dig(&lab.client, RESOLVER.into(), "www.example.org", "A");
    dig(&lab.client, resolver6, "www.example.org", "AAAA");
    for to in [GATEWAY, SERVER] {
        let socket = talk::udp(&lab.client, 0);
        socket.send_to(&dns::question("direct.example"), (to, 53)).unwrap();
        talk::next(&socket).unwrap();
    }
    let said =
        |from: &str, name: &str, address: &str| (json!(from), json!({"name": name, "addresses": [address]}));
    let expect = [
        said("203.0.113.53", "www.example.org", "198.51.100.7"),
        said("2001:db8::53", "www.example.org", "2001:db8::7"),
        said(&GATEWAY.to_string(), "direct.example", "192.0.2.1"),
        said(&SERVER.to_string(), "direct.example", "192.0.2.2"),
    ];
    let lines = events.end();
    assert_eq!(answers(&lines), expect, "{lines:#?}");
    assert!(lines[..4]
        .iter()
        .all(|line| line["client"]["address"].as_str().is_some_and(|a| a.ends_with("51"))));
    let rules: Vec<&Value> = lines[..4].iter().map(|line| &line["rule"]).collect();
    assert_eq!(rules, [&json!(1), &json!(2), &Value::Null, &Value::Null]);
}

#[test]
fn answers_of_a_server_beside_the_client_are_seen() {
    let (lab, server) = Lab::segment(false);
    up(&lab.gateway, &lab.device, &["--rule", &format!("udp dport 53 dnat to {NEIGHBOUR} masquerade")]);
    let _dns =
        Server::answering(&server, (NEIGHBOUR, 53), |q| dns::answer(q, &[IpAddr::from([192, 0, 2, 1])]));
    let events = Events::start(&lab.gateway, &lab.device, &["-j", "--kind", "dns"]);
    let socket = talk::udp(&lab.client, 0);
    socket.send_to(&dns::question("beside.example"), (RESOLVER, 53)).unwrap();
    assert_eq!(talk::next(&socket).unwrap().1, SocketAddr::from((RESOLVER, 53)));
    let lines = events.end();
    let expect = json!({"name": "beside.example", "addresses": ["192.0.2.1"]});
    assert_eq!(answers(&lines), [(json!(RESOLVER), expect)], "{lines:#?}");
    assert_eq!(lines[0]["client"]["address"], json!(CLIENT));
}

#[test]
fn a_monitor_sees_them() {
    let lab = Lab::new();
    let server = lab.server();
    up(&lab.gateway, &lab.device, &["--rule", "redirect", "--monitor"]);
    let _dns = Server::answering(&server, (SERVER, 53), |q| dns::answer(q, &[IpAddr::from([192, 0, 2, 2])]));
    let events = Events::start(&lab.gateway, &lab.device, &["-j"]);
    let socket = talk::udp(&lab.client, 0);
    socket.send_to(&dns::question("watched.example"), (SERVER, 53)).unwrap();
    talk::next(&socket).unwrap();
    let _ = talk::dial_for(&lab.client, 0, ([192, 0, 2, 2], 80).into(), Duration::from_millis(100));
    let lines = events.end();
    assert_eq!(named(&lines, "asked"), [(CLIENT.to_string(), json!("watched.example"))], "{lines:#?}");
}

/// `detour run`, once it listens.
fn service(lab: &Lab, file: &str) -> Running {
    let scratch = Scratch::new();
    let manager = UnixDatagram::bind(scratch.path("notify")).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut command = detour::command(&[&["run", &lab.device, "--names", file], &RULES[..]].concat());
    command.env("NOTIFY_SOCKET", scratch.path("notify")).stderr(Stdio::null()).stdout(Stdio::null());
    let running = Running(lab.gateway.within(|| command.spawn().unwrap()));
    let mut room = [0; 64];
    let length = manager.recv(&mut room).expect("it is ready");
    assert_eq!(&room[..length], b"READY=1");
    while wanted(&lab.gateway) & 1 << 9 == 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    running
}

/// Waits until the file says it.
fn says(path: &str, expect: &str) {
    let started = Instant::now();
    let text = || std::fs::read_to_string(path).unwrap_or_default();
    while text() != expect {
        assert!(started.elapsed() < Duration::from_secs(10), "{:?} instead of {expect:?}", text());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_file_of_names_is_kept_and_read() {
    let lab = Lab::new();
    ip(&lab.client, &format!("address add {OTHER}/24 dev eth0"));
    let _dns = dnsmasq(&lab.gateway, 5353);
    let _web = Server::http(&lab.gateway, (GATEWAY, 8080), "hello");
    let scratch = Scratch::new();
    let path = scratch.path("names");
    let file = path.to_str().unwrap();
    let first = service(&lab, file);
    assert_eq!(std::fs::read_to_string(file).unwrap(), "", "it can be written");
    dig(&lab.client, RESOLVER.into(), "alias.example.org", "A");
    let one = "198.51.100.7\talias.example.org\t# client 192.168.178.51\n";
    says(file, one);
    drop(first); // SIGKILL
    let second = service(&lab, file);
    dig(&lab.client, RESOLVER.into(), "www.example.org", "AAAA");
    says(file, &format!("{one}2001:db8::7\twww.example.org\t# client 192.168.178.51\n"));
    browse(&lab, CLIENT);
    browse(&lab, OTHER);

    let ns = &lab.gateway;
    let asked = detour::json(ns, &["asked", &lab.device, "--names", file, "tcp", "dport", "80"]);
    let names = |list: &Value, client: fn(&Value) -> &Value| -> Vec<(Value, Value)> {
        list.as_array().unwrap().iter().map(|one| (client(one).clone(), one["name"].clone())).collect()
    };
    let expect = [(json!(CLIENT), json!("alias.example.org")), (json!(OTHER), Value::Null)];
    assert_eq!(names(&asked["rows"], |row| &row["client"]), expect);
    let flows = detour::json(ns, &["flows", &lab.device, "--names", file, "tcp", "dport", "80"]);
    assert_eq!(names(&flows["flows"], |flow| &flow["client"]["address"]), expect);
    let text = detour::run(ns, &["asked", &lab.device, "--names", file, "tcp", "dport", "80"]).done().stdout;
    let ends: Vec<&str> = text.lines().map(|line| line.rsplit("  ").next().unwrap()).collect();
    assert_eq!(ends, ["NAME", "alias.example.org", "-"], "{text}");
    let csv =
        detour::run(ns, &["asked", &lab.device, "--names", file, "--csv", "--top", "1", "tcp"]).done().stdout;
    assert!(csv.contains(",rule,name\r\n") && csv.ends_with(",2,alias.example.org\r\n"), "{csv}");
    let plain = detour::run(ns, &["asked", &lab.device]).done().stdout;
    assert!(!plain.contains("NAME"), "without names there is no column: {plain}");

    // A hosts file is for everybody; `run` does not replace what it did not write.
    let hosts = scratch.write("hosts", "198.51.100.7 web.example # ours\n");
    let asked = detour::json(ns, &["asked", &lab.device, "--names", &hosts, "tcp", "dport", "80"]);
    assert!(asked["rows"].as_array().unwrap().iter().all(|row| row["name"] == "web.example"), "{asked}");
    kill(Pid::from_raw(second.0.id() as i32), Signal::SIGTERM).unwrap();
    drop(second);
    let screen =
        detour::run(ns, &["watch", &lab.device, "--once", "--width", "200", "--names", &hosts]).done();
    assert!(screen.stdout.contains("  web.example\n"), "{}", screen.stdout);
    let events = Events::start(ns, &lab.device, &["-j", "--names", &hosts]);
    browse(&lab, CLIENT);
    assert_eq!(named(&events.end(), "new"), [(CLIENT.to_string(), json!("web.example"))]);
    let refused = detour::run(ns, &["run", &lab.device, "--names", &hosts]);
    refused.refused(code::FOREIGN, &["hosts", "would be replaced"]);
    assert_eq!(std::fs::read_to_string(&hosts).unwrap(), "198.51.100.7 web.example # ours\n");
    detour::run(ns, &["asked", &lab.device, "--names", "/nonexistent"])
        .refused(code::USAGE, &["/nonexistent"]);
}

#[test]
fn answers_that_are_meant_to_harm_do_not() {
    let lab = Lab::new();
    up(&lab.gateway, &lab.device, &RULES);
    // What the server sends depends on the number in the question.
    let mut random = random::Random::new(1);
    let damaged: Vec<Vec<u8>> = (0..300).map(|n| hostile(n, &mut random)).collect();
    let count = damaged.len();
    let _dns = Server::answering(&lab.gateway, (GATEWAY, 5353), move |question| {
        match usize::from(u16::from_be_bytes([question[0], question[1]])) {
            n if n < count => damaged[n].clone(),
            _ => dns::answer(question, &[WEB.into()]),
        }
    });
    let _web = Server::http(&lab.gateway, (GATEWAY, 8080), "hello");
    let events = Events::start(&lab.gateway, &lab.device, &["-j", "--kind", "dns", "--kind", "new"]);
    let socket: UdpSocket = talk::udp(&lab.client, 0);
    for n in 0..=count as u16 {
        let mut question = dns::question("good.example");
        question[..2].copy_from_slice(&n.to_be_bytes());
        socket.send_to(&question, (RESOLVER, 53)).unwrap();
        talk::next(&socket).unwrap();
    }
    browse(&lab, CLIENT);
    let lines = events.end();
    assert_eq!(
        lines.iter().filter(|line| line["event"] == "dns").count(),
        count + 1,
        "all of them were heard"
    );
    assert_eq!(named(&lines, "new"), [(CLIENT.to_string(), json!("good.example"))]);
    assert_eq!(lines.last().unwrap()["lost"], 0);
}

/// Loops, lengths that lie, bytes at random, a terminal's escape sequences, and answers that are cut off.
fn hostile(n: usize, random: &mut random::Random) -> Vec<u8> {
    let good = dns::answer(&dns::question("evil.example"), &[IpAddr::from([192, 0, 2, 66])]);
    match n % 6 {
        0 => [&good[..12], &[0xc0, 12, 0, 1, 0, 1]].concat(),
        1 => good[..1 + random.below(good.len() - 1)].to_vec(),
        2 => [&good[..12], &[63], &[0x1b; 40]].concat(),
        3 => dns::answer(&dns::question("\x1b]0;evil\x07"), &[IpAddr::from([192, 0, 2, 66])]),
        4 => [&good[..6], &[0xff, 0xff], &good[8..]].concat(),
        _ => {
            let mut bytes = good;
            for _ in 0..4 {
                let at = random.below(bytes.len());
                bytes[at] = random.below(256) as u8;
            }
            bytes
        }
    }
}
