// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `struct record` (ebpf-src/abi.h): what an instance says of itself, to bytes and back.
//!
//! It is the value of a frozen one-entry map that is bound to every program of the instance, so it lives exactly as long
//! as they do. State counts only if a filter on the device carries a program id that stands here: inode numbers of
//! namespaces and device indexes are used again.
use crate::load::step::{Blob, Hole};

/// Version of every structure in abi.h.
pub const SCHEMA: u32 = 1;
/// Bit of `flags`: nothing is pinned, and the instance is found again by its filters.
pub const UNPINNED: u16 = 1;
/// Most programs in one instance.
pub const PROGRAMS_MAX: usize = 16;
/// Bytes of the whole record.
pub const SIZE: usize = HEAD + PROGRAMS_MAX * ENTRY;

const HEAD: usize = 80;
const ENTRY: usize = 40;

/// A record as read from a pin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// [`SCHEMA`] of the writer.
    pub schema: u32,
    /// Index of the device when it was attached.
    pub ifindex: u32,
    /// SHA-256 of the ELF file.
    pub object_sha256: [u8; 32],
    /// Name of the device when it was attached.
    pub ifname: String,
    /// Name of the instance.
    pub name: String,
    /// The attached programs.
    pub programs: Vec<RecordProgram>,
    /// [`UNPINNED`], or 0, as in records of versions that knew no other.
    pub flags: u16,
}

/// One attached program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordProgram {
    /// Id in the kernel.
    pub id: u32,
    /// `tcm_parent`: ffff:fff2 ingress, ffff:fff3 egress. A program that a tcx link attaches has the attach type in its place,
    /// 46 ingress or 47 egress, which no `tcm_parent` of a filter can be; `prio` and `handle` are 0 then.
    pub parent: u32,
    /// Priority of the filter.
    pub prio: u16,
    /// Ethertype of the frames that it sees; 0 for all, as in records of versions that knew no other.
    pub protocol: u16,
    /// Chain of the filter: one for all of the instance.
    pub chain: u32,
    /// Handle of the filter.
    pub handle: u32,
    /// The tag that the kernel reported.
    pub tag: [u8; 8],
    /// Name of the program, at most 15 bytes.
    pub name: String,
}

impl Record {
    /// The bytes to write, with a hole for each program's id: `?name`.
    pub fn blob(&self) -> Blob {
        let mut bytes = Vec::with_capacity(SIZE);
        bytes.extend(self.schema.to_ne_bytes());
        bytes.extend(self.ifindex.to_ne_bytes());
        bytes.extend(self.object_sha256);
        bytes.extend(text16(&self.ifname));
        bytes.extend(text16(&self.name));
        bytes.extend((self.programs.len() as u32 | u32::from(self.flags) << 16).to_ne_bytes());
        let chain = self.programs.iter().map(|p| p.chain).max();
        bytes.extend(chain.unwrap_or(0).to_ne_bytes());
        let mut holes = Vec::new();
        for program in &self.programs {
            holes.push(Hole { at: bytes.len(), symbol: format!("?{}", program.name) });
            let ranked = u32::from(program.protocol) << 16 | u32::from(program.prio);
            for number in [0, program.parent, ranked, program.handle] {
                bytes.extend(number.to_ne_bytes());
            }
            bytes.extend(program.tag);
            bytes.extend(text16(&program.name));
        }
        bytes.resize(SIZE, 0);
        Blob { bytes, holes, part: None }
    }

    /// The bytes with the ids that are known.
    pub fn bytes(&self) -> Vec<u8> {
        let Blob { mut bytes, holes, .. } = self.blob();
        for (hole, program) in holes.iter().zip(&self.programs) {
            if let Some(id) = bytes.get_mut(hole.at..hole.at.saturating_add(4)) {
                id.copy_from_slice(&program.id.to_ne_bytes());
            }
        }
        bytes
    }

