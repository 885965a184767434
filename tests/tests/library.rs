// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The library as somebody else would use it, against the kernel: parse, edit, plan, execute, attach, read maps, take away. No
//! command of the program is run; tc, bpftool and a snapshot say what became of it.
use detour::compat::kernel::resolve;
use detour::load::create::{Creation, Write};
use detour::load::facts::Facts;
use detour::load::gather::{ask_tcx, gather, machine, open_map};
use detour::load::netlink::Socket;
use detour::load::plan::{self, Attach, Config, Plan};
use detour::load::step::Step;
use detour::load::symbols::Symbols;
use detour::load::tc::{Place, INGRESS};
use detour::load::tcx::{self, Anchor};
use detour::load::{create, exec, explain, plan_json, refusal, testrun, types, verify};
use detour::object::Object;
use detour::ui::value::{part, value};
use e2e::lab::Lab;
use e2e::netns::Netns;
use e2e::snapshot::Snapshot;
use e2e::tools::{self, project};
use std::os::fd::AsFd;

const DEVICE: &str = "eth0";
/// Of an ethertype for experiments, so the kernel looks no further.
const FRAME: [u8; 60] = {
    let mut frame = [0; 60];
    frame[12] = 0x88;
    frame[13] = 0xb5;
    frame
};

fn object(name: &str) -> Object {
    let path = project().join(format!("elf/fixtures/{name}.bpf.o"));
    Object::parse(&std::fs::read(path).unwrap()).unwrap()
}

fn creation(name: &str, programs: &[&str]) -> Creation {
    let programs = programs.iter().map(|name| (*name).to_owned()).collect();
    Creation { file: format!("{name}.bpf.o"), programs, ..Creation::default() }
}

/// One program of `creation` at `place`, as the instance `name`.
fn config(name: &str, creation: Creation, place: Place, anchor: Anchor) -> Config {
    let attach = vec![Attach { program: creation.programs[0].clone(), place, anchor }];
    let name = name.to_owned();
    Config { creation, attach, name, mount: false, unpinned: false, replace: false, beside: None }
}

fn done(plan: &Plan, socket: &mut Socket) -> Symbols {
    let mut steps = Vec::new();
    let symbols = exec::run(plan, socket, &mut |report| {
        if let exec::Report::Done(number, ..) = report {
            steps.push(number);
        }
    });
    let symbols =
        symbols.unwrap_or_else(|failure| panic!("{}", explain::explain(plan, &failure, None, true)));
    assert_eq!(steps, (1..=plan.steps.len()).collect::<Vec<_>>(), "each step is told of, in order");
    symbols
}

/// The verdict on [`FRAME`].
fn verdict(symbols: &Symbols, program: &str) -> i32 {
    let handle = symbols.handle(&create::prog_symbol(program)).unwrap();
    testrun::run(handle.as_fd(), &FRAME, 1).unwrap().verdict
}

fn unload(name: &str, socket: &mut Socket) {
    let facts = gather(socket, DEVICE).unwrap();
    done(&plan::unload(name, &facts).unwrap(), socket);
}

#[test]
fn from_bytes_to_a_filter_and_its_maps_and_back() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    ns.run("ip", &["link", "set", DEVICE, "down"]);
    let before = Snapshot::take(ns);
    let mut object = object("globals");
    for setting in ["large=0", "pairs[1].high=0", "own_section=0", "small=5"] {
        object.set(setting).unwrap();
    }
    let id = ns.within(|| {
        let mut socket = Socket::open().unwrap();
        let facts = gather(&mut socket, DEVICE).unwrap();
        let place = Place::new(facts.device.ifindex, INGRESS, 200, 7);
        let config = config("lib", creation("globals", &["globals"]), place, Anchor::default());
        let plan = plan::load(&object, &config, &facts).unwrap();
        let symbols = done(&plan, &mut socket);
        // counter is 3; 5 (set), -5 and 9 are added.
        assert_eq!(verdict(&symbols, "globals"), 3 + 5 - 5 + 9);
        // Its map by what the plan made, and by its pin as another process would; the types are the kernel's.
        let data = object.maps.iter().find(|map| map.name == ".data").unwrap();
        let through = symbols.map(&create::map_symbol(data)).unwrap().lookup(&[0; 4]).unwrap();
        let pin = format!("{}/{}", facts.home("lib").dir(), detour::load::home::map_pin(&data.name));
        let map = open_map(&pin).unwrap();
        let bytes = map.lookup(&[0; 4]).unwrap().unwrap();
        assert_eq!(through.as_ref(), Some(&bytes));
        let known = types::of_map(map.as_fd()).unwrap().unwrap();
        assert_eq!(value(&known.btf, known.value, &bytes).text(), "{.counter = 12}");
        // A variable by its name.
        let counter = known.btf.place(known.value, "counter").unwrap();
        assert_eq!(part(&known.btf, &counter, &bytes).text(), "12");
        let written = known.btf.write(&counter, "100").unwrap();
        let steps = vec![Step::get(pin, "%map"), Step::store("%map", written)];
        done(&Plan { steps, notes: Vec::new() }, &mut socket);
        assert_eq!(verdict(&symbols, "globals"), 100 + 5 - 5 + 9);
        // What is there is what was planned.
        let mut facts = gather(&mut socket, DEVICE).unwrap();
        ask_tcx(&mut facts).unwrap();
        let instance = facts.instance("lib").unwrap();
        let tags = |name: &str| object.program(name).map(|program| program.tags());
        let hooks = verify::hooks(&facts, instance, &tags);
        let checks = [hooks, verify::pinned(&facts, instance, &object, &config.creation)].concat();
        assert!(checks.len() > 8, "{checks:?}");
        let other: Vec<_> = checks.iter().filter(|check| check.outcome != verify::Outcome::Same).collect();
        assert!(other.is_empty(), "{other:?}");
        symbols.id(&create::id_symbol("globals")).unwrap()
    });
    let filters = tools::filters(ns, DEVICE, "ingress");
    assert_eq!(
        (filters.len(), &filters[0]["pref"], &filters[0]["options"]["handle"]),
        (1, &200.into(), &"0x7".into())
    );
    assert_eq!(filters[0]["options"]["prog"]["id"], id);
    ns.within(|| unload("lib", &mut Socket::open().unwrap()));
    before.holds(ns, "a load by the library");
}

