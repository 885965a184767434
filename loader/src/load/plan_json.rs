// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Steps to JSON and back: the same step comes out as went in.
//!
//! Parts of an object (instructions, types) are named with their SHA-256 and never carried; reading such a step back needs
//! the object. Other bytes are carried as the runs that are not zero.
use crate::load::message::Message;
use crate::load::plan::Plan;
use crate::load::step::{Arg, Blob, Bpf, Effect, Expect, Hole, Step, Store};
use crate::load::tc::Place;
use crate::load::transcript::hex;
use crate::object::{sha256, Tags, Written};
use detour_sys::attr::Command;
use serde_json::{json, Map, Value};

/// Finds the bytes of a part of an object by its name.
pub type Parts<'a> = &'a dyn Fn(&str) -> Option<Vec<u8>>;

/// `{"schema":"detour.plan/1","steps":[…],"notes":[…]}`
pub fn plan(plan: &Plan) -> Value {
    let steps: Vec<Value> = plan.steps.iter().map(step).collect();
    json!({"schema": SCHEMA, "steps": steps, "notes": plan.notes})
}

/// The schema of a plan.
pub const SCHEMA: &str = "detour.plan/1";

/// The reverse of [`plan`]; None when something is missing, unknown or does not match its digest.
///
/// ```
/// use detour::load::{create, create::Creation, facts::Machine, plan, plan_json};
///
/// let object = detour::object::Object::parse(&std::fs::read("../elf/drop.bpf.o")?)?;
/// let creation = Creation { file: "drop.bpf.o".into(), programs: vec!["drop".into()], ..Default::default() };
/// let plan = plan::dry_run(&object, &creation, &Machine::default())?;
/// let reviewed = plan_json::plan(&plan).to_string();
/// // Parts of the object are named in it by their digests: whoever reads it has the object.
/// let part = |name: &str| create::part(&object, name.strip_prefix("drop.bpf.o/")?);
/// assert_eq!(plan_json::read_plan(&serde_json::from_str(&reviewed)?, &part), Some(plan));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read_plan(value: &Value, parts: Parts<'_>) -> Option<Plan> {
    if value.get("schema")?.as_str()? != SCHEMA {
        return None;
    }
    let steps = value.get("steps")?.as_array()?.iter().map(|s| read_step(s, parts)).collect::<Option<_>>()?;
    let notes = value.get("notes")?.as_array()?.iter().map(text).collect::<Option<_>>()?;
    Some(Plan { steps, notes })
}

// Assigning to a key of an object made here inserts it; it cannot panic.
#[allow(clippy::indexing_slicing)]
fn step(step: &Step) -> Value {
    let mut value = effect(&step.effect);
    if let Some(expect) = &step.expect {
        value["expect"] = match expect {
            Expect::Tag(tags) => json!({"tag": self::tags(tags)}),
            Expect::Element => json!({"element": true}),
            Expect::Filter { place, id, tags } => {
                let place = json!({
                    "ifindex": place.ifindex, "parent": place.parent, "prio": place.prio, "handle": place.handle,
                    "chain": place.chain, "protocol": place.protocol,
                });
                json!({"filter": place, "id": id, "tag": self::tags(tags), "direct_action": true})
            }
        };
    }
    if let Some(undo) = &step.undo {
        value["undo"] = effect(undo);
    }
    if let Some(instead) = &step.instead {
        value["instead"] = bpf(instead);
    }
    if !step.on_failure.is_empty() {
        value["on_failure"] = step.on_failure.iter().map(|args| arguments(args)).collect();
    }
    if step.again > 0 {
        value["again_at_eagain"] = step.again.into();
    }
    value
}

fn read_step(value: &Value, parts: Parts<'_>) -> Option<Step> {
    let effect = read_effect(value, parts)?;
    let command = match &effect {
        Effect::Bpf(call) => Some(call.command),
        _ => None,
    };
    let optional = |name: &str| value.get(name);
    let expect = match optional("expect") {
        Some(expect) => Some(read_expect(expect)?),
        None => None,
    };
    let undo = match optional("undo") {
        Some(undo) => Some(read_effect(undo, parts)?),
        None => None,
    };
    let instead = match optional("instead") {
        Some(instead) => match read_effect(instead, parts)? {
            Effect::Bpf(call) => Some(call),
            _ => return None,
        },
        None => None,
    };
    let on_failure = match optional("on_failure") {
        Some(list) => {
            let read = |args| read_arguments(command?, args, parts);
            list.as_array()?.iter().map(read).collect::<Option<_>>()?
        }
        None => Vec::new(),
    };
    let again = match optional("again_at_eagain") {
        Some(n) => u8::try_from(n.as_u64()?).ok()?,
        None => 0,
    };
    Some(Step { effect, expect, undo, instead, on_failure, again })
}

