// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A printed plan against what strace saw: every step is one call with exactly these arguments, and nothing else happens.
use crate::strace::{Argument, Call};
use detour::load::message::Message;
use detour::object::{sha256, Object};
use serde_json::Value;
use std::collections::BTreeMap;

/// Bytes in a page of x86-64.
const PAGE: usize = 4096;

/// Walks through the calls with the plan in hand.
pub struct Witness {
    /// Descriptors that steps gave, by symbol.
    fds: BTreeMap<String, u32>,
    /// Last descriptor of a map, whose sizes may be asked for once.
    made: Option<i128>,
}

impl Witness {
    /// Panics unless `calls` are the steps of `plan` (the document of `detour plan … -j`) in order, with reads before
    /// the first one and after the last one only.
    pub fn compare(plan: &Value, calls: &[Call]) {
        let steps = plan["steps"].as_array().expect("steps");
        let calls: Vec<&Call> =
            calls.iter().filter(|call| !is_talk(call) && !opens_a_file(call) && !is_memory(call)).collect();
        let reads = calls.iter().take_while(|call| is_read(call)).count();
        // The first step may itself only look: it is one of the first calls, which one nobody can tell beforehand.
        let follow =
            |start: usize| Witness { fds: BTreeMap::new(), made: None }.follow(steps, &calls[start..]);
        let mut furthest = (0, String::new());
        for start in (0..=reads).rev() {
            match follow(start) {
                Ok(()) => return,
                Err(found) if found.0 >= furthest.0 => furthest = found,
                Err(_) => {}
            }
        }
        panic!("{}", furthest.1);
    }

    /// The steps are the first of `calls`, and reads follow; or the step where this ends to be true, and why.
    fn follow(mut self, steps: &[Value], calls: &[&Call]) -> Result<(), (usize, String)> {
        let mut next = 0;
        for call in calls {
            let step = steps.get(next);
            match step.map_or(Err("it is after the last step".into()), |step| self.check(step, call)) {
                Ok(()) => next += 1,
                Err(_) if is_read(call) && (next == steps.len() || self.asks_for_sizes(call)) => {}
                Err(why) => {
                    return Err((next, format!("step {}: {why}\nplan {step:#?}\ncall {call:?}", next + 1)))
                }
            }
        }
        match next == steps.len() {
            true => Ok(()),
            false => Err((next, format!("these steps were not made: {:#?}", &steps[next..]))),
        }
    }

    /// With a new descriptor of a map, the program asks the kernel for that very map's sizes.
    fn asks_for_sizes(&mut self, call: &Call) -> bool {
        let asked = call.arguments.get(1).and_then(|attr| find(attr, "bpf_fd")).and_then(Argument::number);
        call.bpf() == Some(15) && asked.is_some() && asked == self.made.take()
    }

    fn check(&mut self, step: &Value, call: &Call) -> Result<(), String> {
        if call.result.is_none_or(|result| result < 0) {
            return Err("it failed".into());
        }
        let is = |name: &str, arguments: &[Argument]| match call.name == name && call.arguments == arguments {
            true => Ok(()),
            false => Err(format!("not {name}{arguments:?}")),
        };
        let path = |name: &str| Argument::Bytes(step[name].as_str().unwrap_or_default().as_bytes().to_vec());
        match step["do"].as_str().expect("do") {
            "bpf" => self.check_bpf(step, call),
            "netlink" => self.check_netlink(step, call),
            "mkdir" => is("mkdir", &[path("path"), Argument::Number(0o700)]),
            // AT_FDCWD; O_DIRECTORY and O_CLOEXEC.
            "opendir" => {
                let flags = nix::libc::O_DIRECTORY | nix::libc::O_CLOEXEC;
                is("openat", &[Argument::Number(-100), path("path"), Argument::Number(flags.into())])?;
                let symbol = step["gives"].as_str().ok_or("no symbol")?.to_string();
                self.fds.insert(symbol, call.result.ok_or("no result")? as u32);
                Ok(())
            }
            // Of its pages, for reading and writing, shared; a store is no call.
            "store" => {
                let fd = self.fds.get(step["map"].as_str().unwrap_or_default()).ok_or("no map")?;
                let at = step["at"].as_u64().unwrap_or_default() as usize;
                let (first, length) =
                    (at / PAGE * PAGE, step["bytes"].as_str().unwrap_or_default().len() / 2);
                let mapped = (at + length).next_multiple_of(PAGE) - first;
                let [mapped, fd, first] =
                    [mapped as i128, i128::from(*fd), first as i128].map(Argument::Number);
                let [any, both, shared] = [0, 3, 1].map(Argument::Number);
                is("mmap", &[any, mapped, both, shared, fd, first])
            }
            "rmdir" => is("rmdir", &[path("path")]),
            "unlink" => is("unlink", &[path("path")]),
            "rename" => is("rename", &[path("from"), path("to")]),
            // AT_FDCWD twice, RENAME_EXCHANGE.
            "exchange" => {
                let here = || Argument::Number(-100);
                is("renameat2", &[here(), path("one"), here(), path("other"), Argument::Number(2)])
            }
            // MS_NOSUID, MS_NODEV and MS_NOEXEC.
            "mount" => {
                let bpf = || Argument::Bytes(b"bpf".to_vec());
                let mode = format!("mode={}", step["mode"].as_str().unwrap_or_default());
                is(
                    "mount",
                    &[bpf(), path("path"), path("type"), Argument::Number(14), Argument::Bytes(mode.into())],
                )
            }
            other => Err(format!("{} is not {other}", call.name)),
        }
    }

