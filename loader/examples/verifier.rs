// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The embedded objects to how many instructions this kernel's verifier follows in their programs; it gives up at 1,000,000.
//!
//! `verifier` prints a line a program, `scripts/test-kernels` boots it. Those of `up` are as it loads them without options, and
//! with all that have a price, for the verifier skips what a frozen setting makes unreachable. Nothing is pinned or attached.
//! Exit code 1: something was refused, and standard error says what.
use std::process::ExitCode;

use detour::dnat::control::control;
use detour::dnat::embedded;
use detour::dnat::options::{Options, WhenFull};
use detour::load::create::{create, Creation, Kind};
use detour::load::exec;
use detour::load::facts::{Facts, Machine};
use detour::load::gather;
use detour::load::netlink::Socket;
use detour::load::plan::Plan;
use detour::load::step::{Arg, Bpf, Effect, Step};
use detour::object::Object;
use detour_sys::commands;

/// BPF_LOG_STATS.
const STATS: u64 = 4;
const ROOM: usize = 1 << 16;

fn command(step: &Step) -> Option<&Bpf> {
    match &step.effect {
        Effect::Bpf(call) => Some(call),
        _ => None,
    }
}

fn is(step: &Step, wanted: &'static detour_sys::Command) -> bool {
    command(step).is_some_and(|call| *call.command == *wanted)
}

/// A line for each program of an object.
fn programs(name: &str, machine: &Machine, options: Option<&Options>) -> Result<(), String> {
    let mut object =
        Object::parse(embedded::object(name).map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
    if let Some(options) = options {
        let facts = Facts { machine: machine.clone(), ..Facts::none("eth0") };
        for setting in control(options, &[], &facts).map_err(|e| format!("{e:?}"))?.settings {
            object.set(&setting).map_err(|e| e.to_string())?;
        }
    }
    let programs = object.programs.iter().map(|program| program.name.clone()).collect();
    let kind = if name == "original" { Kind::Getsockopt } else { Kind::SchedCls };
    let creation = Creation { file: name.to_owned(), programs, kind, ..Creation::default() };
    let mut steps = create(&object, &creation, machine);
    if machine.charges_memlock() {
        steps.insert(0, Effect::Memlock.into());
    }
    let loads: Vec<Step> = steps.iter().filter(|step| is(step, &commands::PROG_LOAD)).cloned().collect();
    steps.retain(|step| !is(step, &commands::PROG_LOAD) && !is(step, &commands::OBJ_GET_INFO_BY_FD));
    let mut socket = Socket::open().map_err(|e| e.to_string())?;
    let plan = Plan { steps, notes: Vec::new() };
    let symbols = exec::run(&plan, &mut socket, &mut |_| {}).map_err(|failure| format!("{failure:?}"))?;
    for call in loads.iter().filter_map(command) {
        let more = [("log_level", Arg::Num(STATS)), ("log_buf", Arg::Room(ROOM))];
        let args = [&call.args[..], &more].concat();
        let filled = symbols.filled(&args).map_err(|e| e.to_string())?;
        let args = symbols.resolve(&args, &filled, 0).map_err(|e| e.to_string())?;
        let (refused, answer) = match detour_sys::call(call.command, &args) {
            Ok(answer) => (None, answer),
            Err((error, answer)) => (Some(error), answer),
        };
        let program = call.gives.as_deref().unwrap_or_default().trim_start_matches('%');
        let log = String::from_utf8_lossy(answer.room("log_buf")).into_owned();
        let mut lines = log.lines().filter_map(|line| line.strip_prefix("processed ")?.split(' ').next());
        let all = if options.is_some_and(|options| options.sealed) { " with all options" } else { "" };
        println!("verifier: {program}{all}: {}", lines.next().unwrap_or("?"));
        if let Some(error) = refused {
            return Err(format!("{program}{all}: {error}"));
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    let machine = match gather::machine() {
        Ok(machine) => machine,
        Err(error) => {
            eprintln!("verifier: {error}");
            return ExitCode::FAILURE;
        }
    };
    let all = Options {
        when_full: WhenFull::Reject,
        pickup: Some(true),
        client_new: 1,
        client_live: 1,
        sealed: true,
        vlan: true,
        ..Options::default()
    };
    let usual = Options::default();
    let mut code = ExitCode::SUCCESS;
    for (name, options) in [
        ("dnat", Some(&usual)),
        ("dnat", Some(&all)),
        ("flush", Some(&usual)),
        ("original", Some(&usual)),
        ("trace", None),
        ("drop", None),
    ] {
        if let Err(error) = programs(name, &machine, options) {
            eprintln!("verifier: {name}: {error}");
            code = ExitCode::FAILURE;
        }
    }
    code
}
