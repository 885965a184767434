// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `check RULES`: rules read and written again as they are understood, with what can never match.
use crate::cmd::{shadows, Answer};
use crate::dnat::parse::{self, Source};
use crate::dnat::rules::Rule;
use crate::dnat::shadow;
use crate::load::refusal::{Refusal, Stage};
use crate::ui::excerpt::excerpts;
use clap::ArgMatches;
use serde_json::json;

/// Reads the rules and answers with their canonical text; what can never match says so in a comment.
pub fn check(args: &ArgMatches) -> Result<Answer, Refusal> {
    let rules = rules(args)?;
    let found = shadow::shadows_anywhere(&rules, shadows::ANY);
    let sentences = shadows::sentences(args, &rules, &found);
    let lines: Vec<String> = rules.iter().map(Rule::to_string).collect();
    let comment = |index: usize| sentences.iter().find(|(rule, _)| *rule == index).map(|(_, text)| text);
    let line = |(index, line): (usize, &String)| match comment(index) {
        Some(text) => format!("{line}  # {text}\n"),
        None => format!("{line}\n"),
    };
    let text = lines.iter().enumerate().map(line).collect();
    let undecided: Vec<usize> = found.undecided.iter().map(|rule| rule.saturating_add(1)).collect();
    let json = json!({"schema": "detour.check/1", "rules": lines, "never_match": shadows::json(&found),
        "undecided": undecided});
    Ok(Answer::done(text, json))
}

/// The rules of the RULES file and of every `--rule`, in this order; without any, `redirect`.
pub fn rules(args: &ArgMatches) -> Result<Vec<Rule>, Refusal> {
    let path = args.get_one::<String>("rules");
    let file = match path {
        Some(path) => Some((path.as_str(), std::fs::read(path).map_err(|e| Refusal::unreadable(path, &e))?)),
        None => None,
    };
    let given: Vec<&String> = args.get_many::<String>("rule").into_iter().flatten().collect();
    let names: Vec<String> = (1..=given.len()).map(|n| format!("--rule {n}")).collect();
    let mut sources: Vec<Source<'_>> = file.iter().map(|(name, text)| Source { name, text }).collect();
    sources.extend(names.iter().zip(given).map(|(name, rule)| Source { name, text: rule.as_bytes() }));
    if sources.is_empty() {
        sources.push(Source { name: "default", text: b"redirect" });
    }
    parse::parse(&sources).map_err(|faults| {
        let count = match faults.len() {
            1 => "a fault in the rules".to_string(),
            n => format!("{n} faults in the rules"),
        };
        Refusal {
            details: excerpts(&faults),
            ..Refusal::new(
                Stage::Usage,
                count,
                "detour.rules(5) has the language; 'detour check' tries a file",
            )
        }
    })
}
