// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! An object, what is wanted of it, and facts about this machine to the list of steps; pure.
use crate::load::beside::{self, create_beside};
use crate::load::create::{create, id_symbol, loaded, pins, record_map, Creation, RECORD};
use crate::load::facts::{Bpffs, Facts, Instance, Machine};
use crate::load::home::{self, Home, BPFFS};
use crate::load::record::{Record, RecordProgram, PROGRAMS_MAX, SCHEMA, UNPINNED};
use crate::load::refusal::Refusal;
use crate::load::repair::repair;
use crate::load::replace::replace;
use crate::load::shared;
use crate::load::slot_programs;
use crate::load::sockopt::{self, Beside};
use crate::load::step::{Arg, Effect, Expect, Step};
use crate::load::tc::{Place, Tc, EGRESS, ETH_P_ALL, INGRESS};
use crate::load::tcx::{self, Anchor};
use crate::load::unpinned;
use crate::object::{MapSpec, Object, Tags};
use detour_sys::commands;
use std::collections::BTreeMap;

/// Steps in order, and what a reader should know besides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What is done, in order.
    pub steps: Vec<Step>,
    /// One sentence each: what is odd, what is cleaned up and why.
    pub notes: Vec<String>,
}

/// A program and where it shall sit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attach {
    /// Name of the program in the object.
    pub program: String,
    /// Where. With one of the attach types of [`tcx`] as its parent it is no filter, and priority and handle are 0.
    pub place: Place,
    /// With tcx: where in the order.
    pub anchor: Anchor,
}

impl Attach {
    /// Whether a tcx link does it, not a filter.
    pub fn is_tcx(&self) -> bool {
        tcx::is_hook(self.place.parent)
    }
}

/// Everything that a load needs to be told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Programs to load, map sizes, elements to write.
    pub creation: Creation,
    /// What is attached, in this order; egress before ingress, so no rewritten packet leaves before its way back exists.
    pub attach: Vec<Attach>,
    /// The instance's name.
    pub name: String,
    /// Mount a BPF file system where there is none.
    pub mount: bool,
    /// Pin nothing: programs live by their filters, maps by the programs.
    pub unpinned: bool,
    /// Put the programs in the place of those that an instance of this name runs.
    pub replace: bool,
    /// A program in a cgroup that works on the same maps.
    pub beside: Option<Beside>,
}

/// Loads an object, pins it under the instance's folder and attaches it. Leftovers of earlier runs go first.
///
/// ```
/// use detour::load::{create::Creation, facts_json, plan, tc, tcx};
///
/// // Facts of another machine (`detour plan … --save-facts`), or `gather::gather` for those of this one.
/// let facts = serde_json::from_str(&std::fs::read_to_string("../tests/golden/eth0.facts.json")?)?;
/// let facts = facts_json::read(&facts).expect("facts");
/// let object = detour::object::Object::parse(&std::fs::read("../elf/drop.bpf.o")?)?;
/// let creation = Creation { file: "drop.bpf.o".into(), programs: vec!["drop".into()], ..Default::default() };
/// let place = tc::Place::new(facts.device.ifindex, tc::EGRESS, 1, 1);
/// let attach = plan::Attach { program: "drop".into(), place, anchor: tcx::Anchor::default() };
/// let (attach, name) = (vec![attach], "it".into());
/// let config = plan::Config { creation, attach, name, mount: false, unpinned: false, replace: false, beside: None };
/// let plan = plan::load(&object, &config, &facts)?;
/// assert!(plan.steps.len() > 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn load(object: &Object, config: &Config, facts: &Facts) -> Result<Plan, Refusal> {
    load_with(object, config, facts, Vec::new())
}

