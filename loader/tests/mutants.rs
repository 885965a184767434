// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Every checked-in object, damaged in 2,000 ways (500 by the core's own tests), and small ones in each byte: always an
//! answer, never a panic, never much memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

#[cfg(feature = "compat")]
use detour::object::Object;

#[path = "../../tests/fuzz/src/uses.rs"]
mod uses;

/// xorshift64*: the same damage in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let wide = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(wide).unwrap() % limit.max(1)
    }
}

fn objects() -> Vec<PathBuf> {
    let elf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../elf");
    let list = |dir: &Path| {
        std::fs::read_dir(dir).map(|d| d.map(|e| e.unwrap().path()).collect()).unwrap_or_default()
    };
    let mut all: Vec<PathBuf> = list(&elf);
    all.extend(list(&elf.join("fixtures")));
    all.retain(|path| path.extension().is_some_and(|e| e == "o"));
    // One object alone, by a part of its name: `DETOUR_MUTANTS_OF=dnat`.
    if let Ok(part) = std::env::var("DETOUR_MUTANTS_OF") {
        all.retain(|path| path.to_string_lossy().contains(&part));
    }
    all.sort();
    all
}

/// Cut short, one bit, one byte, a few bytes, one 32-bit word made extreme, or a piece copied elsewhere.
fn damage(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut mutant = bytes.to_vec();
    let length = mutant.len();
    match random.below(6) {
        0 => mutant.truncate(random.below(length)),
        1 => mutant[random.below(length)] ^= 1 << random.below(8),
        2 => mutant[random.below(length)] = u8::try_from(random.below(256)).unwrap(),
        3 => (0..=random.below(16)).for_each(|_| mutant[random.below(length)] ^= 1 << random.below(8)),
        4 => {
            let at = random.below(length / 4) * 4;
            let extreme = [0, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX, u32::try_from(length).unwrap()];
            mutant[at..at + 4].copy_from_slice(&extreme[random.below(extreme.len())].to_le_bytes());
        }
        _ => {
            let size = 1 + random.below(64.min(length - 1));
            let from = random.below(length - size);
            mutant.copy_within(from..from + size, random.below(length - size));
        }
    }
    mutant
}

/// Runs `what` on `bytes`: no panic, and never more than 64 times as many bytes allocated at a time, all together.
fn survives(who: &str, bytes: &[u8], what: impl FnOnce()) {
    let mut outcome = Ok(());
    let used = allocation_counter::measure(|| {
        outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(what));
    });
    assert!(outcome.is_ok(), "{who}");
    let most = 64 * bytes.len() as u64 + FLOOR;
    assert!(used.bytes_max <= most, "{who}: {} bytes for {}", used.bytes_max, bytes.len());
}

/// What even an empty input costs: tables of fixed size, error texts.
const FLOOR: u64 = 64 << 10;

/// Of each object; `scripts/fuzz` asks for more. The core reads them with the same code as the whole, and fewer of them.
fn rounds() -> usize {
    let most = if cfg!(feature = "compat") { 2000 } else { 500 };
    std::env::var("DETOUR_MUTANTS").map_or(most, |text| text.parse().expect("DETOUR_MUTANTS is a number"))
}

#[cfg(feature = "compat")]
#[test]
fn damaged_kernel_types_are_refused_or_read_but_never_panic() {
    for name in ["core", "kconfig", "ksyms"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../elf/fixtures/{name}.bpf.o"));
        let object = Object::parse(&std::fs::read(path).unwrap()).unwrap();
        let image = object.btf.as_ref().unwrap().image();
        let mut random = Random(0x2545_f491_4f6c_dd1d);
        for round in 0..rounds() / 2 {
            let mutant = damage(&image, &mut random);
            let mut object = object.clone();
            survives(&format!("{name} mutant {round}"), &image, || uses::resolve(&mut object, &mutant));
        }
    }
}

/// So many mutants come from one seed: which they are does not depend on how many processors share the work.
const FROM_ONE_SEED: usize = 250;

