// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Folders in which a confined process may still make, replace and remove files -> Landlock, where the kernel has it: nowhere
//! else. A filter of system calls cannot read paths.
use detour_sys::landlock;
use nix::errno::Errno;
use nix::fcntl::{open, OFlag};
use nix::sys::stat::Mode;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// `LANDLOCK_ACCESS_FS_…` of include/uapi/linux/landlock.h, Linux 5.13.
const EXECUTE: u64 = 1;
const WRITE_FILE: u64 = 1 << 1;
const REMOVE_DIR: u64 = 1 << 4;
const REMOVE_FILE: u64 = 1 << 5;
const MAKE_REG: u64 = 1 << 8;
/// All that execute, write, make or remove: all but reading a file and a folder. Moving from one folder into another is
/// forbidden by any ruleset.
const FORBIDDEN: u64 = ((1 << 13) - 1) & !(1 << 2) & !(1 << 3) | EXECUTE;

/// What may still be done to files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places(BTreeMap<PathBuf, u64>);

impl Places {
    /// The file is replaced by new ones beside it.
    pub fn replaces(&mut self, file: &str) {
        self.add(Path::new(file), WRITE_FILE | MAKE_REG | REMOVE_FILE);
    }

    /// The file grows; one that somebody moved away is made anew. Where the name is a link now, what it leads to does too.
    pub fn appends(&mut self, file: &str) {
        self.add(Path::new(file), WRITE_FILE | MAKE_REG);
        if let Ok(target) = std::fs::canonicalize(file) {
            self.add(&target, WRITE_FILE | MAKE_REG);
        }
    }

    /// Files and folders of this folder are removed.
    pub fn clears(&mut self, folder: &str) {
        *self.0.entry(folder.into()).or_default() |= REMOVE_FILE | REMOVE_DIR;
    }

    fn add(&mut self, file: &Path, accesses: u64) {
        let folder = match file.parent() {
            Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
            Some(folder) => folder,
            None => return,
        };
        *self.0.entry(folder.into()).or_default() |= accesses;
    }

    /// Confines this thread to them; in words what that came to.
    ///
    /// # Errors
    /// What the kernel refused. That it has no Landlock is none, and neither is a folder that is not there: nobody writes there.
    pub fn confine(&self) -> io::Result<String> {
        match landlock::version() {
            Ok(_) => {}
            // Not built in; not among those of lsm=; a filter around us.
            Err(e) if [Errno::ENOSYS, Errno::EOPNOTSUPP, Errno::EPERM].iter().any(|errno| is(&e, *errno)) => {
                return Ok("files anywhere, for this kernel has no Landlock".into());
            }
            Err(e) => return Err(e),
        }
        let ruleset = landlock::ruleset(FORBIDDEN)?;
        let mut names = Vec::new();
        for (folder, accesses) in &self.0 {
            let name = folder.to_string_lossy().escape_debug().to_string();
            let about = |e: io::Error| io::Error::new(e.kind(), format!("{name}: {e}"));
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            let fd = match open(folder, flags, Mode::empty()) {
                Ok(fd) => fd,
                // Whoever writes there says so.
                Err(Errno::ENOENT) => continue,
                Err(errno) => return Err(about(errno.into())),
            };
            landlock::allow(ruleset.as_fd(), fd.as_fd(), *accesses).map_err(about)?;
            names.push(name);
        }
        nix::sys::prctl::set_no_new_privs()?;
        landlock::restrict(ruleset.as_fd())?;
        Ok(match names.is_empty() {
            true => "no file".into(),
            false => format!("files in {}", names.join(", ")),
        })
    }
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_stands_for_its_folder() {
        let mut places = Places::default();
        places.replaces("/var/lib/detour/a.prom");
        places.appends("/nonexistent/events");
        places.replaces("names");
        places.clears("/sys/fs/bpf");
        let written = WRITE_FILE | MAKE_REG;
        let expected = [
            (".", written | REMOVE_FILE),
            ("/nonexistent", written),
            ("/sys/fs/bpf", REMOVE_FILE | REMOVE_DIR),
            ("/var/lib/detour", written | REMOVE_FILE),
        ];
        assert_eq!(places.0, expected.map(|(folder, accesses)| (folder.into(), accesses)).into());
    }

    #[test]
    fn reading_is_not_forbidden() {
        assert_eq!(FORBIDDEN, 0b1_1111_1111_0011);
    }
}
