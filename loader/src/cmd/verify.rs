// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `verify`: the objects in this program against its manifest; `verify --live DEV`: what the kernel runs against them.
use crate::cmd::attach::UP;
use crate::cmd::in_place::{cfg, configured, of_the_machine};
use crate::cmd::{check, objects, up, Answer, Context};
use crate::dnat::{control, embedded, running::Running, verify as written};
use crate::load::create::Creation;
use crate::load::facts::{Bpffs, Facts, Instance};
use crate::load::gather::{ask_tcx, xdp};
use crate::load::record::{Record, RecordProgram, SCHEMA};
use crate::load::refusal::{Refusal, Stage};
use crate::load::transcript::hex;
use crate::load::verify::{hooks, pinned, Check};
use crate::object::{sha256, Object, Tags};
use crate::ui;
use crate::ui::verify::Subject;
use clap::ArgMatches;

/// `verify [FILE]...` and `verify --live DEV`. 1 where anything differs.
pub fn verify(context: &mut Context, args: &ArgMatches) -> Result<Answer, Refusal> {
    let subjects = match args.get_one::<String>("live") {
        None => vec![objects_here(args)?],
        Some(device) => live(context, device, args)?,
    };
    let [_, different, _] = ui::verify::count(&subjects);
    let code = u8::from(different > 0);
    Ok(Answer { text: ui::verify::text(&subjects), json: ui::verify::json(&subjects), code })
}

/// The embedded objects, and files by their names, against `elf/MANIFEST`: digests, and the tags of the programs.
fn objects_here(args: &ArgMatches) -> Result<Subject, Refusal> {
    let mut checks = Vec::new();
    for (name, bytes) in embedded::OBJECTS {
        checks.extend(against_manifest(&format!("{name}.bpf.o"), bytes));
    }
    for path in args.get_many::<String>("file").into_iter().flatten() {
        let bytes = objects::read(path)?;
        checks.extend(against_manifest(path.rsplit('/').next().unwrap_or_default(), &bytes));
    }
    Ok(Subject { name: "objects".to_string(), checks })
}

fn against_manifest(file: &str, bytes: &[u8]) -> Vec<Check> {
    let about = format!("object {file}");
    let digest = hex(&sha256(bytes));
    let named = |(_, path): &(&str, &str)| path.rsplit('/').next() == Some(file);
    let listed = embedded::MANIFEST.lines().filter_map(|line| line.split_once("  ")).find(named);
    let fault = match listed {
        Some((wanted, _)) if wanted == digest => None,
        Some((wanted, _)) => Some(format!("the manifest has {wanted}")),
        None => Some("the manifest does not list it".to_string()),
    };
    let mut checks = vec![Check::new(&about, format!("has SHA-256 {digest}, as the manifest says"), fault)];
    let programs = Object::parse(bytes).map(|object| object.programs).unwrap_or_default();
    // A stanza: program, object, section, instructions, two tags.
    let of = |program: &str| format!("program: {program}\nobject: {file}\n");
    for program in programs {
        let Some(at) = embedded::MANIFEST.find(&of(&program.name)) else { continue };
        let stanza = embedded::MANIFEST.get(at..).and_then(|s| s.split("\n\n").next()).unwrap_or_default();
        let Tags { sha1, sha256 } = program.tags();
        let lines = [format!("tag-sha1: {}", hex(&sha1)), format!("tag-sha256: {}", hex(&sha256))];
        let missing: Vec<String> = lines.into_iter().filter(|l| !stanza.lines().any(|s| s == l)).collect();
        let fault = (!missing.is_empty()).then(|| format!("not {}", missing.join(", ")));
        let claim = format!("links to tag {}, or {} before Linux 6.18", hex(&sha256), hex(&sha1));
        checks.push(Check::new(format!("program {}", program.name), claim, fault));
    }
    checks
}

/// Every instance on the device; nothing there is a difference.
fn live(context: &mut Context, device: &str, args: &ArgMatches) -> Result<Vec<Subject>, Refusal> {
    context.lock_shared()?;
    let mut facts = context.facts(device)?;
    match ask_tcx(&mut facts) {
        Err(refusal) if refusal.stage != Stage::Permission => return Err(refusal),
        // What cannot be seen is said where it would matter.
        Err(_) => {}
        Ok(()) => {}
    }
    if facts.bpffs == Bpffs::Denied {
        return by_names(&facts);
    }
    facts.reachable()?;
    let rules_given = args.contains_id("rules") || args.contains_id("rule");
    let rules = if rules_given { Some(check::rules(args)?) } else { None };
    let xdp = xdp(device)?;
    let mut subjects = Vec::new();
    for instance in &facts.instances {
        let name = format!("{device} '{}'", instance.name);
        let Some(record) = instance.record.as_ref().filter(|_| !instance.building) else {
            let fault = Some("it is left over: the next 'up' or 'unload' clears it".to_string());
            subjects.push(Subject { name, checks: vec![Check::new("instance", "is whole", fault)] });
            continue;
        };
        let object = find(record, args)?;
        let checks = match object {
            None => without_object(&facts, instance, record),
            Some(object) if instance.name == UP => of_up(&facts, instance, object, rules.as_deref(), args)?,
            Some(object) => of_load(&facts, instance, record, &object),
        };
        subjects.push(Subject { name, checks: [checks, vec![before_tc(xdp)]].concat() });
    }
    if subjects.is_empty() {
        let fault = Some("nothing of ours is there".to_string());
        let checks = vec![Check::new("instance", "is up", fault)];
        subjects.push(Subject { name: device.to_string(), checks });
    }
    Ok(subjects)
}

