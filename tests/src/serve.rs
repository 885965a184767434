// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Small servers inside a namespace that say whom they think they talk to; each stops when it is dropped.
use crate::netns::Netns;
use crate::talk::PATIENCE;
use nix::poll::{poll, PollFd, PollFlags};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

type Heard = Mutex<Vec<(SocketAddr, Vec<u8>)>>;

/// A running server.
pub struct Server {
    stop: Arc<AtomicBool>,
    heard: Arc<Heard>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Answers every connection with an HTTP response whose body is `body`, a space, and the peer's address as seen
    /// here; what was asked is remembered. Works for anything that sends a request ending in an empty line.
    pub fn http(ns: &Netns, at: impl Into<SocketAddr>, body: &str) -> Server {
        let at = at.into();
        let listener =
            ns.within(|| TcpListener::bind(at).unwrap_or_else(|error| panic!("tcp {at}: {error}")));
        listener.set_nonblocking(true).unwrap();
        let body = body.to_string();
        Server::start(move |stop, heard| {
            let mut talks = Vec::new();
            while readable(&listener, stop) {
                let Ok((stream, peer)) = listener.accept() else { continue };
                let (heard, body) = (heard.clone(), format!("{body} {peer}"));
                talks.push(std::thread::spawn(move || converse(stream, peer, &body, &heard)));
            }
            talks.into_iter().for_each(|talk| talk.join().unwrap_or(()));
        })
    }

    /// Answers every datagram with its text, a space, and the peer's address as seen here.
    pub fn udp(ns: &Netns, at: impl Into<SocketAddr>) -> Server {
        Server::udp_held(ns, at, 1)
    }

    /// The same, but keeps silent until `hold` datagrams are there, then answers them, the last one first.
    pub fn udp_held(ns: &Netns, at: impl Into<SocketAddr>, hold: usize) -> Server {
        let at = at.into();
        let socket = ns.within(|| UdpSocket::bind(at).unwrap_or_else(|error| panic!("udp {at}: {error}")));
        Server::start(move |stop, heard| {
            let mut held = Vec::new();
            let mut room = [0; 65536];
            while readable(&socket, stop) {
                // An ICMP error for an earlier answer shows up here; it is no datagram.
                let Ok((length, peer)) = socket.recv_from(&mut room) else { continue };
                heard.lock().unwrap().push((peer, room[..length].to_vec()));
                held.push((room[..length].to_vec(), peer));
                if held.len() == hold {
                    for (text, peer) in held.drain(..).rev() {
                        let _ = socket.send_to(&[&text[..], format!(" {peer}").as_bytes()].concat(), peer);
                    }
                }
            }
        })
    }

    /// Answers every datagram with what `answer` makes of it.
    pub fn answering(
        ns: &Netns,
        at: impl Into<SocketAddr>,
        answer: impl Fn(&[u8]) -> Vec<u8> + Send + 'static,
    ) -> Server {
        let at = at.into();
        let socket = ns.within(|| UdpSocket::bind(at).unwrap_or_else(|error| panic!("udp {at}: {error}")));
        Server::start(move |stop, heard| {
            let mut room = [0; 65536];
            while readable(&socket, stop) {
                let Ok((length, peer)) = socket.recv_from(&mut room) else { continue };
                heard.lock().unwrap().push((peer, room[..length].to_vec()));
                let _ = socket.send_to(&answer(&room[..length]), peer);
            }
        })
    }

    /// Sends everything back, on any number of connections at once.
    pub fn echo(ns: &Netns, at: impl Into<SocketAddr>) -> Server {
        let at = at.into();
        let listener =
            ns.within(|| TcpListener::bind(at).unwrap_or_else(|error| panic!("tcp {at}: {error}")));
        listener.set_nonblocking(true).unwrap();
        Server::start(move |stop, _| {
            let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
            let readable = |n: usize| EpollEvent::new(EpollFlags::EPOLLIN, n as u64);
            epoll.add(&listener, readable(0)).unwrap();
            let mut talks: Vec<Option<TcpStream>> = vec![None];
            let (mut events, mut room) = ([EpollEvent::empty(); 64], [0; 65536]);
            while !stop.load(Ordering::Relaxed) {
                let ready = epoll.wait(&mut events, 20u16).unwrap_or(0);
                for n in events.iter().take(ready).map(|event| event.data() as usize) {
                    if n == 0 {
                        while let Ok((stream, _)) = listener.accept() {
                            stream.set_nonblocking(false).unwrap();
                            epoll.add(&stream, readable(talks.len())).unwrap();
                            talks.push(Some(stream));
                        }
                    } else if let Some(stream) = &mut talks[n] {
                        match stream.read(&mut room) {
                            Ok(length @ 1..) if stream.write_all(&room[..length]).is_ok() => {}
                            _ => talks[n] = None, // closing takes it out of the set
                        }
                    }
                }
            }
        })
    }

    fn start(run: impl FnOnce(&AtomicBool, Arc<Heard>) + Send + 'static) -> Server {
        let (stop, heard) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (its_stop, its_heard) = (stop.clone(), heard.clone());
        let thread = Some(std::thread::spawn(move || run(&its_stop, its_heard)));
        Server { stop, heard, thread }
    }

    /// Who asked so far, and what.
    pub fn heard(&self) -> Vec<(SocketAddr, Vec<u8>)> {
        self.heard.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Waits until there is something to read (true) or the server is to stop (false).
fn readable(socket: &impl AsFd, stop: &AtomicBool) -> bool {
    while !stop.load(Ordering::Relaxed) {
        let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, 20u16).is_ok_and(|n| n > 0) {
            return true;
        }
    }
    false
}

fn converse(mut stream: TcpStream, peer: SocketAddr, body: &str, heard: &Heard) {
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut request, mut room) = (Vec::new(), [0; 4096]);
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut room) {
            Ok(n) if n > 0 => request.extend(&room[..n]),
            _ => return,
        }
    }
    heard.lock().unwrap().push((peer, request));
    let length = body.len();
    let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
}
