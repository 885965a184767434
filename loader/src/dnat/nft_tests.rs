// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Thousands of lines, right and wrong -> what our parser and nft say of them; where they differ, a stated reason.
//!
//! Nothing is translated: nft gets `add rule ip t c` (or `ip6`) and the line. loader/docs/rules.md says the same in prose.

use super::diagnostic::Reason;
use super::parse::{parse, Source};
use super::random_rules::{random, rule};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};

const TABLES: [&str; 2] = ["ip", "ip6"];

/// What nft says of each line in a table of each family: nothing, or its complaint.
fn nft(lines: &[(bool, String)]) -> Vec<Option<String>> {
    let mut script = String::new();
    for (v6, line) in lines {
        script += &format!("add rule {} t c {line}\n", TABLES[usize::from(*v6)]);
    }
    // The tables are made for real, the lines are only checked: one process, and each line is a command of its own.
    let chain = "add chain $f t c '{ type nat hook prerouting priority -100; }'";
    let shell = format!("for f in ip ip6; do nft add table $f t && nft {chain}; done && exec nft -c -i");
    let nft = Command::new("unshare")
        .args(["-Urn", "sh", "-ec", &shell])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut nft = nft.expect("unshare of util-linux");
    let mut input = nft.stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(script.as_bytes()));
    let out = nft.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let text = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
    // A complaint is followed by the command that it is about.
    let mut complaints: BTreeMap<&str, &str> = BTreeMap::new();
    let mut complaint = "";
    for line in text.lines() {
        if line.starts_with("add rule ") {
            complaints.insert(line, complaint);
        } else if line.starts_with("Error: ") {
            complaint = line;
        }
    }
    let command = |(v6, line): &(bool, String)| format!("add rule {} t c {line}", TABLES[usize::from(*v6)]);
    lines.iter().map(|line| complaints.get(command(line).as_str()).map(|text| (*text).to_owned())).collect()
}

/// A word more, a word less, another word, two words in each other's place, or another word of the same kind.
fn damaged(line: &str, random: &mut impl FnMut(usize) -> usize) -> String {
    let mut words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
    let other = WORDS[random(WORDS.len())];
    let (at, to) = (random(words.len().max(1)), random(words.len().max(1)));
    match random(8) {
        _ if words.is_empty() => words.push(other),
        0 => drop(words.remove(at)),
        1 => words.insert(at, other),
        2 => words[at] = other,
        3 => words.swap(at, to),
        4 => words.push(other),
        _ => {
            let kind = |word: &str| KINDS.iter().find(|kind| kind.iter().any(|like| alike(like, word)));
            if let Some((at, kind)) = words.iter().enumerate().skip(at).find_map(|(i, w)| Some((i, kind(w)?)))
            {
                words[at] = kind[random(kind.len())];
            }
        }
    }
    words.join(" ")
}

/// Whether two words are of one kind: they are the same, or both a number, an address, a target.
fn alike(a: &str, b: &str) -> bool {
    let signs = |word: &str| -> String {
        let signs = word.chars().map(|char| if char.is_ascii_hexdigit() { '0' } else { char });
        signs.filter(|char| "0./:[".contains(*char)).collect::<String>().replace("00", "0").replace("00", "0")
    };
    a == b || (a.starts_with(|c: char| c.is_ascii_digit()) && signs(a) == signs(b))
}

const WORDS: [&str; 30] = [
    "ip",
    "ip6",
    "saddr",
    "daddr",
    "tcp",
    "udp",
    "icmp",
    "sport",
    "dport",
    "meta",
    "l4proto",
    "!=",
    "{",
    "}",
    ",",
    "10.0.0.0/8",
    "fd00::/8",
    "80",
    "1-1023",
    "redirect",
    "to",
    ":80",
    "dnat",
    "10.0.0.1:80",
    "[fd00::1]:80",
    "accept",
    "drop",
    "reject",
    "counter",
    "masquerade",
];

