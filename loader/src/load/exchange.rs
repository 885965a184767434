// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Turns the datagrams that come back for one netlink request into its reply.

use super::ack::{Ack, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NLMSG_OVERRUN};
use super::message::{Message, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR};
use super::netlink::{NetlinkError, Reply};
use super::nla::WireError;
use netlink_packet_core::NetlinkBuffer;
use nix::errno::Errno;

/// A request and what has come back for it so far.
#[derive(Debug)]
pub struct Exchange<'a> {
    message: &'a Message,
    request: Vec<u8>,
    seq: u32,
    port: u32,
    reply: Reply,
    changed: bool,
}

impl<'a> Exchange<'a> {
    /// A request that will be sent with this sequence number from this port. EINVAL for one that asks for neither
    /// an acknowledgement nor a dump: one could not tell where its answer ends.
    pub fn new(message: &'a Message, seq: u32, port: u32) -> Result<Self, NetlinkError> {
        let name = message.name();
        if message.flags & NLM_F_ACK == 0 && message.flags & NLM_F_DUMP != NLM_F_DUMP {
            return Err(NetlinkError::new(name, Errno::EINVAL, "a request without NLM_F_ACK has no end"));
        }
        let request = message.encode(seq).map_err(|error| NetlinkError::wire(name, &error))?;
        Ok(Self { message, request, seq, port, reply: Reply::default(), changed: false })
    }

    /// The bytes to send.
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// Reads one datagram; whether the answer is complete with it.
    pub fn take(&mut self, datagram: &[u8]) -> Result<bool, NetlinkError> {
        let mut rest = datagram;
        while !rest.is_empty() {
            let header = NetlinkBuffer::new_checked(rest).map_err(|_| self.unreadable(&WireError::Short))?;
            let length = usize::try_from(header.length()).map_err(|_| self.unreadable(&WireError::Short))?;
            let one = rest.get(..length).ok_or_else(|| self.unreadable(&WireError::Short))?;
            // The last message of a datagram may lack its padding.
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            // What was meant for a request that this socket gave up is not ours.
            let ours = header.sequence_number() == self.seq && header.port_number() == self.port;
            if ours && self.one(header.message_type(), header.flags(), one)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What came back; `None` for a dump that changed while it was read.
    pub fn reply(self) -> Option<Reply> {
        (!self.changed).then_some(self.reply)
    }

    fn one(&mut self, kind: u16, flags: u16, bytes: &[u8]) -> Result<bool, NetlinkError> {
        let dump = self.message.flags & NLM_F_DUMP == NLM_F_DUMP;
        self.changed |= dump && flags & NLM_F_DUMP_INTR != 0;
        match kind {
            NLMSG_NOOP => Ok(false),
            NLMSG_OVERRUN => Err(NetlinkError::new(self.message.name(), Errno::ENOBUFS, "answers were lost")),
            NLMSG_ERROR | NLMSG_DONE => {
                let ack = Ack::decode(bytes).map_err(|error| self.unreadable(&error))?;
                if ack.errno != 0 {
                    return Err(self.refused(ack));
                }
                self.reply.warnings.extend(ack.text);
                Ok(true)
            }
            _ => {
                let message = Message::decode(bytes).map_err(|error| self.unreadable(&error))?;
                self.reply.messages.push(message);
                Ok(false)
            }
        }
    }

    fn refused(&self, ack: Ack) -> NetlinkError {
        let attribute = ack.attribute(self.message, &self.request);
        let request = self.message.name();
        NetlinkError { request, errno: ack.errno, text: ack.text, attribute, answered: true }
    }

    fn unreadable(&self, error: &WireError) -> NetlinkError {
        NetlinkError::wire(self.message.name(), error)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::load::message::NLM_F_MULTI;
    use crate::load::rtnl;

    const SEQ: u32 = 7;
    const PORT: u32 = 4242;

    /// A message of this type, flags, sequence number and port around a payload, padded.
    fn message(kind: u16, flags: u16, (seq, port): (u32, u32), payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(16 + payload.len()).unwrap();
        let words = [kind.to_ne_bytes(), flags.to_ne_bytes()].concat();
        let mut bytes =
            [&length.to_ne_bytes()[..], &words, &seq.to_ne_bytes(), &port.to_ne_bytes(), payload].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn link(flags: u16, from: (u32, u32), index: u8) -> Vec<u8> {
        message(16, flags, from, &[0, 0, 1, 0, index, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    }

    fn done(flags: u16, error: i32) -> Vec<u8> {
        message(NLMSG_DONE, flags, (SEQ, PORT), &error.to_ne_bytes())
    }

    #[test]
    fn a_dump_may_come_in_any_number_of_datagrams() {
        let dump = rtnl::link_dump();
        let mut exchange = Exchange::new(&dump, SEQ, PORT).unwrap();
        let (one, two) = (link(NLM_F_MULTI, (SEQ, PORT), 1), link(NLM_F_MULTI, (SEQ, PORT), 2));
        assert_eq!(exchange.take(&[one.clone(), two.clone()].concat()), Ok(false));
        assert_eq!(exchange.take(&[]), Ok(false));
        assert_eq!(exchange.take(&[one, message(NLMSG_NOOP, 0, (SEQ, PORT), &[])].concat()), Ok(false));
        assert_eq!(exchange.take(&[done(0, 0), two].concat()), Ok(true));
        assert_eq!(exchange.reply().map(|reply| reply.messages.len()), Some(3));
    }

    #[test]
    fn what_answers_another_request_is_not_ours() {
        let dump = rtnl::link_dump();
        let mut exchange = Exchange::new(&dump, SEQ, PORT).unwrap();
        let stale = message(NLMSG_ERROR, 0, (SEQ - 1, PORT), &[0xff; 20]);
        assert_eq!(exchange.take(&stale), Ok(false));
        assert_eq!(exchange.take(&link(0, (SEQ, PORT + 1), 1)), Ok(false));
        assert_eq!(exchange.take(&done(0, 0)), Ok(true));
        assert_eq!(exchange.reply(), Some(Reply::default()));
    }

    #[test]
    fn a_dump_that_changed_has_no_reply() {
        for (first, last) in [(NLM_F_DUMP_INTR, 0), (0, NLM_F_DUMP_INTR)] {
            let dump = rtnl::link_dump();
            let mut exchange = Exchange::new(&dump, SEQ, PORT).unwrap();
            assert_eq!(exchange.take(&link(first, (SEQ, PORT), 1)), Ok(false));
            assert_eq!(exchange.take(&done(last, 0)), Ok(true));
            assert_eq!(exchange.reply(), None);
        }
    }

    #[test]
    fn errors_end_an_exchange() {
        let dump = rtnl::link_dump();
        let fails = |datagram: &[u8]| Exchange::new(&dump, SEQ, PORT).unwrap().take(datagram).unwrap_err();
        let refused = fails(&done(0, -90));
        assert_eq!((refused.errno_name(), refused.answered), ("EMSGSIZE".into(), true));
        let lost = fails(&message(NLMSG_OVERRUN, 0, (SEQ, PORT), &[]));
        assert_eq!((lost.errno_name(), lost.answered), ("ENOBUFS".into(), false));
        for cut in 1..32 {
            let error = fails(&link(0, (SEQ, PORT), 1)[..cut]);
            assert_eq!((error.errno_name(), error.answered), ("EBADMSG".into(), false), "{cut}");
        }
        let up = Message { flags: 1, ..rtnl::link_up(1) };
        assert_eq!(Exchange::new(&up, SEQ, PORT).unwrap_err().errno_name(), "EINVAL");
    }
}
