// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `events`: every change is told once and losses are counted; a capture opens in tshark; nobody listening, nothing told.
use e2e::capture::Wire;
use e2e::detour::{self, code, up};
use e2e::lab::{Lab, CLIENT, GATEWAY};
use e2e::listen::{wanted, Events};
use e2e::packet::{Packet, RST, SYN};
use e2e::serve::Server;
use e2e::talk;
use e2e::tools::{tshark, Scratch};
use e2e::version::{compile, COUNTS};
use nix::libc;
use nix::sys::signal::{kill, Signal};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::Pid;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;

fn names(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["event"].as_str().unwrap_or("end")).collect()
}

#[test]
fn a_flow_is_told_from_its_beginning_to_its_end() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    up(ns, &lab.device, &["--rule", "tcp dport 80 redirect to :8080", "--rule", "udp dport 9 drop"]);
    let _server = Server::http(ns, (GATEWAY, 8080), "hello");
    let events = Events::start(ns, &lab.device, &["-j"]);
    talk::curl(&lab.client, "http://198.51.100.7/");
    // The connection's last segment may still be on its way.
    while !detour::run(ns, &["flows", &lab.device]).done().stdout.contains("closing") {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let socket = talk::udp(&lab.client, 0);
    // Told once each, however often it is asked.
    for port in [9, 10, 9, 10] {
        socket.send_to(b"x", ("198.51.100.7", port)).unwrap();
    }
    let second = detour::run(ns, &["events", &lab.device, "--count", "1"]);
    second.refused(code::FOREIGN, &["already reads"]);
    let lines = events.end();
    assert_eq!(names(&lines), ["new", "confirmed", "closed", "denied", "asked", "end"], "{lines:#?}");
    for flow in &lines[..3] {
        assert_eq!(flow["client"]["address"], CLIENT.to_string());
        assert_eq!(flow["destination"], serde_json::json!({"address": "198.51.100.7", "port": 80}));
        assert_eq!(flow["server"], serde_json::json!({"address": GATEWAY.to_string(), "port": 8080}));
        assert_eq!(flow["rule"], 1);
    }
    assert_eq!((&lines[3]["reason"], &lines[3]["rule"]), (&"drop".into(), &2.into()));
    assert_eq!((&lines[4]["reason"], &lines[4]["destination"]["port"]), (&"no_rule".into(), &10.into()));
    assert_eq!((&lines[5]["events"], &lines[5]["lost"]), (&5.into(), &0.into()));
    assert_eq!(wanted(ns), 0, "who ended asks for nothing");
}

/// Closes it by a RST.
fn reset(stream: TcpStream) {
    setsockopt(&stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 }).unwrap();
}

