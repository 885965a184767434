// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The maps of an instance and their elements -> text and JSON.
use super::map_type::{map_flags, map_type};
use super::paper::Paper;
use super::text::{escape, table, Column};
use super::value::{value, Value};
use crate::object::Btf;
use serde_json::{json, Value as Json};

/// One map as the kernel describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// The name in the object, or that of its pin.
    pub name: String,
    /// Number in the kernel.
    pub id: u32,
    /// `enum bpf_map_type`.
    pub map_type: u32,
    /// Bytes.
    pub key_size: u32,
    /// Bytes.
    pub value_size: u32,
    /// Most elements.
    pub max_entries: u32,
    /// `BPF_F_*`.
    pub flags: u32,
}

/// A table.
pub fn list(rows: &[Row], paper: &Paper) -> String {
    let columns = [
        Column::Left("MAP"),
        Column::Right("ID"),
        Column::Left("TYPE"),
        Column::Right("KEY"),
        Column::Right("VALUE"),
        Column::Right("ENTRIES"),
        Column::Left("FLAGS"),
    ];
    let cells = |row: &Row| {
        let numbers = [row.key_size, row.value_size, row.max_entries].map(|n| n.to_string());
        let mut cells = vec![escape(&row.name), row.id.to_string(), map_type(row.map_type)];
        cells.extend(numbers);
        cells.push(map_flags(row.flags).join(","));
        cells
    };
    table(&columns, &rows.iter().map(cells).collect::<Vec<_>>(), paper)
}

/// `{"schema":"detour.maps/1","maps":[…]}`
pub fn list_json(rows: &[Row]) -> Json {
    let row = |row: &Row| {
        json!({
            "name": row.name, "id": row.id, "type": map_type(row.map_type), "key_size": row.key_size,
            "value_size": row.value_size, "max_entries": row.max_entries, "flags": map_flags(row.flags),
        })
    };
    json!({"schema": "detour.maps/1", "maps": rows.iter().map(row).collect::<Vec<_>>()})
}

/// How the bytes of a map's keys or values are to be read.
#[derive(Clone, Copy, Debug)]
pub struct Typed<'a> {
    /// The types and the id of this one; None: the bytes say nothing.
    pub btf: Option<(&'a Btf, u32)>,
    /// Bytes from one CPU's record to the next; 0 where there is only one.
    pub stride: usize,
}

impl Typed<'_> {
    fn read(&self, bytes: &[u8]) -> Value {
        if self.stride == 0 {
            return self.one(bytes);
        }
        Value::List(bytes.chunks(self.stride).map(|one| self.one(one)).collect())
    }

    fn one(&self, bytes: &[u8]) -> Value {
        match self.btf {
            Some((btf, id)) => value(btf, id, bytes),
            None => Value::Bytes(bytes.to_vec()),
        }
    }
}

/// `key: value`, one element a line.
pub fn elements(elements: &[(Vec<u8>, Vec<u8>)], key: Typed<'_>, value: Typed<'_>) -> String {
    let line = |(k, v): &(Vec<u8>, Vec<u8>)| format!("{}: {}\n", key.read(k).text(), value.read(v).text());
    elements.iter().map(line).collect()
}

/// A key, in one line.
pub fn key(bytes: &[u8], key: Typed<'_>) -> String {
    key.read(bytes).text()
}

/// The same for JSON.
pub fn key_json(bytes: &[u8], key: Typed<'_>) -> Json {
    key.read(bytes).json()
}

/// `{"schema":"detour.elements/1","map":…,"elements":[{"key":…,"value":…}]}`; per-CPU values are lists, a CPU each.
pub fn elements_json(map: &str, elements: &[(Vec<u8>, Vec<u8>)], key: Typed<'_>, value: Typed<'_>) -> Json {
    let row = |(k, v): &(Vec<u8>, Vec<u8>)| json!({"key": key.read(k).json(), "value": value.read(v).json()});
    json!({"schema": "detour.elements/1", "map": map, "elements": elements.iter().map(row).collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_without_types_are_bytes_and_each_cpu_counts() {
        let (key, value) = (Typed { btf: None, stride: 0 }, Typed { btf: None, stride: 2 });
        let all = [(vec![1, 2], vec![3, 4, 5, 6])];
        assert_eq!(elements(&all, key, value), "hex:0102: {hex:0304, hex:0506}\n");
        let json = elements_json("m", &all, key, value);
        assert_eq!(json.pointer("/elements/0/value/1"), Some(&json!("hex:0506")));
    }

    #[test]
    fn a_table_a_person_can_read() {
        let row = Row {
            name: "a\x1b".into(),
            id: 7,
            map_type: 9,
            key_size: 4,
            value_size: 8,
            max_entries: 10,
            flags: 1,
        };
        let expect = "\
MAP      ID  TYPE      KEY  VALUE  ENTRIES  FLAGS
a\\u{1b}   7  lru_hash    4      8       10  no_prealloc
";
        assert_eq!(list(&[row], &Paper::default()), expect);
    }
}
