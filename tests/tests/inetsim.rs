// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A real use: INetSim on the gateway plays the Internet for a client that asks for random public addresses and ports.
//!
//! Nothing but `detour up` brings the client's packets to it, no iptables line anywhere. What a well-known service does
//! not serve goes to INetSim's dummy service on port 1: the last rule. Then the client scans 1,000 ports, of which INetSim
//! answers 100 and a rule refuses the rest, while rules and programs change and whoever looks on is killed; and 1,000 of
//! another address, of which the kernel refuses 900, into a capture.
use e2e::detour::{self, up};
use e2e::lab::{Lab, CLIENT};
use e2e::listen::Events;
use e2e::netns::Netns;
use e2e::service::Service;
use e2e::talk;
use e2e::tools::Scratch;
use e2e::version::{compile, COUNTS};
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const RULES: &str = "\
tcp dport 80 redirect          # web
tcp dport 443 redirect
tcp dport 25 redirect          # mail
udp dport 53 redirect          # names
ip daddr 198.51.100.7 tcp dport 30001-30100 redirect to :80
ip daddr 198.51.100.7 tcp dport 30101-31000 reject with tcp reset
ip daddr 198.51.100.8 tcp dport 30001-30100 redirect to :80
ip daddr 198.51.100.8 tcp dport 30101-31000 redirect to :2    # nobody listens
tcp redirect to :1             # any other port: the dummy service
udp redirect to :1
";

/// One client has a sixteenth of the rows at most, and this one asks for more than a thousand things.
const ROWS: [&str; 2] = ["--asked-max", "65536"];

const CONFIGURATION: &str = "\
start_service dns
start_service http
start_service https
start_service smtp
start_service dummy_tcp
start_service dummy_udp
service_bind_address 0.0.0.0
service_max_childs 30
dns_default_ip 203.0.113.80
http_default_fakefile sample.html text/html
https_default_fakefile sample.html text/html
dummy_banner_wait 1
dummy_banner \"220 dummy\"
";

struct Inetsim(Child, #[allow(dead_code)] Scratch);

impl Inetsim {
    fn start(ns: &Netns) -> Inetsim {
        let scratch = Scratch::new();
        let configuration = scratch.write("inetsim.conf", CONFIGURATION);
        let folder = |name: &str| {
            let path = scratch.path(name);
            std::fs::create_dir(&path).unwrap();
            // It gives up root for its services, which have to write here.
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
            path.display().to_string()
        };
        let (log, report) = (folder("log"), folder("report"));
        let mut command = Command::new("timeout"); // it outlives nothing, whatever happens to this test
        command.args(["--kill-after=5", "120", "inetsim", "--config", &configuration]);
        command.args(["--log-dir", &log, "--report-dir", &report]);
        command.args(["--pidfile", scratch.path("pid").to_str().unwrap()]);
        let output = std::fs::File::create(scratch.path("output")).unwrap();
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let mut child = ns.within(|| command.spawn().unwrap());
        let start = Instant::now();
        // Its services are processes of their own, which begin to listen in any order.
        let listens = |port: u16| ns.within(|| TcpStream::connect(("127.0.0.1", port))).is_ok();
        while ![1, 25, 80, 443].into_iter().all(listens) {
            let output = || std::fs::read_to_string(scratch.path("output")).unwrap();
            assert!(child.try_wait().unwrap().is_none(), "INetSim ended:\n{}", output());
            assert!(start.elapsed() < Duration::from_secs(30), "INetSim does not listen:\n{}", output());
            std::thread::sleep(Duration::from_millis(100));
        }
        Inetsim(child, scratch)
    }
}

impl Drop for Inetsim {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.0.id() as i32), Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

/// Public addresses and high ports, the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn address(&mut self) -> Ipv4Addr {
        loop {
            let ip = Ipv4Addr::from(self.next() as u32 | (self.next() as u32) << 31);
            let first = ip.octets()[0];
            if (1..224).contains(&first)
                && ![10, 127].contains(&first)
                && !ip.is_private()
                && !ip.is_link_local()
            {
                return ip;
            }
        }
    }

    fn port(&mut self) -> u16 {
        1024 + (self.next() % 60_000) as u16
    }
}

/// A question for the IPv4 address of example.org.
const QUESTION: &[u8] =
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03org\x00\x00\x01\x00\x01";

