//! The slots: one a block, with its key and the name of its set of holders. What is stored one behind the other lies one
//! behind the other, so a walk along a prompt is a walk along memory.
//!
//! ```text
//!   line, 64 bytes:  │ 5 × print of a key, 8 bytes │ 5 × set, 4 bytes │ version │      what a walk reads
//!   apart:           │ 8 bytes of each key │                                          what makes the key whole again
//! ```
//! A walk knows a block by its [`Print`]: 12.8 bytes a block to read instead of 21. The writer compares the whole key.
//!
//! # Who may do what
//! One writer; any number of readers, which never wait for it. A slot is free, or has a key that does not change until it
//! is free again, and a set that changes in one store.
//!
//! # Why a reader is never misled
//! A slot that is free may be given to another key between two loads of a reader. So before the writer puts a key into a
//! slot it raises the version of its line. A reader loads version, set, print, and the version again: if it is the same, no
//! key of the line began to change meanwhile, and a change begun earlier is over, for until then the set says *free*. So the
//! set read was that of the key read.

#[cfg(all(test, feature = "shuttle"))]
mod interleaved_test;

use crate::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use crate::chunks::Chunks;
use crate::key::{Key, Print, Secret};
use crate::sets::SetId;

/// Number of a slot.
pub(crate) type Slot = u32;

/// Slots of a segment, the unit of growth and of what is copied for a [`crate::Frozen`]: 33 KiB.
pub(crate) const SEGMENT_SLOTS: usize = 25 << 6;

/// Slots that share a stamp.
pub(crate) const STRETCH_SLOTS: usize = 1 << 6;

/// A number of a slot has so many bits; the table keeps four more beside it.
pub(crate) const SLOT_BITS: u32 = 28;

/// Slots of a cache line: whatever a reader wants of a slot comes with one load from memory.
const LINE_SLOTS: usize = 5;

#[cfg(not(feature = "shuttle"))]
const _: () =
    assert!(size_of::<Line>() == 64, "20.8 bytes a block with what lies apart: 100 million blocks depend on it");
const _: () = assert!(SEGMENT_SLOTS.is_multiple_of(LINE_SLOTS) && SEGMENT_SLOTS.is_multiple_of(STRETCH_SLOTS));
const _: () = assert!(Chunks::<Segment>::MAX * SEGMENT_SLOTS >= 1 << SLOT_BITS);

/// All slots.
pub(crate) struct Slab {
    segments: Chunks<Segment>,
    secret: Secret,
}

/// [`SEGMENT_SLOTS`] slots.
pub(crate) struct Segment {
    lines: [Line; SEGMENT_SLOTS / LINE_SLOTS],
    /// First halves of the keys.
    highs: [AtomicU64; SEGMENT_SLOTS],
    /// Tick at which a block of a stretch was stored or matched last.
    stamps: [AtomicU32; SEGMENT_SLOTS / STRETCH_SLOTS],
}

#[repr(align(64))]
struct Line {
    prints: [AtomicU64; LINE_SLOTS],
    sets: [AtomicU32; LINE_SLOTS],
    /// How often a key was put into one of these slots.
    version: AtomicU32,
}

impl Slab {
    pub(crate) fn new() -> Self {
        Self { segments: Chunks::new(), secret: Secret::new() }
    }

    /// What readers know the key by.
    #[inline]
    pub(crate) fn print(&self, key: Key) -> Print {
        self.secret.print(key)
    }

    /// Bytes of a slab with so many segments.
    pub(crate) fn bytes(segments: usize) -> usize {
        Chunks::<Segment>::bytes(segments)
    }

    /// Bytes that another segment adds, with what leads to it.
    pub(crate) fn growth_bytes() -> usize {
        Chunks::<Segment>::bytes(1) - Chunks::<Segment>::bytes(0)
    }

    /// Not inlined: a segment is made on the stack, and a function with so large a frame touches all of it at each call.
    #[inline(never)]
    pub(crate) fn add_segment(&self, number: usize) {
        self.segments.add(number, Box::new(Segment::new()));
    }

    #[inline]
    pub(crate) fn segment(&self, number: usize) -> Option<&Segment> {
        self.segments.get(number)
    }

    /// The segment of a slot, and the slot's place in it. For the writer: the slot is there.
    #[inline]
    pub(crate) fn locate(&self, slot: Slot) -> (&Segment, usize) {
        let (segment, at) = split(slot);
        (self.segment(segment).expect("the writer asks for slots it has made"), at)
    }

    /// The key of a slot; meaningless if it is free. For the writer.
    #[inline]
    pub(crate) fn key_of(&self, slot: Slot) -> Key {
        let (segment, at) = self.locate(slot);
        self.key(segment, at)
    }

    /// The same, of a slot whose segment is at hand.
    #[inline]
    pub(crate) fn key(&self, segment: &Segment, at: usize) -> Key {
        self.secret.key(segment.highs[at].load(Ordering::Relaxed), segment.print(at))
    }

    /// The set of a slot if it has this key, else [`SetId::FREE`]. For the writer.
    #[inline]
    pub(crate) fn set_of(&self, slot: Slot, key: Key) -> SetId {
        let (segment, at) = split(slot);
        match self.segment(segment) {
            Some(segment) if segment.has(at, key, self.print(key)) => segment.set(at),
            _ => SetId::FREE,
        }
    }

