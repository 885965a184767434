// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `map listen DEV NAME MAP`: the records of a ring buffer, a line each as they come; until a signal or `--count` ends it, or
//! somebody else takes down or replaces what is listened to: 1.
use crate::cmd::events::say;
use crate::cmd::maps::{info, text, Here};
use crate::cmd::{Answer, Context};
use crate::dnat::seat::Seat;
use crate::load::allowed::{LISTEN, UNPINNED};
use crate::load::facts::Facts;
use crate::load::gather::open_map;
use crate::load::places::Places;
use crate::load::refusal::{Refusal, Stage};
use crate::load::signals::Signals;
use crate::ui;
use crate::ui::map_type::map_type;
use crate::ui::maps::Row;
use crate::ui::records::{self, Shape};
use crate::ui::text::escape;
use clap::ArgMatches;
use detour_sys::ring::Ring;
use nix::poll::{poll, PollFd, PollFlags};
use serde_json::json;
use std::os::fd::AsFd;

/// `enum bpf_map_type`.
const PERF_EVENT_ARRAY: u32 = 4;
const RINGBUF: u32 = 27;
const USER_RINGBUF: u32 = 31;
/// BPF_F_RB_OVERWRITE of Linux 6.19: the programs overwrite what nobody has read, and the reader's position is not all there is.
const OVERWRITE: u32 = 1 << 19;
/// The instance of `up`, and its ring buffer.
const OURS: (&str, &str) = ("up", "events");

/// Reads what programs submit. What nobody had read before comes first.
pub fn listen(context: &mut Context, args: &ArgMatches) -> Result<Answer, Refusal> {
    let (device, name) = (text(args, "dev").to_owned(), text(args, "map").to_owned());
    let facts = context.facts_of_device(&device)?;
    facts.reachable()?;
    let here = Here::find(&facts, args)?;
    let map = open_map(&here.path(&name)?)?;
    readable((&device, text(args, "name"), &name), &info(&map, &name)?)?;
    let wanted = args.get_one::<String>("as");
    let types = wanted.map(|_| here.any_types()).transpose()?;
    let shape = types.as_ref().zip(wanted).map(|(types, wanted)| Shape::named(types, wanted));
    let shape = shape.transpose().map_err(|why| Refusal::new(Stage::Usage, why.what, why.hint))?;
    let mut ring = Ring::map(map).map_err(|e| unmapped(&name, &e))?;
    let seat = seat(&facts, &here, text(args, "name"))?;
    let most = args.get_one::<u64>("count").copied().unwrap_or(u64::MAX);

    let signals = Signals::hold();
    let task = if here.dir().folder().is_some() { LISTEN } else { LISTEN | UNPINNED };
    context.confine(task, &Places::default(), None)?;
    let (mut count, mut others, mut open, mut gone) = (0_u64, 0_u64, true, false);
    let mut took = true;
    while open && count < most {
        wait(took.then_some(&ring), &signals);
        let before = count;
        // What was submitted before the signal came is still read.
        let last = signals.pending().is_some();
        // As is what programs submitted before others took their place.
        gone = !seat.is_taken(context.socket()?);
        // Who writes faster than this is read has to wait: what is found now ends somewhere.
        const MOST: u64 = 10_000;
        let end = count.saturating_add(MOST).min(most);
        while open && count < end {
            let Some(record) = ring.take() else { break };
            count = count.saturating_add(1);
            let fits = shape.as_ref().is_none_or(|shape| shape.fits(&record));
            others = others.saturating_add(u64::from(!fits));
            open = say(&match context.json {
                true => ui::json::document(&records::json(&device, &name, &record, shape.as_ref()), false),
                false => records::text(&record, shape.as_ref()),
            });
        }
        took = count > before;
        open &= !last && !gone;
    }
    let mut text = String::new();
    if let Some(shape) = shape.filter(|_| others > 0) {
        text.push_str(&format!("note: {others} records are not as long as {shape}, and shown as hex\n"));
    }
    if gone {
        text.push_str(&format!("{device}: others took down what was listened to, or loaded it anew\n"));
    }
    let json = json!({"schema": "detour.records/1", "device": device, "map": name, "records": count,
        "of_another_length": others, "gone": gone});
    Ok(Answer { text, json, code: u8::from(gone) })
}

