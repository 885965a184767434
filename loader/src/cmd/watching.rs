// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What `watch` reads of an instance, time and again, while others change it; and the names that it hears meanwhile.
use crate::cmd::{look, names, Context};
use crate::dnat::events::What;
use crate::dnat::listener::Listener;
use crate::dnat::look::Look;
use crate::dnat::names::Names;
use crate::dnat::seat::Seat;
use crate::load::home::Dir;
use crate::load::refusal::{Refusal, Stage};
use crate::ui::watch::frame::Scene;
use crate::ui::watch::rates::Rates;
use crate::ui::watch::Reading;
use clap::ArgMatches;
use nix::time::{clock_gettime, ClockId};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// Pins are opened once; so often it is asked whether the device still runs what they belong to.
const ASK: Duration = Duration::from_secs(5);

/// What is known.
#[derive(Debug)]
pub struct Watching {
    /// The device.
    pub device: String,
    /// The newest reading.
    pub reading: Option<Reading>,
    /// And what was before.
    pub rates: Rates,
    names: Names,
    pins: Option<Pins>,
    /// Why there is nothing.
    fault: String,
}

/// One instance.
#[derive(Debug)]
struct Pins {
    look: Look,
    /// Another instance has another one.
    seat: Seat,
    asked: Instant,
    ears: Option<Listener>,
}

impl Watching {
    /// Nothing is open yet.
    pub fn new(args: &ArgMatches) -> Result<Watching, Refusal> {
        let device = args.get_one::<String>("dev").cloned().unwrap_or_default();
        let names = names::read(args)?;
        Ok(Watching {
            device,
            reading: None,
            rates: Rates::default(),
            names,
            pins: None,
            fault: String::new(),
        })
    }

    /// Opens what is up. Where it is what was open before, nothing changes.
    pub fn open(&mut self, context: &mut Context, args: &ArgMatches) -> Result<(), Refusal> {
        // Held for a moment: another command may be at work, and others want to be.
        context.unlock();
        let opened = look::open(context, args);
        context.unlock();
        let (_, look) = opened?;
        let gone = |e: std::io::Error| Refusal::new(Stage::No, format!("nothing is up any more: {e}"), "");
        let seat = Seat::of(&look).map_err(gone)?;
        match &mut self.pins {
            Some(pins) if pins.seat == seat => pins.asked = Instant::now(),
            pins => {
                self.rates = Rates::default();
                *pins = Some(Pins { look, seat, asked: Instant::now(), ears: None });
            }
        }
        Ok(())
    }

    /// Reads what is open.
    pub fn read(&mut self) -> Result<(), Refusal> {
        let Some(pins) = &mut self.pins else { return Ok(()) };
        pins.look.refresh();
        let look = &pins.look;
        let (mut asked, others) = look.asked()?;
        let mut flows = look.flows()?;
        names::rows(&mut asked, &self.names);
        names::flows(&mut flows, &self.names);
        let at = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
        let (rules, counters) = (look.rules()?, look.counters()?);
        let reading = Reading { at, asked, others, flows, rules, counters };
        self.rates.add(&reading);
        self.reading = Some(reading);
        Ok(())
    }

    /// The next reading, of whatever is there now.
    pub fn again(&mut self, context: &mut Context, args: &ArgMatches) {
        let taken = context.socket().map(|socket| {
            let same = |pins: &Pins| pins.asked.elapsed() < ASK && pins.seat.is_taken(socket);
            self.pins.as_ref().is_some_and(same)
        });
        let opened = match taken {
            Ok(true) => Ok(()),
            Ok(false) => self.open(context, args),
            Err(refusal) => Err(refusal),
        };
        // `up` and `down` may come in between.
        if let Err(refusal) = opened.and_then(|()| self.read()).and_then(|()| self.listen(context)) {
            self.fault = refusal.what;
            self.pins = None;
            self.reading = None;
            self.rates = Rates::default();
        }
    }

    /// Asks for DNS answers, for a while more. Where somebody else reads them, there are the names of the file.
    pub fn listen(&mut self, context: &mut Context) -> Result<(), Refusal> {
        let Some(pins) = &mut self.pins else { return Ok(()) };
        if pins.ears.is_none() {
            pins.ears = match Listener::open(&pins.look) {
                Ok(listener) => Some(listener),
                Err(refusal) if refusal.stage == Stage::InTheWay => None,
                Err(refusal) => return Err(refusal),
            };
        }
        match &mut pins.ears {
            Some(listener) => listener.renew(What::Dns.bit(), context.socket()?),
            None => Ok(()),
        }
    }

    /// Learns what was told.
    pub fn hear(&mut self) {
        let Some(listener) = self.pins.as_mut().and_then(|pins| pins.ears.as_mut()) else { return };
        for event in listener.heard() {
            self.names.hear(&event);
        }
    }

    /// Readable when there is something to hear.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pins.as_ref().and_then(|pins| pins.ears.as_ref()).map(AsFd::as_fd)
    }

    /// Where what is open was found.
    pub fn dir(&self) -> Option<&Dir> {
        self.pins.as_ref().map(|pins| pins.look.dir())
    }

    /// Nobody listens any more.
    pub fn end(&mut self, context: &mut Context) -> Result<(), Refusal> {
        match self.pins.as_mut().and_then(|pins| pins.ears.as_mut()) {
            Some(listener) => listener.end(context.socket()?),
            None => Ok(()),
        }
    }

    /// What there is to show.
    pub fn scene(&self) -> Scene<'_> {
        let others = self.pins.as_ref().is_some_and(|pins| pins.ears.is_none());
        Scene {
            device: &self.device,
            reading: self.reading.as_ref().ok_or(self.fault.as_str()),
            rates: &self.rates,
            note: others.then_some("names: another reader hears them"),
        }
    }
}
