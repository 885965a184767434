// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `asked` as an operator wants it: ordered, cut, added up, as bars, as a picture and as CSV; every number is of traffic sent.
use e2e::bench::{Bench, FAR};
use e2e::detour::{self, code, up};
use e2e::lab::{Lab, CLIENT, CLIENT6};
use e2e::packet::Packet;
use e2e::six::FAR6;
use e2e::testrun::{Sums, SHOT, UNSPEC};
use e2e::{talk, tools::Scratch};
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// Datagrams to (last byte of the address, port), so many of each; nobody answers, all match no rule.
const SENT: [(u8, u16, u64); 4] = [(1, 53, 5), (2, 53, 3), (2, 123, 7), (3, 9999, 1)];

fn sent() -> Lab {
    let lab = Lab::new();
    up(&lab.gateway, &lab.device, &["--rule", "tcp redirect"]);
    let socket = talk::udp(&lab.client, 0);
    for (host, port, count) in SENT {
        let to = std::net::SocketAddr::from(([198, 51, 100, host], port));
        (0..count).for_each(|_| assert_eq!(socket.send_to(b"x", to).unwrap(), 1));
    }
    lab
}

fn pairs(document: &Value, list: &str, key: &str) -> Vec<(String, u64)> {
    let rows = document[list].as_array().unwrap_or_else(|| panic!("no {list} in {document}"));
    let pair = |row: &Value| {
        let key = row[key].as_str().map_or_else(|| row[key].to_string(), str::to_owned);
        (key, row["packets"].as_u64().unwrap())
    };
    rows.iter().map(pair).collect()
}

#[test]
fn rows_are_ordered_cut_and_added_up() {
    let lab = sent();
    let asked = |more: &[&str]| detour::json(&lab.gateway, &[&["asked", &lab.device], more].concat());
    let named = |pairs: &[(&str, u64)]| pairs.iter().map(|(k, n)| (k.to_string(), *n)).collect::<Vec<_>>();
    assert_eq!(
        pairs(&asked(&[]), "rows", "port"),
        named(&[("123", 7), ("53", 5), ("53", 3), ("9999", 1)]),
        "most packets first"
    );
    let by_name = pairs(&asked(&["--sort", "name"]), "rows", "destination");
    assert_eq!(by_name.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [5, 3, 7, 1]);
    let top = asked(&["--top", "1"]);
    assert_eq!((pairs(&top, "rows", "port"), &top["left_out"]), (named(&[("123", 7)]), &3.into()));
    assert_eq!(
        pairs(&asked(&["--by", "port"]), "sums", "what"),
        named(&[("udp/53", 8), ("udp/123", 7), ("udp/9999", 1)])
    );
    assert_eq!(
        pairs(&asked(&["--by", "dest", "--top", "2"]), "sums", "what"),
        named(&[("198.51.100.2", 10), ("198.51.100.1", 5)])
    );
    assert_eq!(pairs(&asked(&["--by", "client"]), "sums", "what"), named(&[(&CLIENT.to_string(), 16)]));
    assert_eq!(asked(&["--since", "1h"])["rows"].as_array().unwrap().len(), 4);
    let bad = ["asked", &lab.device, "--since", "tomorrow"];
    detour::run(&lab.gateway, &bad).refused(code::USAGE, &["length of time"]);
}

/// Seconds since 1970 as documents have them.
fn date(seconds: u64) -> String {
    let date = Command::new("date").args(["-u", "-d", &format!("@{seconds}"), "+%FT%TZ"]).output().unwrap();
    String::from_utf8(date.stdout).unwrap().trim().to_string()
}

/// Of each row when it was asked for first and last, to the tick of a second or so that programs count in.
#[test]
fn rows_say_when_it_was_asked_for() {
    let lab = Lab::new();
    up(&lab.gateway, &lab.device, &["--rule", "tcp redirect"]);
    let socket = talk::udp(&lab.client, 0);
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let row = || detour::json(&lab.gateway, &["asked", &lab.device])["rows"][0].clone();
    let sent = [1, 2].map(|count| {
        let before = now();
        assert_eq!(socket.send_to(b"x", ("198.51.100.7", 9)).unwrap(), 1);
        while row()["packets"] != count {
            std::thread::sleep(Duration::from_millis(10));
        }
        let after = now();
        std::thread::sleep(Duration::from_secs(4));
        (before, after)
    });
    let row = row();
    for (name, (before, after)) in ["first_seen", "last_seen"].into_iter().zip(sent) {
        let (seen, early, late) = (row[name].as_str().unwrap(), date(before - 2), date(after + 2));
        assert!(*early <= *seen && *seen <= *late, "{name}: {seen} is not from {early} to {late}");
    }
    assert!(row["first_seen"].as_str() < row["last_seen"].as_str(), "{row}");
}

