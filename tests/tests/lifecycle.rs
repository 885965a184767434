// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `up`, `down`, `load` and `unload` beside other people's work: what is ours comes and goes, what is not stays.
use e2e::detour::{self, code, up};
use e2e::lab::{ip, Lab, CLIENT, CLIENT6};
use e2e::netns::Netns;
use e2e::serve::Server;
use e2e::snapshot::Snapshot;
use e2e::{talk, tools};
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

const DEVICE: &str = "eth0";
const PRIO: u64 = 100;
const HANDLE: &str = "0xd370";

fn works(lab: &Lab) {
    let far = Ipv4Addr::new(8, 8, 8, 8);
    assert_eq!(talk::ping(&lab.client, 7, far).unwrap(), IpAddr::V4(far));
}

/// The ids of our programs, ingress first; each hook has exactly one filter of ours, in its place.
fn ours(ns: &Netns, device: &str) -> Vec<u64> {
    let program = |hook| {
        let filters = tools::filters(ns, device, hook);
        let ours: Vec<&Value> = filters.iter().filter(|f| f["pref"] == PRIO).collect();
        assert_eq!(ours.len(), 1, "{hook}: {filters:?}");
        let options = &ours[0]["options"];
        assert_eq!(
            (&options["handle"], &options["direct-action"]),
            (&Value::from(HANDLE), &Value::Bool(true))
        );
        assert!(options["bpf_name"].as_str().unwrap().contains("detour"), "{options}");
        options["prog"]["id"].as_u64().unwrap()
    };
    tools::HOOKS.map(program).to_vec()
}

/// Whether the program has anything in the bpf file system.
fn has_state(ns: &Netns) -> bool {
    ns.within(|| std::path::Path::new("/sys/fs/bpf/detour").exists())
}

#[test]
fn up_twice_is_up_once_and_down_takes_all_away() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let before = Snapshot::take(&lab.gateway);
    up(&lab.gateway, DEVICE, &[]);
    let programs = ours(&lab.gateway, DEVICE);
    let first = Snapshot::take(&lab.gateway);
    up(&lab.gateway, DEVICE, &[]);
    assert_eq!(ours(&lab.gateway, DEVICE), programs, "nothing was loaded again");
    first.holds(&lab.gateway, "the second up");
    works(&lab);
    detour::run(&lab.gateway, &["status", DEVICE]).done();
    detour::run(&lab.gateway, &["down", DEVICE]).done();
    before.holds(&lab.gateway, "up, up, down");
    for command in ["down", "status", "flows", "asked"] {
        detour::run(&lab.gateway, &[command, DEVICE]).ends(code::NO);
    }
    before.holds(&lab.gateway, "looking at nothing");
}

#[test]
fn plan_changes_nothing() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let before = Snapshot::take(&lab.gateway);
    for what in [&["plan", "up", DEVICE][..], &["plan", "load", "@drop", DEVICE]] {
        assert!(!detour::run(&lab.gateway, what).done().stdout.is_empty());
        detour::json(&lab.gateway, what);
    }
    detour::run(&lab.gateway, &["load", "@trace", DEVICE, "--no-attach"]).done();
    detour::run(&lab.gateway, &["inspect", "@dnat"]).done();
    before.holds(&lab.gateway, "plan, a dry run and inspect");
}

#[test]
fn what_is_foreign_survives() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    ns.run("tc", &["qdisc", "add", "dev", DEVICE, "clsact"]);
    for hook in tools::HOOKS {
        for prio in [1, 99, 101] {
            tools::foreign_filter(ns, DEVICE, hook, prio);
        }
    }
    // Another filter in our own priority, and folders of others and of ours beside ours.
    ns.run(
        "tc",
        &[
            "filter",
            "add",
            "dev",
            DEVICE,
            "ingress",
            "prio",
            "100",
            "handle",
            "7",
            "protocol",
            "all",
            "bpf",
            "da",
            "bytecode",
            "1,6 0 0 4294967295",
        ],
    );
    ns.within(|| std::fs::create_dir_all("/sys/fs/bpf/others/things").unwrap());
    let before = Snapshot::take(ns);
    up(ns, DEVICE, &[]);
    works(&lab);
    let during = Snapshot::take(ns);
    assert!(before.changes(&during).iter().all(|change| change.starts_with('+')), "only additions");
    detour::run(ns, &["down", DEVICE]).done();
    before.holds(ns, "up and down");
    assert!(tools::has_clsact(ns, DEVICE), "it was there before");
}

#[test]
fn clsact_stays_while_others_use_it() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    up(ns, DEVICE, &[]);
    tools::foreign_filter(ns, DEVICE, "egress", 5);
    detour::run(ns, &["down", DEVICE]).done();
    assert_eq!(tools::filters(ns, DEVICE, "egress").len(), 1, "the foreign one");
    assert_eq!(tools::filters(ns, DEVICE, "ingress").len(), 0);
}

