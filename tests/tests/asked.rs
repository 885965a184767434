// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `asked` as an operator wants it: ordered, cut, added up, as bars, as a picture and as CSV; every number is of traffic sent.
use e2e::detour::{self, code, up};
use e2e::lab::{Lab, CLIENT};
use e2e::{talk, tools::Scratch};
use serde_json::Value;

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
