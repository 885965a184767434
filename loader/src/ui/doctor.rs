// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Findings -> lines with their fixes, or JSON.
use crate::dnat::diagnosis::{Finding, State};
use serde_json::{json, Value};

use super::paper::Paper;
use super::text::{cut, escape};

/// One line each, the fix below; what is good only says so.
pub fn text(findings: &[Finding], calls: bool, paper: &Paper) -> String {
    let width = findings.iter().map(|f| f.check.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    let mut push = |line: String| out.push_str(&format!("{}\n", cut(&line, paper)));
    for finding in findings {
        push(format!("{:<4}  {:<width$}  {}", word(finding.state), finding.check, escape(&finding.what)));
        if !finding.fix.is_empty() {
            push(format!("      {:<width$}  fix: {}", "", escape(&finding.fix)));
        }
        for call in finding.calls.iter().filter(|_| calls) {
            push(format!("      {:<width$}  {call}", ""));
        }
    }
    let count = |state| findings.iter().filter(|f| f.state == state).count();
    let (odd, bad) = (count(State::Odd), count(State::Bad));
    push(match (bad, odd) {
        (0, 0) => "all is as it should be".to_owned(),
        (0, odd) => format!("'up' will work; {odd} to know about"),
        (bad, _) => format!("'up' will not work: {bad} to mend"),
    });
    out
}

fn word(state: State) -> &'static str {
    match state {
        State::Good => "ok",
        State::Odd => "note",
        State::Bad => "BAD",
    }
}

/// `{"schema":"detour.doctor/1","dev":…,"ready":…,"findings":[…],"reads":[…]}`
pub fn json(device: Option<&str>, findings: &[Finding], reads: &[String]) -> Value {
    let finding = |f: &Finding| {
        let state = match f.state {
            State::Good => "ok",
            State::Odd => "note",
            State::Bad => "bad",
        };
        json!({"check": f.check, "state": state, "finding": f.what,
            "fix": Some(&f.fix).filter(|fix| !fix.is_empty()), "calls": f.calls})
    };
    json!({
        "schema": "detour.doctor/1",
        "dev": device,
        "ready": findings.iter().all(|f| f.state != State::Bad),
        "findings": findings.iter().map(finding).collect::<Vec<_>>(),
        "reads": reads,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> Vec<Finding> {
        let call = || vec!["bpf(MAP_CREATE …)".to_owned()];
        vec![
            Finding::good("kernel", "6.18"),
            Finding::new("ip_forward", State::Odd, "on", "sysctl"),
            Finding { calls: call(), ..Finding::new("map hash", State::Bad, "EPERM\x1b", "root") },
        ]
    }

    #[test]
    fn lines_a_person_can_read() {
        let expect = "\
ok    kernel      6.18
note  ip_forward  on
                  fix: sysctl
BAD   map hash    EPERM\\u{1b}
                  fix: root
                  bpf(MAP_CREATE …)
'up' will not work: 1 to mend
";
        assert_eq!(text(&findings(), true, &Paper::default()), expect);
        let brief = text(&findings()[..2], false, &Paper::default());
        assert!(brief.ends_with("'up' will work; 1 to know about\n"), "{brief}");
    }

    #[test]
    fn json_a_program_can_read() {
        let value = json(None, &findings(), &[]);
        assert_eq!((&value["ready"], &value["findings"][0]["fix"]), (&json!(false), &Value::Null));
        assert_eq!(
            value["findings"][1],
            json!({"check": "ip_forward", "state": "note", "finding": "on",
            "fix": "sysctl", "calls": []})
        );
    }
}
