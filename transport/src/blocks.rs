//! Block streams: what is asked, where bytes come from, where they go.
use crate::Peer;
use bytes::Bytes;
use weft_types::{BlockHash, Checksum};

/// Blocks asked of one peer, in the order in which they are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchRequest {
    /// Seed of the model key (`BlockHasher::seed`) or of the engine-key space: a peer that serves another layout has none of these blocks.
    pub blocks: Vec<BlockHash>,
    /// Bytes each block must have.
    pub block_bytes: u64,
}

/// A whole block at its source; `bytes` keeps the pin (`Bytes::from_owner`).
#[derive(Clone, Debug)]
pub struct BlockBytes {
    /// All parts, in order.
    pub bytes: Bytes,
    /// Checksum made by the writer at commit.
    pub checksum: Checksum,
}

/// Why one block does not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlockRefusal {
    /// Not held (any more).
    Gone,
    /// Held, with other sizes.
    WrongLayout,
    /// Arrived, and its checksum did not agree.
    Corrupt,
}

/// Where a server takes blocks from.
pub trait BlockSource: Send + Sync + 'static {
    /// Pins and returns a block.
    fn read(&self, peer: &Peer, block: &BlockHash, block_bytes: u64) -> Result<BlockBytes, BlockRefusal>;
}

/// Where a client puts them. Called in order, from one task.
pub trait BlockSink: Send {
    /// `bytes` of block number `index` (in the request), at `offset`.
    fn chunk(&mut self, index: usize, offset: u64, bytes: &[u8]);
    /// Every byte of the block came; the transport has compared `checksum` with what it computed over the chunks.
    fn complete(&mut self, index: usize, checksum: Checksum);
    /// The block does not come.
    fn refused(&mut self, index: usize, refusal: BlockRefusal);
}

/// What a fetch brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FetchSummary {
    /// Blocks complete.
    pub blocks: usize,
    /// Bytes of them.
    pub bytes: u64,
}