#[test]
fn inetsim_plays_the_internet() {
    let lab = Lab::new();
    let scratch = Scratch::new();
    up(&lab.gateway, &lab.device, &[&[scratch.write("inetsim.rules", RULES).as_str()], &ROWS[..]].concat());
    let _inetsim = Inetsim::start(&lab.gateway);
    let mut random = Random(2026);
    let mut asked = BTreeSet::new();

    for _ in 0..5 {
        for (scheme, port) in [("http", 80), ("https", 443)] {
            let ip = random.address();
            let url = format!("{scheme}://{ip}/anything");
            let page =
                lab.client.run("curl", &["-sS", "--insecure", "--max-time", "10", "--noproxy", "*", &url]);
            assert!(page.contains("INetSim"), "{url}: {page}");
            asked.insert(("tcp", ip, port));
        }
        let ip = random.address();
        let socket = talk::udp(&lab.client, 0);
        socket.send_to(QUESTION, (ip, 53)).unwrap();
        let mut room = [0; 512];
        let (length, from) = socket.recv_from(&mut room).unwrap();
        assert_eq!(from, SocketAddr::from((ip, 53)));
        assert!(room[..length].windows(4).any(|part| part == [203, 0, 113, 80]), "{:02x?}", &room[..length]);
        asked.insert(("udp", ip, 53));

        let ip = random.address();
        assert!(first_words(dial(&lab, ip, 25)).starts_with("220 "), "mail at {ip}");
        asked.insert(("tcp", ip, 25));
    }
    // The dummy service waits a second before it speaks: all conversations at once.
    let high: Vec<_> = (0..25).map(|_| (random.address(), random.port())).collect();
    let streams: Vec<_> = high.iter().map(|(ip, port)| dial(&lab, *ip, *port)).collect();
    for (stream, (ip, port)) in streams.into_iter().zip(high) {
        let words = first_words(stream);
        assert!(words.starts_with("220 dummy"), "tcp {ip}:{port}: {words:?}");
        asked.insert(("tcp", ip, port));
    }

    let rows = detour::json(&lab.gateway, &["asked", &lab.device])["rows"].as_array().unwrap().clone();
    for (proto, ip, port) in asked {
        let row = rows.iter().find(|row| {
            row["protocol"] == proto && row["destination"] == ip.to_string() && row["port"] == port
        });
        let row = row.unwrap_or_else(|| panic!("{proto} {ip}:{port} is not in {rows:?}"));
        assert_eq!(row["client"], CLIENT.to_string());
    }
    scanned(&lab, &scratch);
    assert_eq!(lab.gateway.run("nft", &["list", "ruleset"]), "", "no other rewriting anywhere");
    detour::run(&lab.gateway, &["down", &lab.device]).done();
}

/// A connection that was there before answers after each change, and nothing that was asked is forgotten.
fn scanned(lab: &Lab, scratch: &Scratch) {
    let ns = &lab.gateway;
    let to = Ipv4Addr::new(198, 51, 100, 7);
    let mut mail = dial(lab, to, 25);
    let mut line = [0; 256];
    let length = mail.read(&mut line).unwrap();
    assert!(line[..length].starts_with(b"220 "), "{}", String::from_utf8_lossy(&line[..length]));
    let mut noop = || {
        mail.write_all(b"NOOP\r\n").unwrap();
        let length = mail.read(&mut line).unwrap();
        assert!(line[..length].starts_with(b"250"), "{}", String::from_utf8_lossy(&line[..length]));
    };
    let before = |row: &serde_json::Value| {
        row["destination"] == to.to_string() && (30_001..=31_000).contains(&row["port"].as_u64().unwrap_or(0))
    };
    let rows = || -> Vec<(u64, String)> {
        let asked = detour::json(ns, &["asked", &lab.device, "tcp", "dport", "30001-31000"]);
        let rows = asked["rows"].as_array().unwrap().iter().filter(|row| before(row));
        let mut rows: Vec<_> = rows
            .map(|row| (row["port"].as_u64().unwrap(), row["outcome"].as_str().unwrap().to_owned()))
            .collect();
        rows.sort();
        rows
    };
    let events = Events::start(ns, &lab.device, &["-j"]);
    assert_eq!(scan(lab, to, 30_001..=31_000), (30_001..=30_100).collect::<Vec<u16>>());
    let lines = events.end();
    assert_eq!(lines.last().unwrap()["lost"], 0);
    assert_eq!(lines.iter().filter(|line| line["event"] == "denied").count(), 900);
    let expect: Vec<(u64, String)> = (30_001..=31_000)
        .map(|port| (port, if port <= 30_100 { "dnat" } else { "reject" }.to_owned()))
        .collect();
    assert_eq!(rows(), expect);
    captured(lab, scratch);

    // Other rules, programs of another version, and kill -9 of whoever listens or serves.
    let other = scratch.write("other.rules", format!("tcp dport 7 drop\n{RULES}"));
    up(ns, &lab.device, &[&[other.as_str()], &ROWS[..]].concat());
    noop();
    let other = compile(scratch, "counts.bpf.o", &COUNTS);
    let rules = scratch.write("inetsim.rules", RULES);
    let upgraded = detour::json(ns, &[&["up", &lab.device, &rules, "--object", &other], &ROWS[..]].concat());
    assert_eq!(upgraded["change"], "upgraded");
    noop();
    drop(Events::start(ns, &lab.device, &[]));
    noop();
    drop(Service::start(ns, &lab.device, RULES, &[&["--object", other.as_str()], &ROWS[..]].concat()));
    noop();
    assert_eq!(rows(), expect);
    up(ns, &lab.device, &[&[rules.as_str()], &ROWS[..]].concat());
    noop();
    assert_eq!(rows(), expect);
    // Other options, and empty tables of flows: a connection in the middle is picked up.
    let fresh = [&["up", &lab.device, &rules, "--flows-max", "1000", "--fresh"], &ROWS[..]].concat();
    assert_eq!(detour::json(ns, &fresh)["change"], "replaced");
    noop();
    assert_eq!(rows(), expect);
}

