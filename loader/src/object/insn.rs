// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Eight bytes to one instruction and back.

/// `BPF_LD | BPF_IMM | BPF_DW`: the 16-byte load of a constant; its second half has code 0.
pub const LD_IMM64: u8 = 0x18;
/// `BPF_JMP | BPF_CALL`.
pub const CALL: u8 = 0x85;

/// `src_reg` of an `ld_imm64`: `imm` is a map's descriptor.
pub const PSEUDO_MAP_FD: u8 = 1;
/// `src_reg` of an `ld_imm64`: as above, and the second `imm` is an offset in the value of element 0.
pub const PSEUDO_MAP_VALUE: u8 = 2;
/// `src_reg` of an `ld_imm64`: as PSEUDO_MAP_FD, but `imm` is the number of the descriptor in `fd_array` (Linux 5.14).
#[cfg(feature = "compat")]
pub const PSEUDO_MAP_IDX: u8 = 5;
/// `src_reg` of an `ld_imm64`: as PSEUDO_MAP_VALUE, by a number in `fd_array`.
#[cfg(feature = "compat")]
pub const PSEUDO_MAP_IDX_VALUE: u8 = 6;
/// `src_reg` of an `ld_imm64`: `imm` is the distance to a function of this program.
pub const PSEUDO_FUNC: u8 = 4;
/// `src_reg` of a call: `imm` is the distance to a function of this program.
pub const PSEUDO_CALL: u8 = 1;
/// `src_reg` of a call: `imm` is the BTF id of a kernel function.
pub const PSEUDO_KFUNC_CALL: u8 = 2;

/// `struct bpf_insn` (include/uapi/linux/bpf.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insn {
    /// Class, operation, source or size and mode.
    pub code: u8,
    /// Destination register in the low four bits, source register in the high four.
    pub regs: u8,
    /// Jump distance in instructions, or memory offset in bytes.
    pub off: i16,
    /// The constant.
    pub imm: i32,
}

impl Insn {
    /// From the object's little-endian bytes.
    pub const fn from_bytes(b: [u8; 8]) -> Insn {
        let [code, regs, o0, o1, i0, i1, i2, i3] = b;
        Insn { code, regs, off: i16::from_le_bytes([o0, o1]), imm: i32::from_le_bytes([i0, i1, i2, i3]) }
    }

    /// To the bytes the kernel reads (little-endian).
    pub const fn to_bytes(self) -> [u8; 8] {
        let [o0, o1] = self.off.to_le_bytes();
        let [i0, i1, i2, i3] = self.imm.to_le_bytes();
        [self.code, self.regs, o0, o1, i0, i1, i2, i3]
    }

    /// The destination register, 0 to 15.
    pub const fn dst(self) -> u8 {
        self.regs & 15
    }

    /// The source register or pseudo-source, 0 to 15.
    pub const fn src(self) -> u8 {
        self.regs >> 4
    }

    /// The same instruction with another source register.
    #[must_use]
    pub const fn with_src(self, src: u8) -> Insn {
        Insn { regs: self.regs & 15 | (src & 15) << 4, ..self }
    }

    /// Whether this is the first half of a 16-byte constant load.
    pub const fn is_ld_imm64(self) -> bool {
        self.code == LD_IMM64
    }

    /// Whether `imm` is to become a map's descriptor.
    pub const fn is_map_load(&self) -> bool {
        self.is_ld_imm64() && matches!(self.src(), PSEUDO_MAP_FD | PSEUDO_MAP_VALUE)
    }

    /// Whether this calls a function of the same program.
    pub const fn is_local_call(self) -> bool {
        self.code == CALL && self.src() == PSEUDO_CALL
    }
}
