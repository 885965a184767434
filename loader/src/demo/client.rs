// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A question to an address to what came back, and under which address.
use crate::demo::serve::Told;
use nix::sys::socket::{socket, AddressFamily, SockFlag, SockProtocol, SockType};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::time::Duration;

/// How long one wait may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest answer that is read.
const MOST: u64 = 4096;

/// What is asked of whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// `GET /`.
    Http(SocketAddrV4),
    /// One datagram.
    Udp(SocketAddrV4),
    /// An ICMP echo request.
    Ping(Ipv4Addr),
}

/// What the demo asks: addresses of the wide world, each on its way to nobody.
pub const QUESTIONS: [Question; 5] = [
    Question::Http(SocketAddrV4::new(Ipv4Addr::new(1, 2, 3, 4), 80)),
    Question::Http(SocketAddrV4::new(Ipv4Addr::new(93, 184, 216, 34), 8080)),
    Question::Udp(SocketAddrV4::new(Ipv4Addr::new(8, 8, 8, 8), 53)),
    Question::Udp(SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 77), 40000)),
    Question::Ping(Ipv4Addr::new(8, 8, 8, 8)),
];

/// An answer as the client hears it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Who answered; the port is 0 for an echo.
    pub from: SocketAddr,
    /// What the server told about the two; nothing for an echo.
    pub told: Option<Told>,
}

/// A question and what came of it.
#[derive(Debug)]
pub struct Heard {
    /// The question.
    pub question: Question,
    /// The answer, or why there is none.
    pub answer: io::Result<Answer>,
}

impl Question {
    /// The address that is asked; the port is 0 for an echo.
    pub fn to(self) -> SocketAddr {
        match self {
            Question::Http(to) | Question::Udp(to) => to.into(),
            Question::Ping(to) => SocketAddrV4::new(to, 0).into(),
        }
    }

    /// Asks, from this thread's network namespace.
    pub fn ask(self) -> Heard {
        let answer = match self {
            Question::Http(to) => http(to.into()),
            Question::Udp(to) => udp(to.into()),
            Question::Ping(_) => ping(self.to()),
        };
        Heard { question: self, answer: answer.map_err(silence) }
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Question::Http(to) if to.port() == 80 => write!(f, "http://{}/", to.ip()),
            Question::Http(to) => write!(f, "http://{to}/"),
            Question::Udp(to) => write!(f, "udp {to}"),
            Question::Ping(to) => write!(f, "ping {to}"),
        }
    }
}

impl Heard {
    /// Whether the answer came under the address, and the port, that was asked.
    pub fn is_ok(&self) -> bool {
        self.answer.as_ref().is_ok_and(|answer| answer.from == self.question.to())
    }
}

fn http(to: SocketAddr) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = format!("GET / HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    (&stream).take(MOST).read_to_string(&mut text)?;
    let body = text.strip_prefix("HTTP/1.1 200 ").and_then(|rest| Some(rest.split_once("\r\n\r\n")?.1));
    Ok(Answer { from: stream.peer_addr()?, told: Some(read(body)?) })
}

fn udp(to: SocketAddr) -> io::Result<Answer> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    // As a resolver does it: on a connected socket nothing arrives from anybody else.
    socket.connect(to)?;
    socket.send(b"who are you?")?;
    let mut room = [0; MOST as usize];
    let (length, from) = socket.recv_from(&mut room)?;
    let text = room.get(..length).and_then(|bytes| std::str::from_utf8(bytes).ok());
    Ok(Answer { from, told: Some(read(text)?) })
}

/// The kernel fills in the identifier and the checksum, and hands out only replies to this identifier whose checksum is
/// right; the message starts with its type.
fn ping(to: SocketAddr) -> io::Result<Answer> {
    const ECHO_REPLY: u8 = 0;
    const REQUEST: [u8; 16] = *b"\x08\0\0\0\0\0\0\x01anybody?";
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, SockProtocol::Icmp)?;
    // To the kernel, and so to std, it is a socket as any other for datagrams.
    let socket = UdpSocket::from(socket);
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send_to(&REQUEST, to)?;
    let mut room = [0; MOST as usize];
    let (length, from) = socket.recv_from(&mut room)?;
    let reply = room.get(..length).unwrap_or_default();
    if reply.first() != Some(&ECHO_REPLY) || reply.get(8..) != REQUEST.get(8..) {
        return Err(unexpected());
    }
    Ok(Answer { from: SocketAddr::new(from.ip(), 0), told: None })
}

/// What the kernel calls "resource temporarily unavailable" is a wait that is over.
fn silence(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            io::Error::new(io::ErrorKind::TimedOut, format!("silence for {PATIENCE:?}"))
        }
        _ => error,
    }
}

fn read(text: Option<&str>) -> io::Result<Told> {
    text.and_then(Told::read).ok_or_else(unexpected)
}

fn unexpected() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "an answer, but not the demo's")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_good_under_the_address_and_port_asked_only() {
        for question in QUESTIONS {
            let heard = |from| Heard { question, answer: Ok(Answer { from, told: None }) };
            let to = question.to();
            assert!(heard(to).is_ok());
            assert!(!heard(SocketAddr::new(Ipv4Addr::new(192, 0, 2, 1).into(), to.port())).is_ok());
            assert!(!heard(SocketAddr::new(to.ip(), to.port() ^ 1)).is_ok());
            assert!(!Heard { question, answer: Err(unexpected()) }.is_ok());
        }
    }
}
