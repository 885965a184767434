// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Kinds of types that an older kernel does not know: types without them take their place where the kernel says that the first
//! ones are invalid.
use ::detour::object::{Btf, Kind, Object, Type};
use detour_sys::{call, commands, Value};
use e2e::detour;
use e2e::netns::Netns;
use e2e::strace::{self, Fault};
use e2e::tools::project;

fn fixture(name: &str) -> String {
    project().join(format!("elf/fixtures/{name}.bpf.o")).to_str().unwrap().to_owned()
}

const NEWER: [Kind; 5] = [Kind::Float, Kind::DeclTag, Kind::TypeTag, Kind::Enum64, Kind::Unknown];

#[test]
fn types_of_linux_5_10_have_the_same_ids_and_sizes() {
    let object = Object::parse(&std::fs::read(fixture("kinds")).unwrap()).unwrap();
    let full = object.btf.unwrap();
    for kind in [Kind::Float, Kind::DeclTag, Kind::TypeTag, Kind::Enum64] {
        assert!(full.types().any(|t| t.kind == kind), "the fixture has no {kind:?}");
    }
    assert!(full.types().any(|t| t.kind == Kind::Enum && t.kind_flag()));
    let image = full.plain_image().unwrap();
    let plain = Btf::parse(&image).unwrap();
    let newer = |t: &Type<'_>| NEWER.contains(&t.kind) || t.kind == Kind::Enum && t.kind_flag();
    assert!(!plain.types().any(|t| newer(&t)));
    for found in full.types().filter(|t| t.kind != Kind::DeclTag) {
        assert_eq!(full.size_of(found.id), plain.size_of(found.id), "{}", full.describe(found.id));
    }
    assert_eq!(plain.types().count(), full.types().count() + 1, "the placeholder");
    assert!(plain.plain_image().is_none());
    call(&commands::BTF_LOAD, &[("btf", Value::Bytes(&image))]).map_err(|(error, _)| error).unwrap();
    // Constants without a name leave a section without variables, which Linux 5.10 refuses.
    let object = Object::parse(&std::fs::read(fixture("ksym_exists")).unwrap()).unwrap();
    let full = object.btf.unwrap();
    let empty = |t: &Type<'_>| t.kind == Kind::Datasec && t.placed().next().is_none();
    let section = full.types().find(empty).unwrap();
    let plain = Btf::parse(&full.plain_image().unwrap()).unwrap();
    assert_eq!(
        (plain.get(section.id).unwrap().kind, plain.size_of(section.id)),
        (Kind::Struct, Some(section.size()))
    );
    assert!(!plain.types().any(|t| empty(&t)));
    // Objects without such kinds have one set of types.
    let object = Object::parse(&std::fs::read(fixture("globals")).unwrap()).unwrap();
    assert!(object.btf.unwrap().plain_image().is_none());
}

#[test]
fn an_invalid_answer_makes_the_loader_offer_them() {
    let ns = Netns::new();
    let load = ["load", &fixture("kinds"), "--no-attach"];
    let loads = |fault: Option<&Fault>| {
        let (output, calls) = strace::trace(&ns, &detour::command(&load), "bpf", fault);
        (output, calls.iter().filter(|call| call.bpf() == Some(18)).count())
    };
    let (output, count) = loads(None);
    assert!(output.status.success() && count == 1);
    let (output, count) = loads(Some(&Fault::error("bpf", 1, "EINVAL")));
    assert!(output.status.success() && count == 2, "{output:?}");
    // Any other error is told, after one call more to hear why.
    let (output, count) = loads(Some(&Fault::error("bpf", 1, "EPERM")));
    assert!(!output.status.success() && count == 2, "{output:?}");
    let plan = detour::run(&ns, &["plan", "load", &fixture("kinds"), "--no-attach"]).done().stdout;
    assert!(plan.contains("if invalid, instead  BTF_LOAD"), "{plan}");
    let plan = detour::run(&ns, &["plan", "load", &fixture("globals"), "--no-attach"]).done().stdout;
    assert!(!plan.contains("instead"), "{plan}");
}
