//! The identity of a block.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Identity of a block: hash over (parent block hash, the block's tokens, extra keys, model key). Two blocks with equal
/// tokens but different prefixes have different hashes. Made by [`crate::BlockHasher`].
///
/// `Display` is the full hex, `Debug` the first 8 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BlockHash([u8; 32]);

/// First 16 bytes of a [`BlockHash`], as the prefix index stores it. 128 bits keep the chance of any collision among 100
/// million blocks near 10^-23, and a node checks all 32 bytes before it serves.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IndexKey([u8; 16]);

/// A text that is not a block hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a block hash: expected 64 hexadecimal digits")]
pub struct ParseHashError(pub String);

impl BlockHash {
    /// Bytes in a hash.
    pub const LEN: usize = 32;

    /// Parent of the first block of every prefix.
    pub const ROOT: Self = Self([0; Self::LEN]);

    /// From its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// What the prefix index stores of it.
    #[must_use]
    pub fn index_key(&self) -> IndexKey {
        let (head, _) = self.0.split_first_chunk::<16>().expect("32 bytes begin with 16");
        IndexKey(*head)
    }
}

impl IndexKey {
    /// Bytes in a key.
    pub const LEN: usize = 16;

    /// From its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl FromStr for BlockHash {
    type Err = ParseHashError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; Self::LEN];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| ParseHashError(text.chars().take(80).collect()))?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for BlockHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for BlockHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0[..8]))
    }
}

impl fmt::Display for IndexKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for IndexKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0[..8]))
    }
}
