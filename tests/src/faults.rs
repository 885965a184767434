// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Which errors each call is failed with, a conversation that has to survive them, and a count of what was tried.
//!
//! One error a call, in turn, keeps the ordinary tests short; `FAULTS=all` tries all of them (scripts/faults).
use crate::lab::{Lab, GATEWAY};
use crate::serve::Server;
use crate::strace::Call;
use crate::talk;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

/// Calls that can fail on the way of a command that changes the kernel, and errors that the kernel can give for them.
pub const ERRORS: [(&str, &[&str]); 11] = [
    ("bpf", &["ENOMEM", "EPERM", "EINVAL", "E2BIG", "ENOSPC", "EBUSY", "EAGAIN"]),
    ("sendto", &["ENOBUFS", "ENOMEM", "EPERM"]),
    ("sendmsg", &["ENOBUFS"]),
    ("recvfrom", &["ENOBUFS", "ENOMEM"]),
    ("recvmsg", &["ENOBUFS"]),
    ("mkdir", &["ENOSPC", "EROFS", "EACCES", "EEXIST"]),
    ("rename", &["EPERM", "EBUSY", "ENOTEMPTY"]),
    ("renameat2", &["EINVAL", "EPERM"]),
    ("unlink", &["EPERM", "EROFS"]),
    ("rmdir", &["EBUSY", "EPERM"]),
    ("flock", &["ENOLCK"]),
];

/// Their names for strace.
pub fn calls() -> String {
    ERRORS.map(|(name, _)| name).join(",")
}

/// How often `name` was called.
pub fn count(calls: &[Call], name: &str) -> usize {
    calls.iter().filter(|call| call.name == name).count()
}

/// Whether everything is tried.
pub fn all() -> bool {
    std::env::var_os("FAULTS").is_some_and(|all| all == "all")
}

/// The errors that the `nth` call of a name is failed with now.
pub fn errors(errors: &'static [&'static str], nth: usize) -> Vec<&'static str> {
    match all() {
        true => errors.to_vec(),
        false => vec![errors[nth % errors.len()]],
    }
}

/// A client and its server, talking over one connection.
pub struct Talk {
    stream: TcpStream,
    _server: Server,
    said: usize,
}

/// What makes [`Talk`] possible: port 7 is answered at port 1007.
pub const TALK: &str = "tcp dport 7 redirect to :1007";

impl Talk {
    /// Connects; the rule [`TALK`] has to be in force.
    pub fn begin(lab: &Lab) -> Talk {
        Talk::with(lab, ([198, 51, 100, 7], 7).into())
    }

    /// Connects to the gateway itself, which no rule is ever about.
    pub fn directly(lab: &Lab) -> Talk {
        Talk::with(lab, (GATEWAY, 1007).into())
    }

    fn with(lab: &Lab, to: SocketAddr) -> Talk {
        let server = Server::echo(&lab.gateway, (GATEWAY, 1007));
        let stream = talk::dial(&lab.client, 0, to).unwrap();
        let mut talk = Talk { stream, _server: server, said: 0 };
        talk.goes_on("the beginning");
        talk
    }

    /// Something is said and heard; `what` happened before.
    #[track_caller]
    pub fn goes_on(&mut self, what: &str) {
        self.said += 1;
        let said = format!("this is number {}", self.said);
        let mut heard = vec![0; said.len()];
        let done = self.stream.write_all(said.as_bytes()).and_then(|()| self.stream.read_exact(&mut heard));
        assert!(done.is_ok() && heard == said.as_bytes(), "{what}: the connection is cut: {done:?}");
    }
}

/// How many faults of each kind there were.
#[derive(Debug, Default)]
pub struct Tally {
    kinds: BTreeMap<(String, String), usize>,
    /// Faults that the command did without.
    pub harmless: Vec<String>,
}

impl Tally {
    /// One more.
    pub fn add(&mut self, name: &str, error: &str) {
        *self.kinds.entry((name.to_string(), error.to_string())).or_default() += 1;
    }

    /// All of them.
    pub fn sum(&self) -> usize {
        self.kinds.values().sum()
    }

    /// Prints it, which `--nocapture` shows.
    pub fn print(&self, command: &str) {
        let mut text = format!("{command}: {} faults:", self.sum());
        for ((name, error), count) in &self.kinds {
            let _ = write!(text, " {name} {error} {count},");
        }
        println!("{}; {} did no harm", text.trim_end_matches(','), self.harmless.len());
        self.harmless.iter().for_each(|what| println!("  no harm: {what}"));
    }
}
