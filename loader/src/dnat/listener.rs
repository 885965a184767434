// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The ring buffer of a running instance -> events, for one reader at a time, who says anew and anew that it listens.
use super::abi::{Cfg, EventControl, EventState};
use super::clock::{ticks, Clock};
use super::events::{event, Event};
use super::look::Look;
use super::seat::{self, Seat};
use super::wire::{elements, Shared};
use crate::load::exec;
use crate::load::explain::explain;
use crate::load::gather::open_map;
use crate::load::holder::holder;
use crate::load::home::Dir;
use crate::load::netlink::Socket;
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
use std::time::{Duration, Instant};

/// For so long the programs tell; a reader says so anew every third of it, and one that was killed costs nothing after it.
pub const LEASE: Duration = Duration::from_secs(15);
/// How often filters are asked whether they still run what is listened to.
const LOOK: Duration = Duration::from_secs(1);
/// How often it says so.
const RENEW: Duration = Duration::from_secs(LEASE.as_secs() / 3);

/// The one reader.
#[derive(Debug)]
pub struct Listener {
    ring: Ring,
    /// Id of the ring buffer.
    id: Option<u32>,
    state: Map,
    cfg: Cfg,
    before: EventState,
    dir: Dir,
    seat: Seat,
    /// When that was looked at.
    looked: Instant,
    /// Holds `%event_control`.
    symbols: Option<Symbols>,
    /// When the programs have to be told again.
    due: Option<Instant>,
    _lock: Flock<File>,
}

impl Listener {
    /// Opens what the programs of an instance tell; nothing is told before [`Listener::renew`].
    ///
    /// # Errors
    /// [`Stage::InTheWay`] where there is another reader, who is named.
    pub fn open(look: &Look) -> Result<Listener, Refusal> {
        let (dir, cfg) = (look.dir().clone(), *look.cfg());
        let failed = |e: std::io::Error| Refusal::new(Stage::Kernel, format!("the ring buffer: {e}"), "");
        let file = seat::lock(look).map_err(failed)?;
        let lock =
            Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(file, errno)| match errno {
                Errno::EWOULDBLOCK => {
                    let what = format!("{} already reads the events of this device", holder(&file));
                    Refusal::new(Stage::InTheWay, what, "one reader at a time: 'events', 'run' or 'watch'")
                }
                errno => failed(errno.into()),
            })?;
        let map = |name: &str| open_map(&dir.map(name));
        let seat = Seat::of(look).map_err(failed)?;
        let (events, state) = (map("events")?, map("event_state")?);
        let id = events.id();
        let ring = Ring::map(events).map_err(failed)?;
        let mut symbols = Symbols::default();
        symbols.set_handle("%event_control", Handle::Map(map("event_control")?));
        let (symbols, before, looked) = (Some(symbols), EventState::default(), Instant::now());
        let mut listener =
            Listener { ring, id, state, cfg, before, dir, seat, looked, symbols, due: None, _lock: lock };
        listener.before = listener.state();
        // What an earlier reader left behind is old.
        while listener.ring.take().is_some() {}
        Ok(listener)
    }

    /// Whether what it listens to is still what is there: others may have loaded anew meanwhile. An upgrade keeps the ring
    /// buffer, but without pins only who may open anything by its id could see that.
    pub fn is_current(&mut self, socket: &mut Socket) -> bool {
        // A dump of filters is more than a look at an inode.
        let often = matches!(self.seat, Seat::Folder(..)) || self.looked.elapsed() >= LOOK;
        if !often || self.seat.is_taken(socket) {
            self.looked = if often { Instant::now() } else { self.looked };
            return true;
        }
        let Some(seat) = self.seat.renewed() else { return false };
        let same = self.has_ring(&self.dir);
        if same {
            self.seat = seat;
        }
        same
    }

    /// Whether the ring buffer there is the one that is listened to.
    fn has_ring(&self, dir: &Dir) -> bool {
        self.id.is_some() && open_map(&dir.map("events")).map_or(None, |map| map.id()) == self.id
    }

    /// Listens on where an upgrade that nothing pins kept the ring buffer; false where it did not.
    pub fn follow(&mut self, look: &Look) -> bool {
        match Seat::of(look) {
            Ok(seat) if self.has_ring(look.dir()) => {
                (self.seat, self.dir) = (seat, look.dir().clone());
                true
            }
            _ => false,
        }
    }

    /// The programs tell what is `wanted` for a while more; asked for again when a third of that is over.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn renew(&mut self, wanted: u32, socket: &mut Socket) -> Result<(), Refusal> {
        if self.due.is_some_and(|due| due > Instant::now()) {
            return Ok(());
        }
        self.due = Instant::now().checked_add(RENEW);
        self.tell(wanted, socket)
    }

    /// Nobody listens any more.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn end(&mut self, socket: &mut Socket) -> Result<(), Refusal> {
        self.tell(0, socket)
    }

    fn tell(&mut self, wanted: u32, socket: &mut Socket) -> Result<(), Refusal> {
        let plan = self.lease(wanted);
        let symbols = self.symbols.take().unwrap_or_default();
        let done = exec::run_with(symbols, &plan, socket, &mut |_| {});
        self.symbols = Some(done.map_err(|failure| explain(&plan, &failure, None, false))?);
        Ok(())
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
        self.state().lost.saturating_sub(self.before.lost)
    }

    /// DNS answers that were not told since then, to leave room for other events.
    pub fn untold(&self) -> u64 {
        self.state().dns.wrapping_sub(self.before.dns).into()
    }

    /// Both, of the time since this was asked last.
    pub fn missed(&mut self) -> (u64, u64) {
        let (before, now) = (self.before, self.state());
        self.before = now;
        (now.lost.saturating_sub(before.lost), now.dns.wrapping_sub(before.dns).into())
    }

    /// The sums of all CPUs.
    fn state(&self) -> EventState {
        let value = self.state.lookup(&[0; 4]).ok().flatten().unwrap_or_default();
        elements(&value).fold(EventState::default(), |sum, one: EventState| EventState {
            lost: sum.lost.saturating_add(one.lost),
            dns: sum.dns.wrapping_add(one.dns),
            full: 0,
        })
    }

    /// The steps after which the programs tell what is `wanted` for [`LEASE`]; of nothing, never.
    fn lease(&self, wanted: u32) -> Plan {
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
