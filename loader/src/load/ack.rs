// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Turns NLMSG_ERROR and NLMSG_DONE into an error number, the kernel's words and the attribute they point at.
//!
//! `struct nlmsgerr { int error; struct nlmsghdr msg; }`, after which, unless NLM_F_CAPPED is set, the payload
//! of the request is repeated; then, if NLM_F_ACK_TLVS is set, attributes (netlink_ack() in
//! net/netlink/af_netlink.c). NLMSG_DONE has the error alone, then attributes (netlink_dump_done()).

use super::message::{layout, Message, HEADER};
use super::nla::{attributes, Shape, WireError};
use netlink_packet_core::NetlinkBuffer;

/// To be ignored.
pub const NLMSG_NOOP: u16 = 1;
/// The end of an exchange: an error, or 0 as an acknowledgement.
pub const NLMSG_ERROR: u16 = 2;
/// The end of a dump, with an error of its own.
pub const NLMSG_DONE: u16 = 3;
/// Data were lost.
pub const NLMSG_OVERRUN: u16 = 4;

const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;

const NLMSGERR_ATTR_MSG: u16 = 1;
const NLMSGERR_ATTR_OFFS: u16 = 2;
const NLMSGERR_ATTR_MISS_TYPE: u16 = 5;
const NLMSGERR_ATTR_MISS_NEST: u16 = 6;

/// An acknowledgement or an error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ack {
    /// Positive error number; 0 for success.
    pub errno: i32,
    /// The kernel's words: why it failed, or a warning.
    pub text: Option<String>,
    /// Where in the request the attribute starts that they are about.
    pub offset: Option<u32>,
    /// Type of an attribute that is missing there.
    pub missing: Option<u32>,
    /// Where in the request the nest starts in which it is missing; none: at the top level.
    pub nest: Option<u32>,
}

impl Ack {
    /// Reads one message, `struct nlmsghdr` included. An NLMSG_DONE without payload is a success.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let header = NetlinkBuffer::new_checked(bytes).map_err(|_| WireError::Short)?;
        let (flags, payload) = (header.flags(), header.payload());
        if payload.is_empty() && header.message_type() == NLMSG_DONE {
            return Ok(Self::default());
        }
        let (error, rest) = payload.split_first_chunk().ok_or(WireError::Short)?;
        let errno = i32::from_ne_bytes(*error).checked_neg().ok_or(WireError::Short)?;
        let mut ack = Self { errno, ..Self::default() };
        if flags & NLM_F_ACK_TLVS == 0 {
            return Ok(ack);
        }
        let tlvs = match header.message_type() {
            NLMSG_DONE => rest,
            _ => rest.get(repeated(rest, flags)?..).ok_or(WireError::Short)?,
        };
        for attr in attributes(tlvs) {
            let (_, kind, payload) = attr?;
            let number = || payload.try_into().ok().map(u32::from_ne_bytes);
            match kind {
                NLMSGERR_ATTR_MSG => {
                    let text = payload.strip_suffix(b"\0").unwrap_or(payload);
                    ack.text = Some(String::from_utf8_lossy(text).trim_end().to_string());
                }
                NLMSGERR_ATTR_OFFS => ack.offset = number(),
                NLMSGERR_ATTR_MISS_TYPE => ack.missing = number(),
                NLMSGERR_ATTR_MISS_NEST => ack.nest = number(),
                _ => {}
            }
        }
        Ok(ack)
    }

    /// Name of the attribute that is wrong or missing, given the request and its bytes.
    pub fn attribute(&self, request: &Message, bytes: &[u8]) -> Option<String> {
        let top = layout(request.kind).ok()?;
        let body = bytes.get(HEADER..)?;
        let at = |offset: u32| top.find(body, usize::try_from(offset).ok()?.checked_sub(HEADER)?);
        let Some(missing) = self.missing else {
            return at(self.offset?).map(|(path, _)| path);
        };
        let missing = u16::try_from(missing).ok()?;
        match self.nest.map(at) {
            None => Some(top.name(missing)),
            Some(Some((path, Shape::Nest(layout)))) => Some(format!("{path}.{}", layout.name(missing))),
            Some(_) => None,
        }
    }
}

/// How many bytes of the request an NLMSG_ERROR repeats: its header or all of it.
fn repeated(request: &[u8], flags: u16) -> Result<usize, WireError> {
    if flags & NLM_F_CAPPED != 0 {
        return Ok(HEADER);
    }
    let (length, _) = request.split_first_chunk().ok_or(WireError::Short)?;
    usize::try_from(u32::from_ne_bytes(*length))
        .ok()
        .and_then(|length| length.checked_next_multiple_of(4))
        .ok_or(WireError::Short)
}
