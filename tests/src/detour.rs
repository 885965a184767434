// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The program under test: where it is, and what it says when it is run in a namespace.
use crate::netns::Netns;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// Exit codes: what a caller can rely on.
pub mod code {
    /// Done, or yes.
    pub const DONE: i32 = 0;
    /// No: a difference, or nothing is up.
    pub const NO: i32 = 1;
    /// Wrong usage or rules; nothing was touched.
    pub const USAGE: i32 = 2;
    /// The object is refused.
    pub const OBJECT: i32 = 3;
    /// The kernel refused.
    pub const KERNEL: i32 = 4;
    /// Not permitted.
    pub const PERMISSION: i32 = 5;
    /// Something that is not ours is in the way.
    pub const FOREIGN: i32 = 6;
}

/// The built program: `$DETOUR`, or what cargo builds from these sources now.
pub fn path() -> &'static PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        if let Some(path) = std::env::var_os("DETOUR") {
            return std::fs::canonicalize(&path).unwrap_or_else(|error| panic!("DETOUR={path:?}: {error}"));
        }
        let here = env!("CARGO_MANIFEST_DIR");
        let build = ["build", "--quiet", "--package", "detour", "--message-format", "json"];
        let output = Command::new(env!("CARGO")).args(build).current_dir(here).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let messages = String::from_utf8(output.stdout).unwrap();
        let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut programs = messages.filter_map(|message| message["executable"].as_str().map(PathBuf::from));
        programs.next().expect("cargo says where it put the program")
    })
}

/// A copy of the program that can be run at once. Another process writes it: what this one has open for writing is open
/// in each child that another thread starts at that moment, and no program runs that anybody writes (ETXTBSY).
pub fn copy(to: &Path) {
    assert!(Command::new("cp").arg(path()).arg(to).status().unwrap().success(), "cp to {}", to.display());
}

/// A command line of the program.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(path());
    command.args(arguments).env("NO_COLOR", "1").env_remove("COLUMNS");
    command
}

/// What a run of the program left behind.
#[derive(Clone, Debug)]
pub struct Run {
    /// The command line, for messages.
    pub line: String,
    /// Exit code; None when killed.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs the program inside `ns`.
pub fn run(ns: &Netns, arguments: &[&str]) -> Run {
    let output = ns.output(&mut command(arguments));
    Run::of(arguments, &output)
}

impl Run {
    /// The outcome of a command that ran the program with `arguments`.
    pub fn of(arguments: &[&str], output: &Output) -> Run {
        Run {
            line: format!("detour {}", arguments.join(" ")),
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// It has to have ended with `code`.
    #[track_caller]
    pub fn ends(self, code: i32) -> Run {
        assert_eq!(self.code, Some(code), "{}\nstdout: {}\nstderr: {}", self.line, self.stdout, self.stderr);
        self
    }

    /// It has to have ended well.
    #[track_caller]
    pub fn done(self) -> Run {
        self.ends(code::DONE)
    }

    /// It has to have failed with `code`, printed nothing on stdout, and said all of `words` in its message.
    #[track_caller]
    pub fn refused(self, code: i32, words: &[&str]) -> Run {
        let run = self.ends(code);
        assert_eq!(run.stdout, "", "{}: an error prints nothing on stdout", run.line);
        for word in words {
            assert!(run.stderr.contains(word), "{}: {word:?} is not in:\n{}", run.line, run.stderr);
        }
        assert!(!run.stderr.contains("panicked"), "{}:\n{}", run.line, run.stderr);
        run
    }

    /// Standard output as one JSON document with a `schema`.
    #[track_caller]
    pub fn json(&self) -> Value {
        let document: Value = serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{}: {error}\n{}\n{}", self.line, self.stdout, self.stderr));
        assert!(!document["schema"].is_null(), "{}: no schema in {document}", self.line);
        document
    }
}

/// `detour ARGUMENTS -j`, which has to succeed: its document.
#[track_caller]
pub fn json(ns: &Netns, arguments: &[&str]) -> Value {
    run(ns, &[arguments, &["-j"]].concat()).done().json()
}

/// `detour up DEVICE REST`, which has to succeed.
#[track_caller]
pub fn up(ns: &Netns, device: &str, rest: &[&str]) -> Run {
    run(ns, &[&["up", device], rest].concat()).done()
}
