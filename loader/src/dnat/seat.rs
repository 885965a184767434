// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Where an instance was found -> whether the same is still there, and the lock of the one who reads its events.
use super::look::Look;
use crate::load::home::{Dir, RECORD_PIN};
use crate::load::netlink::Socket;
use crate::load::tc::{self, Filter, EGRESS, INGRESS};
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

/// What tells an instance from another one in its place, without opening anything of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seat {
    /// A folder, and the inode of the record's pin in it.
    Folder(String, u64),
    /// The programs that the filters of a device run.
    Filters(u32, BTreeSet<u32>),
}

impl Seat {
    /// Of what was opened.
    ///
    /// # Errors
    /// Where the record is not there any more.
    pub fn of(look: &Look) -> io::Result<Seat> {
        let programs = look.record().programs.iter().map(|program| program.id).collect();
        Seat::at(look.dir(), look.device().0, programs)
    }

    /// Of any instance: where it is, the index of its device, the ids of its programs.
    ///
    /// # Errors
    /// Where its record is not there any more.
    pub fn at(dir: &Dir, device: u32, programs: BTreeSet<u32>) -> io::Result<Seat> {
        Ok(match dir {
            Dir::Folder(path) => Seat::Folder(path.clone(), inode(path)?),
            Dir::Ids(_) => Seat::Filters(device, programs),
        })
    }

    /// Whether the same is there.
    pub fn is_taken(&self, socket: &mut Socket) -> bool {
        match self {
            Seat::Folder(path, record) => inode(path).is_ok_and(|is| is == *record),
            Seat::Filters(device, programs) => {
                let mut there = BTreeSet::new();
                for parent in [INGRESS, EGRESS] {
                    // That a device is gone is an answer, too.
                    let reply = socket.request(&tc::filter_dump(*device, parent)).unwrap_or_default();
                    let id = |filter: Filter| filter.bpf?.id;
                    there.extend(reply.messages.iter().filter_map(Filter::read).filter_map(id));
                }
                programs.is_subset(&there)
            }
        }
    }

    /// Another record in the same folder: an upgrade.
    pub fn renewed(&self) -> Option<Seat> {
        match self {
            Seat::Folder(path, _) => Some(Seat::Folder(path.clone(), inode(path).ok()?)),
            Seat::Filters(..) => None,
        }
    }
}

/// The file whose lock says that somebody reads the events of this instance.
///
/// Of a pinned one it is the device's folder, which stays when programs are replaced. Without pins it is a variable that each
/// device of each network namespace has; /proc gives it one inode for all who see the same /proc.
pub fn lock(look: &Look) -> io::Result<File> {
    let (_, name) = look.device();
    File::open(match look.dir() {
        Dir::Folder(path) => path.rsplit_once('/').map_or(path.as_str(), |(device, _)| device).to_owned(),
        Dir::Ids(_) => format!("/proc/sys/net/ipv4/conf/{name}/forwarding"),
    })
}

/// Of the record's pin: another instance has another one.
fn inode(folder: &str) -> io::Result<u64> {
    std::fs::metadata(format!("{folder}/{RECORD_PIN}")).map(|pin| pin.ino())
}
