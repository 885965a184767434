// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Flows of a running instance that shall end to the steps that end them.
//!
//! An element of an array is written whole, so from here nobody could free a slot only if it still holds that flow. A small
//! program can, by the rules of the two that run: it is loaded with their maps and run once for each flow.
use std::net::IpAddr;

use super::abi::{Cfg, Key4, Key6};
use super::control::settings;
use super::embedded;
use super::flows::Flow;
use super::wire::{Be16, Be32, Shared};
use crate::load::beside::{create_beside, open_shared, own_data};
use crate::load::create::{prog_symbol, Creation};
use crate::load::facts::Machine;
use crate::load::home::Dir;
use crate::load::plan::Plan;
use crate::load::refusal::Refusal;
use crate::load::step::{Arg, Bpf, Effect, Step};
use crate::load::symbols::Symbols;
use crate::object::Object;
use detour_sys::commands;

/// The steps before anything ends, and those that end one flow each.
#[derive(Clone, Debug, Default)]
pub struct Flush {
    /// Load the program.
    pub before: Vec<Step>,
    /// Run it.
    pub ends: Vec<Step>,
    /// The object that it is in.
    pub object: Option<Object>,
}

/// What became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Ended now.
    pub ended: usize,
    /// Were not there any more.
    pub gone: usize,
    /// Were being confirmed by a packet, and go on.
    pub moving: usize,
}

const NAME: &str = "flush";

/// Ends `flows` of the instance in `dir`, which was configured with `cfg`; no steps where there are none.
///
/// # Errors
/// This program's object is not the one that belongs to it.
pub fn flush(flows: &[Flow], cfg: &Cfg, dir: &Dir, machine: &Machine) -> Result<Flush, Refusal> {
    if flows.is_empty() {
        return Ok(Flush::default());
    }
    let mut object = Object::parse(embedded::object(NAME)?)?;
    own_data(&mut object, NAME);
    for setting in settings(cfg) {
        object.set(&setting)?;
    }
    let creation =
        Creation { file: format!("{NAME}.bpf.o"), programs: vec![NAME.to_owned()], ..Creation::default() };
    let mut before = Vec::new();
    if machine.charges_memlock() {
        before.push(Effect::Memlock.into());
    }
    before.extend(open_shared(&object, NAME, dir));
    before.extend(create_beside(&object, &creation, machine));
    let ends = flows.iter().enumerate().map(|(n, flow)| end(n, flow)).collect();
    Ok(Flush { before, ends, object: Some(object) })
}

impl Flush {
    /// As a plan by itself.
    pub fn plan(self) -> Plan {
        Plan { steps: [self.before, self.ends].concat(), notes: Vec::new() }
    }
}

/// One run, on a frame with the flow's forward key behind 14 bytes of Ethernet header.
fn end(number: usize, flow: &Flow) -> Step {
    let frame = [vec![0; ETH_HLEN], forward_key(flow)].concat();
    let args = vec![("prog_fd", Arg::Fd(prog_symbol(NAME))), ("data_in", Arg::Bytes(frame.into()))];
    Bpf::new(&commands::PROG_TEST_RUN, args).gives(symbol(number)).into()
}

fn symbol(number: usize) -> String {
    format!("?ended{}", number.saturating_add(1))
}

/// What the runs returned, by `enum ended` of ebpf-src/end.h.
pub fn ended(symbols: &Symbols, count: usize) -> Ended {
    let mut all = Ended::default();
    for number in 0..count {
        let one = match symbols.id(&symbol(number)) {
            Ok(1) => &mut all.ended,
            Ok(2) => &mut all.moving,
            _ => &mut all.gone,
        };
        *one = one.saturating_add(1);
    }
    all
}

/// `fwd` of the flow's slot.
fn forward_key(flow: &Flow) -> Vec<u8> {
    let (sport, dport) = (Be16(flow.client.port()), Be16(flow.original.port()));
    let (proto, dir) = (flow.protocol, 0);
    match (flow.client.ip(), flow.original.ip()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let [src, dst] = [src, dst].map(|a| Be32(a.to_bits()));
            Key4 { src, dst, sport, dport, proto, dir }.to_bytes()
        }
        (src, dst) => {
            let octets = |ip| match ip {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => v6.octets(),
            };
            Key6 { src: octets(src), dst: octets(dst), sport, dport, proto, dir }.to_bytes()
        }
    }
}

const ETH_HLEN: usize = 14;
