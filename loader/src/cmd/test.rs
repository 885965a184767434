// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `test FILE PROG --packet FILE`: what a program makes of packets, without a device.
use crate::cmd::{attach, objects, Answer, Context};
use crate::load::create::prog_symbol;
use crate::load::refusal::{Refusal, Stage};
use crate::load::testrun::{self, Outcome};
use crate::load::transcript::hex;
use crate::load::{gather, lacks, packets};
use crate::ui::text::escape;
use clap::ArgMatches;
use nix::errno::Errno;
use serde_json::{json, Value};
use std::os::fd::AsFd;

/// Loads the program, runs it on each packet, and gives it up again.
pub fn test(context: &mut Context, args: &ArgMatches) -> Result<Answer, Refusal> {
    let named = objects::open_for_kernel(args)?;
    let get = |name: &str| args.get_one::<String>(name).map(String::as_str).unwrap_or_default();
    let (program, path) = (get("program"), get("packet"));
    let bytes = std::fs::read(path).map_err(|e| Refusal::unreadable(path, &e))?;
    let packets = packets::read(&bytes).map_err(|why| {
        let hint = "packets come as pcap ('tcpdump -w FILE'), or one as hex";
        Refusal::new(Stage::Usage, format!("{} is {why}", path.escape_debug()), hint)
    })?;
    let (_, plan) = attach::dry_run_plan(&named, args, &gather::machine()?)?;
    let symbols = context.execute(&plan, Some(&named.object))?;
    let handle = symbols.handle(&prog_symbol(program)).map_err(refused)?;
    let repeat = args.get_one::<u32>("repeat").copied().unwrap_or(1);
    let mut runs = Vec::new();
    for (number, packet) in (1usize..).zip(&packets) {
        let refused = |error| {
            let refusal = refused(error);
            let length = packet.len();
            Refusal { what: format!("packet {number}, {length} bytes: {}", refusal.what), ..refusal }
        };
        runs.push(testrun::run(handle.as_fd(), packet, repeat).map_err(refused)?);
    }
    if let Some(out) = args.get_one::<String>("out") {
        let after: Vec<Vec<u8>> = runs.iter().map(|run| run.packet.clone()).collect();
        std::fs::write(out, packets::write(&after)).map_err(|e| Refusal::unwritable(out, &e))?;
    }
    let both: Vec<(&Vec<u8>, &Outcome)> = packets.iter().zip(&runs).collect();
    let text = both.iter().map(|(packet, run)| line(packet, run)).collect::<String>();
    let json = json!({
        "schema": "detour.test/1", "file": named.file, "program": program,
        "runs": both.iter().map(|(packet, run)| row(packet, run)).collect::<Vec<_>>(),
    });
    Ok(Answer::done(format!("{}\n{text}", escape(program)), json))
}

fn line(packet: &[u8], run: &Outcome) -> String {
    let name = verdict(run.verdict);
    let changed = if run.packet == packet { "unchanged" } else { "changed" };
    let length = run.packet.len();
    format!(
        "verdict {} ({name})  {changed}, {length} bytes  {} ns\n  {}\n",
        run.verdict,
        run.duration,
        hex(&run.packet)
    )
}

fn row(packet: &[u8], run: &Outcome) -> Value {
    json!({
        "verdict": run.verdict, "verdict_name": verdict(run.verdict), "changed": run.packet != packet,
        "in": hex(packet), "out": hex(&run.packet), "duration_ns": run.duration,
    })
}

/// `TC_ACT_*` (include/uapi/linux/pkt_cls.h).
fn verdict(number: i32) -> &'static str {
    const NAMES: [&str; 10] =
        ["unspec", "ok", "reclassify", "shot", "pipe", "stolen", "queued", "repeat", "redirect", "trap"];
    let index = number.checked_add(1).and_then(|n| usize::try_from(n).ok());
    index.and_then(|n| NAMES.get(n)).copied().unwrap_or("unknown")
}

fn refused(error: std::io::Error) -> Refusal {
    let (stage, hint) = match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EPERM) => (Stage::Permission, lacks::hint(&[lacks::BPF, lacks::NET_ADMIN])),
        Some(Errno::EINVAL) => (Stage::Kernel, "a frame has 14 bytes at least, and fits a page".to_string()),
        _ => (Stage::Kernel, String::new()),
    };
    Refusal::new(stage, format!("PROG_TEST_RUN: {error}"), hint)
}
