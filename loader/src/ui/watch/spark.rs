// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Numbers -> a line of small bars, the newest at the right.

/// What can be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Glyphs {
    /// Unicode's block elements, U+2581 to U+2588.
    Blocks,
    /// For locales that are not UTF-8.
    Ascii,
}

const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const ASCII: [char; 8] = ['_', '.', ',', '-', '=', '+', '*', '#'];

impl Glyphs {
    /// By the environment, as setlocale(3) reads it: the first of these three that is not empty.
    pub fn of_locale(lc_all: Option<&str>, lc_ctype: Option<&str>, lang: Option<&str>) -> Glyphs {
        let name = [lc_all, lc_ctype, lang].into_iter().flatten().find(|name| !name.is_empty());
        let name = name.unwrap_or_default().to_ascii_lowercase();
        match name.contains("utf-8") || name.contains("utf8") {
            true => Glyphs::Blocks,
            false => Glyphs::Ascii,
        }
    }

    /// What stands for a part that was cut off.
    pub fn cut(self) -> char {
        match self {
            Glyphs::Blocks => '…',
            Glyphs::Ascii => '~',
        }
    }
}

/// The last `width` values, the largest of them as high as there is room; 0 is a blank.
pub fn spark(values: impl DoubleEndedIterator<Item = u64> + Clone, width: usize, glyphs: Glyphs) -> String {
    let shown: Vec<u64> = values.rev().take(width).collect();
    let most = shown.iter().copied().max().unwrap_or(0);
    let levels = if glyphs == Glyphs::Blocks { BLOCKS } else { ASCII };
    let level = |value: u64| {
        let level = u128::from(value).saturating_mul(8).div_ceil(u128::from(most.max(1)));
        levels.get(usize::try_from(level).unwrap_or(8).wrapping_sub(1)).copied().unwrap_or(' ')
    };
    let bars: String = shown.iter().rev().map(|value| level(*value)).collect();
    format!("{bars:>width$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_is_as_high_as_there_is_room() {
        let line = |values: &[u64], width, glyphs| spark(values.iter().copied(), width, glyphs);
        assert_eq!(line(&[0, 1, 2, 3, 4, 5, 6, 7, 8], 9, Glyphs::Blocks), " ▁▂▃▄▅▆▇█");
        assert_eq!(line(&[0, 1, 2, 3, 4, 5, 6, 7, 8], 9, Glyphs::Ascii), " _.,-=+*#");
        assert_eq!(line(&[9, 1, 8], 2, Glyphs::Ascii), "_#", "only what is shown counts");
        assert_eq!(line(&[5], 4, Glyphs::Blocks), "   █");
        assert_eq!(line(&[0, 0], 3, Glyphs::Blocks), "   ");
        assert_eq!(line(&[u64::MAX, 1], 2, Glyphs::Blocks), "█▁", "whatever there was at all can be seen");
        assert_eq!(line(&[], 2, Glyphs::Blocks), "  ");
    }

    #[test]
    fn the_locale_decides() {
        let of = Glyphs::of_locale;
        assert_eq!(of(None, None, Some("de_DE.UTF-8")), Glyphs::Blocks);
        assert_eq!(of(Some(""), Some("C.utf8"), Some("C")), Glyphs::Blocks);
        assert_eq!(of(Some("C"), None, Some("de_DE.UTF-8")), Glyphs::Ascii);
        assert_eq!(of(None, None, None), Glyphs::Ascii);
    }
}
