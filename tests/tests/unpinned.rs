// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `up --no-pin` where /sys is read-only and no bpf file system is mounted: everything that goes without pins, found again by
//! the ids behind the filters, and nothing left of it.
use e2e::crowd::Crowd;
use e2e::detour::{self, code, up, Run};
use e2e::lab::{Lab, GATEWAY};
use e2e::netns::Netns;
use e2e::serve::Server;
use e2e::snapshot::Snapshot;
use e2e::strace::{self, Fault, EFFECTS};
use e2e::tools::{self, Scratch};
use e2e::version::{compile, COUNTS};
use e2e::witness::{is_read, Witness};
use e2e::{crowd, faults};
use nix::fcntl::{Flock, FlockArg};
use serde_json::Value;
use std::net::SocketAddr;
use std::process::Command;

const DEVICE: &str = "eth0";
const RULES: [&str; 2] = ["--rule", "tcp redirect to :7007"];
const UP: [&str; 5] = ["up", DEVICE, "--no-pin", RULES[0], RULES[1]];

fn far(port: u16) -> SocketAddr {
    ([198, 51, 100, 7], port).into()
}

fn bare() -> Lab {
    Lab::on(Netns::bare(), DEVICE)
}

/// One that is compared with what it was.
fn alone() -> (Lab, Snapshot) {
    let lab = Lab::on(Netns::bare_alone(), DEVICE);
    let before = Snapshot::take(&lab.gateway);
    (lab, before)
}

/// What `up` with these rules and `more` came to.
fn change(ns: &Netns, more: &[&str]) -> String {
    let document = detour::json(ns, &[&UP[..], more].concat());
    document["change"].as_str().unwrap().to_string()
}

fn flows(ns: &Netns) -> usize {
    detour::json(ns, &["flows", DEVICE])["flows"].as_array().unwrap().len()
}

/// The programs in place.
fn ids(ns: &Netns) -> Vec<Value> {
    let of = |hook: &&str| tools::filters(ns, DEVICE, hook);
    tools::HOOKS.iter().flat_map(of).map(|row| row["options"]["prog"]["id"].clone()).collect()
}

fn clsact(ns: &Netns) -> bool {
    tools::qdiscs(ns).iter().any(|qdisc| qdisc["kind"] == "clsact")
}

