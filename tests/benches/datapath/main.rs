// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What the data path costs, beside nothing, an empty program and nftables: nanoseconds, packets, bytes, as tables.
//!
//! Every number comes from rounds in which all candidates take their turn; what is shown is the median and, in brackets,
//! the quartiles. Differences smaller than those brackets mean nothing.
#![forbid(unsafe_code)]
mod chain;
mod cold;
mod einat;
mod memory;
mod programs;
mod spread;
mod traffic;

use nix::sched::{sched_setaffinity, CpuSet};
use nix::unistd::Pid;

const USAGE: &str = "datapath [programs|cold|traffic|memory]... [--rounds N] [--cpu N]";

fn main() {
    let (mut parts, mut rounds, mut cpu) = (Vec::new(), 11, 1);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|n| n.parse().ok()).expect(USAGE);
        match word.as_str() {
            "--bench" => {} // cargo says so
            "--rounds" => rounds = number(),
            "--cpu" => cpu = number(),
            "programs" | "cold" | "traffic" | "memory" => parts.push(word),
            _ => panic!("{USAGE}"),
        }
    }
    let all = |part: &str| parts.is_empty() || parts.iter().any(|wanted| wanted == part);
    // One core for both ends: what moves between cores is the scheduler's affair and the greatest noise.
    let mut set = CpuSet::new();
    set.set(cpu).expect("a CPU");
    sched_setaffinity(Pid::from_raw(0), &set).expect("the CPU exists");
    println!("kernel {}, {}, all on CPU {cpu}, {rounds} rounds", kernel(), processor());
    println!("loaded with {}\n", capabilities());
    if all("programs") {
        programs::table(rounds);
    }
    if all("cold") {
        cold::table(rounds);
    }
    if all("traffic") {
        traffic::table(rounds);
    }
    if all("memory") {
        memory::table();
    }
}

fn kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_string()
}

fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model.map_or_else(|| "an unnamed CPU".to_string(), |(_, name)| name.trim().to_string())
}

/// The capabilities that make a difference: without CAP_PERFMON the kernel adds instructions against speculation.
fn capabilities() -> String {
    const NAMES: [(&str, u32); 3] = [("CAP_BPF", 39), ("CAP_NET_ADMIN", 12), ("CAP_PERFMON", 38)];
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = text.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).expect("capabilities");
    NAMES
        .map(|(name, bit)| if mask >> bit & 1 == 1 { name.to_string() } else { format!("no {name}") })
        .join(", ")
}
