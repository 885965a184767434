// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `up` with other programs than those that run: they take over the maps, and nobody who talks through them notices.
use e2e::crowd::Crowd;
use e2e::detour::{self, code, up};
use e2e::lab::{Lab, GATEWAY};
use e2e::netns::Netns;
use e2e::serve::Server;
use e2e::snapshot::Snapshot;
use e2e::strace::{self, Fault, EFFECTS};
use e2e::talk;
use e2e::tools::{self, Scratch};
use e2e::version::{compile, COUNTS};
use e2e::witness::Witness;
use serde_json::Value;
use std::net::SocketAddr;

const DEVICE: &str = "eth0";
const RULES: [&str; 4] = ["--rule", "tcp redirect to :7007", "--rule", "udp redirect to :7007"];

fn far(port: u16) -> SocketAddr {
    ([198, 51, 100, 7], port).into()
}

/// `up` with these rules and `more`; what it was.
fn change(ns: &Netns, more: &[&str]) -> String {
    let document = detour::json(ns, &[&["up", DEVICE], &RULES[..], more].concat());
    document["change"].as_str().unwrap().to_string()
}

/// Priority, handle and name of both filters, and the ids of their programs.
fn places(ns: &Netns) -> (Vec<Value>, Vec<Value>) {
    let rows: Vec<Value> = tools::HOOKS.iter().flat_map(|hook| tools::filters(ns, DEVICE, hook)).collect();
    assert_eq!(rows.len(), 2, "{rows:?}");
    let place =
        |row: &Value| serde_json::json!([row["pref"], row["options"]["handle"], row["options"]["bpf_name"]]);
    (rows.iter().map(place).collect(), rows.iter().map(|row| row["options"]["prog"]["id"].clone()).collect())
}

fn pin(ns: &Netns, name: &str) -> String {
    ns.run("sh", &["-c", &format!("ls /sys/fs/bpf/detour/*/up/{name}")]).trim().to_string()
}

#[test]
fn other_programs_go_on_with_the_same_maps() {
    let scratch = Scratch::new();
    let other = compile(&scratch, "counts.bpf.o", &COUNTS);
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let before = Snapshot::take(ns);
    let _echo = Server::echo(ns, (GATEWAY, 7007));
    let answering = Server::udp(ns, (GATEWAY, 7007));
    assert_eq!(change(ns, &[]), "loaded");
    let mut crowd = Crowd::new(&lab.client, 20, |n| far(1000 + n as u16));
    let socket = talk::udp(&lab.client, 4000);
    talk::ask(&socket, far(53), "one").unwrap();
    let flows = || detour::json(ns, &["flows", DEVICE])["flows"].as_array().unwrap().len();
    let (at, ids, count) = (places(ns).0, places(ns).1, flows());
    assert_eq!(count, 21);

    assert_eq!(change(ns, &["--object", &other]), "upgraded");
    assert_eq!(places(ns).0, at, "the places stay");
    assert!(places(ns).1.iter().all(|id| !ids.contains(id)), "the programs are others");
    assert_eq!(flows(), count);
    crowd.exchange();
    talk::ask(&socket, far(53), "two").unwrap();
    let asked: Vec<SocketAddr> = answering.heard().into_iter().map(|(from, _)| from).collect();
    assert_eq!((asked.len(), asked[0]), (2, asked[1]), "one flow, one client");
    talk::dial(&lab.client, 0, far(2000)).unwrap();
    let seen = tools::json(ns, "bpftool", &["-j", "map", "dump", "pinned", &pin(ns, "map_seen")]);
    assert!(seen.to_string().contains("values") && pin(ns, "map_seen").contains("/up/"), "{seen}");
    // This detour reads what programs of another version keep, and compares them with their object.
    let rows = detour::json(ns, &["asked", DEVICE])["rows"].as_array().unwrap().len();
    assert_eq!(rows, 22);
    for command in ["status", "rules", "metrics"] {
        detour::run(ns, &[command, DEVICE]).done();
    }
    let verified = detour::run(ns, &["verify", "--live", DEVICE, "--object", &other]).done();
    assert!(!verified.stdout.contains("unseen "), "{}", verified.stdout);

    assert_eq!(change(ns, &["--object", &other]), "none");
    assert_eq!(change(ns, &[]), "upgraded");
    assert_eq!(change(ns, &[]), "none");
    crowd.exchange();
    let verified = detour::run(ns, &["verify", "--live", DEVICE]).done();
    assert!(verified.stdout.contains("ok       map rules_0"), "{}", verified.stdout);
    // Rules and programs at once.
    let with = ["--object", &other, "--rule", "icmp drop"];
    assert_eq!(change(ns, &with), "upgraded");
    assert_eq!(detour::json(ns, &["rules", DEVICE])["rules"].as_array().unwrap().len(), 3);
    crowd.exchange();
    detour::run(ns, &["down", DEVICE]).done();
    before.holds(ns, "four changes of programs");
}

