// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Checks and their outcomes -> lines, what differs in capitals, and JSON.
use crate::load::verify::{Check, Outcome};

use super::text::escape;
use serde_json::{json, Value};

/// What was checked as one thing: the objects in this program, or an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// `objects`, or `eth0 'up'`.
    pub name: String,
    /// In the order in which they were made.
    pub checks: Vec<Check>,
}

/// Every check, then the sum.
pub fn text(subjects: &[Subject]) -> String {
    let mut text = String::new();
    for subject in subjects {
        text.push_str(&format!("{}\n", escape(&subject.name)));
        for check in &subject.checks {
            let (word, more) = match &check.outcome {
                Outcome::Same => ("ok     ", String::new()),
                Outcome::Differs(what) => ("DIFFERS", format!(": {}", escape(what))),
                Outcome::Unseen(why) => ("unseen ", format!(": {}", escape(why))),
            };
            text.push_str(&format!("  {word}  {}  {}{more}\n", escape(&check.about), escape(&check.claim)));
        }
    }
    let [same, differ, unseen] = count(subjects);
    text.push_str(&format!("{same} as they should be, {differ} different, {unseen} not seen\n"));
    text
}

/// How many are the same, differ, were not seen.
pub fn count(subjects: &[Subject]) -> [usize; 3] {
    let all = || subjects.iter().flat_map(|s| &s.checks);
    let differ = all().filter(|c| matches!(c.outcome, Outcome::Differs(_))).count();
    let unseen = all().filter(|c| matches!(c.outcome, Outcome::Unseen(_))).count();
    [all().count().saturating_sub(differ).saturating_sub(unseen), differ, unseen]
}

/// `{"schema":"detour.verify/1","ok":true,"same":…,"different":…,"unseen":…,"subjects":[…]}`
pub fn json(subjects: &[Subject]) -> Value {
    let check = |check: &Check| {
        let (outcome, detail) = match &check.outcome {
            Outcome::Same => ("same", None),
            Outcome::Differs(what) => ("different", Some(what)),
            Outcome::Unseen(why) => ("unseen", Some(why)),
        };
        json!({"about": check.about, "claim": check.claim, "outcome": outcome, "detail": detail})
    };
    let subject = |s: &Subject| {
        let checks: Vec<Value> = s.checks.iter().map(check).collect();
        json!({"name": s.name, "checks": checks})
    };
    let [same, differ, unseen] = count(subjects);
    json!({
        "schema": "detour.verify/1", "ok": differ == 0, "same": same, "different": differ, "unseen": unseen,
        "subjects": subjects.iter().map(subject).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_and_the_capitals() {
        let checks = vec![
            Check::new("qdisc", "is clsact", None),
            Check::new("map \u{1b}x", "is frozen", Some("it can be written".into())),
            Check::unseen("program p", "has the tag", "not permitted"),
        ];
        let subjects = [Subject { name: "eth0 'up'".into(), checks }];
        let expect = "\
eth0 'up'
  ok       qdisc  is clsact
  DIFFERS  map \\u{1b}x  is frozen: it can be written
  unseen   program p  has the tag: not permitted
1 as they should be, 1 different, 1 not seen
";
        assert_eq!(text(&subjects), expect);
        assert_eq!(json(&subjects).get("ok"), Some(&Value::Bool(false)));
    }
}
