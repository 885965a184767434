// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `watch DEV`: readings and keys to frames on a terminal, until `q` or a signal; `--once`: one frame.
use crate::cmd::terminal::Terminal;
use crate::cmd::watching::Watching;
use crate::cmd::{selection, Answer, Context};
use crate::load::allowed::WATCH;
use crate::load::places::Places;
use crate::load::refusal::{Refusal, Stage};
use crate::load::signals::Signals;
use crate::ui;
use crate::ui::watch::frame::{frame, Screen};
use crate::ui::watch::keys::Keys;
use crate::ui::watch::paint::{paint, print};
use crate::ui::watch::spark::Glyphs;
use crate::ui::watch::state::{State, View, Wish, VIEWS};
use clap::ArgMatches;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use serde_json::json;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Characters in a line where nobody says how many there are.
const WIDTH: usize = 80;

/// What a job is told, and whatever else would end the program with its screen in place: each of these ends it as `q` does.
const HELD: [Signal; 13] = [
    Signal::SIGWINCH,
    Signal::SIGTSTP,
    Signal::SIGCONT,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGVTALRM,
    Signal::SIGPROF,
    Signal::SIGXCPU,
    Signal::SIGIO,
    Signal::SIGPWR,
    Signal::SIGSTKFLT,
];

/// Shows frames, or prints one.
pub fn watch(context: &mut Context, args: &ArgMatches) -> Result<Answer, Refusal> {
    let named = |word: &String| VIEWS.iter().find(|(_, name)| name == word).map(|(view, _)| *view);
    let view = args.get_one::<String>("view").and_then(named).unwrap_or_default();
    let state = State::new(view, &selection::words(args)).map_err(selection::refuse)?;
    match args.get_flag("once") {
        true => once(context, args, state),
        false => live(context, args, state),
    }
}

fn once(context: &mut Context, args: &ArgMatches, mut state: State) -> Result<Answer, Refusal> {
    let mut watching = Watching::new(args)?;
    watching.open(context, args)?;
    watching.read()?;
    if let Some(interval) = args.get_one::<Duration>("interval") {
        std::thread::sleep(*interval);
        watching.read()?;
    }
    if state.view == View::Asked {
        // What the rules allow a filter of rows to say is said by `asked`.
        selection::for_asked(args)?;
    }
    let width = args.get_one::<u16>("width").map(|width| usize::from(*width));
    let screen =
        Screen { width: width.or(context.paper.width).unwrap_or(WIDTH), height: None, glyphs: glyphs() };
    let text = print(&frame(&watching.scene(), &mut state, &screen));
    Ok(Answer::done(text, json_of(&watching, &state)))
}

/// `{"schema":"detour.watch/1","device":…,"asked":{…},"flows":{…}}`, as the commands of these names have them.
fn json_of(watching: &Watching, state: &State) -> serde_json::Value {
    let Some(reading) = &watching.reading else { return json!({"schema": "detour.watch/1"}) };
    let (device, generation) = (&watching.device, reading.rules.generation);
    let now = crate::dnat::clock::since_1970();
    let mut reading = reading.clone();
    reading.flows.retain(|flow| state.flows.has_flow(flow));
    reading.others.retain(|_| state.flows.is_everything());
    reading.asked.retain(|row| state.rows.as_ref().is_some_and(|rows| rows.has_row(row)));
    json!({
        "schema": "detour.watch/1",
        "device": device,
        "asked": ui::asked::json(device, &reading.asked, &reading.others, generation, now),
        "flows": ui::flows::json(device, &reading.flows, generation),
    })
}