#[test]
fn fresh_takes_other_options_and_flows_begin_anew() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let before = Snapshot::take(ns);
    let _answering = Server::udp(ns, (GATEWAY, 7007));
    assert_eq!(change(ns, &["--fresh"]), "loaded", "with nothing there it is an ordinary up");
    let socket = talk::udp(&lab.client, 4000);
    talk::ask(&socket, far(53), "one").unwrap();
    let at = places(ns).0;
    let line = [&["up", DEVICE], &RULES[..], &["--flows-max", "1000"]].concat();
    detour::run(ns, &line).refused(code::FOREIGN, &["confirmed_slots4 is 65536, not 1000", "--fresh"]);
    assert_eq!(change(ns, &["--flows-max", "1000", "--fresh"]), "replaced");
    assert_eq!(places(ns).0, at);
    assert_eq!(detour::json(ns, &["flows", DEVICE])["flows"].as_array().unwrap().len(), 0);
    talk::ask(&socket, far(53), "two").unwrap();
    detour::run(ns, &["verify", "--live", DEVICE, "--flows-max", "1000"]).done();
    let line = [&["up", DEVICE, "--prio", "7", "--fresh"], &RULES[..]].concat();
    detour::run(ns, &line).refused(code::FOREIGN, &["--prio"]);
    detour::run(ns, &["down", DEVICE]).done();
    before.holds(ns, "a replacement");
}

/// The maps of what was asked for, element by element.
fn asked(ns: &Netns) -> Vec<Value> {
    let dump = |map: &str| {
        let all = tools::json(ns, "bpftool", &["-j", "map", "dump", "pinned", &pin(ns, map)]);
        let mut all: Vec<Value> =
            all.as_array().unwrap().iter().map(|one| one["formatted"].clone()).collect();
        all.sort_by_key(|one| one["key"].to_string());
        Value::from(all)
    };
    ["map_asked", "map_asked_clients", "map_asked_others"].map(dump).to_vec()
}

