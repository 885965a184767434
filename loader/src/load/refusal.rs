// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Why something is not done, to what, where, how to mend it, and the program's exit code.
use crate::load::tc::{protocol_name, Filter, EGRESS};
use crate::object::{Object, ObjectError};
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;

/// Exit codes of the program; 0 is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// 1: no; nothing is up, a difference was found.
    No = 1,
    /// 2: usage or rules; nothing was touched.
    Usage = 2,
    /// 3: the object was refused.
    Object = 3,
    /// 4: the kernel refused.
    Kernel = 4,
    /// 5: not permitted.
    Permission = 5,
    /// 6: something that is not ours is in the way.
    InTheWay = 6,
    /// 129: SIGHUP came; everything was undone.
    Hangup = 129,
    /// 130: SIGINT.
    Interrupted = 130,
    /// 143: SIGTERM.
    Terminated = 143,
}

/// A refusal: one sentence of what, one of how to mend it, and details that may take many lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Decides the exit code.
    pub stage: Stage,
    /// What is refused, and where.
    pub what: String,
    /// How to mend it; empty when nothing can be said.
    pub hint: String,
    /// The kernel's words, a verifier log; may be empty.
    pub details: String,
}

impl Refusal {
    /// A refusal without details.
    pub fn new(stage: Stage, what: impl Into<String>, hint: impl Into<String>) -> Refusal {
        Refusal { stage, what: what.into(), hint: hint.into(), details: String::new() }
    }

    /// The same, saying first what it is about.
    pub fn about(mut self, subject: &str) -> Refusal {
        self.what = format!("{}: {}", subject.escape_debug(), self.what);
        self
    }

    /// With one more thing to do.
    pub fn and_hint(mut self, more: &str) -> Refusal {
        self.hint = if self.hint.is_empty() { more.to_owned() } else { format!("{}; {more}", self.hint) };
        self
    }

    /// `{"schema":"detour.error/1","code":4,"stage":"kernel","error":…,"hint":…,"details":…}`
    pub fn json(&self) -> serde_json::Value {
        let stage = match self.stage {
            Stage::No => "no",
            Stage::Usage => "usage",
            Stage::Object => "object",
            Stage::Kernel => "kernel",
            Stage::Permission => "permission",
            Stage::InTheWay => "in the way",
            Stage::Hangup | Stage::Interrupted | Stage::Terminated => "signal",
        };
        serde_json::json!({
            "schema": "detour.error/1", "code": self.stage as u8, "stage": stage,
            "error": self.what, "hint": self.hint, "details": self.details,
        })
    }

    /// A file that was named and cannot be read.
    pub fn unreadable(path: &str, error: &io::Error) -> Refusal {
        let hint = match error.kind() {
            ErrorKind::NotFound => "nothing has this name: look at 'ls', and from which folder it is named",
            ErrorKind::PermissionDenied => "run as somebody who may read it",
            ErrorKind::IsADirectory => "that is a folder: name a file in it",
            ErrorKind::NotADirectory => "a part of this path is a file: name the file itself",
            _ => "name a file that can be read",
        };
        Refusal::new(Stage::Usage, format!("{}: {error}", path.escape_debug()), hint)
    }

    /// A file that was named and cannot be written.
    pub fn unwritable(path: &str, error: &io::Error) -> Refusal {
        let hint = match (error.kind(), Path::new(path).parent()) {
            (ErrorKind::NotFound, Some(folder)) if !folder.as_os_str().is_empty() => {
                format!(
                    "its folder has to be there: mkdir -p {}",
                    folder.display().to_string().escape_debug()
                )
            }
            (ErrorKind::PermissionDenied, _) => "name one where this user may write".into(),
            (ErrorKind::IsADirectory, _) => "that is a folder: name a file in it".into(),
            (ErrorKind::NotADirectory, _) => "a part of this path is a file: name one in a folder".into(),
            _ => "name one where there is room, and that may be written".into(),
        };
        Refusal::new(Stage::Usage, format!("{} cannot be written: {error}", path.escape_debug()), hint)
    }

    pub(crate) fn name(name: &str) -> Refusal {
        let hint = "1 to 15 letters, digits, '_' or '-', not 'clsact…' and not ending in '-new'";
        Refusal::new(Stage::Usage, format!("'{name}' cannot name an instance"), hint)
    }

    pub(crate) fn exists(name: &str, device: &str) -> Refusal {
        let hint =
            format!("'detour unload {device} {name}' removes it; --name gives another one another name");
        Refusal::new(Stage::InTheWay, format!("{device} already has an instance '{name}'"), hint)
    }

    pub(crate) fn no_program(name: &str, object: &Object) -> Refusal {
        let names: Vec<&str> = object.programs.iter().map(|p| p.name.as_str()).collect();
        let hint = match names.is_empty() {
            true => "the object has no programs".to_string(),
            false => format!("it has: {}", names.join(", ")),
        };
        Refusal::new(Stage::Usage, format!("the object has no program '{name}'"), hint)
    }

    pub(crate) fn too_many_programs(count: usize, most: usize) -> Refusal {
        let hint = "load the rest under another --name";
        Refusal::new(Stage::Usage, format!("{count} programs in one instance; {most} is the most"), hint)
    }

    pub(crate) fn qdisc(kind: &str, device: &str) -> Refusal {
        let hint = match kind {
            "ingress" => format!(
                "it has no egress hook, and a filter for egress would land among its ingress filters; if nothing needs it: tc qdisc del dev {device} ingress"
            ),
            _ => format!("see 'tc qdisc show dev {device}'"),
        };
        Refusal::new(
            Stage::InTheWay,
            format!("a qdisc of kind '{kind}' sits where clsact belongs on {device}"),
            hint,
        )
    }

