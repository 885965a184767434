// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! State in /sys/fs/bpf/detour that belongs to another user: root's is used by everybody who may, a user's is his own.
use e2e::detour::{self, code, Run};
use e2e::lab::Lab;
use e2e::netns::Netns;
use e2e::snapshot::Snapshot;
use e2e::tools::Scratch;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

const DEVICE: &str = "eth0";
/// What `up` needs of a user who is not root (loader/docs/syscalls.md).
const NEEDS: &str = "-all,+bpf,+net_admin,+perfmon,+dac_override";

#[test]
fn of_whom_is_what_runs() {
    let scratch = Scratch::new();
    std::fs::set_permissions(scratch.path(""), PermissionsExt::from_mode(0o755)).unwrap();
    detour::copy(&scratch.path("detour"));
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let before = Snapshot::take(ns);
    let with = |capabilities: &str, uid: u32, line: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &uid.to_string(), "--clear-groups"]);
        command.args(["--inh-caps", capabilities, "--ambient-caps", capabilities]);
        command.arg(scratch.path("detour")).args(line).env("NO_COLOR", "1");
        Run::of(line, &ns.output(&mut command))
    };
    let user = |uid: u32, line: &[&str]| with(NEEDS, uid, line);
    // /sys/fs/bpf is root's, with mode 0700.
    for command in ["up", "down", "status", "asked", "events"] {
        let all = NEEDS.replace(",+dac_override", "");
        let run = with(&all, 1000, &[command, DEVICE]).refused(code::PERMISSION, &["CAP_DAC_OVERRIDE"]);
        assert!(!run.stderr.contains("CAP_NET_ADMIN"), "{run:?}");
    }
    before.holds(ns, "what was refused");
    let down: [&[&str]; 1] = [&["down", DEVICE]];
    let looks: [&[&str]; 3] = [&["status", DEVICE], &["up", DEVICE], &["asked", DEVICE]];
    // What a user made, he uses and takes away; root and others are told whose it is.
    user(1000, &["up", DEVICE]).done();
    user(1000, &["up", DEVICE, "--rule", "udp drop"]).done();
    user(1000, &["status", DEVICE]).done();
    let state = Snapshot::take(ns);
    for line in looks.iter().chain(&down) {
        let words = ["/sys/fs/bpf/detour belongs to user 1000", "chown -R root /sys/fs/bpf/detour"];
        detour::run(ns, line).refused(code::FOREIGN, &words);
        user(1001, line).refused(code::FOREIGN, &words);
    }
    state.holds(ns, "refusals");
    user(1000, &["down", DEVICE]).done();
    before.holds(ns, "a user's up and down");
    // As the hint says.
    user(1000, &["up", DEVICE]).done();
    ns.run("chown", &["-R", "root", "/sys/fs/bpf/detour"]);
    detour::run(ns, &["status", DEVICE]).done();
    detour::run(ns, &["down", DEVICE]).done();
    before.holds(ns, "a user's up and root's down");
    // Root's is trusted by whoever can open it.
    detour::up(ns, DEVICE, &[]);
    user(1000, &["status", DEVICE]).done();
    user(1000, &["up", DEVICE, "--rule", "udp drop"]).done();
    // A BPF file system is sticky, however it is mounted (bpf_fill_super() in kernel/bpf/inode.c): the last folder is root's.
    user(1000, &["down", DEVICE]).refused(code::PERMISSION, &["rmdir", "/sys/fs/bpf/detour:"]);
    assert_eq!(ns.run("ls", &["/sys/fs/bpf/detour"]), "");
    detour::run(ns, &["down", DEVICE]).done();
    before.holds(ns, "root's up, a user's down and root's");
}
