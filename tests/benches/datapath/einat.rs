// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! einat, another NAT made of tc programs, as a subject of the same measurement: a packet of an established mapping each way.
//!
//! It translates the source of what leaves, we the destination of what arrives; so its `egress_snat` does what our
//! `detour_in` does, and its `ingress_rev_snat` what our `detour_out` does.
use e2e::lab::{Lab, SERVER};
use e2e::packet::Packet;
use e2e::testrun::{Program, Sums};
use e2e::tools;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A gateway on whose eth0 einat runs.
pub struct Einat {
    lab: Lab,
    running: Child,
}

impl Drop for Einat {
    fn drop(&mut self) {
        let _ = self.running.kill();
        let _ = self.running.wait();
    }
}

impl Einat {
    /// Starts the program that `EINAT` names; none without that.
    pub fn start() -> Option<Einat> {
        let path = std::env::var_os("EINAT")?;
        let lab = Lab::new();
        let running = lab.gateway.within(|| {
            let mut command = Command::new(&path);
            command
                .args(["--ifname", "eth0", "--nat44"])
                .stdout(Stdio::null())
                .stderr(Stdio::inherit())
                .spawn()
        });
        let einat = Einat { lab, running: running.unwrap_or_else(|error| panic!("{path:?}: {error}")) };
        let start = Instant::now();
        while einat.id("ingress_rev_snat").is_none() || einat.id("egress_snat").is_none() {
            assert!(start.elapsed() < Duration::from_secs(20), "einat attaches nothing");
            std::thread::sleep(Duration::from_millis(100));
        }
        // It enters the device's address after it has attached.
        std::thread::sleep(Duration::from_secs(1));
        Some(einat)
    }

    fn id(&self, name: &str) -> Option<u64> {
        let programs = tools::json(&self.lab.gateway, "bpftool", &["-j", "prog", "show"]);
        let programs = programs.as_array()?;
        programs
            .iter()
            .filter(|program| program["name"] == name)
            .filter_map(|program| program["id"].as_u64())
            .max()
    }

    /// Its program of this name.
    pub fn program(&self, name: &str) -> Program<'_> {
        Program::by_id(&self.lab.gateway, self.id(name).expect("it runs"))
    }

    /// A datagram that leaves, from a host behind the gateway, and its answer that arrives; the mapping is made.
    pub fn packets(&self, to: Ipv4Addr) -> (Packet, Packet) {
        let leaves = Packet::udp(SocketAddr::from((SERVER, 4000)), SocketAddr::from((to, 53)));
        let outcome = self.program("egress_snat").run(&leaves.frame(), Sums::None);
        let translated = Packet::read(&outcome.frame).expect("a packet");
        assert_ne!(translated.ends().0, leaves.ends().0, "einat translates it");
        (leaves, translated.reversed())
    }
}