/// The same; where an instance is replaced, `between` is made after the new programs are loaded and before one of them runs.
pub fn load_with(
    object: &Object,
    config: &Config,
    facts: &Facts,
    between: Vec<Step>,
) -> Result<Plan, Refusal> {
    let home = facts.home(&config.name);
    if !home::is_name(&config.name) {
        return Err(Refusal::name(&config.name));
    }
    sound(object, &config.creation)?;
    if let Some(more) = &config.beside {
        sound(&more.object, &more.creation)?;
    }
    let empty = slot_programs::left_empty(object, &config.creation)?;
    let mut plan = Plan { steps: Vec::new(), notes: [&object.warnings[..], &empty].concat() };
    facts.understood(&config.name)?;
    if config.mount && facts.bpffs == Bpffs::Missing {
        let (mount, undo) = (Effect::MountBpffs(BPFFS.to_string()), Effect::Unmount(BPFFS.to_string()));
        plan.steps.push(Step::from(mount).undo(undo));
    } else if !config.unpinned {
        facts.bpffs.usable()?;
    }
    clear_orphans(&mut plan, facts);
    let repair = repair(&config.name, facts);
    let facts = &repair.facts;
    plan.notes.extend(repair.notes);
    plan.steps.extend(repair.steps);
    for instance in facts.instances.iter().filter(|i| i.name == config.name) {
        if facts.is_whole(instance) && config.replace {
            let replaced = replace(object, config, facts, instance, between)?;
            plan.notes = [plan.notes, replaced.notes].concat();
            plan.steps.extend(replaced.steps);
            return pinned_once(plan);
        }
        if facts.is_whole(instance) {
            return Err(Refusal::exists(&config.name, &facts.device.name));
        }
        plan.notes.push(format!("clears what is left over in {}", instance.dir(&home)));
        plan.steps.extend(clean(instance, &home, facts));
    }
    check_hook(config, facts)?;
    let cleared = plan.steps.len();
    if facts.machine.charges_memlock() {
        plan.steps.push(Effect::Memlock.into());
    }

    let dir = home.building();
    plan.steps.extend(folders(&home, facts).into_iter().map(Step::mkdir));
    plan.steps.push(Step::mkdir(dir.clone()));
    let made = create(object, &config.creation, &facts.machine);
    // A list that grows is copied: with what is made, its pins, the record and the filters it is as long as it gets.
    plan.steps.reserve([made.len(), object.maps.len(), object.programs.len(), 16].into_iter().sum());
    plan.steps.extend(shared::apply(made, &config.creation.shared)?);
    plan.notes.extend(pinning(object, &config.creation));
    if let Some(more) = &config.beside {
        plan.steps.extend(create_beside(&more.object, &more.creation, &facts.machine));
    }
    let record = record(object, config, facts, &plan.steps)?;
    plan.steps.extend(record_map(&record));
    if config.unpinned {
        plan.steps.extend(unpinned::bind(object, &config.creation));
    }
    plan.steps.push(Step::pin(RECORD, format!("{dir}/{}", home::RECORD_PIN)));
    plan.steps.extend(pins(object, &config.creation, &dir));
    if let Some(more) = &config.beside {
        plan.steps.extend(beside::pins(&more.object, &more.program, &dir));
        plan.steps.extend(sockopt::attach(more, &dir));
    }
    if config.attach.iter().any(|attach| !attach.is_tcx()) {
        plan.steps.extend(clsact(&home, facts, config.unpinned));
    }
    if let Some(chain) = config.attach.iter().map(|a| a.place.chain).find(|chain| *chain != 0) {
        plan.notes
            .push(format!("packets come to chain {chain} only where a filter says 'goto chain {chain}'"));
    }
    for attach in &config.attach {
        let program =
            object.program(&attach.program).ok_or_else(|| Refusal::no_program(&attach.program, object))?;
        let Place { ifindex, parent, .. } = attach.place;
        if attach.is_tcx() {
            plan.steps.extend(tcx::attach(ifindex, parent, &attach.anchor, &program.name, &dir));
            continue;
        }
        let name = format!("detour/{}/{}", config.name, program.name);
        let tags = expected_tags(&plan.steps, &program.name).unwrap_or_else(|| program.tags());
        plan.steps.push(Step::filter(attach.place, &program.name, name, tags));
    }
    plan.steps.push(Step::rename(dir, home.dir()));
    if config.unpinned {
        let made = plan.steps.split_off(cleared);
        plan.steps.extend(unpinned::strip(made));
    }
    pinned_once(plan)
}

/// The plan, unless two of its steps would pin something to one path.
fn pinned_once(plan: Plan) -> Result<Plan, Refusal> {
    let mut seen = BTreeMap::new();
    for step in &plan.steps {
        let call = match &step.effect {
            Effect::Bpf(call) if call.command == &commands::OBJ_PIN => call,
            _ => continue,
        };
        let (Some(Arg::Text(path)), Some(Arg::Fd(symbol))) = (call.arg("pathname"), call.arg("bpf_fd"))
        else {
            continue;
        };
        if let Some(first) = seen.insert(path, symbol) {
            return Err(Refusal::same_pin([first, symbol], path));
        }
    }
    Ok(plan)
}