fn read_expect(value: &Value) -> Option<Expect> {
    if let Some(there) = value.get("element") {
        return (there == &json!(true)).then_some(Expect::Element);
    }
    let tag = |name: &str| unhex(value.get("tag")?.get(name)?.as_str()?)?.try_into().ok();
    let tags = Tags { sha1: tag("sha1")?, sha256: tag("sha256")? };
    let Some(place) = value.get("filter") else { return Some(Expect::Tag(tags)) };
    let number = |name: &str| u32::try_from(place.get(name)?.as_u64()?).ok();
    let place = Place {
        ifindex: number("ifindex")?,
        parent: number("parent")?,
        prio: u16::try_from(number("prio")?).ok()?,
        handle: number("handle")?,
        chain: number("chain")?,
        protocol: u16::try_from(number("protocol")?).ok()?,
    };
    Some(Expect::Filter { place, id: text(value.get("id")?)?, tags })
}

/// Both tags of a program, as the kernel prints them.
pub fn tags(tags: &Tags) -> Value {
    json!({"sha256": hex(&tags.sha256), "sha1": hex(&tags.sha1)})
}

// Assigning to a key of an object made here inserts it; it cannot panic.
#[allow(clippy::indexing_slicing)]
fn bpf(call: &Bpf) -> Value {
    let mut value = json!({"do": "bpf", "command": call.command.name, "args": arguments(&call.args)});
    if let Some(symbol) = &call.gives {
        value["gives"] = symbol.as_str().into();
    }
    value
}

/// One effect: `{"do":"bpf","command":"MAP_CREATE","args":{…},"gives":"%flows"}`, `{"do":"mkdir","path":"…"}` …
pub fn effect(effect: &Effect) -> Value {
    match effect {
        Effect::Bpf(call) => bpf(call),
        Effect::Netlink(message) => json!({"do": "netlink", "message": message.to_json()}),
        Effect::Store(Store { map, written: Written { at, bytes, mask } }) => {
            let [bytes, bits] = [bytes, mask].map(|bytes| hex(bytes));
            json!({"do": "store", "map": map, "at": at, "bytes": bytes, "bits": bits})
        }
        Effect::Mkdir(path) => json!({"do": "mkdir", "path": path, "mode": "0700"}),
        Effect::OpenDir { path, gives } => json!({"do": "opendir", "path": path, "gives": gives}),
        Effect::Rmdir(path) => json!({"do": "rmdir", "path": path}),
        Effect::Unlink(path) => json!({"do": "unlink", "path": path}),
        Effect::Rename { from, to } => json!({"do": "rename", "from": from, "to": to}),
        Effect::Exchange { one, other } => json!({"do": "exchange", "one": one, "other": other}),
        Effect::MountBpffs(path) => json!({"do": "mount", "type": "bpf", "path": path, "mode": "0700"}),
        Effect::Unmount(path) => json!({"do": "umount", "path": path}),
        Effect::Memlock => json!({"do": "rlimit", "resource": "RLIMIT_MEMLOCK", "limit": "infinity"}),
    }
}

fn read_effect(value: &Value, parts: Parts<'_>) -> Option<Effect> {
    let path = |name: &str| text(value.get(name)?);
    Some(match value.get("do")?.as_str()? {
        "bpf" => {
            let command = Command::by_name(value.get("command")?.as_str()?)?;
            let mut call = Bpf::new(command, read_arguments(command, value.get("args")?, parts)?);
            call.gives = match value.get("gives") {
                Some(symbol) => Some(text(symbol)?),
                None => None,
            };
            Effect::Bpf(call)
        }
        "netlink" => Effect::Netlink(Message::from_json(value.get("message")?).ok()?),
        "store" => {
            let bytes = |name: &str| unhex(value.get(name)?.as_str()?);
            let (bytes, mask) = (bytes("bytes")?, bytes("bits")?);
            let at =
                usize::try_from(value.get("at")?.as_u64()?).ok().filter(|_| bytes.len() == mask.len())?;
            Effect::Store(Store { map: path("map")?, written: Written { at, bytes, mask } })
        }
        "mkdir" => Effect::Mkdir(path("path")?),
        "opendir" => Effect::OpenDir { path: path("path")?, gives: path("gives")? },
        "rmdir" => Effect::Rmdir(path("path")?),
        "unlink" => Effect::Unlink(path("path")?),
        "rename" => Effect::Rename { from: path("from")?, to: path("to")? },
        "exchange" => Effect::Exchange { one: path("one")?, other: path("other")? },
        "mount" => Effect::MountBpffs(path("path")?),
        "umount" => Effect::Unmount(path("path")?),
        "rlimit" => Effect::Memlock,
        _ => return None,
    })
}

