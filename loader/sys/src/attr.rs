// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Named arguments to the bytes of `union bpf_attr`, by one table for each command; safe code only.
//!
//! Offsets are those of include/uapi/linux/bpf.h, equal on every 64-bit little-endian machine; a test compares them
//! with the running kernel's BTF. All numbers are in host byte order.
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Size of `union bpf_attr` in Linux 6.18, in bytes: more than any command here reaches.
pub const ATTR_MAX: usize = 168;

/// What a field of an attribute holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A 32-bit number.
    U32,
    /// A 64-bit number.
    U64,
    /// A 32-bit number that can only be this: the size of the records in another field.
    Unit(u32),
    /// A file descriptor, 32 bits.
    Fd,
    /// `char[16]`, at most 15 bytes of text and a NUL.
    Name,
    /// The address of NUL-terminated text.
    Text,
    /// The address of records of `unit` bytes that the kernel reads; their number goes to the field at `count`.
    Records {
        /// Offset of the 32-bit field that holds how many records there are.
        count: usize,
        /// Bytes in one record.
        unit: usize,
    },
    /// The address of room for records of `unit` bytes that the kernel writes; their number goes to the field at `count`.
    Room {
        /// Offset of the 32-bit field that holds how many records there is room for.
        count: usize,
        /// Bytes in one record; 1 where the kernel counts bytes.
        unit: usize,
    },
    /// The address of 32-bit numbers of which the kernel reads those that the program's instructions name: one that is not
    /// there is whatever lies behind, which it takes for a descriptor, or EFAULT.
    Numbers,
    /// The address of keys or values, whose size only the map knows: see [`crate::Map`] and [`crate::Batches`].
    Element,
}

/// One field of one command's attribute.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Field {
    /// The kernel's name.
    pub name: &'static str,
    /// Offset in bytes.
    pub at: usize,
    /// What it holds.
    pub kind: Kind,
}

impl Field {
    /// Bytes that the field takes in the attribute.
    pub const fn width(&self) -> usize {
        match self.kind {
            Kind::U32 | Kind::Unit(_) | Kind::Fd => 4,
            Kind::Name => 16,
            _ => 8,
        }
    }

    /// The attribute has to be this long for the kernel to see the field (and its count, where it has one).
    pub fn end(&self) -> usize {
        let own = self.at + self.width();
        match self.kind {
            Kind::Records { count, .. } | Kind::Room { count, .. } => own.max(count + 4),
            _ => own,
        }
    }
}

/// One bpf(2) command.
#[derive(Debug)]
#[non_exhaustive]
pub struct Command {
    /// The kernel's name without `BPF_`.
    pub name: &'static str,
    /// First argument of bpf(2).
    pub number: u32,
    /// Whether success returns a new descriptor.
    pub gives_fd: bool,
    /// Its fields in `union bpf_attr`.
    pub fields: &'static [Field],
}

impl PartialEq for Command {
    fn eq(&self, other: &Command) -> bool {
        self.number == other.number
    }
}

impl Eq for Command {}

impl Command {
    /// The field with the kernel's name `name`.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|f| f.name == name)
    }

    /// The command with the name `name` (without `BPF_`).
    pub fn by_name(name: &str) -> Option<&'static Command> {
        crate::commands::COMMANDS.iter().copied().find(|c| c.name == name)
    }

    /// The number that the attribute `image` has in the field `name`; 0 where it is too short to have it.
    pub(crate) fn number_in(&self, image: &[u8], name: &str) -> u64 {
        let Some(field) = self.field(name) else { return 0 };
        let bytes = image.get(field.at..field.at.saturating_add(field.width()));
        let (narrow, wide) = (bytes.and_then(|b| b.try_into().ok()), bytes.and_then(|b| b.try_into().ok()));
        narrow.map(u32::from_ne_bytes).map(u64::from).or(wide.map(u64::from_ne_bytes)).unwrap_or(0)
    }

    /// Whether the lengths of its buffers are known to the map only.
    pub fn is_element(&self) -> bool {
        self.fields.iter().any(|f| f.kind == Kind::Element)
    }
}

