// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What is known of the place that output goes to -> how wide and how colourful it may be.

/// How output may look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paper {
    /// Characters in a line; longer lines are cut. `None`: nothing is ever cut.
    pub width: Option<usize>,
    /// Whether escape sequences are welcome.
    pub colour: bool,
}

/// `--color`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// On a terminal that can, unless NO_COLOR is set.
    #[default]
    Auto,
    /// In any case.
    Always,
    /// Never.
    Never,
}

/// The environment variables that matter here.
#[derive(Clone, Copy, Debug, Default)]
pub struct Environment<'a> {
    /// COLUMNS.
    pub columns: Option<&'a str>,
    /// NO_COLOR (no-color.org: any value but the empty one).
    pub no_color: Option<&'a str>,
    /// TERM.
    pub term: Option<&'a str>,
}

impl Paper {
    /// The paper for standard output, when it is a terminal or not.
    pub fn new(terminal: bool, when: When, environment: Environment) -> Self {
        let columns =
            environment.columns.and_then(|columns| columns.parse().ok()).filter(|columns| *columns > 0);
        let refused = environment.no_color.is_some_and(|value| !value.is_empty());
        let able = environment.term.is_some_and(|term| term != "dumb");
        let colour = match when {
            When::Always => true,
            When::Never => false,
            When::Auto => terminal && able && !refused,
        };
        Self { width: columns.filter(|_| terminal), colour }
    }

    /// `text` so that it stands out.
    pub fn bold(&self, text: &str) -> String {
        if self.colour {
            format!("\x1b[1m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_terminal_gets_colour_and_a_width() {
        let env = Environment { columns: Some("80"), no_color: None, term: Some("xterm") };
        assert_eq!(Paper::new(true, When::Auto, env), Paper { width: Some(80), colour: true });
        assert_eq!(Paper::new(false, When::Auto, env), Paper { width: None, colour: false });
        assert!(Paper::new(false, When::Always, env).colour);
        assert!(!Paper::new(true, When::Never, env).colour);
        assert!(!Paper::new(true, When::Auto, Environment { no_color: Some("1"), ..env }).colour);
        assert!(Paper::new(true, When::Auto, Environment { no_color: Some(""), ..env }).colour);
        assert!(!Paper::new(true, When::Auto, Environment { term: Some("dumb"), ..env }).colour);
        for columns in [None, Some("0"), Some("wide"), Some("-3")] {
            assert_eq!(Paper::new(true, When::Auto, Environment { columns, ..env }).width, None);
        }
    }
}
