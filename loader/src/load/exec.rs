// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Steps to effects, in order; when one fails, everything before it is undone in reverse. The only interpreter of effects.
use crate::load::hear::{attempt, hear, heard};
#[cfg(feature = "operate")]
use crate::load::held;
use crate::load::message::Message;
use crate::load::netlink::{NetlinkError, Socket};
use crate::load::plan::Plan;
use crate::load::signals::Signals;
use crate::load::step::{Arg, Bpf, Effect, Expect, Step, Store};
use crate::load::symbols::{Handle, Symbols};
use crate::load::tc::Filter;
use crate::load::undo::{undo, Left};
use crate::object::{Tags, Written};
use detour_sys::window::Window;
use detour_sys::{commands, Map};
use nix::errno::Errno;
use nix::fcntl::{open, OFlag};
use nix::mount::{mount, umount, MsFlags};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use std::borrow::Cow;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::DirBuilderExt;
use std::time::{Duration, Instant};

/// What happened to one step; told to whoever watches.
#[derive(Debug)]
pub enum Report<'a> {
    /// Step `number` (from 1) was done, and this came back.
    Done(usize, &'a Step, &'a Outcome),
    /// Step `number` failed.
    Failed(usize, &'a Step, &'a Failure),
    /// The undo of step `number` was done, or failed.
    Undone(usize, &'a Effect, Option<&'a io::Error>),
}

/// What came back for a step.
#[derive(Debug)]
pub enum Outcome {
    /// Nothing that is worth a word.
    Nothing,
    /// The number that a symbol stands for from now on.
    Symbol(String, u32),
    /// The same for a program, and what the verifier said of it: its log was asked for.
    Verified(String, u32, Vec<u8>),
    /// What the kernel had to say although it did what was asked.
    Warnings(Vec<String>),
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Outcome::Nothing => Ok(()),
            Outcome::Symbol(symbol, number) | Outcome::Verified(symbol, number, _) => {
                write!(f, "{symbol} = {number}")
            }
            Outcome::Warnings(warnings) => f.write_str(&warnings.join("; ")),
        }
    }
}

/// Why a step failed.
#[derive(Debug)]
pub struct Failure {
    /// Its number, from 1.
    pub number: usize,
    /// The error.
    pub cause: Cause,
    /// Undo effects that failed too: what is left behind.
    pub left: Left,
}

/// The error of one step.
#[derive(Debug)]
pub enum Cause {
    /// A system call.
    Os(io::Error),
    /// rtnetlink, with the kernel's own words.
    Netlink(NetlinkError),
    /// bpf(2) refused a program or types; the log may be long, and is not always text.
    Verifier(io::Error, Vec<u8>),
    /// The call succeeded but its answer is not what the plan says.
    Unexpected(String),
    /// A signal asked the program to end before the step was made.
    Signal(Signal),
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Cause::Os(error) | Cause::Verifier(error, _) => error.fmt(f),
            Cause::Netlink(error) => error.fmt(f),
            Cause::Unexpected(text) => text.fmt(f),
            Cause::Signal(signal) => signal.as_str().fmt(f),
        }
    }
}

impl Cause {
    /// The error number, where there is one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Cause::Os(e) | Cause::Verifier(e, _) => e.raw_os_error(),
            Cause::Netlink(e) => Some(e.errno),
            Cause::Unexpected(_) | Cause::Signal(_) => None,
        }
    }
}

/// Does a plan. On success the symbols, and with them all descriptors, go to the caller.
///
/// ```no_run
/// # let plan = detour::load::plan::Plan::default();
/// let mut socket = detour::load::netlink::Socket::open()?;
/// let symbols = detour::load::exec::run(&plan, &mut socket, &mut |_| {})
///     .map_err(|failure| format!("{failure:?}; undone was what had been done"))?;
/// let counters = symbols.map("%counters")?;
/// println!("{:?}", counters.lookup(&0_u32.to_ne_bytes())?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn run(plan: &Plan, socket: &mut Socket, watch: &mut dyn FnMut(Report<'_>)) -> Result<Symbols, Failure> {
    run_with(Symbols::default(), plan, socket, watch)
}

