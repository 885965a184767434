// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `run DEV [RULES]`: `up` in the foreground. Tells events, reloads on SIGHUP, follows addresses, writes metrics; the kernel
//! carries on when it ends, unless `--down-on-exit`. Once it serves, it is confined to that, and what takes a load ends it.
use crate::cmd::events::{say, Lease};
use crate::cmd::names::Kept;
use crate::cmd::{look, metrics, up, Answer, Context};
use crate::dnat::events::{What, KINDS};
use crate::dnat::listener::Listener;
use crate::load::allowed::{DOWN, METRICS, RUN};
use crate::load::changes::Changes;
use crate::load::notify::Notify;
use crate::load::refusal::{Refusal, Stage};
use crate::load::signals::Signals;
use crate::ui;
use clap::ArgMatches;
use nix::poll::{poll, PollFd, PollFlags};
use nix::sys::signal::Signal;
use serde_json::json;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How often the metrics file is written.
const PERIOD: Duration = Duration::from_secs(15);

/// Applies, then serves until SIGINT or SIGTERM.
pub fn run(context: &mut Context, args: &ArgMatches) -> Result<Answer, Refusal> {
    let device = args.get_one::<String>("dev").cloned().unwrap_or_default();
    let signals = Signals::hold();
    let failed = |e: crate::load::netlink::NetlinkError| Refusal::new(Stage::Kernel, e.to_string(), "");
    let changes = Changes::open().map_err(failed)?;
    let mut names = Kept::open(args)?;
    names.write(true)?;
    let log = Log { priorities: std::env::var_os("JOURNAL_STREAM").is_some() };
    let applied = up::up(context, args)?;
    log.line(INFO, applied.text.trim_end());
    let mut service = Service {
        ears: Some(Ears::open(context, args)?),
        notify: Notify::from_environment(),
        device,
        log,
        names,
        events: 0,
        lost: 0,
        next: None,
    };
    let down = args.get_flag("down-on-exit");
    if !args.get_flag("no-confine") {
        let metrics = if args.contains_id("metrics-file") || args.contains_id("names") { METRICS } else { 0 };
        let text = context.confine(RUN | metrics | if down { DOWN } else { 0 })?;
        service.log.line(INFO, &text);
    }
    // Who is told that it is ready may send at once: that is heard.
    service.listen(context)?;
    service.beat(context, args);
    service.notify.say("READY=1");
    let ending = service.serve(context, args, &signals, &changes);
    service.notify.say("STOPPING=1");
    service.hang_up(context)?;
    let ending = ending?;
    if down {
        let answer = up::down(context, args)?;
        service.log.line(INFO, answer.text.trim_end());
    }
    let Service { device, events, lost, .. } = service;
    let json = json!({"schema": "detour.run/1", "device": device, "signal": ending.as_str(),
        "events": events, "lost": lost, "down": down});
    Ok(Answer::done(String::new(), json))
}

const ERROR: u8 = 3;
const WARNING: u8 = 4;
const INFO: u8 = 6;

/// stderr; where that is the journal, each line says how important it is (sd-daemon(3)).
struct Log {
    priorities: bool,
}

impl Log {
    fn line(&self, priority: u8, text: &str) {
        for line in text.lines() {
            match self.priorities {
                true => eprintln!("<{priority}>{line}"),
                false => eprintln!("{line}"),
            }
        }
    }
}

/// What listens to one instance; another one has other maps.
struct Ears {
    listener: Listener,
    lease: Lease,
}

impl Ears {
    fn open(context: &mut Context, args: &ArgMatches) -> Result<Ears, Refusal> {
        // `up` holds the lock for as long as a command lives; this one lives on.
        context.unlock();
        let (_, look) = look::open(context, args)?;
        context.unlock();
        let (listener, symbols) = Listener::open(look.dir(), *look.cfg())?;
        Ok(Ears { listener, lease: Lease { symbols: Some(symbols), until: None } })
    }
}

struct Service {
    ears: Option<Ears>,
    notify: Notify,
    device: String,
    log: Log,
    names: Kept,
    events: u64,
    lost: u64,
    /// When the metrics are due, and the sign of life.
    next: Option<Instant>,
}

impl Service {
    /// Until a signal ends it; which one.
    fn serve(
        &mut self,
        context: &mut Context,
        args: &ArgMatches,
        signals: &Signals,
        changes: &Changes,
    ) -> Result<Signal, Refusal> {
        loop {
            self.listen(context)?;
            self.wait(signals, changes);
            self.hear(context.json);
            match signals.pending() {
                None => {}
                Some(Signal::SIGHUP) => {
                    self.notify.reloading();
                    if let Some(signal) = self.apply(context, args, "SIGHUP")? {
                        return Ok(signal);
                    }
                    self.notify.say("READY=1");
                }
                Some(signal) => return Ok(signal),
            }
            if changes.any() {
                if let Some(signal) = self.apply(context, args, "devices or addresses have changed")? {
                    return Ok(signal);
                }
            }
            self.beat(context, args);
        }
    }

