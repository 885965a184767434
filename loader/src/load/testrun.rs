// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A loaded program and a packet to what it makes of it, by BPF_PROG_TEST_RUN: nothing is attached, nothing is sent.
use detour_sys::{commands, Value};
use std::io;
use std::os::fd::BorrowedFd;

/// What a program made of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `TC_ACT_*`.
    pub verdict: i32,
    /// The packet afterwards.
    pub packet: Vec<u8>,
    /// Nanoseconds of one run, on average.
    pub duration: u64,
}

/// Room for what a program may add to a packet, in bytes.
const HEADROOM: usize = 512;

/// Runs it `repeat` times on the same packet. `bpf_prog_test_run_skb()` in net/bpf/test_run.c takes 14 bytes at least, and
/// counts a frame as ours only when its destination is 00:00:00:00:00:00, the address of `lo`.
///
/// ```no_run
/// # let symbols = detour::load::symbols::Symbols::default();
/// use std::os::fd::AsFd;
/// let outcome = detour::load::testrun::run(symbols.handle("%drop")?.as_fd(), &[0; 64], 1)?;
/// assert_eq!(outcome.verdict, 2, "TC_ACT_SHOT");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn run(program: BorrowedFd<'_>, packet: &[u8], repeat: u32) -> io::Result<Outcome> {
    let arguments = [
        ("prog_fd", Value::Fd(program)),
        ("data_in", Value::Bytes(packet)),
        ("data_out", Value::Room(packet.len().saturating_add(HEADROOM))),
        ("repeat", Value::Num(repeat.into())),
        ("duration", Value::Num(0)),
    ];
    let command = &commands::PROG_TEST_RUN;
    let answer = detour_sys::call(command, &arguments).map_err(|(error, _)| error)?;
    let length = usize::try_from(answer.number(command, "data_size_out")).unwrap_or(0);
    let verdict = u32::try_from(answer.number(command, "retval")).unwrap_or(0);
    Ok(Outcome {
        verdict: i32::from_ne_bytes(verdict.to_ne_bytes()),
        packet: answer.room("data_out").iter().take(length).copied().collect(),
        duration: answer.number(command, "duration"),
    })
}