/// The same for a plan that uses symbols which none of its own steps defines.
pub fn run_with(
    mut symbols: Symbols,
    plan: &Plan,
    socket: &mut Socket,
    watch: &mut dyn FnMut(Report<'_>),
) -> Result<Symbols, Failure> {
    let signals = Signals::hold();
    let mut looked = Instant::now();
    for (i, step) in plan.steps.iter().enumerate() {
        let look = is_noticed(&step.effect) || is_long(&step.effect) && looked.elapsed() >= LOOK;
        let asked = if look { signals.pending() } else { None };
        if look {
            looked = Instant::now();
        }
        let result = match asked {
            Some(signal) => Err(Cause::Signal(signal)),
            None => perform(step, &mut symbols, socket),
        };
        match result {
            Ok(outcome) => watch(Report::Done(i.saturating_add(1), step, &outcome)),
            Err(cause) => {
                let mut failure = Failure { number: i.saturating_add(1), cause, left: Left::default() };
                watch(Report::Failed(failure.number, step, &failure));
                failure.left = undo(plan, &failure, &mut symbols, socket, watch);
                return Err(failure);
            }
        }
    }
    Ok(symbols)
}

/// Whether somebody sees it: what comes between takes microseconds.
fn is_noticed(effect: &Effect) -> bool {
    !matches!(
        effect,
        Effect::Bpf(_)
            | Effect::Store(_)
            | Effect::Mkdir(_)
            | Effect::OpenDir { .. }
            | Effect::Rmdir(_)
            | Effect::Unlink(_)
            | Effect::Memlock
    )
}

/// Whether somebody may wait for it: the verifier takes its time, with most programs much less than one can see.
fn is_long(effect: &Effect) -> bool {
    matches!(effect, Effect::Bpf(bpf) if *bpf.command == commands::PROG_LOAD)
}

/// How long a signal may stay unseen between two programs.
const LOOK: Duration = Duration::from_millis(10);

/// Does one step and checks its answer.
pub(super) fn perform(step: &Step, symbols: &mut Symbols, socket: &mut Socket) -> Result<Outcome, Cause> {
    match &step.effect {
        Effect::Bpf(call) => bpf(step, call, symbols),
        Effect::Netlink(message) => {
            let reply = socket.request(&resolved(message, symbols)).map_err(Cause::Netlink)?;
            if let Some(Expect::Filter { place, id, tags }) = &step.expect {
                let id = symbols.id(id).map_err(Cause::Os)?;
                let echo = reply.messages.iter().filter_map(Filter::read).find(|f| f.place == *place);
                check_echo(echo, id, tags).map_err(Cause::Unexpected)?;
            }
            Ok(match reply.warnings.is_empty() {
                true => Outcome::Nothing,
                false => Outcome::Warnings(reply.warnings),
            })
        }
        Effect::Store(store) => done(self::store(store, symbols)),
        Effect::Mkdir(path) => done(fs::DirBuilder::new().mode(0o700).create(path)),
        Effect::OpenDir { path, gives } => {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            let fd = open(path.as_str(), flags, Mode::empty()).map_err(|errno| Cause::Os(errno.into()))?;
            Ok(keep(symbols, Some(gives), Handle::Other(fd)))
        }
        Effect::Rmdir(path) => done(fs::remove_dir(path)),
        Effect::Unlink(path) => done(fs::remove_file(path)),
        Effect::Rename { from, to } => done(fs::rename(from, to)),
        Effect::Exchange { one, other } => done(detour_sys::rename::exchange(one, other)),
        Effect::MountBpffs(path) => {
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            done(
                mount(Some("bpf"), path.as_str(), Some("bpf"), flags, Some("mode=0700"))
                    .map_err(io::Error::from),
            )
        }
        Effect::Unmount(path) => done(umount(path.as_str()).map_err(io::Error::from)),
        Effect::Memlock => {
            use nix::sys::resource::{setrlimit, Resource, RLIM_INFINITY};
            done(setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY).map_err(io::Error::from))
        }
    }
}

/// The message with descriptors in the places of their symbols.
pub(super) fn resolved(message: &Message, symbols: &Symbols) -> Message {
    let number = |symbol: &str| u32::try_from(symbols.handle(symbol).ok()?.as_fd().as_raw_fd()).ok();
    message.clone().resolved(&number)
}

fn done(result: io::Result<()>) -> Result<Outcome, Cause> {
    result.map(|()| Outcome::Nothing).map_err(Cause::Os)
}

