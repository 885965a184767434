// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A hundred upgrades under a long transfer: not a byte is lost or changed, nobody is reset, and everybody new is served.
use e2e::crowd;
use e2e::detour;
use e2e::lab::{Lab, GATEWAY};
use e2e::netns::Netns;
use e2e::serve::Server;
use e2e::talk;
use e2e::tools::{self, Scratch};
use e2e::version::{compile, COUNTS};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

const DEVICE: &str = "eth0";
const UPGRADES: usize = 100;

fn far(port: u16) -> SocketAddr {
    ([198, 51, 100, 7], port).into()
}

/// A counter of /proc/net/snmp.
fn snmp(ns: &Netns, name: &str) -> u64 {
    let text = ns.within(|| std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap());
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let at = names.split(' ').position(|n| n == name).unwrap();
    values.split(' ').nth(at).unwrap().parse().unwrap()
}

/// What sha256sum says of what is written to it.
fn sha256sum(mut write: impl FnMut(&mut dyn Write)) -> String {
    let mut sum = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    write(&mut sum.stdin.take().unwrap());
    String::from_utf8(sum.wait_with_output().unwrap().stdout).unwrap()
}

#[test]
fn a_hundred_upgrades_under_a_long_transfer() {
    let scratch = Scratch::new();
    let other = compile(&scratch, "counts.bpf.o", &COUNTS);
    let lab = Lab::new();
    let ns = &lab.gateway;
    let rules = ["--rule", "tcp redirect to :7007", "--rule", "udp redirect to :7007"];
    let up =
        |more: &[&str]| detour::json(ns, &[&["up", DEVICE], &rules[..], more].concat())["change"].clone();
    assert_eq!(up(&[]), "loaded");
    let _echo = Server::echo(ns, (GATEWAY, 7007));
    let answering = Server::udp(ns, (GATEWAY, 7007));
    // Not the gateway's OutRsts: a busy machine sends a FIN again, and its second ACK finds the server's socket gone.
    let resets = || {
        let torn = |ns| (snmp(ns, "EstabResets"), snmp(ns, "AttemptFails"));
        (torn(&lab.client), torn(ns), snmp(&lab.client, "OutRsts"))
    };
    let before = resets();

    let stream = talk::dial(&lab.client, 0, far(1000)).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    let (mut reader, mut writer) = (stream.try_clone().unwrap(), stream);
    let socket = talk::udp(&lab.client, 4000);
    let done = AtomicBool::new(false);
    let (sent, heard, served, asked) = std::thread::scope(|scope| {
        let sent = scope.spawn(|| {
            let (mut length, mut state) = (0_u64, 1_u64);
            let sum = sha256sum(|out| {
                let mut block = [0; 8192];
                while !done.load(Ordering::Relaxed) {
                    for word in block.chunks_exact_mut(8) {
                        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        word.copy_from_slice(&state.to_le_bytes());
                    }
                    writer.write_all(&block).unwrap();
                    out.write_all(&block).unwrap();
                    length += block.len() as u64;
                }
                writer.shutdown(Shutdown::Write).unwrap();
            });
            (sum, length)
        });
        let heard = scope.spawn(|| {
            let mut length = 0_u64;
            let sum = sha256sum(|out| {
                let mut room = [0; 65536];
                loop {
                    match reader.read(&mut room).unwrap() {
                        0 => break,
                        n => {
                            out.write_all(&room[..n]).unwrap();
                            length += n as u64;
                        }
                    }
                }
            });
            (sum, length)
        });
        let port = std::cell::Cell::new(2000);
        let served = scope.spawn(|| {
            let port = port;
            crowd::meanwhile(&done, || {
                port.set(2000 + (port.get() + 1) % 20_000);
                crowd::honest(&lab.client, far(port.get())).unwrap();
                // Flows that have ended keep their slots for a while: not more than there are.
                std::thread::sleep(std::time::Duration::from_millis(10));
            })
        });
        let asked = scope.spawn(|| {
            crowd::meanwhile(&done, || {
                let (text, from) = talk::ask(&socket, far(53), "x").unwrap();
                assert_eq!((text.split(' ').next(), from), (Some("x"), far(53)));
            })
        });
        for n in 0..UPGRADES {
            let object: &[&str] = if n % 2 == 0 { &["--object", &other] } else { &[] };
            assert_eq!(up(object), "upgraded", "the {n}th");
            if n % 10 == 0 {
                detour::run(ns, &[&["verify", "--live", DEVICE], object].concat()).done();
            }
        }
        done.store(true, Ordering::Relaxed);
        (sent.join().unwrap(), heard.join().unwrap(), served.join().unwrap(), asked.join().unwrap())
    });
    assert_eq!(sent, heard, "every byte came back");
    assert!(sent.1 > 1 << 20 && served > 100 && asked > 100, "{} bytes, {served}, {asked}", sent.1);
    // Clients of new connections close what they have heard all of.
    assert_eq!(resets(), before, "nobody was reset");
    let clients: std::collections::BTreeSet<SocketAddr> = answering.heard().iter().map(|h| h.0).collect();
    assert_eq!(clients.len(), 1, "one UDP flow, from the first datagram to the last: {clients:?}");
    assert_eq!(answering.heard().len() as u64, asked, "each datagram once");
    for hook in tools::HOOKS {
        assert_eq!(tools::filters(ns, DEVICE, hook).len(), 1);
    }
    println!("{} bytes, {served} connections, {asked} datagrams", sent.1);
}
