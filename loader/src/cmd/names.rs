// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `--names FILE`, a hosts file, to the names that rows, flows and events get; and what `run` has learnt into such a file.
use crate::dnat::asked::Asked;
use crate::dnat::events::Event;
use crate::dnat::flows::Flow;
use crate::dnat::names::Names;
use crate::load::file::replace;
use crate::load::refusal::{Refusal, Stage};
use clap::ArgMatches;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};

/// Bytes of a file of names.
const LARGEST: u64 = 16 << 20;
/// How often a file is written at most.
const EVERY: Duration = Duration::from_secs(1);

/// The names of the file, if one was named.
pub fn read(args: &ArgMatches) -> Result<Names, Refusal> {
    let mut names = Names::default();
    if let Some(path) = args.get_one::<String>("names") {
        let text = text(path).map_err(|e| Refusal::unreadable(path, &e))?;
        names.read(&text).map_err(|fault| {
            let hint = "a hosts file has an address and its names on each line, and comments behind #";
            Refusal::new(Stage::Usage, format!("{}: {fault}", path.escape_debug()), hint)
        })?;
    }
    Ok(names)
}

fn text(path: &str) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(std::io::Error::new(ErrorKind::FileTooLarge, "more than 16 MiB of names"));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Rows get their names.
pub fn rows(rows: &mut [Asked], names: &Names) {
    rows.iter_mut().for_each(|row| row.name = names.of(row.client, row.destination).map(str::to_owned));
}

/// Flows get theirs.
pub fn flows(flows: &mut [Flow], names: &Names) {
    let name = |flow: &Flow| names.of(flow.client.ip(), flow.original.ip()).map(str::to_owned);
    flows.iter_mut().for_each(|flow| flow.name = name(flow));
}

/// An event teaches names, and gets its own. Whether there is news.
pub fn event(event: &mut Event, names: &mut Names) -> bool {
    let news = names.hear(event);
    event.name = names.of(event.client.ip(), event.destination.ip()).map(str::to_owned);
    news
}

/// A file of names that is kept up to date: replaced as a whole, a second after there was news at the latest.
#[derive(Debug)]
pub struct Kept {
    /// What is known.
    pub names: Names,
    path: Option<String>,
    news: bool,
    next: Option<Instant>,
}

impl Kept {
    /// With what the file said before, if there is one.
    pub fn open(args: &ArgMatches) -> Result<Kept, Refusal> {
        let path = args.get_one::<String>("names").cloned();
        let mut names = Names::default();
        if let Some(path) = &path {
            match text(path) {
                Ok(text) => {
                    // What it does not understand it did not write either.
                    if names.read(&text).is_err() || names.hosts() != text {
                        let what = format!(
                            "{} is not a file that 'run' wrote; it would be replaced",
                            path.escape_debug()
                        );
                        return Err(Refusal::new(Stage::InTheWay, what, "name another file"));
                    }
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(Refusal::unreadable(path, &error)),
            }
        }
        Ok(Kept { names, news: false, path, next: None })
    }

    /// Whether anybody wants names.
    pub fn wanted(&self) -> bool {
        self.path.is_some()
    }

    /// As [`event`].
    pub fn hear(&mut self, told: &mut Event) {
        self.news |= event(told, &mut self.names);
    }

    /// Writes it in any case, so that one that cannot be is found now.
    pub fn write_anew(&mut self) -> Result<(), Refusal> {
        self.news = self.path.is_some();
        self.write(true)
    }

    /// Writes the file if there is news and it is time, or `now`.
    pub fn write(&mut self, now: bool) -> Result<(), Refusal> {
        let Some(path) = self.path.as_ref().filter(|_| self.news) else { return Ok(()) };
        if !now && self.next.is_some_and(|next| next > Instant::now()) {
            return Ok(());
        }
        self.next = Instant::now().checked_add(EVERY);
        replace(path, &self.names.hosts()).map_err(|e| Refusal::unwritable(path, &e))?;
        self.news = false;
        Ok(())
    }
}
