// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `detour run` as a service manager runs it: its notifications, its log, its end.
use crate::detour::{self, code};
use crate::netns::Netns;
use crate::tools::Scratch;
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running service, its manager's socket, its log and its files.
pub struct Service {
    child: Child,
    manager: UnixDatagram,
    /// Holds `rules`, which it reads, and `log`.
    pub scratch: Scratch,
}

impl Service {
    /// Starts it and waits until it says that it is ready.
    pub fn start(ns: &Netns, device: &str, rules: &str, more: &[&str]) -> Service {
        Service::under(ns, &[], device, rules, more)
    }

    /// The same behind the words of another program, which becomes this one.
    pub fn under(ns: &Netns, wrapper: &[String], device: &str, rules: &str, more: &[&str]) -> Service {
        let scratch = Scratch::new();
        let rules = scratch.write("rules", rules);
        let manager = UnixDatagram::bind(scratch.path("notify")).unwrap();
        manager.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let log = std::fs::File::create(scratch.path("log")).unwrap();
        let mut command = detour::command(&[&["run", device, &rules], more].concat());
        if let Some((program, words)) = wrapper.split_first() {
            let mut outer = Command::new(program);
            outer.args(words).arg(command.get_program()).args(command.get_args()).env("NO_COLOR", "1");
            command = outer;
        }
        command.env("NOTIFY_SOCKET", scratch.path("notify")).env("WATCHDOG_USEC", "400000");
        command.env("JOURNAL_STREAM", "8:1").stdout(Stdio::null()).stderr(log);
        let child = ns.within(|| command.spawn().unwrap());
        let service = Service { child, manager, scratch };
        service.says("READY=1");
        service
    }

    /// The next thing it says, signs of life aside.
    #[track_caller]
    pub fn says(&self, expect: &str) {
        let mut room = [0; 256];
        loop {
            let length = self.receive(&mut room, expect);
            let said = std::str::from_utf8(&room[..length]).unwrap();
            if said != "WATCHDOG=1" {
                assert!(said.starts_with(expect), "{said} instead of {expect}:\n{}", self.log());
                return;
            }
        }
    }

    /// The next datagram. Signals for others may come meanwhile.
    #[track_caller]
    fn receive(&self, room: &mut [u8], expect: &str) -> usize {
        loop {
            match self.manager.recv(room) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                other => return other.unwrap_or_else(|e| panic!("{expect}: {e}\n{}", self.log())),
            }
        }
    }

    /// Waits for a sign of life, and nothing else.
    #[track_caller]
    pub fn lives(&self) {
        let mut room = [0; 256];
        let length = self.receive(&mut room, "a sign of life");
        assert_eq!(std::str::from_utf8(&room[..length]), Ok("WATCHDOG=1"), "{}", self.log());
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.path("log")).unwrap()
    }

    /// Waits until the log has it.
    #[track_caller]
    pub fn logs(&self, words: &str) {
        let start = Instant::now();
        while !self.log().contains(words) {
            assert!(start.elapsed() < Duration::from_secs(20), "{words} is not in:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end, which has to be with this code.
    #[track_caller]
    pub fn ends_with(&mut self, code: i32) {
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(code), "{status}\n{}", self.log());
    }

    /// Waits for its end, which has to be a good one.
    #[track_caller]
    pub fn ends(&mut self) {
        self.ends_with(code::DONE);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
