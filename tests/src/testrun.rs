// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! One packet through one loaded program by BPF_PROG_TEST_RUN, nothing attached in between.
use crate::netns::Netns;
use detour_sys::{call, commands, Value};
use std::os::fd::{AsFd, OwnedFd};

/// `TC_ACT_UNSPEC`: the next filter decides.
pub const UNSPEC: i32 = -1;
/// `TC_ACT_SHOT`: dropped.
pub const SHOT: i32 = 2;
/// `TC_ACT_REDIRECT`: sent through the device that the program named.
pub const REDIRECT: i32 = 7;

/// Room for the longest answer to a packet: the least MTU and an Ethernet header.
const ANSWER: usize = 1280 + 14;

/// `BPF_F_TEST_SKB_CHECKSUM_COMPLETE`: the packet comes as from a card that summed it up, and the kernel checks
/// afterwards that the program kept the sum right (EBADMSG if not).
const CHECKSUM_COMPLETE: u64 = 1 << 2;

/// How the packet comes to the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sums {
    /// `CHECKSUM_NONE`: only the bytes count.
    None,
    /// `CHECKSUM_COMPLETE`: the card's sum has to stay right, too.
    Complete,
}

/// What the program made of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `TC_ACT_…`.
    pub verdict: i32,
    /// The frame afterwards.
    pub frame: Vec<u8>,
}

/// A program of the running kernel and the namespace it looks sockets up in.
pub struct Program<'a> {
    ns: &'a Netns,
    fd: OwnedFd,
}

impl Program<'_> {
    /// The one with the kernel's number `id`.
    pub fn by_id(ns: &Netns, id: u64) -> Program<'_> {
        let answer = call(&commands::PROG_GET_FD_BY_ID, &[("prog_id", Value::Num(id))])
            .unwrap_or_else(|(error, _)| panic!("program {id}: {error}"));
        Program { ns, fd: answer.fd.unwrap() }
    }

    /// One that does nothing: `TC_ACT_UNSPEC`, at once. What others cost beyond it is their own.
    pub fn nothing(ns: &Netns) -> Program<'_> {
        // r0 = -1; exit
        const CODE: [u8; 16] = [0xb7, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x95, 0, 0, 0, 0, 0, 0, 0];
        const SCHED_CLS: u64 = 3; // BPF_PROG_TYPE_SCHED_CLS
        let arguments = [
            ("prog_type", Value::Num(SCHED_CLS)),
            ("insns", Value::Bytes(&CODE)),
            ("license", Value::Text("GPL")),
            ("prog_name", Value::Text("nothing")),
        ];
        let answer = call(&commands::PROG_LOAD, &arguments).unwrap_or_else(|(error, _)| panic!("{error}"));
        Program { ns, fd: answer.fd.unwrap() }
    }

    /// Runs `frame` through it, and what comes out again, `repeat` times: nanoseconds of one run, on average.
    pub fn nanoseconds(&self, frame: &[u8], repeat: u32) -> u32 {
        self.ns.within(|| self.timed(frame, repeat))
    }

    /// Runs each of `frames` once: nanoseconds of each run, what it takes to look at the clock included.
    pub fn each(&self, frames: &[Vec<u8>]) -> Vec<u32> {
        self.ns.within(|| frames.iter().map(|frame| self.timed(frame, 1)).collect())
    }

    /// Runs `frame` `times` times, `before` each of them: nanoseconds of each run, as above.
    pub fn each_after(&self, frame: &[u8], times: usize, mut before: impl FnMut() + Send) -> Vec<u32> {
        let mut once = || {
            before();
            self.timed(frame, 1)
        };
        self.ns.within(|| (0..times).map(|_| once()).collect())
    }

    fn timed(&self, frame: &[u8], repeat: u32) -> u32 {
        let arguments = [
            ("prog_fd", Value::Fd(self.fd.as_fd())),
            ("data_in", Value::Bytes(frame)),
            ("repeat", Value::Num(repeat.into())),
            ("duration", Value::Num(0)), // room for the answer
        ];
        let answer = call(&commands::PROG_TEST_RUN, &arguments);
        let answer = answer.unwrap_or_else(|(error, _)| panic!("{error} for {frame:02x?}"));
        answer.number(&commands::PROG_TEST_RUN, "duration") as u32
    }

    /// Runs `frame` through it. Its destination must be 00:…:00, the address of `lo`, or it is for another host.
    #[track_caller]
    pub fn run(&self, frame: &[u8], sums: Sums) -> Outcome {
        let outcome = self.ns.within(|| self.run_here(frame, sums));
        outcome.unwrap_or_else(|fault| panic!("{fault}"))
    }

    /// The same on this thread, for many packets: call it within the namespace.
    pub fn run_here(&self, frame: &[u8], sums: Sums) -> Result<Outcome, String> {
        let flags = if sums == Sums::Complete { CHECKSUM_COMPLETE } else { 0 };
        let arguments = [
            ("prog_fd", Value::Fd(self.fd.as_fd())),
            ("data_in", Value::Bytes(frame)),
            ("data_out", Value::Room(frame.len().max(ANSWER))),
            ("repeat", Value::Num(1)),
            ("flags", Value::Num(flags)),
        ];
        let answer = call(&commands::PROG_TEST_RUN, &arguments);
        let answer = answer.map_err(|(error, _)| format!("{sums:?}: {error} for {frame:02x?}"))?;
        let number = |field| answer.number(&commands::PROG_TEST_RUN, field);
        let length = number("data_size_out") as usize;
        Ok(Outcome {
            verdict: number("retval") as i32,
            frame: answer.room("data_out").get(..length).unwrap_or_default().to_vec(),
        })
    }
}
