// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The bytes of one BTF type to its kind, name, size and parts.

use super::btf::Btf;
use super::words::words;

/// `BTF_KIND_…` (include/uapi/linux/btf.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Kind {
    /// A later one, whose size the BTF itself tells.
    Unknown = 0,
    Int = 1,
    Ptr = 2,
    Array = 3,
    Struct = 4,
    Union = 5,
    Enum = 6,
    Fwd = 7,
    Typedef = 8,
    Volatile = 9,
    Const = 10,
    Restrict = 11,
    Func = 12,
    FuncProto = 13,
    Var = 14,
    Datasec = 15,
    Float = 16,
    DeclTag = 17,
    TypeTag = 18,
    Enum64 = 19,
}

impl Kind {
    /// From the second word of a type.
    pub(crate) fn from_info(info: u32) -> Option<Kind> {
        const ALL: [Kind; 19] = [
            Kind::Int,
            Kind::Ptr,
            Kind::Array,
            Kind::Struct,
            Kind::Union,
            Kind::Enum,
            Kind::Fwd,
            Kind::Typedef,
            Kind::Volatile,
            Kind::Const,
            Kind::Restrict,
            Kind::Func,
            Kind::FuncProto,
            Kind::Var,
            Kind::Datasec,
            Kind::Float,
            Kind::DeclTag,
            Kind::TypeTag,
            Kind::Enum64,
        ];
        let number = usize::try_from(info >> 24 & 31).ok()?;
        ALL.get(number.checked_sub(1)?).copied()
    }

    /// Another name or a qualifier for the type it refers to.
    pub fn is_alias(self) -> bool {
        use Kind::{Const, Restrict, TypeTag, Typedef, Volatile};
        matches!(self, Typedef | Volatile | Const | Restrict | TypeTag)
    }

    /// Whether the third word is a size and not a type id.
    pub fn has_size(self) -> bool {
        use Kind::{Datasec, Enum, Enum64, Float, Int, Struct, Union};
        matches!(self, Int | Struct | Union | Enum | Enum64 | Float | Datasec)
    }

    /// Words after the common three: some fixed ones, or some for each of `vlen` parts.
    pub(crate) fn extra_words(self, vlen: usize) -> Option<usize> {
        let (fixed, each) = match self {
            Kind::Int | Kind::Var | Kind::DeclTag => (1, 0),
            Kind::Array => (3, 0),
            Kind::Struct | Kind::Union | Kind::Datasec | Kind::Enum64 => (0, 3),
            Kind::Enum | Kind::FuncProto => (0, 2),
            _ => (0, 0),
        };
        vlen.checked_mul(each)?.checked_add(fixed)
    }
}

/// One type, still in its bytes.
#[derive(Clone, Copy)]
pub struct Type<'a> {
    btf: &'a Btf,
    /// Counts from 1.
    pub id: u32,
    /// What sort of type.
    pub kind: Kind,
    pub(super) name_off: u32,
    info: u32,
    size_or_type: u32,
    extra: &'a [u8],
}

/// `struct btf_array`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Array {
    /// Type id of an element.
    pub element: u32,
    /// Number of elements.
    pub count: u32,
}

/// `struct btf_member`, of a struct or union.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// Empty for an anonymous struct or union.
    pub name: &'a str,
    /// Its type.
    pub type_id: u32,
    /// From the start of the struct, in bits.
    pub bit_offset: u32,
    /// In bits; 0 when it is no bit-field.
    pub bits: u32,
}

/// `struct btf_var_secinfo`: a variable of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Id of the VAR.
    pub var: u32,
    /// From the section's start, in bytes.
    pub offset: u32,
    /// In bytes.
    pub size: u32,
}

/// `struct btf_param`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param<'a> {
    /// Empty when the prototype names none.
    pub name: &'a str,
    /// Its type; 0 as the last one stands for `...`.
    pub type_id: u32,
}

/// How an INT is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntEncoding {
    /// Two's complement.
    pub signed: bool,
    /// A character.
    pub character: bool,
    /// `_Bool`.
    pub boolean: bool,
    /// Width; a plain integer's is eight times its size.
    pub bits: u32,
    /// From the start of its bytes, in bits; only old compilers' bit-fields have one.
    pub shift: u32,
}

