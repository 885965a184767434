// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! FILE [DEV PROGRAM]: every program for tc loaded with aya, one attached at ingress by netlink, and left there.

use aya::programs::tc::{qdisc_add_clsact, NlOptions, TcAttachOptions};
use aya::programs::{SchedClassifier, TcAttachType};
use aya::Ebpf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (file, attach) = match &arguments[..] {
        [file] => (file, None),
        [file, device, name] => (file, Some((device, name))),
        _ => return Err("usage: peer-aya FILE [DEV PROGRAM]".into()),
    };
    let mut ebpf = Ebpf::load_file(file)?;
    let mut loaded = 0;
    for (_, program) in ebpf.programs_mut() {
        let Ok(program) = <&mut SchedClassifier>::try_from(program) else { continue };
        program.load()?;
        loaded += 1;
    }
    let Some((device, name)) = attach else {
        return if loaded > 0 { Ok(()) } else { Err("error: no program for tc".into()) };
    };
    qdisc_add_clsact(device)?;
    let program: &mut SchedClassifier = ebpf.program_mut(name).ok_or("no such program")?.try_into()?;
    let options =
        TcAttachOptions::Netlink(NlOptions { priority: 200, handle: 1.into(), ..NlOptions::default() });
    program.attach_with_options(device, TcAttachType::Ingress, options)?;
    // What is dropped is detached.
    std::process::exit(0)
}
