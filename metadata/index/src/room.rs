//! Which slots are free: a bit each. Taken onwards from where the last was taken, so that what is stored in one go gets
//! slots one behind the other.

use crate::slab::{SEGMENT_SLOTS, Slot};

#[derive(Default)]
pub(crate) struct Room {
    /// A set bit is a free slot.
    words: Vec<u64>,
    free: usize,
    /// Word where the next search begins.
    at: usize,
}

impl Room {
    /// Slots, free or not.
    pub(crate) fn slots(&self) -> usize {
        self.words.len() * 64
    }

    pub(crate) fn free(&self) -> usize {
        self.free
    }

    pub(crate) fn bytes(&self) -> usize {
        self.words.capacity() * size_of::<u64>()
    }

    /// Bytes that another segment may add: the list of words doubles at most.
    pub(crate) fn growth_bytes(&self) -> usize {
        self.bytes() + SEGMENT_SLOTS / 8
    }

    /// Adds the slots of another segment; the next are taken from there.
    pub(crate) fn add_segment(&mut self) {
        self.at = self.words.len();
        self.words.resize(self.words.len() + SEGMENT_SLOTS / 64, u64::MAX);
        self.free += SEGMENT_SLOTS;
    }

    /// No slot of this run of 64 is taken.
    pub(crate) fn is_free_stretch(&self, stretch: usize) -> bool {
        self.words[stretch] == u64::MAX
    }

    /// Takes this slot, if it is free.
    #[inline]
    pub(crate) fn take(&mut self, slot: Slot) -> bool {
        let (word, bit) = (slot as usize / 64, 1 << (slot % 64));
        match self.words.get_mut(word) {
            Some(bits) if *bits & bit != 0 => {
                *bits &= !bit;
                self.free -= 1;
                true
            }
            _ => false,
        }
    }

    /// Takes the next free slot.
    pub(crate) fn take_next(&mut self) -> Option<Slot> {
        if self.free == 0 {
            return None;
        }
        while self.words[self.at] == 0 {
            self.at = (self.at + 1) % self.words.len();
        }
        let slot = self.at * 64 + self.words[self.at].trailing_zeros() as usize;
        let slot = Slot::try_from(slot).expect("slots have 28 bits");
        self.take(slot);
        Some(slot)
    }

    #[inline]
    pub(crate) fn give(&mut self, slot: Slot) {
        self.words[slot as usize / 64] |= 1 << (slot % 64);
        self.free += 1;
    }
}
