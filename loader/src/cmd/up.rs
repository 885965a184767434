// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `up` and `down`: the DNAT onto a device with rules, other rules into a running one, and off again.
use crate::cmd::attach::{notes, UP};
use crate::cmd::in_place::{in_place, Change, Wanted, ASKED};
use crate::cmd::objects::{self, Named};
use crate::cmd::{check, shadows, Answer, Context};
use crate::dnat::classify::{self, TableError};
use crate::dnat::control::{self, ControlError};
use crate::dnat::options::{Options, WhenFull};
use crate::dnat::reload::{reload, use_up};
use crate::dnat::rules::Rule;
use crate::dnat::running::Running;
use crate::dnat::{in_force, shadow};
use crate::load::create::Creation;
use crate::load::facts::Facts;
use crate::load::plan::{self, Attach, Config, Plan};
use crate::load::refusal::{Refusal, Stage};
use crate::load::repair::repair;
use crate::load::sockopt::Beside;
use crate::load::tc::{Place, EGRESS, INGRESS};
use crate::load::tcx::Anchor;
use crate::load::{kept, memory};
use clap::ArgMatches;
use serde_json::{json, Value};

/// What `up` would do.
#[derive(Debug)]
pub struct Up {
    /// The object, its variables set.
    pub named: Named,
    /// The steps; none when everything is as wanted.
    pub plan: Plan,
    /// What they come to.
    pub change: Change,
    rules: usize,
    /// How many flows its last steps end.
    #[cfg(feature = "operate")]
    pub flushed: usize,
}

impl Up {
    fn of(named: Named, plan: Plan, change: Change, rules: &[Rule]) -> Up {
        let rules = rules.len();
        Up {
            named,
            plan,
            change,
            rules,
            #[cfg(feature = "operate")]
            flushed: 0,
        }
    }
}

/// `up DEV [RULES]`.
pub fn up(context: &mut Context, args: &ArgMatches) -> Result<Answer, Refusal> {
    let device = args.get_one::<String>("dev").map(String::as_str).unwrap_or_default();
    let rules = check::rules(args)?;
    context.lock()?;
    let mut facts = context.facts(device)?;
    #[cfg(feature = "operate")]
    if others_run(args, &facts)? {
        context.keeps_up(device)?;
    }
    let running = running(args, &mut facts)?;
    let up = wanted(args, &rules, &facts, running.as_ref())?;
    let swaps = !up.plan.steps.is_empty();
    #[cfg(feature = "operate")]
    let up = crate::cmd::flush::after_swap(args, &facts, up)?;
    let maps = memory::maps(&up.plan, facts.machine.possible_cpus);
    if context.verbose && !context.json && !maps.is_empty() {
        eprintln!("{device}: {}", memory::text(&maps));
    }
    let symbols = context.execute(&up.plan, Some(&up.named.object)).map_err(name_option)?;
    let flushed = flushed(context, args, &up, &symbols, swaps)?;
    let (change, words) = match (up.change, swaps, flushed.count) {
        (_, false, 0) => ("none", "nothing to do, it is up with these rules"),
        (_, false, _) => ("none", "it is up with these rules"),
        (Change::Rules, true, 0) => ("rules", "other rules are in force now; flows carry on"),
        (Change::Rules, true, _) => ("rules", "other rules are in force now"),
        (Change::Mended, true, 0) => ("mended", "up with these rules, as before; flows carry on"),
        (Change::Mended, true, _) => ("mended", "up with these rules, as before"),
        (Change::Upgraded, true, 0) => ("upgraded", "other programs run now; flows carry on"),
        (Change::Upgraded, true, _) => ("upgraded", "other programs run now"),
        (Change::Replaced { asked: true }, true, _) => {
            ("replaced", "other programs run now; flows begin anew, what was asked for stays")
        }
        (Change::Replaced { .. }, true, _) => ("replaced", "other programs run now; flows begin anew"),
        (Change::Loaded, true, _) => ("loaded", "up"),
    };
    let steps = up.plan.steps.len().saturating_add(flushed.steps);
    let (also, rules) = (flushed.text, up.rules);
    let text = format!("{}{device}: {words}{also} ({rules} rules, {steps} steps)\n", notes(&up.plan));
    let json = json!({"schema": "detour.up/1", "dev": device, "change": change, "rules": rules,
        "steps": steps, "notes": up.plan.notes, "flows": flushed.json,
        "memory": maps.iter().fold(0_u64, |sum, (_, bytes)| sum.saturating_add(*bytes))});
    Ok(Answer::done(text, json))
}

/// What became of the flows that were to end.
#[derive(Debug, Default)]
pub struct Flushed {
    /// How many there were.
    pub count: usize,
    /// Steps beyond those of the plan: for flows that opened while it was done.
    pub steps: usize,
    /// In words.
    pub text: String,
    /// For programs.
    pub json: Value,
}

#[cfg(feature = "operate")]
use crate::cmd::flush::flushed;

