// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A site's policy, one rule a line, and an object to what in the object is against it.
//!
//! ```text
//! # what programs may do here
//! helper   allow map_lookup_elem map_update_elem skb_*
//! helper   deny  probe_* trace_printk
//! kfunc    allow                          # none at all
//! map      allow hash array lru_hash
//! attach   allow ingress egress           # and tcx-ingress, tcx-egress
//! licence  allow "Dual MIT/GPL" GPL
//! instructions max 4096                   # of each program, subprograms included
//! programs max 4
//! maps     max 16
//! entries  max 100000                     # of each map
//! bytes    max 16000000                   # keys and values of all maps together, for all CPUs of this machine
//! ```
//! A word that ends in `*` stands for all that begin so. What is denied is denied; where there is an `allow`, everything
//! else is; a subject without a line may be anything. What is said of maps holds for those inside maps of maps.

use super::size::{self, Machine};
use crate::object::{helper, Object, Origin, Program, CALL};

/// What a policy can speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Helper,
    Kfunc,
    Map,
    Attach,
    Licence,
    Instructions,
    Programs,
    Maps,
    Entries,
    Bytes,
}

const SUBJECTS: [(&str, Subject); 10] = [
    ("helper", Subject::Helper),
    ("kfunc", Subject::Kfunc),
    ("map", Subject::Map),
    ("attach", Subject::Attach),
    ("licence", Subject::Licence),
    ("instructions", Subject::Instructions),
    ("programs", Subject::Programs),
    ("maps", Subject::Maps),
    ("entries", Subject::Entries),
    ("bytes", Subject::Bytes),
];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    Allow(Vec<String>),
    Deny(Vec<String>),
    Max(u64),
}

/// A policy as read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The line it stands on, from 1, and what it says.
    rules: Vec<(usize, Subject, Rule)>,
}

