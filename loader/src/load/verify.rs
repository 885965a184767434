// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The steps that made an instance, and what the kernel runs now, to one answer for each thing that could be different.
//!
//! The expectation is the plan itself: the shapes of maps are the arguments of its `MAP_CREATE`, tags and frozen contents
//! are those of its steps. Nothing here changes anything.
use crate::load::create::{create, part, Creation};
use crate::load::facts::{Facts, Instance};
use crate::load::gather::{open, open_map};
use crate::load::home::{prog_pin, RECORD_PIN};
use crate::load::shared::shown;
use crate::load::sockopt;
use crate::load::step::{Arg, Bpf, Effect, Step};
use crate::load::tc::{protocol_name, Filter, Place, EGRESS, ETH_P_ALL};
use crate::load::tcx;
use crate::load::transcript::hex;
use crate::load::types::of_map;
use crate::object::{MapSpec, Object, Program, Tags, BPF_F_MMAPABLE};
use detour_sys::{commands, Map, Value};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What: `program detour_in`, `map idx4`.
    pub about: String,
    /// What should be true of it.
    pub claim: String,
    /// What was found.
    pub outcome: Outcome,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is so.
    Same,
    /// It is not so, but as the text says.
    Differs(String),
    /// It could not be seen, and what would be needed.
    Unseen(String),
}

impl Check {
    /// A check whose fault, if there is one, is known already.
    pub fn new(about: impl Into<String>, claim: impl Into<String>, fault: Option<String>) -> Check {
        let outcome = fault.map_or(Outcome::Same, Outcome::Differs);
        Check { about: about.into(), claim: claim.into(), outcome }
    }

    /// One that could not be made.
    pub fn unseen(about: impl Into<String>, claim: impl Into<String>, why: impl Into<String>) -> Check {
        Check { about: about.into(), claim: claim.into(), outcome: Outcome::Unseen(why.into()) }
    }

    /// One whose reading may have failed: not permitted is unseen, anything else a difference.
    pub fn read(about: &str, claim: &str, found: io::Result<Option<String>>) -> Check {
        match found {
            Ok(fault) => Check::new(about, claim, fault),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Check::unseen(about, claim, format!("not permitted: {error}"))
            }
            Err(error) => Check::new(about, claim, Some(format!("cannot be read: {error}"))),
        }
    }
}

/// What hangs on the device: the qdisc, each filter in its place, and nothing of others before it.
pub fn hooks(facts: &Facts, instance: &Instance, tags: &dyn Fn(&str) -> Option<Tags>) -> Vec<Check> {
    let programs = || instance.record.iter().flat_map(|r| &r.programs);
    let mut checks = Vec::new();
    if programs().any(|p| !tcx::is_hook(p.parent) && p.parent != sockopt::GETSOCKOPT) {
        let kind = facts.clsact.as_deref();
        let fault = match (kind, facts.block) {
            (Some("clsact"), None) => None,
            (Some("clsact"), Some(block)) => Some(format!("it uses the shared block {block}")),
            (Some(kind), _) => Some(format!("a qdisc of kind '{kind}' sits there")),
            (None, _) => Some("the device has none".to_string()),
        };
        checks.push(Check::new("qdisc", "is clsact, with no shared block", fault));
    }
    for program in programs() {
        let place = facts.place(program);
        let hook = hook_name(place.parent);
        if tcx::is_hook(place.parent) || place.parent == sockopt::GETSOCKOPT {
            let fault =
                (!facts.carries(program)).then(|| format!("its {hook} link does not run it any more"));
            checks.push(Check::new(
                format!("{hook} {}", program.name),
                format!("runs as program {}", program.id),
                fault,
            ));
            continue;
        }
        let about = format!("{hook} {}", program.name);
        let at = |f: &&Filter| Place { protocol: place.protocol, ..f.place } == place;
        let found = facts.filters.iter().find(at);
        let frames = match place.protocol {
            ETH_P_ALL => "every frame".to_string(),
            one => format!("frames of protocol {}", protocol_name(one)),
        };
        let chain = if place.chain == 0 { String::new() } else { format!(" of chain {}", place.chain) };
        let claim = format!(
            "runs program {} for {frames}, priority {} handle {:#x}{chain}",
            program.id, place.prio, place.handle
        );
        let bpf = found.and_then(|f| f.bpf.as_ref());
        let fault = match (found, bpf.and_then(|b| b.id)) {
            (None, _) => Some("no filter is there".to_string()),
            (Some(f), _) if f.place.protocol != place.protocol => {
                Some(format!("it is for protocol {}", protocol_name(f.place.protocol)))
            }
            (Some(_), Some(id)) if id == program.id => None,
            (Some(_), Some(id)) => Some(format!("it runs program {id}")),
            (Some(f), None) => Some(format!("it is a {} filter without a program", f.kind)),
        };
        checks.push(Check::new(&about, claim, fault));
        if let Some(bpf) = bpf {
            let fault = (!bpf.direct_action).then(|| "the verdict is ignored".to_string());
            checks.push(Check::new(&about, "is direct-action", fault));
            checks.push(tag(facts, &about, bpf.tag, tags(&program.name)));
        }
    }
    checks.extend(order(facts, instance));
    checks
}

