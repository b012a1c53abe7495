//! Key → slot: a hash table whose hash is the key itself, in the order of the keys.
//!
//! ```text
//!   key, high 8 bytes:  │ 8 bits: sub-table │ the rest, times buckets: home bucket │
//!   bucket, 64 bytes:   │ 14 × 4 bits of tag │ 8 bits passed │ 14 × u32: slot, 4 more bits of tag │
//! ```
//! An entry lies in the first bucket from its home on that had room; each bucket counts how many entries *passed* it, so a
//! search ends at the first bucket that none passed. An entry does not move until its sub-table is built anew, half as large
//! again; then readers may still look through the former one: what came later is not in it, which is as if they had come
//! earlier. The slab tells whether a slot has the key; the table only says where to look.
//!
//! # Bounds
//! Keys are block hashes, so they are spread evenly, unless a node makes them up. Made-up keys crowd one place, where
//! searches grow long; but a sub-table that is three quarters empty is not built larger for that, so memory stays in
//! proportion to blocks.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::key::Key;
use crate::slab::{SLOT_BITS, Slot};

/// Sub-tables: each grows alone, so no growth takes longer than that of 1/256 of the table.
const SUBS: usize = 256;
/// Entries of a bucket.
const LANES: usize = 14;
/// One bit in each lane's tag.
const ONES: u64 = 0x0011_1111_1111_1111;
/// One passed entry.
const PASSED: u64 = 1 << 56;
/// A count of passed entries that got here stays here.
const PASSED_MAX: u64 = 255;
/// Buckets to try from home on before the sub-table should grow: at 80 % full the chance to find no room in so many is below
/// one in a million.
const PROBES: usize = 32;
/// Below this many bits, an entry's number of a slot; above, its tag.
const SLOT_MASK: u32 = (1 << SLOT_BITS) - 1;

/// What readers look through: replaced as a whole when a sub-table grows.
#[derive(Clone)]
pub(crate) struct Table {
    subs: Vec<Arc<[Bucket]>>,
}

#[repr(align(64))]
struct Bucket {
    head: AtomicU64,
    slots: [AtomicU32; LANES],
}

/// The sub-table must grow first.
#[derive(Debug)]
pub(crate) struct Crowded;

/// Where a key's entry may be.
#[derive(Clone, Copy, Default)]
pub(crate) struct Place {
    sub: usize,
    /// The key's high bytes below the sub-table's.
    rest: u64,
    tag: u64,
    /// In place in an entry, above the slot.
    tag_above: u32,
}

impl Place {
    #[inline]
    pub(crate) fn of(key: Key) -> Self {
        Self {
            sub: (key.high >> 56) as usize,
            rest: key.high << 8,
            // 1 to 15, since 0 is an empty lane.
            tag: 1 + (((key.low >> 32 & 0xffff) * 15) >> 16),
            tag_above: key.low as u32 & !SLOT_MASK,
        }
    }

    #[inline]
    fn home(self, buckets: usize) -> usize {
        ((u128::from(self.rest) * buckets as u128) >> 64) as usize
    }
}

/// A bit in each lane whose tag is `tag`.
#[inline]
fn lanes(head: u64, tag: u64) -> u64 {
    let differs = head ^ (ONES * tag);
    !(differs | differs >> 1 | differs >> 2 | differs >> 3) & ONES
}

fn lane_of(bit: u64) -> usize {
    bit.trailing_zeros() as usize / 4
}

impl Table {
    /// With room for so many blocks.
    pub(crate) fn with_room(blocks: usize) -> Self {
        let entries = (blocks / SUBS).saturating_mul(5) / 4;
        // Of a small table some sub-tables get many more than their part.
        let buckets = (entries + 4 * entries.isqrt()) / LANES + 1;
        Self { subs: (0..SUBS).map(|_| fresh(buckets)).collect() }
    }

    pub(crate) fn bytes(&self) -> usize {
        let buckets: usize = self.subs.iter().map(|sub| sub.len()).sum();
        size_of::<Self>() + SUBS * (size_of::<Arc<[Bucket]>>() + ARC_COUNTS) + buckets * size_of::<Bucket>()
    }

    /// Gives slots that may have this key to `check`, until it finds something.
    #[inline]
    pub(crate) fn find<T>(&self, key: Key, mut check: impl FnMut(Slot) -> Option<T>) -> Option<T> {
        let place = Place::of(key);
        let sub = &*self.subs[place.sub];
        let mut at = place.home(sub.len());
        for _ in 0..sub.len() {
            let bucket = &sub[at];
            let head = bucket.head.load(Ordering::Acquire);
            let mut hits = lanes(head, place.tag);
            while hits != 0 {
                let entry = bucket.slots[lane_of(hits)].load(Ordering::Relaxed) ^ place.tag_above;
                if entry <= SLOT_MASK
                    && let Some(found) = check(entry)
                {
                    return Some(found);
                }
                hits &= hits - 1;
            }
            if head < PASSED {
                return None;
            }
            at = if at + 1 == sub.len() { 0 } else { at + 1 };
        }
        None
    }

    /// A slot that may have this key, if there is one near where its search begins: the slab is not asked.
    #[inline]
    pub(crate) fn guess(&self, place: Place) -> Option<Slot> {
        let sub = &*self.subs[place.sub];
        let bucket = &sub[place.home(sub.len())];
        let mut hits = lanes(bucket.head.load(Ordering::Acquire), place.tag);
        while hits != 0 {
            let entry = bucket.slots[lane_of(hits)].load(Ordering::Relaxed) ^ place.tag_above;
            if entry <= SLOT_MASK {
                return Some(entry);
            }
            hits &= hits - 1;
        }
        None
    }

