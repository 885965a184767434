// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What there is and what is chosen -> the lines of one frame.
use super::columns::{cut, lines};
use super::rates::{Rates, Series};
use super::spark::{spark, Glyphs};
use super::state::{State, View, VIEWS};
use super::{tables, Reading};
use crate::ui::text::{bytes, escape};

/// What there is to show.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// The device.
    pub device: &'a str,
    /// The newest reading, or why there is none.
    pub reading: Result<&'a Reading, &'a str>,
    /// How it was before.
    pub rates: &'a Rates,
    /// Whose DNS answers are heard, if not ours.
    pub note: Option<&'a str>,
}

/// What it is shown on.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    /// Characters in a line.
    pub width: usize,
    /// Lines; `None`: as many as there are, and no help.
    pub height: Option<usize>,
    /// What can be drawn.
    pub glyphs: Glyphs,
}

/// A line, and whether it stands out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// No longer than the screen is wide, and harmless.
    pub text: String,
    /// Title, heads.
    pub bold: bool,
}

/// Lines that are no rows: title, rates, heads, help.
const AROUND: usize = 4;
const HELP: &str = "q quit  1 asked  2 flows  3 rates  s sort  / filter  f freeze  arrows scroll";

/// One frame. The state learns how many rows there are and how many fit.
pub fn frame(scene: &Scene, state: &mut State, screen: &Screen) -> Vec<Line> {
    let cut = |text: &str| cut(text, screen.width, screen.glyphs);
    let mut out = vec![Line { text: cut(&title(scene, state)), bold: true }];
    let plain = |text: String| Line { text, bold: false };
    match scene.reading {
        Err(why) => {
            state.count = 0;
            out.push(plain(cut(&format!("not up: {}", escape(why)))));
        }
        Ok(reading) => {
            out.push(plain(cut(rates(scene.rates, screen).trim_end())));
            let curve = screen.width.saturating_sub(tables::NAME.saturating_add(24)).clamp(8, 120);
            let columns = match state.view {
                View::Asked => tables::asked(reading, scene.rates, state),
                View::Flows => tables::flows(reading, scene.rates, state),
                View::Rates => tables::rates(reading, scene.rates, state, curve, screen.glyphs),
            };
            let (head, rows) = lines(columns, screen.width, screen.glyphs);
            state.count = rows.len();
            state.page = screen.height.map_or(rows.len(), |height| height.saturating_sub(AROUND));
            state.first = state.first.min(state.count.saturating_sub(state.page));
            out.push(Line { text: head, bold: true });
            out.extend(rows.into_iter().skip(state.first).take(state.page).map(plain));
        }
    }
    if let Some(height) = screen.height {
        out.truncate(height.saturating_sub(1));
        out.resize(height.saturating_sub(1), plain(String::new()));
        out.push(Line { text: cut(&bottom(state, scene)), bold: state.prompt.is_some() });
    }
    out
}

fn title(scene: &Scene, state: &State) -> String {
    let view = VIEWS.iter().find(|(view, _)| *view == state.view).map_or("", |(_, name)| name);
    let mut title = format!("{}  {view} by {}", escape(scene.device), state.order());
    if let Ok(reading) = scene.reading {
        let (rules, flows, rows) = (reading.rules.rules.len(), reading.flows.len(), reading.asked.len());
        title.push_str(&format!("  rules {rules}  flows {flows}  asked {rows}"));
    }
    if state.frozen {
        title.push_str("  FROZEN");
    }
    if !state.filter.is_empty() {
        let none = state.view == View::Rates || (state.view == View::Asked && state.rows.is_none());
        let word = if none { "no filter here" } else { "filter" };
        title.push_str(&format!("  {word}: {}", escape(&state.filter)));
    }
    title
}

/// The quantities that matter most, each with a curve.
fn rates(rates: &Rates, screen: &Screen) -> String {
    let curve = screen.width.saturating_sub(60).checked_div(4).unwrap_or(0).clamp(5, 30);
    let part = |name: &str, series: &Series, text: &dyn Fn(u64) -> String| {
        let now = series.now().map_or("-".to_owned(), |n| format!("{}/s", text(n)));
        format!("{name} {now:>8} {}", spark(series.values.iter().copied(), curve, screen.glyphs))
    };
    let count = |n: u64| n.to_string();
    [
        part("in", &rates.there, &bytes),
        part("out", &rates.back, &bytes),
        part("packets", &rates.packets, &count),
        part("asked", &rates.asked, &count),
    ]
    .join(" ")
}

