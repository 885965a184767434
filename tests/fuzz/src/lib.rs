// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What every fuzz target shares: the bound on memory, and a section put into an object.

pub mod uses;

/// Runs one input. What is allocated at a time, all together, stays below 64 bytes for each byte of input, and a little
/// for what even an empty input costs.
pub fn bounded(input: usize, run: impl FnOnce()) {
    let used = allocation_counter::measure(run).bytes_max;
    let most = (input as u64).saturating_mul(64).saturating_add(FLOOR);
    assert!(used <= most, "{used} bytes at a time for {input} bytes of input");
}

/// Tables of fixed size, error texts.
const FLOOR: u64 = 64 << 10;

/// The object with other bytes in a section: they are put at its end, and the section's header says so.
pub fn with_section(object: &[u8], index: usize, data: &[u8]) -> Vec<u8> {
    let mut bytes = object.to_vec();
    let table = word(object, 0x28).expect("an ELF64 header");
    let header = table + index * 64;
    let place = (bytes.len() as u64).to_le_bytes();
    bytes[header + 24..header + 32].copy_from_slice(&place);
    bytes[header + 32..header + 40].copy_from_slice(&(data.len() as u64).to_le_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// Index and bytes of the section of this name.
pub fn section<'a>(object: &'a [u8], name: &str) -> Option<(usize, &'a [u8])> {
    let table = word(object, 0x28)?;
    let count = usize::from(u16::from_le_bytes(object.get(0x3c..0x3e)?.try_into().ok()?));
    let names = usize::from(u16::from_le_bytes(object.get(0x3e..0x40)?.try_into().ok()?));
    let data = |index: usize| {
        let header = object.get(table + index * 64..)?;
        object.get(word(header, 24)?..)?.get(..word(header, 32)?)
    };
    let texts = data(names)?;
    (0..count).find_map(|index| {
        let at = u32::from_le_bytes(object.get(table + index * 64..)?.get(..4)?.try_into().ok()?);
        let text = texts.get(at as usize..)?.split(|b| *b == 0).next()?;
        (text == name.as_bytes()).then(|| data(index).map(|bytes| (index, bytes)))?
    })
}

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u64::from_le_bytes(bytes.get(at..)?.get(..8)?.try_into().ok()?)).ok()
}
