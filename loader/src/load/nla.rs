// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Turns the fields of a netlink message into bytes and bytes back into fields, both by one table.
//!
//! A [`Layout`] is a fixed header (`struct tcmsg`, `struct ifinfomsg` …; none for a plain nest) followed by
//! attributes: `struct nlattr { u16 nla_len; u16 nla_type; }`, payload, zeros up to a multiple of 4
//! (include/uapi/linux/netlink.h). Integers are in host byte order unless the table says otherwise.
//!
//! Two rules make the table work in both directions. A header field that is not named is zero, and one that is
//! zero is not named. A payload that has not the shape of the table stays [`Value::Bytes`], so that decoding
//! fails only where the framing itself is broken.

use super::field::{Field, Fields, Value};
use netlink_packet_core::{NlasIterator, NLA_F_NESTED, NLA_HEADER_SIZE};
use std::fmt;
use std::net::IpAddr;

/// Nests deeper than this stay bytes. The deepest of ours is a veth peer: LINKINFO, DATA, PEER.
const DEPTH: usize = 8;

/// A header and the attributes that may follow it.
#[derive(Debug)]
pub struct Layout {
    /// Bytes of the fixed header; 0 in a plain nest.
    pub size: usize,
    /// The header's fields; padding is not listed.
    pub head: &'static [Head],
    /// Attributes we know. Others keep their number as name, `#57`, and their bytes as value.
    pub attrs: &'static [Attr],
}

/// One field of the fixed header: kernel name, offset in bytes, how it reads.
#[derive(Debug)]
pub struct Head(pub &'static str, pub usize, pub Shape);

/// One attribute: kernel name, `nla_type`, how its payload reads.
#[derive(Debug)]
pub struct Attr(pub &'static str, pub u16, pub Shape);

/// How the bytes of a field read.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// One byte.
    U8,
    /// Two bytes in host order.
    U16,
    /// Four bytes in host order.
    U32,
    /// Four bytes in host order; the names of its bits.
    Flags(&'static [(u32, &'static str)]),
    /// A tc handle, `major << 16 | minor`, host order.
    Handle,
    /// `tcm_info` of a filter: `priority << 16 | htons(ethertype)`, host order as a whole.
    Info,
    /// Text up to the first NUL; the NUL is sent too.
    Text,
    /// Text that chooses the layout of a later [`Shape::ByKind`] in the same nest.
    Kind,
    /// A link-layer address of any length.
    Mac,
    /// Four bytes of IPv4 or sixteen of IPv6, network order.
    Ip,
    /// Uninterpreted.
    Bytes,
    /// Another layout.
    Nest(&'static Layout),
    /// The layout that the [`Shape::Kind`] before it names; uninterpreted for a kind that is not listed.
    ByKind(&'static [(&'static str, &'static Layout)]),
}

/// Why fields do not make a message, or bytes do not make fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WireError {
    /// No header field or attribute of this name belongs here.
    Unknown(String),
    /// The value does not fit the field: wrong type, too large, too long.
    Unfit(String),
    /// A symbol that nobody replaced by its number.
    Unresolved(String),
    /// Shorter than the header says or than the headers need.
    Short,
    /// A message type that no table describes.
    Type(u16),
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Unknown(name) => write!(f, "no netlink field {name:?} here"),
            Self::Unfit(name) => write!(f, "the value does not fit the netlink field {name}"),
            Self::Unresolved(symbol) => write!(f, "{symbol} has no number yet"),
            Self::Short => write!(f, "a netlink message shorter than its headers say"),
            Self::Type(kind) => write!(f, "netlink message type {kind} is not one of ours"),
        }
    }
}

impl std::error::Error for WireError {}

impl Shape {
    /// Bytes of a number; `None` for everything that is not one.
    pub fn width(self) -> Option<usize> {
        match self {
            Self::U8 => Some(1),
            Self::U16 => Some(2),
            Self::U32 | Self::Flags(_) | Self::Handle | Self::Info => Some(4),
            _ => None,
        }
    }

