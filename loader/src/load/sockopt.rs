// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A program for the socket options of a cgroup to the steps that attach it, and its pinned link to what it is attached to.
//!
//! The link lives as long as its pin; when the cgroup goes it stays, attached to nothing. Kernel side:
//! `cgroup_bpf_link_attach()` and `__cgroup_bpf_run_filter_getsockopt()` in kernel/bpf/cgroup.c.
use crate::load::create::prog_symbol;
use crate::load::step::{Arg, Bpf, Effect, Step};
use crate::object::Object;
use detour_sys::{commands, Value};
use nix::errno::Errno;
use std::fs;
use std::io::{self, Read};
use std::os::fd::AsFd;

/// `BPF_CGROUP_GETSOCKOPT`: the program sees each answer of getsockopt(2).
pub const GETSOCKOPT: u32 = 21;

/// A pinned link of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The program's id.
    pub program: u32,
    /// The link's.
    pub link: u32,
    /// The cgroup's id, which is its folder's inode number; 0 when the cgroup is gone.
    pub cgroup: u64,
}

/// A program that works on the maps of an instance, beside those on the device.
#[derive(Clone, Debug)]
pub struct Beside {
    /// Its object; all maps but its own data are those of the instance.
    pub object: Object,
    /// How it is made.
    pub creation: crate::load::create::Creation,
    /// Its name.
    pub program: String,
    /// The folder of the cgroup.
    pub cgroup: String,
}

/// The name of the pin of such a program's link.
pub fn pin(program: &str) -> String {
    format!("link_getsockopt_{program}")
}

/// Opens the cgroup, makes the link and pins it in `dir`. Others may attach there, too: such a link never replaces one.
pub fn attach(beside: &Beside, dir: &str) -> [Step; 3] {
    let (folder, link) = ("%cgroup".to_string(), format!("%getsockopt@{}", beside.program));
    let args = vec![
        ("prog_fd", Arg::Fd(prog_symbol(&beside.program))),
        ("target_fd", Arg::Fd(folder.clone())),
        ("attach_type", Arg::Num(GETSOCKOPT.into())),
    ];
    [
        Effect::OpenDir { path: beside.cgroup.clone(), gives: folder }.into(),
        Bpf::new(&commands::LINK_CREATE, args).gives(&link).into(),
        Step::pin(&link, format!("{dir}/{}", pin(&beside.program))),
    ]
}

/// What a pinned link is attached to: `struct bpf_link_info` in include/uapi/linux/bpf.h.
pub fn query(path: &str) -> io::Result<Attached> {
    let answer = detour_sys::call(&commands::OBJ_GET, &[("pathname", Value::Text(path))]);
    let fd = answer.map_err(|(error, _)| error)?.fd.ok_or(io::ErrorKind::InvalidData)?;
    let info = detour_sys::info(fd.as_fd(), 32)?;
    let word = |at: usize| info.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_ne_bytes);
    let read = || {
        let cgroup = info.get(16..24)?.try_into().ok().map(u64::from_ne_bytes)?;
        Some(Attached { program: word(8)?, link: word(4)?, cgroup })
    };
    read().ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Where cgroup2 is mounted: /proc/self/mountinfo (proc_pid_mountinfo(5)); None where it is not.
pub fn mounted() -> io::Result<Option<String>> {
    // The file has no size that one could ask for: a few KiB at once instead of 32 bytes, then 64.
    let mut mounts = String::with_capacity(4 << 10);
    fs::File::open("/proc/self/mountinfo")?.take(1 << 20).read_to_string(&mut mounts)?;
    Ok(root(&mounts))
}

fn root(mounts: &str) -> Option<String> {
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let path = mount.split(' ').nth(4)?;
        (kind.split(' ').next() == Some("cgroup2")).then(|| unescaped(path)).flatten()
    })
}

/// Blanks and such are written as `\040`.
fn unescaped(text: &str) -> Option<String> {
    let mut parts = text.split('\\');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..3)?, 8).ok()?);
        bytes.extend(part.get(3..)?.bytes());
    }
    String::from_utf8(bytes).ok()
}

/// What an error of LINK_CREATE means there.
pub fn hint(errno: Errno) -> &'static str {
    match errno {
        Errno::EBADF => "CGROUP has to be a folder of a cgroup2 file system",
        Errno::EINVAL => "this kernel attaches no such program to cgroups: CONFIG_CGROUP_BPF",
        Errno::EPERM => "a program of others in a cgroup above it allows none beside it",
        Errno::ENODEV | Errno::ENOENT => "the cgroup is being removed",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_mount_of_cgroup2() {
        let hybrid = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                      32 31 0:29 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu\n\
                      41 31 0:38 / /run/a\\040b rw,relatime shared:1 master:2 - cgroup2 cgroup2 rw\n";
        assert_eq!(super::root(hybrid).as_deref(), Some("/run/a b"));
        assert_eq!(super::root("31 23 0:28 / /sys/fs/cgroup2 rw - tmpfs cgroup2 rw\n\nx\n"), None);
        assert_eq!(super::root("1 2 0:3 / /bad\\9 rw - cgroup2 c rw"), None);
    }
}
