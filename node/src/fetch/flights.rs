//! Blocks that are being fetched, and who waits for them: one flight per block.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use weft_attach::Source;
use weft_store::PinnedBlock;
use weft_types::BlockHash;

/// Every block in flight. Bounded by the number of flights and the blocks in each.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    under_way: Mutex<HashMap<BlockHash, Arc<Shared>>>,
}

/// A flight, for the one who flies it. When it is dropped, blocks that did not land are nobody's again.
#[derive(Debug)]
pub(crate) struct Flight {
    flights: Arc<Flights>,
    shared: Arc<Shared>,
    blocks: Vec<BlockHash>,
}

/// A flight, for those who wait.
#[derive(Debug)]
pub(crate) struct Shared {
    source: Source,
    progress: watch::Sender<()>,
    /// What landed, pinned until all who waited have let go of this.
    landed: Mutex<Vec<PinnedBlock>>,
}

impl Flights {
    /// Claims those of the `wanted` positions of `span` that nobody fetches, up to `max`, to bring them from `source`; `None`
    /// if there are none.
    pub(crate) fn claim(
        self: &Arc<Self>,
        source: Source,
        span: &[BlockHash],
        wanted: &[usize],
        max: usize,
    ) -> Option<(Flight, Vec<usize>)> {
        let mut under_way = self.under_way.lock();
        let free = wanted.iter().copied().filter(|at| !under_way.contains_key(&span[*at]));
        let claimed: Vec<_> = free.take(max).collect();
        if claimed.is_empty() {
            return None;
        }
        let shared = Arc::new(Shared { source, progress: watch::Sender::new(()), landed: Mutex::default() });
        let blocks: Vec<_> = claimed.iter().map(|at| span[*at]).collect();
        under_way.extend(blocks.iter().map(|block| (*block, Arc::clone(&shared))));
        Some((Flight { flights: Arc::clone(self), shared, blocks }, claimed))
    }

    /// The flight that brings a block.
    pub(crate) fn of(&self, block: &BlockHash) -> Option<Arc<Shared>> {
        self.under_way.lock().get(block).cloned()
    }

    /// Resolves when the block has landed, or will not.
    pub(crate) async fn landed(&self, flight: &Arc<Shared>, block: &BlockHash) {
        let mut progress = flight.progress.subscribe();
        while self.of(block).is_some_and(|current| Arc::ptr_eq(&current, flight)) {
            // The sender lives in the flight, which is held here.
            drop(progress.changed().await);
        }
    }
}

impl Shared {
    /// Where it brings its blocks from.
    pub(crate) fn source(&self) -> Source {
        self.source
    }
}

impl Flight {
    /// A block is here, pinned.
    pub(crate) fn land(&self, block: &BlockHash, pinned: PinnedBlock) {
        self.shared.landed.lock().push(pinned);
        self.flights.under_way.lock().remove(block);
        self.shared.progress.send_replace(());
    }

    /// A block does not come, while others may.
    pub(crate) fn miss(&self, block: &BlockHash) {
        self.release(std::slice::from_ref(block));
    }

    fn release(&self, blocks: &[BlockHash]) {
        let mut under_way = self.flights.under_way.lock();
        for block in blocks {
            if under_way.get(block).is_some_and(|current| Arc::ptr_eq(current, &self.shared)) {
                under_way.remove(block);
            }
        }
        drop(under_way);
        self.shared.progress.send_replace(());
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.release(&self.blocks);
    }
}
