// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Looking at what runs: `status`, `asked`, `flows`, `rules`.
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
