// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A process that has everything open that it needs -> one that can do nothing else: no capability that its task does not
//! need, no new ones, and a filter of system calls made of the table in [`super::allowed`]. There is no way back.
use crate::load::allowed::{Allowed, Only, Task, DOWN, LISTEN, RUN, TABLE};
use crate::load::held;
use crate::load::places::Places;
use crate::load::plan::Plan;
use crate::load::refusal::{Refusal, Stage};
use crate::load::step::Effect;
use caps::{CapSet, Capability};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use std::collections::{BTreeMap, BTreeSet};

/// A process that is confined to a task.
#[derive(Clone, Debug)]
pub struct Confined {
    task: Task,
    /// Capabilities that it kept, each with the reason.
    pub kept: Vec<(Capability, &'static str)>,
    /// How many system calls it may make.
    pub calls: usize,
    /// Which files it may change, in words.
    pub files: String,
}

/// Confines this thread, which has to be the only one, on a kernel of this version; it may change files in `places`.
///
/// # Errors
/// What the kernel refused. Capabilities may be gone by then.
pub fn confine(task: Task, version: (u32, u32), places: &Places) -> Result<Confined, Refusal> {
    let kept = kept(task, version, nix::unistd::geteuid().is_root());
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        let hint = "--no-confine runs without";
        Refusal::new(Stage::Kernel, format!("{what}: {error}"), if task & RUN == 0 { "" } else { hint })
    };
    // While it may still open folders and speak of them.
    let files = places.confine().map_err(|e| failed("Landlock", &e))?;
    let have = caps::read(None, CapSet::Permitted).map_err(|e| failed("capget", &e))?;
    let kept: Vec<_> = kept.into_iter().filter(|(capability, _)| have.contains(capability)).collect();
    let wanted = kept.iter().map(|(capability, _)| *capability).collect();
    // First of all the effective ones: they may be no more than the permitted ones.
    let set = caps::set(None, CapSet::Effective, &wanted)
        .and_then(|()| caps::set(None, CapSet::Permitted, &wanted))
        .and_then(|()| caps::clear(None, CapSet::Inheritable))
        .and_then(|()| caps::clear(None, CapSet::Ambient));
    set.map_err(|e| failed("capset", &e))?;
    let filter = filter(task).map_err(|e| failed("the filter of system calls", &e))?;
    // Sets no_new_privs too, without which the kernel takes no filter from a process without CAP_SYS_ADMIN.
    seccompiler::apply_filter(&filter).map_err(|e| failed("seccomp", &e))?;
    let names: BTreeSet<&str> = lines(task).filter(|line| line.number.is_some()).map(|l| l.name).collect();
    Ok(Confined { task, kept, calls: names.len(), files })
}

/// Capabilities that the task needs, each with the reason.
pub fn kept(task: Task, version: (u32, u32), root: bool) -> Vec<(Capability, &'static str)> {
    let mut kept = Vec::new();
    // What is mapped is read without asking.
    if version < (5, 19) && task & LISTEN == 0 {
        kept.push((Capability::CAP_BPF, "before Linux 5.19 look-ups need it"));
    }
    if task & DOWN != 0 {
        kept.push((Capability::CAP_NET_ADMIN, "--down-on-exit detaches"));
    }
    if !root {
        kept.push((Capability::CAP_DAC_OVERRIDE, "/sys/fs/bpf belongs to root"));
    }
    kept
}

fn lines(task: Task) -> impl Iterator<Item = &'static Allowed> {
    TABLE.iter().filter(move |line| line.tasks & task != 0)
}

/// The table as a program for the kernel; what it does not have kills the process.
pub fn filter(task: Task) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let mut any = BTreeSet::new();
    for line in lines(task) {
        let Some(number) = line.number else { continue };
        let one = |at, op, value| SeccompCondition::new(at, SeccompCmpArgLen::Dword, op, value);
        let condition = |at: u8, op: SeccompCmpOp, value: u64| SeccompRule::new(vec![one(at, op, value)?]);
        let rules = rules.entry(number).or_default();
        match line.only {
            Only::Any => drop(any.insert(number)),
            Only::OneOf(at, values) => {
                for (_, value) in values {
                    rules.push(condition(at, SeccompCmpOp::Eq, *value)?);
                }
            }
            Only::Itself(at, values) => {
                for (_, value) in values {
                    let own = one(0, SeccompCmpOp::Eq, std::process::id().into())?;
                    rules.push(SeccompRule::new(vec![own, one(at, SeccompCmpOp::Eq, *value)?])?);
                }
            }
            Only::Without(at, _, bits) => rules.push(condition(at, SeccompCmpOp::MaskedEq(bits), 0)?),
        }
    }
    // No conditions are no rule to this crate: the call is allowed.
    any.iter().for_each(|number| drop(rules.insert(*number, Vec::new())));
    let arch = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, arch)?.try_into()
}

