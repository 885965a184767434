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

/// The whole command line.
pub fn command() -> Command {
    let command = Command::new("detour")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Redirects what arrives on an interface to a local server, and shows what was asked for")
        .after_help(EXIT_STATUS)
        .subcommand_required(false)
        .args(global())
        .subcommand(args::recorded(run::up()))
        .subcommand(args::recorded(run::down()))
        .subcommand(see::status())
        .subcommand(see::asked())
        .subcommand(see::flows())
        .subcommand(see::rules())
        .subcommand(args::recorded(load::load()))
        .subcommand(args::recorded(load::unload()))
        .subcommand(load::list())
        .subcommand(check::plan())
        .subcommand(args::recorded(check::apply()))
        .subcommand(check::check())
        .subcommand(load::map())
        .subcommand(check::inspect())
        .subcommand(args::recorded(check::test()))
        .subcommand(check::verify());
    #[cfg(feature = "operate")]
    let command = command
        .subcommand(run::run())
        .subcommand(args::recorded(run::flush()))
        .subcommand(see::orig())
        .subcommand(see::events())
        .subcommand(see::metrics())
        .subcommand(see::doctor());
    #[cfg(feature = "demo")]
    let command = command.subcommand(run::demo());
    command
}

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
}
