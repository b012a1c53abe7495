//! The directory as bytes. Drawn in `docs/metadata-format.md`.
//!
//! Blocks are written in the order in which they lie in memory, so that a restored index has what belongs together side by
//! side, too. Replicas of one state may differ in that order, and so in bytes; their [`Directory::fingerprint`]s are equal.

mod input;

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};
use weft_index::{Builder, Duplicate, Frozen, PrefixIndex, Run, layout};
use weft_types::codec::{self, DecodeError};
use weft_types::{Checksum, HolderId, LogTime, Roster, RunningChecksum};

use crate::accounts::Accounts;
use crate::digests::HolderDigests;
use crate::numbers::{Life, Number, Numbers};
use crate::{Directory, Limits, contracts};
use input::Input;

const MAGIC: [u8; 8] = *b"weft.dir";
const VERSION: u32 = 2;
/// Bytes that are written at a time.
const PIECE_BYTES: usize = 256 << 10;
/// Blocks for which room is made on the snapshot's word alone; for more, as they come.
const ROOM_AT_ONCE: usize = 16 << 20;

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
    /// Malformed.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// It cannot be read.
    #[error("snapshot cannot be read: {0}")]
    Read(io::Error),
}

/// All but time, accounts and blocks.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    limits: Limits,
    roster: Roster,
    numbers: Vec<Number>,
    sweep_position: u16,
    refused_blocks: u64,
}

/// The directory as it was at one moment, to be written out while the directory itself goes on.
#[derive(Debug)]
pub struct FrozenDirectory {
    head: Head,
    log_time: LogTime,
    accounts: Accounts,
    blocks: Frozen,
}

impl Directory {
    /// The directory as it is now. Costs a copy of the roster and the accounts; blocks are copied as they change, until they
    /// were walked.
    pub fn freeze(&mut self) -> FrozenDirectory {
        let (head, accounts) = (self.head(), self.accounts.clone());
        FrozenDirectory { head, log_time: self.log_time, accounts, blocks: self.index.freeze() }
    }

