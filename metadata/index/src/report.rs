//! What a holder says about its blocks, numbered so that nothing is lost or applied twice.

use serde::{Deserialize, Serialize};
use weft_types::codec::DecodeError;
use weft_types::{Generation, HolderId, Incarnation, IndexKey};

use crate::layout::Reader;

/// One change in what a holder holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// It holds the block now.
    Stored(IndexKey),
    /// It no longer does.
    Removed(IndexKey),
}

/// Numbered changes of one holder. Reports of a (holder, generation, incarnation) are numbered from 1 without a gap.
///
/// Its bytes are the same in the log, in the report call and in the watch; little-endian, `n` changes:
///
/// ```text
///  0       4            8             16       24       28         32             32+16n       32+16n+⌈n/8⌉
///  │holder │ generation │ incarnation │ number │ n      │ 0        │ n keys       │ n bits     │
///  │u32    │ u32        │ u64         │ u64    │ u32    │ u32      │ 16 bytes each│ 1 = stored │
/// ```
/// Bit `i` is bit `i % 8` of byte `i / 8`; bits past `n` are 0.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Whose.
    pub holder: HolderId,
    /// Life of the number under which it was granted.
    pub generation: Generation,
    /// Boot counter of the holder.
    pub incarnation: Incarnation,
    /// Number of this report, from 1.
    pub number: u64,
    /// In the order in which they happened, at most [`Report::CHANGES_MAX`].
    pub changes: Vec<Change>,
}

/// What became of one report.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ReportAck {
    /// Applied now or before; every number up to this one is.
    Applied {
        /// Highest number applied.
        number: u64,
    },
    /// A number is missing: send again from `expected`, or resync.
    Gap {
        /// The next number that would be applied.
        expected: u64,
    },
    /// The holder was retired, or the incarnation is not current: join (or put the endpoint) again.
    Fenced,
}

impl Change {
    /// The block it is about.
    #[must_use]
    pub fn key(&self) -> IndexKey {
        match self {
            Self::Stored(key) | Self::Removed(key) => *key,
        }
    }
}

impl Report {
    /// Changes in one report: 32,768 are half a megabyte, an eighth of what a control message may have.
    pub const CHANGES_MAX: usize = 32_768;

    const HEADER_BYTES: usize = 32;

    /// Bytes that [`Report::write`] appends.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        Self::HEADER_BYTES + self.changes.len() * IndexKey::LEN + self.changes.len().div_ceil(8)
    }

    /// Appends its bytes.
    ///
    /// # Panics
    /// If it has more than [`Report::CHANGES_MAX`] changes.
    pub fn write(&self, out: &mut Vec<u8>) {
        let count = self.changes.len();
        assert!(count <= Self::CHANGES_MAX, "a report of {count} changes: cut it at {}", Self::CHANGES_MAX);
        out.reserve(self.encoded_len());
        out.extend_from_slice(&self.holder.get().to_le_bytes());
        out.extend_from_slice(&self.generation.get().to_le_bytes());
        out.extend_from_slice(&self.incarnation.get().to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&u32::try_from(count).expect("bounded above").to_le_bytes());
        out.extend_from_slice(&0u32.to_le_bytes());
        for change in &self.changes {
            out.extend_from_slice(change.key().as_bytes());
        }
        for eight in self.changes.chunks(8) {
            let stored = |(bit, change): (usize, &Change)| u8::from(matches!(change, Change::Stored(_))) << bit;
            out.push(eight.iter().enumerate().map(stored).sum());
        }
    }

    /// Reads one report.
    ///
    /// # Errors
    /// The bytes end early, claim more than [`Report::CHANGES_MAX`] changes, or set what must be 0.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let holder = HolderId::new(reader.u32()?);
        let generation = Generation::new(reader.u32()?);
        let incarnation = Incarnation::new(reader.u64()?);
        let number = reader.u64()?;
        let count = reader.u32()? as usize;
        if count > Self::CHANGES_MAX {
            return Err(reader.malformed(format!("{count} changes in a report: at most {}", Self::CHANGES_MAX)));
        }
        reader.zeros(4)?;
        let keys = reader.bytes(count * IndexKey::LEN)?;
        let bits = reader.bytes(count.div_ceil(8))?;
        if !count.is_multiple_of(8) && bits.last().is_some_and(|last| last >> (count % 8) != 0) {
            return Err(reader.malformed("bits are set past the last change"));
        }
        let (keys, _) = keys.as_chunks::<{ IndexKey::LEN }>();
        let change = |(at, key): (usize, &[u8; IndexKey::LEN])| {
            let key = IndexKey::from_bytes(*key);
            if bits[at / 8] >> (at % 8) & 1 == 1 { Change::Stored(key) } else { Change::Removed(key) }
        };
        let changes = keys.iter().enumerate().map(change).collect();
        Ok(Self { holder, generation, incarnation, number, changes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_change() -> impl Strategy<Value = Change> {
        (any::<[u8; 16]>(), any::<bool>()).prop_map(|(key, stored)| {
            let key = IndexKey::from_bytes(key);
            if stored { Change::Stored(key) } else { Change::Removed(key) }
        })
    }

    fn any_report() -> impl Strategy<Value = Report> {
        let numbers = (any::<u32>(), any::<u32>(), any::<u64>(), any::<u64>());
        (numbers, prop::collection::vec(any_change(), 0..40)).prop_map(|((h, g, i, number), changes)| Report {
            holder: HolderId::new(h),
            generation: Generation::new(g),
            incarnation: Incarnation::new(i),
            number,
            changes,
        })
    }

    proptest! {
        #[test]
        fn a_report_reads_as_it_was_written(report in any_report()) {
            let mut bytes = Vec::new();
            report.write(&mut bytes);
            prop_assert_eq!(bytes.len(), report.encoded_len());
            let mut reader = Reader::new(&bytes, "report");
            prop_assert_eq!(Report::read(&mut reader).unwrap(), report);
            reader.finish().unwrap();
        }

        #[test]
        fn a_report_cut_short_is_refused(report in any_report(), cut in any::<prop::sample::Index>()) {
            let mut bytes = Vec::new();
            report.write(&mut bytes);
            bytes.truncate(cut.index(bytes.len()));
            prop_assert!(Report::read(&mut Reader::new(&bytes, "report")).is_err());
        }
    }

    #[test]
    fn bytes_that_have_no_meaning_must_be_zero() {
        let key = IndexKey::from_bytes([1; 16]);
        let report = Report {
            holder: HolderId::new(1),
            generation: Generation::new(1),
            incarnation: Incarnation::new(1),
            number: 1,
            changes: vec![Change::Stored(key)],
        };
        let mut bytes = Vec::new();
        report.write(&mut bytes);
        for at in [28, bytes.len() - 1] {
            let mut bad = bytes.clone();
            bad[at] |= 0b10;
            assert!(Report::read(&mut Reader::new(&bad, "report")).is_err(), "byte {at}");
        }
    }
}