impl Confined {
    /// Whether each step of the plan is one that the filter lets through: it is asked first, for the filter kills.
    ///
    /// # Errors
    /// The first step that is not.
    pub fn permits(&self, plan: &Plan) -> Result<(), Refusal> {
        let commands: Vec<u64> = lines(self.task)
            .filter(|line| line.name == "bpf")
            .flat_map(|line| match line.only {
                Only::OneOf(_, commands) => commands,
                _ => &[],
            })
            .map(|(_, number)| *number)
            .collect();
        let forbidden = plan.steps.iter().find(|step| match &step.effect {
            Effect::Bpf(bpf) => !commands.contains(&bpf.command.number.into()) && !held::has(bpf),
            Effect::Netlink(_) | Effect::Unlink(_) | Effect::Rmdir(_) => self.task & DOWN == 0,
            _ => true,
        });
        let Some(step) = forbidden else { return Ok(()) };
        let what = match &step.effect {
            Effect::Bpf(bpf) => bpf.command.name,
            Effect::Netlink(_) => "a message to rtnetlink",
            _ => "a change in /sys/fs/bpf",
        };
        let hint = "start it anew, as a service manager does; --no-confine lets it load";
        let what = format!("programs have to be loaded anew, and this process has confined itself ({what})");
        Err(Refusal::new(Stage::Permission, what, hint))
    }

    /// One line of what is left.
    pub fn text(&self) -> String {
        let kept: Vec<String> = self.kept.iter().map(|(name, why)| format!("{name} ({why})")).collect();
        let kept = if kept.is_empty() { "no capability".to_string() } else { kept.join(", ") };
        format!(
            "confined to {kept} and {} system calls, bpf(2) to elements of maps that are there; changes {}",
            self.calls, self.files
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::allowed::{EVENTS, METRICS, TASKS, WATCH};
    use crate::load::step::Bpf;
    use detour_sys::commands;

    #[test]
    fn every_task_has_a_filter() {
        for (task, name) in TASKS {
            let alone = [EVENTS, RUN, WATCH, LISTEN].contains(&task);
            let task = if alone { task } else { task | RUN };
            let length = filter(task).unwrap().len();
            assert!(length > 30 && length < 4096, "{name}: {length}");
        }
        assert!(filter(EVENTS).unwrap().len() < filter(RUN).unwrap().len());
        assert!(filter(RUN).unwrap().len() < filter(RUN | METRICS | DOWN).unwrap().len());
    }

    #[test]
    fn no_line_twice_and_none_without_a_reason() {
        for (n, line) in TABLE.iter().enumerate() {
            assert!(!line.reason.is_empty() && line.tasks != 0, "{}", line.name);
            let twice = |other: &&Allowed| other.name == line.name && other.tasks & line.tasks != 0;
            assert!(TABLE[..n].iter().find(twice).is_none(), "{}", line.name);
        }
    }

    #[test]
    fn a_plan_that_loads_is_refused_before_the_filter_kills() {
        let confined = |task| Confined { task, kept: Vec::new(), calls: 1, files: String::new() };
        let plan = |effect: Effect| Plan { steps: vec![effect.into()], notes: Vec::new() };
        let bpf = |command| plan(Effect::Bpf(Bpf::new(command, Vec::new())));
        for command in commands::COMMANDS {
            let element = command.is_element();
            // All of a confined process's maps that it reads whole are hash maps.
            let element = element && command.name != "MAP_GET_NEXT_KEY";
            let looks = ["OBJ_GET", "OBJ_GET_INFO_BY_FD"].contains(&command.name);
            let answer = confined(RUN).permits(&bpf(command));
            assert_eq!(answer.is_ok(), element || looks, "{}", command.name);
            let changes = command.name == "MAP_DELETE_ELEM";
            let answer = confined(WATCH).permits(&bpf(command));
            assert_eq!(answer.is_ok(), (element || looks) && !changes, "{}", command.name);
            assert!(confined(LISTEN).permits(&bpf(command)).is_err(), "{}", command.name);
            let answer = confined(EVENTS).permits(&bpf(command));
            let walks = command.name == "MAP_LOOKUP_BATCH";
            assert_eq!(answer.is_ok(), (element || looks) && !changes && !walks, "{}", command.name);
        }
        let refusal = confined(RUN).permits(&bpf(&commands::PROG_LOAD)).unwrap_err();
        assert!(refusal.what.contains("PROG_LOAD") && refusal.stage == Stage::Permission);
        let rmdir = plan(Effect::Rmdir("/sys/fs/bpf/detour/x".into()));
        assert!(confined(RUN | METRICS).permits(&rmdir).is_err());
        assert!(confined(RUN | DOWN).permits(&rmdir).is_ok());
        assert!(confined(RUN | DOWN).permits(&plan(Effect::Mkdir("/sys/fs/bpf/x".into()))).is_err());
    }

    #[test]
    fn what_is_kept_has_a_reason() {
        assert_eq!(kept(RUN, (6, 18), true), []);
        let names =
            |kept: Vec<(Capability, &str)>| kept.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(kept(EVENTS, (5, 18), true)), [Capability::CAP_BPF]);
        assert_eq!(names(kept(RUN | DOWN, (6, 1), true)), [Capability::CAP_NET_ADMIN]);
        assert_eq!(names(kept(WATCH, (6, 1), false)), [Capability::CAP_DAC_OVERRIDE]);
    }
}