fn hook_name(parent: u32) -> &'static str {
    match parent {
        EGRESS => "egress",
        tcx::EGRESS => "tcx egress",
        tcx::INGRESS => "tcx ingress",
        sockopt::GETSOCKOPT => "getsockopt",
        _ => "ingress",
    }
}

/// The tag that the kernel shows against the one that follows from the object.
pub fn tag(facts: &Facts, about: &str, shown: Option<[u8; 8]>, tags: Option<Tags>) -> Check {
    let claim = "has the tag that follows from the object";
    let (Some(tags), Some(shown)) = (tags, shown) else {
        return Check::unseen(about, claim, "the object or the tag is not at hand: --object FILE");
    };
    let wanted = facts.machine.tag(&tags);
    Check::new(
        about,
        format!("{claim}, {}", hex(&wanted)),
        (shown != wanted).then(|| format!("it has {}", hex(&shown))),
    )
}

/// What sees a frame before ours does, and is not ours.
fn order(facts: &Facts, instance: &Instance) -> Vec<Check> {
    let held = |f: &Filter| facts.instances.iter().any(|i| facts.holds(i, f));
    let name = |f: &Filter| {
        let name = f.bpf.as_ref().and_then(|b| b.name.clone()).unwrap_or_default();
        format!(
            "{} '{}' at priority {}, handle {:#x}",
            f.kind,
            name.escape_debug(),
            f.place.prio,
            f.place.handle
        )
    };
    let mut checks = Vec::new();
    for hook in [tcx::INGRESS, tcx::EGRESS] {
        let parent = if hook == tcx::EGRESS { EGRESS } else { crate::load::tc::INGRESS };
        let mine = |at: u32| instance.record.iter().flat_map(|r| &r.programs).any(|p| p.parent == at);
        if !mine(hook) && !mine(parent) {
            continue;
        }
        let programs = || instance.record.iter().flat_map(|r| &r.programs);
        let chain = programs().find(|p| p.parent == parent).map_or(0, |p| p.chain);
        // The kernel lists filters in the order in which they run.
        let on = facts.filters.iter().filter(|f| f.place.parent == parent && f.place.chain == chain);
        let before = on.take_while(|f| !facts.holds(instance, f)).filter(|f| !held(f));
        let mut foreign: Vec<String> = if mine(parent) { before.map(name).collect() } else { Vec::new() };
        let about = hook_name(parent);
        let claim = "no filter of others runs before it";
        // Programs at a hook that never changed: those of our links, which is all that was seen.
        let seen = |h: &&tcx::Hook| h.attach == hook && (h.revision > 0 || h.programs.is_empty());
        match facts.tcx.iter().find(seen) {
            None => {
                checks.push(Check::unseen(about, claim, "tcx programs are shown with CAP_NET_ADMIN only"))
            }
            Some(at) => {
                let ours = |id: u32| {
                    facts
                        .instances
                        .iter()
                        .flat_map(|i| &i.record)
                        .flat_map(|r| &r.programs)
                        .any(|p| p.id == id)
                };
                let first = at.programs.iter().take_while(|p| !mine(hook) || !ours(p.program));
                let strange = first.filter(|p| !ours(p.program));
                foreign.extend(strange.map(|p| format!("tcx program {}", p.program)));
            }
        }
        let fault = (!foreign.is_empty()).then(|| foreign.join("; "));
        checks.push(Check::new(about, claim, fault));
    }
    checks
}

