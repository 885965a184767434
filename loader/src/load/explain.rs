// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A failed step to a refusal: which call, the kernel's words, which capability or setting is missing, the exit code.
use crate::load::exec::{Cause, Failure};
use crate::load::plan::Plan;
use crate::load::refusal::{Refusal, Stage, BY_ID};
use crate::load::shape_hint::shape_hint;
use crate::load::step::{Arg, Effect, Expect};
use crate::load::{lacks, sockopt, tc, tcx, transcript};
use crate::object::{Object, Program};
use detour_sys::commands;
use nix::errno::Errno;
use nix::sys::signal::Signal;
use std::io;

/// Lines of a verifier log that are shown; the whole one with `verbose`.
const LAST_LINES: usize = 12;

/// Of what could not be undone.
const CLEARS: &str =
    "what is left is cleared by the next 'up', 'down', 'load' or 'unload' of this device, once the kernel lets it";

/// Explains why a plan failed. Everything done before was undone, except for what `failure.left` has.
///
/// ```no_run
/// # let (plan, object) = (detour::load::plan::Plan::default(), None);
/// use detour::load::{exec, explain, netlink::Socket};
///
/// let symbols = exec::run(&plan, &mut Socket::open()?, &mut |_| {})
///     .map_err(|failure| explain::explain(&plan, &failure, object, false))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn explain(plan: &Plan, failure: &Failure, object: Option<&Object>, verbose: bool) -> Refusal {
    let index = failure.number.saturating_sub(1);
    let Some(step) = plan.steps.get(index) else {
        return Refusal::new(Stage::Kernel, format!("step {} failed", failure.number), "");
    };
    let call = short(&step.effect);
    let mut refusal = match &failure.cause {
        Cause::Netlink(error) => {
            let stage = stage_of(Some(error.errno));
            Refusal::new(stage, format!("{call}: {error}"), tc::hint(error).unwrap_or_default())
        }
        Cause::Os(error) => {
            let stage = match step.expect == Some(Expect::Element) && is(error, Errno::ENOENT) {
                true => Stage::No,
                false => stage_of(error.raw_os_error()),
            };
            Refusal::new(stage, format!("{call}: {error}"), os_hint(&step.effect, error))
        }
        Cause::Unexpected(text) => Refusal::new(Stage::Kernel, format!("{call}: {text}"), ""),
        Cause::Signal(signal) => {
            let stage = match signal {
                Signal::SIGTERM => Stage::Terminated,
                Signal::SIGHUP => Stage::Hangup,
                _ => Stage::Interrupted,
            };
            Refusal::new(stage, format!("{signal} before {call}: what had been done was undone"), "")
        }
        Cause::Verifier(error, log) => verifier(&call, &step.effect, error, log, object, verbose),
    };
    if !failure.left.lines.is_empty() {
        let left = failure.left.lines.join("\n  ");
        refusal.details.push_str(&format!("\nwhat could not be undone:\n  {left}"));
    }
    if failure.left.clearable {
        let and = if refusal.hint.is_empty() { "" } else { "; " };
        refusal.hint.push_str(&format!("{and}{CLEARS}"));
    }
    refusal
}

fn stage_of(errno: Option<i32>) -> Stage {
    match errno.map(Errno::from_raw) {
        Some(Errno::EPERM | Errno::EACCES) => Stage::Permission,
        Some(Errno::EEXIST) => Stage::InTheWay,
        _ => Stage::Kernel,
    }
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno as i32)
}

/// The effect without its arguments, enough to find it in the plan.
pub(super) fn short(effect: &Effect) -> String {
    match effect {
        Effect::Bpf(call) => {
            let name = ["prog_name", "map_name", "pathname", "map_fd", "prog_fd"].iter().find_map(|n| {
                match call.arg(n)? {
                    Arg::Text(text) | Arg::Fd(text) => Some(text.as_str()),
                    _ => None,
                }
            });
            format!("{} {}", call.command.name, name.unwrap_or_default()).trim_end().to_string()
        }
        Effect::Netlink(message) => {
            let at = message.fields.number("tcm_parent").map(direction).unwrap_or_default();
            format!("netlink{at}")
        }
        Effect::Store(store) => format!("mmap {}", store.map),
        other => transcript::effect(other),
    }
}

fn direction(parent: u32) -> &'static str {
    match parent {
        tc::INGRESS => " (ingress filter)",
        tc::EGRESS => " (egress filter)",
        tc::CLSACT => " (clsact qdisc)",
        _ => "",
    }
}

