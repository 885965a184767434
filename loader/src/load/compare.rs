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

/// Where two documents are first different, as a JSON pointer (RFC 6901), with what each has there.
pub fn first<'a>(one: &'a Value, other: &'a Value) -> Option<(String, Option<&'a Value>, Option<&'a Value>)> {
    let within = |name: String, one: Option<&'a Value>, other: Option<&'a Value>| match (one, other) {
        (Some(a), Some(b)) => first(a, b).map(|(path, a, b)| (format!("/{name}{path}"), a, b)),
        (None, None) => None,
        _ => Some((format!("/{name}"), one, other)),
    };
    match (one, other) {
        (Value::Object(a), Value::Object(b)) => {
            let names = a.keys().chain(b.keys().filter(|name| !a.contains_key(*name)));
            let escaped = |name: &str| name.replace('~', "~0").replace('/', "~1");
            names.into_iter().find_map(|name| within(escaped(name), a.get(name), b.get(name)))
        }
        (Value::Array(a), Value::Array(b)) => {
            (0..a.len().max(b.len())).find_map(|n| within(n.to_string(), a.get(n), b.get(n)))
        }
        _ if one == other => None,
        _ => Some((String::new(), Some(one), Some(other))),
    }
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
    fn the_first_place_where_documents_differ() {
        let place = |a: &str, b: &str| {
            let (a, b): (Value, Value) = (serde_json::from_str(a).unwrap(), serde_json::from_str(b).unwrap());
            first(&a, &b).map(|(path, a, b)| (path, a.cloned(), b.cloned()))
        };
        assert_eq!(place(r#"{"a":[1,{"b":2}]}"#, r#"{"a":[1,{"b":2}]}"#), None);
        assert_eq!(place(r#"{"b":1,"a":2}"#, r#"{"a":2,"b":1}"#), None, "members have no order");
        let found = |path: &str, a: Option<Value>, b: Option<Value>| Some((path.to_string(), a, b));
        let of = place(r#"{"a":[1,{"b":2}]}"#, r#"{"a":[1,{"b":3}]}"#);
        assert_eq!(of, found("/a/1/b", Some(json!(2)), Some(json!(3))));
        assert_eq!(place("[1]", "[1,2]"), found("/1", None, Some(json!(2))));
        assert_eq!(place("{}", r#"{"a/~b":null}"#), found("/a~1~0b", None, Some(Value::Null)));
        assert_eq!(place(r#"{"a":1}"#, "[]"), found("", Some(json!({"a": 1})), Some(json!([]))));
        assert_eq!(place("1", "1.0"), found("", Some(json!(1)), Some(json!(1.0))));
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
