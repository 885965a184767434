// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What was made, asked and heard to text and JSON.
use crate::demo::client::Heard;
use crate::demo::lab::{Lab, CLIENT, DEVICE, GATEWAY};
use crate::load::plan_json;
use crate::load::step::Effect;
use crate::load::transcript;
use serde_json::{json, Value};
use std::fmt::Write;

/// What a command of detour answered: its text and its JSON.
#[derive(Debug)]
pub struct Said {
    /// For people.
    pub text: String,
    /// For programs.
    pub json: Value,
}

/// Everything that the demo saw.
#[derive(Debug)]
pub struct Story<'a> {
    /// The namespaces and how they came to be.
    pub lab: &'a Lab,
    /// Shows every step.
    pub verbose: bool,
    /// The command line whose effect is shown, from `up` on.
    pub command: &'a [&'a str],
    /// What `plan up` said before.
    pub plan: Said,
    /// What `up` said.
    pub up: Said,
    /// What the client heard.
    pub heard: Vec<Heard>,
    /// What `flows` said after.
    pub flows: Said,
    /// What `asked` said after.
    pub asked: Said,
}

impl Story<'_> {
    /// Whether every answer came under the address that was asked.
    pub fn is_ok(&self) -> bool {
        self.heard.iter().all(Heard::is_ok)
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = self.making();
        let _ = writeln!(text, "\n$ {}", self.line());
        text.push_str(&self.up.text);
        let _ = writeln!(text, "{}; 'detour plan up DEV' prints them", self.steps());
        let _ = writeln!(text, "\nThe client ({CLIENT}) asks, and hears:");
        let _ = writeln!(text, "  {:29} {:21} SERVED BY", "ASKED", "ANSWERED BY");
        for heard in &self.heard {
            let _ = writeln!(text, "  {}", line(heard));
        }
        for (command, said) in [("flows", &self.flows), ("asked", &self.asked)] {
            let _ = write!(text, "\n$ detour {command} {DEVICE}\n{}", said.text);
        }
        let verdict = match self.is_ok() {
            true => "Every answer came under the address that was asked.",
            false => "NOT every answer came under the address that was asked.",
        };
        let _ = writeln!(text, "\n{verdict}");
        text
    }

    /// How client and gateway came to be; without `verbose`, only the one step that is not about the network.
    fn making(&self) -> String {
        let mut text =
            String::from("This process is in namespaces of its own now; what is made here goes with it:\n");
        let mut skipped = 0_usize;
        for (place, plan) in &self.lab.done {
            for step in &plan.steps {
                match &step.effect {
                    Effect::Netlink(_) if !self.verbose => skipped = skipped.saturating_add(1),
                    effect => {
                        let _ = writeln!(text, "  {place:8} {}", transcript::effect(effect));
                    }
                }
            }
            for note in &plan.notes {
                let _ = writeln!(text, "  {place:8} {note}");
            }
        }
        if skipped > 0 {
            let cable = format!("{GATEWAY} on {DEVICE}, a cable, {CLIENT} on the client's end");
            let _ = writeln!(text, "  both     {cable}: {skipped} netlink messages, -v shows them");
        }
        text
    }

    /// `{"schema":"detour.demo/1","ok":true,"lab":[…],"command":[…],"plan":{…},"up":{…},"client":[…],"flows":{…},"asked":{…}}`
    pub fn json(self) -> Value {
        let stage = |(place, plan): &(&str, _)| json!({"netns": place, "plan": plan_json::plan(plan)});
        let lab: Vec<Value> = self.lab.done.iter().map(stage).collect();
        let client: Vec<Value> = self.heard.iter().map(row).collect();
        json!({
            "schema": "detour.demo/1", "ok": self.is_ok(), "lab": lab, "command": self.command,
            "plan": self.plan.json, "up": self.up.json, "client": client,
            "flows": self.flows.json, "asked": self.asked.json,
        })
    }

    /// The command as one would type it.
    fn line(&self) -> String {
        let quote = |word: &&str| match word.contains(' ') {
            true => format!("'{word}'"),
            false => (*word).to_string(),
        };
        let words: Vec<String> = self.command.iter().map(quote).collect();
        format!("detour {}", words.join(" "))
    }

    /// How many steps of which kind.
    fn steps(&self) -> String {
        let steps =
            self.plan.json.get("steps").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let does = |step: &&Value, kind: &str| step.get("do").and_then(Value::as_str) == Some(kind);
        let of = |kind: &str| steps.iter().filter(|step| does(step, kind)).count();
        let (bpf, netlink) = (of("bpf"), of("netlink"));
        let rest = steps.len().saturating_sub(bpf).saturating_sub(netlink);
        format!("{} steps: {bpf} bpf(2) calls, {netlink} netlink messages, {rest} others", steps.len())
    }
}

fn line(heard: &Heard) -> String {
    let asked = heard.question.to_string();
    let verdict = if heard.is_ok() { "ok" } else { "NOT ok" };
    match &heard.answer {
        Ok(answer) => {
            let from = match answer.from.port() {
                0 => answer.from.ip().to_string(),
                _ => answer.from.to_string(),
            };
            let server = answer.told.map_or_else(|| "(an echo)".to_string(), |told| told.server.to_string());
            format!("{asked:29} {from:21} {server:18} {verdict}")
        }
        Err(error) => format!("{asked:29} {error}: {verdict}"),
    }
}

fn row(heard: &Heard) -> Value {
    let mut row = json!({"asked": heard.question.to_string(), "ok": heard.is_ok()});
    match &heard.answer {
        Ok(answer) => {
            row["answered_by"] = answer.from.ip().to_string().into();
            if let Some(told) = &answer.told {
                row["port"] = answer.from.port().into();
                row["served_by"] = told.server.to_string().into();
                row["client_as_served"] = told.client.to_string().into();
            }
        }
        Err(error) => row["error"] = error.to_string().into(),
    }
    row
}
