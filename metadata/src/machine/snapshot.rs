//! Snapshots on disk: one file each, written whole; the newest is the one that counts.
//!
//! ```text
//!  0          8      12        12+n   16+n
//!  ┌──────────┬──────┬─────────┬──────┬──────────────────────────────────────────┐
//!  │ WEFTSNP1 │ n    │ meta    │ CRC  │ the directory, with a checksum of its own │
//!  │          │ u32  │ n bytes │ u32  │ to the end of the file                    │
//!  └──────────┴──────┴─────────┴──────┴──────────────────────────────────────────┘
//! ```
//! The checksum is CRC-32C over everything before it; meta is what openraft needs: the last log id and the membership.

use std::io;

use openraft::{BasicNode, SnapshotMeta};
use serde::{Deserialize, Serialize};
use weft_types::codec;

use crate::error::StoreError;
use crate::raft::mirror::{LogIdMirror, StoredMembershipMirror};
use crate::volume::{Volume, read_whole, replace_whole};

const MAGIC: &[u8; 8] = b"WEFTSNP1";
const PREFIX: &str = "snapshot-";
/// Largest snapshot: 16 GiB, thirty times what the default limit of 16 million blocks makes.
pub(crate) const BYTES_MAX: u64 = 16 << 30;

type Meta = SnapshotMeta<u64, BasicNode>;

/// A [`SnapshotMeta`] as it is written, to disk and to the wire.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct MetaMirror {
    last: Option<LogIdMirror>,
    membership: StoredMembershipMirror,
    id: String,
}

impl From<&Meta> for MetaMirror {
    fn from(meta: &Meta) -> Self {
        Self {
            last: meta.last_log_id.map(Into::into),
            membership: (&meta.last_membership).into(),
            id: meta.snapshot_id.clone(),
        }
    }
}

impl From<MetaMirror> for Meta {
    fn from(meta: MetaMirror) -> Self {
        Self { last_log_id: meta.last.map(Into::into), last_membership: meta.membership.into(), snapshot_id: meta.id }
    }
}

/// File name of the snapshot of a log index.
pub(crate) fn name(index: u64) -> String {
    format!("{PREFIX}{index:016x}")
}

fn index_of(meta: &Meta) -> u64 {
    meta.last_log_id.map_or(0, |id| id.index)
}

/// Indices of the snapshots in the volume, in order.
fn indices(volume: &dyn Volume) -> io::Result<Vec<u64>> {
    let names = volume.names()?;
    let parse = |name: &String| u64::from_str_radix(name.strip_prefix(PREFIX)?, 16).ok();
    let mut indices: Vec<u64> = names.iter().filter_map(parse).collect();
    indices.sort_unstable();
    Ok(indices)
}

/// Makes the snapshot durable, then removes older ones.
pub(crate) fn save(volume: &dyn Volume, meta: &Meta, directory: &[u8]) -> io::Result<()> {
    let head = codec::encode(&MetaMirror::from(meta));
    let mut bytes = Vec::with_capacity(16 + head.len() + directory.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&u32::try_from(head.len()).map_err(io::Error::other)?.to_le_bytes());
    bytes.extend_from_slice(&head);
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.extend_from_slice(directory);
    let index = index_of(meta);
    replace_whole(volume, &name(index), &bytes)?;
    for older in indices(volume)?.into_iter().filter(|older| *older < index) {
        volume.remove(&name(older))?;
    }
    volume.sync()
}

/// The newest snapshot: what it covers, and the directory's bytes, which are checked when they are restored.
pub(crate) fn load_newest(volume: &dyn Volume) -> Result<Option<(Meta, Vec<u8>)>, StoreError> {
    let listed = indices(volume).map_err(|source| StoreError::io("list", volume.locate(""), source))?;
    let Some(index) = listed.last() else { return Ok(None) };
    let name = name(*index);
    let mut bytes =
        read_whole(volume, &name, BYTES_MAX).map_err(|source| StoreError::io("read", volume.locate(&name), source))?;
    let damaged = |reason| StoreError::Damaged { file: volume.locate(&name), offset: 0, reason };
    let (meta, head_len) = parse_head(&bytes).map_err(damaged)?;
    bytes.drain(..head_len);
    Ok(Some((meta, bytes)))
}

/// A snapshot whose directory does not check.
pub(crate) fn damaged(volume: &dyn Volume, meta: &Meta, reason: String) -> StoreError {
    StoreError::Damaged { file: volume.locate(&name(index_of(meta))), offset: 0, reason }
}

fn parse_head(bytes: &[u8]) -> Result<(Meta, usize), String> {
    let cut = || "the file ends inside its head".to_owned();
    if bytes.get(..8) != Some(MAGIC) {
        return Err("the magic of a snapshot is missing".to_owned());
    }
    let len = bytes.get(8..12).and_then(|len| len.try_into().ok()).map(u32::from_le_bytes).ok_or_else(cut)? as usize;
    let (head, rest) = bytes.split_at_checked(12 + len).ok_or_else(cut)?;
    let crc = rest.first_chunk().copied().map(u32::from_le_bytes).ok_or_else(cut)?;
    if crc != crc32c::crc32c(head) {
        return Err("the checksum of the head does not agree".to_owned());
    }
    let meta: MetaMirror = codec::decode(&head[12..]).map_err(|error| error.to_string())?;
    Ok((meta.into(), head.len() + 4))
}