/// What could stand in the same place, right or wrong.
const KINDS: [&[&str]; 6] = [
    &["80", "080", "80-80", "9-5", "65535", "65536", "0", "http", "-1", "80-", "0x50", "0-65535"],
    &["192.0.2.2", "10.1", "224.0.0.1", "0.0.0.0", "255.255.255.255", "10.0.0.256", "localhost", "127.0.0.1"],
    &["198.51.100.0/24", "10.0.0.0/33", "0.0.0.0/0", "10.0.0.9-10.0.0.1", "10/8", "10.0.0.0/255.0.0.0"],
    &[
        "192.0.2.2:80",
        "192.0.2.2:0",
        "192.0.2.2:65536",
        "192.0.2.2:80-90",
        "192.0.2.2-192.0.2.9",
        "[192.0.2.2]:80",
    ],
    &["fd00::2", "::", "ff02::1", "fd00::2/64", "[fd00::2]", "fd00:::2", "::ffff:192.0.2.2"],
    &["icmp", "tcp", "ipv6-icmp", "256", "255", "ospf", "nothing", "1-6"],
];

/// Why we take what nft does not, in the words of loader/docs/rules.md.
fn more(line: &str, complaint: &str) -> &'static str {
    let words: Vec<&str> = line.split_whitespace().collect();
    let bare = |pair: &[&str]| {
        ["tcp", "udp", "sctp", "icmp"].contains(&pair[0]) && !["sport", "dport", ",", "}"].contains(&pair[1])
    };
    if words.contains(&"masquerade") {
        "`masquerade` after `dnat to`"
    } else if words.windows(2).any(bare) && complaint.contains("syntax error") {
        "a protocol's bare name"
    } else if complaint.contains("Address family") {
        "a target of the other family than the table's"
    } else if complaint.contains("conflicting protocols") && !words.contains(&"reject") {
        "a port of one of several protocols in a set"
    } else if complaint.contains("conflicting protocols") || complaint.contains("abstracted ICMP") {
        "a refusal of the other family than the table's, or of both"
    } else {
        panic!("we take what nft does not: {line}\n{complaint}")
    }
}

/// Why nft takes what we do not, in the same words.
fn less(line: &str, reason: &Reason) -> &'static str {
    match reason {
        Reason::Expected { found, .. } if found.is_empty() => "a rule without a verdict",
        Reason::Expected { expected: "to", .. } => "`dnat` without `to`",
        Reason::Expected { found, .. } if found == "}" || found == "," => "a comma without an element",
        Reason::Expected { expected, .. } if expected.starts_with("`tcp reset`") => "an ICMP code by number",
        Reason::Expected { expected: "nothing more after the verdict", found } if found.starts_with(':') => {
            "a blank before a target's port"
        }
        Reason::Expected { expected, .. } if expected.starts_with("a colon") => {
            "a redirection's port without a colon"
        }
        Reason::Number(_) => "names of services, numbers in another form than plain decimal",
        Reason::Operator(_) => "comparisons other than `!=`",
        Reason::Address(text, _) if text.contains(":::") => "a port after an IPv6 target without brackets",
        Reason::Address(text, _) if text.contains('-') => "ranges of targets",
        Reason::Address(..) => "names of hosts, addresses in another form than the usual",
        Reason::NotUnicast => "targets that no server can have",
        Reason::PortZero => "port 0 as a target",
        Reason::SctpPort => "a target port for SCTP",
        Reason::PortWithoutProtocol => "a target port where one of several protocols has none",
        Reason::Conflict(_) => "conditions that exclude each other",
        other => panic!("nft takes what we do not: {line}\n{other}"),
    }
}

/// All of the above.
const DIFFERENCES: [&str; 21] = [
    "a protocol's bare name",
    "`masquerade` after `dnat to`",
    "a target of the other family than the table's",
    "a refusal of the other family than the table's, or of both",
    "an ICMP code by number",
    "a rule without a verdict",
    "`dnat` without `to`",
    "a comma without an element",
    "a blank before a target's port",
    "a redirection's port without a colon",
    "names of services, numbers in another form than plain decimal",
    "comparisons other than `!=`",
    "a port after an IPv6 target without brackets",
    "ranges of targets",
    "names of hosts, addresses in another form than the usual",
    "targets that no server can have",
    "port 0 as a target",
    "a target port for SCTP",
    "a target port where one of several protocols has none",
    "a port of one of several protocols in a set",
    "conditions that exclude each other",
];

