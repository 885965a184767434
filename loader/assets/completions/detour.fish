# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
# SPDX-License-Identifier: MIT OR GPL-2.0-or-later
function __fish_detour_global_optspecs
    string join \n n/netns= j/json p/pretty color= v/verbose q/quiet h/help V/version
end

function __fish_detour_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_detour_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_detour_using_subcommand
    set -l cmd (__fish_detour_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c detour -n "__fish_detour_needs_command" -s n -l netns -d 'Work in this network namespace (needs CAP_SYS_ADMIN)' -r
complete -c detour -n "__fish_detour_needs_command" -l color -d 'Colours' -r -f -a "auto\t''
always\t''
never\t''"
complete -c detour -n "__fish_detour_needs_command" -s j -l json -d 'One JSON document on stdout, errors as JSON on stderr'
complete -c detour -n "__fish_detour_needs_command" -s p -l pretty -d 'Indented JSON'
complete -c detour -n "__fish_detour_needs_command" -s v -l verbose -d 'Show each step as it is made, and whole verifier logs'
complete -c detour -n "__fish_detour_needs_command" -s q -l quiet -d 'Errors only'
complete -c detour -n "__fish_detour_needs_command" -s h -l help -d 'Print help'
complete -c detour -n "__fish_detour_needs_command" -s V -l version -d 'Print version'
complete -c detour -n "__fish_detour_needs_command" -f -a "up" -d 'Load, attach and apply rules, then leave; the kernel carries on'
complete -c detour -n "__fish_detour_needs_command" -f -a "down" -d 'Detach and unpin what up made, and nothing else'
complete -c detour -n "__fish_detour_needs_command" -f -a "status" -d 'Devices, programs, rules and their counters (the default)'
complete -c detour -n "__fish_detour_needs_command" -f -a "asked" -d 'Which destinations and ports clients asked for, served or not'
complete -c detour -n "__fish_detour_needs_command" -f -a "flows" -d 'Translations in force'
complete -c detour -n "__fish_detour_needs_command" -f -a "rules" -d 'The rules in force, with their counters'
complete -c detour -n "__fish_detour_needs_command" -f -a "load" -d 'Load tc programs of any object and attach them'
complete -c detour -n "__fish_detour_needs_command" -f -a "unload" -d 'Detach and unpin an instance, and nothing else'
complete -c detour -n "__fish_detour_needs_command" -f -a "list" -d 'Every filter and tcx program on a device, foreign ones too, in the order in which they run'
complete -c detour -n "__fish_detour_needs_command" -f -a "plan" -d 'Print every bpf(2) call and netlink message that a command would make; changes nothing'
complete -c detour -n "__fish_detour_needs_command" -f -a "apply" -d 'Do what a reviewed plan says, if planning again gives exactly that plan; otherwise nothing'
complete -c detour -n "__fish_detour_needs_command" -f -a "check" -d 'Read rules and say what they mean'
complete -c detour -n "__fish_detour_needs_command" -f -a "map" -d 'Look into the maps of an instance, by their types where they are known, write and delete elements'
complete -c detour -n "__fish_detour_needs_command" -f -a "inspect" -d 'Programs, maps, variables and types of an object; needs no kernel and no privilege'
complete -c detour -n "__fish_detour_needs_command" -f -a "test" -d 'Run a program on packets without a device (BPF_PROG_TEST_RUN): verdict and packet afterwards'
complete -c detour -n "__fish_detour_needs_command" -f -a "verify" -d 'Objects against their manifest; with --live, what the kernel runs against the objects and the plan'
complete -c detour -n "__fish_detour_needs_command" -f -a "run" -d 'up in the foreground: tells events, reloads rules on SIGHUP, follows addresses'
complete -c detour -n "__fish_detour_needs_command" -f -a "flush" -d 'End translations: what follows is for the rules of now to decide'
complete -c detour -n "__fish_detour_needs_command" -f -a "orig" -d 'What the client of a connection had asked for, from what its server sees'
complete -c detour -n "__fish_detour_needs_command" -f -a "events" -d 'What happens on the device, a line each as it happens, until a signal ends it'
complete -c detour -n "__fish_detour_needs_command" -f -a "metrics" -d 'What is up as numbers for Prometheus'
complete -c detour -n "__fish_detour_needs_command" -f -a "doctor" -d 'What this kernel, this process and this device can do, each fault with its fix'
complete -c detour -n "__fish_detour_needs_command" -f -a "watch" -d 'What was asked for, flows and rates on a live screen'
complete -c detour -n "__fish_detour_needs_command" -f -a "demo" -d 'The main job in network namespaces of its own: nothing outside is touched'
complete -c detour -n "__fish_detour_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c detour -n "__fish_detour_using_subcommand up" -l prio -d 'Priority of the filters; lower ones run first' -r
complete -c detour -n "__fish_detour_using_subcommand up" -l handle -d 'Handle of the filters, decimal or 0x…' -r
complete -c detour -n "__fish_detour_using_subcommand up" -l rule -d 'A rule, after those of the file; first match wins' -r
complete -c detour -n "__fish_detour_using_subcommand up" -l flows-max -d 'Confirmed flows at most' -r
complete -c detour -n "__fish_detour_using_subcommand up" -l half-open -d 'Half-open flows at most, per CPU' -r
complete -c detour -n "__fish_detour_using_subcommand up" -l asked-max -d 'Rows that \'asked\' keeps at most' -r
complete -c detour -n "__fish_detour_using_subcommand up" -l timeout -d 'Idle time of tcp_established (7440s), tcp_transitory (240s), udp (300s), icmp (60s), generic (600s), ip_frag (30s)' -r
complete -c detour -n "__fish_detour_using_subcommand up" -l when-full -d 'What becomes of new flows when all flows-max are in use: held half-open as long as that goes, dropped, refused, or passed untranslated' -r -f -a "hold\t''
drop\t''
reject\t''
pass\t''"
complete -c detour -n "__fish_detour_using_subcommand up" -l client-new -d 'New flows of one client in a second at most; without, no limit' -r
complete -c detour -n "__fish_detour_using_subcommand up" -l client-live -d 'Confirmed flows of one client at most; without, no limit' -r
complete -c detour -n "__fish_detour_using_subcommand up" -l clients-max -d 'Clients that are counted for these two at most' -r
complete -c detour -n "__fish_detour_using_subcommand up" -l vlan -d 'Frames with VLAN tags that are served, too' -r -f -a "none\t''
any\t''"
complete -c detour -n "__fish_detour_using_subcommand up" -l object -d 'Programs of this object instead of the ones inside detour; it must have the same maps' -r -F
complete -c detour -n "__fish_detour_using_subcommand up" -l policy -d 'What a program may use and how large it may be; what is against it is refused' -r -F
complete -c detour -n "__fish_detour_using_subcommand up" -l require-signature -d 'Load only what the owner of this public key signed (minisign, Ed25519)' -r -F
complete -c detour -n "__fish_detour_using_subcommand up" -l signature -d 'Where the signature is, if not in the object\'s FILE.minisig' -r -F
complete -c detour -n "__fish_detour_using_subcommand up" -l original-dst -d 'Let getsockopt(SO_ORIGINAL_DST) of servers in this cgroup say what their clients asked for; without CGROUP, in all' -r
complete -c detour -n "__fish_detour_using_subcommand up" -l flush -d 'Then end the flows that MATCH chooses, as \'flush\' does; \'\' chooses all' -r
complete -c detour -n "__fish_detour_using_subcommand up" -l transcript -d 'Write every step to FILE as it is made, a JSON object a line' -r -F
complete -c detour -n "__fish_detour_using_subcommand up" -s n -l netns -d 'Work in this network namespace (needs CAP_SYS_ADMIN)' -r
complete -c detour -n "__fish_detour_using_subcommand up" -l color -d 'Colours' -r -f -a "auto\t''
always\t''
never\t''"
complete -c detour -n "__fish_detour_using_subcommand up" -l mount-bpffs -d 'Mount a BPF file system on /sys/fs/bpf where there is none'
complete -c detour -n "__fish_detour_using_subcommand up" -l sealed -d 'Drop what arrives and is neither translated, accepted by a rule nor for this machine'
complete -c detour -n "__fish_detour_using_subcommand up" -l monitor -d 'Translate nothing, drop nothing, record everything'
complete -c detour -n "__fish_detour_using_subcommand up" -l pickup -d 'Open flows for TCP packets in mid-stream (the default where the device does not forward)'
complete -c detour -n "__fish_detour_using_subcommand up" -l no-pickup -d 'Never do that'
complete -c detour -n "__fish_detour_using_subcommand up" -l no-pin -d 'Pin nothing: where there can be no BPF file system. Looking at it takes CAP_SYS_ADMIN'
complete -c detour -n "__fish_detour_using_subcommand up" -l fresh -d 'Where it is up: replace programs and maps without a gap, whatever the options; flows end, what was asked for stays where --asked-max does'
complete -c detour -n "__fish_detour_using_subcommand up" -s j -l json -d 'One JSON document on stdout, errors as JSON on stderr'
complete -c detour -n "__fish_detour_using_subcommand up" -s p -l pretty -d 'Indented JSON'
complete -c detour -n "__fish_detour_using_subcommand up" -s v -l verbose -d 'Show each step as it is made, and whole verifier logs'
complete -c detour -n "__fish_detour_using_subcommand up" -s q -l quiet -d 'Errors only'
complete -c detour -n "__fish_detour_using_subcommand up" -s h -l help -d 'Print help'
complete -c detour -n "__fish_detour_using_subcommand down" -l transcript -d 'Write every step to FILE as it is made, a JSON object a line' -r -F
complete -c detour -n "__fish_detour_using_subcommand down" -s n -l netns -d 'Work in this network namespace (needs CAP_SYS_ADMIN)' -r
complete -c detour -n "__fish_detour_using_subcommand down" -l color -d 'Colours' -r -f -a "auto\t''
always\t''
never\t''"
complete -c detour -n "__fish_detour_using_subcommand down" -s j -l json -d 'One JSON document on stdout, errors as JSON on stderr'
complete -c detour -n "__fish_detour_using_subcommand down" -s p -l pretty -d 'Indented JSON'
complete -c detour -n "__fish_detour_using_subcommand down" -s v -l verbose -d 'Show each step as it is made, and whole verifier logs'
complete -c detour -n "__fish_detour_using_subcommand down" -s q -l quiet -d 'Errors only'
complete -c detour -n "__fish_detour_using_subcommand down" -s h -l help -d 'Print help'
complete -c detour -n "__fish_detour_using_subcommand status" -s n -l netns -d 'Work in this network namespace (needs CAP_SYS_ADMIN)' -r
complete -c detour -n "__fish_detour_using_subcommand status" -l color -d 'Colours' -r -f -a "auto\t''
always\t''
never\t''"
complete -c detour -n "__fish_detour_using_subcommand status" -s j -l json -d 'One JSON document on stdout, errors as JSON on stderr'
complete -c detour -n "__fish_detour_using_subcommand status" -s p -l pretty -d 'Indented JSON'
complete -c detour -n "__fish_detour_using_subcommand status" -s v -l verbose -d 'Show each step as it is made, and whole verifier logs'
complete -c detour -n "__fish_detour_using_subcommand status" -s q -l quiet -d 'Errors only'
complete -c detour -n "__fish_detour_using_subcommand status" -s h -l help -d 'Print help'
complete -c detour -n "__fish_detour_using_subcommand asked" -l sort -d 'What comes first (packets)' -r -f -a "packets\t''
bytes\t''
first\t''
last\t''
name\t''"
complete -c detour -n "__fish_detour_using_subcommand asked" -l top -d 'Show at most N' -r
complete -c detour -n "__fish_detour_using_subcommand asked" -l since -d 'Only what was asked for within TIME: 90s, 5m, 2h, 1d' -r
complete -c detour -n "__fish_detour_using_subcommand asked" -l by -d 'Add up by client, port or destination' -r -f -a "client\t''
port\t''
dest\t''"
complete -c detour -n "__fish_detour_using_subcommand asked" -l svg -d 'Write the bars as a picture; - is stdout' -r -F
complete -c detour -n "__fish_detour_using_subcommand asked" -l names -d 'Show the names of FILE too, in hosts format, as \'run --names\' keeps it' -r -F
complete -c detour -n "__fish_detour_using_subcommand asked" -s n -l netns -d 'Work in this network namespace (needs CAP_SYS_ADMIN)' -r
complete -c detour -n "__fish_detour_using_subcommand asked" -l color -d 'Colours' -r -f -a "auto\t''
always\t''
never\t''"
complete -c detour -n "__fish_detour_using_subcommand asked" -l chart -d 'As bars'
complete -c detour -n "__fish_detour_using_subcommand asked" -l csv -d 'As comma-separated values'
complete -c detour -n "__fish_detour_using_subcommand asked" -s j -l json -d 'One JSON document on stdout, errors as JSON on stderr'
complete -c detour -n "__fish_detour_using_subcommand asked" -s p -l pretty -d 'Indented JSON'
complete -c detour -n "__fish_detour_using_subcommand asked" -s v -l verbose -d 'Show each step as it is made, and whole verifier logs'
complete -c detour -n "__fish_detour_using_subcommand asked" -s q -l quiet -d 'Errors only'
complete -c detour -n "__fish_detour_using_subcommand asked" -s h -l help -d 'Print help'
complete -c detour -n "__fish_detour_using_subcommand flows" -l names -d 'Show the names of FILE too, in hosts format, as \'run --names\' keeps it' -r -F
complete -c detour -n "__fish_detour_using_subcommand flows" -s n -l netns -d 'Work in this network namespace (needs CAP_SYS_ADMIN)' -r
complete -c detour -n "__fish_detour_using_subcommand flows" -l color -d 'Colours' -r -f -a "auto\t''
always\t''
never\t''"
complete -c detour -n "__fish_detour_using_subcommand flows" -s j -l json -d 'One JSON document on stdout, errors as JSON on stderr'
complete -c detour -n "__fish_detour_using_subcommand flows" -s p -l pretty -d 'Indented JSON'
complete -c detour -n "__fish_detour_using_subcommand flows" -s v -l verbose -d 'Show each step as it is made, and whole verifier logs'
complete -c detour -n "__fish_detour_using_subcommand flows" -s q -l quiet -d 'Errors only'
complete -c detour -n "__fish_detour_using_subcommand flows" -s h -l help -d 'Print help'
complete -c detour -n "__fish_detour_using_subcommand rules" -s n -l netns -d 'Work in this network namespace (needs CAP_SYS_ADMIN)' -r
complete -c detour -n "__fish_detour_using_subcommand rules" -l color -d 'Colours' -r -f -a "auto\t''
always\t''
never\t''"
complete -c detour -n "__fish_detour_using_subcommand rules" -s j -l json -d 'One JSON document on stdout, errors as JSON on stderr'
complete -c detour -n "__fish_detour_using_subcommand rules" -s p -l pretty -d 'Indented JSON'
complete -c detour -n "__fish_detour_using_subcommand rules" -s v -l verbose -d 'Show each step as it is made, and whole verifier logs'
complete -c detour -n "__fish_detour_using_subcommand rules" -s q -l quiet -d 'Errors only'
complete -c detour -n "__fish_detour_using_subcommand rules" -s h -l help -d 'Print help'
complete -c detour -n "__fish_detour_using_subcommand load" -l name -d 'The instance\'s name; the file\'s name without ending otherwise' -r
complete -c detour -n "__fish_detour_using_subcommand load" -l ingress -d 'Attach this function to ingress' -r
complete -c detour -n "__fish_detour_using_subcommand load" -l egress -d 'Attach this function to egress' -r
complete -c detour -n "__fish_detour_using_subcommand load" -l set -d 'Set a variable, VAR[.FIELD][[N]]=VALUE, before loading' -r
complete -c detour -n "__fish_detour_using_subcommand load" -l map-size -d 'Let this map have N entries (max_entries), whatever the object says' -r
complete -c detour -n "__fish_detour_using_subcommand load" -l prio -d 'Priority of the filters; lower ones run first' -r
complete -c detour -n "__fish_detour_using_subcommand load" -l handle -d 'Handle of the filters, decimal or 0x…' -r
complete -c detour -n "__fish_detour_using_subcommand load" -l chain -d 'Chain of the filters; others than 0 need a filter that goes there' -r
complete -c detour -n "__fish_detour_using_subcommand load" -l protocol -d 'Only frames of this ethertype, by tc\'s name or as 0x…' -r
complete -c detour -n "__fish_detour_using_subcommand load" -l before -d 'Before this program, by its id or the name of one of our instances' -r
complete -c detour -n "__fish_detour_using_subcommand load" -l after -d 'After this program' -r
complete -c detour -n "__fish_detour_using_subcommand load" -l revision -d 'Only if the hook still has this revision' -r
complete -c detour -n "__fish_detour_using_subcommand load" -l pin-dir -d 'Share maps that ask to be pinned by name: take over those in DIR, pin new ones there' -r -f -a "(__fish_complete_directories)"
complete -c detour -n "__fish_detour_using_subcommand load" -l on-incompatible -d 'When DIR holds a map of another shape' -r -f -a "fail\t''
recreate\t''"
complete -c detour -n "__fish_detour_using_subcommand load" -l program -d 'With --no-attach: load this function only' -r
complete -c detour -n "__fish_detour_using_subcommand load" -l type -d 'The type of functions named here whose section says nothing of one' -r -f -a "sched_cls\t''"
complete -c detour -n "__fish_detour_using_subcommand load" -l log-level -d 'The verifier\'s log of each program, loaded or not: 1 its decisions, 2 the state at each instruction, 4 numbers at the end; or a sum of these' -r
complete -c detour -n "__fish_detour_using_subcommand load" -l policy -d 'What a program may use and how large it may be; what is against it is refused' -r -F
complete -c detour -n "__fish_detour_using_subcommand load" -l require-signature -d 'Load only what the owner of this public key signed (minisign, Ed25519)' -r -F
complete -c detour -n "__fish_detour_using_subcommand load" -l signature -d 'Where the signature is, if not in the object\'s FILE.minisig' -r -F
complete -c detour -n "__fish_detour_using_subcommand load" -l kernel-signatures -d 'Have the kernel check each program (Linux 6.18): DIR/FUNCTION.p7s is PKCS#7 over its instructions, which \'plan load --insns\' writes' -r -f -a "(__fish_complete_directories)"
complete -c detour -n "__fish_detour_using_subcommand load" -l keyring -d 'Whose keys count: builtin (the kernel\'s own), secondary, platform, session, user, or a keyring\'s number' -r
complete -c detour -n "__fish_detour_using_subcommand load" -l btf -d 'Types of the kernel, if not those of /sys/kernel/btf/vmlinux' -r -F
complete -c detour -n "__fish_detour_using_subcommand load" -l transcript -d 'Write every step to FILE as it is made, a JSON object a line' -r -F
complete -c detour -n "__fish_detour_using_subcommand load" -s n -l netns -d 'Work in this network namespace (needs CAP_SYS_ADMIN)' -r
complete -c detour -n "__fish_detour_using_subcommand load" -l color -d 'Colours' -r -f -a "auto\t''
always\t''
never\t''"
complete -c detour -n "__fish_detour_using_subcommand load" -l tcx -d 'Attach by tcx links (Linux 6.6), which run before all filters'
complete -c detour -n "__fish_detour_using_subcommand load" -l first -d 'Before all others'
complete -c detour -n "__fish_detour_using_subcommand load" -l last -d 'After all others (the default)'
complete -c detour -n "__fish_detour_using_subcommand load" -l replace -d 'Take the place of a running instance of this name, without a gap; its maps go'
complete -c detour -n "__fish_detour_using_subcommand load" -l no-attach -d 'Load every tc program, say what the verifier says, keep nothing'
complete -c detour -n "__fish_detour_using_subcommand load" -l mount-bpffs -d 'Mount a BPF file system on /sys/fs/bpf where there is none'
complete -c detour -n "__fish_detour_using_subcommand load" -l no-pin -d 'Pin nothing: where there can be no BPF file system. Looking at it takes CAP_SYS_ADMIN'
complete -c detour -n "__fish_detour_using_subcommand load" -l no-btf -d 'Do not give the object\'s own types to the kernel: for a kernel that refuses them'
complete -c detour -n "__fish_detour_using_subcommand load" -l fd-array -d 'Instructions name maps by numbers, not descriptors (Linux 5.14): no byte differs from run to run'
complete -c detour -n "__fish_detour_using_subcommand load" -l legacy-maps -d 'Read map definitions of the old forms, in sections \'maps\' and \'maps/…\''
complete -c detour -n "__fish_detour_using_subcommand load" -s j -l json -d 'One JSON document on stdout, errors as JSON on stderr'
complete -c detour -n "__fish_detour_using_subcommand load" -s p -l pretty -d 'Indented JSON'
complete -c detour -n "__fish_detour_using_subcommand load" -s v -l verbose -d 'Show each step as it is made, and whole verifier logs'
complete -c detour -n "__fish_detour_using_subcommand load" -s q -l quiet -d 'Errors only'
complete -c detour -n "__fish_detour_using_subcommand load" -s h -l help -d 'Print help'
complete -c detour -n "__fish_detour_using_subcommand unload" -l transcript -d 'Write every step to FILE as it is made, a JSON object a line' -r -F
complete -c detour -n "__fish_detour_using_subcommand unload" -s n -l netns -d 'Work in this network namespace (needs CAP_SYS_ADMIN)' -r
complete -c detour -n "__fish_detour_using_subcommand unload" -l color -d 'Colours' -r -f -a "auto\t''
always\t''
never\t''"
complete -c detour -n "__fish_detour_using_subcommand unload" -s j -l json -d 'One JSON document on stdout, errors as JSON on stderr'
complete -c detour -n "__fish_detour_using_subcommand unload" -s p -l pretty -d 'Indented JSON'
complete -c detour -n "__fish_detour_using_subcommand unload" -s v -l verbose -d 'Show each step as it is made, and whole verifier logs'
complete -c detour -n "__fish_detour_using_subcommand unload" -s q -l quiet -d 'Errors only'
complete -c detour -n "__fish_detour_using_subcommand unload" -s h -l help -d 'Print help'
complete -c detour -n "__fish_detour_using_subcommand list" -s n -l netns -d 'Work in this network namespace (needs CAP_SYS_ADMIN)' -r
complete -c detour -n "__fish_detour_using_subcommand list" -l color -d 'Colours' -r -f -a "auto\t''
always\t''
never\t''"
complete -c detour -n "__fish_detour_using_subcommand list" -s j -l json -d 'One JSON document on stdout, errors as JSON on stderr'
complete -c detour -n "__fish_detour_using_subcommand list" -s p -l pretty -d 'Indented JSON'
complete -c detour -n "__fish_detour_using_subcommand list" -s v -l verbose -d 'Show each step as it is made, and whole verifier logs'
complete -c detour -n "__fish_detour_using_subcommand list" -s q -l quiet -d 'Errors only'
complete -c detour -n "__fish_detour_using_subcommand list" -s h -l help -d 'Print help'
complete -c detour -n "__fish_detour_using_subcommand plan; and not __fish_seen_subcommand_from up down load unload map flush help" -s n -l netns -d 'Work in this network namespace (needs CAP_SYS_ADMIN)' -r
complete -c detour -n "__fish_detour_using_subcommand plan; and not __fish_seen_subcommand_from up down load unload map flush help" -l color -d 'Colours' -r -f -a "auto\t''
always\t''
never\t''"
complete -c detour -n "__fish_detour_using_subcommand plan; and not __fish_seen_subcommand_from up down load unload map flush help" -s j -l json -d 'One JSON document on stdout, errors as JSON on stderr'
complete -c detour -n "__fish_detour_using_subcommand plan; and not __fish_seen_subcommand_from up down load unload map flush help" -s p -l pretty -d 'Indented JSON'
complete -c detour -n "__fish_detour_using_subcommand plan; and not __fish_seen_subcommand_from up down load unload map flush help" -s v -l verbose -d 'Show each step as it is made, and whole verifier logs'
complete -c detour -n "__fish_detour_using_subcommand plan; and not __fish_seen_subcommand_from up down load unload map flush help" -s q -l quiet -d 'Errors only'
complete -c detour -n "__fish_detour_using_subcommand plan; and not __fish_seen_subcommand_from up down load unload map flush help" -s h -l help -d 'Print help'
complete -c detour -n "__fish_detour_using_subcommand plan; and not __fish_seen_subcommand_from up down load unload map flush help" -f -a "up" -d 'Load, attach and apply rules, then leave; the kernel carries on'
complete -c detour -n "__fish_detour_using_subcommand plan; and not __fish_seen_subcommand_from up down load unload map flush help" -f -a "down" -d 'Detach and unpin what up made, and nothing else'
complete -c detour -n "__fish_detour_using_subcommand plan; and not __fish_seen_subcommand_from up down load unload map flush help" -f -a "load" -d 'Load tc programs of any object and attach them'
complete -c detour -n "__fish_detour_using_subcommand plan; and not __fish_seen_subcommand_from up down load unload map flush help" -f -a "unload" -d 'Detach and unpin an instance, and nothing else'
complete -c detour -n "__fish_detour_using_subcommand plan; and not __fish_seen_subcommand_from up down load unload map flush help" -f -a "map" -d 'Write elements and variables, delete elements'
complete -c detour -n "__fish_detour_using_subcommand plan; and not __fish_seen_subcommand_from up down load unload map flush help" -f -a "flush" -d 'End translations: what follows is for the rules of now to decide'
complete -c detour -n "__fish_detour_using_subcommand plan; and not __fish_seen_subcommand_from up down load unload map flush help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from up" -l prio -d 'Priority of the filters; lower ones run first' -r
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from up" -l handle -d 'Handle of the filters, decimal or 0x…' -r
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from up" -l rule -d 'A rule, after those of the file; first match wins' -r
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from up" -l flows-max -d 'Confirmed flows at most' -r
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from up" -l half-open -d 'Half-open flows at most, per CPU' -r
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from up" -l asked-max -d 'Rows that \'asked\' keeps at most' -r
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from up" -l timeout -d 'Idle time of tcp_established (7440s), tcp_transitory (240s), udp (300s), icmp (60s), generic (600s), ip_frag (30s)' -r
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from up" -l when-full -d 'What becomes of new flows when all flows-max are in use: held half-open as long as that goes, dropped, refused, or passed untranslated' -r -f -a "hold\t''
drop\t''
reject\t''
pass\t''"
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from up" -l client-new -d 'New flows of one client in a second at most; without, no limit' -r
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from up" -l client-live -d 'Confirmed flows of one client at most; without, no limit' -r
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from up" -l clients-max -d 'Clients that are counted for these two at most' -r
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from up" -l vlan -d 'Frames with VLAN tags that are served, too' -r -f -a "none\t''
any\t''"
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from up" -l object -d 'Programs of this object instead of the ones inside detour; it must have the same maps' -r -F
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from up" -l policy -d 'What a program may use and how large it may be; what is against it is refused' -r -F
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from up" -l require-signature -d 'Load only what the owner of this public key signed (minisign, Ed25519)' -r -F
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from up" -l signature -d 'Where the signature is, if not in the object\'s FILE.minisig' -r -F
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from up" -l original-dst -d 'Let getsockopt(SO_ORIGINAL_DST) of servers in this cgroup say what their clients asked for; without CGROUP, in all' -r
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from up" -l flush -d 'Then end the flows that MATCH chooses, as \'flush\' does; \'\' chooses all' -r
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from up" -l facts -d 'Facts of another machine, as \'plan … --save-facts\' wrote them, or of none at all' -r
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from up" -l save-facts -d 'Write the facts to a file' -r -F
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from up" -l pcap -d 'Write the netlink messages to a file that Wireshark opens; - is stdout, in place of the plan' -r -F
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from up" -l against -d 'Say what a plan (-j) or a transcript in FILE has otherwise; exit status 1 if anything' -r -F
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from up" -s n -l netns -d 'Work in this network namespace (needs CAP_SYS_ADMIN)' -r
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from up" -l color -d 'Colours' -r -f -a "auto\t''
always\t''
never\t''"
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from up" -l mount-bpffs -d 'Mount a BPF file system on /sys/fs/bpf where there is none'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from up" -l sealed -d 'Drop what arrives and is neither translated, accepted by a rule nor for this machine'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from up" -l monitor -d 'Translate nothing, drop nothing, record everything'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from up" -l pickup -d 'Open flows for TCP packets in mid-stream (the default where the device does not forward)'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from up" -l no-pickup -d 'Never do that'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from up" -l no-pin -d 'Pin nothing: where there can be no BPF file system. Looking at it takes CAP_SYS_ADMIN'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from up" -l fresh -d 'Where it is up: replace programs and maps without a gap, whatever the options; flows end, what was asked for stays where --asked-max does'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from up" -l bytes -d 'Show the bytes of every call and message'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from up" -l undo -d 'Show what undoes each step, and what follows a failure'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from up" -l strace -d 'As \'strace -X raw\' shows the calls'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from up" -s j -l json -d 'One JSON document on stdout, errors as JSON on stderr'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from up" -s p -l pretty -d 'Indented JSON'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from up" -s v -l verbose -d 'Show each step as it is made, and whole verifier logs'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from up" -s q -l quiet -d 'Errors only'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from up" -s h -l help -d 'Print help'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from down" -l facts -d 'Facts of another machine, as \'plan … --save-facts\' wrote them, or of none at all' -r
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from down" -l save-facts -d 'Write the facts to a file' -r -F
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from down" -l pcap -d 'Write the netlink messages to a file that Wireshark opens; - is stdout, in place of the plan' -r -F
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from down" -l against -d 'Say what a plan (-j) or a transcript in FILE has otherwise; exit status 1 if anything' -r -F
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from down" -s n -l netns -d 'Work in this network namespace (needs CAP_SYS_ADMIN)' -r
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from down" -l color -d 'Colours' -r -f -a "auto\t''
always\t''
never\t''"
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from down" -l bytes -d 'Show the bytes of every call and message'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from down" -l undo -d 'Show what undoes each step, and what follows a failure'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from down" -l strace -d 'As \'strace -X raw\' shows the calls'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from down" -s j -l json -d 'One JSON document on stdout, errors as JSON on stderr'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from down" -s p -l pretty -d 'Indented JSON'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from down" -s v -l verbose -d 'Show each step as it is made, and whole verifier logs'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from down" -s q -l quiet -d 'Errors only'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from down" -s h -l help -d 'Print help'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -l name -d 'The instance\'s name; the file\'s name without ending otherwise' -r
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -l ingress -d 'Attach this function to ingress' -r
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -l egress -d 'Attach this function to egress' -r
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -l set -d 'Set a variable, VAR[.FIELD][[N]]=VALUE, before loading' -r
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -l map-size -d 'Let this map have N entries (max_entries), whatever the object says' -r
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -l prio -d 'Priority of the filters; lower ones run first' -r
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -l handle -d 'Handle of the filters, decimal or 0x…' -r
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -l chain -d 'Chain of the filters; others than 0 need a filter that goes there' -r
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -l protocol -d 'Only frames of this ethertype, by tc\'s name or as 0x…' -r
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -l before -d 'Before this program, by its id or the name of one of our instances' -r
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -l after -d 'After this program' -r
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -l revision -d 'Only if the hook still has this revision' -r
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -l pin-dir -d 'Share maps that ask to be pinned by name: take over those in DIR, pin new ones there' -r -f -a "(__fish_complete_directories)"
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -l on-incompatible -d 'When DIR holds a map of another shape' -r -f -a "fail\t''
recreate\t''"
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -l program -d 'With --no-attach: load this function only' -r
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -l type -d 'The type of functions named here whose section says nothing of one' -r -f -a "sched_cls\t''"
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -l log-level -d 'The verifier\'s log of each program, loaded or not: 1 its decisions, 2 the state at each instruction, 4 numbers at the end; or a sum of these' -r
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -l policy -d 'What a program may use and how large it may be; what is against it is refused' -r -F
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -l require-signature -d 'Load only what the owner of this public key signed (minisign, Ed25519)' -r -F
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -l signature -d 'Where the signature is, if not in the object\'s FILE.minisig' -r -F
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -l kernel-signatures -d 'Have the kernel check each program (Linux 6.18): DIR/FUNCTION.p7s is PKCS#7 over its instructions, which \'plan load --insns\' writes' -r -f -a "(__fish_complete_directories)"
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -l keyring -d 'Whose keys count: builtin (the kernel\'s own), secondary, platform, session, user, or a keyring\'s number' -r
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -l btf -d 'Types of the kernel, if not those of /sys/kernel/btf/vmlinux' -r -F
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -l facts -d 'Facts of another machine, as \'plan … --save-facts\' wrote them, or of none at all' -r
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -l save-facts -d 'Write the facts to a file' -r -F
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -l pcap -d 'Write the netlink messages to a file that Wireshark opens; - is stdout, in place of the plan' -r -F
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -l against -d 'Say what a plan (-j) or a transcript in FILE has otherwise; exit status 1 if anything' -r -F
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -l insns -d 'Write each program\'s instructions to DIR/FUNCTION.insns, as the kernel gets them and somebody may sign them' -r -f -a "(__fish_complete_directories)"
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -s n -l netns -d 'Work in this network namespace (needs CAP_SYS_ADMIN)' -r
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -l color -d 'Colours' -r -f -a "auto\t''
always\t''
never\t''"
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -l tcx -d 'Attach by tcx links (Linux 6.6), which run before all filters'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -l first -d 'Before all others'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -l last -d 'After all others (the default)'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -l replace -d 'Take the place of a running instance of this name, without a gap; its maps go'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -l no-attach -d 'Load every tc program, say what the verifier says, keep nothing'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -l mount-bpffs -d 'Mount a BPF file system on /sys/fs/bpf where there is none'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -l no-pin -d 'Pin nothing: where there can be no BPF file system. Looking at it takes CAP_SYS_ADMIN'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -l no-btf -d 'Do not give the object\'s own types to the kernel: for a kernel that refuses them'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -l fd-array -d 'Instructions name maps by numbers, not descriptors (Linux 5.14): no byte differs from run to run'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -l legacy-maps -d 'Read map definitions of the old forms, in sections \'maps\' and \'maps/…\''
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -l bytes -d 'Show the bytes of every call and message'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -l undo -d 'Show what undoes each step, and what follows a failure'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -l strace -d 'As \'strace -X raw\' shows the calls'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -s j -l json -d 'One JSON document on stdout, errors as JSON on stderr'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -s p -l pretty -d 'Indented JSON'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -s v -l verbose -d 'Show each step as it is made, and whole verifier logs'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -s q -l quiet -d 'Errors only'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from load" -s h -l help -d 'Print help'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from unload" -l facts -d 'Facts of another machine, as \'plan … --save-facts\' wrote them, or of none at all' -r
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from unload" -l save-facts -d 'Write the facts to a file' -r -F
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from unload" -l pcap -d 'Write the netlink messages to a file that Wireshark opens; - is stdout, in place of the plan' -r -F
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from unload" -l against -d 'Say what a plan (-j) or a transcript in FILE has otherwise; exit status 1 if anything' -r -F
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from unload" -s n -l netns -d 'Work in this network namespace (needs CAP_SYS_ADMIN)' -r
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from unload" -l color -d 'Colours' -r -f -a "auto\t''
always\t''
never\t''"
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from unload" -l bytes -d 'Show the bytes of every call and message'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from unload" -l undo -d 'Show what undoes each step, and what follows a failure'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from unload" -l strace -d 'As \'strace -X raw\' shows the calls'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from unload" -s j -l json -d 'One JSON document on stdout, errors as JSON on stderr'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from unload" -s p -l pretty -d 'Indented JSON'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from unload" -s v -l verbose -d 'Show each step as it is made, and whole verifier logs'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from unload" -s q -l quiet -d 'Errors only'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from unload" -s h -l help -d 'Print help'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from map" -s n -l netns -d 'Work in this network namespace (needs CAP_SYS_ADMIN)' -r
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from map" -l color -d 'Colours' -r -f -a "auto\t''
always\t''
never\t''"
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from map" -s j -l json -d 'One JSON document on stdout, errors as JSON on stderr'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from map" -s p -l pretty -d 'Indented JSON'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from map" -s v -l verbose -d 'Show each step as it is made, and whole verifier logs'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from map" -s q -l quiet -d 'Errors only'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from map" -s h -l help -d 'Print help'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from map" -f -a "set" -d 'Write one element, or one variable of a map of global data'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from map" -f -a "del" -d 'Delete one element'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from map" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from flush" -l facts -d 'Facts of another machine, as \'plan … --save-facts\' wrote them, or of none at all' -r
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from flush" -l save-facts -d 'Write the facts to a file' -r -F
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from flush" -l pcap -d 'Write the netlink messages to a file that Wireshark opens; - is stdout, in place of the plan' -r -F
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from flush" -l against -d 'Say what a plan (-j) or a transcript in FILE has otherwise; exit status 1 if anything' -r -F
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from flush" -s n -l netns -d 'Work in this network namespace (needs CAP_SYS_ADMIN)' -r
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from flush" -l color -d 'Colours' -r -f -a "auto\t''
always\t''
never\t''"
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from flush" -l bytes -d 'Show the bytes of every call and message'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from flush" -l undo -d 'Show what undoes each step, and what follows a failure'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from flush" -l strace -d 'As \'strace -X raw\' shows the calls'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from flush" -s j -l json -d 'One JSON document on stdout, errors as JSON on stderr'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from flush" -s p -l pretty -d 'Indented JSON'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from flush" -s v -l verbose -d 'Show each step as it is made, and whole verifier logs'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from flush" -s q -l quiet -d 'Errors only'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from flush" -s h -l help -d 'Print help'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from help" -f -a "up" -d 'Load, attach and apply rules, then leave; the kernel carries on'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from help" -f -a "down" -d 'Detach and unpin what up made, and nothing else'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from help" -f -a "load" -d 'Load tc programs of any object and attach them'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from help" -f -a "unload" -d 'Detach and unpin an instance, and nothing else'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from help" -f -a "map" -d 'Write elements and variables, delete elements'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from help" -f -a "flush" -d 'End translations: what follows is for the rules of now to decide'
complete -c detour -n "__fish_detour_using_subcommand plan; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c detour -n "__fish_detour_using_subcommand apply" -l transcript -d 'Write every step to FILE as it is made, a JSON object a line' -r -F
complete -c detour -n "__fish_detour_using_subcommand apply" -s n -l netns -d 'Work in this network namespace (needs CAP_SYS_ADMIN)' -r
complete -c detour -n "__fish_detour_using_subcommand apply" -l color -d 'Colours' -r -f -a "auto\t''
always\t''
never\t''"
complete -c detour -n "__fish_detour_using_subcommand apply" -s j -l json -d 'One JSON document on stdout, errors as JSON on stderr'
complete -c detour -n "__fish_detour_using_subcommand apply" -s p -l pretty -d 'Indented JSON'
complete -c detour -n "__fish_detour_using_subcommand apply" -s v -l verbose -d 'Show each step as it is made, and whole verifier logs'
complete -c detour -n "__fish_detour_using_subcommand apply" -s q -l quiet -d 'Errors only'
complete -c detour -n "__fish_detour_using_subcommand apply" -s h -l help -d 'Print help'
complete -c detour -n "__fish_detour_using_subcommand check" -l rule -d 'A rule, after those of the file; first match wins' -r
complete -c detour -n "__fish_detour_using_subcommand check" -s n -l netns -d 'Work in this network namespace (needs CAP_SYS_ADMIN)' -r
complete -c detour -n "__fish_detour_using_subcommand check" -l color -d 'Colours' -r -f -a "auto\t''
always\t''
never\t''"
complete -c detour -n "__fish_detour_using_subcommand check" -s j -l json -d 'One JSON document on stdout, errors as JSON on stderr'
complete -c detour -n "__fish_detour_using_subcommand check" -s p -l pretty -d 'Indented JSON'
complete -c detour -n "__fish_detour_using_subcommand check" -s v -l verbose -d 'Show each step as it is made, and whole verifier logs'
complete -c detour -n "__fish_detour_using_subcommand check" -s q -l quiet -d 'Errors only'
complete -c detour -n "__fish_detour_using_subcommand check" -s h -l help -d 'Print help'
complete -c detour -n "__fish_detour_using_subcommand map; and not __fish_seen_subcommand_from list dump get set del listen help" -s n -l netns -d 'Work in this network namespace (needs CAP_SYS_ADMIN)' -r
complete -c detour -n "__fish_detour_using_subcommand map; and not __fish_seen_subcommand_from list dump get set del listen help" -l color -d 'Colours' -r -f -a "auto\t''
always\t''
never\t''"
complete -c detour -n "__fish_detour_using_subcommand map; and not __fish_seen_subcommand_from list dump get set del listen help" -s j -l json -d 'One JSON document on stdout, errors as JSON on stderr'
complete -c detour -n "__fish_detour_using_subcommand map; and not __fish_seen_subcommand_from list dump get set del listen help" -s p -l pretty -d 'Indented JSON'
complete -c detour -n "__fish_detour_using_subcommand map; and not __fish_seen_subcommand_from list dump get set del listen help" -s v -l verbose -d 'Show each step as it is made, and whole verifier logs'
complete -c detour -n "__fish_detour_using_subcommand map; and not __fish_seen_subcommand_from list dump get set del listen help" -s q -l quiet -d 'Errors only'
complete -c detour -n "__fish_detour_using_subcommand map; and not __fish_seen_subcommand_from list dump get set del listen help" -s h -l help -d 'Print help'
complete -c detour -n "__fish_detour_using_subcommand map; and not __fish_seen_subcommand_from list dump get set del listen help" -f -a "list" -d 'The maps and their shapes'
complete -c detour -n "__fish_detour_using_subcommand map; and not __fish_seen_subcommand_from list dump get set del listen help" -f -a "dump" -d 'All elements of a map'
complete -c detour -n "__fish_detour_using_subcommand map; and not __fish_seen_subcommand_from list dump get set del listen help" -f -a "get" -d 'One element, or one variable of a map of global data'
complete -c detour -n "__fish_detour_using_subcommand map; and not __fish_seen_subcommand_from list dump get set del listen help" -f -a "set" -d 'Write one element, or one variable of a map of global data'
complete -c detour -n "__fish_detour_using_subcommand map; and not __fish_seen_subcommand_from list dump get set del listen help" -f -a "del" -d 'Delete one element'
complete -c detour -n "__fish_detour_using_subcommand map; and not __fish_seen_subcommand_from list dump get set del listen help" -f -a "listen" -d 'Records of a ring buffer, a line each as they come, until a signal ends it'
complete -c detour -n "__fish_detour_using_subcommand map; and not __fish_seen_subcommand_from list dump get set del listen help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from list" -l types -d 'The object that the instance was loaded from: its types are used' -r -F
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from list" -s n -l netns -d 'Work in this network namespace (needs CAP_SYS_ADMIN)' -r
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from list" -l color -d 'Colours' -r -f -a "auto\t''
always\t''
never\t''"
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from list" -s j -l json -d 'One JSON document on stdout, errors as JSON on stderr'
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from list" -s p -l pretty -d 'Indented JSON'
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from list" -s v -l verbose -d 'Show each step as it is made, and whole verifier logs'
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Errors only'
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from dump" -l types -d 'The object that the instance was loaded from: its types are used' -r -F
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from dump" -s n -l netns -d 'Work in this network namespace (needs CAP_SYS_ADMIN)' -r
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from dump" -l color -d 'Colours' -r -f -a "auto\t''
always\t''
never\t''"
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from dump" -s j -l json -d 'One JSON document on stdout, errors as JSON on stderr'
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from dump" -s p -l pretty -d 'Indented JSON'
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from dump" -s v -l verbose -d 'Show each step as it is made, and whole verifier logs'
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from dump" -s q -l quiet -d 'Errors only'
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from dump" -s h -l help -d 'Print help'
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from get" -l types -d 'The object that the instance was loaded from: its types are used' -r -F
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from get" -s n -l netns -d 'Work in this network namespace (needs CAP_SYS_ADMIN)' -r
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from get" -l color -d 'Colours' -r -f -a "auto\t''
always\t''
never\t''"
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from get" -s j -l json -d 'One JSON document on stdout, errors as JSON on stderr'
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from get" -s p -l pretty -d 'Indented JSON'
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from get" -s v -l verbose -d 'Show each step as it is made, and whole verifier logs'
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from get" -s q -l quiet -d 'Errors only'
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from get" -s h -l help -d 'Print help'
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from set" -l types -d 'The object that the instance was loaded from: its types are used' -r -F
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from set" -l transcript -d 'Write every step to FILE as it is made, a JSON object a line' -r -F
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from set" -s n -l netns -d 'Work in this network namespace (needs CAP_SYS_ADMIN)' -r
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from set" -l color -d 'Colours' -r -f -a "auto\t''
always\t''
never\t''"
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from set" -s j -l json -d 'One JSON document on stdout, errors as JSON on stderr'
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from set" -s p -l pretty -d 'Indented JSON'
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from set" -s v -l verbose -d 'Show each step as it is made, and whole verifier logs'
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from set" -s q -l quiet -d 'Errors only'
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from set" -s h -l help -d 'Print help'
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from del" -l types -d 'The object that the instance was loaded from: its types are used' -r -F
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from del" -l transcript -d 'Write every step to FILE as it is made, a JSON object a line' -r -F
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from del" -s n -l netns -d 'Work in this network namespace (needs CAP_SYS_ADMIN)' -r
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from del" -l color -d 'Colours' -r -f -a "auto\t''
always\t''
never\t''"
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from del" -s j -l json -d 'One JSON document on stdout, errors as JSON on stderr'
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from del" -s p -l pretty -d 'Indented JSON'
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from del" -s v -l verbose -d 'Show each step as it is made, and whole verifier logs'
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from del" -s q -l quiet -d 'Errors only'
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from del" -s h -l help -d 'Print help'
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from listen" -l types -d 'The object that the instance was loaded from: its types are used' -r -F
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from listen" -l as -d 'Read records as this type: \'struct event\', or \'event\' for a struct, union, typedef, enum or number; of FILE or, with CAP_SYS_ADMIN, of what the programs were loaded with' -r
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from listen" -l count -d 'End after N of them' -r
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from listen" -s n -l netns -d 'Work in this network namespace (needs CAP_SYS_ADMIN)' -r
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from listen" -l color -d 'Colours' -r -f -a "auto\t''
always\t''
never\t''"
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from listen" -s j -l json -d 'One JSON document on stdout, errors as JSON on stderr'
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from listen" -s p -l pretty -d 'Indented JSON'
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from listen" -s v -l verbose -d 'Show each step as it is made, and whole verifier logs'
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from listen" -s q -l quiet -d 'Errors only'
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from listen" -s h -l help -d 'Print help'
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from help" -f -a "list" -d 'The maps and their shapes'
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from help" -f -a "dump" -d 'All elements of a map'
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from help" -f -a "get" -d 'One element, or one variable of a map of global data'
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from help" -f -a "set" -d 'Write one element, or one variable of a map of global data'
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from help" -f -a "del" -d 'Delete one element'
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from help" -f -a "listen" -d 'Records of a ring buffer, a line each as they come, until a signal ends it'
complete -c detour -n "__fish_detour_using_subcommand map; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c detour -n "__fish_detour_using_subcommand inspect" -l set -d 'Set a variable, VAR[.FIELD][[N]]=VALUE, before loading' -r
complete -c detour -n "__fish_detour_using_subcommand inspect" -l map-size -d 'Let this map have N entries (max_entries), whatever the object says' -r
complete -c detour -n "__fish_detour_using_subcommand inspect" -l program -d 'With --disasm: this program only' -r
complete -c detour -n "__fish_detour_using_subcommand inspect" -l policy -d 'Say what of it is against FILE; exit status 1 if anything' -r -F
complete -c detour -n "__fish_detour_using_subcommand inspect" -s n -l netns -d 'Work in this network namespace (needs CAP_SYS_ADMIN)' -r
complete -c detour -n "__fish_detour_using_subcommand inspect" -l color -d 'Colours' -r -f -a "auto\t''
always\t''
never\t''"
complete -c detour -n "__fish_detour_using_subcommand inspect" -l disasm -d 'The instructions, with C source lines'
complete -c detour -n "__fish_detour_using_subcommand inspect" -l legacy-maps -d 'Read map definitions of the old forms, in sections \'maps\' and \'maps/…\''
complete -c detour -n "__fish_detour_using_subcommand inspect" -s j -l json -d 'One JSON document on stdout, errors as JSON on stderr'
complete -c detour -n "__fish_detour_using_subcommand inspect" -s p -l pretty -d 'Indented JSON'
complete -c detour -n "__fish_detour_using_subcommand inspect" -s v -l verbose -d 'Show each step as it is made, and whole verifier logs'
complete -c detour -n "__fish_detour_using_subcommand inspect" -s q -l quiet -d 'Errors only'
complete -c detour -n "__fish_detour_using_subcommand inspect" -s h -l help -d 'Print help'
complete -c detour -n "__fish_detour_using_subcommand test" -l packet -d 'Ethernet frames: a pcap file, or one as hex text; to 00:00:00:00:00:00 they are for us' -r
complete -c detour -n "__fish_detour_using_subcommand test" -l out -d 'Write the packets afterwards as pcap' -r
complete -c detour -n "__fish_detour_using_subcommand test" -l repeat -d 'Run N times, and tell the mean duration' -r
complete -c detour -n "__fish_detour_using_subcommand test" -l set -d 'Set a variable, VAR[.FIELD][[N]]=VALUE, before loading' -r
complete -c detour -n "__fish_detour_using_subcommand test" -l map-size -d 'Let this map have N entries (max_entries), whatever the object says' -r
complete -c detour -n "__fish_detour_using_subcommand test" -l type -d 'The type of functions named here whose section says nothing of one' -r -f -a "sched_cls\t''"
complete -c detour -n "__fish_detour_using_subcommand test" -l policy -d 'What a program may use and how large it may be; what is against it is refused' -r -F
complete -c detour -n "__fish_detour_using_subcommand test" -l require-signature -d 'Load only what the owner of this public key signed (minisign, Ed25519)' -r -F
complete -c detour -n "__fish_detour_using_subcommand test" -l signature -d 'Where the signature is, if not in the object\'s FILE.minisig' -r -F
complete -c detour -n "__fish_detour_using_subcommand test" -l transcript -d 'Write every step to FILE as it is made, a JSON object a line' -r -F
complete -c detour -n "__fish_detour_using_subcommand test" -s n -l netns -d 'Work in this network namespace (needs CAP_SYS_ADMIN)' -r
complete -c detour -n "__fish_detour_using_subcommand test" -l color -d 'Colours' -r -f -a "auto\t''
always\t''
never\t''"
complete -c detour -n "__fish_detour_using_subcommand test" -l legacy-maps -d 'Read map definitions of the old forms, in sections \'maps\' and \'maps/…\''
complete -c detour -n "__fish_detour_using_subcommand test" -s j -l json -d 'One JSON document on stdout, errors as JSON on stderr'
complete -c detour -n "__fish_detour_using_subcommand test" -s p -l pretty -d 'Indented JSON'
complete -c detour -n "__fish_detour_using_subcommand test" -s v -l verbose -d 'Show each step as it is made, and whole verifier logs'
complete -c detour -n "__fish_detour_using_subcommand test" -s q -l quiet -d 'Errors only'
complete -c detour -n "__fish_detour_using_subcommand test" -s h -l help -d 'Print help'
complete -c detour -n "__fish_detour_using_subcommand verify" -l live -d 'Look at what runs on DEV' -r
complete -c detour -n "__fish_detour_using_subcommand verify" -l object -d 'The object that an instance was loaded from, where it is none of this program\'s' -r
complete -c detour -n "__fish_detour_using_subcommand verify" -l set -d 'Set a variable, VAR[.FIELD][[N]]=VALUE, before loading' -r
complete -c detour -n "__fish_detour_using_subcommand verify" -l map-size -d 'Let this map have N entries (max_entries), whatever the object says' -r
complete -c detour -n "__fish_detour_using_subcommand verify" -l rules -d 'The rules that should be in force' -r -F
complete -c detour -n "__fish_detour_using_subcommand verify" -l rule -d 'A rule, after those of the file; first match wins' -r
complete -c detour -n "__fish_detour_using_subcommand verify" -l flows-max -d 'Confirmed flows at most' -r
complete -c detour -n "__fish_detour_using_subcommand verify" -l half-open -d 'Half-open flows at most, per CPU' -r
complete -c detour -n "__fish_detour_using_subcommand verify" -l asked-max -d 'Rows that \'asked\' keeps at most' -r
complete -c detour -n "__fish_detour_using_subcommand verify" -l timeout -d 'Idle time of tcp_established (7440s), tcp_transitory (240s), udp (300s), icmp (60s), generic (600s), ip_frag (30s)' -r
complete -c detour -n "__fish_detour_using_subcommand verify" -l when-full -d 'What becomes of new flows when all flows-max are in use: held half-open as long as that goes, dropped, refused, or passed untranslated' -r -f -a "hold\t''
drop\t''
reject\t''
pass\t''"
complete -c detour -n "__fish_detour_using_subcommand verify" -l client-new -d 'New flows of one client in a second at most; without, no limit' -r
complete -c detour -n "__fish_detour_using_subcommand verify" -l client-live -d 'Confirmed flows of one client at most; without, no limit' -r
complete -c detour -n "__fish_detour_using_subcommand verify" -l clients-max -d 'Clients that are counted for these two at most' -r
complete -c detour -n "__fish_detour_using_subcommand verify" -l vlan -d 'Frames with VLAN tags that are served, too' -r -f -a "none\t''
any\t''"
complete -c detour -n "__fish_detour_using_subcommand verify" -l btf -d 'Types of the kernel, if not those of /sys/kernel/btf/vmlinux' -r -F
complete -c detour -n "__fish_detour_using_subcommand verify" -s n -l netns -d 'Work in this network namespace (needs CAP_SYS_ADMIN)' -r
complete -c detour -n "__fish_detour_using_subcommand verify" -l color -d 'Colours' -r -f -a "auto\t''
always\t''
never\t''"
complete -c detour -n "__fish_detour_using_subcommand verify" -l sealed -d 'Drop what arrives and is neither translated, accepted by a rule nor for this machine'
complete -c detour -n "__fish_detour_using_subcommand verify" -l monitor -d 'Translate nothing, drop nothing, record everything'
complete -c detour -n "__fish_detour_using_subcommand verify" -l pickup -d 'Open flows for TCP packets in mid-stream (the default where the device does not forward)'
complete -c detour -n "__fish_detour_using_subcommand verify" -l no-pickup -d 'Never do that'
complete -c detour -n "__fish_detour_using_subcommand verify" -l no-btf -d 'Do not give the object\'s own types to the kernel: for a kernel that refuses them'
complete -c detour -n "__fish_detour_using_subcommand verify" -l fd-array -d 'Instructions name maps by numbers, not descriptors (Linux 5.14): no byte differs from run to run'
complete -c detour -n "__fish_detour_using_subcommand verify" -l legacy-maps -d 'Read map definitions of the old forms, in sections \'maps\' and \'maps/…\''
complete -c detour -n "__fish_detour_using_subcommand verify" -s j -l json -d 'One JSON document on stdout, errors as JSON on stderr'
complete -c detour -n "__fish_detour_using_subcommand verify" -s p -l pretty -d 'Indented JSON'
complete -c detour -n "__fish_detour_using_subcommand verify" -s v -l verbose -d 'Show each step as it is made, and whole verifier logs'
complete -c detour -n "__fish_detour_using_subcommand verify" -s q -l quiet -d 'Errors only'
complete -c detour -n "__fish_detour_using_subcommand verify" -s h -l help -d 'Print help'
complete -c detour -n "__fish_detour_using_subcommand run" -l prio -d 'Priority of the filters; lower ones run first' -r
complete -c detour -n "__fish_detour_using_subcommand run" -l handle -d 'Handle of the filters, decimal or 0x…' -r
complete -c detour -n "__fish_detour_using_subcommand run" -l rule -d 'A rule, after those of the file; first match wins' -r
complete -c detour -n "__fish_detour_using_subcommand run" -l flows-max -d 'Confirmed flows at most' -r
complete -c detour -n "__fish_detour_using_subcommand run" -l half-open -d 'Half-open flows at most, per CPU' -r
complete -c detour -n "__fish_detour_using_subcommand run" -l asked-max -d 'Rows that \'asked\' keeps at most' -r
complete -c detour -n "__fish_detour_using_subcommand run" -l timeout -d 'Idle time of tcp_established (7440s), tcp_transitory (240s), udp (300s), icmp (60s), generic (600s), ip_frag (30s)' -r
complete -c detour -n "__fish_detour_using_subcommand run" -l when-full -d 'What becomes of new flows when all flows-max are in use: held half-open as long as that goes, dropped, refused, or passed untranslated' -r -f -a "hold\t''
drop\t''
reject\t''
pass\t''"
complete -c detour -n "__fish_detour_using_subcommand run" -l client-new -d 'New flows of one client in a second at most; without, no limit' -r
complete -c detour -n "__fish_detour_using_subcommand run" -l client-live -d 'Confirmed flows of one client at most; without, no limit' -r
complete -c detour -n "__fish_detour_using_subcommand run" -l clients-max -d 'Clients that are counted for these two at most' -r
complete -c detour -n "__fish_detour_using_subcommand run" -l vlan -d 'Frames with VLAN tags that are served, too' -r -f -a "none\t''
any\t''"
complete -c detour -n "__fish_detour_using_subcommand run" -l object -d 'Programs of this object instead of the ones inside detour; it must have the same maps' -r -F
complete -c detour -n "__fish_detour_using_subcommand run" -l policy -d 'What a program may use and how large it may be; what is against it is refused' -r -F
complete -c detour -n "__fish_detour_using_subcommand run" -l require-signature -d 'Load only what the owner of this public key signed (minisign, Ed25519)' -r -F
complete -c detour -n "__fish_detour_using_subcommand run" -l signature -d 'Where the signature is, if not in the object\'s FILE.minisig' -r -F
complete -c detour -n "__fish_detour_using_subcommand run" -l original-dst -d 'Let getsockopt(SO_ORIGINAL_DST) of servers in this cgroup say what their clients asked for; without CGROUP, in all' -r
complete -c detour -n "__fish_detour_using_subcommand run" -l metrics-file -d 'Replace this file every 15 s, for Prometheus' -r -F
complete -c detour -n "__fish_detour_using_subcommand run" -l names -d 'Keep here which names clients look up, in hosts format' -r -F
complete -c detour -n "__fish_detour_using_subcommand run" -l events -d 'Append events to this file, not to stderr; SIGHUP opens it anew' -r -F
complete -c detour -n "__fish_detour_using_subcommand run" -l transcript -d 'Write every step to FILE as it is made, a JSON object a line' -r -F
complete -c detour -n "__fish_detour_using_subcommand run" -s n -l netns -d 'Work in this network namespace (needs CAP_SYS_ADMIN)' -r
complete -c detour -n "__fish_detour_using_subcommand run" -l color -d 'Colours' -r -f -a "auto\t''
always\t''
never\t''"
complete -c detour -n "__fish_detour_using_subcommand run" -l mount-bpffs -d 'Mount a BPF file system on /sys/fs/bpf where there is none'
complete -c detour -n "__fish_detour_using_subcommand run" -l sealed -d 'Drop what arrives and is neither translated, accepted by a rule nor for this machine'
complete -c detour -n "__fish_detour_using_subcommand run" -l monitor -d 'Translate nothing, drop nothing, record everything'
complete -c detour -n "__fish_detour_using_subcommand run" -l pickup -d 'Open flows for TCP packets in mid-stream (the default where the device does not forward)'
complete -c detour -n "__fish_detour_using_subcommand run" -l no-pickup -d 'Never do that'
complete -c detour -n "__fish_detour_using_subcommand run" -l no-pin -d 'Pin nothing: where there can be no BPF file system. Looking at it takes CAP_SYS_ADMIN'
complete -c detour -n "__fish_detour_using_subcommand run" -l down-on-exit -d 'Detach and unpin at the end; not what others have put in their place'
complete -c detour -n "__fish_detour_using_subcommand run" -l no-confine -d 'Keep capabilities and system calls: it can then load again when the device comes back'
complete -c detour -n "__fish_detour_using_subcommand run" -s j -l json -d 'One JSON document on stdout, errors as JSON on stderr'
complete -c detour -n "__fish_detour_using_subcommand run" -s p -l pretty -d 'Indented JSON'
complete -c detour -n "__fish_detour_using_subcommand run" -s v -l verbose -d 'Show each step as it is made, and whole verifier logs'
complete -c detour -n "__fish_detour_using_subcommand run" -s q -l quiet -d 'Errors only'
complete -c detour -n "__fish_detour_using_subcommand run" -s h -l help -d 'Print help'
complete -c detour -n "__fish_detour_using_subcommand flush" -l transcript -d 'Write every step to FILE as it is made, a JSON object a line' -r -F
complete -c detour -n "__fish_detour_using_subcommand flush" -s n -l netns -d 'Work in this network namespace (needs CAP_SYS_ADMIN)' -r
complete -c detour -n "__fish_detour_using_subcommand flush" -l color -d 'Colours' -r -f -a "auto\t''
always\t''
never\t''"
complete -c detour -n "__fish_detour_using_subcommand flush" -s j -l json -d 'One JSON document on stdout, errors as JSON on stderr'
complete -c detour -n "__fish_detour_using_subcommand flush" -s p -l pretty -d 'Indented JSON'
complete -c detour -n "__fish_detour_using_subcommand flush" -s v -l verbose -d 'Show each step as it is made, and whole verifier logs'
complete -c detour -n "__fish_detour_using_subcommand flush" -s q -l quiet -d 'Errors only'
complete -c detour -n "__fish_detour_using_subcommand flush" -s h -l help -d 'Print help'
complete -c detour -n "__fish_detour_using_subcommand orig" -l dev -d 'What is up on this device; otherwise on all, and the newest counts' -r
complete -c detour -n "__fish_detour_using_subcommand orig" -s n -l netns -d 'Work in this network namespace (needs CAP_SYS_ADMIN)' -r
complete -c detour -n "__fish_detour_using_subcommand orig" -l color -d 'Colours' -r -f -a "auto\t''
always\t''
never\t''"
complete -c detour -n "__fish_detour_using_subcommand orig" -s j -l json -d 'One JSON document on stdout, errors as JSON on stderr'
complete -c detour -n "__fish_detour_using_subcommand orig" -s p -l pretty -d 'Indented JSON'
complete -c detour -n "__fish_detour_using_subcommand orig" -s v -l verbose -d 'Show each step as it is made, and whole verifier logs'
complete -c detour -n "__fish_detour_using_subcommand orig" -s q -l quiet -d 'Errors only'
complete -c detour -n "__fish_detour_using_subcommand orig" -s h -l help -d 'Print help'
complete -c detour -n "__fish_detour_using_subcommand events" -l kind -d 'This kind of event; all but packet and dns otherwise' -r -f -a "new\t''
confirmed\t''
closed\t''
refused\t''
denied\t''
full\t''
asked\t''
packet\t''
dns\t''"
complete -c detour -n "__fish_detour_using_subcommand events" -l count -d 'End after N of them' -r
complete -c detour -n "__fish_detour_using_subcommand events" -l names -d 'Show the names of FILE too, in hosts format, as \'run --names\' keeps it' -r -F
complete -c detour -n "__fish_detour_using_subcommand events" -l pcap -d 'Write packets as pcapng, each with its flow and rule: translated, before and after, denied, or seen by a monitor; - is stdout, and nothing else goes there' -r -F
complete -c detour -n "__fish_detour_using_subcommand events" -s n -l netns -d 'Work in this network namespace (needs CAP_SYS_ADMIN)' -r
complete -c detour -n "__fish_detour_using_subcommand events" -l color -d 'Colours' -r -f -a "auto\t''
always\t''
never\t''"
complete -c detour -n "__fish_detour_using_subcommand events" -s j -l json -d 'One JSON document on stdout, errors as JSON on stderr'
complete -c detour -n "__fish_detour_using_subcommand events" -s p -l pretty -d 'Indented JSON'
complete -c detour -n "__fish_detour_using_subcommand events" -s v -l verbose -d 'Show each step as it is made, and whole verifier logs'
complete -c detour -n "__fish_detour_using_subcommand events" -s q -l quiet -d 'Errors only'
complete -c detour -n "__fish_detour_using_subcommand events" -s h -l help -d 'Print help'
complete -c detour -n "__fish_detour_using_subcommand metrics" -l file -d 'Replace this file as a whole, for the textfile collector of node_exporter' -r -F
complete -c detour -n "__fish_detour_using_subcommand metrics" -s n -l netns -d 'Work in this network namespace (needs CAP_SYS_ADMIN)' -r
complete -c detour -n "__fish_detour_using_subcommand metrics" -l color -d 'Colours' -r -f -a "auto\t''
always\t''
never\t''"
complete -c detour -n "__fish_detour_using_subcommand metrics" -s j -l json -d 'One JSON document on stdout, errors as JSON on stderr'
complete -c detour -n "__fish_detour_using_subcommand metrics" -s p -l pretty -d 'Indented JSON'
complete -c detour -n "__fish_detour_using_subcommand metrics" -s v -l verbose -d 'Show each step as it is made, and whole verifier logs'
complete -c detour -n "__fish_detour_using_subcommand metrics" -s q -l quiet -d 'Errors only'
complete -c detour -n "__fish_detour_using_subcommand metrics" -s h -l help -d 'Print help'
complete -c detour -n "__fish_detour_using_subcommand doctor" -s n -l netns -d 'Work in this network namespace (needs CAP_SYS_ADMIN)' -r
complete -c detour -n "__fish_detour_using_subcommand doctor" -l color -d 'Colours' -r -f -a "auto\t''
always\t''
never\t''"
complete -c detour -n "__fish_detour_using_subcommand doctor" -s j -l json -d 'One JSON document on stdout, errors as JSON on stderr'
complete -c detour -n "__fish_detour_using_subcommand doctor" -s p -l pretty -d 'Indented JSON'
complete -c detour -n "__fish_detour_using_subcommand doctor" -s v -l verbose -d 'Show each step as it is made, and whole verifier logs'
complete -c detour -n "__fish_detour_using_subcommand doctor" -s q -l quiet -d 'Errors only'
complete -c detour -n "__fish_detour_using_subcommand doctor" -s h -l help -d 'Print help'
complete -c detour -n "__fish_detour_using_subcommand watch" -l width -d 'Characters in a line of --once' -r
complete -c detour -n "__fish_detour_using_subcommand watch" -l interval -d 'Read so often (1)' -r
complete -c detour -n "__fish_detour_using_subcommand watch" -l view -d 'What to begin with (asked)' -r -f -a "asked\t''
flows\t''
rates\t''"
complete -c detour -n "__fish_detour_using_subcommand watch" -l names -d 'Show the names of FILE too, in hosts format, as \'run --names\' keeps it' -r -F
complete -c detour -n "__fish_detour_using_subcommand watch" -s n -l netns -d 'Work in this network namespace (needs CAP_SYS_ADMIN)' -r
complete -c detour -n "__fish_detour_using_subcommand watch" -l color -d 'Colours' -r -f -a "auto\t''
always\t''
never\t''"
complete -c detour -n "__fish_detour_using_subcommand watch" -l once -d 'Print one frame and end; the only way without a terminal. Rates need --interval: two readings'
complete -c detour -n "__fish_detour_using_subcommand watch" -s j -l json -d 'One JSON document on stdout, errors as JSON on stderr'
complete -c detour -n "__fish_detour_using_subcommand watch" -s p -l pretty -d 'Indented JSON'
complete -c detour -n "__fish_detour_using_subcommand watch" -s v -l verbose -d 'Show each step as it is made, and whole verifier logs'
complete -c detour -n "__fish_detour_using_subcommand watch" -s q -l quiet -d 'Errors only'
complete -c detour -n "__fish_detour_using_subcommand watch" -s h -l help -d 'Print help'
complete -c detour -n "__fish_detour_using_subcommand demo" -s n -l netns -d 'Work in this network namespace (needs CAP_SYS_ADMIN)' -r
complete -c detour -n "__fish_detour_using_subcommand demo" -l color -d 'Colours' -r -f -a "auto\t''
always\t''
never\t''"
complete -c detour -n "__fish_detour_using_subcommand demo" -s j -l json -d 'One JSON document on stdout, errors as JSON on stderr'
complete -c detour -n "__fish_detour_using_subcommand demo" -s p -l pretty -d 'Indented JSON'
complete -c detour -n "__fish_detour_using_subcommand demo" -s v -l verbose -d 'Show each step as it is made, and whole verifier logs'
complete -c detour -n "__fish_detour_using_subcommand demo" -s q -l quiet -d 'Errors only'
complete -c detour -n "__fish_detour_using_subcommand demo" -s h -l help -d 'Print help'
complete -c detour -n "__fish_detour_using_subcommand help; and not __fish_seen_subcommand_from up down status asked flows rules load unload list plan apply check map inspect test verify run flush orig events metrics doctor watch demo help" -f -a "up" -d 'Load, attach and apply rules, then leave; the kernel carries on'
complete -c detour -n "__fish_detour_using_subcommand help; and not __fish_seen_subcommand_from up down status asked flows rules load unload list plan apply check map inspect test verify run flush orig events metrics doctor watch demo help" -f -a "down" -d 'Detach and unpin what up made, and nothing else'
complete -c detour -n "__fish_detour_using_subcommand help; and not __fish_seen_subcommand_from up down status asked flows rules load unload list plan apply check map inspect test verify run flush orig events metrics doctor watch demo help" -f -a "status" -d 'Devices, programs, rules and their counters (the default)'
complete -c detour -n "__fish_detour_using_subcommand help; and not __fish_seen_subcommand_from up down status asked flows rules load unload list plan apply check map inspect test verify run flush orig events metrics doctor watch demo help" -f -a "asked" -d 'Which destinations and ports clients asked for, served or not'
complete -c detour -n "__fish_detour_using_subcommand help; and not __fish_seen_subcommand_from up down status asked flows rules load unload list plan apply check map inspect test verify run flush orig events metrics doctor watch demo help" -f -a "flows" -d 'Translations in force'
complete -c detour -n "__fish_detour_using_subcommand help; and not __fish_seen_subcommand_from up down status asked flows rules load unload list plan apply check map inspect test verify run flush orig events metrics doctor watch demo help" -f -a "rules" -d 'The rules in force, with their counters'
complete -c detour -n "__fish_detour_using_subcommand help; and not __fish_seen_subcommand_from up down status asked flows rules load unload list plan apply check map inspect test verify run flush orig events metrics doctor watch demo help" -f -a "load" -d 'Load tc programs of any object and attach them'
complete -c detour -n "__fish_detour_using_subcommand help; and not __fish_seen_subcommand_from up down status asked flows rules load unload list plan apply check map inspect test verify run flush orig events metrics doctor watch demo help" -f -a "unload" -d 'Detach and unpin an instance, and nothing else'
complete -c detour -n "__fish_detour_using_subcommand help; and not __fish_seen_subcommand_from up down status asked flows rules load unload list plan apply check map inspect test verify run flush orig events metrics doctor watch demo help" -f -a "list" -d 'Every filter and tcx program on a device, foreign ones too, in the order in which they run'
complete -c detour -n "__fish_detour_using_subcommand help; and not __fish_seen_subcommand_from up down status asked flows rules load unload list plan apply check map inspect test verify run flush orig events metrics doctor watch demo help" -f -a "plan" -d 'Print every bpf(2) call and netlink message that a command would make; changes nothing'
complete -c detour -n "__fish_detour_using_subcommand help; and not __fish_seen_subcommand_from up down status asked flows rules load unload list plan apply check map inspect test verify run flush orig events metrics doctor watch demo help" -f -a "apply" -d 'Do what a reviewed plan says, if planning again gives exactly that plan; otherwise nothing'
complete -c detour -n "__fish_detour_using_subcommand help; and not __fish_seen_subcommand_from up down status asked flows rules load unload list plan apply check map inspect test verify run flush orig events metrics doctor watch demo help" -f -a "check" -d 'Read rules and say what they mean'
complete -c detour -n "__fish_detour_using_subcommand help; and not __fish_seen_subcommand_from up down status asked flows rules load unload list plan apply check map inspect test verify run flush orig events metrics doctor watch demo help" -f -a "map" -d 'Look into the maps of an instance, by their types where they are known, write and delete elements'
complete -c detour -n "__fish_detour_using_subcommand help; and not __fish_seen_subcommand_from up down status asked flows rules load unload list plan apply check map inspect test verify run flush orig events metrics doctor watch demo help" -f -a "inspect" -d 'Programs, maps, variables and types of an object; needs no kernel and no privilege'
complete -c detour -n "__fish_detour_using_subcommand help; and not __fish_seen_subcommand_from up down status asked flows rules load unload list plan apply check map inspect test verify run flush orig events metrics doctor watch demo help" -f -a "test" -d 'Run a program on packets without a device (BPF_PROG_TEST_RUN): verdict and packet afterwards'
complete -c detour -n "__fish_detour_using_subcommand help; and not __fish_seen_subcommand_from up down status asked flows rules load unload list plan apply check map inspect test verify run flush orig events metrics doctor watch demo help" -f -a "verify" -d 'Objects against their manifest; with --live, what the kernel runs against the objects and the plan'
complete -c detour -n "__fish_detour_using_subcommand help; and not __fish_seen_subcommand_from up down status asked flows rules load unload list plan apply check map inspect test verify run flush orig events metrics doctor watch demo help" -f -a "run" -d 'up in the foreground: tells events, reloads rules on SIGHUP, follows addresses'
complete -c detour -n "__fish_detour_using_subcommand help; and not __fish_seen_subcommand_from up down status asked flows rules load unload list plan apply check map inspect test verify run flush orig events metrics doctor watch demo help" -f -a "flush" -d 'End translations: what follows is for the rules of now to decide'
complete -c detour -n "__fish_detour_using_subcommand help; and not __fish_seen_subcommand_from up down status asked flows rules load unload list plan apply check map inspect test verify run flush orig events metrics doctor watch demo help" -f -a "orig" -d 'What the client of a connection had asked for, from what its server sees'
complete -c detour -n "__fish_detour_using_subcommand help; and not __fish_seen_subcommand_from up down status asked flows rules load unload list plan apply check map inspect test verify run flush orig events metrics doctor watch demo help" -f -a "events" -d 'What happens on the device, a line each as it happens, until a signal ends it'
complete -c detour -n "__fish_detour_using_subcommand help; and not __fish_seen_subcommand_from up down status asked flows rules load unload list plan apply check map inspect test verify run flush orig events metrics doctor watch demo help" -f -a "metrics" -d 'What is up as numbers for Prometheus'
complete -c detour -n "__fish_detour_using_subcommand help; and not __fish_seen_subcommand_from up down status asked flows rules load unload list plan apply check map inspect test verify run flush orig events metrics doctor watch demo help" -f -a "doctor" -d 'What this kernel, this process and this device can do, each fault with its fix'
complete -c detour -n "__fish_detour_using_subcommand help; and not __fish_seen_subcommand_from up down status asked flows rules load unload list plan apply check map inspect test verify run flush orig events metrics doctor watch demo help" -f -a "watch" -d 'What was asked for, flows and rates on a live screen'
complete -c detour -n "__fish_detour_using_subcommand help; and not __fish_seen_subcommand_from up down status asked flows rules load unload list plan apply check map inspect test verify run flush orig events metrics doctor watch demo help" -f -a "demo" -d 'The main job in network namespaces of its own: nothing outside is touched'
complete -c detour -n "__fish_detour_using_subcommand help; and not __fish_seen_subcommand_from up down status asked flows rules load unload list plan apply check map inspect test verify run flush orig events metrics doctor watch demo help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c detour -n "__fish_detour_using_subcommand help; and __fish_seen_subcommand_from plan" -f -a "up" -d 'Load, attach and apply rules, then leave; the kernel carries on'
complete -c detour -n "__fish_detour_using_subcommand help; and __fish_seen_subcommand_from plan" -f -a "down" -d 'Detach and unpin what up made, and nothing else'
complete -c detour -n "__fish_detour_using_subcommand help; and __fish_seen_subcommand_from plan" -f -a "load" -d 'Load tc programs of any object and attach them'
complete -c detour -n "__fish_detour_using_subcommand help; and __fish_seen_subcommand_from plan" -f -a "unload" -d 'Detach and unpin an instance, and nothing else'
complete -c detour -n "__fish_detour_using_subcommand help; and __fish_seen_subcommand_from plan" -f -a "map" -d 'Write elements and variables, delete elements'
complete -c detour -n "__fish_detour_using_subcommand help; and __fish_seen_subcommand_from plan" -f -a "flush" -d 'End translations: what follows is for the rules of now to decide'
complete -c detour -n "__fish_detour_using_subcommand help; and __fish_seen_subcommand_from map" -f -a "list" -d 'The maps and their shapes'
complete -c detour -n "__fish_detour_using_subcommand help; and __fish_seen_subcommand_from map" -f -a "dump" -d 'All elements of a map'
complete -c detour -n "__fish_detour_using_subcommand help; and __fish_seen_subcommand_from map" -f -a "get" -d 'One element, or one variable of a map of global data'
complete -c detour -n "__fish_detour_using_subcommand help; and __fish_seen_subcommand_from map" -f -a "set" -d 'Write one element, or one variable of a map of global data'
complete -c detour -n "__fish_detour_using_subcommand help; and __fish_seen_subcommand_from map" -f -a "del" -d 'Delete one element'
complete -c detour -n "__fish_detour_using_subcommand help; and __fish_seen_subcommand_from map" -f -a "listen" -d 'Records of a ring buffer, a line each as they come, until a signal ends it'
