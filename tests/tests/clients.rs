// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The programs that people use, beside nftables' same rule, over both families: curl, dig, ping, traceroute, nc, iperf3, HTTP/3
//! over QUIC (aioquic, at both ends), and hping3, which knows no IPv6. They have to say the same.
use e2e::detour::{self, up};
use e2e::dns;
use e2e::family::Family;
use e2e::lab::{tell_all_errors, Lab};
use e2e::netns::Netns;
use e2e::serve::Server;
use e2e::tools::{self, project};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

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

/// The words of `text` that `is` wants, in their order; of an address with a port, which is a random one, the address.
fn words(text: &str, is: impl Fn(&str) -> bool) -> Vec<String> {
    let words = text.split(|c: char| c.is_whitespace() || "(),".contains(c));
    let words = words.map(|word| match word.parse::<SocketAddr>() {
        Ok(end) => end.ip().to_string(),
        Err(_) => word.trim_end_matches(':').to_string(),
    });
    words.filter(|word| is(word)).collect()
}

fn is_address(word: &str) -> bool {
    word.parse::<IpAddr>().is_ok()
}

/// What all of them say, without times and what they choose at random.
fn transcript(lab: &Lab, family: Family) -> Vec<String> {
    let _web = Server::http(&lab.gateway, family.any(80), "page");
    let _names = Server::answering(&lab.gateway, (family.gateway(), 53), |q| {
        dns::answer(q, &[IpAddr::from([192, 0, 2, 1])])
    });
    let _echo = Server::udp(&lab.gateway, family.any(7));
    tell_all_errors(&lab.gateway);
    let ns = &lab.client;
    let fake = family.far();
    let host = family.pick(fake.to_string(), format!("[{fake}]"));
    let [names, other] = family.pick(["8.8.8.8", "9.9.9.9"], ["2001:db8::8", "2001:db8::9"]);
    let mut told = Vec::new();
    let mut tell = |line: &str, is: &dyn Fn(&str) -> bool| {
        let said = says(ns, line);
        told.push(format!("{line}: {}", words(&said, is).join(" ")));
    };
    let curl = "curl -sS -g --max-time 20 --noproxy *";
    tell(&format!("{curl} -w \\n%{{http_code}}/%{{remote_ip}} http://{host}/"), &|word| {
        word.contains('/') || word == "page" || is_address(word)
    });
    tell(&format!("{curl} http://{host}:81/"), &|word| word == "refused" || word == "7");
    tell(&format!("dig +short +noedns +tries=1 +timeout=15 @{names} example.org"), &|_| true);
    tell(&format!("ping -n -c 3 -i 0.2 -W 15 {other}"), &|word| {
        is_address(word) || word == "3" || word.ends_with("ttl=64")
    });
    tell(&format!("ping -n -c 2 -i 0.2 -W 15 -s 4000 {other}"), &|word| is_address(word) || word == "4008");
    // By UDP, ICMP and TCP.
    for how in ["", " -I", " -T -p 80"] {
        tell(&format!("traceroute -n -q 1 -w 15{how} {fake}"), &|word| is_address(word) || word == "*");
    }
    tell(&format!("nc -n -v -z -w 15 {fake} 80"), &|word| is_address(word) || word == "succeeded!");
    tell(&format!("nc -n -v -z -w 15 {fake} 81"), &|word| is_address(word) || word == "refused");
    let ask = format!("printf hello|nc -n -u -w 2 {fake} 7").replace(' ', "${IFS}");
    tell(&format!("sh -c {ask}"), &|word| word == "hello" || is_address(word));
    for (how, answers) in [
        ("-S -p 80", "flags=SA"),
        ("-S -p 81", "flags=RA"),
        ("-F -p 80", "flags=RA"),
        ("--icmp", "icmp_seq="),
        ("-2 -p 82", "ICMP"),
    ] {
        if family == Family::V6 {
            continue; // hping3 has no IPv6
        }
        tell(&format!("hping3 -n -q -V -c 5 -i u20000 {how} {fake}"), &|word| {
            word == "received" || word == "5"
        });
        tell(&format!("hping3 -n -c 3 -i u20000 {how} {fake}"), &|word| {
            word.starts_with(answers) || word.starts_with("ip=") || word.starts_with("sport=")
        });
    }
    told
}

