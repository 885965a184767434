// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The `detour` program: arguments in, one answer out, its exit code.
#![forbid(unsafe_code)]
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let matches = detour::ui::cli::command().get_matches();
    let (json, pretty) = (matches.get_flag("json") || matches.get_flag("pretty"), matches.get_flag("pretty"));
    let quiet = matches.get_flag("quiet");
    match detour::cmd::run(&matches) {
        Ok(answer) => {
            let text = match json {
                true => detour::ui::json::document(&answer.json, pretty),
                false if quiet => String::new(),
                false => answer.text,
            };
            // A closed pipe is the reader's choice.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::from(answer.code)
        }
        Err(refusal) => {
            let text = match json {
                true => detour::ui::json::document(&refusal.json(), pretty),
                false => format!("detour: {refusal}\n"),
            };
            let _ = std::io::stderr().write_all(text.as_bytes());
            ExitCode::from(refusal.stage as u8)
        }
    }
}
