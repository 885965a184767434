// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `metrics [DEV]`: what is up as numbers for Prometheus, on stdout or into a file that is replaced as a whole.
use crate::cmd::{look, Answer, Context};
use crate::load::refusal::{Refusal, Stage};
use crate::ui;
use clap::ArgMatches;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

/// Reads and writes; that nothing is up is no error, for a collector runs all the time.
pub fn metrics(context: &mut Context, args: &ArgMatches) -> Result<Answer, Refusal> {
    let (all, _) = look::all(context, args.get_one("dev"))?;
    let (mut text, json) = (ui::metrics::text(&all), ui::metrics::json(&all));
    if let Some(path) = args.get_one::<String>("file") {
        replace(path, &text).map_err(|e| {
            Refusal::new(
                Stage::Usage,
                format!("{}: {e}", path.escape_debug()),
                "a file in a folder that is there",
            )
        })?;
        text.clear();
    }
    Ok(Answer::done(text, json))
}

/// Writes beside the file, then renames: a reader sees the old one or the new one, never a part.
pub fn replace(path: &str, text: &str) -> io::Result<()> {
    let path = Path::new(path);
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    // The textfile collector reads *.prom only. What a killed process left is in the way of a new file, and a link that
    // somebody else put there is not followed.
    let beside = path.with_file_name(format!(".{name}.new"));
    let _ = std::fs::remove_file(&beside);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&beside)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        // What cannot be removed could not be made either.
        let _ = std::fs::remove_file(&beside);
    }
    written
}
