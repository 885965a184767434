// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Seeing it before: `plan`, `check`, `inspect`, `test`.
use super::args::{edits, flag, functions, option, reading, rules, sched_cls};
use super::{limits, load, run};
use clap::builder::ValueParser;
use clap::{value_parser, Arg, ArgAction, Command};

pub(super) fn plan() -> Command {
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
            .arg(option("save-facts", "FILE", ValueParser::from(super::args::written), "Write the facts to a file"))
            .arg(flag("strace", "As 'strace -X raw' shows the calls").conflicts_with_all(["bytes", "undo"]))
            .arg(option(
                "pcap",
                "FILE",
                ValueParser::string(),
                "Write the netlink messages to a file that Wireshark opens; - is stdout, in place of the plan",
            ))
            .arg(option(
                "against",
                "FILE",
                ValueParser::string(),
                "Say what a plan (-j) or a transcript in FILE has otherwise; exit status 1 if anything",
            ))
    };
    let plan = Command::new("plan")
        .about("Print every bpf(2) call and netlink message that a command would make; changes nothing")
        .subcommand_required(true)
        .subcommand(of(run::up()))
        .subcommand(of(run::down()))
        .subcommand(of(load::load()).args(instructions()))
        .subcommand(of(load::unload()))
        .subcommand(
            Command::new("map")
                .about("Write elements and variables, delete elements")
                .subcommand_required(true)
                .subcommand(of(load::map_set()))
                .subcommand(of(load::map_del())),
        );
    #[cfg(feature = "operate")]
    let plan = plan.subcommand(of(run::flush()));
    plan
}

/// What is signed for the kernel.
fn instructions() -> Vec<Arg> {
    let help = "Write each program's instructions to DIR/FUNCTION.insns, as the kernel gets them and somebody may sign them";
    match cfg!(feature = "audit") {
        true => vec![option("insns", "DIR", ValueParser::string(), help)],
        false => Vec::new(),
    }
}

pub(super) fn apply() -> Command {
    Command::new("apply")
        .about("Do what a reviewed plan says, if planning again gives exactly that plan; otherwise nothing")
        .arg(Arg::new("plan").value_name("PLAN").required(true).help("What 'detour plan … -j' printed"))
}

pub(super) fn check() -> Command {
    Command::new("check").about("Read rules and say what they mean").args(rules())
}

pub(super) fn test() -> Command {
    let command = Command::new("test")
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
        .arg(
            Arg::new("out")
                .long("out")
                .value_name("FILE")
                .value_parser(super::args::written)
                .help("Write the packets afterwards as pcap"),
        )
        .arg(option("repeat", "N", value_parser!(u32).range(1..), "Run N times, and tell the mean duration"))
        .args(edits())
        .arg(sched_cls());
    reading(command.args(super::args::admitted()))
}

pub(super) fn inspect() -> Command {
    let command = Command::new("inspect")
        .about("Programs, maps, variables and types of an object; needs no kernel and no privilege")
        .arg(
            Arg::new("file").value_name("FILE").required(true).help("An ELF object, or @dnat, @drop, @trace"),
        )
        .args(edits())
        .arg(flag("disasm", "The instructions, with C source lines"))
        .arg(functions("program", "With --disasm: this program only").requires("disasm"));
    let command = reading(command);
    #[cfg(feature = "audit")]
    let command = command
        .arg(super::args::policy().help("Say what of it is against FILE; exit status 1 if anything"))
        .after_help(POLICY);
    command
}

pub(super) fn verify() -> Command {
    let command = Command::new("verify")
        .about("Objects against their manifest; with --live, what the kernel runs against the objects and the plan")
        .after_help(
            "What 'up' made is compared with what 'up' with the same options would make now. Without --rules and --rule\n\
             the table in force is compared with what its own text compiles to, so an older table that somebody put back\n\
             whole is a table like any other: only with --rules it is told. What 'load' was told of an object has to be\n\
             told here too. Exit status 1: something differs.\n\n\
             Not compared is what is in maps that packets write (flows, asked, counters, fragments, 'secret', by which\n\
             flows are found) and in 'event_control' (who listens): of these only the shapes. No plan says what should be\n\
             in them. Whoever may write there can lose connections and hide events, and changes no rule.",
        )
        .arg(Arg::new("file").value_name("FILE").num_args(0..).help("Objects to compare with the manifest too"))
        .arg(
            Arg::new("live").long("live").value_name("DEV").conflicts_with("file").help("Look at what runs on DEV"),
        )
        .arg(
            Arg::new("object")
                .long("object")
                .value_name("FILE")
                .action(ArgAction::Append)
                .help("The object that an instance was loaded from, where it is none of this program's"),
        )
        .args(edits())
        .arg(option("rules", "FILE", ValueParser::string(), "The rules that should be in force"))
        .arg(super::args::rule())
        .args(limits::options());
    // Alone it would be read and mean nothing.
    let command = load::with_btf(command).mut_args(|arg| match arg.get_id().as_str() {
        "file" | "live" => arg,
        _ => arg.requires("live"),
    });
    reading(command)
}

/// What is in a policy (audit/policy.rs).
#[cfg(feature = "audit")]
const POLICY: &str = "A policy has a rule a line; a word that ends in * stands for all that begin so, and what follows # is a remark:\n\
    \n  helper   allow map_lookup_elem skb_*    or deny: helpers by name without bpf_\n  \
    kfunc    allow                          none at all; where there is an allow, everything else is denied\n  \
    map      allow hash array lru_hash      types of maps, those inside maps of maps as well\n  \
    attach   allow ingress egress           and tcx-ingress, tcx-egress\n  \
    licence  allow \"Dual MIT/GPL\" GPL\n  \
    instructions max 4096                   of each program, subprograms included\n  \
    programs max 4\n  \
    maps     max 16\n  \
    entries  max 100000                     of each map\n  \
    bytes    max 16000000                   keys and values of all maps when full, on all CPUs of this machine";
