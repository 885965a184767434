// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `watch` in a real terminal: what the screen shows at 80 and at 200 columns, every key, another size; the terminal as it was
//! after the end, whatever it was; and one frame for scripts.
use e2e::detour::{self, code, up};
use e2e::lab::{ip, Lab, GATEWAY};
use e2e::serve::Server;
use e2e::tmux::Tmux;
use e2e::{dns, golden};
use e2e::{talk, tools};
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;

const WEB: [u8; 4] = [198, 51, 100, 7];
const RULES: [&str; 4] = ["--rule", "tcp dport 80 redirect to :8080", "--rule", "udp dport 9 drop"];

/// A page over TCP, then three datagrams that are dropped and one that no rule is for.
fn traffic(lab: &Lab) -> Server {
    let server = Server::http(&lab.gateway, (GATEWAY, 8080), "hello");
    let mut stream = talk::dial(&lab.client, 40000, (WEB, 80).into()).unwrap();
    talk::get(&mut stream, "x").unwrap();
    let socket = talk::udp(&lab.client, 40001);
    for port in [9, 9, 9, 10] {
        socket.send_to(b"12345678", SocketAddr::from((WEB, port))).unwrap();
    }
    // All of it has arrived when the last of it has a row.
    while detour::json(&lab.gateway, &["asked", &lab.device])["rows"].as_array().unwrap().len() < 3 {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    server
}

/// Begins to watch; the settings of the terminal before are in `before`, those after will be in `after`.
fn watch<'a>(lab: &'a Lab, columns: u32, lines: u32, more: &str) -> Tmux<'a> {
    let tmux = Tmux::new(&lab.gateway, columns, lines);
    let (before, after) = (tmux.file("before"), tmux.file("after"));
    let program = detour::path().display();
    tmux.line(&format!(
        "stty -g >{before}; {program} watch {} {more}; echo code=$?; stty -g >{after}",
        lab.device
    ));
    tmux.shows("q quit");
    tmux
}

/// The shell goes on, with this exit code, and the terminal is as it was.
#[track_caller]
fn restored(tmux: &Tmux, code: &str) {
    tmux.shows(&format!("code={code}"));
    tmux.waits("a prompt", |screen| {
        screen.iter().rev().find(|line| !line.is_empty()).is_some_and(|l| l == "$")
    });
    let settings = ["before", "after"].map(|name| std::fs::read_to_string(tmux.file(name)).unwrap());
    assert!(!settings[0].is_empty() && settings[0] == settings[1], "{settings:?}");
    assert_eq!(
        tmux.says("#{alternate_on} #{cursor_flag}"),
        "0 1",
        "the screen that was there before, with its cursor"
    );
}

/// The process that watches.
fn pid(tmux: &Tmux) -> Pid {
    let shell = tmux.says("#{pane_pid}");
    let child = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap();
    Pid::from_raw(child.trim().parse().unwrap())
}

/// A screen as a person sees it: without ages, curves and how much came in the last second; empty lines are counted.
fn pictured(screen: &[String]) -> String {
    let (mut picture, mut empty) = (String::new(), 0);
    for (n, line) in screen.iter().enumerate() {
        let names = line.split_whitespace().filter(|word| word.bytes().all(|b| b.is_ascii_lowercase()));
        match (n, line.is_empty()) {
            (1, _) => names.for_each(|name| picture += &format!("{name} # ")),
            (_, true) => empty += 1,
            (_, false) => picture += &ageless(line),
        }
        picture.extend((!line.is_empty()).then_some('\n'));
    }
    let lines = screen.len();
    format!("{}[{lines} lines, {empty} of them empty]\n\n", picture.replace(" \n", "\n"))
}

/// Columns are as wide as their heads, which ages below 100 seconds do not change.
fn ageless(line: &str) -> String {
    let mut chars: Vec<char> = line.chars().collect();
    for end in 1..chars.len() {
        let digits = chars[..end].iter().rev().take_while(|c| c.is_ascii_digit()).count();
        let begins = end == digits || chars[end - digits - 1] == ' ';
        if digits > 0 && begins && chars[end] == 's' && chars.get(end + 1).is_none_or(|next| *next == ' ') {
            chars[end - digits..end].fill(' ');
            chars[end - 1] = '#';
        }
    }
    chars.into_iter().collect()
}

