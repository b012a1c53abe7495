//! Snapshots on disk: one file each, written and read as a stream; the newest is the one that counts.
//!
//! ```text
//!  0          8      12        12+n   16+n
//!  ┌──────────┬──────┬─────────┬──────┬──────────────────────────────────────────┐
//!  │ WEFTSNP2 │ n    │ meta    │ CRC  │ the directory, with a checksum of its own │
//!  │          │ u32  │ n bytes │ u32  │ to the end of the file                    │
//!  └──────────┴──────┴─────────┴──────┴──────────────────────────────────────────┘
//! ```
//! The checksum is CRC-32C over everything before it; meta is what openraft needs: the last log id and the membership. The
//! same bytes go to a member that takes the snapshot over, and into a backup.

use std::io::{self, Read, Write};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weft_metadata_state::Directory;
use weft_types::codec;

use super::{FrozenState, State};
use crate::error::StoreError;
use crate::raft::mirror::{LogIdMirror, StoredMembershipMirror};
use crate::raft::{LogId, SnapshotMeta, StoredMembership};
use crate::volume::{FileReader, FileWriter, Volume, VolumeFile, temporary_name};

const MAGIC: &[u8; 8] = b"WEFTSNP2";
const PREFIX: &str = "snapshot-";
/// Largest snapshot: 16 GiB, thirty times what the default limit of 16 million blocks makes.
pub(crate) const BYTES_MAX: u64 = 16 << 30;
/// Largest meta: a group of some thousand members.
const META_BYTES_MAX: usize = 1 << 20;

/// A [`SnapshotMeta`] as it is written, to disk and to the wire.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct MetaMirror {
    last: Option<LogIdMirror>,
    membership: StoredMembershipMirror,
    id: String,
}

impl From<&SnapshotMeta> for MetaMirror {
    fn from(meta: &SnapshotMeta) -> Self {
        Self {
            last: meta.last_log_id.map(Into::into),
            membership: (&meta.last_membership).into(),
            id: meta.snapshot_id.clone(),
        }
    }
}

impl From<MetaMirror> for SnapshotMeta {
    fn from(meta: MetaMirror) -> Self {
        Self { last_log_id: meta.last.map(Into::into), last_membership: meta.membership.into(), snapshot_id: meta.id }
    }
}

/// A snapshot as openraft hands it around: a file, and for one that came from the leader, what is in it.
#[derive(Debug)]
pub(crate) struct SnapshotFile {
    /// Read it however long it takes: a newer snapshot takes its name, not its bytes.
    pub(crate) file: Option<Arc<dyn VolumeFile>>,
    pub(crate) taken_over: Option<TakenOver>,
}

/// A snapshot of the leader's that was checked and read in.
#[derive(Debug)]
pub(crate) struct TakenOver {
    pub(crate) temporary: Temporary,
    pub(crate) state: State,
}

/// A file under a name for the time being: dropped before it has its own, it is removed.
#[derive(Debug)]
pub(crate) struct Temporary {
    pub(crate) volume: Arc<dyn Volume>,
    pub(crate) name: String,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // It has its own name by now, or else whatever is left is removed at the next start.
        let _ = self.volume.remove(&self.name);
    }
}

impl SnapshotFile {
    pub(crate) fn of(file: Arc<dyn VolumeFile>) -> Self {
        Self { file: Some(file), taken_over: None }
    }

    /// None: what openraft is given where it asks for one and no byte of it matters.
    pub(crate) fn none() -> Self {
        Self { file: None, taken_over: None }
    }
}

/// File name of the snapshot of a log index.
pub(crate) fn name(index: u64) -> String {
    format!("{PREFIX}{index:016x}")
}

fn index_of(meta: &SnapshotMeta) -> u64 {
    meta.last_log_id.map_or(0, |id| id.index)
}

/// Indices of the snapshots in the volume, in order.
pub(crate) fn indices(volume: &dyn Volume) -> io::Result<Vec<u64>> {
    let names = volume.names()?;
    let parse = |found: &String| {
        let index = u64::from_str_radix(found.strip_prefix(PREFIX)?, 16).ok()?;
        (*found == name(index)).then_some(index)
    };
    let mut indices: Vec<u64> = names.iter().filter_map(parse).collect();
    indices.sort_unstable();
    Ok(indices)
}

/// What a new snapshot says of itself. Members that came to the same state on different ways write it differently, so that none
/// may finish what another began: no two have the same name.
pub(crate) fn meta(applied: Option<LogId>, membership: StoredMembership) -> SnapshotMeta {
    let position = applied.map_or_else(|| "empty".to_owned(), |id| id.to_string());
    let name: u64 = crate::runtime::random();
    SnapshotMeta { last_log_id: applied, last_membership: membership, snapshot_id: format!("{position}-{name:016x}") }
}