    pub(crate) fn place_taken(filter: &Filter, device: &str) -> Refusal {
        let (direction, prio, handle) = place(filter);
        let name = filter.bpf.as_ref().and_then(|b| b.name.as_deref()).unwrap_or("unnamed");
        let what = format!(
            "{direction} of {device}, priority {prio}, handle {handle:#x} holds a {} filter that is not ours ({name})",
            filter.kind
        );
        let hint = match name.starts_with("detour/") {
            true => {
                "a detour with another /sys/fs/bpf made it: run 'down' or 'unload' where that one is mounted"
            }
            false => "choose another place with --prio or --handle",
        };
        Refusal::new(Stage::InTheWay, what, hint)
    }

    pub(crate) fn prio_taken(filter: &Filter, device: &str) -> Refusal {
        let (direction, prio, _) = place(filter);
        let what = format!(
            "{direction} of {device}, priority {prio} belongs to {} filters for protocol {}",
            filter.kind,
            protocol_name(filter.place.protocol)
        );
        Refusal::new(
            Stage::InTheWay,
            what,
            "one priority holds one kind and protocol: choose another with --prio",
        )
    }

    pub(crate) fn shared_block(block: u32, device: &str) -> Refusal {
        let what = format!("the clsact qdisc of {device} uses the shared filter block {block}");
        let hint = "filters there belong to several devices: give this one a clsact of its own";
        Refusal::new(Stage::InTheWay, what, hint)
    }

    /// Of what two symbols of a plan stand for.
    pub(crate) fn same_pin(symbols: [&str; 2], pin: &str) -> Refusal {
        let [first, second] = symbols.map(|symbol| symbol.trim_start_matches('%').escape_debug().to_string());
        let what = format!("'{first}' and '{second}' of the object would both be pinned as '{pin}'");
        let hint = "names that differ in '.' and '_' only cannot be told apart in bpffs: give one of them another name";
        Refusal::new(Stage::Object, what, hint)
    }

    /// What nothing pins is found by ids.
    pub(crate) fn hidden(name: &str, device: &str) -> Refusal {
        let what = format!("'{name}' runs on {device} and is pinned nowhere here: it may not be looked at");
        Refusal::new(Stage::Permission, what, BY_ID)
    }

    /// Somebody put other programs in the place of those that a confined process has confined itself to.
    #[cfg(feature = "operate")]
    pub(crate) fn replaced(device: &str) -> Refusal {
        let what = format!(
            "other programs run on {device} now, and this process has confined itself to those before"
        );
        Refusal::new(Stage::Permission, what, "start it anew, as a service manager does")
    }

    /// At the end of a process that was to take down what it had put there.
    #[cfg(feature = "operate")]
    pub(crate) fn others_run(device: &str) -> Refusal {
        Refusal::new(Stage::InTheWay, format!("others have put other programs in place on {device}"), "")
    }

    /// `--original-dst` where nothing is pinned.
    pub(crate) fn unpinned_link() -> Refusal {
        let what = "--original-dst: the program in the cgroup is held by a link, which ends with this command unless it is \
            pinned";
        let hint = "--mount-bpffs mounts a BPF file system for the pin; where there can be none, \
            'detour orig tcp CLIENT SERVER' answers the same question";
        Refusal::new(Stage::Usage, what, hint)
    }

    /// Nothing of this name is on the device.
    pub fn nothing(name: &str, device: &str) -> Refusal {
        let hint = "'detour status' shows what is up in this network namespace";
        Refusal::new(Stage::No, format!("{device} has no instance '{name}'"), hint)
    }
}

/// Who may open a program or map by its id: `bpf_prog_get_fd_by_id()` in kernel/bpf/syscall.c.
pub(crate) const BY_ID: &str =
    "what nothing pins is opened by its id: that needs CAP_SYS_ADMIN, not CAP_BPF; who has it is \
    refused by lockdown, a seccomp filter or an LSM";

fn place(filter: &Filter) -> (&'static str, u16, u32) {
    let direction = if filter.place.parent == EGRESS { "egress" } else { "ingress" };
    (direction, filter.place.prio, filter.place.handle)
}

impl From<ObjectError> for Refusal {
    fn from(error: ObjectError) -> Refusal {
        let hint = match &error {
            ObjectError::Elf(_) => "compile with: clang -target bpfel -O2 -g -c, and strip with llvm-strip -g only",
            ObjectError::Btf { .. } => "compile with -g, and keep .BTF and .BTF.ext",
            ObjectError::Map { .. } => "see 'Map definitions' in the kernel's Documentation/bpf/libbpf",
            ObjectError::Insn { .. } => "compile with -mcpu=v3 or v4; 'detour inspect --disasm' shows what is around it",
            ObjectError::Relocation { .. } | ObjectError::Code { .. } => {
                "'detour inspect' shows what could be read; the C at that place needs what this loader does not link"
            }
            ObjectError::Section { .. } => "'llvm-readelf -S' shows the sections",
            ObjectError::Resolve { .. } => "this kernel does not have it: guard it in C, or load on one that has",
            ObjectError::Set { .. } => "VAR[.FIELD][[N]]=VALUE; 'detour inspect' lists the variables and their types",
        };
        Refusal::new(Stage::Object, error.to_string(), hint)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        if !self.details.is_empty() {
            write!(f, "\n{}", self.details.trim_end())?;
        }
        if !self.hint.is_empty() {
            write!(f, "\n  hint: {}", self.hint)?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}
