// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! An object and the options of `load` to the programs that are meant, their hooks, and what is left out.
use crate::load::refusal::{Refusal, Stage};
use crate::load::tc::{EGRESS, INGRESS};
use crate::object::{Object, Program, ProgramKind};
use crate::ui::text::escape;
use clap::ArgMatches;
use serde_json::{json, Value};

/// The programs and their hooks, egress first: as asked, or as the section names say, or the only program at ingress.
pub fn hooks(object: &Object, args: &ArgMatches) -> Result<Vec<(String, u32)>, Refusal> {
    let asked = |option: &str, parent: u32| {
        let names = args.get_many::<String>(option).into_iter().flatten();
        names.map(|name| (name.clone(), parent)).collect::<Vec<_>>()
    };
    let hooks = [asked("egress", EGRESS), asked("ingress", INGRESS)].concat();
    if !hooks.is_empty() {
        for (name, _) in &hooks {
            named(object, name, args)?;
        }
        return Ok(hooks);
    }
    let programs: Vec<&Program> = classifiers(object).collect();
    let parent = |section: &str| match section.rsplit('/').next() {
        Some("egress") => Some(EGRESS),
        Some("ingress") => Some(INGRESS),
        _ => None,
    };
    // Programs for netkit are of the same type, but its own hooks are another place than the one they would get here.
    if let Some(netkit) = programs.iter().find(|p| p.section.starts_with("netkit/")) {
        let (name, section) = (escape(&netkit.name), escape(&netkit.section));
        let what =
            format!("'{name}' in section '{section}' is for a hook of netkit devices, which is not served");
        let hint = "say --ingress FUNC or --egress FUNC to run it at a device's own hooks";
        return Err(Refusal::new(Stage::Usage, what, hint));
    }
    match programs.as_slice() {
        [] => Err(no_classifier(object)),
        [only] => Ok(vec![(only.name.clone(), parent(&only.section).unwrap_or(INGRESS))]),
        many => {
            let hinted = |p: &&Program| Some((p.name.clone(), parent(&p.section)?));
            let mut hooks: Vec<_> = many.iter().filter_map(hinted).collect();
            if hooks.len() != many.len() {
                let names: Vec<String> = many.iter().map(|p| escape(&p.name)).collect();
                let hint = format!("say --ingress FUNC or --egress FUNC; it has: {}", names.join(", "));
                let what = format!("the object has {} tc programs", many.len());
                return Err(Refusal::new(Stage::Usage, what, hint));
            }
            hooks.sort_by_key(|(_, parent)| *parent != EGRESS);
            Ok(hooks)
        }
    }
}

/// For a dry run: the programs named by `--program`, or all that load by themselves.
pub fn programs(object: &Object, args: &ArgMatches) -> Result<Vec<String>, Refusal> {
    let asked: Vec<&String> = ["program", "egress", "ingress"]
        .iter()
        .flat_map(|o| args.try_get_many(o).ok().flatten().into_iter().flatten())
        .collect();
    for name in &asked {
        named(object, name, args)?;
    }
    if !asked.is_empty() {
        return Ok(asked.into_iter().cloned().collect());
    }
    let all: Vec<String> = classifiers(object).map(|p| p.name.clone()).collect();
    if all.is_empty() {
        return Err(no_classifier(object));
    }
    Ok(all)
}

/// A program that was asked for by name: it has to be for tc, or `--type` has to say that it is.
fn named(object: &Object, name: &str, args: &ArgMatches) -> Result<(), Refusal> {
    let program = object.program(name).ok_or_else(|| Refusal::no_program(name, object))?;
    if program.kind != ProgramKind::SchedCls && !args.contains_id("type") {
        let section = escape(&program.section);
        let what = format!("'{}' in section '{section}' is not a tc program", escape(name));
        let hint = "tc programs live in sections classifier, tc, tcx/…; --type sched_cls loads it as one";
        return Err(Refusal::new(Stage::Object, what, hint));
    }
    Ok(())
}

/// The tc programs that load by themselves.
fn classifiers(object: &Object) -> impl Iterator<Item = &Program> {
    object.programs.iter().filter(|p| p.kind == ProgramKind::SchedCls && p.autoload)
}

fn no_classifier(object: &Object) -> Refusal {
    let name = |p: &Program| format!("{} ({})", escape(&p.name), escape(&p.section));
    let programs: Vec<String> = object.programs.iter().map(name).collect();
    let hint = match programs.is_empty() {
        true => "it holds no program at all".to_string(),
        false => format!(
            "it has: {}; name one by --ingress, --egress or --program, and with --type sched_cls",
            programs.join(", ")
        ),
    };
    Refusal::new(Stage::Object, "the object has no tc program that loads by itself", hint)
}

/// The programs that were neither asked for nor are needed by those that were.
pub fn skipped<'a>(object: &'a Object, chosen: &[String]) -> Vec<&'a Program> {
    let loaded = crate::load::create::loaded(object, chosen);
    object.programs.iter().filter(|p| !loaded.iter().any(|l| l.name == p.name)).collect()
}

/// One line each.
pub fn skipped_text(programs: &[&Program]) -> String {
    let line = |p: &&Program| format!("{}: skipped, {}\n", escape(&p.name), escape(&why(p)));
    programs.iter().map(line).collect()
}

/// `[{"name":…,"why":…}]`
pub fn skipped_json(programs: &[&Program]) -> Vec<Value> {
    programs.iter().map(|p| json!({"name": p.name, "section": p.section, "why": why(p)})).collect()
}

fn why(program: &Program) -> String {
    match (program.kind, program.autoload) {
        (ProgramKind::Unknown, _) => format!("section '{}' is not for tc", program.section),
        (ProgramKind::SchedCls, false) => format!("section '{}' loads only when named", program.section),
        (ProgramKind::SchedCls, true) => "not asked for".to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_program_for_netkit_goes_nowhere_unless_told() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../elf/fixtures/names.bpf.o");
        let mut object = Object::parse(&std::fs::read(path).unwrap()).unwrap();
        object.programs.retain(|p| p.name == "netkit_primary");
        let hooks = |more: &[&str]| {
            let line = [&["detour", "load", "names.bpf.o", "eth0"], more].concat();
            let matches = crate::ui::cli::command().try_get_matches_from(line).unwrap();
            super::hooks(&object, matches.subcommand().unwrap().1)
        };
        assert!(hooks(&[]).unwrap_err().to_string().contains("netkit devices"));
        assert_eq!(hooks(&["--egress", "netkit_primary"]), Ok(vec![("netkit_primary".to_owned(), EGRESS)]));
    }
}
