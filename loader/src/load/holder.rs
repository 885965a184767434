// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! An open file that somebody holds a lock on -> who that is: proc_locks(5), and the command line of the process.
use nix::sys::stat::{fstat, major, minor};
use std::fs;
use std::os::fd::AsFd;

/// `'detour watch eth0' (process 4711)`; less where less can be seen.
pub fn holder(file: impl AsFd) -> String {
    let unknown = || "somebody else".to_string();
    let Ok(stat) = fstat(file) else { return unknown() };
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let Some(pid) = process(&locks, major(stat.st_dev), minor(stat.st_dev), stat.st_ino) else {
        return unknown();
    };
    match fs::read(format!("/proc/{pid}/cmdline")).map(|bytes| words(&bytes)) {
        Ok(line) if !line.is_empty() => format!("'{line}' (process {pid})"),
        _ => format!("process {pid}"),
    }
}

/// `1: FLOCK  ADVISORY  WRITE 4711 00:15:1234 0 EOF`; whoever waits for the lock has `->` before the kind.
fn process(locks: &str, major: u64, minor: u64, inode: u64) -> Option<u32> {
    let place = format!("{major:02x}:{minor:02x}:{inode}");
    let holds = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.get(1) == Some(&"FLOCK") && words.get(5) == Some(&place.as_str())
    };
    // Of a process that is in no namespace of ours the number is 0.
    let pid = locks.lines().find(holds)?.split_whitespace().nth(4)?.parse().ok()?;
    (pid > 0).then_some(pid)
}

/// A command line as a person types it, its beginning.
fn words(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut words = text.split('\0').filter(|word| !word.is_empty());
    let program = words.next().map(|path| path.rsplit('/').next().unwrap_or(path).to_owned());
    let all: Vec<String> = program.into_iter().chain(words.map(str::to_owned)).collect();
    all.join(" ").escape_debug().to_string().chars().take(60).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use nix::fcntl::{Flock, FlockArg};

    #[test]
    fn a_line_of_proc_locks() {
        let locks = "1: POSIX  ADVISORY  WRITE 7 00:1a:99 0 EOF\n2: FLOCK  ADVISORY  WRITE 8 00:1a:99 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 9 00:1a:99 0 EOF\n3: FLOCK  ADVISORY  READ 0 08:01:5 0 EOF\n";
        assert_eq!(process(locks, 0, 26, 99), Some(8));
        assert_eq!(
            (process(locks, 8, 1, 5), process(locks, 0, 26, 98), process("x", 0, 0, 0)),
            (None, None, None)
        );
        assert_eq!(words(b"/usr/bin/detour\0watch\0e\x1bth0\0"), "detour watch e\\u{1b}th0");
    }

    #[test]
    fn whoever_holds_a_lock_is_named() {
        let path = std::env::temp_dir().join(format!("detour-holder-{}", std::process::id()));
        let open = || fs::File::create(&path).unwrap();
        assert_eq!(holder(open()), "somebody else");
        let lock = Flock::lock(open(), FlockArg::LockExclusiveNonblock).unwrap();
        let expect = format!("(process {})", std::process::id());
        assert!(holder(open()).ends_with(&expect), "{}", holder(open()));
        drop(lock);
        fs::remove_file(&path).unwrap();
    }
}
