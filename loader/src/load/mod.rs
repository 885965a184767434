// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! (module load)
pub mod ack;
pub mod field;
pub mod message;
pub mod netlink;
pub mod nla;
pub mod rtnl;
pub mod tc;
