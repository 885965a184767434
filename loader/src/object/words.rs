// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Bytes to little-endian words.

/// The first `N` words of 32 bits; `None` when there are fewer bytes.
pub fn words<const N: usize>(bytes: &[u8]) -> Option<[u32; N]> {
    let mut words = [0; N];
    for (word, chunk) in words.iter_mut().zip(bytes.get(..const { N * 4 })?.chunks_exact(4)) {
        *word = u32::from_le_bytes(chunk.try_into().ok()?);
    }
    Some(words)
}
