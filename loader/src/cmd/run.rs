// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `run DEV [RULES]`: `up` in the foreground. Tells events, reloads on SIGHUP, follows addresses, writes metrics; the kernel
//! carries on when it ends, unless `--down-on-exit`. Once it serves, it is confined to that, and what takes a load ends it.
use crate::cmd::events::{line, say};
use crate::cmd::log::{Log, ERROR, INFO, WARNING};
use crate::cmd::names::Kept;
use crate::cmd::{look, up, Answer, Context};
use crate::dnat::events::{What, KINDS};
use crate::dnat::listener::Listener;
use crate::load::allowed::{DOWN, GROWS, METRICS, RUN};
use crate::load::changes::Changes;
use crate::load::file::{replace, replaceable};
use crate::load::home::BPFFS;
use crate::load::notify::Notify;
use crate::load::places::Places;
use crate::load::refusal::{Refusal, Stage};
use crate::load::signals::Signals;
use crate::ui;
use clap::ArgMatches;
use nix::poll::{poll, PollFd, PollFlags};
use nix::sys::signal::Signal;
use serde_json::json;
use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How often the metrics file is written.
const PERIOD: Duration = Duration::from_secs(15);
/// How often a service that hears nothing looks whether it could.
const AGAIN: Duration = Duration::from_secs(2);

/// Applies, then serves until SIGINT or SIGTERM.
pub fn run(context: &mut Context, args: &ArgMatches) -> Result<Answer, Refusal> {
    let device = args.get_one::<String>("dev").cloned().unwrap_or_default();
    let signals = Signals::hold();
    let failed = |e: crate::load::netlink::NetlinkError| Refusal::new(Stage::Kernel, e.to_string(), "");
    let changes = Changes::open().map_err(failed)?;
    let mut names = Kept::open(args)?;
    names.write_anew()?;
    if let Some(path) = args.get_one::<String>("metrics-file") {
        replaceable(path).map_err(|e| Refusal::unwritable(path, &e))?;
    }
    let log = Log::open(args)?;
    let applied = up::up(context, args)?;
    log.line(INFO, applied.text.trim_end());
    let mut service = Service {
        ears: None,
        deaf: None,
        again: None,
        notify: Notify::from_environment(),
        device,
        log,
        names,
        programs: running(context, args).unwrap_or_default(),
        events: 0,
        lost: 0,
        untold: 0,
        next: None,
    };
    let down = args.get_flag("down-on-exit");
    if !args.get_flag("no-confine") {
        let if_asked = |options: &[&str], task| match options.iter().any(|option| args.contains_id(option)) {
            true => task,
            false => 0,
        };
        let files = if_asked(&["metrics-file", "names"], METRICS) | if_asked(&["events"], GROWS);
        let (_, look) = look::open(context, args)?;
        let task = RUN | files | if down { DOWN } else { 0 };
        let text = context.confine(task, &places(args), Some(look.dir()))?;
        service.log.line(INFO, &text);
        // What root may do without capabilities is less: better it is refused now than missed later.
        service.names.write_anew()?;
        service.log.reopen()?;
    }
    // Who is told that it is ready may send at once: that is heard.
    service.listen(context, args)?;
    service.beat(context, args);
    service.notify.say("READY=1");
    let ending = service.serve(context, args, &signals, &changes);
    service.notify.say("STOPPING=1");
    service.hang_up(context)?;
    // What runs now was put there by others, or needs a load first: that is not for this process to take away.
    let ending = ending.map_err(|refusal| match down {
        true => refusal.and_hint(&format!("nothing was taken down: 'detour down {}' does", service.device)),
        false => refusal,
    })?;
    if down {
        let answer = service.take_down(context, args)?;
        service.log.line(INFO, answer.text.trim_end());
    }
    let Service { device, events, lost, untold, .. } = service;
    let json = json!({"schema": "detour.run/1", "device": device, "signal": ending.as_str(),
        "events": events, "lost": lost, "dns_passed_over": untold, "down": down});
    Ok(Answer::done(String::new(), json))
}

/// Where it changes files when it is confined.
fn places(args: &ArgMatches) -> Places {
    let mut places = Places::default();
    let files = ["metrics-file", "names"].into_iter().filter_map(|option| args.get_one::<String>(option));
    files.for_each(|file| places.replaces(file));
    if let Some(file) = args.get_one::<String>("events") {
        places.appends(file);
    }
    if args.get_flag("down-on-exit") {
        places.clears(BPFFS);
    }
    places
}

/// The ids of the programs that run on the device as `up`'s.
fn running(context: &mut Context, args: &ArgMatches) -> Result<BTreeSet<u32>, Refusal> {
    context.unlock();
    let look = look::open(context, args);
    context.unlock();
    look.map(|(_, look)| look.record().programs.iter().map(|program| program.id).collect())
}

