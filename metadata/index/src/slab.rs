//! The slots: one a block, with its key and the name of its set of holders. What is stored one behind the other lies one
//! behind the other, so a walk along a prompt is a walk along memory.
//!
//! # Who may do what
//! One writer; any number of readers, which never wait for it. A slot is free, or has a key that does not change until it
//! is free again, and a set that changes in one store.
//!
//! # Why a reader is never misled
//! A slot that is free may be given to another key between two loads of a reader. So before the writer puts a key into a
//! slot it raises the version of the stretch (64 slots) around it. A reader loads version, set, key, and the version again:
//! if it is the same, no key of the stretch began to change meanwhile, and a change begun earlier is over, for until then
//! the set says *free*. So the set read was that of the key read.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use crate::chunks::Chunks;
use crate::key::Key;
use crate::sets::SetId;

/// Number of a slot.
pub(crate) type Slot = u32;

/// Slots of a segment, the unit of growth and of what is copied for a [`crate::Frozen`]: 20 KiB.
pub(crate) const SEGMENT_SLOTS: usize = 1 << 10;

/// Slots that share a version and a stamp.
pub(crate) const STRETCH_SLOTS: usize = 1 << 6;

/// A number of a slot has so many bits; the table keeps four more beside it.
pub(crate) const SLOT_BITS: u32 = 28;

/// Slots whose keys lie together, with their sets behind them: five cache lines.
const GROUP_SLOTS: usize = 16;

const _: () = assert!(size_of::<Group>() == GROUP_SLOTS * 20, "20 bytes a block: 100 million blocks depend on it");
const _: () = assert!(Chunks::<Segment>::MAX * SEGMENT_SLOTS == 1 << SLOT_BITS);

/// All slots.
pub(crate) struct Slab(Chunks<Segment>);

/// [`SEGMENT_SLOTS`] slots.
pub(crate) struct Segment {
    groups: [Group; SEGMENT_SLOTS / GROUP_SLOTS],
    stretches: [Stretch; SEGMENT_SLOTS / STRETCH_SLOTS],
}

#[repr(align(64))]
struct Group {
    keys: [[AtomicU64; 2]; GROUP_SLOTS],
    sets: [AtomicU32; GROUP_SLOTS],
}

struct Stretch {
    /// How often a key was put into one of these slots.
    version: AtomicU32,
    /// Tick at which a block here was stored or matched last.
    stamp: AtomicU32,
}

impl Slab {
    pub(crate) fn new() -> Self {
        Self(Chunks::new())
    }

    /// Bytes of a slab with so many segments.
    pub(crate) fn bytes(segments: usize) -> usize {
        Chunks::<Segment>::bytes(segments)
    }

    /// Bytes that another segment adds, with what leads to it.
    pub(crate) fn growth_bytes() -> usize {
        Chunks::<Segment>::bytes(1) - Chunks::<Segment>::bytes(0)
    }

    pub(crate) fn add_segment(&self, number: usize) {
        self.0.add(number, Box::new(Segment::new()));
    }

    #[inline]
    pub(crate) fn segment(&self, number: usize) -> Option<&Segment> {
        self.0.get(number)
    }

    /// The segment of a slot, and the slot's place in it. For the writer: the slot is there.
    #[inline]
    pub(crate) fn locate(&self, slot: Slot) -> (&Segment, usize) {
        let (segment, at) = split(slot);
        (self.segment(segment).expect("the writer asks for slots it has made"), at)
    }

    /// The set of a slot if it has this key, else [`SetId::FREE`]. For the writer.
    #[inline]
    pub(crate) fn set_of(&self, slot: Slot, key: Key) -> SetId {
        let (segment, at) = split(slot);
        match self.segment(segment) {
            Some(segment) if segment.key(at) == key => segment.set(at),
            _ => SetId::FREE,
        }
    }
}

/// Segment and place in it.
#[inline]
pub(crate) fn split(slot: Slot) -> (usize, usize) {
    let slot = slot as usize;
    (slot / SEGMENT_SLOTS, slot % SEGMENT_SLOTS)
}

impl Segment {
    fn new() -> Self {
        Self {
            groups: [const { Group::new() }; SEGMENT_SLOTS / GROUP_SLOTS],
            stretches: [const { Stretch { version: AtomicU32::new(0), stamp: AtomicU32::new(0) } };
                SEGMENT_SLOTS / STRETCH_SLOTS],
        }
    }

    /// The set of a slot if it has this key, else [`SetId::FREE`]; proven as the module says. For readers.
    #[inline]
    pub(crate) fn read(&self, at: usize, key: Key) -> SetId {
        let version = &self.stretches[at / STRETCH_SLOTS].version;
        let (group, i) = (&self.groups[at / GROUP_SLOTS], at % GROUP_SLOTS);
        let mut before = version.load(Ordering::Acquire);
        loop {
            let set = SetId::from_bits(group.sets[i].load(Ordering::Acquire));
            let [high, low] = &group.keys[i];
            let same = high.load(Ordering::Relaxed) == key.high && low.load(Ordering::Relaxed) == key.low;
            fence(Ordering::Acquire);
            let after = version.load(Ordering::Relaxed);
            if after == before {
                return if same { set } else { SetId::FREE };
            }
            before = version.load(Ordering::Acquire);
        }
    }

    /// The set of a slot, whatever its key.
    #[inline]
    pub(crate) fn set(&self, at: usize) -> SetId {
        SetId::from_bits(self.groups[at / GROUP_SLOTS].sets[at % GROUP_SLOTS].load(Ordering::Acquire))
    }

    /// The key of a slot; meaningless if it is free. For the writer.
    #[inline]
    pub(crate) fn key(&self, at: usize) -> Key {
        let [high, low] = &self.groups[at / GROUP_SLOTS].keys[at % GROUP_SLOTS];
        Key { high: high.load(Ordering::Relaxed), low: low.load(Ordering::Relaxed) }
    }

    /// Gives a free slot to a key. By the writer.
    #[inline]
    pub(crate) fn fill(&self, at: usize, key: Key, set: SetId) {
        let version = &self.stretches[at / STRETCH_SLOTS].version;
        version.store(version.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
        fence(Ordering::Release);
        let [high, low] = &self.groups[at / GROUP_SLOTS].keys[at % GROUP_SLOTS];
        high.store(key.high, Ordering::Relaxed);
        low.store(key.low, Ordering::Relaxed);
        self.set_to(at, set);
    }

    /// Changes the set of a slot; [`SetId::FREE`] frees it. By the writer.
    #[inline]
    pub(crate) fn set_to(&self, at: usize, set: SetId) {
        self.groups[at / GROUP_SLOTS].sets[at % GROUP_SLOTS].store(set.to_bits(), Ordering::Release);
    }

    /// Notes that a block in this place was stored or matched; writes only what is new, since readers share the line.
    #[inline]
    pub(crate) fn stamp(&self, at: usize, tick: u32) {
        let stamp = &self.stretches[at / STRETCH_SLOTS].stamp;
        if stamp.load(Ordering::Relaxed) != tick {
            stamp.store(tick, Ordering::Relaxed);
        }
    }

    /// When a block of this stretch was stored or matched last.
    pub(crate) fn stamp_of(&self, stretch: usize) -> u32 {
        self.stretches[stretch].stamp.load(Ordering::Relaxed)
    }
}

impl Group {
    const fn new() -> Self {
        Self {
            keys: [const { [const { AtomicU64::new(0) }; 2] }; GROUP_SLOTS],
            sets: [const { AtomicU32::new(SetId::FREE.to_bits()) }; GROUP_SLOTS],
        }
    }
}
