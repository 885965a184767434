// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! KEY and VALUE of `map get|set|del`, read by the map's types, to what is looked up, and to the steps of a change.
use crate::cmd::maps::{refused, text, Opened, Types};
use crate::cmd::Answer;
use crate::dnat::running::Element;
use crate::load::plan::Plan;
use crate::load::plan_json::unhex;
use crate::load::refusal::{Refusal, Stage};
use crate::load::step::Step;
use crate::object::{data_flags, Btf, Kind, Place, Written, BPF_F_MMAPABLE};
use crate::ui::map_type::map_type;
use crate::ui::maps::{self, Row, Typed};
use crate::ui::text::escape;
use crate::ui::value;
use clap::ArgMatches;
use serde_json::json;

/// What `map set` or `map del` does, and what it says then.
pub struct Change {
    /// The steps.
    pub plan: Plan,
    /// The answer.
    pub answer: Answer,
}

/// A variable of a map of global data, or a part of one.
pub struct Part<'a> {
    /// As it was written.
    path: String,
    place: Place,
    btf: &'a Btf,
    /// The type of the whole value.
    section: u32,
}

/// The steps and the answer of `map set` and `map del`.
pub fn change(
    what: &str,
    args: &ArgMatches,
    opened: &Opened<'_>,
    types: &Types<'_>,
) -> Result<Change, Refusal> {
    let written = text(args, "key");
    if what == "del" {
        let key = bytes(written, types.key, opened.map.key_size())?;
        let text = maps::key(&key, types.key);
        let json =
            json!({"schema": "detour.deleted/1", "map": opened.name, "key": maps::key_json(&key, types.key)});
        let answer = Answer::done(format!("{text}: deleted\n"), json);
        return Ok(Change { plan: plan(opened, Step::delete("%map", key)), answer });
    }
    if let Some(part) = part(written, types)? {
        return store(text(args, "value"), opened, &part);
    }
    let key = bytes(written, types.key, opened.map.key_size())?;
    let (value, kept) = value_of(text(args, "value"), &key, opened, types.value)?;
    let mut plan = plan(opened, Step::update("%map", key.clone(), value.clone().into()));
    if kept {
        plan.notes.push("the members that are not named are written as they were read".into());
    }
    Ok(Change { plan, answer: show(opened.name, &[(key, value)], types) })
}

fn plan(opened: &Opened<'_>, step: Step) -> Plan {
    Plan { steps: vec![Step::get(opened.path.clone(), "%map"), step], notes: Vec::new() }
}

/// The steps that write a variable and nothing beside it.
fn store(written: &str, opened: &Opened<'_>, part: &Part<'_>) -> Result<Change, Refusal> {
    let Part { path, place, btf, .. } = part;
    let new = btf.write(place, written).map_err(|e| {
        let hint = match members(btf, place.type_id) {
            true => "a struct or an array is written part by part: 'map set … VAR.FIELD VALUE', 'VAR[N]'; or hex: and all its bytes",
            false => "hex: takes its bytes as they lie in memory",
        };
        Refusal::new(Stage::Usage, format!("{}: {e}", escape(path)), hint)
    })?;
    if opened.info.flags & BPF_F_MMAPABLE == 0 {
        return Err(unmapped(opened.name, part));
    }
    let mut value = vec![0; opened.map.value_size()];
    let outside = || Refusal::new(Stage::Usage, format!("{} lies outside the map", escape(path)), "");
    new.put(&mut value).ok_or_else(outside)?;
    let answer = show_part(opened, part, &value);
    Ok(Change { plan: plan(opened, Step::store("%map", new)), answer })
}

/// Why a variable cannot be written by itself.
fn unmapped(name: &str, part: &Part<'_>) -> Refusal {
    let what = format!(
        "'{}' was made without BPF_F_MMAPABLE, so none of its variables can be written by itself",
        escape(name)
    );
    let section = part.btf.get(part.section);
    let made = data_flags(false, section.as_ref().map(|section| (part.btf, section)));
    let hint = match made & BPF_F_MMAPABLE {
        0 => "all of its variables are static or hidden: one that is neither makes it such a map",
        _ => "load the object anew, which makes it such a map: detour load --replace …",
    };
    let whole = "'map set … hex:00000000 hex:…' writes all of it, and loses what programs count meanwhile";
    Refusal::new(Stage::Kernel, what, format!("{hint}; {whole}"))
}

/// The variable that KEY names, where the map is one of global data.
pub fn part<'a>(key: &str, types: &Types<'a>) -> Result<Option<Part<'a>>, Refusal> {
    let Some((btf, id)) = types.value.btf else { return Ok(None) };
    let data = btf.get(id).is_some_and(|found| found.kind == Kind::Datasec);
    if !data || key.starts_with("hex:") {
        return Ok(None);
    }
    let place = btf.place(id, key).map_err(|e| {
        Refusal::new(Stage::Usage, e.to_string(), "'detour map dump' shows the variables with their values")
    })?;
    Ok(Some(Part { path: key.to_owned(), place, btf, section: id }))
}

