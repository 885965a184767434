// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Linked objects and facts about this machine to a plan; a plan to kernel objects, and back again when a step fails.
//!
//! The way through: [`gather`] reads [`facts`], [`plan`] makes [`step`]s of them (with [`create`] and [`record`]),
//! [`exec`] does them, [`transcript`] and [`plan_json`] print them.
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

pub mod ack;
#[cfg(feature = "operate")]
pub mod allowed;
pub mod beside;
#[cfg(feature = "operate")]
pub mod changes;
pub mod compare;
#[cfg(feature = "operate")]
pub mod confine;
pub mod create;
pub mod exchange;
pub mod exec;
pub mod explain;
pub mod facts;
pub mod facts_json;
pub mod field;
#[cfg(feature = "operate")]
pub mod file;
pub mod gather;
mod hear;
#[cfg(feature = "operate")]
pub mod held;
#[cfg(feature = "operate")]
pub mod holder;
pub mod home;
pub mod kept;
pub mod lacks;
pub mod memory;
pub mod message;
#[cfg(feature = "compat")]
pub mod modules;
pub mod netlink;
#[cfg(feature = "operate")]
pub mod nft;
pub mod nla;
#[cfg(feature = "operate")]
pub mod notify;
pub mod packets;
#[cfg(feature = "operate")]
pub mod places;
pub mod plan;
pub mod plan_json;
#[cfg(feature = "operate")]
pub mod probe;
pub mod programs;
pub mod record;
pub mod refusal;
pub mod repair;
pub mod replace;
pub mod rtnl;
mod shape_hint;
pub mod shared;
pub mod signals;
#[cfg(feature = "audit")]
pub mod signed;
pub mod slot_programs;
pub mod sockopt;
pub mod step;
pub mod strace_form;
#[cfg(feature = "operate")]
pub mod surroundings;
pub mod symbols;
pub mod tc;
pub mod tcx;
pub mod testrun;
pub mod transcript;
pub mod types;
pub mod undo;
pub mod unpinned;
pub mod verify;