/// Something that is against a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The policy's line, from 1.
    pub line: usize,
    /// What it is about: `program lab`, `map flows`, `object`.
    pub about: String,
    /// What it does, and where in its source.
    pub what: String,
}

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    /// `LINE: what is wrong`, the first one.
    pub fn parse(text: &str) -> Result<Policy, String> {
        let mut rules = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let words = words(line).map_err(|what| format!("{number}: {what}"))?;
            let fault = |what: &str| format!("{number}: {what}");
            let (Some(subject), verb) = (words.first(), words.get(1).map(String::as_str)) else { continue };
            let known = SUBJECTS.iter().find(|(name, _)| name == subject).map(|(_, subject)| *subject);
            let subject = known.ok_or_else(|| {
                let names: Vec<&str> = SUBJECTS.iter().map(|(name, _)| *name).collect();
                fault(&format!("'{}' is none of {}", subject.escape_debug(), names.join(", ")))
            })?;
            let rest = words.get(2..).unwrap_or_default().to_vec();
            let counted = SUBJECTS.iter().skip(5).any(|(_, s)| *s == subject);
            let rule = match (counted, verb, rest.as_slice()) {
                (false, Some("allow"), _) => Rule::Allow(rest),
                (false, Some("deny"), [_, ..]) => Rule::Deny(rest),
                (true, Some("max"), [number]) => {
                    Rule::Max(number.parse().map_err(|_| fault("after max comes one number"))?)
                }
                (false, ..) => return Err(fault("'allow NAME...' or 'deny NAME...' has to follow")),
                (true, ..) => return Err(fault("'max NUMBER' has to follow")),
            };
            rules.push((number, subject, rule));
        }
        Ok(Policy { rules })
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Everything in the object that is against it on this machine. `map_type` names the numbers of map types; the object is
    /// as parsed, before a kernel has filled its externs.
    pub fn violations(
        &self,
        object: &Object,
        map_type: &dyn Fn(u32) -> String,
        on: Machine,
    ) -> Vec<Violation> {
        let mut found = Vec::new();
        let mut tell = |line: Option<usize>, about: &str, what: String| {
            found.extend(line.map(|line| Violation { line, about: about.to_string(), what }));
        };
        let licence = object.license.as_str();
        tell(self.named(Subject::Licence, licence), "object", format!("has the licence '{licence}'"));
        let programs = object.programs.len();
        tell(self.counted(Subject::Programs, programs as u64), "object", format!("has {programs} programs"));
        let maps = object.maps.len();
        tell(self.counted(Subject::Maps, maps as u64), "object", format!("has {maps} maps"));
        for program in &object.programs {
            let about = format!("program {}", program.name);
            let count = program.insns.len();
            let what = format!("has {count} instructions");
            tell(self.counted(Subject::Instructions, count as u64), &about, what);
            for (insn, number) in calls(program) {
                let name = helper(number).unwrap_or_else(|| format!("bpf_{number}"));
                let short = name.strip_prefix("bpf_").unwrap_or(&name);
                let what = format!("calls {name}{}", place(object, program, insn));
                tell(self.named(Subject::Helper, short), &about, what);
            }
            for reference in &program.externs {
                let Some(wanted) = object.externs.get(reference.wanted) else { continue };
                if wanted.origin == Origin::Function {
                    let what = format!("calls {}{}", wanted.name, place(object, program, reference.insn));
                    tell(self.named(Subject::Kfunc, &wanted.name), &about, what);
                }
            }
        }
        // A template is no map, but what it is the template of will be.
        for map in object.maps.iter().flat_map(|map| [Some(map), map.inner.as_deref()]).flatten() {
            let about = format!("map {}", map.name);
            let kind = map_type(map.map_type);
            tell(self.named(Subject::Map, &kind), &about, format!("is of type {kind}"));
            let entries = u64::from(map.max_entries);
            tell(self.counted(Subject::Entries, entries), &about, format!("has {entries} entries"));
        }
        let sizes = object.maps.iter().map(|map| size::bytes(map, map_type, on));
        let bytes = sizes.fold(0, u64::saturating_add);
        tell(self.counted(Subject::Bytes, bytes), "object", format!("has maps of {bytes} bytes"));
        found
    }

    /// What is against it in attaching a program at one of `ingress`, `egress`, `tcx-ingress`, `tcx-egress`.
    pub fn attaching(&self, program: &str, hook: &str) -> Option<Violation> {
        let line = self.named(Subject::Attach, hook)?;
        Some(Violation { line, about: format!("program {program}"), what: format!("is for {hook}") })
    }

    /// The line that forbids this name.
    fn named(&self, subject: Subject, name: &str) -> Option<usize> {
        let about = || self.rules.iter().filter(|(_, of, _)| *of == subject);
        let has = |names: &[String]| names.iter().any(|pattern| matches(pattern, name));
        let denied = about().find(|(.., rule)| matches!(rule, Rule::Deny(names) if has(names)));
        let mut allows = about().filter(|(.., rule)| matches!(rule, Rule::Allow(_)));
        let allowed = about().any(|(.., rule)| matches!(rule, Rule::Allow(names) if has(names)));
        let unlisted = if allowed { None } else { allows.next() };
        denied.or(unlisted).map(|(line, ..)| *line)
    }

    /// The line that this number is too great for.
    fn counted(&self, subject: Subject, number: u64) -> Option<usize> {
        let over = |rule: &Rule| matches!(rule, Rule::Max(most) if number > *most);
        self.rules.iter().find(|(_, of, rule)| *of == subject && over(rule)).map(|(line, ..)| *line)
    }
}

/// Words between blanks, up to `#`; one in double quotes may hold blanks.
fn words(line: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next().filter(|c| *c != '#') {
        let (word, after) = match first {
            '"' => rest.get(1..).and_then(|r| r.split_once('"')).ok_or("a quote that does not end")?,
            _ => rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len())),
        };
        words.push(word.to_string());
        rest = after.trim_start();
    }
    Ok(words)
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => pattern == name,
    }
}

/// Instructions that call a helper, and its number; each helper once.
fn calls(program: &Program) -> Vec<(usize, i32)> {
    let mut found: Vec<(usize, i32)> = Vec::new();
    for (at, insn) in program.insns.iter().enumerate() {
        if insn.code == CALL && insn.src() == 0 && !found.iter().any(|(_, number)| *number == insn.imm) {
            found.push((at, insn.imm));
        }
    }
    found
}

