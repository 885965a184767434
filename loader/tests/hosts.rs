// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The build script to its verdict about hosts: those that are big-endian are refused by name, before anything is compiled.
#![allow(clippy::unwrap_used)]
use std::path::Path;
use std::process::Command;

#[test]
fn big_endian_hosts_are_refused_by_name() {
    let script = Path::new(env!("CARGO_TARGET_TMPDIR")).join("build-script");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("build.rs");
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition", "2021", "-o"]).arg(&script).arg(&source);
    assert!(rustc.env("CARGO_MANIFEST_DIR", env!("CARGO_MANIFEST_DIR")).status().unwrap().success());
    // What cargo tells it is what the compiler says of a target.
    for (target, refused) in [
        ("s390x-unknown-linux-gnu", true),
        ("powerpc64-unknown-linux-gnu", true),
        ("mips-unknown-linux-musl", true),
        ("x86_64-unknown-linux-musl", false),
        ("aarch64-unknown-linux-gnu", false),
        ("powerpc64le-unknown-linux-gnu", false),
    ] {
        let told = Command::new("rustc").args(["--print", "cfg", "--target", target]).output().unwrap();
        let told = String::from_utf8(told.stdout).unwrap();
        let endian = told.lines().find_map(|line| line.strip_prefix("target_endian=")).unwrap();
        let mut run = Command::new(&script);
        run.env("CARGO_CFG_TARGET_ENDIAN", endian.trim_matches('"')).env("TARGET", target);
        let said = String::from_utf8(run.output().unwrap().stdout).unwrap();
        assert_eq!(
            said.contains("cargo::error=big-endian hosts are not served"),
            refused,
            "{target}: {said}"
        );
    }
}