    fn check_netlink(&self, step: &Value, call: &Call) -> Result<(), String> {
        let message = Message::from_json(&step["message"]).map_err(|error| error.to_string())?;
        let sequence = call.sent.get(8..12).ok_or("no netlink message")?.try_into().unwrap();
        let number = |symbol: &str| self.fds.get(symbol).copied();
        let expected = message.resolved(&number).encode(u32::from_le_bytes(sequence));
        match expected.map_err(|error| error.to_string())? == call.sent {
            true => Ok(()),
            false => Err(format!("other bytes: {:02x?}", call.sent)),
        }
    }

    fn check_bpf(&mut self, step: &Value, call: &Call) -> Result<(), String> {
        let command =
            detour_sys::attr::Command::by_name(step["command"].as_str().unwrap()).ok_or("no command")?;
        if call.bpf() != Some(i128::from(command.number)) {
            return Err("another command".into());
        }
        let attr = call.arguments.get(1).ok_or("no attribute")?;
        if command.name == "PROG_BIND_MAP" && attr.number().is_some() {
            return Ok(()); // strace 6.1 knows the command's number only
        }
        let arguments = step["args"].as_object().ok_or("no arguments")?;
        for (name, planned) in arguments {
            // strace 6.1 knows the union of LINK_CREATE by its first member.
            let seen = find(attr, name)
                .or_else(|| find(attr, if name == "target_ifindex" { "target_fd" } else { name }));
            self.check_argument(name, planned, seen, attr).map_err(|why| format!("{name}: {why}"))?;
        }
        // What the plan does not mention is zero, but for the lengths that belong to the pointers in it.
        for (name, value) in numbers(attr) {
            let union = name == "target_fd" && arguments.contains_key("target_ifindex");
            let counted = ["_cnt", "_size", "_len"].iter().any(|end| name.ends_with(end));
            let known = counted || union || answers(command.name).contains(&&*name);
            if value != 0 && !known && !arguments.contains_key(&name) {
                return Err(format!("{name}={value} is not in the plan"));
            }
        }
        self.made = None;
        if let (Some(symbol), true) = (step["gives"].as_str(), command.gives_fd) {
            let fd = call.result.ok_or("no result")?;
            self.fds.insert(symbol.to_string(), fd as u32);
            self.made = ["MAP_CREATE", "OBJ_GET", "MAP_GET_FD_BY_ID"]
                .contains(&command.name)
                .then_some(i128::from(fd));
        }
        Ok(())
    }

