//! Fixed layouts, little-endian: the reader that all of them share, and the run of blocks.
//!
//! A *run* is blocks that are all held by the same holders; the directory's snapshot and the watch's snapshot pieces are
//! made of them. Blocks come in the order in which they lie in memory, mostly that of prompts:
//!
//! ```text
//!  0           2          4                         4+2c
//!  │ holders c │ blocks n │ c holders               │ n keys
//!  │ u16       │ u16      │ u16 each, ascending     │ 16 bytes each
//! ```

use weft_types::codec::DecodeError;
use weft_types::{HolderId, IndexKey};

use crate::Run;

/// Takes fields off the front of bytes; every short read is an error that names what was being read.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    kind: &'static str,
}

impl<'a> Reader<'a> {
    /// `kind`: what the bytes should be, for errors.
    #[must_use]
    pub fn new(bytes: &'a [u8], kind: &'static str) -> Self {
        Self { rest: bytes, kind }
    }

    /// Bytes not yet read.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// An error about these bytes.
    #[must_use]
    pub fn malformed(&self, reason: impl Into<String>) -> DecodeError {
        DecodeError::Malformed { kind: self.kind, reason: reason.into() }
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// There are fewer.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let Some((head, rest)) = self.rest.split_at_checked(count) else {
            return Err(self.malformed(format!("{count} bytes expected, {} left", self.rest.len())));
        };
        self.rest = rest;
        Ok(head)
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// There are fewer.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        Ok(*self.bytes(N)?.as_array().expect("as many bytes were taken"))
    }

    /// A byte.
    ///
    /// # Errors
    /// None is left.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    /// A `u16`.
    ///
    /// # Errors
    /// Fewer than 2 bytes are left.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// A `u32`.
    ///
    /// # Errors
    /// Fewer than 4 bytes are left.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// A `u64`.
    ///
    /// # Errors
    /// Fewer than 8 bytes are left.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A block's key.
    ///
    /// # Errors
    /// Fewer than 16 bytes are left.
    pub fn key(&mut self) -> Result<IndexKey, DecodeError> {
        Ok(IndexKey::from_bytes(self.array()?))
    }

    /// `count` bytes that have no meaning yet.
    ///
    /// # Errors
    /// One of them is not 0.
    pub fn zeros(&mut self, count: usize) -> Result<(), DecodeError> {
        match self.bytes(count)?.iter().any(|byte| *byte != 0) {
            true => Err(self.malformed("reserved bytes are not 0")),
            false => Ok(()),
        }
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// Bytes are left over.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            extra => Err(DecodeError::Trailing { extra, kind: self.kind }),
        }
    }
}

/// Appends a run.
///
/// # Panics
/// If it has more holders or blocks than a `u16` counts: an index makes none.
pub fn write_run(out: &mut Vec<u8>, holders: &[HolderId], keys: &[IndexKey]) {
    let count =
        |count: usize| u16::try_from(count).expect("a run's holders and blocks are fewer than 65,536").to_le_bytes();
    out.reserve(4 + 2 * holders.len() + IndexKey::LEN * keys.len());
    out.extend_from_slice(&count(holders.len()));
    out.extend_from_slice(&count(keys.len()));
    for holder in holders {
        let number = u16::try_from(holder.get()).expect("the index refuses holder numbers past u16");
        out.extend_from_slice(&number.to_le_bytes());
    }
    keys.iter().for_each(|key| out.extend_from_slice(key.as_bytes()));
}

/// Reads a run.
///
/// # Errors
/// The bytes end early, the run is empty, or its holders are not ascending.
pub fn read_run(reader: &mut Reader<'_>) -> Result<Run, DecodeError> {
    let (holders, blocks) = (reader.u16()?, reader.u16()?);
    if holders == 0 || blocks == 0 {
        return Err(reader.malformed("a run without holders or without blocks"));
    }
    let (numbers, _) = reader.bytes(2 * usize::from(holders))?.as_chunks();
    let holders: Vec<HolderId> =
        numbers.iter().map(|number| HolderId::new(u32::from(u16::from_le_bytes(*number)))).collect();
    if !holders.is_sorted_by(|one, next| one < next) {
        return Err(reader.malformed("holders of a run are not ascending"));
    }
    let (keys, _) = reader.bytes(IndexKey::LEN * usize::from(blocks))?.as_chunks();
    Ok(Run { holders, keys: keys.iter().map(|key| IndexKey::from_bytes(*key)).collect() })
}