    /// Gives a free slot to a key. By the writer.
    #[inline]
    pub(crate) fn fill(&self, segment: &Segment, at: usize, key: Key, set: SetId) {
        segment.fill(at, key.high, self.print(key), set);
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
            lines: [const { Line::new() }; SEGMENT_SLOTS / LINE_SLOTS],
            highs: [const { AtomicU64::new(0) }; SEGMENT_SLOTS],
            stamps: [const { AtomicU32::new(0) }; SEGMENT_SLOTS / STRETCH_SLOTS],
        }
    }

    /// Whether a slot has this key; of a free one it is meaningless. For the writer.
    #[inline]
    fn has(&self, at: usize, key: Key, print: Print) -> bool {
        self.print(at) == print && self.highs[at].load(Ordering::Relaxed) == key.high
    }

    /// The set of a slot if it has the key of this print, else [`SetId::FREE`]; proven as the module says. For readers.
    #[inline]
    pub(crate) fn read(&self, at: usize, print: Print) -> SetId {
        let (line, lane) = self.line(at);
        let mut before = line.version.load(Ordering::Acquire);
        loop {
            let set = line.set(lane);
            let same = line.print(lane) == print;
            fence(Ordering::Acquire);
            let after = line.version.load(Ordering::Relaxed);
            if after == before {
                return if same { set } else { SetId::FREE };
            }
            before = line.version.load(Ordering::Acquire);
        }
    }

    /// How many slots from this one on have these keys, each made a print, and this set. For readers.
    #[inline]
    pub(crate) fn read_run<K: Copy>(&self, at: usize, keys: &[K], print: impl Fn(K) -> Print, set: SetId) -> usize {
        let mut keys_left = keys;
        let (first, mut lane) = (at / LINE_SLOTS, at % LINE_SLOTS);
        for line in &self.lines[first..] {
            let before = line.version.load(Ordering::Acquire);
            let found = match keys_left.first_chunk() {
                Some(keys) if lane == 0 && line.is(keys.map(&print), set) => LINE_SLOTS,
                _ => {
                    let lanes = (lane..LINE_SLOTS).zip(keys_left);
                    let same = |(lane, key): &(usize, &K)| line.set(*lane) == set && line.print(*lane) == print(**key);
                    lanes.take_while(same).count()
                }
            };
            fence(Ordering::Acquire);
            // Whoever asks for single slots learns what happened here.
            if line.version.load(Ordering::Relaxed) != before {
                break;
            }
            keys_left = &keys_left[found..];
            if lane + found < LINE_SLOTS || keys_left.is_empty() {
                break;
            }
            lane = 0;
        }
        keys.len() - keys_left.len()
    }

    /// Loads what a reader of this slot and of some before it looks at, so that it is in the cache by then.
    #[inline]
    pub(crate) fn touch(&self, at: usize, before: usize) {
        for line in &self.lines[at.saturating_sub(before) / LINE_SLOTS..=at / LINE_SLOTS] {
            line.version.load(Ordering::Relaxed);
        }
    }

    /// The set of a slot, whatever its key.
    #[inline]
    pub(crate) fn set(&self, at: usize) -> SetId {
        let (line, lane) = self.line(at);
        line.set(lane)
    }

    #[inline]
    fn print(&self, at: usize) -> Print {
        let (line, lane) = self.line(at);
        line.print(lane)
    }

    #[inline]
    fn fill(&self, at: usize, high: u64, print: Print, set: SetId) {
        let (line, lane) = self.line(at);
        line.version.store(line.version.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
        fence(Ordering::Release);
        line.prints[lane].store(print.to_bits(), Ordering::Relaxed);
        self.highs[at].store(high, Ordering::Relaxed);
        self.set_to(at, set);
    }

    /// Changes the set of a slot; [`SetId::FREE`] frees it. By the writer.
    #[inline]
    pub(crate) fn set_to(&self, at: usize, set: SetId) {
        let (line, lane) = self.line(at);
        line.sets[lane].store(set.to_bits(), Ordering::Release);
    }

    /// Notes that a block in this place was stored or matched; writes only what is new, since readers share the line.
    #[inline]
    pub(crate) fn stamp(&self, at: usize, tick: u32) {
        let stamp = &self.stamps[at / STRETCH_SLOTS];
        if stamp.load(Ordering::Relaxed) != tick {
            stamp.store(tick, Ordering::Relaxed);
        }
    }

    /// When a block of this stretch was stored or matched last.
    pub(crate) fn stamp_of(&self, stretch: usize) -> u32 {
        self.stamps[stretch].load(Ordering::Relaxed)
    }

    #[inline]
    fn line(&self, at: usize) -> (&Line, usize) {
        (&self.lines[at / LINE_SLOTS], at % LINE_SLOTS)
    }
}

impl Line {
    const fn new() -> Self {
        Self {
            prints: [const { AtomicU64::new(0) }; LINE_SLOTS],
            sets: [const { AtomicU32::new(SetId::FREE.to_bits()) }; LINE_SLOTS],
            version: AtomicU32::new(0),
        }
    }

    #[inline]
    fn set(&self, lane: usize) -> SetId {
        SetId::from_bits(self.sets[lane].load(Ordering::Acquire))
    }

    /// All of it has these prints and this set: one branch for a whole line.
    #[inline]
    fn is(&self, prints: [Print; LINE_SLOTS], set: SetId) -> bool {
        let differs = |lane: usize| {
            let set = self.set(lane).to_bits() ^ set.to_bits();
            self.print(lane).to_bits() ^ prints[lane].to_bits() | u64::from(set)
        };
        (0..LINE_SLOTS).fold(0, |all, lane| all | differs(lane)) == 0
    }

    #[inline]
    fn print(&self, lane: usize) -> Print {
        Print::from_bits(self.prints[lane].load(Ordering::Relaxed))
    }
}
