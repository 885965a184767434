// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A kernel's configuration as text to the bytes of the variables that an object declares in `.kconfig`.

use std::collections::BTreeMap;

use crate::object::{data_flags, Btf, Extern, Kind, MapSpec, Origin};

/// What is known of a kernel: `CONFIG_…` as its configuration says, `LINUX_…` as it says itself.
#[derive(Clone, Debug, Default)]
pub struct Config(BTreeMap<String, String>);

impl Config {
    /// Reads `NAME=value` lines and keeps the names that are wanted.
    pub fn read(text: &str, wanted: impl Fn(&str) -> bool) -> Config {
        let lines = text.lines().filter_map(|line| line.split_once('='));
        let kept = lines.filter(|(name, _)| wanted(name));
        Config(kept.map(|(name, value)| (name.to_owned(), value.trim_end().to_owned())).collect())
    }

    /// Adds a value that no file holds.
    pub fn set(&mut self, name: &str, value: u32) {
        self.0.insert(name.to_owned(), value.to_string());
    }
}

/// `KERNEL_VERSION(a, b, c)` of the first three numbers in a text such as `6.1.0-13-amd64`.
pub fn version(release: &str) -> u32 {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
    let mut next = |most: u32| numbers.next().unwrap_or(0).min(most);
    next(0xffff) << 16 | next(0xff) << 8 | next(0xff)
}

/// Where each extern lies in the map, by its index; and why there is no value of it, if there is none.
pub type Places = BTreeMap<usize, (u32, Result<(), String>)>;

/// The map `.kconfig` with all values, and where in it each extern lies. A value that does not fit is that extern's error.
pub fn map(btf: &Btf, externs: &[Extern], config: &Config) -> Option<(MapSpec, Places)> {
    let mut order: Vec<(usize, Shape)> = Vec::new();
    for (index, wanted) in externs.iter().enumerate().filter(|(_, e)| e.origin == Origin::Config) {
        let shape = Shape::of(btf, wanted.type_id).or_else(|| Shape::of_other(btf, wanted.type_id));
        order.extend(shape.map(|shape| (index, shape)));
    }
    let name = |index: usize| externs.get(index).map(|e| e.name.as_str());
    order.sort_by_key(|(index, shape)| (std::cmp::Reverse(shape.align), shape.size, name(*index)));
    let (mut places, mut contents): (Places, Vec<u8>) = Default::default();
    for (index, shape) in order {
        let wanted = externs.get(index)?;
        let value = match config.0.get(&wanted.name) {
            _ if shape.sort == Sort::Other => Err(NO_TYPE.to_owned()),
            Some(text) => shape.encode(text).map_err(|what| format!("the kernel has {text}: {what}")),
            None if wanted.weak => Ok(vec![0; shape.size]),
            None => Err("the kernel's configuration does not have it, and it is not __weak".to_owned()),
        };
        let start = contents.len().checked_next_multiple_of(shape.align)?;
        contents.resize(start, 0);
        contents.extend(value.as_ref().map_or(vec![0; shape.size], Vec::clone));
        // Without a value it has a place, for the kernel wants to see one in the types.
        places.insert(index, (u32::try_from(start).ok()?, value.map(|_| ())));
    }
    let datasec = btf.find(Kind::Datasec, ".kconfig");
    let value_size = u32::try_from(contents.len()).ok()?;
    let map = MapSpec {
        name: ".kconfig".to_owned(),
        kernel_name: "kconfig".to_owned(),
        map_type: BPF_MAP_TYPE_ARRAY,
        key_size: 4,
        value_size,
        max_entries: 1,
        flags: data_flags(true, datasec.as_ref().map(|datasec| (btf, datasec))),
        map_extra: 0,
        numa_node: None,
        pinning: 0,
        key_type_id: 0,
        value_type_id: datasec.map_or(0, |t| t.id),
        types_withheld: false,
        inner: None,
        slots: Vec::new(),
        contents: Some(contents),
        frozen: true,
    };
    (value_size != 0).then_some((map, places))
}

/// What a variable holds.
struct Shape {
    sort: Sort,
    size: usize,
    align: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    Bool,
    Tristate,
    Char {
        signed: bool,
    },
    Int {
        signed: bool,
    },
    Text,
    /// What no configuration has.
    Other,
}

