// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A line -> its words, each with its place, so that every complaint can point.

use super::diagnostic::{Diagnostic, Reason};

/// A word of a line: `{`, `}`, `,`, `!=`, or what stands between these and blanks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word<'a> {
    pub text: &'a str,
    /// First character, counted in characters from 0.
    pub first: usize,
}

/// Something wrong at a place in a line.
#[derive(Debug)]
pub(super) struct Fault {
    pub first: usize,
    pub len: usize,
    pub reason: Reason,
}

/// The words of a line, read from the left.
#[derive(Debug)]
pub(super) struct Words<'a> {
    words: Vec<Word<'a>>,
    read: usize,
    /// Where the last word ends.
    end: usize,
}

impl<'a> Words<'a> {
    /// The words of `line` up to a `#`.
    pub fn of(line: &'a str) -> Self {
        let (mut words, mut rest, mut first) = (Vec::new(), line, 0_usize);
        while let Some(char) = rest.chars().next().filter(|&c| c != '#') {
            let len = match char {
                c if c.is_ascii_whitespace() => c.len_utf8(),
                '{' | '}' | ',' => 1,
                '!' if rest.starts_with("!=") => 2,
                first_char => {
                    let inner = rest.get(first_char.len_utf8()..).unwrap_or_default();
                    let stops = |c: char| c.is_ascii_whitespace() || "{},!#".contains(c);
                    first_char.len_utf8().saturating_add(inner.find(stops).unwrap_or(inner.len()))
                }
            };
            let (text, after) = rest.split_at_checked(len).unwrap_or((rest, ""));
            if !char.is_ascii_whitespace() {
                words.push(Word { text, first });
            }
            first = first.saturating_add(text.chars().count());
            rest = after;
        }
        let end = words.last().map_or(0, Word::end);
        Self { words, read: 0, end }
    }

    /// The next word, which stays.
    pub fn peek(&self) -> Option<Word<'a>> {
        self.words.get(self.read).copied()
    }

    /// Passes over the next word.
    pub fn skip(&mut self) {
        self.read = self.read.saturating_add(1);
    }

    /// Takes the next word.
    pub fn next(&mut self, expected: &'static str) -> Result<Word<'a>, Fault> {
        let end =
            Fault { first: self.end, len: 0, reason: Reason::Expected { expected, found: String::new() } };
        let word = self.peek().ok_or(end)?;
        self.skip();
        Ok(word)
    }

    /// Nothing may follow.
    pub fn end(&self) -> Result<(), Fault> {
        self.peek().map_or(Ok(()), |word| Err(word.expected("nothing more after the verdict")))
    }

    /// A fault from `word` to the last word taken.
    pub fn since(&self, word: Word, reason: Reason) -> Fault {
        let last = self.read.checked_sub(1).and_then(|i| self.words.get(i));
        let end = last.map_or(self.end, Word::end);
        Fault { first: word.first, len: end.saturating_sub(word.first), reason }
    }
}

impl Word<'_> {
    fn end(&self) -> usize {
        self.first.saturating_add(self.text.chars().count())
    }

    /// A fault of this word.
    pub fn fault(&self, reason: Reason) -> Fault {
        Fault { first: self.first, len: self.text.chars().count(), reason }
    }

    /// This word stands where something else should.
    pub fn expected(&self, expected: &'static str) -> Fault {
        self.fault(Reason::Expected { expected, found: self.text.to_owned() })
    }
}

impl Fault {
    /// The first bytes that are not UTF-8.
    pub fn encoding(bytes: &[u8], error: &std::str::Utf8Error) -> Self {
        let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
        Self { first: String::from_utf8_lossy(good).chars().count(), len: 1, reason: Reason::Encoding }
    }

    /// The same with the line it was found in.
    pub fn at(self, source: &str, line: u32, bytes: &[u8]) -> Diagnostic {
        let text = String::from_utf8_lossy(bytes).trim_end().to_owned();
        Diagnostic {
            source: source.to_owned(),
            line,
            first: self.first,
            len: self.len,
            text,
            reason: self.reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_a_line_into_words_with_places() {
        let words = Words::of(" ip daddr!={10.0.0.1,é}\t#{ not this").words;
        let expect = [
            ("ip", 1),
            ("daddr", 4),
            ("!=", 9),
            ("{", 11),
            ("10.0.0.1", 12),
            (",", 20),
            ("é", 21),
            ("}", 22),
        ];
        assert_eq!(words, expect.map(|(text, first)| Word { text, first }));
        assert_eq!(
            Words::of("a!b ! =").words.iter().map(|w| w.text).collect::<Vec<_>>(),
            ["a", "!b", "!", "="]
        );
    }

    #[test]
    fn a_fault_spans_the_words_taken() {
        let mut words = Words::of("dnat to 1.2.3.4 masquerade");
        let dnat = words.next("").unwrap();
        words.skip();
        words.skip();
        let fault = words.since(dnat, Reason::PortZero);
        assert_eq!((fault.first, fault.len), (0, 15));
        words.skip();
        assert_eq!(words.next("x").unwrap_err().first, 26);
    }
}
