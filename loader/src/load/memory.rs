// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A plan to the kernel memory that its maps will take, by arithmetic on their shapes.
use crate::load::plan::Plan;
use crate::load::step::{Arg, Bpf, Effect};
use detour_sys::commands;

/// Name and bytes of each map that the plan creates, the largest first. What the kernel adds for itself (one page a map, two
/// for an array, global data up to the end of its page) is left out.
pub fn maps(plan: &Plan, cpus: u32) -> Vec<(String, u64)> {
    let created = plan.steps.iter().filter_map(|step| match &step.effect {
        Effect::Bpf(call) if call.command == &commands::MAP_CREATE => Some(call),
        _ => None,
    });
    let mut maps: Vec<(String, u64)> = created.map(|call| (name(call), bytes(call, cpus.into()))).collect();
    maps.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    maps
}

/// `12.5 MiB of kernel memory: slots4 9.0, idx4 3.5`; what is below a tenth of a MiB is only in the sum.
pub fn text(maps: &[(String, u64)]) -> String {
    let sum = maps.iter().fold(0_u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
    let large = maps.iter().filter(|(_, bytes)| *bytes >= MIB / 10);
    let large: Vec<String> = large.map(|(name, bytes)| format!("{name} {}", mib(*bytes))).collect();
    if large.is_empty() {
        return format!("{} KiB of kernel memory", sum.div_ceil(1024));
    }
    format!("{} MiB of kernel memory: {}", mib(sum), large.join(", "))
}

fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / MIB as f64)
}

fn name(call: &Bpf) -> String {
    match call.arg("map_name") {
        Some(Arg::Text(name)) => name.clone(),
        _ => String::new(),
    }
}

/// As the kernel's `array_map_alloc()`, `htab_map_alloc()` and `ringbuf_map_alloc()` reckon.
fn bytes(call: &Bpf, cpus: u64) -> u64 {
    let number = |name| match call.arg(name) {
        Some(Arg::Num(number)) => *number,
        _ => 0,
    };
    let eights = |n: u64| n.div_ceil(8).saturating_mul(8);
    let (entries, value) = (number("max_entries"), eights(number("value_size")));
    let per_cpu = value.saturating_mul(cpus);
    let hash = |value: u64| {
        // A list head and a lock; `struct htab_elem` before the key; and one spare element for each CPU.
        let buckets = entries.checked_next_power_of_two().unwrap_or(u64::MAX).saturating_mul(16);
        let element = 48_u64.saturating_add(eights(number("key_size"))).saturating_add(value);
        entries.saturating_add(cpus).saturating_mul(element).saturating_add(buckets)
    };
    match number("map_type") {
        HASH | LRU_HASH => hash(value),
        PERCPU_HASH => hash(per_cpu.saturating_add(8)),
        PERCPU_ARRAY => entries.saturating_mul(per_cpu.saturating_add(8)),
        RINGBUF => entries,
        _ => entries.saturating_mul(value),
    }
}

const MIB: u64 = 1 << 20;
// `enum bpf_map_type`.
const HASH: u64 = 1;
const PERCPU_HASH: u64 = 5;
const PERCPU_ARRAY: u64 = 6;
const LRU_HASH: u64 = 9;
const RINGBUF: u64 = 27;

#[cfg(test)]
mod tests {
    use super::*;

    fn map(kind: u64, key: u64, value: u64, entries: u64) -> Bpf {
        let numbers =
            [("map_type", kind), ("key_size", key), ("value_size", value), ("max_entries", entries)];
        Bpf::new(&commands::MAP_CREATE, numbers.map(|(name, n)| (name, Arg::Num(n))).to_vec())
    }

    #[test]
    fn by_shape() {
        assert_eq!(bytes(&map(2, 4, 96, 1000), 8), 96_000);
        assert_eq!(bytes(&map(2, 4, 5, 10), 8), 80);
        // 1008 elements of 48 + 16 + 8 bytes, 1024 buckets.
        assert_eq!(bytes(&map(HASH, 16, 4, 1000), 8), 1008 * 72 + 1024 * 16);
        assert_eq!(bytes(&map(PERCPU_ARRAY, 4, 16, 1024), 2), 1024 * 40);
        assert_eq!(bytes(&map(RINGBUF, 0, 0, 1 << 20), 2), 1 << 20);
    }

    #[test]
    fn nonsense_is_no_overflow() {
        assert_eq!(bytes(&map(HASH, u64::MAX, u64::MAX, u64::MAX), u64::MAX), u64::MAX);
    }

    #[test]
    fn as_people_read_it() {
        let maps = [("slots4".to_owned(), 9 << 20), ("idx4".to_owned(), 7 << 19), ("hands".to_owned(), 64)];
        assert_eq!(text(&maps), "12.5 MiB of kernel memory: slots4 9.0, idx4 3.5");
    }
}