impl Shape {
    fn of(btf: &Btf, var: u32) -> Option<Shape> {
        let found = btf.strip(btf.get(var)?.type_id())?;
        let size = usize::try_from(btf.size_of(found.id)?).ok().filter(|size| *size <= MOST)?;
        let is_char = |t: &crate::object::Type<'_>| t.int().is_some_and(|i| !i.boolean) && t.size() == 1;
        let sort = match found.kind {
            Kind::Int => match found.int()? {
                i if i.boolean => Sort::Bool,
                i if size == 1 => Sort::Char { signed: i.signed },
                i => Sort::Int { signed: i.signed },
            },
            Kind::Enum | Kind::Enum64 if found.name() == "libbpf_tristate" && size == 4 => Sort::Tristate,
            Kind::Array if size > 0 && btf.strip(found.array()?.element).is_some_and(|t| is_char(&t)) => {
                Sort::Text
            }
            _ => return None,
        };
        let align = if sort == Sort::Text { 1 } else { size };
        matches!(align, 1 | 2 | 4 | 8).then_some(Shape { sort, size, align })
    }

    /// The room of anything else that has a size.
    fn of_other(btf: &Btf, var: u32) -> Option<Shape> {
        let size = usize::try_from(btf.size_of(btf.get(var)?.type_id())?).ok();
        size.filter(|size| *size <= MOST).map(|size| Shape { sort: Sort::Other, size, align: 8 })
    }

    /// `y`, `n`, `m`, `"text"`, `0x…` or a number, as the kernel's configuration writes them.
    fn encode(&self, text: &str) -> Result<Vec<u8>, &'static str> {
        let little = |value: u64| {
            let bytes = value.to_le_bytes();
            bytes.get(..self.size).map(<[u8]>::to_vec).ok_or("the variable is of no size for a number")
        };
        match (text, self.sort) {
            ("y" | "n" | "m", Sort::Char { .. }) => Ok(text.as_bytes().to_vec()),
            ("y" | "n", Sort::Bool) => little(u64::from(text == "y")),
            ("m", Sort::Bool) => {
                Err("a module is neither true nor false; enum libbpf_tristate or char can say it")
            }
            ("n", Sort::Tristate) => little(0),
            ("y", Sort::Tristate) => little(1),
            ("m", Sort::Tristate) => little(2),
            ("y" | "n" | "m", _) => Err("the variable cannot hold that"),
            _ if text.starts_with('"') => {
                if self.sort != Sort::Text {
                    return Err("only an array of char can hold text");
                }
                let inside = text
                    .strip_prefix('"')
                    .and_then(|t| t.strip_suffix('"'))
                    .ok_or("the quotes do not end")?;
                // Cut short rather than without its NUL, as C wants it.
                let mut bytes: Vec<u8> = inside.bytes().take(self.size.saturating_sub(1)).collect();
                bytes.resize(self.size, 0);
                Ok(bytes)
            }
            _ => {
                let value = number(text).ok_or("this is no number")?;
                let bits = u32::try_from(self.size.saturating_mul(8)).unwrap_or(64);
                let fits = match self.sort {
                    Sort::Bool => (0..=1).contains(&value),
                    Sort::Int { signed: true } | Sort::Char { signed: true } => {
                        value >> bits.saturating_sub(1) == 0 || value >> bits.saturating_sub(1) == -1
                    }
                    Sort::Int { signed: false } | Sort::Char { signed: false } => value >> bits == 0,
                    _ => return Err("the variable cannot hold a number"),
                };
                if fits {
                    little(value as u64)
                } else {
                    Err("the variable is too small for it")
                }
            }
        }
    }
}

fn number(text: &str) -> Option<i128> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let value = match digits.strip_prefix("0x") {
        Some(hex) => i128::from(u64::from_str_radix(hex, 16).ok()?),
        None => i128::from(digits.parse::<u64>().ok()?),
    };
    if negative {
        value.checked_neg()
    } else {
        Some(value)
    }
}

const NO_TYPE: &str =
    "is of a type that no configuration has: bool, char, an integer, enum libbpf_tristate or an array of \
                       char is wanted";
const BPF_MAP_TYPE_ARRAY: u32 = 2;
/// Of one variable; no value of a kernel's configuration is longer.
const MOST: usize = 4096;