/// A variable in the value `bytes` of its map.
pub fn show_part(opened: &Opened<'_>, part: &Part<'_>, bytes: &[u8]) -> Answer {
    let value = value::part(part.btf, &part.place, bytes);
    let text = format!("{}: {}\n", escape(&part.path), value.text());
    let element = json!({"key": part.path, "value": value.json()});
    Answer::done(text, json!({"schema": "detour.elements/1", "map": opened.name, "elements": [element]}))
}

/// Whole elements.
pub fn show(name: &str, elements: &[Element], types: &Types<'_>) -> Answer {
    let text = maps::elements(elements, types.key, types.value);
    Answer::done(text, maps::elements_json(name, elements, types.key, types.value))
}

/// Whether it is MEMBER=VALUE, and no text with such a sign in it.
fn assigns(written: &str) -> bool {
    written.contains('=') && !written.starts_with('"')
}

/// A whole value, and whether members of it are as they were: `MEMBER=VALUE[,…]` writes into what is there, or into zeros.
fn value_of(
    written: &str,
    key: &[u8],
    opened: &Opened<'_>,
    typed: Typed<'_>,
) -> Result<(Vec<u8>, bool), Refusal> {
    let size = opened.map.value_size();
    let parts = typed.btf.filter(|(btf, id)| members(btf, *id));
    let Some((btf, id)) = parts.filter(|_| assigns(written)) else {
        let whole = bytes(written, typed, size);
        let or = "MEMBER=VALUE[,MEMBER=VALUE…] writes parts of it";
        let could = parts.is_some() && typed.stride == 0;
        return whole.map(|bytes| (bytes, false)).map_err(|e| if could { e.and_hint(or) } else { e });
    };
    let wrong = |what: String| {
        Refusal::new(
            Stage::Usage,
            what,
            format!("MEMBER=VALUE[,MEMBER=VALUE…], or hex: and the {size} bytes as they lie in memory"),
        )
    };
    let mut all: Vec<Written> = Vec::new();
    for one in assignments(written) {
        let (path, new) =
            one.split_once('=').ok_or_else(|| wrong(format!("'{}' is no MEMBER=VALUE", escape(one))))?;
        let place = btf.place(id, path).map_err(|e| wrong(e.to_string()))?;
        all.push(btf.write(&place, new).map_err(|e| wrong(format!("{}: {e}", escape(path))))?);
    }
    if typed.stride != 0 {
        return Err(wrong("a per-CPU map has one record for each CPU".into()));
    }
    let there = opened.map.lookup(key).map_err(|e| refused(opened.name, &e))?;
    let kept = there.is_some();
    let mut value = there.unwrap_or_else(|| vec![0; size]);
    for one in all {
        one.put(&mut value).ok_or_else(|| wrong("a member lies outside the value".into()))?;
    }
    Ok((value, kept))
}

/// Whether values of this type have members or elements by which they can be written.
fn members(btf: &Btf, id: u32) -> bool {
    btf.strip(id).is_some_and(|found| matches!(found.kind, Kind::Struct | Kind::Union | Kind::Array))
}

/// Between commas, but for those in quotes.
fn assignments(written: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    written.split(move |c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    })
}

/// A key or value from the command line: by its type, or as hex.
pub fn bytes(written: &str, typed: Typed<'_>, size: usize) -> Result<Vec<u8>, Refusal> {
    let wrong = |what: String| {
        Refusal::new(Stage::Usage, what, format!("hex: wants the {size} bytes as they lie in memory"))
    };
    let raw = written.strip_prefix("hex:").map(|digits| unhex(digits).filter(|bytes| bytes.len() == size));
    match (raw, typed.btf, typed.stride) {
        (Some(Some(bytes)), _, _) => Ok(bytes),
        (None, Some((btf, id)), 0) => btf.encode(id, written).map_err(|e| wrong(e.to_string())),
        _ => Err(wrong(format!("'{}' is not {size} bytes in hex", escape(written)))),
    }
}

/// There is no element with that key.
pub fn nothing(name: &str) -> Refusal {
    let what = format!("'{}' has no such element", escape(name));
    Refusal::new(Stage::No, what, "'detour map dump' shows all that it has")
}

/// Why the kernel changes no element, as far as the map's type says it; what it says of a map that is frozen is said already.
pub fn unwritten(refusal: Refusal, name: &str, info: &Row) -> Refusal {
    if refusal.stage == Stage::No {
        return nothing(name);
    }
    let more = format!(
        "the map is of type {}, with {} entries at most: see bpf(2)",
        map_type(info.map_type),
        info.max_entries
    );
    let refusal = refusal.about(name);
    match refusal.hint.is_empty() {
        true => refusal.and_hint(&more),
        false => refusal,
    }
}

#[cfg(test)]
mod tests {
    use super::{assignments, assigns};

    #[test]
    fn a_text_assigns_nothing() {
        assert_eq!(
            ["a=1", "[2]=1", "a=\"b\"", "\"a=b\"", "7"].map(assigns),
            [true, true, true, false, false]
        );
    }

    #[test]
    fn commas_in_quotes_part_nothing() {
        let parts: Vec<&str> = assignments("a=1,b.c[2]=0x3,name=\"x,y\",d=4").collect();
        assert_eq!(parts, ["a=1", "b.c[2]=0x3", "name=\"x,y\"", "d=4"]);
    }
}
