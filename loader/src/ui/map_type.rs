// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Numbers of map types and bits of map flags -> the kernel's words for them.

/// The name of a map type, `lru_hash` for 9; its number where there is none.
pub fn map_type(number: u32) -> String {
    let index = usize::try_from(number).ok();
    let name = index.and_then(|index| TYPES.split(' ').nth(index));
    name.map_or_else(|| number.to_string(), str::to_owned)
}

/// The names of the bits in `map_flags`, unknown ones as a number.
pub fn map_flags(flags: u32) -> Vec<String> {
    let named = FLAGS.split(' ').zip(0..).filter(|(_, bit)| flags >> bit & 1 == 1);
    let mut names: Vec<String> = named.map(|(name, _)| name.to_owned()).collect();
    let unknown = flags >> FLAGS.split(' ').count();
    if unknown != 0 {
        names.push(format!("{:#x}", unknown << FLAGS.split(' ').count()));
    }
    names
}

/// `enum bpf_map_type` (include/uapi/linux/bpf.h) in order, without its prefix.
const TYPES: &str = "\
    unspec hash array prog_array perf_event_array percpu_hash percpu_array stack_trace cgroup_array lru_hash \
    lru_percpu_hash lpm_trie array_of_maps hash_of_maps devmap sockmap cpumap xskmap sockhash cgroup_storage \
    reuseport_sockarray percpu_cgroup_storage queue stack sk_storage devmap_hash struct_ops ringbuf \
    inode_storage task_storage bloom_filter user_ringbuf cgrp_storage arena";

/// `BPF_F_*` for BPF_MAP_CREATE from bit 0, in lower case.
const FLAGS: &str = "\
    no_prealloc no_common_lru numa_node rdonly wronly stack_build_id zero_seed rdonly_prog wronly_prog clone \
    mmapable preserve_elems inner_map link path_fd vtype_btf_obj_fd token_fd segv_on_fault no_user_conv";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::{Btf, Kind};

    #[test]
    fn the_names_are_the_running_kernels() {
        let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else { return };
        let btf = Btf::parse(&bytes).unwrap();
        let types = btf.find(Kind::Enum, "bpf_map_type").unwrap();
        for (name, number) in types.enumerators() {
            // Two are also called DEPRECATED, at the same number.
            if name.starts_with("__") || name.ends_with("_DEPRECATED") {
                continue;
            }
            let expected = name.trim_start_matches("BPF_MAP_TYPE_").to_lowercase();
            assert_eq!(map_type(u32::try_from(number).unwrap()), expected);
        }
        let flags = btf
            .types()
            .find(|t| t.kind == Kind::Enum && t.enumerators().any(|(name, _)| name == "BPF_F_NO_PREALLOC"))
            .unwrap();
        let value = |name: &str| flags.enumerators().find(|(n, _)| *n == name).map(|(_, v)| v as u32);
        for name in FLAGS.split(' ') {
            let kernel = value(&format!("BPF_F_{}", name.to_uppercase())).unwrap();
            assert_eq!(map_flags(kernel), [name]);
        }
        assert_eq!(map_flags(1 << 31 | 1), ["no_prealloc", "0x80000000"]);
    }
}
