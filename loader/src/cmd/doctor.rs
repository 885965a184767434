// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `doctor [DEV]`: what this kernel, this process and this device can do, each fault with its fix. 1 where `up` would fail.
use crate::cmd::attach::UP;
use crate::cmd::{look, Answer, Context};
use crate::dnat::control;
use crate::dnat::diagnosis::{self, Finding, State};
use crate::dnat::embedded;
use crate::dnat::running::active;
use crate::dnat::verify::told;
use crate::load::create::Creation;
use crate::load::exec::{self, Failure};
use crate::load::explain::explain;
use crate::load::facts::{Facts, Machine};
use crate::load::gather;
use crate::load::netlink::Socket;
use crate::load::plan::{self, Plan};
use crate::load::probe::{self, Probe};
use crate::load::refusal::{Refusal, Stage};
use crate::load::surroundings;
use crate::load::transcript::{self, Detail};
use crate::object::Object;
use crate::ui;
use clap::ArgMatches;
use nix::errno::Errno;
use nix::sched::{unshare, CloneFlags};

/// Looks, tries, and says.
pub fn doctor(context: &mut Context, args: &ArgMatches) -> Result<Answer, Refusal> {
    let device = args.get_one::<String>("dev").map(String::as_str);
    let machine = surroundings::machine()?;
    let (mut findings, mut reads) = (diagnosis::machine(&machine), machine.reads);
    let kernel = gather::machine()?;
    for one in probe::kernel() {
        findings.push(tried(&one.on(&kernel), context.socket(), None));
    }
    findings.push(signatures(&probe::signature().on(&kernel), context.socket()?));
    findings.push(programs(context, &kernel)?);
    findings.extend(hooks(&kernel));
    if let Some(device) = device {
        let mut facts = context.facts(device)?;
        // Who may not ask is told so by CAP_NET_ADMIN.
        let _ = gather::ask_tcx(&mut facts);
        reads.append(&mut facts.reads.clone());
        let near = surroundings::nearby(context.socket()?, facts)?;
        findings.extend(diagnosis::device(&near, PRIO));
        findings.extend(in_force(&near.facts));
        if near.facts.instance(UP).is_some_and(|up| !up.is_pinned()) {
            diagnosis::unpinned(&mut findings, device);
        }
    }
    let code = u8::from(findings.iter().any(|f| f.state == State::Bad));
    let text = ui::doctor::text(&findings, context.verbose, &context.paper);
    Ok(Answer { text, json: ui::doctor::json(device, &findings, &reads), code })
}

/// What the rules that run on the device ask for, and the machine as it is set now does not do. Nothing where none are to be
/// seen.
fn in_force(facts: &Facts) -> Vec<Finding> {
    let table = look::of_up(facts).and_then(|look| active(look.dir()));
    let rules = table.ok().and_then(|(_, table)| told(&table)).filter(|rules| !rules.is_empty());
    rules.map(|rules| diagnosis::in_force(&control::notes(&rules, facts))).unwrap_or_default()
}

/// The priority that `up` takes by itself.
const PRIO: u16 = 100;

/// Does the calls of a plan and gives up what they made; a line for each call is put into `calls`.
fn attempt(plan: &Plan, socket: &mut Socket, calls: &mut Vec<String>) -> Result<(), Failure> {
    let mut watch = |report: exec::Report<'_>| match report {
        exec::Report::Done(_, step, answer) => {
            calls.push(format!("{}  => {answer}", transcript::step(step, Detail::default())));
        }
        exec::Report::Failed(_, step, _) => {
            calls.push(format!("{}  => failed", transcript::step(step, Detail::default())));
        }
        exec::Report::Undone(..) => {}
    };
    exec::run(plan, socket, &mut watch).map(drop)
}

/// Who could check the signature of a program; a wrong one is refused in either case, and the error says by whom.
fn signatures(probe: &Probe, socket: &mut Socket) -> Finding {
    let mut calls = Vec::new();
    let errno = attempt(&probe.plan, socket, &mut calls).err().and_then(|failure| failure.cause.errno());
    let finding = Finding::good(probe.name, diagnosis::signatures(errno.map(Errno::from_raw)));
    Finding { calls, ..finding }
}

/// Does the probe's calls and gives up what they made.
fn tried(probe: &Probe, socket: Result<&mut Socket, Refusal>, object: Option<&Object>) -> Finding {
    let mut calls = Vec::new();
    let result = socket.and_then(|socket| {
        attempt(&probe.plan, socket, &mut calls)
            .map_err(|failure| explain(&probe.plan, &failure, object, false))
    });
    let since = |needed: &str| match needed {
        "" => format!("from {}; detour does without", probe.since),
        needed => format!("from {}; needed by {needed}", probe.since),
    };
    let finding = match result {
        Ok(()) => Finding::good(probe.name, "works"),
        Err(refusal) => {
            let state = if probe.needed_by.contains("up") { State::Bad } else { State::Odd };
            let fix = match refusal.stage {
                Stage::Permission => refusal.hint.clone(),
                _ => since(probe.needed_by),
            };
            Finding::new(probe.name, state, refusal.what, fix)
        }
    };
    Finding { calls, ..finding }
}

/// The programs of `up` themselves, as a dry run loads them.
fn programs(context: &mut Context, kernel: &Machine) -> Result<Finding, Refusal> {
    let object = Object::parse(embedded::object("dnat")?)?;
    let programs = vec!["detour_in".to_string(), "detour_out".to_string()];
    let creation = Creation { file: "dnat.bpf.o".to_string(), programs, ..Creation::default() };
    let plan = plan::dry_run(&object, &creation, kernel)?;
    let probe = Probe { name: "programs of up", needed_by: "up", since: "Linux 5.10", plan };
    Ok(tried(&probe, context.socket(), Some(&object)))
}

/// Hooks on the loopback device of a namespace that ends with its thread.
fn hooks(kernel: &Machine) -> Vec<Finding> {
    let inside = || -> Result<Vec<Finding>, Refusal> {
        let closed = |e: &dyn std::fmt::Display| Refusal::new(Stage::Permission, e.to_string(), "");
        unshare(CloneFlags::CLONE_NEWNET).map_err(|e| closed(&e))?;
        let mut socket = Socket::open().map_err(|e| closed(&e))?;
        Ok(probe::hooks().into_iter().map(|one| tried(&one.on(kernel), Ok(&mut socket), None)).collect())
    };
    let result = std::thread::scope(|scope| scope.spawn(inside).join());
    match result {
        Ok(Ok(findings)) => findings,
        _ => vec![Finding::new(
            "hooks",
            State::Odd,
            "not tried: that takes a namespace of its own",
            "needs CAP_SYS_ADMIN",
        )],
    }
}