/// `closed` is the end of a connection that its client has confirmed, when it ends; and no other end of a flow.
#[test]
fn closed_is_told_of_confirmed_connections_when_they_end() {
    let lab = Lab::new();
    let (ns, device) = (&lab.gateway, lab.device.as_str());
    let rules = ["tcp dport 80 redirect to :8080", "tcp dport 81 redirect to :8081", "udp redirect to :7"];
    let rules: Vec<&str> = rules.iter().flat_map(|rule| ["--rule", rule]).collect();
    up(ns, device, &[&rules[..], &["--timeout", "udp=1s"]].concat());
    let listener = ns.within(|| TcpListener::bind((GATEWAY, 8080)).unwrap());
    let _echo = Server::udp(ns, (GATEWAY, 7));
    let wire = Wire::tap(&lab.client, "eth0");
    let raw = |port: u16, flags: u8| {
        let mut frame = Packet::tcp((CLIENT, port), ([198, 51, 100, 7], 80), flags).frame();
        frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
        frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 0x52]);
        wire.send(&frame);
    };
    let flows = || detour::json(ns, &["flows", device])["flows"].as_array().unwrap().clone();
    let wait = |is: &dyn Fn(&Value) -> bool| {
        while !flows().iter().any(is) {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    };
    let kinds = ["--kind", "new", "--kind", "confirmed", "--kind", "closed"];
    let events = Events::start(ns, device, &[&["-j"], &kinds[..]].concat());
    let say = |from: &mut TcpStream, to: &mut TcpStream| {
        from.write_all(b"x").unwrap();
        to.read_exact(&mut [0; 1]).unwrap();
    };
    let connect = |port: u16| {
        let mut client = talk::dial(&lab.client, port, ([198, 51, 100, 7], 80).into()).unwrap();
        let (mut served, _) = listener.accept().unwrap();
        say(&mut client, &mut served);
        say(&mut served, &mut client);
        (client, served)
    };
    drop(connect(4000));
    reset(connect(4001).0);
    reset(connect(4002).1);
    // Forged: it goes on, and is told again when it ends.
    let (mut client, mut served) = connect(4003);
    raw(4003, RST);
    wait(&|flow| flow["client"]["port"] == 4003 && flow["state"] == "closing");
    say(&mut client, &mut served);
    drop((client, served));
    // One side alone.
    let (half, _served) = connect(4004);
    half.shutdown(Shutdown::Write).unwrap();
    // By order.
    let _flushed = connect(4005);
    detour::run(ns, &["flush", device, "tcp", "sport", "4005"]).done();
    // Never confirmed: a scan, whose client's kernel resets what answers it, and a port where nobody listens.
    raw(4006, SYN);
    wait(&|flow| flow["client"]["port"] == 4006);
    let refused = talk::dial(&lab.client, 4007, ([198, 51, 100, 7], 81).into()).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    // Silent for longer than its time.
    let socket = talk::udp(&lab.client, 4008);
    for word in ["one", "two"] {
        talk::ask(&socket, ([198, 51, 100, 7], 7).into(), word).unwrap();
    }
    let closing = |flow: &&Value| flow["state"] == "closing";
    while flows().iter().filter(closing).count() < 4 || flows().iter().any(|flow| flow["protocol"] == "udp") {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let lines = events.end();
    for (port, expect) in [
        (4000, &["new", "confirmed", "closed"][..]),
        (4001, &["new", "confirmed", "closed"]),
        (4002, &["new", "confirmed", "closed"]),
        (4003, &["new", "confirmed", "closed", "closed"]),
        (4004, &["new", "confirmed"]),
        (4005, &["new", "confirmed"]),
        (4006, &["new"]),
        (4007, &["new"]),
        (4008, &["new", "confirmed"]),
    ] {
        let told: Vec<&Value> = lines.iter().filter(|line| line["client"]["port"] == port).collect();
        let told: Vec<&str> = told.iter().map(|line| line["event"].as_str().unwrap()).collect();
        assert_eq!(told, expect, "{port}: {lines:#?}");
    }
}

/// Sixteen flows of one client, which is all that there is room for, and the socket that they are of.
fn fill(lab: &Lab) -> std::net::UdpSocket {
    let socket = talk::udp(&lab.client, 0);
    for port in 0..16 {
        for word in ["one", "two"] {
            talk::ask(&socket, ([198, 51, 100, 7], 1000 + port).into(), word).unwrap();
        }
    }
    let flows = detour::json(&lab.gateway, &["flows", &lab.device])["flows"].as_array().unwrap().clone();
    assert_eq!(flows.iter().filter(|flow| flow["state"] == "confirmed").count(), 16, "{flows:#?}");
    socket
}

fn of<'a>(lines: &'a [Value], event: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["event"] == event).collect()
}

#[test]
fn what_finds_no_room_is_told_as_refused() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    up(ns, &lab.device, &["--rule", "udp redirect to :7", "--flows-max", "16", "--when-full", "drop"]);
    let _server = Server::udp(ns, (GATEWAY, 7));
    let socket = fill(&lab);
    let events = Events::start(ns, &lab.device, &["-j"]);
    // Once for each destination, however often it is asked.
    for port in [2000, 2001, 2000, 2001] {
        socket.send_to(b"x", ("198.51.100.7", port)).unwrap();
        talk::ask(&socket, ([198, 51, 100, 7], 1000).into(), "still").unwrap();
    }
    let lines = events.end();
    assert_eq!(names(&lines), ["refused", "refused", "end"], "{lines:#?}");
    for (line, port) in lines.iter().zip([2000, 2001]) {
        assert_eq!((&line["reason"], &line["rule"]), (&"no_room".into(), &1.into()));
        assert_eq!(line["destination"], serde_json::json!({"address": "198.51.100.7", "port": port}));
        assert_eq!((&line["server"], &line["from_client"]["packets"]), (&Value::Null, &1.into()));
    }
    let counters =
        detour::json(ns, &["status", &lab.device])["instances"][0]["dnat"]["not_translated"].take();
    assert_eq!(counters["no_room"], 4, "counted each time: {counters}");
}