fn place(object: &Object, program: &Program, insn: usize) -> String {
    object.source(program, insn).map(|source| format!(", {source}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Machine = Machine { cpus: 1, page: 4096 };

    fn told_of(object: &[u8], policy: &str, on: Machine) -> Vec<String> {
        let (object, policy) = (Object::parse(object).unwrap(), Policy::parse(policy).unwrap());
        let kinds = ["", "hash", "array", "prog_array", "", "", "percpu_array"];
        let kind = |n: u32| kinds.get(n as usize).unwrap_or(&"other").to_string();
        let all = policy.violations(&object, &kind, on);
        all.iter().map(|v| format!("{}: {} {}", v.line, v.about, v.what)).collect()
    }

    fn told(policy: &str) -> Vec<String> {
        told_of(include_bytes!("../../../elf/trace.bpf.o"), policy, ONE)
    }

    #[test]
    fn what_is_denied_and_what_is_not_allowed() {
        assert_eq!(told(""), Vec::<String>::new());
        assert_eq!(
            told("helper deny trace_* # no\n"),
            told("\nhelper deny trace_printk").iter().map(|t| t.replacen('2', "1", 1)).collect::<Vec<_>>()
        );
        let denied = told("helper deny trace_printk");
        assert!(
            denied.iter().all(|t| t.starts_with("1: program trace calls bpf_trace_printk, "))
                && denied.len() == 1
        );
        assert!(denied[0].contains("trace.bpf.c:"), "{denied:?}");
        assert!(!told("helper allow").is_empty());
        assert_eq!(told("helper allow map_lookup_elem trace_printk skb_load_bytes *"), Vec::<String>::new());
        assert_eq!(told("licence allow GPL"), ["1: object has the licence 'Dual MIT/GPL'"]);
        assert_eq!(told("licence allow GPL \"Dual MIT/GPL\""), Vec::<String>::new());
        // A percpu array for the line, and the read-only data.
        assert_eq!(told("map allow array"), ["1: map line is of type percpu_array"]);
        assert_eq!(told("maps max 1\nmaps max 2"), ["1: object has 2 maps"]);
        assert_eq!(told("programs max 0\nprograms max 1"), ["1: object has 1 programs"]);
        assert_eq!(told("entries max 0"), ["1: map line has 1 entries", "1: map .rodata has 1 entries"]);
        assert_eq!(told("entries max 1"), Vec::<String>::new());
        let count =
            Object::parse(include_bytes!("../../../elf/trace.bpf.o")).unwrap().programs[0].insns.len();
        let most = |n: usize| told(&format!("instructions max {n}"));
        assert_eq!(most(count - 1), [format!("1: program trace has {count} instructions")]);
        assert_eq!(most(count), Vec::<String>::new());
        assert_eq!(told("bytes max 103"), ["1: object has maps of 104 bytes"]);
        assert_eq!(told("bytes max 104"), Vec::<String>::new());
        // A line of 64 bytes for each CPU; its key, and .rodata of 4 + 32, are there once.
        let trace = include_bytes!("../../../elf/trace.bpf.o");
        let eight = Machine { cpus: 8, ..ONE };
        assert_eq!(told_of(trace, "bytes max 551", eight), ["1: object has maps of 552 bytes"]);
    }

    #[test]
    fn maps_inside_maps_are_maps() {
        let maps = include_bytes!("../../../elf/fixtures/maps.bpf.o");
        let told = |policy: &str| told_of(maps, policy, ONE);
        let inside = told("map deny array").iter().any(|line| line == "1: map outer.inner is of type array");
        assert!(inside, "{:?}", told("map deny array"));
        assert!(told("entries max 0").contains(&"1: map outer.inner has 1 entries".to_string()));
        // 12 + (32 + 3 * 12) + 24 + 24 + 176 + 12, see audit/size.rs.
        assert_eq!(told("bytes max 315"), ["1: object has maps of 316 bytes"]);
        assert_eq!(told("bytes max 316"), Vec::<String>::new());
    }

    #[test]
    fn attach_points() {
        let policy = Policy::parse("attach allow ingress egress\nattach deny egress").unwrap();
        let line = |hook| policy.attaching("p", hook).map(|v| v.line);
        assert_eq!([line("ingress"), line("egress"), line("tcx-ingress")], [None, Some(2), Some(1)]);
    }

    #[test]
    fn faults_say_where() {
        for (text, words) in [
            ("\nhelpers allow x", "2: 'helpers' is none of helper, kfunc"),
            ("helper max 3", "1: 'allow NAME...'"),
            ("helper deny", "1: 'allow NAME...'"),
            ("maps allow x", "1: 'max NUMBER'"),
            ("maps max x", "1: after max"),
            ("licence allow \"x", "1: a quote"),
        ] {
            let fault = Policy::parse(text).unwrap_err();
            assert!(fault.starts_with(words), "{fault}");
        }
    }
}
