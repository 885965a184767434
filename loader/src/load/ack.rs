// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Turns NLMSG_ERROR and NLMSG_DONE into an error number, the kernel's words and the attribute they point at.
//!
//! The payload is `struct nlmsgerr { int error; struct nlmsghdr msg; }` and then, if NLM_F_ACK_TLVS is set,
//! attributes (netlink_ack() in net/netlink/af_netlink.c). That of NLMSG_DONE is the error alone, then
//! attributes (netlink_dump_done()). Without NETLINK_CAP_ACK, which our sockets set, the whole request would be
//! repeated before the attributes; NLM_F_CAPPED says that it is not.

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
        let tlvs = match (header.message_type(), flags & NLM_F_CAPPED != 0) {
            _ if flags & NLM_F_ACK_TLVS == 0 => return Ok(ack),
            (NLMSG_DONE, _) => rest,
            (_, true) => rest.get(HEADER..).ok_or(WireError::Short)?,
            (_, false) => return Ok(ack),
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

#[cfg(all(test, target_endian = "little"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::load::rtnl;

    /// A message of type and flags around a payload.
    fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER + payload.len()).unwrap();
        let words = [kind.to_ne_bytes(), flags.to_ne_bytes()].concat();
        [&length.to_ne_bytes()[..], &words, &[0; 8], payload].concat()
    }

    const EINVAL: [u8; 4] = (-22i32).to_ne_bytes();
    const WORDS: &[u8] = b"\x08\0\x01\0why\0";

    #[test]
    fn an_error_has_words_and_a_place() {
        let payload = [&EINVAL, &[7; 16][..], WORDS, b"\x08\0\x02\0\x20\0\0\0"].concat();
        let ack = Ack::decode(&message(NLMSG_ERROR, NLM_F_CAPPED | NLM_F_ACK_TLVS, &payload)).unwrap();
        let why = Some(String::from("why"));
        assert_eq!(ack, Ack { errno: 22, text: why, offset: Some(32), ..Ack::default() });
        let request = rtnl::link_named("eth0");
        let bytes = request.encode(1).unwrap();
        assert_eq!(ack.attribute(&request, &bytes).as_deref(), Some("IFLA_IFNAME"));
        for offset in [0, 31, 33, 52, u32::MAX] {
            assert_eq!(Ack { offset: Some(offset), ..ack.clone() }.attribute(&request, &bytes), None);
        }
    }

    #[test]
    fn a_dump_that_ends_says_how() {
        let done = |flags, payload: &[u8]| Ack::decode(&message(NLMSG_DONE, flags, payload)).unwrap();
        assert_eq!(done(0, &[]), Ack::default());
        assert_eq!(done(0, &[0; 4]), Ack::default());
        assert_eq!(done(0, &EINVAL), Ack { errno: 22, ..Ack::default() });
        let ack = done(NLM_F_ACK_TLVS, &[&EINVAL, WORDS].concat());
        assert_eq!(ack, Ack { errno: 22, text: Some("why".into()), ..Ack::default() });
    }

    #[test]
    fn a_missing_attribute_is_named_where_it_belongs() {
        let request = rtnl::veth_add("v0", "v1", None);
        let bytes = request.encode(1).unwrap();
        // IFLA_IFNAME is the first attribute, 8 bytes; then comes IFLA_LINKINFO.
        let ack = |nest| Ack { errno: 22, missing: Some(1), nest, ..Ack::default() };
        assert_eq!(ack(None).attribute(&request, &bytes).as_deref(), Some("IFLA_ADDRESS"));
        let path = Some("IFLA_LINKINFO.IFLA_INFO_KIND");
        assert_eq!(ack(Some(40)).attribute(&request, &bytes).as_deref(), path);
        assert_eq!(ack(Some(32)).attribute(&request, &bytes), None);
    }

    #[test]
    fn what_is_cut_short_is_refused() {
        let full = message(NLMSG_ERROR, NLM_F_CAPPED | NLM_F_ACK_TLVS, &EINVAL);
        assert_eq!(Ack::decode(&full), Err(WireError::Short));
        assert_eq!(Ack::decode(&message(NLMSG_ERROR, 0, &[])), Err(WireError::Short));
        assert_eq!(Ack::decode(&message(NLMSG_ERROR, 0, &i32::MIN.to_ne_bytes())), Err(WireError::Short));
    }
}
