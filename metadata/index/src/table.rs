//! Key → slot: a hash table whose hash is the key itself, in the order of the keys.
//!
//! ```text
//!   key, high 8 bytes:  │ 8 bits: sub-table │ 20 bits: hash; times buckets: home bucket │ …
//!   bucket, 64 bytes:   │ 10 × low 16 bits of a hash │ u32: lanes taken, entries passed │ 10 × u32: slot, high 4 bits of the hash │
//! ```
//! An entry has the whole hash that its place follows from. So a sub-table is built anew, a quarter larger, from itself
//! alone: one walk through it, in order, without a look at the keys, which lie all over the slab.
//!
//! An entry lies in the first bucket from its home on that had room; each bucket counts how many entries *passed* it, so a
//! search ends at the first bucket that none passed. An entry does not move until its sub-table is built anew; then readers
//! may still look through the former one: what came later is not in it, which is as if they had come earlier. The slab tells
//! whether a slot has the key; the table only says where to look. Of two entries in a bucket the hashes differ in all but
//! one of 1,000 cases at 10 million blocks, and in all but one of 20 at the most that an index can have.
//!
//! # Bounds
//! Keys are block hashes, so they are spread evenly, unless a node makes them up. Made-up keys crowd one place, where
//! searches grow long; but a sub-table that is three quarters empty is not built larger for that, so memory stays in
//! proportion to blocks.

use crate::atomic::{AtomicU32, AtomicU64, Ordering};
use std::ops::Range;
use std::sync::Arc;

use crate::key::Key;
use crate::slab::{SLOT_BITS, Slot};

/// Sub-tables: each grows alone, so no growth takes longer than that of 1/256 of the table.
const SUBS: usize = 256;
/// Entries of a bucket.
const LANES: usize = 10;
/// Bits of a hash, which are those of a key behind the sub-table's.
const HASH_BITS: u32 = 20;
/// Bits of a hash that lie apart from the slot.
const TAG_BITS: u32 = 16;
/// Hashes in a word.
const TAGS_A_WORD: usize = 4;
/// Bits of [`Bucket::state`] that say which lanes are taken. The others count the entries that passed.
const TAKEN: u32 = (1 << LANES) - 1;
/// One passed entry.
const PASSED: u32 = 1 << LANES;
/// Counts from here on stay: more entries may pass than are counted.
const PASSED_MAX: u32 = (1 << (32 - LANES as u32)) - 1;
/// Buckets to try from home on before the sub-table should grow.
const PROBES: usize = 32;
/// Below this many bits, an entry's number of a slot.
const SLOT_MASK: u32 = (1 << SLOT_BITS) - 1;

/// What readers look through: replaced as a whole when a sub-table grows.
#[derive(Clone)]
pub(crate) struct Table {
    subs: Vec<Arc<[Bucket]>>,
}

#[repr(align(64))]
struct Bucket {
    tags: [AtomicU64; LANES.div_ceil(TAGS_A_WORD) - 1],
    /// The last two.
    more_tags: AtomicU32,
    state: AtomicU32,
    slots: [AtomicU32; LANES],
}

#[cfg(not(feature = "shuttle"))]
const _: () = assert!(size_of::<Bucket>() == 64, "a search begins with one load from memory");
const _: () = assert!(SLOT_BITS + HASH_BITS - TAG_BITS == u32::BITS);

/// The sub-table must grow first.
#[derive(Debug)]
pub(crate) struct Crowded;

/// Why an entry that should be new was not added.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The sub-table must grow first.
    Crowded,
    /// There is one for the key.
    Known,
}

/// Where a key's entry may be.
#[derive(Clone, Copy, Default)]
pub(crate) struct Place {
    sub: usize,
    hash: u32,
}

/// An entry to be, in 8 bytes that are in the order of the table: `│ 8 bits: sub-table │ 20 bits: hash │ slot │`.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Waiting(u64);

impl Place {
    #[inline]
    pub(crate) fn of(key: Key) -> Self {
        Self { sub: (key.high >> 56) as usize, hash: (key.high >> (56 - HASH_BITS)) as u32 & ((1 << HASH_BITS) - 1) }
    }
}

impl Waiting {
    /// Values of a digit.
    pub(crate) const DIGITS: usize = 1 << 8;

    #[inline]
    pub(crate) fn of(key: Key, slot: Slot) -> Self {
        let place = Place::of(key);
        let place = (place.sub as u64) << HASH_BITS | u64::from(place.hash);
        Self(place << SLOT_BITS | u64::from(slot))
    }