struct Service {
    /// None while somebody else reads the events, or nothing is up.
    ears: Option<Listener>,
    /// Why, as it was said.
    deaf: Option<String>,
    /// When that is looked at again.
    again: Option<Instant>,
    notify: Notify,
    device: String,
    log: Log,
    names: Kept,
    /// Those that it put there, or found to be what it wants, when it applied last.
    programs: BTreeSet<u32>,
    events: u64,
    lost: u64,
    untold: u64,
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
            self.listen(context, args)?;
            self.wait(signals, changes);
            self.hear(context.json);
            match signals.pending() {
                None => {}
                Some(Signal::SIGHUP) => {
                    self.notify.reloading();
                    // Whoever moved the old one away asks for a new one by this signal.
                    if let Err(refusal) = self.log.reopen() {
                        self.log.line(ERROR, &refusal.to_string());
                    }
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

    /// The programs tell, for a while more. Others may have loaded anew, taken all down, or be the one reader.
    fn listen(&mut self, context: &mut Context, args: &ArgMatches) -> Result<(), Refusal> {
        let socket = context.socket()?;
        if self.ears.as_mut().is_some_and(|ears| !ears.is_current(socket)) {
            self.hear(context.json);
            context.unlock();
            let look = look::open(context, args);
            context.unlock();
            let follows = |ears: &mut Listener| look.is_ok_and(|(_, look)| ears.follow(&look));
            if !self.ears.as_mut().is_some_and(follows) {
                (self.ears, self.again) = (None, None);
            }
        }
        if self.ears.is_none() && self.again.is_none_or(|again| again <= Instant::now()) {
            self.again = Instant::now().checked_add(AGAIN);
            self.open_ears(context, args)?;
        }
        let told = KINDS.iter().map(|(what, ..)| *what).filter(|what| match what {
            What::Packet => false,
            What::Dns => self.names.wanted(),
            _ => true,
        });
        let wanted = told.fold(0, |bits, what| bits | what.bit());
        match &mut self.ears {
            Some(ears) => ears.renew(wanted, context.socket()?),
            None => Ok(()),
        }
    }

    /// Opens what there is to hear; why not is said once. What only a new process can open ends this one.
    fn open_ears(&mut self, context: &mut Context, args: &ArgMatches) -> Result<(), Refusal> {
        // `up` holds the lock for as long as a command lives; this one lives on.
        context.unlock();
        let look = look::open(context, args);
        context.unlock();
        match look.and_then(|(_, look)| Listener::open(&look)) {
            Ok(ears) => {
                if self.deaf.take().is_some() {
                    self.log.line(INFO, "events are heard again");
                }
                self.ears = Some(ears);
            }
            Err(refusal) if context.outgrown() => return Err(refusal),
            Err(refusal) if self.deaf.as_ref() != Some(&refusal.what) => {
                self.log.line(WARNING, &format!("no events are heard: {}", refusal.what));
                self.deaf = Some(refusal.what);
            }
            Err(_) => {}
        }
        Ok(())
    }

    fn wait(&self, signals: &Signals, changes: &Changes) {
        let ring = self.ears.as_ref().map(AsFd::as_fd);
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
        for mut event in ears.heard() {
            self.names.hear(&mut event);
            if event.what == What::Dns {
                continue;
            }
            self.events = self.events.saturating_add(1);
            let text = line(json, &self.device, &event);
            match (self.log.has_file(), json) {
                (true, _) => self.log.event(&text),
                (false, true) => drop(say(&text)),
                (false, false) => {
                    let refused = matches!(event.what, What::Refused | What::Full);
                    self.log.line(if refused { WARNING } else { INFO }, text.trim_end());
                }
            }
        }
        let (lost, untold) = ears.missed();
        if lost > 0 {
            self.log.line(WARNING, &format!("{lost} events were lost"));
            self.lost = self.lost.saturating_add(lost);
        }
        if untold > 0 {
            self.log
                .line(WARNING, &format!("{untold} DNS answers were passed over to leave room for events"));
            self.untold = self.untold.saturating_add(untold);
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
                self.programs = running(context, args).unwrap_or_default();
                let change = answer.json["change"].as_str().unwrap_or_default().to_owned();
                if change != "none" || why == "SIGHUP" {
                    self.log.line(INFO, &format!("{why}: {}", answer.text.trim_end()));
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

    /// Detaches and unpins its own programs. What others have put in their place is not for this process to take away.
    fn take_down(&self, context: &mut Context, args: &ArgMatches) -> Result<Answer, Refusal> {
        let stays = |why: Refusal| {
            why.and_hint(&format!("nothing was taken down: 'detour down {}' does", self.device))
        };
        let there = running(context, args);
        match there {
            Ok(programs) if programs == self.programs => up::down(context, args),
            Ok(_) => Err(stays(Refusal::others_run(&self.device))),
            Err(_) if context.outgrown() => Err(stays(Refusal::others_run(&self.device))),
            // Others have taken it down, or a part of it.
            Err(refusal) if refusal.stage == Stage::No => match up::down(context, args) {
                Err(nothing) if nothing.stage == Stage::No => {
                    Ok(Answer::done(format!("{}\n", refusal.what), json!({})))
                }
                taken => taken,
            },
            Err(refusal) => Err(stays(refusal)),
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
            self.notify.lives();
        }
        let Some(path) = args.get_one::<String>("metrics-file") else { return };
        context.unlock();
        let all = look::all(context, Some(&self.device));
        context.unlock();
        let written = all.and_then(|(all, _)| {
            replace(path, &ui::metrics::text(&all)).map_err(|e| Refusal::unwritable(path, &e))
        });
        if let Err(refusal) = written {
            self.log.line(ERROR, &refusal.to_string());
        }
    }

    fn hang_up(&mut self, context: &mut Context) -> Result<(), Refusal> {
        self.hear(context.json);
        self.keep_names(true);
        match self.ears.take() {
            Some(mut ears) => ears.end(context.socket()?),
            None => Ok(()),
        }
    }
}
