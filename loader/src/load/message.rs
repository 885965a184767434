// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Turns one rtnetlink message, type, flags and fields, into the bytes that are sent, text and JSON, and back.

use super::field::{flags, Fields, Value};
use super::nla::{Layout, WireError};
use super::{rtnl, tc};
use netlink_packet_core::NetlinkBuffer;
use serde_json::{json, Value as Json};
use std::fmt;

/// `nlmsg_flags` (include/uapi/linux/netlink.h): a request, as every message of ours is.
pub const NLM_F_REQUEST: u16 = 0x1;
/// More messages follow, up to NLMSG_DONE.
pub const NLM_F_MULTI: u16 = 0x2;
/// Asks for an NLMSG_ERROR also on success.
pub const NLM_F_ACK: u16 = 0x4;
/// Asks for a copy of what was made.
pub const NLM_F_ECHO: u16 = 0x8;
/// In a reply: what is dumped changed meanwhile.
pub const NLM_F_DUMP_INTR: u16 = 0x10;
/// RTM_NEW*: what exists is replaced.
pub const NLM_F_REPLACE: u16 = 0x100;
/// RTM_NEW*: EEXIST for what exists.
pub const NLM_F_EXCL: u16 = 0x200;
/// RTM_NEW*: what does not exist is made.
pub const NLM_F_CREATE: u16 = 0x400;
/// RTM_GET*: everything, NLM_F_ROOT | NLM_F_MATCH.
pub const NLM_F_DUMP: u16 = 0x300;

/// Bytes of `struct nlmsghdr`.
pub(super) const HEADER: usize = 16;
/// What every change asks for.
pub(super) const CHANGE: u16 = NLM_F_REQUEST | NLM_F_ACK;
/// What every dump asks for. No ACK: the end of a dump is NLMSG_DONE.
pub(super) const DUMP: u16 = NLM_F_REQUEST | NLM_F_DUMP;

/// One message to or from the kernel, without sequence number and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `nlmsg_type`, RTM_*.
    pub kind: u16,
    /// `nlmsg_flags`, NLM_F_*.
    pub flags: u16,
    /// The header behind `struct nlmsghdr` and the attributes.
    pub fields: Fields,
}

/// Type and name of every message we send or read, and what it consists of (include/uapi/linux/rtnetlink.h).
static TYPES: [(u16, &str, &Layout); 12] = [
    (16, "RTM_NEWLINK", &rtnl::LINK),
    (17, "RTM_DELLINK", &rtnl::LINK),
    (18, "RTM_GETLINK", &rtnl::LINK),
    (20, "RTM_NEWADDR", &rtnl::ADDR),
    (22, "RTM_GETADDR", &rtnl::ADDR),
    (24, "RTM_NEWROUTE", &rtnl::ROUTE),
    (36, "RTM_NEWQDISC", &tc::TC),
    (37, "RTM_DELQDISC", &tc::TC),
    (38, "RTM_GETQDISC", &tc::TC),
    (44, "RTM_NEWTFILTER", &tc::TC),
    (45, "RTM_DELTFILTER", &tc::TC),
    (46, "RTM_GETTFILTER", &tc::TC),
];

/// Kernel name of a message type.
pub fn type_name(kind: u16) -> Option<&'static str> {
    TYPES.iter().find(|entry| entry.0 == kind).map(|entry| entry.1)
}

/// What a message of this type consists of.
pub fn layout(kind: u16) -> Result<&'static Layout, WireError> {
    TYPES.iter().find(|entry| entry.0 == kind).map(|entry| entry.2).ok_or(WireError::Type(kind))
}

/// Names of `nlmsg_flags`: bits from 0x100 on mean something else in RTM_NEW*, RTM_DEL* and RTM_GET*.
fn flag_names(kind: u16) -> &'static [(u32, &'static str)] {
    match kind & 3 {
        0 => &[
            (0x1, "NLM_F_REQUEST"),
            (0x2, "NLM_F_MULTI"),
            (0x4, "NLM_F_ACK"),
            (0x8, "NLM_F_ECHO"),
            (0x10, "NLM_F_DUMP_INTR"),
            (0x20, "NLM_F_DUMP_FILTERED"),
            (0x100, "NLM_F_REPLACE"),
            (0x200, "NLM_F_EXCL"),
            (0x400, "NLM_F_CREATE"),
            (0x800, "NLM_F_APPEND"),
        ],
        2 => &[(0x1, "NLM_F_REQUEST"), (0x4, "NLM_F_ACK"), (0x300, "NLM_F_DUMP")],
        _ => &[(0x1, "NLM_F_REQUEST"), (0x4, "NLM_F_ACK"), (0x8, "NLM_F_ECHO")],
    }
}

