// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The numbers of a BPF_MAP_CREATE that was refused with EINVAL to the one that is wrong, and how to mend it.
//!
//! The kernel does not say. What each type wants is in its `map_alloc_check` (kernel/bpf).
use crate::load::step::{Arg, Bpf};
use detour_sys::commands;

/// Nothing for other calls.
pub fn shape_hint(call: &Bpf) -> &'static str {
    let number = |name: &str| match call.arg(name) {
        Some(Arg::Num(n)) => *n,
        _ => 0,
    };
    if call.command != &commands::MAP_CREATE {
        return "";
    }
    let (key, value) = (number("key_size"), number("value_size"));
    match number("map_type") {
        LPM_TRIE if number("map_flags") & BPF_F_NO_PREALLOC == 0 => {
            "an LPM trie wants __uint(map_flags, BPF_F_NO_PREALLOC)"
        }
        // Storage that belongs to a cgroup or a socket has none.
        1..=18 | 20 | 22 | 23 | 25 if number("max_entries") == 0 => {
            "it has no max_entries: __uint(max_entries, N) in the object, or --map-size MAP=N"
        }
        QUEUE | STACK | BLOOM_FILTER if key != 0 => "a map of this type has no keys: leave out its key",
        // All that are arrays.
        2..=4 | 6 | 8 | 12 | 14..=17 | DEVMAP_HASH if key != 4 => {
            "a map of this type has keys of 4 bytes: __type(key, __u32) in the object"
        }
        LPM_TRIE if !(5..=260).contains(&key) => {
            "a key of an LPM trie is a length of 4 bytes, and 1 to 256 bytes of prefix"
        }
        HASH | PERCPU_HASH | LRU_HASH | LRU_PERCPU_HASH | SOCKHASH if key == 0 => {
            "it has no key: __type(key, T) in the object, or size_key in an old definition"
        }
        1 | 2 | 5 | 6 | 9..=11 | QUEUE | STACK | BLOOM_FILTER if value == 0 => {
            "it has no value: __type(value, T) in the object, or size_value in an old definition"
        }
        _ => "the kernel does not know this map type, or refuses this shape of it",
    }
}

// enum bpf_map_type (include/uapi/linux/bpf.h)
const HASH: u64 = 1;
const PERCPU_HASH: u64 = 5;
const LRU_HASH: u64 = 9;
const LRU_PERCPU_HASH: u64 = 10;
const LPM_TRIE: u64 = 11;
const SOCKHASH: u64 = 18;
const QUEUE: u64 = 22;
const STACK: u64 = 23;
const DEVMAP_HASH: u64 = 25;
const BLOOM_FILTER: u64 = 30;
const BPF_F_NO_PREALLOC: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use detour_sys::Value;
    use nix::errno::Errno;

    /// Type, key, value, entries, flags.
    type Shape = [u64; 5];
    const NAMES: [&str; 5] = ["map_type", "key_size", "value_size", "max_entries", "map_flags"];

    fn hint(shape: Shape) -> &'static str {
        let args = NAMES.into_iter().zip(shape.map(Arg::Num)).collect();
        shape_hint(&Bpf::new(&commands::MAP_CREATE, args))
    }

    fn kernel(shape: Shape) -> Option<Errno> {
        let args: Vec<_> = NAMES.into_iter().zip(shape.map(Value::Num)).collect();
        let refused = detour_sys::call(&commands::MAP_CREATE, &args).err()?.0;
        refused.raw_os_error().map(Errno::from_raw)
    }

    /// The kernel refuses the first, and takes the second, which differs in what the words speak of.
    #[test]
    fn what_is_mended_is_taken() {
        for (wrong, right, words) in [
            ([1, 4, 0, 8, 0], [1, 4, 8, 8, 0], "no value"),
            ([1, 0, 8, 8, 0], [1, 4, 8, 8, 0], "no key"),
            ([1, 4, 8, 0, 0], [1, 4, 8, 8, 0], "no max_entries"),
            ([9, 4, 0, 8, 0], [9, 4, 8, 8, 0], "no value"),
            ([2, 4, 0, 8, 0], [2, 4, 8, 8, 0], "no value"),
            ([2, 8, 8, 8, 0], [2, 4, 8, 8, 0], "keys of 4 bytes"),
            ([3, 0, 4, 8, 0], [3, 4, 4, 8, 0], "keys of 4 bytes"),
            ([11, 8, 8, 8, 0], [11, 8, 8, 8, 1], "BPF_F_NO_PREALLOC"),
            ([11, 4, 8, 8, 1], [11, 5, 8, 8, 1], "length of 4 bytes"),
            ([11, 261, 8, 8, 1], [11, 260, 8, 8, 1], "length of 4 bytes"),
            ([11, 8, 0, 8, 1], [11, 8, 1, 8, 1], "no value"),
            ([22, 4, 8, 8, 0], [22, 0, 8, 8, 0], "no keys"),
            ([23, 0, 0, 8, 0], [23, 0, 8, 8, 0], "no value"),
            ([25, 8, 4, 8, 0], [25, 4, 4, 8, 0], "keys of 4 bytes"),
            ([30, 4, 8, 8, 0], [30, 0, 8, 8, 0], "no keys"),
        ] {
            assert!(hint(wrong).contains(words), "{wrong:?}: {}", hint(wrong));
            assert_eq!((kernel(wrong), kernel(right)), (Some(Errno::EINVAL), None), "{wrong:?} {right:?}");
        }
        assert_eq!(shape_hint(&Bpf::new(&commands::MAP_FREEZE, Vec::new())), "");
    }
}
