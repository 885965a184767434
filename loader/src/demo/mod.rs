// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A machine without anything to a client that is answered under addresses that belong to nobody.
//!
//! One process, no other program: [`lab`] makes two hosts and a cable, [`serve`] answers on one of them, [`client`] asks
//! from the other one, [`story`] tells what it saw. The commands in between are the real ones.
pub mod client;
pub mod lab;
pub mod netns;
pub mod serve;
pub mod story;