#[test]
fn everything_goes_without_a_bpf_file_system() {
    let (lab, before) = alone();
    let ns = &lab.gateway;
    assert!(ns.output(Command::new("mkdir").arg("/sys/fs/bpf/detour")).status.code() != Some(0));
    // Without being told nothing is done, and what could be done is said.
    detour::run(ns, &["up", DEVICE]).refused(code::KERNEL, &["--mount-bpffs", "--no-pin"]);
    detour::run(ns, &["load", "@trace", DEVICE]).refused(code::KERNEL, &["--mount-bpffs"]);
    detour::run(ns, &["down", DEVICE]).refused(code::NO, &["no instance 'up'"]);
    detour::run(ns, &["status"]).ends(code::NO);
    detour::run(ns, &["up", DEVICE, "--no-pin", "--mount-bpffs"]).refused(code::USAGE, &["--mount-bpffs"]);
    detour::run(ns, &["up", DEVICE, "--no-pin", "--original-dst"])
        .refused(code::USAGE, &["--original-dst", "unless it is pinned", "--mount-bpffs", "detour orig"]);
    before.holds(ns, "what was refused");

    let _echo = Server::echo(ns, (GATEWAY, 7007));
    assert_eq!(change(ns, &[]), "loaded");
    let mut crowd = Crowd::new(&lab.client, 8, |n| far(1000 + n as u16));
    let status = detour::json(ns, &["status"]);
    let instance = &status["instances"][0];
    assert_eq!((&instance["device"], &instance["instance"]), (&DEVICE.into(), &"up".into()), "{status:#}");
    assert_eq!(instance["pinned"], false);
    let head = detour::run(ns, &["status"]).done().stdout;
    assert!(head.lines().next().unwrap().ends_with("  nothing pinned"), "{head}");
    assert!(instance["programs"].as_array().unwrap().iter().all(|p| p["in_place"] == true), "{status:#}");
    assert_eq!(flows(ns), 8);
    assert_eq!(detour::json(ns, &["asked", DEVICE])["rows"].as_array().unwrap().len(), 8);
    assert_eq!(detour::json(ns, &["rules", DEVICE])["rules"][0]["port"], 7007);
    let maps = detour::json(ns, &["map", "list", DEVICE, "up"])["maps"].as_array().unwrap().len();
    assert!(maps > 20, "{maps}");
    detour::run(ns, &["metrics"]).done();
    let seen = detour::run(ns, &["verify", "--live", DEVICE]).done();
    assert!(
        seen.stdout.contains("ok       map rules_1") && !seen.stdout.contains("unseen "),
        "{}",
        seen.stdout
    );
    let owners = detour::json(ns, &["list", DEVICE]);
    assert_eq!(owners.to_string().matches("\"up\"").count(), 2, "{owners}");

    // Nothing is missing for what runs so. Who may not look at it is told so, and not of strangers or mounts.
    let doctor = |checks: &[&str], findings: &Value| -> Vec<Value> {
        let all = findings["findings"].as_array().unwrap().iter();
        all.filter(|one| checks.contains(&one["check"].as_str().unwrap())).cloned().collect()
    };
    let found = doctor(&["bpffs"], &detour::json(ns, &["doctor", DEVICE]));
    assert_eq!(found[0]["state"], "ok", "{found:?}");
    assert!(found[0]["finding"].to_string().contains("runs on eth0 without pins"), "{found:?}");
    let without = |line: &[&str]| {
        let mut setpriv = Command::new("setpriv");
        setpriv.args(["--bounding-set", "-sys_admin", "--inh-caps=-all"]).arg(detour::path()).args(line);
        detour::Run::of(line, &ns.output(setpriv.env("NO_COLOR", "1")))
    };
    let found = without(&["doctor", DEVICE, "-j"]).json();
    let before_us = doctor(&["before us at ingress", "before us at egress"], &found);
    assert!(before_us.len() == 2 && before_us.iter().all(|one| one["state"] == "ok"), "{before_us:?}");
    let hidden = doctor(&["instance"], &found);
    assert!(hidden[0]["finding"].to_string().contains("pinned nowhere here"), "{hidden:?}");
    for line in [&["up", DEVICE][..], &["up", DEVICE, "--no-pin"], &["down", DEVICE], &["asked", DEVICE]] {
        without(line)
            .refused(code::PERMISSION, &["'up' runs on eth0 and is pinned nowhere here", "CAP_SYS_ADMIN"]);
    }

    let flow = &detour::json(ns, &["flows", DEVICE])["flows"][0];
    let client = format!("{}:{}", flow["client"]["address"].as_str().unwrap(), flow["client_port_at_server"]);
    let asked = detour::json(ns, &["orig", "tcp", &client, &format!("{GATEWAY}:7007")]);
    assert_eq!(asked["flow"]["original"], flow["original"], "{asked}");

    // Other rules, flag or not; who talks goes on.
    assert_eq!(change(ns, &[]), "none");
    let line = ["up", DEVICE, "--original-dst", RULES[0], RULES[1]];
    detour::run(ns, &line).refused(code::USAGE, &["--original-dst", "unless it is pinned"]);
    up(ns, DEVICE, &[RULES[0], RULES[1], "--rule", "udp drop"]);
    assert_eq!(detour::json(ns, &["rules", DEVICE])["rules"].as_array().unwrap().len(), 2);
    crowd.exchange();
    assert_eq!(flows(ns), 8);
    let line = ["flush", DEVICE, "tcp dport 1000"];
    assert_eq!(detour::json(ns, &line)["flows"]["ended"], 1);
    assert_eq!(flows(ns), 7);

    detour::run(ns, &["down", DEVICE]).done();
    detour::run(ns, &["down", DEVICE]).refused(code::NO, &["no instance 'up'"]);
    assert!(!clsact(ns));
    before.holds(ns, "up and down");
}

