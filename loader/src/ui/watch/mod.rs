// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Readings and keys -> the frames of `watch`. Pure: what is read and drawn, and when, is up to `cmd`.
pub mod columns;
pub mod frame;
pub mod keys;
pub mod paint;
pub mod rates;
pub mod spark;
pub mod state;
pub mod tables;

use crate::dnat::asked::{Asked, Others};
use crate::dnat::counters::Counter;
use crate::dnat::flows::Flow;
use crate::dnat::in_force::InForce;
use std::time::Duration;

/// What was read of the maps at one time.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// CLOCK_MONOTONIC.
    pub at: Duration,
    /// What was asked for.
    pub asked: Vec<Asked>,
    /// What has no row of its own.
    pub others: Vec<Others>,
    /// Translations in force.
    pub flows: Vec<Flow>,
    /// Rules in force with their counters.
    pub rules: InForce,
    /// Why packets were left alone or dropped.
    pub counters: Vec<Counter>,
}
