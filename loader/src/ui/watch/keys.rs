// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Bytes of a terminal -> keys.

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// Text.
    Char(char),
    /// Ctrl and a letter.
    Ctrl(char),
    /// Enter.
    Enter,
    /// Escape.
    Escape,
    /// Backspace.
    Backspace,
    /// Tab.
    Tab,
    /// One line up.
    Up,
    /// One line down.
    Down,
    /// One page up.
    PageUp,
    /// One page down.
    PageDown,
    /// To the beginning.
    Home,
    /// To the end.
    End,
}

/// Keys whose last one may not have arrived as a whole.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    rest: Vec<u8>,
}

/// No sequence of a key is longer.
const LONGEST: usize = 16;

impl Keys {
    /// The keys that these bytes complete. Escape by itself is one when nothing follows in the same reading.
    pub fn read(&mut self, bytes: &[u8]) -> Vec<Key> {
        let alone = bytes == [0x1b] && self.rest.is_empty();
        self.rest.extend(bytes);
        let mut keys = Vec::new();
        while let Some((key, length)) = first(&self.rest, alone) {
            keys.extend(key);
            self.rest.drain(..length.min(self.rest.len()));
        }
        if self.rest.len() > LONGEST {
            self.rest.clear();
        }
        keys
    }
}

/// The first key, if these bytes are one, and how many they are; `None` when more have to come.
fn first(bytes: &[u8], alone: bool) -> Option<(Option<Key>, usize)> {
    let one = |key| Some((Some(key), 1));
    match bytes {
        [] => None,
        [0x1b] if alone => one(Key::Escape),
        [0x1b] => None,
        [0x1b, b'[' | b'O', rest @ ..] => {
            // Parameters, then the byte that ends it (ECMA-48, 5.4).
            let length = rest.iter().position(|byte| matches!(byte, 0x40..=0x7e))?;
            let (parameters, end) = rest.split_at(length);
            let key = match (parameters, end.first()) {
                (_, Some(b'A')) => Some(Key::Up),
                (_, Some(b'B')) => Some(Key::Down),
                (_, Some(b'H')) | (b"1" | b"7", Some(b'~')) => Some(Key::Home),
                (_, Some(b'F')) | (b"4" | b"8", Some(b'~')) => Some(Key::End),
                (b"5", Some(b'~')) => Some(Key::PageUp),
                (b"6", Some(b'~')) => Some(Key::PageDown),
                _ => None,
            };
            Some((key, length.saturating_add(3)))
        }
        [0x1b, ..] => one(Key::Escape),
        [b'\r' | b'\n', ..] => one(Key::Enter),
        [b'\t', ..] => one(Key::Tab),
        [0x7f | 8, ..] => one(Key::Backspace),
        [byte @ 1..=26, ..] => one(Key::Ctrl(char::from(byte.saturating_add(b'a' - 1)))),
        [byte @ b' '..=b'~', ..] => one(Key::Char(char::from(*byte))),
        _ => text(bytes),
    }
}

/// A character beyond ASCII; what is none is passed over.
fn text(bytes: &[u8]) -> Option<(Option<Key>, usize)> {
    let most = bytes.get(..bytes.len().min(4)).unwrap_or_default();
    let valid = match std::str::from_utf8(most) {
        Ok(text) => text,
        Err(error) if error.valid_up_to() > 0 => {
            std::str::from_utf8(most.get(..error.valid_up_to()).unwrap_or_default()).unwrap_or_default()
        }
        Err(error) => return error.error_len().map(|length| (None, length)),
    };
    let char = valid.chars().next()?;
    Some((Some(Key::Char(char)).filter(|_| !char.is_control()), char.len_utf8()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_apart() {
        let read = |bytes: &[u8]| Keys::default().read(bytes);
        assert_eq!(read(b"q/\r\x7f\t\x03"), {
            use Key::*;
            [Char('q'), Char('/'), Enter, Backspace, Tab, Ctrl('c')]
        });
        assert_eq!(read(b"\x1b[A\x1bOB\x1b[5~\x1b[6~"), [Key::Up, Key::Down, Key::PageUp, Key::PageDown]);
        assert_eq!(read(b"\x1b[H\x1b[4~\x1b[1;5A"), [Key::Home, Key::End, Key::Up]);
        assert_eq!(read(b"\x1b"), [Key::Escape]);
        assert_eq!(read("äq".as_bytes()), [Key::Char('ä'), Key::Char('q')]);
        assert_eq!(read(b"\xff\x00q\x1b[99zq"), [Key::Char('q'), Key::Char('q')]);
    }

    #[test]
    fn a_key_may_come_in_pieces_and_rubbish_is_forgotten() {
        let mut keys = Keys::default();
        assert_eq!(keys.read(b"\x1b["), []);
        assert_eq!(keys.read(b"5"), []);
        assert_eq!(keys.read(b"~"), [Key::PageUp]);
        assert_eq!(keys.read(&[0xc3]), []);
        assert_eq!(keys.read(&[0xa4]), [Key::Char('ä')]);
        assert_eq!(keys.read(&[b"\x1b[" as &[u8], &[b'1'; 100]].concat()), []);
        assert_eq!(keys.read(b"q"), [Key::Char('q')]);
        for byte in 0..=255 {
            keys.read(&[byte, b'x', byte]);
            assert!(keys.rest.len() <= LONGEST);
        }
    }
}
