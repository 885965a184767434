// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Looking at what runs: `status`, `asked`, `flows`, `orig`, `rules`, `events`, `metrics`, `doctor`.
use super::args::{dev, selection};
use clap::Command;

pub(super) fn status() -> Command {
    Command::new("status")
        .about("Devices, programs, rules and their counters (the default)")
        .arg(dev().required(false))
}

pub(super) fn asked() -> Command {
    let command = Command::new("asked")
        .about("Which destinations and ports clients asked for, served or not")
        .arg(dev())
        .arg(selection());
    #[cfg(feature = "operate")]
    let command = command.args(ranked());
    command
}

#[cfg(feature = "operate")]
fn ranked() -> [clap::Arg; 8] {
    use super::args::{flag, option};
    use clap::builder::{PossibleValuesParser, ValueParser};
    let since = |text: &str| {
        crate::dnat::ranking::length_of_time(text).ok_or("a length of time, such as 90s, 5m, 2h, 1d")
    };
    let words = |words: &'static [&str]| PossibleValuesParser::new(words.iter().copied());
    let order = words(&["packets", "bytes", "first", "last", "name"]);
    [
        option("sort", "BY", order, "What comes first (packets)"),
        option("top", "N", clap::value_parser!(u32).range(1..), "Show at most N"),
        option(
            "since",
            "TIME",
            ValueParser::from(since),
            "Only what was asked for within TIME: 90s, 5m, 2h, 1d",
        ),
        option("by", "WHAT", words(&["client", "port", "dest"]), "Add up by client, port or destination"),
        flag("chart", "As bars").conflicts_with("csv"),
        option("svg", "FILE", ValueParser::string(), "Write the bars as a picture; - is stdout"),
        flag("csv", "As comma-separated values"),
        names(),
    ]
}

pub(super) fn flows() -> Command {
    let command = Command::new("flows").about("Translations in force").arg(dev()).arg(selection());
    #[cfg(feature = "operate")]
    let command = command.arg(names());
    command
}

pub(super) fn rules() -> Command {
    Command::new("rules").about("The rules in force, with their counters").arg(dev())
}

#[cfg(feature = "operate")]
pub(super) fn orig() -> Command {
    let word = |id: &'static str, name: &'static str, help: &'static str| {
        clap::Arg::new(id).value_name(name).required(true).help(help)
    };
    Command::new("orig")
        .about("What the client of a connection had asked for, from what its server sees")
        .after_help("Exit status 1: no such translation. Of ICMP the client's port is the identifier; without ports, addresses only.")
        .arg(word("protocol", "PROTO", "tcp, udp, sctp, icmp, ipv6-icmp or a number"))
        .arg(word("client", "CLIENT", "The client as the server sees it, ADDRESS:PORT"))
        .arg(word("server", "SERVER", "The server's own ADDRESS:PORT; of a UDP wildcard socket 0.0.0.0 or [::] will do"))
        .arg(super::args::option(
            "dev",
            "DEV",
            clap::builder::ValueParser::string(),
            "What is up on this device; otherwise on all, and the newest counts",
        ))
}

#[cfg(feature = "operate")]
const EVENTS: &str = "Kinds. Of asked, denied and refused one is told for each client, destination and port, and another when the answer changes:\n\
    \n  new        a flow was opened: a rule translates what was asked for\n  \
    confirmed  its client has heard the server, and answered\n  \
    closed     a confirmed flow has ended by FIN of both sides or by RST; again, if more followed the RST. Nothing is told\n             \
    of the end of others: what nobody confirmed (a connection that was refused), what fell silent, what 'flush' or\n             \
    a SYN ended\n  \
    asked      no rule translates what was asked for\n  \
    denied     a rule drops or rejects it\n  \
    refused    a rule translates it, and a limit or want of room forbids that\n  \
    full       no confirmed slot is free; once a second and processor at most\n  \
    packet     a packet, as --pcap has it\n  \
    dns        an answer of a name server: addresses get names by it";

#[cfg(feature = "operate")]
pub(super) fn events() -> Command {
    use super::args::option;
    use clap::builder::{PossibleValuesParser, ValueParser};
    let kinds = PossibleValuesParser::new(crate::dnat::events::KINDS.map(|(_, _, name)| name));
    let kind = option("kind", "KIND", kinds, "This kind of event; all but packet and dns otherwise");
    Command::new("events")
        .about("What happens on the device, a line each as it happens, until a signal ends it")
        .after_help(EVENTS)
        .arg(dev())
        .arg(kind.action(clap::ArgAction::Append))
        .arg(option("count", "N", clap::value_parser!(u64).range(1..), "End after N of them"))
        .arg(names())
        .arg(option(
            "pcap",
            "FILE",
            ValueParser::string(),
            "Write packets as pcapng, each with its flow and rule: translated, before and after, denied, or seen by a monitor; - is stdout, and nothing else goes there",
        ))
}

/// Names beside addresses.
#[cfg(feature = "operate")]
fn names() -> clap::Arg {
    let help = "Show the names of FILE too, in hosts format, as 'run --names' keeps it";
    super::args::option("names", "FILE", clap::builder::ValueParser::string(), help)
}

/// Whatever needs a screen or makes one frame for it.
#[cfg(feature = "watch")]
pub(super) fn watch() -> Command {
    use super::args::{flag, option};
    use crate::ui::watch::state::VIEWS;
    use clap::builder::{PossibleValuesParser, ValueParser};
    let seconds = |text: &str| {
        let time = text.parse::<f64>().ok().filter(|seconds| (0.1..=3600.0).contains(seconds));
        time.map(std::time::Duration::from_secs_f64).ok_or("seconds from 0.1 to 3600")
    };
    let views = PossibleValuesParser::new(VIEWS.map(|(_, name)| name));
    Command::new("watch")
        .about("What was asked for, flows and rates on a live screen")
        .after_help(
            "Keys: q ends; 1, 2, 3, Tab choose the view; s, S the order; / a filter, Escape none; f or space freezes; \
             arrows, PgUp, PgDn, Home, End scroll. Names are those that clients look up meanwhile, and those of --names.",
        )
        .arg(dev())
        .arg(selection())
        .arg(flag("once", "Print one frame and end; the only way without a terminal. Rates need --interval: two readings"))
        .arg(option("width", "N", clap::value_parser!(u16).range(1..), "Characters in a line of --once").requires("once"))
        .arg(option("interval", "SECONDS", ValueParser::from(seconds), "Read so often (1)"))
        .arg(option("view", "VIEW", views, "What to begin with (asked)"))
        .arg(names())
}

#[cfg(feature = "operate")]
pub(super) fn metrics() -> Command {
    Command::new("metrics").about("What is up as numbers for Prometheus").arg(dev().required(false)).arg(
        super::args::option(
            "file",
            "FILE",
            clap::builder::ValueParser::from(super::args::written),
            "Replace this file as a whole, for the textfile collector of node_exporter",
        ),
    )
}

#[cfg(feature = "operate")]
pub(super) fn doctor() -> Command {
    Command::new("doctor")
        .about("What this kernel, this process and this device can do, each fault with its fix")
        .after_help("Tries kernel features by calls that leave nothing behind; -v shows them. 1 where 'up' would fail.")
        .arg(dev().required(false))
}