    fn check_argument(
        &self,
        name: &str,
        planned: &Value,
        seen: Option<&Argument>,
        attr: &Argument,
    ) -> Result<(), String> {
        let equal = |yes: bool| if yes { Ok(()) } else { Err(format!("planned {planned}, made {seen:?}")) };
        if let Some(number) = planned.as_u64() {
            return equal(seen.and_then(Argument::number).unwrap_or(0) == i128::from(number));
        }
        if let Some(text) = planned.as_str() {
            return equal(seen == Some(&Argument::Bytes(text.as_bytes().to_vec())));
        }
        if let Some(symbol) = planned["fd"].as_str() {
            let fd = self.fds.get(symbol).map(|fd| i128::from(*fd));
            return equal(fd.is_some() && seen.and_then(Argument::number) == fd);
        }
        if let Some(room) = planned["room"].as_u64() {
            let counted = if name == "log_buf" { "log_size".to_owned() } else { format!("{name}_len") };
            let size = find(attr, &counted).and_then(Argument::number);
            return equal(size == Some(i128::from(room)));
        }
        match seen.ok_or("is missing")? {
            // strace shows keys, values and records of types by their address only.
            Argument::Number(address) => equal(*address != 0),
            Argument::Bytes(bytes) => equal(planned["sha256"].as_str() == Some(&hex(bytes))),
            Argument::List(instructions) => {
                // strace shows no more than 4,096, and a word that says so.
                let cut = matches!(instructions.last(), Some(Argument::Text(dots)) if dots == "...");
                let mut bytes = assemble(&instructions[..instructions.len() - usize::from(cut)])?;
                for hole in planned["holes"].as_array().into_iter().flatten() {
                    let at = hole[0].as_u64().ok_or("a hole without place")? as usize;
                    let symbol = hole[1].as_str().ok_or("a hole without symbol")?;
                    if at >= bytes.len() {
                        continue;
                    }
                    let fd = self.fds.get(symbol).ok_or_else(|| format!("{symbol} was never given"))?;
                    if bytes[at..at + 4] != fd.to_le_bytes() {
                        return Err(format!("byte {at} does not hold {symbol}"));
                    }
                    bytes[at..at + 4].fill(0);
                }
                let all = if cut { linked(&planned["part"])? } else { bytes.clone() };
                equal(planned["sha256"].as_str() == Some(&hex(&all)) && all.starts_with(&bytes))
            }
            _ => equal(false),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    sha256(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The instructions that a part of a plan, `FILE/insns/PROGRAM`, stands for: linked from the project's object.
fn linked(part: &Value) -> Result<Vec<u8>, String> {
    let mut words = part.as_str().unwrap_or_default().split('/');
    let (file, program) = (words.next().unwrap_or_default(), words.next_back().unwrap_or_default());
    let path = crate::tools::project().join("elf").join(file);
    let bytes = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let object = Object::parse(&bytes).map_err(|error| error.to_string())?;
    let program = object.program(program).ok_or_else(|| format!("no {program} in {file}"))?;
    Ok(program.insns.iter().flat_map(|insn| insn.to_bytes()).collect())
}

/// `insns` as strace shows them back to bytes.
pub fn assemble(instructions: &[Argument]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    for instruction in instructions {
        let field =
            |name: &str| instruction.field(name).ok_or_else(|| format!("no {name} in {instruction:?}"));
        let number = |name: &str| field(name)?.number().ok_or_else(|| format!("{name} in {instruction:?}"));
        let code = match field("code")? {
            Argument::Text(parts) => parts.split('|').try_fold(0, |sum, part| {
                let digits = part.strip_prefix("0x").unwrap_or(part);
                i128::from_str_radix(digits, 16).map(|part| sum | part).map_err(|error| error.to_string())
            })?,
            other => other.number().ok_or("code")?,
        };
        bytes.extend([code as u8, (number("dst_reg")? | number("src_reg")? << 4) as u8]);
        bytes.extend((number("off")? as i16).to_le_bytes());
        bytes.extend((number("imm")? as i32).to_le_bytes());
    }
    Ok(bytes)
}

/// The field `name`, also in records within.
pub fn find<'a>(argument: &'a Argument, name: &str) -> Option<&'a Argument> {
    let Argument::Record(fields) = argument else { return None };
    let direct = fields.iter().find(|(n, value)| n == name && !matches!(value, Argument::Record(_)));
    direct.map(|(_, value)| value).or_else(|| fields.iter().find_map(|(_, value)| find(value, name)))
}

fn numbers(argument: &Argument) -> Vec<(String, i128)> {
    let Argument::Record(fields) = argument else { return Vec::new() };
    let one = |(name, value): &(String, Argument)| match value {
        Argument::Number(number) => vec![(name.clone(), *number)],
        Argument::Record(_) => numbers(value),
        _ => Vec::new(),
    };
    fields.iter().flat_map(one).collect()
}

/// Fields that the kernel fills in and strace shows.
fn answers(command: &str) -> &'static [&'static str] {
    match command {
        "PROG_TEST_RUN" => &["retval", "data_size_in", "data_size_out", "duration"],
        "OBJ_GET_INFO_BY_FD" => &["type", "id", "tag", "name", "info"],
        _ => &[],
    }
}

/// Output to the terminal, or a line of a transcript, which is a JSON object.
fn is_talk(call: &Call) -> bool {
    let line = |bytes: &Argument| matches!(bytes, Argument::Bytes(line) if line.starts_with(b"{\""));
    let terminal = matches!(call.arguments.first(), Some(Argument::Number(1 | 2)));
    call.name == "write" && (terminal || call.arguments.get(1).is_some_and(line))
}

/// Memory of its own, or of a file that is only read: MAP_PRIVATE.
fn is_memory(call: &Call) -> bool {
    call.name == "mmap"
        && call.arguments.get(3).and_then(Argument::number).is_some_and(|flags| flags & 1 == 0)
}

/// Files are not what this is about; opening a folder for its descriptor is a step.
fn opens_a_file(call: &Call) -> bool {
    let folder = i128::from(nix::libc::O_DIRECTORY);
    call.name == "openat"
        && call.arguments.get(2).and_then(Argument::number).is_none_or(|flags| flags & folder == 0)
}

/// Whether a call only looks.
pub fn is_read(call: &Call) -> bool {
    match call.name.as_str() {
        // OBJ_GET, LOOKUP_ELEM, GET_NEXT_KEY, LOOKUP_BATCH, GET_INFO_BY_FD, and the walks by id
        "bpf" => matches!(call.bpf(), Some(1 | 4 | 7 | 11 | 12 | 13 | 14 | 15 | 16 | 19 | 23 | 24)),
        // RTM_GET… is the third of each four.
        "sendto" | "sendmsg" => call.netlink().is_some_and(|kind| kind % 4 == 2),
        "openat" => true,
        "prlimit64" => call.arguments.get(2) == Some(&Argument::Number(0)),
        _ => false,
    }
}