    /// Writes the snapshot. Entries of retired holders are in it until swept, so that a restored replica sweeps as one that
    /// lived through everything does.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let (blocks, runs) = (self.index.len(), self.index.runs());
        write(&self.head(), self.log_time, &self.accounts, blocks, runs, &mut bytes).expect("memory takes every write");
        bytes
    }

    /// Equal for equal states, however they came about.
    #[must_use]
    pub fn fingerprint(&self) -> Checksum {
        let mut sum = 0_u64;
        let mut block = Vec::new();
        for run in self.index.runs() {
            for key in &run.keys {
                block.clear();
                layout::write_run(&mut block, &run.holders, &[*key]);
                // A sum does not tell in which order the blocks came.
                sum = sum.wrapping_add(Checksum::of(&block).get());
            }
        }
        let mut bytes = codec::encode(&self.head());
        bytes.extend_from_slice(&self.log_time.as_micros().to_le_bytes());
        self.accounts.write(&mut bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        Checksum::of(&bytes)
    }

    fn head(&self) -> Head {
        Head {
            limits: self.limits,
            roster: self.roster.clone(),
            numbers: self.numbers.all().to_vec(),
            sweep_position: self.index.sweep_position(),
            refused_blocks: self.refused_blocks,
        }
    }

    /// Reads a snapshot to its end, block by block as it comes.
    ///
    /// # Errors
    /// The bytes are none, are of another format, or are damaged.
    pub fn restore(from: impl Read) -> Result<Self, SnapshotError> {
        let mut input = Input::new(from);
        let magic = input.array()?;
        if magic != MAGIC {
            return Err(SnapshotError::Magic(magic));
        }
        let found = u32::from_le_bytes(input.array()?);
        if found != VERSION {
            return Err(SnapshotError::Version { found, known: VERSION });
        }
        let read = Self::restore_body(&mut input);
        match read {
            Err(SnapshotError::Read(error)) => Err(SnapshotError::Read(error)),
            // Whatever it seemed to say: if it is damaged, that is what is wrong with it.
            Err(other) => Err(input.drain().err().unwrap_or(other)),
            Ok((head, log_time, accounts, index)) => {
                input.finish()?;
                head.into_directory(log_time, accounts, index)
            }
        }
    }

    fn restore_body(input: &mut Input<impl Read>) -> Result<(Head, LogTime, Accounts, PrefixIndex), SnapshotError> {
        let head_len = u32::from_le_bytes(input.array()?) as usize;
        let log_time = LogTime::from_micros(u64::from_le_bytes(input.array()?));
        let blocks = u64::from_le_bytes(input.array()?);
        let head: Head = codec::decode_part(input.bytes(head_len)?)?;
        let records = usize::try_from(u64::from_le_bytes(input.array()?)).unwrap_or(usize::MAX);
        let accounts = Accounts::read(input.bytes(records)?)?;
        let expected = usize::try_from(blocks).unwrap_or(usize::MAX);
        let mut index = Builder::with_room(expected.min(ROOM_AT_ONCE));
        while (index.len() as u64) < blocks {
            load(&layout::read_run(&mut input.run()?)?, &head.numbers, &mut index)?;
        }
        let index = index.finish().map_err(|Duplicate(_)| SnapshotError::Inconsistent(TWICE))?;
        if index.len() as u64 != blocks {
            return Err(SnapshotError::Inconsistent("it has another number of blocks than it says"));
        }
        Ok((head, log_time, accounts, index))
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

impl FrozenDirectory {
    /// Nodes, endpoints, holders, contracts.
    #[must_use]
    pub fn roster(&self) -> &Roster {
        &self.head.roster
    }

    /// Tenants, leases, the deny list.
    #[must_use]
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// Writes what [`Directory::snapshot`] would have written then.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(self, out: impl Write) -> io::Result<()> {
        write(&self.head, self.log_time, &self.accounts, self.blocks.len(), self.blocks, out)
    }

    /// Blocks that holders of the roster hold.
    pub fn into_blocks(self) -> impl Iterator<Item = Run> {
        let granted = self.head.roster.holders;
        self.blocks.filter_map(move |mut run| {
            run.holders.retain(|holder| granted.contains_key(holder));
            (!run.holders.is_empty()).then_some(run)
        })
    }
}

fn write(
    head: &Head,
    log_time: LogTime,
    accounts: &Accounts,
    blocks: usize,
    runs: impl Iterator<Item = Run>,
    mut out: impl Write,
) -> io::Result<()> {
    let head = codec::encode(head);
    let mut bytes = Vec::with_capacity(2 * PIECE_BYTES);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(head.len()).expect("the roster's bound").to_le_bytes());
    bytes.extend_from_slice(&log_time.as_micros().to_le_bytes());
    bytes.extend_from_slice(&(blocks as u64).to_le_bytes());
    bytes.extend_from_slice(&head);
    accounts.write(&mut bytes);
    let mut sum = RunningChecksum::new();
    let mut put = |bytes: &mut Vec<u8>| {
        sum.update(bytes);
        out.write_all(bytes)?;
        bytes.clear();
        Ok::<_, io::Error>(sum.finish())
    };
    for run in runs {
        layout::write_run(&mut bytes, &run.holders, &run.keys);
        if bytes.len() >= PIECE_BYTES {
            put(&mut bytes)?;
        }
    }
    let checksum = put(&mut bytes)?;
    out.write_all(&checksum.get().to_le_bytes())
}

const TWICE: &str = "a block is listed twice";

fn load(run: &Run, numbers: &[Number], index: &mut Builder) -> Result<(), SnapshotError> {
    let known = |holder: &HolderId| numbers.get(holder.get() as usize).is_some_and(|number| number.life != Life::Free);
    if !run.holders.iter().all(known) {
        return Err(SnapshotError::Inconsistent("a block is held by nobody the directory knows"));
    }
    if index.len() + run.keys.len() > PrefixIndex::BLOCKS_MAX {
        return Err(SnapshotError::Inconsistent("it lists more blocks than an index can have"));
    }
    index.run(&run.holders, &run.keys).map_err(|Duplicate(_)| SnapshotError::Inconsistent(TWICE))
}

#[cfg(test)]
mod tests {
    use weft_types::Generation;

    use super::*;
    use crate::limits;

    #[test]
    fn a_snapshot_of_the_largest_roster_is_restored() {
        let roster = limits::largest::roster();
        let granted = Number { generation: Generation::new(u32::MAX), life: Life::Granted { reported: u64::MAX } };
        let head = Head {
            limits: Limits::default(),
            numbers: vec![granted; roster.holders.len()],
            roster: roster.clone(),
            sweep_position: 0,
            refused_blocks: u64::MAX,
        };
        let mut written = Vec::new();
        write(&head, LogTime::ZERO, &Accounts::default(), 0, std::iter::empty(), &mut written).unwrap();
        let restored = Directory::restore(&written[..]).unwrap();
        assert_eq!(*restored.roster(), roster);
        assert_eq!(restored.snapshot(), written);
    }
}
