// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Plans as values: pure, complete as JSON, undone in reverse. No kernel is asked.
#![allow(clippy::unwrap_used)]
use detour::dnat::control::control;
use detour::dnat::embedded;
use detour::dnat::options::Options;
use detour::dnat::parse::{parse, Source};
use detour::load::create::{self, Creation};
use detour::load::facts::Facts;
use detour::load::plan::{self, Attach, Config, Plan};
use detour::load::refusal::Stage;
use detour::load::step::{Effect, Step};
use detour::load::tc::{BpfFilter, Filter, Place, EGRESS, INGRESS};
use detour::load::tcx::Anchor;
use detour::load::{facts_json, plan_json};
use detour::object::Object;

fn facts() -> Facts {
    let text = include_str!("../../tests/golden/eth0.facts.json");
    facts_json::read(&serde_json::from_str(text).unwrap()).unwrap()
}

fn place(parent: u32) -> Place {
    Place::new(2, parent, 100, 0xd370)
}

/// The plan of `up` on this machine, and its object.
fn up(facts: &Facts) -> (Object, Plan) {
    let rules = parse(&[Source { name: "test", text: b"tcp dport 80 redirect to :8080\nredirect" }]).unwrap();
    let control = control(&Options::default(), &rules, facts).unwrap();
    let mut object = Object::parse(embedded::object("dnat").unwrap()).unwrap();
    control.settings.iter().for_each(|setting| object.set(setting).unwrap());
    let programs = vec!["detour_in".to_string(), "detour_out".to_string()];
    let creation = Creation {
        file: "dnat.bpf.o".to_string(),
        programs,
        sizes: control.sizes,
        writes: control.writes,
        ..Creation::default()
    };
    let attach = |program: &str, parent| Attach {
        program: program.to_string(),
        place: place(parent),
        anchor: Anchor::default(),
    };
    let attach = vec![attach("detour_out", EGRESS), attach("detour_in", INGRESS)];
    let plan = plan::load(
        &object,
        &Config {
            creation,
            attach,
            name: "up".to_string(),
            mount: false,
            unpinned: false,
            replace: false,
            beside: None,
        },
        facts,
    )
    .unwrap();
    (object, plan)
}

#[test]
fn a_plan_comes_back_from_json_as_it_went() {
    let (object, plan) = up(&facts());
    let json = serde_json::to_string(&plan_json::plan(&plan)).unwrap();
    assert!(!json.contains("\"insns\":{\"bytes"), "instructions are named, not carried");
    let part = |name: &str| create::part(&object, name.strip_prefix("dnat.bpf.o/")?);
    let back = plan_json::read_plan(&serde_json::from_str(&json).unwrap(), &part);
    assert_eq!(back, Some(plan.clone()));
    // Without the object, or with another one, it is no plan.
    assert_eq!(plan_json::read_plan(&plan_json::plan(&plan), &|_| None), None);
    assert_eq!(plan_json::read_plan(&plan_json::plan(&plan), &|_| Some(vec![0; 8])), None);
}

#[test]
fn facts_come_back_from_json_as_they_went() {
    let mut facts = facts();
    let bpf = BpfFilter { name: None, id: Some(7), tag: Some([1; 8]), direct_action: true, flags_gen: 8 };
    let place = Place { chain: 5, protocol: 0x86dd, ..place(INGRESS) };
    let filter = Filter { place, kind: "bpf".into(), bpf: Some(bpf) };
    facts.filters.push(filter);
    facts.clsact = Some("clsact".into());
    facts.root = Some(3);
    assert_eq!(facts_json::read(&facts_json::write(&facts)), Some(facts));
    assert_eq!(facts_json::read(&serde_json::json!({"schema": "detour.facts/2"})), None);
}

#[test]
fn what_makes_something_lasting_says_how_it_is_undone() {
    let (_, plan) = up(&facts());
    let lasting = |step: &&Step| match &step.effect {
        Effect::Bpf(call) => call.command.name == "OBJ_PIN",
        Effect::Netlink(_) | Effect::Mkdir(_) | Effect::Rename { .. } => true,
        _ => false,
    };
    let steps: Vec<&Step> = plan.steps.iter().filter(lasting).collect();
    assert!(steps.len() > 15);
    assert!(steps.iter().all(|step| step.undo.is_some()));
}

#[test]
fn egress_comes_before_ingress_and_the_rename_last() {
    let (_, plan) = up(&facts());
    let parent = |step: &Step| match &step.effect {
        Effect::Netlink(message) => message.fields.number("tcm_parent"),
        _ => None,
    };
    let parents: Vec<u32> =
        plan.steps.iter().filter_map(parent).filter(|p| [INGRESS, EGRESS].contains(p)).collect();
    assert_eq!(parents, [EGRESS, INGRESS]);
    assert!(matches!(plan.steps.last().map(|s| &s.effect), Some(Effect::Rename { .. })));
}

#[test]
fn foreign_things_in_the_way_are_refused_before_anything_is_done() {
    let object = Object::parse(embedded::object("drop").unwrap()).unwrap();
    let config = Config {
        creation: Creation {
            file: "drop.bpf.o".into(),
            programs: vec!["drop".into()],
            ..Creation::default()
        },
        beside: None,
        attach: vec![Attach { program: "drop".into(), place: place(INGRESS), anchor: Anchor::default() }],
        name: "drop".into(),
        mount: false,
        unpinned: false,
        replace: false,
    };
    let stage = |facts: &Facts| plan::load(&object, &config, facts).map(|_| ()).map_err(|r| r.stage);
    assert_eq!(stage(&facts()), Ok(()));
    assert_eq!(stage(&Facts { clsact: Some("ingress".into()), ..facts() }), Err(Stage::InTheWay));
    let foreign = Filter { place: place(INGRESS), kind: "bpf".into(), bpf: None };
    assert_eq!(stage(&Facts { filters: vec![foreign.clone()], ..facts() }), Err(Stage::InTheWay));
    let beside = Place { handle: 1, ..place(INGRESS) };
    assert_eq!(
        stage(&Facts { filters: vec![Filter { place: beside, ..foreign.clone() }], ..facts() }),
        Ok(())
    );
    let mixed = Filter { place: beside, kind: "u32".into(), ..foreign };
    assert_eq!(stage(&Facts { filters: vec![mixed], ..facts() }), Err(Stage::InTheWay));
}
