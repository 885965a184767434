// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Symbols of a plan to the descriptors and ids of this run.
use crate::load::step::{Arg, Blob};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// What a `%symbol` stands for.
#[derive(Debug)]
pub enum Handle {
    /// A map, with the sizes that element calls need.
    Map(detour_sys::Map),
    /// A program or BTF.
    Other(OwnedFd),
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Handle::Map(map) => map.as_fd(),
            Handle::Other(fd) => fd.as_fd(),
        }
    }
}

/// Everything that steps have defined so far. Dropping it closes the descriptors.
#[derive(Debug, Default)]
pub struct Symbols {
    handles: BTreeMap<String, Handle>,
    ids: BTreeMap<String, u32>,
}

impl Symbols {
    /// Defines `%symbol`.
    pub fn set_handle(&mut self, symbol: &str, handle: Handle) {
        self.handles.insert(symbol.to_string(), handle);
    }

    /// Defines `?symbol`.
    pub fn set_id(&mut self, symbol: &str, id: u32) {
        self.ids.insert(symbol.to_string(), id);
    }

    /// The descriptor behind `%symbol`.
    pub fn handle(&self, symbol: &str) -> io::Result<&Handle> {
        self.handles.get(symbol).ok_or_else(|| undefined(symbol))
    }

    /// The map behind `%symbol`.
    pub fn map(&self, symbol: &str) -> io::Result<&detour_sys::Map> {
        match self.handle(symbol)? {
            Handle::Map(map) => Ok(map),
            Handle::Other(_) => Err(undefined(symbol)),
        }
    }

    /// The id behind `?symbol`.
    pub fn id(&self, symbol: &str) -> io::Result<u32> {
        self.ids.get(symbol).copied().ok_or_else(|| undefined(symbol))
    }

    /// The blob's bytes with all holes filled.
    pub fn fill<'b>(&self, blob: &'b Blob) -> io::Result<Cow<'b, [u8]>> {
        if blob.holes.is_empty() {
            return Ok(Cow::Borrowed(&blob.bytes));
        }
        let mut bytes = blob.bytes.clone();
        for hole in &blob.holes {
            let number = if hole.symbol.starts_with('%') {
                self.handle(&hole.symbol)?.as_fd().as_raw_fd().to_ne_bytes()
            } else {
                self.id(&hole.symbol)?.to_ne_bytes()
            };
            let end = hole.at.saturating_add(4);
            bytes.get_mut(hole.at..end).ok_or_else(|| undefined(&hole.symbol))?.copy_from_slice(&number);
        }
        Ok(Cow::Owned(bytes))
    }

    /// The bytes of all arguments that have some, in order.
    pub fn filled<'b>(&self, args: &'b [(&'static str, Arg)]) -> io::Result<Vec<Cow<'b, [u8]>>> {
        let blob = |(_, arg): &'b (&'static str, Arg)| match arg {
            Arg::Bytes(blob) => Some(self.fill(blob)),
            _ => None,
        };
        args.iter().filter_map(blob).collect()
    }

    /// Arguments with every symbol resolved, `filled` being their bytes; `log_size` is the size of [`Arg::LogRoom`].
    pub fn resolve<'a>(
        &'a self,
        args: &'a [(&'static str, Arg)],
        filled: &'a [Cow<'_, [u8]>],
        log_size: usize,
    ) -> io::Result<Vec<(&'static str, detour_sys::Value<'a>)>> {
        use detour_sys::Value;
        let (mut resolved, mut filled) = (Vec::with_capacity(args.len()), filled.iter());
        for (name, arg) in args {
            let value = match arg {
                Arg::Num(n) => Value::Num(*n),
                Arg::Text(text) => Value::Text(text),
                Arg::Fd(symbol) => Value::Fd(self.handle(symbol)?.as_fd()),
                Arg::Bytes(_) => Value::Bytes(filled.next().map(|bytes| &**bytes).unwrap_or_default()),
                Arg::Room(size) => Value::Room(*size),
                Arg::LogRoom => Value::Room(log_size),
            };
            resolved.push((*name, value));
        }
        Ok(resolved)
    }
}

fn undefined(symbol: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("no step has defined {symbol}"))
}
