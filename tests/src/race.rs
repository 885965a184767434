// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Work that two processors do at once, step by step, and how many steps they really did at the same time.
use crate::netns::{apart, Netns};
use nix::sched::{sched_setaffinity, CpuSet};
use nix::unistd::Pid;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Keeps this thread on one processor.
pub fn on_processor(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu).unwrap();
    sched_setaffinity(Pid::from_raw(0), &set).expect("two processors");
}

/// Does `step(0, n)` and `step(1, n)` for each `n` below `steps` inside `ns`, each side on its own processor, and no side before the
/// other one is there as well. What came of it, and how many of the steps overlapped in time.
pub fn race<T: Send>(
    ns: &Netns,
    steps: usize,
    step: impl Fn(usize, usize) -> T + Sync,
) -> ([Vec<T>; 2], usize) {
    let here = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let meet = |side: usize, n: usize| {
        here[side].store(n + 1, Ordering::SeqCst);
        // Awake, for who must be woken comes too late. Where the machine is busy, the other one may not run at all for a while.
        let mut waited = 0;
        while here[1 - side].load(Ordering::SeqCst) <= n {
            waited += 1;
            if waited % 10_000 == 0 {
                std::thread::yield_now();
            }
            std::hint::spin_loop();
        }
    };
    let side = |side: usize| {
        ns.within(|| {
            on_processor(side);
            let run = |n| {
                meet(side, n);
                let begin = Instant::now();
                let outcome = step(side, n);
                (outcome, (begin, Instant::now()))
            };
            (0..steps).map(run).unzip::<T, _, Vec<_>, Vec<_>>()
        })
    };
    let (one, other) = std::thread::scope(|scope| {
        let other = scope.spawn(|| side(1));
        (apart(|| side(0)), other.join().unwrap())
    });
    let at_once = |((a, b), (c, d)): &(&(Instant, Instant), &(Instant, Instant))| a <= d && c <= b;
    let overlaps = one.1.iter().zip(&other.1).filter(at_once).count();
    ([one.0, other.0], overlaps)
}