#[test]
fn a_full_table_is_told_and_not_with_each_packet() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    up(ns, &lab.device, &["--rule", "udp redirect to :7", "--flows-max", "16"]);
    let _server = Server::udp(ns, (GATEWAY, 7));
    let socket = fill(&lab);
    let events = Events::start(ns, &lab.device, &["-j"]);
    let late = || talk::ask(&socket, ([198, 51, 100, 7], 2000).into(), "late").unwrap();
    // Served all the same, half-open as it is: what its client hears cannot confirm it.
    (0..200).for_each(|_| drop(late()));
    let lines = events.end();
    let full = of(&lines, "full");
    assert!(of(&lines, "new").len() == 1 && of(&lines, "confirmed").is_empty(), "{lines:#?}");
    for line in &full {
        assert_eq!(line["client"]["address"], CLIENT.to_string());
        assert_eq!(line["destination"], serde_json::json!({"address": "198.51.100.7", "port": 2000}));
        assert_eq!(line["server"], serde_json::json!({"address": GATEWAY.to_string(), "port": 7}));
    }
    let counters =
        detour::json(ns, &["status", &lab.device])["instances"][0]["dnat"]["not_translated"].take();
    // Every datagram after the first answer tries, and the first of a tick and CPU is told.
    assert_eq!(counters["full"], 199, "{counters}");
    assert!(!full.is_empty() && full.len() < 199, "{} of 199", full.len());
    let flows = detour::json(ns, &["flows", &lab.device])["flows"].as_array().unwrap().clone();
    assert_eq!(flows.len(), 17);
}

#[test]
fn a_killed_reader_is_forgotten_and_losses_are_counted() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    up(ns, &lab.device, &["--rule", "udp redirect to :9"]);
    let mut events = Events::start(ns, &lab.device, &["-j"]);
    // It sleeps while more flows come than the ring buffer has room for.
    kill(Pid::from_raw(events.0.id() as i32), Signal::SIGSTOP).unwrap();
    let room = (1 << 20) / (112 + 8);
    let socket = talk::udp(&lab.client, 0);
    let sent = room + 500;
    for n in 0..sent {
        let to = std::net::SocketAddr::from(([198, 51, (n >> 8) as u8, n as u8], 7));
        socket.send_to(b"x", to).unwrap();
    }
    kill(Pid::from_raw(events.0.id() as i32), Signal::SIGCONT).unwrap();
    let mut reader = BufReader::new(events.0.stdout.take().unwrap());
    let mut line = String::new();
    // The ring is full: the first of them is read in any case.
    reader.read_line(&mut line).unwrap();
    kill(Pid::from_raw(events.0.id() as i32), Signal::SIGTERM).unwrap();
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    let end: Value = serde_json::from_str(rest.lines().last().unwrap()).unwrap();
    let (heard, lost) = (end["events"].as_u64().unwrap(), end["lost"].as_u64().unwrap());
    assert!(lost >= 500, "{end}");
    assert_eq!(heard, rest.lines().count() as u64, "the first line and the last: {end}");
    drop(events);

    // In words.
    let mut events = Events::start(ns, &lab.device, &[]);
    kill(Pid::from_raw(events.0.id() as i32), Signal::SIGSTOP).unwrap();
    for n in 0..sent {
        let to = std::net::SocketAddr::from(([198, 51, (n >> 8) as u8, n as u8], 8));
        socket.send_to(b"x", to).unwrap();
    }
    for signal in [Signal::SIGINT, Signal::SIGCONT] {
        kill(Pid::from_raw(events.0.id() as i32), signal).unwrap();
    }
    let mut text = String::new();
    events.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    let note = text.lines().last().unwrap();
    assert!(note.starts_with("note: ") && note.contains(" events were lost: they came faster"), "{note}");

    let events = Events::start(ns, &lab.device, &[]);
    drop(events); // SIGKILL
    let next = Events::start(ns, &lab.device, &["-j"]);
    assert_eq!(names(&next.end()), ["end"], "what was told to another one is not told again");
}

