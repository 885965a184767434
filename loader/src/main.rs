// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The `detour` program.
#![forbid(unsafe_code)]
fn main() {}
