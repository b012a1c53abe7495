//! [`PrefixIndex`] itself, which is its one writer.

mod budget;
pub(crate) mod build;
mod sweep;

use crate::atomic::{AtomicU32, AtomicU64, Ordering};
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use weft_types::{HolderId, IndexKey};

use crate::frozen::{self, Freezes, Frozen, Run};
use crate::key::Key;
use crate::reader::IndexReader;
use crate::room::Room;
use crate::sets::interner::Interner;
use crate::sets::{SetId, Sets};
use crate::shared::{Recency, Retired, Shared};
use crate::slab::{Slab, Slot, split};
use crate::table::{Crowded, Place, Table};
use crate::{Change, Match};
use budget::Budget;

/// Block key → holders.
///
/// Whoever owns it writes; readers come from [`PrefixIndex::reader`].
pub struct PrefixIndex {
    shared: Arc<Shared>,
    /// The same as the readers'.
    table: Arc<Table>,
    table_bytes: usize,
    /// Entries by sub-table.
    entries: Vec<u32>,
    room: Room,
    sets: Interner,
    freezes: Freezes,
    /// By number; blocks of a retired holder are those not swept yet.
    blocks: Vec<u64>,
    /// Distinct blocks.
    len: usize,
    /// Partition that the next sweep begins with.
    sweep_at: usize,
    /// Slot of the last block stored or removed: the next is mostly its neighbour.
    near: Slot,
    last: Transition,
    budget: Budget,
}

/// What became of a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// It was so already, or the holder is retired and not swept yet.
    None,
    /// The holders of a block changed.
    Holder,
    /// The block came, or went with its last holder.
    Block,
    /// It would have been a block too many.
    Full,
}

/// Size of an index.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Distinct blocks.
    pub blocks: usize,
    /// Bytes allocated, those without a block yet included.
    pub bytes: usize,
    /// Sets of more than one holder.
    pub sets: usize,
    /// Blocks that were forgotten to stay within the budget, ever.
    pub evicted: u64,
}

/// A set and what it became: neighbours change alike.
#[derive(Clone, Copy)]
struct Transition {
    from: SetId,
    number: u16,
    stored: bool,
    to: SetId,
}

/// The budget has no room for it.
struct NoRoom;

impl Default for PrefixIndex {
    fn default() -> Self {
        Self::new()
    }
}

impl PrefixIndex {
    /// Holder numbers are below this: sets keep 16 bits of them.
    pub const HOLDERS_MAX: u32 = 1 << 16;

