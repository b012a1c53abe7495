//! Host memory of one contract: a shared region, and the tier that says what is in it.
//!
//! The lock over the tier is held for table look-ups only, never while bytes are copied and never across an await: a
//! reservation or a pin is what keeps the bytes still meanwhile.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard};
use weft_attach::{BorrowError, Region, RegionError, SlotIndex, SlotReader, SlotRef, SlotWriter};
use weft_types::{BlockHash, Checksum, Contract};

use crate::disk::Candidate;
use crate::{Cleared, HostTier, LeasedKeys, Lru, MemoryShare, Pinned, Reservation};

/// Bytes that are faulted in before their slots are offered: 64 MiB, some 20 ms of work, so that a node takes its first
/// blocks at once and a large arena fills in behind them.
const POPULATE_STEP_BYTES: u64 = 64 << 20;

/// Slots that are cleared, or looked up among the leases, while the tier is locked: some 0.2 ms at 50 ns each.
const STEP_SLOTS: usize = 4_096;

/// A region and its tier.
pub struct Arena {
    contract: Contract,
    region: Arc<Region>,
    tier: Mutex<HostTier>,
    changed: Box<dyn Fn() + Send + Sync>,
    _share: MemoryShare,
}

/// The tier, locked. When it is let go with changes in its log, whoever reports them is told.
#[derive(Debug)]
pub struct TierGuard<'a> {
    tier: MutexGuard<'a, HostTier>,
    arena: &'a Arena,
}

/// A block that stays until this is dropped.
#[derive(Debug)]
pub struct PinnedBlock {
    arena: Arc<Arena>,
    slot: SlotRef,
    checksum: Checksum,
    /// `false` once somebody else counts the pin.
    held: bool,
}

/// Bytes of a pinned block.
#[derive(Debug)]
struct PinnedBytes {
    // In this order: the borrow ends before the pin.
    reader: SlotReader,
    _pin: PinnedBlock,
}

/// A slot that this process writes. Dropping it gives the slot back.
#[derive(Debug)]
pub struct ReservedSlot {
    arena: Arc<Arena>,
    slot: SlotRef,
    /// `None` once committed.
    writer: Option<SlotWriter>,
}

impl Arena {
    /// An arena over a region of this process; `changed` is called, with the tier locked, when there is something to
    /// report.
    #[must_use]
    pub fn new(
        contract: Contract,
        region: Arc<Region>,
        share: MemoryShare,
        changed: Box<dyn Fn() + Send + Sync>,
    ) -> Arc<Self> {
        let slots = region.geometry().slots;
        let tier = Mutex::new(HostTier::new(slots, Box::new(Lru::new(slots))));
        Arc::new(Self { contract, region, tier, changed, _share: share })
    }

    /// Faults all pages in, step by step, offering the slots of each step when it is done and calling `said`. Blocks;
    /// ends early when nobody needs the arena any more.
    ///
    /// # Errors
    /// The memory is not there: the arena goes on with the slots it has.
    pub fn populate(arena: &Weak<Self>, said: impl Fn()) -> Result<(), RegionError> {
        let mut ready = 0;
        while let Some(arena) = arena.upgrade() {
            let geometry = arena.region.geometry();
            let step = u32::try_from(POPULATE_STEP_BYTES / geometry.slot_bytes).unwrap_or(u32::MAX).max(1);
            let step = step.min(geometry.slots - ready);
            if step == 0 {
                return Ok(());
            }
            arena.region.populate(SlotIndex(ready), step)?;
            ready += step;
            arena.tier.lock().set_ready(ready);
            said();
        }
        Ok(())
    }

    /// Whose blocks these are.
    #[must_use]
    pub fn contract(&self) -> &Contract {
        &self.contract
    }

