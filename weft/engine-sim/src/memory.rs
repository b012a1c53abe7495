//! The device tier as requests share it: admission, allocations that give themselves back, and reports to the node.

use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::Gauge;
use tokio::sync::Notify;
use weft_node_client::{LoadSource, NodeClient};
use weft_types::BlockHash;

use crate::device::DeviceTier;
use crate::usage::Source;

/// One device memory. The node hears of each change in the order in which it happens, since it is told under the lock.
#[derive(Debug)]
pub(crate) struct Memory {
    tier: Mutex<DeviceTier>,
    freed: Notify,
    node: Option<NodeClient>,
    usage: Gauge,
}

/// Blocks that came through the node: a run of the prompt's blocks from number `first`.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) first: usize,
    pub(crate) sources: Vec<LoadSource>,
    /// Their bytes, all compared.
    pub(crate) verified_bytes: u64,
}

/// Slots of one request, given back when dropped.
#[derive(Debug)]
pub(crate) struct Allocation {
    memory: Arc<Memory>,
    /// In order of the prefix.
    pinned: Vec<BlockHash>,
    reserved: usize,
}

impl Memory {
    pub(crate) fn new(capacity: usize, node: Option<NodeClient>, usage: Gauge) -> Arc<Self> {
        Arc::new(Self { tier: Mutex::new(DeviceTier::new(capacity)), freed: Notify::new(), node, usage })
    }

    pub(crate) fn capacity(&self) -> usize {
        self.tier.lock().capacity()
    }

    /// Leading blocks on the device, which become the last to be evicted.
    pub(crate) fn touch_leading(&self, blocks: &[BlockHash]) -> usize {
        let mut tier = self.tier.lock();
        let leading = tier.leading(blocks);
        tier.touch(&blocks[..leading]);
        leading
    }

    /// Slots for `total` blocks, of which the leading ones are `blocks` as far as they are on the device or loaded.
    /// Waits while running requests hold too much; the caller holds the head of the queue, so there is one waiter.
    pub(crate) async fn admit(
        self: &Arc<Self>,
        blocks: &[BlockHash],
        loaded: &Loaded,
        total: usize,
    ) -> (Allocation, Vec<Source>, Waited) {
        let mut waited = Waited(false);
        loop {
            if let Some((allocation, sources)) = self.try_admit(blocks, loaded, total) {
                return (allocation, sources, waited);
            }
            waited = Waited(true);
            self.freed.notified().await;
        }
    }

    fn try_admit(
        self: &Arc<Self>,
        blocks: &[BlockHash],
        loaded: &Loaded,
        total: usize,
    ) -> Option<(Allocation, Vec<Source>)> {
        let mut tier = self.tier.lock();
        let source = |(number, block)| match tier.contains(block) {
            true => Some(Source::Device),
            false => loaded.source(number).map(Source::Loaded),
        };
        let sources: Vec<_> = blocks.iter().enumerate().map_while(source).collect();
        let (hits, arrived): (Vec<_>, Vec<_>) =
            blocks.iter().zip(&sources).partition(|(_, source)| **source == Source::Device);
        let names = |of: Vec<(&BlockHash, &Source)>| of.into_iter().map(|(block, _)| *block).collect::<Vec<_>>();
        let (hits, arrived) = (names(hits), names(arrived));
        let evicted = tier.admit(&hits, total - hits.len())?;
        let stored = tier.commit(&arrived);
        self.report(&tier, &stored, &evicted);
        let pinned = blocks[..sources.len()].to_vec();
        let reserved = total - pinned.len();
        Some((Allocation { memory: self.clone(), pinned, reserved }, sources))
    }

    fn report(&self, tier: &DeviceTier, stored: &[BlockHash], removed: &[BlockHash]) {
        self.usage.set(tier.in_use() as f64 / tier.capacity() as f64);
        if let Some(node) = self.node.as_ref().filter(|_| !(stored.is_empty() && removed.is_empty())) {
            node.device_changed(stored, removed);
        }
    }
}

/// Whether an admission had to wait for memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waited(pub(crate) bool);

impl Loaded {
    fn source(&self, number: usize) -> Option<LoadSource> {
        number.checked_sub(self.first).and_then(|position| self.sources.get(position)).copied()
    }
}

impl Allocation {
    /// Names the next blocks of the prefix, now computed.
    pub(crate) fn commit(&mut self, blocks: &[BlockHash]) {
        let mut tier = self.memory.tier.lock();
        let stored = tier.commit(blocks);
        self.memory.report(&tier, &stored, &[]);
        self.pinned.extend_from_slice(blocks);
        self.reserved -= blocks.len();
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        let mut tier = self.memory.tier.lock();
        tier.release(&self.pinned, self.reserved);
        self.memory.report(&tier, &[], &[]);
        self.memory.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(numbers: std::ops::Range<u8>) -> Vec<BlockHash> {
        numbers.map(|number| BlockHash::from_bytes([number + 1; 32])).collect()
    }

    fn memory(capacity: usize) -> Arc<Memory> {
        Memory::new(capacity, None, Gauge::new("usage", "test").unwrap())
    }

    #[tokio::test]
    async fn loaded_blocks_count_as_far_as_they_join_the_device() {
        let memory = memory(8);
        let (mut first, ..) = memory.admit(&[], &Loaded::default(), 2).await;
        first.commit(&blocks(0..2));
        let sources = vec![LoadSource::Host, LoadSource::Peer];
        let loaded = Loaded { first: 2, sources, verified_bytes: 0 };
        let (_second, sources, _) = memory.admit(&blocks(0..6), &loaded, 6).await;
        let expected =
            [Source::Device, Source::Device, Source::Loaded(LoadSource::Host), Source::Loaded(LoadSource::Peer)];
        assert_eq!(sources, expected);
        assert_eq!(memory.touch_leading(&blocks(0..6)), 4);

        let gap = Loaded { first: 1, sources: vec![LoadSource::Host], verified_bytes: 0 };
        let (_third, sources, _) = memory.admit(&blocks(10..12), &gap, 2).await;
        assert_eq!(sources, [], "a run that starts behind a hole is of no use");
    }

    #[tokio::test]
    async fn a_request_that_does_not_fit_waits_for_the_release() {
        let memory = memory(4);
        let (first, ..) = memory.admit(&[], &Loaded::default(), 3).await;
        let second = tokio::spawn({
            let memory = memory.clone();
            async move { memory.admit(&[], &Loaded::default(), 2).await.2.0 }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(first);
        assert!(second.await.unwrap(), "it knows that it waited");
    }
}
