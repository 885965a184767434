// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A cgroup of a test's own, for sockets that are made in it; gone with the test.
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};

/// A process is in one cgroup at a time.
static PROCESS: Mutex<()> = Mutex::new(());

/// A folder in the cgroup2 file system.
pub struct Cgroup {
    path: PathBuf,
    /// Where this process was, while it is here.
    back: Option<(PathBuf, MutexGuard<'static, ()>)>,
}

/// Where cgroup2 is mounted, as util-linux says.
pub fn root() -> PathBuf {
    let output = Command::new("findmnt").args(["-n", "-o", "TARGET", "-t", "cgroup2"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    PathBuf::from(text.lines().next().expect("cgroup2 is mounted"))
}

impl Cgroup {
    /// A new one with nobody in it.
    pub fn empty() -> Cgroup {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("detour-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = root().join(name);
        fs::create_dir(&path).unwrap();
        Cgroup { path, back: None }
    }

    /// A new one that this process is in, until it is dropped. One test of a process at a time.
    pub fn joined() -> Cgroup {
        let lock = PROCESS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mine = fs::read_to_string("/proc/self/cgroup").unwrap();
        let mine = mine.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
        let mut cgroup = Cgroup::empty();
        cgroup.back = Some((root().join(mine), lock));
        enter(&cgroup.path);
        cgroup
    }

    /// Its path.
    pub fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// Its number, as the kernel has it.
    pub fn id(&self) -> u64 {
        fs::metadata(&self.path).unwrap().ino()
    }
}

fn enter(path: &std::path::Path) {
    fs::write(path.join("cgroup.procs"), std::process::id().to_string()).unwrap();
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Some((back, _lock)) = self.back.take() {
            enter(&back);
        }
        // Children of the test that still run keep it; the next boot clears it.
        let _ = fs::remove_dir(&self.path);
    }
}
