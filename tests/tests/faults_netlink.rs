// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Every message to rtnetlink that changes something, refused by rtnetlink itself: not the call fails, its answer says no.
//!
//! strace makes the answer; the message is not sent. In a namespace of process numbers the program is number 1, and that is
//! what the kernel calls its socket.
use e2e::detour::{self, code, up};
use e2e::faults::Tally;
use e2e::lab::Lab;
use e2e::netns::Netns;
use e2e::snapshot::Snapshot;
use e2e::strace::{self, Call, Fault};
use e2e::tools::{self, Scratch};
use e2e::version::{compile, COUNTS};
use nix::errno::Errno;
use std::cell::RefCell;
use std::process::{Command, Output};

const DEVICE: &str = "eth0";

/// Types of messages (include/uapi/linux/rtnetlink.h), and what tc_modify_qdisc(), tc_get_qdisc(), tc_new_tfilter() and
/// tc_del_tfilter() say no with (net/sched).
const REFUSALS: [(u16, &str, &[Errno]); 4] = [
    (
        36,
        "RTM_NEWQDISC",
        &[Errno::EEXIST, Errno::EBUSY, Errno::ENOENT, Errno::ENODEV, Errno::EPERM, Errno::ENOMEM],
    ),
    (37, "RTM_DELQDISC", &[Errno::ENOENT, Errno::EINVAL, Errno::ENODEV, Errno::EPERM, Errno::EBUSY]),
    (
        44,
        "RTM_NEWTFILTER",
        &[Errno::EEXIST, Errno::ENOENT, Errno::EINVAL, Errno::ENODEV, Errno::EPERM, Errno::ENOMEM],
    ),
    (45, "RTM_DELTFILTER", &[Errno::ENOENT, Errno::EINVAL, Errno::ENODEV, Errno::EPERM]),
];

fn alone(line: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork"]).arg(detour::path()).args(line).env("NO_COLOR", "1");
    command
}

/// Each message of `line` that changes something: which sendto(2) it is, which recvfrom(2) hears the answer, its bytes.
fn messages(ns: &Netns, line: &[&str]) -> Vec<(usize, usize, Vec<u8>)> {
    let (output, calls) = strace::trace(ns, &alone(line), "sendto,recvfrom", None);
    assert!(output.status.success(), "{line:?}: {}", String::from_utf8_lossy(&output.stderr));
    let (mut sent, mut heard, mut all) = (0, 0, Vec::new());
    for call in &calls {
        match call.name.as_str() {
            "sendto" => {
                sent += 1;
                let changes = Call::netlink(call).is_some_and(|kind| kind % 4 != 2);
                all.extend(changes.then(|| (sent, heard + 1, call.sent.clone())));
            }
            _ => heard += 1,
        }
    }
    all
}

fn refuse(ns: &Netns, line: &[&str], (nth, heard, sent): &(usize, usize, Vec<u8>), errno: Errno) -> Output {
    let fault = Fault::refused(*nth, *heard, sent, 1, errno);
    strace::inject(ns, &alone(line), "sendto,recvfrom", &fault)
        .unwrap_or_else(|| panic!("{line:?}: no fault"))
}

/// Refuses every message of `line`, which `prepare` makes possible, with everything that there is for it; `judge` sees the
/// machine afterwards. It is told what was asked for, and why not.
fn every_message(
    ns: &Netns,
    line: &[&str],
    what: &str,
    prepare: &dyn Fn(),
    judge: &dyn Fn(&Output, &str),
) -> usize {
    prepare();
    let messages = messages(ns, line);
    let mut tally = Tally::default();
    for (n, message) in messages.iter().enumerate() {
        let kind = u16::from_ne_bytes([message.2[4], message.2[5]]);
        let (_, name, errors) =
            REFUSALS.iter().find(|(number, ..)| *number == kind).expect("a known message");
        for errno in *errors {
            prepare();
            let what = format!("{what} with {errno:?} for {name} {} of {}", n + 1, messages.len());
            let output = refuse(ns, line, message, *errno);
            let text = String::from_utf8_lossy(&output.stderr);
            let codes = [code::KERNEL, code::PERMISSION, code::FOREIGN].map(Some);
            assert!(codes.contains(&output.status.code()), "{what}: {output:?}");
            assert!(text.contains(&format!("{errno:?}")) || text.contains(errno.desc()), "{what}: {text}");
            assert_eq!(
                output.status.code() == Some(code::PERMISSION),
                *errno == Errno::EPERM,
                "{what}: {text}"
            );
            judge(&output, &what);
            tally.add(name, &format!("{errno:?}"));
        }
    }
    tally.print(what);
    tally.sum()
}