fn check_echo(echo: Option<Filter>, id: u32, tags: &Tags) -> Result<(), String> {
    let bpf = echo.and_then(|f| f.bpf).ok_or("the kernel did not show the filter that it made")?;
    let tag_is_ours = |tag: [u8; 8]| tag == tags.sha1 || tag == tags.sha256;
    if bpf.id != Some(id) {
        Err(format!("the filter runs program {:?}, not {id}", bpf.id))
    } else if !bpf.direct_action {
        Err("the filter is not direct-action: the program's verdict would be ignored".to_string())
    } else if !bpf.tag.is_some_and(tag_is_ours) {
        Err("the filter shows another tag than the program's".to_string())
    } else {
        Ok(())
    }
}

fn bpf(step: &Step, call: &Bpf, symbols: &mut Symbols) -> Result<Outcome, Cause> {
    if call.command == &commands::MAP_UPDATE_ELEM {
        return done(update(call, symbols));
    }
    if call.command == &commands::MAP_DELETE_ELEM {
        return done(delete(step, call, symbols));
    }
    let filled = symbols.filled(&call.args).map_err(Cause::Os)?;
    let args = symbols.resolve(&call.args, &filled, 0).map_err(Cause::Os)?;
    let symbol = call.gives.as_deref();
    if call.command == &commands::MAP_CREATE {
        let map = Map::create(&args).map_err(Cause::Os)?;
        return Ok(keep(symbols, symbol, Handle::Map(map)));
    }
    // A confined process may ask for no id, and keeps what it goes by.
    #[cfg(feature = "operate")]
    if let Some(held) = held::named(call).and_then(|(program, id)| held::open(program, id)) {
        let fd = held.map_err(Cause::Os)?;
        let handle = match is_map(call) {
            true => Handle::Map(Map::from_fd(fd).map_err(Cause::Os)?),
            false => Handle::Other(fd),
        };
        return Ok(keep(symbols, symbol, handle));
    }
    let answer = match attempt(call, &args, step.again) {
        Ok(answer) => answer,
        Err((error, answer)) if !heard(&answer).is_empty() => {
            return Err(Cause::Verifier(error, heard(&answer)))
        }
        Err((error, _)) if step.instead.is_some() && error.kind() == io::ErrorKind::InvalidInput => {
            drop(args);
            let Some(other) = &step.instead else { return Err(Cause::Os(error)) };
            return bpf(&Step { instead: None, ..step.clone() }, other, symbols);
        }
        Err((error, _)) if step.on_failure.is_empty() => return Err(Cause::Os(error)),
        Err((error, _)) => return Err(Cause::Verifier(error, hear(step, call, symbols))),
    };
    if let Some(Expect::Tag(tags)) = &step.expect {
        let id = info(answer.room("info"), tags)?;
        let symbol = symbol.unwrap_or_default();
        symbols.set_id(symbol, id);
        return Ok(Outcome::Symbol(symbol.to_string(), id));
    }
    if let (true, Some(symbol)) = (call.command == &commands::PROG_TEST_RUN, symbol) {
        let returned = u32::try_from(answer.number(call.command, "retval")).unwrap_or(u32::MAX);
        symbols.set_id(symbol, returned);
        return Ok(Outcome::Symbol(symbol.to_string(), returned));
    }
    let log = heard(&answer);
    Ok(match answer.fd {
        Some(fd) if is_map(call) => keep(symbols, symbol, Handle::Map(Map::from_fd(fd).map_err(Cause::Os)?)),
        Some(fd) => match keep(symbols, symbol, Handle::Other(fd)) {
            Outcome::Symbol(symbol, number) if !log.is_empty() => Outcome::Verified(symbol, number, log),
            outcome => outcome,
        },
        None => Outcome::Nothing,
    })
}

/// What is pinned at a path is told by its name: those of our programs and links begin so.
fn is_map(call: &Bpf) -> bool {
    let Some(Arg::Text(path)) = call.arg("pathname") else {
        return call.command == &commands::MAP_GET_FD_BY_ID;
    };
    let name = path.rsplit('/').next().unwrap_or_default();
    call.command == &commands::OBJ_GET && !name.starts_with("prog_") && !name.starts_with("link_")
}

fn keep(symbols: &mut Symbols, symbol: Option<&str>, handle: Handle) -> Outcome {
    let Some(symbol) = symbol else { return Outcome::Nothing };
    let number = handle.as_fd().as_raw_fd().unsigned_abs();
    symbols.set_handle(symbol, handle);
    Outcome::Symbol(symbol.to_string(), number)
}

