// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What `run` has to say to lines on stderr, and its events to lines of a file, if there is one.
use crate::load::file::Growing;
use crate::load::refusal::Refusal;
use clap::ArgMatches;

/// Priorities of syslog(3).
pub const ERROR: u8 = 3;
/// Something is missing, and it goes on.
pub const WARNING: u8 = 4;
/// As it should be.
pub const INFO: u8 = 6;

/// stderr; where that is the journal, each line says how important it is (sd-daemon(3)).
#[derive(Debug)]
pub struct Log {
    priorities: bool,
    events: Option<Growing>,
    /// Events that could not be written since one could.
    missing: u64,
}

impl Log {
    /// With the file of `--events`, which is made if it is not there.
    pub fn open(args: &ArgMatches) -> Result<Log, Refusal> {
        let path = args.get_one::<String>("events");
        let open = |path: &String| Growing::open(path).map_err(|e| Refusal::unwritable(path, &e));
        let priorities = std::env::var_os("JOURNAL_STREAM").is_some();
        Ok(Log { priorities, events: path.map(open).transpose()?, missing: 0 })
    }

    /// Says it.
    pub fn line(&self, priority: u8, text: &str) {
        for line in text.lines() {
            match self.priorities {
                true => eprintln!("<{priority}>{line}"),
                false => eprintln!("{line}"),
            }
        }
    }

    /// Whether events have a file.
    pub fn has_file(&self) -> bool {
        self.events.is_some()
    }

    /// An event into the file. That a disk is full is said once and ends nothing.
    pub fn event(&mut self, line: &str) {
        let Some(file) = &mut self.events else { return };
        match file.add(line) {
            Ok(()) if self.missing > 0 => {
                let text = format!("{} is written again; {} events are missing", shown(file), self.missing);
                self.missing = 0;
                self.line(WARNING, &text);
            }
            Ok(()) => {}
            Err(error) => {
                let first = self.missing == 0;
                self.missing = self.missing.saturating_add(1);
                if first {
                    let text = format!("{}: events are not written: {error}", shown(file));
                    self.line(ERROR, &text);
                }
            }
        }
    }

    /// The file that has the name now: logrotate(8) moves the old one away. Where there is none, the old one goes on.
    pub fn reopen(&mut self) -> Result<(), Refusal> {
        match &mut self.events {
            Some(file) => file.reopen().map_err(|e| Refusal::unwritable(file.path(), &e)),
            None => Ok(()),
        }
    }
}

fn shown(file: &Growing) -> String {
    file.path().escape_debug().to_string()
}