    /// The memory.
    #[must_use]
    pub fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// Locks the tier. Never hold it across an await, or while copying a block.
    pub fn tier(&self) -> TierGuard<'_> {
        TierGuard { tier: self.tier.lock(), arena: self }
    }

    /// From now on these are the blocks that leases pin: they are not evicted. In steps, as [`Arena::clear`].
    pub fn set_leased(&self, leased: Arc<LeasedKeys>) {
        self.tier().set_leased(leased);
        // What is leased no longer makes room, within the bound, for what is leased now.
        for _ in 0..2 {
            let mut from = 0;
            while self.tier().review_leases(from..from + STEP_SLOTS) {
                from += STEP_SLOTS;
            }
        }
    }

    /// Removes every complete block but those that are to be kept. In steps, so that whoever needs the tier waits for one of
    /// them at most; what is stored meanwhile may stay.
    pub fn clear(&self, mut keep: impl FnMut(&BlockHash) -> bool) -> Cleared {
        let (mut cleared, mut from) = (Cleared::default(), 0);
        while let Some(step) = self.tier().clear(from..from + STEP_SLOTS, &mut keep) {
            cleared.removed += step.removed;
            cleared.kept += step.kept;
            from += STEP_SLOTS;
        }
        cleared
    }

    /// Pins the longest leading run of a prefix that is here.
    #[must_use]
    pub fn pin_leading(self: &Arc<Self>, prefix: &[BlockHash]) -> Vec<PinnedBlock> {
        let run = self.tier().pin_leading(prefix);
        run.into_iter().map(|pinned| self.guard(pinned)).collect()
    }

    /// Pins one block.
    #[must_use]
    pub fn pin(self: &Arc<Self>, block: &BlockHash) -> Option<PinnedBlock> {
        let pinned = self.tier().pin(block)?;
        Some(self.guard(pinned))
    }

    /// Reserves a slot for each block, to be written by this process; `None` for a block that is here or on its way. Ends
    /// with the last block that finds a slot: what is shorter than `blocks` ran out of space.
    #[must_use]
    pub fn reserve(self: &Arc<Self>, blocks: &[BlockHash]) -> Vec<Option<ReservedSlot>> {
        let reservations: Vec<_> = {
            let mut tier = self.tier();
            let reserve = |block| Some(tier.reserve(block)).filter(|reservation| *reservation != Reservation::Full);
            blocks.iter().map_while(reserve).collect()
        };
        reservations.into_iter().map(|reservation| self.writer(reservation)).collect()
    }

    /// Pins up to `max` blocks that a tier below should have: see [`HostTier::offers`].
    #[must_use]
    pub fn offers(self: &Arc<Self>, max: usize) -> Vec<(Candidate, PinnedBlock)> {
        let offers = self.tier().offers(max);
        offers.into_iter().map(|offer| (offer.candidate, self.guard(offer.pinned))).collect()
    }

    fn writer(self: &Arc<Self>, reservation: Reservation) -> Option<ReservedSlot> {
        let Reservation::Granted(slot) = reservation else { return None };
        match self.region.write(slot.slot) {
            Ok(writer) => Some(ReservedSlot { arena: Arc::clone(self), slot, writer: Some(writer) }),
            Err(error) => {
                // Leaked on purpose: whoever borrows it believes to have it.
                tracing::error!(%error, "a reserved slot is borrowed: its bytes are left alone");
                None
            }
        }
    }

    fn guard(self: &Arc<Self>, Pinned { slot, checksum }: Pinned) -> PinnedBlock {
        PinnedBlock { arena: Arc::clone(self), slot, checksum, held: true }
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arena")
            .field("contract", &self.contract.id())
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

impl Deref for TierGuard<'_> {
    type Target = HostTier;

    fn deref(&self) -> &HostTier {
        &self.tier
    }
}

impl DerefMut for TierGuard<'_> {
    fn deref_mut(&mut self) -> &mut HostTier {
        &mut self.tier
    }
}

impl Drop for TierGuard<'_> {
    fn drop(&mut self) {
        if !self.tier.changes().is_empty() {
            (self.arena.changed)();
        }
    }
}

impl PinnedBlock {
    /// Where it lies.
    #[must_use]
    pub fn slot(&self) -> SlotRef {
        self.slot
    }

    /// Checksum of its bytes, made by its writer.
    #[must_use]
    pub fn checksum(&self) -> Checksum {
        self.checksum
    }

    /// Its bytes, pinned for as long as they live.
    ///
    /// # Errors
    /// This process is writing the slot, which a pin rules out.
    pub fn into_bytes(self) -> Result<impl AsRef<[u8]> + Send + 'static, BorrowError> {
        let reader = self.arena.region.read(self.slot.slot)?;
        Ok(PinnedBytes { reader, _pin: self })
    }

    /// Leaves the pin to whoever calls `unpin` with this.
    pub(crate) fn into_raw(mut self) -> SlotRef {
        self.held = false;
        self.slot
    }
}

impl Drop for PinnedBlock {
    fn drop(&mut self) {
        if self.held {
            let done = self.arena.tier().unpin(self.slot);
            debug_assert_eq!(done, Ok(()), "this guard is the pin");
        }
    }
}

impl AsRef<[u8]> for PinnedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.reader
    }
}

impl ReservedSlot {
    /// Copies `bytes` to `offset` of the block.
    ///
    /// # Errors
    /// They do not fit: the number of bytes that would.
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), usize> {
        self.writer.as_mut().map_or(Err(0), |writer| writer.write_at(offset, bytes))
    }

    /// Its bytes, to write; whatever they are, until it is committed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.writer.as_deref_mut().unwrap_or_default()
    }

    /// The block is written: it can be found from now on. It comes back pinned, so that it is still there when whoever
    /// waited for it looks.
    #[must_use]
    pub fn commit(mut self, checksum: Checksum) -> PinnedBlock {
        self.writer = None;
        let mut tier = self.arena.tier();
        let done = tier.commit(self.slot, checksum).and_then(|()| tier.repin(self.slot));
        debug_assert_eq!(done, Ok(()), "this guard is the reservation");
        drop(tier);
        self.arena.guard(Pinned { slot: self.slot, checksum })
    }
}

