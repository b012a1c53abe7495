//! What a holder holds, compared: the node tells its sums, and gets back where the directory's are others.
//!
//! ```text
//!   node                                              leader
//!   sums of 64 groups, of what it really holds ─────►
//!                                             ◄───── number of the last report applied,
//!                                                    and of each group that differs its 64 sums
//! ```
//! An agreement costs half a kilobyte and no walk over the index. The answer means something only if every report up to that
//! number, and none behind it, is in the node's own sums.

use serde::{Deserialize, Serialize};
use weft_index::Digests;
use weft_index::layout::Reader;
use weft_types::codec::DecodeError;
use weft_types::rpc::Message;
use weft_types::{Generation, HolderId, ShardId};

/// Request of [`super::method::Digests`]; little-endian:
///
/// ```text
///  0       2   4        8            12  16       24
///  │ shard │ 0 │ holder │ generation │ 0 │ blocks │ 64 sums, one a group │
///  │ u16   │u16│ u32    │ u32        │u32│ u64    │ u64 each             │
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DigestsRequest {
    /// Which group.
    pub shard: ShardId,
    /// Whose.
    pub holder: HolderId,
    /// Life of the number under which it was granted.
    pub generation: Generation,
    /// Blocks that it holds.
    pub blocks: u64,
    /// Sums of the groups ([`Digests::groups`]).
    pub groups: [u64; Digests::GROUPS],
}

/// Answer of [`super::method::Digests`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HolderDigests {
    /// Number of the last report applied.
    pub number: u64,
    /// Blocks that are listed of the holder.
    pub blocks: u64,
    /// Groups whose sums are not those of the request, ascending.
    pub differing: Vec<GroupDigests>,
}

/// One group, as the directory has it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GroupDigests {
    /// Which, from 0.
    pub group: u8,
    /// Sums of its 64 partitions.
    pub sums: Vec<u64>,
}

impl HolderDigests {
    /// Compares a holder's digests in the directory with what its node told.
    #[must_use]
    pub fn compare(number: u64, listed: &Digests, told: &[u64; Digests::GROUPS]) -> Self {
        let pairs = listed.groups().into_iter().zip(told).zip(0u8..);
        let differing = pairs.filter(|((listed, told), _)| listed != *told);
        let differing =
            differing.map(|(_, group)| GroupDigests { group, sums: listed.group(usize::from(group)).to_vec() });
        Self { number, blocks: listed.blocks(), differing: differing.collect() }
    }
}

impl Message for DigestsRequest {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(24 + 8 * Digests::GROUPS);
        out.extend_from_slice(&self.shard.get().to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&self.holder.get().to_le_bytes());
        out.extend_from_slice(&self.generation.get().to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.blocks.to_le_bytes());
        self.groups.iter().for_each(|sum| out.extend_from_slice(&sum.to_le_bytes()));
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes, "DigestsRequest");
        let shard = ShardId::new(reader.u16()?);
        reader.zeros(2)?;
        let (holder, generation) = (HolderId::new(reader.u32()?), Generation::new(reader.u32()?));
        reader.zeros(4)?;
        let blocks = reader.u64()?;
        let mut groups = [0; Digests::GROUPS];
        for sum in &mut groups {
            *sum = reader.u64()?;
        }
        reader.finish()?;
        Ok(Self { shard, holder, generation, blocks, groups })
    }
}
