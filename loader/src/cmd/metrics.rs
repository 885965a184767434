// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `metrics [DEV]`: what is up as numbers for Prometheus, on stdout or into a file that is replaced as a whole.
use crate::cmd::{look, Answer, Context};
use crate::load::file::replace;
use crate::load::refusal::Refusal;
use crate::ui;
use clap::ArgMatches;

/// Reads and writes; that nothing is up is no error, for a collector runs all the time.
pub fn metrics(context: &mut Context, args: &ArgMatches) -> Result<Answer, Refusal> {
    let (all, _) = look::all(context, args.get_one("dev"))?;
    let (mut text, json) = (ui::metrics::text(&all), ui::metrics::json(&all));
    if let Some(path) = args.get_one::<String>("file") {
        replace(path, &text).map_err(|e| Refusal::unwritable(path, &e))?;
        text.clear();
    }
    Ok(Answer::done(text, json))
}
