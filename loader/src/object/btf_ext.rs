// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A `.BTF.ext` section to what it says about each instruction: its function, its C line, its CO-RE relocation.

use std::collections::BTreeMap;

use super::error::ObjectError;
use super::words::words;
use super::{FuncInfo, LineInfo};

/// Records by section name, each list by rising instruction of that section.
#[derive(Default)]
pub struct BtfExt<'a> {
    pub funcs: BTreeMap<&'a str, Vec<FuncInfo>>,
    pub lines: BTreeMap<&'a str, Vec<LineInfo>>,
    pub core: BTreeMap<&'a str, Vec<CoreRelocation>>,
}

/// `struct bpf_core_relo` (include/uapi/linux/bpf.h), with its place in instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoreRelocation {
    pub insn: u32,
    pub type_id: u32,
    pub access_off: u32,
    pub kind: u32,
}

impl<'a> BtfExt<'a> {
    /// `string` looks up an offset in the BTF strings, where the sections' names are.
    pub fn parse(bytes: &[u8], string: impl Fn(u32) -> Option<&'a str>) -> Result<BtfExt<'a>, ObjectError> {
        let [magic, hdr_len, func_off, func_len, line_off, line_len] = words(bytes).ok_or_else(cut_short)?;
        // Magic, version 1, flags 0.
        if magic != 0x0001_eb9f {
            return Err(fault("the header is not one of version 1, little-endian"));
        }
        let from_header_end = |offset: u32, length: u32| {
            let from = usize::try_from(hdr_len.checked_add(offset)?).ok()?;
            bytes.get(from..)?.get(..usize::try_from(length).ok()?)
        };
        let part =
            |offset, length| from_header_end(offset, length).ok_or_else(|| fault("a part lies outside"));
        let mut ext = BtfExt {
            funcs: records(part(func_off, func_len)?, &string, |[at, type_id]| FuncInfo {
                insn: at,
                type_id,
            })?,
            lines: records(part(line_off, line_len)?, &string, |[at, file_off, line_off, line_col]| {
                LineInfo { insn: at, file_off, line_off, line_col }
            })?,
            core: BTreeMap::new(),
        };
        if hdr_len >= 32 {
            let [core_off, core_len] = bytes.get(24..).and_then(words).ok_or_else(cut_short)?;
            ext.core = records(part(core_off, core_len)?, &string, |[at, type_id, access_off, kind]| {
                CoreRelocation { insn: at, type_id, access_off, kind }
            })?;
        }
        ext.funcs.values_mut().for_each(|list| list.sort_by_key(|r| r.insn));
        ext.lines.values_mut().for_each(|list| list.sort_by_key(|r| r.insn));
        ext.core.values_mut().for_each(|list| list.sort_by_key(|r| r.insn));
        Ok(ext)
    }
}

/// One part: the size of a record, then for each section its name, the number of records, the records.
///
/// Only the first `N` words of a record are looked at: a later format may add to its end. The first one is an offset in
/// bytes here and becomes one in instructions, as the kernel counts.
fn records<'a, const N: usize, T>(
    part: &[u8],
    string: impl Fn(u32) -> Option<&'a str>,
    make: impl Fn([u32; N]) -> T,
) -> Result<BTreeMap<&'a str, Vec<T>>, ObjectError> {
    let mut found: BTreeMap<&str, Vec<T>> = BTreeMap::new();
    let Some([size]) = words(part) else { return Ok(found) };
    let size = usize::try_from(size).ok().filter(|size| *size >= const { N * 4 });
    let size = size.ok_or_else(|| fault("a record is too small"))?;
    let mut rest = part.get(4..).unwrap_or_default();
    while !rest.is_empty() {
        let [name, count] = words(rest).ok_or_else(cut_short)?;
        let name = string(name).ok_or_else(|| fault("a section's name is not there"))?;
        let length = usize::try_from(count).ok().and_then(|n| n.checked_mul(size));
        let end = length.and_then(|n| n.checked_add(8)).ok_or_else(cut_short)?;
        let list = found.entry(name).or_default();
        for record in rest.get(8..end).ok_or_else(cut_short)?.chunks_exact(size) {
            let mut record: [u32; N] = words(record).ok_or_else(cut_short)?;
            let at = record.first_mut().ok_or_else(cut_short)?;
            if *at & 7 != 0 {
                return Err(fault("a record is about the middle of an instruction"));
            }
            *at >>= 3;
            list.push(make(record));
        }
        rest = rest.get(end..).unwrap_or_default();
    }
    Ok(found)
}

fn fault(what: &'static str) -> ObjectError {
    ObjectError::Section { section: ".BTF.ext".to_owned(), what }
}

fn cut_short() -> ObjectError {
    fault("is cut short")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `.BTF.ext` with one function record of the section `tc`, whose records have these words, in a header of this length.
    fn ext(header: u32, size: u32, record: &[u32]) -> Vec<u8> {
        let part = [&[size, 1, 1][..], record].concat();
        let length = part.len() as u32 * 4;
        let mut words = vec![0x0001_eb9f, header, 0, length, length, 0, 0, 0];
        words.resize(header as usize / 4, 0);
        words.extend(part);
        words.into_iter().flat_map(u32::to_le_bytes).collect()
    }

    fn funcs(bytes: &[u8]) -> Result<Vec<FuncInfo>, String> {
        let ext = BtfExt::parse(bytes, |offset| (offset == 1).then_some("tc")).map_err(|e| e.to_string())?;
        Ok(ext.funcs.get("tc").cloned().unwrap_or_default())
    }

    #[test]
    fn a_later_format_may_have_more_at_its_ends() {
        let one = Ok(vec![FuncInfo { insn: 2, type_id: 7 }]);
        assert_eq!(funcs(&ext(32, 8, &[16, 7])), one);
        assert_eq!(funcs(&ext(32, 16, &[16, 7, 8, 9])), one, "longer records");
        assert_eq!(funcs(&ext(48, 8, &[16, 7])), one, "a longer header");
        assert!(funcs(&ext(32, 4, &[16])).unwrap_err().contains("a record is too small"));
        assert!(funcs(&ext(32, 8, &[17, 7])).unwrap_err().contains("the middle of an instruction"));
        assert!(funcs(&ext(32, 16, &[16, 7])).unwrap_err().contains("is cut short"));
    }
}
