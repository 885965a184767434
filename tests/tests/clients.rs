// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The programs that people use, beside nftables' same rule: curl, dig, ping, traceroute, nc, hping3, iperf3, and HTTP/3 over
//! QUIC (aioquic, at both ends). They have to say the same.
use e2e::detour::{self, up};
use e2e::dns;
use e2e::lab::{Lab, GATEWAY};
use e2e::netns::Netns;
use e2e::serve::Server;
use e2e::tools::{self, project};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

const FAKE: &str = "93.184.216.34";

/// A program that serves until the test is over.
struct Running(Child);

impl Running {
    /// Starts it in `ns` and waits until it has printed a line with `ready`.
    fn start(ns: &Netns, command: &mut Command, ready: &str) -> Running {
        let name = format!("{command:?}");
        let mut child = ns.within(|| command.stdout(Stdio::piped()).spawn().unwrap());
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let running = Running(child);
        assert!(lines.map_while(Result::ok).any(|line| line.contains(ready)), "{name}");
        running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a program says on either stream, and how it ends.
fn says(ns: &Netns, line: &str) -> String {
    let mut words = line.split(' ');
    let output = ns.output(Command::new(words.next().unwrap()).args(words).env("LC_ALL", "C"));
    let text = [&output.stdout[..], &output.stderr].concat();
    format!("{} {}", String::from_utf8_lossy(&text), output.status)
}

/// The words of `text` that `is` wants, in their order.
fn words(text: &str, is: impl Fn(&str) -> bool) -> Vec<String> {
    let words = text.split(|c: char| c.is_whitespace() || "(),:".contains(c)).filter(|word| is(word));
    words.map(String::from).collect()
}

fn is_address(word: &str) -> bool {
    word.parse::<IpAddr>().is_ok()
}

/// What all of them say, without times and what they choose at random.
fn transcript(lab: &Lab) -> Vec<String> {
    let any = |port| SocketAddr::from(([0, 0, 0, 0], port));
    let _web = Server::http(&lab.gateway, any(80), "page");
    let _names =
        Server::answering(&lab.gateway, (GATEWAY, 53), |q| dns::answer(q, &[IpAddr::from([192, 0, 2, 1])]));
    let _echo = Server::udp(&lab.gateway, any(7));
    // The kernel tells one client no more than once a second, after six.
    lab.gateway.sysctl("net/ipv4/icmp_ratelimit", "0");
    let ns = &lab.client;
    let mut told = Vec::new();
    let mut tell = |line: &str, is: &dyn Fn(&str) -> bool| {
        let said = says(ns, line);
        told.push(format!("{line}: {}", words(&said, is).join(" ")));
    };
    tell(
        &format!("curl -sS --max-time 20 --noproxy * -w :%{{http_code}}/%{{remote_ip}} http://{FAKE}/"),
        &|word| word.contains('/') || word.contains("page"),
    );
    tell(&format!("curl -sS --max-time 20 --noproxy * http://{FAKE}:81/"), &|word| {
        word == "refused" || word == "7"
    });
    tell("dig +short +noedns +tries=1 +timeout=15 @8.8.8.8 example.org", &|_| true);
    tell("ping -n -c 3 -i 0.2 -W 15 9.9.9.9", &|word| {
        is_address(word) || word == "3" || word.ends_with("ttl=64")
    });
    tell("ping -n -c 2 -i 0.2 -W 15 -s 4000 9.9.9.9", &|word| is_address(word) || word == "4008");
    // By UDP, ICMP and TCP.
    for how in ["", " -I", " -T -p 80"] {
        tell(&format!("traceroute -n -q 1 -w 15{how} {FAKE}"), &|word| is_address(word) || word == "*");
    }
    tell(&format!("nc -n -v -z -w 15 {FAKE} 80"), &|word| is_address(word) || word == "succeeded!");
    tell(&format!("nc -n -v -z -w 15 {FAKE} 81"), &|word| is_address(word) || word == "refused");
    tell("sh -c printf${IFS}'hello'|nc${IFS}-n${IFS}-u${IFS}-w${IFS}2${IFS}93.184.216.34${IFS}7", &|word| {
        word == "hello" || word.starts_with("192.168")
    });
    for (how, answers) in [
        ("-S -p 80", "flags=SA"),
        ("-S -p 81", "flags=RA"),
        ("-F -p 80", "flags=RA"),
        ("--icmp", "icmp_seq="),
        ("-2 -p 82", "ICMP"),
    ] {
        tell(&format!("hping3 -n -q -V -c 5 -i u20000 {how} {FAKE}"), &|word| {
            word == "received" || word == "5"
        });
        tell(&format!("hping3 -n -c 3 -i u20000 {how} {FAKE}"), &|word| {
            word.starts_with(answers) || word.starts_with("ip=") || word.starts_with("sport=")
        });
    }
    told
}

#[test]
fn they_say_the_same_as_with_nft() {
    let theirs = Lab::new();
    theirs.nft("ip protocol { tcp, udp, icmp } redirect");
    let theirs = transcript(&theirs);
    let ours = Lab::new();
    up(&ours.gateway, &ours.device, &[]);
    let told = transcript(&ours);
    for (ours, theirs) in told.iter().zip(&theirs) {
        assert_eq!(ours, theirs);
    }
    println!("{told:#?}");
    let all = told.join("\n");
    for word in
        ["200/93.184.216.34", "page", "192.0.2.1", "refused", "flags=SA", "flags=RA", "hello", "5 received"]
    {
        assert!(all.contains(word), "{word} is not in:\n{all}");
    }
}

/// A measurement of iperf3.
fn iperf(lab: &Lab, options: &str) -> Value {
    let mut serve = Command::new("iperf3");
    serve.args(["-s", "-1", "--forceflush"]).stderr(Stdio::null());
    let server = Running::start(&lab.gateway, &mut serve, "listening");
    let line = format!("-c {FAKE} -J {options}");
    let report = tools::json(&lab.client, "iperf3", &line.split(' ').collect::<Vec<_>>());
    drop(server);
    report
}

#[test]
fn iperf3_gets_what_it_sent() {
    let lab = Lab::new();
    up(&lab.gateway, &lab.device, &["--rule", "tcp redirect", "--rule", "udp redirect"]);
    for options in ["-n 20M", "-n 20M -R", "-n 20M -P 8"] {
        let end = iperf(&lab, options)["end"].clone();
        let bytes = |side: &str| end[side]["bytes"].as_u64().unwrap();
        assert!(bytes("sum_sent") >= 20 << 20, "{options}: {end}");
        // It stops counting when the sender says that it is done, over another connection.
        let received = bytes("sum_received");
        assert!((10 << 20..=bytes("sum_sent")).contains(&received), "{options}: {end}");
    }
    for options in ["-u -b 8M -n 2M -l 1400", "-u -b 8M -n 2M -l 1400 -R", "-u -b 8M -n 2M -l 8000"] {
        let report = iperf(&lab, options);
        let sum = &report["end"]["sum"];
        // A busy machine may let a socket's queue run over, but what comes is most of it.
        let (packets, lost) = (sum["packets"].as_u64().unwrap(), sum["lost_packets"].as_u64().unwrap());
        assert!(packets >= (2 << 20) / 8000 && lost * 2 < packets, "{options}: {sum}");
    }
    let flows = detour::run(&lab.gateway, &["flows", &lab.device]).done().stdout;
    assert!(flows.contains(&format!("{FAKE}:5201")), "{flows}");
}

/// The Python that scripts/test puts aioquic into.
fn python() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| project().join("target"), PathBuf::from);
    let python = target.join("quic/bin/python");
    assert!(python.exists(), "{}: scripts/test makes it", python.display());
    python
}

