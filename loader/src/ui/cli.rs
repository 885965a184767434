// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The command line: every command and option, and nothing else.
use clap::builder::{PossibleValuesParser, ValueParser};
use clap::{value_parser, Arg, ArgAction, Command};

/// The whole command line.
pub fn command() -> Command {
    let command = Command::new("detour")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Redirects what arrives on an interface to a local server, and shows what was asked for")
        .after_help(EXIT_STATUS)
        .subcommand_required(false)
        .args(global())
        .subcommand(up())
        .subcommand(down())
        .subcommand(status())
        .subcommand(asked())
        .subcommand(flows())
        .subcommand(load())
        .subcommand(unload())
        .subcommand(list())
        .subcommand(plan())
        .subcommand(check())
        .subcommand(map())
        .subcommand(inspect())
        .subcommand(test());
    #[cfg(feature = "demo")]
    let command = command.subcommand(demo());
    command
}

const EXIT_STATUS: &str = "\
Exit status: 0 done or yes, 1 no, 2 usage or rules, 3 object refused, 4 kernel refused,
5 not permitted, 6 something that is not ours is in the way";

fn global() -> [Arg; 6] {
    [
        Arg::new("netns")
            .short('n')
            .long("netns")
            .value_name("NAME|PATH")
            .help("Work in this network namespace (needs CAP_SYS_ADMIN)"),
        flag("json", "One JSON document on stdout, errors as JSON on stderr").short('j'),
        flag("pretty", "Indented JSON").short('p'),
        Arg::new("color")
            .long("color")
            .value_name("WHEN")
            .value_parser(PossibleValuesParser::new(["auto", "always", "never"]))
            .default_value("auto")
            .help("Colours"),
        flag("verbose", "Show each step as it is made, and whole verifier logs").short('v'),
        flag("quiet", "Errors only").short('q').conflicts_with("verbose"),
    ]
    .map(|arg| arg.global(true))
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

fn option(
    name: &'static str,
    value: &'static str,
    parser: impl Into<ValueParser>,
    help: &'static str,
) -> Arg {
    Arg::new(name).long(name).value_name(value).value_parser(parser.into()).help(help)
}

fn dev() -> Arg {
    Arg::new("dev").value_name("DEV").required(true).help("The network device")
}

fn prio(default: &'static str) -> Arg {
    option("prio", "N", value_parser!(u16).range(1..), "Priority of the filters; lower ones run first")
        .default_value(default)
}

fn handle() -> Arg {
    option("handle", "N", ValueParser::from(number), "Handle of the filters, decimal or 0x…")
}

/// A filter's handle: never 0, which means "choose one".
fn number(text: &str) -> Result<u32, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.ok().filter(|n| *n != 0).ok_or_else(|| "a number from 1 to 0xffffffff".to_string())
}

fn up() -> Command {
    Command::new("up")
        .about("Load, attach and apply rules, then leave; the kernel carries on")
        .after_help("Without rules, everything goes to the device's own address: the rule 'redirect'.")
        .arg(dev())
        .args(rules())
        .arg(prio("100"))
        .arg(handle().default_value("0xd370"))
        .arg(
            option("flows-max", "N", value_parser!(u32).range(16..=16_777_216), "Confirmed flows at most")
                .default_value("65536"),
        )
        .arg(
            option(
                "opening-max",
                "N",
                value_parser!(u32).range(16..=1_048_576),
                "Half-open flows at most, per CPU",
            )
            .default_value("4096"),
        )
        .arg(
            option(
                "asked-max",
                "N",
                value_parser!(u32).range(16..=1_048_576),
                "Rows that 'asked' keeps at most",
            )
            .default_value("16384"),
        )
        .args(pickup())
        .arg(mount())
}

fn rules() -> [Arg; 2] {
    [
        Arg::new("rules").value_name("RULES").help("A file of rules"),
        Arg::new("rule")
            .long("rule")
            .value_name("RULE")
            .action(ArgAction::Append)
            .help("A rule, after those of the file; first match wins"),
    ]
}

fn pickup() -> [Arg; 2] {
    [
        flag(
            "pickup",
            "Open flows for TCP packets in mid-stream (the default where the device does not forward)",
        ),
        flag("no-pickup", "Never do that").conflicts_with("pickup"),
    ]
}

fn mount() -> Arg {
    flag("mount-bpffs", "Mount a BPF file system on /sys/fs/bpf where there is none")
}

fn down() -> Command {
    Command::new("down").about("Detach and unpin what up made, and nothing else").arg(dev())
}

#[cfg(feature = "demo")]
fn demo() -> Command {
    Command::new("demo").about("The main job in network namespaces of its own: nothing outside is touched")
}

fn status() -> Command {
    Command::new("status")
        .about("Devices, programs, rules and their counters (the default)")
        .arg(dev().required(false))
}

fn asked() -> Command {
    Command::new("asked").about("Which destinations and ports clients asked for, served or not").arg(dev())
}

fn flows() -> Command {
    Command::new("flows").about("Translations in force").arg(dev())
}

