// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `load --replace`: another program at the same place in one message, undone whole when it fails.
use e2e::detour::{self, code};
use e2e::lab::Lab;
use e2e::netns::Netns;
use e2e::snapshot::Snapshot;
use e2e::strace::{self, Fault, EFFECTS};
use e2e::tools;
use serde_json::Value;

const DEVICE: &str = "eth0";

/// The one program of ours at ingress.
fn here(ns: &Netns) -> Value {
    let document = detour::json(ns, &["list", DEVICE]);
    let rows = document["programs"].as_array().unwrap();
    assert_eq!(rows.len(), 1, "{document}");
    rows[0].clone()
}

fn load(what: &str, rest: &[&'static str]) -> Vec<String> {
    let load = [&["load", what, DEVICE, "--name", "lab"], rest].concat();
    load.into_iter().map(str::to_owned).collect()
}

fn run(ns: &Netns, arguments: &[String]) -> detour::Run {
    detour::run(ns, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn the_place_stays_and_the_program_is_another() {
    for tcx in [&[][..], &["--tcx"]] {
        let lab = Lab::on(Netns::alone(), DEVICE);
        let ns = &lab.gateway;
        let before = Snapshot::take(ns);
        let replace = |what| load(what, &[tcx, &["--replace"]].concat());
        // With nothing there it is an ordinary load.
        run(ns, &replace("@trace")).done();
        let first = here(ns);
        run(ns, &load("@drop", tcx)).refused(code::FOREIGN, &["lab"]);
        run(ns, &replace("@drop")).done();
        let second = here(ns);
        assert_eq!((&second["program_name"], &second["owner"]), (&"drop".into(), &"lab".into()));
        for same in ["prio", "handle", "link_id", "kind"] {
            assert_eq!(first[same], second[same], "{same}");
        }
        let status = detour::run(ns, &["status", DEVICE]).done().stdout;
        assert!(status.contains("drop") && !status.contains("left over"), "{status}");
        run(ns, &replace("@drop")).done();
        assert_ne!(here(ns)["id"], second["id"], "the same object again is loaded again");
        let folders = ns.run("ls", &["-R", "/sys/fs/bpf/detour"]);
        assert!(!folders.contains("-new") && !folders.contains("trace"), "{folders}");
        detour::run(ns, &["unload", DEVICE, "lab"]).done();
        before.holds(ns, "three programs, one after the other");
    }
}

#[test]
fn other_hooks_are_refused() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    run(ns, &load("@trace", &[])).done();
    let before = Snapshot::take(ns);
    for other in [
        &["--replace", "--egress", "drop"][..],
        &["--replace", "--tcx"],
        &["--replace", "--ingress", "drop", "--egress", "drop"],
    ] {
        run(ns, &load("@drop", other)).refused(code::USAGE, &["other hooks"]);
    }
    before.holds(ns, "refusals");
}

/// Effects fail before the commit: what ran before runs again, at the same place. After it, the new one stays.
#[test]
fn a_failure_leaves_the_old_program() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    for tcx in [&[][..], &["--tcx"]] {
        run(ns, &load("@trace", tcx)).done();
        let (before, old) = (Snapshot::take(ns), here(ns));
        let arguments = load("@drop", &[tcx, &["--replace"]].concat());
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        for fault in [Fault::error("renameat2", 1, "EINVAL"), Fault::error("mkdir", 1, "ENOSPC")] {
            let (output, _) = strace::trace(ns, &detour::command(&arguments), EFFECTS, Some(&fault));
            assert!(!output.status.success(), "{fault:?}");
            assert_eq!(here(ns)["id"], old["id"], "{fault:?}: {}", String::from_utf8_lossy(&output.stderr));
            before.holds(ns, "a failed replacement");
        }
        let fault = Fault::error("unlink", 2, "EIO");
        let (output, _) = strace::trace(ns, &detour::command(&arguments), EFFECTS, Some(&fault));
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains("the new instance runs"), "{text}");
        assert_ne!(here(ns)["id"], old["id"], "{text}");
        detour::run(ns, &["unload", DEVICE, "lab"]).done();
    }
    assert!(tools::filters(ns, DEVICE, "ingress").is_empty());
}
