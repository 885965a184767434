// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Every command with `-j`: one document with a schema, and of each schema exactly the members that loader/docs/json.md lists.
//!
//! `BLESS=1 cargo test -p e2e --test documents` writes that page anew. A member that is gone, or of another kind, is a
//! change of meaning and needs another number behind the slash.
use e2e::capture::Wire;
use e2e::commands::{self, Files, COMMANDS};
use e2e::lab::{self, Lab, GATEWAY};
use e2e::listen::Events;
use e2e::netns::Netns;
use e2e::serve::Server;
use e2e::{detour, talk, tools};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Objects whose members are names of something else: fields of the kernel's or of an object's types, counters, maps.
const OPEN: [&str; 5] = ["args", "fields", "not_translated", "answer", "value"];

/// What this machine may not have, such as IPv6 addresses or programs of others.
const OF_THE_MACHINE: [&str; 3] = ["addresses[]", "filters[]", "tcx[]"];

/// Schemas, their members (`dnat.flows.ipv4`, `rules[].text`), and the kinds that each was seen as.
type Seen = BTreeMap<String, BTreeMap<String, BTreeSet<&'static str>>>;

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}

/// Notes all members of `value`; an object with a schema of its own is a document of its own.
fn note(value: &Value, schema: &str, path: &str, seen: &mut Seen) {
    let members = |name: &str, value: &Value, seen: &mut Seen| {
        let path = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
        let kind = match value["schema"].as_str() {
            Some(_) => "document",
            None => kind(value),
        };
        seen.entry(schema.to_string()).or_default().entry(path.clone()).or_default().insert(kind);
        match OPEN.contains(&name) {
            true => {}
            false => note(value, schema, &path, seen),
        }
    };
    match value {
        Value::Object(fields) => match value["schema"].as_str().filter(|own| *own != schema) {
            Some(own) => note(value, own, "", seen),
            None => fields.iter().for_each(|(name, value)| members(name, value, seen)),
        },
        Value::Array(list) => list.iter().for_each(|value| note(value, schema, &format!("{path}[]"), seen)),
        _ => {}
    }
}

/// The documents that a command line prints: one, or a line each.
fn documents(text: &str, what: &str) -> Vec<Value> {
    let read = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{what}: {e}: {line}"));
    let documents: Vec<Value> = text.lines().map(read).collect();
    for document in &documents {
        assert!(document["schema"].as_str().is_some_and(|s| s.starts_with("detour.")), "{what}: {document}");
    }
    documents
}

fn run(ns: &Netns, line: &[String]) -> (Option<i32>, String, String) {
    let line = [line, &["-j".to_string()]].concat();
    let words: Vec<&str> = line.iter().map(String::as_str).collect();
    let output = commands::output(ns, &mut detour::command(&words), &line);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn page(seen: &Seen) -> String {
    let mut page = String::from(
        "<!-- SPDX-License-Identifier: MIT OR GPL-2.0-or-later -->\n# Documents\n\n\
         What commands print with `-j`: one document a line, each with its schema. Errors go to stderr, as `detour.error/1`.\n\
         Made by tests/tests/documents.rs of what every command prints, which also fails where something else is printed.\n\
         Members are only ever added; a change of meaning gets another number behind the slash. `a.b` is a member of an\n\
         object, `a[].b` one of each element of a list. Members of `args`, `fields`, `not_translated` and `answer` are named by what\n\
         they are about; one that is only null here says something where there is something to say. Plans are explained in\n\
         [plan-json.md](plan-json.md).\n",
    );
    for (schema, members) in seen {
        let _ = writeln!(page, "\n## {schema}\n\n| member | is |\n|---|---|");
        for (path, kinds) in members {
            let kinds: Vec<&str> = kinds.iter().copied().collect();
            let _ = writeln!(page, "| `{path}` | {} |", kinds.join(", "));
        }
    }
    page
}

/// The page back again.
fn read(page: &str) -> BTreeMap<String, BTreeMap<String, BTreeSet<String>>> {
    let mut listed = BTreeMap::new();
    let mut schema = String::new();
    for line in page.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            schema = name.to_string();
            listed.insert(schema.clone(), BTreeMap::new());
        } else if let Some((path, kinds)) = line.strip_prefix("| `").and_then(|row| row.split_once("` | ")) {
            let kinds = kinds.trim_end_matches(" |").split(", ").map(str::to_string).collect();
            listed.get_mut(&schema).unwrap().insert(path.to_string(), kinds);
        }
    }
    listed
}