#[test]
fn the_plan_is_what_happens() {
    let lab = bare();
    let ns = &lab.gateway;
    let mut plans = Vec::new();
    let fresh = ["up", DEVICE, "--fresh", "--flows-max", "1000"];
    for line in [&UP[..], &["up", DEVICE, "--rule", "udp drop"], &fresh, &["down", DEVICE]] {
        let plan = detour::json(ns, &[&["plan"], line].concat());
        let (output, calls) = strace::trace(ns, &detour::command(line), EFFECTS, None);
        assert!(output.status.success(), "{line:?}: {}", String::from_utf8_lossy(&output.stderr));
        Witness::compare(&plan, &calls);
        plans.push(plan["steps"].as_array().unwrap().clone());
    }
    for step in plans.iter().flatten() {
        assert!(["bpf", "netlink", "rlimit"].contains(&step["do"].as_str().unwrap()), "{step}");
        assert!(!["OBJ_PIN", "OBJ_GET"].contains(&step["command"].as_str().unwrap_or("")), "{step}");
    }
    let count = |plan: &[Value], name: &str| plan.iter().filter(|step| step["command"] == name).count();
    // The record to both programs; the two tables of rules, which no instruction names, to one.
    assert_eq!(count(&plans[0], "PROG_BIND_MAP"), 4);
    assert!(count(&plans[1], "MAP_GET_FD_BY_ID") > 2 && count(&plans[2], "PROG_GET_FD_BY_ID") == 2);
}

/// The same name, the same index, no file system that could tell them apart.
#[test]
fn two_namespaces_with_the_same_device() {
    let one = bare();
    let two = Lab::on(one.gateway.beside(), DEVICE);
    let _servers = [&one, &two].map(|lab| Server::echo(&lab.gateway, (GATEWAY, 7007)));
    for lab in [&one, &two] {
        assert_eq!(change(&lab.gateway, &[]), "loaded");
    }
    let mut crowd = Crowd::new(&two.client, 3, |n| far(80 + n as u16));
    assert_eq!((flows(&one.gateway), flows(&two.gateway)), (0, 3));
    detour::run(&one.gateway, &["down", DEVICE]).done();
    detour::run(&one.gateway, &["status"]).ends(code::NO);
    crowd.exchange();
    // Whoever stands elsewhere reaches it by -n.
    let path = two.gateway.path().display().to_string();
    detour::run(&one.gateway, &["-n", &path, "status", DEVICE]).done();
    detour::run(&one.gateway, &["-n", &path, "down", DEVICE]).done();
    assert!(!clsact(&two.gateway));
}

