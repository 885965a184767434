// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A failed step to what takes back everything before it, in reverse, and to what could not be taken back.
use crate::load::exec::{perform, resolved, Cause, Failure, Report};
use crate::load::explain::short;
use crate::load::netlink::{NetlinkError, Socket};
use crate::load::plan::Plan;
use crate::load::step::{Effect, Expect, Step};
use crate::load::symbols::Symbols;
use crate::load::tc::{filter_get, Filter};
use detour_sys::commands;
use nix::errno::Errno;
use std::io;

/// What a failed plan left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// A line for each thing.
    pub lines: Vec<String>,
    /// Whether the next command on this device has something to clear.
    pub clearable: bool,
}

impl Left {
    /// This undo failed, so the first `stay` steps are not taken back either.
    fn add(&mut self, undo: &Effect, error: &dyn std::fmt::Display, stay: usize) {
        self.lines.push(format!("{}: {error}", short(undo)));
        if stay > 0 {
            self.lines.push(format!("so steps 1 to {stay} stay, as if it had been killed there"));
        }
        self.clearable = true;
    }
}

/// Takes back what the failed step itself may have done, then what came before it.
///
/// It ends where the kernel refuses that, too. What is left then is what a killed command leaves, which the next one knows how to
/// clear; with later undos made all the same, filters would outlive the pins by which they are known.
pub(super) fn undo(
    plan: &Plan,
    failure: &Failure,
    symbols: &mut Symbols,
    socket: &mut Socket,
    watch: &mut dyn FnMut(Report<'_>),
) -> Left {
    let mut left = Left::default();
    let failed = failure.number.saturating_sub(1);
    if let Some(step) = plan.steps.get(failed) {
        if let Err((undo, error)) = itself(step, &failure.cause, symbols, socket) {
            left.add(undo, &error, failure.number);
            return left;
        }
    }
    for (i, step) in plan.steps.iter().enumerate().take(failed).rev() {
        if let Effect::Exchange { one, .. } = &step.effect {
            // Whoever swapped what was for what is has nothing to go back to: its pins may be gone.
            left.lines.push(format!("{one}: the new instance runs, and the old one is still beside it"));
            left.clearable = true;
            break;
        }
        if matches!(&step.effect, Effect::Bpf(bpf) if *bpf.command == commands::PROG_TEST_RUN) {
            // A flow that was ended does not come back, and other rules would decide what follows.
            left.lines.push("flows that had ended before; what was in force then stays".to_string());
            break;
        }
        let Some(effect) = &step.undo else { continue };
        let number = i.saturating_add(1);
        let error = perform(&effect.clone().into(), symbols, socket).err().map(into_io);
        watch(Report::Undone(number, effect, error.as_ref()));
        if let Some(error) = error {
            left.add(effect, &error, number);
            break;
        }
    }
    left
}

fn into_io(cause: Cause) -> io::Error {
    match cause {
        Cause::Os(e) | Cause::Verifier(e, _) => e,
        other => io::Error::other(other.to_string()),
    }
}

/// A message that nobody answered, or not as it should be, may have been obeyed: what it asked for is removed if it is there.
fn itself<'a>(
    step: &'a Step,
    cause: &Cause,
    symbols: &Symbols,
    socket: &mut Socket,
) -> Result<(), (&'a Effect, NetlinkError)> {
    let Some(undo @ Effect::Netlink(message)) = &step.undo else { return Ok(()) };
    let there = match (cause, &step.expect) {
        (Cause::Unexpected(_), _) => Ok(true),
        (Cause::Netlink(error), Some(Expect::Filter { place, id, .. })) if !error.answered => {
            // Another one may sit in its place.
            socket.request(&filter_get(*place)).map(|reply| {
                let there = reply.messages.iter().filter_map(Filter::read).find_map(|f| f.bpf?.id);
                there.is_some() && there == symbols.id(id).ok()
            })
        }
        (Cause::Netlink(error), _) => Ok(!error.answered),
        _ => Ok(false),
    };
    let removed = match there {
        Ok(true) => socket.request(&resolved(message, symbols)).map(drop),
        Ok(false) => Ok(()),
        Err(error) => Err(error),
    };
    removed.or_else(is_nothing).map_err(|error| (undo, error))
}

/// That there is nothing is the good case: tc_get_tfilter() and tc_del_tfilter() say so by ENOENT or, without a clsact, by
/// EINVAL, as tc_get_qdisc() does.
fn is_nothing(error: NetlinkError) -> Result<(), NetlinkError> {
    match Errno::from_raw(error.errno) {
        Errno::ENOENT | Errno::EINVAL if error.answered => Ok(()),
        _ => Err(error),
    }
}