/// Until there is something to read, a signal came, or it is time to look whether the instance is still there; programs may
/// also submit without waking anybody (BPF_RB_NO_WAKEUP). Where there was something last time and nothing could be taken, a record
/// is still being written, or somebody else moved the position: then the ring would be ready at once, and is not asked.
fn wait(ring: Option<&Ring>, signals: &Signals) {
    let most = if ring.is_some() { 1000_u16 } else { 10 };
    let watched = ring.map(|ring| ring.as_fd()).into_iter().chain(signals.fd());
    let mut ready: Vec<PollFd<'_>> = watched.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    // Interrupted or not: who waited looks at both anyway.
    let _ = poll(&mut ready, most);
}

fn seat(facts: &Facts, here: &Here, name: &str) -> Result<Seat, Refusal> {
    let record = facts.instance(name).and_then(|instance| instance.record.as_ref());
    let programs = record.into_iter().flat_map(|record| &record.programs).map(|program| program.id);
    let seat = Seat::at(here.dir(), facts.device.ifindex, programs.collect());
    seat.map_err(|e| Refusal::new(Stage::Kernel, format!("the pins of '{}': {e}", escape(name)), ""))
}

/// Whether records can be taken from this map of an instance.
fn readable((device, instance, name): (&str, &str, &str), map: &Row) -> Result<(), Refusal> {
    let told = escape(name);
    let hint = match map.map_type {
        RINGBUF if (instance, name) == OURS => {
            format!("'detour events {device}' reads it, and says what its records mean")
        }
        RINGBUF if map.flags & OVERWRITE != 0 => {
            "its programs overwrite what nobody has read (BPF_F_RB_OVERWRITE): 'map listen' cannot follow"
                .into()
        }
        RINGBUF => return Ok(()),
        PERF_EVENT_ARRAY => {
            let id = map.id;
            format!("'map listen' reads ring buffers only; 'bpftool map event_pipe id {id}' reads this one")
        }
        USER_RINGBUF => "programs read it, and user space writes".into(),
        _ => format!("'detour map dump {device} {instance} {told}' shows its elements, if it has any"),
    };
    let what = format!("the map '{told}' is of type {}", map_type(map.map_type));
    Err(Refusal::new(Stage::Usage, what, hint))
}

/// Why the kernel does not share it.
fn unmapped(name: &str, error: &std::io::Error) -> Refusal {
    let (stage, hint) = match error.raw_os_error() {
        Some(nix::libc::EPERM) => {
            (Stage::Permission, "a reader writes its position: not into a map made read-only")
        }
        _ => (Stage::Kernel, ""),
    };
    Refusal::new(stage, format!("map '{}': mmap: {error}", escape(name)), hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ring_buffers_are_read_and_others_are_told_what_does() {
        let map = |map_type, flags| Row { map_type, flags, ..Row::default() };
        assert!(readable(("eth0", "mine", "events"), &map(RINGBUF, 0)).is_ok());
        for (instance, map, words) in [
            ("up", map(RINGBUF, 0), "detour events eth0"),
            ("mine", map(RINGBUF, OVERWRITE), "BPF_F_RB_OVERWRITE"),
            ("mine", map(PERF_EVENT_ARRAY, 0), "bpftool map event_pipe"),
            ("mine", map(USER_RINGBUF, 0), "user space writes"),
            ("mine", map(1, 0), "detour map dump eth0 mine events"),
        ] {
            let of = map_type(map.map_type);
            let told = readable(("eth0", instance, "events"), &map);
            let names =
                |r: &Refusal| r.stage == Stage::Usage && r.hint.contains(words) && r.what.contains(&of);
            assert!(told.as_ref().is_err_and(names), "{told:?}");
        }
    }
}