#[test]
fn dns_answers_leave_room_for_other_events() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    up(ns, &lab.device, &["--rule", "udp dport 53 redirect to :5353", "--rule", "udp redirect to :9"]);
    let _dns = Server::answering(ns, (GATEWAY, 5353), |q| e2e::dns::answer(q, &[[192, 0, 2, 1].into()]));
    let socket = talk::udp(&lab.client, 0);
    let question = e2e::dns::question("many.example");
    let ask = || {
        socket.send_to(&question, ("203.0.113.53", 53)).unwrap();
        talk::next(&socket).unwrap();
    };
    // The flow is old when the reader comes, and sleeps.
    ask();
    let events = Events::start(ns, &lab.device, &["-j", "--kind", "dns", "--kind", "new"]);
    let pid = Pid::from_raw(events.0.id() as i32);
    kill(pid, Signal::SIGSTOP).unwrap();
    let sent = 1000;
    (0..sent).for_each(|_| ask());
    let others = talk::udp(&lab.client, 0);
    for n in 0..200 {
        others.send_to(b"x", (std::net::Ipv4Addr::new(198, 51, 100, n), 7)).unwrap();
    }
    kill(pid, Signal::SIGCONT).unwrap();
    let lines = events.end();
    let count = |kind: &str| lines.iter().filter(|line| line["event"] == kind).count();
    // struct event_packet and the kernel's eight bytes, up to half of the ring buffer.
    let share = (1_usize << 19).div_ceil(1672 + 8);
    assert_eq!((count("dns"), count("new")), (share, 200));
    let end = lines.last().unwrap();
    assert_eq!((&end["lost"], &end["dns_passed_over"]), (&0.into(), &(sent - share).into()), "{end}");
}

#[test]
fn a_monitor_changes_nothing_and_sees_everything() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    let server = lab.server();
    let _real = Server::http(&server, (e2e::lab::SERVER, 80), "real");
    let rules = ["--rule", "tcp dport 80 redirect to :8080", "--rule", "udp drop", "--monitor"];
    up(ns, &lab.device, &rules);
    let _fake = Server::http(ns, (GATEWAY, 8080), "fake");
    let echo = Server::udp(&server, (e2e::lab::SERVER, 7));
    let scratch = Scratch::new();
    let path = scratch.path("monitor.pcapng");
    let path = path.to_str().unwrap();
    let events = Events::start(ns, &lab.device, &["-j", "--pcap", path]);
    let page = talk::curl(&lab.client, &format!("http://{}/", e2e::lab::SERVER));
    assert!(page.starts_with("real"), "{page}");
    let socket = talk::udp(&lab.client, 0);
    talk::ask(&socket, (e2e::lab::SERVER, 7).into(), "x").unwrap();
    assert_eq!(echo.heard().len(), 1);
    let told: Vec<(Value, Value)> = events
        .end()
        .iter()
        .filter(|e| e["event"] == "asked")
        .map(|e| (e["outcome"].clone(), e["rule"].clone()))
        .collect();
    assert_eq!(told, [("dnat".into(), 1.into()), ("drop".into(), 2.into())], "as asked has it");
    let text = tshark(path, &["tcp.dstport", "udp.dstport", "frame.comment"]);
    let ends: Vec<&str> = text.lines().map(|line| line.rsplit(" rule ").next().unwrap()).collect();
    assert_eq!(ends, ["1; monitor: dnat", "2; monitor: drop"], "{text}");
    assert!(text.lines().all(|line| line.contains("|as it arrived, and passed; ")), "{text}");
    let rows = detour::json(ns, &["asked", &lab.device])["rows"].as_array().unwrap().clone();
    let row = |port: u64| rows.iter().find(|row| row["port"] == port).unwrap_or_else(|| panic!("{rows:#?}"));
    assert_eq!((&row(80)["outcome"], &row(80)["rule"]), (&"dnat".into(), &1.into()));
    assert_eq!((&row(7)["outcome"], &row(7)["rule"]), (&"drop".into(), &2.into()));
    assert_eq!(detour::json(ns, &["flows", &lab.device])["flows"].as_array().unwrap().len(), 0);
    // Whatever address eth1 has made for itself meanwhile, which status would remark.
    let counters = detour::run(ns, &["status", &lab.device, "-j"]).json().to_string();
    assert!(counters.contains("monitor"), "{counters}");
    detour::run(ns, &["up", &lab.device, "--rule", "drop"]).refused(code::FOREIGN, &["--monitor"]);
}