#[test]
fn screens_of_80_and_200_columns() {
    let lab = Lab::new();
    up(&lab.gateway, &lab.device, &RULES);
    let _server = traffic(&lab);
    let tmux = watch(&lab, 80, 24, "");
    // The second reading says that nothing has come since the first.
    let screen = tmux.waits("rates", |screen| screen[3].split_whitespace().nth(5) == Some("0"));
    assert_eq!(screen.len(), 24);
    let mut pictures = pictured(&screen);
    assert_eq!(screen[0], "eth0  asked by packets  rules 2  flows 1  asked 3");
    assert!(screen[1].starts_with("in ") && screen[1].contains(" packets ") && screen[1].contains(" asked "));
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
    // BYTES and FIRST are what 80 columns have no room for.
    assert_eq!(words(&screen[2]), "CLIENT PROTO DESTINATION PORT COUNT /S LAST OUTCOME RULE");
    let without_time = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        [&words[..5], &words[7..]].concat().join(" ")
    };
    let rows: Vec<String> = screen[3..6].iter().map(|line| without_time(line)).collect();
    let expect = [
        "192.168.178.51 udp 198.51.100.7 9 3 drop 2",
        "192.168.178.51 tcp 198.51.100.7 80 1 dnat 1",
        "192.168.178.51 udp 198.51.100.7 10 1 no_rule -",
    ];
    assert_eq!(rows, expect);
    assert!(screen[6..23].iter().all(String::is_empty), "{screen:?}");
    assert_eq!(screen[23], "q quit  1 asked  2 flows  3 rates  s sort  / filter  f freeze  arrows scroll");

    tmux.resize(200, 50);
    // Ethernet, IPv4, UDP, eight bytes: 50, three times.
    let row = "192.168.178.51 udp 198.51.100.7 9 3 0 150 B ";
    let screen =
        tmux.waits("another size", |screen| screen.len() == 50 && words(&screen[3]).starts_with(row));
    assert!(screen[49].starts_with("q quit"), "{screen:?}");
    pictures += &pictured(&screen);
    golden::compare("watch.txt", &pictures);
    let head = "CLIENT PROTO DESTINATION PORT COUNT /S BYTES FIRST LAST OUTCOME SERVED RULE";
    assert_eq!(words(&screen[2]), head);
    tmux.types("2");
    let screen = tmux.shows("flows by client");
    assert_eq!(
        words(&screen[2]),
        "PROTO CLIENT ORIGINAL SERVER SEEN-AS STATE AGE IDLE /S PACKETS BYTES RULE"
    );
    let flow = "tcp 192.168.178.51:40000 198.51.100.7:80 192.168.178.2:8080 - closing ";
    assert!(words(&screen[3]).starts_with(flow), "{}", screen[3]);
    tmux.types("3");
    let screen = tmux.shows("rates by name");
    assert_eq!(words(&screen[2]), "WHAT /S PEAK TIME");
    let names: Vec<&str> = screen[3..].iter().filter_map(|line| line.split("   ").next()).take(6).collect();
    let fixed = ["from clients, bytes", "to clients, bytes", "packets of flows", "packets that ask"];
    assert_eq!(names[..4], fixed);
    assert_eq!(names[4..], ["rule 1: tcp dport 80 redirect to :8080", "rule 2: udp dport 9 drop"]);
    tmux.types("q");
    restored(&tmux, "0");
}

