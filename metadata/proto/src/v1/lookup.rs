//! Reads of applied state.

use serde::{Deserialize, Serialize};
use weft_index::layout::Reader;
use weft_types::codec::DecodeError;
use weft_types::rpc::Message;
use weft_types::{HolderGrant, IndexKey, Roster, ShardId, control_message};

/// Request of [`super::method::Lookup`]; little-endian:
///
/// ```text
///  0       2   4         8
///  │ shard │ 0 │ count n │ n keys         │
///  │ u16   │u16│ u32     │ 16 bytes each  │
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LookupRequest {
    /// Which group.
    pub shard: ShardId,
    /// Blocks of a prompt, from token 0.
    pub prefix: Vec<IndexKey>,
}

impl Message for LookupRequest {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(8 + self.prefix.len() * IndexKey::LEN);
        out.extend_from_slice(&self.shard.get().to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        let count = u32::try_from(self.prefix.len()).expect("a prompt has fewer blocks than u32 counts");
        out.extend_from_slice(&count.to_le_bytes());
        self.prefix.iter().for_each(|key| out.extend_from_slice(key.as_bytes()));
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes, "LookupRequest");
        let shard = ShardId::new(reader.u16()?);
        reader.zeros(2)?;
        let count = reader.u32()?;
        let prefix = (0..count).map(|_| reader.key()).collect::<Result<_, _>>()?;
        reader.finish()?;
        Ok(Self { shard, prefix })
    }
}

/// How much of a prefix one holder has.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HolderMatch {
    /// Who.
    pub grant: HolderGrant,
    /// Leading blocks, at least 1.
    pub blocks: u32,
}

/// Answer to a lookup.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LookupResponse {
    /// Log index this member had applied.
    pub applied: u64,
    /// Longest first.
    pub matches: Vec<HolderMatch>,
}

/// Request of [`super::method::Roster`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RosterRequest {
    /// Which group.
    pub shard: ShardId,
}

/// The roster as one member has applied it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RosterResponse {
    /// Log index this member had applied.
    pub applied: u64,
    /// Nodes, endpoints, holders, contracts.
    pub roster: Roster,
}

control_message!(LookupResponse, RosterRequest, RosterResponse);
