// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A request at the gateway to an answer that says who answers whom: HTTP/1.1, and UDP.
use crate::demo::lab::GATEWAY;
use nix::poll::{poll, PollFd, PollFlags};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// Where HTTP is served.
pub const HTTP: u16 = 80;
/// Where what was meant for a name server is answered.
pub const DNS: u16 = 53;
/// Where every other datagram is answered.
pub const OTHER: u16 = 9999;

/// How long a client may take for its request.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a server looks whether it should stop, in milliseconds.
const LOOK: u16 = 20;
/// Longest request, and longest datagram, that is read.
const MOST: usize = 4096;

/// What a server tells: between whom it thinks the talk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The server's own address and port.
    pub server: SocketAddr,
    /// The client's, as the server sees them.
    pub client: SocketAddr,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} answers {}", self.server, self.client)
    }
}

impl Told {
    /// The reverse of its text; `None` for any other text.
    pub fn read(text: &str) -> Option<Told> {
        let (server, client) = text.strip_suffix('\n')?.split_once(" answers ")?;
        Some(Told { server: server.parse().ok()?, client: client.parse().ok()? })
    }
}

/// The servers at work; dropping them ends them.
#[derive(Debug)]
pub struct Servers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Servers {
    /// Starts all of them in this thread's network namespace.
    ///
    /// # Errors
    /// Those of bind(2) and of starting a thread.
    pub fn start() -> io::Result<Servers> {
        let mut servers = Servers { stop: Arc::default(), threads: Vec::new() };
        let listener = TcpListener::bind((GATEWAY, HTTP))?;
        servers.spawn(move |stop| {
            while let Some(ready) = readable(&listener, stop) {
                // One client at a time; one that went away again is no reason to stop.
                let _ = ready && listener.accept().and_then(|(stream, client)| http(stream, client)).is_ok();
            }
        })?;
        for port in [DNS, OTHER] {
            let socket = UdpSocket::bind((GATEWAY, port))?;
            servers.spawn(move |stop| {
                while let Some(ready) = readable(&socket, stop) {
                    let _ = ready && udp(&socket).is_ok();
                }
            })?;
        }
        Ok(servers)
    }

    fn spawn(&mut self, serve: impl FnOnce(&AtomicBool) + Send + 'static) -> io::Result<()> {
        let stop = self.stop.clone();
        self.threads.push(Builder::new().spawn(move || serve(&stop))?);
        Ok(())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A server that died has been missed by the client already.
            let _ = thread.join();
        }
    }
}

/// Waits a moment for something to read: whether there is, or `None` when it is time to stop.
fn readable(socket: &impl AsFd, stop: &AtomicBool) -> Option<bool> {
    let mut sockets = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    let ready = poll(&mut sockets, LOOK).is_ok_and(|count| count > 0);
    (!stop.load(Ordering::Relaxed)).then_some(ready)
}

fn http(mut stream: TcpStream, client: SocketAddr) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let (mut request, mut room) = (Vec::new(), [0; MOST]);
    while !request.ends_with(b"\r\n\r\n") && request.len() < MOST {
        match stream.read(&mut room)? {
            0 => break,
            length => request.extend_from_slice(room.get(..length).unwrap_or_default()),
        }
    }
    let body = Told { server: stream.local_addr()?, client }.to_string();
    let status = if request.starts_with(b"GET ") { "200 OK" } else { "405 Method Not Allowed" };
    let length = body.len();
    let head = "Content-Type: text/plain\r\nConnection: close";
    let answer = format!("HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(answer.as_bytes())
}

fn udp(socket: &UdpSocket) -> io::Result<usize> {
    let mut room = [0; MOST];
    let (_, client) = socket.recv_from(&mut room)?;
    let told = Told { server: socket.local_addr()?, client };
    socket.send_to(told.to_string().as_bytes(), client)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_read() {
        let told =
            Told { server: "192.0.2.1:80".parse().unwrap(), client: "192.0.2.2:40000".parse().unwrap() };
        assert_eq!(Told::read(&told.to_string()), Some(told));
        for other in ["", "\n", "192.0.2.1:80 answers 192.0.2.2\n", "192.0.2.1:80 answers 192.0.2.2:1"] {
            assert_eq!(Told::read(other), None, "{other:?}");
        }
    }
}
