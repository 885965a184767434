// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A command under strace to the system calls it made, with every argument as a number or as bytes; faults on demand.
use crate::netns::Netns;
use crate::tools::Scratch;
use std::process::{Command, Output};

/// Everything by which a program can change the kernel here, by strace's names.
pub const EFFECTS: &str = "bpf,sendto,sendmsg,sendmmsg,write,mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,\
                           rmdir,link,linkat,symlink,symlinkat,mount,umount2,move_mount,fsmount,fsopen,setns,unshare,\
                           prlimit64,setrlimit,init_module,finit_module,capset,prctl,seccomp";

/// One system call.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Its name.
    pub name: String,
    /// Its arguments.
    pub arguments: Vec<Argument>,
    /// What it returned; None when the process died in it.
    pub result: Option<i64>,
    /// The error's name (`EPERM`).
    pub error: Option<String>,
    /// Made up by strace, not by the kernel.
    pub injected: bool,
    /// What a sending call sent, all of it.
    pub sent: Vec<u8>,
}

/// A value as strace shows it with `-X raw -xx`.
#[derive(Clone, Debug, PartialEq)]
pub enum Argument {
    /// A number or an address.
    Number(i128),
    /// A string or buffer.
    Bytes(Vec<u8>),
    /// `[a, b]`.
    List(Vec<Argument>),
    /// `{name=value, …}`.
    Record(Vec<(String, Argument)>),
    /// Anything else, as text.
    Text(String),
}