#[test]
fn asked_says_whether_anyone_listens() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    up(
        ns,
        &lab.device,
        &["--rule", "tcp dport { 80, 81 } redirect", "--rule", "udp dport { 7, 8 } redirect"],
    );
    let _web = Server::http(ns, (GATEWAY, 80), "hello");
    let _echo = Server::udp(ns, (std::net::Ipv4Addr::UNSPECIFIED, 7));
    let events = Events::start(ns, &lab.device, &["-j"]);
    talk::curl(&lab.client, "http://198.51.100.7/");
    let dial = talk::dial(&lab.client, 0, "198.51.100.7:81".parse().unwrap());
    assert_eq!(dial.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    let socket = talk::udp(&lab.client, 0);
    for port in [7, 8, 9] {
        socket.send_to(b"x", ("198.51.100.7", port)).unwrap();
    }
    let all = events.end();
    let told = |port: u64| {
        all.iter().find(|e| e["destination"]["port"] == port).unwrap_or_else(|| panic!("{all:#?}"))
    };
    let rows = detour::json(ns, &["asked", &lab.device])["rows"].as_array().unwrap().clone();
    let served = |port: u64| rows.iter().find(|row| row["port"] == port).unwrap()["served"].clone();
    for (port, expect) in
        [(80, true.into()), (81, false.into()), (7, true.into()), (8, false.into()), (9, Value::Null)]
    {
        assert_eq!(served(port), expect, "port {port} of {rows:#?}");
        assert_eq!(told(port)["served"], expect, "{port}");
    }
    // Its client heard a refusal, so it never was confirmed: of its end nothing is told.
    let refused = all.iter().filter(|event| event["destination"]["port"] == 81);
    assert_eq!(
        refused.map(|event| event["event"].as_str().unwrap()).collect::<Vec<_>>(),
        ["new"],
        "{all:#?}"
    );
    // Somebody begins to listen: the newest packet tells.
    let _late = Server::udp(ns, (GATEWAY, 8));
    talk::udp(&lab.client, 0).send_to(b"x", ("198.51.100.7", 8)).unwrap();
    let rows = detour::json(ns, &["asked", &lab.device])["rows"].as_array().unwrap().clone();
    assert_eq!(rows.iter().find(|row| row["port"] == 8).unwrap()["served"], true);
}