fn update(call: &Bpf, symbols: &Symbols) -> io::Result<()> {
    let flags = match call.arg("flags") {
        Some(Arg::Num(flags)) => *flags,
        _ => 0,
    };
    map(call, symbols)?.update(&bytes(call, "key", symbols)?, &bytes(call, "value", symbols)?, flags)
}

/// Deleting what is not there is no failure unless the step says so: the next packet may have been faster.
fn delete(step: &Step, call: &Bpf, symbols: &Symbols) -> io::Result<()> {
    let there = map(call, symbols)?.delete(&bytes(call, "key", symbols)?)?;
    match step.expect == Some(Expect::Element) && !there {
        true => Err(Errno::ENOENT.into()),
        false => Ok(()),
    }
}

fn store(store: &Store, symbols: &Symbols) -> io::Result<()> {
    let Written { at, bytes, mask } = &store.written;
    Window::map(symbols.map(&store.map)?, *at, bytes.len())?.store(bytes, mask)
}

fn map<'a>(call: &Bpf, symbols: &'a Symbols) -> io::Result<&'a Map> {
    match call.arg("map_fd") {
        Some(Arg::Fd(symbol)) => symbols.map(symbol),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

fn bytes<'b>(call: &'b Bpf, name: &str, symbols: &Symbols) -> io::Result<Cow<'b, [u8]>> {
    match call.arg(name) {
        Some(Arg::Bytes(blob)) => symbols.fill(blob),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// The id in `struct bpf_prog_info` {type, id, tag[8]}, once the tag is as predicted.
fn info(info: &[u8], tags: &Tags) -> Result<u32, Cause> {
    let id = info.get(4..8).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes);
    let tag: Option<[u8; 8]> = info.get(8..16).and_then(|b| b.try_into().ok());
    match (id, tag) {
        (Some(id), Some(tag)) if tag == tags.sha1 || tag == tags.sha256 => Ok(id),
        (_, Some(tag)) => {
            let hex = |tag: &[u8; 8]| u64::from_be_bytes(*tag);
            Err(Cause::Unexpected(format!(
                "the kernel's tag {:016x} is neither {:016x} (SHA-256) nor {:016x} (SHA-1): not the program that was planned",
                hex(&tag),
                hex(&tags.sha256),
                hex(&tags.sha1)
            )))
        }
        _ => Err(Cause::Unexpected("the kernel's program record is too short".to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::{check_echo, info};
    use crate::load::tc::{BpfFilter, Filter, Place, INGRESS};
    use crate::object::Tags;

    const TAGS: Tags = Tags { sha1: [1; 8], sha256: [2; 8] };

    #[test]
    fn a_program_of_another_tag_is_not_the_one_that_was_planned() {
        let told = |tag: u8| [&3_u32.to_ne_bytes()[..], &7_u32.to_ne_bytes(), &[tag; 8]].concat();
        assert!(matches!(info(&told(1), &TAGS), Ok(7)) && matches!(info(&told(2), &TAGS), Ok(7)));
        assert!(info(&told(3), &TAGS).is_err() && info(&told(1)[..15], &TAGS).is_err());
    }

    #[test]
    fn a_filter_that_runs_another_program_is_not_the_one_that_was_made() {
        let bpf = BpfFilter { name: None, id: Some(7), tag: Some([2; 8]), direct_action: true, flags_gen: 0 };
        let told = |bpf: Option<BpfFilter>| {
            let filter = Filter { place: Place::new(1, INGRESS, 1, 1), kind: "bpf".to_string(), bpf };
            check_echo(Some(filter), 7, &TAGS)
        };
        assert_eq!(told(Some(bpf.clone())), Ok(()));
        for (other, word) in [
            (BpfFilter { id: Some(8), ..bpf.clone() }, "not 7"),
            (BpfFilter { id: None, ..bpf.clone() }, "not 7"),
            (BpfFilter { tag: Some([3; 8]), ..bpf.clone() }, "another tag"),
            (BpfFilter { tag: None, ..bpf.clone() }, "another tag"),
            (BpfFilter { direct_action: false, ..bpf }, "direct-action"),
        ] {
            assert!(told(Some(other.clone())).is_err_and(|e| e.contains(word)), "{other:?}");
        }
        assert!(told(None).is_err() && check_echo(None, 7, &TAGS).is_err());
    }
}