/// Documents that no command prints by itself: lines of `events`, a transcript, what options make of a command.
fn others(lab: &Lab, files: &Files, seen: &mut Seen) {
    let ns = &lab.gateway;
    let scratch = tools::Scratch::new();
    commands::prepare(lab, files, &[]);
    let rules = scratch.write("web", "tcp dport 80 redirect to :8080\nudp dport 9 drop\n");
    let transcript = scratch.path("transcript").display().to_string();
    detour::up(ns, commands::DEVICE, &[&rules, "--transcript", &transcript]);
    // Its first line has the schema, the others are steps.
    for line in std::fs::read_to_string(&transcript).unwrap().lines() {
        note(&serde_json::from_str(line).unwrap(), "detour.transcript/1", "", seen);
    }
    let plan = scratch
        .write("plan", detour::json(ns, &["plan", "up", commands::DEVICE, "--rule", "drop"]).to_string());
    let other = ["plan", "up", commands::DEVICE, "--rule", "accept", "--against", &plan, "-j"];
    note(&detour::run(ns, &other).ends(detour::code::NO).json(), "", "", seen);
    // A record by its type and one of another length; nobody has to wait for them.
    let rings = tools::project().join("elf/fixtures/rings.bpf.o").display().to_string();
    detour::run(ns, &["load", &rings, commands::DEVICE]).done();
    let wire = Wire::tap(&lab.client, &lab.device);
    for kind in [b'a', b's'] {
        wire.send(&[&[0xff; 6][..], &[2, 0, 0, 0, 0, 0x51, 0x88, 0xb5], &[kind; 46]].concat());
    }
    let listen =
        ["map", "listen", commands::DEVICE, "rings", "records", "--as", "heard", "--count", "2", "-j"];
    let records = detour::run(ns, &listen).done().stdout;
    documents(&records, "map listen").iter().for_each(|document| note(document, "", "", seen));
    detour::run(ns, &["unload", commands::DEVICE, "rings"]).done();
    let policy = scratch.write("policy", "helper deny *\n");
    for name in ["variants_big_endian", "globals", "bss_own", "kconfig", "ksyms", "maps"] {
        let object = tools::project().join(format!("elf/fixtures/{name}.bpf.o")).display().to_string();
        note(&detour::json(ns, &["inspect", &object]), "", "", seen);
    }
    let core = tools::project().join("elf/fixtures/core.bpf.o").display().to_string();
    note(&detour::json(ns, &["inspect", &core, "--disasm"]), "", "", seen);
    let judged = detour::run(ns, &["inspect", "@trace", "--policy", &policy, "-j"]);
    note(&judged.ends(detour::code::NO).json(), "", "", seen);

    for line in [&["-V", "-j"][..], &["-V", "-v", "-j"]] {
        note(&detour::run(ns, line).done().json(), "", "", seen);
    }

    let _web = Server::http(ns, (GATEWAY, 8080), "hello");
    let _dns = Server::answering(ns, (GATEWAY, 53), |q| e2e::dns::answer(q, &[[192, 0, 2, 1].into()]));
    let kinds = ::detour::dnat::events::KINDS.iter().flat_map(|(_, _, name)| ["--kind", *name]);
    let events = Events::start(ns, commands::DEVICE, &[vec!["-j"], kinds.collect()].concat());
    let socket = talk::udp(&lab.client, 0);
    socket.send_to(&e2e::dns::question("www.example.org"), (GATEWAY, 53)).unwrap();
    talk::next(&socket).unwrap();
    for port in [9, 10] {
        socket.send_to(b"x", ("192.0.2.1", port)).unwrap();
    }
    talk::curl(&lab.client, "http://192.0.2.1/");
    let lines = events.end();
    // Rows with names, and packets without a row: the client may own one only.
    let names = scratch.write("hosts", "192.0.2.1 web.example\n");
    detour::up(ns, commands::DEVICE, &["--fresh", "--rule", "udp drop", "--asked-max", "16"]);
    (1..=3).for_each(|port| assert_eq!(socket.send_to(b"x", ("192.0.2.1", port)).unwrap(), 1));
    // Nor is there room for more than three clients.
    for host in 60..64 {
        lab::ip(&lab.client, &format!("address add 192.168.178.{host}/24 dev eth0"));
        let socket = lab
            .client
            .within(|| std::net::UdpSocket::bind((std::net::Ipv4Addr::new(192, 168, 178, host), 0)).unwrap());
        assert_eq!(socket.send_to(b"x", "192.0.2.1:1").unwrap(), 1);
    }
    let asked = detour::json(ns, &["asked", commands::DEVICE, "--names", &names]);
    assert_eq!(
        (&asked["rows"][0]["name"], &asked["others"][0]["packets"]),
        (&"web.example".into(), &2.into())
    );
    note(&asked, "", "", seen);
    // No slot for the seventeenth, and what that comes to by either choice.
    let limited = |when_full: &str| {
        let limits = ["--fresh", "--rule", "udp redirect", "--flows-max", "16", "--when-full", when_full];
        detour::up(ns, commands::DEVICE, &limits);
        let events = Events::start(ns, commands::DEVICE, &["-j", "--kind", "refused", "--kind", "full"]);
        for host in 1..=17 {
            for _ in 0..2 {
                let to = std::net::SocketAddr::from(([198, 51, 100, host], 53));
                socket.send_to(&e2e::dns::question("www.example.org"), to).unwrap();
                if host < 17 || when_full == "hold" {
                    talk::next(&socket).unwrap();
                }
            }
        }
        events.end()
    };
    let lines = [lines, limited("hold"), limited("drop")].concat();
    let told: BTreeSet<&str> = lines.iter().filter_map(|line| line["event"].as_str()).collect();
    let all: BTreeSet<&str> = ::detour::dnat::events::KINDS.iter().map(|(_, _, name)| *name).collect();
    assert_eq!(told, all);
    lines.iter().for_each(|line| note(line, "", "", seen));
}

