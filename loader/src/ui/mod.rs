// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! (module ui)
pub mod cli;
pub mod json;