#[cfg(not(feature = "operate"))]
fn flushed(
    _: &mut Context,
    _: &ArgMatches,
    _: &Up,
    _: &crate::load::symbols::Symbols,
    _: bool,
) -> Result<Flushed, Refusal> {
    Ok(Flushed::default())
}

/// Where the kernel has no memory for a map: the option that sizes it.
fn name_option(refusal: Refusal) -> Refusal {
    let map = refusal.what.strip_prefix("MAP_CREATE ").and_then(|what| what.split(':').next());
    let option = match map.unwrap_or_default() {
        "idx4" | "slots4" | "idx6" | "slots6" => "--flows-max and --half-open size it",
        "asked" | "asked_clients" => "--asked-max sizes it",
        "clients" => "--clients-max sizes it",
        _ => return refusal,
    };
    let hint = match refusal.hint.as_str() {
        "" => option.to_string(),
        hint => format!("{hint}; {option}"),
    };
    Refusal { hint, ..refusal }
}

/// `down DEV`.
pub fn down(context: &mut Context, args: &ArgMatches) -> Result<Answer, Refusal> {
    let device = args.get_one::<String>("dev").map(String::as_str).unwrap_or_default();
    context.lock()?;
    let facts = context.facts_of_device(device)?;
    let plan = down_plan(&facts)?;
    context.execute(&plan, None)?;
    let json =
        json!({"schema": "detour.down/1", "dev": device, "steps": plan.steps.len(), "notes": plan.notes});
    Ok(Answer::done(format!("{}{device}: down ({} steps)\n", notes(&plan), plan.steps.len()), json))
}

/// The steps of `down`.
pub fn down_plan(facts: &Facts) -> Result<Plan, Refusal> {
    facts.understood(UP)?;
    facts.reachable()?;
    if facts.instances.iter().all(|i| i.name != UP) && !facts.has_leftovers() {
        return Err(Refusal::nothing(UP, &facts.device.name));
    }
    plan::unload(UP, facts)
}

/// State of the whole running instance, if there is one; what an interrupted command left beside it does not count. Where
/// other programs or empty maps are wanted, also of the maps that they would go on with.
pub fn running(args: &ArgMatches, facts: &mut Facts) -> Result<Option<Running>, Refusal> {
    let repaired = repair(UP, facts).facts;
    let Some(instance) = repaired.instance(UP).filter(|i| repaired.is_whole(i)) else { return Ok(None) };
    let dir = instance.dir(&facts.home(UP));
    let mut running = Running::gather(&dir, &mut facts.reads)?;
    #[cfg(feature = "operate")]
    if let Some(cgroup) = args.try_get_one::<String>("original-dst").ok().flatten() {
        running.cgroup = crate::dnat::answers::number(facts, cgroup);
    }
    let (others, fresh) = (others_run(args, &repaired)?, is_fresh(args));
    if others || fresh {
        let object = objects::dnat(args)?.object;
        let wanted = |map: &str| !fresh || ASKED.contains(&map);
        let place = (&dir, &*instance.pins);
        running.kept = kept::gather(&object, &wanted, !others, place, &mut facts.reads)?;
    }
    Ok(Some(running))
}

/// `--fresh`, which `run` has not.
fn is_fresh(args: &ArgMatches) -> bool {
    args.try_get_one::<bool>("fresh").ok().flatten() == Some(&true)
}

/// Whether what runs comes of another object than what is wanted.
fn others_run(args: &ArgMatches, facts: &Facts) -> Result<bool, Refusal> {
    let Some(record) = facts.instance(UP).and_then(|instance| instance.record.as_ref()) else {
        return Ok(false);
    };
    Ok(record.object_sha256 != objects::dnat(args)?.object.sha256)
}

/// What `up` has to do.
pub fn wanted(
    args: &ArgMatches,
    rules: &[Rule],
    facts: &Facts,
    running: Option<&Running>,
) -> Result<Up, Refusal> {
    let device = &facts.device.name;
    let options = options(args);
    let control = control::control(&options, rules, facts).map_err(|e| refuse(&e, device))?;
    let mut named = objects::dnat(args)?;
    for setting in &control.settings {
        named.object.set(setting)?;
    }
    let mut config = config(args, &control, facts)?;
    config.creation.file.clone_from(&named.file);
    let Some(running) = running else {
        let mut plan = plan::load(&named.object, &config, facts)?;
        plan.notes.extend(rule_notes(args, rules, facts));
        #[cfg(feature = "operate")]
        plan.notes.extend(config.beside.iter().filter_map(|_| crate::dnat::answers::note(facts)));
        return Ok(Up::of(named, plan, Change::Loaded, rules));
    };
    // A number that was used means what it meant to rows and flows.
    let generation = running.generation.wrapping_add(1);
    let table = classify::table(rules, control::own(facts), generation);
    let table = table.map_err(|e| refuse(&ControlError::Table(e), device))?;
    let counters = in_force::count(&running.rules).max(u32::try_from(rules.len()).unwrap_or(u32::MAX));
    let locals = control::locals(rules, facts);
    let repaired = repair(UP, facts).facts;
    let dir = repaired.instance(UP).map(|i| i.dir(&facts.home(UP)));
    let dir = dir.ok_or_else(|| Refusal::nothing(UP, device))?;
    for write in config.creation.writes.iter_mut().filter(|w| w.map == "rules_0") {
        write.value.clone_from(&table);
    }
    let reload = reload(running, table, &locals, &dir, counters, facts.machine.possible_cpus);
    let pickup = options.pickup.is_some();
    let fresh = is_fresh(args).then(|| use_up(running, generation, &dir));
    let wanted = Wanted { object: &named.object, config, pickup, fresh };
    let (change, mut plan) = in_place(wanted, reload, running, facts)?;
    plan.notes.extend(rule_notes(args, rules, facts));
    Ok(Up::of(named, plan, change, rules))
}

