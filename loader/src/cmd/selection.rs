// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The words of MATCH to a selection, or a message with the line and a caret.
use crate::dnat::diagnostic::Diagnostic;
use crate::dnat::selection::Selection;
use crate::load::refusal::{Refusal, Stage};
use crate::ui::excerpt::excerpt;
use clap::ArgMatches;

/// What MATCH chooses of flows.
pub fn selection(args: &ArgMatches) -> Result<Selection, Refusal> {
    Selection::parse(&words(args)).map_err(refuse)
}

/// What MATCH chooses of rows of `asked`.
pub fn for_asked(args: &ArgMatches) -> Result<Selection, Refusal> {
    Selection::parse_for_asked(&words(args)).map_err(refuse)
}

/// What one text chooses of flows.
#[cfg(feature = "operate")]
pub fn selected(text: &str) -> Result<Selection, Refusal> {
    Selection::parse(text).map_err(refuse)
}

/// MATCH as one text.
pub fn words(args: &ArgMatches) -> String {
    let words: Vec<&str> =
        args.get_many::<String>("match").into_iter().flatten().map(String::as_str).collect();
    words.join(" ")
}

/// What is wrong with it.
pub fn refuse(fault: Box<Diagnostic>) -> Refusal {
    let hint =
        "conditions are those of rules, such as: tcp dport 80 ip saddr 10.0.0.0/8; detour.rules(5) has them";
    let refusal = Refusal::new(Stage::Usage, "a fault in the conditions", hint);
    Refusal { details: excerpt(&fault), ..refusal }
}
