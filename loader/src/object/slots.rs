// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Relocations in `.maps` to the static slots of maps of maps and program arrays.

use super::elf::{Elf, Place, Relocation, Role, SymbolKind};
use super::error::ObjectError;
use super::maps::Definition;
use super::Slot;

/// Fills in the slots of all definitions.
pub fn fill(elf: &Elf<'_>, definitions: &mut [Definition]) -> Result<(), ObjectError> {
    let Some((index, section)) = elf.section(".maps") else { return Ok(()) };
    for relocation in &section.relocations {
        let symbol = elf.symbol(relocation);
        let fault = |what| ObjectError::Relocation {
            section: ".maps".to_owned(),
            offset: relocation.offset,
            kind: relocation.kind,
            symbol: symbol.map_or("?", |s| s.name).to_owned(),
            what,
        };
        // Before LLVM 13 an address in data was an R_BPF_64_64 too.
        if !matches!(relocation.kind, R_BPF_64_64 | R_BPF_64_ABS64 | R_BPF_DATA_64) {
            return Err(fault("is unknown here"));
        }
        let symbol = symbol.ok_or_else(|| fault("the symbol does not exist"))?;
        let slot = match symbol.place {
            _ if symbol.kind == SymbolKind::Section => {
                return Err(fault("a static map or function has no name to go by"))
            }
            Place::Section(place) if place == index => {
                let named = definitions.iter().find(|d| (d.section, d.offset) == (index, symbol.value));
                Slot::Map(named.ok_or_else(|| fault("is not a map definition"))?.spec.name.clone())
            }
            Place::Section(place) if elf.sections.get(place).is_some_and(|s| s.role == Role::Code) => {
                Slot::Program(symbol.name.to_owned())
            }
            _ => return Err(fault("is neither a map nor a program of this object")),
        };
        place(definitions.iter_mut().filter(|d| d.section == index), relocation, slot).map_err(fault)?;
    }
    Ok(())
}

/// Puts what a slot holds into the definition that the relocation lies in.
fn place<'a>(
    mut definitions: impl Iterator<Item = &'a mut Definition>,
    relocation: &Relocation,
    slot: Slot,
) -> Result<(), &'static str> {
    let inside = |d: &&mut Definition| (d.offset..d.end).contains(&relocation.offset);
    let definition = definitions.find(inside).ok_or("lies in no map definition")?;
    let from =
        definition.slots.and_then(|slots| relocation.offset.checked_sub(slots)).ok_or("lies in no slot")?;
    if from & 7 != 0 {
        return Err("lies between two slots");
    }
    if definition.spec.key_size != 4 {
        return Err("is in a slot with a number, of which the key is: it has 4 bytes");
    }
    if definition.spec.inner.is_some() != matches!(slot, Slot::Map(_)) {
        return Err("does not suit this type of map");
    }
    let index = u32::try_from(from >> 3).ok().filter(|index| *index < definition.spec.max_entries);
    definition.spec.slots.push((index.ok_or("lies beyond max_entries")?, slot));
    Ok(())
}

const R_BPF_64_64: u32 = 1;
const R_BPF_64_ABS64: u32 = 2;
/// What GNU binutils before 2.41 called an address in data.
const R_BPF_DATA_64: u32 = 12;