/// Nothing that was asked for is forgotten where everything else begins anew, whether that is done, fails or is killed.
#[test]
fn what_was_asked_for_outlives_fresh() {
    let scratch = Scratch::new();
    let other = compile(&scratch, "counts.bpf.o", &COUNTS);
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let before = Snapshot::take(ns);
    let _answering = Server::udp(ns, (GATEWAY, 7007));
    // A client may own one row then: what else it asks for is counted beside it.
    assert_eq!(change(ns, &["--asked-max", "16"]), "loaded");
    let socket = talk::udp(&lab.client, 4000);
    for word in ["one", "two"] {
        talk::ask(&socket, far(53), word).unwrap();
    }
    talk::ask(&socket, far(54), "three").unwrap();
    let rows = asked(ns);
    let row = || detour::json(ns, &["asked", DEVICE])["rows"][0].clone();
    assert_eq!((rows[0].as_array().unwrap().len(), row()["packets"].as_u64()), (1, Some(1)), "{rows:?}");
    let line = ["--asked-max", "16", "--flows-max", "1000"];
    let refused = detour::run(ns, &[&["up", DEVICE], &RULES[..], &line].concat());
    refused.refused(code::FOREIGN, &["'detour up eth0 --fresh'", "what was asked for stays"]);

    let fresh = [&["up", DEVICE, "--fresh", "--asked-max", "16"], &RULES[..]].concat();
    let (_, calls) = strace::trace(ns, &detour::command(&fresh), "sendto", None);
    assert_eq!(asked(ns), rows);
    // At the second filter, and at the commit.
    for (name, nth) in [("sendto", calls.len()), ("renameat2", 1)] {
        let failed = strace::inject(ns, &detour::command(&fresh), name, &Fault::error(name, nth, "ENOMEM"));
        assert_eq!((failed.unwrap().status.code(), asked(ns)), (Some(code::KERNEL), rows.clone()), "{name}");
        strace::inject(ns, &detour::command(&fresh), name, &Fault::kill(name, nth)).unwrap();
        // The next command takes back what was killed.
        let mended = (change(ns, &["--asked-max", "16"]), asked(ns));
        assert_eq!(mended, ("mended".to_string(), rows.clone()), "{name}");
    }
    for more in [&[][..], &["--flows-max", "1000"], &["--object", &other], &["--timeout", "udp=30s"]] {
        let (generation, count) = (row()["rules_generation"].as_u64(), row()["packets"].as_u64());
        let document = detour::json(ns, &[&fresh, more].concat());
        assert_eq!((&document["change"], &document["notes"]), (&"replaced".into(), &serde_json::json!([])));
        let flows = detour::json(ns, &["flows", DEVICE]);
        assert_eq!((asked(ns), flows["flows"].as_array().unwrap().len()), (rows.clone(), 0), "{more:?}");
        // A number of rules means what it meant to the row.
        let rules = detour::json(ns, &["asked", DEVICE])["rules_generation"].as_u64();
        assert!(rules > generation, "{rules:?} after {generation:?}");
        assert_eq!(row()["packets"].as_u64(), count);
    }
    let said = detour::run(ns, &[&fresh, &["--timeout", "udp=30s"][..]].concat()).done().stdout;
    assert!(said.contains("flows begin anew, what was asked for stays ("), "{said}");
    talk::ask(&socket, far(53), "four").unwrap();
    assert_eq!(row()["packets"].as_u64(), Some(2), "it is counted on");
    let verify = ["verify", "--live", DEVICE, "--asked-max", "16", "--timeout", "udp=30s"];
    detour::run(ns, &verify).done();

    // A table of another size is another one: that is said, and how to see what goes.
    let larger = [&["up", DEVICE, "--asked-max", "64"], &RULES[..]].concat();
    let refused = detour::run(ns, &larger);
    refused.refused(
        code::FOREIGN,
        &["asked_rows is 1, not 4", "what was asked for goes ('detour asked eth0 -j'"],
    );
    let plan = detour::run(ns, &[&["plan"], &larger[..], &["--fresh"]].concat()).done().stdout;
    let document = detour::json(ns, &[&larger[..], &["--fresh"]].concat());
    let note = document["notes"][0].as_str().unwrap();
    assert!(plan.contains(note) && note.contains("asked: max_entries is 16, not 64"), "{note}");
    assert!(note.contains("'detour asked eth0 -j' shows it before"), "{note}");
    assert_eq!(asked(ns)[0], serde_json::json!([]));
    detour::run(ns, &["down", DEVICE]).done();
    before.holds(ns, "replacements that keep what was asked for");
}

