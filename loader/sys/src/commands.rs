// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Every bpf(2) command that this program can make, and where its fields lie in `union bpf_attr`.
//!
//! Read a line as: field, offset in bytes, what it holds. The offsets are those of include/uapi/linux/bpf.h.
use crate::attr::{Command, Field, Kind};
use Kind::{Element, Fd, Name, Numbers, Records, Room, Text, Unit, U32, U64};

macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident = $number:literal gives_fd $gives_fd:literal {
        $($field:ident at $at:literal $kind:expr;)*
    })*) => {
        $($(#[$doc])* pub static $name: Command = Command {
            name: stringify!($name),
            number: $number,
            gives_fd: $gives_fd,
            fields: &[$(Field { name: stringify!($field), at: $at, kind: $kind }),*],
        };)*
        /// All of them.
        pub static COMMANDS: &[&Command] = &[$(&$name),*];
    };
}

commands! {
    /// Linux 3.19; `map_create()` in kernel/bpf/syscall.c.
    MAP_CREATE = 0 gives_fd true {
        map_type at 0 U32; key_size at 4 U32; value_size at 8 U32; max_entries at 12 U32; map_flags at 16 U32;
        inner_map_fd at 20 Fd; numa_node at 24 U32; map_name at 28 Name;
        btf_fd at 48 Fd; btf_key_type_id at 52 U32; btf_value_type_id at 56 U32; map_extra at 64 U64;
    }
    /// Linux 3.19.
    MAP_LOOKUP_ELEM = 1 gives_fd false { map_fd at 0 Fd; key at 8 Element; value at 16 Element; flags at 24 U64; }
    /// Linux 3.19.
    MAP_UPDATE_ELEM = 2 gives_fd false { map_fd at 0 Fd; key at 8 Element; value at 16 Element; flags at 24 U64; }
    /// Linux 3.19.
    MAP_DELETE_ELEM = 3 gives_fd false { map_fd at 0 Fd; key at 8 Element; }
    /// Linux 3.19.
    MAP_GET_NEXT_KEY = 4 gives_fd false { map_fd at 0 Fd; key at 8 Element; next_key at 16 Element; }
    /// Linux 5.6, each type's own; what comes back in `count` is how many there are, and ENOENT says that no more follow.
    MAP_LOOKUP_BATCH = 24 gives_fd false {
        in_batch at 0 Element; out_batch at 8 Element; keys at 16 Element; values at 24 Element; count at 32 U32; map_fd at 36 Fd;
    }
    /// Linux 3.18, types 5.0, `fd_array` 5.14, `log_true_size` 6.4, `signature` 6.18; `bpf_prog_load()` in kernel/bpf/syscall.c.
    PROG_LOAD = 5 gives_fd true {
        prog_type at 0 U32; insns at 8 Records { count: 4, unit: 8 }; license at 16 Text;
        log_level at 24 U32; log_buf at 32 Room { count: 28, unit: 1 }; prog_name at 48 Name;
        expected_attach_type at 68 U32; prog_btf_fd at 72 Fd;
        func_info_rec_size at 76 Unit(8); func_info at 80 Records { count: 88, unit: 8 };
        line_info_rec_size at 92 Unit(16); line_info at 96 Records { count: 104, unit: 16 };
        fd_array at 120 Numbers;
        core_relos at 128 Records { count: 116, unit: 16 }; core_relo_rec_size at 136 Unit(16);
        log_true_size at 140 U32;
        signature at 152 Records { count: 160, unit: 1 }; keyring_id at 164 U32;
    }
    /// Linux 4.4.
    OBJ_PIN = 6 gives_fd false { pathname at 0 Text; bpf_fd at 8 Fd; }
    /// Linux 4.4.
    OBJ_GET = 7 gives_fd true { pathname at 0 Text; }
    /// Linux 4.12, `flags` 5.10. `data_size_out` comes back as the true size.
    PROG_TEST_RUN = 10 gives_fd false {
        prog_fd at 0 Fd; retval at 4 U32; data_size_out at 12 U32; data_in at 16 Records { count: 8, unit: 1 };
        data_out at 24 Room { count: 12, unit: 1 }; repeat at 32 U32; duration at 36 U32; flags at 64 U32;
    }
    /// Linux 4.15, tcx and its fields 6.6; `bpf_mprog_query()` in kernel/bpf/mprog.c. `count` comes back as how many there
    /// are, and ENOSPC says that there was no room for all.
    PROG_QUERY = 16 gives_fd false {
        target_ifindex at 0 U32; attach_type at 4 U32; prog_ids at 16 Room { count: 24, unit: 4 }; count at 24 U32;
        link_ids at 40 Room { count: 24, unit: 4 }; revision at 56 U64;
    }
    /// Linux 5.4: the id after this one; needs CAP_SYS_ADMIN.
    BTF_GET_NEXT_ID = 23 gives_fd false { start_id at 0 U32; next_id at 4 U32; }
    /// Linux 4.13; needs CAP_SYS_ADMIN.
    PROG_GET_FD_BY_ID = 13 gives_fd true { prog_id at 0 U32; }
    /// Linux 4.18; needs CAP_SYS_ADMIN.
    BTF_GET_FD_BY_ID = 19 gives_fd true { btf_id at 0 U32; }
    /// Linux 4.13: the id after this one; needs CAP_SYS_ADMIN. The tests count maps by it, without opening any.
    MAP_GET_NEXT_ID = 12 gives_fd false { start_id at 0 U32; next_id at 4 U32; }
    /// Linux 4.13; needs CAP_SYS_ADMIN.
    MAP_GET_FD_BY_ID = 14 gives_fd true { map_id at 0 U32; }
    /// Linux 4.13. The room is zeroed, so the pointers inside the record are null and the kernel follows none of them.
    OBJ_GET_INFO_BY_FD = 15 gives_fd false { bpf_fd at 0 Fd; info at 8 Room { count: 4, unit: 1 }; }
    /// Linux 4.18.
    BTF_LOAD = 18 gives_fd true {
        btf at 0 Records { count: 16, unit: 1 }; btf_log_buf at 8 Room { count: 20, unit: 1 }; btf_log_level at 24 U32;
    }
    /// Linux 5.7, tcx 6.6; `tcx_link_attach()` in kernel/bpf/tcx.c, `cgroup_bpf_link_attach()` in kernel/bpf/cgroup.c. The
    /// program stays attached as long as the link lives. A cgroup stands in the place of a device.
    LINK_CREATE = 28 gives_fd true {
        prog_fd at 0 Fd; target_ifindex at 4 U32; target_fd at 4 Fd; attach_type at 8 U32; flags at 12 U32; relative_id at 16 U32;
        expected_revision at 24 U64;
    }
    /// Linux 5.7: another program in the place of the link's, in one step.
    LINK_UPDATE = 29 gives_fd false { link_fd at 0 Fd; new_prog_fd at 4 Fd; flags at 8 U32; old_prog_fd at 12 Fd; }
    /// Linux 5.2: no system call can write the map from now on.
    MAP_FREEZE = 22 gives_fd false { map_fd at 0 Fd; }
    /// Linux 5.10: the map lives as long as the program.
    PROG_BIND_MAP = 35 gives_fd false { prog_fd at 0 Fd; map_fd at 4 Fd; }
}