#[test]
fn a_scan_of_a_thousand_ports_is_answered_refused_listed_and_captured() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    let rules = ["--rule", "tcp dport 1-500 redirect to :8080", "--rule", "tcp redirect to :8081"];
    up(ns, &lab.device, &rules);
    let _server = Server::http(ns, (GATEWAY, 8080), "hello");
    let scratch = Scratch::new();
    let path = scratch.path("scan.pcapng");
    let scan = |ports: std::ops::RangeInclusive<u16>| {
        for port in ports {
            let answer = talk::dial(&lab.client, 0, ([198, 51, 100, 7], port).into());
            match (port, answer) {
                (..=500, Ok(_)) => {}
                (501.., Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
                (port, answer) => panic!("port {port}: {answer:?}"),
            }
        }
    };
    // So few that the ring buffer holds all packets, however slowly they are read.
    let events = Events::start(ns, &lab.device, &["-j", "--pcap", path.to_str().unwrap()]);
    scan(1..=30);
    assert_eq!(events.end().last().unwrap()["lost"], 0);
    // What is told of the rest is less than it holds, too; the lines are read as they come.
    let mut events = Events::start(ns, &lab.device, &["-j"]);
    let stdout = BufReader::new(events.0.stdout.take().unwrap());
    let lines = std::thread::spawn(move || stdout.lines().map(Result::unwrap).collect::<Vec<_>>());
    scan(31..=250);
    // Other rules that come to the same, in the middle of it.
    up(ns, &lab.device, &["--rule", "tcp dport 0-500 redirect to :8080", "--rule", "tcp redirect to :8081"]);
    scan(251..=500);
    // And programs of another version, which tell the same reader.
    let other = compile(&scratch, "counts.bpf.o", &COUNTS);
    let rules = ["--rule", "tcp dport 0-500 redirect to :8080", "--rule", "tcp redirect to :8081"];
    let upgraded = detour::json(ns, &[&["up", &lab.device, "--object", &other], &rules[..]].concat());
    assert_eq!(upgraded["change"], "upgraded");
    detour::run(ns, &["events", &lab.device, "--count", "1"]).refused(code::FOREIGN, &["already reads"]);
    scan(501..=750);
    kill(Pid::from_raw(events.0.id() as i32), Signal::SIGINT).unwrap();
    let lines: Vec<Value> = lines.join().unwrap().iter().map(|l| serde_json::from_str(l).unwrap()).collect();
    let new = lines.iter().filter(|line| line["event"] == "new").count();
    assert_eq!((new, &lines.last().unwrap()["lost"]), (720, &0.into()));
    drop(Events::start(ns, &lab.device, &[])); // kill -9
    scan(751..=1000);

    let rows = detour::json(ns, &["asked", &lab.device])["rows"].as_array().unwrap().clone();
    assert_eq!(rows.len(), 1000);
    for row in &rows {
        assert_eq!(row["served"], row["port"].as_u64().unwrap() <= 500, "{row}");
    }
    let sums = detour::json(ns, &["asked", &lab.device, "--by", "client"]);
    assert_eq!((&sums["sums"][0]["rows"], &sums["sums"][0]["packets"]), (&1000.into(), &1000.into()));
    let arrived = "tcp.flags == 0x002 && frame.comment contains \"as it arrived\"";
    let tshark = ["-r", path.to_str().unwrap(), "-Y", arrived, "-T", "fields", "-e", "tcp.dstport"];
    let output = Command::new("tshark").args(tshark).output().unwrap();
    let ports: Vec<u16> =
        String::from_utf8(output.stdout).unwrap().lines().map(|p| p.parse().unwrap()).collect();
    assert_eq!(ports, (1..=30).collect::<Vec<u16>>());
}

/// An instance that is not there any more tells nothing: that is said, and a service manager starts the reader anew.
#[test]
fn who_listens_hears_that_the_instance_is_gone() {
    let lab = Lab::new();
    let (ns, device) = (&lab.gateway, lab.device.as_str());
    let _server = Server::udp(ns, (GATEWAY, 7));
    let ask = |port| talk::ask(&talk::udp(&lab.client, 0), ([198, 51, 100, 7], port).into(), "x").unwrap();
    up(ns, device, &["--rule", "udp redirect to :7"]);
    for (line, told) in
        [(&["up", device, "--fresh", "--rule", "udp redirect to :7"][..], 2), (&["down", device], 1)]
    {
        let mut events = Events::start(ns, device, &["-j", "--kind", "new"]);
        ask(1000);
        if told > 1 {
            // Other rules, and other programs beside the same maps, are no other instance.
            detour::run(ns, &["up", device, "--rule", "udp dport 1-60000 redirect to :7"]).done();
            let scratch = Scratch::new();
            let object = compile(&scratch, "counts.bpf.o", &COUNTS);
            detour::run(ns, &["up", device, "--object", &object, "--rule", "udp redirect to :7"]).done();
            ask(1001);
        }
        detour::run(ns, line).done();
        let status = events.0.wait().unwrap();
        assert_eq!(status.code(), Some(code::NO), "{line:?}");
        let mut text = String::new();
        events.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), told + 1, "{text}");
        let end = &lines[told];
        assert_eq!((&end["gone"], &end["events"], &end["lost"]), (&true.into(), &told.into(), &0.into()));
    }
    // In words.
    up(ns, device, &["--rule", "udp redirect to :7"]);
    let mut events = Events::start(ns, device, &[]);
    detour::run(ns, &["down", device]).done();
    assert_eq!(events.0.wait().unwrap().code(), Some(code::NO));
    let mut text = String::new();
    events.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(text.contains("took down what was listened to"), "{text}");
}