#[test]
fn they_say_the_same_as_with_nft() {
    for family in Family::BOTH {
        let theirs = Lab::new();
        theirs.nft_for(family, "meta l4proto { tcp, udp, icmp, ipv6-icmp } redirect");
        let theirs = transcript(&theirs, family);
        let ours = Lab::new();
        up(&ours.gateway, &ours.device, &[]);
        let told = transcript(&ours, family);
        for (ours, theirs) in told.iter().zip(&theirs) {
            assert_eq!(ours, theirs);
        }
        println!("{told:#?}");
        let (all, fake, client) = (told.join("\n"), family.far(), family.client());
        let heard = [&format!("200/{fake}"), &format!("page {client}"), &format!("hello {client}")];
        let more = ["192.0.2.1", "4008", "succeeded!", "refused"];
        let packets = family.pick(&["flags=SA", "flags=RA", "5 received"][..], &[]);
        for word in heard.into_iter().map(String::as_str).chain(more).chain(packets.iter().copied()) {
            assert!(all.contains(word), "{word} is not in:\n{all}");
        }
    }
}

/// A measurement of iperf3.
fn iperf(lab: &Lab, to: IpAddr, options: &str) -> Value {
    let mut serve = Command::new("iperf3");
    serve.args(["-s", "-1", "--forceflush"]).stderr(Stdio::null());
    let server = Running::start(&lab.gateway, &mut serve, "listening");
    let line = format!("-c {to} -J {options}");
    let report = tools::json(&lab.client, "iperf3", &line.split(' ').collect::<Vec<_>>());
    drop(server);
    report
}

#[test]
fn iperf3_gets_what_it_sent() {
    let lab = Lab::new();
    up(&lab.gateway, &lab.device, &["--rule", "tcp redirect", "--rule", "udp redirect"]);
    let each = |options: &'static [&str]| {
        Family::BOTH
            .into_iter()
            .flat_map(|family| options.iter().map(move |options| (family.far(), *options)))
    };
    for (to, options) in each(&["-n 20M", "-n 20M -R", "-n 20M -P 8"]) {
        let end = iperf(&lab, to, options)["end"].clone();
        let bytes = |side: &str| end[side]["bytes"].as_u64().unwrap();
        assert!(bytes("sum_sent") >= 20 << 20, "{to} {options}: {end}");
        // It stops counting when the sender says that it is done, over another connection: which may overtake this one by far.
        let received = bytes("sum_received");
        assert!((1..=bytes("sum_sent")).contains(&received), "{to} {options}: {end}");
    }
    // So slow that a socket's queue holds what comes while a busy machine does not look, for a second.
    for (to, options) in
        each(&["-u -b 1M -n 128K -l 1400", "-u -b 1M -n 128K -l 1400 -R", "-u -b 1M -n 128K -l 8000"])
    {
        // And all of it comes. Where it did not once, the machine was busy for longer than that.
        let lost = || {
            let sum = iperf(&lab, to, options)["end"]["sum"].clone();
            assert!(sum["packets"].as_u64().unwrap() >= (128 << 10) / 8000, "{to} {options}: {sum}");
            sum["lost_packets"].as_u64().unwrap()
        };
        assert!((0..3).any(|_| lost() == 0), "{to} {options}: each time something was lost");
    }
    let flows = detour::run(&lab.gateway, &["flows", &lab.device]).done().stdout;
    for family in Family::BOTH {
        assert!(flows.contains(&SocketAddr::new(family.far(), 5201).to_string()), "{flows}");
    }
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
    for family in Family::BOTH {
        http_3(family);
    }
}

fn http_3(family: Family) {
    let script = project().join("tests/tests/quic.py").display().to_string();
    let (fake, gateway) = (family.far().to_string(), family.gateway().to_string());
    let run = |lab: &Lab, more: &[&str]| {
        let serve = [&[script.as_str(), "serve", &gateway, "4433"], more].concat();
        let _server = Running::start(&lab.gateway, Command::new(python()).args(serve), "ready");
        lab.client.run(python().to_str().unwrap(), &[&script, "fetch", &fake, "443", "2097152"])
    };
    let theirs = Lab::new();
    theirs.nft_for(family, "udp dport 443 redirect to :4433");
    let said = run(&theirs, &[]);
    assert_eq!(said, "200 2097152 bytes, intact: True\n");
    let ways = [(&["no-migration"][..], false), (&[], true)];
    for (migration, offload) in ways.into_iter().take(family.pick(2, 1)) {
        let ours = Lab::new().tx_checksum(offload);
        up(&ours.gateway, &ours.device, &["--rule", "udp dport 443 redirect to :4433"]);
        assert_eq!(run(&ours, migration), said, "{fake}, {migration:?}, offload {offload}");
        let flows = detour::json(&ours.gateway, &["flows", &ours.device]);
        let flow = &flows["flows"][0];
        assert_eq!((&flow["protocol"], &flow["state"]), (&"udp".into(), &"confirmed".into()), "{flows}");
        assert_eq!(flow["original"], serde_json::json!({"address": fake, "port": 443}));
    }
}
