//! A block's key as two numbers, in the order of its bytes, and what readers of the slab know it by.

use std::hash::BuildHasher;

use weft_types::IndexKey;

#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Key {
    pub(crate) high: u64,
    pub(crate) low: u64,
}

/// 64 bits of a key, which two keys have in common once in 2⁶⁴: its second half, changed by a sum over the first. Together
/// with the first half it gives the key again.
///
/// Whoever reports blocks can choose their keys, but cannot choose two of one print: the sum is secret.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Print(u64);

/// What the prints of one index depend on. No answer does: it decides only what cannot be told apart, once in 2⁶⁴.
pub(crate) struct Secret {
    add: u64,
    factor: u64,
}

impl Print {
    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    pub(crate) const fn to_bits(self) -> u64 {
        self.0
    }
}

impl Secret {
    pub(crate) fn new() -> Self {
        // The seed that hash tables get against keys that were chosen to collide: of this process, and of this hasher.
        let hasher = hashbrown::DefaultHashBuilder::default();
        Self { add: hasher.hash_one(0_u8), factor: hasher.hash_one(1_u8) | 1 }
    }

    #[inline]
    pub(crate) fn print(&self, key: Key) -> Print {
        Print(key.low ^ self.sum(key.high))
    }

    /// The key that has this first half and this print.
    #[inline]
    pub(crate) fn key(&self, high: u64, print: Print) -> Key {
        Key { high, low: print.0 ^ self.sum(high) }
    }

    #[inline]
    fn sum(&self, high: u64) -> u64 {
        let product = u128::from(high ^ self.add) * u128::from(self.factor);
        (product >> 64) as u64 ^ product as u64
    }
}

impl From<IndexKey> for Key {
    #[inline]
    fn from(key: IndexKey) -> Self {
        let (high, low) = key.as_bytes().split_first_chunk::<8>().expect("16 bytes begin with 8");
        let low = low.first_chunk::<8>().expect("16 bytes end in 8");
        Self { high: u64::from_be_bytes(*high), low: u64::from_be_bytes(*low) }
    }
}

impl From<Key> for IndexKey {
    fn from(key: Key) -> Self {
        let mut bytes = [0; IndexKey::LEN];
        bytes[..8].copy_from_slice(&key.high.to_be_bytes());
        bytes[8..].copy_from_slice(&key.low.to_be_bytes());
        Self::from_bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_from_its_print_and_its_first_half() {
        let secret = Secret::new();
        for key in [Key { high: 0, low: 0 }, Key { high: 7, low: u64::MAX }, Key { high: u64::MAX, low: 7 }] {
            assert_eq!(secret.key(key.high, secret.print(key)), key);
        }
    }

    #[test]
    fn a_print_depends_on_both_halves() {
        let secret = Secret::new();
        let prints: std::collections::HashSet<u64> = (0..64)
            .flat_map(|bit| [Key { high: 1 << bit, low: 0 }, Key { high: 0, low: 1 << bit }])
            .map(|key| secret.print(key).to_bits())
            .collect();
        assert_eq!(prints.len(), 128);
    }
}
