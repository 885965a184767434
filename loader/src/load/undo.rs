// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A failed step to what takes back everything before it, in reverse, and to what could not be taken back.
use crate::load::exec::{perform, resolved, Cause, Report};
use crate::load::netlink::Socket;
use crate::load::plan::Plan;
use crate::load::step::{Effect, Expect, Step};
use crate::load::symbols::Symbols;
use crate::load::tc::{filter_get, Filter};
use crate::load::transcript;
use detour_sys::commands;
use nix::errno::Errno;
use std::io;

/// What a failed plan left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// A line for each thing.
    pub lines: Vec<String>,
    /// Whether the next command of its kind finds something to clear.
    pub clearable: bool,
}

impl Left {
    fn add(&mut self, undo: &Effect, error: &dyn std::fmt::Display) {
        self.lines.push(format!("{}: {error}", transcript::effect(undo)));
        self.clearable = true;
    }
}
