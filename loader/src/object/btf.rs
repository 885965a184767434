// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A `.BTF` section, or `/sys/kernel/btf/vmlinux`, to types that can be looked up, and back to the bytes BPF_BTF_LOAD takes.
//!
//! Documentation/bpf/btf.rst has the format. Types stay as bytes with an index of where each begins: cheap for the 150,000
//! types of a kernel, and what is loaded is what was read, but for the fix-ups.

use super::btf_type::{Kind, Type};
use super::error::ObjectError;
use super::words::words;

/// Types and strings. Type ids count from 1; 0 is `void`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Btf {
    types: Vec<u8>,
    strings: Vec<u8>,
    /// Where type id 1, 2, … begins in `types`.
    starts: Vec<u32>,
    /// `struct btf_layout` of each kind, where the file has them: bytes behind a type, bytes for each of its parts.
    layout: Vec<[u8; 4]>,
}

impl Btf {
    /// Reads a whole BTF blob.
    ///
    /// ```
    /// use detour::object::{Btf, Kind};
    ///
    /// let btf = Btf::parse(&std::fs::read("/sys/kernel/btf/vmlinux")?)?;
    /// let insn = btf.find(Kind::Struct, "bpf_insn").expect("every kernel has it");
    /// assert_eq!(btf.size_of(insn.id), Some(8));
    /// assert_eq!(insn.members().next().map(|member| member.name), Some("code"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// A damaged or big-endian blob, or a kind of type that this loader does not know.
    pub fn parse(bytes: &[u8]) -> Result<Btf, ObjectError> {
        let header = Header::parse(bytes)?;
        let types =
            header.part(bytes, header.type_off, header.type_len).ok_or(blob("the types lie outside"))?;
        let strings =
            header.part(bytes, header.str_off, header.str_len).ok_or(blob("the strings lie outside"))?;
        if strings.first() != Some(&0) || strings.last() != Some(&0) {
            return Err(blob("the strings do not begin and end with NUL"));
        }
        let layout = header.layout(bytes).ok_or(blob("the sizes of kinds lie outside"))?;
        Btf::with_layout(types.to_vec(), strings.to_vec(), layout)
    }

    /// Types as they lie in memory, and the strings that they name by offset.
    #[cfg(feature = "compat")]
    pub(crate) fn from_parts(types: Vec<u8>, strings: Vec<u8>) -> Result<Btf, ObjectError> {
        Btf::with_layout(types, strings, Vec::new())
    }

    fn with_layout(types: Vec<u8>, strings: Vec<u8>, layout: Vec<[u8; 4]>) -> Result<Btf, ObjectError> {
        let mut btf = Btf { types, strings, starts: Vec::new(), layout };
        btf.starts = btf.index()?;
        Ok(btf)
    }

    /// The bytes for BPF_BTF_LOAD: header, types, strings.
    pub fn image(&self) -> Vec<u8> {
        self.whole(&self.types)
    }

    /// The same with other types.
    #[cfg(feature = "compat")]
    pub(crate) fn image_of(&self, words: &[u32]) -> Vec<u8> {
        self.whole(&words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>())
    }

    fn whole(&self, types: &[u8]) -> Vec<u8> {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let (type_len, str_len) = (length(types), length(&self.strings));
        let header = [HEADER_LEN, 0, type_len, type_len, str_len];
        let mut image = Vec::new();
        image.extend(MAGIC.to_le_bytes());
        image.extend([VERSION, 0]);
        image.extend(header.iter().flat_map(|word| word.to_le_bytes()));
        image.extend_from_slice(types);
        image.extend_from_slice(&self.strings);
        image
    }

