// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The shape of a map to the bytes of keys and values that it holds when it is full.
use crate::object::MapSpec;

/// The machine that it would be on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// CPUs that it can ever have: maps by CPU have a value for each.
    pub cpus: u64,
    /// Bytes of a page: arenas are counted in pages.
    pub page: u64,
}

/// The bytes of keys and values; `kind` names types of maps as the kernel does. A map of maps counts with as many maps of its
/// template as it has room for, but for those that the object itself puts there, because they are maps of the object.
/// What hangs on sockets, tasks, inodes and cgroups has no number of entries, so it counts nothing.
pub fn bytes(map: &MapSpec, kind: &dyn Fn(u32) -> String, on: Machine) -> u64 {
    let (entries, name) = (u64::from(map.max_entries), kind(map.map_type));
    let (key, value) = (u64::from(map.key_size), u64::from(map.value_size));
    let each = match name.as_str() {
        "ringbuf" | "user_ringbuf" => 1,
        "arena" => on.page,
        // A value starts at 8 bytes (bpf_map_value_size(), kernel/bpf/syscall.c).
        name if name.contains("percpu") => {
            key.saturating_add(value.next_multiple_of(8).saturating_mul(on.cpus))
        }
        _ => key.saturating_add(value),
    };
    let inside = map.inner.as_ref().map_or(0, |inner| {
        let open = entries.saturating_sub(map.slots.len() as u64);
        open.saturating_mul(bytes(inner, kind, on))
    });
    // An array of perf events without a size has one for each CPU.
    let entries = if name == "perf_event_array" && entries == 0 { on.cpus } else { entries };
    entries.saturating_mul(each).saturating_add(inside)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::{Object, Slot};

    fn sizes(maps: &[MapSpec], on: Machine) -> Vec<u64> {
        maps.iter().map(|map| bytes(map, &crate::ui::map_type::map_type, on)).collect()
    }

    /// By hand, from the definitions in tests/fixtures/maps.bpf.c.
    #[test]
    fn maps_of_maps_hold_what_they_have_room_for() {
        let object = Object::parse(include_bytes!("../../../elf/fixtures/maps.bpf.o")).unwrap();
        let names: Vec<&str> = object.maps.iter().map(|map| map.name.as_str()).collect();
        assert_eq!(names, ["inner_1", "outer", "jumps", "locked_pinned", "sized", "unused_by_programs"]);
        let on = Machine { cpus: 3, page: 4096 };
        // outer: 4 slots, three of them open for arrays of one element of 4 + 8 bytes.
        let expected = [4 + 8, 4 * (4 + 4) + 3 * (4 + 8), 3 * (4 + 4), 2 * (4 + 8), 16 * (6 + 5), 4 + 8];
        assert_eq!(sizes(&object.maps, on), expected);
    }

    #[test]
    fn each_cpu_has_a_value_and_each_kind_its_measure() {
        let object = Object::parse(include_bytes!("../../../elf/fixtures/maps.bpf.o")).unwrap();
        let of = |map_type, (key_size, value_size, max_entries)| MapSpec {
            map_type,
            key_size,
            value_size,
            max_entries,
            ..object.maps[0].clone()
        };
        // include/uapi/linux/bpf.h: percpu_hash, percpu_array, lru_percpu_hash, hash, ringbuf, user_ringbuf, perf_event_array,
        // arena, sk_storage.
        let maps = [
            of(5, (6, 9, 10)),
            of(6, (4, 8, 10)),
            of(10, (4, 1, 1)),
            of(1, (6, 9, 10)),
            of(27, (0, 0, 4096)),
            of(31, (0, 0, 8192)),
            of(4, (4, 4, 0)),
            of(33, (0, 0, 100)),
            of(24, (4, 1000, 0)),
        ];
        let many = [10 * (6 + 16 * 5), 10 * (4 + 8 * 5), 4 + 8 * 5, 150, 4096, 8192, 5 * 8, 100 * 65536, 0];
        assert_eq!(sizes(&maps, Machine { cpus: 5, page: 65536 }), many);
        let one = [10 * (6 + 16), 10 * (4 + 8), 4 + 8, 150, 4096, 8192, 8, 100 * 4096, 0];
        assert_eq!(sizes(&maps, Machine { cpus: 1, page: 4096 }), one);
        // A hash of maps, 1,000 of them, none by the object: 1,000 ring buffers. Then two by the object.
        let mut outer = MapSpec { inner: Some(Box::new(maps[4].clone())), ..of(13, (4, 4, 1000)) };
        assert_eq!(sizes(&[outer.clone()], Machine { cpus: 1, page: 4096 }), [8000 + 1000 * 4096]);
        outer.slots = vec![(1, Slot::Map("a".into())), (2, Slot::Map("b".into()))];
        assert_eq!(sizes(&[outer], Machine { cpus: 1, page: 4096 }), [8000 + 998 * 4096]);
        // Nothing wraps.
        let huge = of(5, (u32::MAX, u32::MAX, u32::MAX));
        assert_eq!(sizes(&[huge], Machine { cpus: u64::MAX, page: 0 }), [u64::MAX]);
    }
}
