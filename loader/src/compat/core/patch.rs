// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A constant into the instruction that is to hold it.

use super::value::{Answer, Sort, Width};
use crate::object::Insn;

/// What an instruction holds and what it shall hold; nothing, if it must not run.
#[derive(Clone, Debug)]
pub struct Change {
    pub old: Answer,
    pub new: Option<Answer>,
}

/// Changes one instruction. `Some` says why it was poisoned instead.
pub fn apply(
    insns: &mut [Insn],
    index: usize,
    change: &Change,
) -> Result<Option<&'static str>, &'static str> {
    let second = insns.get(index.saturating_add(1)).copied();
    let insn = *insns.get(index).ok_or("is about no instruction")?;
    let Some(new) = &change.new else {
        poison(insns, index, insn);
        return Ok(Some("does not exist in"));
    };
    let expected =
        |holds: u64| if change.old.exact && holds != change.old.value { Err(UNEXPECTED) } else { Ok(()) };
    let changed = match insn.code & CLASS {
        ALU | ALU64 if insn.code & SOURCE_X == 0 => {
            if change.old.exact && insn.imm != change.old.value as i32 {
                return Err(UNEXPECTED);
            }
            Insn { imm: new.value as i32, ..insn }
        }
        LDX | ST | STX => {
            expected(u64::try_from(insn.off).map_err(|_| UNEXPECTED)?)?;
            let off = i16::try_from(new.value).map_err(|_| "the field lies beyond 32 KiB")?;
            match resized(insn, change.old.access, new.access)? {
                Ok(code) => Insn { code, off, ..insn },
                Err(why) => {
                    poison(insns, index, insn);
                    return Ok(Some(why));
                }
            }
        }
        LD if insn.is_ld_imm64() && insn.src() == 0 => {
            let high = second.filter(|s| s.code == 0).ok_or("the load has no second half")?;
            let holds = u64::from(high.imm as u32) << 32 | u64::from(insn.imm as u32);
            // libbpf and the kernel refuse the large ones of an unsigned enum; the Go library reads them as C does.
            let value = if holds == change.old.unsigned && holds != change.old.value {
                new.unsigned
            } else {
                expected(holds)?;
                new.value
            };
            replace(insns, index.saturating_add(1), Insn { imm: (value >> 32) as i32, ..high });
            Insn { imm: value as i32, ..insn }
        }
        _ => return Err("is about an instruction that holds no constant"),
    };
    replace(insns, index, changed);
    Ok(None)
}

/// The instruction's code with the new width; or why another width would change the value's meaning.
fn resized(
    insn: Insn,
    old: Option<Width>,
    new: Option<Width>,
) -> Result<Result<u8, &'static str>, &'static str> {
    let (old, new) = match (old, new) {
        (Some(old), Some(new)) => (old, new),
        // What reads the bits of a bit-field would read some of a number, or the other way round.
        (Some(_), None) | (None, Some(_)) => return Ok(Err("is a bit-field either in the object or in")),
        (None, None) => return Ok(Ok(insn.code)),
    };
    if old.bytes == new.bytes {
        return Ok(Ok(insn.code));
    }
    if old.sort != new.sort || old.sort == Sort::Other {
        return Ok(Err("has another size, and not as an unsigned integer or a pointer, in"));
    }
    let held = WIDTHS.iter().find(|(code, _)| *code == insn.code & WIDTH).map(|(_, bytes)| *bytes);
    if held != Some(old.bytes) {
        return Err(UNEXPECTED);
    }
    let code = WIDTHS.iter().find(|(_, bytes)| *bytes == new.bytes).map(|(code, _)| *code);
    Ok(Ok(insn.code & !WIDTH | code.ok_or("the field has no size that one instruction can read")?))
}

/// An instruction that no verifier lets run: the call of a helper that does not exist, as libbpf and the kernel write it.
pub fn poison(insns: &mut [Insn], index: usize, insn: Insn) {
    let count = if insn.is_ld_imm64() { 2 } else { 1 };
    for place in insns.iter_mut().skip(index).take(count) {
        *place = Insn { code: crate::object::CALL, regs: 0, off: 0, imm: POISON };
    }
}

/// Puts an instruction where one is.
pub fn replace(insns: &mut [Insn], index: usize, insn: Insn) {
    if let Some(place) = insns.get_mut(index) {
        *place = insn;
    }
}

/// "Bad relo", `bpf_core_poison_insn()`.
pub const POISON: i32 = 0x0bad_2310;
const UNEXPECTED: &str = "the instruction does not hold what the object's own types say";
const CLASS: u8 = 7;
const LD: u8 = 0;
const LDX: u8 = 1;
const ST: u8 = 2;
const STX: u8 = 3;
const ALU: u8 = 4;
const ALU64: u8 = 7;
const SOURCE_X: u8 = 8;
const WIDTH: u8 = 0x18;
const WIDTHS: [(u8, u32); 4] = [(0x00, 4), (0x08, 2), (0x10, 1), (0x18, 8)];
