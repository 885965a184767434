// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What a kernel may be able to do -> plans that try it: a map of each type, a program for each helper, a filter on a device.
//!
//! Nothing that a probe makes outlives it: nothing is pinned, and what is attached goes with a namespace made for it.
use crate::load::facts::Machine;
use crate::load::plan::Plan;
use crate::load::step::{Arg, Blob, Bpf, Effect, Hole, Step};
use crate::load::tc::{Place, Tc, INGRESS};
use crate::load::tcx::{self, Anchor};
use detour_sys::commands;

/// One thing to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What it is called in front of people.
    pub name: &'static str,
    /// What uses it; empty for what detour does without.
    pub needed_by: &'static str,
    /// The Linux version that brought it, or the option that it hangs on.
    pub since: &'static str,
    /// Its calls.
    pub plan: Plan,
}

impl Probe {
    /// The same as `up` would do it on this machine: what runs already may have used up the memory that may be locked.
    pub fn on(mut self, machine: &Machine) -> Probe {
        if machine.charges_memlock() {
            self.plan.steps.insert(0, Effect::Memlock.into());
        }
        self
    }
}

/// What can be tried without a device.
pub fn kernel() -> Vec<Probe> {
    let probe = |name, needed_by, since, steps| Probe {
        name,
        needed_by,
        since,
        plan: Plan { steps, notes: Vec::new() },
    };
    vec![
        probe("types (BTF)", "up", "Linux 4.18", vec![types()]),
        probe("map hash", "up", "Linux 3.19", vec![map(1, 4, 4, 1, None)]),
        probe("map array", "up", "Linux 3.19", vec![map(2, 4, 4, 1, None)]),
        probe("map percpu_array", "up", "Linux 4.6", vec![map(6, 4, 4, 1, None)]),
        probe("map array_of_maps", "up", "Linux 4.12", nested()),
        probe("map ringbuf", "up, events", "Linux 5.8", vec![map(27, 0, 0, 4096, None)]),
        probe("program sched_cls", "up, load", "CONFIG_NET_CLS_BPF", vec![program(&RETURN)]),
        probe("helper jiffies64", "up", "Linux 5.6", vec![program(&JIFFIES)]),
        probe("helper skc_lookup_tcp", "up", "Linux 5.2", vec![program(&lookup(99))]),
        probe("helper sk_lookup_udp", "up", "Linux 4.20", vec![program(&lookup(85))]),
    ]
}

/// A program with a signature that is none: who checks signatures refuses it as such. Names nothing but the kernel's own keys.
pub fn signature() -> Probe {
    let mut args = program_args(&RETURN);
    args.extend([("signature", Arg::Bytes(vec![0].into())), ("keyring_id", Arg::Num(0))]);
    // Nobody has a word to say about it: the answer is the error.
    let step = Step::from(Bpf::new(&commands::PROG_LOAD, args).gives("%probe"));
    let plan = Plan { steps: vec![step], notes: Vec::new() };
    Probe { name: "signatures by the kernel", needed_by: "", since: "Linux 6.18", plan }
}

/// What is tried on `lo` of a namespace that vanishes with the one who made it.
pub fn hooks() -> Vec<Probe> {
    let place = Place::new(LO, INGRESS, 1, 1);
    let filter = Tc::FilterAdd { place, program: "%probe".into(), name: "probe".into() };
    let netlink = |tc: Tc| Step::from(Effect::Netlink(tc.message()));
    let clsact =
        vec![program(&RETURN), netlink(Tc::ClsactAdd { ifindex: LO, marked: false }), netlink(filter)];
    let [link, _] = tcx::attach(LO, tcx::INGRESS, &Anchor::default(), "probe", "");
    let plan = |steps| Plan { steps, notes: Vec::new() };
    vec![
        Probe {
            name: "hook clsact",
            needed_by: "up, load",
            since: "CONFIG_NET_SCH_INGRESS, CONFIG_NET_CLS_BPF",
            plan: plan(clsact),
        },
        Probe {
            name: "hook tcx",
            needed_by: "",
            since: "Linux 6.6",
            plan: plan(vec![program(&RETURN), link]),
        },
    ]
}

