// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Any object: `load`, `unload`, `list`, `map`.
use super::args::{dev, edits, flag, functions, handle, mount, no_pin, option, prio, reading, sched_cls};
use clap::builder::{PossibleValuesParser, ValueParser};
use clap::{Arg, Command, ValueHint};

/// Attaching by tcx: where in its order.
#[cfg(feature = "compat")]
fn tcx() -> Vec<Arg> {
    let anchor = |name: &'static str, help: &'static str| {
        option(name, "ID|NAME", ValueParser::string(), help).requires("tcx")
    };
    let end = |name: &'static str, help: &'static str| flag(name, help).requires("tcx");
    let revision =
        option("revision", "N", clap::value_parser!(u64), "Only if the hook still has this revision");
    vec![
        flag("tcx", "Attach by tcx links (Linux 6.6), which run before all filters").conflicts_with_all([
            "prio",
            "handle",
            "no-attach",
        ]),
        anchor("before", "Before this program, by its id or the name of one of our instances")
            .conflicts_with_all(["after", "first", "last"]),
        anchor("after", "After this program").conflicts_with_all(["first", "last"]),
        end("first", "Before all others").conflicts_with("last"),
        end("last", "After all others (the default)"),
        revision.requires("tcx"),
    ]
}

#[cfg(not(feature = "compat"))]
fn tcx() -> Vec<Arg> {
    Vec::new()
}

/// Filters that do not see everything.
#[cfg(feature = "compat")]
fn part() -> Vec<Arg> {
    let chain = clap::value_parser!(u32).range(..=TC_ACT_EXT_VAL_MASK);
    let protocol =
        |text: &str| crate::load::tc::protocol_number(text).ok_or("all, ip, ipv6, arp, 802.1Q, 802.1ad, 0x…");
    let only = |arg: Arg| arg.conflicts_with_all(["tcx", "replace", "no-attach"]);
    vec![
        only(option(
            "chain",
            "N",
            chain,
            "Chain of the filters; others than 0 need a filter that goes there",
        )),
        only(option(
            "protocol",
            "PROTO",
            ValueParser::from(protocol),
            "Only frames of this ethertype, by tc's name or as 0x…",
        )),
    ]
}

/// Chains are numbers of 28 bits: an action has the rest for what is done (include/uapi/linux/pkt_cls.h).
#[cfg(feature = "compat")]
const TC_ACT_EXT_VAL_MASK: i64 = 0x0fff_ffff;

#[cfg(not(feature = "compat"))]
fn part() -> Vec<Arg> {
    Vec::new()
}

/// What the verifier says of a program that it takes.
#[cfg(feature = "compat")]
fn heard() -> Vec<Arg> {
    let help = "The verifier's log of each program, loaded or not: 1 its decisions, 2 the state at each instruction, 4 numbers \
                at the end; or a sum of these";
    vec![option("log-level", "N", clap::value_parser!(u32).range(1..=7), help)]
}

#[cfg(not(feature = "compat"))]
fn heard() -> Vec<Arg> {
    Vec::new()
}

pub(super) fn load() -> Command {
    let command = Command::new("load")
        .about("Load tc programs of any object and attach them")
        .arg(
            Arg::new("file")
                .value_name("FILE")
                .required(true)
                .value_hint(ValueHint::AnyPath)
                .help("An ELF object, or @dnat, @drop, @trace"),
        )
        .arg(dev().required(false).required_unless_present("no-attach"))
        .arg(option(
            "name",
            "NAME",
            ValueParser::string(),
            "The instance's name; the file's name without ending otherwise",
        ))
        .arg(functions("ingress", "Attach this function to ingress"))
        .arg(functions("egress", "Attach this function to egress"))
        .args(edits())
        .arg(prio("200"))
        .arg(handle())
        .args(part())
        .args(tcx())
        .arg(
            flag("replace", "Take the place of a running instance of this name, without a gap; its maps go")
                .conflicts_with_all(["prio", "handle", "no-attach"]),
        )
        .arg(
            Arg::new("pin-dir")
                .long("pin-dir")
                .value_name("DIR")
                .value_hint(ValueHint::DirPath)
                .conflicts_with("no-attach")
                .help("Share maps that ask to be pinned by name: take over those in DIR, pin new ones there"),
        )
        .arg(
            Arg::new("on-incompatible")
                .long("on-incompatible")
                .value_name("WHAT")
                .value_parser(PossibleValuesParser::new(["fail", "recreate"]))
                .default_value("fail")
                .help("When DIR holds a map of another shape"),
        )
        .arg(flag("no-attach", "Load every tc program, say what the verifier says, keep nothing"))
        .arg(functions("program", "With --no-attach: load this function only").requires("no-attach"))
        .arg(sched_cls())
        .arg(mount())
        .arg(no_pin().conflicts_with_all(["pin-dir", "no-attach"]))
        .args(heard());
    let command = command.args(super::args::admitted()).args(super::args::signed());
    #[cfg(feature = "audit")]
    let command = command.after_help(SIGNING);
    reading(with_btf(command))
}

