// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Parsed arguments back to the words that mean them, so that a plan can name the command that it is of.
use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

/// The words of a command, from its name on: what was given on the command line, options before positions.
pub fn words(tree: &Command, path: &[&str], args: &ArgMatches) -> Vec<String> {
    let mut words: Vec<String> = path.iter().map(|name| (*name).to_string()).collect();
    let Some(command) = path.iter().try_fold(tree, |command, name| command.find_subcommand(name)) else {
        return words;
    };
    let mut positions = Vec::new();
    for arg in command.get_arguments() {
        let id = arg.get_id().as_str();
        let given = args.try_contains_id(id).unwrap_or(false)
            && args.value_source(id) == Some(ValueSource::CommandLine);
        if !given || arg.is_global_set() {
            continue;
        }
        let values = args.get_raw(id).into_iter().flatten().map(|v| v.to_string_lossy().into_owned());
        match arg.get_long() {
            None => positions.extend(values),
            Some(long) if arg.get_action().takes_values() => {
                words.extend(values.map(|value| format!("--{long}={value}")));
            }
            Some(long) => words.push(format!("--{long}")),
        }
    }
    // What begins with a dash is a value here, whatever it looks like.
    if positions.iter().any(|value| value.starts_with('-')) {
        words.push("--".to_string());
    }
    words.extend(positions);
    words
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    #[test]
    fn words_mean_what_was_said() {
        let tree = crate::ui::cli::command();
        for line in [
            "up eth0",
            "up --prio=7 --pickup eth0 a.rules",
            "up --rule=tcp\u{a0}drop --rule=drop eth0",
            "load --egress=f --set=a=1 --set=b=2 @drop eth0",
            "unload eth0 -- -x",
        ] {
            let line: Vec<&str> = line.split(' ').collect();
            let matches = tree.clone().try_get_matches_from([&["detour"], &line[..]].concat()).unwrap();
            let (name, args) = matches.subcommand().unwrap();
            let mut sorted = super::words(&tree, &[name], args);
            let mut expect: Vec<String> = line.iter().map(|w| (*w).to_string()).collect();
            sorted.sort();
            expect.sort();
            assert_eq!(sorted, expect);
        }
    }
}
