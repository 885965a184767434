// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `detour events` in a namespace to the events that it told.
use crate::detour;
use crate::netns::Netns;
use crate::tools;
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use serde_json::Value;
use std::io::Read;
use std::process::{Child, Stdio};

/// A running `detour events`; told to end when it is dropped.
pub struct Events(pub Child);

impl Events {
    /// Returns once the programs tell, as the control map says, and signals wait to be asked for.
    pub fn start(ns: &Netns, device: &str, more: &[&str]) -> Events {
        let mut command = detour::command(&[&["events", device], more].concat());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let events = Events(ns.within(|| command.spawn().unwrap()));
        let holds_signals = || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", events.0.id())).unwrap();
            let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:\t")).unwrap();
            u64::from_str_radix(blocked, 16).unwrap() >> (Signal::SIGINT as u64 - 1) & 1 == 1
        };
        while tells(ns, device) == 0 || !holds_signals() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        events
    }

    /// Ends it and gives its lines; the last is the document.
    pub fn end(mut self) -> Vec<Value> {
        kill(Pid::from_raw(self.0.id() as i32), Signal::SIGINT).unwrap();
        let mut text = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        assert!(self.0.wait().unwrap().success(), "{text}");
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The same by the ids behind a filter of the device: whether or not anything is pinned.
fn tells(ns: &Netns, device: &str) -> u64 {
    let program = &tools::filters(ns, device, "ingress")[0]["options"]["prog"]["id"];
    let maps = tools::program(ns, program.as_u64().unwrap())["map_ids"].clone();
    let is_control =
        |map: &&Value| map["name"] == "event_control" && maps.as_array().unwrap().contains(&map["id"]);
    let id = tools::objects(ns, "map").iter().find(is_control).unwrap()["id"].to_string();
    let dump = tools::json(ns, "bpftool", &["-j", "map", "dump", "id", &id]);
    dump[0]["formatted"]["value"]["wanted"].as_u64().unwrap()
}

/// What the programs are asked to tell, as bpftool reads it.
pub fn wanted(ns: &Netns) -> u64 {
    let maps = ns.run("sh", &["-c", "ls /sys/fs/bpf/detour/*/up/map_event_control"]);
    let dump = tools::json(ns, "bpftool", &["-j", "map", "dump", "pinned", maps.trim()]);
    dump[0]["formatted"]["value"]["wanted"].as_u64().unwrap()
}