#[test]
fn nft_and_we_agree_except_where_we_say_so() {
    let mut random = random();
    let always = ALWAYS.iter().map(|line| (false, line)).chain(ALWAYS6.iter().map(|line| (true, line)));
    let mut lines: BTreeSet<(bool, String)> = always.map(|(v6, line)| (v6, (*line).to_owned())).collect();
    while lines.len() < 3000 {
        let v6 = random(3) == 0;
        let line = rule(&mut random, v6);
        let line = (0..random(3)).fold(line, |line, _| damaged(&line, &mut random));
        lines.insert((v6, line));
    }
    let lines: Vec<(bool, String)> = lines.into_iter().filter(|(_, line)| !line.is_empty()).collect();
    let (mut both, mut neither, mut met) = ([0; 2], [0; 2], BTreeSet::new());
    for ((v6, line), theirs) in lines.iter().zip(nft(&lines)) {
        let ours = parse(&[Source { name: "", text: line.as_bytes() }]);
        match (ours, theirs) {
            (Ok(_), None) => both[usize::from(*v6)] += 1,
            (Err(_), Some(_)) => neither[usize::from(*v6)] += 1,
            (Ok(_), Some(complaint)) => drop(met.insert(more(line, &complaint))),
            (Err(faults), None) => drop(met.insert(less(line, &faults[0].reason))),
        }
    }
    // Of each family enough, or this shows little.
    assert!(both.into_iter().chain(neither).all(|n| n > 200), "{both:?} {neither:?}");
    assert_eq!(met, BTreeSet::from(DIFFERENCES));
    let docs = include_str!("../../docs/rules.md");
    for difference in DIFFERENCES {
        assert!(
            docs.contains(&format!("\n| {difference} |")),
            "loader/docs/rules.md does not say: {difference}"
        );
    }
}

/// What nft keeps of a line in a table of IPv4, or nothing where it refuses the line.
fn kept(lines: &[&str]) -> Vec<String> {
    let script = "nft add table t && nft add chain t c && while read -r line; do
        nft add rule t c \"$line\" 2>&1 >&- | sed 's/.*/REFUSED/;q'; nft list chain t c; echo END; nft flush chain t c; done";
    let shell = ["-Urn", "sh", "-ec", script];
    let nft = Command::new("unshare").args(shell).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut nft = nft.expect("unshare of util-linux");
    nft.stdin.take().unwrap().write_all((lines.join("\n") + "\n").as_bytes()).unwrap();
    let out = nft.wait_with_output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let all: Vec<String> = text.split_terminator("END\n").map(str::to_owned).collect();
    assert_eq!((all.len(), out.status.success()), (lines.len(), true), "{text}");
    all
}