/// The loopback device of every namespace.
const LO: u32 = 1;

fn map(kind: u64, key: u64, value: u64, entries: u64, inner: Option<&str>) -> Step {
    let number = |name, number| (name, Arg::Num(number));
    let mut args = vec![number("map_type", kind), number("key_size", key), number("value_size", value)];
    args.push(number("max_entries", entries));
    args.extend(inner.map(|inner| ("inner_map_fd", Arg::Fd(inner.to_string()))));
    let symbol = if inner.is_some() { "%outer" } else { "%inner" };
    Bpf::new(&commands::MAP_CREATE, args).gives(symbol).into()
}

/// A map that leads to another, and the element that does.
fn nested() -> Vec<Step> {
    let hole = vec![Hole { at: 0, symbol: "%inner".to_string() }];
    let slot = Blob { bytes: vec![0; 4], holes: hole, part: None };
    vec![map(2, 4, 4, 1, None), map(12, 4, 4, 1, Some("%inner")), Step::update("%outer", vec![0; 4], slot)]
}

/// `struct btf_header`, one `int`, its name.
fn types() -> Step {
    const HEADER: [u32; 6] = [0x0001_eb9f, 24, 0, 16, 16, 5];
    const INT: [u32; 4] = [1, 0x0100_0000, 4, 32];
    let mut bytes: Vec<u8> = HEADER.iter().chain(&INT).flat_map(|word| word.to_ne_bytes()).collect();
    bytes.extend(b"\0int\0");
    Bpf::new(&commands::BTF_LOAD, vec![("btf", Arg::Bytes(bytes.into()))]).gives("%btf").into()
}

/// Opcode, registers (source << 4 | destination), offset, immediate: `struct bpf_insn`.
type Insn = (u8, u8, i16, i32);

const EXIT: Insn = (0x95, 0, 0, 0);
/// r0 = 0
const ZERO: Insn = (0xb7, 0, 0, 0);
const RETURN: [Insn; 2] = [ZERO, EXIT];
const JIFFIES: [Insn; 3] = [(0x85, 0, 0, 118), ZERO, EXIT];

/// Looks for a socket of the all-zero 4-tuple, and gives back what is found: the verifier insists.
fn lookup(helper: i32) -> [Insn; 13] {
    [
        (0x7a, 0x0a, -16, 0), // *(u64 *)(r10 - 16) = 0
        (0x7a, 0x0a, -8, 0),  // *(u64 *)(r10 - 8) = 0
        (0xbf, 0xa2, 0, 0),   // r2 = r10
        (0x07, 0x02, 0, -16), // r2 += -16
        (0xb7, 0x03, 0, 12),  // r3 = 12, the size of a 4-tuple
        (0xb7, 0x04, 0, -1),  // r4 = BPF_F_CURRENT_NETNS
        (0xb7, 0x05, 0, 0),   // r5 = 0
        (0x85, 0x00, 0, helper),
        (0x15, 0x00, 2, 0),  // if r0 == 0 goto out
        (0xbf, 0x01, 0, 0),  // r1 = r0
        (0x85, 0x00, 0, 86), // sk_release
        ZERO,                // out:
        EXIT,
    ]
}

fn program(insns: &[Insn]) -> Step {
    Step::prog_load(Bpf::new(&commands::PROG_LOAD, program_args(insns)).gives("%probe"))
}

fn program_args(insns: &[Insn]) -> Vec<(&'static str, Arg)> {
    let insn = |&(code, registers, off, imm): &Insn| {
        [&[code, registers][..], &off.to_ne_bytes(), &imm.to_ne_bytes()].concat()
    };
    vec![
        ("prog_type", Arg::Num(3)),
        ("insns", Arg::Bytes(insns.iter().flat_map(insn).collect::<Vec<u8>>().into())),
        ("license", Arg::Text("GPL".to_string())),
    ]
}
