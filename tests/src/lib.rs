// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What the tests share: namespaces to work in, packets to send, people to talk to, and other programs' view of the kernel.
//!
//! * [`netns`], [`lab`]: a client and a gateway that nobody else sees and that vanish with the test; [`family`]: their names in
//!   IPv4 and IPv6;
//! * [`serve`], [`talk`]: servers on the gateway and what a client hears when it asks;
//! * [`crowd`]: very many of them, and a flood; [`race`]: two processors at once;
//! * [`packet`], [`sctp`], [`capture`]: frames built, read and their checksums computed, all independent of the code under test;
//! * [`random`]: any number of packets, and [`model`]: what has to become of each; [`quote`]: errors that quote them;
//! * [`tun`]: a device whose far end is a test, [`taps`]: two of them with the programs between;
//! * [`dns`]: questions and answers; [`listen`]: events;
//! * [`cgroup`]: a cgroup to make sockets in;
//! * [`detour`]: the program; [`testrun`]: one of its programs run on one packet, [`bench`]: and what has to come out;
//! * [`tmux`]: a terminal;
//! * [`tools`], [`strace`], [`snapshot`]: what `tc`, `bpftool`, `strace` and the file system say;
//! * [`witness`]: a plan against what strace saw; [`contents`]: and against what maps hold; [`same`]: and against a transcript;
//! * [`faults`]: which calls are failed, and how;
//! * [`version`]: the programs as another version would have them.
//!
//! A test that cannot run fails; none is skipped.
pub mod bench;
pub mod capture;
pub mod cgroup;
pub mod commands;
pub mod contents;
pub mod crowd;
pub mod detour;
pub mod dns;
pub mod family;
pub mod faults;
pub mod golden;
pub mod lab;
pub mod listen;
pub mod model;
pub mod netns;
pub mod packet;
pub mod quote;
pub mod race;
pub mod random;
pub mod same;
pub mod sctp;
pub mod serve;
pub mod service;
pub mod six;
pub mod snapshot;
pub mod strace;
pub mod talk;
pub mod taps;
pub mod testrun;
pub mod tmux;
pub mod tools;
pub mod tun;
pub mod version;
pub mod witness;
