// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `inspect FILE`: what an object holds, without a kernel and without a privilege.
use crate::cmd::{objects, Answer};
use crate::load::refusal::Refusal;
use crate::ui;
use clap::ArgMatches;

/// Reads the object and lists its programs, maps and variables; with `--disasm` the instructions instead.
pub fn inspect(args: &ArgMatches) -> Result<Answer, Refusal> {
    let named = objects::open(args)?;
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