    /// The first bits of its place, or, with `1`, those behind them.
    #[inline]
    pub(crate) fn digit(self, number: u32) -> usize {
        (self.0 >> (SLOT_BITS + HASH_BITS - 8 * number)) as usize % Self::DIGITS
    }

    #[inline]
    pub(crate) fn sub(self) -> usize {
        (self.0 >> (SLOT_BITS + HASH_BITS)) as usize
    }

    #[inline]
    fn hash(self) -> u32 {
        (self.0 >> SLOT_BITS) as u32 & ((1 << HASH_BITS) - 1)
    }

    #[inline]
    pub(crate) fn slot(self) -> Slot {
        self.0 as Slot & SLOT_MASK
    }
}

#[inline]
fn home(hash: u32, buckets: usize) -> usize {
    ((u64::from(hash) * buckets as u64) >> HASH_BITS) as usize
}

/// What an entry has beside its tag.
#[inline]
fn entry(hash: u32, slot: Slot) -> u32 {
    slot | hash >> TAG_BITS << SLOT_BITS
}

/// Which of a word's tags are `tag`, a bit each.
#[inline]
fn equal(word: u64, tag: u64) -> u32 {
    const ONES: u64 = 0x0001_0001_0001_0001;
    const LOW: u64 = 0x7fff * ONES;
    let differs = word ^ (tag * ONES);
    // The highest bit of each tag: whether all its bits are 0.
    let same = !(((differs & LOW) + LOW) | differs | LOW);
    // Gathers them at bits 48 to 51.
    ((same >> 15).wrapping_mul(1 << 48 | 1 << 33 | 1 << 18 | 1 << 3) >> 48) as u32 & 0xf
}

impl Bucket {
    const fn new() -> Self {
        Self {
            tags: [const { AtomicU64::new(0) }; _],
            more_tags: AtomicU32::new(0),
            state: AtomicU32::new(0),
            slots: [const { AtomicU32::new(0) }; LANES],
        }
    }

    /// Lanes that may have an entry of this hash, a bit each. `state` was loaded before.
    #[inline]
    fn hits(&self, state: u32, hash: u32) -> u32 {
        let tag = u64::from(hash & ((1 << TAG_BITS) - 1));
        let mut hits = equal(u64::from(self.more_tags.load(Ordering::Relaxed)), tag) << (self.tags.len() * TAGS_A_WORD);
        for (at, word) in self.tags.iter().enumerate() {
            hits |= equal(word.load(Ordering::Relaxed), tag) << (at * TAGS_A_WORD);
        }
        hits & state & TAKEN
    }

    /// The first slot of these lanes for which `check` finds something.
    #[inline]
    fn check<T>(&self, mut hits: u32, check: &mut impl FnMut(Slot) -> Option<T>) -> Option<T> {
        while hits != 0 {
            let entry = self.slots[hits.trailing_zeros() as usize].load(Ordering::Relaxed);
            if let Some(found) = check(entry & SLOT_MASK) {
                return Some(found);
            }
            hits &= hits - 1;
        }
        None
    }

    /// Hash and slot of a lane that is taken. For the writer.
    #[inline]
    fn entry(&self, lane: usize) -> (u32, Slot) {
        let (word, shift) = (lane / TAGS_A_WORD, lane % TAGS_A_WORD * TAG_BITS as usize);
        let tags = match self.tags.get(word) {
            Some(word) => word.load(Ordering::Relaxed),
            None => u64::from(self.more_tags.load(Ordering::Relaxed)),
        };
        let entry = self.slots[lane].load(Ordering::Relaxed);
        ((tags >> shift) as u32 & ((1 << TAG_BITS) - 1) | entry >> SLOT_BITS << TAG_BITS, entry & SLOT_MASK)
    }

    /// Takes a lane, which is free in `state`. By the writer.
    #[inline]
    fn put(&self, state: u32, lane: usize, hash: u32, slot: Slot) {
        self.slots[lane].store(entry(hash, slot), Ordering::Relaxed);
        let (word, shift) = (lane / TAGS_A_WORD, lane % TAGS_A_WORD * TAG_BITS as usize);
        let (mask, tag) = (((1 << TAG_BITS) - 1) << shift, u64::from(hash & ((1 << TAG_BITS) - 1)) << shift);
        match self.tags.get(word) {
            Some(word) => word.store(word.load(Ordering::Relaxed) & !mask | tag, Ordering::Relaxed),
            None => {
                let tags = u64::from(self.more_tags.load(Ordering::Relaxed)) & !mask | tag;
                self.more_tags.store(tags as u32, Ordering::Relaxed);
            }
        }
        self.state.store(state | 1 << lane, Ordering::Release);
    }