/// Attaching by tcx: where in its order.
#[cfg(feature = "compat")]
fn tcx() -> Vec<Arg> {
    let anchor = |name: &'static str, help: &'static str| {
        option(name, "ID|NAME", ValueParser::string(), help).requires("tcx")
    };
    let end = |name: &'static str, help: &'static str| flag(name, help).requires("tcx");
    let revision = option("revision", "N", value_parser!(u64), "Only if the hook still has this revision");
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

fn load() -> Command {
    let command = Command::new("load")
        .about("Load tc programs of any object and attach them")
        .arg(
            Arg::new("file").value_name("FILE").required(true).help("An ELF object, or @dnat, @drop, @trace"),
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
        .arg(set())
        .arg(prio("200"))
        .arg(handle())
        .args(tcx())
        .arg(
            flag("replace", "Take the place of a running instance of this name, without a gap; its maps go")
                .conflicts_with_all(["prio", "handle", "no-attach"]),
        )
        .arg(
            Arg::new("pin-dir")
                .long("pin-dir")
                .value_name("DIR")
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
        .arg(mount());
    with_btf(command)
}

#[cfg(feature = "compat")]
fn with_btf(command: Command) -> Command {
    let help = "Types of the kernel, if not those of /sys/kernel/btf/vmlinux";
    let without = "Do not give the object's own types to the kernel: for a kernel that refuses them";
    command.arg(option("btf", "FILE", ValueParser::string(), help)).arg(flag("no-btf", without))
}

#[cfg(not(feature = "compat"))]
fn with_btf(command: Command) -> Command {
    command
}

fn sched_cls() -> Arg {
    Arg::new("type")
        .long("type")
        .value_name("TYPE")
        .value_parser(PossibleValuesParser::new(["sched_cls"]))
        .help("The type of functions named here whose section says nothing of one")
}

fn set() -> Arg {
    Arg::new("set")
        .long("set")
        .value_name("VAR=VALUE")
        .action(ArgAction::Append)
        .help("Set a variable, VAR[.FIELD][[N]]=VALUE, before loading")
}

fn functions(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name("FUNC").action(ArgAction::Append).help(help)
}

fn unload() -> Command {
    Command::new("unload").about("Detach and unpin an instance, and nothing else").arg(dev()).arg(
        Arg::new("name").value_name("NAME").help("The instance; may be left out where there is one only"),
    )
}

fn list() -> Command {
    Command::new("list")
        .about("Every filter and tcx program on a device, foreign ones too, in the order in which they run")
        .arg(dev())
}

fn plan() -> Command {
    let facts = || {
        Arg::new("facts")
            .long("facts")
            .value_name("FILE|none")
            .help("Facts of another machine, as 'plan … --save-facts' wrote them, or of none at all")
    };
    let of = |command: Command| {
        command
            .arg(flag("bytes", "Show the bytes of every call and message"))
            .arg(flag("undo", "Show what undoes each step, and what follows a failure"))
            .arg(facts())
            .arg(
                Arg::new("save-facts")
                    .long("save-facts")
                    .value_name("FILE")
                    .help("Write the facts to a file"),
            )
    };
    Command::new("plan")
        .about("Print every bpf(2) call and netlink message that a command would make; changes nothing")
        .subcommand_required(true)
        .subcommand(of(up()))
        .subcommand(of(down()))
        .subcommand(of(load()))
        .subcommand(of(unload()))
}

fn check() -> Command {
    Command::new("check").about("Read rules and say what they mean").args(rules())
}

fn map() -> Command {
    let argument = |name: &'static str, shown: &'static str, help: &'static str| {
        Arg::new(name).value_name(shown).required(true).help(help)
    };
    let of = |name: &'static str, about: &'static str| {
        let types = Arg::new("types").long("types").value_name("FILE");
        Command::new(name)
            .about(about)
            .arg(dev())
            .arg(argument("name", "NAME", "The instance"))
            .arg(types.help("The object that the instance was loaded from: its types are used"))
    };
    let key = || argument("key", "KEY", "As 'load --set' takes values; hex:… where no type is known");
    let name = || argument("map", "MAP", "The map");
    Command::new("map")
        .about("Look into the maps of an instance, by their types where they are known, and write elements")
        .subcommand_required(true)
        .subcommand(of("list", "The maps and their shapes"))
        .subcommand(of("dump", "All elements of a map").arg(name()))
        .subcommand(of("get", "One element").arg(name()).arg(key()))
        .subcommand(of("set", "Write one element").arg(name()).arg(key()).arg(argument(
            "value",
            "VALUE",
            "As the key",
        )))
}

fn test() -> Command {
    Command::new("test")
        .about("Run a program on packets without a device (BPF_PROG_TEST_RUN): verdict and packet afterwards")
        .arg(
            Arg::new("file").value_name("FILE").required(true).help("An ELF object, or @dnat, @drop, @trace"),
        )
        .arg(Arg::new("program").value_name("PROG").required(true).help("The function"))
        .arg(
            Arg::new("packet").long("packet").value_name("FILE").required(true).help(
                "Ethernet frames: a pcap file, or one as hex text; to 00:00:00:00:00:00 they are for us",
            ),
        )
        .arg(Arg::new("out").long("out").value_name("FILE").help("Write the packets afterwards as pcap"))
        .arg(option("repeat", "N", value_parser!(u32).range(1..), "Run N times, and tell the mean duration"))
        .arg(set())
        .arg(sched_cls())
}

fn inspect() -> Command {
    Command::new("inspect")
        .about("Programs, maps, variables and types of an object; needs no kernel and no privilege")
        .arg(
            Arg::new("file").value_name("FILE").required(true).help("An ELF object, or @dnat, @drop, @trace"),
        )
        .arg(set())
        .arg(flag("disasm", "The instructions, with C source lines"))
        .arg(functions("program", "With --disasm: this program only").requires("disasm"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_tree_is_consistent() {
        super::command().debug_assert();
    }
}
