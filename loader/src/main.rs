// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The `detour` program: arguments in, one answer out, its exit code.
#![forbid(unsafe_code)]
use detour::load::refusal::{Refusal, Stage};
use std::io::Write;
use std::process::ExitCode;

/// Most requests of a command are answered without the C library, and without a system call.
#[global_allocator]
static HEAP: detour_sys::Heap = detour_sys::Heap::new();

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    let mut command = detour::ui::cli::command_for(&args);
    let matches = command.try_get_matches_from_mut(args);
    // It is needed no more, and a quarter of all memory that a load takes.
    drop(command);
    let matches = match matches {
        Ok(matches) => matches,
        Err(error) => return usage(&error),
    };
    let (json, pretty) = (matches.get_flag("json") || matches.get_flag("pretty"), matches.get_flag("pretty"));
    let quiet = matches.get_flag("quiet");
    let answer = detour::cmd::run(&matches);
    std::mem::forget(matches);
    match answer {
        Ok(answer) => {
            let text = match json {
                true => detour::ui::json::document(&answer.json, pretty),
                false if quiet => String::new(),
                false => answer.text,
            };
            match std::io::stdout().write_all(text.as_bytes()) {
                // A closed pipe is the reader's choice.
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                    let _ = writeln!(std::io::stderr(), "detour: it is done, but cannot be written: {error}");
                    ExitCode::from(Stage::Kernel as u8)
                }
                _ => ExitCode::from(answer.code),
            }
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

/// What clap has to say: help and version on stdout, faults on stderr, as JSON when `-j` or `-p` was among the arguments;
/// help is text.
fn usage(error: &clap::Error) -> ExitCode {
    let short = |a: &str, letter: char| a.starts_with('-') && !a.starts_with("--") && a.contains(letter);
    let given = |long: &str, letter: char| std::env::args().skip(1).any(|a| a == long || short(&a, letter));
    let pretty = given("--pretty", 'p');
    let json = given("--json", 'j') || pretty;
    if error.use_stderr() && json {
        let text = error.render().to_string();
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let what = lines.next().unwrap_or_default().trim_start_matches("error: ").to_string();
        let hint = lines.collect::<Vec<_>>().join("; ");
        let refusal = Refusal::new(Stage::Usage, what, hint);
        let _ = std::io::stderr().write_all(detour::ui::json::document(&refusal.json(), false).as_bytes());
        return ExitCode::from(Stage::Usage as u8);
    }
    let verbose = given("--verbose", 'v');
    if error.kind() == clap::error::ErrorKind::DisplayVersion && (json || verbose) {
        let text = match json {
            true => detour::ui::json::document(&detour::ui::version::json(verbose), pretty),
            false => detour::ui::version::text(),
        };
        let _ = std::io::stdout().write_all(text.as_bytes());
        return ExitCode::SUCCESS;
    }
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}
