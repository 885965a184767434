// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What the program says -> the same without what is different each time or on each machine, compared with a file of
//! tests/golden.
use crate::tools::project;
use std::fmt::Write;

/// No column holds ids.
pub const NONE: usize = usize::MAX;

/// Without what is different each time or on each machine: digests, ids, ages, times, and sizes, which follow from the
/// number of CPUs. Columns are one space apart.
pub fn masked(text: &str, ids: usize) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let part = |(at, word): (usize, &&str)| {
            let before = at.checked_sub(1).map_or("", |at| words[at]);
            let is_id = at == ids && word.chars().all(|c| c.is_ascii_digit());
            match is_id || ["id", "program", "recorded"].contains(&before) && mask(word) == *word {
                true if word.starts_with(|c: char| c.is_ascii_digit()) => "#".to_owned(),
                _ => word.split(',').map(mask).collect::<Vec<_>>().join(","),
            }
        };
        let indent = if line.starts_with(' ') { "  " } else { "" };
        let _ = writeln!(out, "{indent}{}", words.iter().enumerate().map(part).collect::<Vec<_>>().join(" "));
    }
    out
}

fn mask(word: &str) -> String {
    let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let digits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    let time = bare.len() == 20 && bare.ends_with('Z') && bare.contains('T');
    let age = bare.strip_suffix("ms").or(bare.strip_suffix('s')).is_some_and(digits);
    let size = digits(bare) && bare.len() >= 4 && !word.starts_with(':');
    if time || age || size {
        return word.replace(bare, "#");
    }
    let is_digest = |part: &&str| part.len() >= 16 && part.chars().all(|c| c.is_ascii_hexdigit());
    let digest = word.split(|c: char| !c.is_ascii_alphanumeric()).find(is_digest);
    digest.map_or_else(|| word.to_owned(), |digest| word.replace(digest, "#"))
}

/// Compares, or with `BLESS=1` writes.
#[track_caller]
pub fn compare(name: &str, all: &str) {
    let path = project().join("tests/golden").join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, all).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    for (number, (is, was)) in all.lines().zip(golden.lines()).enumerate() {
        assert_eq!(is, was, "line {} of {}; BLESS=1 writes it anew", number + 1, path.display());
    }
    assert_eq!(all.lines().count(), golden.lines().count());
}
