// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Running the DNAT: `up`, `down`, `demo`.
use super::args::{dev, flag, handle, mount, option, prio, rules};
use clap::{value_parser, Arg, Command};

pub(super) fn up() -> Command {
    Command::new("up")
        .about("Load, attach and apply rules, then leave; the kernel carries on")
        .after_help("Without rules, everything goes to the device's own address: the rule 'redirect'.")
        .arg(dev())
        .args(rules())
        .arg(prio("100"))
        .arg(handle().default_value("0xd370"))
        .arg(
            option("flows-max", "N", value_parser!(u32).range(16..=16_777_216), "Confirmed flows at most")
                .default_value("65536"),
        )
        .arg(
            option(
                "opening-max",
                "N",
                value_parser!(u32).range(16..=1_048_576),
                "Half-open flows at most, per CPU",
            )
            .default_value("4096"),
        )
        .arg(
            option(
                "asked-max",
                "N",
                value_parser!(u32).range(16..=1_048_576),
                "Rows that 'asked' keeps at most",
            )
            .default_value("16384"),
        )
        .args(pickup())
        .arg(mount())
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
