// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Turns the fields of a netlink message into text and JSON and back, by the table that also gives their bytes.

use super::nla::{value, Layout, Shape, WireError};
use serde_json::{json, Map, Value as Json};
use std::borrow::Cow;
use std::fmt::Write;
use std::net::IpAddr;

/// One header field or attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The kernel's name, or `#57` for an attribute without one.
    pub name: Cow<'static, str>,
    /// What it says.
    pub value: Value,
}

/// The value of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// An integer of up to four bytes, in host order.
    Number(u32),
    /// A number that is known only when the message is sent: a descriptor, `%prog`.
    Symbol(String),
    /// Text without its NUL.
    Text(String),
    /// An IPv4 or IPv6 address.
    Ip(IpAddr),
    /// Bytes as they are.
    Bytes(Vec<u8>),
    /// Attributes within an attribute, or a whole message within one.
    Nest(Fields),
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<IpAddr> for Value {
    fn from(ip: IpAddr) -> Self {
        Self::Ip(ip)
    }
}

impl From<Fields> for Value {
    fn from(fields: Fields) -> Self {
        Self::Nest(fields)
    }
}

/// Fields in the order in which they are sent: header first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<Field>);

impl Fields {
    /// Appends a field.
    pub fn push(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Value>) {
        self.0.push(Field { name: name.into(), value: value.into() });
    }

    /// These fields and one more: `Fields::default().with("TCA_KIND", "bpf")`.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.push(name, value);
        self
    }

    /// These fields and, unless it is zero, one of the header: there, absent means zero.
    #[must_use]
    pub fn head(self, name: &'static str, value: u32) -> Self {
        if value == 0 {
            self
        } else {
            self.with(name, value)
        }
    }

    /// The first value of this name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|field| field.name == name).map(|field| &field.value)
    }

    /// The number of this name.
    pub fn number(&self, name: &str) -> Option<u32> {
        match self.get(name)? {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// The text of this name; bytes that are no UTF-8 are replaced, for names belong to whoever gave them.
    pub fn text(&self, name: &str) -> Option<String> {
        self.get(name)?.text()
    }

    /// The address of this name.
    pub fn ip(&self, name: &str) -> Option<IpAddr> {
        match self.get(name)? {
            Value::Ip(ip) => Some(*ip),
            _ => None,
        }
    }

    /// The bytes of this name.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        match self.get(name)? {
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The nest of this name.
    pub fn nest(&self, name: &str) -> Option<&Fields> {
        match self.get(name)? {
            Value::Nest(fields) => Some(fields),
            _ => None,
        }
    }

    /// Puts numbers in the place of symbols; a symbol for which `number` has none stays.
    pub fn resolve(&mut self, number: &dyn Fn(&str) -> Option<u32>) {
        for Field { value, .. } in &mut self.0 {
            match value {
                Value::Nest(fields) => fields.resolve(number),
                Value::Symbol(symbol) => {
                    if let Some(number) = number(symbol) {
                        *value = Value::Number(number);
                    }
                }
                _ => {}
            }
        }
    }

    /// The text of the field that chooses the layout of a nest beside it.
    pub(super) fn kind(&self, layout: &Layout) -> Option<&str> {
        let kind = layout.attrs.iter().find(|attr| matches!(attr.2, Shape::Kind))?;
        match self.get(kind.0)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Each field with its shape; `None` where the layout has no field of that name.
    pub(super) fn shaped<'a>(
        &'a self,
        layout: &'a Layout,
    ) -> impl Iterator<Item = (&'a Field, Option<Shape>)> {
        let kind = self.kind(layout);
        self.0.iter().map(move |field| (field, layout.shape(&field.name, kind)))
    }

    /// One line, `tcm_ifindex=3 TCA_KIND="bpf" TCA_OPTIONS={TCA_BPF_FD=%prog}`, safe on a terminal.
    pub fn line(&self, layout: &Layout) -> String {
        let mut out = String::new();
        for (field, shape) in self.shaped(layout) {
            let shape = shape.unwrap_or(Shape::Bytes);
            let gap = if out.is_empty() { "" } else { " " };
            let shown = match (&field.value, shape) {
                (Value::Nest(fields), Shape::Nest(layout)) => format!("{{{}}}", fields.line(layout)),
                (Value::Text(text), _) => format!("\"{}\"", text.escape_debug()),
                (value, shape) => plain(shape, value),
            };
            // Writing to a String cannot fail.
            let _ = write!(out, "{gap}{}={shown}", field.name);
        }
        out
    }

    /// Every field that is no nest, with its path: `("TCA_OPTIONS.TCA_BPF_FD", "%prog")`. The text is raw.
    pub fn pairs(&self, layout: &Layout) -> Vec<(String, String)> {
        let mut out = Vec::new();
        for (field, shape) in self.shaped(layout) {
            match (&field.value, shape.unwrap_or(Shape::Bytes)) {
                (Value::Nest(fields), Shape::Nest(layout)) => {
                    let inner = fields.pairs(layout);
                    out.extend(
                        inner.into_iter().map(|(name, text)| (format!("{}.{name}", field.name), text)),
                    );
                }
                (value, shape) => out.push((field.name.to_string(), plain(shape, value))),
            }
        }
        out
    }

    /// `[{"tcm_ifindex":3},{"TCA_KIND":"bpf"}]`: an array, for the order matters and names may repeat.
    pub fn to_json(&self, layout: &Layout) -> Json {
        let field = |(field, shape): (&Field, Option<Shape>)| {
            let json = match (&field.value, shape.unwrap_or(Shape::Bytes)) {
                (Value::Nest(fields), Shape::Nest(layout)) => fields.to_json(layout),
                (Value::Number(number), Shape::U8 | Shape::U16 | Shape::U32) => json!(number),
                (value, shape) => json!(plain(shape, value)),
            };
            Json::Object(Map::from_iter([(field.name.to_string(), json)]))
        };
        self.shaped(layout).map(field).collect()
    }

    /// The reverse of [`Fields::to_json`].
    pub fn from_json(json: &Json, layout: &'static Layout) -> Result<Self, WireError> {
        let mut fields = Self::default();
        for json in json.as_array().ok_or_else(|| WireError::Unfit("fields".into()))? {
            let mut members = json.as_object().into_iter().flatten();
            let (Some((name, json)), None) = (members.next(), members.next()) else {
                return Err(WireError::Unfit("fields".into()));
            };
            let shape = layout.shape(name, fields.kind(layout));
            let shape = shape.ok_or_else(|| WireError::Unknown(name.clone()))?;
            let value = match (json, shape) {
                (Json::Array(_), Shape::Nest(layout)) => Some(Value::Nest(Self::from_json(json, layout)?)),
                (Json::Number(number), shape) if shape.width().is_some() => {
                    number.as_u64().and_then(|number| u32::try_from(number).ok()).map(Value::Number)
                }
                (Json::String(text), shape) => parse(shape, text),
                _ => None,
            };
            fields.push(name.clone(), value.ok_or_else(|| WireError::Unfit(name.clone()))?);
        }
        Ok(fields)
    }
}

impl Value {
    /// See [`Fields::text`].
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::Bytes(bytes) => {
                let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
                bytes.get(..end).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            }
            _ => None,
        }
    }
}

