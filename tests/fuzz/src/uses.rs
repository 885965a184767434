// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Bytes to everything that is ever done with them: what a damaged object or damaged types must survive.

use detour::load::{create::Creation, facts::Machine, plan, plan_json, transcript};
use detour::object::{Btf, Object, Variable};
use detour::ui::inspect;

/// An object: parsed, listed and planned if wanted, inspected, its variables set, its types read.
pub fn object(bytes: &[u8], listed: bool, planned: bool) {
    #[cfg(feature = "compat")]
    drop(detour::object::Foreign::parse(bytes));
    #[cfg(feature = "compat")]
    let parsed = Object::parse_legacy(bytes);
    #[cfg(not(feature = "compat"))]
    let parsed = Object::parse(bytes);
    let Ok(mut object) = parsed else { return };
    for program in &object.programs {
        program.tags();
        assert!(!listed || object.listing(program).len() <= program.insns.len());
        assert!(program.refs.iter().all(|r| r.insn + 1 < program.insns.len() && r.map < object.maps.len()));
        assert!(program.lines.windows(2).all(|pair| pair[0].insn < pair[1].insn));
    }
    if let Some(found) = &object.btf {
        let image = found.image();
        assert!(image.len() <= bytes.len() * 2 + 4096, "the types grew");
        types(found, 32);
    }
    if planned {
        plan_of(&object);
    }
    // Who sets a variable of .bss by name asks for as many zeros as the section claims to have, up to 2 GiB.
    let held = |v: &Variable| object.maps[v.map].value_size as usize <= bytes.len();
    let variables: Vec<Variable> = object.variables.iter().filter(|v| held(v)).cloned().collect();
    for variable in variables {
        let _ = object.set(&format!("{}=1", variable.name));
        let _ = object.set(&format!("{}=hex:00", variable.name));
    }
    #[cfg(feature = "compat")]
    if let Some(found) = &object.btf {
        let image = found.image();
        resolve(&mut object, &image);
    }
}

/// What is said of it, and a plan of all programs that can be loaded, as text and as JSON.
pub fn plan_of(object: &Object) {
    let sound = object.programs.iter().filter(|p| p.defect.is_none() && object.check_resolved(p).is_ok());
    let programs = sound.map(|program| program.name.clone()).collect();
    let creation = Creation { file: "it.o".into(), programs, ..Creation::default() };
    let machine = Machine { release: "6.18.0".into(), page_size: 4096, possible_cpus: 8, hz: 250 };
    let Ok(plan) = plan::dry_run(object, &creation, &machine) else { return };
    let text = transcript::plan(&plan, transcript::Detail { undo: true, bytes: false });
    assert!(text.lines().count() >= plan.steps.len());
    drop(plan_json::plan(&plan));
    drop(inspect::text("it.o", object));
}

/// Types: sizes, names, and values of the first so many.
pub fn types(btf: &Btf, values: usize) {
    btf.types().for_each(|found| drop((btf.size_of(found.id), btf.describe(found.id))));
    for found in btf.types().take(values) {
        let size = btf.size_of(found.id).unwrap_or(0).min(256);
        let value = detour::ui::value::value(btf, found.id, &[0x5a; 256][..size as usize]);
        drop((value.text(), value.json()));
    }
}

/// What an object leaves to a kernel, decided by types that may be damaged too.
#[cfg(feature = "compat")]
pub fn resolve(object: &mut Object, types: &[u8]) {
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
    let _ = core::relocate(object, std::slice::from_ref(&target));
    let _ = externs::fill(object, std::slice::from_ref(&target), &Default::default(), &config);
    for program in &object.programs {
        program.tags();
    }
}
