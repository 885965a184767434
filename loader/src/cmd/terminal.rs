// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A terminal to one that shows frames and gives keys; and back again, however the program ends.
use crate::load::refusal::{Refusal, Stage};
use crate::ui::watch::paint::{ENTER, LEAVE};
use nix::sys::termios::{cfmakeraw, tcgetattr, tcsetattr, SetArg, Termios};
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;

/// A terminal in use. When it is dropped, or the program panics, it is as before.
#[derive(Debug)]
pub struct Terminal {
    input: File,
    output: File,
    before: Termios,
}

impl Terminal {
    /// Whether standard input and output are one that understands more than text.
    pub fn usable() -> Result<(), Refusal> {
        let able = std::env::var("TERM").is_ok_and(|term| !term.is_empty() && term != "dumb");
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() || !able {
            let hint = "--once prints one frame; for programs, 'asked', 'flows' and 'metrics'";
            return Err(Refusal::new(Stage::Usage, "watch needs a terminal for keys and frames", hint));
        }
        Ok(())
    }

    /// Takes it.
    pub fn open() -> Result<Terminal, Refusal> {
        let (input, output) = (io::stdin(), io::stdout());
        let failed = |e: io::Error| Refusal::new(Stage::Kernel, format!("the terminal: {e}"), "");
        let (input, output) = (input.as_fd().try_clone_to_owned(), output.as_fd().try_clone_to_owned());
        Terminal::of(input.map_err(failed)?, output.map_err(failed)?).map_err(failed)
    }

    /// Any terminal, by its two ends.
    pub fn of(input: OwnedFd, output: OwnedFd) -> io::Result<Terminal> {
        let before = tcgetattr(&input)?;
        let terminal = Terminal { input: input.into(), output: output.into(), before };
        terminal.hook()?;
        terminal.enter()?;
        Ok(terminal)
    }

    /// Keys come as they are pressed, none means a signal, and nothing scrolls.
    pub fn enter(&self) -> io::Result<()> {
        let mut raw = self.before.clone();
        cfmakeraw(&mut raw);
        // What was typed until now is not for us.
        tcsetattr(&self.input, SetArg::TCSAFLUSH, &raw)?;
        (&self.output).write_all(ENTER.as_bytes())
    }

    /// As it was.
    pub fn leave(&self) {
        leave(&self.input, &self.output, &self.before);
    }

    /// With panic = "abort" nothing is dropped: the message is to be seen on the screen that was there before.
    fn hook(&self) -> io::Result<()> {
        let kept = Mutex::new((self.input.try_clone()?, self.output.try_clone()?, self.before.clone()));
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if let Ok(kept) = kept.try_lock() {
                let (input, output, before) = &*kept;
                leave(input, output, before);
            }
            others(panic);
        }));
        Ok(())
    }

    /// Shows it.
    pub fn write(&self, text: &str) -> io::Result<()> {
        (&self.output).write_all(text.as_bytes())
    }

    /// What was typed; nothing when the terminal is gone.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let mut room = [0; 1024];
        let length = (&self.input).read(&mut room)?;
        Ok(room.get(..length).unwrap_or_default().to_vec())
    }

    /// Lines and columns; what nobody knows is that of a VT100.
    pub fn size(&self) -> (usize, usize) {
        let (lines, columns) = detour_sys::terminal::size(self.output.as_fd()).unwrap_or((0, 0));
        let or = |n: u16, usual: usize| if n == 0 { usual } else { usize::from(n) };
        (or(lines, 24), or(columns, 80))
    }
}

/// In this order: what the terminal answers to the sequences is not echoed.
fn leave(input: &File, mut output: &File, before: &Termios) {
    // There is nobody left to tell of a fault.
    let _ = output.write_all(LEAVE.as_bytes());
    let _ = tcsetattr(input, SetArg::TCSADRAIN, before);
}

impl AsFd for Terminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.input.as_fd()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use nix::pty::openpty;
    use nix::sys::termios::LocalFlags;

    /// The hook is one for all threads.
    static HOOK: Mutex<()> = Mutex::new(());

    /// A terminal was told this, in how many pieces it may come.
    #[track_caller]
    fn told(master: &OwnedFd, expected: &str) {
        let mut room = vec![0; expected.len()];
        File::from(master.try_clone().unwrap()).read_exact(&mut room).unwrap();
        assert_eq!(String::from_utf8_lossy(&room), expected);
    }

    #[test]
    fn a_panic_gives_the_terminal_back() {
        let _alone = HOOK.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let pty = openpty(None, None).unwrap();
        let before = tcgetattr(&pty.slave).unwrap();
        assert!(before.local_flags.contains(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG));
        let (input, output) = (pty.slave.try_clone().unwrap(), pty.slave.try_clone().unwrap());
        let terminal = Terminal::of(input, output).unwrap();
        let raw = tcgetattr(&pty.slave).unwrap();
        assert!(!raw.local_flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG));
        told(&pty.master, ENTER);
        // As with panic = "abort", only the hook runs: the terminal is not dropped.
        let caught = std::panic::catch_unwind(|| panic!("on purpose"));
        assert!(caught.is_err());
        assert_eq!(tcgetattr(&pty.slave).unwrap(), before);
        told(&pty.master, LEAVE);
        drop(terminal);
        let _ = std::panic::take_hook();
    }

    #[test]
    fn it_is_as_before_when_it_is_dropped() {
        let _alone = HOOK.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let size = nix::pty::Winsize { ws_row: 30, ws_col: 132, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).unwrap();
        let before = tcgetattr(&pty.slave).unwrap();
        let terminal = Terminal::of(pty.slave.try_clone().unwrap(), pty.slave.try_clone().unwrap()).unwrap();
        assert_eq!(terminal.size(), (30, 132));
        terminal.leave();
        assert_eq!(tcgetattr(&pty.slave).unwrap(), before, "for the time of a stop");
        terminal.enter().unwrap();
        drop(terminal);
        assert_eq!(tcgetattr(&pty.slave).unwrap(), before);
        told(&pty.master, &[ENTER, LEAVE, ENTER, LEAVE].concat());
        let _ = std::panic::take_hook();
    }
}