impl<'a> Type<'a> {
    pub(super) fn decode(btf: &'a Btf, id: u32, bytes: &'a [u8]) -> Option<Type<'a>> {
        let [name_off, info, size_or_type] = words(bytes)?;
        let vlen = usize::try_from(info & 0xffff).ok()?;
        let (kind, extra) = match Kind::from_info(info) {
            Some(kind) => (kind, kind.extra_words(vlen)?.checked_mul(4)?),
            None => (Kind::Unknown, btf.layout(info >> 24 & 31, vlen)?),
        };
        let extra = bytes.get(COMMON..COMMON.checked_add(extra)?)?;
        Some(Type { btf, id, kind, name_off, info, size_or_type, extra })
    }

    /// The type as it lies in its section.
    #[cfg(feature = "compat")]
    pub(super) fn words(&self) -> Vec<u32> {
        let extra = self.extra.chunks_exact(4).filter_map(|w| w.try_into().ok()).map(u32::from_le_bytes);
        [self.name_off, self.info, self.size_or_type].into_iter().chain(extra).collect()
    }

    /// Bytes this type takes in its section.
    pub(super) fn len(&self) -> usize {
        self.extra.len().saturating_add(COMMON)
    }

    /// Empty when it has none.
    pub fn name(&self) -> &'a str {
        name(self.btf, self.name_off)
    }

    /// In bytes; 0 for kinds without a size.
    pub fn size(&self) -> u32 {
        if self.kind.has_size() {
            self.size_or_type
        } else {
            0
        }
    }

    /// What it refers to: pointee, aliased type, a variable's or function's type; 0 (`void`) for kinds that refer to none.
    pub fn type_id(&self) -> u32 {
        if self.kind.has_size() {
            0
        } else {
            self.size_or_type
        }
    }

    /// The top bit of `info`: signed enum, union forward, struct with bit-fields.
    pub fn kind_flag(&self) -> bool {
        self.info >> 31 == 1
    }

    /// A FUNC's or VAR's linkage: 0 static, 1 global, 2 extern.
    pub fn linkage(&self) -> u32 {
        match self.kind {
            Kind::Func => self.info & 0xffff,
            Kind::Var => words(self.extra).map_or(0, |[linkage]| linkage),
            _ => 0,
        }
    }

    /// What a DECL_TAG is about: a member or parameter by its index, or `None` for the whole.
    pub fn component(&self) -> Option<u32> {
        let [index] = words(self.extra)?;
        (self.kind == Kind::DeclTag && index != u32::MAX).then_some(index)
    }

    /// An ARRAY's element and length.
    pub fn array(&self) -> Option<Array> {
        let [element, _index, count] = words(self.extra)?;
        (self.kind == Kind::Array).then_some(Array { element, count })
    }

    /// An INT's encoding.
    pub fn int(&self) -> Option<IntEncoding> {
        let [word] = words(self.extra)?;
        let flag = |bit: u32| word >> 24 & bit != 0;
        (self.kind == Kind::Int).then_some(IntEncoding {
            signed: flag(1),
            character: flag(2),
            boolean: flag(4),
            bits: word & 0xff,
            shift: word >> 16 & 0xff,
        })
    }

    /// The members of a struct or union; nothing for other kinds.
    pub fn members(&self) -> impl Iterator<Item = Member<'a>> + 'a {
        let (btf, has_bits) = (self.btf, self.kind_flag());
        self.parts([Kind::Struct, Kind::Union]).map(move |[name_off, type_id, offset]| {
            let (bit_offset, bits) = if has_bits { (offset & 0xff_ffff, offset >> 24) } else { (offset, 0) };
            Member { name: name(btf, name_off), type_id, bit_offset, bits }
        })
    }

    /// The names and values of an enum, wide enough for any.
    pub fn enumerators(&self) -> impl Iterator<Item = (&'a str, i128)> + 'a {
        let (btf, signed) = (self.btf, self.kind_flag());
        let narrow = self.parts([Kind::Enum, Kind::Enum]).map(move |[name_off, value]| {
            let value = if signed { i128::from(value as i32) } else { i128::from(value) };
            (name(btf, name_off), value)
        });
        let wide = self.parts([Kind::Enum64, Kind::Enum64]).map(move |[name_off, low, high]| {
            let value = u64::from(high) << 32 | u64::from(low);
            let value = if signed { i128::from(value as i64) } else { i128::from(value) };
            (name(btf, name_off), value)
        });
        narrow.chain(wide)
    }

    /// A FUNC_PROTO's parameters.
    pub fn params(&self) -> impl Iterator<Item = Param<'a>> + 'a {
        let btf = self.btf;
        self.parts([Kind::FuncProto, Kind::FuncProto])
            .map(move |[name_off, type_id]| Param { name: name(btf, name_off), type_id })
    }

    /// A DATASEC's variables.
    pub fn placed(&self) -> impl Iterator<Item = Placed> + 'a {
        self.parts([Kind::Datasec, Kind::Datasec]).map(|[var, offset, size]| Placed { var, offset, size })
    }

    /// The records of `N` words that follow, if this type is of one of the kinds.
    fn parts<const N: usize>(&self, kinds: [Kind; 2]) -> impl Iterator<Item = [u32; N]> + 'a {
        let bytes = if kinds.contains(&self.kind) { self.extra } else { &[] };
        bytes.chunks_exact(const { N * 4 }).filter_map(words)
    }
}

fn name(btf: &Btf, offset: u32) -> &str {
    btf.string(offset).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
}

/// Bytes of `struct btf_type`.
const COMMON: usize = 12;
