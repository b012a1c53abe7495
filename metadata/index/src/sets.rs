//! Sets of holders, each kept once: a slot has a set's name, so a block costs 4 bytes for its holders however many they
//! are, and a walk does nothing where the name stays the same.
//!
//! ```text
//!   name, u32:    0 … 65,535: the set of this one holder │ 65,536 + r: record r │ all ones: free slot
//!   record, 16 bytes:   version │ shape │ body
//!   body:         up to 4 numbers │ place of a list of numbers, 4 a word │ place of a set of bits
//! ```
//! A set has one form only, the smaller of list and bits, so that equal sets have equal contents.
//!
//! # Why a reader is never misled
//! A record that no slot names any more is given to another set. So its version changes before its content does, and is odd
//! until the content is whole. A reader that found a name in a slot loads the version, the content, *the slot's name again*,
//! and the version again: if both are the same, then the content was the name's, and the name was the slot's, when it looked
//! the second time.

pub(crate) mod interner;

use crate::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use crate::chunks::Chunks;

/// Name of a set of holders.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) struct SetId(u32);

impl SetId {
    /// No set: the slot is free.
    pub(crate) const FREE: Self = Self(u32::MAX);

    const RECORDS_FROM: u32 = 1 << 16;

    pub(crate) const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    pub(crate) const fn to_bits(self) -> u32 {
        self.0
    }

    #[inline]
    pub(crate) const fn single(number: u16) -> Self {
        Self(number as u32)
    }

    const fn of_record(record: u32) -> Self {
        Self(Self::RECORDS_FROM + record)
    }

    /// The record that has the content; `None`: the name is the content.
    #[inline]
    pub(crate) const fn record(self) -> Option<u32> {
        self.0.checked_sub(Self::RECORDS_FROM)
    }
}

/// Numbers that a record has room for itself.
const FEW: usize = 4;
/// Numbers of a list that share a word.
const LISTED_A_WORD: usize = 4;
const RECORDS_A_CHUNK: usize = 1 << 10;
/// Four times the largest set of bits.
const WORDS_A_CHUNK: usize = 1 << 12;

/// Contents of all sets that are not of one holder.
pub(crate) struct Sets {
    records: Chunks<[Record; RECORDS_A_CHUNK]>,
    words: Chunks<[AtomicU64; WORDS_A_CHUNK]>,
}

struct Record {
    version: AtomicU32,
    shape: AtomicU32,
    body: AtomicU64,
}

/// How many numbers there are, and how they are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Shape {
    count: u32,
    kind: Kind,
    /// Words, a power of two.
    words: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Few,
    List,
    Bits,
}

/// What a set contains, ascending.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content<'a> {
    Few([u16; FEW], usize),
    List(&'a [AtomicU64], usize),
    Bits(&'a [AtomicU64]),
}

impl Shape {
    fn to_bits(self) -> u32 {
        let kind = match self.kind {
            Kind::Few => 0,
            Kind::List => 1,
            Kind::Bits => 2,
        };
        self.count | kind << 20 | self.words.trailing_zeros() << 24
    }

    fn from_bits(bits: u32) -> Self {
        let kind = match bits >> 20 & 3 {
            0 => Kind::Few,
            1 => Kind::List,
            _ => Kind::Bits,
        };
        Self { count: bits & 0xf_ffff, kind, words: 1 << (bits >> 24 & 15) }
    }
}

impl Sets {
    pub(crate) fn new() -> Self {
        Self { records: Chunks::new(), words: Chunks::new() }
    }

    fn record(&self, number: u32) -> Option<&Record> {
        let number = number as usize;
        Some(&self.records.get(number / RECORDS_A_CHUNK)?[number % RECORDS_A_CHUNK])
    }

    fn words(&self, at: u64, count: usize) -> &[AtomicU64] {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let chunk = self.words.get(at / WORDS_A_CHUNK);
        // A reader that is being misled may ask for anything; what it gets does not matter then.
        chunk.and_then(|chunk| chunk[at % WORDS_A_CHUNK..].get(..count)).unwrap_or(&[])
    }

    /// The version to [`Sets::confirm`] later; `None` while the content is being written, or for a name never given.
    #[inline]
    pub(crate) fn version(&self, set: SetId) -> Option<u32> {
        let Some(record) = set.record() else { return Some(0) };
        let version = self.record(record)?.version.load(Ordering::Acquire);
        version.is_multiple_of(2).then_some(version)
    }

    /// Whether what was read since [`Sets::version`] was the set's.
    #[inline]
    pub(crate) fn confirm(&self, set: SetId, version: u32) -> bool {
        let Some(record) = set.record() else { return true };
        fence(Ordering::Acquire);
        self.record(record).is_some_and(|record| record.version.load(Ordering::Relaxed) == version)
    }

    /// What the set contains. To a reader it may be anything until it is confirmed.
    pub(crate) fn content(&self, set: SetId) -> Content<'_> {
        let Some(record) = set.record() else {
            return Content::Few([set.0 as u16, 0, 0, 0], 1);
        };
        let Some(record) = self.record(record) else {
            return Content::Few([0; FEW], 0);
        };
        let shape = Shape::from_bits(record.shape.load(Ordering::Relaxed));
        let body = record.body.load(Ordering::Relaxed);
        let count = shape.count as usize;
        match shape.kind {
            Kind::Few => Content::Few(unpack(body), count.min(FEW)),
            Kind::List => {
                let words = self.words(body, shape.words as usize);
                Content::List(words, count.min(words.len() * LISTED_A_WORD))
            }
            Kind::Bits => Content::Bits(self.words(body, shape.words as usize)),
        }
    }
}

impl Content<'_> {
    /// Each number, ascending.
    pub(crate) fn for_each(&self, mut each: impl FnMut(u16)) {
        match self {
            Self::Few(numbers, count) => numbers[..*count].iter().copied().for_each(each),
            Self::List(words, count) => {
                let numbers = words.iter().flat_map(|word| unpack(word.load(Ordering::Relaxed)));
                numbers.take(*count).for_each(each);
            }
            Self::Bits(words) => {
                for (at, word) in words.iter().enumerate() {
                    let mut bits = word.load(Ordering::Relaxed);
                    while bits != 0 {
                        each(number(at, bits.trailing_zeros()));
                        bits &= bits - 1;
                    }
                }
            }
        }
    }

    pub(crate) fn contains(&self, wanted: u16) -> bool {
        if let Self::Bits(words) = self {
            let (word, bit) = place(wanted);
            return words.get(word).is_some_and(|word| word.load(Ordering::Relaxed) & bit != 0);
        }
        let mut found = false;
        self.for_each(|number| found |= number == wanted);
        found
    }
}

/// Word and bit of a number in a set of bits.
#[inline]
pub(crate) fn place(number: u16) -> (usize, u64) {
    (usize::from(number / 64), 1 << (number % 64))
}

/// Number of a word's bit.
#[inline]
pub(crate) fn number(word: usize, bit: u32) -> u16 {
    u16::try_from(word * 64 + bit as usize).expect("a set of bits has at most 1,024 words")
}

fn unpack(word: u64) -> [u16; 4] {
    [word as u16, (word >> 16) as u16, (word >> 32) as u16, (word >> 48) as u16]
}

fn pack(numbers: &[u16]) -> u64 {
    numbers.iter().rev().fold(0, |word, number| word << 16 | u64::from(*number))
}
