// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Two processors open flows at once: in each family every flow has both its keys, no other flow has them, and who comes later to
//! one takes the other's.
use detour::dnat::abi::{Flow4, Flow6, Secret};
use detour::dnat::index::index;
use detour::dnat::running::entries;
use detour::dnat::wire::Shared;
use detour_sys::Map;
use e2e::bench::Bench;
use e2e::detour::up;
use e2e::family::Family;
use e2e::lab::Lab;
use e2e::packet::{Packet, ACK, SYN};
use e2e::race::{on_processor, race};
use e2e::testrun::{Program, Sums, UNSPEC};
use e2e::tools::Scratch;
use e2e::version::compile;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Half-open slots of a processor.
const RING: u32 = 16;
/// States: `FLOW_FREE`, `FLOW_OPENING`.
const FREE: u8 = 0;
const OPENING: u8 = 1;
/// Longer than any idle time.
const AGES: u32 = 1 << 30;

/// The tables of flows of one family.
struct Tables {
    family: Family,
    index: Map,
    slots: Map,
    secret: Map,
}

/// What a slot has: the keys as the index knows them, forward and reverse.
#[derive(Debug)]
struct Tenant {
    state: u8,
    keys: [Vec<u8>; 2],
    packets: u64,
}

impl Tables {
    fn of(bench: &Bench, family: Family) -> Tables {
        let [index, slots] = family.pick(["idx4", "slots4"], ["idx6", "slots6"]).map(|name| bench.map(name));
        Tables { family, index, slots, secret: bench.map("secret") }
    }

    fn tenant(&self, slot: u32) -> Tenant {
        let bytes = self.slots.lookup(&slot.to_ne_bytes()).unwrap().unwrap();
        let secret = Secret::read(&self.secret.lookup(&[0; 4]).unwrap().unwrap()).unwrap();
        let (state, keys, packets) = match self.family {
            Family::V4 => {
                let flow = Flow4::read(&bytes).unwrap();
                (flow.state, [flow.fwd.to_bytes(), flow.rev.to_bytes()], flow.packets[0])
            }
            Family::V6 => {
                let flow = Flow6::read(&bytes).unwrap();
                (flow.state, [flow.fwd.to_bytes(), flow.rev.to_bytes()], flow.packets[0])
            }
        };
        Tenant { state, keys: keys.map(|key| index(&key, &secret)), packets }
    }

    fn slot(&self, key: &[u8]) -> Option<u32> {
        self.index.lookup(key).unwrap().map(|slot| u32::from_ne_bytes(slot.try_into().unwrap()))
    }

    fn keys(&self) -> BTreeSet<Vec<u8>> {
        entries(&self.index).unwrap().into_iter().map(|(key, _)| key).collect()
    }

    /// Each flow has both its keys, no other flow has them, and what is in the index is some flow's. How many there are.
    #[track_caller]
    fn whole(&self, when: &str) -> usize {
        let mut keys = BTreeSet::new();
        for slot in 0..2 * RING {
            let flow = self.tenant(slot);
            if flow.state == OPENING {
                for key in flow.keys {
                    assert_eq!(self.slot(&key), Some(slot), "{when}: {key:02x?}");
                    keys.insert(key);
                }
            } else {
                assert_eq!(flow.state, FREE, "{when}: nobody is about to do anything");
            }
        }
        assert_eq!(self.keys(), keys, "{when}");
        keys.len() / 2
    }

    /// The flow in the slot has been silent for longer than any idle time.
    fn ages(&self, slot: u32) {
        let slot = slot.to_ne_bytes();
        let bytes = self.slots.lookup(&slot).unwrap().unwrap();
        let aged = match self.family {
            Family::V4 => {
                let flow = Flow4::read(&bytes).unwrap();
                Flow4 { last: flow.last.wrapping_sub(AGES), ..flow }.to_bytes()
            }
            Family::V6 => {
                let flow = Flow6::read(&bytes).unwrap();
                Flow6 { last: flow.last.wrapping_sub(AGES), ..flow }.to_bytes()
            }
        };
        self.slots.update(&slot, &aged, 0).unwrap();
    }
}

