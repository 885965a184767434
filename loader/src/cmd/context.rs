// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Global options to the surroundings of a command: its network namespace, its socket, its lock; and its answer to output.
use crate::cmd::recorder::Recorder;
#[cfg(feature = "operate")]
use crate::load::confine::{confine, Confined};
use crate::load::exec::{self, Outcome, Report};
use crate::load::explain::explain;
use crate::load::facts::{Bpffs, Facts};
use crate::load::gather::{ask_addresses, bpffs, gather};
use crate::load::home::BPFFS;
use crate::load::netlink::Socket;
use crate::load::plan::Plan;
use crate::load::refusal::{Refusal, Stage};
use crate::load::step::Step;
use crate::load::symbols::Symbols;
use crate::load::transcript::{self, Detail};
use crate::object::Object;
use crate::ui::paper::{Environment, Paper, When};
use clap::ArgMatches;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sched::{setns, CloneFlags};
use serde_json::{json, Value};
use std::fs::File;
use std::io::{ErrorKind, IsTerminal};
use std::time::{Duration, Instant};

/// What a command says: text for people, JSON for programs, and the exit code.
#[derive(Debug)]
pub struct Answer {
    /// For people; ends with a newline, or is empty.
    pub text: String,
    /// For programs.
    pub json: Value,
    /// 0 or 1.
    pub code: u8,
}

impl Answer {
    /// Done, or yes.
    pub fn done(text: String, json: Value) -> Answer {
        Answer { text, json, code: 0 }
    }
}

/// The surroundings of a command.
#[derive(Debug)]
pub struct Context {
    /// Shows every step and whole logs.
    pub verbose: bool,
    /// Answers and errors are JSON; so are the steps, one object a line.
    pub json: bool,
    /// What stdout is like.
    pub paper: Paper,
    netns: Option<String>,
    socket: Option<Socket>,
    locks: Vec<Flock<File>>,
    recorder: Option<Recorder>,
    /// What the verifier said of the programs of the last plan, by their names; nothing unless that was asked for.
    pub logs: Vec<(String, String)>,
    #[cfg(feature = "operate")]
    confined: Option<Confined>,
    #[cfg(feature = "operate")]
    outgrown: bool,
}

/// The network namespace that this thread is in: one inode, whoever opens it.
const NETNS: &str = "/proc/thread-self/ns/net";
/// How long a command waits for another one that changes the same bpffs.
const PATIENCE: Duration = Duration::from_secs(60);

impl Context {
    /// Enters the network namespace that was asked for.
    pub fn new(matches: &ArgMatches) -> Result<Context, Refusal> {
        let netns = matches.get_one::<String>("netns").cloned();
        if let Some(netns) = &netns {
            enter(netns)?;
        }
        let (verbose, paper) = (matches.get_flag("verbose"), paper(matches));
        let json = matches.get_flag("json") || matches.get_flag("pretty");
        let recorder = transcript_path(matches).map(|path| Recorder::create(&path)).transpose()?;
        Ok(Context {
            verbose,
            json,
            paper,
            netns,
            socket: None,
            locks: Vec::new(),
            recorder,
            logs: Vec::new(),
            #[cfg(feature = "operate")]
            confined: None,
            #[cfg(feature = "operate")]
            outgrown: false,
        })
    }

