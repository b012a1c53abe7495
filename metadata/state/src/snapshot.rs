//! The directory as bytes: the same for the same state on every replica. Drawn in `docs/metadata-format.md`.

use serde::{Deserialize, Serialize};
use weft_index::{Change, PrefixIndex, layout};
use weft_types::codec::{self, DecodeError};
use weft_types::{Checksum, HolderId, LogTime, Roster};

use crate::accounts::Accounts;
use crate::digests::HolderDigests;
use crate::numbers::{Life, Number, Numbers};
use crate::{Directory, Limits, contracts};

const MAGIC: [u8; 8] = *b"weft.dir";
const VERSION: u32 = 2;

/// Bytes that are not a snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// Not one at all.
    #[error("not a directory snapshot: it begins with {0:02x?}, expected 'weft.dir'")]
    Magic([u8; 8]),
    /// Written by a later release.
    #[error(
        "snapshot of format {found}: this release reads format {known}; run the release that wrote it, or a later one"
    )]
    Version {
        /// In the snapshot.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// Bits have changed since it was written.
    #[error("snapshot is damaged: checksum {expected} written, {got} found; restore another copy")]
    Checksum {
        /// At its end.
        expected: Checksum,
        /// Over its bytes.
        got: Checksum,
    },
    /// Its parts do not fit together.
    #[error("snapshot contradicts itself: {0}")]
    Inconsistent(&'static str),
    /// Cut short or malformed.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
}

/// All but time, accounts and blocks.
#[derive(Serialize, Deserialize)]
struct Head {
    limits: Limits,
    roster: Roster,
    numbers: Vec<Number>,
    sweep_position: u16,
    refused_blocks: u64,
}

impl Directory {
    /// Writes the snapshot. Entries of retired holders are in it until swept, so that a restored replica sweeps as one that
    /// lived through everything does.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        let head = codec::encode(&Head {
            limits: self.limits,
            roster: self.roster.clone(),
            numbers: self.numbers.all().to_vec(),
            sweep_position: self.index.sweep_position(),
            refused_blocks: self.refused_blocks,
        });
        let mut bytes = Vec::with_capacity(48 + head.len() + 24 * self.index.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(head.len()).expect("the roster's bound").to_le_bytes());
        bytes.extend_from_slice(&self.log_time.as_micros().to_le_bytes());
        bytes.extend_from_slice(&(self.index.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&head);
        self.accounts.write(&mut bytes);
        for (key, holders) in self.index.entries() {
            layout::write_block(&mut bytes, key, holders.iter());
        }
        let checksum = Checksum::of(&bytes);
        bytes.extend_from_slice(&checksum.get().to_le_bytes());
        bytes
    }

    /// Reads a snapshot.
    ///
    /// # Errors
    /// The bytes are none, are of another format, or are damaged.
    pub fn restore(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let mut reader = layout::Reader::new(bytes, "directory snapshot");
        let magic = reader.array()?;
        if magic != MAGIC {
            return Err(SnapshotError::Magic(magic));
        }
        let found = reader.u32()?;
        if found != VERSION {
            return Err(SnapshotError::Version { found, known: VERSION });
        }
        check_sum(bytes)?;
        let head_len = reader.u32()? as usize;
        let log_time = LogTime::from_micros(reader.u64()?);
        let blocks = reader.u64()?;
        let head: Head = codec::decode(reader.bytes(head_len)?)?;
        let accounts = Accounts::read(&mut reader)?;
        let mut index = PrefixIndex::new();
        for _ in 0..blocks {
            read_block(&mut reader, &head.numbers, &mut index)?;
        }
        reader.u64()?; // The checksum, which was compared above.
        reader.finish()?;
        head.into_directory(log_time, accounts, index)
    }
}

impl Head {
    fn into_directory(
        self,
        log_time: LogTime,
        accounts: Accounts,
        mut index: PrefixIndex,
    ) -> Result<Directory, SnapshotError> {
        for (number, holder) in self.numbers.iter().zip((0..).map(HolderId::new)) {
            if number.life == Life::Retired {
                index.retire(holder);
            }
        }
        if !index.resume_sweep(self.sweep_position) {
            return Err(SnapshotError::Inconsistent("the sweep stands at a partition that does not exist"));
        }
        let numbers = Numbers::restore(self.numbers, &self.roster.holders)
            .ok_or(SnapshotError::Inconsistent("the roster lists other holders than are granted"))?;
        let nodes: usize = self.roster.nodes.values().map(|node| codec::encode(node).len()).sum();
        let endpoints: usize = self.roster.endpoints.values().map(|endpoint| codec::encode(endpoint).len()).sum();
        Ok(Directory {
            log_time,
            limits: self.limits,
            specs_bytes: nodes + endpoints + contracts::encoded_bytes(&self.roster.contracts),
            roster: self.roster,
            numbers,
            digests: HolderDigests::of(&index),
            index,
            accounts,
            refused_blocks: self.refused_blocks,
        })
    }
}

fn read_block(
    reader: &mut layout::Reader<'_>,
    numbers: &[Number],
    index: &mut PrefixIndex,
) -> Result<(), SnapshotError> {
    let mut known = true;
    layout::read_block(reader, |key, holder| {
        let number = numbers.get(holder.get() as usize);
        known &= number.is_some_and(|number| number.life != Life::Free) && index.apply(holder, Change::Stored(key));
    })?;
    match known {
        true => Ok(()),
        false => Err(SnapshotError::Inconsistent("a block is listed twice, or held by nobody the directory knows")),
    }
}

fn check_sum(bytes: &[u8]) -> Result<(), SnapshotError> {
    let Some((body, sum)) = bytes.split_last_chunk() else {
        return Err(SnapshotError::Inconsistent("it is too short to have a checksum"));
    };
    let (expected, got) = (Checksum::from_u64(u64::from_le_bytes(*sum)), Checksum::of(body));
    match expected == got {
        true => Ok(()),
        false => Err(SnapshotError::Checksum { expected, got }),
    }
}
