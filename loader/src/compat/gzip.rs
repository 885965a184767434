// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A gzip file (RFC 1952) to what is in it.

use miniz_oxide::inflate::decompress_to_vec_with_limit;

/// The first member of the file.
pub fn gunzip(bytes: &[u8]) -> Result<Vec<u8>, &'static str> {
    let Some(([0x1f, 0x8b, 8, flags, ..], mut rest)) = bytes.split_first_chunk::<10>() else {
        return Err("it is not gzip");
    };
    if flags & EXTRA != 0 {
        let (length, after) = rest.split_first_chunk::<2>().ok_or(CUT_SHORT)?;
        rest = after.get(usize::from(u16::from_le_bytes(*length))..).ok_or(CUT_SHORT)?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let end = rest.iter().position(|b| *b == 0).ok_or(CUT_SHORT)?;
            rest = rest.get(end.saturating_add(1)..).ok_or(CUT_SHORT)?;
        }
    }
    if flags & CHECKSUM != 0 {
        rest = rest.get(2..).ok_or(CUT_SHORT)?;
    }
    decompress_to_vec_with_limit(rest, MOST).map_err(|_| "the compressed data are damaged, or too many")
}

const CHECKSUM: u8 = 2;
const EXTRA: u8 = 4;
const NAME: u8 = 8;
const COMMENT: u8 = 16;
const CUT_SHORT: &str = "it is cut short";
/// A kernel's configuration is a few hundred KiB.
const MOST: usize = 4 << 20;