    /// Blocks that an index can have.
    pub const BLOCKS_MAX: usize = 1 << crate::slab::SLOT_BITS;

    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::with_room(0)
    }

    /// An empty one that takes so many blocks without growing its table.
    #[must_use]
    pub fn with_room(blocks: usize) -> Self {
        Self::make(blocks.min(Self::BLOCKS_MAX), Budget::none())
    }

    /// An empty one that never takes more than so many bytes (at least [`PrefixIndex::BUDGET_MIN`]): what was matched least
    /// recently leaves first. See [`PrefixIndex::set_tick`].
    #[must_use]
    pub fn with_budget(bytes: usize) -> Self {
        Self::make(0, Budget::of(bytes))
    }

    fn make(blocks: usize, budget: Budget) -> Self {
        let table = Arc::new(Table::with_room(blocks));
        let shared = Shared {
            slab: Slab::new(),
            table: ArcSwap::new(Arc::clone(&table)),
            sets: Sets::new(),
            retired: Retired::new(),
            lives: AtomicU64::new(0),
            recency: Recency { tracked: budget.is_some(), tick: AtomicU32::new(0) },
        };
        Self {
            shared: Arc::new(shared),
            table_bytes: table.bytes(),
            table,
            entries: vec![0; Table::subs()],
            room: Room::default(),
            sets: Interner::default(),
            freezes: Freezes::default(),
            // With a budget, whatever can grow without asking has its full size from the start.
            blocks: Vec::with_capacity(if budget.is_some() { Self::HOLDERS_MAX as usize } else { 0 }),
            len: 0,
            sweep_at: 0,
            near: Slot::MAX,
            last: Transition::NONE,
            budget,
        }
    }

    /// A reader of this index.
    #[must_use]
    pub fn reader(&self) -> IndexReader {
        IndexReader(Arc::clone(&self.shared))
    }

    /// Applies one change; `false` if it was already so, or if the holder is retired and not swept yet.
    ///
    /// # Panics
    /// If the holder's number is not below [`PrefixIndex::HOLDERS_MAX`].
    pub fn apply(&mut self, holder: HolderId, change: Change) -> bool {
        let mut effective = false;
        self.apply_all(holder, &[change], usize::MAX, |_, effect| effective = effect != Effect::None);
        effective
    }

    /// Applies changes of one holder in order, and tells `each` what became of each. One that would make more than `max`
    /// blocks has no effect but [`Effect::Full`].
    ///
    /// # Panics
    /// If the holder's number is not below [`PrefixIndex::HOLDERS_MAX`].
    pub fn apply_all(
        &mut self,
        holder: HolderId,
        changes: &[Change],
        max: usize,
        mut each: impl FnMut(Change, Effect),
    ) {
        let number = number(holder);
        if self.shared.retired.contains(number) {
            return changes.iter().for_each(|change| each(*change, Effect::None));
        }
        if self.blocks.len() <= usize::from(number) {
            self.blocks.resize(usize::from(number) + 1, 0);
        }
        for some in changes.chunks(AHEAD) {
            if some.len() > 1 {
                some.iter().for_each(|change| self.table.touch(Place::of(Key::from(change.key()))));
            }
            for change in some {
                let effect = match change {
                    Change::Stored(key) => self.store(number, Key::from(*key), max),
                    Change::Removed(key) => self.remove(number, Key::from(*key)),
                };
                each(*change, effect);
            }
        }
    }

    /// Takes over blocks that all have these holders, ascending, as in a snapshot; returns how many were not here yet.
    ///
    /// # Panics
    /// If a holder's number is not below [`PrefixIndex::HOLDERS_MAX`].
    pub fn load(&mut self, holders: &[HolderId], keys: &[IndexKey]) -> usize {
        let numbers: Vec<u16> = holders.iter().map(|holder| number(*holder)).collect();
        let Some(last) = numbers.last().copied() else { return 0 };
        if self.blocks.len() <= usize::from(last) {
            self.blocks.resize(usize::from(last) + 1, 0);
        }
        if !self.has_room_for_set() {
            return 0;
        }
        let set = self.sets.of(&self.shared.sets, &numbers);
        // Named while it is used here, whether or not a block comes to have it.
        self.sets.name(set, 1);
        let mut fresh = 0;
        for some in keys.chunks(AHEAD) {
            some.iter().for_each(|key| self.table.touch(Place::of(Key::from(*key))));
            for key in some.iter().map(|key| Key::from(*key)) {
                if self.find(key, self.near.wrapping_add(1)).is_some() {
                    numbers.iter().for_each(|number| _ = self.store(*number, key, usize::MAX));
                } else if self.insert(key, set).is_ok() {
                    numbers.iter().for_each(|number| self.blocks[usize::from(*number)] += 1);
                    fresh += 1;
                }
            }
        }
        self.unname(set);
        fresh
    }

    /// The index as it is now, to be walked while this one goes on.
    pub fn freeze(&mut self) -> Frozen {
        self.freezes.freeze(&self.shared, self.len)
    }

    /// Blocks in the order in which they lie in memory; what only retired holders have is among them.
    pub fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        frozen::runs(&self.shared, self.room.slots() / crate::slab::SEGMENT_SLOTS)
    }

    /// As [`IndexReader::leading`].
    #[must_use]
    pub fn leading(&self, prefix: &[IndexKey]) -> Vec<Match> {
        crate::walk::leading(&self.shared, prefix)
    }

    /// Whether anybody holds the block, or held it and is not swept yet.
    #[must_use]
    pub fn contains(&self, key: &IndexKey) -> bool {
        self.find(Key::from(*key), Slot::MAX).is_some()
    }

    /// Blocks of one holder; 0 once retired.
    #[must_use]
    pub fn blocks_of(&self, holder: HolderId) -> u64 {
        match u16::try_from(holder.get()) {
            Ok(number) if !self.shared.retired.contains(number) => self.held_by(number),
            _ => 0,
        }
    }

    /// Distinct blocks, those included that only retired holders had and that are not swept yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// No blocks.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How large it is.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats { blocks: self.len, bytes: self.bytes(), sets: self.sets.count(), evicted: self.budget.evicted() }
    }

    fn bytes(&self) -> usize {
        Slab::bytes(self.room.slots() / crate::slab::SEGMENT_SLOTS)
            + self.table_bytes
            + self.sets.bytes()
            + self.room.bytes()
            + self.freezes.bytes()
            + Retired::bytes()
            + size_of::<u64>() * self.blocks.capacity()
            + size_of::<u32>() * Table::subs()
            + size_of::<Shared>()
            + size_of::<Self>()
    }

    fn held_by(&self, number: u16) -> u64 {
        self.blocks.get(usize::from(number)).copied().unwrap_or(0)
    }

    #[inline]
    fn store(&mut self, number: u16, key: Key, max: usize) -> Effect {
        if let Some((slot, set)) = self.find(key, self.near.wrapping_add(1)) {
            self.near = slot;
            let Ok(to) = self.become_of(set, number, true) else {
                self.evict(slot, set, key);
                return Effect::None;
            };
            if to == set {
                return Effect::None;
            }
            self.blocks[usize::from(number)] += 1;
            self.rename(slot, set, to);
            return Effect::Holder;
        }
        if self.len >= max {
            return Effect::Full;
        }
        if self.insert(key, SetId::single(number)).is_err() {
            return Effect::None;
        }
        self.blocks[usize::from(number)] += 1;
        Effect::Block
    }

    #[inline]
    fn remove(&mut self, number: u16, key: Key) -> Effect {
        // A prefix goes from its end.
        let Some((slot, set)) = self.find(key, self.near.wrapping_sub(1)) else { return Effect::None };
        self.near = slot;
        let Ok(to) = self.become_of(set, number, false) else {
            self.evict(slot, set, key);
            return Effect::Block;
        };
        if to == set {
            return Effect::None;
        }
        self.blocks[usize::from(number)] -= 1;
        if to == SetId::FREE {
            self.free(slot, set, key);
            return Effect::Block;
        }
        self.rename(slot, set, to);
        Effect::Holder
    }

    /// Slot and set of a block; `guess` is looked at first.
    #[inline]
    fn find(&self, key: Key, guess: Slot) -> Option<(Slot, SetId)> {
        let slab = &self.shared.slab;
        let set = slab.set_of(guess, key);
        if set != SetId::FREE {
            return Some((guess, set));
        }
        self.table.find(Place::of(key), |slot| {
            let set = slab.set_of(slot, key);
            (set != SetId::FREE).then_some((slot, set))
        })
    }

    /// The set with a holder more, or one less.
    #[inline]
    fn become_of(&mut self, set: SetId, number: u16, stored: bool) -> Result<SetId, NoRoom> {
        let last = self.last;
        if last.from == set && last.number == number && last.stored == stored {
            return Ok(last.to);
        }
        self.another_of(set, number, stored)
    }

    fn another_of(&mut self, set: SetId, number: u16, stored: bool) -> Result<SetId, NoRoom> {
        if !self.has_room_for_set() {
            return Err(NoRoom);
        }
        let to = match stored {
            true => self.sets.with(&self.shared.sets, set, number),
            false => self.sets.without(&self.shared.sets, set, |held| held == number),
        };
        self.last = Transition { from: set, number, stored, to };
        Ok(to)
    }

    /// A slot's set becomes another.
    #[inline]
    fn rename(&mut self, slot: Slot, from: SetId, to: SetId) {
        let (segment, at) = split(slot);
        self.freezes.before_change(&self.shared, segment);
        self.sets.name(to, 1);
        self.shared.slab.locate(slot).0.set_to(at, to);
        self.unname(from);
    }

    fn insert(&mut self, key: Key, set: SetId) -> Result<(), NoRoom> {
        let slot = self.fill(key, set)?;
        self.enter(key, slot).inspect_err(|NoRoom| self.vacate(slot, set))
    }

    /// Gives a free slot to a block that is not here; the table does not know of it yet.
    #[inline]
    fn fill(&mut self, key: Key, set: SetId) -> Result<Slot, NoRoom> {
        let slot = self.take_slot().ok_or(NoRoom)?;
        self.freezes.before_change(&self.shared, split(slot).0);
        let (segment, at) = self.shared.slab.locate(slot);
        self.shared.slab.fill(segment, at, key, set);
        if self.shared.recency.tracked {
            segment.stamp(at, self.shared.recency.tick.load(Ordering::Relaxed));
        }
        self.sets.name(set, 1);
        self.len += 1;
        self.near = slot;
        Ok(slot)
    }

    /// Enters a filled slot in the table.
    #[inline]
    fn enter(&mut self, key: Key, slot: Slot) -> Result<(), NoRoom> {
        let sub = Table::sub_of(key);
        while let Err(Crowded) = self.table.insert(key, slot, self.entries[sub] as usize) {
            if !self.grow(sub) && !self.evict_some() {
                return Err(NoRoom);
            }
        }
        self.entries[sub] += 1;
        Ok(())
    }

    /// Frees a slot whose block has no holder left. The table is told before: a reader that still finds the slot sees that
    /// it is free.
    fn free(&mut self, slot: Slot, set: SetId, key: Key) {
        self.freezes.before_change(&self.shared, split(slot).0);
        self.table.remove(key, slot);
        self.entries[Table::sub_of(key)] -= 1;
        self.vacate(slot, set);
    }

    fn vacate(&mut self, slot: Slot, set: SetId) {
        let (segment, at) = self.shared.slab.locate(slot);
        segment.set_to(at, SetId::FREE);
        self.room.give(slot);
        self.unname(set);
        self.len -= 1;
    }

    #[inline]
    fn unname(&mut self, set: SetId) {
        if self.sets.unname(&self.shared.sets, set, self.freezes.epoch()) {
            self.sets.release(&self.shared.sets, self.freezes.oldest());
            // Its name may come to mean another set.
            self.last = Transition::NONE;
        }
    }

    /// A free slot: the neighbour of the last one, or the next after the last search.
    fn take_slot(&mut self) -> Option<Slot> {
        let neighbour = self.near.wrapping_add(1);
        if self.room.take(neighbour) {
            return Some(neighbour);
        }
        // With few free slots left, runs would be torn to pieces to fill them all.
        if self.room.free() * SCARCE <= self.room.slots() && self.can_add_segment() {
            self.add_segment();
        }
        if self.room.free() == 0 {
            self.evict_some();
        }
        self.room.take_next()
    }

    #[cold]
    fn add_segment(&mut self) {
        self.shared.slab.add_segment(self.room.slots() / crate::slab::SEGMENT_SLOTS);
        self.room.add_segment();
        self.freezes.add_segment();
    }

    /// Makes a sub-table larger; `false` if the budget does not allow it.
    #[cold]
    fn grow(&mut self, sub: usize) -> bool {
        if !self.can_take(self.table.growth_bytes(sub)) {
            return false;
        }
        let table = Arc::new(self.table.grow(sub));
        self.table_bytes = table.bytes();
        self.table = Arc::clone(&table);
        self.shared.table.store(table);
        true
    }

    /// A segment may be added.
    fn can_add_segment(&self) -> bool {
        self.room.slots() < Self::BLOCKS_MAX
            && self.can_take(Slab::growth_bytes() + self.room.growth_bytes() + 2 * self.freezes.bytes() + 64)
    }
}

/// The part of all slots that should be free: one in so many.
const SCARCE: usize = 32;

/// Changes whose search in the table is begun before the first of them is made: as many loads as a core keeps on their way.
const AHEAD: usize = 32;

impl Transition {
    /// Of a set that no slot with a block has.
    const NONE: Self = Self { from: SetId::FREE, number: 0, stored: false, to: SetId::FREE };
}

fn number(holder: HolderId) -> u16 {
    u16::try_from(holder.get()).expect("the directory hands out numbers below HOLDERS_MAX, and followers check")
}

impl fmt::Debug for PrefixIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrefixIndex")
            .field("blocks", &self.len)
            .field("sets", &self.sets.count())
            .finish_non_exhaustive()
    }
}
