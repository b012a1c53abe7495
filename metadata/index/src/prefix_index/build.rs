//! An index made whole from the runs of a snapshot: faster than storing its blocks, since the table is filled in its own order.
//!
//! The slab is filled as runs come. Their entries wait until there are many, are sorted by the first bits of their places, and
//! go into the table from its begin to its end.

use weft_types::{HolderId, IndexKey};

use super::{NoRoom, PrefixIndex, number};
use crate::key::Key;
use crate::sets::SetId;
use crate::table::{Refused, Waiting};

/// Entries that are sorted at a time: 8 MiB, and the same again for the sort. The table is gone through once for each.
const WAITING_MAX: usize = 1 << 20;

/// Makes an index; nobody reads it until it is made.
#[derive(Debug)]
pub struct Builder {
    index: PrefixIndex,
    waiting: Vec<Waiting>,
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
            self.waiting.push(Waiting::of(key, slot));
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
        let mut sorted = vec![Waiting::default(); self.waiting.len()];
        // By the second digit, then by the first: entries with equal ones stay in order.
        for digit in [1, 0] {
            sort_by_digit(&self.waiting, &mut sorted, digit);
            std::mem::swap(&mut self.waiting, &mut sorted);
        }
        let sorted = std::mem::take(&mut self.waiting);
        for new in sorted {
            self.enter_one(new)?;
        }
        Ok(())
    }

    #[inline]
    fn enter_one(&mut self, new: Waiting) -> Result<(), Duplicate> {
        let index = &mut self.index;
        loop {
            let slab = &index.shared.slab;
            let key = || slab.key_of(new.slot());
            let same = |slot| slab.set_of(slot, key()) != SetId::FREE;
            match index.table.insert_new(new, index.entries[new.sub()] as usize, same) {
                Ok(()) => break,
                Err(Refused::Known) => return Err(Duplicate(key().into())),
                Err(Refused::Crowded) => {
                    let grew = index.grow(new.sub());
                    debug_assert!(grew, "an index without a budget grows");
                }
            }
        }
        index.entries[new.sub()] += 1;
        Ok(())
    }
}

/// Counts, then deals; equal digits stay in order.
fn sort_by_digit(from: &[Waiting], to: &mut [Waiting], digit: u32) {
    let mut next = [0_usize; Waiting::DIGITS];
    from.iter().for_each(|entry| next[entry.digit(digit)] += 1);
    let mut at = 0;
    for next in &mut next {
        at += std::mem::replace(next, at);
    }
    for entry in from {
        let place = &mut next[entry.digit(digit)];
        to[*place] = *entry;
        *place += 1;
    }
}
