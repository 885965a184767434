// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Measurements to their median and quartiles.
use std::fmt;

/// What a series of measurements comes to.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    /// A quarter is below.
    pub low: f64,
    /// Half is below.
    pub median: f64,
    /// A quarter is above.
    pub high: f64,
}

impl Spread {
    /// Of at least one measurement.
    pub fn of(mut values: Vec<f64>) -> Spread {
        values.sort_by(f64::total_cmp);
        let at = |part: f64| values[((values.len() - 1) as f64 * part).round() as usize];
        Spread { low: at(0.25), median: at(0.5), high: at(0.75) }
    }

    /// Each value of `these` with the one of `others` from the same round.
    pub fn pairs(these: &[f64], others: &[f64], how: impl Fn(f64, f64) -> f64) -> Spread {
        Spread::of(these.iter().zip(others).map(|(a, b)| how(*a, *b)).collect())
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = out.precision().unwrap_or(0);
        let Spread { low, median, high } = self;
        write!(out, "{median:.digits$} [{low:.digits$}..{high:.digits$}]")
    }
}
