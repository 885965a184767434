// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Running the DNAT: `up`, `run`, `down`, `demo`.
use super::args::{dev, flag, handle, mount, option, prio, rules};
use clap::{value_parser, Arg, Command};

pub(super) fn up() -> Command {
    Command::new("up")
        .about("Load, attach and apply rules, then leave; the kernel carries on")
        .after_help("Without rules, everything goes to the device's own address: the rule 'redirect'.")
        .args(wanted())
}

/// What is to be up, and how.
fn wanted() -> Vec<Arg> {
    let mut all = vec![dev(), prio("100"), handle().default_value("0xd370"), mount()];
    all.extend(rules());
    all.extend(options());
    all
}

#[cfg(feature = "operate")]
pub(super) fn run() -> Command {
    let file = clap::builder::ValueParser::string();
    Command::new("run")
        .about("up in the foreground: tells events, reloads rules on SIGHUP, follows addresses")
        .after_help(
            "SIGINT and SIGTERM end it, and the kernel carries on. Speaks sd_notify: Type=notify-reload.",
        )
        .args(wanted())
        .arg(option("metrics-file", "FILE", file, "Replace this file every 15 s, for Prometheus"))
        .arg(flag("down-on-exit", "Detach and unpin at the end"))
}

/// What the programs are configured with; `verify` takes the same.
pub(super) fn options() -> Vec<Arg> {
    let flows =
        option("flows-max", "N", value_parser!(u32).range(16..=16_777_216), "Confirmed flows at most");
    let small = || value_parser!(u32).range(16..=1_048_576);
    let opening = option("opening-max", "N", small(), "Half-open flows at most, per CPU");
    let asked = option("asked-max", "N", small(), "Rows that 'asked' keeps at most");
    let sizes = [flows.default_value("65536"), opening.default_value("4096"), asked.default_value("16384")];
    let monitor = flag("monitor", "Translate nothing, drop nothing, record everything");
    sizes.into_iter().chain(pickup()).chain([monitor]).collect()
}

fn pickup() -> [Arg; 2] {
    [
        flag(
            "pickup",
            "Open flows for TCP packets in mid-stream (the default where the device does not forward)",
        ),
        flag("no-pickup", "Never do that").conflicts_with("pickup"),
    ]
}

pub(super) fn down() -> Command {
    Command::new("down").about("Detach and unpin what up made, and nothing else").arg(dev())
}

#[cfg(feature = "demo")]
pub(super) fn demo() -> Command {
    Command::new("demo").about("The main job in network namespaces of its own: nothing outside is touched")
}
