//! What one attachment holds of a tier: its reservations and its pins.
//!
//! An engine can commit, abort and release only what it took; and when it is gone, all of it can be given back in one go.

use hashbrown::{HashMap, HashSet};
use weft_attach::SlotRef;
use weft_types::{BlockHash, Checksum};

use crate::{HostTier, PinnedBlock, Reservation};

/// Reservations and pins of one attachment. Dropping it gives nothing back: [`Ledger::surrender`] does.
#[derive(Debug, Default)]
pub struct Ledger {
    reserved: HashSet<SlotRef>,
    pins: HashMap<SlotRef, u32>,
}

/// An attachment gave back what it does not hold. It has lost count of its slots: nothing it says can be relied on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// Committed or aborted without a reservation.
    #[error("{0:?} is not reserved by this attachment")]
    NotReserved(SlotRef),
    /// Released without a pin.
    #[error("{0:?} is not pinned by this attachment")]
    NotPinned(SlotRef),
}

impl Ledger {
    /// Holds nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reserves a slot for each block, as long as fewer than `max` are reserved.
    pub fn reserve(&mut self, tier: &mut HostTier, blocks: &[BlockHash], max: usize) -> Vec<Reservation> {
        let reserve = |block| match self.reserved.len() < max {
            false => Reservation::Full,
            true => {
                let reservation = tier.reserve(block);
                if let Reservation::Granted(slot) = reservation {
                    self.reserved.insert(slot);
                }
                reservation
            }
        };
        blocks.iter().map(reserve).collect()
    }

    /// Commits slots, or gives up those without a checksum. The last is committed first: of a chain, the front becomes
    /// the most recent. Returns how many were committed.
    ///
    /// # Errors
    /// One was not reserved; those before it (from the end) are committed.
    pub fn commit(&mut self, tier: &mut HostTier, slots: &[(SlotRef, Option<Checksum>)]) -> Result<usize, LedgerError> {
        let mut committed = 0;
        for (slot, checksum) in slots.iter().rev() {
            if !self.reserved.remove(slot) {
                return Err(LedgerError::NotReserved(*slot));
            }
            let done = match checksum {
                Some(checksum) => tier.commit(*slot, *checksum).map(|()| committed += 1),
                None => tier.abort(*slot),
            };
            debug_assert_eq!(done, Ok(()), "the ledger says that it was reserved");
        }
        Ok(committed)
    }

    /// Takes over a pin.
    pub fn adopt(&mut self, block: PinnedBlock) -> SlotRef {
        let slot = block.into_raw();
        *self.pins.entry(slot).or_insert(0) += 1;
        slot
    }

    /// Gives pins back.
    ///
    /// # Errors
    /// One was not held; those before it are given back.
    pub fn release(&mut self, tier: &mut HostTier, slots: &[SlotRef]) -> Result<(), LedgerError> {
        for slot in slots {
            let pins = self.pins.get_mut(slot).ok_or(LedgerError::NotPinned(*slot))?;
            *pins -= 1;
            if *pins == 0 {
                self.pins.remove(slot);
            }
            let done = tier.unpin(*slot);
            debug_assert_eq!(done, Ok(()), "the ledger says that it was pinned");
        }
        Ok(())
    }

    /// Holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.reserved.is_empty() && self.pins.is_empty()
    }

    /// Gives everything back: reservations are aborted, pins released.
    pub fn surrender(self, tier: &mut HostTier) {
        for slot in self.reserved {
            let done = tier.abort(slot);
            debug_assert_eq!(done, Ok(()), "the ledger says that it was reserved");
        }
        for (slot, pins) in self.pins {
            for _ in 0..pins {
                let done = tier.unpin(slot);
                debug_assert_eq!(done, Ok(()), "the ledger says that it was pinned");
            }
        }
    }
}
