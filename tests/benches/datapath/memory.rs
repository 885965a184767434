// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Bytes of kernel memory that a flow takes, by what the kernel charges for the maps, beside a conntrack entry.
use crate::chain;
use e2e::bench::Bench;

/// Prints the table.
pub fn table() {
    let bench = Bench::new(&["redirect"]);
    println!("| what | bytes per flow |\n|---|---|");
    for (family, index, slots) in [("IPv4", "idx4", "slots4"), ("IPv6", "idx6", "slots6")] {
        let (index, slots) = (bench.map(index), bench.map(slots));
        let flows = chain::fact(&slots, "max_entries") as f64;
        let bytes = (chain::fact(&index, "memlock") + chain::fact(&slots, "memlock")) as f64;
        println!(
            "| {family} flow: its slot and both its index entries, tables as big as they get | {:.0} |",
            bytes / flows
        );
    }
    match conntrack() {
        Some(bytes) => println!("| nf_conntrack: the entry alone, without its hash buckets | {bytes} |"),
        None => println!("| nf_conntrack: /proc/slabinfo does not list it | |"),
    }
    println!();
}

/// The size of an object in the slab of conntrack entries.
fn conntrack() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/slabinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("nf_conntrack "))?;
    line.split_whitespace().nth(3)?.parse().ok()
}
