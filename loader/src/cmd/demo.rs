// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `demo`: the main job between two hosts of its own, by the very commands that a user would type on the gateway.
use crate::cmd::{run, Answer, Context};
use crate::demo::client::{Question, QUESTIONS};
use crate::demo::lab::{Lab, DEVICE};
use crate::demo::serve::Servers;
use crate::demo::story::{Said, Story};
use crate::load::refusal::{Refusal, Stage};
use crate::ui::cli;
use std::io;

/// First match wins; the last rule answers the ping. The ports are those of [`Servers`].
const UP: [&str; 10] = [
    "up",
    DEVICE,
    "--rule",
    "tcp redirect to :80",
    "--rule",
    "udp dport 53 redirect to :53",
    "--rule",
    "udp redirect to :9999",
    "--rule",
    "redirect",
];

/// Builds the hosts, runs `up`, asks, and tells. Exit code 1 if an answer is missing or came under another address.
pub fn demo(context: &Context) -> Result<Answer, Refusal> {
    let lab = Lab::new()?;
    let _servers = Servers::start().map_err(|e| broken("start the servers", &e))?;
    let verbose = context.verbose.then_some("--verbose");
    let plan = said(["plan"].iter().chain(&UP).copied())?;
    let up = said(UP.into_iter().chain(verbose))?;
    let heard =
        lab.client.within(|| QUESTIONS.map(Question::ask)).map_err(|e| broken("become the client", &e))?;
    let (flows, asked) = (said(["flows", DEVICE])?, said(["asked", DEVICE])?);
    let story = Story {
        lab: &lab,
        verbose: context.verbose,
        command: &UP,
        plan,
        up,
        heard: heard.into(),
        flows,
        asked,
    };
    Ok(Answer { text: story.text(), code: u8::from(!story.is_ok()), json: story.json() })
}

fn broken(what: &str, error: &io::Error) -> Refusal {
    let (stage, hint) = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            (Stage::Permission, "ports 53 and 80 need CAP_NET_BIND_SERVICE: run it as root")
        }
        _ => (Stage::Kernel, ""),
    };
    Refusal::new(stage, format!("cannot {what}: {error}"), hint)
}

/// What another command answers here and now.
fn said<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Said, Refusal> {
    let words = ["detour"].into_iter().chain(words);
    let matches = cli::command().try_get_matches_from(words);
    let matches = matches.map_err(|e| Refusal::new(Stage::Usage, e.to_string(), ""))?;
    let Answer { text, json, .. } = run(&matches)?;
    Ok(Said { text, json })
}
