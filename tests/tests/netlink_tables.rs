// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The tables of netlink messages against the types of the running kernel, as bpftool reads them.
use detour::load::message::{layout, type_name};
use detour::load::nla::{Layout, Shape};
use std::collections::HashMap;
use std::process::Command;

/// What the kernel's BTF says about names.
struct Kernel {
    /// Enumerators.
    values: HashMap<String, u64>,
    /// Sizes of structs, and the offsets in bytes of their members by `struct.member`.
    sizes: HashMap<String, usize>,
    offsets: HashMap<String, usize>,
}

impl Kernel {
    fn read() -> Self {
        let arguments = ["btf", "dump", "file", "/sys/kernel/btf/vmlinux"];
        let output = Command::new("bpftool").args(arguments).output().expect("bpftool");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut kernel = Self { values: HashMap::new(), sizes: HashMap::new(), offsets: HashMap::new() };
        let mut within = String::new();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let name = line.split('\'').nth(1).unwrap_or_default();
            let number = |key: &str| line.split(key).nth(1)?.split(' ').next()?.parse::<u64>().ok();
            if line.contains("] STRUCT '") {
                within = name.to_string();
                kernel.sizes.insert(within.clone(), number(" size=").unwrap() as usize);
            } else if line.starts_with('[') {
                within.clear();
            } else if let Some(value) = number(" val=") {
                kernel.values.insert(name.to_string(), value);
            } else if let (Some(bits), false) = (number(" bits_offset="), within.is_empty()) {
                kernel.offsets.insert(format!("{within}.{name}"), bits as usize / 8);
            }
        }
        kernel
    }

    fn check(&self, layout: &'static Layout, seen: &mut Vec<*const Layout>) -> usize {
        if seen.contains(&(layout as *const Layout)) {
            return 0;
        }
        seen.push(layout);
        let mut checked = 0;
        for head in layout.head {
            let (prefix, _) = head.0.split_once('_').unwrap();
            let name = HashMap::from([
                ("tcm", "tcmsg"),
                ("ifi", "ifinfomsg"),
                ("ifa", "ifaddrmsg"),
                ("rtm", "rtmsg"),
            ])[prefix];
            assert_eq!(self.sizes[name], layout.size, "{name}");
            assert_eq!(self.offsets[&format!("{name}.{}", head.0)], head.1, "{}", head.0);
            checked += 1 + self.flags(head.2);
        }
        for attr in layout.attrs {
            assert_eq!(self.values.get(attr.0), Some(&u64::from(attr.1)), "{}", attr.0);
            checked += 1 + self.flags(attr.2);
            match attr.2 {
                Shape::Nest(layout) => checked += self.check(layout, seen),
                Shape::ByKind(layouts) => {
                    checked += layouts.iter().map(|(_, layout)| self.check(layout, seen)).sum::<usize>();
                }
                _ => {}
            }
        }
        checked
    }

    /// Most flags are macros, which BTF does not know; those that are enumerators have to agree.
    fn flags(&self, shape: Shape) -> usize {
        let Shape::Flags(names) = shape else { return 0 };
        let known = names.iter().filter_map(|(bit, name)| Some((bit, name, self.values.get(*name)?)));
        known.map(|(bit, name, value)| assert_eq!(u64::from(*bit), *value, "{name}")).count()
    }
}

#[test]
fn offsets_and_numbers_are_the_running_kernels() {
    let kernel = Kernel::read();
    let mut seen = Vec::new();
    let mut checked = 0;
    for kind in 0..=u16::MAX {
        let Some(name) = type_name(kind) else { continue };
        assert_eq!(kernel.values[name], u64::from(kind), "{name}");
        checked += 1 + kernel.check(layout(kind).unwrap(), &mut seen);
    }
    assert!(checked > 80, "only {checked} names looked at");
}