    fn resolve(self, kind: Option<&str>) -> Self {
        match self {
            Self::ByKind(layouts) => match layouts.iter().find(|(name, _)| Some(*name) == kind) {
                Some((_, layout)) => Self::Nest(layout),
                None => Self::Bytes,
            },
            other => other,
        }
    }
}

impl Layout {
    /// The attribute of this name or, for `#57`, of this number.
    pub(super) fn attr(&self, name: &str) -> Option<(u16, Shape)> {
        match name.strip_prefix('#') {
            Some(number) => number.parse().ok().map(|number| (number, Shape::Bytes)),
            None => self.attrs.iter().find(|attr| attr.0 == name).map(|attr| (attr.1, attr.2)),
        }
    }

    /// How a field reads, given the fields around it.
    pub(super) fn shape(&self, name: &str, kind: Option<&str>) -> Option<Shape> {
        let head = self.head.iter().find(|head| head.0 == name).map(|head| head.2);
        head.or_else(|| self.attr(name).map(|(_, shape)| shape.resolve(kind)))
    }

    fn by_number(&self, number: u16) -> (std::borrow::Cow<'static, str>, Shape) {
        match self.attrs.iter().find(|attr| attr.1 == number) {
            Some(attr) => (attr.0.into(), attr.2),
            None => (format!("#{number}").into(), Shape::Bytes),
        }
    }

    /// Name of an attribute type at this level.
    pub fn name(&self, number: u16) -> String {
        self.by_number(number).0.into_owned()
    }

    /// Appends header and attributes to `out`, in the order of `fields`.
    pub fn encode(&self, fields: &Fields, out: &mut Vec<u8>) -> Result<(), WireError> {
        let mut header = vec![0; self.size];
        let mut attrs = Vec::new();
        for (field, shape) in fields.shaped(self) {
            let shape = shape.ok_or_else(|| WireError::Unknown(field.name.to_string()))?;
            let payload = payload(shape, field)?;
            match self.head.iter().find(|head| head.0 == field.name) {
                Some(head) => {
                    let place = header.get_mut(head.1..).and_then(|rest| rest.get_mut(..payload.len()));
                    place.ok_or(WireError::Short)?.copy_from_slice(&payload);
                }
                None => {
                    let (number, _) =
                        self.attr(&field.name).ok_or_else(|| WireError::Unknown(field.name.to_string()))?;
                    let nested = if matches!(field.value, Value::Nest(_)) { NLA_F_NESTED } else { 0 };
                    put(&mut attrs, number | nested, &payload)
                        .ok_or_else(|| WireError::Unfit(field.name.to_string()))?;
                }
            }
        }
        out.append(&mut header);
        out.append(&mut attrs);
        Ok(())
    }

    /// Reads header and attributes.
    pub fn decode(&self, bytes: &[u8]) -> Result<Fields, WireError> {
        self.decode_at(bytes, 0)
    }

    fn decode_at(&self, bytes: &[u8], depth: usize) -> Result<Fields, WireError> {
        let (header, rest) = bytes.split_at_checked(self.size).ok_or(WireError::Short)?;
        let mut fields = Fields::default();
        for Head(name, at, shape) in self.head {
            let width = shape.width().ok_or(WireError::Short)?;
            let bytes = header.get(*at..).and_then(|rest| rest.get(..width)).ok_or(WireError::Short)?;
            match number(bytes) {
                Some(0) => {}
                Some(value) => fields.push(*name, Value::Number(value)),
                None => return Err(WireError::Short),
            }
        }
        for attr in attributes(rest) {
            let (_, number, payload) = attr?;
            let (name, shape) = self.by_number(number);
            let value = value(shape.resolve(fields.kind(self)), payload, depth);
            fields.push(name, value);
        }
        Ok(fields)
    }