#[test]
fn a_plan_goes_through_json_and_links_come_in_the_order_that_was_said() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let before = Snapshot::take(ns);
    let (object, creation) = (object("sections"), |program: &str| creation("sections", &[program]));
    ns.within(|| {
        let mut socket = Socket::open().unwrap();
        let mut attach = |program: &str, anchor: Anchor| {
            let facts = gather(&mut socket, DEVICE).unwrap();
            let place = Place::new(facts.device.ifindex, tcx::INGRESS, 0, 0);
            let plan =
                plan::load(&object, &config(program, creation(program), place, anchor), &facts).unwrap();
            // Somebody reviews it; what is executed is what comes back.
            let text = plan_json::plan(&plan).to_string();
            let part = |name: &str| create::part(&object, name.strip_prefix("sections.bpf.o/")?);
            let reviewed = plan_json::read_plan(&serde_json::from_str(&text).unwrap(), &part).unwrap();
            assert_eq!(reviewed, plan);
            done(&reviewed, &mut socket).id(&create::id_symbol(program)).unwrap()
        };
        let first = attach("first", Anchor::default());
        let second = attach("second", Anchor { relative: Some(first), before: true, revision: None });
        let mut facts: Facts = gather(&mut socket, DEVICE).unwrap();
        ask_tcx(&mut facts).unwrap();
        let order: Vec<u32> = facts.tcx[0].programs.iter().map(|attached| attached.program).collect();
        assert_eq!(order, [second, first]);
        ["first", "second"].iter().for_each(|name| unload(name, &mut socket));
    });
    before.holds(ns, "two links by the library");
}

#[test]
fn what_needs_no_device_keeps_nothing() {
    let ns = Netns::alone();
    let before = Snapshot::take(&ns);
    ns.within(|| {
        let (mut socket, machine) = (Socket::open().unwrap(), machine().unwrap());
        // Sizes and elements, before the program is loaded.
        let (mut sized, key) = (object("variants"), 60_u32.to_ne_bytes().to_vec());
        sized.resize("seen=64").unwrap();
        let value = 41_u64.to_ne_bytes().to_vec();
        let writes = vec![Write { map: "seen".into(), key: key.clone(), value }];
        let wanted = Creation { writes, ..creation("variants", &["variants"]) };
        let symbols = done(&plan::dry_run(&sized, &wanted, &machine).unwrap(), &mut socket);
        verdict(&symbols, "variants");
        let seen = symbols.map("%seen").unwrap();
        assert_eq!(seen.next_key(None).unwrap(), Some(key.clone()));
        assert_eq!(seen.lookup(&key).unwrap(), Some(42_u64.to_ne_bytes().to_vec()));
        // What only the kernel knows, with maps named by number.
        let mut asked = object("kconfig");
        assert!(asked.check_resolved(asked.program("hz").unwrap()).is_err());
        assert!(!resolve(&mut asked, None).unwrap().is_empty());
        asked.name_maps_by_number();
        let symbols =
            done(&plan::dry_run(&asked, &creation("kconfig", &["hz"]), &machine).unwrap(), &mut socket);
        assert_eq!(verdict(&symbols, "hz"), i32::try_from(machine.hz).unwrap());
        // A refusal says why, and what was made before goes.
        let refused = object("rejected");
        let plan = plan::dry_run(&refused, &creation("rejected", &["rejected"]), &machine).unwrap();
        let failure = exec::run(&plan, &mut socket, &mut |_| {}).unwrap_err();
        let why = explain::explain(&plan, &failure, Some(&refused), false);
        assert_eq!(why.stage, refusal::Stage::Kernel);
        assert!(why.details.contains("return data[20]"), "{why:?}");
    });
    before.holds(&ns, "dry runs by the library");
}
