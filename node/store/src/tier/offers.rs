//! What the host tier offers to a tier below it: blocks that were used or leased, at once, so that they outlive this process; and
//! blocks that are about to make room.

use std::collections::VecDeque;

use weft_attach::{SlotIndex, SlotRef};

use super::{HostTier, Pinned, State};
use crate::disk::Candidate;

/// Of so many slots one belongs to blocks that are about to make room: an eighth, time enough to write them.
const WINDOW_SHARE: u32 = 8;

/// Most blocks that are about to make room: 4,096, some 0.1 ms of looking while the tier is locked; 8 GiB in blocks of 2 MiB.
const WINDOW_MAX: u32 = 4_096;

/// A block for the tier below, pinned for whoever takes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offer {
    /// What is known of it.
    pub candidate: Candidate,
    /// Where it lies.
    pub pinned: Pinned,
}

impl HostTier {
    /// There is a tier below: from now on what it should have is remembered.
    pub fn make_offers(&mut self) {
        self.earned.get_or_insert_default();
    }

    /// Pins up to `max` blocks that the tier below should have, each once for its use and once before it makes room (again,
    /// when it was used meanwhile). Nothing before [`HostTier::make_offers`].
    pub fn offers(&mut self, max: usize) -> Vec<Offer> {
        let mut offers = Vec::new();
        while offers.len() < max
            && let Some(at) = self.earned.as_mut().and_then(VecDeque::pop_front)
        {
            // One that left meanwhile is offered no more.
            offers.extend(self.current(at).is_ok().then(|| self.offer(at.slot)).flatten());
        }
        for slot in self.about_to_go(max - offers.len()) {
            self.slots[slot.index()].offered = true;
            offers.extend(self.offer(slot));
        }
        offers
    }

    /// A complete block was wanted.
    pub(super) fn used(&mut self, slot: SlotIndex) {
        if !std::mem::replace(&mut self.slots[slot.index()].used, true) {
            self.earn(slot.index());
        }
    }

    /// The tier below should have what is in this slot. Beyond one a slot they are found when they are about to go.
    pub(super) fn earn(&mut self, slot: usize) {
        let at = SlotRef {
            slot: SlotIndex(u32::try_from(slot).unwrap_or(u32::MAX)),
            generation: self.slots[slot].generation,
        };
        if let Some(earned) = self.earned.as_mut().filter(|earned| earned.len() < self.slots.len()) {
            earned.push_back(at);
        }
    }

    fn about_to_go(&self, max: usize) -> Vec<SlotIndex> {
        let slots = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        let window = (slots / WINDOW_SHARE).clamp(1, WINDOW_MAX) as usize;
        let room = self.free.len() + (self.ready - self.fresh) as usize;
        let mut found = Vec::new();
        if self.earned.is_some() && room < window {
            self.policy.coldest(window - room, &mut |slot| {
                if found.len() < max && !self.slots[slot.index()].offered {
                    found.push(slot);
                }
            });
        }
        found
    }

    fn offer(&mut self, slot: SlotIndex) -> Option<Offer> {
        let State::Complete(_) = self.slots[slot.index()].state else { return None };
        let block = self.slots[slot.index()].block;
        let pinned = self.pin(&block)?;
        let leased = self.leased.contains(&block.index_key());
        Some(Offer { candidate: Candidate { block, used: self.slots[slot.index()].used, leased }, pinned })
    }
}
