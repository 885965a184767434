// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What every command that looks prints in one lab whose packets are counted, as text beside tests/golden/looks.txt; what the
//! text says that others know too is computed, or asked of tc and bpftool, and looked for in it.
//!
//! `BLESS=1 cargo test -p e2e --test looks` writes the text anew: read it, it is what people see.
use e2e::detour::{self, up};
use e2e::golden::{self, masked, NONE};
use e2e::lab::{ip, Lab, CLIENT, GATEWAY};
use e2e::listen::Events;
use e2e::netns::Netns;
use e2e::serve::Server;
use e2e::talk;
use e2e::tools::{self, Scratch};
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use std::fmt::Write;
use std::io::Read;

const DEVICE: &str = "eth0";
const RULES: &str = "udp dport 53 redirect to :5353   # names\nudp dport 25 drop\n";
/// Each datagram is of one byte; so often it is sent to (address, port), and whether it is answered.
const SENT: [([u8; 4], u16, u64, bool); 3] =
    [([198, 51, 100, 7], 53, 3, true), ([198, 51, 100, 8], 25, 2, false), ([198, 51, 100, 9], 9, 1, false)];
/// Ethernet, IPv4, UDP.
const HEADERS: u64 = 14 + 20 + 8;
/// Command lines, `{rules}` being the file of rules; and the column that holds ids, from 0.
const LOOKS: [(&[&str], usize); 19] = [
    (&["check", "{rules}"], NONE),
    (&["status", DEVICE], NONE),
    (&["rules", DEVICE], NONE),
    (&["flows", DEVICE], NONE),
    (&["flows", DEVICE, "udp", "dport", "7"], NONE),
    (&["asked", DEVICE], NONE),
    (&["asked", DEVICE, "--by", "port"], NONE),
    (&["asked", DEVICE, "--by", "client", "--chart"], NONE),
    (&["asked", DEVICE, "--csv"], NONE),
    (&["orig", "udp", "192.168.178.51:40000", "192.168.178.2:5353"], NONE),
    (&["list", DEVICE], 4),
    (&["map", "list", DEVICE, "up"], 1),
    (&["metrics"], NONE),
    (&["watch", DEVICE, "--once"], NONE),
    (&["doctor", DEVICE], NONE),
    (&["verify", "--live", DEVICE], NONE),
    (&["verify"], NONE),
    (&["inspect", "@drop"], NONE),
    (&["inspect", "@drop", "--disasm"], NONE),
];
struct Stage {
    lab: Lab,
    scratch: Scratch,
    told: String,
    _server: Server,
}

impl Stage {
    fn new() -> Stage {
        let lab = Lab::new();
        let server = Server::udp(&lab.gateway, (GATEWAY, 5353));
        let scratch = Scratch::new();
        // What the kernels of both ends say to each other would count as well.
        lab.client.sysctl("net/ipv6/conf/all/disable_ipv6", "1");
        let chain = "add table inet mute\n\
            add chain inet mute out { type filter hook output priority 0; }\n\
            add rule inet mute out meta l4proto ipv6-icmp drop\n";
        lab.gateway.run("nft", &["-f", &scratch.write("mute", chain)]);
        let known =
            |ip, end| format!("neigh replace {ip} lladdr 02:00:00:00:00:{end} dev eth0 nud permanent");
        ip(&lab.client, &known(GATEWAY, "02"));
        ip(&lab.gateway, &known(CLIENT, "51"));
        up(&lab.gateway, DEVICE, &[&scratch.write("rules", RULES)]);
        let mut events = Events::start(&lab.gateway, DEVICE, &[]);
        let socket = talk::udp(&lab.client, 40_000);
        for (ip, port, times, answered) in SENT {
            for _ in 0..times {
                match answered {
                    true => drop(talk::ask(&socket, (ip, port).into(), "x").unwrap()),
                    false => drop(socket.send_to(b"x", (std::net::Ipv4Addr::from(ip), port)).unwrap()),
                }
            }
        }
        kill(Pid::from_raw(events.0.id() as i32), Signal::SIGINT).unwrap();
        let mut told = String::new();
        events.0.stdout.take().unwrap().read_to_string(&mut told).unwrap();
        Stage { lab, scratch, told, _server: server }
    }

    fn ns(&self) -> &Netns {
        &self.lab.gateway
    }

    fn look(&self, line: &[&str]) -> detour::Run {
        let rules = self.scratch.path("rules").display().to_string();
        let line: Vec<&str> =
            line.iter().map(|word| if *word == "{rules}" { rules.as_str() } else { word }).collect();
        detour::run(self.ns(), &line)
    }
}