/// A server on another port, where the client's Alt-Svc would not look.
#[test]
fn http_3_over_quic() {
    let script = project().join("tests/tests/quic.py").display().to_string();
    let run = |lab: &Lab, more: &[&str]| {
        let at = GATEWAY.to_string();
        let serve = [&[script.as_str(), "serve", &at, "4433"], more].concat();
        let _server = Running::start(&lab.gateway, Command::new(python()).args(serve), "ready");
        lab.client.run(python().to_str().unwrap(), &[&script, "fetch", FAKE, "443", "2097152"])
    };
    let theirs = Lab::new();
    theirs.nft("udp dport 443 redirect to :4433");
    let said = run(&theirs, &[]);
    assert_eq!(said, "200 2097152 bytes, intact: True\n");
    for (migration, offload) in [(&[][..], true), (&["no-migration"], false)] {
        let ours = Lab::new().tx_checksum(offload);
        up(&ours.gateway, &ours.device, &["--rule", "udp dport 443 redirect to :4433"]);
        assert_eq!(run(&ours, migration), said, "{migration:?}, offload {offload}");
        let flows = detour::json(&ours.gateway, &["flows", &ours.device]);
        let flow = &flows["flows"][0];
        assert_eq!((&flow["protocol"], &flow["state"]), (&"udp".into(), &"confirmed".into()), "{flows}");
        assert_eq!(flow["original"], serde_json::json!({"address": FAKE, "port": 443}));
    }
}
