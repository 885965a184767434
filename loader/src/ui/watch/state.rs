// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Keys -> what is shown: the view, its order, a filter, whether it stands still, and where one has scrolled to.
use super::keys::Key;
use crate::dnat::diagnostic::Diagnostic;
use crate::dnat::selection::Selection;

/// What can be looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// What was asked for.
    #[default]
    Asked,
    /// Translations in force.
    Flows,
    /// Quantities over time.
    Rates,
}

/// Views, by their names.
pub const VIEWS: [(View, &str); 3] = [(View::Asked, "asked"), (View::Flows, "flows"), (View::Rates, "rates")];

/// What comes first, by view; the first is the order at the beginning.
pub const ORDERS: [&[&str]; 3] = [
    &["packets", "rate", "bytes", "last", "first", "name"],
    &["client", "rate", "bytes", "packets", "idle", "age"],
    &["name", "rate", "peak"],
];

/// What a person has chosen.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The view.
    pub view: View,
    /// Which of [`ORDERS`], by view.
    orders: [usize; 3],
    /// The words of the filter; they are the conditions of a rule.
    pub filter: String,
    /// What they choose of flows.
    pub flows: Selection,
    /// What they choose of rows; `None` where they are no conditions on rows.
    pub rows: Option<Selection>,
    /// No more readings.
    pub frozen: bool,
    /// The first row that is shown.
    pub first: usize,
    /// A new filter, while it is written.
    pub prompt: Option<String>,
    /// What was wrong.
    pub message: Option<String>,
    /// Rows that the screen has room for, and that there are: as it was drawn last.
    pub page: usize,
    /// Likewise.
    pub count: usize,
}

/// A filter can be so long.
const LONGEST: usize = 1024;

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Nothing but another frame.
    Draw,
    /// To end.
    Quit,
    /// To be stopped like any other job.
    Suspend,
}

impl State {
    /// What is shown at the beginning.
    ///
    /// # Errors
    /// What is wrong with the filter.
    pub fn new(view: View, filter: &str) -> Result<State, Box<Diagnostic>> {
        let mut state = State { view, rows: Some(Selection::default()), ..State::default() };
        state.choose(filter)?;
        Ok(state)
    }

