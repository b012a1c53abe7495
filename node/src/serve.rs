//! Serving peers: blocks of the arenas, pinned for as long as they are on the wire, and blocks of the disk tier, read into a buffer.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use weft_store::disk::{DiskTier, PageBuffer};
use weft_transport::{BlockBytes, BlockRefusal, BlockSource, Bringing, Peer};
use weft_types::{BlockHash, Checksum};

use crate::arenas::Arenas;
use crate::disk::Disk;
use crate::metrics::Metrics;

/// Memory for blocks that were read from disk for peers, in MiB: 256, enough for a hundred streams. It is not the arena's: what
/// peers want must not push out what engines have.
const BUFFER_MIB: u32 = 256;

/// Host and disk tier, as peers see them. All 32 bytes of a hash have been compared when a block is found: the directory stores
/// only 16.
#[derive(Debug)]
pub(crate) struct HostBlocks {
    arenas: Arc<Arenas>,
    disk: Option<Arc<Disk>>,
    buffers: Arc<Semaphore>,
    metrics: Metrics,
}

/// A block that was read from disk. Its share of the memory goes back with it.
struct Buffer {
    pages: PageBuffer,
    bytes: usize,
    _share: OwnedSemaphorePermit,
}

impl HostBlocks {
    /// Serves the arenas, and the disk tier.
    pub(crate) fn new(arenas: Arc<Arenas>, disk: Option<Arc<Disk>>, metrics: Metrics) -> Self {
        Self { arenas, disk, buffers: Arc::new(Semaphore::new(BUFFER_MIB as usize)), metrics }
    }

    fn served(&self, block_bytes: u64) {
        self.metrics.served_blocks.inc();
        self.metrics.served_bytes.inc_by(block_bytes);
    }

    /// `None`: it is not there, not as it was written, or too much is read already.
    async fn read_from_disk(&self, block: BlockHash, block_bytes: u64) -> Option<BlockBytes> {
        let disk = self.disk.as_ref()?;
        disk.readable().filter(|tier| tier.contains(&block))?;
        let mib = u32::try_from(block_bytes.div_ceil(1 << 20)).unwrap_or(u32::MAX).min(BUFFER_MIB);
        let share = Arc::clone(&self.buffers).acquire_many_owned(mib).await.ok()?;
        let (done, read) = oneshot::channel::<Option<(PageBuffer, Checksum)>>();
        let job = move |tier: &DiskTier| {
            if done.is_closed() {
                return false;
            }
            let mut pages = PageBuffer::new(0);
            let found = tier.read_any(&block, block_bytes, &mut pages).map(|checksum| (pages, checksum));
            let went_well = found.is_some();
            // Whoever asked may have gone.
            drop(done.send(found));
            went_well
        };
        if !disk.read(job) {
            return None;
        }
        let (pages, checksum) = read.await.ok()??;
        let buffer = Buffer { pages, bytes: usize::try_from(block_bytes).ok()?, _share: share };
        self.served(block_bytes);
        Some(BlockBytes { bytes: Bytes::from_owner(buffer), checksum })
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.pages.bytes()[..self.bytes]
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
        self.served(block_bytes);
        Ok(BlockBytes { bytes: Bytes::from_owner(bytes), checksum })
    }

    fn bring<'a>(&'a self, _peer: &'a Peer, block: &'a BlockHash, block_bytes: u64) -> Bringing<'a> {
        Box::pin(async move { self.read_from_disk(*block, block_bytes).await.ok_or(BlockRefusal::Gone) })
    }
}
