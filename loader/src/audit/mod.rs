// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! An object and a site's files to whether it may be loaded there: who signed it, and what it may use.
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]
pub mod policy;
pub mod signature;
pub mod size;
