// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Every operation code: what this kernel's own list has, the loader knows; the rest it refuses, with the place.
use detour::object::isa::unknown;
use detour::object::Insn;
use detour_sys::{commands, Value};
use e2e::detour::{self as program, code};
use e2e::netns::Netns;
use e2e::tools::{self, Scratch};

const EXIT: [u8; 8] = [0x95, 0, 0, 0, 0, 0, 0, 0];

/// What the verifier says of a program of this instruction and an exit.
fn verifier(insn: [u8; 8]) -> String {
    let bytes = [insn, EXIT].concat();
    let fields = [
        ("prog_type", Value::Num(3)),
        ("insns", Value::Bytes(&bytes)),
        ("license", Value::Text("GPL")),
        ("log_level", Value::Num(1)),
        ("log_buf", Value::Room(4096)),
    ];
    let answer = detour_sys::call(&commands::PROG_LOAD, &fields).unwrap_or_else(|(_, answer)| answer);
    let log = answer.room("log_buf");
    String::from_utf8_lossy(log.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

/// Where the section of code begins that holds this byte of the file.
fn section_of(file: &[u8], at: usize) -> usize {
    let number = |from: usize, width: usize| {
        file[from..from + width].iter().rev().fold(0, |all, byte| all << 8 | usize::from(*byte))
    };
    // e_shoff, e_shnum; sh_offset, sh_size.
    let (headers, count) = (number(0x28, 8), number(0x3c, 2));
    let sections = (0..count).map(|n| headers + n * 64).map(|h| (number(h + 24, 8), number(h + 32, 8)));
    sections
        .filter(|(start, size)| (*start..start + size).contains(&at))
        .map(|(start, _)| start)
        .next()
        .unwrap()
}

#[test]
fn the_kernel_knows_no_operation_that_is_refused() {
    let ns = Netns::new();
    let known: Vec<u8> = ns.within(|| {
        let is_known = |code: &u8| {
            let said = verifier([*code, 0, 0, 0, 0, 0, 0, 0]);
            assert!(!said.is_empty(), "{code:#x}");
            !said.contains("unknown opcode") && !said.contains("uses reserved fields")
        };
        (0..=255u8).filter(is_known).collect()
    });
    assert!(known.len() > 80, "{known:x?}");
    // Jumps through tables (Linux 6.19) are the one that is left out on purpose. An atomic operation is told by its `imm`.
    let refused: Vec<u8> = known
        .into_iter()
        .filter(|code| *code != 0x0d)
        .filter(|code| {
            [0, 0x100].iter().all(|imm| unknown(&Insn { code: *code, regs: 0, off: 0, imm: *imm }).is_some())
        })
        .collect();
    assert_eq!(refused, [0u8; 0]);
}

/// The first exit of a good object of each instruction set becomes something that none of them has.
#[test]
fn what_no_instruction_set_has_is_refused_by_its_place() {
    let (ns, scratch) = (Netns::new(), Scratch::new());
    for set in ["variants_v1", "variants_v2", "variants", "variants_v4"] {
        let good = std::fs::read(tools::project().join(format!("elf/fixtures/{set}.bpf.o"))).unwrap();
        let at = (0..good.len()).step_by(8).find(|at| good[*at..].starts_with(&EXIT)).unwrap();
        for (wrong, words) in [
            (0xe7, "instruction 0xe7 of class ALU64: this operation is unknown"),
            (0xfe, "instruction 0xfe of class JMP32: this operation is unknown"),
            (0x38, "instruction 0x38 of class LD: this operation is unknown"),
            (0x8d, "callx"),
            (0x0d, "gotox"),
        ] {
            let mut bad = good.clone();
            bad[at] = wrong;
            let file = scratch.write("bad.o", &bad);
            let offset = format!("offset {:#x}", at - section_of(&good, at));
            let run = program::run(&ns, &["load", &file, "--no-attach"]);
            run.refused(code::OBJECT, &[words, "section ", &offset]);
            assert!(
                verifier(bad[at..at + 8].try_into().unwrap()).contains("opcode") || wrong == 0x8d,
                "{wrong:#x}"
            );
        }
    }
}