#[test]
fn keys_choose_filter_and_freeze() {
    let lab = Lab::new();
    up(&lab.gateway, &lab.device, &RULES);
    let _server = traffic(&lab);
    let tmux = watch(&lab, 100, 8, "--interval 0.2");
    let ports = |screen: &[String]| -> Vec<String> {
        let rows = screen[3..].iter().filter(|line| line.starts_with("192."));
        rows.map(|line| line.split_whitespace().nth(3).unwrap().to_owned()).collect()
    };
    tmux.waits("by packets", |screen| ports(screen) == ["9", "80", "10"]);
    for _ in 0..5 {
        tmux.types("s");
    }
    tmux.waits("by name", |screen| screen[0].contains("by name") && ports(screen) == ["80", "9", "10"]);
    tmux.types("S");
    tmux.shows("by first");

    tmux.types("/udp dport 1x");
    tmux.shows("filter: udp dport 1x_");
    tmux.press("Enter");
    tmux.shows("; Escape to give up");
    tmux.press("BSpace");
    tmux.types("0");
    tmux.press("Enter");
    tmux.waits("a filter", |screen| screen[0].ends_with("filter: udp dport 10") && ports(screen) == ["10"]);
    tmux.press("Escape");
    tmux.waits("no filter", |screen| ports(screen).len() == 3 && !screen[0].contains("filter"));

    tmux.types("f");
    tmux.shows("FROZEN");
    let socket = talk::udp(&lab.client, 0);
    socket.send_to(b"x", SocketAddr::from((WEB, 11))).unwrap();
    while detour::json(&lab.gateway, &["asked", &lab.device])["rows"].as_array().unwrap().len() < 4 {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    std::thread::sleep(std::time::Duration::from_millis(600)); // three readings
    assert_eq!(ports(&tmux.screen()).len(), 3, "nothing moves");
    tmux.types("f");
    tmux.waits("the fourth row", |screen| ports(screen).len() == 4 && !screen[0].contains("FROZEN"));

    // Four rows, and room for two when the screen has six lines.
    tmux.resize(100, 6);
    tmux.shows("1-2 of 4  q quit");
    tmux.press("Down");
    tmux.shows("2-3 of 4");
    tmux.press("NPage");
    tmux.shows("3-4 of 4");
    tmux.press("Home");
    tmux.shows("1-2 of 4");
    tmux.press("Tab");
    tmux.shows("flows by client");
    tmux.press("C-c");
    restored(&tmux, "0");
}

#[test]
fn a_signal_leaves_the_terminal_as_it_was() {
    let lab = Lab::new();
    up(&lab.gateway, &lab.device, &RULES);
    for signal in
        [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGALRM]
    {
        let tmux = watch(&lab, 80, 24, "");
        assert_eq!(tmux.says("#{alternate_on} #{cursor_flag}"), "1 0");
        let status = std::fs::read_to_string(format!("/proc/{}/status", pid(&tmux))).unwrap();
        assert!(
            status.contains("\nSeccomp:\t2\n") && status.contains("\nCapEff:\t0"),
            "it is confined: {status}"
        );
        kill(pid(&tmux), signal).unwrap();
        restored(&tmux, "0");
    }
}

#[test]
fn killed_it_leaves_the_traffic_and_the_place_of_the_reader() {
    let lab = Lab::new();
    up(&lab.gateway, &lab.device, &RULES);
    let _server = Server::http(&lab.gateway, (GATEWAY, 8080), "hello");
    let tmux = watch(&lab, 80, 24, "");
    let mut stream = talk::dial(&lab.client, 40000, (WEB, 80).into()).unwrap();
    let line = format!("'detour watch {}' (process {}) already reads", lab.device, pid(&tmux));
    let events = detour::run(&lab.gateway, &["events", &lab.device, "--count", "1"]);
    events.refused(code::FOREIGN, &[&line, "one reader at a time"]);
    kill(pid(&tmux), Signal::SIGKILL).unwrap();
    // Nobody can give the terminal back but who looks: `reset`.
    tmux.line("stty sane; reset -Q 2>/dev/null; printf '\\033[?1049l'; echo over");
    tmux.waits("the shell", |screen| screen.iter().any(|line| line == "over"));
    assert!(talk::get(&mut stream, "x").unwrap().starts_with("hello"), "the connection lives on");
    e2e::listen::Events::start(&lab.gateway, &lab.device, &["-j"]).end();
    detour::run(&lab.gateway, &["status", &lab.device]).done();
}

#[test]
fn it_is_stopped_and_continued_like_any_job() {
    let lab = Lab::new();
    up(&lab.gateway, &lab.device, &RULES);
    let tmux = watch(&lab, 80, 24, "");
    tmux.press("C-z");
    tmux.shows("Stopped");
    assert_eq!(tmux.says("#{alternate_on} #{cursor_flag}"), "0 1");
    tmux.line("echo here I am");
    tmux.waits("an echo", |screen| screen.iter().any(|line| line == "here I am"));
    tmux.line(&format!("fg; stty -g >{}", tmux.file("after")));
    tmux.waits("a frame", |screen| screen[0].starts_with("eth0  asked") && screen[23].starts_with("q quit"));
    // Stopped where it could not do anything about it, as by SIGSTOP: it takes the screen again.
    kill(pid(&tmux), Signal::SIGTSTP).unwrap();
    tmux.waits("the shell", |screen| screen.iter().filter(|line| line.contains("Stopped")).count() == 2);
    tmux.line(&format!("fg; echo code=$?; stty -g >{}", tmux.file("after")));
    tmux.waits("a frame", |screen| screen[23].starts_with("q quit"));
    tmux.types("q");
    restored(&tmux, "0");
}

#[test]
fn it_lives_through_other_rules_down_and_up() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    up(ns, &lab.device, &RULES);
    let tmux = watch(&lab, 100, 10, "--interval 0.2");
    tmux.shows("rules 2");
    up(ns, &lab.device, &["--rule", "drop"]);
    tmux.shows("rules 1");
    detour::run(ns, &["down", &lab.device]).done();
    tmux.shows("not up: nothing is up on eth0");
    up(ns, &lab.device, &RULES);
    tmux.shows("rules 2");
    let _server = traffic(&lab);
    tmux.shows("no_rule");
    // Somebody takes the filters away: the pins are still there.
    ns.run("tc", &["qdisc", "del", "dev", &lab.device, "clsact"]);
    tmux.shows("not up: nothing is up on eth0");
    ip(ns, &format!("link del {}", lab.device));
    tmux.shows("not up: ");
    tmux.types("q");
    restored(&tmux, "0");
}

