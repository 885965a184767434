// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What `exec` reports to a file, an object a line as it happens: a transcript of what was really done.
use crate::load::exec::Report;
use crate::load::plan_json;
use crate::load::refusal::{Refusal, Stage};
use serde_json::{json, Value};
use std::fs::File;
use std::io::Write;

/// `detour.transcript/1`.
#[derive(Debug)]
pub struct Recorder {
    path: String,
    file: File,
    fault: Option<std::io::Error>,
}

impl Recorder {
    /// Makes the file and writes its first line.
    ///
    /// # Errors
    /// Before anything is done: a transcript that was asked for is part of the command.
    pub fn create(path: &str) -> Result<Recorder, Refusal> {
        let file = File::create(path).map_err(|e| refuse(path, &e, Stage::Usage))?;
        let mut recorder = Recorder { path: path.to_string(), file, fault: None };
        recorder.line(&json!({"schema": "detour.transcript/1", "version": env!("CARGO_PKG_VERSION")}));
        recorder.check()?;
        Ok(recorder)
    }

    /// One step, or one undo of a step.
    pub fn record(&mut self, report: &Report<'_>) {
        let line = match report {
            Report::Done(n, step, answer) => {
                json!({"step": n, "effect": plan_json::effect(&step.effect), "outcome": "done",
                    "answer": answer.to_string()})
            }
            Report::Failed(n, step, failure) => json!({
                "step": n, "effect": plan_json::effect(&step.effect), "outcome": "failed",
                "answer": failure.cause.to_string(),
            }),
            Report::Undone(n, effect, error) => json!({
                "step": n, "effect": plan_json::effect(effect),
                "outcome": if error.is_none() { "undone" } else { "undo failed" },
                "answer": error.map(ToString::to_string).unwrap_or_default(),
            }),
        };
        self.line(&line);
    }

    fn line(&mut self, line: &Value) {
        // In one write: a run that is killed leaves whole lines.
        if let Err(error) = self.file.write_all(format!("{line}\n").as_bytes()) {
            self.fault.get_or_insert(error);
        }
    }

    /// Whether all of it could be written.
    ///
    /// # Errors
    /// The first write that failed.
    pub fn check(&mut self) -> Result<(), Refusal> {
        match self.fault.take() {
            None => Ok(()),
            Some(error) => Err(refuse(&self.path, &error, Stage::Kernel)),
        }
    }
}

fn refuse(path: &str, error: &std::io::Error, stage: Stage) -> Refusal {
    let refusal = Refusal::unwritable(path, error);
    Refusal { stage, what: format!("the transcript {}", refusal.what), ..refusal }
}