/// Writes what comes before the directory.
pub(crate) fn write_head(meta: &SnapshotMeta, out: &mut impl Write) -> io::Result<()> {
    let head = codec::encode(&MetaMirror::from(meta));
    let mut bytes = Vec::with_capacity(16 + head.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&u32::try_from(head.len()).map_err(io::Error::other)?.to_le_bytes());
    bytes.extend_from_slice(&head);
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    out.write_all(&bytes)
}

/// Makes a snapshot durable under its name, then removes older ones. Returns what it says of itself, its file and its length.
pub(crate) fn save(volume: &dyn Volume, state: FrozenState) -> io::Result<(SnapshotMeta, Arc<dyn VolumeFile>, u64)> {
    let temporary = temporary_name(&name(state.index()));
    let file = volume.create(&temporary, 0)?;
    let mut writer = FileWriter::new(file.clone());
    let meta = state.write(&mut writer)?;
    let bytes = writer.finish()?;
    put_in_place(volume, &temporary, &meta)?;
    Ok((meta, file, bytes))
}

/// Gives a whole and durable snapshot its name, then removes older ones.
pub(crate) fn put_in_place(volume: &dyn Volume, temporary: &str, meta: &SnapshotMeta) -> io::Result<()> {
    let index = index_of(meta);
    volume.rename(temporary, &name(index))?;
    volume.sync()?;
    for older in indices(volume)?.into_iter().filter(|older| *older < index) {
        volume.remove(&name(older))?;
    }
    volume.sync()
}

/// A snapshot on disk: what it covers, and its file.
pub(crate) type Found = (SnapshotMeta, Arc<dyn VolumeFile>);

/// The newest snapshot.
pub(crate) fn newest(volume: &dyn Volume) -> Result<Option<Found>, StoreError> {
    let listed = indices(volume).map_err(|source| StoreError::io("list", volume.locate(""), source))?;
    let Some(index) = listed.last() else { return Ok(None) };
    let name = name(*index);
    let file = volume.open(&name).map_err(|source| StoreError::io("open", volume.locate(&name), source))?;
    let reader = FileReader::new(file.clone());
    let meta = reader.map_err(|error| error.to_string()).and_then(|mut reader| read_head(&mut reader));
    match meta {
        Ok(meta) => Ok(Some((meta, file))),
        Err(reason) => Err(StoreError::Damaged { file: volume.locate(&name), offset: 0, reason }),
    }
}

/// The state of the newest snapshot, checked.
pub(crate) fn load_newest(volume: &dyn Volume) -> Result<Option<(SnapshotMeta, State)>, StoreError> {
    let Some((meta, file)) = newest(volume)? else { return Ok(None) };
    let file_name = volume.locate(&name(index_of(&meta)));
    let reader = FileReader::new(file).map_err(|source| StoreError::io("read", file_name.clone(), source))?;
    let loaded = read(reader).map_err(|reason| StoreError::Damaged { file: file_name, offset: 0, reason })?;
    Ok(Some(loaded))
}

/// Reads a whole snapshot and checks it, or says what is wrong with it.
pub(crate) fn read(mut input: impl Read) -> Result<(SnapshotMeta, State), String> {
    let meta = read_head(&mut input)?;
    let directory = Directory::restore(input).map_err(|error| error.to_string())?;
    let state = State { directory, applied: meta.last_log_id, membership: meta.last_membership.clone() };
    Ok((meta, state))
}

fn read_head(input: &mut impl Read) -> Result<SnapshotMeta, String> {
    let mut take = |len: usize| {
        let mut bytes = vec![0; len];
        input.read_exact(&mut bytes).map(|()| bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => "the file ends inside its head".to_owned(),
            _ => error.to_string(),
        })
    };
    let begin = take(12)?;
    if begin[..8] != *MAGIC {
        return Err("it does not begin as a snapshot of this release does ('WEFTSNP2')".to_owned());
    }
    let len = u32::from_le_bytes([begin[8], begin[9], begin[10], begin[11]]) as usize;
    if len > META_BYTES_MAX {
        return Err(format!("its head claims {len} bytes: at most {META_BYTES_MAX} expected"));
    }
    let meta = take(len)?;
    let crc = take(4)?;
    if crc != crc32c::crc32c_append(crc32c::crc32c(&begin), &meta).to_le_bytes() {
        return Err("the checksum of the head does not agree".to_owned());
    }
    let meta: MetaMirror = codec::decode(&meta).map_err(|error| error.to_string())?;
    Ok(meta.into())
}
