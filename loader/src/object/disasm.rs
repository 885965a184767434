// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! One instruction to its text, in the form llvm-objdump prints.

use super::insn::Insn;
use super::isa;

/// The text of an instruction; `next` is the one behind it, whose `imm` a 16-byte load needs.
///
/// Names of maps and functions are the caller's to add: here is only what the bytes say.
pub fn disassemble(insn: &Insn, next: Option<&Insn>) -> String {
    let text = match insn.code & CLASS {
        _ if insn.code == GOTOX => Some(format!("gotox r{}", insn.dst())),
        _ if insn.code != CALLX && isa::unknown(insn).is_some() => None,
        LD => load_constant(insn, next),
        LDX => load(insn),
        ST | STX => store(insn),
        JMP | JMP32 => jump(insn),
        _ => arithmetic(insn),
    };
    text.unwrap_or_else(|| {
        let [code, regs, rest @ ..] = insn.to_bytes();
        format!("<unknown {code:02x} {regs:02x} {rest:02x?}>")
    })
}

/// `+0x8`, `-0x8`: as offsets and distances are written.
pub fn signed(number: impl Into<i64>) -> String {
    let number = number.into();
    let sign = if number < 0 { '-' } else { '+' };
    format!("{sign}{:#x}", number.unsigned_abs())
}

/// As above without the plus: as a constant is written.
pub fn constant(number: impl Into<i64>) -> String {
    signed(number).trim_start_matches('+').to_owned()
}

/// `r2 + 0x8`, in brackets by the caller.
fn address(base: u8, off: i16) -> String {
    let sign = if off < 0 { '-' } else { '+' };
    format!("r{base} {sign} {:#x}", off.unsigned_abs())
}

fn load_constant(insn: &Insn, next: Option<&Insn>) -> Option<String> {
    let width = width(insn.code);
    match insn.code & MODE {
        _ if insn.is_ld_imm64() => {
            let value = i64::from(next?.imm) << 32 | i64::from(insn.imm as u32);
            Some(format!("r{} = {} ll", insn.dst(), constant(value)))
        }
        ABS => Some(format!("r0 = *(u{width} *)skb[{}]", constant(insn.imm))),
        IND => Some(format!("r0 = *(u{width} *)skb[r{}]", insn.src())),
        _ => None,
    }
}

fn load(insn: &Insn) -> Option<String> {
    let width = width(insn.code);
    let (letter, sign) = match insn.code & MODE {
        MEM => (register_letter(width), 'u'),
        MEMSX => ('r', 's'),
        _ => return None,
    };
    Some(format!("{letter}{} = *({sign}{width} *)({})", insn.dst(), address(insn.src(), insn.off)))
}

fn store(insn: &Insn) -> Option<String> {
    let width = width(insn.code);
    let place = address(insn.dst(), insn.off);
    match (insn.code & MODE, insn.code & CLASS) {
        (MEM, ST) => Some(format!("*(u{width} *)({place}) = {}", constant(insn.imm))),
        (MEM, STX) => Some(format!("*(u{width} *)({place}) = {}{}", register_letter(width), insn.src())),
        (ATOMIC, STX) => atomic(insn, width, &place),
        _ => None,
    }
}

/// `imm` says which operation; its lowest bit, whether the old value comes back.
fn atomic(insn: &Insn, width: u32, place: &str) -> Option<String> {
    let letter = register_letter(width);
    match insn.imm {
        LOAD_ACQUIRE => {
            let place = address(insn.src(), insn.off);
            return Some(format!("{letter}{} = load_acquire((u{width} *)({place}))", insn.dst()));
        }
        STORE_RELEASE => {
            return Some(format!("store_release((u{width} *)({place}), {letter}{})", insn.src()));
        }
        _ => {}
    }
    let suffix = if width == 64 { "64" } else { "32_32" };
    let register = format!("{letter}{}", insn.src());
    let (name, sign) = match insn.imm & !FETCH {
        0x00 => ("add", '+'),
        0x40 => ("or", '|'),
        0x50 => ("and", '&'),
        0xa0 => ("xor", '^'),
        0xe0 if insn.imm & FETCH != 0 => {
            let glue = if width == 64 { "_" } else { "" };
            return Some(format!("{register} = xchg{glue}{suffix}({place}, {register})"));
        }
        0xf0 if insn.imm & FETCH != 0 => {
            let glue = if width == 64 { "_" } else { "" };
            return Some(format!("{letter}0 = cmpxchg{glue}{suffix}({place}, {letter}0, {register})"));
        }
        _ => return None,
    };
    Some(if insn.imm & FETCH != 0 {
        format!("{register} = atomic_fetch_{name}((u{width} *)({place}), {register})")
    } else {
        format!("lock *(u{width} *)({place}) {sign}= {register}")
    })
}