    /// The type with this id; `None` for `void` and for ids that do not exist.
    pub fn get(&self, id: u32) -> Option<Type<'_>> {
        let start = usize::try_from(*self.starts.get(usize::try_from(id).ok()?.checked_sub(1)?)?).ok()?;
        Type::decode(self, id, self.types.get(start..)?)
    }

    /// All types in the order of their ids.
    pub fn types(&self) -> impl Iterator<Item = Type<'_>> {
        (1u32..).map_while(|id| self.get(id))
    }

    /// The first type of this kind and name.
    pub fn find(&self, kind: Kind, name: &str) -> Option<Type<'_>> {
        self.types().find(|t| t.kind == kind && t.name() == name)
    }

    /// The string at an offset, without its NUL: names are UTF-8 in practice, source lines may be anything.
    pub fn string(&self, offset: u32) -> Option<&[u8]> {
        let rest = self.strings.get(usize::try_from(offset).ok()?..)?;
        rest.get(..rest.iter().position(|b| *b == 0)?)
    }

    /// The type behind typedefs, qualifiers and type tags; `None` for `void`.
    pub fn strip(&self, id: u32) -> Option<Type<'_>> {
        let mut found = self.get(id)?;
        for _ in 0..MAX_DEPTH {
            if !found.kind.is_alias() {
                return Some(found);
            }
            found = self.get(found.type_id())?;
        }
        None
    }

    /// `sizeof` in bytes; `None` for what has no size.
    pub fn size_of(&self, id: u32) -> Option<u32> {
        let (mut id, mut count) = (id, 1u32);
        for _ in 0..MAX_DEPTH {
            let found = self.get(id)?;
            let size = match found.kind {
                Kind::Ptr => 8,
                Kind::Array => {
                    let array = found.array()?;
                    (id, count) = (array.element, count.checked_mul(array.count)?);
                    continue;
                }
                Kind::Var => {
                    id = found.type_id();
                    continue;
                }
                kind if kind.is_alias() => {
                    id = found.type_id();
                    continue;
                }
                kind if kind.has_size() => found.size(),
                _ => return None,
            };
            return size.checked_mul(count);
        }
        None
    }

    /// A type as C writes it: `struct key4`, `__u32`, `char[16]`, `struct x *`.
    pub fn describe(&self, id: u32) -> String {
        let (mut id, mut suffix) = (id, String::new());
        for _ in 0..MAX_DEPTH {
            let Some(found) = self.get(id) else { return format!("void{suffix}") };
            let name = found.name();
            let word = match found.kind {
                Kind::Ptr => {
                    suffix.insert_str(0, " *");
                    id = found.type_id();
                    continue;
                }
                Kind::Array => {
                    let Some(array) = found.array() else { break };
                    suffix.push_str(&format!("[{}]", array.count));
                    id = array.element;
                    continue;
                }
                Kind::Volatile | Kind::Const | Kind::Restrict | Kind::TypeTag => {
                    id = found.type_id();
                    continue;
                }
                Kind::Union => "union ",
                Kind::Fwd if found.kind_flag() => "union ",
                Kind::Struct | Kind::Fwd => "struct ",
                Kind::Enum | Kind::Enum64 => "enum ",
                Kind::FuncProto => "function",
                _ => "",
            };
            return format!("{word}{name}{suffix}");
        }
        format!("?{suffix}")
    }

    /// Bytes behind the common words of a type whose kind only the file knows.
    pub(super) fn layout(&self, kind: u32, vlen: usize) -> Option<usize> {
        let [fixed, each, ..] = self.layout.get(usize::try_from(kind).ok()?)?;
        usize::from(*each).checked_mul(vlen)?.checked_add(usize::from(*fixed)).filter(|bytes| bytes % 4 == 0)
    }

    /// Overwrites a word of a type: `word` counts from the type's own first word (its name).
    pub(crate) fn patch(&mut self, id: u32, word: usize, value: u32) -> Option<()> {
        let start = usize::try_from(*self.starts.get(usize::try_from(id).ok()?.checked_sub(1)?)?).ok()?;
        let from = start.checked_add(word.checked_mul(4)?)?;
        self.types.get_mut(from..from.checked_add(4)?)?.copy_from_slice(&value.to_le_bytes());
        Some(())
    }

    /// Adds a string and returns its offset.
    pub(crate) fn add_string(&mut self, text: &str) -> Option<u32> {
        let offset = u32::try_from(self.strings.len()).ok()?;
        self.strings.extend_from_slice(text.as_bytes());
        self.strings.push(0);
        Some(offset)
    }

    /// Adds a type, word for word, and returns its id.
    pub(crate) fn add_type(&mut self, words: &[u32]) -> Option<u32> {
        let start = u32::try_from(self.types.len()).ok()?;
        self.types.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        self.starts.push(start);
        u32::try_from(self.starts.len()).ok()
    }

    /// Walks all types once: each must be of a known kind, lie inside, and have a name that exists.
    fn index(&self) -> Result<Vec<u32>, ObjectError> {
        let (mut starts, mut at) = (Vec::new(), 0usize);
        while at < self.types.len() {
            let id = u32::try_from(starts.len()).unwrap_or(u32::MAX).saturating_add(1);
            let fault = |what| ObjectError::Btf { type_id: id, what };
            let rest = self.types.get(at..).unwrap_or_default();
            let found = Type::decode(self, id, rest).ok_or(fault("is cut short or of an unknown kind"))?;
            if usize::try_from(found.name_off).map_or(true, |name| name >= self.strings.len()) {
                return Err(fault("has a name outside the strings"));
            }
            starts.push(u32::try_from(at).map_err(|_| fault("lies too far"))?);
            at = at.saturating_add(found.len());
        }
        Ok(starts)
    }
}

