//! The host tier as a state machine: which block is in which slot, and what may happen to it next.
//!
//! Slots are counted here, not mapped: [`crate::Arena`] puts memory behind them. Callers give back only what they took (a
//! [`crate::Ledger`] makes sure of it for engines); what is out of step is refused, never absorbed.

mod offers;

use std::collections::{HashSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashMap;
use weft_attach::{SlotIndex, SlotRef};
use weft_types::{BlockHash, Checksum, IndexKey};

use crate::{ChangeLog, EvictionPolicy, TierChange};

/// What became of a wish for a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reservation {
    /// Here: one writer, until it is committed or aborted.
    Granted(SlotRef),
    /// The block is complete already.
    Present,
    /// Somebody is writing it.
    Pending,
    /// Every slot is reserved, pinned, or not there yet.
    Full,
}

/// A block that was pinned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pinned {
    /// Where it lies.
    pub slot: SlotRef,
    /// Checksum of its bytes, made by its writer.
    pub checksum: Checksum,
}

/// What a tier holds, in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Held {
    /// Blocks that can be found.
    pub complete: usize,
    /// Of those, how many are pinned.
    pub pinned: usize,
    /// Of those, how many a lease keeps from eviction.
    pub leased: usize,
    /// Slots being written.
    pub reserved: usize,
    /// Slots whose block is gone but for its last readers.
    pub evicting: usize,
    /// Blocks that had to go to make room, ever.
    pub evicted: u64,
}

/// What became of the blocks of a tier that was cleared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cleared {
    /// Found no more. Those in use keep their slots until their last reader is done.
    pub removed: u64,
    /// Left where they were.
    pub kept: u64,
}

/// A slot was not in the state that the call needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SlotError {
    /// No such slot, or it lives another life by now.
    #[error("{0:?} is not current")]
    Stale(SlotRef),
    /// It is not being written.
    #[error("{0:?} is not reserved")]
    NotReserved(SlotRef),
    /// Nobody reads it.
    #[error("{0:?} is not pinned")]
    NotPinned(SlotRef),
}

/// Host memory of one contract.
#[derive(Debug)]
pub struct HostTier {
    slots: Vec<Slot>,
    /// Complete and reserved blocks.
    blocks: HashMap<BlockHash, SlotIndex>,
    /// Slots that were used before.
    free: Vec<SlotIndex>,
    /// First slot that was never used.
    fresh: u32,
    /// First slot whose pages are not there yet.
    ready: u32,
    policy: Box<dyn EvictionPolicy>,
    changes: ChangeLog,
    held: Held,
    /// Blocks that leases pin, wherever they are.
    leased: Arc<LeasedKeys>,
    /// Complete blocks that may not be evicted now: pinned, leased, or both.
    kept: usize,
    /// Blocks that a tier below should have; `None`: there is none. Those that left meanwhile are in it still.
    earned: Option<VecDeque<SlotRef>>,
}

pub use self::offers::Offer;

/// Blocks that leases pin, as metadata knows them.
pub type LeasedKeys = HashSet<IndexKey>;

#[derive(Clone, Copy, Debug)]
struct Slot {
    block: BlockHash,
    generation: u32,
    pins: u32,
    /// A lease keeps it from eviction; of a complete block only.
    leased: bool,
    /// It was asked for since it was stored, or was to be stored again.
    used: bool,
    /// It was offered to the tier below because it is about to make room.
    offered: bool,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Free,
    Reserved,
    Complete(Checksum),
    /// Removed while pinned: found no more, freed with the last pin.
    Evicting,
}

impl HostTier {
    /// An empty tier of `slots` slots, none of them ready. Its log keeps up to one change a slot: beyond that, looking
    /// at everything is cheaper.
    #[must_use]
    pub fn new(slots: u32, policy: Box<dyn EvictionPolicy>) -> Self {
        let vacant = Slot {
            block: BlockHash::ROOT,
            generation: 0,
            pins: 0,
            leased: false,
            used: false,
            offered: false,
            state: State::Free,
        };
        Self {
            slots: vec![vacant; slots as usize],
            blocks: HashMap::new(),
            free: Vec::new(),
            fresh: 0,
            ready: 0,
            policy,
            changes: ChangeLog::new(slots as usize),
            held: Held::default(),
            leased: Arc::default(),
            kept: 0,
            earned: None,
        }
    }

    /// The pages of the first `slots` slots are there: they may be used.
    pub fn set_ready(&mut self, slots: u32) {
        self.ready = slots.min(u32::try_from(self.slots.len()).unwrap_or(u32::MAX)).max(self.ready);
    }

    /// Slots whose pages are there.
    #[must_use]
    pub fn ready(&self) -> u32 {
        self.ready
    }

