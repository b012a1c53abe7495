//! Where a fetch puts its bytes: straight into reserved slots, committed as each block is whole and proven.

use weft_store::ReservedSlot;
use weft_transport::{BlockRefusal, BlockSink};
use weft_types::{BlockHash, Checksum};

use super::flights::Flight;
use crate::metrics::Metrics;

/// Slots of one fetch.
pub(crate) struct ArenaSink<'a> {
    /// `None` once a block has landed, or will not.
    slots: Vec<Option<ReservedSlot>>,
    blocks: &'a [BlockHash],
    landed: Vec<bool>,
    flight: &'a Flight,
    metrics: &'a Metrics,
}

impl<'a> ArenaSink<'a> {
    /// A slot for each block.
    pub(crate) fn new(
        slots: Vec<Option<ReservedSlot>>,
        blocks: &'a [BlockHash],
        flight: &'a Flight,
        metrics: &'a Metrics,
    ) -> Self {
        let landed = vec![false; slots.len()];
        Self { slots, blocks, landed, flight, metrics }
    }

    /// Which blocks landed.
    pub(crate) fn landed(&self) -> impl Iterator<Item = usize> {
        self.landed.iter().enumerate().filter(|(_, landed)| **landed).map(|(index, _)| index)
    }
}

impl BlockSink for ArenaSink<'_> {
    fn chunk(&mut self, index: usize, offset: u64, bytes: &[u8]) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        if slot.as_mut().is_some_and(|writer| writer.write_at(offset, bytes).is_err()) {
            // More bytes than the block has: whatever the peer sends, it is not this block.
            *slot = None;
        }
    }

    fn complete(&mut self, index: usize, checksum: Checksum) {
        if let Some(slot) = self.slots.get_mut(index).and_then(Option::take) {
            self.flight.land(&self.blocks[index], slot.commit(checksum));
            self.landed[index] = true;
        }
    }

    fn refused(&mut self, index: usize, refusal: BlockRefusal) {
        if let Some(slot) = self.slots.get_mut(index) {
            *slot = None;
        }
        match refusal {
            BlockRefusal::Corrupt => {
                self.metrics.checksum_failures.inc();
                tracing::error!(block = ?self.blocks.get(index), "a peer's block arrived with other bytes: not taken");
            }
            _ => self.metrics.fetch_failures.gone.inc(),
        }
    }
}
