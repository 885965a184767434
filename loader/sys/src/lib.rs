// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! All unsafe code of detour: turns typed bpf(2) commands into the one system call, and its answer into owned values.
//!
//! What a reader has to check here:
//! * [`commands`] is the table of `union bpf_attr`, [`attr`] its encoder; safe code. Every pointer in an attribute names a buffer
//!   whose length the encoder itself writes into the attribute's count field, so the two cannot disagree.
//! * [`call`] makes the system call for commands whose attribute says all lengths by itself.
//! * [`map`] makes it for element commands, where the kernel takes the lengths from the map: it allocates every buffer
//!   by the sizes that the kernel reported for that very descriptor.
//! * [`batch`] makes it for many elements at once: room for as many keys and values, of those sizes, as the call asks for.
//! * [`heap`] gives the program its memory, out of a region that it brings along; which block is whose says `blocks`, safe code.
//! * [`info`] asks what a descriptor is; two records point to lists, whose room it allocates by the kernel's own count.
//! * [`ethtool`] asks a driver for one number.
//! * `pages` maps a part of a map; it is unmapped when it is dropped.
//! * [`ring`] copies the records of a ring buffer out of its pages.
//! * [`rename`] swaps two names: two strings go to the kernel, nothing comes back.
//! * [`landlock`] forbids files to the thread itself: a number and a descriptor come back.
//! * [`netns`] asks a socket for the number of its network namespace.
//! * [`terminal`] asks a terminal for its size.
//! * [`window`] loads and stores bytes of a map of global data in its pages.
//! * [`types`] maps the one file that is the kernel's memory.
pub mod attr;
pub mod batch;
mod blocks;
pub mod call;
pub mod commands;
pub mod ethtool;
pub mod heap;
pub mod info;
pub mod landlock;
pub mod map;
pub mod netns;
mod pages;
pub mod rename;
pub mod ring;
pub mod terminal;
pub mod types;
pub mod window;

pub use attr::{Command, Field, Kind, Value};
pub use batch::{Batches, Element};
pub use call::{call, Answer};
pub use heap::Heap;
pub use info::info;
pub use map::{possible_cpus, Map};
pub use types::KernelTypes;
