// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `load --chain N --protocol P --prio N --handle N`: the filter is where `tc` would have put it, in one message, and
//! `--replace` and `unload` find it there.
use e2e::detour::{self, code};
use e2e::lab::{Lab, GATEWAY};
use e2e::netns::Netns;
use e2e::snapshot::Snapshot;
use e2e::{talk, tools};
use serde_json::{json, Value};

const DEVICE: &str = "eth0";
const PLACED: [&str; 8] = ["--chain", "5", "--protocol", "ip", "--prio", "7", "--handle", "0x3"];

fn load(ns: &Netns, rest: &[&str]) -> detour::Run {
    detour::run(ns, &[&["load", "@drop", DEVICE], rest].concat())
}

/// Where tc sees the only bpf filter of the hook: chain, protocol, priority, handle.
fn seen_by_tc(ns: &Netns) -> (Value, u64) {
    let filters = tools::filters(ns, DEVICE, "ingress");
    let ours: Vec<_> = filters.iter().filter(|f| f["kind"] == "bpf").collect();
    assert_eq!(ours.len(), 1, "{filters:?}");
    let f = ours[0];
    let place = json!([f["chain"], f["protocol"], f["pref"], f["options"]["handle"]]);
    (place, f["options"]["prog"]["id"].as_u64().unwrap())
}

#[test]
fn a_filter_sits_where_tc_would_put_it() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let object = tools::project().join("elf/drop.bpf.o").display().to_string();
    ns.run("tc", &["qdisc", "add", "dev", DEVICE, "clsact"]);
    let by_hand = ["filter", "add", "dev", DEVICE, "ingress", "chain", "5", "protocol", "ip", "prio", "7"];
    let what = ["handle", "0x3", "bpf", "da", "obj", &object, "sec", "classifier"];
    ns.run("tc", &[&by_hand[..], &what].concat());
    let (theirs, _) = seen_by_tc(ns);
    // A priority is of one protocol, and a place of one filter.
    load(ns, &PLACED).refused(code::FOREIGN, &["priority 7", "not ours"]);
    let other = ["--chain", "5", "--protocol", "arp", "--prio", "7"];
    load(ns, &other).refused(code::FOREIGN, &["priority 7", "protocol ip"]);
    ns.run("tc", &["filter", "del", "dev", DEVICE, "ingress", "chain", "5"]);
    // tc leaves its folders in the BPF file system.
    let before = Snapshot::take(ns);

    // The same priority of another chain is another place.
    load(ns, &["--name", "usual", "--prio", "7", "--handle", "3"]).done();
    detour::run(ns, &["unload", DEVICE, "usual"]).done();
    let said = load(ns, &PLACED).done().stdout;
    assert!(said.contains("goto chain 5"), "{said}");
    let (ours, first) = seen_by_tc(ns);
    assert_eq!(ours, theirs);
    let row = &detour::json(ns, &["list", DEVICE])["programs"][0];
    assert_eq!(json!([row["chain"], row["protocol"], row["prio"], row["handle"]]), json!([5, "ip", 7, 3]));
    let status = detour::run(ns, &["status", DEVICE]).done().stdout;
    assert!(status.contains("chain 5  protocol ip  drop") && !status.contains("NOT IN PLACE"), "{status}");
    detour::run(ns, &["verify", "--live", DEVICE]).done();

    load(ns, &["--replace"]).done();
    let (place, second) = seen_by_tc(ns);
    assert_eq!(place, theirs);
    assert_ne!(second, first);
    load(ns, &["--replace", "--chain", "5"]).refused(code::USAGE, &["--replace"]);
    detour::run(ns, &["unload", DEVICE, "drop"]).done();
    before.holds(ns, "a filter in a chain");
}

#[test]
fn it_sees_what_goes_there_and_is_of_its_protocol() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    load(ns, &["--chain", "5", "--protocol", "ip"]).done();
    talk::ping(&lab.client, 1, GATEWAY).expect("nobody goes to chain 5");
    // A copy goes back to the client, which it is not for: the action that every kernel with tc tests has.
    let all = ["filter", "add", "dev", DEVICE, "ingress", "prio", "1", "u32", "match", "u32", "0", "0"];
    let goes = ["action", "mirred", "egress", "mirror", "dev", DEVICE, "goto", "chain", "5"];
    ns.run("tc", &[&all[..], &goes].concat());
    talk::ping_for(&lab.client, 2, GATEWAY, std::time::Duration::from_millis(300)).unwrap_err();
    detour::run(ns, &["unload", DEVICE, "drop"]).done();
    ns.run("tc", &["filter", "del", "dev", DEVICE, "ingress", "prio", "1"]);
    // Echoes are IPv4: a filter for ARP does not see them.
    load(ns, &["--protocol", "0x88cc"]).done();
    talk::ping(&lab.client, 3, GATEWAY).expect("LLDP is dropped, IPv4 is not");
    assert_eq!(seen_by_tc(ns).0[1], "LLDP");
}

#[test]
fn what_no_filter_can_have_is_refused() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    for (rest, word) in [
        (["--protocol", "ipx"], "802.1Q"),
        (["--protocol", "0x0"], "802.1Q"),
        (["--chain", "0x10000000"], "--chain"),
        (["--chain", "268435456"], "268435455"),
    ] {
        load(ns, &rest).refused(code::USAGE, &[word]);
    }
    load(ns, &["--tcx", "--chain", "1"]).refused(code::USAGE, &["--tcx"]);
}
