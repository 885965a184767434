// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The ring buffer of a running instance -> events, for one reader at a time; and the steps that begin and end the telling.
use super::abi::{Cfg, EventControl, EventState};
use super::clock::{ticks, Clock};
use super::events::{event, Event};
use super::wire::{elements, Shared};
use crate::load::gather::open_map;
use crate::load::home::map_pin;
use crate::load::plan::Plan;
use crate::load::refusal::{Refusal, Stage};
use crate::load::step::Step;
use crate::load::symbols::{Handle, Symbols};
use detour_sys::ring::Ring;
use detour_sys::Map;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::time::{clock_gettime, ClockId};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// For so long the programs tell; a reader says so anew every third of it, and one that was killed costs nothing after it.
pub const LEASE: Duration = Duration::from_secs(15);

/// The one reader.
#[derive(Debug)]
pub struct Listener {
    ring: Ring,
    state: Map,
    cfg: Cfg,
    before: u64,
    _lock: Flock<File>,
}

impl Listener {
    /// Opens the pins in `dir`, and with them the map `%event_control`, which the steps of [`lease`] write.
    pub fn open(dir: &str, cfg: Cfg) -> Result<(Listener, Symbols), Refusal> {
        let failed = |e: std::io::Error| Refusal::new(Stage::Kernel, format!("the ring buffer: {e}"), "");
        // The device's folder stays when programs are replaced, and the instance's does not.
        let folder = dir.rsplit_once('/').map_or(dir, |(device, _)| device);
        let folder = File::open(folder).map_err(failed)?;
        let lock =
            Flock::lock(folder, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
                Errno::EWOULDBLOCK => {
                    let what = "somebody else already reads the events of this device";
                    Refusal::new(Stage::InTheWay, what, "one reader at a time: 'events', 'run'")
                }
                errno => failed(errno.into()),
            })?;
        let map = |name: &str| open_map(&format!("{dir}/{}", map_pin(name)));
        let ring = Ring::map(map("events")?).map_err(failed)?;
        let mut symbols = Symbols::default();
        symbols.set_handle("%event_control", Handle::Map(map("event_control")?));
        let mut listener = Listener { ring, state: map("event_state")?, cfg, before: 0, _lock: lock };
        listener.before = listener.lost_ever();
        // What an earlier reader left behind is old.
        while listener.ring.take().is_some() {}
        Ok((listener, symbols))
    }

    /// What has been told since it was asked last.
    pub fn heard(&mut self) -> Vec<Event> {
        let clock = self.clock();
        // Who writes faster than this is read has to wait: what is found now ends somewhere.
        const MOST: usize = 10_000;
        let records = std::iter::from_fn(|| self.ring.take()).take(MOST);
        records.filter_map(|record| event(&record, &clock, self.cfg.l2_len)).collect()
    }

    /// Events that found no room since this listener was opened.
    pub fn lost(&self) -> u64 {
        self.lost_ever().saturating_sub(self.before)
    }

    fn lost_ever(&self) -> u64 {
        let value = self.state.lookup(&[0; 4]).ok().flatten().unwrap_or_default();
        elements(&value).fold(0_u64, |sum, one: EventState| sum.saturating_add(one.lost))
    }

    /// The steps after which the programs tell what is `wanted` for [`LEASE`]; of nothing, never.
    pub fn lease(&self, wanted: u32) -> Plan {
        let seconds = u32::try_from(LEASE.as_secs()).unwrap_or(u32::MAX);
        let length = ticks(seconds, self.cfg.hz, self.cfg.tick_shift);
        let until = self.clock().tick().wrapping_add(length);
        let value = EventControl { wanted, until: if wanted == 0 { 0 } else { until } }.to_bytes();
        Plan { steps: vec![Step::update("%event_control", vec![0; 4], value.into())], notes: Vec::new() }
    }

    fn clock(&self) -> Clock {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
        Clock::new(&self.cfg, now)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}
