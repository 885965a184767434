// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Parsed arguments back to the words that mean them, so that a plan can name the command that it is of.
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, ValueHint};

/// The words of a command, from its name on: what was given on the command line, options before positions. They mean the same
/// in every folder: paths are whole.
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
        let values = args.get_raw(id).into_iter().flatten().map(|v| whole(arg, &v.to_string_lossy()));
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

/// The value of an argument; of one that is a path, the path from the root on. `@name` is an object inside this program.
fn whole(arg: &Arg, value: &str) -> String {
    match arg.get_value_hint() {
        ValueHint::AnyPath if value.starts_with('@') => value.to_string(),
        ValueHint::AnyPath | ValueHint::FilePath | ValueHint::DirPath => absolute(value),
        _ => value.to_string(),
    }
}

/// A path from the root on, wherever this runs; links are not followed.
pub fn absolute(path: &str) -> String {
    std::path::absolute(path).map_or_else(|_| path.to_string(), |whole| whole.to_string_lossy().into_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    #[test]
    fn words_mean_what_was_said() {
        let tree = crate::ui::cli::command();
        for line in [
            "up eth0",
            "up --prio=7 --pickup eth0 /a.rules",
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

    /// Which arguments are paths is said where they are declared.
    #[test]
    fn every_file_has_its_hint() {
        let tree = crate::ui::cli::command();
        let plan = tree.find_subcommand("plan").unwrap();
        let set = plan.find_subcommand("map").and_then(|map| map.find_subcommand("set"));
        for command in plan.get_subcommands().chain(set) {
            for arg in command.get_arguments() {
                let name =
                    arg.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str());
                let is_path = ["FILE", "DIR", "RULES"].contains(&name) || arg.get_id() == "require-signature";
                let hint = arg.get_value_hint();
                assert_eq!(
                    is_path,
                    hint != clap::ValueHint::Unknown,
                    "{} {}",
                    command.get_name(),
                    arg.get_id()
                );
            }
        }
    }

    #[test]
    fn paths_are_whole() {
        let tree = crate::ui::cli::command();
        let here = std::env::current_dir().unwrap();
        let words = |line: &[&str]| {
            let matches = tree.clone().try_get_matches_from([&["detour"], line].concat()).unwrap();
            let (name, args) = matches.subcommand().unwrap();
            super::words(&tree, &[name], args).pop().unwrap()
        };
        assert_eq!(words(&["up", "eth0", "a.rules"]), here.join("a.rules").to_str().unwrap());
        assert_eq!(words(&["up", "eth0", "@rules"]), here.join("@rules").to_str().unwrap());
        assert_eq!(words(&["load", "eth0", "eth0"]), "eth0", "a device is no path");
    }
}
