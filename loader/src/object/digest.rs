// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Bytes to SHA-256, and instructions to the tag the kernel will show for them.

use super::insn::Insn;
use super::Program;

/// The first 8 bytes of a digest over the instructions, as `bpf_prog_calc_tag()` (kernel/bpf/core.c) makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tags {
    /// What kernels before 6.18 show.
    pub sha1: [u8; 8],
    /// What kernels from 6.18 on show.
    pub sha256: [u8; 8],
}

impl Program {
    /// The tag before the program is loaded: a map load's constants count as zero, so no descriptor enters into it.
    pub fn tags(&self) -> Tags {
        let bytes = tagged_bytes(&self.insns);
        Tags {
            sha1: first8(&sha1_smol::Sha1::from(&bytes).digest().bytes()),
            sha256: first8(&sha256(&bytes)),
        }
    }
}

/// SHA-256 of some bytes.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    hmac_sha256::Hash::hash(bytes)
}

fn tagged_bytes(insns: &[Insn]) -> Vec<u8> {
    let mut in_map_load = false;
    let zeroed = |insn: &Insn| {
        let second_half = in_map_load && insn.code == 0 && insn.regs == 0 && insn.off == 0;
        in_map_load = !in_map_load && insn.is_map_load();
        if in_map_load || second_half { Insn { imm: 0, ..*insn } } else { *insn }.to_bytes()
    };
    insns.iter().flat_map(zeroed).collect()
}

fn first8(digest: &[u8]) -> [u8; 8] {
    digest.first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r0_0_exit_has_the_tags_kernels_show() {
        let insns = [[0xb7, 0, 0, 0, 0, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]].map(Insn::from_bytes);
        let bytes = tagged_bytes(&insns);
        assert_eq!(first8(&sha256(&bytes)), 0x59f4_a931_744d_cdc6_u64.to_be_bytes());
        assert_eq!(
            first8(&sha1_smol::Sha1::from(&bytes).digest().bytes()),
            0xa04f_5eef_06a7_f555_u64.to_be_bytes()
        );
    }

    #[test]
    fn descriptors_and_value_offsets_do_not_count() {
        let load = |src: u8, lo: i32, hi: i32| {
            let first = Insn { code: 0x18, regs: src << 4 | 1, off: 0, imm: lo };
            tagged_bytes(&[first, Insn { code: 0, regs: 0, off: 0, imm: hi }])
        };
        assert_eq!(load(1, 7, 0), load(1, 0, 0));
        assert_eq!(load(2, 7, 9), load(2, 0, 0));
        assert_ne!(load(0, 7, 9), load(0, 0, 0));
    }
}