/// What a person should know of these rules on this device.
fn rule_notes(args: &ArgMatches, rules: &[Rule], facts: &Facts) -> Vec<String> {
    let found = shadow::shadows(rules, control::own(facts));
    [control::notes(rules, facts), shadows::notes(args, rules, &found), objects::notes(args)].concat()
}

fn refuse(error: &ControlError, device: &str) -> Refusal {
    let hint = match error {
        ControlError::Table(TableError::NoAddress { .. }) => {
            "give the device an address, or name one: dnat to ADDRESS"
        }
        ControlError::Table(TableError::TooMany { .. }) => "fewer or simpler rules",
        ControlError::Device(..) => {
            "Ethernet and what looks like it, lo, tun, PPP and WireGuard devices work"
        }
        ControlError::Masquerade(..) => "without `masquerade` it is reached as this machine routes to it",
        ControlError::Leak => "leave one of them out: --when-full hold, drop or reject",
        ControlError::Option(_) => "'detour help up' has the defaults",
    };
    Refusal::new(Stage::Usage, format!("{device}: {error}"), hint)
}

/// The options besides the rules.
pub fn options(args: &ArgMatches) -> Options {
    let number = |name: &str, default: u32| args.get_one::<u32>(name).copied().unwrap_or(default);
    let mut options = Options::default();
    options.confirmed = number("flows-max", options.confirmed);
    options.half_open = number("half-open", options.half_open);
    options.asked = number("asked-max", options.asked);
    options.client_new = number("client-new", 0);
    options.client_live = number("client-live", 0);
    options.clients = number("clients-max", options.clients);
    options.sealed = args.get_flag("sealed");
    options.vlan = args.get_one::<String>("vlan").is_some_and(|which| which == "any");
    options.monitor = args.get_flag("monitor");
    options.pickup = match (args.get_flag("pickup"), args.get_flag("no-pickup")) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    };
    options.when_full = match args.get_one::<String>("when-full").map(String::as_str) {
        Some("drop") => WhenFull::Drop,
        Some("reject") => WhenFull::Reject,
        Some("pass") => WhenFull::Pass,
        _ => WhenFull::Hold,
    };
    for (name, seconds) in args.get_many::<(&str, u32)>("timeout").into_iter().flatten() {
        options.timeouts.set(name, *seconds);
    }
    options
}

/// What of the object is made, how large, with which elements.
pub fn creation(control: &control::Control) -> Creation {
    Creation {
        file: "dnat.bpf.o".to_string(),
        programs: vec!["detour_in".to_string(), "detour_out".to_string()],
        sizes: control.sizes.clone(),
        writes: control.writes.clone(),
        ..Creation::default()
    }
}

fn config(args: &ArgMatches, control: &control::Control, facts: &Facts) -> Result<Config, Refusal> {
    let prio = args.get_one::<u16>("prio").copied().unwrap_or(100);
    let handle = args.get_one::<u32>("handle").copied().unwrap_or(0xd370);
    let attach = |program: &str, parent| Attach {
        anchor: Anchor::default(),
        program: program.to_string(),
        place: Place::new(facts.device.ifindex, parent, prio, handle),
    };
    // Nothing is rewritten on its way in before the way back out exists.
    let attach = vec![attach("detour_out", EGRESS), attach("detour_in", INGRESS)];
    #[cfg(feature = "audit")]
    crate::cmd::admit::attaching(&attach, args)?;
    let creation = creation(control);
    let (mount, beside) = (args.get_flag("mount-bpffs"), beside(args, control, facts)?);
    let unpinned = args.get_flag("no-pin");
    if unpinned && beside.is_some() {
        return Err(Refusal::unpinned_link());
    }
    Ok(Config { creation, attach, name: UP.to_string(), mount, unpinned, replace: false, beside })
}

/// What `--original-dst` asks for.
#[cfg(feature = "operate")]
fn beside(args: &ArgMatches, control: &control::Control, facts: &Facts) -> Result<Option<Beside>, Refusal> {
    let cgroup = args.get_one::<String>("original-dst");
    cgroup.map(|cgroup| crate::dnat::answers::beside(control, facts, cgroup)).transpose()
}

#[cfg(not(feature = "operate"))]
fn beside(_: &ArgMatches, _: &control::Control, _: &Facts) -> Result<Option<Beside>, Refusal> {
    Ok(None)
}
