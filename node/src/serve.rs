//! Serving peers: blocks of the arenas, pinned for as long as they are on the wire.

use std::sync::Arc;

use bytes::Bytes;
use weft_transport::{BlockBytes, BlockRefusal, BlockSource, Peer};
use weft_types::BlockHash;

use crate::arenas::Arenas;
use crate::metrics::Metrics;

/// The host tier, as peers see it. All 32 bytes of a hash have been compared when a block is found: the directory stores
/// only 16.
#[derive(Debug)]
pub(crate) struct HostBlocks {
    arenas: Arc<Arenas>,
    metrics: Metrics,
}

impl HostBlocks {
    /// Serves the arenas.
    pub(crate) fn new(arenas: Arc<Arenas>, metrics: Metrics) -> Self {
        Self { arenas, metrics }
    }
}

impl BlockSource for HostBlocks {
    fn read(&self, peer: &Peer, block: &BlockHash, block_bytes: u64) -> Result<BlockBytes, BlockRefusal> {
        let (arena, pinned) = self.arenas.pin(block).ok_or(BlockRefusal::Gone)?;
        if arena.region().geometry().block_bytes != block_bytes {
            return Err(BlockRefusal::WrongLayout);
        }
        let checksum = pinned.checksum();
        let bytes = pinned.into_bytes().map_err(|error| {
            tracing::error!(%error, peer = %peer.name, ?block, "a complete block is being written: not served");
            BlockRefusal::Gone
        })?;
        self.metrics.served_blocks.inc();
        self.metrics.served_bytes.inc_by(block_bytes);
        Ok(BlockBytes { bytes: Bytes::from_owner(bytes), checksum })
    }
}
