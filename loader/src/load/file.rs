// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Text to a file of others: one that is replaced as a whole, and one that grows, which others may move away meanwhile.
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Writes beside the file, then renames: a reader sees the old one or the new one, never a part.
pub fn replace(path: &str, text: &str) -> io::Result<()> {
    let (mut file, beside) = new_beside(path)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        // What cannot be removed could not be made either.
        let _ = std::fs::remove_file(&beside);
    }
    written
}

/// Whether [`replace`] finds a place to write: who serves for weeks is to know before.
pub fn replaceable(path: &str) -> io::Result<()> {
    let (_, beside) = new_beside(path)?;
    std::fs::remove_file(beside)
}

/// The new file, and what it is called until it takes the place of `path`.
fn new_beside(path: &str) -> io::Result<(File, PathBuf)> {
    let path = Path::new(path);
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    // The textfile collector reads *.prom only. What a killed process left is in the way of a new file, and a link that
    // somebody else put there is not followed.
    let beside = path.with_file_name(format!(".{name}.new"));
    let _ = std::fs::remove_file(&beside);
    Ok((OpenOptions::new().write(true).create_new(true).open(&beside)?, beside))
}

/// A file that lines are appended to.
#[derive(Debug)]
pub struct Growing {
    path: String,
    file: File,
    /// A line was written in part: what follows begins a new one.
    torn: bool,
}

impl Growing {
    /// Opens it, or makes it.
    pub fn open(path: &str) -> io::Result<Growing> {
        Ok(Growing { path: path.to_owned(), file: append(path)?, torn: false })
    }

    /// Its name.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Adds a line, which ends with a newline.
    pub fn add(&mut self, line: &str) -> io::Result<()> {
        let text = if self.torn { format!("\n{line}") } else { line.to_owned() };
        let written = self.file.write(text.as_bytes())?;
        let rest = text.as_bytes().get(written..).unwrap_or_default();
        self.torn = !rest.is_empty();
        if self.torn {
            self.file.write_all(rest)?;
            self.torn = false;
        }
        Ok(())
    }

    /// Whatever has its name now: somebody may have moved it away. Where that fails, the one that is open goes on.
    pub fn reopen(&mut self) -> io::Result<()> {
        self.file = append(&self.path)?;
        self.torn = false;
        Ok(())
    }
}

/// As `load::allowed` lets a confined process do it.
fn append(path: &str) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_grows_and_is_found_again() {
        let folder = std::env::temp_dir().join(format!("detour-file-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let (path, old) = (folder.join("log"), folder.join("log.1"));
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        std::fs::write(&path, "before\n").unwrap();
        let mut file = Growing::open(path.to_str().unwrap()).unwrap();
        file.add("one\n").unwrap();
        std::fs::rename(&path, &old).unwrap();
        file.add("two\n").unwrap();
        file.reopen().unwrap();
        file.add("three\n").unwrap();
        assert_eq!((read(&old).as_str(), read(&path).as_str()), ("before\none\ntwo\n", "three\n"));
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(file.reopen().unwrap_err().kind(), io::ErrorKind::NotFound);
        file.add("to the one that is open\n").unwrap();
        let mut full = Growing::open("/dev/full").unwrap();
        assert_eq!(full.add("x\n").unwrap_err().kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn a_file_is_replaced_or_left() {
        let path = std::env::temp_dir().join(format!("detour-replace-{}", std::process::id()));
        let text = path.to_str().unwrap();
        replace(text, "one").unwrap();
        replace(text, "two").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(replace("/no/such/file", "x").unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