    /// Loads what a search for the key begins with, so that it is in the cache by the time of the search.
    #[inline]
    pub(crate) fn touch(&self, place: Place) {
        let sub = &*self.subs[place.sub];
        sub[place.home(sub.len())].head.load(Ordering::Relaxed);
    }

    /// Adds an entry. `entries`: how many the sub-table has. By the writer.
    #[inline]
    pub(crate) fn insert(&self, key: Key, slot: Slot, entries: usize) -> Result<(), Crowded> {
        let place = Place::of(key);
        let sub = &*self.subs[place.sub];
        let room = sub.len() * LANES;
        // Whatever the keys are: one that is mostly empty takes them, though far from home.
        let sparse = entries < room / 4;
        if entries >= room * 4 / 5 && !sparse {
            return Err(Crowded);
        }
        place_entry(sub, place, slot, if sparse { sub.len() } else { PROBES.min(sub.len()) })
    }

    /// Removes the entry of a slot. By the writer.
    #[inline]
    pub(crate) fn remove(&self, key: Key, slot: Slot) {
        let place = Place::of(key);
        let sub = &*self.subs[place.sub];
        let home = place.home(sub.len());
        let entry = slot | place.tag_above;
        for step in 0..sub.len() {
            let bucket = &sub[(home + step) % sub.len()];
            let head = bucket.head.load(Ordering::Relaxed);
            let mut hits = lanes(head, place.tag);
            while hits != 0 {
                let lane = lane_of(hits);
                if bucket.slots[lane].load(Ordering::Relaxed) == entry {
                    bucket.head.store(head & !(15 << (4 * lane)), Ordering::Release);
                    for passed in 0..step {
                        let head = &sub[(home + passed) % sub.len()].head;
                        let old = head.load(Ordering::Relaxed);
                        if old / PASSED < PASSED_MAX {
                            head.store(old - PASSED, Ordering::Release);
                        }
                    }
                    return;
                }
                hits &= hits - 1;
            }
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

    /// The table with one sub-table built anew, larger. `read`: the keys of slots.
    pub(crate) fn grow(&self, sub: usize, read: impl Fn(&[Slot], &mut [Key])) -> Self {
        let slots: Vec<Slot> = self.slots(sub, 0..self.subs[sub].len()).collect();
        let mut keys = vec![Key::default(); slots.len()];
        read(&slots, &mut keys);
        let mut buckets = grown(self.subs[sub].len());
        loop {
            let larger = fresh(buckets);
            let mut entries = slots.iter().zip(&keys);
            if entries.all(|(slot, key)| place_entry(&larger, Place::of(*key), *slot, larger.len()).is_ok()) {
                let mut table = self.clone();
                table.subs[sub] = larger;
                return table;
            }
            buckets = grown(buckets);
        }
    }

    /// Slots that may have keys of a partition: these and others. By the writer.
    pub(crate) fn partition(&self, partition: usize) -> impl Iterator<Item = Slot> + '_ {
        let (sub, part) = (partition / 16, partition % 16);
        let buckets = self.subs[sub].len();
        let first = part * buckets / 16;
        let mut end = ((part + 1) * buckets).div_ceil(16);
        // Entries that passed the last bucket lie behind it, without a gap.
        while end < first + buckets && self.subs[sub][(end - 1) % buckets].head.load(Ordering::Relaxed) >= PASSED {
            end += 1;
        }
        self.slots(sub, first..end)
    }

    /// Slots of some buckets, counted on from the first again behind the last.
    fn slots(&self, sub: usize, buckets: Range<usize>) -> impl Iterator<Item = Slot> + '_ {
        let sub = &*self.subs[sub];
        buckets.flat_map(move |at| {
            let bucket = &sub[at % sub.len()];
            let empty = lanes(bucket.head.load(Ordering::Relaxed), 0);
            (0..LANES)
                .filter(move |lane| empty >> (4 * lane) & 1 == 0)
                .map(|lane| bucket.slots[lane].load(Ordering::Relaxed) & SLOT_MASK)
        })
    }
}

/// Before what an [`Arc`] points to, there are two counts, and padding to what it is aligned to.
const ARC_COUNTS: usize = align_of::<Bucket>();

fn fresh(buckets: usize) -> Arc<[Bucket]> {
    (0..buckets).map(|_| Bucket { head: AtomicU64::new(0), slots: [const { AtomicU32::new(0) }; LANES] }).collect()
}

fn grown(buckets: usize) -> usize {
    buckets + buckets.div_ceil(2)
}

#[inline]
fn place_entry(sub: &[Bucket], place: Place, slot: Slot, probes: usize) -> Result<(), Crowded> {
    let home = place.home(sub.len());
    let mut at = home;
    for step in 0..probes {
        let bucket = &sub[at];
        let head = bucket.head.load(Ordering::Relaxed);
        let empty = lanes(head, 0);
        if empty != 0 {
            let lane = lane_of(empty);
            bucket.slots[lane].store(slot | place.tag_above, Ordering::Relaxed);
            bucket.head.store(head | place.tag << (4 * lane), Ordering::Release);
            for passed in 0..step {
                let head = &sub[(home + passed) % sub.len()].head;
                let old = head.load(Ordering::Relaxed);
                if old / PASSED < PASSED_MAX {
                    head.store(old + PASSED, Ordering::Release);
                }
            }
            return Ok(());
        }
        at = if at + 1 == sub.len() { 0 } else { at + 1 };
    }
    Err(Crowded)
}
