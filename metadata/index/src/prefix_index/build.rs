//! An index made whole from the runs of a snapshot: faster than storing its blocks, since the table is filled in its own order.
//!
//! The slab is filled as runs come. Their entries wait until there are many, are sorted by the first bits of their keys, which
//! is the order of the table, and go into it from its begin to its end.

use weft_types::{HolderId, IndexKey};

use super::{NoRoom, PrefixIndex, number};
use crate::key::Key;
use crate::slab::Slot;

/// Entries that are sorted at a time: 24 MiB, and the same again for the sort. The table is gone through once for each.
const WAITING_MAX: usize = 1 << 20;

/// Bits of a key by which a pass of the sort tells entries apart.
const DIGIT_BITS: u32 = 8;

/// Makes an index; nobody reads it until it is made.
#[derive(Debug)]
pub struct Builder {
    index: PrefixIndex,
    waiting: Vec<(Key, Slot)>,
}

/// A block that came twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("block {0:?} is listed twice")]
pub struct Duplicate(pub IndexKey);

impl Builder {
    /// `blocks`: how many will come; for more, room is made as they come.
    #[must_use]
    pub fn with_room(blocks: usize) -> Self {
        Self { index: PrefixIndex::with_room(blocks), waiting: Vec::new() }
    }

    /// Blocks so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len
    }

    /// No blocks.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes blocks that all have these holders, ascending.
    ///
    /// # Errors
    /// A block came before. Not every such block is found at once, but all are before the index is made.
    ///
    /// # Panics
    /// If a holder's number is not below [`PrefixIndex::HOLDERS_MAX`], or blocks are more than [`PrefixIndex::BLOCKS_MAX`].
    pub fn run(&mut self, holders: &[HolderId], keys: &[IndexKey]) -> Result<(), Duplicate> {
        let index = &mut self.index;
        let numbers: Vec<u16> = holders.iter().map(|holder| number(*holder)).collect();
        let Some(last) = numbers.last().copied().map(usize::from) else { return Ok(()) };
        if index.blocks.len() <= last {
            index.blocks.resize(last + 1, 0);
        }
        let set = index.sets.of(&index.shared.sets, &numbers);
        for key in keys.iter().map(|key| Key::from(*key)) {
            let slot =
                index.fill(key, set).unwrap_or_else(|NoRoom| panic!("blocks are at most {}", PrefixIndex::BLOCKS_MAX));
            self.waiting.push((key, slot));
        }
        numbers.iter().for_each(|number| index.blocks[usize::from(*number)] += keys.len() as u64);
        if self.waiting.len() >= WAITING_MAX { self.enter() } else { Ok(()) }
    }

    /// The index.
    ///
    /// # Errors
    /// A block came twice.
    pub fn finish(mut self) -> Result<PrefixIndex, Duplicate> {
        self.enter()?;
        Ok(self.index)
    }

    /// Puts what waits into the table.
    fn enter(&mut self) -> Result<(), Duplicate> {
        let mut sorted = vec![(Key::default(), 0); self.waiting.len()];
        // By the second digit, then by the first: entries with equal ones stay in order.
        for shift in [64 - 2 * DIGIT_BITS, 64 - DIGIT_BITS] {
            sort_by_digit(&self.waiting, &mut sorted, |key| (key.high >> shift) as usize & ((1 << DIGIT_BITS) - 1));
            std::mem::swap(&mut self.waiting, &mut sorted);
        }
        for (key, slot) in self.waiting.drain(..) {
            if self.index.find(key, Slot::MAX).is_some() {
                return Err(Duplicate(key.into()));
            }
            let entered = self.index.enter(key, slot);
            debug_assert!(entered.is_ok(), "an index without a budget grows");
        }
        Ok(())
    }
}

/// Counts, then deals; equal digits stay in order.
fn sort_by_digit(from: &[(Key, Slot)], to: &mut [(Key, Slot)], digit: impl Fn(Key) -> usize) {
    let mut ends = [0_usize; 1 << DIGIT_BITS];
    from.iter().for_each(|(key, _)| ends[digit(*key)] += 1);
    let mut next = [0_usize; 1 << DIGIT_BITS];
    let mut at = 0;
    for (next, count) in next.iter_mut().zip(ends) {
        *next = at;
        at += count;
    }
    for entry in from {
        let place = &mut next[digit(entry.0)];
        to[*place] = *entry;
        *place += 1;
    }
}