    /// A slot to write a block into; the coldest block that nobody needs makes room.
    pub fn reserve(&mut self, block: &BlockHash) -> Reservation {
        if let Some(slot) = self.blocks.get(block).copied() {
            let State::Complete(_) = self.slots[slot.index()].state else { return Reservation::Pending };
            self.used(slot);
            return Reservation::Present;
        }
        let Some(index) = self.take_slot() else { return Reservation::Full };
        let slot = &mut self.slots[index.index()];
        slot.generation = slot.generation.wrapping_add(1);
        slot.block = *block;
        (slot.used, slot.offered) = (false, false);
        slot.state = State::Reserved;
        self.held.reserved += 1;
        self.blocks.insert(*block, index);
        Reservation::Granted(SlotRef { slot: index, generation: self.slots[index.index()].generation })
    }

    /// The block is written: it can be found from now on.
    ///
    /// # Errors
    /// The slot is not reserved in this life.
    pub fn commit(&mut self, at: SlotRef, checksum: Checksum) -> Result<(), SlotError> {
        let slot = self.current(at)?;
        if slot.state != State::Reserved {
            return Err(SlotError::NotReserved(at));
        }
        slot.state = State::Complete(checksum);
        let block = slot.block;
        self.held.reserved -= 1;
        self.held.complete += 1;
        if !self.leased.is_empty() {
            self.review(at.slot.index());
        }
        self.policy.insert(at.slot);
        self.changes.push(TierChange::Stored(block));
        Ok(())
    }

    /// The block will not be written.
    ///
    /// # Errors
    /// The slot is not reserved in this life.
    pub fn abort(&mut self, at: SlotRef) -> Result<(), SlotError> {
        let slot = self.current(at)?;
        if slot.state != State::Reserved {
            return Err(SlotError::NotReserved(at));
        }
        let block = slot.block;
        self.held.reserved -= 1;
        self.blocks.remove(&block);
        self.release_slot(at.slot);
        Ok(())
    }

    /// Pins a block, if it is complete: it stays until [`HostTier::unpin`].
    pub fn pin(&mut self, block: &BlockHash) -> Option<Pinned> {
        let index = *self.blocks.get(block)?;
        let slot = &mut self.slots[index.index()];
        let State::Complete(checksum) = slot.state else { return None };
        // A pin that cannot be counted is not given.
        slot.pins = slot.pins.checked_add(1)?;
        if slot.pins == 1 {
            self.held.pinned += 1;
            self.kept += usize::from(!slot.leased);
        }
        Some(Pinned { slot: SlotRef { slot: index, generation: slot.generation }, checksum })
    }

    /// Pins a slot whose block is complete.
    pub(crate) fn repin(&mut self, at: SlotRef) -> Result<(), SlotError> {
        let block = self.current(at)?.block;
        self.pin(&block).map(|_| ()).ok_or(SlotError::NotPinned(at))
    }

    /// Pins the longest leading run of a prefix that is here, and touches it.
    pub fn pin_leading(&mut self, prefix: &[BlockHash]) -> Vec<Pinned> {
        let run: Vec<_> = prefix.iter().map_while(|block| self.pin(block)).collect();
        for pinned in run.iter().rev() {
            self.used(pinned.slot.slot);
            self.touched(pinned.slot.slot);
        }
        run
    }

    /// Gives one pin back.
    ///
    /// # Errors
    /// The slot is not pinned in this life.
    pub fn unpin(&mut self, at: SlotRef) -> Result<(), SlotError> {
        let slot = self.current(at)?;
        slot.pins = slot.pins.checked_sub(1).ok_or(SlotError::NotPinned(at))?;
        let (pins, leased, state) = (slot.pins, slot.leased, slot.state);
        match state {
            State::Complete(_) if pins == 0 => {
                self.held.pinned -= 1;
                self.kept -= usize::from(!leased);
            }
            State::Evicting if pins == 0 => {
                self.held.evicting -= 1;
                self.release_slot(at.slot);
            }
            _ => {}
        }
        Ok(())
    }

    /// A prefix was used. Touched from its end, so that its front stays longest.
    pub fn touch(&mut self, prefix: &[BlockHash]) {
        for block in prefix.iter().rev() {
            if let Some(slot) = self.blocks.get(block).copied()
                && matches!(self.slots[slot.index()].state, State::Complete(_))
            {
                self.touched(slot);
            }
        }
    }

    fn touched(&mut self, slot: SlotIndex) {
        self.policy.touch(slot);
        self.slots[slot.index()].offered = false;
    }

