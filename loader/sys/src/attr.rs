// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Named arguments to the bytes of `union bpf_attr`, by one table for each command; safe code only.
//!
//! Offsets are those of include/uapi/linux/bpf.h, equal on every 64-bit little-endian machine; a test compares them
//! with the running kernel's BTF. All numbers are in host byte order.
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
    /// The address of room that the kernel writes into; its size in bytes goes to the field at `size`.
    Room {
        /// Offset of the 32-bit field that holds the room's size.
        size: usize,
    },
    /// The address of a key or value, whose size only the map knows: see [`crate::Map`].
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
            Kind::U32 | Kind::Fd => 4,
            Kind::Name => 16,
            _ => 8,
        }
    }

    /// The attribute has to be this long for the kernel to see the field (and its count, where it has one).
    pub fn end(&self) -> usize {
        let own = self.at + self.width();
        match self.kind {
            Kind::Records { count, .. } => own.max(count + 4),
            Kind::Room { size } => own.max(size + 4),
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
        COMMANDS.iter().copied().find(|c| c.name == name)
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
    /// For [`Kind::Records`] (a multiple of the unit) and [`Kind::Element`].
    Bytes(&'a [u8]),
    /// For [`Kind::Room`]: this many bytes, zeroed.
    Room(usize),
}

/// An argument that its field cannot hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadArgument {
    /// The command.
    pub command: &'static str,
    /// The field's name as given.
    pub field: String,
    /// What is wrong.
    pub why: &'static str,
}

impl std::fmt::Display for BadArgument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}: {}", self.command, self.field, self.why)
    }
}

impl std::error::Error for BadArgument {}

impl From<BadArgument> for std::io::Error {
    fn from(bad: BadArgument) -> Self {
        std::io::Error::new(std::io::ErrorKind::InvalidInput, bad)
    }
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
}

impl Attr {
    /// Encodes named arguments. The attribute ends with the last field that was given, so an old kernel is never shown a
    /// field that the caller did not need.
    pub fn encode(command: &'static Command, arguments: &[(&str, Value<'_>)]) -> Result<Attr, BadArgument> {
        let mut attr = Attr { image: vec![0; ATTR_MAX], buffers: Vec::new() };
        let mut size = 0;
        for (name, value) in arguments {
            let bad = |why| BadArgument { command: command.name, field: (*name).to_string(), why };
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
            (Kind::U64, Value::Num(n)) => self.put_bytes(field.at, &n.to_ne_bytes())?,
            (Kind::Fd, Value::Fd(fd)) => self.put_bytes(field.at, &fd.as_raw_fd().to_ne_bytes())?,
            (Kind::Name, Value::Text(t)) if t.len() < 16 => self.put_bytes(field.at, t.as_bytes())?,
            (Kind::Name, Value::Text(_)) => return Err("longer than 15 bytes"),
            (Kind::Text, Value::Text(t)) if t.contains('\0') => return Err("holds a NUL byte"),
            (Kind::Text, Value::Text(t)) => self.buffer(field, [t.as_bytes(), &[0]].concat()),
            (Kind::Records { count, unit }, Value::Bytes(b)) => {
                if b.len() % unit != 0 {
                    return Err("not a whole number of records");
                }
                self.put_u32(count, (b.len() / unit) as u64)?;
                self.buffer(field, b.to_vec());
            }
            (Kind::Room { size }, Value::Room(n)) => {
                self.put_u32(size, *n as u64)?;
                self.buffer(field, vec![0; *n]);
            }
            (Kind::Element, Value::Bytes(b)) => self.buffer(field, b.to_vec()),
            _ => return Err("the field holds another kind of value"),
        }
        Ok(())
    }

    fn put_u32(&mut self, at: usize, n: u64) -> Result<(), &'static str> {
        let n = u32::try_from(n).map_err(|_| "does not fit 32 bits")?;
        self.put_bytes(at, &n.to_ne_bytes())
    }

    fn put_bytes(&mut self, at: usize, bytes: &[u8]) -> Result<(), &'static str> {
        let end = at.checked_add(bytes.len()).ok_or("outside the attribute")?;
        self.image.get_mut(at..end).ok_or("outside the attribute")?.copy_from_slice(bytes);
        Ok(())
    }

    fn buffer(&mut self, field: &'static Field, bytes: Vec<u8>) {
        self.buffers.push(Buffer { name: field.name, at: field.at, bytes });
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

    pub(crate) fn parts(self) -> (Vec<u8>, Vec<Buffer>) {
        (self.image, self.buffers)
    }
}

