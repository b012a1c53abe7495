//! Block streams: what is asked, where bytes come from, where they go.

use std::future::{Future, ready};
use std::pin::Pin;

use bytes::Bytes;
use weft_transport_proto::BlockRefusal;
use weft_types::{BlockHash, Checksum};

use crate::Peer;

/// Blocks asked of one peer, in the order in which they are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchRequest {
    /// Which, 1 to [`weft_transport_proto::FETCH_BLOCKS_MAX`].
    pub blocks: Vec<BlockHash>,
    /// Bytes each block must have: a peer that holds it in another layout refuses it.
    pub block_bytes: u64,
}

/// A whole block at its source. `bytes` keeps the block pinned until the peer has acknowledged it (`Bytes::from_owner`).
#[derive(Clone, Debug)]
pub struct BlockBytes {
    /// All parts, in order.
    pub bytes: Bytes,
    /// Checksum made by the writer at commit.
    pub checksum: Checksum,
}

/// A block on its way from where reading takes a while.
pub type Bringing<'a> = Pin<Box<dyn Future<Output = Result<BlockBytes, BlockRefusal>> + Send + 'a>>;

/// Where a server takes blocks from.
pub trait BlockSource: Send + Sync + 'static {
    /// Pins and returns a block of `block_bytes`. Called on a runtime thread: it must not wait.
    ///
    /// # Errors
    /// It is not here, or not of that size.
    fn read(&self, peer: &Peer, block: &BlockHash, block_bytes: u64) -> Result<BlockBytes, BlockRefusal>;

    /// Brings a block that [`BlockSource::read`] says is gone from where it takes a while, if there is such a place. Dropped when
    /// the peer goes first.
    fn bring<'a>(&'a self, _peer: &'a Peer, _block: &'a BlockHash, _block_bytes: u64) -> Bringing<'a> {
        Box::pin(ready(Err(BlockRefusal::Gone)))
    }
}

/// Where a client puts blocks. Called in order, from one task; it must not wait.
pub trait BlockSink: Send {
    /// `bytes` of block number `index` (in the request), at `offset`. They count once the block is complete.
    fn chunk(&mut self, index: usize, offset: u64, bytes: &[u8]);
    /// Every byte of the block came, and `checksum` is what the bytes of its chunks have.
    fn complete(&mut self, index: usize, checksum: Checksum);
    /// The block does not come; chunks of it may have been handed over, and are void.
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