/// The text of a value, unquoted.
fn plain(shape: Shape, value: &Value) -> String {
    match (value, shape) {
        (Value::Number(n), Shape::Handle) => format!("{:x}:{:x}", n >> 16, n & 0xffff),
        (Value::Number(n), Shape::Info) => format!("prio:{},protocol:{:#06x}", n >> 16, ethertype(*n)),
        (Value::Number(n), Shape::Flags(names)) => flags(*n, names),
        (Value::Number(n), _) => n.to_string(),
        (Value::Text(text), _) if text.starts_with(HEX) => hex(HEX, &[text.as_bytes(), b"\0"].concat(), ""),
        (Value::Symbol(text) | Value::Text(text), _) => text.clone(),
        (Value::Ip(ip), _) => ip.to_string(),
        (Value::Bytes(bytes), Shape::Mac) if !bytes.is_empty() => hex("", bytes, ":"),
        (Value::Bytes(bytes), _) => hex(HEX, bytes, ""),
        (Value::Nest(_), _) => String::from("{}"),
    }
}

/// The reverse of [`plain`].
fn parse(shape: Shape, text: &str) -> Option<Value> {
    if let Some(digits) = text.strip_prefix(HEX) {
        return Some(value(shape, &unhex(digits)?, 0));
    }
    if shape.width().is_some() && text.starts_with('%') {
        return Some(Value::Symbol(text.into()));
    }
    match shape {
        Shape::Text | Shape::Kind => Some(Value::Text(text.into())),
        Shape::Ip => text.parse().ok().map(Value::Ip),
        Shape::Mac => unhex(&text.replace(':', "")).map(Value::Bytes),
        Shape::Handle => {
            let (major, minor) = text.split_once(':')?;
            let half = |text| u16::from_str_radix(text, 16).ok().map(u32::from);
            Some(Value::Number(half(major)? << 16 | half(minor)?))
        }
        Shape::Info => {
            let (prio, protocol) = text.strip_prefix("prio:")?.split_once(",protocol:0x")?;
            Some(Value::Number(info(prio.parse().ok()?, u16::from_str_radix(protocol, 16).ok()?)))
        }
        Shape::Flags(names) => parse_flags(text, names).map(Value::Number),
        _ => None,
    }
}

const HEX: &str = "hex:";

/// `tcm_info` of a filter: its priority and the ethertype (host order) it is for.
pub fn info(prio: u16, ethertype: u16) -> u32 {
    u32::from(prio) << 16 | u32::from(ethertype.to_be())
}

/// The ethertype in `tcm_info`, in host order.
pub fn ethertype(info: u32) -> u16 {
    let [_, _, low @ ..] = info.to_be_bytes();
    u16::from_be(u16::from_be_bytes(low))
}

/// Names of the bits set, the rest as a number: `NLM_F_REQUEST|NLM_F_ACK|0x80`; `0x0` for none.
pub(super) fn flags(number: u32, names: &[(u32, &str)]) -> String {
    let mut rest = number;
    let mut words = Vec::new();
    for (bit, name) in names {
        if *bit != 0 && rest & bit == *bit {
            rest &= !bit;
            words.push((*name).to_string());
        }
    }
    if rest != 0 || words.is_empty() {
        words.push(format!("{rest:#x}"));
    }
    words.join("|")
}

/// The reverse of [`flags`].
pub(super) fn parse_flags(text: &str, names: &[(u32, &str)]) -> Option<u32> {
    let bits = |word: &str| match word.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => names.iter().find(|(_, name)| *name == word).map(|(bits, _)| *bits),
    };
    text.split('|').try_fold(0, |all, word| Some(all | bits(word)?))
}

fn hex(prefix: &str, bytes: &[u8], between: &str) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{prefix}{}", digits.join(between))
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let nibble = |digit: &u8| char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => Some(nibble(high)? << 4 | nibble(low)?),
            _ => None,
        })
        .collect()
}