#[test]
fn bars_pictures_and_csv_hold_the_same_numbers() {
    let lab = sent();
    let scratch = Scratch::new();
    let asked =
        |more: &[&str]| detour::run(&lab.gateway, &[&["asked", &lab.device], more].concat()).done().stdout;
    let chart = asked(&["--by", "port", "--chart"]);
    let bars: Vec<(&str, usize)> = chart
        .lines()
        .map(|line| (line.split(' ').next().unwrap(), line.chars().filter(|c| *c == '█').count()))
        .collect();
    // 80 columns, less the longest label, a digit and gaps: 67 for eight packets.
    assert_eq!(bars, [("udp/53", 67), ("udp/123", 58), ("udp/9999", 8)], "{chart}");

    let csv = asked(&["--csv"]);
    let cells: Vec<Vec<&str>> = csv.split("\r\n").map(|line| line.split(',').collect()).collect();
    assert_eq!(cells[0][..5], ["client", "protocol", "destination", "port", "packets"]);
    assert_eq!(cells[1][..5], [&CLIENT.to_string(), "udp", "198.51.100.2", "123", "7"]);
    assert_eq!((cells.len(), cells[1].len()), (1 + SENT.len() + 1, cells[0].len()));

    let path = scratch.path("asked.svg");
    assert_eq!(asked(&["--by", "dest", "--svg", path.to_str().unwrap()]), "");
    let svg = std::fs::read_to_string(path).unwrap();
    // Lengths are 400 pixels for 10 packets.
    for (label, width) in [("198.51.100.2", 400), ("198.51.100.1", 200), ("198.51.100.3", 40)] {
        let line = svg.lines().find(|line| line.contains(&format!(">{label}<"))).unwrap();
        assert!(line.contains(&format!("width=\"{width}\"")), "{line}");
    }
}

/// Standard output is one thing: the others are refused by name, on whichever side of the command `-j` stands.
#[test]
fn two_forms_for_one_output_are_refused() {
    let lab = sent();
    let (ns, device) = (&lab.gateway, lab.device.as_str());
    let both = [
        (&["asked", device, "-j", "--csv"][..], ["-j", "--csv"]),
        (&["-j", "asked", device, "--csv"], ["-j", "--csv"]),
        (&["asked", device, "-p", "--chart"], ["-j", "--chart"]),
        (&["asked", device, "--csv", "--chart"], ["--csv", "--chart"]),
        (&["asked", device, "--svg", "-", "--csv"], ["--csv", "--svg -"]),
        (&["asked", device, "--svg", "-", "-j"], ["-j", "--svg -"]),
    ];
    for (line, names) in both {
        detour::run(ns, line).refused(code::USAGE, &names);
    }
    let picture = detour::run(ns, &["asked", device, "--svg", "-", "--by", "port"]).done().stdout;
    let scratch = Scratch::new();
    let path = scratch.path("asked.svg").display().to_string();
    // A file goes with each.
    let csv = detour::run(ns, &["asked", device, "--csv", "--svg", &path, "--by", "port"]).done().stdout;
    assert_eq!((picture, &csv[..4]), (std::fs::read_to_string(path).unwrap(), "what"));
}

/// A file of names is read or refused, with the place of what is none.
#[test]
fn a_file_of_names_is_read_as_a_whole() {
    let lab = sent();
    let (ns, device, scratch) = (&lab.gateway, lab.device.as_str(), Scratch::new());
    let good = "# of this machine\n\n127.0.0.1 localhost # itself\nfe80::1%lo0 localhost\n198.51.100.2 two.example two\n";
    let names = scratch.write("hosts", good);
    let rows = detour::json(ns, &["asked", device, "--names", &names, "--top", "1"]);
    assert_eq!(rows["rows"][0]["name"], "two.example");
    for (bad, why) in
        [("two.example 198.51.100.2", "'two.example' is no address"), ("198.51.100.2", "has no name")]
    {
        let names = scratch.write("hosts", format!("{good}{bad}\n"));
        let listen = ["events", device, "--count", "1", "--names", &names];
        for line in
            [&["asked", device, "--names", &names][..], &["flows", device, "--names", &names], &listen]
        {
            detour::run(ns, line).refused(code::USAGE, &["hosts: line 6: ", why]);
        }
    }
}