#[test]
fn other_programs_take_over_and_a_kill_between_them_is_mended() {
    const RTM_NEWTFILTER: u16 = 44;
    let scratch = Scratch::new();
    let other = compile(&scratch, "counts.bpf.o", &COUNTS);
    let (lab, before) = alone();
    let ns = &lab.gateway;
    let _echo = Server::echo(ns, (GATEWAY, 7007));
    change(ns, &[]);
    let mut crowd = Crowd::new(&lab.client, 8, |n| far(1000 + n as u16));
    let first = ids(ns);
    let line = [&UP[..], &["--object", &other]].concat();
    let (output, calls) = strace::trace(ns, &detour::command(&line), "sendto", None);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(ids(ns).iter().all(|id| !first.contains(id)));
    crowd.exchange();
    assert_eq!(change(ns, &[]), "upgraded");
    assert_eq!(change(ns, &[]), "none");
    assert_eq!(flows(ns), 8);

    // Egress is new, ingress is old; both work on the same maps.
    let puts = calls.iter().enumerate().filter(|(_, call)| call.netlink() == Some(RTM_NEWTFILTER));
    let puts: Vec<usize> = puts.map(|(n, _)| n + 1).collect();
    assert_eq!(puts.len(), 2, "{puts:?}");
    for (mends, what) in [(&line[..], "the new one"), (&UP[..], "the old one")] {
        let old = ids(ns);
        strace::inject(ns, &detour::command(&line), "sendto", &Fault::kill("sendto", puts[1]))
            .expect("a kill");
        assert_eq!(ids(ns).iter().filter(|id| old.contains(id)).count(), 1, "half of it");
        crowd.exchange();
        let seen = detour::run(ns, &["status", DEVICE]).ends(code::NO);
        assert!(seen.stdout.contains("interrupted"), "{}", seen.stdout);
        assert_eq!(flows(ns), 8);
        let document = detour::json(ns, mends);
        assert_eq!(document["change"], "upgraded", "{what}");
        detour::run(ns, &["status", DEVICE]).done();
        assert_eq!(flows(ns), 8, "{what}");
        crowd.exchange();
        change(ns, &[]);
    }
    // Empty maps, but for those of what was asked for.
    let fresh = [&UP[..], &["--fresh"]].concat();
    let asked = || {
        let rows = detour::json(ns, &["asked", DEVICE])["rows"].take();
        let row = |row: &Value| (row["port"].as_u64(), row["packets"].as_u64());
        let mut rows: Vec<_> = rows.as_array().unwrap().iter().map(row).collect();
        rows.sort();
        rows
    };
    let rows = asked();
    assert_eq!((rows.len(), change(ns, &["--fresh"]).as_str(), flows(ns)), (8, "replaced", 0));
    assert_eq!(asked(), rows);
    // Halves that have those in common, or not even those: the next one goes on with the maps before, or begins anew with its own.
    drop(crowd);
    let mut crowd = Crowd::new(&lab.client, 8, |n| far(2000 + n as u16));
    let flows = |ns: &Netns| {
        let all = detour::json(ns, &["flows", DEVICE])["flows"].take();
        all.as_array().unwrap().iter().filter(|flow| flow["original"]["port"].as_u64() >= Some(2000)).count()
    };
    let larger = [&fresh[..], &["--asked-max", "4096"]].concat();
    for (killed, next, change, left) in [
        (&fresh, &UP[..], "upgraded", 8),
        (&larger, &UP[..], "upgraded", 8),
        (&larger, &fresh[..], "replaced", 0),
    ] {
        let rows = asked();
        strace::inject(ns, &detour::command(killed), "sendto", &Fault::kill("sendto", puts[1]))
            .expect("a kill");
        let seen = detour::run(ns, &["status", DEVICE]).ends(code::NO);
        let words =
            "was interrupted while it replaced 'up': 'detour up eth0' with its rules and options mends it, \
                     'detour down eth0' takes";
        assert!(seen.stdout.contains(words), "{}", seen.stdout);
        assert_eq!((asked(), flows(ns)), (rows.clone(), 8), "{killed:?}");
        assert_eq!(detour::json(ns, next)["change"], change, "{killed:?}, {next:?}");
        assert_eq!((asked(), flows(ns)), (rows, left), "{killed:?}, {next:?}");
        detour::run(ns, &["verify", "--live", DEVICE]).done();
        // What is not known any more is picked up again.
        crowd.exchange();
    }
    strace::inject(ns, &detour::command(&fresh), "sendto", &Fault::kill("sendto", puts[1])).expect("a kill");
    detour::run(ns, &["down", DEVICE]).done();
    before.holds(ns, "halves and wholes");
}

