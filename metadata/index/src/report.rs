//! What a holder says about its blocks, numbered so that nothing is lost or applied twice.

use serde::{Deserialize, Serialize};
use weft_types::codec::DecodeError;
use weft_types::{Generation, HolderId, Incarnation, IndexKey};

use crate::layout::Reader;
use crate::{PartitionId, Partitions};

/// One change in what a holder holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// It holds the block now.
    Stored(IndexKey),
    /// It no longer does.
    Removed(IndexKey),
}

/// Numbered changes of one holder. Reports of a (holder, generation, incarnation) are numbered from 1, without a gap but where
/// the node says so ([`ReportForm::continues`]).
///
/// Its bytes are the same in the log, in the report call and in the watch; little-endian, `n` changes:
///
/// ```text
///  0       4            8             16       24       28         32             32+16n       32+16n+⌈n/8⌉
///  │holder │ generation │ incarnation │ number │ n      │ form     │ n keys       │ n bits     │
///  │u32    │ u32        │ u64         │ u64    │ u32    │ u32      │ 16 bytes each│ 1 = stored │
///
///  form, bits 0–11: first partition │ 12–23: last partition │ 24: replaces │ 25: continues │ 26–31: 0
/// ```
/// Bit `i` is bit `i % 8` of byte `i / 8`; bits past `n` are 0. Partitions are 0 unless it replaces.
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
    /// What the changes amount to, and what may be missing before them.
    pub form: ReportForm,
    /// In the order in which they happened, at most [`Report::CHANGES_MAX`].
    pub changes: Vec<Change>,
}

/// How a report is to be taken. The default is what most reports are: changes, with the next number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReportForm {
    /// The changes, all of them stored and all in these partitions, are everything that the holder holds there: whatever else
    /// it had there is removed. At most [`Report::REPLACED_MAX`] partitions.
    pub replaces: Option<Partitions>,
    /// Numbers go on from this one, whatever was missing before it: taken if its number is higher than the last applied. What
    /// was sent under lower numbers and arrives later is known to be old.
    pub continues: bool,
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
    /// Applied now; it replaced, and this is what was wrong before. Sent again it is answered as `Applied`.
    Replaced {
        /// Its number, which is the highest applied.
        number: u64,
        /// Blocks that were missing, or that were listed and not held.
        blocks: u32,
    },
}

impl ReportForm {
    const REPLACES: u32 = 1 << 24;
    const CONTINUES: u32 = 1 << 25;

    fn word(self) -> u32 {
        let replaces = self.replaces.map_or(0, |partitions| {
            let (first, last) = (partitions.first().get(), partitions.last().get());
            Self::REPLACES | u32::from(last) << 12 | u32::from(first)
        });
        replaces | if self.continues { Self::CONTINUES } else { 0 }
    }

    /// `None`: a bit is set that has no meaning, or the partitions are the wrong way round.
    fn from_word(word: u32) -> Option<Self> {
        let number = |shift: u32| PartitionId::new(u16::try_from(word >> shift & 0xfff).ok()?);
        let partitions = match word & Self::REPLACES != 0 {
            true => Some(Partitions::new(number(0)?, number(12)?)?),
            false => None,
        };
        let form = Self { replaces: partitions, continues: word & Self::CONTINUES != 0 };
        (form.word() == word).then_some(form)
    }
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

    /// Partitions that one report may replace: a thirty-second of all. Each of them has to be walked when it is applied.
    pub const REPLACED_MAX: usize = 128;

    const HEADER_BYTES: usize = 32;

    /// Bytes of changes that take as long to apply as replacing one partition: with 16 million blocks in the directory, one
    /// partition has 4,000 entries to look at, some 10 µs.
    const REPLACED_PARTITION_BYTES: usize = 1 << 11;

