//! Fixed layouts, little-endian: the reader that all of them share, and the entry of a block list.
//!
//! A *block entry* is one block and who holds it; the directory's snapshot and the watch's snapshot pieces are runs of them:
//!
//! ```text
//!  0          16        18            18+2c
//!  │ key      │ count c │ c holders   │
//!  │ 16 bytes │ u16     │ u16, ascending
//! ```

use weft_types::codec::DecodeError;
use weft_types::{HolderId, IndexKey};

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

/// Appends a block entry. `holders`: ascending, each below [`crate::PrefixIndex::HOLDERS_MAX`].
pub fn write_block(out: &mut Vec<u8>, key: IndexKey, holders: impl Iterator<Item = HolderId>) {
    out.extend_from_slice(key.as_bytes());
    let count_at = out.len();
    out.extend_from_slice(&[0; 2]);
    let mut count = 0u16;
    for holder in holders {
        let number = u16::try_from(holder.get()).expect("the index refuses holder numbers past u16");
        out.extend_from_slice(&number.to_le_bytes());
        count += 1;
    }
    out[count_at..count_at + 2].copy_from_slice(&count.to_le_bytes());
}

/// Reads a block entry and gives each holder to `each`.
///
/// # Errors
/// The bytes end early, or the holders are none or not ascending.
pub fn read_block(reader: &mut Reader<'_>, mut each: impl FnMut(IndexKey, HolderId)) -> Result<IndexKey, DecodeError> {
    let key = reader.key()?;
    let count = reader.u16()?;
    let mut last = None;
    for _ in 0..count {
        let number = reader.u16()?;
        if last.is_some_and(|last| last >= number) {
            return Err(reader.malformed("holders of a block are not ascending"));
        }
        last = Some(number);
        each(key, HolderId::new(u32::from(number)));
    }
    if last.is_none() {
        return Err(reader.malformed("a block without a holder"));
    }
    Ok(key)
}