fn bottom(state: &State, scene: &Scene) -> String {
    match (&state.message, &state.prompt) {
        (Some(message), _) => format!("{}; Escape to give up", escape(message)),
        (None, Some(prompt)) => format!("filter: {}_", escape(prompt)),
        (None, None) => {
            let last = state.first.saturating_add(state.page).min(state.count);
            let place = match (state.page, state.count > state.page) {
                (_, false) => String::new(),
                (0, true) => format!("0 of {}  ", state.count),
                (_, true) => format!("{}-{last} of {}  ", state.first.saturating_add(1), state.count),
            };
            let note = scene.note.map_or(String::new(), |note| format!("  ({note})"));
            format!("{place}{HELP}{note}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::Key;
    use super::super::tables::tests::{flow, reading, row};
    use super::*;
    use std::time::Duration;

    const ONCE: Screen = Screen { width: 100, height: None, glyphs: Glyphs::Blocks };

    fn text(scene: &Scene, state: &mut State, screen: &Screen) -> String {
        frame(scene, state, screen).iter().map(|line| format!("{}\n", line.text)).collect()
    }

    #[test]
    fn a_frame_a_person_can_read() {
        let (reading, rates) = (reading(), Rates::default());
        let scene = Scene { device: "eth0", reading: Ok(&reading), rates: &rates, note: None };
        let mut state = State::new(View::Asked, "").unwrap();
        let expect = "\
eth0  asked by packets  rules 2  flows 2  asked 2
in        -            out        -            packets        -            asked        -
CLIENT      PROTO  DESTINATION   PORT  COUNT  /S  BYTES  FIRST  LAST  OUTCOME  SERVED  RULE
192.0.2.51  tcp    198.51.100.7   443      9   -  540 B  1m40s  7m23s  dnat     yes     1
192.0.2.51  tcp    198.51.100.7    80      3   -  180 B  1m40s  1m20s  dnat     yes     1
";
        // The heads lean as their cells do.
        assert_eq!(text(&scene, &mut state, &ONCE), expect.replace("  LAST  ", "   LAST  "));
        let mut state = State::new(View::Flows, "tcp dport 443").unwrap();
        let expect = "\
eth0  flows by client  rules 2  flows 2  asked 2  filter: tcp dport 443
in        -            out        -            packets        -            asked        -
PROTO  CLIENT            ORIGINAL          SERVER          STATE      AGE  IDLE  /S      BYTES  RULE
tcp    192.0.2.51:40000  198.51.100.7:443  192.0.2.1:8080  confirmed  10s    1s   -  90 B/90 B  1
";
        assert_eq!(text(&scene, &mut state, &ONCE), expect);
    }

    #[test]
    fn rates_have_curves() {
        let mut rates = Rates::default();
        let mut now = reading();
        for n in 0..4 {
            now.at = Duration::from_secs(n);
            now.asked = vec![row(80, n * n)];
            now.flows = vec![flow(80, [n * n, 0], [n * n * 1000, 0])];
            rates.add(&now);
        }
        let scene = Scene { device: "eth0", reading: Ok(&now), rates: &rates, note: None };
        let mut state = State::new(View::Rates, "").unwrap();
        let screen = Screen { width: 80, ..ONCE };
        let expect = "\
eth0  rates by name  rules 2  flows 1  asked 1
in 5.0 kB/s   ▂▅█ out    0 B/s       packets      5/s   ▂▅█ asked      5/s   ▂▅█
WHAT                                      /S  PEAK  TIME
from clients, bytes                     5000  5000           ▂▅█
to clients, bytes                          0     0
packets of flows                           5     5           ▂▅█
packets that ask                           5     5           ▂▅█
rule 1: tcp dport 80 redirect to :8080     0     0
rule 2: drop                               0     0
";
        assert_eq!(text(&scene, &mut state, &screen), expect);
        let ascii = text(&scene, &mut state, &Screen { glyphs: Glyphs::Ascii, ..screen });
        assert!(ascii.is_ascii() && ascii.contains("         .=#\n"), "{ascii}");
    }

    #[test]
    fn a_frame_fills_its_screen_and_no_more() {
        let mut reading = reading();
        reading.asked = (1..=50).map(|n| row(n, n.into())).collect();
        let rates = Rates::default();
        let scene =
            Scene { device: "evil\x1b[2J", reading: Ok(&reading), rates: &rates, note: Some("a note") };
        let mut state = State::new(View::Asked, "").unwrap();
        for (width, height) in [(80, 24), (200, 60), (10, 3), (1, 1), (0, 0), (20, 5)] {
            let screen = Screen { width, height: Some(height), glyphs: Glyphs::Blocks };
            state.key(Key::End);
            let lines = frame(&scene, &mut state, &screen);
            assert_eq!(lines.len(), height.max(1), "{width} x {height}");
            assert!(lines.iter().all(|line| line.text.chars().count() <= width), "{lines:?}");
            assert!(lines.iter().all(|line| !line.text.contains('\x1b')));
        }
        // Title, rates and help have the screen for themselves, and no row is the first.
        for height in [3, 4] {
            let screen = Screen { width: 20, height: Some(height), glyphs: Glyphs::Blocks };
            state.key(Key::Down);
            assert!(text(&scene, &mut state, &screen).ends_with("\n0 of 50  q quit  1 …\n"));
        }
        let screen = Screen { width: 120, height: Some(14), glyphs: Glyphs::Blocks };
        state.key(Key::Home);
        let first = text(&scene, &mut state, &screen);
        assert!(first.ends_with("1-10 of 50  q quit  1 asked  2 flows  3 rates  s sort  / filter  f freeze  arrows scroll  (a note)\n"), "{first}");
        state.key(Key::PageDown);
        assert!(text(&scene, &mut state, &screen).contains("11-20 of 50"));
        state.key(Key::Char('/'));
        state.key(Key::Char('x'));
        assert!(text(&scene, &mut state, &screen).ends_with("filter: x_\n"));
        state.key(Key::Enter);
        assert!(text(&scene, &mut state, &screen).ends_with("; Escape to give up\n"));
    }

    #[test]
    fn nothing_up_is_said() {
        let rates = Rates::default();
        let scene =
            Scene { device: "eth0", reading: Err("nothing is up on eth0"), rates: &rates, note: None };
        let mut state = State::new(View::Asked, "").unwrap();
        state.frozen = true;
        assert_eq!(
            text(&scene, &mut state, &ONCE),
            "eth0  asked by packets  FROZEN\nnot up: nothing is up on eth0\n"
        );
    }
}
