// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! One instruction to whether it is one of the instruction set v1 to v4, or the word for what it is not.
//!
//! Documentation/bpf/standardization/instruction-set.rst; what the kernel's own list has is compared by a test. Fields
//! that an instruction does not use are the verifier's to look at.

use super::insn::Insn;

/// What is unknown about it; None for what a kernel may know.
pub fn unknown(insn: &Insn) -> Option<&'static str> {
    let known = match insn.code {
        // LD: the constant, and packet bytes at a fixed or at a register's offset.
        0x18 | 0x20 | 0x28 | 0x30 | 0x40 | 0x48 | 0x50 => true,
        // LDX: plain (v1) and sign-extending (v4).
        0x61 | 0x69 | 0x71 | 0x79 | 0x81 | 0x89 | 0x91 => true,
        // ST, STX.
        0x62 | 0x6a | 0x72 | 0x7a | 0x63 | 0x6b | 0x73 | 0x7b => true,
        // Read-modify-write, v1 and v3; load-acquire and store-release, v4 (Linux 6.15), of any width.
        0xc3 | 0xdb if ATOMICS.contains(&insn.imm) => true,
        0xc3 | 0xcb | 0xd3 | 0xdb if ORDERED.contains(&insn.imm) => true,
        0xc3 | 0xcb | 0xd3 | 0xdb => return Some("this atomic operation is unknown"),
        0x0d => return Some("a jump through a table (gotox) is not served"),
        0x8d => return Some("a call of what a register holds (callx) is not served"),
        // Negation takes no operand, a 64-bit swap no register.
        0x8c | 0x8f | 0xdf => false,
        code => match (code & 7, code & 0xf0) {
            (ALU | ALU64, operation) => operation <= 0xd0,
            // JA, CALL, EXIT and may_goto have no second form.
            (JMP, 0x00 | 0x80 | 0x90 | 0xe0) => code & 8 == 0,
            (JMP32, 0x00) => code & 8 == 0,
            (JMP32, 0x80 | 0x90) => false,
            (JMP | JMP32, operation) => operation <= 0xd0,
            _ => false,
        },
    };
    (!known).then_some("this operation is unknown")
}

/// The name of an instruction's class.
pub fn class(code: u8) -> &'static str {
    let names = ["LD", "LDX", "ST", "STX", "ALU", "JMP", "JMP32", "ALU64"];
    names.get(usize::from(code & 7)).copied().unwrap_or_default()
}

const ALU: u8 = 4;
const JMP: u8 = 5;
const JMP32: u8 = 6;
const ALU64: u8 = 7;
/// `imm`: add, or, and, xor; each also with BPF_FETCH, as are exchange and compare-and-exchange.
const ATOMICS: [i32; 10] = [0x00, 0x40, 0x50, 0xa0, 0x01, 0x41, 0x51, 0xa1, 0xe1, 0xf1];
/// `imm`: BPF_LOAD_ACQ, BPF_STORE_REL.
const ORDERED: [i32; 2] = [0x100, 0x110];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::disasm::disassemble;

    #[test]
    fn what_is_known_has_a_text_and_nothing_else() {
        for code in 0..=255u8 {
            for imm in [0, 0x01, 0x20, 0x40, 0xa1, 0xe0, 0xe1, 0xf1, 0x100, 0x110, 0x120] {
                let insn = Insn { code, regs: 0x21, off: 0, imm };
                let text = disassemble(&insn, Some(&insn));
                let named = [0x0d, 0x8d].contains(&code);
                assert_eq!(
                    unknown(&insn).is_none() || named,
                    !text.contains("unknown"),
                    "{code:#x} {imm:#x} {text}"
                );
            }
        }
        assert_eq!([0xf7, 0x05, 0xfe, 0x00].map(class), ["ALU64", "JMP", "JMP32", "LD"]);
    }
}
