// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Objects as other people write them to objects that need nothing more of a kernel.
//!
//! [`kernel`] reads what an object asks for, [`target`] takes the few types that matter out of the kernel's many, [`core`]
//! moves accesses to where the fields are. All but [`kernel`] is pure.
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

pub mod config;
pub mod core;
pub mod externs;
mod gzip;
pub mod kernel;
mod modules;
mod scan;
mod source;
pub mod target;

pub use source::Source;
pub use target::Target;