/// `struct btf_header` (include/uapi/linux/btf.h); offsets count from its end.
struct Header {
    hdr_len: u32,
    type_off: u32,
    type_len: u32,
    str_off: u32,
    str_len: u32,
}

impl Header {
    fn parse(bytes: &[u8]) -> Result<Header, ObjectError> {
        let [m0, m1, version, _flags, rest @ ..] =
            bytes.first_chunk::<24>().ok_or(blob("the header is cut short"))?;
        match u16::from_le_bytes([*m0, *m1]) {
            MAGIC => {}
            magic if magic == MAGIC.swap_bytes() => return Err(blob("is big-endian")),
            _ => return Err(blob("the magic number is wrong")),
        }
        if *version != VERSION {
            return Err(blob("is of an unknown version"));
        }
        let mut words = rest.chunks_exact(4).map(|w| w.try_into().map_or(0, u32::from_le_bytes));
        let mut next = || words.next().unwrap_or(0);
        Ok(Header { hdr_len: next(), type_off: next(), type_len: next(), str_off: next(), str_len: next() })
    }

    /// Later headers name one part more, of `struct btf_layout { u8 info_sz, elem_sz; u16 flags; }` for each kind.
    fn layout(&self, bytes: &[u8]) -> Option<Vec<[u8; 4]>> {
        if self.hdr_len < LAYOUT_HEADER_LEN {
            return Some(Vec::new());
        }
        let [offset, length] = words(bytes.get(usize::try_from(HEADER_LEN).ok()?..)?)?;
        let kinds = self.part(bytes, offset, length)?.chunks_exact(4).take(MAX_KINDS);
        Some(kinds.filter_map(|kind| kind.try_into().ok()).collect())
    }

    fn part<'a>(&self, bytes: &'a [u8], offset: u32, length: u32) -> Option<&'a [u8]> {
        let from = self.hdr_len.max(HEADER_LEN).checked_add(offset)?;
        let to = from.checked_add(length)?;
        bytes.get(usize::try_from(from).ok()?..usize::try_from(to).ok()?)
    }
}

fn blob(what: &'static str) -> ObjectError {
    ObjectError::Btf { type_id: 0, what }
}

const MAGIC: u16 = 0xeb9f;
const VERSION: u8 = 1;
const HEADER_LEN: u32 = 24;
const LAYOUT_HEADER_LEN: u32 = 32;
/// As many as fit the five bits of a type's kind.
const MAX_KINDS: usize = 32;
/// As in the kernel's `MAX_RESOLVE_DEPTH` (kernel/bpf/btf.c).
const MAX_DEPTH: usize = 32;