const fn field(name: &'static str, at: usize, kind: Kind) -> Field {
    Field { name, at, kind }
}

use Kind::{Element, Fd, Name, Records, Room, Text, U32, U64};

/// `BPF_MAP_CREATE`, Linux 3.19; `map_create()` in kernel/bpf/syscall.c.
pub static MAP_CREATE: Command = Command {
    name: "MAP_CREATE",
    number: 0,
    gives_fd: true,
    fields: &[
        field("map_type", 0, U32),
        field("key_size", 4, U32),
        field("value_size", 8, U32),
        field("max_entries", 12, U32),
        field("map_flags", 16, U32),
        field("inner_map_fd", 20, Fd),
        field("numa_node", 24, U32),
        field("map_name", 28, Name),
        field("btf_fd", 48, Fd),
        field("btf_key_type_id", 52, U32),
        field("btf_value_type_id", 56, U32),
        field("map_extra", 64, U64),
    ],
};

/// `BPF_MAP_LOOKUP_ELEM`, Linux 3.19.
pub static MAP_LOOKUP_ELEM: Command = element("MAP_LOOKUP_ELEM", 1);
/// `BPF_MAP_UPDATE_ELEM`, Linux 3.19.
pub static MAP_UPDATE_ELEM: Command = element("MAP_UPDATE_ELEM", 2);
/// `BPF_MAP_DELETE_ELEM`, Linux 3.19.
pub static MAP_DELETE_ELEM: Command = element("MAP_DELETE_ELEM", 3);
/// `BPF_MAP_GET_NEXT_KEY`, Linux 3.19; `value` is the union's name for `next_key`.
pub static MAP_GET_NEXT_KEY: Command = element("MAP_GET_NEXT_KEY", 4);

const fn element(name: &'static str, number: u32) -> Command {
    const FIELDS: &[Field] = &[
        field("map_fd", 0, Fd),
        field("key", 8, Element),
        field("value", 16, Element),
        field("flags", 24, U64),
    ];
    Command { name, number, gives_fd: false, fields: FIELDS }
}

/// `BPF_PROG_LOAD`, Linux 3.18; `bpf_prog_load()` in kernel/bpf/syscall.c.
pub static PROG_LOAD: Command = Command {
    name: "PROG_LOAD",
    number: 5,
    gives_fd: true,
    fields: &[
        field("prog_type", 0, U32),
        field("insns", 8, Records { count: 4, unit: 8 }),
        field("license", 16, Text),
        field("log_level", 24, U32),
        field("log_buf", 32, Room { size: 28 }),
        field("prog_flags", 44, U32),
        field("prog_name", 48, Name),
        field("expected_attach_type", 68, U32),
        field("prog_btf_fd", 72, Fd),
        field("func_info_rec_size", 76, U32),
        field("func_info", 80, Records { count: 88, unit: 8 }),
        field("line_info_rec_size", 92, U32),
        field("line_info", 96, Records { count: 104, unit: 16 }),
        field("log_true_size", 140, U32),
    ],
};

/// `BPF_OBJ_PIN`, Linux 4.4: `pathname` becomes a name of the object.
pub static OBJ_PIN: Command = Command {
    name: "OBJ_PIN",
    number: 6,
    gives_fd: false,
    fields: &[field("pathname", 0, Text), field("bpf_fd", 8, Fd)],
};

/// `BPF_OBJ_GET`, Linux 4.4.
pub static OBJ_GET: Command = Command {
    name: "OBJ_GET",
    number: 7,
    gives_fd: true,
    fields: &[field("pathname", 0, Text), field("file_flags", 12, U32)],
};

