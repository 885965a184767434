// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `inspect FILE`: what an object holds, without a kernel and without a privilege.
use crate::cmd::{objects, Answer};
use crate::load::refusal::Refusal;
use crate::ui;
use clap::ArgMatches;

/// Reads the object and lists its programs, maps and variables; with `--disasm` the instructions instead.
pub fn inspect(args: &ArgMatches) -> Result<Answer, Refusal> {
    let named = match objects::open(args) {
        Ok(named) => named,
        #[cfg(feature = "compat")]
        Err(refusal) => return foreign(args).ok_or(refusal),
        #[cfg(not(feature = "compat"))]
        Err(refusal) => return Err(refusal),
    };
    #[cfg(feature = "audit")]
    if let Some((path, policy)) = crate::cmd::admit::policy(args)? {
        return judged(&path, &policy, &named);
    }
    let only: Vec<&String> = args.get_many("program").into_iter().flatten().collect();
    for name in &only {
        named.object.program(name).ok_or_else(|| Refusal::no_program(name, &named.object))?;
    }
    let disasm = args.get_flag("disasm");
    let text = match disasm {
        true => ui::inspect::listing(&named.object, &only),
        false => ui::inspect::text(&named.file, &named.object),
    };
    Ok(Answer::done(text, ui::inspect::json(&named.file, &named.object, disasm)))
}

/// What is in an object for the other byte order; nothing for every other file that was refused.
#[cfg(feature = "compat")]
fn foreign(args: &ArgMatches) -> Option<Answer> {
    let path = args.get_one::<String>("file")?;
    // All of these are about what is read of an object for this machine.
    let more = |name: &&str| matches!(args.try_contains_id(name), Ok(true));
    if args.get_flag("disasm") || ["set", "map-size", "program", "policy"].iter().any(more) {
        return None;
    }
    let found = crate::object::Foreign::parse(&objects::read(path).ok()?)?;
    let file = path.rsplit('/').next().unwrap_or_default();
    Some(Answer::done(ui::foreign::text(file, &found), ui::foreign::json(file, &found)))
}

/// What is against a policy, instead of what it holds. 1 if anything is.
#[cfg(feature = "audit")]
fn judged(
    path: &str,
    policy: &crate::audit::policy::Policy,
    named: &objects::Named,
) -> Result<Answer, Refusal> {
    use crate::cmd::admit;
    let found = admit::violations(policy, named)?;
    let text = match found.is_empty() {
        true => format!("{}: nothing is against the policy\n", ui::text::escape(&named.file)),
        false => admit::text(path, &found),
    };
    let json = serde_json::json!({"schema": "detour.policy/1", "file": named.file, "allowed": found.is_empty(),
        "violations": admit::json(&found)});
    Ok(Answer { text, json, code: u8::from(!found.is_empty()) })
}
