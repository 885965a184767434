// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Running the DNAT: `up`, `flush`, `run`, `down`, `demo`.
use super::args::{dev, flag, handle, mount, no_pin, option, prio, rules};
use super::limits::options;
use clap::builder::ValueParser;
use clap::{Arg, Command, ValueHint};

pub(super) fn up() -> Command {
    Command::new("up")
        .about("Load, attach and apply rules, then leave; the kernel carries on")
        .after_help("Without rules, everything goes to the device's own address: the rule 'redirect'.")
        .args(wanted())
        .arg(flag(
            "fresh",
            "Where it is up: replace programs and maps without a gap, whatever the options; flows end, what was asked for stays where --asked-max does",
        ))
        .args(flushing())
}

#[cfg(feature = "operate")]
fn flushing() -> [Arg; 1] {
    let match_ = clap::builder::ValueParser::string();
    [option(
        "flush",
        "MATCH",
        match_,
        "Then end the flows that MATCH chooses, as 'flush' does; '' chooses all",
    )]
}

#[cfg(not(feature = "operate"))]
fn flushing() -> [Arg; 0] {
    []
}

#[cfg(feature = "operate")]
pub(super) fn flush() -> Command {
    Command::new("flush")
        .about("End translations: what follows is for the rules of now to decide")
        .after_help(
            "All of them, or those that MATCH chooses. TCP in the middle may be picked up again: 'up --no-pickup' forbids it.",
        )
        .arg(dev())
        .arg(super::args::selection())
}

/// What is to be up, and how.
fn wanted() -> Vec<Arg> {
    let mut all = vec![dev(), prio("100"), handle().default_value("0xd370"), mount()];
    all.extend(rules());
    all.extend(options());
    let help = "Programs of this object instead of the ones inside detour; it must have the same maps";
    all.push(option("object", "FILE", ValueParser::string(), help).value_hint(ValueHint::AnyPath));
    all.extend(super::args::admitted());
    all.push(no_pin());
    all.extend(original_dst());
    all
}

#[cfg(feature = "operate")]
fn original_dst() -> [Arg; 1] {
    let help = "Let getsockopt(SO_ORIGINAL_DST) of servers in this cgroup say what their clients asked for; without CGROUP, in all";
    let cgroup = option("original-dst", "CGROUP", clap::builder::ValueParser::string(), help);
    [cgroup.num_args(0..=1).require_equals(true).default_missing_value("")]
}

#[cfg(not(feature = "operate"))]
fn original_dst() -> [Arg; 0] {
    []
}

#[cfg(feature = "operate")]
pub(super) fn run() -> Command {
    Command::new("run")
        .about("up in the foreground: tells events, reloads rules on SIGHUP, follows addresses")
        .after_help(
            "SIGINT and SIGTERM end it, and the kernel carries on. Speaks sd_notify: Type=notify-reload. Where DEV gets another \
             name, its programs go on, and run says that there is no DEV until one has that name again.",
        )
        .args(wanted())
        .arg(option(
            "metrics-file",
            "FILE",
            ValueParser::from(super::args::written),
            "Replace this file every 15 s, for Prometheus",
        ))
        .arg(option(
            "names",
            "FILE",
            ValueParser::from(super::args::written),
            "Keep here which names clients look up, in hosts format",
        ))
        .arg(option(
            "events",
            "FILE",
            ValueParser::from(super::args::written),
            "Append events to this file, not to stderr; SIGHUP opens it anew",
        ))
        .arg(flag("down-on-exit", "Detach and unpin at the end; not what others have put in their place"))
        .arg(flag(
            "no-confine",
            "Keep capabilities and system calls: it can then load again when the device comes back",
        ))
}

pub(super) fn down() -> Command {
    Command::new("down").about("Detach and unpin what up made, and nothing else").arg(dev())
}

#[cfg(feature = "demo")]
pub(super) fn demo() -> Command {
    Command::new("demo").about("The main job in network namespaces of its own: nothing outside is touched")
}