#[test]
fn names_come_up_as_they_are_looked_up() {
    let lab = Lab::new();
    let rules = ["--rule", "udp dport 53 redirect to :5353", "--rule", "tcp dport 80 redirect to :8080"];
    up(&lab.gateway, &lab.device, &rules);
    let _dns = Server::answering(&lab.gateway, (GATEWAY, 5353), |q| dns::answer(q, &[IpAddr::from(WEB)]));
    let tmux = watch(&lab, 120, 10, "--interval 0.2 tcp");
    let socket = talk::udp(&lab.client, 0);
    socket.send_to(&dns::question("www.example.org"), SocketAddr::from(([203, 0, 113, 53], 53))).unwrap();
    talk::next(&socket).unwrap();
    let _server = traffic(&lab);
    let screen = tmux.shows("www.example.org");
    assert!(screen[2].ends_with("  NAME") && screen[3].ends_with("  www.example.org"), "{screen:?}");
    tmux.types("q");
    restored(&tmux, "0");
    // Where somebody else listens it does without.
    let events = e2e::listen::Events::start(&lab.gateway, &lab.device, &[]);
    let tmux = watch(&lab, 140, 10, "");
    tmux.shows("(names: another reader hears them)");
    drop((tmux, events));
}

#[test]
fn one_frame_for_scripts() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    up(ns, &lab.device, &RULES);
    let _server = traffic(&lab);
    let once = |more: &[&str], locale: &str| {
        let mut command = detour::command(&[&["watch", &lab.device, "--once"], more].concat());
        let output = ns.output(command.env("LC_ALL", locale));
        detour::Run::of(&["watch"], &output).done()
    };
    let expect = "\
eth0  asked by packets  rules 2  flows 1  asked 3
in        -       out        -       packets        -       asked        -
CLIENT          PROTO  DESTINATION   PORT  COUNT  /S  OUTCOME
192.168.178.51  udp    198.51.100.7     9      3   -  drop
192.168.178.51  tcp    198.51.100.7    80      1   -  dnat
192.168.178.51  udp    198.51.100.7    10      1   -  no_rule
";
    assert_eq!(once(&["--width", "75"], "C.UTF-8").stdout.lines().next(), expect.lines().next());
    assert_eq!(once(&["--width", "63"], "C.UTF-8").stdout, cut_at(expect, 63, "…"));
    let ascii = once(&["--width", "63"], "C").stdout;
    assert!(ascii.is_ascii() && ascii == cut_at(expect, 63, "~"), "{ascii}");
    let udp = once(&["--width", "63", "udp", "dport", "10"], "C").stdout;
    assert!(
        udp.lines().count() == 4
            && udp.starts_with("eth0  asked by packets  rules 2  flows 1  asked 3  filter: udp"),
        "{udp}"
    );
    // Two readings have rates: nothing has come in between.
    let twice = once(&["--width", "75", "--interval", "0.1"], "C").stdout;
    let words: Vec<&str> = twice.lines().nth(3).unwrap().split_whitespace().collect();
    assert_eq!(words[4..6], ["3", "0"], "{twice}");
    let document = once(&["-j", "--view", "flows", "tcp"], "C").json();
    assert_eq!(document["schema"], "detour.watch/1");
    assert_eq!(document["flows"]["flows"][0]["client"]["port"], 40000);
    let asked = document["asked"]["rows"].as_array().unwrap();
    assert_eq!((asked.len(), &asked[0]["port"]), (1, &80.into()));

    detour::run(ns, &["watch", &lab.device]).refused(code::USAGE, &["needs a terminal", "--once"]);
    detour::run(ns, &["watch", &lab.device, "--once", "nonsense"]).refused(code::USAGE, &["nonsense"]);
    detour::run(ns, &["watch", "--once", "lo"]).refused(code::NO, &["nothing is up on lo"]);
    let mut script = Command::new("script");
    let line = format!("{} watch {} -j", detour::path().display(), lab.device);
    let output = ns.output(script.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm"));
    assert_eq!(output.status.code(), Some(code::USAGE), "{output:?}");
    assert!(tools::has_clsact(ns, &lab.device));
}

/// Lines that are longer end with a sign.
fn cut_at(text: &str, width: usize, sign: &str) -> String {
    let line = |line: &str| match line.len() > width {
        true => format!("{}{sign}\n", &line[..width - 1]),
        false => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}