/// A gateway whose rings have [`RING`] slots for each processor in this family: IPv6 has a quarter.
fn bench(family: Family, options: &[&str]) -> Bench {
    let lab = Lab::new();
    let ring = family.pick(RING, 4 * RING).to_string();
    let common = ["--half-open", &ring, "--rule", "tcp dport 80 redirect to :8080"];
    up(&lab.gateway, &lab.device, &[&common, options].concat());
    Bench { lab }
}

/// Nobody, twice.
fn far(family: Family, n: usize) -> SocketAddr {
    let n = (n % 2) as u8;
    let four = Ipv4Addr::new(93, 184, 216, 34 + n);
    let six = Ipv6Addr::new(0x2001, 0xdb8, 0x5d, 0, 0, 0, 0, 34 + u16::from(n));
    SocketAddr::new(family.pick(IpAddr::from(four), IpAddr::from(six)), 80)
}

/// Two processors open flows, more than their rings have room for, each in an order of its own: what one is about to open or to
/// find the other one evicts, and now and then both open the same. Every second flow wants the tuple of another one.
#[test]
fn no_flow_loses_a_key_to_the_end_of_the_one_before_it() {
    Family::BOTH.into_iter().for_each(|family| storm(family, &[]));
}

/// For programs that stand still in places: up to some microseconds.
const LINGER: (&str, &str, &str) = (
    "frame.h",
    "#define TAGS_MAX 2",
    "__noinline int linger(void)\n{\n\t__u32 n = bpf_get_prandom_u32() & 255;\n\n\tfor (__u32 i = 0; i < 256 && i < n; i++)\n\t\t\
     bpf_get_prandom_u32();\n\treturn 0;\n}\n\n#define TAGS_MAX 2",
);

/// One processor opens flows in turns, each in the slot of the one before the last, while the other one has a segment of just that:
/// it is that flow's or nobody's, also where the slot's next tenant moves in while it is read.
#[test]
fn no_segment_goes_the_way_of_its_slots_next_flow() {
    const STEPS: usize = 60_000;
    const FLOWS: usize = RING as usize + 1;
    let edits = [
        LINGER,
        ("look.h", "\tfound->flow = f;\n", "\tlinger();\n\tfound->flow = f;\n"),
        ("look.h", "\t/* Between two tenants", "\tlinger();\n\t/* Between two tenants"),
    ];
    let scratch = Scratch::new();
    let object = compile(&scratch, "reads-slowly.bpf.o", &edits);
    for family in Family::BOTH {
        let bench = bench(family, &["--no-pickup", "--object", &object]);
        let ingress = bench.program("ingress");
        let client = |n: usize| SocketAddr::new(family.client(), 5000 + n as u16);
        let [first, more] = [SYN, ACK].map(|flags| {
            (0..FLOWS).map(|n| Packet::tcp(client(n), far(family, 0), flags).frame()).collect::<Vec<_>>()
        });
        let step = |side: usize, n: usize| {
            if side == 1 {
                ingress.run_here(&first[n % FLOWS], Sums::None).unwrap();
                return None;
            }
            let mine = (n + 1) % FLOWS;
            let frame = ingress.run_here(&more[mine], Sums::None).unwrap().frame;
            Some((client(mine), Packet::read(&frame).unwrap().ends()))
        };
        let (said, overlaps) = race(&bench.lab.gateway, STEPS, step);
        assert!(overlaps * 10 > STEPS, "{overlaps} steps overlapped: this shows little");
        let (mut own, mut passed) = (0, 0);
        for (client, (from, to)) in said[0].iter().flatten() {
            assert_eq!(from, client, "{family:?}: to {to}");
            match to.port() {
                8080 => own += 1,
                _ => passed += 1,
            }
        }
        assert!(own > 0 && passed > 0, "{own} translated, {passed} not: this shows little");
    }
}

