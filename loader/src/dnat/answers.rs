// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The configuration of an instance and a cgroup to the program that answers SO_ORIGINAL_DST for servers there.
use super::control::Control;
use super::embedded;
use crate::load::beside::own_data;
use crate::load::create::{Creation, Kind};
use crate::load::facts::Facts;
use crate::load::refusal::{Refusal, Stage};
use crate::load::sockopt::Beside;
use crate::object::Object;
use std::os::unix::fs::MetadataExt;

/// The program's name.
pub const PROGRAM: &str = "detour_orig";
const FILE: &str = "original";

/// The object, its variables set.
///
/// # Errors
/// It is not the one that belongs to this program.
pub fn object(control: &Control, facts: &Facts) -> Result<Object, Refusal> {
    let mut object = Object::parse(embedded::object(FILE)?)?;
    own_data(&mut object, FILE);
    for setting in &control.settings {
        object.set(setting)?;
    }
    // Such programs may ask for the namespace of a socket from Linux 5.15 on.
    let cookie = if tells_namespaces(facts) { facts.cookie } else { 0 };
    object.set(&format!("netns_cookie={cookie}"))?;
    Ok(object)
}

/// How it is made.
pub fn creation(control: &Control) -> Creation {
    Creation {
        file: format!("{FILE}.bpf.o"),
        programs: vec![PROGRAM.to_owned()],
        sizes: control.sizes.clone(),
        kind: Kind::Getsockopt,
        ..Creation::default()
    }
}

/// All of it; `cgroup` is a path, or empty for the root of cgroup2.
///
/// # Errors
/// There is no such cgroup.
pub fn beside(control: &Control, facts: &Facts, cgroup: &str) -> Result<Beside, Refusal> {
    let (cgroup, program) = (folder(facts, cgroup)?, PROGRAM.to_owned());
    Ok(Beside { object: object(control, facts)?, creation: creation(control), program, cgroup })
}

/// The number of that cgroup, which is its folder's inode; the read is noted. None where there is none.
pub fn number(facts: &mut Facts, cgroup: &str) -> Option<u64> {
    let folder = folder(facts, cgroup).ok()?;
    facts.reads.push(format!("stat({folder})"));
    std::fs::metadata(folder).ok().map(|folder| folder.ino())
}

fn folder(facts: &Facts, cgroup: &str) -> Result<String, Refusal> {
    Ok(match cgroup {
        "" => facts.cgroup2.clone().ok_or_else(|| {
            let hint =
                "mount -t cgroup2 cgroup2 /sys/fs/cgroup, or name a folder of one: --original-dst=CGROUP";
            Refusal::new(Stage::Kernel, "no cgroup2 file system is mounted", hint)
        })?,
        path if path.starts_with('/') => path.to_owned(),
        path => {
            let what = format!("--original-dst={}: a cgroup's folder begins with /", path.escape_debug());
            return Err(Refusal::new(Stage::Usage, what, "such as /sys/fs/cgroup/system.slice"));
        }
    })
}

/// What a person should know of it here.
pub fn note(facts: &Facts) -> Option<String> {
    let words = "SO_ORIGINAL_DST: this kernel does not tell network namespaces apart there; a socket of another one with the \
                 same addresses and ports gets the same answer";
    (!tells_namespaces(facts)).then(|| words.to_owned())
}

fn tells_namespaces(facts: &Facts) -> bool {
    facts.machine.version() >= (5, 15) && facts.cookie != 0
}
