//! What the writer and the readers of one index share.

use crate::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use arc_swap::ArcSwap;

use crate::sets::{Sets, place};
use crate::slab::Slab;
use crate::table::Table;

pub(crate) struct Shared {
    pub(crate) slab: Slab,
    pub(crate) table: ArcSwap<Table>,
    pub(crate) sets: Sets,
    pub(crate) retired: Retired,
    /// Raised whenever numbers of retired holders become free: an answer begun before may mix two lives of one.
    pub(crate) lives: AtomicU64,
    pub(crate) recency: Recency,
}

/// Holders that are in no answer, though the sweep has not removed all their blocks: a bit each.
pub(crate) struct Retired {
    any: AtomicBool,
    words: Box<[AtomicU64]>,
}

/// Whether blocks that are matched are stamped, and with what.
pub(crate) struct Recency {
    pub(crate) tracked: bool,
    pub(crate) tick: AtomicU32,
}

impl Retired {
    const WORDS: usize = (1 << 16) / 64;

    pub(crate) fn new() -> Self {
        Self { any: AtomicBool::new(false), words: (0..Self::WORDS).map(|_| AtomicU64::new(0)).collect() }
    }

    pub(crate) const fn bytes() -> usize {
        Self::WORDS * size_of::<u64>()
    }

    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    #[inline]
    pub(crate) fn contains(&self, number: u16) -> bool {
        let (word, bit) = place(number);
        self.any() && self.words[word].load(Ordering::Relaxed) & bit != 0
    }

    /// Bits of 64 numbers.
    pub(crate) fn word(&self, at: usize) -> u64 {
        self.words[at].load(Ordering::Relaxed)
    }

    pub(crate) fn insert(&self, number: u16) {
        let (word, bit) = place(number);
        self.words[word].fetch_or(bit, Ordering::Relaxed);
        self.any.store(true, Ordering::Release);
    }

    pub(crate) fn remove(&self, number: u16) {
        let (word, bit) = place(number);
        self.words[word].fetch_and(!bit, Ordering::Release);
        let none = self.words.iter().all(|word| word.load(Ordering::Relaxed) == 0);
        self.any.store(!none, Ordering::Release);
    }

    /// Ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        let words = if self.any() { &*self.words } else { &[] };
        words.iter().enumerate().flat_map(|(at, word)| {
            let bits = word.load(Ordering::Relaxed);
            (0..64).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| crate::sets::number(at, bit))
        })
    }
}