    /// The schema of a record, if it is one that this program does not understand.
    pub fn other_schema(bytes: &[u8]) -> Option<u32> {
        let schema = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?);
        (schema != SCHEMA && schema != 0).then_some(schema)
    }

    /// Reads a record; None when the bytes are not one that this program understands.
    pub fn parse(bytes: &[u8]) -> Option<Record> {
        let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?));
        if bytes.len() != SIZE || word(0)? != SCHEMA {
            return None;
        }
        // Two halves, `count` and `flags`.
        let count = usize::try_from(word(72)? & 0xffff).ok().filter(|n| *n <= PROGRAMS_MAX)?;
        let chain = word(76)?;
        let program = |i: usize| {
            let at = HEAD.checked_add(ENTRY.checked_mul(i)?)?;
            let field = |offset: usize| at.checked_add(offset);
            // Two halves, `prio` and `protocol` (ebpf-src/abi.h), on little-endian hosts, of which there are no others.
            let ranked = word(field(8)?)?;
            Some(RecordProgram {
                id: word(at)?,
                parent: word(field(4)?)?,
                prio: (ranked & 0xffff) as u16,
                protocol: (ranked >> 16) as u16,
                chain,
                handle: word(field(12)?)?,
                tag: bytes.get(field(16)?..field(24)?)?.try_into().ok()?,
                name: read16(bytes.get(field(24)?..field(40)?)?),
            })
        };
        Some(Record {
            schema: SCHEMA,
            ifindex: word(4)?,
            object_sha256: bytes.get(8..40)?.try_into().ok()?,
            ifname: read16(bytes.get(40..56)?),
            name: read16(bytes.get(56..72)?),
            programs: (0..count).map(program).collect::<Option<_>>()?,
            flags: (word(72)? >> 16) as u16,
        })
    }
}

fn text16(text: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().take(15).zip(text.bytes()) {
        *to = from;
    }
    bytes
}

fn read16(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Record {
        let program = |name: &str, parent| RecordProgram {
            id: 0,
            parent,
            prio: 100,
            protocol: 0x86dd,
            chain: 7,
            handle: 0xd370,
            tag: [1, 2, 3, 4, 5, 6, 7, 8],
            name: name.to_string(),
        };
        Record {
            schema: SCHEMA,
            ifindex: 7,
            object_sha256: [9; 32],
            ifname: "eth0.100".to_string(),
            name: "dnat".to_string(),
            programs: vec![program("detour_in", 0xffff_fff2), program("detour_out", 0xffff_fff3)],
            flags: UNPINNED,
        }
    }

    #[test]
    fn reads_what_it_writes() {
        let blob = sample().blob();
        assert_eq!(blob.bytes.len(), 720);
        assert_eq!(blob.holes.iter().map(|h| h.at).collect::<Vec<_>>(), [80, 120]);
        assert_eq!(Record::parse(&blob.bytes), Some(sample()));
    }

    #[test]
    fn a_record_without_chain_protocol_and_flags_is_as_it_always_was() {
        let mut sample = sample();
        sample.programs.iter_mut().for_each(|p| (p.protocol, p.chain) = (0, 0));
        sample.flags = 0;
        let bytes = sample.blob().bytes;
        // `__u32 count`, `__u32 pad` and `__u32 prio` of the first records.
        assert_eq!((&bytes[72..80], &bytes[88..92]), (&[2, 0, 0, 0, 0, 0, 0, 0][..], &[100, 0, 0, 0][..]));
        assert_eq!(Record::parse(&bytes), Some(sample));
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        let mut bytes = sample().blob().bytes;
        assert_eq!(Record::parse(bytes.get(..719).unwrap_or_default()), None);
        bytes[72] = 17;
        assert_eq!(Record::parse(&bytes), None);
        bytes[72] = 2;
        bytes[0] = 2;
        assert_eq!(Record::parse(&bytes), None);
        assert_eq!(Record::other_schema(&bytes), Some(2));
        assert_eq!(Record::other_schema(&sample().blob().bytes), None);
    }
}