fn os_hint(effect: &Effect, error: &io::Error) -> String {
    let errno = error.raw_os_error().map(Errno::from_raw);
    let hint = match (effect, errno) {
        (Effect::Bpf(call), Some(Errno::EPERM)) if call.command.name.ends_with("_BY_ID") => BY_ID,
        (Effect::Bpf(call), Some(Errno::EPERM)) => return lacks::refused(call),
        (Effect::Bpf(_), Some(Errno::ENOSYS)) => "this kernel has no bpf(2): CONFIG_BPF_SYSCALL",
        (Effect::Bpf(call), Some(errno)) if call.command == &commands::LINK_CREATE => {
            match call.arg("target_fd") {
                Some(_) => sockopt::hint(errno),
                None => tcx::hint(errno),
            }
        }
        (Effect::Store(_), Some(Errno::EPERM | Errno::EACCES)) => {
            "its values are fixed when it is loaded: 'detour load --replace --set VAR=VALUE …'"
        }
        (Effect::Store(_), Some(Errno::EINVAL)) => {
            "the map was made without BPF_F_MMAPABLE: load the object anew"
        }
        (Effect::Bpf(call), Some(Errno::EINVAL)) if call.command == &commands::MAP_DELETE_ELEM => {
            "an array has all of its elements always ('detour map set' writes zeros into one), a queue or stack has no keys, and a prefix is no longer than its key"
        }
        (Effect::Bpf(call), Some(Errno::EINVAL)) => shape_hint(call),
        (Effect::Bpf(call), Some(Errno::E2BIG)) if call.command == &commands::MAP_CREATE => {
            "the map is larger than the kernel allows: fewer or smaller entries"
        }
        (Effect::Bpf(_), Some(Errno::ENOMEM)) => {
            "not enough memory for it: fewer entries, or a larger memory limit"
        }
        (Effect::MountBpffs(_) | Effect::Unmount(_), Some(Errno::EPERM)) => {
            "needs CAP_SYS_ADMIN; where nothing can be mounted: up --no-pin"
        }
        (Effect::MountBpffs(_), Some(Errno::ENOENT)) => "mount sysfs on /sys, or say up --no-pin",
        (Effect::MountBpffs(_), Some(Errno::ENODEV)) => "this kernel has no bpffs: CONFIG_BPF_SYSCALL",
        (Effect::Memlock, Some(Errno::EPERM)) => "needs CAP_SYS_RESOURCE, or a higher 'ulimit -l'",
        (Effect::OpenDir { .. }, Some(_)) => "--original-dst=CGROUP names the folder of a cgroup",
        (_, Some(Errno::EPERM | Errno::EACCES)) => {
            "needs to own /sys/fs/bpf (root), or CAP_DAC_OVERRIDE, and CAP_FOWNER for folders of root's there"
        }
        (Effect::Rename { .. }, Some(Errno::EEXIST | Errno::ENOTEMPTY)) => "another detour was faster",
        (Effect::Exchange { .. }, Some(Errno::EINVAL)) => {
            "a BPF file system swaps folders from Linux 5.16 on: take down what runs, then start anew"
        }
        (_, Some(Errno::EROFS)) => "the BPF file system is mounted read-only here",
        _ => "",
    };
    hint.to_string()
}

/// What the verifier minds only of those without CAP_PERFMON (`allow_ptr_leaks` in kernel/bpf/verifier.c). Linux 5.10 says the
/// third of a look whether a packet has ended.
const MINDED: [&str; 4] =
    ["!root", "attempt to corrupt spilled pointer", "pointer comparison prohibited", "leaks addr"];

/// What is too much: of those without CAP_PERFMON the verifier also follows what a processor does by speculation
/// (`bypass_spec_v1` there).
const TOO_MUCH: [&str; 2] = ["jumps is too complex", "BPF program is too large"];