impl Argument {
    /// The field `name` of a record.
    pub fn field(&self, name: &str) -> Option<&Argument> {
        match self {
            Argument::Record(fields) => fields.iter().find(|(n, _)| n == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The number, if it is one.
    pub fn number(&self) -> Option<i128> {
        match self {
            Argument::Number(number) => Some(*number),
            _ => None,
        }
    }
}

impl Call {
    /// The bpf(2) command's number.
    pub fn bpf(&self) -> Option<i128> {
        (self.name == "bpf").then(|| self.arguments.first()?.number()).flatten()
    }

    /// The type of a sent netlink message (`RTM_…`).
    pub fn netlink(&self) -> Option<u16> {
        Some(u16::from_le_bytes(self.sent.get(4..6)?.try_into().ok()?))
    }
}

/// What to break: `Fault::error("bpf", 3, "ENOMEM")` lets the third bpf(2) fail.
#[derive(Clone, Debug)]
pub struct Fault(Vec<String>);

impl Fault {
    /// The `nth` call of `name` (from 1) fails with `error` without being made.
    pub fn error(name: &str, nth: usize, error: &str) -> Fault {
        Fault(vec![format!("inject={name}:error={error}:when={nth}")])
    }

    /// The `nth` call of `name` and all that follow fail.
    pub fn from(name: &str, nth: usize, error: &str) -> Fault {
        Fault(vec![format!("inject={name}:error={error}:when={nth}+")])
    }

    /// This one and another, of a call with another name.
    pub fn and(mut self, other: Fault) -> Fault {
        self.0.extend(other.0);
        self
    }

    /// The process is killed when it enters the `nth` call of `name`, before the kernel does anything.
    pub fn kill(name: &str, nth: usize) -> Fault {
        Fault(vec![format!("inject={name}:signal=KILL:when={nth}")])
    }
}

impl Fault {
    /// rtnetlink refuses the message of the `nth` sendto(2), which is not made, in its answer: the recvfrom(2) number `heard`
    /// finds NLMSG_ERROR there. `sent` is the message, whose sender has `port`.
    pub fn refused(nth: usize, heard: usize, sent: &[u8], port: u32, errno: nix::errno::Errno) -> Fault {
        const NLMSG_ERROR: u16 = 2;
        const NLM_F_CAPPED: u16 = 0x100;
        let (length, sequence) = (36_u32.to_ne_bytes(), &sent[8..12]);
        let kind = [NLMSG_ERROR.to_ne_bytes(), NLM_F_CAPPED.to_ne_bytes()].concat();
        // struct nlmsghdr, then struct nlmsgerr: the error, and the header that it is about.
        let (port, error) = (port.to_ne_bytes(), (-(errno as i32)).to_ne_bytes());
        let answer = [&length[..], &kind, sequence, &port, &error, &sent[..16]].concat();
        let hex: String = answer.iter().map(|byte| format!("{byte:02x}")).collect();
        Fault(vec![
            format!("inject=sendto:retval={}:when={nth}", sent.len()),
            format!("inject=recvfrom:retval={}:poke_exit=@arg2={hex}:when={heard}", answer.len()),
        ])
    }

    /// Every call of `name` takes so many milliseconds longer; nothing fails.
    pub fn slow(name: &str, milliseconds: u32) -> Fault {
        Fault(vec![format!("inject={name}:delay_enter={}", milliseconds * 1000)])
    }
}

/// strace's own words: what [`read`] reads of `calls` (strace's names with commas) goes to the file `log`.
pub fn watching(calls: &str, log: &str, more: &[&str]) -> Vec<String> {
    let trace = format!("trace={calls}");
    let words =
        ["strace", "-f", "-X", "raw", "-v", "-xx", "-s", "16777216", "-e", "signal=none", "-e", "write=all"];
    let words = [&words[..], &["-e", &trace, "-o", log], more].concat();
    words.into_iter().map(str::to_string).collect()
}

/// Runs `command` inside `ns` under strace, watching `calls` (strace's names with commas).
pub fn trace(ns: &Netns, command: &Command, calls: &str, fault: Option<&Fault>) -> (Output, Vec<Call>) {
    let scratch = Scratch::new();
    let log = scratch.write("strace", "");
    let words = watching(calls, &log, &[]);
    let mut strace = Command::new(&words[0]);
    strace.args(&words[1..]);
    for what in fault.iter().flat_map(|fault| &fault.0) {
        strace.args(["-e", what]);
    }
    strace.arg(command.get_program()).args(command.get_args());
    let output = ns.output(&mut strace);
    (output, read(&std::fs::read_to_string(&log).unwrap()))
}

/// Runs `command` inside `ns` with one fault; the outcome, or None when it ended before the fault came.
pub fn inject(ns: &Netns, command: &Command, name: &str, fault: &Fault) -> Option<Output> {
    let scratch = Scratch::new();
    let log = scratch.write("strace", "");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-e", &format!("trace={name}"), "-o", &log]);
    strace.args(fault.0.iter().flat_map(|what| ["-e", what]));
    strace.arg(command.get_program()).args(command.get_args());
    let output = ns.output(&mut strace);
    let log = std::fs::read_to_string(&log).unwrap();
    (log.contains("(INJECTED)") || log.contains("(DELAYED)") || log.contains("+++ killed by SIGKILL"))
        .then_some(output)
}

/// The calls in strace's output.
pub fn read(log: &str) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    for line in log.lines() {
        if let Some(dump) = line.trim_start().strip_prefix("| ") {
            // " | 00000  28 00 00 00 12 00 01 03  a1 …  (........ |": offset, bytes, the same as text
            let hex = dump.get(7..56).unwrap_or(dump.get(7..).unwrap_or(""));
            let bytes = hex.split_whitespace().map_while(|word| u8::from_str_radix(word, 16).ok());
            calls.last_mut().expect("a dump follows its call").sent.extend(bytes);
        } else if let Some(call) = line.split_once(' ').and_then(|(_, rest)| read_call(rest.trim_start())) {
            calls.push(call);
        }
    }
    calls
}

fn read_call(text: &str) -> Option<Call> {
    let (name, rest) = text.split_once('(')?;
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return None; // "+++ exited with 0 +++" and signals
    }
    let mut reader = Reader { text: rest.as_bytes(), at: 0 };
    let arguments = reader.values(b')');
    let rest = rest[reader.at..].trim_start().strip_prefix("= ").unwrap_or("?");
    let mut words = rest.split_whitespace();
    let result = words.next().and_then(number).map(|n| n as i64);
    let error = words.next().filter(|word| word.starts_with('E')).map(str::to_string);
    let injected = rest.ends_with("(INJECTED)");
    Some(Call { name: name.to_string(), arguments, result, error, injected, sent: Vec::new() })
}

fn number(word: &str) -> Option<i128> {
    let (sign, digits) = word.strip_prefix('-').map_or((1, word), |rest| (-1, rest));
    let value = match digits.strip_prefix("0x") {
        Some(hex) => i128::from_str_radix(hex, 16).ok()?,
        None if digits.len() > 1 && digits.starts_with('0') => i128::from_str_radix(digits, 8).ok()?,
        None => digits.parse().ok()?,
    };
    Some(sign * value)
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> u8 {
        self.text.get(self.at).copied().unwrap_or(0)
    }

    /// Values up to `end`, which is consumed.
    fn values(&mut self, end: u8) -> Vec<Argument> {
        let mut values = Vec::new();
        while self.at < self.text.len() && self.peek() != end {
            match self.peek() {
                b',' | b' ' => self.at += 1,
                _ => values.push(self.value()),
            }
        }
        self.at += 1;
        values
    }

    fn value(&mut self) -> Argument {
        match self.peek() {
            b'{' => {
                self.at += 1;
                let fields = self.values(b'}');
                Argument::Record(fields.into_iter().map(named).collect())
            }
            b'[' => {
                self.at += 1;
                Argument::List(self.values(b']'))
            }
            b'"' => self.bytes(),
            _ => {
                let start = self.at;
                while !matches!(self.peek(), 0 | b',' | b')' | b']' | b'}' | b'=' | b'(' | b' ') {
                    self.at += 1;
                }
                if self.at == start {
                    self.at += 1;
                }
                let word = String::from_utf8_lossy(&self.text[start..self.at]).into_owned();
                if self.peek() == b'=' && self.text.get(self.at + 1) != Some(&b'>') {
                    self.at += 1;
                    return Argument::Record(vec![(word, self.value())]);
                }
                match number(&word) {
                    Some(number) => Argument::Number(number),
                    None if word == "NULL" => Argument::Number(0),
                    None => Argument::Text(word),
                }
            }
        }
    }

    /// `"\x28\x00"`, possibly followed by `...`.
    fn bytes(&mut self) -> Argument {
        let mut bytes = Vec::new();
        self.at += 1;
        while self.at < self.text.len() && self.peek() != b'"' {
            if self.peek() != b'\\' {
                bytes.push(self.peek()); // as `detour plan --strace` prints paths
                self.at += 1;
                continue;
            }
            let hex = self.text.get(self.at + 2..self.at + 4).and_then(|hex| std::str::from_utf8(hex).ok());
            bytes.push(hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).expect("\\xNN, as -xx prints"));
            self.at += 4;
        }
        self.at += 1;
        while self.peek() == b'.' {
            self.at += 1;
        }
        Argument::Bytes(bytes)
    }
}

