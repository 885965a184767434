// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Two lists of effects, as the JSON of plans and transcripts has them, to what one has and the other has not.
use serde_json::Value;

/// What only one of the lists has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Whether it is in the second list only; otherwise in the first only.
    pub second: bool,
    /// Its number there, from 1.
    pub number: usize,
    /// The effect.
    pub effect: Value,
}

/// The effects of a document: the steps of a plan, or of a transcript, an object a line, those that were done and not undone.
/// With `whole`, all that a plan says of them: what must come back, undo, what follows a failure.
///
/// # Errors
/// Why it is neither.
pub fn effects(text: &str, whole: bool) -> Result<Vec<Value>, String> {
    if let Ok(document) = serde_json::from_str::<Value>(text) {
        if document.get("schema").and_then(Value::as_str) == Some("detour.plan/1") {
            let steps = document.get("steps").and_then(Value::as_array).ok_or("a plan without steps")?;
            return Ok(if whole { steps.clone() } else { steps.iter().map(bare).collect() });
        }
    }
    let mut effects: Vec<(u64, Value)> = Vec::new();
    let mut lines = text.lines();
    let read = |line: &str| {
        serde_json::from_str::<Value>(line).map_err(|e| format!("neither a plan nor a transcript: {e}"))
    };
    let head = read(lines.next().unwrap_or_default())?;
    if head.get("schema").and_then(Value::as_str) != Some("detour.transcript/1") {
        return Err("neither detour.plan/1 nor detour.transcript/1".to_string());
    }
    for line in lines {
        let line = read(line)?;
        let (number, outcome) =
            (line.get("step").and_then(Value::as_u64), line.get("outcome").and_then(Value::as_str));
        match (number, outcome, line.get("effect")) {
            (Some(n), Some("done"), Some(effect)) => effects.push((n, effect.clone())),
            // `run` makes several plans: it is the last one's.
            (Some(n), Some("undone"), _) => {
                if let Some(at) = effects.iter().rposition(|(done, _)| *done == n) {
                    effects.remove(at);
                }
            }
            _ => {}
        }
    }
    Ok(effects.into_iter().map(|(_, effect)| effect).collect())
}

/// The effect alone: what a transcript can show.
pub fn bare(step: &Value) -> Value {
    let mut step = step.clone();
    if let Some(fields) = step.as_object_mut() {
        for more in ["expect", "undo", "instead", "on_failure", "again_at_eagain"] {
            fields.remove(more);
        }
    }
    step
}

/// In the order of the lists. What both begin with and end with is not looked at twice; between, an effect that stands in
/// both lists in the same order is the same.
pub fn differences(first: &[Value], second: &[Value]) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut at = 0;
    for (i, effect) in first.iter().enumerate() {
        let rest = second.iter().enumerate().skip(at);
        match rest.into_iter().find(|(_, other)| *other == effect) {
            Some((there, _)) => {
                let skipped = second.iter().enumerate().take(there).skip(at);
                found.extend(skipped.map(|(n, effect)| difference(true, n, effect)));
                at = there.saturating_add(1);
            }
            None => found.push(difference(false, i, effect)),
        }
    }
    found.extend(second.iter().enumerate().skip(at).map(|(n, effect)| difference(true, n, effect)));
    found
}

fn difference(second: bool, index: usize, effect: &Value) -> Difference {
    Difference { second, number: index.saturating_add(1), effect: effect.clone() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_one_has_and_the_other_has_not() {
        let list = |names: &str| names.chars().map(|c| json!(c.to_string())).collect::<Vec<_>>();
        let of = |a: &str, b: &str| {
            let all = differences(&list(a), &list(b));
            all.iter()
                .map(|d| format!("{}{}{}", if d.second { '+' } else { '-' }, d.number, d.effect))
                .collect::<Vec<_>>()
        };
        assert_eq!(of("abc", "abc"), Vec::<String>::new());
        assert_eq!(of("abc", "aXbc"), ["+2\"X\""]);
        assert_eq!(of("abc", "ac"), ["-2\"b\""]);
        assert_eq!(of("ab", "abcd"), ["+3\"c\"", "+4\"d\""]);
        assert_eq!(of("", "a"), ["+1\"a\""]);
        // Another order is a difference.
        assert_eq!(of("ab", "ba").len(), 2);
    }

    #[test]
    fn a_transcript_is_what_stayed_done() {
        let text = r#"{"schema":"detour.transcript/1"}
{"step":1,"effect":{"do":"mkdir"},"outcome":"done"}
{"step":2,"effect":{"do":"rename"},"outcome":"done"}
{"step":3,"effect":{"do":"bpf"},"outcome":"failed"}
{"step":2,"effect":{"do":"rename"},"outcome":"undone"}
"#;
        assert_eq!(effects(text, false).unwrap(), [json!({"do": "mkdir"})]);
        assert!(effects("", false).is_err() && effects("{}", false).is_err());
        let plan = r#"{"schema":"detour.plan/1","steps":[{"do":"mkdir","undo":{"do":"rmdir"}}]}"#;
        assert_eq!(effects(plan, false).unwrap(), [json!({"do": "mkdir"})]);
        assert_eq!(effects(plan, true).unwrap(), [json!({"do": "mkdir", "undo": {"do": "rmdir"}})]);
    }
}