    /// Counts an entry more that passed, or one less. By the writer.
    fn count_passed(&self, more: bool) {
        let state = self.state.load(Ordering::Relaxed);
        if state / PASSED < PASSED_MAX {
            self.state.store(if more { state + PASSED } else { state - PASSED }, Ordering::Release);
        }
    }

    /// Lanes that are taken.
    fn lanes(&self) -> impl Iterator<Item = usize> + use<> {
        let mut taken = self.state.load(Ordering::Relaxed) & TAKEN;
        std::iter::from_fn(move || {
            let lane = (taken != 0).then_some(taken.trailing_zeros() as usize);
            taken &= taken.wrapping_sub(1);
            lane
        })
    }
}

impl Table {
    /// With room for so many blocks.
    pub(crate) fn with_room(blocks: usize) -> Self {
        let entries = (blocks / SUBS).saturating_mul(8) / 7;
        // Of a small table some sub-tables get many more than their part.
        let buckets = (entries + 4 * entries.isqrt()) / LANES + 1;
        Self { subs: (0..SUBS).map(|_| fresh(buckets)).collect() }
    }

    pub(crate) fn bytes(&self) -> usize {
        let buckets: usize = self.subs.iter().map(|sub| sub.len()).sum();
        size_of::<Self>() + SUBS * (size_of::<Arc<[Bucket]>>() + ARC_COUNTS) + buckets * size_of::<Bucket>()
    }

    /// Gives slots that may have a key of this place to `check`, until it finds something.
    #[inline]
    pub(crate) fn find<T>(&self, place: Place, mut check: impl FnMut(Slot) -> Option<T>) -> Option<T> {
        let sub = &*self.subs[place.sub];
        let mut at = home(place.hash, sub.len());
        for _ in 0..sub.len() {
            let bucket = &sub[at];
            let state = bucket.state.load(Ordering::Acquire);
            if let Some(found) = bucket.check(bucket.hits(state, place.hash), &mut check) {
                return Some(found);
            }
            if state < PASSED {
                return None;
            }
            at = next(sub, at);
        }
        None
    }

    /// Loads what a search for the key begins with, so that it is in the cache by the time of the search.
    #[inline]
    pub(crate) fn touch(&self, place: Place) {
        let sub = &*self.subs[place.sub];
        sub[home(place.hash, sub.len())].state.load(Ordering::Relaxed);
    }

    /// Adds an entry. `entries`: how many the sub-table has. By the writer.
    #[inline]
    pub(crate) fn insert(&self, key: Key, slot: Slot, entries: usize) -> Result<(), Crowded> {
        let place = Place::of(key);
        self.add(place.sub, place.hash, slot, entries)
    }

    #[inline]
    fn add(&self, sub: usize, hash: u32, slot: Slot, entries: usize) -> Result<(), Crowded> {
        let sub = &*self.subs[sub];
        let room = sub.len() * LANES;
        // Whatever the keys are: one that is mostly empty takes them, though far from home.
        let sparse = entries < room / 4;
        if entries >= room * 7 / 8 && !sparse {
            return Err(Crowded);
        }
        put(sub, hash, slot, if sparse { sub.len() } else { PROBES.min(sub.len()) })
    }

    /// Adds an entry to a table that none was removed from, unless `same` says of another's slot that it has the same key. An
    /// entry of that key would lie where this one goes, or before. By the writer.
    #[inline]
    pub(crate) fn insert_new(
        &self,
        new: Waiting,
        entries: usize,
        mut same: impl FnMut(Slot) -> bool,
    ) -> Result<(), Refused> {
        let sub = &*self.subs[new.sub()];
        let hash = new.hash();
        let mut at = home(hash, sub.len());
        for _ in 0..sub.len() {
            let bucket = &sub[at];
            let state = bucket.state.load(Ordering::Relaxed);
            if bucket.check(bucket.hits(state, hash), &mut |slot| same(slot).then_some(())).is_some() {
                return Err(Refused::Known);
            }
            if state & TAKEN != TAKEN {
                break;
            }
            at = next(sub, at);
        }
        self.add(new.sub(), hash, new.slot(), entries).map_err(|Crowded| Refused::Crowded)
    }