/// What is pinned: programs, their maps and types, as the steps that made them say.
///
/// ```no_run
/// use detour::load::{create::Creation, gather::gather, netlink::Socket, verify};
/// # let (object, creation) = (detour::object::Object::parse(&[])?, Creation::default());
///
/// let facts = gather(&mut Socket::open()?, "eth0")?;
/// let instance = facts.instance("it").ok_or("it is not loaded")?;
/// for check in verify::pinned(&facts, instance, &object, &creation) {
///     println!("{}: {}: {:?}", check.about, check.claim, check.outcome);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn pinned(facts: &Facts, instance: &Instance, object: &Object, creation: &Creation) -> Vec<Check> {
    made_by(&create(object, creation, &facts.machine), facts, instance, object)
}

/// The same of what `steps` made, which may be a part of the object.
pub fn made_by(steps: &[Step], facts: &Facts, instance: &Instance, object: &Object) -> Vec<Check> {
    let dir = instance.dir(&facts.home(&instance.name));
    let mut checks = Vec::new();
    let mut ids = Vec::new();
    for map in &object.maps {
        let about = format!("map {}", map.name);
        let opened = open_map(&dir.map(&map.name));
        let Ok(pin) = opened else {
            let claim = if instance.is_pinned() { "is pinned" } else { "is there" };
            checks.push(Check::new(about, claim, opened.err().map(|e| e.what)));
            continue;
        };
        ids.extend(pin.id());
        let symbol = format!("%{}", map.name);
        let made = steps.iter().filter_map(bpf).find(|call| call.gives.as_deref() == Some(symbol.as_str()));
        if let Some(call) = made {
            checks.push(Check::read(&about, &shape_text(call), shape(&pin, call, map, object)));
        }
        let is_mine = |call: &&Bpf| call.arg("map_fd") == Some(&Arg::Fd(symbol.clone()));
        let on_it = || steps.iter().filter_map(bpf).filter(is_mine);
        if on_it().any(|call| call.command == &commands::MAP_FREEZE) {
            checks.push(frozen(&about, &pin));
            for call in on_it().filter(|call| call.command == &commands::MAP_UPDATE_ELEM) {
                checks.push(contents(&about, &pin, call, object));
            }
        }
    }
    if let Ok(record) = open_map(&dir.pin(RECORD_PIN)) {
        checks.push(frozen("record", &record));
        ids.extend(record.id());
    }
    for step in steps {
        let Some(call) = bpf(step).filter(|call| call.command == &commands::PROG_LOAD) else { continue };
        let name = call.gives.as_deref().and_then(|s| s.strip_prefix('%')).unwrap_or_default();
        let Some(tags) = object.program(name).map(Program::tags) else { continue };
        let about = format!("program {name}");
        match open(&dir.pin(&prog_pin(name))) {
            Ok(fd) => checks.extend(program(facts, instance, &about, fd.as_fd(), tags, &ids, object)),
            Err(error) => checks.push(Check::read(&about, "is pinned", Err(error))),
        }
    }
    checks
}