/// The tags that the steps so far want of a program: hashed once.
pub(super) fn expected_tags(steps: &[Step], program: &str) -> Option<Tags> {
    let id = id_symbol(program);
    let of = |step: &Step| match (&step.effect, &step.expect) {
        (Effect::Bpf(call), Some(Expect::Tag(tags))) if call.gives.as_deref() == Some(&id) => Some(*tags),
        _ => None,
    };
    steps.iter().find_map(of)
}

/// Loads every selected program and keeps nothing: what the verifier says.
///
/// ```
/// use detour::load::{create::Creation, facts::Machine, plan};
///
/// let object = detour::object::Object::parse(&std::fs::read("../elf/fixtures/variants.bpf.o")?)?;
/// let machine = Machine { release: "6.18.0".into(), page_size: 4096, possible_cpus: 8, hz: 250 };
/// // Which programs, and maps of another size than the object says.
/// let (programs, sizes) = (vec!["variants".into()], vec![("seen".into(), 64)]);
/// let creation = Creation { file: "variants.bpf.o".into(), programs, sizes, ..Default::default() };
/// let plan = plan::dry_run(&object, &creation, &machine)?;
/// assert!(plan.steps.iter().all(|step| step.undo.is_none()), "nothing stays");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn dry_run(object: &Object, creation: &Creation, machine: &Machine) -> Result<Plan, Refusal> {
    sound(object, creation)?;
    let memlock = machine.charges_memlock().then(|| Step::from(Effect::Memlock));
    let steps = memlock.into_iter().chain(create(object, creation, machine)).collect();
    let empty = slot_programs::left_empty(object, creation)?;
    Ok(Plan { steps, notes: [&object.warnings[..], &empty].concat() })
}

/// Detaches an instance and removes everything that it made, and nothing else. An unfinished one goes with it.
///
/// ```no_run
/// use detour::load::{exec, gather::gather, netlink::Socket, plan, transcript};
///
/// let mut socket = Socket::open()?;
/// let plan = plan::unload("it", &gather(&mut socket, "eth0")?)?;
/// print!("{}", transcript::plan(&plan, transcript::Detail::default()));
/// exec::run(&plan, &mut socket, &mut |_| {}).map_err(|failure| failure.cause.to_string())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn unload(name: &str, facts: &Facts) -> Result<Plan, Refusal> {
    facts.understood(name)?;
    facts.reachable()?;
    let home = facts.home(name);
    let mut plan = Plan::default();
    clear_orphans(&mut plan, facts);
    if facts.has_leftovers() {
        plan.notes.push("clears what an interrupted run left".to_string());
    }
    let ours = || facts.instances.iter().filter(|i| i.name == name);
    for instance in ours() {
        let lost = instance.record.iter().flat_map(|r| &r.programs).filter(|p| !facts.carries(p)).count();
        if lost > 0 {
            plan.notes
                .push(format!("{lost} of its programs were already removed or replaced by somebody else"));
        }
        plan.steps.extend(detach(instance, facts).into_iter().map(Step::from));
    }
    let last = facts.instances.iter().all(|i| i.name == name);
    if last && facts.clsact_is_ours() {
        let others = facts.filters.iter().filter(|f| !ours().any(|i| facts.holds(i, f))).count();
        match others {
            0 => plan
                .steps
                .push(Effect::Netlink(Tc::ClsactDel { ifindex: facts.device.ifindex }.message()).into()),
            n => plan.notes.push(format!("clsact stays: {n} filters of others use it now")),
        }
    }
    for instance in ours() {
        plan.steps.extend(remove(instance, &home).into_iter().map(Step::from));
    }
    if last {
        plan.steps.extend(empty_folders(&home, facts).into_iter().map(Step::from));
    }
    Ok(plan)
}

/// What becomes of maps that want to be pinned by name.
fn pinning(object: &Object, creation: &Creation) -> Vec<String> {
    let note = |map: &MapSpec| match creation.shared.iter().find(|s| s.map == map.name) {
        Some(shared) => format!("map {} stays pinned at {} after 'unload'", map.name, shared.path),
        None => {
            format!("map {} asks to be pinned by name: without --pin-dir it is this instance's own", map.name)
        }
    };
    let notes = object.maps.iter().filter(|m| m.pinning == 1).map(note);
    notes.chain(creation.shared.iter().filter_map(|shared| shared.unseen.clone())).collect()
}

