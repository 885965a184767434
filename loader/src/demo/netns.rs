// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Work to be done elsewhere to a thread that enters a network namespace, does it there and ends.
//!
//! A thread that ends has nothing to restore, so nobody can forget to. No namespace gets a name: descriptors and threads
//! hold it, and with the process, however it dies, the kernel removes it and all that is in it.
use crate::load::refusal::{Refusal, Stage};
use nix::errno::Errno;
use nix::mount::{mount, MsFlags};
use nix::sched::{setns, unshare, CloneFlags};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::thread;

/// A network namespace without a name.
#[derive(Debug)]
pub struct Netns(File);

impl Netns {
    /// A new one: a loopback device that is off, and nothing else.
    pub fn new() -> io::Result<Netns> {
        apart(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net").map(Netns)
        })
    }

    /// Does `work` inside. Sockets that it opens stay there, whoever uses them later.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        apart(|| {
            setns(&self.0, CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        })
    }

    /// Another descriptor of it.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        self.0.try_clone().map(OwnedFd::from)
    }
}

/// Moves this process into a network and a mount namespace of its own; no mount made from now on is seen outside.
///
/// To be called while there is one thread: threads that exist already stay where they are.
///
/// # Errors
/// Exit code 5 without CAP_SYS_ADMIN; 4 where the kernel has no namespaces, or `/` is not a mount point (a chroot).
pub fn leave() -> Result<(), Refusal> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).map_err(|errno| match errno {
        Errno::EPERM => Refusal::new(
            Stage::Permission,
            "may not make a network and a mount namespace",
            "demo needs CAP_SYS_ADMIN: run it as root",
        ),
        Errno::ENOSPC => Refusal::new(
            Stage::Kernel,
            "no more namespaces: the limits in /proc/sys/user are reached",
            "see max_net_namespaces and max_mnt_namespaces there",
        ),
        _ => Refusal::new(
            Stage::Kernel,
            format!("cannot make a network and a mount namespace: {errno}"),
            "the kernel needs CONFIG_NET_NS",
        ),
    })?;
    let nothing: Option<&str> = None;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).map_err(|errno| {
        let hint = match errno {
            Errno::EINVAL => "/ is not a mount point here: in a chroot there is no demo",
            _ => "",
        };
        Refusal::new(Stage::Kernel, format!("cannot make the mounts private: {errno}"), hint)
    })
}

/// Does `work` on a thread of its own.
fn apart<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread of the demo died")))
    })
}
