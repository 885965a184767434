// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A diagnostic -> its message, the line it is about, and a caret under what is wrong.

use crate::dnat::diagnostic::Diagnostic;

use super::text::escape;

/// Message, line and caret; a hint where there is one. Without a newline at the end.
pub fn excerpt(diagnostic: &Diagnostic) -> String {
    let Diagnostic { first, len, text, reason, .. } = diagnostic;
    // A tab would move the caret by an unknown width.
    let shown = |from: usize, count: usize| -> String {
        text.chars()
            .skip(from)
            .take(count)
            .map(|char| if char == '\t' { " ".into() } else { escape(&char.to_string()) })
            .collect()
    };
    let line = shown(0, text.chars().count());
    let before = shown(0, *first).chars().count();
    let under = shown(*first, *len).chars().count().max(1);
    let caret: String = (0..under).map(|i| if i == 0 { '^' } else { '~' }).collect();
    let mut out = format!("{diagnostic}\n  {line}\n  {:before$}{caret}", "");
    if let Some(hint) = reason.hint() {
        out.push_str("\n  hint: ");
        out.push_str(&hint);
    }
    out
}

/// All of them, one after the other.
pub fn excerpts(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(excerpt).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dnat::parse::{parse, Source};

    fn shown(text: &str) -> String {
        excerpts(&parse(&[Source { name: "web.rules", text: text.as_bytes() }]).unwrap_err())
    }

    #[test]
    fn points_at_what_is_wrong() {
        assert_eq!(
            shown("# web\ntcp dport { 443, 99999 } redirect to :8443"),
            "web.rules:2:18: port 99999 is above 65535\n\
             \x20 tcp dport { 443, 99999 } redirect to :8443\n\
             \x20                  ^~~~~"
        );
        assert_eq!(
            shown("tcp dport 80"),
            "web.rules:1:13: the rule ends here, expected a condition (ip, ip6, tcp, udp, sctp, icmp, icmpv6, meta) or a verdict \
             (redirect, dnat, accept, drop, reject)\n\
             \x20 tcp dport 80\n\
             \x20             ^"
        );
    }

    #[test]
    fn a_hint_follows_and_escapes_keep_the_caret_in_place() {
        assert_eq!(
            shown("\ttcp dport h\x1b[1mttp redirect"),
            "web.rules:1:12: `h\\u{1b}[1mttp` is no number\n\
             \x20  tcp dport h\\u{1b}[1mttp redirect\n\
             \x20            ^~~~~~~~~~~~~\n\
             \x20 hint: names of services are not looked up"
        );
    }
}