/// One argument.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// For [`Kind::U32`] (must fit) and [`Kind::U64`].
    Num(u64),
    /// For [`Kind::Fd`].
    Fd(BorrowedFd<'a>),
    /// For [`Kind::Name`] and [`Kind::Text`]; no NUL inside.
    Text(&'a str),
    /// For [`Kind::Records`] (a multiple of the unit), [`Kind::Numbers`] and [`Kind::Element`].
    Bytes(&'a [u8]),
    /// For [`Kind::Room`]: this many bytes, zeroed.
    Room(usize),
}

/// An argument that its field cannot hold: an error of this program, never of the kernel.
pub(crate) fn bad(command: &Command, field: &str, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{}: {field}: {why}", command.name))
}

/// A buffer that an attribute points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// The field that points to it.
    pub name: &'static str,
    /// Offset of the pointer in the attribute.
    pub at: usize,
    /// What the kernel reads, or zeroed room that it writes.
    pub bytes: Vec<u8>,
}

/// An attribute without addresses: pointers are zero until the call writes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attr {
    image: Vec<u8>,
    buffers: Vec<Buffer>,
    written: Vec<Range<usize>>,
}

impl Attr {
    /// Encodes named arguments. The attribute ends with the last field that was given, so an old kernel is never shown a
    /// field that the caller did not need.
    pub fn encode(command: &'static Command, arguments: &[(&str, Value<'_>)]) -> io::Result<Attr> {
        // A field takes two places where it has a count.
        let written = Vec::with_capacity(arguments.len().saturating_mul(2));
        let mut attr = Attr { image: vec![0; ATTR_MAX], buffers: Vec::new(), written };
        let mut size = 0;
        for (name, value) in arguments {
            let bad = |why| bad(command, name, why);
            let field = command.field(name).ok_or_else(|| bad("no such field"))?;
            attr.put(field, value).map_err(bad)?;
            size = size.max(field.end());
        }
        attr.image.truncate(size);
        Ok(attr)
    }

    fn put(&mut self, field: &'static Field, value: &Value<'_>) -> Result<(), &'static str> {
        match (field.kind, value) {
            (Kind::U32, Value::Num(n)) => self.put_u32(field.at, *n)?,
            (Kind::Unit(unit), Value::Num(n)) if *n == u64::from(unit) => self.put_u32(field.at, *n)?,
            (Kind::Unit(_), Value::Num(_)) => return Err("not the size of a record"),
            (Kind::U64, Value::Num(n)) => self.put_bytes(field.at, &n.to_ne_bytes())?,
            (Kind::Fd, Value::Fd(fd)) => self.put_bytes(field.at, &fd.as_raw_fd().to_ne_bytes())?,
            (_, Value::Text(t)) if t.contains('\0') => return Err("holds a NUL byte"),
            (Kind::Name, Value::Text(t)) if t.len() < 16 => self.put_bytes(field.at, t.as_bytes())?,
            (Kind::Name, Value::Text(_)) => return Err("longer than 15 bytes"),
            (Kind::Text, Value::Text(t)) => self.buffer(field, [t.as_bytes(), &[0]].concat())?,
            (Kind::Records { count, unit }, Value::Bytes(b)) => {
                if b.len() % unit != 0 {
                    return Err("not a whole number of records");
                }
                self.put_u32(count, (b.len() / unit) as u64)?;
                self.buffer(field, b.to_vec())?;
            }
            (Kind::Room { count, unit }, Value::Room(n)) => {
                if n % unit != 0 {
                    return Err("not room for a whole number of records");
                }
                self.put_u32(count, (n / unit) as u64)?;
                self.buffer(field, vec![0; *n])?;
            }
            (Kind::Numbers, Value::Bytes(b)) if b.len() % 4 != 0 => {
                return Err("not a whole number of numbers")
            }
            (Kind::Element | Kind::Numbers, Value::Bytes(b)) => self.buffer(field, b.to_vec())?,
            _ => return Err("the field holds another kind of value"),
        }
        Ok(())
    }

    fn put_u32(&mut self, at: usize, n: u64) -> Result<(), &'static str> {
        let n = u32::try_from(n).map_err(|_| "does not fit 32 bits")?;
        self.put_bytes(at, &n.to_ne_bytes())
    }

    /// Writes a field. What overlaps an earlier one must agree with it: so no number can contradict the length of a buffer.
    fn put_bytes(&mut self, at: usize, bytes: &[u8]) -> Result<(), &'static str> {
        let range = at..at.checked_add(bytes.len()).ok_or("outside the attribute")?;
        let old = self.image.get_mut(range.clone()).ok_or("outside the attribute")?;
        let taken = |word: &Range<usize>| word.start < range.end && range.start < word.end;
        if self.written.iter().any(taken) && old != bytes {
            return Err("contradicts another argument");
        }
        old.copy_from_slice(bytes);
        self.written.push(range);
        Ok(())
    }

    fn buffer(&mut self, field: &'static Field, bytes: Vec<u8>) -> Result<(), &'static str> {
        if self.buffers.iter().any(|b| b.at == field.at) {
            return Err("is given twice");
        }
        self.buffers.push(Buffer { name: field.name, at: field.at, bytes });
        Ok(())
    }

    /// The attribute's bytes, pointers zero.
    pub fn image(&self) -> &[u8] {
        &self.image
    }

    /// The buffers that it points to.
    pub fn buffers(&self) -> &[Buffer] {
        &self.buffers
    }

    /// The 32-bit number at `at`; 0 beyond the end, which is how the kernel reads it.
    pub fn u32_at(&self, at: usize) -> u32 {
        self.image.get(at..at.saturating_add(4)).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes)
    }

    /// Writes into the buffer `name`, which has room there.
    pub(crate) fn fill(&mut self, name: &str, at: usize, bytes: &[u8]) {
        let buffer = self.buffers.iter_mut().find(|b| b.name == name);
        let place = buffer.and_then(|b| b.bytes.get_mut(at..at.saturating_add(bytes.len())));
        if let Some(place) = place {
            place.copy_from_slice(bytes);
        }
    }

    pub(crate) fn parts(self) -> (Vec<u8>, Vec<Buffer>) {
        (self.image, self.buffers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::{PROG_LOAD, PROG_QUERY, PROG_TEST_RUN};

    fn refused(command: &'static Command, arguments: &[(&str, Value<'_>)]) -> bool {
        Attr::encode(command, arguments).is_err_and(|e| e.kind() == io::ErrorKind::InvalidInput)
    }

    #[test]
    fn no_number_contradicts_a_buffer() {
        let (room, size) = (("data_out", Value::Room(16)), |n| ("data_size_out", Value::Num(n)));
        assert!(refused(&PROG_TEST_RUN, &[room.clone(), size(1400)]));
        assert!(refused(&PROG_TEST_RUN, &[size(1400), room.clone()]));
        assert!(refused(&PROG_TEST_RUN, &[room.clone(), ("data_out", Value::Room(32))]));
        assert!(Attr::encode(&PROG_TEST_RUN, &[room, size(16)]).is_ok());
        let rooms = |a, b| [("prog_ids", Value::Room(a)), ("link_ids", Value::Room(b))];
        assert!(refused(&PROG_QUERY, &rooms(64, 32)));
        assert!(Attr::encode(&PROG_QUERY, &rooms(64, 64)).is_ok());
    }

    #[test]
    fn a_record_has_one_size() {
        let info = ("func_info", Value::Bytes(&[0; 16]));
        let size = |n| ("func_info_rec_size", Value::Num(n));
        assert!(refused(&PROG_LOAD, &[info.clone(), size(64)]));
        assert!(refused(&PROG_LOAD, &[("func_info", Value::Bytes(&[0; 15])), size(8)]));
        assert_eq!(Attr::encode(&PROG_LOAD, &[info, size(8)]).map(|a| a.u32_at(88)).ok(), Some(2));
    }

    #[test]
    fn text_ends_where_the_kernel_ends_it() {
        assert!(refused(&PROG_LOAD, &[("prog_name", Value::Text("a\0b"))]));
        assert!(refused(&PROG_LOAD, &[("license", Value::Text("GPL\0"))]));
        assert!(refused(&PROG_LOAD, &[("prog_name", Value::Text("sixteen_letters_"))]));
    }
}