    /// Removes the entry of a slot. By the writer.
    #[inline]
    pub(crate) fn remove(&self, key: Key, slot: Slot) {
        let Place { sub, hash } = Place::of(key);
        let sub = &*self.subs[sub];
        let mut at = home(hash, sub.len());
        for step in 0..sub.len() {
            let bucket = &sub[at];
            let state = bucket.state.load(Ordering::Relaxed);
            let mut hits = bucket.hits(state, hash);
            while hits != 0 {
                let lane = hits.trailing_zeros();
                if bucket.slots[lane as usize].load(Ordering::Relaxed) == entry(hash, slot) {
                    bucket.state.store(state & !(1 << lane), Ordering::Release);
                    count_passed(sub, hash, step, false);
                    return;
                }
                hits &= hits - 1;
            }
            at = next(sub, at);
        }
        unreachable!("every block has an entry");
    }

    /// Number of the key's sub-table.
    #[inline]
    pub(crate) fn sub_of(key: Key) -> usize {
        Place::of(key).sub
    }

    /// How many sub-tables there are.
    pub(crate) const fn subs() -> usize {
        SUBS
    }

    /// Bytes by which the table will have grown once this sub-table has, both sizes of it included.
    pub(crate) fn growth_bytes(&self, sub: usize) -> usize {
        grown(self.subs[sub].len()) * size_of::<Bucket>()
    }

    /// The table with one sub-table built anew, larger.
    pub(crate) fn grow(&self, sub: usize) -> Self {
        let old = &*self.subs[sub];
        let larger = fresh(grown(old.len()));
        for bucket in old {
            for lane in bucket.lanes() {
                let (hash, slot) = bucket.entry(lane);
                let placed = put(&larger, hash, slot, larger.len());
                debug_assert!(placed.is_ok(), "it has more lanes");
            }
        }
        let mut table = self.clone();
        table.subs[sub] = larger;
        table
    }

    /// Slots whose keys are in a partition. By the writer.
    pub(crate) fn partition(&self, partition: usize) -> impl Iterator<Item = Slot> + '_ {
        let (sub, part) = (partition / 16, partition % 16);
        let buckets = self.subs[sub].len();
        let first = part * buckets / 16;
        let mut end = ((part + 1) * buckets).div_ceil(16);
        // Entries that passed the last bucket lie behind it, without a gap.
        while end < first + buckets && self.subs[sub][(end - 1) % buckets].state.load(Ordering::Relaxed) >= PASSED {
            end += 1;
        }
        let part = u32::try_from(part).expect("below 16");
        let entries = self.entries(sub, first..end);
        entries.filter_map(move |(hash, slot)| (hash >> (HASH_BITS - 4) == part).then_some(slot))
    }

    /// Hashes and slots of some buckets, counted on from the first again behind the last.
    fn entries(&self, sub: usize, buckets: Range<usize>) -> impl Iterator<Item = (u32, Slot)> + '_ {
        let sub = &*self.subs[sub];
        buckets.flat_map(move |at| {
            let bucket = &sub[at % sub.len()];
            bucket.lanes().map(|lane| bucket.entry(lane))
        })
    }
}

/// Before what an [`Arc`] points to, there are two counts, and padding to what it is aligned to.
const ARC_COUNTS: usize = align_of::<Bucket>();

fn fresh(buckets: usize) -> Arc<[Bucket]> {
    (0..buckets).map(|_| Bucket::new()).collect()
}

/// Small ones double; of large ones a fifth at most is empty for that they grew.
fn grown(buckets: usize) -> usize {
    const SMALL: usize = 32;
    if buckets < SMALL { 2 * buckets } else { buckets + buckets / 4 }
}

/// The bucket that a search goes on with. Not by a remainder: a division takes as long as everything else here.
#[inline]
fn next(sub: &[Bucket], at: usize) -> usize {
    if at + 1 == sub.len() { 0 } else { at + 1 }
}

/// Counts an entry more that passed so many buckets from home on, or one less.
#[inline]
fn count_passed(sub: &[Bucket], hash: u32, buckets: usize, more: bool) {
    let mut at = home(hash, sub.len());
    for _ in 0..buckets {
        sub[at].count_passed(more);
        at = next(sub, at);
    }
}

#[inline]
fn put(sub: &[Bucket], hash: u32, slot: Slot, probes: usize) -> Result<(), Crowded> {
    let mut at = home(hash, sub.len());
    for step in 0..probes {
        let bucket = &sub[at];
        let state = bucket.state.load(Ordering::Relaxed);
        if state & TAKEN != TAKEN {
            bucket.put(state, state.trailing_ones() as usize, hash, slot);
            count_passed(sub, hash, step, true);
            return Ok(());
        }
        at = next(sub, at);
    }
    Err(Crowded)
}
