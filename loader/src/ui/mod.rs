// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Plain data to bytes on a terminal or JSON; and the tree of arguments. Nothing here asks the system anything.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]
pub mod asked;
#[cfg(feature = "operate")]
pub mod chart;
pub mod cli;
#[cfg(feature = "operate")]
pub mod doctor;
#[cfg(feature = "operate")]
pub mod events;
pub mod excerpt;
pub mod flows;
#[cfg(feature = "compat")]
pub mod foreign;
pub mod inspect;
pub mod json;
pub mod list;
pub mod map_type;
pub mod maps;
#[cfg(feature = "operate")]
pub mod metrics;
#[cfg(feature = "operate")]
pub mod original;
pub mod paper;
#[cfg(feature = "operate")]
pub mod records;
pub mod rules;
pub mod status;
#[cfg(feature = "operate")]
pub mod sums;
pub mod text;
pub mod value;
pub mod verify;
pub mod version;
#[cfg(feature = "watch")]
pub mod watch;