#[test]
fn what_cannot_be_taken_over_is_refused() {
    let scratch = Scratch::new();
    let other = compile(&scratch, "counts.bpf.o", &COUNTS);
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    up(ns, DEVICE, &RULES);
    let line = [&["up", DEVICE, "--object", &other], &RULES[..]].concat();
    let state = Snapshot::take(ns);
    let no = |file: &str, words: &[&str]| {
        let file = tools::project().join("elf").join(file).display().to_string();
        detour::run(ns, &["up", DEVICE, "--object", &file]).refused(code::OBJECT, words);
    };
    no("trace.bpf.o", &["no program detour_in", "no map idx4"]);
    no("MANIFEST", &["MANIFEST"]);
    state.holds(ns, "refusals of objects");

    // A map of another shape in the place of one of ours, as an earlier version might have had it.
    let asked = pin(ns, "map_asked");
    ns.run("mv", &[&asked, &format!("{asked}-kept")]);
    let shape =
        ["type", "hash", "key", "40", "value", "48", "entries", "16384", "name", "asked", "flags", "1"];
    ns.run("bpftool", &[&["map", "create", &asked][..], &shape].concat());
    let run = detour::run(ns, &line);
    run.refused(code::FOREIGN, &["asked: value_size is 48, not 40", "--fresh"]);
    ns.run("rm", &[&asked]);
    ns.run("mv", &[&format!("{asked}-kept"), &asked]);
    state.holds(ns, "a refusal of a map");

    // A record of another schema: nothing is guessed about it.
    let record = pin(ns, "record");
    let kept = format!("{record}-kept");
    ns.run("mv", &[&record, &kept]);
    ns.run(
        "bpftool",
        &["map", "create", &record, "type", "array", "key", "4", "value", "720", "entries", "1", "name", "r"],
    );
    let zeros = vec!["0"; 719];
    let update = ["map", "update", "pinned", &record, "key", "0", "0", "0", "0", "value", "2"];
    ns.run("bpftool", &[&update[..], &zeros].concat());
    for line in [&line[..], &["down", DEVICE]] {
        detour::run(ns, line).refused(code::FOREIGN, &["schema 2, and this is 1"]);
    }
    ns.run("rm", &[&record]);
    ns.run("mv", &[&kept, &record]);
    state.holds(ns, "a refusal of a record");
    detour::run(ns, &line).done();
}

/// Maps whose numbers are the same, and whose values are not: their types tell.
#[test]
fn values_that_mean_something_else_are_not_taken_over() {
    let scratch = Scratch::new();
    let other = compile(&scratch, "counts.bpf.o", &COUNTS);
    let abi = std::fs::read_to_string(tools::project().join("ebpf-src/abi.h")).unwrap();
    let at = abi.find("struct asked {\n").expect("struct asked");
    let members: Vec<&str> = abi[at..].split_inclusive('\n').skip(1).take(2).collect();
    let edit = ("abi.h", members.concat(), [members[1], members[0]].concat());
    let exchanged = compile(&scratch, "exchanged.bpf.o", &[(edit.0, &edit.1, &edit.2)]);
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    up(ns, DEVICE, &RULES);
    let (programs, maps) = ("/sys/fs/bpf/programs", "/sys/fs/bpf/maps");
    ns.run("bpftool", &["prog", "loadall", &exchanged, programs, "type", "classifier", "pinmaps", maps]);
    let asked = pin(ns, "map_asked");
    ns.run("mv", &[&format!("{maps}/asked"), &asked]);
    ns.run("rm", &["-r", programs, maps]);
    let line = [&["up", DEVICE, "--object", &other], &RULES[..]].concat();
    let state = Snapshot::take(ns);
    let words = ["asked: value.packets is called bytes there", "'detour up --fresh'"];
    detour::run(ns, &line).refused(code::FOREIGN, &words);
    state.holds(ns, "a refusal of a type");
    let notes = detour::json(ns, &[&line[..], &["--fresh"]].concat())["notes"].to_string();
    assert!(notes.contains(words[0]), "{notes}");
    detour::run(ns, &["verify", "--live", DEVICE, "--object", &other]).done();
}