/// What sees a frame before any filter does. (The ingress chains of nftables see it after them.)
fn before_tc(xdp: Option<u32>) -> Check {
    let fault = xdp.map(|id| format!("XDP program {id}"));
    Check::new("device", "no XDP program sees what arrives before its filters", fault)
}

/// The object that the record names: one of those inside this program, or one given with `--object`, resolved for this
/// kernel as `load` does it.
fn find(record: &Record, args: &ArgMatches) -> Result<Option<Object>, Refusal> {
    let is_it = |object: &Object| object.sha256 == record.object_sha256;
    for (name, _) in embedded::OBJECTS {
        let object = Object::parse(embedded::object(name)?)?;
        if is_it(&object) {
            // `up` has options of its own for what --set would set.
            return match record.name == UP {
                true => Ok(Some(object)),
                false => objects::resolved(embedded::object(name)?, args, &format!("@{name}"), is_it),
            };
        }
    }
    for path in args.get_many::<String>("object").into_iter().flatten() {
        let found = objects::resolved(&objects::read(path)?, args, path, is_it)?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn without_object(facts: &Facts, instance: &Instance, record: &Record) -> Vec<Check> {
    let mut checks = hooks(facts, instance, &|_| None);
    let claim = format!("is SHA-256 {}", hex(&record.object_sha256));
    checks.push(Check::unseen("object", claim, "it is not inside this program: --object FILE"));
    checks
}

fn of_load(facts: &Facts, instance: &Instance, record: &Record, object: &Object) -> Vec<Check> {
    let mut checks = hooks(facts, instance, &|name| object.program(name).map(|p| p.tags()));
    let programs = record.programs.iter().map(|p| p.name.clone()).collect();
    checks.extend(pinned(facts, instance, object, &Creation { programs, ..Creation::default() }));
    checks
}

/// What `up` with these options would make on this machine now, against what is there.
fn of_up(
    facts: &Facts,
    instance: &Instance,
    mut object: Object,
    given: Option<&[crate::dnat::rules::Rule]>,
    args: &ArgMatches,
) -> Result<Vec<Check>, Refusal> {
    let mut checks = hooks(facts, instance, &|name| object.program(name).map(|p| p.tags()));
    let dir = instance.dir(&facts.home(UP));
    let running = Running::gather(&dir, &mut Vec::new());
    let told = running.as_ref().ok().and_then(|r| written::told(&r.rules));
    let rules = match (given, told) {
        (Some(rules), _) => rules.to_vec(),
        (None, Some(rules)) => rules,
        (None, None) => {
            let why = running.err().map_or("the table does not hold rules".to_string(), |e| e.what);
            checks.push(Check::new("rules in force", "can be read", Some(why)));
            return Ok(checks);
        }
    };
    let control = match control::control(&up::options(args), &rules, facts) {
        Ok(control) => control,
        Err(error) => {
            let fault = Some(format!("'up' would refuse them here now: {error}"));
            checks.push(Check::new("rules in force", "are for this machine", fault));
            return Ok(checks);
        }
    };
    for setting in &control.settings {
        object.set(setting)?;
    }
    keep_flags(&mut object, running.as_ref().ok(), up::options(args).pickup.is_some())?;
    let creation = up::creation(&control);
    let attached = instance.record.iter().flat_map(|r| &r.programs).map(|p| &p.name);
    let answers = answers(facts, instance, &control)?;
    let known =
        |name: &String| creation.programs.contains(name) || answers.is_some() && name == "detour_orig";
    let strange: Vec<String> = attached.filter(|name| !known(name)).cloned().collect();
    let fault = (!strange.is_empty()).then(|| format!("it also has {}", strange.join(", ")));
    checks.push(Check::new("record", "names the programs of 'up'", fault));
    checks.extend(pinned(facts, instance, &object, &creation));
    checks.extend(answers.into_iter().flatten());
    checks.extend(written::written(&dir, &control));
    Ok(checks)
}

/// Flags that follow from the machine stay what they were when it was started; the next `up` says so.
fn keep_flags(object: &mut Object, running: Option<&Running>, pickup: bool) -> Result<(), Refusal> {
    let is = running.and_then(|running| cfg(object, &running.rodata));
    let (Some(wanted), Some(is)) = (configured(object), is) else { return Ok(()) };
    let machine = of_the_machine(pickup);
    let flags = wanted.flags & !machine | is.flags & machine;
    Ok(object.set(&format!("cfg.flags={flags}"))?)
}

/// With `--original-dst`: its program and own data; the other maps are looked at already.
#[cfg(feature = "operate")]
fn answers(
    facts: &Facts,
    instance: &Instance,
    control: &control::Control,
) -> Result<Option<Vec<Check>>, Refusal> {
    use crate::dnat::answers;
    use crate::load::{beside::create_beside, sockopt::GETSOCKOPT, verify::made_by};
    if !instance.record.iter().flat_map(|r| &r.programs).any(|p| p.parent == GETSOCKOPT) {
        return Ok(None);
    }
    let object = answers::object(control, facts)?;
    let steps = create_beside(&object, &answers::creation(control), &facts.machine);
    Ok(Some(made_by(&steps, facts, instance, &object)))
}

#[cfg(not(feature = "operate"))]
fn answers(_: &Facts, _: &Instance, _: &control::Control) -> Result<Option<Vec<Check>>, Refusal> {
    Ok(None)
}

/// Without a right to read our folder: filters that are called as ours are, against the objects in this program.
fn by_names(facts: &Facts) -> Result<Vec<Subject>, Refusal> {
    let mut programs: Vec<(String, RecordProgram)> = Vec::new();
    for filter in &facts.filters {
        let Some(bpf) = &filter.bpf else { continue };
        let name = bpf.name.clone().unwrap_or_default();
        let mut parts = name.splitn(3, '/');
        if let (Some("detour"), Some(instance), Some(program)) = (parts.next(), parts.next(), parts.next()) {
            let place = filter.place;
            let entry = RecordProgram {
                id: bpf.id.unwrap_or(0),
                parent: place.parent,
                prio: place.prio,
                protocol: place.protocol,
                chain: place.chain,
                handle: place.handle,
                tag: bpf.tag.unwrap_or_default(),
                name: program.to_string(),
            };
            programs.push((instance.to_string(), entry));
        }
    }
    let mut names: Vec<String> = programs.iter().map(|(name, _)| name.clone()).collect();
    names.sort();
    names.dedup();
    let mut objects = Vec::new();
    for (name, _) in embedded::OBJECTS {
        objects.push(Object::parse(embedded::object(name)?)?);
    }
    let device = &facts.device.name;
    let mut facts = facts.clone();
    let mut subjects = Vec::new();
    for name in names {
        let of = programs.iter().filter(|(instance, _)| *instance == name).map(|(_, p)| p.clone());
        let record = Record {
            schema: SCHEMA,
            ifindex: facts.device.ifindex,
            object_sha256: [0; 32],
            ifname: device.clone(),
            name: name.clone(),
            programs: of.collect(),
            flags: 0,
        };
        let instance = Instance {
            name: name.clone(),
            building: false,
            pins: Vec::new(),
            record: Some(record),
            schema: None,
            ids: Vec::new(),
        };
        facts.instances.push(instance);
        subjects.push(Subject {
            name: format!("{device} '{name}', by the names of filters"),
            checks: Vec::new(),
        });
    }
    let tags = |name: &str| objects.iter().find_map(|o| o.program(name)).map(|p| p.tags());
    for (subject, instance) in subjects.iter_mut().zip(&facts.instances) {
        subject.checks = hooks(&facts, instance, &tags);
        // Of `up` both are known to belong there.
        for (hook, program) in [("ingress", "detour_in"), ("egress", "detour_out")] {
            let mut there = instance.record.iter().flat_map(|record| &record.programs);
            if instance.name == UP && there.all(|is| is.name != program) {
                let what = format!("{hook} {program}");
                subject.checks.push(Check::new(
                    what,
                    "runs",
                    Some("no filter of that name is there".to_string()),
                ));
            }
        }
        let claim = "are those that the plan makes, with maps, contents and types";
        subject.checks.push(Check::unseen("pins", claim, "needs root, or CAP_BPF and CAP_DAC_OVERRIDE"));
    }
    if subjects.is_empty() {
        let fault = Some("no filter of ours is there".to_string());
        let checks = vec![Check::new("instance", "is up", fault)];
        subjects.push(Subject { name: device.clone(), checks });
    }
    Ok(subjects)
}