/// `BPF_PROG_TEST_RUN`, Linux 4.12; `flags` 5.10. `data_size_out` comes back as the true size.
pub static PROG_TEST_RUN: Command = Command {
    name: "PROG_TEST_RUN",
    number: 10,
    gives_fd: false,
    fields: &[
        field("prog_fd", 0, Fd),
        field("retval", 4, U32),
        field("data_in", 16, Records { count: 8, unit: 1 }),
        field("data_out", 24, Room { size: 12 }),
        field("repeat", 32, U32),
        field("duration", 36, U32),
        field("ctx_in", 48, Records { count: 40, unit: 1 }),
        field("ctx_out", 56, Room { size: 44 }),
        field("flags", 64, U32),
    ],
};

/// `BPF_PROG_GET_NEXT_ID`, Linux 4.13; `next_id` is written by the kernel.
pub static PROG_GET_NEXT_ID: Command = Command {
    name: "PROG_GET_NEXT_ID",
    number: 11,
    gives_fd: false,
    fields: &[field("start_id", 0, U32), field("next_id", 4, U32)],
};

/// `BPF_PROG_GET_FD_BY_ID`, Linux 4.13.
pub static PROG_GET_FD_BY_ID: Command =
    Command { name: "PROG_GET_FD_BY_ID", number: 13, gives_fd: true, fields: &[field("prog_id", 0, U32)] };

/// `BPF_MAP_GET_FD_BY_ID`, Linux 4.13.
pub static MAP_GET_FD_BY_ID: Command =
    Command { name: "MAP_GET_FD_BY_ID", number: 14, gives_fd: true, fields: &[field("map_id", 0, U32)] };

/// `BPF_OBJ_GET_INFO_BY_FD`, Linux 4.13. The room is zeroed, so the pointers inside the record are null and the kernel
/// follows none of them.
pub static OBJ_GET_INFO_BY_FD: Command = Command {
    name: "OBJ_GET_INFO_BY_FD",
    number: 15,
    gives_fd: false,
    fields: &[field("bpf_fd", 0, Fd), field("info", 8, Room { size: 4 })],
};

/// `BPF_PROG_QUERY`, Linux 4.16; tcx from 6.6. `count` comes back as the number of programs.
pub static PROG_QUERY: Command = Command {
    name: "PROG_QUERY",
    number: 16,
    gives_fd: false,
    fields: &[
        field("target_ifindex", 0, U32),
        field("attach_type", 4, U32),
        field("query_flags", 8, U32),
        field("attach_flags", 12, U32),
        field("count", 24, U32),
    ],
};

/// `BPF_BTF_LOAD`, Linux 4.18.
pub static BTF_LOAD: Command = Command {
    name: "BTF_LOAD",
    number: 18,
    gives_fd: true,
    fields: &[
        field("btf", 0, Records { count: 16, unit: 1 }),
        field("btf_log_buf", 8, Room { size: 20 }),
        field("btf_log_level", 24, U32),
    ],
};

/// `BPF_MAP_FREEZE`, Linux 5.2: no system call can write the map from now on.
pub static MAP_FREEZE: Command =
    Command { name: "MAP_FREEZE", number: 22, gives_fd: false, fields: &[field("map_fd", 0, Fd)] };

/// `BPF_PROG_BIND_MAP`, Linux 5.10: the map lives as long as the program.
pub static PROG_BIND_MAP: Command = Command {
    name: "PROG_BIND_MAP",
    number: 35,
    gives_fd: false,
    fields: &[field("prog_fd", 0, Fd), field("map_fd", 4, Fd), field("flags", 8, U32)],
};

/// All commands that this program can make.
pub static COMMANDS: &[&Command] = &[
    &MAP_CREATE,
    &MAP_LOOKUP_ELEM,
    &MAP_UPDATE_ELEM,
    &MAP_DELETE_ELEM,
    &MAP_GET_NEXT_KEY,
    &PROG_LOAD,
    &OBJ_PIN,
    &OBJ_GET,
    &PROG_TEST_RUN,
    &PROG_GET_NEXT_ID,
    &PROG_GET_FD_BY_ID,
    &MAP_GET_FD_BY_ID,
    &OBJ_GET_INFO_BY_FD,
    &PROG_QUERY,
    &BTF_LOAD,
    &MAP_FREEZE,
    &PROG_BIND_MAP,
];