    /// The name of the order of the view.
    pub fn order(&self) -> &'static str {
        let at = self.orders.get(self.view as usize).copied().unwrap_or(0);
        self.names().get(at).copied().unwrap_or_default()
    }

    fn names(&self) -> &'static [&'static str] {
        ORDERS.get(self.view as usize).copied().unwrap_or_default()
    }

    fn choose(&mut self, filter: &str) -> Result<(), Box<Diagnostic>> {
        self.flows = Selection::parse(filter)?;
        self.rows = Selection::parse_for_asked(filter).ok();
        self.filter = filter.to_owned();
        self.first = 0;
        Ok(())
    }

    /// Takes a key.
    pub fn key(&mut self, key: Key) -> Wish {
        self.message = None;
        match (key, self.prompt.take()) {
            (Key::Ctrl('c'), _) => return Wish::Quit,
            (Key::Ctrl('z'), prompt) => {
                self.prompt = prompt;
                return Wish::Suspend;
            }
            (key, Some(prompt)) => self.write(key, prompt),
            (Key::Char('q'), None) => return Wish::Quit,
            (key, None) => self.command(key),
        }
        Wish::Draw
    }

    fn write(&mut self, key: Key, mut prompt: String) {
        match key {
            Key::Escape => return,
            Key::Enter => {
                if let Err(fault) = self.choose(prompt.trim()) {
                    self.message = Some(fault.to_string());
                    self.prompt = Some(prompt);
                }
                return;
            }
            Key::Backspace => drop(prompt.pop()),
            Key::Ctrl('u') => prompt.clear(),
            Key::Char(char) if prompt.len() < LONGEST => prompt.push(char),
            _ => {}
        }
        self.prompt = Some(prompt);
    }

    fn command(&mut self, key: Key) {
        let last = self.count.saturating_sub(self.page);
        let page = self.page.max(1);
        match key {
            Key::Char('1') => self.see(View::Asked),
            Key::Char('2') => self.see(View::Flows),
            Key::Char('3') => self.see(View::Rates),
            Key::Tab => {
                let next = VIEWS.iter().cycle().skip_while(|(view, _)| *view != self.view).nth(1);
                self.see(next.map_or(View::Asked, |(view, _)| *view));
            }
            Key::Char('s') => self.turn(1),
            Key::Char('S') => self.turn(self.names().len().saturating_sub(1)),
            Key::Char('f' | ' ') => self.frozen = !self.frozen,
            Key::Char('/') => self.prompt = Some(self.filter.clone()),
            // No words are no conditions.
            Key::Escape => drop(self.choose("")),
            Key::Up | Key::Char('k') => self.first = self.first.min(last).saturating_sub(1),
            Key::Down | Key::Char('j') => self.first = self.first.saturating_add(1).min(last),
            Key::PageUp => self.first = self.first.min(last).saturating_sub(page),
            Key::PageDown => self.first = self.first.saturating_add(page).min(last),
            Key::Home | Key::Char('g') => self.first = 0,
            Key::End | Key::Char('G') => self.first = last,
            _ => {}
        }
    }

    fn see(&mut self, view: View) {
        self.view = view;
        self.first = 0;
    }

    fn turn(&mut self, by: usize) {
        let count = self.names().len().max(1);
        if let Some(order) = self.orders.get_mut(self.view as usize) {
            *order = order.saturating_add(by).checked_rem(count).unwrap_or(0);
        }
        self.first = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(state: &mut State, text: &str) {
        for char in text.chars() {
            state.key(Key::Char(char));
        }
    }

    #[test]
    fn keys_choose_what_is_shown() {
        let mut state = State::new(View::Asked, "").unwrap();
        assert_eq!(state.order(), "packets");
        typed(&mut state, "ss");
        assert_eq!(state.order(), "bytes");
        typed(&mut state, "SSS");
        assert_eq!(state.order(), "name");
        typed(&mut state, "2");
        assert_eq!((state.view, state.order()), (View::Flows, "client"));
        state.key(Key::Tab);
        state.key(Key::Tab);
        assert_eq!((state.view, state.order()), (View::Asked, "name"), "each view keeps its order");
        typed(&mut state, "f");
        assert!(state.frozen);
        typed(&mut state, " ");
        assert!(!state.frozen);
        assert_eq!(state.key(Key::Char('q')), Wish::Quit);
        assert_eq!(state.key(Key::Ctrl('c')), Wish::Quit);
        assert_eq!(state.key(Key::Ctrl('z')), Wish::Suspend);
    }

    #[test]
    fn a_filter_is_written_and_only_a_right_one_counts() {
        let mut state = State::new(View::Flows, "udp").unwrap();
        typed(&mut state, "/");
        assert_eq!(state.prompt.as_deref(), Some("udp"));
        state.key(Key::Ctrl('u'));
        typed(&mut state, "tcp dport 8q");
        state.key(Key::Enter);
        assert!(state.message.is_some() && state.prompt.is_some() && state.filter == "udp", "{state:?}");
        state.key(Key::Backspace);
        typed(&mut state, "0");
        state.key(Key::Enter);
        assert_eq!((state.filter.as_str(), &state.prompt, &state.message), ("tcp dport 80", &None, &None));
        assert_eq!(state.flows, Selection::parse("tcp dport 80").unwrap());
        typed(&mut state, "/");
        typed(&mut state, " udp");
        state.key(Key::Escape);
        assert_eq!((state.filter.as_str(), &state.prompt), ("tcp dport 80", &None));
        state.key(Key::Escape);
        assert!(state.filter.is_empty() && state.flows.is_everything());
        assert!(State::new(View::Asked, "nonsense").is_err());
        // Rows know no client port.
        assert_eq!(State::new(View::Asked, "tcp sport 7").unwrap().rows, None);
        typed(&mut state, "/");
        typed(&mut state, &"x".repeat(5000));
        assert_eq!(state.prompt.as_ref().map(String::len), Some(LONGEST));
        assert_eq!(state.key(Key::Ctrl('c')), Wish::Quit);
    }

    #[test]
    fn scrolling_stays_within_what_there_is() {
        let mut state = State::new(View::Asked, "").unwrap();
        (state.page, state.count) = (10, 25);
        let mut after = |key| {
            state.key(key);
            state.first
        };
        let keys =
            [Key::Up, Key::Down, Key::PageDown, Key::PageDown, Key::Up, Key::PageUp, Key::End, Key::Home];
        assert_eq!(keys.map(&mut after), [0, 1, 11, 15, 14, 4, 15, 0]);
        state.count = 3;
        state.key(Key::End);
        assert_eq!(state.first, 0);
    }
}