#[test]
fn every_member_of_every_document_is_listed() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    let files = Files::new();
    let mut seen = Seen::new();
    for case in COMMANDS {
        commands::prepare(&lab, &files, case.before);
        let line = files.line(ns, case.line);
        let (code, stdout, stderr) = run(ns, &line);
        assert_eq!(code, Some(case.code), "{}: {stderr}", case.name);
        let printed = documents(&stdout, case.name);
        assert!(!printed.is_empty(), "{} printed nothing", case.name);
        printed.iter().for_each(|document| note(document, "", "", &mut seen));
    }
    for wrong in [&["up"][..], &["up", "nothing0"], &["check", "--rule", "nonsense"], &["down", "lo"]] {
        let line: Vec<String> = wrong.iter().map(|word| word.to_string()).collect();
        let (code, stdout, stderr) = run(ns, &line);
        assert!(code.is_some_and(|code| (1..=6).contains(&code)) && stdout.is_empty(), "{wrong:?}: {stdout}");
        documents(&stderr, &line.join(" ")).iter().for_each(|document| note(document, "", "", &mut seen));
    }
    others(&lab, &files, &mut seen);
    let path = tools::project().join("loader/docs/json.md");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, page(&seen)).unwrap();
    }
    let listed = read(&std::fs::read_to_string(&path).unwrap_or_default());
    let mut wrong = Vec::new();
    for (schema, members) in &seen {
        for (path, kinds) in members {
            let known = listed.get(schema).and_then(|members| members.get(path));
            let new = kinds.iter().filter(|kind| !known.is_some_and(|known| known.contains(**kind)));
            wrong.extend(new.map(|kind| format!("{schema}: {path} as {kind} is not listed")));
        }
    }
    for (schema, members) in &listed {
        // What stands inside of these depends on the machine, such as on its addresses.
        let gone = members.keys().filter(|path| !OF_THE_MACHINE.iter().any(|part| path.starts_with(part)));
        let gone = gone.filter(|path| !seen.get(schema).is_some_and(|seen| seen.contains_key(*path)));
        wrong.extend(gone.map(|path| format!("{schema}: {path} is listed, and nobody prints it")));
    }
    assert!(
        wrong.is_empty(),
        "BLESS=1 cargo test -p e2e --test documents, if so meant:\n{}",
        wrong.join("\n")
    );
    assert!(seen.len() > 30, "{:?}", seen.keys().collect::<Vec<_>>());
}