#[test]
fn damaged_objects_are_refused_or_read_but_never_panic() {
    let mut objects: Vec<_> =
        objects().into_iter().map(|path| (std::fs::read(&path).unwrap(), path)).collect();
    assert!(!objects.is_empty(), "no objects in elf/");
    objects.iter().for_each(|(bytes, _)| uses::object(bytes, true, true));
    objects.sort_by_key(|(bytes, _)| bytes.len());
    let seeds = rounds().div_ceil(FROM_ONE_SEED);
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let damage_some = || loop {
        let batch = next.fetch_add(1, Ordering::Relaxed);
        let Some((bytes, path)) = objects.get(batch / seeds) else { break };
        let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ (batch % seeds) as u64);
        for round in 0..FROM_ONE_SEED {
            let mutant = damage(bytes, &mut random);
            let who = format!("{} seed {} mutant {round}", path.display(), batch % seeds);
            // Writing down tens of thousands of instructions takes longer than all the rest.
            let listed = bytes.len() < 64 << 10 || round % 8 == 0;
            survives(&who, &mutant, || uses::object(&mutant, listed, round % 32 == 0));
        }
        if batch % seeds == 0 {
            println!("{}", path.display());
        }
        done.fetch_add(FROM_ONE_SEED, Ordering::Relaxed);
    };
    std::thread::scope(|scope| {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        (0..processors).for_each(|_| drop(scope.spawn(damage_some)));
    });
    let done = done.into_inner();
    println!("{done} damaged copies of {} objects", objects.len());
    assert!(done >= rounds() * objects.len());
}

/// The five smallest, with each byte changed: to nothing, to everything, by a bit.
#[test]
fn every_byte_of_small_objects_is_refused_or_read_but_never_panics() {
    let mut small: Vec<Vec<u8>> = objects().iter().map(|path| std::fs::read(path).unwrap()).collect();
    small.sort_by_key(Vec::len);
    small.truncate(5);
    let mut tried = 0;
    for (at, bytes) in small.iter().flat_map(|bytes| (0..bytes.len()).map(move |at| (at, bytes))) {
        for other in [0, 0xff, bytes[at] ^ 1] {
            let mut mutant = bytes.clone();
            mutant[at] = other;
            let who = format!("{other:#x} at {at} of {}", bytes.len());
            survives(&who, &mutant, || uses::object(&mutant, at % 8 == 0, at % 64 == 0));
            tried += 1;
        }
    }
    println!("{tried} objects with one other byte");
}

/// A section of zeros may claim 2 GiB of a map's value. Reading it costs nothing of that; only who sets a variable in it,
/// which the file alone cannot, pays for the value that goes to the kernel: once.
#[test]
fn a_large_bss_is_paid_for_by_who_sets_it() {
    use detour::object::Object;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../elf/fixtures/bss_own.bpf.o");
    let bytes = std::fs::read(path).unwrap();
    let mut parsed = None;
    survives("bss_own", &bytes, || parsed = Some(Object::parse(&bytes).unwrap()));
    let mut object = parsed.unwrap();
    let map = object.maps.iter().find(|m| m.name == ".bss").unwrap();
    assert_eq!((map.value_size, map.contents.as_ref()), (2 << 20, None));
    assert!(object.maps.iter().any(|m| m.name == ".bss.own" && m.value_size == 4));
    let used = allocation_counter::measure(|| object.set("huge[524287]=7").unwrap());
    assert!(((2 << 20)..(2 << 20) + FLOOR).contains(&used.bytes_max), "{}", used.bytes_max);
    let map = object.maps.iter().find(|m| m.name == ".bss").unwrap();
    assert!(map.contents.as_ref().unwrap().ends_with(&[0, 0, 0, 0, 7, 0, 0, 0]));
}

#[test]
fn objects_cut_anywhere_are_refused_or_read_but_never_panic() {
    for path in objects() {
        let bytes = std::fs::read(&path).unwrap();
        for (cut, length) in (0..bytes.len()).step_by(bytes.len() / 500 + 1).enumerate() {
            uses::object(&bytes[..length], true, cut % 8 == 0);
        }
    }
}