/// The same with programs that stand still where one that ends a flow could be interrupted. A flow that others could open
/// anew before its keys are gone loses them there.
#[test]
fn nor_where_that_end_takes_its_time() {
    let edits = [
        LINGER,
        ("leave.h", "\tforget_reverseN(", "\tlinger();\n\tforget_reverseN("),
        ("leave.h", "\tforget_forwardN(", "\tlinger();\n\tforget_forwardN("),
        ("flow.h", "\tif (at && *at == slot)\n", "\tif (at && *at == slot && !linger())\n"),
    ];
    let scratch = Scratch::new();
    let object = compile(&scratch, "lingers.bpf.o", &edits);
    Family::BOTH.into_iter().for_each(|family| storm(family, &["--object", &object]));
}

fn storm(family: Family, options: &[&str]) {
    const STEPS: usize = 40_000;
    const EACH: usize = 20;
    const FLOWS: usize = 2 * RING as usize + 8;
    let bench = bench(family, options);
    let (tables, ingress) = (Tables::of(&bench, family), bench.program("ingress"));
    let client = |n: usize| SocketAddr::new(family.client(), 5000 + n as u16 / 2);
    let syn = |n: usize| Packet::tcp(client(n), far(family, n), SYN).frame();
    let frames: Vec<Vec<u8>> = (0..FLOWS).map(syn).collect();
    // A generator with a full period of 2^64 (Knuth), so that each order is the same each time.
    let orders = [1_u64, 2].map(|seed| {
        let next =
            |x: &u64| Some(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
        let order: Vec<usize> =
            std::iter::successors(Some(seed), next).map(|x| (x >> 33) as usize % FLOWS).take(STEPS).collect();
        order
    });
    let broken = AtomicUsize::new(0);
    let step = |side: usize, n: usize| {
        if n % EACH < EACH - 1 {
            return ingress.run_here(&frames[orders[side][n]], Sums::None).unwrap().verdict == UNSPEC;
        }
        // The other side waits meanwhile. A panic here would leave it waiting, so it is told.
        if side == 0 && catch_unwind(AssertUnwindSafe(|| tables.whole(&format!("step {n}")))).is_err() {
            broken.fetch_add(1, Ordering::Relaxed);
        }
        true
    };
    let (passed, overlaps) = race(&bench.lab.gateway, STEPS, step);
    let dropped = passed.iter().flatten().filter(|passed| !**passed).count();
    println!("{family:?}: {overlaps} of {STEPS} steps overlapped, {dropped} packets were dropped");
    assert!(overlaps * 10 > STEPS, "{overlaps} steps overlapped: this shows little");
    assert_eq!(broken.load(Ordering::Relaxed), 0, "keys were lost");
    // Whose next slot somebody else is about to empty, or whose own tuple is still leaving, has no room; hardly ever.
    assert!(dropped * 100 < STEPS, "{dropped} packets were dropped");
    assert!(tables.whole("at the end") > RING as usize);
}

/// The program itself does what another processor does in the meantime: before it enters a forward key it enters the one for the
/// slot before `late`, if that is not 0.
const LATE: [(&str, &str, &str); 2] = [
    (
        "open.h",
        "#define PORT_TRIES 16\n",
        "#define PORT_TRIES 16\n\nstruct {\n\t__uint(type, BPF_MAP_TYPE_ARRAY);\n\t__uint(max_entries, 1);\n\t\
         __type(key, __u32);\n\t__type(value, __u32);\n} late SEC(\".maps\");\n",
    ),
    (
        "open.h",
        "\tindex = index_atN(&w->packet.key, &room);\n",
        "\tindex = index_atN(&w->packet.key, &room);\n\tslot = 0;\n\tat = bpf_map_lookup_elem(&late, &slot);\n\t\
         if (at && *at) {\n\t\tslot = *at - 1;\n\t\tbpf_map_update_elem(&idxN, index, &slot, BPF_ANY);\n\t}\n",
    ),
];

/// A flow whose client has not got its own port, because another flow had it at the server: that one has gone since, so this port is
/// free. And the flow is in no index, as for who looked before it was.
struct Late<'a> {
    tables: Tables,
    ingress: Program<'a>,
    syn: Packet,
    /// What the packet becomes by this flow.
    by_it: Packet,
    /// Its place, and its keys.
    slot: u32,
    keys: [Vec<u8>; 2],
}