/// A program that was only asked for by name may be one that cannot be loaded, though its object is sound. And none is
/// loaded half-decided: an access that was left as the compiler made it would read the wrong field.
fn sound(object: &Object, creation: &Creation) -> Result<(), Refusal> {
    for program in loaded(object, &creation.programs) {
        if let Some(defect) = &program.defect {
            return Err(defect.clone().into());
        }
        object.check_resolved(program)?;
    }
    Ok(())
}

/// Removes the folders of devices that are gone.
fn clear_orphans(plan: &mut Plan, facts: &Facts) {
    for orphan in &facts.orphans {
        plan.notes.push(format!("clears {}: its device is gone", orphan.dir));
        for (folder, pins) in &orphan.folders {
            let path = format!("{}/{folder}", orphan.dir);
            plan.steps.extend(pins.iter().map(|pin| Effect::Unlink(format!("{path}/{pin}")).into()));
            plan.steps.push(Effect::Rmdir(path).into());
        }
        plan.steps.push(Effect::Rmdir(orphan.dir.clone()).into());
    }
}

/// What makes room for a new instance of the same name.
fn clean(instance: &Instance, home: &Home, facts: &Facts) -> Vec<Step> {
    let effects = detach(instance, facts).into_iter().chain(remove(instance, home));
    effects.map(Step::from).collect()
}

/// Removes the instance's filters that are still its own, ingress first.
fn detach(instance: &Instance, facts: &Facts) -> Vec<Effect> {
    let programs = || instance.record.iter().flat_map(|r| &r.programs).filter(|p| facts.carries(p));
    let of = |parent: u32| programs().filter(move |p| p.parent == parent);
    let del = |p: &RecordProgram| Effect::Netlink(Tc::FilterDel { place: facts.place(p) }.message());
    of(INGRESS).chain(of(EGRESS)).map(del).collect()
}

fn remove(instance: &Instance, home: &Home) -> Vec<Effect> {
    let dir = instance.dir(home);
    let Some(folder) = dir.folder() else { return Vec::new() };
    let unlink = |pin: &String| Effect::Unlink(dir.pin(pin));
    let mut effects: Vec<Effect> = instance.pins.iter().map(unlink).collect();
    effects.push(Effect::Rmdir(folder.to_string()));
    effects
}

/// The folders on the way to the instance that are not there yet.
fn folders(home: &Home, facts: &Facts) -> Vec<String> {
    let there = [(Home::root(), facts.root.is_some()), (home.device(), facts.device_folder)];
    there.into_iter().filter(|(_, there)| !there).map(|(path, _)| path).collect()
}

/// Marks and folders that nothing needs after the last instance of a device.
fn empty_folders(home: &Home, facts: &Facts) -> Vec<Effect> {
    let mark = |mark: &String| Effect::Rmdir(format!("{}/{mark}", home.device()));
    let mut effects: Vec<Effect> = facts.marks.iter().map(mark).collect();
    if facts.device_folder {
        effects.push(Effect::Rmdir(home.device()));
    }
    if facts.root == Some(facts.orphans.len().saturating_add(usize::from(facts.device_folder))) {
        effects.push(Effect::Rmdir(Home::root()));
    }
    effects
}

/// The mark and the qdisc. The mark comes first: after a kill, an unmarked qdisc would stay for ever.
fn clsact(home: &Home, facts: &Facts, marked: bool) -> Vec<Step> {
    let stale = facts.marks.iter().filter(|mark| **mark != facts.mark());
    let mut steps: Vec<Step> =
        stale.map(|m| Effect::Rmdir(format!("{}/{m}", home.device())).into()).collect();
    if (facts.clsact.is_none() || facts.clsact_is_ours()) && !facts.marks.contains(&facts.mark()) {
        steps.push(Step::mkdir(format!("{}/{}", home.device(), facts.mark())));
    }
    if facts.clsact.is_none() {
        let ifindex = facts.device.ifindex;
        let del = Effect::Netlink(Tc::ClsactDel { ifindex }.message());
        steps.push(Step::from(Effect::Netlink(Tc::ClsactAdd { ifindex, marked }.message())).undo(del));
    }
    steps
}

