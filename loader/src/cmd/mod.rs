// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Parsed arguments to one answer: what each command does, over `load`, `dnat` and `ui`.
#[cfg(feature = "audit")]
mod admit;
mod anchors;
mod apply;
#[cfg(feature = "operate")]
mod asked;
mod attach;
mod check;
mod context;
#[cfg(feature = "demo")]
mod demo;
#[cfg(feature = "operate")]
mod doctor;
mod elements;
#[cfg(feature = "operate")]
mod events;
#[cfg(feature = "operate")]
mod flush;
mod in_place;
mod inspect;
mod list;
#[cfg(feature = "operate")]
mod listen;
#[cfg(feature = "operate")]
mod log;
mod look;
mod maps;
#[cfg(feature = "operate")]
mod metrics;
#[cfg(feature = "operate")]
mod names;
mod objects;
#[cfg(feature = "operate")]
mod original;
mod plan;
mod recorder;
#[cfg(feature = "operate")]
mod run;
mod select;
mod selection;
mod shadows;
#[cfg(feature = "watch")]
mod terminal;
mod test;
mod texts;
mod up;
mod verify;
#[cfg(feature = "watch")]
mod watch;
#[cfg(feature = "watch")]
mod watching;
mod words;

use crate::load::refusal::{Refusal, Stage};
use clap::ArgMatches;
pub use context::{Answer, Context};

/// Runs the command that was given.
pub fn run(matches: &ArgMatches) -> Result<Answer, Refusal> {
    let mut context = Context::new(matches)?;
    match matches.subcommand() {
        None => look::status(&mut context, None),
        Some(("status", args)) => look::status(&mut context, args.get_one("dev")),
        Some(("flows", args)) => look::flows(&mut context, args),
        Some(("asked", args)) => look::asked(&mut context, args),
        Some(("rules", args)) => look::rules(&mut context, args),
        Some(("up", args)) => up::up(&mut context, args),
        #[cfg(feature = "operate")]
        Some(("run", args)) => run::run(&mut context, args),
        Some(("down", args)) => up::down(&mut context, args),
        Some(("load", args)) => attach::load(&mut context, args),
        Some(("unload", args)) => attach::unload(&mut context, args),
        Some(("test", args)) => test::test(&mut context, args),
        Some(("map", args)) => maps::map(&mut context, args),
        Some(("list", args)) => list::list(&mut context, args),
        Some(("apply", args)) => apply::apply(&mut context, args),
        Some(("plan", args)) => plan::plan(&mut context, args),
        #[cfg(feature = "operate")]
        Some(("doctor", args)) => doctor::doctor(&mut context, args),
        #[cfg(feature = "operate")]
        Some(("events", args)) => events::events(&mut context, args),
        #[cfg(feature = "operate")]
        Some(("flush", args)) => flush::flush(&mut context, args),
        #[cfg(feature = "operate")]
        Some(("orig", args)) => original::original(&mut context, args),
        #[cfg(feature = "watch")]
        Some(("watch", args)) => watch::watch(&mut context, args),
        #[cfg(feature = "operate")]
        Some(("metrics", args)) => metrics::metrics(&mut context, args),
        #[cfg(feature = "demo")]
        Some(("demo", args)) => demo::demo(args),
        Some(("check", args)) => check::check(args),
        Some(("inspect", args)) => inspect::inspect(args),
        Some(("verify", args)) => verify::verify(&mut context, args),
        Some((other, _)) => Err(Refusal::new(Stage::Usage, format!("no command '{other}'"), "")),
    }
}