#[test]
fn a_filter_that_somebody_replaced_is_not_ours_any_more() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    up(ns, DEVICE, &[]);
    let place = ["dev", DEVICE, "ingress", "prio", "100", "handle", HANDLE];
    ns.run("tc", &[&["filter", "del"][..], &place, &["bpf"]].concat());
    let bytecode = ["protocol", "all", "bpf", "da", "bytecode", "1,6 0 0 4294967295"];
    ns.run("tc", &[&["filter", "add"][..], &place, &bytecode].concat());
    detour::run(ns, &["down", DEVICE]).done();
    assert_eq!(tools::filters(ns, DEVICE, "ingress").len(), 1, "the foreign one stays");
    assert_eq!(tools::filters(ns, DEVICE, "egress").len(), 0);
    assert!(!has_state(ns), "no pins stay");
}

#[test]
fn a_foreign_tcx_program_survives_on_the_same_hooks() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    for hook in tools::HOOKS {
        tools::foreign_tcx(ns, DEVICE, hook, &format!("/sys/fs/bpf/tcx_{hook}"));
    }
    let links = || tools::objects(ns, "link").len();
    let (before, there) = (Snapshot::take(ns), links());
    up(ns, DEVICE, &[]);
    works(&lab);
    assert_eq!(links(), there, "ours are filters, the others' links are there");
    detour::run(ns, &["down", DEVICE]).done();
    before.holds(ns, "up and down beside tcx");
}

#[test]
fn devices_with_odd_names() {
    for name in ["eth0.100", "a-b_c+1", "0", "fifteen-letters"] {
        let lab = Lab::on(Netns::new(), name);
        up(&lab.gateway, name, &[]);
        ours(&lab.gateway, name);
        works(&lab);
        detour::run(&lab.gateway, &["status", name]).done();
        detour::run(&lab.gateway, &["down", name]).done();
        assert!(!tools::has_clsact(&lab.gateway, name));
    }
}

#[test]
fn several_devices_at_once() {
    let lab = Lab::new();
    let server = lab.server();
    up(&lab.gateway, DEVICE, &[]);
    up(&lab.gateway, "eth1", &[]);
    works(&lab);
    let far = Ipv4Addr::new(7, 7, 7, 7);
    assert_eq!(talk::ping(&server, 9, far).unwrap(), IpAddr::V4(far));
    let text = detour::run(&lab.gateway, &["status"]).done().stdout;
    assert!(text.contains(DEVICE) && text.contains("eth1"), "{text}");
    detour::run(&lab.gateway, &["down", DEVICE]).done();
    assert_eq!(talk::ping(&server, 10, far).unwrap(), IpAddr::V4(far), "the other one is still up");
    detour::run(&lab.gateway, &["down", "eth1"]).done();
}

#[test]
fn a_namespace_is_named_by_its_path() {
    let lab = Lab::new();
    let path = lab.gateway.path();
    let here = lab.gateway.beside();
    detour::run(&here, &["-n", path.to_str().unwrap(), "up", DEVICE]).done();
    works(&lab);
    detour::run(&here, &["status", DEVICE]).ends(code::KERNEL);
    detour::run(&here, &["-n", path.to_str().unwrap(), "down", DEVICE]).done();
    detour::run(&here, &["-n", "/proc/self/exe", "up", DEVICE]).refused(code::KERNEL, &["/proc/self/exe"]);
}

/// A namespace that gets the inode of one that has just died, if that can be had soon.
fn made_again(holder: &Netns, inode: u64) -> Option<Netns> {
    for attempt in 0..50 {
        // The kernel gives the lowest free number, also to each namespace's own files in /proc: what is made while the
        // dead one is still being cleaned up may take it for such a file, so all of them go before the next attempt.
        let mut others = Vec::new();
        for _ in 0..=attempt % 8 {
            let next = holder.beside();
            if next.inode() == inode {
                return Some(next);
            }
            others.push(next);
        }
        drop(others);
        std::thread::sleep(Duration::from_millis(200));
    }
    None
}