impl Message {
    /// A message of this type and these flags.
    pub fn new(kind: u16, flags: u16, fields: Fields) -> Self {
        Self { kind, flags, fields }
    }

    /// Name of the type, for errors and plans.
    pub fn name(&self) -> &'static str {
        type_name(self.kind).unwrap_or("netlink message")
    }

    /// Names of the flags set, in the order of their bits.
    pub fn flags_text(&self) -> String {
        flags(self.flags.into(), flag_names(self.kind))
    }

    /// This message with numbers in the place of its symbols.
    #[must_use]
    pub fn resolved(mut self, number: &dyn Fn(&str) -> Option<u32>) -> Self {
        self.fields.resolve(number);
        self
    }

    /// The bytes that are sent, `struct nlmsghdr` included. The port is 0, for the kernel knows the sender's.
    pub fn encode(&self, seq: u32) -> Result<Vec<u8>, WireError> {
        let mut body = Vec::new();
        layout(self.kind)?.encode(&self.fields, &mut body)?;
        let mut bytes = vec![0; HEADER];
        bytes.append(&mut body);
        let length = u32::try_from(bytes.len()).map_err(|_| WireError::Unfit("nlmsg_len".into()))?;
        // The header is there, so none of the setters can fail.
        let mut header = NetlinkBuffer::new(&mut bytes);
        header.set_length(length);
        header.set_message_type(self.kind);
        header.set_flags(self.flags);
        header.set_sequence_number(seq);
        Ok(bytes)
    }

    /// Reads one message, `struct nlmsghdr` included; bytes behind `nlmsg_len` are ignored.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let header = NetlinkBuffer::new_checked(bytes).map_err(|_| WireError::Short)?;
        let (kind, flags) = (header.message_type(), header.flags());
        Ok(Self { kind, flags, fields: layout(kind)?.decode(header.payload())? })
    }

    /// Every field that is no nest, with its path and its text: `("TCA_OPTIONS.TCA_BPF_FD", "%prog")`.
    pub fn pairs(&self) -> Vec<(String, String)> {
        layout(self.kind).map(|layout| self.fields.pairs(layout)).unwrap_or_default()
    }

    /// `{"nlmsg_type":"RTM_NEWQDISC","nlmsg_flags":"NLM_F_REQUEST|NLM_F_ACK","fields":[{"tcm_ifindex":3},…]}`
    pub fn to_json(&self) -> Json {
        let fields = layout(self.kind).map(|layout| self.fields.to_json(layout));
        json!({
            "nlmsg_type": self.name(),
            "nlmsg_flags": self.flags_text(),
            "fields": fields.unwrap_or_default(),
        })
    }

    /// The reverse of [`Message::to_json`].
    pub fn from_json(json: &Json) -> Result<Self, WireError> {
        let unfit = |name: &str| WireError::Unfit(name.into());
        let text = |name| json.get(name).and_then(Json::as_str).ok_or_else(|| unfit(name));
        let name = text("nlmsg_type")?;
        let entry = TYPES.iter().find(|entry| entry.1 == name);
        let (kind, _, layout) = entry.ok_or_else(|| unfit("nlmsg_type"))?;
        let flags = super::field::parse_flags(text("nlmsg_flags")?, flag_names(*kind));
        let flags = flags.and_then(|flags| u16::try_from(flags).ok()).ok_or_else(|| unfit("nlmsg_flags"))?;
        let fields = json.get("fields").ok_or_else(|| unfit("fields"))?;
        Ok(Self { kind: *kind, flags, fields: Fields::from_json(fields, layout)? })
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let fields = layout(self.kind).map(|layout| self.fields.line(layout)).unwrap_or_default();
        write!(f, "{} {} {fields}", self.name(), self.flags_text())
    }
}

/// A symbol as a value: `symbol("%prog")`.
pub fn symbol(name: &str) -> Value {
    Value::Symbol(name.into())
}
