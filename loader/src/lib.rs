// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! detour: ELF bytes to running tc programs, every effect a value that can be read first.
#![forbid(unsafe_code)]

pub mod cmd;
#[cfg(feature = "compat")]
pub mod compat;
#[cfg(feature = "demo")]
pub mod demo;
pub mod dnat;
pub mod load;
pub mod object;
pub mod ui;
