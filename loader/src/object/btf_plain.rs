// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Types to types for a kernel that does not know all kinds: those that came after Linux 5.10 give way to older ones of the
//! same size, and every id stays.
//!
//! FLOAT is of 5.13, DECL_TAG of 5.16, TYPE_TAG of 5.17, ENUM64 and signed ENUM of 6.0. What programs and maps do does not
//! depend on them, except on a TYPE_TAG that marks a pointer into the kernel, which such a kernel does not have either.
//! Linux 5.10 also refuses a DATASEC without variables ("vlen == 0"), which clang writes for constants without a name.

use super::btf::Btf;
use super::btf_type::{Kind, Type};

impl Btf {
    /// The bytes for BPF_BTF_LOAD without newer kinds, or `None` where there are none.
    pub fn plain_image(&self) -> Option<Vec<u8>> {
        if !self.types().any(|t| is_newer(&t)) {
            return None;
        }
        let count = u32::try_from(self.types().count()).ok()?;
        let placeholder = count.checked_add(1)?;
        let mut words: Vec<u32> = Vec::new();
        for found in self.types() {
            words.extend(plain(&found, placeholder)?);
        }
        // What the members of a union have for a type that was a wide enumeration.
        let mut strings = self.clone();
        let name = strings.add_string("wide_enumerator")?;
        words.extend([name, info(Kind::Int, 0), 1, BYTE]);
        Some(strings.image_of(&words))
    }
}

fn is_newer(found: &Type<'_>) -> bool {
    let signed = found.kind == Kind::Enum && found.kind_flag();
    signed
        || is_empty(found)
        || matches!(found.kind, Kind::Float | Kind::DeclTag | Kind::TypeTag | Kind::Enum64 | Kind::Unknown)
}

fn is_empty(found: &Type<'_>) -> bool {
    found.kind == Kind::Datasec && found.placed().next().is_none()
}

/// The words of the type that takes its place.
fn plain(found: &Type<'_>, placeholder: u32) -> Option<Vec<u32>> {
    let mut words = found.words();
    let parts = words.get(3..)?.chunks_exact(3);
    let vlen = words.get(1)? & 0xffff;
    Some(match found.kind {
        Kind::Float => vec![0, info(Kind::Struct, 0), found.size()],
        // No map has it as its type (data.rs).
        Kind::Datasec if is_empty(found) => vec![0, info(Kind::Struct, 0), found.size()],
        // A tag's name may be any text, and that of an INT too.
        Kind::DeclTag => vec![found.name_off, info(Kind::Int, 0), 1, BYTE],
        Kind::TypeTag => vec![0, info(Kind::Const, 0), found.type_id()],
        Kind::Enum64 => {
            let members = parts.filter_map(|part| Some([*part.first()?, placeholder, 0]));
            let head = [found.name_off, info(Kind::Union, vlen), found.size()];
            head.into_iter().chain(members.flatten()).collect()
        }
        Kind::Enum => {
            *words.get_mut(1)? &= !KIND_FLAG;
            words
        }
        Kind::Unknown => vec![0, info(Kind::Int, 0), 1, BYTE],
        _ => words,
    })
}

fn info(kind: Kind, vlen: u32) -> u32 {
    (kind as u32) << 24 | vlen
}

const KIND_FLAG: u32 = 1 << 31;
/// An INT of eight bits, from bit 0, unsigned.
const BYTE: u32 = 8;
