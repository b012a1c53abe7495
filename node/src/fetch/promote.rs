//! From disk into host memory: each block is read by a thread that may wait, straight into its slot.

use std::sync::Arc;

use tokio::time::Instant;
use weft_attach::Source;
use weft_store::disk::DiskTier;
use weft_store::disk::format::Space;
use weft_store::{Arena, PinnedBlock, ReservedSlot};
use weft_types::BlockHash;

use super::flights::{Flight, Shared};
use super::{FLIGHT_BLOCKS_MAX, Fetcher, absent};
use crate::metrics::Promotions;

/// A block to be read.
struct Promotion {
    flight: Arc<Flight>,
    /// `None` once it is written, or will not be.
    slot: Option<ReservedSlot>,
    block: BlockHash,
    space: Arc<Space>,
    deadline: Instant,
    metrics: Promotions,
}

impl Fetcher {
    /// Has what is on disk read, of what is neither here, nor on its way, nor was read for this load.
    pub(super) fn promote(&self, arena: &Arc<Arena>, rest: &[BlockHash], read: &mut [bool], deadline: Instant) {
        let Some((disk, tier)) = self.disk.as_ref().and_then(|disk| Some((disk, disk.readable()?))) else { return };
        let mut wanted = absent(arena, rest, read);
        wanted.retain(|at| tier.contains(&rest[*at]));
        let Some((flight, claimed)) = self.flights.claim(Source::Disk, rest, &wanted, FLIGHT_BLOCKS_MAX) else {
            return;
        };
        claimed.iter().for_each(|at| read[*at] = true);
        let blocks: Vec<_> = claimed.into_iter().map(|at| rest[at]).collect();
        let (flight, space) = (Arc::new(flight), Arc::new(Space::of(arena.contract())));
        let mut slots = arena.reserve(&blocks).into_iter();
        for block in blocks {
            let slot = match slots.next() {
                Some(Some(slot)) => slot,
                missed => {
                    // Without a slot of ours it is here by now, or on its way by other means.
                    self.metrics.promotions.space.inc_by(u64::from(missed.is_none()));
                    flight.miss(&block);
                    continue;
                }
            };
            let (flight, space) = (Arc::clone(&flight), Arc::clone(&space));
            let metrics = self.metrics.promotions.clone();
            let promotion = Promotion { slot: Some(slot), flight, block, space, deadline, metrics };
            if !disk.read(move |tier| promotion.run(tier)) {
                self.metrics.promotions.busy.inc();
            }
        }
    }

    /// Whether a flight is worth waiting for: not one from a disk that hangs.
    pub(super) fn moves(&self, flight: &Shared) -> bool {
        flight.source() != Source::Disk || self.disk.as_ref().is_none_or(|disk| !disk.hangs())
    }

    /// Pins what continues the run by now; returns how many blocks. `read` from disk and `tried` at peers are those that
    /// this load asked for.
    pub(super) fn take(
        &self,
        arena: &Arc<Arena>,
        rest: &[BlockHash],
        (read, tried): (&[bool], &[bool]),
        run: &mut Vec<(PinnedBlock, Source)>,
    ) -> usize {
        let more = arena.pin_leading(rest);
        let count = more.len();
        let tier = self.disk.as_ref().and_then(|disk| disk.tier());
        // Where others had it brought from is not known for sure.
        let on_disk = |block| tier.as_ref().is_some_and(|tier| tier.contains(block));
        let source = |at: usize| match self.remote.is_none() || !tried[at] && (read[at] || on_disk(&rest[at])) {
            true => Source::Disk,
            false => Source::Peer,
        };
        run.extend(more.into_iter().enumerate().map(|(at, pinned)| (pinned, source(at))));
        count
    }
}

impl Promotion {
    /// `true` when it was read.
    fn run(mut self, tier: &DiskTier) -> bool {
        let Some(mut slot) = self.slot.take() else { return false };
        if Instant::now() >= self.deadline {
            self.metrics.late.inc();
            return false;
        }
        let read = tier.read(&self.block, &self.space, slot.bytes_mut());
        match read {
            Some(checksum) => {
                self.metrics.landed.inc();
                self.flight.land(&self.block, slot.commit(checksum));
            }
            None => self.metrics.lost.inc(),
        }
        read.is_some()
    }
}

impl Drop for Promotion {
    fn drop(&mut self) {
        // In this order: when whoever waits hears that it does not come, it is on its way no longer.
        self.slot = None;
        self.flight.miss(&self.block);
    }
}