fn arguments(args: &[(&'static str, Arg)]) -> Value {
    let entry = |(name, arg): &(&'static str, Arg)| ((*name).to_string(), argument(arg));
    Value::Object(args.iter().map(entry).collect::<Map<_, _>>())
}

fn read_arguments(
    command: &'static Command,
    value: &Value,
    parts: Parts<'_>,
) -> Option<Vec<(&'static str, Arg)>> {
    let entry =
        |(name, value): (&String, &Value)| Some((command.field(name)?.name, read_argument(value, parts)?));
    value.as_object()?.iter().map(entry).collect()
}

fn argument(arg: &Arg) -> Value {
    match arg {
        Arg::Num(n) => json!(n),
        Arg::Text(text) => json!(text),
        Arg::Fd(symbol) => json!({"fd": symbol}),
        Arg::Room(size) => json!({"room": size}),
        Arg::LogRoom => json!({"room": "log_true_size"}),
        Arg::Bytes(blob) => write_blob(blob),
    }
}

fn read_argument(value: &Value, parts: Parts<'_>) -> Option<Arg> {
    if let Some(n) = value.as_u64() {
        return Some(Arg::Num(n));
    }
    if let Some(text) = value.as_str() {
        return Some(Arg::Text(text.to_string()));
    }
    if let Some(symbol) = value.get("fd") {
        return Some(Arg::Fd(text(symbol)?));
    }
    match value.get("room") {
        Some(Value::String(s)) if s == "log_true_size" => Some(Arg::LogRoom),
        Some(size) => Some(Arg::Room(usize::try_from(size.as_u64()?).ok()?)),
        None => Some(Arg::Bytes(read_blob(value, parts)?)),
    }
}

/// Bytes: their length, digest, and the runs that are not zero, or the part they are.
// Assigning to a key of an object made here inserts it; it cannot panic.
#[allow(clippy::indexing_slicing)]
pub fn write_blob(blob: &Blob) -> Value {
    let mut value = json!({"len": blob.bytes.len(), "sha256": hex(&sha256(&blob.bytes))});
    match &blob.part {
        Some(part) => value["part"] = part.as_str().into(),
        None => value["runs"] = runs(&blob.bytes).iter().map(|(at, run)| json!([at, hex(run)])).collect(),
    }
    if !blob.holes.is_empty() {
        value["holes"] = blob.holes.iter().map(|h| json!([h.at, h.symbol])).collect();
    }
    value
}

/// The reverse of [`write_blob`]; None when they do not match their digest.
pub fn read_blob(value: &Value, parts: Parts<'_>) -> Option<Blob> {
    // A plan is untrusted input: its length must be backed by what it carries, so zeros alone may fill 16 MiB at most.
    const MOST: usize = 16 << 20;
    let length = usize::try_from(value.get("len")?.as_u64()?).ok().filter(|n| *n <= MOST)?;
    let part = match value.get("part") {
        Some(part) => Some(text(part)?),
        None => None,
    };
    let bytes = match &part {
        Some(part) => parts(part)?,
        None => {
            let mut bytes = vec![0; length];
            for run in value.get("runs")?.as_array()? {
                let at = usize::try_from(run.get(0)?.as_u64()?).ok()?;
                let run = unhex(run.get(1)?.as_str()?)?;
                bytes.get_mut(at..at.checked_add(run.len())?)?.copy_from_slice(&run);
            }
            bytes
        }
    };
    if bytes.len() != length || hex(&sha256(&bytes)) != value.get("sha256")?.as_str()? {
        return None;
    }
    let hole = |hole: &Value| {
        Some(Hole { at: usize::try_from(hole.get(0)?.as_u64()?).ok()?, symbol: text(hole.get(1)?)? })
    };
    let holes = match value.get("holes") {
        Some(list) => list.as_array()?.iter().map(hole).collect::<Option<_>>()?,
        None => Vec::new(),
    };
    Some(Blob { bytes, holes, part })
}

/// The stretches of `bytes` between runs of 8 and more zeros.
fn runs(bytes: &[u8]) -> Vec<(usize, &[u8])> {
    let mut list = Vec::new();
    let mut start = None;
    for (i, chunk) in bytes.chunks(8).enumerate() {
        let at = i.saturating_mul(8);
        match (start, chunk.iter().any(|b| *b != 0)) {
            (None, true) => start = Some(at),
            (Some(from), false) => {
                list.extend(bytes.get(from..at).map(|run| (from, run)));
                start = None;
            }
            _ => {}
        }
    }
    list.extend(start.and_then(|from| bytes.get(from..).map(|run| (from, run))));
    list
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_string)
}

/// Bytes of lower- or upper-case hex.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: &u8| char::from(*b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    if text.len() % 2 != 0 {
        return None;
    }
    let pair = |pair: &[u8]| digit(pair.first()?)?.checked_mul(16)?.checked_add(digit(pair.get(1)?)?);
    text.as_bytes().chunks(2).map(pair).collect()
}
