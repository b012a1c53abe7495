//! The checksum that travels with every part of a block.

use std::fmt;

use serde::{Deserialize, Serialize};

/// XXH3-64 over bytes, seed 0. It finds accidents, not attackers: attackers are kept out by TLS and the block hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Checksum(u64);

impl Checksum {
    /// Computes it.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(xxhash_rust::xxh3::xxh3_64(bytes))
    }

    /// Wraps a value read from a wire or a disk.
    #[must_use]
    pub const fn from_u64(value: u64) -> Self {
        Self(value)
    }

    /// The value, as it is written to a wire or a disk.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Computes the [`Checksum`] of bytes that come in pieces.
#[derive(Clone, Default)]
pub struct RunningChecksum(Box<xxhash_rust::xxh3::Xxh3>);

impl RunningChecksum {
    /// Of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Of all bytes so far.
    #[must_use]
    pub fn finish(&self) -> Checksum {
        Checksum(self.0.digest())
    }
}

impl fmt::Debug for RunningChecksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunningChecksum({})", self.finish())
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Checksum({self})")
    }
}