fn jump(insn: &Insn) -> Option<String> {
    let wide = insn.code & CLASS == JMP;
    let letter = if wide { 'r' } else { 'w' };
    let operand =
        if insn.code & REGISTER != 0 { format!("{letter}{}", insn.src()) } else { constant(insn.imm) };
    let comparison = match insn.code & OPERATION {
        0x00 if wide => return Some(format!("goto {}", signed(insn.off))),
        0x00 => return Some(format!("gotol {}", signed(insn.imm))),
        0x80 if insn.code & REGISTER != 0 => return wide.then(|| format!("callx r{}", insn.dst())),
        0x80 => return wide.then(|| format!("call {}", constant(insn.imm))),
        0x90 => return wide.then(|| "exit".to_owned()),
        0xe0 => return wide.then(|| format!("may_goto {}", signed(insn.off))),
        0x10 => "==",
        0x20 => ">",
        0x30 => ">=",
        0x40 => "&",
        0x50 => "!=",
        0x60 => "s>",
        0x70 => "s>=",
        0xa0 => "<",
        0xb0 => "<=",
        0xc0 => "s<",
        0xd0 => "s<=",
        _ => return None,
    };
    Some(format!("if {letter}{} {comparison} {operand} goto {}", insn.dst(), signed(insn.off)))
}

fn arithmetic(insn: &Insn) -> Option<String> {
    let wide = insn.code & CLASS == ALU64;
    let letter = if wide { 'r' } else { 'w' };
    let dst = format!("{letter}{}", insn.dst());
    let operand =
        if insn.code & REGISTER != 0 { format!("{letter}{}", insn.src()) } else { constant(insn.imm) };
    // From ISA v4 on, a non-zero offset makes a division or a move a signed one.
    let operator = match (insn.code & OPERATION, insn.off) {
        (0x00, 0) => "+",
        (0x10, 0) => "-",
        (0x20, 0) => "*",
        (0x30, 0) => "/",
        (0x30, 1) => "s/",
        (0x40, 0) => "|",
        (0x50, 0) => "&",
        (0x60, 0) => "<<",
        (0x70, 0) => ">>",
        (0x80, 0) => return Some(format!("{dst} = -{dst}")),
        (0x90, 0) => "%",
        (0x90, 1) => "s%",
        (0xa0, 0) => "^",
        (0xb0, 0) => "",
        (0xb0, 8 | 16 | 32) => return Some(format!("{dst} = (s{}){operand}", insn.off)),
        (0xc0, 0) => "s>>",
        (0xd0, 0) => {
            let order = match (wide, insn.code & REGISTER != 0) {
                (true, _) => "bswap",
                (false, true) => "be",
                (false, false) => "le",
            };
            return Some(format!("r{0} = {order}{1} r{0}", insn.dst(), insn.imm));
        }
        _ => return None,
    };
    Some(format!("{dst} {operator}= {operand}"))
}

/// A 32-bit view of a register is called `w`.
fn register_letter(width: u32) -> char {
    if width == 64 {
        'r'
    } else {
        'w'
    }
}

/// Of a memory access, in bits.
fn width(code: u8) -> u32 {
    match code & SIZE {
        0x00 => 32,
        0x08 => 16,
        0x10 => 8,
        _ => 64,
    }
}

// Parts of `code` (include/uapi/linux/bpf_common.h).
const CLASS: u8 = 0x07;
const LD: u8 = 0;
const LDX: u8 = 1;
const ST: u8 = 2;
const STX: u8 = 3;
const JMP: u8 = 5;
const JMP32: u8 = 6;
const ALU64: u8 = 7;
const SIZE: u8 = 0x18;
const MODE: u8 = 0xe0;
const ABS: u8 = 0x20;
const IND: u8 = 0x40;
const MEM: u8 = 0x60;
const MEMSX: u8 = 0x80;
const ATOMIC: u8 = 0xc0;
const OPERATION: u8 = 0xf0;
const REGISTER: u8 = 0x08;
const FETCH: i32 = 1;
const LOAD_ACQUIRE: i32 = 0x100;
const STORE_RELEASE: i32 = 0x110;
const GOTOX: u8 = 0x0d;
const CALLX: u8 = 0x8d;

#[cfg(test)]
mod tests {
    use super::*;