/// Refuses a foreign qdisc on the hook and filters of others in our places.
fn check_hook(config: &Config, facts: &Facts) -> Result<(), Refusal> {
    if config.attach.iter().all(Attach::is_tcx) {
        return Ok(());
    }
    if let Some(block) = facts.block {
        return Err(Refusal::shared_block(block, &facts.device.name));
    }
    if let Some(kind) = facts.clsact.as_deref().filter(|kind| *kind != "clsact") {
        return Err(Refusal::qdisc(kind, &facts.device.name));
    }
    for attach in &config.attach {
        let same = |f: &&crate::load::tc::Filter| f.place == attach.place;
        let ours = |f: &crate::load::tc::Filter| {
            facts.instances.iter().any(|i| i.name == config.name && facts.holds(i, f))
        };
        if let Some(filter) = facts.filters.iter().find(same).filter(|f| !ours(f)) {
            return Err(Refusal::place_taken(filter, &facts.device.name));
        }
        let mixed = |f: &&crate::load::tc::Filter| {
            let rank = |place: &Place| (place.parent, place.chain, place.prio);
            rank(&f.place) == rank(&attach.place)
                && (f.kind != "bpf" || f.place.protocol != attach.place.protocol)
        };
        if let Some(filter) = facts.filters.iter().find(mixed) {
            return Err(Refusal::prio_taken(filter, &facts.device.name));
        }
    }
    Ok(())
}

/// What the instance will say of itself.
pub(super) fn record(
    object: &Object,
    config: &Config,
    facts: &Facts,
    steps: &[Step],
) -> Result<Record, Refusal> {
    if config.attach.len() > PROGRAMS_MAX {
        return Err(Refusal::too_many_programs(config.attach.len(), PROGRAMS_MAX));
    }
    let programs = loaded(object, &config.creation.programs);
    let entry = |attach: &Attach| {
        let program = programs.iter().find(|p| p.name == attach.program);
        let program = program.ok_or_else(|| Refusal::no_program(&attach.program, object))?;
        let Place { parent, prio, handle, chain, protocol, .. } = attach.place;
        let protocol = if protocol == ETH_P_ALL { 0 } else { protocol };
        let tags = expected_tags(steps, &program.name).unwrap_or_else(|| program.tags());
        let (tag, name) = (facts.machine.tag(&tags), program.name.clone());
        Ok::<_, Refusal>(RecordProgram { id: 0, parent, prio, protocol, chain, handle, tag, name })
    };
    let mut all = config.attach.iter().map(entry).collect::<Result<Vec<_>, Refusal>>()?;
    if let Some(more) = &config.beside {
        let program = more.object.program(&more.program);
        let program = program.ok_or_else(|| Refusal::no_program(&more.program, &more.object))?;
        let (parent, tag) = (sockopt::GETSOCKOPT, facts.machine.tag(&program.tags()));
        let name = program.name.clone();
        all.push(RecordProgram { id: 0, parent, prio: 0, protocol: 0, chain: 0, handle: 0, tag, name });
    }
    Ok(Record {
        schema: SCHEMA,
        ifindex: facts.device.ifindex,
        object_sha256: object.sha256,
        ifname: facts.device.name.clone(),
        name: config.name.clone(),
        programs: all,
        flags: if config.unpinned { UNPINNED } else { 0 },
    })
}

#[cfg(all(test, feature = "operate"))]
mod tests {
    use super::*;
    use crate::load::refusal::Stage;

    #[test]
    fn two_maps_of_one_pin_are_both_named() {
        let file = |path: &str| std::fs::read([env!("CARGO_MANIFEST_DIR"), path].concat()).unwrap();
        let facts = serde_json::from_slice(&file("/../tests/golden/eth0.facts.json")).unwrap();
        let facts = crate::load::facts_json::read(&facts).unwrap();
        let mut object = Object::parse(&file("/../elf/fixtures/variants.bpf.o")).unwrap();
        let mut map = object.maps[0].clone();
        for name in [".data.cfg", "_data_cfg"] {
            map.name = name.to_owned();
            object.maps.push(map.clone());
        }
        let creation = Creation { programs: vec!["variants".into()], ..Creation::default() };
        let place = Place::new(facts.device.ifindex, INGRESS, 1, 1);
        let attach = vec![Attach { program: "variants".into(), place, anchor: Anchor::default() }];
        let name = "it".to_owned();
        let mut config =
            Config { creation, attach, name, mount: false, unpinned: false, replace: false, beside: None };
        let refusal = load(&object, &config, &facts).unwrap_err();
        assert_eq!(refusal.stage, Stage::Object);
        let end = "/map__data_cfg'";
        assert!(refusal
            .what
            .starts_with("'.data.cfg' and '_data_cfg' of the object would both be pinned as '"));
        assert!(refusal.what.ends_with(end), "{refusal}");
        config.unpinned = true;
        assert!(load(&object, &config, &facts).is_ok(), "nothing is pinned then");
    }
}