    /// The attribute whose header starts `offset` bytes into `bytes`: its path, `TCA_OPTIONS.TCA_BPF_FD`, and
    /// how it reads.
    pub fn find(&self, bytes: &[u8], offset: usize) -> Option<(String, Shape)> {
        let start = self.size;
        let mut kind = None;
        for attr in attributes(bytes.get(start..)?) {
            let (at, number, payload) = attr.ok()?;
            let (name, shape) = self.by_number(number);
            let at = at.checked_add(start)?;
            let shape = shape.resolve(kind);
            if at == offset {
                return Some((name.into_owned(), shape));
            }
            if let Shape::Kind = shape {
                kind = text(payload);
            }
            let inside = offset.checked_sub(at)?.checked_sub(NLA_HEADER_SIZE);
            if let (Some(inside), Shape::Nest(layout)) = (inside.filter(|n| *n < payload.len()), shape) {
                return layout.find(payload, inside).map(|(rest, shape)| (format!("{name}.{rest}"), shape));
            }
        }
        None
    }
}

/// Each attribute of `bytes`: offset of its header, type without flags, payload.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = Result<(usize, u16, &[u8]), WireError>> {
    let mut at = 0usize;
    NlasIterator::new(bytes).map(move |nla| {
        let nla = nla.map_err(|_| WireError::Short)?;
        let (here, kind, length) = (at, nla.kind(), usize::from(nla.length()));
        at = at.saturating_add(length.next_multiple_of(4));
        let payload = nla.into_inner().get(NLA_HEADER_SIZE..length).ok_or(WireError::Short)?;
        Ok((here, kind, payload))
    })
}

/// What a decoder makes of a payload; see the module for what it does with one of another shape.
pub(super) fn value(shape: Shape, payload: &[u8], depth: usize) -> Value {
    let known = match shape {
        Shape::Text | Shape::Kind => text(payload).map(|text| Value::Text(text.into())),
        Shape::Ip => ip(payload).map(Value::Ip),
        Shape::Nest(layout) if depth < DEPTH => {
            layout.decode_at(payload, depth.saturating_add(1)).ok().map(Value::Nest)
        }
        shape if shape.width() == Some(payload.len()) => number(payload).map(Value::Number),
        _ => None,
    };
    known.unwrap_or_else(|| Value::Bytes(payload.into()))
}

fn payload(shape: Shape, field: &Field) -> Result<Vec<u8>, WireError> {
    let unfit = || WireError::Unfit(field.name.to_string());
    match (&field.value, shape) {
        (Value::Symbol(symbol), _) => Err(WireError::Unresolved(symbol.clone())),
        (Value::Bytes(bytes), _) => Ok(bytes.clone()),
        (Value::Text(text), Shape::Text | Shape::Kind) if !text.contains('\0') => {
            Ok([text.as_bytes(), b"\0"].concat())
        }
        (Value::Ip(IpAddr::V4(ip)), Shape::Ip) => Ok(ip.octets().to_vec()),
        (Value::Ip(IpAddr::V6(ip)), Shape::Ip) => Ok(ip.octets().to_vec()),
        (Value::Nest(fields), Shape::Nest(layout)) => {
            let mut out = Vec::new();
            layout.encode(fields, &mut out)?;
            Ok(out)
        }
        (Value::Number(number), shape) => match shape.width() {
            Some(1) => u8::try_from(*number).map(|n| vec![n]).map_err(|_| unfit()),
            Some(2) => u16::try_from(*number).map(|n| n.to_ne_bytes().to_vec()).map_err(|_| unfit()),
            Some(4) => Ok(number.to_ne_bytes().to_vec()),
            _ => Err(unfit()),
        },
        _ => Err(unfit()),
    }
}

fn put(out: &mut Vec<u8>, kind: u16, payload: &[u8]) -> Option<()> {
    let length = u16::try_from(payload.len().checked_add(NLA_HEADER_SIZE)?).ok()?;
    out.extend(length.to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(payload);
    out.resize(out.len().next_multiple_of(4), 0);
    Some(())
}

fn number(bytes: &[u8]) -> Option<u32> {
    match *bytes {
        [a] => Some(u32::from(a)),
        [a, b] => Some(u32::from(u16::from_ne_bytes([a, b]))),
        [a, b, c, d] => Some(u32::from_ne_bytes([a, b, c, d])),
        _ => None,
    }
}

/// Text and one NUL, the form in which the kernel sends every string; anything else is not text.
fn text(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes.strip_suffix(b"\0")?).ok()?;
    (!text.contains('\0')).then_some(text)
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}