/// Every effect of `up` and `down` failed and killed; a killed one is mended by the next `down`, or by `up` and `down`.
#[test]
fn every_call_of_up_and_down() {
    let (lab, before) = alone();
    let ns = &lab.gateway;
    let mut broken = 0;
    for line in [&UP[..], &["down", DEVICE]] {
        let prepare = || {
            if line[0] == "down" {
                change(ns, &[]);
            }
        };
        prepare();
        let (output, calls) = strace::trace(ns, &detour::command(line), "bpf,sendto,flock", None);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        detour::run(ns, &["down", DEVICE]);
        before.holds(ns, "a run without faults");
        for (name, error) in [("bpf", "ENOMEM"), ("sendto", "ENOBUFS"), ("flock", "ENOLCK")] {
            let made = calls.iter().filter(|call| call.name == name).enumerate();
            // Maps are made, and looked at, one like the other: each fourth.
            let alike = |nth: usize| name == "bpf" && nth % 4 != 0;
            for (nth, call) in made.filter(|(nth, call)| !alike(*nth) || call.bpf() == Some(5)) {
                let nth = nth + 1;
                let what = format!("{} with {error} from {name} {nth}: {:?}", line[0], call.bpf());
                prepare();
                let output =
                    strace::inject(ns, &detour::command(line), name, &Fault::error(name, nth, error));
                let output = output.unwrap_or_else(|| panic!("{what}: no fault"));
                let text = String::from_utf8_lossy(&output.stderr);
                assert!(!text.contains("panicked"), "{what}: {text}");
                // The end of the process gives a lock back, too.
                let refused = output.status.code() == Some(code::KERNEL) && !text.is_empty();
                assert!(refused || name == "flock", "{what}: {output:?}");
                if line[0] == "up" && refused {
                    before.holds(ns, &what);
                }
                mend(ns, nth);
                before.holds(ns, &what);
                prepare();
                strace::inject(ns, &detour::command(line), name, &Fault::kill(name, nth)).expect("a kill");
                if is_read(call) && line[0] == "up" {
                    before.holds(ns, "who only looked");
                }
                mend(ns, nth);
                before.holds(ns, &format!("{} killed in {name} {nth}", line[0]));
                broken += 2;
            }
        }
    }
    assert!(broken > 40, "{broken}");
    println!("{broken} faults");
}

fn mend(ns: &Netns, nth: usize) {
    if nth % 2 == 0 {
        detour::run(ns, &UP).done();
    }
    let run = detour::run(ns, &["down", DEVICE]);
    assert!(matches!(run.code, Some(code::DONE | code::NO)), "{run:?}");
}

/// A reload that fails or dies leaves rules that are whole, and who talks goes on.
#[test]
fn every_call_of_a_reload() {
    let lab = bare();
    let ns = &lab.gateway;
    up(ns, DEVICE, &["--no-pin", "--rule", faults::TALK]);
    let mut talk = faults::Talk::begin(&lab);
    let line = ["up", DEVICE, "--rule", faults::TALK, "--rule", "udp drop"];
    let (output, calls) = strace::trace(ns, &detour::command(&line), "bpf", None);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let rules = || detour::json(ns, &["rules", DEVICE])["rules"].as_array().unwrap().len();
    let first = calls.iter().position(|call| !is_read(call)).unwrap();
    assert!(calls.len() - first > 3);
    for nth in first..=calls.len() {
        up(ns, DEVICE, &["--rule", faults::TALK]);
        let what = format!("ENOMEM from bpf {nth}");
        let output = strace::inject(ns, &detour::command(&line), "bpf", &Fault::error("bpf", nth, "ENOMEM"));
        let refused = output.expect("a fault").status.code() == Some(code::KERNEL);
        assert!(refused && rules() == 1, "{what}");
        talk.goes_on(&what);
        strace::inject(ns, &detour::command(&line), "bpf", &Fault::kill("bpf", nth)).expect("a kill");
        assert!([1, 2].contains(&rules()));
        talk.goes_on(&format!("killed in bpf {nth}"));
    }
}

/// Several at once: one makes it, the others find it. The namespace is the lock.
#[test]
fn one_at_a_time() {
    let lab = bare();
    let ns = &lab.gateway;
    let runs: Vec<Run> = std::thread::scope(|scope| {
        let all: Vec<_> =
            (0..4).map(|_| scope.spawn(|| detour::run(ns, &[&UP[..], &["-j"]].concat()))).collect();
        all.into_iter().map(|run| run.join().unwrap()).collect()
    });
    let mut changes: Vec<String> =
        runs.into_iter().map(|run| run.done().json()["change"].as_str().unwrap().to_string()).collect();
    changes.sort();
    assert_eq!(changes, ["loaded", "none", "none", "none"]);
    detour::run(ns, &["verify", "--live", DEVICE]).done();
    // Whoever holds the namespace's inode is waited for, wherever he opened it.
    let file = std::fs::File::open(ns.path()).unwrap();
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno).unwrap();
    let mut child = ns.within(|| detour::command(&["down", DEVICE]).spawn().unwrap());
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(child.try_wait().unwrap().is_none() && clsact(ns));
    drop(lock);
    assert!(child.wait().unwrap().success() && !clsact(ns));
}

