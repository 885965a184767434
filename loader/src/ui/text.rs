// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Numbers, times, names and rows -> text that lines up and cannot harm a terminal.

use std::time::Duration;

use super::paper::Paper;

/// Foreign text made harmless: printable characters stay, everything else (control characters, escape sequences,
/// invisible and right-to-left marks) is written as `\u{1b}`.
pub fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, char| {
        if matches!(char, ' '..='~') {
            out.push(char);
        } else {
            out.extend(char.escape_debug());
        }
        out
    })
}

/// How long something took or has been: `0s`, `59s`, `3m20s`, `2h14m`, `3d4h`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    if days > 0 {
        format!("{days}d{}h", hours % 24)
    } else if hours > 0 {
        format!("{hours}h{}m", minutes % 60)
    } else if minutes > 0 {
        format!("{minutes}m{}s", seconds % 60)
    } else {
        format!("{seconds}s")
    }
}

/// Bytes in powers of 1000: `999 B`, `1.5 kB`, `12 MB`.
pub fn bytes(count: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let (mut whole, mut tenths) = (count, 0);
    for (power, unit) in units.iter().enumerate() {
        if whole < 1000 {
            return match power {
                0 => format!("{whole} {unit}"),
                _ if whole < 10 => format!("{whole}.{tenths} {unit}"),
                _ => format!("{whole} {unit}"),
            };
        }
        tenths = whole % 1000 / 100;
        whole /= 1000;
    }
    format!("{count} B")
}

/// The name of a protocol, or its number.
pub fn protocol(number: u8) -> String {
    crate::dnat::rules::protocol_name(number).map_or_else(|| number.to_string(), str::to_owned)
}

/// A point in time as RFC 3339 says, in UTC: `2026-11-23T01:02:03Z`.
pub fn rfc3339(since_1970: Duration) -> String {
    let seconds = since_1970.as_secs();
    let (mut days, time) = (seconds / 86400, seconds % 86400);
    // Counted from 0000-03-01, so that the leap day is the last of its year; eras of 400 years all have 146097 days.
    days = days.saturating_add(719_468);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let leaps = (day_of_era / 1460).saturating_add(day_of_era / 146_096).saturating_sub(day_of_era / 36524);
    let year_of_era = day_of_era.saturating_sub(leaps) / 365;
    let before =
        year_of_era.saturating_mul(365).saturating_add(year_of_era / 4).saturating_sub(year_of_era / 100);
    let day_of_year = day_of_era.saturating_sub(before);
    // Months from March on have 31 and 30 days in a pattern of 153 in five.
    let month_from_march = day_of_year.saturating_mul(5).saturating_add(2) / 153;
    let day = day_of_year
        .saturating_sub(month_from_march.saturating_mul(153).saturating_add(2) / 5)
        .saturating_add(1);
    let (month, later) = if month_from_march < 10 {
        (month_from_march.saturating_add(3), 0)
    } else {
        (month_from_march.saturating_sub(9), 1)
    };
    let year = era.saturating_mul(400).saturating_add(year_of_era).saturating_add(later);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// A column's head and the side its cells lean to.
#[derive(Clone, Copy, Debug)]
pub enum Column {
    /// Words.
    Left(&'static str),
    /// Numbers.
    Right(&'static str),
}

/// Rows under heads, in columns as wide as their widest cell, two spaces between; each line ends with a newline. Cells are
/// text that is already harmless.
pub fn table(columns: &[Column], rows: &[Vec<String>], paper: &Paper) -> String {
    let heads: Vec<String> = columns.iter().map(|column| column.head().to_owned()).collect();
    let width_of = |i: usize| {
        let cells = rows.iter().chain([&heads]).filter_map(|row| row.get(i));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width_of).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(columns.iter().zip(&widths));
        let cells: Vec<String> = cells.map(|(cell, (column, width))| column.pad(cell, *width)).collect();
        cut(cells.join("  ").trim_end(), paper)
    };
    let mut out = paper.bold(&line(&heads));
    for row in rows {
        out.push('\n');
        out.push_str(&line(row));
    }
    out.push('\n');
    out
}

/// Another column with names, if there are any; they are foreign text.
pub fn named<'a>(
    columns: &mut Vec<Column>,
    rows: &mut [Vec<String>],
    names: impl Iterator<Item = Option<&'a str>> + Clone,
) {
    if names.clone().any(|name| name.is_some()) {
        columns.push(Column::Left("NAME"));
        rows.iter_mut().zip(names).for_each(|(row, name)| row.push(name.map_or("-".to_owned(), escape)));
    }
}

impl Column {
    fn head(&self) -> &'static str {
        match self {
            Self::Left(head) | Self::Right(head) => head,
        }
    }

    fn pad(&self, cell: &str, width: usize) -> String {
        match self {
            Self::Left(_) => format!("{cell:<width$}"),
            Self::Right(_) => format!("{cell:>width$}"),
        }
    }
}

/// A line that fits; what is cut off shows as `…`.
pub fn cut(line: &str, paper: &Paper) -> String {
    match paper.width {
        Some(width) if line.chars().count() > width => {
            line.chars().take(width.saturating_sub(1)).chain(['…']).collect()
        }
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_foreign_reaches_the_terminal() {
        assert_eq!(escape("eth0 \x1b[2J\u{202e}\u{200b}\n\té"), "eth0 \\u{1b}[2J\\u{202e}\\u{200b}\\n\\té");
        assert_eq!(escape("a\"b'c\\"), "a\"b'c\\");
    }

    #[test]
    fn times_and_sizes_are_short() {
        let times = [0, 59, 60, 200, 3600, 8040, 86400, 273_600];
        let times = times.map(|s| duration(Duration::from_secs(s)));
        assert_eq!(times, ["0s", "59s", "1m0s", "3m20s", "1h0m", "2h14m", "1d0h", "3d4h"]);
        let sizes = [0, 999, 1000, 1549, 9999, 10_000, 999_999, 1_000_000, u64::MAX].map(bytes);
        assert_eq!(
            sizes,
            ["0 B", "999 B", "1.0 kB", "1.5 kB", "9.9 kB", "10 kB", "999 kB", "1.0 MB", "18 EB"]
        );
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        // date -u -d @N +%FT%TZ
        for (seconds, expect) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_795_395_723, "2026-11-23T01:02:03Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(Duration::from_secs(seconds)), expect);
        }
    }

    #[test]
    fn columns_line_up() {
        let columns = [Column::Left("NAME"), Column::Right("COUNT"), Column::Left("NOTE")];
        let rows = [["a", "1", ""], ["longer", "12345", "x y"]].map(|row| row.map(str::to_owned).to_vec());
        let wide = table(&columns, &rows, &Paper::default());
        assert_eq!(wide, "NAME    COUNT  NOTE\na           1\nlonger  12345  x y\n");
        let narrow = table(&columns, &rows, &Paper { width: Some(10), colour: true });
        assert_eq!(narrow, "\x1b[1mNAME    C…\x1b[0m\na        …\nlonger  1…\n");
    }
}