    /// The rtnetlink socket of the namespace.
    pub fn socket(&mut self) -> Result<&mut Socket, Refusal> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => Socket::open().map_err(|e| Refusal::new(Stage::Kernel, e.to_string(), ""))?,
        };
        Ok(self.socket.insert(socket))
    }

    /// Waits until no other detour changes this bpffs; where there is none, this network namespace. Held until the command
    /// ends, however it ends.
    pub fn lock(&mut self) -> Result<(), Refusal> {
        match File::open(BPFFS) {
            Ok(file) => self.wait(file, BPFFS, FlockArg::LockExclusiveNonblock)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(unlockable(BPFFS, &error)),
        }
        if bpffs() == Bpffs::Ready {
            return Ok(());
        }
        let file = File::open(NETNS).map_err(|e| unlockable(NETNS, &e))?;
        self.wait(file, NETNS, FlockArg::LockExclusiveNonblock)
    }

    /// The same for a command that only looks, beside others that look. Where there is nothing that may be opened, there is
    /// nothing to wait for either: what may be seen then is decided by what is read.
    pub fn lock_shared(&mut self) -> Result<(), Refusal> {
        if !self.locks.is_empty() {
            return Ok(());
        }
        let ready = bpffs() == Bpffs::Ready;
        for path in [BPFFS, NETNS].into_iter().take(if ready { 1 } else { 2 }) {
            if let Ok(file) = File::open(path) {
                self.wait(file, path, FlockArg::LockSharedNonblock)?;
            }
        }
        Ok(())
    }

    /// Gives the lock back before the command ends: for those that go on looking.
    pub fn unlock(&mut self) {
        for lock in self.locks.drain(..) {
            if let Err((lock, _)) = lock.unlock() {
                std::mem::forget(lock);
            }
        }
    }

    /// From here on the process can do what `task` takes and nothing else, and change files in `places` only; what it opens
    /// later it opens confined, but for what it goes by and nothing pins. In words, which `-v` shows too.
    #[cfg(feature = "operate")]
    pub fn confine(
        &mut self,
        task: crate::load::allowed::Task,
        places: &crate::load::places::Places,
        goes_by: Option<&crate::load::home::Dir>,
    ) -> Result<String, Refusal> {
        self.socket()?;
        let nothing = crate::load::home::Dir::Ids(Vec::new());
        crate::load::held::hold(goes_by.unwrap_or(&nothing))
            .map_err(|e| Refusal::new(Stage::Kernel, format!("what nothing pins: {e}"), ""))?;
        let confined = confine(task, crate::load::gather::machine()?.version(), places)?;
        let text = confined.text();
        if self.verbose && !self.json {
            eprintln!("{text}");
        }
        self.confined = Some(confined);
        Ok(text)
    }

    /// Whether a plan was refused because the process is confined: only a new process can do it.
    #[cfg(feature = "operate")]
    pub fn outgrown(&self) -> bool {
        self.outgrown
    }

    fn wait(&mut self, mut file: File, path: &str, how: FlockArg) -> Result<(), Refusal> {
        let start = Instant::now();
        loop {
            match Flock::lock(file, how) {
                Ok(lock) => {
                    self.locks.push(lock);
                    return Ok(());
                }
                Err((back, Errno::EWOULDBLOCK)) if start.elapsed() < PATIENCE => file = back,
                Err((_, Errno::EWOULDBLOCK)) => {
                    let what = format!("another process holds the lock on {path} for {PATIENCE:?}");
                    let hint = match path {
                        BPFFS => "'fuser -v /sys/fs/bpf' names it",
                        _ => "'lslocks' and /proc/locks name it",
                    };
                    return Err(Refusal::new(Stage::InTheWay, what, hint));
                }
                Err((_, errno)) => return Err(unlockable(path, &errno.into())),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Facts about a device, for those that translate.
    pub fn facts(&mut self, device: &str) -> Result<Facts, Refusal> {
        let mut facts = self.facts_of_device(device)?;
        ask_addresses(self.socket()?, &mut facts)?;
        Ok(facts)
    }

    /// Facts about a device, for those that only load or look at what is loaded.
    pub fn facts_of_device(&mut self, device: &str) -> Result<Facts, Refusal> {
        let entered = self.netns.as_ref().map(|n| format!("setns({n})"));
        let mut facts = gather(self.socket()?, device)?;
        facts.reads.splice(0..0, entered);
        #[cfg(feature = "operate")]
        if facts.hidden.as_deref() == Some(crate::cmd::attach::UP) {
            self.keeps_up(device)?;
        }
        Ok(facts)
    }

    /// Other programs run in the place of its own: who has confined itself can look no further.
    #[cfg(feature = "operate")]
    pub fn keeps_up(&mut self, device: &str) -> Result<(), Refusal> {
        if self.confined.is_none() {
            return Ok(());
        }
        self.outgrown = true;
        Err(Refusal::replaced(device))
    }

    /// Does a plan; with `-v` every step is shown on stderr as it is made.
    pub fn execute(&mut self, plan: &Plan, object: Option<&Object>) -> Result<Symbols, Refusal> {
        #[cfg(feature = "operate")]
        if let Some(Err(refusal)) = self.confined.as_ref().map(|confined| confined.permits(plan)) {
            self.outgrown = true;
            return Err(refusal);
        }
        let (verbose, json) = (self.verbose, self.json);
        let mut recorder = self.recorder.take();
        let mut logs = Vec::new();
        let mut watch = |report: Report<'_>| {
            if let Report::Done(_, _, Outcome::Verified(symbol, _, log)) = &report {
                logs.push((
                    symbol.trim_start_matches('%').to_owned(),
                    String::from_utf8_lossy(log).into_owned(),
                ));
            }
            if let Some(recorder) = &mut recorder {
                recorder.record(&report);
            }
            if !verbose {
                return;
            }
            let (number, what, outcome) = match &report {
                Report::Done(n, step, answer) => (*n, step_text(step), answer.to_string()),
                Report::Failed(n, step, _) => (*n, step_text(step), "failed".to_string()),
                Report::Undone(n, effect, None) => {
                    (*n, format!("undo {}", transcript::effect(effect)), String::new())
                }
                Report::Undone(n, effect, Some(e)) => {
                    (*n, format!("undo {}", transcript::effect(effect)), e.to_string())
                }
            };
            match (json, outcome.is_empty()) {
                (true, _) => eprintln!("{}", json!({"step": number, "what": what, "outcome": outcome})),
                (false, true) => eprintln!("[{number}] {what}"),
                (false, false) => eprintln!("[{number}] {what}  => {outcome}"),
            }
        };
        let result = exec::run(plan, self.socket()?, &mut watch);
        self.logs = logs;
        let written = recorder.as_mut().map_or(Ok(()), Recorder::check);
        self.recorder = recorder;
        let symbols = result.map_err(|failure| explain(plan, &failure, object, verbose))?;
        written.map(|()| symbols)
    }
}

/// `--transcript FILE` of the command that was given, if it has that option.
fn transcript_path(matches: &ArgMatches) -> Option<String> {
    let inner = matches.subcommand().and_then(|(_, inner)| transcript_path(inner));
    inner.or_else(|| matches.try_get_one::<String>("transcript").ok().flatten().cloned())
}

fn step_text(step: &Step) -> String {
    transcript::step(step, Detail::default())
}

fn unlockable(path: &str, error: &std::io::Error) -> Refusal {
    let (stage, hint) = match error.kind() {
        ErrorKind::PermissionDenied => (Stage::Permission, "run as root, or with CAP_DAC_OVERRIDE"),
        _ => (Stage::Kernel, ""),
    };
    Refusal::new(stage, format!("cannot lock {path}: {error}"), hint)
}

fn paper(matches: &ArgMatches) -> Paper {
    let when = match matches.get_one::<String>("color").map(String::as_str) {
        Some("always") => When::Always,
        Some("never") => When::Never,
        _ => When::Auto,
    };
    let variable = |name: &str| std::env::var(name).ok();
    let (columns, no_color, term) = (variable("COLUMNS"), variable("NO_COLOR"), variable("TERM"));
    let environment =
        Environment { columns: columns.as_deref(), no_color: no_color.as_deref(), term: term.as_deref() };
    Paper::new(std::io::stdout().is_terminal(), when, environment)
}

impl Drop for Context {
    /// Gives the lock back; if the kernel will not take it, the end of the process does.
    fn drop(&mut self) {
        self.unlock();
    }
}

/// Moves this thread, and with it all that the command does, into a network namespace.
fn enter(netns: &str) -> Result<(), Refusal> {
    let path = match netns.contains('/') {
        true => netns.to_string(),
        false => format!("/run/netns/{netns}"),
    };
    let file = File::open(&path).map_err(|e| {
        let hint = "'ip netns' lists names; a path such as /proc/PID/ns/net works too";
        Refusal::new(Stage::Usage, format!("network namespace {}: {e}", path.escape_default()), hint)
    })?;
    setns(file, CloneFlags::CLONE_NEWNET).map_err(|errno| match errno {
        Errno::EPERM => {
            Refusal::new(Stage::Permission, format!("may not enter {path}"), "-n needs CAP_SYS_ADMIN")
        }
        errno => {
            let hint = "'ip netns' lists names; a path such as /proc/PID/ns/net works too";
            Refusal::new(Stage::Kernel, format!("{path} is not a network namespace: {errno}"), hint)
        }
    })
}