/// The ports that are answered; the others are refused.
fn scan(lab: &Lab, to: Ipv4Addr, ports: std::ops::RangeInclusive<u16>) -> Vec<u16> {
    let is_answered = |port: &u16| match talk::dial(&lab.client, 0, (to, *port).into()) {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{port}: {error}");
            false
        }
    };
    ports.filter(is_answered).collect()
}

/// A thousand conversations in one capture: what was asked as it arrived, and what the client was answered as it left.
fn captured(lab: &Lab, scratch: &Scratch) {
    let to = Ipv4Addr::new(198, 51, 100, 8);
    let capture = scratch.path("scan.pcapng");
    let path = capture.to_str().unwrap();
    // Nothing of that kind comes, so nobody has to read the lines.
    let events = Events::start(&lab.gateway, &lab.device, &["-j", "--kind", "full", "--pcap", path]);
    let mut answered = Vec::new();
    for first in (30_001..=31_000).step_by(20) {
        // All packets of twenty conversations have room in the ring buffer, however slowly they are read.
        answered.extend(scan(lab, to, first..=first + 19));
        let last = format!("{to}:{}", first + 19);
        let start = Instant::now();
        while !String::from_utf8_lossy(&std::fs::read(&capture).unwrap()).contains(&last) {
            assert!(start.elapsed() < Duration::from_secs(60), "{last} is not captured");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    assert_eq!(events.end().last().unwrap()["lost"], 0);
    let (open, closed) = ((30_001..=30_100).collect::<Vec<u16>>(), (30_101..=31_000).collect::<Vec<u16>>());
    assert_eq!(answered, open);
    let ports = |filter: &str, field: &str| -> Vec<u16> {
        let mut tshark = Command::new("tshark");
        tshark.arg("-r").arg(&capture).args(["-Y", filter, "-T", "fields", "-e", field]);
        let output = tshark.output().expect("tshark, of the Debian package of that name");
        let lines = String::from_utf8(output.stdout).unwrap();
        let ports: BTreeSet<u16> = lines.lines().map(|port| port.parse().unwrap()).collect();
        ports.into_iter().collect()
    };
    let arrived = format!("tcp.flags == 0x002 && ip.dst == {to} && frame.comment contains \"as it arrived\"");
    assert_eq!(ports(&arrived, "tcp.dstport"), [open.clone(), closed.clone()].concat());
    assert_eq!(ports(&format!("tcp.flags == 0x012 && ip.src == {to}"), "tcp.srcport"), open);
    assert_eq!(ports(&format!("tcp.flags == 0x014 && ip.src == {to}"), "tcp.srcport"), closed);
}

fn dial(lab: &Lab, ip: Ipv4Addr, port: u16) -> TcpStream {
    talk::dial(&lab.client, 0, (ip, port).into()).unwrap_or_else(|error| panic!("{ip}:{port}: {error}"))
}

fn first_words(mut stream: TcpStream) -> String {
    let mut room = [0; 256];
    let length = stream.read(&mut room).unwrap();
    String::from_utf8_lossy(&room[..length]).into_owned()
}
