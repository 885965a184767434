// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The DNAT over the maps: rules as text and as kernel tables, flows, what was asked for, counters.
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]
#![cfg_attr(
    test,
    allow(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

pub mod abi;
pub mod alike;
#[cfg(feature = "operate")]
pub mod answers;
pub mod asked;
pub mod classify;
pub mod clock;
pub mod codes;
pub mod control;
pub mod counters;
#[cfg(feature = "operate")]
pub mod datagram;
#[cfg(feature = "operate")]
pub mod diagnosis;
pub mod diagnostic;
#[cfg(feature = "operate")]
pub mod dns;
pub mod embedded;
#[cfg(feature = "operate")]
pub mod events;
pub mod flows;
#[cfg(feature = "operate")]
pub mod flush;
pub mod in_force;
pub mod index;
pub mod link;
#[cfg(feature = "operate")]
pub mod listener;
pub mod look;
#[cfg(feature = "operate")]
pub mod names;
pub mod options;
#[cfg(feature = "operate")]
pub mod original;
pub mod parse;
#[cfg(feature = "operate")]
pub mod pcapng;
#[cfg(feature = "operate")]
pub mod ranking;
pub mod reject;
pub mod reload;
pub mod rules;
pub mod running;
mod scan;
#[cfg(feature = "operate")]
pub mod seat;
pub mod selection;
pub mod set;
pub mod shadow;
mod values;
pub mod verify;
pub mod wire;

#[cfg(test)]
mod nft_tests;
#[cfg(test)]
mod random_rules;
