// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! SIGINT, SIGTERM and SIGHUP to a question between two steps, so that what was begun is undone and not left.
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::os::fd::{AsFd, BorrowedFd};

/// While this lives, the three signals wait. Those that came meanwhile take effect when it is dropped, unless they were
/// asked for.
#[derive(Debug)]
pub struct Signals {
    before: Option<SigSet>,
    fd: Option<SignalFd>,
}

impl Signals {
    /// Holds them back. Where the kernel refuses, they end the program as ever, and the next command clears what is left.
    pub fn hold() -> Signals {
        Signals::hold_with(&[])
    }

    /// The same with others.
    pub fn hold_with(others: &[Signal]) -> Signals {
        let mut set = SigSet::empty();
        [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
            .iter()
            .chain(others)
            .for_each(|signal| set.add(*signal));
        // What nobody could ask for is not held back.
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).ok();
        let mask = fd.as_ref().and_then(|_| SigSet::thread_get_mask().ok());
        let before = mask.filter(|_| set.thread_block().is_ok());
        Signals { before, fd }
    }

    /// Readable when one has come.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }

    /// A signal that came since.
    pub fn pending(&self) -> Option<Signal> {
        let info = self.fd.as_ref()?.read_signal().ok()??;
        i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok())
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // A mask that was read from the kernel is one that it takes.
            let _ = before.thread_set_mask();
        }
    }
}
