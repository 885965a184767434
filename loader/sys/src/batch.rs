// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A map to all its elements, many by one call (BPF_MAP_LOOKUP_BATCH, Linux 5.6), for the types that have it.
//!
//! A hash map gives whole buckets, each read under its lock, and the position is a bucket's number: an element that stays is
//! seen once, whatever comes and goes meanwhile. BPF_MAP_GET_NEXT_KEY cannot promise that: where the key that it is given
//! was deleted, it begins anew (`htab_map_get_next_key()` in kernel/bpf/hashtab.c).
use crate::attr::{Attr, Value};
use crate::call::bpf;
use crate::commands::MAP_LOOKUP_BATCH;
use crate::map::Map;
use std::io;
use std::os::fd::AsFd;

/// Types with `map_lookup_batch` in Linux 5.10: HASH, ARRAY, PERCPU_HASH, LRU_HASH, LRU_PERCPU_HASH. PERCPU_ARRAY and
/// LPM_TRIE got it with 5.13, maps of maps with 5.16.
const BATCHED: [u32; 5] = [1, 2, 5, 9, 10];

/// Bytes of keys and values that one call asks for, where more than one element is as large.
const CALL: usize = 256 << 10;
/// Buckets are as full as chance has it: a call asks for so many elements at least.
const LEAST: usize = 16;

/// Key and value; a per-CPU map's value has one record for each CPU.
pub type Element = (Vec<u8>, Vec<u8>);

/// The elements of a map, a batch at a time. Ends after the last one or the first error.
#[derive(Debug)]
pub struct Batches<'a> {
    map: &'a Map,
    /// Where the kernel goes on; None at first.
    position: Option<Vec<u8>>,
    /// Elements that a call has room for.
    count: usize,
    ended: bool,
}

impl Map {
    /// All elements, a batch at a time; None of a type that Linux 5.10 gives one by one only ([`Map::next_key`]).
    ///
    /// ```no_run
    /// # let map = detour_sys::Map::create(&[])?;
    /// for batch in map.batches().into_iter().flatten() {
    ///     for (key, value) in batch? {
    ///         println!("{key:02x?} {value:02x?}");
    ///     }
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn batches(&self) -> Option<Batches<'_>> {
        let one = self.key_size().saturating_add(self.value_size()).max(1);
        let count = CALL.checked_div(one).unwrap_or(0).max(LEAST).min(self.max_entries());
        BATCHED.contains(&self.map_type()).then_some(Batches {
            map: self,
            position: None,
            count,
            ended: false,
        })
    }
}

impl Batches<'_> {
    /// What comes next; ENOSPC where the next bucket holds more than there was room for.
    fn ask(&mut self) -> io::Result<Vec<Element>> {
        let (key, value) = (self.map.key_size(), self.map.value_size());
        let overflow = || io::Error::from(io::ErrorKind::OutOfMemory);
        let room = |size: usize| self.count.checked_mul(size).ok_or_else(overflow);
        let (keys, values) = (vec![0; room(key)?], vec![0; room(value)?]);
        // Hash maps count buckets by 32 bits; the others give back the last key.
        let position = vec![0; key.max(4)];
        let mut arguments = vec![("out_batch", Value::Bytes(&position))];
        arguments.extend(self.position.as_deref().map(|at| ("in_batch", Value::Bytes(at))));
        arguments.extend([
            ("keys", Value::Bytes(&keys)),
            ("values", Value::Bytes(&values)),
            ("count", Value::Num(u64::try_from(self.count).map_err(|_| overflow())?)),
            ("map_fd", Value::Fd(self.map.as_fd())),
        ]);
        // The kernel writes `count` keys and values at most, of the sizes that it reported for this very descriptor.
        let (image, buffers, result) = bpf(&MAP_LOOKUP_BATCH, Attr::encode(&MAP_LOOKUP_BATCH, &arguments)?);
        match result {
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => self.ended = true,
            result => drop(result?),
        }
        let bytes = |name: &str| buffers.iter().find(|b| b.name == name).map_or(&[][..], |b| &b.bytes);
        let found = MAP_LOOKUP_BATCH.number_in(&image, "count");
        let found = usize::try_from(found).map_err(|_| overflow())?.min(self.count);
        let records = |name: &str, size: usize| bytes(name).chunks_exact(size.max(1)).map(<[u8]>::to_vec);
        let elements = records("keys", key).zip(records("values", value)).take(found).collect();
        self.position = Some(bytes("out_batch").to_vec());
        Ok(elements)
    }
}

impl Iterator for Batches<'_> {
    type Item = io::Result<Vec<Element>>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            let answer = self.ask();
            let full = answer.as_ref().is_err_and(|e| e.raw_os_error() == Some(libc::ENOSPC));
            // No bucket holds more than the map: this ends.
            if full && self.count < self.map.max_entries() {
                self.count = self.count.saturating_mul(2).min(self.map.max_entries());
                continue;
            }
            self.ended |= answer.is_err();
            return Some(answer);
        }
        None
    }
}
