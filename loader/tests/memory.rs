// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What it takes to decide what an object leaves to the kernel: the kernel's types are mapped or streamed, never held.
#![allow(clippy::unwrap_used)]
#![cfg(feature = "compat")]
use detour::compat::kernel::resolve;
use detour::object::Object;

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

#[test]
fn the_kernels_types_are_never_held() {
    let bytes = std::fs::read(VMLINUX).unwrap();
    assert!(bytes.len() > 4 << 20, "{} bytes of types: too few to tell", bytes.len());
    let file = format!("{}/vmlinux.btf", env!("CARGO_TARGET_TMPDIR"));
    std::fs::write(&file, &bytes).unwrap();
    for name in ["core", "kconfig", "ksyms"] {
        let path = format!("{}/../elf/fixtures/{name}.bpf.o", env!("CARGO_MANIFEST_DIR"));
        let whole = Object::parse(&std::fs::read(path).unwrap()).unwrap();
        // As the kernel's memory, where it can be mapped, and from a file.
        for btf in [None, Some(file.as_str())] {
            let mut object = whole.clone();
            let used = allocation_counter::measure(|| drop(resolve(&mut object, btf).unwrap()));
            println!("{name}: {} bytes at a time", used.bytes_max);
            assert!(used.bytes_max < 1 << 20, "{name}: {} bytes at a time", used.bytes_max);
            object.programs.iter().for_each(|program| object.check_resolved(program).unwrap());
        }
    }
}
