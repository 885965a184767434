// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The command line: every command and option, and nothing else. One file a group of commands.
mod args;
mod check;
mod limits;
mod load;
mod run;
mod see;

use args::flag;
use clap::builder::PossibleValuesParser;
use clap::{Arg, Command};
use std::ffi::OsString;

/// The whole command line.
pub fn command() -> Command {
    root().subcommands(COMMANDS.iter().map(|(_, make)| make()))
}

/// The part of it that understands these arguments: one command when the first word names it, all of them otherwise. Most
/// of what a short command costs would be descriptions of others.
pub fn command_for(args: &[OsString]) -> Command {
    let named = |(name, _): &&(&str, Make)| args.get(1).is_some_and(|word| word == name);
    match COMMANDS.iter().find(named) {
        Some((_, make)) => root().subcommand(make()),
        None => command(),
    }
}

fn root() -> Command {
    Command::new("detour")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Redirects what arrives on an interface to a local server, and shows what was asked for")
        .after_help(EXIT_STATUS)
        .subcommand_required(false)
        .args(global())
}

type Make = fn() -> Command;

/// Every command, in the order of the help.
const COMMANDS: &[(&str, Make)] = &[
    ("up", || args::recorded(run::up())),
    ("down", || args::recorded(run::down())),
    ("status", see::status),
    ("asked", see::asked),
    ("flows", see::flows),
    ("rules", see::rules),
    ("load", || args::recorded(load::load())),
    ("unload", || args::recorded(load::unload())),
    ("list", load::list),
    ("plan", check::plan),
    ("apply", || args::recorded(check::apply())),
    ("check", check::check),
    ("map", load::map),
    ("inspect", check::inspect),
    ("test", || args::recorded(check::test())),
    ("verify", check::verify),
    #[cfg(feature = "operate")]
    ("run", || args::recorded(run::run())),
    #[cfg(feature = "operate")]
    ("flush", || args::recorded(run::flush())),
    #[cfg(feature = "operate")]
    ("orig", see::orig),
    #[cfg(feature = "operate")]
    ("events", see::events),
    #[cfg(feature = "operate")]
    ("metrics", see::metrics),
    #[cfg(feature = "operate")]
    ("doctor", see::doctor),
    #[cfg(feature = "watch")]
    ("watch", see::watch),
    #[cfg(feature = "demo")]
    ("demo", run::demo),
];

const EXIT_STATUS: &str = "\
Exit status: 0 done or yes, 1 no, 2 usage or rules, 3 object refused, 4 kernel refused,
5 not permitted, 6 something that is not ours is in the way";

fn global() -> [Arg; 6] {
    [
        Arg::new("netns")
            .short('n')
            .long("netns")
            .value_name("NAME|PATH")
            .help("Work in this network namespace (needs CAP_SYS_ADMIN)"),
        flag("json", "One JSON document on stdout, errors as JSON on stderr").short('j'),
        flag("pretty", "Indented JSON").short('p'),
        Arg::new("color")
            .long("color")
            .value_name("WHEN")
            .value_parser(PossibleValuesParser::new(["auto", "always", "never"]))
            .default_value("auto")
            .help("Colours"),
        flag("verbose", "Show each step as it is made, and whole verifier logs").short('v'),
        flag("quiet", "Errors only").short('q').conflicts_with("verbose"),
    ]
    .map(|arg| arg.global(true))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_tree_is_consistent() {
        super::command().debug_assert();
    }

    #[test]
    fn one_command_alone_says_the_same_as_in_the_tree() {
        for (name, make) in super::COMMANDS {
            assert_eq!(make().get_name(), *name);
            for more in ["--help", "--no-such-option"] {
                let line = ["detour", name, more].map(std::ffi::OsString::from);
                let said =
                    |tree: clap::Command| tree.try_get_matches_from(&line).map_err(|e| e.to_string()).err();
                assert!(said(super::command()).is_some_and(|text| text.contains(name)), "{line:?}");
                assert_eq!(said(super::command_for(&line)), said(super::command()), "{line:?}");
            }
        }
    }
}