/// What is asked for while a replacement runs that is then taken back is counted under its number, which no rules get again.
#[test]
fn rules_of_a_replacement_that_was_taken_back_share_no_number() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let _answering = Server::udp(ns, (GATEWAY, 7007));
    change(ns, &[]);
    let socket = talk::udp(&lab.client, 4000);
    let document = || detour::json(ns, &["asked", DEVICE]);
    let of = |port: u64| {
        let row = document()["rows"].as_array().unwrap().iter().find(|row| row["port"] == port).cloned();
        let row = row.unwrap_or_else(|| panic!("{port} is not in {}", document()));
        (row["rules_generation"].as_u64().unwrap(), row["rule"].as_u64().unwrap())
    };
    let now = || document()["rules_generation"].as_u64().unwrap();
    let before = now();
    let fresh = [&["up", DEVICE, "--fresh"], &RULES[..]].concat();
    strace::inject(ns, &detour::command(&fresh), "renameat2", &Fault::kill("renameat2", 1)).unwrap();
    talk::ask(&socket, far(60), "x").unwrap();
    assert_eq!(of(60), (before + 1, 2), "the new programs count");
    // Back to those before, and at once other rules; what that says is all of it.
    let drop = detour::run(ns, &["up", DEVICE, "--rule", "tcp drop", "--rule", "udp drop"]).done().stdout;
    let said = "up-new\neth0: other rules are in force now; flows carry on (2 rules, ";
    assert!(
        drop.starts_with("note: takes back what an interrupted command left in /") && drop.contains(said),
        "{drop}"
    );
    assert_eq!((of(60), now()), ((before + 1, 2), before + 2));

    // One that fails, and one that is killed: two numbers more. What mends says that nothing else is otherwise.
    let output =
        strace::inject(ns, &detour::command(&fresh), "renameat2", &Fault::error("renameat2", 1, "EINVAL"));
    assert_eq!((output.unwrap().status.code(), now()), (Some(code::KERNEL), before + 2));
    strace::inject(ns, &detour::command(&fresh), "renameat2", &Fault::kill("renameat2", 1)).unwrap();
    let status = detour::run(ns, &["status", DEVICE]).ends(code::NO);
    let note = "note: eth0: a command was interrupted while it replaced 'up': 'detour up eth0' with its rules and options \
                mends it, 'detour down eth0' takes all of it away\n";
    assert!(status.stdout.contains(note), "{}", status.stdout);
    let other = [&["up", DEVICE, "--flows-max", "1000"], &RULES[..]].concat();
    detour::run(ns, &other).refused(code::FOREIGN, &["--fresh", "a command was interrupted here"]);
    let mended = detour::run(ns, &["up", DEVICE, "--rule", "tcp drop", "--rule", "udp drop"]).done().stdout;
    let said = "up-new\neth0: up with these rules, as before; flows carry on (2 rules, ";
    assert!(mended.contains(said) && now() == before + 2, "{mended}");
    assert_eq!((change(ns, &[]).as_str(), now()), ("rules", before + 5));
    detour::run(ns, &["verify", "--live", DEVICE]).done();
}

/// A file of facts says of the maps that run what its command had to know, and serves no other.
#[test]
fn facts_serve_the_command_that_they_were_saved_for() {
    let scratch = Scratch::new();
    let other = compile(&scratch, "counts.bpf.o", &COUNTS);
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    up(ns, DEVICE, &RULES);
    fn plan<'a>(options: &[&'a str]) -> Vec<&'a str> {
        [&["plan", "up", DEVICE], &RULES[..], options].concat()
    }
    let kinds = [&[][..], &["--fresh"], &["--object", &other]];
    let files = ["same", "fresh", "other"].map(|name| scratch.path(name).display().to_string());
    for (options, file) in kinds.iter().zip(&files) {
        let live = detour::json(ns, &[&plan(options)[..], &["--save-facts", file]].concat());
        let read = detour::json(ns, &[&plan(options)[..], &["--facts", file]].concat());
        assert_eq!(live, read, "{options:?}");
        detour::run(ns, &[&plan(&[])[..], &["--facts", file]].concat()).done();
    }
    for (options, file, map) in
        [(kinds[1], &files[0], "asked"), (kinds[2], &files[0], ""), (kinds[2], &files[1], "")]
    {
        let words = format!("do not say what {map}");
        let refused = detour::run(ns, &[&plan(options)[..], &["--facts", file]].concat());
        refused.refused(
            code::USAGE,
            &[&words, " is on eth0: they were saved for another command", "--save-facts"],
        );
    }
}

#[test]
fn the_plan_is_what_is_done() {
    let scratch = Scratch::new();
    let other = compile(&scratch, "counts.bpf.o", &COUNTS);
    let lab = Lab::on(Netns::alone(), DEVICE);
    up(&lab.gateway, DEVICE, &[&RULES[..], &["--object", &other]].concat());
    let line = ["up", DEVICE, "--rule", "tcp redirect to :7007"];
    let plan = detour::json(&lab.gateway, &[&["plan"], &line[..]].concat());
    let (output, calls) = strace::trace(&lab.gateway, &detour::command(&line), EFFECTS, None);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Witness::compare(&plan, &calls);
}
