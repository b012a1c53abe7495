//! Which block goes when there is no room.

use std::fmt;

use weft_attach::SlotIndex;

/// An order of eviction over the slots that hold complete blocks. It never decides *whether* a slot may go: pins do.
pub trait EvictionPolicy: fmt::Debug + Send {
    /// A slot became complete.
    fn insert(&mut self, slot: SlotIndex);

    /// Its block was used.
    ///
    /// Of a chain, the deepest block is touched first and the front last: then a chain is evicted from its end, and what
    /// is left of it is still a prefix.
    fn touch(&mut self, slot: SlotIndex);

    /// The slot is no longer complete.
    fn remove(&mut self, slot: SlotIndex);

    /// The next slot to go, among those for which `evictable` holds. It stays until it is removed.
    fn victim(&mut self, evictable: &dyn Fn(SlotIndex) -> bool) -> Option<SlotIndex>;

    /// The `max` slots that would go next, were all of them evictable, in that order.
    fn coldest(&self, max: usize, each: &mut dyn FnMut(SlotIndex));
}

/// Least recently used first: a list threaded through a table, all operations in constant time but for pinned blocks met
/// by [`EvictionPolicy::victim`], each of which is moved to the recent end, so that it is met once a round.
#[derive(Debug)]
pub struct Lru {
    links: Vec<Link>,
    len: usize,
}

/// Neighbours of a slot; the last entry of the table is the list's ends. A slot not in the list points at itself.
#[derive(Clone, Copy, Debug)]
struct Link {
    older: u32,
    newer: u32,
}

impl Lru {
    /// An empty order over a tier of `slots` slots.
    #[must_use]
    pub fn new(slots: u32) -> Self {
        Self { links: (0..=slots).map(|slot| Link { older: slot, newer: slot }).collect(), len: 0 }
    }

    fn ends(&self) -> u32 {
        u32::try_from(self.links.len() - 1).expect("made of a u32 number of slots and one")
    }

    fn unlink(&mut self, slot: u32) {
        let Link { older, newer } = self.links[slot as usize];
        self.links[older as usize].newer = newer;
        self.links[newer as usize].older = older;
        self.links[slot as usize] = Link { older: slot, newer: slot };
    }

    fn link_newest(&mut self, slot: u32) {
        let ends = self.ends();
        let newest = self.links[ends as usize].older;
        self.links[slot as usize] = Link { older: newest, newer: ends };
        self.links[newest as usize].newer = slot;
        self.links[ends as usize].older = slot;
    }
}

impl EvictionPolicy for Lru {
    fn insert(&mut self, slot: SlotIndex) {
        debug_assert_eq!(self.links[slot.index()].older, slot.0, "{slot:?} is not in the list yet");
        self.link_newest(slot.0);
        self.len += 1;
    }

    fn touch(&mut self, slot: SlotIndex) {
        self.unlink(slot.0);
        self.link_newest(slot.0);
    }

    fn remove(&mut self, slot: SlotIndex) {
        self.unlink(slot.0);
        self.len -= 1;
    }

    fn victim(&mut self, evictable: &dyn Fn(SlotIndex) -> bool) -> Option<SlotIndex> {
        for _ in 0..self.len {
            let oldest = SlotIndex(self.links[self.ends() as usize].newer);
            if evictable(oldest) {
                return Some(oldest);
            }
            self.touch(oldest);
        }
        None
    }

    fn coldest(&self, max: usize, each: &mut dyn FnMut(SlotIndex)) {
        let (ends, mut at) = (self.ends(), self.ends());
        for _ in 0..max {
            at = self.links[at as usize].newer;
            if at == ends {
                return;
            }
            each(SlotIndex(at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first_and_the_pinned_are_passed_over() {
        let mut lru = Lru::new(4);
        (0..4).for_each(|slot| lru.insert(SlotIndex(slot)));
        lru.touch(SlotIndex(0));
        assert_eq!(lru.victim(&|_| true), Some(SlotIndex(1)));
        let mut coldest = Vec::new();
        lru.coldest(9, &mut |slot| coldest.push(slot.0));
        assert_eq!(coldest, [1, 2, 3, 0]);
        assert_eq!(lru.victim(&|slot| slot != SlotIndex(1)), Some(SlotIndex(2)));
        lru.remove(SlotIndex(2));
        assert_eq!(lru.victim(&|_| true), Some(SlotIndex(3)), "slot 1 was pinned and is recent now");
        assert_eq!(lru.victim(&|_| false), None);
    }
}
