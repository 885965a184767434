// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `events DEV`: what happens as it happens, a line each, and packets into a capture; until a signal or `--count` ends it, or
//! somebody else ends what is listened to: 1.
use crate::cmd::{look, names, Answer, Context};
use crate::dnat::abi::EVENT_SNAP;
use crate::dnat::clock::since_1970;
use crate::dnat::events::{Event, What, KINDS};
use crate::dnat::listener::Listener;
use crate::dnat::pcapng;
use crate::load::allowed::{EVENTS, UNPINNED};
use crate::load::places::Places;
use crate::load::refusal::{Refusal, Stage};
use crate::load::rtnl::ARPHRD_NONE;
use crate::load::signals::Signals;
use crate::ui;
use clap::ArgMatches;
use nix::poll::{poll, PollFd, PollFlags};
use nix::time::{clock_gettime, ClockId};
use serde_json::json;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::time::Duration;

/// The name of standard output, where a file may be named.
pub const STDOUT: &str = "-";

/// Listens; each line is written as it comes. The document at the end says how many there were and how many were lost.
pub fn events(context: &mut Context, args: &ArgMatches) -> Result<Answer, Refusal> {
    let to_stdout = args.get_one::<String>("pcap").is_some_and(|path| path == STDOUT);
    if to_stdout && context.json {
        let hint = "one of them to a file: '--pcap FILE'";
        return Err(Refusal::new(Stage::Usage, "'--pcap -' and -j both write to standard output", hint));
    }
    let mut known = names::read(args)?;
    let (device, look) = look::open(context, args)?;
    let mut listener = Listener::open(&look)?;
    // Other commands may change the instance while this one listens.
    context.unlock();
    let mut capture = match args.get_one::<String>("pcap") {
        Some(path) => Some(Capture::create(path, &device, context.facts_of_device(&device)?.device.arphrd)?),
        None => None,
    };
    let kinds: Vec<&String> = args.get_many::<String>("kind").into_iter().flatten().collect();
    let chosen = |what: What, name: &str| match kinds.is_empty() {
        true => !matches!(what, What::Packet | What::Dns),
        false => kinds.iter().any(|kind| *kind == name),
    };
    let shown =
        KINDS.iter().filter(|(what, _, name)| chosen(*what, name)).fold(0, |bits, k| bits | k.0.bit());
    // DNS answers are heard in any case: they say what the addresses in the others are called.
    let wanted = shown | What::Dns.bit() | capture.as_ref().map_or(0, |_| What::Packet.bit());
    let most = args.get_one::<u64>("count").copied().unwrap_or(u64::MAX);

    let signals = Signals::hold();
    let task = if look.dir().folder().is_some() { EVENTS } else { EVENTS | UNPINNED };
    context.confine(task, &Places::default(), Some(look.dir()))?;
    let (mut count, mut open, mut gone) = (0_u64, true, false);
    while open && count < most {
        listener.renew(wanted, context.socket()?)?;
        wait(&listener, &signals);
        // What was told before the signal came is still heard.
        let last = signals.pending().is_some();
        // As is what an instance told before another took its place, or none.
        gone = !listener.is_current(context.socket()?);
        for mut event in listener.heard() {
            names::event(&mut event, &mut known);
            if let (Some(capture), What::Packet) = (&mut capture, event.what) {
                open &= capture.add(&event)?;
            }
            if shown & event.what.bit() != 0 && count < most {
                count = count.saturating_add(1);
                open &= to_stdout || say(&line(context.json, &device, &event));
            }
        }
        open &= !last && !gone;
    }
    listener.end(context.socket()?)?;
    let (lost, untold) = (listener.lost(), listener.untold());
    let mut text = String::new();
    if lost > 0 {
        text.push_str(&format!("note: {lost} events were lost: they came faster than they were read\n"));
    }
    if untold > 0 {
        text.push_str(&format!(
            "note: {untold} DNS answers were passed over to leave room for other events\n"
        ));
    }
    if gone {
        text.push_str(&format!("{device}: others took down what was listened to, or loaded it anew\n"));
    }
    let json = json!({"schema": "detour.events/1", "device": device, "events": count, "lost": lost,
        "dns_passed_over": untold, "gone": gone});
    if to_stdout {
        let _ = std::io::stderr().write_all(std::mem::take(&mut text).as_bytes());
    }
    Ok(Answer { text, json, code: u8::from(gone) })
}

/// Until there is something to read, a signal came, or the lease has to be renewed.
fn wait(listener: &Listener, signals: &Signals) {
    let mut ready = vec![PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    ready.extend(signals.fd().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
    // Interrupted or not: who waited looks at both anyway.
    let _ = poll(&mut ready, 1000_u16);
}

/// One event as a line.
pub fn line(json: bool, device: &str, event: &Event) -> String {
    let now = since_1970();
    match json {
        true => ui::json::document(&ui::events::json(device, event, now), false),
        false => ui::events::text(event, now),
    }
}

/// Says it; false when nobody reads any more.
pub fn say(line: &str) -> bool {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(line.as_bytes()).and_then(|()| out.flush());
    !written.is_err_and(|e| e.kind() == ErrorKind::BrokenPipe)
}

/// A pcapng file that grows.
struct Capture {
    file: File,
    path: String,
    /// What CLOCK_MONOTONIC showed at the beginning of 1970.
    start: Duration,
}

impl Capture {
    fn create(path: &str, device: &str, arphrd: u16) -> Result<Capture, Refusal> {
        let link = if arphrd == ARPHRD_NONE { pcapng::RAW } else { pcapng::ETHERNET };
        let head = pcapng::begin(device, link, u32::try_from(EVENT_SNAP).unwrap_or(u32::MAX));
        let monotonic = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
        let start = since_1970().saturating_sub(monotonic);
        let unwritable = |e: std::io::Error| Refusal::unwritable(path, &e);
        let mut file = match path {
            STDOUT => std::io::stdout().as_fd().try_clone_to_owned().map(File::from),
            path => File::create(path),
        }
        .map_err(unwritable)?;
        file.write_all(&head).map_err(unwritable)?;
        Ok(Capture { file, path: path.to_owned(), start })
    }

    /// False when nobody reads any more.
    fn add(&mut self, event: &Event) -> Result<bool, Refusal> {
        let Some(frame) = &event.frame else { return Ok(true) };
        let time = self.start.saturating_add(frame.time);
        let block =
            pcapng::packet(time, frame.length, &frame.bytes, frame.arrived(), &ui::events::comment(event));
        let failed = |e| Refusal { stage: Stage::Kernel, ..Refusal::unwritable(&self.path, &e) };
        match self.file.write_all(&block) {
            Err(error) if self.path == STDOUT && error.kind() == ErrorKind::BrokenPipe => Ok(false),
            written => written.map(|()| true).map_err(failed),
        }
    }
}
