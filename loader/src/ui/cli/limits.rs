// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Options of `up` that size its tables and say what happens at their limits.
use super::args::{flag, option};
use crate::dnat::options::Timeouts;
use clap::builder::{PossibleValuesParser, ValueParser};
use clap::{value_parser, Arg, ArgAction};

/// What the programs are configured with; `verify` takes the same.
pub(super) fn options() -> Vec<Arg> {
    limits().into_iter().chain(pickup()).collect()
}

fn limits() -> Vec<Arg> {
    let flows = value_parser!(u32).range(16..=16_777_216);
    let rows = || value_parser!(u32).range(16..=1_048_576);
    let any = || value_parser!(u32).range(1..=1_000_000);
    let timeout = "Idle time of tcp_established (7440s), tcp_transitory (240s), udp (300s), icmp (60s), generic (600s), ip_frag (30s)";
    vec![
        option("flows-max", "N", flows, "Confirmed flows at most").default_value("65536"),
        option("half-open", "N", rows(), "Half-open flows at most, per CPU").default_value("4096"),
        option("asked-max", "N", rows(), "Rows that 'asked' keeps at most").default_value("16384"),
        option("timeout", "NAME=TIME", ValueParser::from(Timeouts::parse), timeout).action(ArgAction::Append),
        option(
            "when-full",
            "WHAT",
            PossibleValuesParser::new(["hold", "drop", "reject", "pass"]),
            "What becomes of new flows when all flows-max are in use: held half-open as long as that goes, dropped, refused, or passed untranslated",
        )
        .default_value("hold"),
        option("client-new", "N", any(), "New flows of one client in a second at most; without, no limit"),
        option("client-live", "N", any(), "Confirmed flows of one client at most; without, no limit"),
        option("clients-max", "N", rows(), "Clients that are counted for these two at most").default_value("16384"),
        flag("sealed", "Drop what arrives and is neither translated, accepted by a rule nor for this machine"),
        option("vlan", "WHICH", ["none", "any"], "Frames with VLAN tags that are served, too")
            .default_value("none"),
        flag("monitor", "Translate nothing, drop nothing, record everything").conflicts_with("sealed"),
    ]
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