/// Lines that only nft takes, what is hinted, and the line as it should be: nft understands both alike.
#[test]
fn what_is_hinted_is_what_nft_understands() {
    let lines = [
        ("tcp dport 080 drop", "numbers have no leading zeros; nft reads this as 80", "tcp dport 80 drop"),
        ("tcp dport 010 drop", "numbers have no leading zeros; nft reads this as 8", "tcp dport 8 drop"),
        ("tcp dport 0x50 drop", "numbers are decimal: 80", "tcp dport 80 drop"),
        ("tcp dport != 0X1F drop", "numbers are decimal: 31", "tcp dport != 31 drop"),
        ("tcp dport 80-0x5a drop", "numbers are decimal: 90", "tcp dport 80-90 drop"),
        ("meta l4proto 0x06 drop", "numbers are decimal: 6", "meta l4proto 6 drop"),
        ("tcp dport == 80 drop", "a value alone means equal", "tcp dport 80 drop"),
        ("tcp dport ==80 drop", "a value alone means equal", "tcp dport 80 drop"),
        ("tcp dport eq 80 drop", "a value alone means equal", "tcp dport 80 drop"),
        ("tcp dport == { 80, 81 } drop", "a value alone means equal", "tcp dport { 80, 81 } drop"),
        ("meta l4proto == tcp drop", "a value alone means equal", "meta l4proto tcp drop"),
        ("ip saddr == 192.0.2.1 drop", "a value alone means equal", "ip saddr 192.0.2.1 drop"),
        ("ip saddr ne 192.0.2.1 drop", "unequal is `!=`", "ip saddr != 192.0.2.1 drop"),
        ("tcp dport http drop", "names of services are not looked up", "tcp dport 80 drop"),
        ("ip saddr localhost drop", "names of hosts are not looked up", "ip saddr 127.0.0.1 drop"),
    ];
    let theirs = kept(&lines.iter().flat_map(|(line, _, mended)| [*line, *mended]).collect::<Vec<_>>());
    for ((line, hint, mended), theirs) in lines.iter().zip(theirs.chunks_exact(2)) {
        assert!(theirs[0].contains(" drop") && !theirs[0].contains("REFUSED"), "{line}: {}", theirs[0]);
        assert_eq!(theirs[0], theirs[1], "{line}");
        let parsed = |text: &str| parse(&[Source { name: "", text: text.as_bytes() }]);
        let reason = &parsed(line).expect_err(line)[0].reason;
        assert_eq!(reason.hint().as_deref(), Some(*hint), "{line}: {reason}");
        assert!(parsed(mended).is_ok(), "{mended}");
    }
    // Here nft's line is not ours in other words, or nft takes it as little as we do.
    for (line, hint) in [
        ("tcp dport < 1024 drop", Some("a range has both ends, such as 0-1023")),
        ("tcp dport >=1024 drop", Some("a range has both ends, such as 0-1023")),
        ("tcp dport 1024- drop", Some("a range has both ends, such as 0-1023")),
        ("tcp dport ! 80 drop", Some("unequal is `!=`")),
        ("ip saddr !192.0.2.1 drop", Some("unequal is `!=`")),
        ("tcp dport = 80 drop", Some("a value alone means equal")),
        ("tcp dport drop", Some("a value is missing before it")),
        ("tcp dport 80:90 drop", None),
        ("tcp dport 0x drop", None),
        ("ip saddr 10.1 drop", None),
    ] {
        let reason = &parse(&[Source { name: "", text: line.as_bytes() }]).expect_err(line)[0].reason;
        assert_eq!(reason.hint().as_deref(), hint, "{line}: {reason}");
    }
}

/// Each difference once, for chance may miss it.
const ALWAYS: [&str; 22] = [
    "tcp drop",
    "dnat to 192.0.2.1 masquerade",
    "reject with icmp 3",
    "reject with icmpx no-route",
    "reject with icmpv6 no-route",
    "dnat to fd00::2",
    "tcp dport 80",
    "dnat 192.0.2.1",
    "tcp dport { 80, } drop",
    "tcp dport 80 dnat to 192.0.2.1 :80",
    "tcp dport 80 redirect to 80",
    "tcp dport http drop",
    "tcp dport < 1024 drop",
    "tcp dport 80 dnat to 192.0.2.1-192.0.2.9",
    "ip saddr 10.1 drop",
    "dnat to 0.0.0.0",
    "tcp dport 80 dnat to 192.0.2.1:0",
    "tcp dport 80 tcp dport != 80 drop",
    "ip saddr localhost drop",
    "sctp dport 80 dnat to 192.0.2.1:80",
    "meta l4proto { tcp, icmp } redirect to :80",
    "meta l4proto { tcp, udp } tcp dport 80 drop",
];

/// Those of a table of the other family.
const ALWAYS6: [&str; 16] = [
    "tcp drop",
    "dnat to fd00::2 masquerade",
    "reject with icmpv6 4",
    "reject with icmpx no-route",
    "reject with icmp net-unreachable",
    "dnat to 192.0.2.1",
    "tcp dport 80",
    "dnat fd00::2",
    "tcp dport { 80, } drop",
    "tcp dport 80 redirect to 80",
    "tcp dport 80 dnat to fd00::2:80",
    "dnat to fd00::2-fd00::9",
    "dnat to ff02::1",
    "tcp dport 80 dnat to [fd00::2]:0",
    "tcp dport 80 tcp dport != 80 drop",
    "sctp dport 80 dnat to [fd00::2]:80",
];
