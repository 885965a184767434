// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A network namespace, a device and a name to the bpffs paths of an instance.
//!
//! ```text
//! /sys/fs/bpf/detour/                  0700, made and removed by us
//!   4026531840-3/                      netns inode, ifindex
//!     clsact-4500/                     empty: clsact of this device was made by us, in the namespace with this cookie
//!     up/                              an instance; `up-new` while it is being built, the rename is the commit
//!       record  map_idx4  prog_detour_in  link_ingress_NAME …
//! ```
//! bpffs refuses dots in names, so the device's name is not in the path; the record holds it.

/// Where bpffs is on every distribution.
pub const BPFFS: &str = "/sys/fs/bpf";

/// Where one instance lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// Inode number of the network namespace.
    pub netns: u64,
    /// The device's index in it.
    pub ifindex: u32,
    /// The instance's name.
    pub name: String,
}

impl Home {
    /// The folder of everything that is ours.
    pub fn root() -> String {
        format!("{BPFFS}/detour")
    }

    /// The folder of a device.
    pub fn device(&self) -> String {
        format!("{}/{}-{}", Home::root(), self.netns, self.ifindex)
    }

    /// The mark that says the clsact qdisc is ours.
    pub fn clsact(&self) -> String {
        format!("{}/{CLSACT}", self.device())
    }

    /// The folder of the instance.
    pub fn dir(&self) -> String {
        format!("{}/{}", self.device(), self.name)
    }

    /// The folder of the instance before it is committed.
    pub fn building(&self) -> String {
        format!("{}{BUILDING}", self.dir())
    }

    /// Another instance on the same device.
    pub fn beside(&self, name: &str) -> Home {
        Home { name: name.to_string(), ..self.clone() }
    }
}

/// Where the maps and programs of an instance are found again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dir {
    /// In a folder, pinned.
    Folder(String),
    /// Behind the programs that the device runs: the names that their pins would have, and the kernel's ids.
    Ids(Vec<(String, u32)>),
}

impl Dir {
    /// The path of a pin. Of what nothing pins it is `@NAME:ID`, which whoever opens pins takes as well ([`by_id`]).
    pub fn pin(&self, name: &str) -> String {
        match self {
            Dir::Folder(path) => format!("{path}/{name}"),
            // The kernel gives no object number 0.
            Dir::Ids(ids) => {
                format!("@{name}:{}", ids.iter().find(|(n, _)| n == name).map_or(0, |(_, id)| *id))
            }
        }
    }

    /// The path of a map's pin.
    pub fn map(&self, name: &str) -> String {
        self.pin(&map_pin(name))
    }

    /// The folder, where there is one.
    pub fn folder(&self) -> Option<&str> {
        match self {
            Dir::Folder(path) => Some(path),
            Dir::Ids(_) => None,
        }
    }
}

impl std::fmt::Display for Dir {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.folder().unwrap_or("what nothing pins"))
    }
}

/// What a path of [`Dir::pin`] names by an id: whether it is a program, and the id.
pub fn by_id(path: &str) -> Option<(bool, u32)> {
    let (name, id) = path.strip_prefix('@')?.split_once(':')?;
    Some((name.starts_with("prog_"), id.parse().ok()?))
}

/// The name of a map's pin.
pub fn map_pin(kernel_name: &str) -> String {
    ["map_", &kernel_name.replace('.', "_")].concat()
}

/// The name of a program's pin.
pub fn prog_pin(name: &str) -> String {
    ["prog_", &name.replace('.', "_")].concat()
}

/// The name of the pin of a program's tcx link.
pub fn link_pin(egress: bool, program: &str) -> String {
    format!("link_{}_{}", if egress { "egress" } else { "ingress" }, program.replace('.', "_"))
}

/// The name of the record's pin.
pub const RECORD_PIN: &str = "record";

/// The name of the mark in a device's folder.
pub const CLSACT: &str = "clsact";

/// What the name of an unfinished instance ends with.
pub const BUILDING: &str = "-new";

/// Whether an instance may be called so: 1 to 15 bytes of letters, digits, `_` and `-`, not one of our own names.
pub fn is_name(name: &str) -> bool {
    let fits = !name.is_empty() && name.len() <= 15;
    let letters = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    fits && letters && !name.starts_with(CLSACT) && !name.ends_with(BUILDING)
}