/// Inodes of namespaces are used again, and so are interface indexes: pins of a dead namespace are nobody's.
#[test]
fn a_namespace_made_again_with_the_same_inode_is_another_one() {
    let holder = Netns::alone(); // others would take the free number
    let again = (0..6).find_map(|_| {
        let lab = Lab::on(holder.beside(), DEVICE);
        up(&lab.gateway, DEVICE, &[]);
        let inode = lab.gateway.inode();
        drop(lab);
        // Something else of this machine may have taken the number for good; the next one dies elsewhere.
        made_again(&holder, inode)
    });
    let lab = Lab::on(again.expect("a namespace with the inode of a dead one"), DEVICE);
    detour::run(&lab.gateway, &["status", DEVICE]).ends(code::NO);
    detour::run(&lab.gateway, &["flows", DEVICE]).ends(code::NO);
    // Somebody else's clsact: the dead namespace's mark does not make it ours.
    lab.gateway.run("tc", &["qdisc", "add", "dev", DEVICE, "clsact"]);
    up(&lab.gateway, DEVICE, &[]);
    works(&lab);
    detour::run(&lab.gateway, &["down", DEVICE]).done();
    assert!(tools::has_clsact(&lab.gateway, DEVICE));
    // Of this one: that of those whose number did not come again is still there.
    let mine = format!("{}-", lab.gateway.inode());
    let stays = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.unwrap().file_name().to_string_lossy().starts_with(&mine)
    };
    let left =
        lab.gateway.within(|| std::fs::read_dir("/sys/fs/bpf/detour").is_ok_and(|mut all| all.any(stays)));
    assert!(!left, "nothing stays");
}

#[test]
fn twenty_at_once_are_up_once() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let before = Snapshot::take(ns);
    let at_once = |commands: &[&str]| {
        let start = |command: &&str| {
            let mut command = detour::command(&[command, DEVICE]);
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
            ns.within(move || command.spawn().unwrap())
        };
        let children: Vec<_> = commands.iter().map(start).collect();
        let outputs = children.into_iter().map(|child| child.wait_with_output().unwrap());
        outputs.map(|o| (o.status.code(), String::from_utf8(o.stderr).unwrap())).collect::<Vec<_>>()
    };
    let ends = at_once(&["up"; 20]);
    assert!(ends.iter().all(|(code, _)| *code == Some(0)), "{ends:?}");
    ours(ns, DEVICE);
    works(&lab);
    // In any order, each is done or finds nothing to do, and nothing in between is left.
    let ends = at_once(&["up", "down"].repeat(10));
    assert!(ends.iter().all(|(code, _)| matches!(code, Some(0 | 1))), "{ends:?}");
    let _ = detour::run(ns, &["down", DEVICE]);
    before.holds(ns, "20 up, then 10 up and 10 down at once");
}

#[test]
fn any_object_is_loaded_and_unloaded() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let _web = Server::http(ns, ([0, 0, 0, 0], 80), "hello");
    let before = Snapshot::take(ns);
    let direct = |patience| talk::dial_for(&lab.client, 0, ([192, 168, 178, 2], 80).into(), patience);
    direct(talk::PATIENCE).unwrap();
    detour::run(ns, &["load", "@drop", DEVICE]).done();
    assert!(talk::silence(&direct(talk::SILENCE).unwrap_err()), "everything is dropped");
    let taken = detour::run(ns, &["load", "@drop", DEVICE]).ends(code::FOREIGN);
    assert!(!taken.stderr.is_empty());
    // The same object from a file, under another name, beside it.
    let file = tools::project().join("elf/drop.bpf.o");
    detour::run(ns, &["load", file.to_str().unwrap(), DEVICE, "--name", "second"]).done();
    detour::run(ns, &["unload", DEVICE, "drop"]).done();
    assert!(talk::silence(&direct(talk::SILENCE).unwrap_err()), "the second one still drops");
    detour::run(ns, &["unload", DEVICE, "second"]).done();
    direct(talk::PATIENCE).unwrap();
    detour::run(ns, &["unload", DEVICE, "second"]).ends(code::NO);
    before.holds(ns, "load and unload");
}

#[test]
fn trace_prints_who_talks_to_whom() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    // The trace buffer is the machine's: these addresses are this run's alone.
    let [_, b, c, d] = std::process::id().to_be_bytes();
    let (four, six) = (
        Ipv4Addr::new(10, b, c, d),
        Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, b.into(), u16::from_be_bytes([c, d])),
    );
    ip(ns, &format!("address add {four}/32 dev {DEVICE}\n address add {six}/128 dev {DEVICE} nodad"));
    detour::run(ns, &["load", "@trace", DEVICE]).done();
    talk::ping(&lab.client, 3, four).unwrap();
    let refused = talk::dial(&lab.client, 0, (six, 9).into()).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    let trace = ns.within(|| {
        let none: Option<&str> = None;
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("tracefs"), "/sys/kernel/tracing", Some("tracefs"), flags, none).unwrap();
        std::fs::read_to_string("/sys/kernel/tracing/trace").unwrap()
    });
    detour::run(ns, &["unload", DEVICE, "trace"]).done();
    let line = format!("IPv4 {CLIENT} > {four}");
    assert!(trace.contains(&line), "{line} is not in the trace");
    // Written in full, since the program has no room for the rules of shortening, and on two lines.
    let groups = |ip: Ipv6Addr| ip.segments().map(|group| format!("{group:04x}")).join(":");
    for line in [format!("IPv6 {} >", groups(CLIENT6)), format!("IPv6 > {}", groups(six))] {
        assert!(trace.contains(&line), "{line} is not in the trace");
    }
}