impl Late<'_> {
    fn of(bench: &Bench, family: Family) -> Late<'_> {
        let (tables, ingress) = (Tables::of(bench, family), bench.program("ingress"));
        let from = SocketAddr::new(family.client(), 4000);
        let run = |syn: &Packet| {
            let outcome = ingress.run_here(&syn.frame(), Sums::None).unwrap();
            assert_eq!(outcome.verdict, UNSPEC, "{syn}");
            Packet::read(&outcome.frame).unwrap()
        };
        let [first, syn] = [0, 1].map(|n| Packet::tcp(from, far(family, n), SYN));
        assert_eq!(run(&first).ends().0, from);
        let by_it = run(&syn);
        assert_ne!(by_it.ends().0, from, "the first one has it");
        // The ring's first two slots.
        let (first, slot) = (tables.tenant(0), 1);
        let keys = tables.tenant(slot).keys;
        for key in first.keys.iter().chain(&keys[..1]) {
            assert!(tables.index.delete(key).unwrap(), "{key:02x?}");
        }
        Late { tables, ingress, syn, by_it, slot, keys }
    }

    /// Its client's packet comes, while `slot` gets its forward key: what becomes of it.
    fn comes(&self, bench: &Bench, slot: u32) -> Packet {
        bench.map("late").update(&[0; 4], &(slot + 1).to_ne_bytes(), 0).unwrap();
        let outcome = self.ingress.run_here(&self.syn.frame(), Sums::None).unwrap();
        assert_eq!(outcome.verdict, UNSPEC, "{}", self.syn);
        Packet::read(&outcome.frame).unwrap()
    }
}

fn late(scene: impl Fn(&Bench, Late<'_>) + Sync) {
    let scratch = Scratch::new();
    let object = compile(&scratch, "late.bpf.o", &LATE);
    for family in Family::BOTH {
        let bench = bench(family, &["--object", &object]);
        bench.lab.gateway.within(|| {
            on_processor(0);
            scene(&bench, Late::of(&bench, family));
        });
    }
}

/// Two processors have chosen two ports for one flow, because the client's own got free between their looks: whose forward key
/// comes later takes the flow of the other one, and leaves nothing behind.
#[test]
fn who_comes_later_to_a_forward_key_takes_the_others_flow() {
    late(|bench, one| {
        let tables = &one.tables;
        assert_eq!(one.comes(bench, one.slot), one.by_it);
        assert_eq!(one.keys.each_ref().map(|key| tables.slot(key)), [Some(one.slot); 2]);
        assert_eq!(tables.keys(), BTreeSet::from(one.keys.clone()), "nothing of its own is left");
        assert_eq!(tables.tenant(2).state, FREE);
        assert_eq!(tables.tenant(one.slot).packets, 2, "it counts where the winner went");
    });
}

/// A forward key that is left over is nobody's: of a flow that has been silent too long, which then leaves with both keys, or of
/// one whose slot is another's by now.
#[test]
fn who_comes_later_to_what_is_over_has_its_own_flow() {
    late(|bench, one| {
        let tables = &one.tables;
        tables.ages(one.slot);
        let opened = one.comes(bench, one.slot);
        assert_eq!(opened.ends().0, one.syn.ends().0, "the client's own port, which is free");
        let keys = tables.tenant(2).keys;
        assert_eq!(tables.keys(), BTreeSet::from(keys.clone()));
        assert_eq!((tables.slot(&one.keys[0]), tables.slot(&keys[1])), (Some(2), Some(2)));
        assert_eq!((tables.tenant(one.slot).state, tables.tenant(2).packets), (FREE, 1));
    });
    late(|bench, one| {
        let tables = &one.tables;
        // The first flow's slot, which has other keys.
        let opened = one.comes(bench, 0);
        assert_eq!(opened.ends().0, one.syn.ends().0);
        let keys = tables.tenant(2).keys;
        assert_eq!(keys.each_ref().map(|key| tables.slot(key)), [Some(2); 2]);
        assert_eq!(tables.slot(&one.keys[1]), Some(one.slot), "whose answers may still come");
    });
}
