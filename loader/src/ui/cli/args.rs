// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Arguments that several commands share.
use clap::builder::{PossibleValuesParser, ValueParser};
use clap::{value_parser, Arg, ArgAction, Command, ValueHint};

pub(super) fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

/// What a shell completes, and what a plan names by its whole path.
fn hint(value: &str) -> ValueHint {
    match value {
        "FILE" => ValueHint::FilePath,
        "DIR" => ValueHint::DirPath,
        _ => ValueHint::Unknown,
    }
}

pub(super) fn option(
    name: &'static str,
    value: &'static str,
    parser: impl Into<ValueParser>,
    help: &'static str,
) -> Arg {
    Arg::new(name).long(name).value_name(value).value_parser(parser.into()).value_hint(hint(value)).help(help)
}

/// A file that is written; where standard output is not meant, `-` is a mistake.
pub(super) fn written(text: &str) -> Result<String, String> {
    match text {
        "-" => Err("standard output is not written to here; './-' is a file of that name".to_owned()),
        path => Ok(path.to_owned()),
    }
}

pub(super) fn dev() -> Arg {
    Arg::new("dev").value_name("DEV").required(true).help("The network device")
}

/// A filter's handle: never 0, which means "choose one".
pub(super) fn number(text: &str) -> Result<u32, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.ok().filter(|n| *n != 0).ok_or_else(|| "a number from 1 to 0xffffffff".to_string())
}

pub(super) fn rules() -> [Arg; 2] {
    [Arg::new("rules").value_name("RULES").value_hint(ValueHint::FilePath).help("A file of rules"), rule()]
}

pub(super) fn rule() -> Arg {
    Arg::new("rule")
        .long("rule")
        .value_name("RULE")
        .action(ArgAction::Append)
        .help("A rule, after those of the file; first match wins")
}

pub(super) fn functions(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name("FUNC").action(ArgAction::Append).help(help)
}

/// What of an object is another than its file says.
pub(super) fn edits() -> Vec<Arg> {
    let edit = |name, value, help: &'static str| {
        option(name, value, ValueParser::string(), help).action(ArgAction::Append)
    };
    vec![
        edit("set", "VAR=VALUE", "Set a variable, VAR[.FIELD][[N]]=VALUE, before loading"),
        #[cfg(feature = "compat")]
        edit("map-size", "MAP=N", "Let this map have N entries (max_entries), whatever the object says"),
    ]
}

pub(super) fn sched_cls() -> Arg {
    Arg::new("type")
        .long("type")
        .value_name("TYPE")
        .value_parser(PossibleValuesParser::new(["sched_cls"]))
        .help("The type of functions named here whose section says nothing of one")
}

/// How an object is read that was written for other loaders.
#[cfg(feature = "compat")]
pub(super) fn reading(command: Command) -> Command {
    let help = "Read map definitions of the old forms, in sections 'maps' and 'maps/…'";
    command.arg(flag("legacy-maps", help))
}

#[cfg(not(feature = "compat"))]
pub(super) fn reading(command: Command) -> Command {
    command
}

pub(super) fn mount() -> Arg {
    flag("mount-bpffs", "Mount a BPF file system on /sys/fs/bpf where there is none")
}

pub(super) fn no_pin() -> Arg {
    let help = "Pin nothing: where there can be no BPF file system. Looking at it takes CAP_SYS_ADMIN";
    flag("no-pin", help).conflicts_with("mount-bpffs")
}

pub(super) fn prio(default: &'static str) -> Arg {
    option("prio", "N", value_parser!(u16).range(1..), "Priority of the filters; lower ones run first")
        .default_value(default)
}

pub(super) fn handle() -> Arg {
    option("handle", "N", ValueParser::from(number), "Handle of the filters, decimal or 0x…")
}

/// Conditions as rules have them, in one argument or several.
pub(super) fn selection() -> Arg {
    Arg::new("match")
        .value_name("MATCH")
        .num_args(0..)
        .help("Only these: conditions as in rules, such as: tcp dport 80 ip saddr 10.0.0.0/8")
}

/// A command that changes the kernel, which can be told to keep a record of that.
pub(super) fn recorded(command: Command) -> Command {
    let help = "Write every step to FILE as it is made, a JSON object a line";
    command.arg(option("transcript", "FILE", ValueParser::from(written), help))
}

#[cfg(feature = "audit")]
pub(super) fn policy() -> Arg {
    let help = "What a program may use and how large it may be; what is against it is refused";
    option("policy", "FILE", ValueParser::string(), help)
}

/// Whether an object is let in at all.
#[cfg(feature = "audit")]
pub(super) fn admitted() -> Vec<Arg> {
    let file = |name, value, help: &'static str| option(name, value, ValueParser::string(), help);
    let key = "Load only what the owner of this public key signed (minisign, Ed25519)";
    vec![
        policy(),
        file("require-signature", "KEY", key).value_hint(ValueHint::FilePath),
        file("signature", "FILE", "Where the signature is, if not in the object's FILE.minisig")
            .requires("require-signature"),
    ]
}

#[cfg(not(feature = "audit"))]
pub(super) fn admitted() -> Vec<Arg> {
    Vec::new()
}

/// Signatures that the kernel checks.
#[cfg(feature = "audit")]
pub(super) fn signed() -> Vec<Arg> {
    use crate::load::signed;
    let signatures = "Have the kernel check each program (Linux 6.18): DIR/FUNCTION.p7s is PKCS#7 over its instructions, which \
                      'plan load --insns' writes";
    let keyring = "Whose keys count: builtin (the kernel's own), secondary, platform, session, user, or a keyring's number";
    let number =
        |text: &str| signed::keyring(text).ok_or("a name such as builtin or session, or a serial number");
    vec![
        option("kernel-signatures", "DIR", ValueParser::string(), signatures),
        option("keyring", "KEYRING", ValueParser::from(number), keyring)
            .default_value("builtin")
            .requires("kernel-signatures"),
    ]
}

#[cfg(not(feature = "audit"))]
pub(super) fn signed() -> Vec<Arg> {
    Vec::new()
}
