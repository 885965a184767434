// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A real terminal: tmux with a shell in a namespace, keys to it, and what its screen shows.
use crate::netns::Netns;
use crate::tools::Scratch;
use std::process::Command;
use std::time::{Duration, Instant};

/// A terminal with a shell, which ends when it is dropped.
pub struct Tmux<'a> {
    ns: &'a Netns,
    scratch: Scratch,
}

impl<'a> Tmux<'a> {
    /// A screen of so many columns and lines. The shell has job control and the prompt `$ `.
    pub fn new(ns: &'a Netns, columns: u32, lines: u32) -> Tmux<'a> {
        let tmux = Tmux { ns, scratch: Scratch::new() };
        let (columns, lines) = (columns.to_string(), lines.to_string());
        let config = tmux.scratch.write("tmux.conf", "set -g status off\nset -g default-terminal screen\n");
        let shell = "PS1='$ ' exec bash --norc --noprofile -i";
        tmux.run(&["-f", &config, "new-session", "-d", "-x", &columns, "-y", &lines, shell]);
        tmux.shows("$ ");
        tmux
    }

    fn run(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("tmux");
        // Its server inherits this namespace; nothing of it is where other servers are.
        command.arg("-u").arg("-S").arg(self.scratch.path("socket")).args(arguments).env("LC_ALL", "C.UTF-8");
        command.env_remove("TMUX").env("NO_COLOR", "1").env_remove("COLUMNS");
        let output = self.ns.output(&mut command);
        assert!(output.status.success(), "tmux {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What is on the screen, a line each, without blanks at their ends.
    pub fn screen(&self) -> Vec<String> {
        self.run(&["capture-pane", "-p"]).lines().map(|line| line.trim_end().to_owned()).collect()
    }

    /// Waits until something is on the screen; all of it.
    #[track_caller]
    pub fn shows(&self, words: &str) -> Vec<String> {
        self.waits(words, |screen| screen.iter().any(|line| line.contains(words.trim_end())))
    }

    /// Waits until the screen is as it should be.
    #[track_caller]
    pub fn waits(&self, what: &str, is: impl Fn(&[String]) -> bool) -> Vec<String> {
        let start = Instant::now();
        loop {
            let screen = self.screen();
            if is(&screen) {
                return screen;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "{what:?}:\n{}", screen.join("\n"));
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Types text.
    pub fn types(&self, text: &str) {
        self.run(&["send-keys", "-l", text]);
    }

    /// Presses a key by tmux's name: `Enter`, `Escape`, `C-c`, `Down`.
    pub fn press(&self, key: &str) {
        self.run(&["send-keys", key]);
    }

    /// Types a line.
    pub fn line(&self, text: &str) {
        self.types(text);
        self.press("Enter");
    }

    /// Another size.
    pub fn resize(&self, columns: u32, lines: u32) {
        self.run(&["resize-window", "-x", &columns.to_string(), "-y", &lines.to_string()]);
    }

    /// A tmux format, such as `#{alternate_on}`.
    pub fn says(&self, format: &str) -> String {
        self.run(&["display-message", "-p", format]).trim_end().to_owned()
    }

    /// A file of its own.
    pub fn file(&self, name: &str) -> String {
        self.scratch.path(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Tmux<'_> {
    fn drop(&mut self) {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(self.scratch.path("socket")).arg("kill-server");
        let _ = self.ns.within(|| command.output());
    }
}