    /// The programs tell, for a while more.
    fn listen(&mut self, context: &mut Context) -> Result<(), Refusal> {
        let told = KINDS.iter().map(|(what, ..)| *what).filter(|what| match what {
            What::Packet => false,
            What::Dns => self.names.wanted(),
            _ => true,
        });
        let wanted = told.fold(0, |bits, what| bits | what.bit());
        match &mut self.ears {
            Some(ears) => ears.lease.renew(&ears.listener, wanted, context),
            None => Ok(()),
        }
    }

    fn wait(&self, signals: &Signals, changes: &Changes) {
        let ring = self.ears.as_ref().map(|ears| ears.listener.as_fd());
        let all = [ring, signals.fd(), Some(changes.as_fd())];
        let mut ready: Vec<PollFd> =
            all.into_iter().flatten().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        let beat = self.next.map(|next| next.saturating_duration_since(Instant::now()));
        let patience = beat.map_or(1000, |beat| beat.as_millis().min(1000));
        // Whatever woke us, all is looked at.
        let _ = poll(&mut ready, u16::try_from(patience).unwrap_or(1000));
    }

    fn hear(&mut self, json: bool) {
        let Some(ears) = &mut self.ears else { return };
        for mut event in ears.listener.heard() {
            self.names.hear(&mut event);
            if event.what == What::Dns {
                continue;
            }
            self.events = self.events.saturating_add(1);
            match json {
                true => drop(say(true, &self.device, &event)),
                false => {
                    let refused = matches!(event.what, What::Refused | What::Full);
                    let line = ui::events::text(&event, crate::cmd::events::since_1970());
                    self.log.line(if refused { WARNING } else { INFO }, line.trim_end());
                }
            }
        }
        let lost = ears.listener.lost();
        if lost > self.lost {
            self.log.line(WARNING, &format!("{} events were lost", lost.saturating_sub(self.lost)));
            self.lost = lost;
        }
        self.keep_names(false);
    }

    fn keep_names(&mut self, now: bool) {
        if let Err(refusal) = self.names.write(now) {
            self.log.line(ERROR, &refusal.to_string());
        }
    }

    /// The rules again, on whatever is there now. What fails leaves the old rules in force; what a confined process cannot
    /// do ends it. The signal that came meanwhile.
    fn apply(
        &mut self,
        context: &mut Context,
        args: &ArgMatches,
        why: &str,
    ) -> Result<Option<Signal>, Refusal> {
        context.unlock();
        let result = up::up(context, args);
        context.unlock();
        match result {
            Ok(answer) => {
                let change = answer.json["change"].as_str().unwrap_or_default().to_owned();
                if change != "none" || why == "SIGHUP" {
                    self.log.line(INFO, &format!("{why}: {}", answer.text.trim_end()));
                }
                if change == "loaded" {
                    // Other maps: the old ones are nobody's any more.
                    self.ears = None;
                    match Ears::open(context, args) {
                        Ok(ears) => self.ears = Some(ears),
                        Err(refusal) => self.log.line(ERROR, &refusal.to_string()),
                    }
                }
                Ok(None)
            }
            Err(refusal) if context.outgrown() => Err(refusal.about(&format!("{}: {why}", self.device))),
            Err(refusal) => {
                self.log.line(ERROR, &format!("{why}: nothing is changed: {refusal}"));
                Ok(match refusal.stage {
                    Stage::Interrupted => Some(Signal::SIGINT),
                    Stage::Terminated => Some(Signal::SIGTERM),
                    _ => None,
                })
            }
        }
    }

    /// The sign of life, and the metrics file.
    fn beat(&mut self, context: &mut Context, args: &ArgMatches) {
        if self.next.is_some_and(|next| next > Instant::now()) {
            return;
        }
        let every = self.notify.watchdog.map_or(PERIOD, |watchdog| watchdog.min(PERIOD));
        self.next = Instant::now().checked_add(every);
        if self.notify.watchdog.is_some() {
            self.notify.say("WATCHDOG=1");
        }
        let Some(path) = args.get_one::<String>("metrics-file") else { return };
        context.unlock();
        let all = look::all(context, Some(&self.device));
        context.unlock();
        let written = all.and_then(|(all, _)| {
            metrics::replace(path, &ui::metrics::text(&all))
                .map_err(|e| Refusal::new(Stage::Usage, format!("{}: {e}", path.escape_debug()), ""))
        });
        if let Err(refusal) = written {
            self.log.line(ERROR, &refusal.to_string());
        }
    }

    fn hang_up(&mut self, context: &mut Context) -> Result<(), Refusal> {
        self.hear(context.json);
        self.keep_names(true);
        match self.ears.take() {
            Some(mut ears) => ears.lease.end(&ears.listener, context),
            None => Ok(()),
        }
    }
}
