// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Steps that load programs to the instructions that somebody signs, and to the same steps with signatures for the kernel.
//!
//! A signature is PKCS#7 in DER over a program's instructions as BPF_PROG_LOAD is given them, without signed attributes or
//! with (`bpf_prog_verify_signature()` in kernel/bpf/syscall.c, Linux 6.18). It covers neither maps nor what is in them, nor
//! where the program is attached.
use crate::load::refusal::{Refusal, Stage};
use crate::load::step::{Arg, Bpf, Effect, Step};
use detour_sys::commands;
use nix::errno::Errno;

/// Keyrings by name: those of the kernel (`VERIFY_USE_…` in include/linux/verification.h), then those of whoever loads
/// (KEY_SPEC_…_KEYRING in include/uapi/linux/keyctl.h).
pub const KEYRINGS: [(&str, i32); 8] = [
    ("builtin", 0),
    ("secondary", 1),
    ("platform", 2),
    ("thread", -1),
    ("process", -2),
    ("session", -3),
    ("user", -4),
    ("user-session", -5),
];

/// A keyring by its name, or by its serial number.
pub fn keyring(text: &str) -> Option<i32> {
    let named = KEYRINGS.iter().find(|(name, _)| *name == text).map(|(_, number)| *number);
    named.or_else(|| text.parse().ok().filter(|serial| *serial > 2))
}

/// The programs that the steps load, each with its instructions as the kernel gets them.
pub fn programs(steps: &[Step]) -> Result<Vec<(&str, &[u8])>, Refusal> {
    steps.iter().filter_map(prog_load).map(instructions).collect()
}

/// Gives the kernel a signature of each program that the steps load, to be checked with the keys of this keyring.
pub fn sign(
    steps: &mut [Step],
    keyring: i32,
    mut signature: impl FnMut(&str) -> Result<Vec<u8>, Refusal>,
) -> Result<(), Refusal> {
    // What cannot be signed is said before whose signature is missing.
    programs(steps)?;
    for step in steps {
        let Effect::Bpf(call) = &mut step.effect else { continue };
        if call.command != &commands::PROG_LOAD {
            continue;
        }
        let signature = signature(instructions(call)?.0)?;
        let keyring = u32::from_ne_bytes(keyring.to_ne_bytes());
        let more = [("signature", Arg::Bytes(signature.into())), ("keyring_id", Arg::Num(keyring.into()))];
        call.args.extend(more);
    }
    Ok(())
}

fn prog_load(step: &Step) -> Option<&Bpf> {
    match &step.effect {
        Effect::Bpf(call) if call.command == &commands::PROG_LOAD => Some(call),
        _ => None,
    }
}

/// The program of a BPF_PROG_LOAD and its instructions, if they are the same in each run.
fn instructions(call: &Bpf) -> Result<(&str, &[u8]), Refusal> {
    let Some(Arg::Bytes(insns)) = call.arg("insns") else { return Ok(("", &[])) };
    let part = insns.part.as_deref().unwrap_or_default();
    let name = part.rsplit_once("/insns/").map_or(part, |(_, name)| name);
    match insns.holes.is_empty() {
        true => Ok((name, &insns.bytes)),
        false => {
            let what =
                format!("{} names maps by descriptors, which differ from run to run", name.escape_debug());
            Err(Refusal::new(Stage::Usage, what, "--fd-array names them by numbers"))
        }
    }
}

/// Why the kernel does not take a program with a signature, where it is for that.
pub fn hint(errno: Errno) -> Option<&'static str> {
    Some(match errno {
        Errno::E2BIG => "this kernel checks no signatures of programs (Linux 6.18 does), or the program is too long for it",
        Errno::EOPNOTSUPP => "this kernel was built without checking signatures (CONFIG_SYSTEM_DATA_VERIFICATION)",
        Errno::EINVAL => "there is no such keyring, if it is not the program itself that the kernel minds",
        Errno::ENOKEY => "no key of this keyring made the signature; --keyring names another",
        Errno::EKEYREJECTED => {
            "the signature is of other instructions, or its key may not sign: sign what 'plan load --insns DIR' writes here"
        }
        Errno::EBADMSG | Errno::ENOPKG => "the signature is not PKCS#7 in DER that this kernel can read",
        _ => return None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::load::step::{Blob, Hole};

    fn load(holes: Vec<Hole>) -> Step {
        let insns = Blob { bytes: vec![0x95; 8], holes, part: Some("a/insns/b.o/insns/f".into()) };
        let args = vec![("prog_type", Arg::Num(3)), ("insns", Arg::Bytes(insns))];
        Bpf::new(&commands::PROG_LOAD, args).into()
    }

    #[test]
    fn each_program_gets_its_own_signature_and_the_keyring() {
        let other = || Step::from(Bpf::new(&commands::MAP_FREEZE, Vec::new()));
        let mut steps = vec![other(), load(Vec::new()), other()];
        assert_eq!(programs(&steps).unwrap(), [("f", &[0x95; 8][..])]);
        sign(&mut steps, -3, |name| Ok(name.as_bytes().to_vec())).unwrap();
        let Effect::Bpf(call) = &steps[1].effect else { panic!("{steps:?}") };
        // In the table's order, as every call that is made at once.
        assert_eq!(call.args, Bpf::new(&commands::PROG_LOAD, call.args.clone()).args);
        assert_eq!(call.arg("signature"), Some(&Arg::Bytes(vec![b'f'].into())));
        assert_eq!(call.arg("keyring_id"), Some(&Arg::Num(0xffff_fffd)));
        assert_eq!([&steps[0], &steps[2]], [&other(), &other()]);
    }

    #[test]
    fn what_differs_from_run_to_run_cannot_be_signed() {
        let mut steps = vec![load(vec![Hole { at: 4, symbol: "%m".into() }])];
        assert!(programs(&steps).unwrap_err().hint.contains("--fd-array"));
        assert!(sign(&mut steps, 0, |_| Ok(Vec::new())).is_err());
    }

    #[test]
    fn a_keyring_has_a_name_or_a_serial_number() {
        let numbers = ["builtin", "secondary", "platform", "session", "42"].map(keyring);
        assert_eq!(numbers, [Some(0), Some(1), Some(2), Some(-3), Some(42)]);
        assert_eq!(["", "none", "-3", "0", "2", "99999999999"].map(keyring), [None; 6]);
    }
}
