// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Steps to lines of text that a person can review.
use crate::load::message::Message;
use crate::load::plan::Plan;
use crate::load::step::{Arg, Blob, Bpf, Effect, Expect, Step, Store};
use crate::object::Written;
use detour_sys::attr::{self, Kind};
use std::fmt::Write;

/// How much is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// Undo and failure continuations in full.
    pub undo: bool,
    /// The bytes that go to the kernel, symbols zero.
    pub bytes: bool,
}

/// All steps, numbered from 1, then the notes.
///
/// ```
/// use detour::load::{plan::Plan, step::{Effect, Step}, transcript};
///
/// let plan = Plan { steps: vec![Step::mkdir("/sys/fs/bpf/mine".into())], notes: Vec::new() };
/// let text = transcript::plan(&plan, transcript::Detail { undo: true, bytes: false });
/// assert_eq!(text, "  1 mkdir   /sys/fs/bpf/mine 0700\n      undo  rmdir   /sys/fs/bpf/mine\n");
/// ```
pub fn plan(plan: &Plan, detail: Detail) -> String {
    let mut text = String::new();
    for (i, step) in plan.steps.iter().enumerate() {
        let _ = writeln!(text, "{:3} {}", i.saturating_add(1), self::step(step, detail));
    }
    for note in &plan.notes {
        let _ = writeln!(text, "note: {note}");
    }
    text
}

/// One step: its effect, then what must come back, its undo and what follows a failure.
pub fn step(step: &Step, detail: Detail) -> String {
    let mut text = effect(&step.effect);
    match &step.expect {
        Some(Expect::Tag(tags)) => {
            let (sha256, sha1) = (hex(&tags.sha256), hex(&tags.sha1));
            let _ = write!(text, "; tag must be {sha256} (from 6.18) or {sha1}");
        }
        Some(Expect::Element) => text.push_str("; it must be there"),
        Some(Expect::Filter { id, .. }) => {
            let _ = write!(text, "; the echo must show direct-action, {id} and its tag");
        }
        None => {}
    }
    if let Some(instead) = &step.instead {
        let _ = write!(text, "\n      if invalid, instead  {}", bpf(instead));
    }
    if detail.undo {
        if let Some(undo) = &step.undo {
            let _ = write!(text, "\n      undo  {}", effect(undo));
        }
        for more in &step.on_failure {
            let _ =
                write!(text, "\n      if refused, the same with {}", arguments(attr_of(&step.effect), more));
        }
        if step.again > 0 {
            let _ = write!(text, "\n      at EAGAIN, the same up to {} times", step.again);
        }
    }
    if detail.bytes {
        text.push_str(&bytes(&step.effect));
    }
    text
}

/// One effect in one line.
pub fn effect(effect: &Effect) -> String {
    match effect {
        Effect::Bpf(call) => format!("bpf     {}", bpf(call)),
        Effect::Netlink(message) => format!("netlink {message}"),
        Effect::Store(store) => self::store(store),
        Effect::Mkdir(path) => format!("mkdir   {path} 0700"),
        Effect::OpenDir { path, gives } => format!("open    {path} directory -> {gives}"),
        Effect::Rmdir(path) => format!("rmdir   {path}"),
        Effect::Unlink(path) => format!("unlink  {path}"),
        Effect::Rename { from, to } => format!("rename  {from} {to}"),
        Effect::Exchange { one, other } => format!("swap    {one} {other}"),
        Effect::MountBpffs(path) => format!("mount   bpf {path} nosuid,nodev,noexec,mode=0700"),
        Effect::Unmount(path) => format!("umount  {path}"),
        Effect::Memlock => "rlimit  RLIMIT_MEMLOCK infinity".to_string(),
    }
}

fn bpf(call: &Bpf) -> String {
    let gives = call.gives.as_ref().map(|s| format!(" -> {s}")).unwrap_or_default();
    format!("{} {}{gives}", call.command.name, arguments(Some(call), &call.args))
}

/// `store   %map at 8 [2a00]`; of a bit-field with the bits that are meant.
fn store(store: &Store) -> String {
    let Written { at, bytes, mask } = &store.written;
    let bits = match mask.iter().all(|byte| *byte == 0xff) {
        true => String::new(),
        false => format!(" bits [{}]", hex(mask)),
    };
    format!("store   {} at {at} {}{bits}", store.map, blob(&bytes.clone().into()))
}

