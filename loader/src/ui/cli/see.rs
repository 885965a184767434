// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Looking at what runs: `status`, `asked`, `flows`, `rules`, `metrics`, `doctor`.
use super::args::{dev, selection};
use clap::Command;

pub(super) fn status() -> Command {
    Command::new("status")
        .about("Devices, programs, rules and their counters (the default)")
        .arg(dev().required(false))
}

pub(super) fn asked() -> Command {
    Command::new("asked")
        .about("Which destinations and ports clients asked for, served or not")
        .arg(dev())
        .arg(selection())
}

pub(super) fn flows() -> Command {
    Command::new("flows").about("Translations in force").arg(dev()).arg(selection())
}

pub(super) fn rules() -> Command {
    Command::new("rules").about("The rules in force, with their counters").arg(dev())
}

#[cfg(feature = "operate")]
pub(super) fn metrics() -> Command {
    Command::new("metrics").about("What is up as numbers for Prometheus").arg(dev().required(false)).arg(
        super::args::option(
            "file",
            "FILE",
            clap::builder::ValueParser::string(),
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