    /// Bytes that [`Report::write`] appends.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        Self::HEADER_BYTES + self.changes.len() * IndexKey::LEN + self.changes.len().div_ceil(8)
    }

    /// What applying it costs, as bytes of plain changes: what bounds on the bytes of reports go by.
    #[must_use]
    pub fn weight(&self) -> usize {
        let replaced = self.form.replaces.map_or(0, Partitions::count);
        self.encoded_len() + replaced * Self::REPLACED_PARTITION_BYTES
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
        out.extend_from_slice(&self.form.word().to_le_bytes());
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
    /// The bytes end early, claim more than [`Report::CHANGES_MAX`] changes, set what must be 0, or replace more than
    /// [`Report::REPLACED_MAX`] partitions or other ones than those of their keys.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let holder = HolderId::new(reader.u32()?);
        let generation = Generation::new(reader.u32()?);
        let incarnation = Incarnation::new(reader.u64()?);
        let number = reader.u64()?;
        let count = reader.u32()? as usize;
        if count > Self::CHANGES_MAX {
            return Err(reader.malformed(format!("{count} changes in a report: at most {}", Self::CHANGES_MAX)));
        }
        let word = reader.u32()?;
        let Some(form) = ReportForm::from_word(word) else {
            return Err(reader.malformed(format!("{word:#x} is no form of a report that this release knows")));
        };
        if let Some(partitions) = form.replaces.filter(|partitions| partitions.count() > Self::REPLACED_MAX) {
            let (count, max) = (partitions.count(), Self::REPLACED_MAX);
            return Err(reader.malformed(format!("{count} partitions replaced by a report: at most {max}")));
        }
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
        let changes: Vec<_> = keys.iter().enumerate().map(change).collect();
        let belongs = |partitions: Partitions| {
            let stored_there =
                |change: &Change| matches!(change, Change::Stored(key) if partitions.contains(PartitionId::of(key)));
            changes.iter().all(stored_there)
        };
        if !form.replaces.is_none_or(belongs) {
            return Err(reader.malformed("a report that replaces has a block removed, or of another partition"));
        }
        Ok(Self { holder, generation, incarnation, number, form, changes })
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
        let replaces = prop::option::of((0u16..4096, 0u16..128));
        (numbers, replaces, any::<bool>(), prop::collection::vec(any_change(), 0..40)).prop_map(
            |((h, g, i, number), replaces, continues, mut changes)| {
                let replaces = replaces.map(|(first, more)| {
                    let at = |number: u16| PartitionId::new(number.min(4095)).unwrap();
                    Partitions::new(at(first), at(first + more)).unwrap()
                });
                if let Some(partitions) = replaces {
                    changes
                        .iter_mut()
                        .for_each(|change| *change = Change::Stored(moved(change.key(), partitions.last())));
                }
                Report {
                    holder: HolderId::new(h),
                    generation: Generation::new(g),
                    incarnation: Incarnation::new(i),
                    number,
                    form: ReportForm { replaces, continues },
                    changes,
                }
            },
        )
    }

    /// The key, in another partition.
    fn moved(key: IndexKey, partition: PartitionId) -> IndexKey {
        let mut bytes = *key.as_bytes();
        bytes[0] = (partition.get() >> 4) as u8;
        bytes[1] = (partition.get() << 4) as u8 | bytes[1] & 0xf;
        IndexKey::from_bytes(bytes)
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

    fn written(form: ReportForm, change: Change) -> Vec<u8> {
        let report = Report {
            holder: HolderId::new(1),
            generation: Generation::new(1),
            incarnation: Incarnation::new(1),
            number: 1,
            form,
            changes: vec![change],
        };
        let mut bytes = Vec::new();
        report.write(&mut bytes);
        bytes
    }

    fn refusal(bytes: &[u8]) -> String {
        Report::read(&mut Reader::new(bytes, "report")).unwrap_err().to_string()
    }

    #[test]
    fn bytes_that_have_no_meaning_must_be_zero() {
        let bytes = written(ReportForm::default(), Change::Stored(IndexKey::from_bytes([1; 16])));
        for (at, bit) in [(28, 0b10), (29, 0b10), (30, 0b10), (31, 0b100), (31, 0x80), (bytes.len() - 1, 0b10)] {
            let mut bad = bytes.clone();
            bad[at] |= bit;
            refusal(&bad);
        }
    }

    #[test]
    fn a_report_replaces_few_partitions_and_with_their_own_blocks_only() {
        let key = IndexKey::from_bytes([1; 16]);
        let run = |first, last| {
            let replaces = Partitions::new(PartitionId::new(first).unwrap(), PartitionId::new(last).unwrap());
            ReportForm { replaces, continues: false }
        };
        Report::read(&mut Reader::new(&written(run(0x10, 0x10), Change::Stored(key)), "report")).unwrap();
        assert!(refusal(&written(run(0x11, 0x11), Change::Stored(key))).contains("of another partition"));
        assert!(refusal(&written(run(0x10, 0x10), Change::Removed(key))).contains("a block removed"));
        assert!(refusal(&written(run(0, 128), Change::Stored(key))).contains("129 partitions replaced"));
    }
}