#[cfg(feature = "audit")]
const SIGNING: &str = "\
Signatures for the kernel are made of what --insns writes, each by
  detour plan load FILE DEV --fd-array --insns DIR
  openssl cms -sign -binary -noattr -nocerts -md sha256 -signer CERTIFICATE -inkey KEY \\
    -outform DER -in DIR/FUNCTION.insns -out DIR/FUNCTION.p7s
and --fd-array is said again to load. The key's certificate has to be in the keyring, as by
  keyctl padd asymmetric '' @u <CERTIFICATE.der        (--keyring user)";

#[cfg(feature = "compat")]
pub(super) fn with_btf(command: Command) -> Command {
    let help = "Types of the kernel, if not those of /sys/kernel/btf/vmlinux";
    let without = "Do not give the object's own types to the kernel: for a kernel that refuses them";
    let array =
        "Instructions name maps by numbers, not descriptors (Linux 5.14): no byte differs from run to run";
    command
        .arg(option("btf", "FILE", ValueParser::string(), help))
        .arg(flag("no-btf", without))
        .arg(flag("fd-array", array))
}

#[cfg(not(feature = "compat"))]
pub(super) fn with_btf(command: Command) -> Command {
    command
}

pub(super) fn unload() -> Command {
    Command::new("unload").about("Detach and unpin an instance, and nothing else").arg(dev()).arg(
        Arg::new("name").value_name("NAME").help("The instance; may be left out where there is one only"),
    )
}

pub(super) fn list() -> Command {
    Command::new("list")
        .about("Every filter and tcx program on a device, foreign ones too, in the order in which they run")
        .arg(dev())
}

fn argument(name: &'static str, shown: &'static str, help: &'static str) -> Arg {
    Arg::new(name).value_name(shown).required(true).help(help)
}

fn map_of(name: &'static str, about: &'static str) -> Command {
    let types = Arg::new("types").long("types").value_name("FILE").value_hint(ValueHint::AnyPath);
    Command::new(name)
        .about(about)
        .arg(dev())
        .arg(argument("name", "NAME", "The instance"))
        .arg(types.help("The object that the instance was loaded from: its types are used"))
}

fn map_key() -> Arg {
    let help = "As 'load --set' takes values; hex:… where no type is known; the name of a variable where the map is global data";
    argument("key", "KEY", help).allow_negative_numbers(true)
}

pub(super) fn map_set() -> Command {
    let help =
        "As the key; MEMBER=VALUE[,MEMBER=VALUE…] writes parts of a struct, the others stay as they are read";
    map_of("set", "Write one element, or one variable of a map of global data")
        .arg(argument("map", "MAP", "The map"))
        .arg(map_key())
        .arg(argument("value", "VALUE", help).allow_negative_numbers(true))
        .after_help(VARIABLES)
}

#[cfg(feature = "operate")]
const LISTEN: &str = "\
A record goes to one reader: what is read here is gone for the program that else reads this ring buffer, and the\n\
other way round. What nobody has read comes first; records that a program discarded are left out. What found no\n\
room in the ring buffer only its programs know. With --as a record of another length is shown as hex.";

#[cfg(feature = "operate")]
fn map_listen() -> Command {
    use super::args::option;
    let types = "Read records as this type: 'struct event', or 'event' for a struct, union, typedef, enum or number; of FILE or, \
                 with CAP_SYS_ADMIN, of what the programs were loaded with";
    let count = option("count", "N", clap::value_parser!(u64).range(1..), "End after N of them");
    map_of("listen", "Records of a ring buffer, a line each as they come, until a signal ends it")
        .after_help(LISTEN)
        .arg(argument("map", "MAP", "The ring buffer"))
        .arg(option("as", "TYPE", clap::builder::ValueParser::string(), types))
        .arg(count)
}

pub(super) fn map_del() -> Command {
    map_of("del", "Delete one element")
        .arg(argument("map", "MAP", "The map"))
        .arg(map_key())
        .after_help("Exit status 1: there is no such element. The elements of an array cannot be deleted.")
}

/// Of KEY where the map is a section.
const VARIABLES: &str =
    "Of a map of global data (.data, .bss, .rodata, and .data.x and so on) KEY is VAR[.FIELD][[N]]. Nothing but that variable is \
     written, so what programs count beside it is not lost. What is in .rodata is set when it is loaded: 'load --set VAR=VALUE'.";

pub(super) fn map() -> Command {
    let name = || argument("map", "MAP", "The map");
    let map = Command::new("map")
        .about("Look into the maps of an instance, by their types where they are known, write and delete elements")
        .subcommand_required(true)
        .subcommand(map_of("list", "The maps and their shapes"))
        .subcommand(map_of("dump", "All elements of a map").arg(name()))
        .subcommand(
            map_of("get", "One element, or one variable of a map of global data").arg(name()).arg(map_key()),
        )
        .subcommand(super::args::recorded(map_set()))
        .subcommand(super::args::recorded(map_del()));
    #[cfg(feature = "operate")]
    let map = map.subcommand(map_listen());
    map
}
