// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What was asked for, as wanted: `--sort`, `--top`, `--since`, `--by`, and as `--chart`, `--svg` or `--csv`.
use crate::cmd::Answer;
use crate::dnat::asked::{Asked, Others};
use crate::dnat::ranking::{self, By, Choice, Sort, Sum};
use crate::load::refusal::{Refusal, Stage};
use crate::ui::chart;
use crate::ui::paper::Paper;
use crate::ui::{self, sums};
use clap::ArgMatches;
use std::time::Duration;

/// All that there is, read from the maps.
#[derive(Debug)]
pub struct All {
    /// The device.
    pub device: String,
    /// Rows.
    pub rows: Vec<Asked>,
    /// What has no row of its own.
    pub others: Vec<Others>,
    /// Of the rules in force.
    pub generation: u32,
    /// Since 1970.
    pub now: Duration,
}

/// The answer that was wanted.
pub fn answer(all: All, args: &ArgMatches, paper: &Paper) -> Result<Answer, Refusal> {
    let word = |name: &str| args.get_one::<String>(name).map(String::as_str);
    let (json, csv, chart) = (is_json(args), args.get_flag("csv"), args.get_flag("chart"));
    let to_stdout = word("svg") == Some("-");
    let printed = [(json, "-j"), (csv, "--csv"), (chart, "--chart"), (to_stdout, "'--svg -'")];
    let printed: Vec<&str> = printed.into_iter().filter(|(is, _)| *is).map(|(_, name)| name).collect();
    if let [first, second, ..] = printed[..] {
        let what = format!("{first} and {second} both say what standard output is");
        return Err(Refusal::new(Stage::Usage, what, "choose one; '--svg FILE' goes with each"));
    }
    let sort = match word("sort") {
        Some("bytes") => Sort::Bytes,
        Some("first") => Sort::First,
        Some("last") => Sort::Last,
        Some("name") => Sort::Name,
        _ => Sort::Packets,
    };
    let top = args.get_one::<u32>("top").and_then(|top| usize::try_from(*top).ok());
    let choice = Choice { since: args.get_one::<Duration>("since").copied(), sort, top };
    let by = match word("by") {
        Some("client") => Some(By::Client),
        Some("port") => Some(By::Port),
        Some("dest") => Some(By::Dest),
        _ => None,
    };
    let shown = match by {
        None => Shown::rows(&all, &choice, paper),
        Some(by) => Shown::sums(&all, by, &choice, paper),
    };
    let title = format!("What was asked for on {}, packets", all.device);
    if let Some(path) = word("svg").filter(|_| !to_stdout) {
        std::fs::write(path, chart::svg(&title, &shown.bars)).map_err(|e| Refusal::unwritable(path, &e))?;
    }
    let more = |left: usize| match left {
        0 => String::new(),
        left => format!("and {left} more\n"),
    };
    let text = match (csv, chart, word("svg")) {
        (_, _, Some("-")) => chart::svg(&title, &shown.bars),
        (true, ..) => shown.csv,
        (_, true, _) => chart::text(&shown.bars, paper) + &more(shown.left),
        (_, _, Some(_)) => String::new(),
        _ => shown.table + &more(shown.left),
    };
    Ok(Answer::done(text, shown.json))
}

fn is_json(args: &ArgMatches) -> bool {
    args.get_flag("json") || args.get_flag("pretty")
}

/// One choice in every form.
struct Shown {
    table: String,
    bars: Vec<chart::Bar>,
    csv: String,
    json: serde_json::Value,
    left: usize,
}

impl Shown {
    fn rows(all: &All, choice: &Choice, paper: &Paper) -> Shown {
        let (rows, left) = ranking::rows(all.rows.clone(), choice);
        let mut json = ui::asked::json(&all.device, &rows, &all.others, all.generation, all.now);
        json["left_out"] = left.into();
        Shown {
            table: ui::asked::text(&rows, &all.others, all.generation, paper),
            bars: sums::row_bars(&rows),
            csv: sums::rows_csv(&rows, all.now),
            json,
            left,
        }
    }

    fn sums(all: &All, by: By, choice: &Choice, paper: &Paper) -> Shown {
        let (found, left): (Vec<Sum>, usize) = ranking::sums(&all.rows, by, choice);
        Shown {
            table: sums::text(&found, paper),
            bars: sums::bars(&found),
            csv: sums::sums_csv(&found, all.now),
            json: sums::json(&all.device, &found, left, all.now),
            left,
        }
    }
}