fn live(context: &mut Context, args: &ArgMatches, mut state: State) -> Result<Answer, Refusal> {
    if context.json {
        return Err(Refusal::new(
            Stage::Usage,
            "a live screen is not JSON",
            "'watch --once -j', 'events -j'",
        ));
    }
    Terminal::usable()?;
    let interval = args.get_one::<Duration>("interval").copied().unwrap_or(Duration::from_secs(1));
    let mut watching = Watching::new(args)?;
    // What cannot be watched at all is refused before the screen is taken; what goes later is shown on it.
    watching.open(context, args)?;
    let signals = Signals::hold_with(&HELD);
    let terminal = Terminal::open()?;
    context.confine(WATCH, &Places::default(), watching.dir())?;
    let lost = |e: std::io::Error| Refusal::new(Stage::Kernel, format!("the terminal: {e}"), "");
    let (mut keys, mut next) = (Keys::default(), Instant::now());
    let glyphs = glyphs();
    loop {
        if next <= Instant::now() {
            match state.frozen {
                // Names are learnt all the same.
                true => drop(watching.listen(context)),
                false => watching.again(context, args),
            }
            next = Instant::now().checked_add(interval).unwrap_or(next);
        }
        let (height, width) = terminal.size();
        let lines = frame(&watching.scene(), &mut state, &Screen { width, height: Some(height), glyphs });
        terminal.write(&paint(&lines, &context.paper)).map_err(lost)?;
        wait(&terminal, &mut watching, &signals, next);
        let mut wish = Wish::Draw;
        while let Some(signal) = signals.pending() {
            wish = match signal {
                Signal::SIGWINCH => wish,
                _ if wish == Wish::Quit => wish,
                Signal::SIGTSTP => Wish::Suspend,
                // Whoever stopped us has used the terminal meanwhile.
                Signal::SIGCONT => terminal.enter().map(|()| wish).map_err(lost)?,
                _ => Wish::Quit,
            };
        }
        if wish == Wish::Draw && typed(&terminal) {
            let bytes = terminal.read().map_err(lost)?;
            let typed = keys.read(&bytes);
            wish =
                typed.into_iter().map(|key| state.key(key)).find(|wish| *wish != Wish::Draw).unwrap_or(wish);
            if bytes.is_empty() {
                wish = Wish::Quit;
            }
        }
        match wish {
            Wish::Draw => {}
            Wish::Quit => break,
            Wish::Suspend => {
                terminal.leave();
                // SIGTSTP waits, as ever since we began; this one does not.
                let _ = kill(Pid::this(), Signal::SIGSTOP);
                terminal.enter().map_err(lost)?;
            }
        }
    }
    watching.end(context)?;
    Ok(Answer::done(String::new(), serde_json::Value::Null))
}

/// Until a key, a signal, or the next reading, which is when names that were heard meanwhile are shown.
fn wait(terminal: &Terminal, watching: &mut Watching, signals: &Signals, next: Instant) {
    loop {
        let all = [Some(terminal.as_fd()), signals.fd(), watching.fd()];
        let mut ready: Vec<PollFd> =
            all.into_iter().flatten().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        let due = next.saturating_duration_since(Instant::now()).saturating_add(Duration::from_millis(1));
        // Interrupted or not: all is looked at.
        let _ = poll(&mut ready, PollTimeout::try_from(due).unwrap_or(PollTimeout::MAX));
        let woken = ready.iter().take(2).any(|fd| fd.any().unwrap_or(true));
        watching.hear();
        if woken || next <= Instant::now() {
            return;
        }
    }
}

/// Whether there is something to read, or the terminal is gone.
fn typed(terminal: &Terminal) -> bool {
    let mut ready = [PollFd::new(terminal.as_fd(), PollFlags::POLLIN)];
    poll(&mut ready, PollTimeout::ZERO).is_ok_and(|n| n > 0)
}

fn glyphs() -> Glyphs {
    let variable = |name: &str| std::env::var(name).ok();
    let [lc_all, lc_ctype, lang] = ["LC_ALL", "LC_CTYPE", "LANG"].map(variable);
    Glyphs::of_locale(lc_all.as_deref(), lc_ctype.as_deref(), lang.as_deref())
}
