// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A flow's key -> the key of its element in `idx4` or `idx6`, as ebpf-src/index.h makes it.

use super::abi::{Key6, Secret};
use super::wire::Shared;

/// IPv4: as it is. IPv6: its hash, with the instance's `secret`.
pub fn index(key: &[u8], secret: &Secret) -> Vec<u8> {
    match key.len() {
        Key6::SIZE => hash(key, &secret.words).to_ne_bytes().to_vec(),
        _ => key.to_vec(),
    }
}

/// Two hashes of 32 bits, each with its half of the words.
fn hash(key: &[u8], words: &[u64]) -> u64 {
    let (high, low) = words.split_at(words.len().div_ceil(2));
    (half(key, high) & !0xffff_ffff) | half(key, low) >> 32
}

/// MULTILINEAR-HM: a constant, and the products of two words each, to both of which a part of the key is added.
fn half(key: &[u8], words: &[u64]) -> u64 {
    let parts: Vec<u64> = key.chunks_exact(4).filter_map(u32::read).map(u64::from).collect();
    let Some((constant, factors)) = words.split_first() else { return 0 };
    let pairs = parts.chunks_exact(2).zip(factors.chunks_exact(2));
    pairs.fold(*constant, |sum, (parts, factors)| {
        let factor = |n: usize| {
            let [part, factor] = [parts, factors].map(|of| of.get(n).copied().unwrap_or(0));
            part.wrapping_add(factor)
        };
        sum.wrapping_add(factor(0).wrapping_mul(factor(1)))
    })
}

#[cfg(test)]
mod tests {
    use super::super::abi::Key4;
    use super::*;

    #[test]
    fn ipv4_as_it_is() {
        let key = Key4 { proto: 6, ..Key4::default() }.to_bytes();
        assert_eq!(index(&key, &Secret::default()), key);
    }

    #[test]
    fn ipv6_by_arithmetic() {
        let mut secret = Secret::default();
        let mut key = vec![0; 40];
        key[0] = 3;
        // (2^40 + 3) * 2^30 has 3 * 2^30 in its low half, and 2^70 falls off; with the constant the high half is 1 + 7.
        secret.words[0] = (7 << 32) + (1 << 30);
        secret.words[1] = 1 << 40;
        secret.words[2] = 1 << 30;
        // The other half: 5 from the constant, and 3 * 2^33.
        secret.words[11] = 5 << 32;
        secret.words[13] = 1 << 33;
        assert_eq!(index(&key, &secret), ((8_u64 << 32) | (5 + 6)).to_ne_bytes());
        // The last part of the key goes with the last words.
        key = vec![0; 40];
        key[36] = 1;
        secret = Secret::default();
        secret.words[9] = 1 << 32;
        secret.words[20] = 2 << 32;
        assert_eq!(index(&key, &secret), ((1_u64 << 32) | 2).to_ne_bytes());
    }
}
