// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What a service manager wants to hear of us, by sd_notify(3): one datagram to the socket that it named.
use nix::time::{clock_gettime, ClockId};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// How long a manager may be busy.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who listens; nobody where NOTIFY_SOCKET is not set.
#[derive(Debug)]
pub struct Notify {
    to: Option<To>,
    /// How often a sign of life is wanted: half of WATCHDOG_USEC.
    pub watchdog: Option<Duration>,
}

#[derive(Debug)]
struct To {
    /// Waits until there is room, but not for ever.
    socket: UnixDatagram,
    /// Does not: a manager that is busy would stop the service.
    signs: UnixDatagram,
    address: SocketAddr,
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
        let to = address.and_then(|address| {
            let (socket, signs) = (UnixDatagram::unbound().ok()?, UnixDatagram::unbound().ok()?);
            socket.set_write_timeout(Some(PATIENCE)).ok()?;
            signs.set_nonblocking(true).ok()?;
            Some(To { socket, signs, address })
        });
        let [usec, pid] = ["WATCHDOG_USEC", "WATCHDOG_PID"].map(variable);
        Notify { to, watchdog: watchdog(usec.as_deref(), pid.as_deref(), std::process::id()) }
    }

    /// Says it. Who does not listen misses it.
    pub fn say(&self, what: &str) {
        if let Some(to) = &self.to {
            let _ = to.socket.send_to_addr(what.as_bytes(), &to.address);
        }
    }

    /// A sign of life; one that finds no room is followed by others.
    pub fn lives(&self) {
        if let Some(to) = &self.to {
            let _ = to.signs.send_to_addr(b"WATCHDOG=1", &to.address);
        }
    }

    /// A reload begins; `READY=1` ends it.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros()));
    }
}

/// Half of what is wanted, as sd_watchdog_enabled(3) advises; nothing where that is meant for another process.
fn watchdog(usec: Option<&str>, pid: Option<&str>, own: u32) -> Option<Duration> {
    let ours = pid.is_none_or(|pid| pid.parse() == Ok(own));
    let wanted = usec.filter(|_| ours).and_then(|text| text.parse::<u64>().ok());
    wanted.filter(|n| *n > 0).map(|n| Duration::from_micros(n / 2))
}

#[cfg(test)]
mod tests {
    use super::watchdog;
    use std::time::Duration;

    #[test]
    fn a_sign_of_life_comes_twice_as_often_as_it_is_wanted() {
        let half = Some(Duration::from_millis(1500));
        assert_eq!(watchdog(Some("3000000"), None, 7), half);
        assert_eq!(watchdog(Some("3000000"), Some("7"), 7), half);
        assert_eq!(watchdog(Some("3000000"), Some("8"), 7), None);
        let none = [watchdog(Some("0"), None, 7), watchdog(Some("x"), None, 7), watchdog(None, Some("7"), 7)];
        assert_eq!(none, [None; 3]);
    }
}
