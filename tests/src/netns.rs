// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A fresh network namespace with a bpf file system of its own, held by descriptors: it has no name and dies with the test.
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{mount, MsFlags};
use nix::sched::{setns, unshare, CloneFlags};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;

/// A network namespace and the mount namespace that belongs to it.
///
/// Nothing appears in /run/netns and nothing has to be removed: when the last descriptor, process and socket in it are
/// gone (a killed test included) the kernel takes down links, qdiscs, filters and the private bpf file system.
pub struct Netns {
    net: File,
    mnt: Arc<File>,
    _machine: Arc<Flock<File>>,
}

impl Netns {
    /// A new one. Tests that compare the whole machine wait until it is gone.
    pub fn new() -> Netns {
        Netns::make(machine(FlockArg::LockShared), private_bpffs)
    }

    /// A new one while no other test, in this or another process, has any.
    pub fn alone() -> Netns {
        Netns::make(machine(FlockArg::LockExclusive), private_bpffs)
    }

    /// A new one with a read-only /sys and no bpf file system in it, as containers have it.
    pub fn bare() -> Netns {
        Netns::make(machine(FlockArg::LockShared), read_only_sys)
    }

    /// The same while no other test has any.
    pub fn bare_alone() -> Netns {
        Netns::make(machine(FlockArg::LockExclusive), read_only_sys)
    }

    fn make(machine: Flock<File>, sys: fn()) -> Netns {
        let (net, mnt) = apart(|| {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
                .expect("unshare: these tests need root");
            let none: Option<&str> = None;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            sys();
            (File::open("/proc/thread-self/ns/net").unwrap(), File::open("/proc/thread-self/ns/mnt").unwrap())
        });
        Netns { net, mnt: Arc::new(mnt), _machine: Arc::new(machine) }.ready()
    }

    /// Another network namespace that sees the same files, hence the same bpf file system.
    pub fn beside(&self) -> Netns {
        let net = self.within(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        Netns { net, mnt: self.mnt.clone(), _machine: self._machine.clone() }.ready()
    }

    fn ready(self) -> Netns {
        self.within(|| {
            // Addresses can be used at once, and ICMP sockets are open to everybody.
            sysctl("net/ipv6/conf/all/accept_dad", "0");
            sysctl("net/ipv6/conf/default/accept_dad", "0");
            sysctl("net/ipv6/conf/default/router_solicitations", "0");
            sysctl("net/ipv4/ping_group_range", "0 2147483647");
        });
        self.run("ip", &["link", "set", "lo", "up"]);
        self
    }

    /// Runs `f` inside, on a thread that is never used again, so nothing has to be restored.
    pub fn within<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        apart(|| {
            // A thread that shares its root directory with others may not change its mount namespace.
            unshare(CloneFlags::CLONE_FS).unwrap();
            setns(&*self.mnt, CloneFlags::CLONE_NEWNS).unwrap();
            setns(&self.net, CloneFlags::CLONE_NEWNET).unwrap();
            f()
        })
    }

    /// Runs a program inside and waits for it.
    pub fn output(&self, command: &mut Command) -> Output {
        let name = command.get_program().to_string_lossy().into_owned();
        self.within(|| command.output().unwrap_or_else(|error| panic!("{name}: {error}")))
    }

    /// Runs a program that has to succeed; what it printed.
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.output(Command::new(program).args(arguments));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{program} {}: {}\n{text}{complaint}",
            arguments.join(" "),
            output.status
        );
        text
    }

    /// Sets a variable under /proc/sys, name with slashes.
    pub fn sysctl(&self, name: &str, value: &str) {
        self.within(|| sysctl(name, value));
    }

    /// A path that names the network namespace in every process (`ip … netns PATH`, `detour -n PATH`).
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.net.as_raw_fd()))
    }

    /// The inode number by which the kernel tells namespaces apart.
    pub fn inode(&self) -> u64 {
        std::os::unix::fs::MetadataExt::ino(&self.net.metadata().unwrap())
    }
}

impl Default for Netns {
    fn default() -> Self {
        Netns::new()
    }
}

/// Runs `f` on a thread of its own; a panic there is one here.
pub fn apart<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(f).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

fn read_only_sys() {
    let none: Option<&str> = None;
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::MS_RDONLY, none).expect("mount sysfs");
}

fn private_bpffs() {
    mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), Some("mode=0700")).expect("mount bpffs");
}

fn sysctl(name: &str, value: &str) {
    std::fs::write(format!("/proc/sys/{name}"), value)
        .unwrap_or_else(|error| panic!("{name}={value}: {error}"));
}

/// The lock that labs share and whole-machine comparisons hold alone.
fn machine(how: FlockArg) -> Flock<File> {
    let path = std::env::temp_dir().join("detour-tests.lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path).unwrap();
    Flock::lock(file, how).unwrap_or_else(|(_, error)| panic!("{}: {error}", path.display()))
}
