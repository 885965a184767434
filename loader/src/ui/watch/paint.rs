// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Lines -> what a terminal is told (ECMA-48, and xterm's second screen).
use super::frame::Line;
use crate::ui::paper::Paper;

/// To the second screen, without cursor.
pub const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[2J";
/// Back, as it was.
pub const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// The frame over the one before, line by line, so that nothing flickers; it has as many lines as the screen.
pub fn paint(lines: &[Line], paper: &Paper) -> String {
    let mut out = String::new();
    for (n, line) in (1_usize..).zip(lines) {
        let text = if line.bold { paper.bold(&line.text) } else { line.text.clone() };
        // Erased first: behind a line that fills the screen its last character would be meant.
        out.push_str(&format!("\x1b[{n};1H\x1b[2K{text}"));
    }
    out
}

/// The frame where nothing may be overwritten.
pub fn print(lines: &[Line]) -> String {
    lines.iter().map(|line| format!("{}\n", line.text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_its_place() {
        let line = |text: &str, bold| Line { text: text.to_owned(), bold };
        let lines = [line("title", true), line("row", false)];
        let colour = Paper { colour: true, width: None };
        assert_eq!(paint(&lines, &colour), "\x1b[1;1H\x1b[2K\x1b[1mtitle\x1b[0m\x1b[2;1H\x1b[2Krow");
        assert_eq!(paint(&lines, &Paper::default()), "\x1b[1;1H\x1b[2Ktitle\x1b[2;1H\x1b[2Krow");
        assert_eq!(print(&lines), "title\nrow\n");
    }
}
