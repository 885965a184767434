// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! An encoded attribute to the bpf(2) system call and its answer: the only place where the call is made.
use crate::attr::{bad, Attr, Buffer, Command, Value};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// What a command answered.
#[derive(Debug)]
pub struct Answer {
    /// The new descriptor, for commands that give one.
    pub fd: Option<OwnedFd>,
    /// What the kernel put into the attribute itself (`log_true_size`, `retval`, `next_id` …).
    image: Vec<u8>,
    rooms: Vec<Buffer>,
}

impl Answer {
    /// The number in the field `name` after the call; 0 where the attribute was too short to hold it.
    pub fn number(&self, command: &'static Command, name: &str) -> u64 {
        command.number_in(&self.image, name)
    }

    /// What the kernel wrote into the room `name`; empty when none was given.
    pub fn room(&self, name: &str) -> &[u8] {
        self.rooms.iter().find(|b| b.name == name).map_or(&[], |b| &b.bytes)
    }
}

/// Makes a command whose attribute tells all lengths by itself. Element commands are refused: [`crate::Map`] makes them.
///
/// On an error the answer still holds what the kernel wrote: a verifier log comes with a failed load.
pub fn call(
    command: &'static Command,
    arguments: &[(&str, Value<'_>)],
) -> Result<Answer, (io::Error, Answer)> {
    let empty = || Answer { fd: None, image: Vec::new(), rooms: Vec::new() };
    if command.is_element() {
        return Err((bad(command, "map_fd", "takes its sizes from the map"), empty()));
    }
    encoded(command, Attr::encode(command, arguments).map_err(|error| (error, empty()))?)
}

/// The same for an attribute that is ready; its command is none of those that work on elements.
pub(crate) fn encoded(command: &'static Command, attr: Attr) -> Result<Answer, (io::Error, Answer)> {
    let (image, rooms, result) = bpf(command, attr);
    match result {
        Err(error) => Err((error, Answer { fd: None, image, rooms })),
        Ok(fd) if command.gives_fd => {
            // SAFETY: commands with `gives_fd` return a descriptor that the kernel has just made for this process
            // (bpf_map_new_fd(), bpf_prog_new_fd() …, always O_CLOEXEC), and nobody else has seen its number.
            let fd = unsafe { OwnedFd::from_raw_fd(fd) };
            Ok(Answer { fd: Some(fd), image, rooms })
        }
        Ok(_) => Ok(Answer { fd: None, image, rooms }),
    }
}

/// Writes the buffers' addresses into the attribute and makes the call.
///
/// The caller vouches that every buffer is as long as the kernel will take it to be: [`call`] because the attribute
/// itself says the lengths, [`crate::Map`] and [`crate::Batches`] because they allocated them by the map's sizes.
pub(crate) fn bpf(command: &Command, attr: Attr) -> (Vec<u8>, Vec<Buffer>, io::Result<i32>) {
    let (mut image, mut buffers) = attr.parts();
    for buffer in &mut buffers {
        let address = buffer.bytes.as_mut_ptr() as u64;
        if let Some(pointer) = image.get_mut(buffer.at..buffer.at.saturating_add(8)) {
            pointer.copy_from_slice(&address.to_ne_bytes());
        }
    }
    // SAFETY: bpf(2) reads and writes `image.len()` bytes at the first pointer, which is that vector. Every address in it
    // belongs to a vector in `buffers`, alive until after the call, at least as long as the attribute (or the map, see
    // above) says; a descriptor that is not open or not of BPF makes the kernel answer EBADF or EINVAL.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            libc::c_long::from(command.number),
            image.as_mut_ptr(),
            image.len() as libc::c_ulong,
        )
    };
    let result = match i32::try_from(result) {
        Ok(n) if n >= 0 => Ok(n),
        _ => Err(io::Error::last_os_error()),
    };
    for buffer in &buffers {
        if let Some(pointer) = image.get_mut(buffer.at..buffer.at.saturating_add(8)) {
            pointer.fill(0);
        }
    }
    (image, buffers, result)
}