fn bpf(step: &Step) -> Option<&Bpf> {
    match &step.effect {
        Effect::Bpf(call) => Some(call),
        _ => None,
    }
}

/// `struct bpf_map_info`: the fields that `MAP_CREATE` was given, and where they are.
const SHAPE: [(&str, usize); 8] = [
    ("map_type", 0),
    ("key_size", 8),
    ("value_size", 12),
    ("max_entries", 16),
    ("map_flags", 20),
    ("btf_key_type_id", 68),
    ("btf_value_type_id", 72),
    ("map_extra", 80),
];

fn shape_text(call: &Bpf) -> String {
    let number = |name: &str| match call.arg(name) {
        Some(Arg::Num(n)) => *n,
        _ => 0,
    };
    let [map_type, key, value, entries] = ["map_type", "key_size", "value_size", "max_entries"].map(number);
    format!("has type {map_type}, {entries} entries of {key} + {value} bytes, and the object's types")
}

/// A map that an older object made has other ids for the same types.
fn shape(map: &Map, call: &Bpf, spec: &MapSpec, object: &Object) -> io::Result<Option<String>> {
    let info = detour_sys::info(map.as_fd(), 88)?;
    let mut wrong = Vec::new();
    for (name, at) in SHAPE {
        let wanted = shown(call, name);
        let bytes = info.get(at..at.saturating_add(4)).and_then(|b| b.try_into().ok());
        let is = u64::from(bytes.map(u32::from_ne_bytes).unwrap_or(0));
        // An earlier version made global data without it, which is the same to every program.
        let since = match (name, spec.name.starts_with('.')) {
            ("map_flags", true) => wanted & u64::from(BPF_F_MMAPABLE),
            _ => 0,
        };
        if is | since != wanted & u64::from(u32::MAX) {
            wrong.push((name, format!("{name} is {is}, not {wanted}")));
        }
    }
    let by_id = |(name, _): &(&str, String)| name.starts_with("btf_");
    if !wrong.is_empty() && wrong.iter().all(by_id) {
        if let (Some(there), Some(ours)) = (of_map(map.as_fd())?, &object.btf) {
            let sides = [(spec.key_type_id, there.key, "key"), (spec.value_type_id, there.value, "value")];
            let differs = |(our, their, path)| ours.difference(our, &there.btf, their, path);
            return Ok(sides.into_iter().find_map(differs));
        }
    }
    let wrong: Vec<String> = wrong.into_iter().map(|(_, text)| text).collect();
    Ok((!wrong.is_empty()).then(|| wrong.join(", ")))
}

/// The kernel shows it in the descriptor's fdinfo only (Linux 5.2).
fn frozen(about: &str, map: &Map) -> Check {
    let found = fs::read_to_string(format!("/proc/self/fdinfo/{}", map.as_fd().as_raw_fd())).map(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("frozen:"));
        (line.map(str::trim) != Some("1")).then(|| "it can be written".to_string())
    });
    Check::read(about, "is frozen", found)
}

fn contents(about: &str, map: &Map, call: &Bpf, object: &Object) -> Check {
    let bytes = |name: &str| match call.arg(name) {
        Some(Arg::Bytes(blob)) => blob.bytes.clone(),
        _ => Vec::new(),
    };
    let wanted = bytes("value");
    let found = map.lookup(&bytes("key")).map(|found| {
        let found = found.unwrap_or_default();
        (found != wanted).then(|| differences(about, &found, &wanted, object))
    });
    Check::read(about, "holds what was configured", found)
}

