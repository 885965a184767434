// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Rule texts -> their canonical form, or the message they deserve; nft is asked for its opinion.

use super::*;
use crate::dnat::random_rules::{random, rule as rule_text};
use std::io::Write;
use std::process::{Command, Stdio};

fn one(text: &str) -> Result<Vec<Rule>, Vec<Diagnostic>> {
    parse(&[Source { name: "web.rules", text: text.as_bytes() }])
}

fn canonical(text: &str) -> String {
    let rules = one(text).unwrap_or_else(|e| panic!("{text}: {}", e[0]));
    rules.iter().map(Rule::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn canonical_form() {
    for (text, expect) in [
        ("redirect", "redirect"),
        ("tcp redirect to :1", "meta l4proto tcp redirect to :1"),
        ("udp dport 53 redirect to :53", "udp dport 53 redirect to :53"),
        (
            "tcp dport {443,8443}dnat to 192.168.178.2:8443",
            "tcp dport { 443, 8443 } dnat to 192.168.178.2:8443",
        ),
        ("  tcp dport 25\tdrop # spam \u{2028}", "tcp dport 25 drop"),
        (
            "ip daddr!=192.168.178.77/24 udp dport 53 accept",
            "ip daddr != 192.168.178.0/24 udp dport 53 accept",
        ),
        ("ip saddr 10.0.0.0-10.255.255.255 counter drop", "ip saddr 10.0.0.0/8 drop"),
        ("ip saddr { 10.0.0.1-10.0.0.9, 0.0.0.0/0 } drop", "ip saddr { 10.0.0.1-10.0.0.9, 0.0.0.0/0 } drop"),
        (
            "ip saddr 192.0.2.1 tcp sport 1-1023 dnat to 192.0.2.2",
            "ip saddr 192.0.2.1 tcp sport 1-1023 dnat to 192.0.2.2",
        ),
        ("meta l4proto tcp tcp dport 80-80 accept", "tcp dport 80 accept"),
        ("tcp dport 80 meta l4proto { 6, 17 } accept", "tcp dport 80 accept"),
        ("meta l4proto { tcp, 17, 47 } redirect", "meta l4proto { tcp, udp, 47 } redirect"),
        ("meta l4proto { tcp, udp } redirect to :1", "meta l4proto { tcp, udp } redirect to :1"),
        ("meta l4proto != icmp accept", "meta l4proto != icmp accept"),
        ("meta l4proto ipv6-icmp accept", "meta l4proto ipv6-icmp accept"),
        ("meta l4proto 6-17 accept", "meta l4proto 6-17 accept"),
        ("icmp drop", "meta l4proto icmp drop"),
        ("icmp redirect", "meta l4proto icmp redirect"),
        ("dnat ip to 192.0.2.1", "dnat to 192.0.2.1"),
        ("dnat to 192.0.2.1 masquerade", "dnat to 192.0.2.1 masquerade"),
        (
            "ip6 daddr 2001:db8::/32 tcp dport 80 dnat to [fd00::2]:8080",
            "ip6 daddr 2001:db8::/32 tcp dport 80 dnat to [fd00::2]:8080",
        ),
        ("dnat to [fd00::2]", "dnat to fd00::2"),
        ("dnat to fd00::2:80", "dnat to fd00::2:80"),
        ("ip6 saddr ::/0 reject", "ip6 saddr ::/0 reject"),
        ("reject with icmpx type port-unreachable", "reject"),
        ("reject with icmp port-unreachable", "reject with icmp port-unreachable"),
        (
            "ip saddr 10.0.0.1 reject with icmp type net-prohibited",
            "ip saddr 10.0.0.1 reject with icmp net-prohibited",
        ),
        ("reject with icmpv6 policy-fail", "reject with icmpv6 policy-fail"),
        ("reject with tcp reset", "meta l4proto tcp reject with tcp reset"),
        ("tcp dport 80 reject with tcp reset", "tcp dport 80 reject with tcp reset"),
        ("sctp dport 7 accept", "sctp dport 7 accept"),
        ("", ""),
        ("# nothing\n\n\r\n  \t", ""),
        ("accept\ndrop\r\n", "accept\ndrop"),
    ] {
        assert_eq!(canonical(text), expect);
        assert_eq!(canonical(expect), expect, "the canonical form of {text:?} is not its own");
    }
}

#[test]
fn messages_name_the_place_and_the_reason() {
    for (text, expect) in [
        ("tcp dport { 443, 99999 } redirect to :8443", "1:18-23: port 99999 is above 65535"),
        ("\n tcp dport redirect", "2:12-20: `redirect` is no number"),
        ("tcp dport", "1:10-10: the rule ends here, expected a port, a range or a set in braces"),
        ("tcp dport 80", "1:13-13: the rule ends here, expected a condition (ip, ip6, tcp, udp, sctp, icmp, icmpv6, meta) or a verdict (redirect, dnat, accept, drop, reject)"),
        ("dport 80 redirect", "1:1-6: expected a condition (ip, ip6, tcp, udp, sctp, icmp, icmpv6, meta) or a verdict (redirect, dnat, accept, drop, reject), found `dport`"),
        ("é\u{202e} drop", "1:1-3: expected a condition (ip, ip6, tcp, udp, sctp, icmp, icmpv6, meta) or a verdict (redirect, dnat, accept, drop, reject), found `é\\u{202e}`"),
        ("accept drop", "1:8-12: expected nothing more after the verdict, found `drop`"),
        ("tcp dport 010 accept", "1:11-14: `010` is no number"),
        ("tcp dport 340282366920938463463374607431768211456 accept", "1:11-50: port 340282366920938463463374607431768211456 is above 65535"),
        ("tcp dport 9-5 accept", "1:11-14: this range ends below its start"),
        ("tcp dport 5- accept", "1:11-13: `` is no number"),
        ("tcp dport { 80, } accept", "1:17-18: expected a port, a range or a set in braces, found `}`"),
        ("tcp dport { 80 81 } accept", "1:16-18: expected `,` or `}`, found `81`"),
        ("tcp dport { accept", "1:13-19: `accept` is no number"),
        ("ip saddr 10.1 accept", "1:10-14: `10.1` is no IPv4 address"),
        ("ip saddr fd00::1 accept", "1:10-17: `fd00::1` is no IPv4 address"),
        ("ip saddr 10.0.0.0/33 accept", "1:10-21: an IPv4 prefix has a length of 0 to 32, not `33`"),
        ("ip saddr 10.0.0.0/8-10.0.0.9 accept", "1:10-29: an IPv4 prefix has a length of 0 to 32, not `8-10.0.0.9`"),
        ("ip6 saddr ::/129 accept", "1:11-17: an IPv6 prefix has a length of 0 to 128, not `129`"),
        ("ip daddr 10.0.0.9-10.0.0.1 accept", "1:10-27: this range ends below its start"),
        ("ip protocol tcp accept", "1:4-12: expected saddr or daddr, found `protocol`"),
        ("meta mark 1 accept", "1:6-10: expected l4proto, found `mark`"),
        ("meta l4proto foo accept", "1:14-17: `foo` is no protocol name or number"),
        ("meta l4proto 256 accept", "1:14-17: protocol 256 is above 255"),
        ("redirect to 80", "1:13-15: expected a colon and a port, such as :8080, found `80`"),
        ("tcp redirect to :0", "1:17-19: port 0 cannot be a target"),
        ("tcp redirect to :65536", "1:17-23: port 65536 is above 65535"),
        ("redirect to :80", "1:1-16: a port can only be rewritten in a protocol that has ports"),
        ("sctp dport 5 dnat to 10.0.0.1:80", "1:14-33: the port of SCTP stays as it is: its checksum would have to be computed anew"),
        ("meta l4proto { tcp, sctp } redirect to :80", "1:28-43: the port of SCTP stays as it is: its checksum would have to be computed anew"),
        ("meta l4proto { tcp, icmp } redirect to :80", "1:28-43: a port can only be rewritten in a protocol that has ports"),
        ("reject with", "1:12-12: the rule ends here, expected `tcp reset`, or icmp, icmpv6 or icmpx and nft's name of a code, such as `icmp host-unreachable`"),
        ("reject with igmp", "1:13-17: expected `tcp reset`, or icmp, icmpv6 or icmpx and nft's name of a code, such as `icmp host-unreachable`, found `igmp`"),
        ("reject with icmp no-route", "1:18-26: expected `tcp reset`, or icmp, icmpv6 or icmpx and nft's name of a code, such as `icmp host-unreachable`, found `no-route`"),
        ("reject with tcp type reset", "1:17-21: expected `tcp reset`, or icmp, icmpv6 or icmpx and nft's name of a code, such as `icmp host-unreachable`, found `type`"),
        ("udp reject with tcp reset", "1:17-26: only TCP connections can be reset"),
        ("meta l4proto { tcp, udp } reject with tcp reset", "1:39-48: only TCP connections can be reset"),
        ("ip6 daddr ::1 reject with icmp net-unreachable", "1:27-47: no packet can match this: this refusal is of the other family"),
        ("dnat 10.0.0.1", "1:6-14: expected to, found `10.0.0.1`"),
        ("dnat to", "1:8-8: the rule ends here, expected an address, such as 192.0.2.1:8080 or [2001:db8::1]:8080"),
        ("dnat to host", "1:9-13: `host` is no IPv4 address"),
        ("dnat to 224.0.0.1", "1:9-18: no server can have this address"),
        ("dnat to 0.0.0.0", "1:9-16: no server can have this address"),
        ("dnat to [::]", "1:9-13: no server can have this address"),
        ("dnat to [::1]80", "1:9-16: expected a colon and a port after `]`, found `[::1]80`"),
        ("ip saddr 10.0.0.1 dnat to fd00::1", "1:27-34: no packet can match this: the target is of the other family"),
        ("ip saddr 10.0.0.1 dnat ip6 to fd00::1", "1:24-27: no packet can match this: a packet is either IPv4 or IPv6"),
        ("ip saddr 10.0.0.1 ip6 daddr ::1 accept", "1:19-32: no packet can match this: a packet is either IPv4 or IPv6"),
        ("tcp dport 80 udp sport 3 accept", "1:14-25: no packet can match this: a packet has one protocol"),
        ("tcp dport 80 tcp dport != 80 accept", "1:14-29: no packet can match this: nothing is left of the values of this field"),
        ("ip saddr != 0.0.0.0/0 accept", "1:1-22: no packet can match this: nothing is left of the values of this field"),
    ] {
        let got = one(text).expect_err(text);
        let Diagnostic { line, first, len, reason, .. } = &got[0];
        assert_eq!(format!("{line}:{}-{}: {reason}", first + 1, first + len + 1), expect, "{text}");
    }
}

#[test]
fn every_family_and_protocol_is_taken() {
    for text in [
        "meta l4proto { tcp, 47 } drop",
        "sctp dport 1 redirect",
        "meta l4proto != 47 redirect",
        "meta l4proto { tcp, udp, icmp } redirect",
        "icmp drop",
        "redirect",
        "ip6 daddr ::1 accept",
        "tcp dnat to [fd00::2]:80",
        "icmpv6 drop",
        "ip6 saddr fd00::/8 icmpv6 redirect",
    ] {
        let rules = parse(&[Source { name: "r", text: text.as_bytes() }]);
        assert_eq!(rules.map(|rules| rules.len()), Ok(1), "{text}");
    }
}

#[test]
fn every_bad_line_is_named_and_every_byte_taken() {
    let text = b"tcp dport 80 redirect\nfoo\n\xff\xfe\nip saddr \x1b[2J accept\n";
    let wrong = parse(&[Source { name: "a\nb", text }]).unwrap_err();
    let lines: Vec<String> = wrong.iter().map(Diagnostic::to_string).collect();
    assert_eq!(lines[1], "a\\nb:3:1: this is not UTF-8 text");
    assert_eq!(lines[2], "a\\nb:4:10: `\\u{1b}[2J` is no IPv4 address");
    assert_eq!(lines.len(), 3);
    assert_eq!(
        parse(&[Source { name: "a", text: "x\n".repeat(1000).as_bytes() }]).unwrap_err().len(),
        MOST_MESSAGES
    );
}

#[test]
fn sources_follow_each_other_and_have_a_limit() {
    let text = "tcp dport 1 accept\n".repeat(MOST_RULES);
    let file = Source { name: "file", text: text.as_bytes() };
    assert_eq!(parse(&[file]).unwrap().len(), MOST_RULES);
    let wrong = parse(&[file, Source { name: "--rule 1", text: b"# the last straw\ndrop" }]).unwrap_err();
    assert_eq!(wrong[0].to_string(), "--rule 1:2:1: more than 1024 rules");
    let both =
        parse(&[Source { name: "a", text: b"drop" }, Source { name: "b", text: b"\naccept" }]).unwrap();
    assert_eq!(both[1].place, Place { source: 1, line: 2 });
}

/// No text makes the parser do anything but answer, and what it accepts it also prints and accepts again.
#[test]
fn random_words_never_confuse_it() {
    let vocabulary = [
        "ip",
        "ip6",
        "saddr",
        "daddr",
        "tcp",
        "udp",
        "sctp",
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
        "10.0.0.1",
        "1.2.3.4-1.2.3.9",
        "fd00::/8",
        "::1",
        "80",
        "1-1023",
        "0",
        "65535",
        "redirect",
        "to",
        ":80",
        "dnat",
        "10.0.0.1:80",
        "[fd00::1]:80",
        "accept",
        "drop",
        "reject",
        "with",
        "reset",
        "icmpx",
        "icmpv6",
        "type",
        "port-unreachable",
        "counter",
        "masquerade",
        "#",
        "é",
        "-",
        "/",
        ":",
        "[",
        "]",
    ];
    let mut random = random();
    let mut accepted = 0;
    for _ in 0..200_000 {
        let words: Vec<&str> = (0..random(9)).map(|_| vocabulary[random(vocabulary.len())]).collect();
        let text = words.join(if random(4) == 0 { "" } else { " " });
        if let Ok(rules) = one(&text) {
            let printed: String = rules.iter().map(|rule| format!("{rule}\n")).collect();
            assert_eq!(canonical(&printed), printed.trim_end(), "{text:?}");
            accepted += rules.len();
        }
    }
    assert!(accepted > 500, "only {accepted}");
}

/// nft's parser takes every rule that ours prints: rules of each family in a table of that family.
#[test]
fn nft_takes_the_canonical_form() {
    let mut random = random();
    for family in ["ip", "ip6"].repeat(8) {
        let rules: String =
            (0..100).map(|_| format!("{}\n", canonical(&rule_text(&mut random, family == "ip6")))).collect();
        let text = format!(
            "table {family} t {{\nchain c {{\ntype nat hook prerouting priority -100\n{rules}}}\n}}\n"
        );
        // In a network namespace of its own: `-c` compares with what is there.
        let nft = ["-Urn", "nft", "-c", "-f", "-"];
        let nft = Command::new("unshare").args(nft).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut nft = nft.expect("unshare of util-linux");
        nft.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let out = nft.wait_with_output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }
}