/// The mark of a row is the tick it holds for, and for no other row a tick that a CPU might have.
#[test]
fn a_row_is_settled_in_its_tick_or_never() {
    let bench = Bench::new(&["udp dport 9 accept", "tcp drop"]);
    let ingress = bench.program("ingress");
    for far in [IpAddr::from(FAR), IpAddr::from(FAR6)] {
        let client: IpAddr = if far.is_ipv4() { CLIENT.into() } else { CLIENT6.into() };
        for port in [9, 10].repeat(5) {
            let packet = Packet::udp(SocketAddr::new(client, 4000), SocketAddr::new(far, port));
            assert_eq!(ingress.run(&packet.frame(), Sums::None).verdict, UNSPEC);
        }
    }
    let dump = detour::json(&bench.lab.gateway, &["map", "dump", &bench.lab.device, "up", "asked"]);
    let rows = dump["elements"].as_array().expect("elements");
    assert_eq!(rows.len(), 4, "{dump}");
    for row in rows {
        let tick = |name: &str| row["value"][name].as_u64().unwrap_or_else(|| panic!("{row}")) as u32;
        let never = u32::from(tick("reason") != 14) << 31;
        assert_eq!(tick("settled"), tick("last").wrapping_add(never), "{row}");
    }
    assert_eq!(rows.iter().filter(|row| row["value"]["reason"] == 14).count(), 2, "{dump}");
}

/// The programs find out once a second and row that no rule is about it. Nothing of that may show.
#[test]
fn a_row_settles_nothing_for_packets_that_rules_tell_apart() {
    let target = Ipv4Addr::new(10, 99, 0, 1);
    let to_target = format!("tcp dport 80 dnat to {target}");
    let bench = Bench::new(&["udp sport 53 udp dport 9 drop", &to_target]);
    let ingress = bench.program("ingress");
    let (ns, device) = (&bench.lab.gateway, &bench.lab.device);
    let verdict = |from: u16, to: IpAddr, port: u16| {
        let source: IpAddr = if to.is_ipv4() { CLIENT.into() } else { CLIENT6.into() };
        let packet = Packet::udp(SocketAddr::new(source, from), SocketAddr::new(to, port));
        ingress.run(&packet.frame(), Sums::None).verdict
    };
    for far in [IpAddr::from(FAR), IpAddr::from(FAR6)] {
        for port in [9, 10, 67, 547].repeat(20) {
            assert_eq!(verdict(4000, far, port), UNSPEC, "{far} {port}");
        }
        assert_eq!(verdict(53, far, 9), SHOT, "{far}: a rule is about this source port");
        assert_eq!(verdict(53, far, 10), UNSPEC, "{far}");
    }
    assert_eq!((verdict(68, FAR.into(), 67), verdict(546, FAR6.into(), 547)), (UNSPEC, UNSPEC));
    let status = detour::json(ns, &["status", device]);
    assert_eq!(status["instances"][0]["dnat"]["not_translated"]["dhcp"], 2, "{status}");
    let rows = detour::json(ns, &["asked", device]);
    for row in rows["rows"].as_array().expect("rows") {
        let more = u64::from([9, 10].map(Value::from).contains(&row["port"]));
        assert_eq!(row["packets"], 20 + more, "{row}");
    }
    // A target owns the tuples of all who speak to it.
    (4000..4003).for_each(|from| assert_eq!(verdict(from, target.into(), 7), UNSPEC));
    let flows = detour::json(ns, &["flows", device]);
    assert_eq!(flows["flows"].as_array().expect("flows").len(), 3, "{flows}");
    // Other rules are in force at once.
    for (rule, expected) in [("udp drop", SHOT), ("udp accept", UNSPEC), ("udp drop", SHOT)] {
        up(ns, device, &["--rule", rule]);
        for far in [IpAddr::from(FAR), IpAddr::from(FAR6)] {
            (0..3).for_each(|_| assert_eq!(verdict(4000, far, 10), expected, "{far}: {rule}"));
        }
        up(ns, device, &["--rule", "tcp drop"]);
        for far in [IpAddr::from(FAR), IpAddr::from(FAR6)] {
            (0..3).for_each(|_| assert_eq!(verdict(4000, far, 10), UNSPEC, "{far}: tcp only"));
        }
    }
}