/// The variables, and the members of structs, whose bytes differ.
fn differences(about: &str, is: &[u8], wanted: &[u8], object: &Object) -> String {
    let mut words = Vec::new();
    let of = |v: &&crate::object::Variable| {
        object.maps.get(v.map).is_some_and(|map| about.strip_prefix("map ") == Some(map.name.as_str()))
    };
    for variable in object.variables.iter().filter(of) {
        let kind = object.btf.as_ref().and_then(|btf| btf.strip(variable.type_id));
        let mut members: Vec<(String, u32)> = kind
            .iter()
            .flat_map(|kind| kind.members())
            .map(|m| {
                (format!("{}.{}", variable.name, m.name), variable.offset.saturating_add(m.bit_offset >> 3))
            })
            .collect();
        if members.is_empty() {
            members.push((variable.name.clone(), variable.offset));
        }
        let end = variable.offset.saturating_add(variable.size);
        let ends: Vec<u32> = members.iter().skip(1).map(|(_, at)| *at).chain([end]).collect();
        for ((name, from), to) in members.iter().zip(ends) {
            let range = || Some(usize::try_from(*from).ok()?..usize::try_from(to).ok()?);
            let part =
                |bytes: &[u8]| range().and_then(|r| bytes.get(r).map(<[u8]>::to_vec)).unwrap_or_default();
            let (is, wanted) = (part(is), part(wanted));
            let number = |bytes: &[u8]| match bytes.try_into().map(u32::from_ne_bytes) {
                Ok(number) => number.to_string(),
                Err(_) => format!("[{}]", hex(bytes)),
            };
            if is != wanted {
                words.push(format!("{name} is {}, not {}", number(&is), number(&wanted)));
            }
        }
    }
    match words.is_empty() {
        true => "bytes outside its variables differ".to_string(),
        false => words.join(", "),
    }
}

/// A pinned program: the recorded one, its tag, the maps that it uses, its types.
fn program(
    facts: &Facts,
    instance: &Instance,
    about: &str,
    fd: BorrowedFd<'_>,
    tags: Tags,
    pinned: &[u32],
    object: &Object,
) -> Vec<Check> {
    let word = |info: &[u8], at: usize| {
        info.get(at..at.saturating_add(4)).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes)
    };
    let info = match detour_sys::info(fd, 136) {
        Ok(info) => info,
        Err(error) => return vec![Check::read(about, "is a program", Err(error))],
    };
    let mut checks = Vec::new();
    let name = about.strip_prefix("program ").unwrap_or_default();
    let recorded = instance.record.iter().flat_map(|r| &r.programs).find(|p| p.name == name);
    if let Some(recorded) = recorded {
        let id = word(&info, 4).unwrap_or(0);
        let fault = (id != recorded.id).then(|| format!("the pin is program {id}"));
        let how = if instance.is_pinned() { "pinned as " } else { "" };
        checks.push(Check::new(about, format!("is {how}the recorded {}", recorded.id), fault));
    }
    checks.push(tag(facts, about, info.get(8..16).and_then(|b| b.try_into().ok()), Some(tags)));
    let maps = detour_sys::info::program_maps(fd).map(|used| {
        let strange: Vec<String> =
            used.iter().filter(|id| !pinned.contains(id)).map(u32::to_string).collect();
        let fault = format!("map {} is none of them", strange.join(", "));
        (!strange.is_empty() || used.is_empty() && !pinned.is_empty() && recorded.is_some()).then_some(fault)
    });
    checks.push(Check::read(about, "uses the maps of this instance only", maps));
    if let (Some(btf), Some(id)) = (&object.btf, word(&info, 128).filter(|id| *id != 0)) {
        let given = detour_sys::call(&commands::BTF_GET_FD_BY_ID, &[("btf_id", Value::Num(id.into()))]);
        let image = given.map_err(|(error, _)| error).and_then(|answer| {
            let fd = answer.fd.ok_or(io::ErrorKind::InvalidData)?;
            detour_sys::info::btf_image(fd.as_fd())
        });
        // An older kernel was given types without the newer kinds.
        let plain = part(object, "btf_plain");
        let is = |image: Vec<u8>| image == btf.image() || plain.is_some_and(|plain| image == plain);
        let fault = image.map(|image| (!is(image)).then(|| "the kernel has other types".to_string()));
        checks.push(Check::read(about, "has the types (BTF) of the object", fault));
    }
    checks
}
