// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Every checked-in object, damaged in 2,000 ways: always an answer, never a panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use detour::object::Object;

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

/// Everything that reads what a parse gave.
fn use_it(bytes: &[u8]) {
    #[cfg(feature = "compat")]
    let parsed = Object::parse_legacy(bytes);
    #[cfg(not(feature = "compat"))]
    let parsed = Object::parse(bytes);
    let Ok(mut object) = parsed else { return };
    for program in &object.programs {
        program.tags();
        assert!(object.listing(program).len() <= program.insns.len());
        assert!(program.refs.iter().all(|r| r.insn + 1 < program.insns.len() && r.map < object.maps.len()));
        assert!(program.lines.windows(2).all(|pair| pair[0].insn < pair[1].insn));
    }
    if let Some(btf) = &object.btf {
        let image = btf.image();
        assert!(image.len() <= bytes.len() * 2 + 4096, "the types grew");
        btf.types().for_each(|t| drop((btf.size_of(t.id), btf.describe(t.id))));
    }
    for variable in object.variables.clone() {
        let _ = object.set(&format!("{}=1", variable.name));
        let _ = object.set(&format!("{}=hex:00", variable.name));
    }
    #[cfg(feature = "compat")]
    if let Some(btf) = &object.btf {
        let image = btf.image();
        resolve(&mut object, &image);
    }
}

/// What an object leaves to a kernel, decided by types that may be damaged too.
#[cfg(feature = "compat")]
fn resolve(object: &mut Object, types: &[u8]) {
    use detour::compat::{config::Config, core, externs, Source, Target};
    let mut wanted = core::wanted(object);
    wanted.extend(externs::wanted(object));
    if wanted.is_empty() && object.externs.is_empty() {
        return;
    }
    let bytes: &dyn Source = &types.to_vec();
    let Ok(target) = Target::read("types", bytes, &wanted) else { return };
    assert!(target.btf.image().len() <= types.len() * 2 + 4096, "more types than there are");
    let config = Config::read("CONFIG_HZ=250\nCONFIG_BPF=m\nCONFIG_CC_VERSION_TEXT=\"gcc\"\n", |_| true);
    let _ = core::relocate(object, &target);
    let _ = externs::fill(object, Some(&target), &Default::default(), &config);
    for program in &object.programs {
        program.tags();
    }
}

#[cfg(feature = "compat")]
#[test]
fn damaged_kernel_types_are_refused_or_read_but_never_panic() {
    for name in ["core", "kconfig", "ksyms"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../elf/fixtures/{name}.bpf.o"));
        let object = Object::parse(&std::fs::read(path).unwrap()).unwrap();
        let image = object.btf.as_ref().unwrap().image();
        let mut random = Random(0x2545_f491_4f6c_dd1d);
        for round in 0..1000 {
            let mutant = damage(&image, &mut random);
            let mut object = object.clone();
            let outcome = std::panic::catch_unwind(move || resolve(&mut object, &mutant));
            assert!(outcome.is_ok(), "{name} mutant {round}");
        }
    }
}

#[test]
fn damaged_objects_are_refused_or_read_but_never_panic() {
    let objects = objects();
    assert!(!objects.is_empty(), "no objects in elf/");
    for path in objects {
        let bytes = std::fs::read(&path).unwrap();
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        use_it(&bytes);
        for round in 0..2000 {
            let mutant = damage(&bytes, &mut random);
            let outcome = std::panic::catch_unwind(|| use_it(&mutant));
            assert!(outcome.is_ok(), "{} mutant {round}", path.display());
        }
    }
}

#[test]
fn objects_cut_anywhere_are_refused_or_read_but_never_panic() {
    for path in objects() {
        let bytes = std::fs::read(&path).unwrap();
        for length in (0..bytes.len()).step_by(bytes.len() / 500 + 1) {
            use_it(&bytes[..length]);
        }
    }
}
