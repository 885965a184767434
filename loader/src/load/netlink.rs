// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Turns a netlink message into what the kernel answers: messages and warnings, or the kernel's own error text.
//!
//! A [`Socket`] belongs to the network namespace of the thread that opened it, and stays there.

use super::exchange::Exchange;
use super::message::Message;
use super::nla::WireError;
use netlink_sys::{protocols::NETLINK_ROUTE, SocketAddr};
use nix::errno::Errno;
use nix::poll::{poll, PollFd, PollFlags};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// rtnetlink answers within the call that sends; whoever waits this long waits for ever.
const PATIENCE_MS: u16 = 10_000;
/// A dump that changed meanwhile is read again, so many times in all.
const DUMPS: usize = 8;
/// No datagram of rtnetlink comes near this; it bounds what one read allocates.
const DATAGRAM: usize = 16 << 20;
/// What the kernel fills at most when it lists (netlink_recvmsg() in net/netlink/af_netlink.c); a single object may be larger.
const ROOM: usize = 32 << 10;
/// MSG_DONTWAIT | MSG_TRUNC of recvfrom(2): come back at once, and say the datagram's whole length.
const AT_ONCE: i32 = 0x40 | 0x20;

/// Why the kernel did not do what a message asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetlinkError {
    /// Name of the request, `RTM_NEWTFILTER`.
    pub request: &'static str,
    /// The kernel's error number, positive. ETIMEDOUT, EMSGSIZE and EBADMSG with a text are ours: no answer, or
    /// one that cannot be read.
    pub errno: i32,
    /// The kernel's words, from the extended ack.
    pub text: Option<String>,
    /// The attribute they are about, `TCA_OPTIONS.TCA_BPF_FD`, present or missing.
    pub attribute: Option<String>,
    /// Whether this is the kernel's answer: nothing was changed then. Otherwise nobody knows.
    pub answered: bool,
}

impl NetlinkError {
    pub(super) fn new(request: &'static str, errno: Errno, text: impl ToString) -> Self {
        Self { request, errno: errno as i32, text: Some(text.to_string()), attribute: None, answered: false }
    }

    pub(super) fn io(request: &'static str, error: &io::Error) -> Self {
        let errno = error.raw_os_error().unwrap_or(Errno::EIO as i32);
        Self { request, errno, text: None, attribute: None, answered: false }
    }

    pub(super) fn wire(request: &'static str, error: &WireError) -> Self {
        Self::new(request, Errno::EBADMSG, error)
    }

    /// `EEXIST` and the like, or `UnknownErrno`.
    pub fn errno_name(&self) -> String {
        format!("{:?}", Errno::from_raw(self.errno))
    }
}

impl fmt::Display for NetlinkError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let errno = Errno::from_raw(self.errno);
        let text = self.text.as_deref().unwrap_or(errno.desc());
        write!(f, "{}: {text} ({errno:?})", self.request)?;
        match &self.attribute {
            Some(attribute) => write!(f, " at {attribute}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for NetlinkError {}

/// What came back for one request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reply {
    /// The objects dumped, got or echoed.
    pub messages: Vec<Message>,
    /// What the kernel had to say although it did what was asked.
    pub warnings: Vec<String>,
}

impl Reply {
    /// The messages that `read` takes: `reply.read(Link::read)`.
    pub fn read<T>(&self, read: impl Fn(&Message) -> Option<T>) -> Vec<T> {
        self.messages.iter().filter_map(read).collect()
    }
}

/// A NETLINK_ROUTE socket.
#[derive(Debug)]
pub struct Socket {
    socket: netlink_sys::Socket,
    port: u32,
    seq: u32,
    /// Bytes that one datagram may have.
    room: usize,
    /// The last one.
    datagram: Vec<u8>,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Socket {
    /// Opens one in the network namespace of this thread, close-on-exec, with extended acks.
    ///
    /// Strict checking makes the kernel honour the filters in a dump request instead of ignoring them (4.20).
    pub fn open() -> Result<Self, NetlinkError> {
        let open = || {
            let mut socket = netlink_sys::Socket::new(NETLINK_ROUTE)?;
            socket.set_ext_ack(true)?;
            socket.set_cap_ack(true)?;
            socket.set_netlink_get_strict_chk(true)?;
            let port = socket.bind_auto()?.port_number();
            Ok(Self { socket, port, seq: 0, room: ROOM, datagram: Vec::new() })
        };
        open().map_err(|error| NetlinkError::io("NETLINK_ROUTE", &error))
    }

    /// Sends a message and reads all that answers it. A dump that the kernel marks as changed meanwhile is made
    /// again, at most 8 times in all, then the error is EINTR.
    pub fn request(&mut self, message: &Message) -> Result<Reply, NetlinkError> {
        for _ in 0..DUMPS {
            let room = self.room;
            match self.attempt(message) {
                Ok(Some(reply)) => return Ok(reply),
                Ok(None) => {}
                // A question can be asked again, now with room for its answer.
                Err(_) if self.room > room && message.asks() => {}
                Err(error) => return Err(error),
            }
        }
        Err(NetlinkError::new(message.name(), Errno::EINTR, "what is listed keeps changing"))
    }

    /// One request and its answer; `None` if a dump changed meanwhile.
    fn attempt(&mut self, message: &Message) -> Result<Option<Reply>, NetlinkError> {
        let name = message.name();
        self.seq = self.seq.wrapping_add(1);
        let mut exchange = Exchange::new(message, self.seq, self.port)?;
        let kernel = SocketAddr::new(0, 0);
        self.socket
            .send_to(exchange.request(), &kernel, 0)
            .map_err(|error| NetlinkError::io(name, &error))?;
        loop {
            self.receive(name)?;
            if exchange.take(&self.datagram)? {
                return Ok(exchange.reply());
            }
        }
    }

    /// The next datagram from the kernel, whole. rtnetlink has put it there before the request's send returned.
    fn receive(&mut self, name: &'static str) -> Result<(), NetlinkError> {
        let io = |error: io::Error| NetlinkError::io(name, &error);
        loop {
            self.datagram.clear();
            self.datagram.reserve_exact(self.room);
            let (length, sender) = match self.socket.recv_from(&mut self.datagram, AT_ONCE) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(name)?;
                    continue;
                }
                Err(error) => return Err(io(error)),
            };
            // Any process may write to our port; only the kernel has number 0.
            if sender.port_number() != 0 {
                continue;
            }
            if length > DATAGRAM {
                return Err(NetlinkError::new(name, Errno::EMSGSIZE, "an answer of more than 16 MiB"));
            }
            if length > self.datagram.len() {
                self.room = length.next_multiple_of(ROOM);
                return Err(NetlinkError::new(name, Errno::EMSGSIZE, "an answer larger than expected"));
            }
            return Ok(());
        }
    }

    /// Until there is a datagram.
    fn wait(&self, name: &'static str) -> Result<(), NetlinkError> {
        loop {
            let mut ready = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            match poll(&mut ready, PATIENCE_MS) {
                Ok(0) => return Err(NetlinkError::new(name, Errno::ETIMEDOUT, "the kernel does not answer")),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(NetlinkError::io(name, &errno.into())),
                Ok(_) => return Ok(()),
            }
        }
    }
}
