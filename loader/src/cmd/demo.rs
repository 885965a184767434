// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `demo`: the main job between two hosts of its own, by the very commands that a user would type on the gateway.
use crate::cmd::{run, Answer};
use crate::demo::client::{Question, QUESTIONS};
use crate::demo::lab::{Lab, DEVICE};
use crate::demo::serve::Servers;
use crate::demo::story::{Said, Story};
use crate::load::refusal::{Refusal, Stage};
use crate::ui::cli;
use clap::ArgMatches;
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
pub fn demo(args: &ArgMatches) -> Result<Answer, Refusal> {
    let verbose = args.get_flag("verbose");
    let colour = args.get_one::<String>("color").map_or("auto", String::as_str);
    let detour = |words: &[&str]| said(&[words, &["--color", colour]].concat());
    let lab = Lab::new()?;
    let _servers = Servers::start().map_err(|e| broken("start the servers", &e))?;
    let plan = detour(&[&["plan"], &UP[..]].concat())?;
    let up = match verbose {
        true => detour(&[&UP[..], &["--verbose"]].concat())?,
        false => detour(&UP)?,
    };
    let heard = lab.client.within(|| QUESTIONS.map(Question::ask));
    let heard = heard.map_err(|e| broken("become the client", &e))?.into();
    let (flows, asked) = (detour(&["flows", DEVICE])?, detour(&["asked", DEVICE])?);
    let story = Story { lab: &lab, verbose, command: &UP, plan, up, heard, flows, asked };
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
fn said(words: &[&str]) -> Result<Said, Refusal> {
    let matches = cli::command().no_binary_name(true).try_get_matches_from(words);
    let matches = matches.map_err(|e| Refusal::new(Stage::Usage, e.to_string(), ""))?;
    let Answer { text, json, .. } = run(&matches)?;
    Ok(Said { text, json })
}
