// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `metrics`: promtool accepts every line, the numbers are those of the traffic, and a file is replaced as a whole.
use e2e::detour::{self, code, up};
use e2e::lab::{Lab, GATEWAY};
use e2e::serve::Server;
use e2e::talk;
use e2e::tools::{promtool, Scratch};

/// The value of the one sample that starts with `name{` and has all of `labels`.
#[track_caller]
fn value(text: &str, name: &str, labels: &[&str]) -> u64 {
    let is = |line: &&str| {
        line.starts_with(&format!("{name}{{")) && labels.iter().all(|label| line.contains(label))
    };
    let lines: Vec<&str> = text.lines().filter(is).collect();
    assert_eq!(lines.len(), 1, "{name} {labels:?} in\n{text}");
    lines[0].rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn promtool_accepts_it_and_the_numbers_are_those_of_the_traffic() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    let rules = ["--rule", "tcp dport 80 redirect to :8080", "--rule", "udp dport 9 drop"];
    assert_eq!(detour::run(ns, &["metrics"]).done().stdout, "", "nothing is up");
    up(ns, &lab.device, &rules);
    let _server = Server::http(ns, (GATEWAY, 8080), "hello");
    for n in 0..3 {
        talk::curl(&lab.client, &format!("http://198.51.100.{n}/"));
    }
    let socket = talk::udp(&lab.client, 0);
    (0..5).for_each(|_| assert_eq!(socket.send_to(b"x", "198.51.100.1:9").unwrap(), 1));
    (0..2).for_each(|_| assert_eq!(socket.send_to(b"x", "198.51.100.1:10").unwrap(), 1));

    let text = detour::run(ns, &["metrics", &lab.device]).done().stdout;
    promtool(&text);
    assert_eq!(value(&text, "detour_rule_packets_total", &["rule=\"1\"", "tcp dport 80"]), 3);
    assert_eq!(value(&text, "detour_rule_packets_total", &["rule=\"2\""]), 5);
    // Ethernet, IPv4 and UDP headers, one byte.
    assert_eq!(value(&text, "detour_rule_bytes_total", &["rule=\"2\""]), 5 * (14 + 20 + 8 + 1));
    assert_eq!(value(&text, "detour_untranslated_packets_total", &["reason=\"drop\"", "dropped"]), 5);
    assert_eq!(value(&text, "detour_untranslated_packets_total", &["reason=\"no_rule\"", "passed"]), 2);
    assert_eq!(value(&text, "detour_flows", &["ipv4", "confirmed"]), 3);
    assert_eq!(value(&text, "detour_rules", &[]), 2);
    assert_eq!(value(&text, "detour_program_in_place", &["detour_in", "ingress"]), 1);

    ns.run("tc", &["filter", "del", "dev", &lab.device, "ingress"]);
    let text = detour::run(ns, &["metrics"]).done().stdout;
    assert_eq!(value(&text, "detour_program_in_place", &["detour_in"]), 0);
    let json = detour::json(ns, &["metrics"]);
    assert_eq!(json["schema"], "detour.metrics/1");
    assert_eq!(json["metrics"][0]["samples"][0]["labels"]["device"], *lab.device);
}

#[test]
fn a_file_is_replaced_as_a_whole() {
    let lab = Lab::new();
    up(&lab.gateway, &lab.device, &[]);
    let scratch = Scratch::new();
    let path = scratch.write("detour.prom", "old");
    let file = ["metrics", "--file", &path];
    assert_eq!(detour::run(&lab.gateway, &file).done().stdout, "");
    promtool(&std::fs::read_to_string(&path).unwrap());
    assert_eq!(std::fs::read_dir(scratch.path("")).unwrap().count(), 1, "nothing else is left there");
    let nowhere = scratch.path("none/detour.prom");
    let nowhere = ["metrics", "--file", nowhere.to_str().unwrap()];
    detour::run(&lab.gateway, &nowhere).refused(code::USAGE, &["detour.prom"]);
}
