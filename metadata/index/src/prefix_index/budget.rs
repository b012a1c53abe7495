//! The follower's byte budget: before the index would grow past it, what was matched least recently leaves.
//!
//! Blocks share a stamp by stretches of 64 slots, which is mostly one prompt's: whoever stores or matches one of them sets
//! it. Nothing that is allocated goes back, so what counts is not to grow: a segment, a sub-table or a set that would pass
//! the budget is not made; stretches are emptied instead, and their slots, entries and sets used again.

use crate::atomic::Ordering;

use super::PrefixIndex;
use crate::key::Key;
use crate::sets::SetId;
use crate::slab::{SEGMENT_SLOTS, STRETCH_SLOTS, Slot};

/// Stretches chosen at a time: one in so many, and at least [`CHOSEN_MIN`]. To choose is to look at every stamp.
const CHOSEN: usize = 64;
const CHOSEN_MIN: usize = 16;

pub(super) struct Budget {
    bytes: Option<usize>,
    evicted: u64,
    /// Stretches to empty, the next one last, each with the stamp it had when it was chosen.
    chosen: Vec<(u32, usize)>,
}

impl Budget {
    pub(super) fn none() -> Self {
        Self { bytes: None, evicted: 0, chosen: Vec::new() }
    }

    pub(super) fn of(bytes: usize) -> Self {
        Self { bytes: Some(bytes.max(PrefixIndex::BUDGET_MIN)), ..Self::none() }
    }

    pub(super) fn is_some(&self) -> bool {
        self.bytes.is_some()
    }

    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }
}

impl PrefixIndex {
    /// The smallest budget: what an empty index takes, several times over.
    pub const BUDGET_MIN: usize = 4 << 20;

    /// Time, as recency counts it: whoever owns the index sets it now and then, ascending. What is matched or stored is as
    /// recent as the tick then.
    pub fn set_tick(&mut self, tick: u32) {
        self.shared.recency.tick.store(tick, Ordering::Relaxed);
    }

    /// Whether so many bytes more are within the budget, with room for the sets to double.
    pub(super) fn can_take(&self, bytes: usize) -> bool {
        self.budget.bytes.is_none_or(|budget| self.bytes() + self.sets.growth_bytes() + bytes <= budget)
    }

    /// Whether another set may be made.
    pub(super) fn has_room_for_set(&self) -> bool {
        self.can_take(0)
    }

    /// Empties the stretches matched least recently until some block went; `false` if there is none, or no budget.
    pub(super) fn evict_some(&mut self) -> bool {
        if self.budget.bytes.is_none() {
            return false;
        }
        let mut chose = false;
        loop {
            let Some((stamp, stretch)) = self.budget.chosen.pop() else {
                // A second choice would be the same.
                if chose || !self.choose() {
                    return false;
                }
                chose = true;
                continue;
            };
            let (segment, at) = (stretch * STRETCH_SLOTS / SEGMENT_SLOTS, stretch % (SEGMENT_SLOTS / STRETCH_SLOTS));
            let now = self.shared.slab.segment(segment).map(|segment| segment.stamp_of(at));
            if now == Some(stamp) && self.empty(stretch) {
                return true;
            }
        }
    }

    /// Removes a block, whoever holds it.
    pub(super) fn evict(&mut self, slot: Slot, set: SetId, key: Key) {
        let blocks = &mut self.blocks;
        self.shared.sets.content(set).for_each(|number| blocks[usize::from(number)] -= 1);
        self.free(slot, set, key);
        self.budget.evicted += 1;
    }

    /// Chooses the stretches to empty next; `false` if none has a block.
    fn choose(&mut self) -> bool {
        let tick = self.shared.recency.tick.load(Ordering::Relaxed);
        let mut stretches: Vec<(u32, usize)> = (0..self.room.slots() / STRETCH_SLOTS)
            .filter(|stretch| !self.room.is_free_stretch(*stretch))
            .filter_map(|stretch| {
                let segment = self.shared.slab.segment(stretch * STRETCH_SLOTS / SEGMENT_SLOTS)?;
                Some((segment.stamp_of(stretch % (SEGMENT_SLOTS / STRETCH_SLOTS)), stretch))
            })
            .collect();
        let count = (stretches.len() / CHOSEN).max(CHOSEN_MIN).min(stretches.len());
        let age = |(stamp, stretch): &(u32, usize)| (std::cmp::Reverse(tick.wrapping_sub(*stamp)), *stretch);
        if count < stretches.len() {
            stretches.select_nth_unstable_by_key(count, age);
            stretches.truncate(count);
        }
        // The oldest last.
        stretches.sort_unstable_by_key(|stretch| std::cmp::Reverse(age(stretch)));
        self.budget.chosen = stretches;
        count > 0
    }

    /// Removes every block of a stretch but the last one stored; `false` if there was none.
    fn empty(&mut self, stretch: usize) -> bool {
        let before = self.len;
        for at in stretch * STRETCH_SLOTS..(stretch + 1) * STRETCH_SLOTS {
            let slot = Slot::try_from(at).expect("slots have 28 bits");
            let (segment, at) = self.shared.slab.locate(slot);
            let (key, set) = (self.shared.slab.key(segment, at), segment.set(at));
            if set != SetId::FREE && slot != self.near {
                self.evict(slot, set, key);
            }
        }
        self.len < before
    }
}
