// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What somebody in a namespace hears when they ask: real sockets, chosen source ports, answers with their senders.
use crate::family::Family;
use crate::netns::Netns;
use nix::sys::socket::{
    bind, connect, recvfrom, sendto, setsockopt, socket, sockopt, AddressFamily, MsgFlags, SockFlag,
    SockProtocol, SockType, SockaddrStorage,
};
use nix::sys::time::{TimeVal, TimeValLike};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

/// How long anybody waits for an answer. It comes at once, unless the machine is busy: nothing gets lost here.
pub const PATIENCE: Duration = Duration::from_secs(15);
/// How long to wait where silence is expected. Too short for an answer that must come.
pub const SILENCE: Duration = Duration::from_millis(400);

/// Milliseconds without a packet after which the last one is taken to have passed.
pub const QUIET: i64 = 250;

/// A TCP connection from `port` (0: any) of this namespace; several may share a port while their destinations differ.
pub fn dial(ns: &Netns, port: u16, to: SocketAddr) -> io::Result<TcpStream> {
    dial_for(ns, port, to, PATIENCE)
}

/// The same, given up after `patience`.
pub fn dial_for(ns: &Netns, port: u16, to: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    ns.within(|| dial_here(port, to, patience))
}

/// The same on this thread, for many connections: call it within the namespace.
pub fn dial_here(port: u16, to: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let family = Family::of(to.ip());
    let kind = family.pick(AddressFamily::Inet, AddressFamily::Inet6);
    let fd = socket(kind, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    // The send timeout is also the one of connect(2).
    setsockopt(&fd, sockopt::SendTimeout, &TimeVal::milliseconds(patience.as_millis() as i64))?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(family.any(port)))?;
    connect(fd.as_raw_fd(), &SockaddrStorage::from(to))?;
    let stream = TcpStream::from(fd);
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Whether `error` of a [`dial_for`] or a read means that nobody said anything, not even no.
pub fn silence(error: &io::Error) -> bool {
    const EINPROGRESS: i32 = 115; // connect(2) with a send timeout
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
        || error.raw_os_error() == Some(EINPROGRESS)
}

/// Asks over `stream` for `/`; the body of the answer.
pub fn get(stream: &mut TcpStream, host: &str) -> io::Result<String> {
    write!(stream, "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_string()),
        _ => Err(io::Error::other(format!("not an answer: {answer:?}"))),
    }
}

/// `curl http://HOST…/`; the body.
pub fn curl(ns: &Netns, url: &str) -> String {
    ns.run("curl", &["--silent", "--show-error", "--fail", "--max-time", "20", "--noproxy", "*", url])
}

/// A UDP socket at `port` (0: any).
pub fn udp(ns: &Netns, port: u16) -> UdpSocket {
    udp_for(ns, Family::V4, port)
}

/// The same for either family.
pub fn udp_for(ns: &Netns, family: Family, port: u16) -> UdpSocket {
    let socket = ns.within(|| UdpSocket::bind(family.any(port)).unwrap());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// The same, and others may have the port as well.
pub fn udp_shared(ns: &Netns, family: Family, port: u16) -> UdpSocket {
    let kind = family.pick(AddressFamily::Inet, AddressFamily::Inet6);
    let fd = ns.within(|| socket(kind, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).unwrap());
    setsockopt(&fd, sockopt::ReuseAddr, &true).unwrap();
    bind(fd.as_raw_fd(), &SockaddrStorage::from(family.any(port))).unwrap();
    let socket = UdpSocket::from(fd);
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// The next datagram as text and its sender.
pub fn next(socket: &UdpSocket) -> io::Result<(String, SocketAddr)> {
    let mut room = [0; 65536];
    let (length, from) = socket.recv_from(&mut room)?;
    Ok((String::from_utf8_lossy(&room[..length]).into_owned(), from))
}

/// Asks `to` over `socket` and returns the answer with its sender.
pub fn ask(socket: &UdpSocket, to: SocketAddr, text: &str) -> io::Result<(String, SocketAddr)> {
    socket.send_to(text.as_bytes(), to)?;
    next(socket)
}

/// What a connected `socket` hears of datagrams that nobody takes.
pub fn refusal(socket: &UdpSocket) -> io::Result<io::ErrorKind> {
    refused(socket, b"anybody?").map(|error| error.kind())
}

/// The error itself. A kernel may keep an ICMP error to itself (its limits, or icmp_xmit_lock() in net/ipv4/icmp.c), so a few
/// datagrams are sent: the next one tells the same.
pub fn refused(socket: &UdpSocket, text: &[u8]) -> io::Result<io::Error> {
    socket.set_read_timeout(Some(PATIENCE / 5))?;
    for _ in 0..5 {
        // What came of the one before may be heard now, too.
        let heard = socket.send(text).and_then(|_| socket.recv(&mut [0; 10]));
        match heard {
            Err(error) if silence(&error) => {}
            Err(error) => return Ok(error),
            Ok(_) => return Err(io::Error::other("an answer, where nobody listens")),
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// Pings with identifier `id`; who answered with the same payload.
pub fn ping(ns: &Netns, id: u16, to: impl Into<IpAddr>) -> io::Result<IpAddr> {
    ping_for(ns, id, to, PATIENCE)
}

/// The same, given up after `patience`.
pub fn ping_for(ns: &Netns, id: u16, to: impl Into<IpAddr>, patience: Duration) -> io::Result<IpAddr> {
    let to = to.into();
    let family = Family::of(to);
    ns.within(|| {
        // A socket of this kind receives the echo replies to its own identifier only, which is its "port".
        let fd = socket(
            family.pick(AddressFamily::Inet, AddressFamily::Inet6),
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC,
            family.pick(SockProtocol::Icmp, SockProtocol::IcmpV6),
        )?;
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::milliseconds(patience.as_millis() as i64))?;
        bind(fd.as_raw_fd(), &SockaddrStorage::from(family.any(id)))?;
        let payload = *b"is there anybody";
        let request = [&[family.pick(8, 128), 0, 0, 0, 0, 0, 0, 1][..], &payload].concat();
        sendto(fd.as_raw_fd(), &request, &SockaddrStorage::from(SocketAddr::new(to, 0)), MsgFlags::empty())?;
        let mut room = [0; 1500];
        let (length, from) = recvfrom::<SockaddrStorage>(fd.as_raw_fd(), &mut room)?;
        let reply = &room[..length];
        if reply.first() != Some(&family.pick(0, 129)) || !reply.ends_with(&payload) {
            return Err(io::Error::other(format!("not our echo: {reply:02x?}")));
        }
        let from = from.ok_or_else(|| io::Error::other("no sender"))?;
        let four = from.as_sockaddr_in().map(|from| from.ip().into());
        let six = || from.as_sockaddr_in6().map(|from| from.ip().into());
        four.or_else(six).ok_or_else(|| io::Error::other("a sender without address"))
    })
}