    /// Removes a complete block: it can be found no more; its slot is freed at once, or with its last pin. `false` if it
    /// is not complete here.
    pub fn remove(&mut self, block: &BlockHash) -> bool {
        let Some(index) = self.blocks.get(block).copied() else { return false };
        if !matches!(self.slots[index.index()].state, State::Complete(_)) {
            return false;
        }
        self.blocks.remove(block);
        self.policy.remove(index);
        self.held.complete -= 1;
        self.changes.push(TierChange::Removed(*block));
        let slot = &mut self.slots[index.index()];
        let leased = std::mem::take(&mut slot.leased);
        self.held.leased -= usize::from(leased);
        self.kept -= usize::from(leased || slot.pins > 0);
        if slot.pins > 0 {
            slot.state = State::Evicting;
            self.held.pinned -= 1;
            self.held.evicting += 1;
        } else {
            self.release_slot(index);
        }
        true
    }

    /// From now on these are the blocks that leases pin. Those that are here already are looked at by
    /// [`HostTier::review_leases`].
    pub fn set_leased(&mut self, leased: Arc<LeasedKeys>) {
        self.leased = leased;
    }

    /// Has leases keep the blocks in these slots, or no longer. At most half of all slots are kept: beyond that, stores of
    /// everybody else would find no room. `false`: there are no such slots.
    pub fn review_leases(&mut self, slots: Range<usize>) -> bool {
        let end = slots.end.min(self.slots.len());
        (slots.start..end).for_each(|slot| self.review(slot));
        slots.start < end
    }

    fn review(&mut self, index: usize) {
        let half = self.slots.len() / 2;
        let slot = &mut self.slots[index];
        if !matches!(slot.state, State::Complete(_)) {
            return;
        }
        let wanted = self.leased.contains(&slot.block.index_key());
        match (slot.leased, wanted) {
            (false, true) if self.held.leased < half => {
                slot.leased = true;
                self.held.leased += 1;
                self.kept += usize::from(slot.pins == 0);
                self.earn(index);
            }
            (true, false) => {
                slot.leased = false;
                self.held.leased -= 1;
                self.kept -= usize::from(slot.pins == 0);
            }
            _ => {}
        }
    }

    /// Removes the complete blocks in these slots but for those that are to be kept, which it counts. `None`: there are no
    /// such slots.
    pub fn clear(&mut self, slots: Range<usize>, mut keep: impl FnMut(&BlockHash) -> bool) -> Option<Cleared> {
        let some = self.slots.get(slots.start..slots.end.min(self.slots.len())).filter(|some| !some.is_empty())?;
        let mut cleared = Cleared::default();
        let complete = some.iter().filter(|slot| matches!(slot.state, State::Complete(_))).map(|slot| slot.block);
        for block in complete.collect::<Vec<_>>() {
            match keep(&block) {
                true => cleared.kept += 1,
                false => cleared.removed += u64::from(self.remove(&block)),
            }
        }
        Some(cleared)
    }

    /// Whether the block can be found.
    #[must_use]
    pub fn contains(&self, block: &BlockHash) -> bool {
        self.blocks.get(block).is_some_and(|slot| matches!(self.slots[slot.index()].state, State::Complete(_)))
    }

    /// Whether somebody is writing the block.
    #[must_use]
    pub fn is_pending(&self, block: &BlockHash) -> bool {
        self.blocks.get(block).is_some_and(|slot| self.slots[slot.index()].state == State::Reserved)
    }

    /// Every block that can be found.
    pub fn blocks(&self) -> impl Iterator<Item = BlockHash> {
        self.slots.iter().filter(|slot| matches!(slot.state, State::Complete(_))).map(|slot| slot.block)
    }

    /// In numbers.
    #[must_use]
    pub fn held(&self) -> Held {
        self.held
    }

    /// What changed since the log was last taken.
    pub fn changes(&mut self) -> &mut ChangeLog {
        &mut self.changes
    }

    fn current(&mut self, at: SlotRef) -> Result<&mut Slot, SlotError> {
        let slot = self.slots.get_mut(at.slot.index());
        slot.filter(|slot| slot.generation == at.generation).ok_or(SlotError::Stale(at))
    }

    fn take_slot(&mut self) -> Option<SlotIndex> {
        if let Some(slot) = self.free.pop() {
            return Some(slot);
        }
        if self.fresh < self.ready {
            self.fresh += 1;
            return Some(SlotIndex(self.fresh - 1));
        }
        // Nothing to look for: spares a walk over a tier that is kept whole.
        if self.kept == self.held.complete {
            return None;
        }
        let slots = &self.slots;
        let victim = self.policy.victim(&|slot| slots[slot.index()].pins == 0 && !slots[slot.index()].leased)?;
        let block = self.slots[victim.index()].block;
        self.remove(&block);
        self.held.evicted += 1;
        self.free.pop()
    }

    fn release_slot(&mut self, slot: SlotIndex) {
        self.slots[slot.index()].state = State::Free;
        self.free.push(slot);
    }
}

#[cfg(test)]
mod tests;
