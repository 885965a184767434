// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A map's descriptor to safe element access: every buffer has the size that the kernel takes for this map.
use crate::attr::{Attr, Command, Value};
use crate::call::{bpf, encoded};
use crate::commands;
use crate::info::info;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

/// A map together with the sizes that the kernel uses when it copies keys and values.
///
/// ```no_run
/// use detour_sys::{Map, Value};
///
/// // BPF_MAP_TYPE_HASH, as everything else by the names of `union bpf_attr`.
/// let map = Map::create(&[
///     ("map_type", Value::Num(1)),
///     ("key_size", Value::Num(4)),
///     ("value_size", Value::Num(8)),
///     ("max_entries", Value::Num(16)),
/// ])?;
/// map.update(&7_u32.to_ne_bytes(), &1_u64.to_ne_bytes(), 0)?;
/// assert_eq!(map.lookup(&7_u32.to_ne_bytes())?, Some(1_u64.to_ne_bytes().to_vec()));
/// assert_eq!(map.next_key(None)?, Some(7_u32.to_ne_bytes().to_vec()));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Map {
    fd: OwnedFd,
    key: usize,
    value: usize,
    map_type: u32,
    max_entries: u32,
    id: Option<u32>,
}

/// Map types whose value is one record for each possible CPU, each rounded up to 8 bytes: `bpf_map_value_size()` in
/// kernel/bpf/syscall.c (PERCPU_HASH, PERCPU_ARRAY, LRU_PERCPU_HASH, PERCPU_CGROUP_STORAGE).
const PER_CPU: [u32; 4] = [5, 6, 10, 21];

impl Map {
    /// `BPF_MAP_CREATE` with the arguments given; the sizes are those of the arguments, which the kernel has accepted.
    pub fn create(arguments: &[(&str, Value<'_>)]) -> io::Result<Map> {
        let attr = Attr::encode(&commands::MAP_CREATE, arguments)?;
        let shape = [0, 4, 8, 12].map(|at| attr.u32_at(at));
        let answer = encoded(&commands::MAP_CREATE, attr).map_err(|(error, _)| error)?;
        let fd = answer.fd.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        Map::sized(fd, shape, None)
    }

    /// A map by a descriptor from elsewhere (`OBJ_GET`, `MAP_GET_FD_BY_ID`): asks the kernel for its sizes.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Map> {
        let info = info(fd.as_fd(), 20)?;
        let number = |at: usize| {
            let bytes = info.get(at..at.saturating_add(4)).and_then(|b| b.try_into().ok());
            bytes.map(u32::from_ne_bytes).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
        };
        // struct bpf_map_info: type, id, key_size, value_size, max_entries.
        let shape = [number(0)?, number(8)?, number(12)?, number(16)?];
        Map::sized(fd, shape, Some(number(4)?))
    }

    fn sized(fd: OwnedFd, [map_type, key, value, max_entries]: [u32; 4], id: Option<u32>) -> io::Result<Map> {
        let mut size = value as usize;
        if PER_CPU.contains(&map_type) {
            let overflow = || io::Error::from(io::ErrorKind::OutOfMemory);
            size = size.next_multiple_of(8).checked_mul(possible_cpus()?).ok_or_else(overflow)?;
        }
        Ok(Map { fd, key: key as usize, value: size, map_type, max_entries, id })
    }

    /// The map's id, where the kernel was asked for it ([`Map::from_fd`]).
    pub fn id(&self) -> Option<u32> {
        self.id
    }

    /// `BPF_MAP_TYPE_…`, as a number.
    pub fn map_type(&self) -> u32 {
        self.map_type
    }

    /// How many elements it holds at most.
    pub fn max_entries(&self) -> usize {
        self.max_entries as usize
    }

    /// Bytes in a key.
    pub fn key_size(&self) -> usize {
        self.key
    }

    /// Bytes that a look-up gives and an update takes: all CPUs' records for per-CPU maps.
    pub fn value_size(&self) -> usize {
        self.value
    }

    /// The value at `key`, or None where there is none.
    pub fn lookup(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.element(&commands::MAP_LOOKUP_ELEM, Some(key), Some(vec![0; self.value]), 0)
    }

    /// Writes `value` at `key`. `flags`: 0 any, 1 only new (`BPF_NOEXIST`), 2 only existing (`BPF_EXIST`).
    pub fn update(&self, key: &[u8], value: &[u8], flags: u64) -> io::Result<()> {
        self.element(&commands::MAP_UPDATE_ELEM, Some(key), Some(value.to_vec()), flags)?;
        Ok(())
    }

    /// Deletes `key`; false where it was not there.
    pub fn delete(&self, key: &[u8]) -> io::Result<bool> {
        Ok(self.element(&commands::MAP_DELETE_ELEM, Some(key), None, 0)?.is_some())
    }

    /// The key after `key`, or the first one; None at the end.
    pub fn next_key(&self, key: Option<&[u8]>) -> io::Result<Option<Vec<u8>>> {
        self.element(&commands::MAP_GET_NEXT_KEY, key, Some(vec![0; self.key]), 0)
    }

    /// One element command; where it looks for something, ENOENT is None. The returned buffer is the value (or next key)
    /// after the call.
    fn element(
        &self,
        command: &'static Command,
        key: Option<&[u8]>,
        value: Option<Vec<u8>>,
        flags: u64,
    ) -> io::Result<Option<Vec<u8>>> {
        let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_string());
        if key.is_some_and(|k| k.len() != self.key) {
            return Err(wrong("the key does not have the map's key size"));
        }
        let room = if command == &commands::MAP_GET_NEXT_KEY { self.key } else { self.value };
        if value.as_ref().is_some_and(|v| v.len() != room) {
            return Err(wrong("the value does not have the map's value size"));
        }
        let mut arguments = vec![("map_fd", Value::Fd(self.fd.as_fd()))];
        arguments.extend(key.map(|k| ("key", Value::Bytes(k))));
        let name = if command == &commands::MAP_GET_NEXT_KEY { "next_key" } else { "value" };
        arguments.extend(value.as_deref().map(|v| (name, Value::Bytes(v))));
        if flags != 0 {
            arguments.push(("flags", Value::Num(flags)));
        }
        // The lengths were checked above against what the kernel reported for this descriptor.
        let (_, mut buffers, result) = bpf(command, Attr::encode(command, &arguments)?);
        match result {
            Ok(_) => Ok(Some(buffers.pop().map(|b| b.bytes).unwrap_or_default())),
            // Not of an update: without BPF_EXIST nothing has to be there, and with it that is what was asked.
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) && command != &commands::MAP_UPDATE_ELEM => {
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// How many CPUs this kernel can ever have: the highest number in /sys/devices/system/cpu/possible, plus one.
///
/// It never changes while a kernel runs, so it is read once.
pub fn possible_cpus() -> io::Result<usize> {
    static KNOWN: OnceLock<usize> = OnceLock::new();
    if let Some(cpus) = KNOWN.get() {
        return Ok(*cpus);
    }
    // sysfs gives the whole text to one read, and a page at most.
    let mut page = [0; 4096];
    let length = File::open("/sys/devices/system/cpu/possible")?.read(&mut page)?;
    let text = page.get(..length).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default();
    let last = text.trim().rsplit([',', '-']).next().and_then(|n| n.parse::<usize>().ok());
    let cpus =
        last.and_then(|n| n.checked_add(1)).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok(*KNOWN.get_or_init(|| cpus))
}
