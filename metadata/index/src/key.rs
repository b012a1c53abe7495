//! A block's key as two numbers, in the order of its bytes.

use weft_types::IndexKey;

#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Key {
    pub(crate) high: u64,
    pub(crate) low: u64,
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
