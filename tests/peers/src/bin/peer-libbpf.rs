// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! FILE IFINDEX PROGRAM: the object loaded with libbpf, one program attached at ingress by netlink, and left there.

use std::os::fd::AsFd;

use libbpf_rs::{ObjectBuilder, TcHookBuilder, TC_INGRESS};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, ifindex, name] = &arguments[..] else {
        return Err("usage: peer-libbpf FILE IFINDEX PROGRAM".into());
    };
    let object = ObjectBuilder::default().open_file(file)?.load()?;
    let program = object.progs().find(|p| p.name() == name.as_str()).ok_or("no such program")?;
    let mut hook = TcHookBuilder::new(program.as_fd())
        .ifindex(ifindex.parse()?)
        .handle(1)
        .priority(200)
        .hook(TC_INGRESS);
    hook.create()?;
    hook.attach()?;
    Ok(())
}