/// A record's field: `name=value` was read as a record of one.
fn named(field: Argument) -> (String, Argument) {
    match field {
        Argument::Record(mut one) if one.len() == 1 => one.remove(0),
        other => (String::new(), other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_strace() {
        let log = r#"15316 bpf(0x5, {prog_type=0x3, insns=[{code=0x7|0|0xb0, dst_reg=0, off=-2}], license="\x47\x50\x4c", log_buf=NULL}, 128) = 6
15316 bpf(0, {map_type=0x1, key_size=4, map_name="\x69\x64\x78"}, 72) = -1 ENOMEM (Cannot allocate memory) (INJECTED)
15316 mkdir("\x2f\x61", 0700) = 0
15316 sendto(3, [{nlmsg_len=20, nlmsg_type=0x12}, {ifi_index=0}], 20, 0, NULL, 0) = 20
 | 00000  28 00 00 00 12 00 01 03  a1 b2 c3 d4 00 00 00 00  (............... |
 | 00010  00 11 22 33                                       .."3             |
15316 bpf(0x6, {pathname="\x2f"}, 16) = ?
15316 +++ killed by SIGKILL +++
"#;
        let calls = read(log);
        assert_eq!(calls.len(), 5);
        assert_eq!((calls[0].bpf(), calls[0].result), (Some(5), Some(6)));
        assert_eq!(calls[0].arguments[1].field("license"), Some(&Argument::Bytes(b"GPL".to_vec())));
        assert_eq!(calls[0].arguments[1].field("log_buf"), Some(&Argument::Number(0)));
        assert_eq!(calls[1].error.as_deref(), Some("ENOMEM"));
        assert!(calls[1].injected && !calls[0].injected);
        assert_eq!(calls[2].arguments, [Argument::Bytes(b"/a".to_vec()), Argument::Number(0o700)]);
        assert_eq!((calls[3].netlink(), calls[3].sent.len()), (Some(0x12), 20));
        assert_eq!((calls[4].bpf(), calls[4].result), (Some(6), None));
    }
}