#[test]
fn what_people_see() {
    let stage = Stage::new();
    let mut all = format!("$ detour events {DEVICE}\n{}", masked(&stage.told, NONE));
    for (line, ids) in LOOKS {
        let run = stage.look(line).done();
        // The first half of what `doctor` says is about the machine.
        let text = match line[0] == "doctor" {
            true => run.stdout.split("\nok    link ").nth(1).unwrap().rsplit_once("\nok ").unwrap().0,
            false => &run.stdout,
        };
        let _ = write!(all, "\n$ detour {}\n{}", line.join(" "), masked(text, ids));
        assert_eq!(run.stderr, "", "{line:?}");
    }
    facts(&stage, &all);
    golden::compare("looks.txt", &all);
}

/// What the text has to say, by arithmetic and by what others see.
fn facts(stage: &Stage, all: &str) {
    let says = |line: &str| assert!(all.lines().any(|is| is.trim() == line), "no line {line:?} in\n{all}");
    let [names, dropped, unmatched] =
        SENT.map(|(ip, port, times, _)| (std::net::Ipv4Addr::from(ip), port, times));
    let (there, back) = (HEADERS + 1, HEADERS + format!("x {CLIENT}:40000").len() as u64);
    // A rule counts packets that open something: the first of a flow, and each that it drops.
    says(&format!("1 1 1 {there} B udp dport 53 redirect to :5353 ({GATEWAY}, fd00::2)"));
    says(&format!("2 2 {} {} B udp dport 25 drop", dropped.2, dropped.2 * there));
    let (n, to) = (names.2, format!("{}:{}", names.0, names.1));
    says(&format!(
        "udp {CLIENT}:40000 {to} {GATEWAY}:5353 - confirmed # # {n}/{n} {} B/{} B 1",
        n * there,
        n * back
    ));
    says(&to); // orig
    for ((to, port, times), rest) in
        [((names.0, 53, 1), "dnat yes 1"), (dropped, "drop - 2"), (unmatched, "no_rule - -")]
    {
        says(&format!("{CLIENT} udp {to} {port} {times} {} B # # {rest}", times * there));
        says(&format!("udp/{port} 1 {times} {} B # #", times * there));
        let (outcome, rest) = rest.split_once(' ').unwrap();
        let rest = rest.replace('-', "").replace(' ', ",");
        says(&format!("{CLIENT},udp,{to},{port},{times},{},#,#,{outcome},{rest},", times * there));
    }
    says(&format!("{} passed: no rule matches", unmatched.2));
    says(&format!("{} dropped: a rule says so", dropped.2));
    says(&format!(
        "detour_rule_bytes_total{{device=\"eth0\",rule=\"2\",text=\"udp dport 25 drop\"}} {}",
        2 * there
    ));
    says("asked 3 of # rows");
    // All that `verify` looked at is a line, and nothing is otherwise.
    let live = all.split("$ detour verify --live eth0\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let ok = live.lines().filter(|line| line.starts_with("  ok ")).count();
    assert!(live.ends_with(&format!("\n{ok} as they should be, 0 different, 0 not seen")), "{live}");

    // Filters as tc sees them, programs and maps as bpftool does; these ids are as they are.
    let rows = |line: &[&str]| -> Vec<String> {
        let text = stage.look(line).done().stdout;
        text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    };
    let of_tc = tools::HOOKS.map(|hook| {
        let filter = &tools::filters(stage.ns(), DEVICE, hook)[0];
        let options = &filter["options"];
        let text = |value: &serde_json::Value| value.as_str().map_or(value.to_string(), str::to_owned);
        let id = &options["prog"]["id"];
        let program = tools::program(stage.ns(), id.as_u64().unwrap());
        let (handle, tag, name) = (text(&options["handle"]), text(&program["tag"]), text(&program["name"]));
        format!("{hook} bpf {} {handle} {id} {tag} {name} detour up -", filter["pref"])
    });
    assert_eq!(rows(&["list", DEVICE]), of_tc);
    let maps = tools::objects(stage.ns(), "map");
    let listed = rows(&["map", "list", DEVICE, "up"]);
    assert_eq!(listed.len(), 28);
    for row in listed {
        let word: Vec<&str> = row.split(' ').collect();
        let id: u64 = word[1].parse().unwrap();
        let map = maps.iter().find(|map| map["id"] == id).unwrap_or_else(|| panic!("{row}"));
        let shape = ["bytes_key", "bytes_value", "max_entries"].map(|key| map[key].to_string());
        assert_eq!(
            (map["type"].as_str(), &word[3..6]),
            (Some(word[2]), &shape.each_ref().map(String::as_str)[..])
        );
    }
}
