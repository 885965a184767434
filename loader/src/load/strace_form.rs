// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Steps to the lines that `strace -X raw` prints for them, to be laid beside its output.
//!
//! `%flows` stands where a descriptor will be, `[dnat.bpf.o/insns/detour_in]` for bytes that a file holds; a netlink
//! message is shown with its bytes, and its sequence number is 0.
use crate::load::message::Message;
use crate::load::plan::Plan;
use crate::load::step::{Arg, Blob, Bpf, Effect, Store};
use crate::load::transcript::hex;
use detour_sys::attr::Kind;
use detour_sys::window::pages;

/// One line a step.
pub fn plan(plan: &Plan) -> String {
    plan.steps.iter().map(|step| effect(&step.effect) + "\n").collect()
}

fn effect(effect: &Effect) -> String {
    match effect {
        Effect::Bpf(call) => bpf(call),
        Effect::Netlink(message) => netlink(message),
        // PROT_READ and PROT_WRITE, MAP_SHARED; strace sees no store.
        Effect::Store(Store { map, written }) => {
            let (at, length) = pages(written.at, written.bytes.len()).unwrap_or_default();
            format!(
                "mmap(NULL, {length}, 0x3, 0x1, {map}, {at:#x}) = %pages /* and a store of {} */",
                bytes(&written.bytes)
            )
        }
        Effect::Mkdir(path) => format!("mkdir({}, 0700) = 0", text(path)),
        // AT_FDCWD; O_RDONLY, O_DIRECTORY and O_CLOEXEC.
        Effect::OpenDir { path, gives } => {
            let flags = (nix::fcntl::OFlag::O_DIRECTORY | nix::fcntl::OFlag::O_CLOEXEC).bits();
            format!("openat(-100, {}, {flags:#x}) = {gives}", text(path))
        }
        Effect::Rmdir(path) => format!("rmdir({}) = 0", text(path)),
        Effect::Unlink(path) => format!("unlink({}) = 0", text(path)),
        Effect::Rename { from, to } => format!("rename({}, {}) = 0", text(from), text(to)),
        // AT_FDCWD and RENAME_EXCHANGE.
        Effect::Exchange { one, other } => {
            format!("renameat2(-100, {}, -100, {}, 0x2) = 0", text(one), text(other))
        }
        // MS_NOSUID, MS_NODEV and MS_NOEXEC.
        Effect::MountBpffs(path) => {
            format!("mount(\"bpf\", {}, \"bpf\", 0xe, \"mode=0700\") = 0", text(path))
        }
        Effect::Unmount(path) => format!("umount2({}, 0) = 0", text(path)),
        // RLIMIT_MEMLOCK, RLIM_INFINITY.
        Effect::Memlock => {
            "prlimit64(0, 0x8, {rlim_cur=18446744073709551615, rlim_max=18446744073709551615}, NULL) = 0"
                .into()
        }
    }
}

fn text(text: &str) -> String {
    format!("\"{}\"", text.escape_default())
}

fn bpf(call: &Bpf) -> String {
    let mut fields = Vec::new();
    for (name, arg) in &call.args {
        let kind = call.command.field(name).map(|f| f.kind);
        let shown = match (arg, kind) {
            (Arg::Num(n), Some(Kind::U32)) if HEX.contains(name) => format!("{n:#x}"),
            (Arg::Num(n), _) => n.to_string(),
            (Arg::Text(t), _) => text(t),
            (Arg::Fd(symbol), _) => symbol.clone(),
            (Arg::Bytes(bytes), _) => blob(bytes),
            (Arg::Room(size), _) => format!("[room of {size}]"),
            (Arg::LogRoom, _) => "[room of log_true_size]".to_string(),
        };
        // The kernel's count of what a pointer leads to.
        if let (Some(Kind::Records { unit, .. }), Arg::Bytes(blob)) = (kind, arg) {
            let count = blob.bytes.len().checked_div(unit).unwrap_or(0);
            fields.push(format!("{}={count}", count_name(name)));
        }
        fields.push(format!("{name}={shown}"));
    }
    // The attribute ends with the last field that is given.
    let ends = call.args.iter().filter_map(|(name, _)| call.command.field(name)).map(|field| field.end());
    let size = ends.max().unwrap_or(0);
    let result = call.gives.as_deref().filter(|_| call.command.gives_fd).unwrap_or("0");
    format!("bpf({:#x}, {{{}}}, {size}) = {result}", call.command.number, fields.join(", "))
}

/// Numbers that strace shows in hexadecimal with `-X raw`.
const HEX: [&str; 6] = ["map_type", "prog_type", "map_flags", "attach_type", "expected_attach_type", "flags"];

fn count_name(pointer: &str) -> String {
    match pointer {
        "insns" => "insn_cnt".to_string(),
        "btf" => "btf_size".to_string(),
        "data_in" => "data_size_in".to_string(),
        other => format!("{other}_cnt"),
    }
}

fn blob(blob: &Blob) -> String {
    const SHOWN: usize = 32;
    match &blob.part {
        Some(part) => format!("[{part}]"),
        None if !blob.holes.is_empty() => {
            let symbols: Vec<&str> = blob.holes.iter().map(|h| h.symbol.as_str()).collect();
            format!("[{} bytes with {}]", blob.bytes.len(), symbols.join(" "))
        }
        None if blob.bytes.len() <= SHOWN => bytes(&blob.bytes),
        None => {
            format!("[{} bytes, sha256 {}]", blob.bytes.len(), hex(&crate::object::sha256(&blob.bytes)))
        }
    }
}

fn bytes(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|b| format!("\\x{b:02x}")).collect();
    format!("\"{digits}\"")
}

fn netlink(message: &Message) -> String {
    let sent = message.clone().resolved(&|_| Some(0)).encode(0).unwrap_or_default();
    let symbols: Vec<String> =
        message.pairs().into_iter().map(|(_, v)| v).filter(|v| v.starts_with('%')).collect();
    let with = if symbols.is_empty() { String::new() } else { format!(" /* with {} */", symbols.join(" ")) };
    let (length, body) = (sent.len(), sent.get(16..).unwrap_or_default());
    format!(
        "sendto(%rtnl, [{{nlmsg_len={length}, nlmsg_type={:#x}, nlmsg_flags={:#x}, nlmsg_seq=0, nlmsg_pid=0}}, {}], \
         {length}, 0, {{sa_family=0x10, nl_pid=0, nl_groups=00000000}}, 12) = {length}{with}",
        message.kind,
        message.flags,
        bytes(body),
    )
}
