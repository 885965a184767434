// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What a service manager wants to hear of us, by sd_notify(3): one datagram to the socket that it named.
use nix::time::{clock_gettime, ClockId};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Who listens; nobody where NOTIFY_SOCKET is not set.
#[derive(Debug)]
pub struct Notify {
    to: Option<(UnixDatagram, SocketAddr)>,
    /// How often a sign of life is wanted: half of WATCHDOG_USEC.
    pub watchdog: Option<Duration>,
}

impl Notify {
    /// Reads NOTIFY_SOCKET and WATCHDOG_USEC, unless WATCHDOG_PID names another process.
    pub fn from_environment() -> Notify {
        let variable = |name: &str| std::env::var(name).ok();
        let path = variable("NOTIFY_SOCKET");
        let address = path.and_then(|path| match path.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name).ok(),
            None => SocketAddr::from_pathname(path).ok(),
        });
        let to = address.and_then(|address| Some((UnixDatagram::unbound().ok()?, address)));
        let ours = variable("WATCHDOG_PID").is_none_or(|pid| pid.parse() == Ok(std::process::id()));
        let wanted = variable("WATCHDOG_USEC").filter(|_| ours).and_then(|text| text.parse::<u64>().ok());
        let watchdog = wanted.filter(|n| *n > 0).map(|n| Duration::from_micros(n / 2));
        Notify { to, watchdog }
    }

    /// Says it. Who does not listen misses it.
    pub fn say(&self, what: &str) {
        if let Some((socket, address)) = &self.to {
            let _ = socket.send_to_addr(what.as_bytes(), address);
        }
    }

    /// A reload begins; `READY=1` ends it.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros()));
    }
}