fn verifier(
    call: &str,
    effect: &Effect,
    error: &io::Error,
    log: &[u8],
    object: Option<&Object>,
    verbose: bool,
) -> Refusal {
    // Foreign text: what the object's author wrote comes back in it.
    let log = String::from_utf8_lossy(log);
    let clean = |line: &str| line.chars().map(printable).collect::<String>();
    let lines: Vec<String> = log.lines().map(clean).filter(|l| !l.trim().is_empty()).collect();
    let says = |all: &[&str]| all.iter().any(|words| log.contains(*words));
    let denied = says(&MINDED) || (says(&TOO_MUCH) && lacks::lacks(lacks::PERFMON));
    let errno = error.raw_os_error().map(Errno::from_raw);
    let unsigned = errno.filter(|_| lines.is_empty()).and_then(|errno| signature(effect, errno));
    let (stage, hint) = match errno {
        _ if denied => (Stage::Permission, "needs CAP_PERFMON, or root".to_string()),
        Some(Errno::EPERM) => (Stage::Permission, os_hint(effect, error)),
        _ if log.contains("GPL-restricted") || log.contains("GPL-compatible") => {
            let license = object.map_or("", |o| o.license.as_str());
            (
                Stage::Kernel,
                format!(
                    "the object's license is \"{}\", which the kernel does not count as GPL",
                    license.escape_debug()
                ),
            )
        }
        _ if unsigned.is_some() => (Stage::Kernel, unsigned.unwrap_or_default().to_string()),
        _ if matches!(effect, Effect::Bpf(call) if call.command == &commands::BTF_LOAD) => (
            Stage::Kernel,
            "--no-btf loads the object without its types, if its maps can do without".to_string(),
        ),
        Some(Errno::ENOSPC) => {
            (Stage::Kernel, "its log does not fit 16 MiB; --log-level 4 alone is short".to_string())
        }
        _ => (Stage::Kernel, String::new()),
    };
    let mut refusal = Refusal::new(stage, format!("{call}: the kernel refused it: {error}"), hint);
    // Who asked for a log wants all of it.
    let asked = matches!(effect, Effect::Bpf(call) if call.arg("log_buf").is_some());
    let shown = if verbose || asked { lines.len() } else { LAST_LINES };
    let skipped = lines.len().saturating_sub(shown);
    if skipped > 0 {
        refusal.details = format!("  ({skipped} lines before; -v shows them)\n");
    }
    for line in lines.iter().skip(skipped) {
        refusal.details.push_str(&format!("  {line}\n"));
    }
    if let Some((object, program, insn)) = blamed(effect, &lines, object) {
        let clean = |text: &str| text.chars().map(printable).collect::<String>();
        if let Some((_, why)) = program.poisoned.iter().find(|(at, _)| *at == insn) {
            refusal.details.push_str(&format!("  {}\n", clean(why)));
        }
        if let Some(source) = object.source(program, insn) {
            refusal.details.push_str(&format!("  at {}\n", clean(&source.to_string())));
        }
    }
    refusal
}

/// What the kernel may mind of the signature that a program is loaded with.
#[cfg(feature = "audit")]
fn signature(effect: &Effect, errno: Errno) -> Option<&'static str> {
    match effect {
        Effect::Bpf(call) if call.arg("signature").is_some() => crate::load::signed::hint(errno),
        _ => None,
    }
}

#[cfg(not(feature = "audit"))]
fn signature(_: &Effect, _: Errno) -> Option<&'static str> {
    None
}

/// Foreign text must not move the cursor.
fn printable(c: char) -> char {
    if c.is_control() {
        ' '
    } else {
        c
    }
}

/// The last instruction that the log talks about (`17: (79) r1 = …`).
fn blamed<'a>(
    effect: &Effect,
    lines: &[String],
    object: Option<&'a Object>,
) -> Option<(&'a Object, &'a Program, usize)> {
    let Effect::Bpf(call) = effect else { return None };
    let Some(Arg::Text(name)) = call.arg("prog_name") else { return None };
    let object = object?;
    let program = object.programs.iter().find(|p| p.name.starts_with(name.as_str()))?;
    let number = |line: &String| line.split_once(": (")?.0.trim().parse::<usize>().ok();
    Some((object, program, lines.iter().rev().find_map(number)?))
}

#[cfg(all(test, feature = "operate"))]
mod tests {
    use super::*;
    use crate::load::step::Bpf;
    use crate::load::undo::Left;
    use caps::{CapSet, Capability};

    /// Needs CAP_PERFMON to begin with, as all that loads programs does.
    #[test]
    fn what_is_too_much_is_a_matter_of_permission_without_cap_perfmon() {
        let call = Bpf::new(&commands::PROG_LOAD, vec![("prog_name", Arg::Text("big".into()))]);
        let plan = Plan { steps: vec![Effect::Bpf(call).into()], notes: Vec::new() };
        let stage = |log: &str| {
            let cause = Cause::Verifier(Errno::EFAULT.into(), log.into());
            explain(&plan, &Failure { number: 1, cause, left: Left::default() }, None, false).stage
        };
        let (much, wrong) = ("The sequence of 8193 jumps is too complex.\n", "R1 !read_ok\n");
        assert_eq!([stage(much), stage(wrong)], [Stage::Kernel; 2]);
        // Of this thread. perfmon_capable() of the kernel takes either of both.
        caps::drop(None, CapSet::Effective, Capability::CAP_PERFMON).unwrap();
        assert_eq!([stage(much), stage(wrong)], [Stage::Kernel; 2]);
        caps::drop(None, CapSet::Effective, Capability::CAP_SYS_ADMIN).unwrap();
        assert_eq!([stage(much), stage(wrong)], [Stage::Permission, Stage::Kernel]);
    }
}
