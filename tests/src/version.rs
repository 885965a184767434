// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Sources of the DNAT with a few words exchanged, compiled as `scripts/build-elf` does it: an object of another version.
use crate::tools::{project, Scratch};
use std::process::Command;

/// Another version with the same maps: each program counts what it sees in one that the others have not.
pub const COUNTS: [(&str, &str, &str); 2] = [
    (
        "dnat.bpf.c",
        "char _license[]",
        "struct {\n\t__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);\n\t__uint(max_entries, 1);\n\t__type(key, __u32);\n\
         \t__type(value, __u64);\n} seen SEC(\".maps\");\n\nstatic __always_inline void see(void)\n{\n\t__u32 zero = 0;\n\
         \t__u64 *count = bpf_map_lookup_elem(&seen, &zero);\n\n\tif (count)\n\t\t*count += 1;\n}\n\nchar _license[]",
    ),
    ("dnat.bpf.c", "\t__u32 type = carried(skb);\n", "\t__u32 type = carried(skb);\n\n\tsee();\n"),
];

/// Compiles with every `(file, old, new)` done; each `old` has to be there. The object's path.
pub fn compile(scratch: &Scratch, name: &str, edits: &[(&str, &str, &str)]) -> String {
    let folder = scratch.path(&format!("{name}.sources"));
    std::fs::create_dir(&folder).unwrap();
    let sources = std::fs::read_dir(project().join("ebpf-src")).unwrap().map(|entry| entry.unwrap().path());
    for source in sources.filter(|path| path.is_file()) {
        std::fs::copy(&source, folder.join(source.file_name().unwrap())).unwrap();
    }
    for (file, old, new) in edits {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        assert!(text.contains(old), "{file} has no {old:?} any more");
        std::fs::write(folder.join(file), text.replace(old, new)).unwrap();
    }
    let manifest = std::fs::read_to_string(project().join("elf/MANIFEST")).unwrap();
    let flags =
        manifest.lines().find_map(|line| line.strip_prefix("flags: ")).expect("the manifest has flags");
    let object = scratch.path(name);
    let run = |command: &mut Command| {
        let output = command.current_dir(&folder).output().expect("clang-19 and llvm-19");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let mut clang = Command::new("clang-19");
    run(clang.args(flags.split(' ')).args(["-I.", "-c", "dnat.bpf.c", "-o"]).arg(&object));
    run(Command::new("llvm-strip-19").arg("-g").arg(&object));
    object.to_str().unwrap().to_string()
}