#[test]
fn what_others_put_there_stays() {
    let lab = bare();
    let ns = &lab.gateway;
    // Their clsact.
    ns.run("tc", &["qdisc", "add", "dev", DEVICE, "clsact"]);
    tools::foreign_filter(ns, DEVICE, "ingress", 3);
    change(ns, &[]);
    detour::run(ns, &["down", DEVICE]).done();
    assert!(clsact(ns) && ids(ns).len() == 1, "theirs");
    detour::run(ns, &["down", DEVICE]).ends(code::NO);
    ns.run("tc", &["qdisc", "del", "dev", DEVICE, "clsact"]);
    // Their filter in ours: when it is gone, the next one clears clsact.
    change(ns, &[]);
    tools::foreign_filter(ns, DEVICE, "ingress", 3);
    let said = detour::run(ns, &["down", DEVICE]).done();
    assert!(said.stdout.contains("clsact stays") && clsact(ns), "{}", said.stdout);
    detour::run(ns, &["down", DEVICE]).ends(code::NO);
    ns.run("tc", &["filter", "del", "dev", DEVICE, "ingress"]);
    detour::run(ns, &["down", DEVICE]).done();
    assert!(!clsact(ns));
}

/// With a bpf file system it goes, too; what runs stays what it is until it is taken down.
#[test]
fn beside_pins() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let before = Snapshot::take(ns);
    let _echo = Server::echo(ns, (GATEWAY, 7007));
    detour::run(ns, &["load", "@trace", DEVICE]).done();
    let traced = Snapshot::take(ns);
    assert_eq!(change(ns, &[]), "loaded");
    up(ns, DEVICE, &["--rule", "tcp redirect to :7007", "--rule", "udp drop"]);
    crowd::honest(&lab.client, far(80)).unwrap();
    let status = detour::json(ns, &["status", DEVICE]);
    let pinned = |name: &str| {
        let all = status["instances"].as_array().unwrap();
        all.iter().find(|i| i["instance"] == name).unwrap_or_else(|| panic!("{status:#}"))["pinned"].clone()
    };
    assert_eq!((pinned("trace"), pinned("up")), (true.into(), false.into()));
    detour::run(ns, &["down", DEVICE]).done();
    traced.holds(ns, "an instance without pins beside one with pins");
    detour::run(ns, &["unload", DEVICE]).done();
    // The other way round: clsact was made without pins, and goes with the last.
    change(ns, &[]);
    detour::run(ns, &["load", "@trace", DEVICE]).done();
    detour::run(ns, &["down", DEVICE]).done();
    detour::run(ns, &["unload", DEVICE]).done();
    before.holds(ns, "both, in either order");
    up(ns, DEVICE, &RULES);
    detour::run(ns, &UP).refused(code::FOREIGN, &["with pins", "detour down"]);
    // Who does not see those pins does not take it for one without.
    let blind = |line: &[&str]| {
        let sys = "mount -t sysfs sysfs /sys; exec \"$0\" \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-ec", sys]).arg(detour::path()).args(line);
        Run::of(line, &ns.output(&mut command))
    };
    blind(&["status", DEVICE]).refused(code::KERNEL, &["no BPF file system"]);
    blind(&["down", DEVICE]).refused(code::KERNEL, &["no BPF file system"]);
    blind(&UP).refused(code::FOREIGN, &["not ours (detour/up/detour_out)", "another /sys/fs/bpf"]);
    detour::run(ns, &["down", DEVICE]).done();
    // A killed `up` left pins: they go.
    let fault = Fault::kill("rename", 1);
    strace::inject(ns, &detour::command(&["up", DEVICE]), "rename", &fault).expect("a kill");
    assert_eq!(change(ns, &[]), "loaded");
    detour::run(ns, &["down", DEVICE]).done();
    before.holds(ns, "pins that were left");
}