impl Drop for ReservedSlot {
    fn drop(&mut self) {
        if self.writer.take().is_some() {
            let done = self.arena.tier().abort(self.slot);
            debug_assert_eq!(done, Ok(()), "this guard is the reservation");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use weft_attach::Geometry;
    use weft_types::{BlockSize, ByteSize, ModelKey, Part};

    use super::*;
    use crate::{Held, Ledger, LedgerError, MemoryBudget};

    const BLOCK_BYTES: u64 = 3 << 20;

    fn contract() -> Contract {
        let model_key = ModelKey {
            model: "m".into(),
            revision: "1".into(),
            adapter: String::new(),
            salt: String::new(),
            layout: "l".into(),
            block_tokens: BlockSize::DEFAULT,
        };
        let parts = vec![Part { bytes: BLOCK_BYTES, ranks: vec![0] }];
        Contract { model_key, parts, aliases: Vec::new(), tokenizer: String::new(), chat_template: String::new() }
    }

    fn arena() -> (Arc<Arena>, Arc<AtomicUsize>) {
        let geometry = Geometry::fit(BLOCK_BYTES, 6 << 20).unwrap();
        let share = MemoryBudget::new(ByteSize::from_mib(6)).take(ByteSize::from_mib(6)).unwrap();
        let signals = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&signals);
        let changed = Box::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let arena = Arena::new(contract(), Region::create("weft-test", geometry).unwrap(), share, changed);
        Arena::populate(&Arc::downgrade(&arena), || {}).unwrap();
        (arena, signals)
    }

    fn hash(byte: u8) -> BlockHash {
        BlockHash::from_bytes([byte; 32])
    }

    #[test]
    fn a_block_that_is_written_can_be_read_and_stays_while_it_is() {
        let (arena, signals) = arena();
        let mut slots = arena.reserve(&[hash(1), hash(1), hash(2)]);
        assert!(slots[1].is_none(), "on its way already");
        let mut slot = slots[0].take().unwrap();
        slot.write_at(BLOCK_BYTES - 3, b"end").unwrap();
        assert_eq!(signals.load(Ordering::Relaxed), 0);
        let pinned = slot.commit(Checksum::from_u64(7));
        assert_eq!(signals.load(Ordering::Relaxed), 1, "whoever reports is told");
        drop(slots);
        assert_eq!(arena.tier().held(), Held { complete: 1, pinned: 1, ..Held::default() });

        let bytes = bytes::Bytes::from_owner(pinned.into_bytes().unwrap());
        let tail = bytes.slice(bytes.len() - 3..);
        drop(bytes);
        let others = arena.reserve(&[hash(3), hash(4)]);
        assert!(others[0].is_some() && others.len() == 1, "the pinned block is not evicted");
        assert_eq!(&tail[..], b"end");
        drop(tail);
        assert!(arena.reserve(&[hash(4)])[0].is_some());
        assert!(arena.pin(&hash(1)).is_none(), "evicted once the last reader was gone");
    }

    #[test]
    fn an_attachment_gives_back_only_what_it_took_and_all_of_it_at_its_end() {
        let (arena, _) = arena();
        let (mut ledger, mut other) = (Ledger::new(), Ledger::new());
        let granted = ledger.reserve(&mut arena.tier(), &[hash(1), hash(2), hash(3)], 1);
        let Reservation::Granted(slot) = granted[0] else { panic!("{granted:?}") };
        assert_eq!(granted[1..], [Reservation::Full; 2], "one reservation at a time was the bound");
        let commit = [(slot, Some(Checksum::from_u64(1)))];
        assert_eq!(other.commit(&mut arena.tier(), &commit), Err(LedgerError::NotReserved(slot)));
        assert_eq!(ledger.commit(&mut arena.tier(), &commit), Ok(1));

        let pinned = ledger.adopt(arena.pin(&hash(1)).unwrap());
        assert_eq!(other.release(&mut arena.tier(), &[pinned]), Err(LedgerError::NotPinned(pinned)));
        ledger.adopt(arena.pin(&hash(1)).unwrap());
        ledger.release(&mut arena.tier(), &[pinned]).unwrap();
        ledger.reserve(&mut arena.tier(), &[hash(2)], 1);
        assert_eq!(arena.tier().held(), Held { complete: 1, pinned: 1, reserved: 1, ..Held::default() });
        ledger.surrender(&mut arena.tier());
        assert_eq!(arena.tier().held(), Held { complete: 1, ..Held::default() });
    }
}