    /// As llvm-objdump-19 --mcpu=v4 prints it.
    const LLVM: [(u64, u64, &str); 55] = [
        (0xb701000005000000, 0x0, "r1 = 0x5"),
        (0xb401000005000000, 0x0, "w1 = 0x5"),
        (0xb7010000fbffffff, 0x0, "r1 = -0x5"),
        (0x0f21000000000000, 0x0, "r1 += r2"),
        (0x1c21000000000000, 0x0, "w1 -= w2"),
        (0x2701000003000000, 0x0, "r1 *= 0x3"),
        (0x3f21000000000000, 0x0, "r1 /= r2"),
        (0x3f21010000000000, 0x0, "r1 s/= r2"),
        (0x9401010007000000, 0x0, "w1 s%= 0x7"),
        (0x4f21000000000000, 0x0, "r1 |= r2"),
        (0x57010000ffffff7f, 0x0, "r1 &= 0x7fffffff"),
        (0xaf21000000000000, 0x0, "r1 ^= r2"),
        (0x6701000003000000, 0x0, "r1 <<= 0x3"),
        (0x7f21000000000000, 0x0, "r1 >>= r2"),
        (0xc701000003000000, 0x0, "r1 s>>= 0x3"),
        (0x8701000000000000, 0x0, "r1 = -r1"),
        (0x8401000000000000, 0x0, "w1 = -w1"),
        (0xbf21080000000000, 0x0, "r1 = (s8)r2"),
        (0xbf21200000000000, 0x0, "r1 = (s32)r2"),
        (0xbc21100000000000, 0x0, "w1 = (s16)w2"),
        (0xdc01000010000000, 0x0, "r1 = be16 r1"),
        (0xd401000040000000, 0x0, "r1 = le64 r1"),
        (0xd701000020000000, 0x0, "r1 = bswap32 r1"),
        (0x7121050000000000, 0x0, "w1 = *(u8 *)(r2 + 0x5)"),
        (0x8921fbff00000000, 0x0, "r1 = *(s16 *)(r2 - 0x5)"),
        (0x7921000000000000, 0x0, "r1 = *(u64 *)(r2 + 0x0)"),
        (0x6321040000000000, 0x0, "*(u32 *)(r1 + 0x4) = w2"),
        (0x6a01040007000000, 0x0, "*(u16 *)(r1 + 0x4) = 0x7"),
        (0x7a01f8fff9ffffff, 0x0, "*(u64 *)(r1 - 0x8) = -0x7"),
        (0xdb21000000000000, 0x0, "lock *(u64 *)(r1 + 0x0) += r2"),
        (0xc321000040000000, 0x0, "lock *(u32 *)(r1 + 0x0) |= w2"),
        (0xdb21000001000000, 0x0, "r2 = atomic_fetch_add((u64 *)(r1 + 0x0), r2)"),
        (0xc3210800a1000000, 0x0, "w2 = atomic_fetch_xor((u32 *)(r1 + 0x8), w2)"),
        (0xdb210000e1000000, 0x0, "r2 = xchg_64(r1 + 0x0, r2)"),
        (0xc3210000e1000000, 0x0, "w2 = xchg32_32(r1 + 0x0, w2)"),
        (0xdb210000f1000000, 0x0, "r0 = cmpxchg_64(r1 + 0x0, r0, r2)"),
        (0xc3210000f1000000, 0x0, "w0 = cmpxchg32_32(r1 + 0x0, w0, w2)"),
        (0xd312000000010000, 0x0, "w2 = load_acquire((u8 *)(r1 + 0x0))"),
        (0xdb21080010010000, 0x0, "store_release((u64 *)(r1 + 0x8), r2)"),
        (0x0d01000000000000, 0x0, "gotox r1"),
        (0x0500010000000000, 0x0, "goto +0x1"),
        (0x0600000001000000, 0x0, "gotol +0x1"),
        (0x1d21010000000000, 0x0, "if r1 == r2 goto +0x1"),
        (0xc501ffff05000000, 0x0, "if r1 s< 0x5 goto -0x1"),
        (0x4601010008000000, 0x0, "if w1 & 0x8 goto +0x1"),
        (0x5e21010000000000, 0x0, "if w1 != w2 goto +0x1"),
        (0x75010100ffffffff, 0x0, "if r1 s>= -0x1 goto +0x1"),
        (0x18010000f0debc9a, 0x78563412, "r1 = 0x123456789abcdef0 ll"),
        (0x18010000ffffffff, 0xffffffff, "r1 = -0x1 ll"),
        (0x300000000c000000, 0x0, "r0 = *(u8 *)skb[0xc]"),
        (0x4820000000000000, 0x0, "r0 = *(u16 *)skb[r2]"),
        (0x8500000006000000, 0x0, "call 0x6"),
        (0x8d03000000000000, 0x0, "callx r3"),
        (0xe500010000000000, 0x0, "may_goto +0x1"),
        (0x9500000000000000, 0x0, "exit"),
    ];

    #[test]
    fn the_text_is_llvms() {
        for (first, second, text) in LLVM {
            let [insn, next] = [first, second].map(|bytes| Insn::from_bytes(bytes.to_be_bytes()));
            assert_eq!(disassemble(&insn, Some(&next)), text);
        }
    }

    #[test]
    fn any_bytes_have_a_text() {
        for code in 0..=255u8 {
            for imm in [0, -1, 0x40, 0xe1, i32::MIN] {
                assert!(!disassemble(&Insn { code, regs: 0xff, off: i16::MIN, imm }, None).is_empty());
            }
        }
    }
}