fn attr_of(effect: &Effect) -> Option<&Bpf> {
    match effect {
        Effect::Bpf(call) => Some(call),
        _ => None,
    }
}

fn arguments(call: Option<&Bpf>, args: &[(&'static str, Arg)]) -> String {
    let mut parts = Vec::new();
    for (name, arg) in args {
        let field = call.and_then(|c| c.command.field(name));
        if let (Some(Kind::Records { count, unit }), Arg::Bytes(blob)) = (field.map(|f| f.kind), arg) {
            // The count is a field of its own in the attribute; shown as the kernel names it where the table has no name.
            let _ = count;
            let records = blob.bytes.len().checked_div(unit).unwrap_or(0);
            parts.push(format!("{name}={records}x{unit} {}", argument(arg)));
        } else {
            parts.push(format!("{name}={}", argument(arg)));
        }
    }
    parts.join(" ")
}

fn argument(arg: &Arg) -> String {
    match arg {
        Arg::Num(n) => n.to_string(),
        Arg::Text(text) => format!("\"{}\"", text.escape_debug()),
        Arg::Fd(symbol) => symbol.clone(),
        Arg::Bytes(blob) => self::blob(blob),
        Arg::Room(size) => format!("room[{size}]"),
        Arg::LogRoom => "room[log_true_size]".to_string(),
    }
}

/// Short bytes in hex, long ones by their beginning and digest, parts of files by name.
fn blob(blob: &Blob) -> String {
    const SHOWN: usize = 24;
    let mut text = match &blob.part {
        Some(part) => format!("[{part}]"),
        None if blob.bytes.len() <= SHOWN => format!("[{}]", hex(&blob.bytes)),
        None => {
            let start = hex(blob.bytes.get(..8).unwrap_or_default());
            let digest = crate::object::sha256(&blob.bytes);
            let digest = hex(digest.get(..8).unwrap_or_default());
            format!("[{start}... {} bytes, sha256 {digest}...]", blob.bytes.len())
        }
    };
    let symbols: std::collections::BTreeSet<&str> = blob.holes.iter().map(|h| h.symbol.as_str()).collect();
    if !symbols.is_empty() {
        let _ = write!(text, " with {}", symbols.into_iter().collect::<Vec<_>>().join(" "));
    }
    text
}

/// Lower-case hex without spaces.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, b| {
        let _ = write!(text, "{b:02x}");
        text
    })
}

/// What goes to the kernel, 16 bytes a line; descriptors, ids and addresses are zero.
fn bytes(effect: &Effect) -> String {
    match effect {
        Effect::Bpf(call) => match image(call) {
            Some(attr) => {
                let mut text = dump("attr", attr.image());
                for buffer in attr.buffers().iter().filter(|b| b.bytes.iter().any(|x| *x != 0)) {
                    text.push_str(&dump(buffer.name, &buffer.bytes));
                }
                text
            }
            None => String::new(),
        },
        Effect::Netlink(message) => dump("nlmsg", &encoded(message)),
        _ => String::new(),
    }
}

/// The attribute without what is known only at run time.
fn image(call: &Bpf) -> Option<attr::Attr> {
    use detour_sys::Value;
    let value = |arg: &'_ Arg| -> Option<Value<'static>> {
        match arg {
            Arg::Num(n) => Some(Value::Num(*n)),
            Arg::Room(size) => Some(Value::Room(*size)),
            _ => None,
        }
    };
    let mut args: Vec<(&str, Value<'_>)> = Vec::new();
    for (name, arg) in &call.args {
        match arg {
            Arg::Text(text) => args.push((name, Value::Text(text))),
            Arg::Bytes(blob) => args.push((name, Value::Bytes(&blob.bytes))),
            other => args.extend(value(other).map(|v| (*name, v))),
        }
    }
    attr::Attr::encode(call.command, &args).ok()
}

fn encoded(message: &Message) -> Vec<u8> {
    message.clone().resolved(&|_| Some(0)).encode(0).unwrap_or_default()
}

fn dump(name: &str, bytes: &[u8]) -> String {
    let mut text = String::new();
    for (i, line) in bytes.chunks(16).enumerate() {
        let label = if i == 0 { name } else { "" };
        let _ = write!(text, "\n      {label:10} {:6x} ", i.saturating_mul(16));
        for byte in line {
            let _ = write!(text, " {byte:02x}");
        }
    }
    text
}