/// The same for what replaces running programs: the same ones run afterwards, and the machine is as before.
fn every_message_over(ns: &Netns, line: &[&str], what: &str, prepare: &dyn Fn()) -> usize {
    let ids = || {
        let of = |hook: &&str| tools::filters(ns, DEVICE, hook);
        let rows = tools::HOOKS.iter().flat_map(of);
        rows.map(|row| row["options"]["prog"]["id"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let whole = RefCell::new(None);
    let ready = || {
        prepare();
        *whole.borrow_mut() = Some((ids(), Snapshot::take(ns)));
    };
    let same = |_: &Output, what: &str| {
        let whole = whole.borrow();
        let (programs, before) = whole.as_ref().unwrap();
        assert_eq!((programs.len(), ids()), (2, programs.clone()), "{what}");
        before.holds(ns, what);
    };
    every_message(ns, line, what, &ready, &same)
}

#[test]
fn refusals_of_up() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let before = Snapshot::take(ns);
    let away = || {
        detour::run(ns, &["down", DEVICE]);
    };
    let same = |_: &Output, what: &str| before.holds(ns, what);
    // The qdisc and two filters.
    assert_eq!(every_message(ns, &["up", DEVICE], "up", &away, &same), 18);
}

/// What is gone is gone; the next `down` takes the rest.
#[test]
fn refusals_of_down() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let before = Snapshot::take(ns);
    let ready = || drop(up(ns, DEVICE, &[]));
    let rest = |_: &Output, what: &str| {
        detour::run(ns, &["down", DEVICE]).done();
        before.holds(ns, what);
    };
    assert_eq!(every_message(ns, &["down", DEVICE], "down", &ready, &rest), 13);
}

/// What ran goes on.
#[test]
fn refusals_of_an_upgrade() {
    let scratch = Scratch::new();
    let other = compile(&scratch, "counts.bpf.o", &COUNTS);
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let ready = || drop(up(ns, DEVICE, &[]));
    assert_eq!(every_message_over(ns, &["up", DEVICE, "--object", &other], "upgrade", &ready), 12);
}

const LOAD: &[&str] =
    &["load", "@dnat", DEVICE, "--name", "lab", "--ingress", "detour_in", "--egress", "detour_out"];
const UNLOAD: &[&str] = &["unload", DEVICE, "lab"];

/// On a device without a clsact, and beside what `up` made.
#[test]
fn refusals_of_load() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let away = || {
        detour::run(ns, UNLOAD);
    };
    let alone = Snapshot::take(ns);
    let same = |_: &Output, what: &str| alone.holds(ns, what);
    // The qdisc and two filters.
    assert_eq!(every_message(ns, LOAD, "load", &away, &same), 18);
    away();
    up(ns, DEVICE, &[]);
    let beside = Snapshot::take(ns);
    let same = |_: &Output, what: &str| beside.holds(ns, what);
    assert_eq!(every_message(ns, LOAD, "load beside up", &away, &same), 12);
}

/// What ran goes on.
#[test]
fn refusals_of_a_replacement() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let ready = || {
        detour::run(ns, UNLOAD);
        detour::run(ns, LOAD).done();
    };
    let line = [LOAD, &["--replace"]].concat();
    assert_eq!(every_message_over(ns, &line, "load --replace", &ready), 12);
}

/// What is gone is gone; the next `unload` takes the rest, and `up` beside it is not touched.
#[test]
fn refusals_of_unload() {
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let ready = || drop(detour::run(ns, LOAD).done());
    let alone = Snapshot::take(ns);
    let rest = |before: &Snapshot, what: &str| {
        detour::run(ns, UNLOAD).done();
        before.holds(ns, what);
    };
    let judge = |_: &Output, what: &str| rest(&alone, what);
    assert_eq!(every_message(ns, UNLOAD, "unload", &ready, &judge), 13);
    up(ns, DEVICE, &[]);
    let beside = Snapshot::take(ns);
    let judge = |_: &Output, what: &str| rest(&beside, what);
    assert_eq!(every_message(ns, UNLOAD, "unload beside up", &ready, &judge), 8);
}
