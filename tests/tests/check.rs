// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `check`: rules read back, faults pointed at with line, column and caret, rules that can never match named with what
//! takes them.
use e2e::detour::{self, code, up};
use e2e::lab::Lab;
use e2e::netns::Netns;
use e2e::tools::Scratch;
use serde_json::json;

const RULES: &str = "\
# web
tcp dport 1-9 accept
tcp dport {10-20} drop

tcp dport 5-15 drop
tcp dport 7 redirect
redirect
udp redirect to :53
";

#[test]
fn what_can_never_match_is_named_with_what_takes_it() {
    let (ns, scratch) = (Netns::new(), Scratch::new());
    let file = scratch.write("rules", RULES);
    let arguments = ["check", &file, "--rule", "tcp dport 3 drop"];
    let expected = format!(
        "\
tcp dport 1-9 accept
tcp dport 10-20 drop
tcp dport 5-15 drop  # can never match: {file}:2 and {file}:3 together take all of it first
tcp dport 7 redirect  # can never match: {file}:2 takes all of it first
redirect
meta l4proto udp redirect to :53  # can never match: {file}:7 takes all of it first
tcp dport 3 drop  # can never match: {file}:2 takes all of it first
"
    );
    assert_eq!(detour::run(&ns, &arguments).done().stdout, expected);
    let document = detour::json(&ns, &arguments);
    let taken = [(3, vec![1, 2]), (4, vec![1]), (6, vec![5]), (7, vec![1])];
    let taken = taken.map(|(rule, by)| json!({"rule": rule, "taken_by": by}));
    assert_eq!((&document["never_match"], &document["undecided"]), (&json!(taken), &json!([])));
    // The text with its comments is rules again.
    let again = scratch.write("again", &expected);
    assert_eq!(detour::json(&ns, &["check", &again])["rules"].as_array().unwrap().len(), 7);
}

#[test]
fn up_says_so_too_and_does_it_all_the_same() {
    let lab = Lab::new();
    let rules = ["--rule", "tcp drop", "--rule", "ip saddr 10.0.0.0/8 tcp dport 80 accept"];
    let run = up(&lab.gateway, &lab.device, &rules);
    let note = "note: --rule 2: 'ip saddr 10.0.0.0/8 tcp dport 80 accept' can never match: --rule 1 takes all of it first\n";
    assert!(run.stdout.contains(note), "{}", run.stdout);
    let rules = detour::json(&lab.gateway, &["rules", &lab.device]);
    assert_eq!(rules["rules"].as_array().unwrap().len(), 2);
}

#[test]
fn faults_are_pointed_at() {
    let (ns, scratch) = (Netns::new(), Scratch::new());
    for (text, column, message, shown) in [
        ("tcp dport 99999 drop", 11, "port 99999 is above 65535", "          ^~~~~"),
        ("tcp dport", 10, "the rule ends here, expected a port, a range or a set in braces", "         ^"),
        ("ip saddr 10.0.0.300 drop", 10, "`10.0.0.300` is no IPv4 address", "         ^~~~~~~~~~"),
        (
            "ip\tsaddr { 10.0.0.1 10.0.0.2 } drop",
            21,
            "expected `,` or `}`, found `10.0.0.2`",
            "                    ^~~~~~~~",
        ),
        ("drop drop", 6, "expected nothing more after the verdict, found `drop`", "     ^~~~"),
        (
            "tcp dport 80 udp dport 53 drop",
            14,
            "no packet can match this: a packet has one protocol",
            "             ^~~~~~~~~~~~",
        ),
        ("dnat to 224.0.0.1", 9, "no server can have this address", "        ^~~~~~~~~"),
        (
            "redirect to :80",
            1,
            "a port can only be rewritten in a protocol that has ports",
            "^~~~~~~~~~~~~~~",
        ),
        ("é drop", 1, "expected a condition", "^"),
    ] {
        let file = scratch.write("rules", format!("# first\ndrop\n{text} # why\n"));
        let run = detour::run(&ns, &["check", &file]).refused(code::USAGE, &["a fault in the rules"]);
        let head = format!("{file}:3:{column}: {message}");
        let line = text.replace('\t', " ");
        let place = format!("\n  {line} # why\n  {shown}");
        assert!(run.stderr.contains(&head) && run.stderr.contains(&place), "{text}\n{}", run.stderr);
        let after = run.stderr.split(&place).nth(1).unwrap().trim_end();
        assert!(after.is_empty() || after.starts_with("\n  hint: "), "{text}: {after:?}");
    }
}
